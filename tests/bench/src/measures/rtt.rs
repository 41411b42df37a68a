//! Round trips in one zone: netd with policy and guard against a bridge without a firewall.

use crate::Options;
use crate::error::Result;
use crate::paths::Path;
use crate::stats::{Comparison, Samples, Unit, conclude};
use crate::traffic::{Line, pin};

/// Round trips of one turn.
const TURN: usize = 2_000;

/// `bench rtt`: each path `rounds` turns. The figure is the median of the turns' medians.
pub(crate) fn run(options: &Options, rounds: u32, crowd: u32, rules: u32) -> Result<()> {
    let paths = [
        ("bridge, no firewall", Path::plain()),
        ("routed, isolated ports, no rules", Path::linear(0)),
        ("netd, alone", Path::netd(&options.netd, "k", 0, rules)),
        (
            "netd, crowded",
            Path::netd(&options.netd, "m", crowd, rules),
        ),
    ];
    let mut lines = Vec::new();
    for (label, path) in paths {
        let opened = path.and_then(|path| {
            let line = Line::open(path.client(), path.address)?;
            Ok((path, line))
        });
        lines.push((label, opened, Samples::default()));
    }
    pin()?;
    for _ in 0..rounds {
        for (_, opened, medians) in &mut lines {
            if let Ok((_, line)) = opened {
                let turn = line.round_trips(TURN)?;
                medians.push(std::time::Duration::from_secs_f64(turn.median() / 1e6));
            }
        }
    }
    let title =
        "Round trip of one byte over TCP, same zone, both ends on one core; n turns of 2,000";
    let mut table = Comparison::new(title, Unit::Micros);
    table.against(lines[0].2.median());
    let held = ["", "", "≤ 1.25×", "≤ 1.02× the line above"];
    for ((label, opened, medians), held) in lines.iter().zip(held) {
        match opened {
            Ok((path, _)) => table.samples(&path.label, medians, held),
            Err(error) => table.missing(label, &error.chain()),
        }
    }
    table.print();
    conclude(
        "crowded against alone: {} (held to ≤ 1.02×)",
        lines[3].2.median(),
        lines[2].2.median(),
    );
    Ok(())
}
