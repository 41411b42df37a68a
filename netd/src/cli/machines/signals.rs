//! `netd kill`; and by which signal a container's first process is asked to end in order.

use std::fs;
use std::process::ExitCode;

use serde::Serialize;
use spawner::{MachineName, Running};
use zone::ContainerName;

use super::args::{KillArgs, KillWhom};
use crate::cli::{Context, output};
use crate::error::Error;

pub(super) fn kill(context: &Context, args: &KillArgs) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        container: &'a ContainerName,
        signal: i32,
        processes: usize,
    }
    let running = super::running(context, &args.container)?;
    let name: MachineName = args.container.as_str().parse()?;
    let mut processes = 1;
    if args.kill_whom == KillWhom::All {
        processes += super::processes::others(running.pid)
            .into_iter()
            .filter(|process| process.signal(args.signal))
            .count();
    }
    spawner::kill(&context.dirs.containers(), &name, args.signal).map_err(|e| match e {
        spawner::SpawnError::NoSuchContainer(_) => super::not_running(&args.container),
        e => e.into(),
    })?;
    if context.json {
        output::print_json(&Document {
            container: &args.container,
            signal: args.signal,
            processes,
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The signal that has a container's first process end everything in order and then itself.
///
/// systemd takes SIGRTMIN+3 (systemd(1)); busybox's init powers off at SIGUSR2 and reboots at SIGTERM; runit and s6 know
/// SIGTERM, as does sysvinit's successor openrc-init, and everybody who is not an init.
pub(in crate::cli) fn in_order(running: &Running) -> i32 {
    running
        .kill_signal
        .unwrap_or_else(|| by_program(running, choose))
}

/// The signal that has an init stop everything and ask for a restart.
pub(super) fn restart(running: &Running) -> i32 {
    by_program(running, choose_restart)
}

fn by_program(running: &Running, choose: fn(&str, &str) -> i32) -> i32 {
    let dir = format!("/proc/{}", running.pid);
    let program = fs::read_link(format!("{dir}/exe")).unwrap_or_default();
    let program = program
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let words = fs::read(format!("{dir}/cmdline")).unwrap_or_default();
    let first = words.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let called = first.rsplit('/').next().unwrap_or_default();
    choose(program, called)
}

/// By the program's file and the name it was called by.
fn choose(program: &str, called: &str) -> i32 {
    match (program, called) {
        ("systemd", _) => libc::SIGRTMIN() + 3,
        (program, "init" | "linuxrc") if program.starts_with("busybox") => libc::SIGUSR2,
        _ => libc::SIGTERM,
    }
}

/// systemd and OpenRC's init take SIGINT for Ctrl-Alt-Del, as sysvinit did; busybox's init reboots at SIGTERM.
fn choose_restart(program: &str, called: &str) -> i32 {
    match (program, called) {
        (program, "init" | "linuxrc") if program.starts_with("busybox") => libc::SIGTERM,
        _ => libc::SIGINT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_init_is_asked_in_its_own_words() {
        assert_eq!(choose("systemd", "init"), libc::SIGRTMIN() + 3);
        assert_eq!(choose("busybox", "init"), libc::SIGUSR2);
        assert_eq!(choose("busybox", "sh"), libc::SIGTERM);
        assert_eq!(choose("openrc-init", "init"), libc::SIGTERM);
        assert_eq!(choose("nginx", "nginx"), libc::SIGTERM);
        assert_eq!(choose_restart("busybox", "init"), libc::SIGTERM);
        assert_eq!(choose_restart("systemd", "init"), libc::SIGINT);
    }
}
