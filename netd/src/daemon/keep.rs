//! The keeper: a process that holds the socket that owns the tables, and keeps new ports apart while no daemon runs.
//!
//! A table with an owner cannot be changed by anybody else, and loses its owner when the owner's socket
//! closes. So the socket must outlive a daemon that is killed: the keeper holds a duplicate, and gives
//! it to the next daemon.
//!
//! Its standard input is a pipe whose other end only the daemon has. When that ends, the daemon has; from then on the
//! keeper guards what is plugged into the zones' bridges ([`zone::Apart`]), until the next daemon's keeper comes. Which
//! bridges these are stands in a file ([`Bridges`]), so that they are known however the daemon ended.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use firewall::kernel::keeper;
use zone::{Apart, IfName};

use super::dirs::Dirs;
use super::{chain, sys};

/// Descriptor under which the keeper finds the socket.
const INHERITED: i32 = 3;

/// A keeper at work, which takes this to be dropped for the daemon's end.
pub(super) struct Keeper {
    _process: Child,
    _alive: OwnedFd,
}

/// Starts a keeper for `socket`, in a session of its own. It outlives the daemon.
pub(super) fn start(dirs: &Dirs, socket: BorrowedFd<'_>) -> io::Result<Keeper> {
    let (theirs, alive) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("netd")
        .arg("--runtime-dir")
        .arg(&dirs.runtime)
        .arg("keep")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/");
    sys::own_session_with(&mut command, socket.as_raw_fd(), INHERITED);
    Ok(Keeper {
        _process: command.spawn()?,
        _alive: alive,
    })
}

/// The hidden subcommand `keep`.
pub(crate) fn keep(dirs: &Dirs) -> ExitCode {
    let Some(socket) = sys::inherited(INHERITED) else {
        eprintln!(
            "netd: keep: the daemon starts it, with the socket it is to hold as descriptor 3"
        );
        return ExitCode::from(2);
    };
    sys::give_back();
    let mut watch = Watch {
        bridges: dirs.zone_bridges(),
        state: State::DaemonLives(io::stdin()),
    };
    match keeper::serve(&dirs.keeper_socket(), vec![socket], &mut watch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("netd: keep: {}", chain(&e));
            ExitCode::FAILURE
        }
    }
}

/// What the keeper does when the daemon is gone.
struct Watch {
    bridges: PathBuf,
    state: State,
}

enum State {
    DaemonLives(io::Stdin),
    Alone(Apart),
    /// The kernel gives no sockets: ports wait for the next daemon as they are.
    Helpless,
}

impl keeper::Duty for Watch {
    fn waits_at(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::DaemonLives(input) => Some(input.as_fd()),
            State::Alone(apart) => Some(apart.as_fd()),
            State::Helpless => None,
        }
    }

    fn ready(&mut self) {
        let works = match &mut self.state {
            // nothing is ever written there: this is its end
            State::DaemonLives(_) => false,
            State::Alone(apart) => apart.follow().is_ok(),
            State::Helpless => true,
        };
        if !works {
            let apart = Apart::begin(read(&self.bridges));
            self.state = apart.map_or(State::Helpless, State::Alone);
        }
    }
}

fn read(path: &PathBuf) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The file that tells the keeper which bridges are zones'.
pub(super) struct Bridges {
    path: PathBuf,
    names: BTreeSet<String>,
}

impl Bridges {
    /// As the daemon before left it.
    pub(super) fn read(dirs: &Dirs) -> Self {
        let path = dirs.zone_bridges();
        Self {
            names: read(&path),
            path,
        }
    }

    /// To be called before a zone's bridge is made.
    pub(super) fn add(&mut self, bridge: &IfName) {
        if self.names.insert(bridge.to_string()) {
            self.write();
        }
    }

    /// Forgets those that are no zone's any more.
    pub(super) fn keep<'a>(&mut self, bridges: impl Iterator<Item = &'a IfName>) {
        let bridges: BTreeSet<String> = bridges.map(ToString::to_string).collect();
        if self.names != bridges {
            self.names = bridges;
            self.write();
        }
    }

    fn write(&self) {
        let lines: String = self.names.iter().map(|name| format!("{name}\n")).collect();
        let draft = self.path.with_extension("tmp");
        let written =
            std::fs::write(&draft, lines).and_then(|()| std::fs::rename(&draft, &self.path));
        if let Err(e) = written {
            tracing::error!(file = %self.path.display(), error = %e,
                "write: if this daemon is killed, ports that are plugged in are not kept apart");
        }
    }
}
