//! Real containers, as root: each test builds a busybox root in a temporary directory and runs commands in it.
//!
//! The program runs itself again in a mount and a network namespace of its own, and, for each container, as the
//! [`driver`]. Without root the tests are skipped; where `CI` is set they fail.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod cgroups;
mod commands;
mod deaths;
mod driver;
mod files;
mod hooks;
mod network;
mod options;
mod roots;
mod signals;
mod terminal;
mod users;
mod world;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

/// Set in the run that is inside the namespaces.
const INSIDE: &str = "SPAWNER_TESTS_INSIDE";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, verb, state_root, json] = args.as_slice()
        && verb == "spawn"
    {
        return driver::main(state_root.clone(), json);
    }
    let root = rustix::process::getuid().is_root();
    if root && std::env::var_os(INSIDE).is_none() {
        let error = Command::new("unshare")
            .args(["--mount", "--net", "--"])
            .args(&args)
            .env(INSIDE, "1")
            .exec();
        eprintln!("unshare: {error}");
        return ExitCode::FAILURE;
    }
    let ci = std::env::var_os("CI").is_some();
    if !root {
        println!("SKIPPED: containers need root");
    }
    let all = [
        commands::TESTS,
        files::TESTS,
        users::TESTS,
        network::TESTS,
        options::TESTS,
        roots::TESTS,
        hooks::TESTS,
        signals::TESTS,
        deaths::TESTS,
        terminal::TESTS,
        cgroups::TESTS,
    ];
    let trials = all.into_iter().flatten().map(|(name, test)| {
        Trial::test(*name, move || {
            if !root {
                return Err("needs root".into());
            }
            test();
            Ok(())
        })
        .with_ignored_flag(!root && !ci)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
