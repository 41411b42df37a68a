//! A policy edit: from writing the file until a connection meets the new verdict.

use std::time::{Duration, Instant};

use crate::Options;
use crate::error::{Error, Result};
use crate::paths::Path;
use crate::policy::{PORT, ten};
use crate::sides::run as run_command;
use crate::stats::{Comparison, Samples, Unit, conclude};
use crate::traffic::passes;

/// Between two edits: longer than any limit on how many refusals are answered.
const PAUSE: Duration = Duration::from_millis(30);

/// What was measured on one path.
#[derive(Default)]
struct Edits {
    answered: Samples,
    opened: Samples,
    closed: Samples,
    process: Samples,
}

/// `bench edit`: `rounds` edits that close and `rounds` that open, beside 1 other and among each crowd, in turns.
pub(crate) fn run(options: &Options, rounds: u32, crowds: &[u32], rules: u32) -> Result<()> {
    let mut sides = Vec::new();
    for (place, others) in std::iter::once(1).chain(crowds.iter().copied()).enumerate() {
        let path = Path::netd(&options.netd, &format!("m{place}-"), others, rules)?;
        sides.push((others, path, Edits::default()));
    }
    for _ in 0..rounds {
        for (_, path, edits) in &mut sides {
            close_and_open(path, edits)?;
        }
    }
    let mut table = Comparison::new(
        format!("A policy edit in force, beside others of {rules} rules each"),
        Unit::Micros,
    );
    table.against(sides[0].2.answered.median());
    for (who, _, edits) in &sides {
        let held = if *who > 1 {
            "≤ 1.2×, < 1,000 µs"
        } else {
            "< 1,000 µs"
        };
        table.samples(&format!("{who}: reload is answered"), &edits.answered, "");
        table.samples(
            &format!("{who}: until a connection is refused"),
            &edits.closed,
            held,
        );
        table.samples(
            &format!("{who}: until a connection passes"),
            &edits.opened,
            held,
        );
        table.samples(
            &format!("{who}: `netd reload`, a process"),
            &edits.process,
            "",
        );
    }
    table.print();
    for (who, _, edits) in &sides[1..] {
        conclude(
            &format!("{who} against 1, until a connection passes: {{}} (held to ≤ 1.2×)"),
            edits.opened.median(),
            sides[0].2.opened.median(),
        );
    }
    Ok(())
}

fn close_and_open(path: &mut Path, edits: &mut Edits) -> Result<()> {
    let open = ten("ten");
    let closed = open.replace(&format!("tcp/{PORT}"), &format!("tcp/{}", PORT + 1));
    let until_closed = edit(path, &closed, false, &mut edits.answered)?;
    edits.closed.push(until_closed);
    let until_open = edit(path, &open, true, &mut edits.answered)?;
    edits.opened.push(until_open);
    // The same by a process: what a person waits for.
    let address = path.address;
    let Some(netd) = path.netd_mut() else {
        return Err(Error::void("an edit needs netd"));
    };
    netd.daemon().write_policy("ten", &closed)?;
    let start = Instant::now();
    let mut command = netd.daemon().command();
    run_command(command.arg("reload"), b"")?;
    edits.process.push(start.elapsed());
    path.client().on(|| expect(address, false))?;
    let mut unmeasured = Samples::default();
    edit(path, &open, true, &mut unmeasured).map(|_| ())
}

/// Writes the file, reloads, and connects, on a thread that is inside the client already.
fn edit(path: &mut Path, text: &str, pass: bool, answered: &mut Samples) -> Result<Duration> {
    std::thread::sleep(PAUSE);
    let address = path.address;
    // A connection from inside the client must not wait for a thread to start: the thread is there before, and is
    // told to go.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let client = path.client().try_clone()?;
    let probe = std::thread::spawn(move || -> Result<Instant> {
        client.enter()?;
        // An error means that the edit failed: nothing to measure.
        wait.recv().map_err(|_| Error::void("the edit failed"))?;
        expect(address, pass)?;
        Ok(Instant::now())
    });
    let Some(netd) = path.netd_mut() else {
        return Err(Error::void("an edit needs netd"));
    };
    let start = Instant::now();
    netd.daemon().write_policy("ten", text)?;
    netd.daemon().reload()?;
    answered.push(start.elapsed());
    let _ = go.send(());
    match probe.join() {
        Ok(end) => Ok(end?.duration_since(start)),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn expect(address: std::net::IpAddr, pass: bool) -> Result<()> {
    if passes(address)? == pass {
        return Ok(());
    }
    let seen = if pass { "refused" } else { "let through" };
    Err(Error::void(format!(
        "after the reload was answered, a connection was {seen} against the new policy"
    )))
}
