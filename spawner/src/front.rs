//! The front: what the user talks to. Prepares, forks the monitor, then passes signals and the terminal on until the end.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags};

use crate::cgroup::{self, Cgroups};
use crate::error::SpawnError;
use crate::monitor::{self, Monitor};
use crate::plan::{Plan, UidRange};
use crate::prepare;
use crate::range;
use crate::settings::{CapabilitySet, Settings};
use crate::signals::{self, Delivery};
use crate::spec;
use crate::state::{self, Running, Slot};
use crate::sys::{self, Fork, SignalFd};
use crate::terminal::{Console, ConsoleSocket};
use crate::wire::{Exit, Failure, Order, Report, Wire};

/// Runs a container until its command ends, and leaves nothing behind.
///
/// Signals that are sent to this process meanwhile (SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGPWR, real-time
/// ones) are passed to the container's pid 1; one that would end an ordinary process ends the container also when pid 1 does nothing
/// about it. What is worth a word but no failure is logged as a warning (`tracing`).
///
/// Needs root. Hooks run in the host's network, pid and user namespaces, and in a mount namespace that sees the host's mounts but for
/// /sys/fs/cgroup; a service that a hook starts would stay there, so hooks should not start one.
///
/// # Errors
/// See [`SpawnError`]. When it fails the command was not run, but for [`SpawnError::MonitorDied`].
pub fn run(settings: &Settings) -> Result<Exit, SpawnError> {
    settings.check()?;
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => {}
        Ok(n) => return Err(SpawnError::Threads(n)),
        Err(e) => return Err(SpawnError::System("count threads", e)),
    }
    sys::keep_dead_children();
    let mut settings = settings.clone();
    if settings.privileges.add == CapabilitySet::ALL {
        // all that there are to give, where netd itself has not all
        let own = rustix::thread::capabilities(None)
            .map_err(SpawnError::system("look at netd's own capabilities"))?;
        settings.privileges.add = CapabilitySet::of_bits(own.permitted.bits());
    }
    settings.directory = settings
        .directory
        .as_deref()
        .map(root_directory)
        .transpose()?;
    std::fs::create_dir_all(&settings.state_root)
        .map_err(SpawnError::state("create", &settings.state_root))?;
    settings.state_root = settings
        .state_root
        .canonicalize()
        .map_err(SpawnError::state("find", &settings.state_root))?;
    let (slot, range) = Slot::claim(&settings.state_root, &settings.name, |taken| {
        range::choose(&settings, taken)
    })?;
    let done = prepare_and_run(&settings, &slot, range);
    slot.release();
    done
}

fn root_directory(given: &Path) -> Result<PathBuf, SpawnError> {
    let fail = |source| SpawnError::Directory {
        path: given.to_owned(),
        source,
    };
    let path = given.canonicalize().map_err(fail)?;
    if !path.is_dir() {
        return Err(fail(io::ErrorKind::NotADirectory.into()));
    }
    if path == Path::new("/") {
        return Err(SpawnError::setting(
            "--directory=",
            "/",
            "is the host's own root: leave it away for a read-only view of that",
        ));
    }
    Ok(path)
}

fn prepare_and_run(
    settings: &Settings,
    slot: &Slot,
    range: Option<UidRange>,
) -> Result<Exit, SpawnError> {
    let cgroups = Cgroups::of(settings, range);
    let plan = prepare::plan(settings, slot, range, cgroups.as_ref());
    let plan = plan.inspect_err(|_| {
        if let Some(cgroups) = &cgroups {
            cgroups.remove();
        }
    })?;
    let done = run_plan(&plan, slot, cgroups.as_ref());
    // the monitor did, unless it died, or was never there
    if let Some(cgroups) = &cgroups {
        cgroups.remove();
    }
    done
}

fn run_plan(plan: &Plan<'_>, slot: &Slot, cgroups: Option<&Cgroups>) -> Result<Exit, SpawnError> {
    let settings = plan.settings;
    if !settings.no_root {
        let config = spec::spec(plan).to_string();
        slot.write("bundle/config.json", config.as_bytes())?;
        let (file, content) = cgroup::DECOY;
        slot.write(&format!("bundle/{file}"), content)?;
    }
    let console = match plan.pty {
        true => Some(
            ConsoleSocket::listen(slot.dir())
                .map_err(SpawnError::state("listen in", slot.dir()))?,
        ),
        false => None,
    };
    let (near, far) = Wire::pair().map_err(SpawnError::system("make a pair of sockets"))?;
    // what is buffered would be written by both
    let _ = io::stdout().flush();
    let pid = match sys::fork().map_err(SpawnError::system("fork"))? {
        Fork::Child => {
            drop(near);
            let monitor = Monitor {
                plan,
                slot,
                cgroups,
                wire: far,
            };
            match settings.no_root {
                true => monitor.run_bare(),
                false => monitor.run(),
            }
        }
        Fork::Parent(pid) => pid,
    };
    drop(far);
    let front = Front {
        plan,
        slot,
        wire: near,
        init: None,
        early: None,
        instead_of: None,
        console: None,
    };
    let ended = front.attend(console);
    let _ = sys::wait(pid);
    ended.unwrap_or_else(|| {
        for warning in monitor::clean_up_after(plan, slot, cgroups) {
            tracing::warn!("{warning}");
        }
        Err(SpawnError::MonitorDied(slot.name().to_owned()))
    })
}

struct Front<'a> {
    plan: &'a Plan<'a>,
    slot: &'a Slot,
    wire: Wire,
    /// The container's pid 1, once it stands.
    init: Option<(i32, OwnedFd)>,
    /// A signal from before that.
    early: Option<i32>,
    /// A signal that pid 1 would have dropped, so that the container was killed.
    instead_of: Option<i32>,
    console: Option<Console>,
}

impl Front<'_> {
    /// Passes everything on until the monitor has the last word. `None`: it died without one.
    fn attend(mut self, mut socket: Option<ConsoleSocket>) -> Option<Result<Exit, SpawnError>> {
        let all = signals::passed_on().chain([libc::SIGWINCH]);
        let signals = match SignalFd::open(all) {
            Ok(signals) => signals,
            // the monitor sees our end of the socket close, and cleans up
            Err(e) => return Some(Err(SpawnError::System("open a signal descriptor", e))),
        };
        loop {
            let ready = self.wait(&signals)?;
            if ready.signal {
                while let Some((signal, by_terminal)) = signals.next() {
                    // A program without a root of its own is in our group, where the terminal told it already.
                    if !(by_terminal && self.plan.settings.no_root && self.init.is_some()) {
                        self.signal(signal);
                    }
                }
            }
            if let Some(console) = &mut self.console {
                if ready.output {
                    console.read_output();
                }
                if ready.writable {
                    console.write_input();
                }
                if ready.input && console.read_input(Instant::now()) {
                    self.signal(libc::SIGKILL);
                }
            }
            if !ready.report {
                continue;
            }
            match self.wire.receive() {
                Some(Report::Ready { pid }) => match self.ready(pid, socket.take()) {
                    Ok(order) => self.wire.send(&order),
                    Err(e) => {
                        self.wire.send(&Order::Abort);
                        while !matches!(
                            self.wire.receive(),
                            None | Some(Report::Failed(_) | Report::Ended(_))
                        ) {}
                        return Some(Err(e));
                    }
                },
                Some(Report::Warning(text)) => tracing::warn!("{text}"),
                Some(Report::Ended(exit)) => return Some(Ok(self.ended(exit))),
                Some(Report::Failed(failure)) => return Some(self.failed(failure)),
                None => {
                    if let Some((_, pidfd)) = &self.init {
                        let _ = signals::kill_and_wait(pidfd.as_fd());
                    }
                    return None;
                }
            }
        }
    }

    fn wait(&self, signals: &SignalFd) -> Option<ReadyFor> {
        let stdin = rustix::stdio::stdin();
        let mut fds = vec![
            PollFd::new(&self.wire, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        let master = self.console.as_ref().map(|c| (c.master(), c.wants()));
        if let Some((master, wants)) = &master
            && !wants.is_empty()
        {
            fds.push(PollFd::new(master, *wants));
        }
        let at_master = fds.len() - 1;
        let input = self.console.as_ref().is_some_and(Console::takes_input);
        if input {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match rustix::io::retry_on_intr(|| poll(&mut fds, None)) {
            Ok(_) => {}
            Err(_) => return None,
        }
        let any = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let is = |at: usize, flags| fds[at].revents().intersects(flags);
        Some(ReadyFor {
            report: is(0, any),
            signal: is(1, any),
            output: at_master > 1 && is(at_master, any),
            writable: at_master > 1 && is(at_master, PollFlags::OUT),
            input: input && is(fds.len() - 1, any),
        })
    }

    /// The container stands: put it on the list, take its terminal, and say whether its command may run.
    fn ready(&mut self, pid: i32, socket: Option<ConsoleSocket>) -> Result<Order, SpawnError> {
        let settings = self.plan.settings;
        if let Some(socket) = socket {
            let master = socket.master();
            let console = master.and_then(|master| Console::start(master, settings.terminal));
            self.console =
                Some(console.map_err(SpawnError::system("take the container's terminal"))?);
        }
        // it waits for our word, so the number cannot be another's by now
        let raw =
            Pid::from_raw(pid).ok_or_else(|| SpawnError::MonitorDied(settings.name.to_string()))?;
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty())
            .map_err(SpawnError::system("watch the container's pid 1"))?;
        self.slot.record(&Running {
            name: settings.name.to_string(),
            pid,
            start_ticks: state::start_ticks(pid).unwrap_or_default(),
            since: state::now(),
            directory: settings.directory.clone(),
            command: self.plan.command.clone(),
            uid_base: self.plan.range.map(|range| range.base),
            boots: settings.boot,
            kill_signal: settings.kill_signal,
        })?;
        self.init = Some((pid, pidfd));
        Ok(match self.early {
            Some(_) => Order::Abort,
            None => Order::Go,
        })
    }

    fn signal(&mut self, signal: i32) {
        if signal == libc::SIGWINCH {
            if let Some(console) = &self.console {
                console.resize();
            }
            return;
        }
        // what systemd takes for the order to shut down (systemd(1), SIGNALS)
        let shut_down = self.plan.settings.boot.then(|| libc::SIGRTMIN() + 3);
        let signal = match (signal, self.plan.settings.kill_signal.or(shut_down)) {
            (libc::SIGTERM, Some(other)) => other,
            (signal, _) => signal,
        };
        match &self.init {
            None => self.early = Some(signal),
            Some((pid, pidfd)) => {
                let done = signals::deliver(pidfd.as_fd(), *pid, signal);
                if let Ok(Delivery::Killed) = done {
                    self.instead_of.get_or_insert(signal);
                }
            }
        }
    }

    fn ended(&mut self, exit: Exit) -> Exit {
        if let Some(console) = &mut self.console {
            console.read_output();
        }
        match (exit, self.instead_of) {
            (Exit::Signal(libc::SIGKILL), Some(signal)) => Exit::Signal(signal),
            // how reboot(2) ends a pid namespace; sent by anybody, these end no pid 1
            (Exit::Signal(libc::SIGHUP), None) if self.plan.settings.boot => Exit::Rebooted,
            (Exit::Signal(libc::SIGINT), None) if self.plan.settings.boot => Exit::Code(0),
            (exit, _) => exit,
        }
    }

    fn failed(&self, failure: Failure) -> Result<Exit, SpawnError> {
        match (failure, self.early) {
            (Failure::Aborted, Some(signal)) => Ok(Exit::Signal(signal)),
            (failure, _) => {
                let settings = self.plan.settings;
                let command = self.plan.command.first().map_or("", String::as_str);
                Err(failure.into_error(settings.name.as_str(), command))
            }
        }
    }
}

struct ReadyFor {
    report: bool,
    signal: bool,
    output: bool,
    writable: bool,
    input: bool,
}
