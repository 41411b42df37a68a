//! netd: networks and firewall for containers. See `netd --help`, and docs/architecture.md.
//!
//! ```text
//! argv ─► cli (Command) ─┬─► client ─► control socket ─► daemon
//!                        ├─► run ─► spawner          (netd run)
//! runtime ─► hook ───────┘
//! ```

mod api;
mod cli;
mod client;
mod clock;
mod daemon;
mod decision;
mod dirs;
mod error;
mod explain;
mod hook;
mod lesson;
mod model;
mod netns;
mod networks;
mod nspawn;
mod publish;
mod resolv;
mod run;
mod since;
mod sys;
mod values;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os())
}
