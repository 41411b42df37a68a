//! What commands print: pure functions from what the daemon answered to text, and the one place that
//! writes it.

mod explanation;
mod layout;
mod policies;
mod views;

use std::io::{self, Write};

use serde::Serialize;

use crate::error::Error;

pub(crate) use explanation::explanation;
pub(crate) use policies::{applied, policy_difference, policy_step};
pub(crate) use views::{
    attached, container, containers, images, leases, machine, moment, policy, problem, status,
    transfers, zone, zone_created, zones,
};

/// Writes data to standard output.
///
/// A reader that has gone (`netd list | head -1`) has all it wanted: no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Output),
    }
}

/// Writes one JSON document to standard output.
pub(crate) fn print_json(document: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(document).map_err(|e| Error::Output(e.into()))?;
    text.push('\n');
    print(&text)
}

/// Writes a message to standard error: `netd: …`. That nobody reads it is no failure of the command.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "netd: {}", harmless(text.trim_end()));
}

/// Without what a terminal would act on: names of files and words of programs may come from containers.
fn harmless(text: &str) -> String {
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars()
        .map(|c| if acts(c) { '?' } else { c })
        .collect()
}

/// Writes text that is complete as it is (diagnostics with their caret) to standard error.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}
