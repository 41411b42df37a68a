//! New connections a second in one zone: netd against linear rules.

use crate::Options;
use crate::error::Result;
use crate::paths::Path;
use crate::stats::{Comparison, Samples, Unit};
use crate::traffic::connections;

/// Connections of one turn.
const TURN: usize = 200;

/// `bench connect`: each path `rounds` turns; the figure comes from the median connection.
pub(crate) fn run(
    options: &Options,
    rounds: u32,
    linear: u32,
    crowds: &[u32],
    rules: u32,
) -> Result<()> {
    let side = |label: &str, path, held| (label.to_owned(), path, Samples::default(), held);
    let mut paths = vec![
        side("linear rules", Path::linear(linear), ""),
        side("bridge, no firewall", Path::plain(), ""),
        side(
            "netd, alone",
            Path::netd(&options.netd, "k", 0, rules),
            "≥ 5×",
        ),
    ];
    paths.extend(crowds.iter().enumerate().map(|(place, &crowd)| {
        let path = Path::netd(&options.netd, &format!("m{place}-"), crowd, rules);
        side(&format!("netd among {crowd}"), path, "≥ 5×")
    }));
    for _ in 0..rounds {
        for (_, path, samples, _) in &mut paths {
            if let Ok(path) = path {
                samples.extend(connections(path.client(), path.address, TURN)?);
            }
        }
    }
    let a_second = |samples: &Samples| 1e6 / samples.median();
    let title = "New connections a second, one byte there and back on each";
    let mut table = Comparison::new(title, Unit::PerSecond);
    table.against(a_second(&paths[0].2));
    for (label, path, samples, held) in &paths {
        match path {
            Ok(path) => table.figure(&path.label, samples.len(), a_second(samples), held),
            Err(error) => table.missing(label, &error.chain()),
        }
    }
    table.print();
    Ok(())
}
