//! What can go wrong with links. One sentence a level; the cause is the `source`.

use std::io;
use std::path::PathBuf;

use crate::name::IfName;

/// What the kernel said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelError {
    /// Error number, positive.
    pub errno: i32,
    /// The kernel's own words (extended acknowledgement), when it had any.
    pub text: Option<String>,
}

impl KernelError {
    /// Whether it is this error number.
    pub(crate) fn is(&self, errno: rustix::io::Errno) -> bool {
        self.errno == errno.raw_os_error()
    }
}

impl std::fmt::Display for KernelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = io::Error::from_raw_os_error(self.errno).to_string();
        let words = words.split(" (os error").next().unwrap_or_default();
        f.write_str(words)?;
        if let Some(text) = &self.text {
            write!(f, ": {text}")?;
        }
        if self.is(rustix::io::Errno::PERM) {
            f.write_str(" (netd needs CAP_NET_ADMIN and CAP_SYS_ADMIN)")?;
        }
        Ok(())
    }
}

impl std::error::Error for KernelError {}

impl From<io::Error> for KernelError {
    fn from(error: io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
            text: None,
        }
    }
}

impl From<rustix::io::Errno> for KernelError {
    fn from(error: rustix::io::Errno) -> Self {
        Self {
            errno: error.raw_os_error(),
            text: None,
        }
    }
}

/// A link, namespace, route or sysctl that could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel refused something.
    #[error("{action}{}", left_behind(.left))]
    Kernel {
        /// What was tried, on which object.
        action: String,
        /// What could not be undone afterwards; usually nothing.
        left: Vec<String>,
        /// Why it failed.
        source: KernelError,
    },
    /// An answer of the kernel that could not be understood.
    #[error("{action}: the kernel's answer was cut short or malformed")]
    Malformed {
        /// What was tried.
        action: String,
    },
    /// A link has the name of a zone's bridge and is none.
    #[error("{name} is no bridge but a link of kind {kind}; rename or delete it")]
    NotABridge {
        /// Its name.
        name: IfName,
        /// Its kind; empty for hardware.
        kind: String,
    },
    /// There is no such bridge.
    #[error("there is no bridge {name}")]
    NoBridge {
        /// Its name.
        name: IfName,
    },
    /// A namespace could not be opened.
    #[error("open network namespace {path}")]
    OpenNetns {
        /// What was opened.
        path: PathBuf,
        /// Why not.
        source: KernelError,
    },
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// Its number.
        pid: i32,
    },
    /// A file or descriptor that is something else.
    #[error(
        "{what} is not a network namespace; name a file like /run/netns/NAME or /proc/PID/ns/net"
    )]
    NotANetns {
        /// The path, or a description of the descriptor.
        what: String,
    },
    /// The namespace netd itself runs in.
    #[error("{what} is the host's own network namespace; a container needs one of its own")]
    OwnNetns {
        /// The path, or a description of the descriptor.
        what: String,
    },
    /// A namespace could not be entered.
    #[error("enter the network namespace of {ifname}")]
    EnterNetns {
        /// The interface that is to be configured there.
        ifname: IfName,
        /// Why not.
        source: KernelError,
    },
    /// A sysctl could not be read or written.
    #[error("{verb} {path}")]
    Sysctl {
        /// `read` or `write VALUE to`.
        verb: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: KernelError,
    },
    /// Group 0 is the group of all links that were never put in one.
    #[error("link group 0 holds every ordinary link and is never reaped")]
    GroupZero,
}

impl LinkError {
    pub(crate) fn kernel(action: impl Into<String>, source: impl Into<KernelError>) -> Self {
        Self::Kernel {
            action: action.into(),
            left: Vec::new(),
            source: source.into(),
        }
    }

    /// The kernel's error number, where it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. }
            | Self::OpenNetns { source, .. }
            | Self::EnterNetns { source, .. }
            | Self::Sysctl { source, .. } => Some(source.errno),
            _ => None,
        }
    }
}

fn left_behind(left: &[String]) -> String {
    if left.is_empty() {
        return String::new();
    }
    format!(" (and could not undo: {})", left.join(", "))
}
