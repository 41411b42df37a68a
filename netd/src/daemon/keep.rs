//! The keeper: a process that does nothing but hold the socket that owns the tables.
//!
//! A table with an owner cannot be changed by anybody else, and loses its owner when the owner's socket
//! closes. So the socket must outlive a daemon that is killed: the keeper holds a duplicate, and gives
//! it to the next daemon.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

use firewall::kernel::keeper;

use super::dirs::Dirs;
use super::{chain, sys};

/// Descriptor under which the keeper finds the socket.
const INHERITED: i32 = 3;

/// Starts a keeper for `socket`, in a session of its own. It outlives the daemon.
pub(super) fn start(dirs: &Dirs, socket: BorrowedFd<'_>) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("netd")
        .arg("--runtime-dir")
        .arg(&dirs.runtime)
        .arg("keep")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/");
    sys::own_session_with(&mut command, socket.as_raw_fd(), INHERITED);
    command.spawn()
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
    match keeper::serve(&dirs.keeper_socket(), vec![socket]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("netd: keep: {}", chain(&e));
            ExitCode::FAILURE
        }
    }
}
