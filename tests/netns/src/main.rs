//! Stories in network namespaces: a real kernel, real clients, real packets.
//!
//! ```text
//! cargo test ── runner ──unshare──▶ PID 1 of a private host ──▶ one story ──▶ World ──▶ netd daemon, containers
//! ```
//!
//! Every story is a function in `stories/`, runs alone on a private host of its own (network, mount and
//! process namespaces), and several run at once. `NETD_KEEP=1` keeps the host of a story that failed and
//! prints how to enter it; `NETD_BIN` names another binary to try.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod debian;
mod machine;
mod net;
mod runner;
mod schema;
mod stories;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        // Modes in which the binary starts itself again.
        Some("--private-host") => runner::private_host(&args.next().unwrap()),
        Some("--story") => runner::story(&args.next().unwrap()),
        Some("--serve") => net::server::serve(&args.next().unwrap(), args),
        _ => runner::main(),
    }
}
