//! A command in a container that runs already: `netd exec`, `shell`, `login`.
//!
//! ```text
//!   front (the caller)            door: this program, run anew from a read-only      the command,
//!   finds out what pid 1 may, ──▶ copy of its file; enters pid 1's cgroups and  ──▶ in all namespaces, with
//!   keeps terminal and signals    namespaces, forks into its pid namespace           no more rights than pid 1 has
//! ```
//!
//! - What the command may is read from the container's pid 1, whoever made that: capabilities are its bounding set, system call
//!   filters are copied out of the kernel, resource limits, cgroups and the no-new-privileges mark are its own. What cannot be read is
//!   no reason to go on without: then the command is not run.
//! - Nothing of the host goes in but standard input, output and error. The door cannot be looked into (not dumpable), and its
//!   file cannot be written through /proc/self/exe (CVE-2019-5736), because it was run from a read-only mount.
//! - Each ends with the other: command with door, door with front, and all with the container.

mod attend;
mod bind;
mod door;
mod filters;
mod pty;
mod subject;

use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use crate::error::SpawnError;
use crate::settings::{MachineName, Terminal, UserName};
use crate::sys;
use crate::terminal::{self, Console};
use crate::user;
use crate::wire::{Exit, Wire};
use subject::Subject;

pub use bind::{Shown, bind};
pub use door::door;

/// What is to be run in a running container.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The command and its arguments; empty: the user's shell from the container's /etc/passwd, as a login shell.
    pub command: Vec<String>,
    /// Variables beside those of the container; the last of one name wins.
    pub env: Vec<(String, String)>,
    /// Where it begins; `/` (a login shell: the user's home) when not given.
    pub chdir: Option<PathBuf>,
    /// Who it runs as; root when not given.
    pub user: Option<UserName>,
    /// What its standard input, output and error are.
    pub terminal: Terminal,
    /// The arguments by which the calling program, run anew, comes to call [`door()`]. The number of an inherited
    /// descriptor is added to them.
    pub door: Vec<OsString>,
    /// Something that the calling program itself does inside, with the command's rights and instead of a command: what is told to
    /// the function that [`door()`] is given.
    pub task: Option<String>,
}

/// What the door is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    pidfd: RawFd,
    wire: RawFd,
    tty: Option<RawFd>,
    /// `CLONE_NEW…` flags of the namespaces that are not the caller's already.
    namespaces: u32,
    /// Files `cgroup.procs` to join by, opened.
    cgroups: Vec<RawFd>,
    limits: Vec<(u32, u64, u64)>,
    oom_score_adj: Option<i32>,
    capabilities: u64,
    no_new_privileges: bool,
    /// Oldest first, eight bytes an instruction.
    filters: Vec<Vec<u64>>,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    chdir: PathBuf,
    /// `argv[0]`, where it is not the command.
    arg0: Option<String>,
    command: Vec<String>,
    env: Vec<(String, String)>,
    task: Option<String>,
}

/// Door to front.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// The command's process, as the host counts. The door waits for an answer before it looks after it.
    Inside(i32),
    /// It was not run: what a shell would return, and why.
    Refused(u8, String),
}

/// Runs a command in a running container and returns how it ended.
///
/// Signals to this process are passed to the command. With a pty, that is one of the container's own.
///
/// # Errors
/// [`SpawnError::NoSuchContainer`]; [`SpawnError::Command`] where it does not exist inside; [`SpawnError::User`];
/// [`SpawnError::Join`] where something of the container could not be found out or entered.
pub fn exec(state_root: &Path, name: &MachineName, visit: &Visit) -> Result<Exit, SpawnError> {
    sys::keep_dead_children();
    let subject = Subject::find(state_root, name)?;
    let root = subject.root();
    let user = user::look_up(visit.user.as_ref(), &root, &[])?;
    let tty = match terminal::wants_pty(visit.terminal) {
        true => Some(pty::open(&subject, user.uid)?),
        false => None,
    };
    let (command, arg0) = match visit.command.is_empty() {
        false => (visit.command.clone(), None),
        true => {
            let passwd = crate::inside::read(&root, Path::new("etc/passwd")).unwrap_or_default();
            let shell = login_shell(&passwd, user.uid);
            let base = shell.rsplit('/').next().unwrap_or("sh").to_owned();
            (vec![shell], Some(format!("-{base}")))
        }
    };
    let home = user.home.clone().unwrap_or_else(|| "/".into());
    let chdir = match (&visit.chdir, &arg0) {
        (Some(dir), _) => dir.clone(),
        (None, Some(_)) => home.clone(),
        (None, None) => "/".into(),
    };
    let env = environment(
        &subject,
        visit,
        &user,
        &home,
        tty.is_some(),
        &command,
        arg0.is_some(),
    );
    let (near, far) = Wire::pair().map_err(SpawnError::system("make a pair of sockets"))?;
    let mut order = subject.order(&far)?;
    // before the command runs, which may ask for the terminal's size at once
    let (console, slave) = match tty {
        Some(pty) => {
            let console = Console::start(pty.master, Terminal::Interactive)
                .map_err(SpawnError::system("take the command's terminal"))?;
            (Some(console), Some(pty.slave))
        }
        None => (None, None),
    };
    order.tty = slave.as_ref().map(AsRawFd::as_raw_fd);
    (order.uid, order.gid, order.groups) = (user.uid, user.gid, user.groups.clone());
    (order.chdir, order.arg0, order.command, order.env) = (chdir, arg0, command, env);
    order.task = visit.task.clone();
    let child = open_door(&order, &visit.door)?;
    drop((far, slave));
    attend::attend(&subject, child, &near, console, &order.command)
}

/// Runs this program anew, from a file that nobody inside can write to, with the order.
fn open_door(order: &Order, door: &[OsString]) -> Result<std::process::Child, SpawnError> {
    use std::io::{Seek, Write};
    use std::os::fd::BorrowedFd;
    let fail = |what| SpawnError::system::<std::io::Error>(what);
    let memory = rustix::fs::memfd_create("order", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(SpawnError::system("keep the order in memory"))?;
    let mut file = std::fs::File::from(memory);
    let text = serde_json::to_vec(order).unwrap_or_default();
    file.write_all(&text)
        .and_then(|()| file.rewind())
        .map_err(fail("write the order"))?;
    let program =
        crate::sys::join::own_program().map_err(fail("take a read-only copy of this program"))?;
    let inherited = [file.as_raw_fd(), order.pidfd, order.wire];
    let inherited = inherited
        .into_iter()
        .chain(order.tty)
        .chain(order.cgroups.iter().copied());
    for fd in inherited {
        let fd: BorrowedFd<'_> = crate::sys::join::borrow(fd);
        rustix::io::fcntl_setfd(fd, FdFlags::empty())
            .map_err(SpawnError::system("hand a descriptor on"))?;
    }
    // nothing of the caller's variables: they would be in its memory when it is inside
    Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .env_clear()
        .args(door)
        .arg(file.as_raw_fd().to_string())
        .spawn()
        .map_err(fail("run this program anew"))
}

/// The variables of a visitor: those of the container's own command, then who he is, then what was asked for.
fn environment(
    subject: &Subject,
    visit: &Visit,
    user: &user::User,
    home: &Path,
    pty: bool,
    command: &[String],
    login: bool,
) -> Vec<(String, String)> {
    let mut env = subject.environment();
    let mut set = |key: &str, value: String| {
        env.retain(|(known, _)| known != key);
        env.push((key.to_owned(), value));
    };
    set("HOME", home.to_string_lossy().into_owned());
    if let Some(name) = &user.name {
        set("USER", name.clone());
        set("LOGNAME", name.clone());
    }
    if pty {
        set(
            "TERM",
            std::env::var("TERM").unwrap_or_else(|_| "vt220".into()),
        );
    }
    if login && let Some(shell) = command.first() {
        set("SHELL", shell.clone());
    }
    for (key, value) in &visit.env {
        set(key, value.clone());
    }
    env
}

/// The shell of a user, passwd(5).
fn login_shell(passwd: &str, uid: u32) -> String {
    let lines = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let shell = lines
        .filter(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid))
        .find_map(|fields| {
            fields
                .get(6)
                .filter(|shell| !shell.is_empty())
                .map(|s| (*s).to_owned())
        });
    shell.unwrap_or_else(|| "/bin/sh".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_those_of_the_password_file() {
        let passwd = "root:x:0:0::/root:/bin/ash\nweb:x:33:33::/srv:\nbroken\n";
        assert_eq!(login_shell(passwd, 0), "/bin/ash");
        assert_eq!(login_shell(passwd, 33), "/bin/sh");
        assert_eq!(login_shell("", 0), "/bin/sh");
    }
}
