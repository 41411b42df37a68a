//! `--no-root`: a program of the host, with its files, users, environment and descriptors; only the network is its own.
//!
//! ```text
//! front ──fork──▶ monitor ──fork──▶ the program: new network, private mounts ──▶ "ready"
//!                    │ createRuntime hooks, asks the front, "go"                    │
//!                    └──────────────────────────────────────────────────────▶ user, exec
//! ```
//!
//! No libcontainer: nothing is left for it to do. The program stays in the caller's session and process group, so
//! the keys of the terminal reach it as they reach any program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::MountFlags;
use rustix::process::{Gid, Uid};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use serde::{Deserialize, Serialize};

use crate::error::SpawnError;
use crate::executor;
use crate::hook;
use crate::monitor::{Monitor, Redirected};
use crate::plan::{Plan, What};
use crate::root;
use crate::settings::{Network, Privileges, Settings, Source, Terminal, Volatile};
use crate::sys::{self, Fork};
use crate::wire::{Exit, Failure, Order, Report, Wire};

/// The program's process to the monitor.
#[derive(Serialize, Deserialize)]
enum Word {
    /// The namespaces are made, and what is shown there is mounted.
    Ready,
    /// The program was not run.
    Failed(Failure),
}

/// Finds settings that make no sense where the root is the host's own.
pub(crate) fn check(settings: &Settings) -> Result<(), SpawnError> {
    let refuse = |what, value: &str, reason: &str| Err(SpawnError::setting(what, value, reason));
    let without = "goes not with --no-root, which changes nothing but the network";
    if !settings.network.is_private() {
        return refuse(
            "--no-root",
            "",
            "changes the network alone: give --network-zone= or --private-network",
        );
    }
    if let Some(directory) = &settings.directory {
        return refuse("--directory=", &directory.to_string_lossy(), without);
    }
    for (set, what) in [
        (settings.private_users.is_private(), "--private-users"),
        (settings.read_only, "--read-only"),
        (settings.volatile != Volatile::No, "--volatile="),
        (settings.ephemeral, "--ephemeral"),
        (settings.boot, "--boot"),
        (!settings.tmpfs.is_empty(), "--tmpfs="),
        (!settings.overlays.is_empty(), "--overlay="),
        (!settings.inaccessible.is_empty(), "--inaccessible="),
        (!settings.bind_users.is_empty(), "--bind-user="),
        (!settings.credentials.is_empty(), "--load-credential="),
        (settings.uuid.is_some(), "--uuid="),
        (
            settings.privileges != Privileges::default(),
            "--capability=",
        ),
        (settings.no_new_privileges, "--no-new-privileges="),
        (
            !(settings.calls_allowed.is_empty() && settings.calls_refused.is_empty()),
            "--system-call-filter=",
        ),
        (settings.suppress_sync, "--suppress-sync="),
        (settings.personality.is_some(), "--personality="),
        (!settings.rlimits.is_empty(), "--rlimit="),
        (settings.oom_score_adjust.is_some(), "--oom-score-adjust="),
        (settings.cpus.is_some(), "--cpu-affinity="),
        (
            matches!(settings.network, Network::Namespace(_)),
            "--network-namespace-path=",
        ),
        (
            settings
                .binds
                .iter()
                .any(|bind| !matches!(bind.source, Source::Host(_))),
            "--bind= from the container's root or of a temporary directory",
        ),
        (settings.hostname.is_some(), "--hostname="),
        (settings.as_pid2, "--as-pid2"),
        (
            !matches!(settings.terminal, Terminal::Auto | Terminal::Pipe),
            "--console=interactive",
        ),
    ] {
        if set {
            return refuse(what, "", without);
        }
    }
    Ok(())
}

/// A program that waits to be told to begin.
pub(crate) struct Waiting {
    pid: Pid,
    pidfd: OwnedFd,
    wire: Wire,
}

impl Monitor<'_> {
    /// Runs the program and ends this process.
    pub(crate) fn run_bare(self) -> ! {
        let report = match self.start_bare() {
            Ok(waiting) => self.supervise_bare(&waiting),
            Err(failure) => Report::Failed(failure),
        };
        self.clean_up();
        self.wire.send(&report);
        sys::exit(0)
    }

    /// From the fork until everything but the front's word is there.
    fn start_bare(&self) -> Result<Waiting, Failure> {
        let (near, far) = Wire::pair().map_err(failed("make a pair of sockets"))?;
        let monitor = rustix::process::getpid();
        let pid = match sys::fork().map_err(failed("fork"))? {
            Fork::Child => {
                drop(near);
                let failure = match become_program(self.plan, &far, monitor) {
                    Ok(never) => match never {},
                    Err(failure) => failure,
                };
                far.send(&Word::Failed(failure));
                sys::exit(125)
            }
            Fork::Parent(pid) => pid,
        };
        drop(far);
        // Only now: the program stays in the caller's session, where the terminal is. And no directory is held.
        let _ = rustix::process::setsid();
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|e| failed("watch the program")(e.into()))?;
        let waiting = Waiting {
            pid,
            pidfd,
            wire: near,
        };
        self.prepare(&waiting).inspect_err(|_| {
            let _ = waiting.end();
        })?;
        Ok(waiting)
    }

    fn prepare(&self, waiting: &Waiting) -> Result<(), Failure> {
        rustix::process::chdir("/").map_err(|e| failed("enter /")(e.into()))?;
        match waiting.wire.receive() {
            Some(Word::Ready) => {}
            Some(Word::Failed(failure)) => return Err(failure),
            None => return Err(died()),
        }
        let pid = waiting.pid.as_raw_nonzero().get();
        let bundle = self.slot.dir().join("bundle");
        let state = hook::state(self.plan, &bundle, "creating", Some(pid));
        let stderr = Redirected::start().map_err(failed("collect what hooks say"))?;
        let done = hook::create_runtime(self.plan)
            .try_for_each(|hook| hook::run("createRuntime", hook, &state));
        let said = stderr.stop();
        match done {
            Ok(()) => {
                // hooks that went well may still have had something to say
                let _ = rustix::io::write(rustix::stdio::stderr(), said.as_bytes());
                hook::attach(self.plan, &bundle, pid)
            }
            Err(how) => Err(Failure::Hook {
                reason: format!("a createRuntime hook failed, so the command was not run: {how}"),
                stderr: said,
            }),
        }
    }

    /// From ready to the end. Whatever happens to the front, the program is gone when this returns.
    fn supervise_bare(&self, waiting: &Waiting) -> Report {
        let pid = waiting.pid.as_raw_nonzero().get();
        self.wire.send(&Report::Ready { pid });
        let started = match self.wire.receive() {
            Some(Order::Go) => {
                waiting.wire.send(&Order::Go);
                match waiting.wire.receive() {
                    // its end of the socket closes with exec
                    None => Ok(()),
                    Some(Word::Failed(failure)) => Err(failure),
                    Some(Word::Ready) => Err(died()),
                }
            }
            Some(Order::Abort) | None => Err(Failure::Aborted),
        };
        if started.is_ok() {
            self.watch(waiting.pidfd.as_fd());
        }
        let ended = waiting.end();
        match started {
            Err(failure) => Report::Failed(failure),
            Ok(()) => Report::Ended(ended),
        }
    }
}

impl Waiting {
    /// Kills the process if it has not ended, and tells how it did.
    fn end(&self) -> Exit {
        crate::monitor::reap(self.pid, self.pidfd.as_fd())
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |e| Failure::Runtime {
        reason: format!("{what}: {e}"),
        stderr: String::new(),
    }
}

fn died() -> Failure {
    Failure::Runtime {
        reason: "its process ended before the command was run".to_owned(),
        stderr: String::new(),
    }
}

/// In the new process, to its end as this program: namespaces, then the wait for the monitor's word, then exec.
fn become_program(
    plan: &Plan<'_>,
    wire: &Wire,
    monitor: Pid,
) -> Result<std::convert::Infallible, Failure> {
    let settings = plan.settings;
    tie(monitor)?;
    root::enter_private_mounts().map_err(failed("make a mount namespace"))?;
    sys::unshare_network().map_err(failed("make a network namespace"))?;
    sys::loopback_up().map_err(failed("start the loopback interface"))?;
    for shown in &plan.shown {
        if let What::Bind {
            source, read_only, ..
        } = &shown.what
        {
            show(source, &shown.destination, *read_only)?;
        }
    }
    for hidden in settings.hidden.iter().filter(|path| path.exists()) {
        show(Path::new("/dev/null"), hidden, true)?;
    }
    let (word, rest) = plan.command.split_first().ok_or_else(died)?;
    let path = match settings.env.iter().rev().find(|(key, _)| key == "PATH") {
        Some((_, path)) => path.clone(),
        None => std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned()),
    };
    if let Some(directory) = &settings.chdir {
        let reason = |e: rustix::io::Errno| Failure::Root {
            action: "enter".into(),
            path: directory.clone(),
            reason: io::Error::from(e).to_string(),
        };
        rustix::process::chdir(directory.as_path()).map_err(reason)?;
    }
    let program = executor::find(word, &path)
        .map_err(|(status, reason)| Failure::Command { reason, status })?;
    wire.send(&Word::Ready);
    if wire.receive() != Some(Order::Go) {
        return Err(Failure::Aborted);
    }
    let mut command = Command::new(program);
    command.arg0(word).args(rest);
    if settings.user.is_some() {
        become_user(plan, &mut command)?;
        // changing the user has undone it
        tie(monitor)?;
    }
    command.envs(settings.env.iter().map(|(key, value)| (key, value)));
    let error = command.exec();
    let status = match error.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    };
    Err(Failure::Command {
        reason: error.to_string(),
        status,
    })
}

/// Ties this process's life to the monitor's. exec of a set-user-id program undoes it; then the monitor's own watch of
/// the front is what ends it.
fn tie(monitor: Pid) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| failed("set the parent death signal")(e.into()))?;
    match rustix::process::getppid() == Some(monitor) {
        true => Ok(()),
        false => Err(Failure::Aborted),
    }
}

/// Mounts `source` over `destination`, which is there; symbolic links are followed, as whoever opens it follows them.
fn show(source: &Path, destination: &PathBuf, read_only: bool) -> Result<(), Failure> {
    let fail = |e: rustix::io::Errno| Failure::Root {
        action: "show something else at".into(),
        path: destination.clone(),
        reason: io::Error::from(e).to_string(),
    };
    rustix::mount::mount_bind(source, destination).map_err(fail)?;
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(destination, flags, c"").map_err(fail)?;
    }
    Ok(())
}

/// `--user=`: ids, groups, and the variables that tell of them.
fn become_user(plan: &Plan<'_>, command: &mut Command) -> Result<(), Failure> {
    let user = &plan.user;
    let fail = |e: rustix::io::Errno| failed("change the user")(e.into());
    let mut groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    groups.push(Gid::from_raw(user.gid));
    set_thread_groups(&groups).map_err(fail)?;
    set_thread_gid(Gid::from_raw(user.gid)).map_err(fail)?;
    set_thread_uid(Uid::from_raw(user.uid)).map_err(fail)?;
    if let Some(name) = &user.name {
        command.env("USER", name).env("LOGNAME", name);
    }
    if let Some(home) = &user.home {
        command.env("HOME", home);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::settings::PrivateUsers;

    #[test]
    fn only_the_network_can_be_asked_for() {
        let mut good = Settings::new("fetch".parse().unwrap(), "/run/x", ["true"]);
        good.no_root = true;
        let told = good.check().unwrap_err().to_string();
        assert!(told.contains("--network-zone="), "{told}");
        good.network = Network::Private;
        good.check().unwrap();
        let bad = |change: fn(&mut Settings)| {
            let mut settings = good.clone();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(bad(|s| s.directory = Some("/srv".into())).contains("--directory="));
        assert!(bad(|s| s.private_users = PrivateUsers::Pick).contains("--private-users"));
        assert!(bad(|s| s.ephemeral = true).contains("--ephemeral"));
        assert!(bad(|s| s.read_only = true).contains("--read-only"));
        assert!(bad(|s| s.as_pid2 = true).contains("--as-pid2"));
        assert!(bad(|s| s.hostname = Some("a".into())).contains("--hostname="));
        assert!(bad(|s| s.terminal = Terminal::Interactive).contains("--console="));
    }
}
