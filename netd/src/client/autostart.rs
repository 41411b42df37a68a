//! A command that needs the daemon and finds none starts one.
//!
//! ```text
//! netd list ──spawn──► netd daemon --background ──spawn, setsid──► netd daemon
//!     └──────── connect, until it answers ────────────────────────────┘
//! ```
//!
//! The one in the middle ends at once, so that the daemon is nobody's child, whoever started it
//! (`netd run` waits for children of its own). Several commands may do this at the same time: the
//! daemon takes a lock, those that come second end, and every command meets the first.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Client;
use crate::dirs::Dirs;
use crate::error::{Error, chain};

/// How long a daemon may take to answer for the first time.
const START: Duration = Duration::from_secs(5);

/// How long a socket may take to appear after the daemon that was started has ended, where nothing
/// tells that another one runs.
const GRACE: Duration = Duration::from_millis(300);

/// What the daemon says when another one holds the lock (`StartError::Running`). That one was started
/// at the same time by somebody else, and is worth waiting for.
const RIVAL: &str = "another netd daemon runs";

/// A log larger than this, in bytes, is begun anew when a daemon is started.
const LOG_MAX: u64 = 4 << 20;

/// Connects to the daemon, and starts one where none answers and `allowed`.
pub(crate) fn connect(dirs: &Dirs, allowed: bool) -> Result<Client, Error> {
    let socket = dirs.socket();
    match Client::connect(&socket) {
        Err(Error::Unreachable { source, .. }) if nobody_listens(&source) => {
            if allowed {
                start(dirs, &socket)
            } else {
                Err(Error::NoDaemon { socket })
            }
        }
        other => other,
    }
}

/// What `NETD_AUTOSTART` says; anything but a clear no is a yes.
pub(crate) fn allowed(variable: Option<&OsStr>) -> bool {
    let no = ["0", "no", "false", "off"];
    !variable.is_some_and(|value| no.iter().any(|no| value == *no))
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn start(dirs: &Dirs, socket: &Path) -> Result<Client, Error> {
    let failed = |what: String| move |source| Error::Autostart { what, source };
    fs::create_dir_all(&dirs.runtime)
        .map_err(failed(format!("make {}", dirs.runtime.display())))?;
    let log = open_log(&dirs.log()).map_err(failed(format!("open {}", dirs.log().display())))?;
    // The daemon's standard output is the far end of a pipe: it closes when the daemon ends, however
    // it ends, and nothing is ever written to it.
    let (alive, daemons_end) = io::pipe().map_err(failed("make a pipe".into()))?;
    let status = Command::new("/proc/self/exe")
        .arg0("netd")
        .args(["daemon", "--background"])
        .args(dirs.to_args())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(daemons_end)
        .stderr(log)
        .status()
        .map_err(failed("run netd".into()))?;
    if !status.success() {
        return Err(Error::DaemonDied {
            log: dirs.log(),
            words: last_words(&dirs.log()),
        });
    }
    wait(dirs, socket, alive)
}

/// Connects as soon as the daemon answers; does not wait for one that has ended.
fn wait(dirs: &Dirs, socket: &Path, alive: PipeReader) -> Result<Client, Error> {
    let mut deadline = Instant::now() + START;
    let mut ended = false;
    let mut pause = Duration::from_millis(1);
    loop {
        match Client::connect(socket) {
            Err(Error::Unreachable { source, .. }) if nobody_listens(&source) => {}
            other => return other,
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(if ended {
                Error::DaemonDied {
                    log: dirs.log(),
                    words: last_words(&dirs.log()),
                }
            } else {
                Error::DaemonSlow {
                    socket: socket.to_owned(),
                    log: dirs.log(),
                    seconds: START.as_secs(),
                }
            });
        }
        if ended {
            std::thread::sleep(pause);
        } else if hung_up(&alive, pause) {
            ended = true;
            if !last_words(&dirs.log()).contains(RIVAL) {
                deadline = deadline.min(now + GRACE);
            }
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Waits for the far end of the pipe to be closed, up to `pause`.
fn hung_up(alive: &PipeReader, pause: Duration) -> bool {
    let mut fds = [PollFd::new(alive, PollFlags::empty())];
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: pause.subsec_nanos().into(),
    };
    // An interrupted poll is only a shorter pause.
    poll(&mut fds, Some(&timeout)).is_ok_and(|n| n > 0)
}

fn open_log(path: &Path) -> io::Result<File> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    if log.metadata()?.len() > LOG_MAX {
        log.set_len(0)?;
    }
    Ok(log)
}

/// The last line of the log.
fn last_words(log: &Path) -> String {
    let tail = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(4096);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match tail() {
        Ok(text) => text
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("(none)")
            .trim()
            .to_owned(),
        Err(e) => chain(&e),
    }
}

/// What `netd daemon --background` does: starts the daemon in a session of its own, with none of the
/// descriptors that were inherited but the standard ones, and ends.
///
/// A new session and closed descriptors, because the daemon outlives the terminal, the pipes and the
/// locks of whoever happened to need it first.
pub(crate) fn background(dirs: &Dirs, json_logs: bool) -> Result<ExitCode, Error> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Autostart { what, source }
    };
    // Fails only for the leader of a process group, and then the daemon just stays in this session.
    let _ = rustix::process::setsid();
    crate::sys::close_on_exec_from(3).map_err(failed("close inherited descriptors"))?;
    Command::new("/proc/self/exe")
        .arg0("netd")
        .arg("daemon")
        .args(json_logs.then_some("--json-logs"))
        .args(dirs.to_args())
        .current_dir("/")
        .stdin(Stdio::null())
        .spawn()
        .map_err(failed("run netd"))?;
    Ok(ExitCode::SUCCESS)
}
