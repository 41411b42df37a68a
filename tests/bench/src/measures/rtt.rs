//! Round trips in one zone: netd with policy and guard against a bridge without a firewall.

use crate::Options;
use crate::error::Result;
use crate::paths::Path;
use crate::stats::{Comparison, Samples, Unit, conclude};
use crate::traffic::{Line, pin};

/// Round trips of one turn.
const TURN: usize = 2_000;

/// `bench rtt`: each path `rounds` turns. The figure is the median of the turns' medians.
pub(crate) fn run(options: &Options, rounds: u32, crowds: &[u32], rules: u32) -> Result<()> {
    let mut paths = vec![
        (
            "bridge, no firewall".to_owned(),
            Path::plain(),
            "".to_owned(),
        ),
        (
            "routed, isolated ports, no rules".to_owned(),
            Path::linear(0),
            "".to_owned(),
        ),
        (
            "netd, alone".to_owned(),
            Path::netd(&options.netd, "k", 0, rules),
            "≤ 1.25×".to_owned(),
        ),
    ];
    let alone = paths.len() - 1;
    paths.extend(crowds.iter().enumerate().map(|(place, &crowd)| {
        let path = Path::netd(&options.netd, &format!("m{place}-"), crowd, rules);
        let held = "≤ 1.02× netd alone".to_owned();
        (format!("netd among {crowd}"), path, held)
    }));
    let mut lines = Vec::new();
    for (label, path, held) in paths {
        let opened = path.and_then(|path| {
            let line = Line::open(path.client(), path.address)?;
            Ok((path, line))
        });
        lines.push((label, opened, Samples::default(), held));
    }
    pin()?;
    for _ in 0..rounds {
        for (_, opened, medians, _) in &mut lines {
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
    for (label, opened, medians, held) in &lines {
        match opened {
            Ok((path, _)) => table.samples(&path.label, medians, held),
            Err(error) => table.missing(label, &error.chain()),
        }
    }
    table.print();
    let alone = lines[alone].2.median();
    for (crowd, line) in crowds.iter().rev().zip(lines.iter().rev()) {
        conclude(
            &format!("among {crowd} against alone: {{}} (held to ≤ 1.02×)"),
            line.2.median(),
            alone,
        );
    }
    Ok(())
}
