//! A pseudo-terminal of the container's own, so that it has a name inside (tty(1), and programs that open it again).

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FsWord, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::pty::OpenptFlags;

use super::subject::Subject;
use crate::error::SpawnError;

/// DEVPTS_SUPER_MAGIC, linux/magic.h
const DEVPTS: FsWord = 0x1cd1;

/// Both ends.
pub(super) struct Pty {
    /// Ours.
    pub(super) master: OwnedFd,
    /// The command's.
    pub(super) slave: OwnedFd,
}

/// Makes one in the container's devpts, for user `uid` inside.
///
/// The path may hold anything, so it is resolved below the root without magic links, and what is found has to lie on a devpts,
/// where a node `ptmx` is nothing but that.
pub(super) fn open(subject: &Subject, uid: u32) -> Result<Pty, SpawnError> {
    let fail = |e: rustix::io::Errno| {
        subject.fail("make a terminal in its /dev/pts (--pipe needs none)", e)
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(subject.root(), flags, Mode::empty()).map_err(fail)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(
        &root,
        "dev/pts/ptmx",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    );
    let found = found.map_err(fail)?;
    if rustix::fs::fstatfs(&found).map_err(fail)?.f_type != DEVPTS {
        return Err(fail(rustix::io::Errno::NODEV));
    }
    // the very file that was looked at
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    let master = rustix::fs::open(
        again,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(fail)?;
    rustix::pty::unlockpt(&master).map_err(fail)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .map_err(fail)?;
    if let Some(id) = subject.host_id(uid) {
        // who has it, so that it may be opened again by its name
        rustix::fs::fchown(&slave, Some(Uid::from_raw(id)), None::<Gid>).map_err(fail)?;
    }
    Ok(Pty { master, slave })
}
