//! Handles of network namespaces.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::LinkError;
use super::sys;

/// `NSFS_MAGIC`, linux/magic.h
const NSFS_MAGIC: u32 = 0x6e73_6673;

/// The calling thread's own. (`/proc/self` would be the main thread's.)
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace. It lives while the handle does.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    id: (u64, u64),
}

impl Netns {
    /// From a file such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// The file cannot be opened, is something else, or is the caller's own namespace.
    pub fn from_path(path: &Path) -> Result<Self, LinkError> {
        Self::open(path)?.not_own(&path.display().to_string())
    }

    /// The one a process is in.
    ///
    /// # Errors
    /// There is no such process, or it is in the caller's own namespace.
    pub fn from_pid(pid: i32) -> Result<Self, LinkError> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        match Self::open(&path) {
            Err(LinkError::OpenNetns { source, .. })
                if pid <= 0 || source.is(Errno::NOENT) || source.is(Errno::SRCH) =>
            {
                Err(LinkError::NoProcess { pid })
            }
            opened => opened?.not_own(&format!("that of process {pid}")),
        }
    }

    /// From a descriptor that somebody passed.
    ///
    /// # Errors
    /// The descriptor is of something else, or of the caller's own namespace.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, LinkError> {
        Self::checked(fd, "the descriptor")?.not_own("the descriptor")
    }

    /// The calling thread's own.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn current() -> Result<Self, LinkError> {
        Self::open(Path::new(OWN))
    }

    /// Device and inode: the same for two handles exactly when they are of one namespace.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    fn open(path: &Path) -> Result<Self, LinkError> {
        let failed = |error: Errno| LinkError::OpenNetns {
            path: path.to_owned(),
            source: error.into(),
        };
        // O_PATH first: the path is the caller's, and to open a FIFO blocks, to open a device acts.
        let located = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let located = located.map_err(failed)?;
        let what = path.display().to_string();
        if !on_nsfs(&located) {
            return Err(LinkError::NotANetns { what });
        }
        use std::os::fd::AsRawFd;
        let again = format!("/proc/self/fd/{}", located.as_raw_fd());
        let fd = rustix::fs::open(again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Self::typed(fd.map_err(failed)?, &what)
    }

    fn checked(fd: OwnedFd, what: &str) -> Result<Self, LinkError> {
        if !on_nsfs(&fd) {
            let what = what.to_owned();
            return Err(LinkError::NotANetns { what });
        }
        Self::typed(fd, what)
    }

    /// From a file of nsfs: which kind of namespace is it?
    fn typed(fd: OwnedFd, what: &str) -> Result<Self, LinkError> {
        let not_one = || LinkError::NotANetns {
            what: what.to_owned(),
        };
        if sys::namespace_type(&fd) != Ok(libc::CLONE_NEWNET) {
            return Err(not_one());
        }
        let status = rustix::fs::fstat(&fd).map_err(|_| not_one())?;
        let id = (status.st_dev, status.st_ino);
        Ok(Self { fd, id })
    }

    fn not_own(self, what: &str) -> Result<Self, LinkError> {
        // One call instead of ten for a handle: every attach comes by here.
        let own = rustix::fs::stat(OWN).map_err(|error| LinkError::OpenNetns {
            path: OWN.into(),
            source: error.into(),
        })?;
        if (own.st_dev, own.st_ino) == self.id {
            return Err(LinkError::OwnNetns {
                what: what.to_owned(),
            });
        }
        Ok(self)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn on_nsfs(fd: impl AsFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|status| status.f_type as u32 == NSFS_MAGIC)
}
