//! The last steps inside the container: find the command, tie its life to the monitor's, run it (below a stub with `--as-pid2`).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};

use rustix::thread::CapabilitySet;

use crate::error::SpawnError;
use crate::seccomp::{self, Instruction};
use crate::settings::Settings;
use crate::signals::ends_by_default;
use crate::spec;
use crate::sys::{self, Fork};

/// How a missing command is told through libcontainer's channel, which carries text only: this, the status a shell
/// would return, and the reason.
const MARK: &str = "netd-command:";

/// What ps(1) shows for the stub.
const STUB: &str = "(netd-stub)";
const STUB_NAME: &std::ffi::CStr = c"netd-stub";

/// Runs the command of a spec.
#[derive(Clone)]
pub(crate) struct Payload {
    /// Whether a stub is pid 1.
    as_pid2: bool,
    /// Which system calls there are.
    filter: Vec<Instruction>,
    /// Capabilities that were kept to load the filter, and go with it; the last is needed to drop the others.
    extra: Vec<CapabilitySet>,
    /// The command's environment, as libcontainer hands it over between the two calls it makes.
    env: RefCell<BTreeMap<String, String>>,
}

impl Payload {
    pub(crate) fn new(settings: &Settings) -> Result<Self, SpawnError> {
        let granted = spec::capabilities(settings);
        let kept = [
            ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
            ("CAP_SETPCAP", CapabilitySet::SETPCAP),
        ];
        Ok(Self {
            as_pid2: settings.as_pid2,
            filter: seccomp::filter(&seccomp::Calls::of(settings)?),
            extra: kept
                .into_iter()
                .filter(|(name, _)| !granted.has(name))
                .map(|(_, capability)| capability)
                .collect(),
            env: RefCell::default(),
        })
    }

    /// Loads the system call filter, and drops the capabilities that were kept for that (`FOR_THE_FILTER`).
    fn confine(&self) -> io::Result<()> {
        sys::load_filter(&self.filter)?;
        let mut sets = rustix::thread::capabilities(None)?;
        let mut changed = false;
        for extra in self
            .extra
            .iter()
            .copied()
            .filter(|e| sets.permitted.contains(*e))
        {
            rustix::thread::remove_capability_from_bounding_set(extra)?;
            changed = true;
        }
        for extra in self.extra.iter().copied().filter(|_| changed) {
            sets.effective.remove(extra);
            sets.permitted.remove(extra);
            sets.inheritable.remove(extra);
        }
        if changed {
            rustix::thread::set_capabilities(None, sets)?;
        }
        Ok(())
    }
}

impl Executor for Payload {
    /// Called in the container, when its root, user and capabilities are in force, and before the front is told that
    /// it is ready.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        // Changing the user cleared this, so it is set after that. The container may clear it again (exec of a
        // set-user-id program does); then the monitor's own watch of the front is what ends it.
        let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        let refuse = |text: String| Err(ExecutorValidationError::ArgValidationError(text));
        if let Err(e) = tied {
            return refuse(format!("set the parent death signal: {e}"));
        }
        let process = spec.process().as_ref();
        let word = process.and_then(|p| p.args().as_ref()?.first().cloned());
        let env = process.and_then(|p| p.env().clone()).unwrap_or_default();
        let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH="));
        match find(&word.unwrap_or_default(), path.unwrap_or_default()) {
            Ok(_) => Ok(()),
            Err((status, reason)) => refuse(format!("{MARK}{status}:{reason}")),
        }
    }

    /// Keeps the environment. The default would make it this process's own, and fails where the host's holds bytes
    /// that are no text.
    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        self.env.borrow_mut().extend(envs);
        Ok(())
    }

    /// Called in the container when the front said go.
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = spec.process().as_ref().and_then(|p| p.args().as_deref());
        let Some((word, rest)) = args.and_then(<[_]>::split_first) else {
            return Err(ExecutorError::InvalidArg);
        };
        // the front takes the container for started by now: what goes wrong here is told as a command would tell it
        let fail = |what: &str, e: io::Error| -> ! {
            eprintln!("netd: {what}: {e}");
            sys::exit(125)
        };
        // before a filter that may refuse it
        sys::reset_signals();
        self.confine()
            .unwrap_or_else(|e| fail("load the system call filter", e));
        if self.as_pid2 {
            become_stub().unwrap_or_else(|e| fail("make the stub init", e));
        }
        let mut env = self.env.borrow_mut();
        if let Some(pid) = env.get_mut("LISTEN_PID") {
            // sockets that were passed to us (sd_listen_fds(3)) are the command's, which need not be pid 1
            *pid = std::process::id().to_string();
        }
        let error = Command::new(word).args(rest).env_clear().envs(&*env).exec();
        eprintln!("netd: {word}: {error}");
        let status = if error.kind() == io::ErrorKind::NotFound {
            127
        } else {
            126
        };
        sys::exit(status)
    }
}

/// What [`Payload::validate`] said, found again in an error's text: the status and the reason.
pub(crate) fn missing_command(text: &str) -> Option<(u8, String)> {
    let (status, reason) = text.split_once(MARK)?.1.split_once(':')?;
    Some((status.parse().ok()?, reason.to_owned()))
}

/// Looks a command up as execvp(3) does.
pub(crate) fn find(word: &str, path: &str) -> Result<PathBuf, (u8, String)> {
    let usable = |file: &Path| {
        let meta = std::fs::metadata(file).ok()?;
        Some(meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let refused = || Err((126, "is no program that may be run".to_owned()));
    if word.contains('/') {
        return match usable(Path::new(word)) {
            Some(true) => Ok(word.into()),
            Some(false) => refused(),
            None => Err((127, "no such file".to_owned())),
        };
    }
    let mut seen = false;
    for dir in path.split(':') {
        let file = Path::new(if dir.is_empty() { "." } else { dir }).join(word);
        match usable(&file) {
            Some(true) => return Ok(file),
            Some(false) => seen = true,
            None => {}
        }
    }
    match seen {
        true => refused(),
        false => Err((127, format!("no such command (PATH={path})"))),
    }
}

/// Forks. The child returns and becomes the command; this process stays as pid 1, which reaps orphans, passes signals on and
/// ends as the command ends.
fn become_stub() -> io::Result<()> {
    let mask = sys::block_all_signals();
    // This process still is the host's program: nobody inside may look into it, or reach its file by /proc/1/exe
    // (CVE-2019-5736), nor what it had open. Before there is somebody inside; the command's exec undoes it for the command.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // ps(1) inside need not show the host's command line
    let _ = sys::set_command_line(STUB);
    let _ = rustix::thread::set_name(STUB_NAME);
    let child = match sys::fork()? {
        Fork::Child => {
            mask.restore();
            return Ok(());
        }
        Fork::Parent(child) => child,
    };
    if sys::close_all_but_stdio().is_err() {
        sys::exit(125);
    }
    loop {
        let (signal, by_terminal) = sys::wait_for_signal();
        if signal == libc::SIGCHLD {
            if let Some(status) = reap(child) {
                sys::exit(status);
            }
        } else if ends_by_default(signal) && !by_terminal || signal == libc::SIGCONT {
            sys::kill(child, signal);
        }
    }
}

/// Reaps all that died; the status of `child`, as a shell reports it, when it is among them.
fn reap(child: Pid) -> Option<u8> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = rustix::process::waitpid(None, WaitOptions::NOHANG) {
        if pid == child {
            ended = Some(sys::shell_status(status));
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        assert_eq!(find("sh", "/nowhere:/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("no-such-thing", "/bin:/usr/bin").unwrap_err().0, 127);
        assert_eq!(find("/no/such/thing", "").unwrap_err().0, 127);
        assert_eq!(find("/etc/passwd", "").unwrap_err().0, 126);
        assert_eq!(find("passwd", "/etc").unwrap_err().0, 126);
        assert_eq!(find("/etc", "").unwrap_err().0, 126);
    }

    #[test]
    fn the_reason_survives_libcontainers_channel() {
        let text = format!("error in executing process : {MARK}127:no such: thing");
        assert_eq!(missing_command(&text), Some((127, "no such: thing".into())));
        assert_eq!(missing_command("something else"), None);
    }
}
