//! The way in: this program, run anew by [`super::exec`]. The order of the steps matters; each says why it stands where it does.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Order, Word};
use crate::executor;
use crate::sys::{self, Fork, join};
use crate::wire::Wire;

/// What loading a filter takes where privileges may still be gained.
const FOR_THE_FILTER: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// Enters a container and runs a command there, as the order behind this descriptor says. For a process that
/// [`exec`](super::exec) started, and whose only thread this is. `task` does what [`Visit::task`](super::Visit::task) names, and
/// returns an exit status.
pub fn door(order: i32, task: impl FnOnce(&str) -> u8) -> ExitCode {
    let read = || -> io::Result<Order> {
        let mut text = Vec::new();
        File::from(join::own(order)?).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(io::Error::from)
    };
    let order = match read() {
        Ok(order) => order,
        Err(_) => return ExitCode::from(125),
    };
    let wire = match join::own(order.wire) {
        Ok(fd) => Wire::from(fd),
        Err(_) => return ExitCode::from(125),
    };
    let refuse = |(status, reason): (u8, String)| {
        wire.send(&Word::Refused(status, reason));
        ExitCode::from(125)
    };
    // before a filter that may refuse it; a task is this program's own, to which a closed pipe is an error and no end
    if order.task.is_none() {
        sys::reset_signals();
    }
    // Rights are given up out here, where nobody inside sees this process: also who may debug everybody finds no more in the one that
    // comes in than the container has itself.
    if let Err(why) = enter(&order).and_then(|()| confine(&order, &wire)) {
        return refuse(why);
    }
    // The pid namespace is entered by forking.
    match sys::fork() {
        Err(e) => refuse(because("fork")(e)),
        Ok(Fork::Child) => {
            let why = match (&order.task, begin(&order)) {
                (_, Err(why)) => why,
                (None, Ok(())) => become_visitor(&order),
                (Some(told), Ok(())) => {
                    // it begins: as exec closes the wire
                    drop(wire);
                    sys::exit(task(told))
                }
            };
            wire.send(&Word::Refused(why.0, why.1));
            sys::exit(125)
        }
        Ok(Fork::Parent(child)) => {
            wire.send(&Word::Inside(child.as_raw_nonzero().get()));
            // until it has a descriptor for the command, its number must stay its own
            let _ = wire.receive::<()>();
            drop(wire);
            let _ = sys::close_all_but_stdio();
            sys::exit(sys::wait(child).map_or(255, sys::shell_status))
        }
    }
}

fn because<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> (u8, String) {
    move |e| (125, format!("{what}: {e}"))
}

/// Steps of the process that stays outside the pid namespace.
fn enter(order: &Order) -> Result<(), (u8, String)> {
    // First of all: whoever is inside must not look into a process that has been outside.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(because("protect this process"))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(because("follow the caller's end"))?;
    // Keys pressed at the caller's terminal are the caller's business, and nobody inside may push back into it (TIOCSTI).
    let _ = rustix::process::setsid();
    for group in &order.cgroups {
        let group = join::own(*group).map_err(because("enter its cgroup"))?;
        rustix::io::write(&group, b"0").map_err(because("enter its cgroup"))?;
    }
    // Before the user namespace, where hard limits can be lowered only.
    join::set_limits(&order.limits).map_err(because("set its resource limits"))?;
    if let Some(score) = order.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(because("set its oom_score_adj"))?;
    }
    let pidfd: OwnedFd = join::own(order.pidfd).map_err(because("find its first process"))?;
    join::setns(pidfd.as_fd(), order.namespaces).map_err(because("enter its namespaces"))?;
    // credentials changed, and with them this
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(because("protect this process"))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(because("follow the caller's end"))
}

/// Becomes the command. Returns what went wrong.
fn become_visitor(order: &Order) -> (u8, String) {
    let Some((word, rest)) = order.command.split_first() else {
        return (125, "no command".into());
    };
    let path = order.env.iter().rev().find(|(key, _)| key == "PATH");
    if let Err(why) = executor::find(word, path.map_or("", |(_, value)| value)) {
        return why;
    }
    let mut command = Command::new(word);
    command
        .args(rest)
        .env_clear()
        .envs(order.env.iter().map(|(k, v)| (k, v)));
    if let Some(arg0) = &order.arg0 {
        command.arg0(arg0);
    }
    let error = command.exec();
    let status = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    (status, error.to_string())
}

/// Gives up everything that pid 1 does not have, and all of the host.
fn confine(order: &Order, wire: &Wire) -> Result<(), (u8, String)> {
    if let Some(tty) = order.tty {
        let tty = join::own(tty).map_err(because("take its terminal"))?;
        rustix::stdio::dup2_stdin(&tty)
            .and_then(|()| rustix::stdio::dup2_stdout(&tty))
            .and_then(|()| rustix::stdio::dup2_stderr(&tty))
            .map_err(because("take its terminal"))?;
    }
    // Before any path of the container is looked up: one that leads to /proc/self/fd finds nothing of the host
    // (CVE-2024-21626).
    join::close_all_but_stdio_and(wire.as_fd()).map_err(because("close descriptors"))?;
    let wanted = CapabilitySet::from_bits_retain(order.capabilities);
    // Nothing is to be gained by a filter's capability where no new privileges can be gained anyway.
    let extra = match order.filters.is_empty() || order.no_new_privileges {
        true => CapabilitySet::empty(),
        false => FOR_THE_FILTER & !wanted,
    };
    let caps = because::<rustix::io::Errno>;
    let _ = rustix::thread::clear_ambient_capability_set();
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // numbers past the last one that the kernel knows are refused, and nobody has them
        let known = rustix::thread::capability_is_in_bounding_set(one).unwrap_or(false);
        if known && !(wanted | extra).contains(one) {
            rustix::thread::remove_capability_from_bounding_set(one)
                .map_err(caps("drop capabilities"))?;
        }
    }
    rustix::thread::set_keep_capabilities(true).map_err(caps("keep capabilities"))?;
    join::set_user(order.uid, order.gid, &order.groups).map_err(because("become the user"))?;
    let user = match order.uid {
        0 => wanted,
        _ => CapabilitySet::empty(),
    };
    // what takes the extra one away again
    let meanwhile = match extra.is_empty() {
        true => user,
        false => user | extra | CapabilitySet::SETPCAP,
    };
    let sets = |all: CapabilitySet| CapabilitySets {
        effective: all,
        permitted: all,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets(meanwhile)).map_err(caps("set capabilities"))?;
    rustix::thread::set_keep_capabilities(false).map_err(caps("keep capabilities"))?;
    // Credentials changed: once more.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(because("protect this process"))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(because("follow the caller's end"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::chdir(&order.chdir)
        .map_err(|e| (125, format!("--chdir={}: {e}", order.chdir.display())))?;
    // a directory outside the root has no absolute path
    let here =
        rustix::process::getcwd(Vec::new()).map_err(because("find the working directory"))?;
    if !here.as_bytes().starts_with(b"/") {
        return Err((
            125,
            format!(
                "--chdir={}: leads out of the container",
                order.chdir.display()
            ),
        ));
    }
    if order.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(caps("give up new privileges"))?;
    }
    for filter in &order.filters {
        join::load_raw_filter(filter).map_err(because("load its system call filter"))?;
    }
    if !extra.is_empty() {
        rustix::thread::remove_capability_from_bounding_set(extra)
            .map_err(caps("drop capabilities"))?;
        rustix::thread::set_capabilities(None, sets(user)).map_err(caps("set capabilities"))?;
    }
    Ok(())
}

/// The first steps inside.
fn begin(order: &Order) -> Result<(), (u8, String)> {
    // not inherited
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(because("follow the caller's end"))?;
    if order.tty.is_some() {
        rustix::process::setsid().map_err(because("begin a session"))?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .map_err(because("take its terminal"))?;
    }
    Ok(())
}
