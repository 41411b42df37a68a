//! A policy edit: from the reload, and from writing the file, until a connection meets the new verdict.

use std::time::{Duration, Instant};

use crate::Options;
use crate::error::{Error, Result};
use crate::ns::on_thread;
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
    /// As `opened`, from before the file was written.
    written: Samples,
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
            &format!("{who}: the same, from before the file is written"),
            &edits.written,
            "",
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
    let close = edit(path, &closed, false)?;
    let open_again = edit(path, &open, true)?;
    edits.answered.push(close.answered);
    edits.answered.push(open_again.answered);
    edits.closed.push(close.met);
    edits.opened.push(open_again.met);
    edits.written.push(open_again.written);
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
    edit(path, &open, true).map(|_| ())
}

/// One edit.
struct Edit {
    /// From the request to reload until it is answered.
    answered: Duration,
    /// From there until a connection met the new verdict.
    met: Duration,
    /// The same, with the writing of the file.
    written: Duration,
}

/// Writes the file, reloads and connects, all on a thread inside the client: a path to a socket leads out of it.
fn edit(path: &mut Path, text: &str, pass: bool) -> Result<Edit> {
    std::thread::sleep(PAUSE);
    let address = path.address;
    let client = path.client().try_clone()?;
    let Some(netd) = path.netd_mut() else {
        return Err(Error::void("an edit needs netd"));
    };
    on_thread(|| {
        client.enter()?;
        let start = Instant::now();
        netd.daemon().write_policy("ten", text)?;
        let asked = Instant::now();
        netd.daemon().reload()?;
        let answered = asked.elapsed();
        expect(address, pass)?;
        Ok(Edit {
            answered,
            met: asked.elapsed(),
            written: start.elapsed(),
        })
    })
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
