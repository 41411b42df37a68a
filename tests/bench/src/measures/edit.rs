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

/// `bench edit`: `rounds` edits that close and `rounds` that open, alone and among `crowd` others, in turns.
pub(crate) fn run(options: &Options, rounds: u32, crowd: u32, rules: u32) -> Result<()> {
    let mut alone = Path::netd(&options.netd, "k", 1, rules)?;
    let mut crowded = Path::netd(&options.netd, "m", crowd, rules)?;
    let mut all = [Edits::default(), Edits::default()];
    for _ in 0..rounds {
        for (path, edits) in [&mut alone, &mut crowded].into_iter().zip(&mut all) {
            close_and_open(path, edits)?;
        }
    }
    let mut table = Comparison::new(
        format!("A policy edit in force: 1, and {crowd} containers of {rules} rules each"),
        Unit::Micros,
    );
    table.against(all[0].answered.median());
    for (edits, who) in all.iter().zip(["1", "many"]) {
        let held = if who == "many" {
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
    conclude(
        "many against 1, until a connection passes: {} (held to ≤ 1.2×)",
        all[1].opened.median(),
        all[0].opened.median(),
    );
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
