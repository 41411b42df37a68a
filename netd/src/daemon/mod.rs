//! The daemon: one engine, owned by one thread, and the sockets that feed it.
//!
//! ```text
//! control socket ─┐
//! DHCP, DNS ──────┤                 ┌─► zone::Links     (rtnetlink)
//! inotify ────────┼─► engine ───────┼─► firewall::Tables (nftables)
//! link monitor ───┤  (synchronous)  ├─► records          (RUNTIME/ports)
//! table monitor ──┤                 ├─► store            (STATE/netd.redb, its own thread)
//! nflog ──────────┘                 └─► decisions        (STATE/decisions.jsonl, journal; its own thread)
//! ```
//!
//! The engine does kernel work by blocking calls on warm netlink sockets: an attach takes about half a
//! millisecond, so nothing is gained by more threads (the kernel has one lock for it), and everything
//! is in one order. What takes long is elsewhere: commits on the storage thread, deletion of links on
//! the reaper's.

mod adopt;
mod applied;
mod control;
mod decisions;
mod dhcp;
mod dirs;
mod dns;
mod edits;
mod engine;
mod files;
mod keep;
mod leases;
mod lenient;
mod listen;
mod listeners;
mod loopback6;
mod named;
mod opened;
mod ports;
mod reaper;
mod record;
mod scribe;
mod serve;
mod six;
mod store;
mod sys;

use std::error::Error as StdError;
use std::process::ExitCode;

pub(crate) use decisions::{message, old};
pub(crate) use dirs::Dirs;
pub(crate) use keep::keep;

/// What the daemon is started with.
#[derive(Debug, Clone)]
pub(crate) struct DaemonArgs {
    /// The three directories.
    pub(crate) dirs: Dirs,
    /// One JSON object a line instead of text.
    pub(crate) json_logs: bool,
}

/// Runs the daemon until it is told to stop. Exit code 0 after a stop, 1 when it cannot start.
pub(crate) fn run(args: DaemonArgs) -> ExitCode {
    log(args.json_logs);
    match serve::serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{}", chain(&*e));
            eprintln!("netd: {}", chain(&*e));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line: `attach web: add veth vb-web: operation not permitted`.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

fn log(json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter =
        EnvFilter::try_from_env("NETD_LOG").unwrap_or_else(|_| EnvFilter::new("netd=info,warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    // A second subscriber in one process can only be a test's: keep the first.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
}
