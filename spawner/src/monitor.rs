//! The monitor: makes the container with libcontainer, waits for it, cleans up. Forked from the front, never returns to it.

use std::error::Error;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Rlimit};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::{self, Cgroups};
use crate::diagnosis::{self, Notes};
use crate::executor::{self, Payload};
use crate::hook::{self, UnderWay};
use crate::limits;
use crate::plan::Plan;
use crate::root;
use crate::settings::{Network, Volatile};
use crate::signals;
use crate::state::Slot;
use crate::sys;
use crate::wire::{Exit, Failure, Order, Report, Wire};

/// What the front hands over.
pub(crate) struct Monitor<'a> {
    pub(crate) plan: &'a Plan<'a>,
    pub(crate) slot: &'a Slot,
    pub(crate) cgroups: Option<&'a Cgroups>,
    pub(crate) wire: Wire,
}

impl Monitor<'_> {
    /// Runs the container and ends this process.
    pub(crate) fn run(self) -> ! {
        let report = match self.start() {
            Ok(container) => self.supervise(container),
            Err(failure) => Report::Failed(failure),
        };
        self.clean_up();
        self.wire.send(&report);
        sys::exit(0)
    }

    fn start(&self) -> Result<(Container, OwnedFd), Failure> {
        let fail = |what: &'static str| {
            move |e: io::Error| Failure::Runtime {
                reason: format!("{what}: {e}"),
                stderr: String::new(),
            }
        };
        // A session of its own: keys pressed at the terminal are the front's business. And no directory is held.
        let _ = rustix::process::setsid();
        rustix::process::chdir("/").map_err(|e| fail("enter /")(e.into()))?;
        root::enter_private_mounts().map_err(fail("make a mount namespace"))?;
        if let Network::Namespace(path) = &self.plan.settings.network {
            enter_network(path)?;
        }
        let ahead = match self.plan.network_ahead() {
            true => Some(self.network()?),
            false => None,
        };
        root::mount(self.plan)?;
        let payload = Payload::new(self.plan.settings).map_err(|e| Failure::Runtime {
            reason: e.to_string(),
            stderr: String::new(),
        })?;
        if let Some(cpus) = &self.plan.settings.cpus {
            let mut set = CpuSet::new();
            cpus.0.iter().for_each(|cpu| set.set(*cpu));
            // what is forked from here on runs there
            rustix::thread::sched_setaffinity(None, &set)
                .map_err(|e| fail("--cpu-affinity=")(e.into()))?;
        }
        if let Some(Err(e)) = self.cgroups.map(Cgroups::join) {
            let warning = format!("no limits are in force: enter the container's cgroup: {e}");
            self.wire.send(&Report::Warning(warning));
        }
        cgroup::blind().map_err(fail("hide /sys/fs/cgroup from libcontainer"))?;
        let notes = Notes::new().map_err(fail("keep notes"))?;
        let stderr = Redirected::start().map_err(fail("collect what hooks say"))?;
        let built = notes.during(|| self.build(payload, &stderr));
        if let Some(cgroups) = self.cgroups {
            cgroups.leave();
        }
        let said = stderr.stop();
        let ahead = ahead.map(Ahead::come_home).transpose();
        let ahead = ahead.inspect_err(|_| self.end_what_was_started())?;
        match built {
            Ok((container, pidfd)) => {
                // hooks that went well may still have had something to say
                let _ = rustix::io::write(rustix::stdio::stderr(), said.as_bytes());
                let pid = container.pid().map_or(0, |pid| pid.as_raw());
                let attached = match ahead {
                    Some(under_way) => under_way.wait().map_err(hook::not_set_up),
                    None => hook::attach(self.plan, &self.bundle(), pid),
                };
                attached.inspect_err(|_| self.end_what_was_started())?;
                Ok((container, pidfd))
            }
            Err(error) => {
                self.end_what_was_started();
                Err(explain(&error, &notes, said))
            }
        }
    }

    /// Moves this process, and so what it forks from now on, into a new network namespace, which the caller's own code begins to set
    /// up meanwhile.
    fn network(&self) -> Result<Ahead, Failure> {
        let fail = |e: io::Error| Failure::Runtime {
            reason: format!("make a network namespace: {e}"),
            stderr: String::new(),
        };
        let open = || File::open("/proc/self/ns/net").map(OwnedFd::from);
        let mut ahead = Ahead {
            home: open().map_err(fail)?,
            under_way: UnderWay::default(),
        };
        sys::unshare_network().map_err(fail)?;
        let netns = open().map_err(fail)?;
        let own = rustix::process::getpid().as_raw_nonzero().get();
        ahead.under_way = hook::begin_attach(self.plan, &self.bundle(), own, netns.as_fd())?;
        Ok(ahead)
    }

    fn build(
        &self,
        payload: Payload,
        stderr: &Redirected,
    ) -> Result<(Container, OwnedFd), LibcontainerError> {
        let dir = self.slot.dir();
        let mut builder =
            ContainerBuilder::new(self.slot.name().to_owned(), SyscallType::default())
                .with_root_path(dir.join("run"))?
                .with_pid_file(Some(self.pid_file()))?
                .with_executor(payload);
        builder = if self.plan.pty {
            builder.with_console_socket(Some(dir.join("console.sock")))
        } else {
            let own = stderr
                .original
                .try_clone()
                .map_err(LibcontainerError::OtherIO)?;
            builder.with_stderr(own)
        };
        let container = builder
            .as_init(dir.join("bundle"))
            .with_systemd(false)
            .build()?;
        let pid = container.pid().and_then(|pid| Pid::from_raw(pid.as_raw()));
        let pid = pid.ok_or(LibcontainerError::NoDirectory)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|e| LibcontainerError::OtherIO(e.into()))?;
        Ok((container, pidfd))
    }

    fn bundle(&self) -> PathBuf {
        self.slot.dir().join("bundle")
    }

    fn pid_file(&self) -> PathBuf {
        self.slot.dir().join("init.pid")
    }

    /// A start that failed may leave the container's first process behind, waiting for words that never come.
    fn end_what_was_started(&self) {
        let pid = std::fs::read_to_string(self.pid_file()).ok();
        if let Some(pid) = pid.and_then(|text| Pid::from_raw(text.trim().parse().ok()?)) {
            // our own child, not reaped yet, so the number is still its own
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = sys::wait(pid);
        }
    }

    /// From ready to the end. Whatever happens to the front, the container is gone when this returns.
    fn supervise(&self, (mut container, pidfd): (Container, OwnedFd)) -> Report {
        let pid = container.pid().map_or(0, |pid| pid.as_raw());
        self.wire.send(&Report::Ready { pid });
        let started = match self.wire.receive() {
            Some(Order::Go) => self.limit(pid).and_then(|()| {
                diagnosis::silently(|| container.start()).map_err(|e| Failure::Runtime {
                    reason: chain(&e),
                    stderr: String::new(),
                })
            }),
            Some(Order::Abort) | None => Err(Failure::Aborted),
        };
        if started.is_ok() {
            self.watch(pidfd.as_fd());
        }
        // A signal may have come between ready and go: that is an end like any other, and no failed start.
        let started = match started {
            Err(Failure::Runtime { .. }) if signals::is_over(pidfd.as_fd()) => Ok(()),
            started => started,
        };
        let ended = Pid::from_raw(pid).map_or(Exit::Code(255), |pid| reap(pid, pidfd.as_fd()));
        match started {
            Err(failure) => Report::Failed(failure),
            Ok(()) => Report::Ended(ended),
        }
    }

    /// `--rlimit=`, from outside: inside, with private users, nobody may raise one. The command has not begun.
    fn limit(&self, pid: i32) -> Result<(), Failure> {
        for limit in &self.plan.settings.rlimits {
            let value = |n: u64| (n != u64::MAX).then_some(n);
            let (current, maximum) = (value(limit.soft), value(limit.hard));
            let set = Rlimit { current, maximum };
            let resource = limits::resource(&limit.resource);
            let done = match resource {
                Some(resource) => {
                    let all = |set| rustix::process::prlimit(Pid::from_raw(pid), resource, set);
                    match all(set) {
                        Err(rustix::io::Errno::PERM) => self.nearest(pid, limit, resource),
                        done => done.map(drop),
                    }
                }
                None => Err(rustix::io::Errno::INVAL),
            };
            done.map_err(|e| Failure::Runtime {
                reason: format!("--rlimit={}: {}", limit.resource, io::Error::from(e)),
                stderr: String::new(),
            })?;
        }
        Ok(())
    }

    /// Who may not raise a limit so far gets as near as can be, as with systemd-nspawn.
    fn nearest(
        &self,
        pid: i32,
        limit: &crate::settings::Rlimit,
        resource: rustix::process::Resource,
    ) -> rustix::io::Result<()> {
        let now = rustix::process::getrlimit(resource).maximum;
        let most = |n: u64| now.map_or(n, |now| n.min(now));
        let value = |n: u64| (n != u64::MAX).then_some(n);
        let (soft, hard) = (most(limit.soft), most(limit.hard));
        let set = Rlimit {
            current: value(soft),
            maximum: value(hard),
        };
        rustix::process::prlimit(Pid::from_raw(pid), resource, set)?;
        let text = format!(
            "--rlimit={}: nobody here may set more than {hard}",
            limit.resource
        );
        self.wire.send(&Report::Warning(text));
        Ok(())
    }

    /// Returns when the container has ended, or the front is gone.
    pub(crate) fn watch(&self, pidfd: BorrowedFd<'_>) {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
                // the front says nothing any more: whatever comes is its end
                PollFd::new(&self.wire, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Runs the poststop hooks and removes what is on the host. Goes on past errors.
    pub(crate) fn clean_up(&self) {
        let (warnings, network) = hook::after(self.plan, &self.bundle());
        for warning in warnings {
            self.wire.send(&Report::Warning(warning));
        }
        if let Some(cgroups) = self.cgroups {
            cgroups.remove();
        }
        // in this mount namespace all is still there; the host never saw it
        let detach = rustix::mount::UnmountFlags::DETACH;
        let made = self.plan.makings.iter().rev().map(|m| m.point().as_path());
        let userns = self.plan.userns.as_deref();
        for point in made.chain(userns).chain([self.plan.root.as_path()]) {
            let _ = rustix::mount::unmount(point, detach);
        }
        if self.plan.settings.volatile == Volatile::Overlay {
            for point in ["binds/lower", "binds/upper"] {
                let _ = rustix::mount::unmount(self.slot.dir().join(point), detach);
            }
        }
        self.slot.empty();
        // the name is not free before its network is
        if let Err(warning) = network.wait() {
            self.wire.send(&Report::Warning(warning));
        }
        self.slot.release();
    }
}

/// A network that is set up while libcontainer makes the container. Dropping it leads back to the host's, where hooks belong.
struct Ahead {
    /// The host's network namespace.
    home: OwnedFd,
    under_way: UnderWay,
}

impl Ahead {
    fn come_home(mut self) -> Result<UnderWay, Failure> {
        self.enter_home().map_err(|e| Failure::Runtime {
            reason: format!("go back to the host's network: {}", io::Error::from(e)),
            stderr: String::new(),
        })?;
        Ok(mem::take(&mut self.under_way))
    }

    fn enter_home(&self) -> rustix::io::Result<()> {
        move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let _ = self.enter_home();
    }
}

/// `--network-namespace-path=`: what is forked from here on is in that network.
fn enter_network(path: &Path) -> Result<(), Failure> {
    let fail = |e: io::Error| Failure::Root {
        action: "enter the network namespace".into(),
        path: path.to_owned(),
        reason: e.to_string(),
    };
    let enter = || -> io::Result<()> {
        let namespace = File::open(path)?;
        let same = |a: &rustix::fs::Stat, b: &rustix::fs::Stat| {
            (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        };
        let own = rustix::fs::stat("/proc/self/ns/net")?;
        if same(&rustix::fs::fstat(&namespace)?, &own) {
            return Err(io::Error::other(
                "it is the host's own: leave the option away to share that",
            ));
        }
        let kind = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(namespace.as_fd(), kind)?)
    };
    enter().map_err(fail)
}

/// Kills our child if it has not ended, and tells how it did.
pub(crate) fn reap(pid: Pid, pidfd: BorrowedFd<'_>) -> Exit {
    let _ = signals::kill_and_wait(pidfd);
    let Ok(status) = sys::wait(pid) else {
        return Exit::Code(255);
    };
    match (status.exit_status(), status.terminating_signal()) {
        (_, Some(signal)) => Exit::Signal(signal),
        (code, None) => Exit::Code(code.unwrap_or(255) as u8),
    }
}

/// Runs what the monitor could not: hooks and removal, in the front, after the monitor died.
pub(crate) fn clean_up_after(
    plan: &Plan<'_>,
    slot: &Slot,
    cgroups: Option<&Cgroups>,
) -> Vec<String> {
    let (mut warnings, network) = hook::after(plan, &slot.dir().join("bundle"));
    if let Some(cgroups) = cgroups {
        cgroups.remove();
    }
    warnings.extend(network.wait().err());
    slot.release();
    warnings
}

/// libcontainer gives hooks our standard error, so for the time being that is a file in memory.
pub(crate) struct Redirected {
    original: OwnedFd,
    collected: OwnedFd,
}

impl Redirected {
    pub(crate) fn start() -> io::Result<Self> {
        let original = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
        let collected = rustix::fs::memfd_create("hooks", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&collected, rustix::fs::OFlags::APPEND)?;
        rustix::stdio::dup2_stderr(&collected)?;
        Ok(Self {
            original,
            collected,
        })
    }

    /// Puts standard error back, and returns what was written meanwhile.
    pub(crate) fn stop(self) -> String {
        let _ = rustix::stdio::dup2_stderr(&self.original);
        read_all(self.collected)
    }
}

/// The text of a file in memory, at most 64 KiB.
pub(crate) fn read_all(file: OwnedFd) -> String {
    use std::io::{Read, Seek};
    let mut file = File::from(file);
    let mut bytes = Vec::new();
    let _ = file.rewind();
    let _ = file.take(64 << 10).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a failed start means. libcontainer's error keeps its cause to itself, so the notes decide.
fn explain(error: &LibcontainerError, notes: &Notes, said: String) -> Failure {
    let mut text = chain(error);
    // that it could not remove the decoy it took for a cgroup is no news
    if let Some((cause, _)) = text.rsplit_once(CLEANUP_NOTE) {
        text = cause.to_owned();
    }
    if let Some((status, reason)) = executor::missing_command(&text) {
        return Failure::Command { reason, status };
    }
    let all = notes.read();
    if let Some(how) = all.lines().find_map(|note| note.strip_prefix(HOOK_NOTE)) {
        return Failure::Hook {
            reason: format!("a createRuntime hook failed, so the command was not run: {how}"),
            stderr: said,
        };
    }
    Failure::Runtime {
        // the first note is nearest to the cause
        reason: all.lines().next().map_or(text, str::to_owned),
        stderr: said,
    }
}

/// What libcontainer tells after the cause of a start that failed (error.rs); a test with a missing command holds it to that.
const CLEANUP_NOTE: &str = ". error during cleanup: ";

/// How libcontainer's note about a failed createRuntime hook begins (container_main_process.rs); a test with a hook
/// that fails holds it to that.
const HOOK_NOTE: &str = "failed to run create runtime hooks: ";

/// An error and its causes in one line; a cause that its parent's text ends with is not told twice.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}

/// Whether every directory on the way to `path` may be searched by users that own nothing on the host.
pub(crate) fn unsearchable(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    path.ancestors()
        .find(|dir| {
            std::fs::metadata(dir).is_ok_and(|m| m.is_dir() && m.permissions().mode() & 0o001 == 0)
        })
        .map(Path::to_owned)
}
