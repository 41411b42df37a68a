//! What front and monitor say to each other: one JSON document a packet of a sequenced-packet socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::SpawnError;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It ended by itself.
    Code(u8),
    /// A signal ended it.
    Signal(i32),
    /// An init asked for a restart, by reboot(2).
    Rebooted,
}

impl Exit {
    /// What a shell reports: the code, or 128 + the signal's number.
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal.clamp(0, 127) as u8),
            // as systemd-nspawn tells it
            Self::Rebooted => 133,
        }
    }
}

/// Monitor to front.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The container stands, its command waits for [`Order::Go`]. Its pid 1, as the host counts.
    Ready { pid: i32 },
    /// Something that is worth a word, but no failure.
    Warning(String),
    /// The command has ended, everything is cleaned up.
    Ended(Exit),
    /// The command was never run, everything is cleaned up.
    Failed(Failure),
}

/// Front to monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Run the command.
    Go,
    /// Do not: clean up.
    Abort,
}

/// An error on its way through the socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Hook {
        reason: String,
        stderr: String,
    },
    Command {
        reason: String,
        status: u8,
    },
    Root {
        action: String,
        path: std::path::PathBuf,
        reason: String,
    },
    Runtime {
        reason: String,
        stderr: String,
    },
    Aborted,
}

impl Failure {
    pub(crate) fn into_error(self, name: &str, command: &str) -> SpawnError {
        match self {
            Self::Hook { reason, stderr } => SpawnError::Hook { reason, stderr },
            Self::Command { reason, status } => SpawnError::Command {
                command: command.to_owned(),
                reason,
                status,
            },
            Self::Root {
                action,
                path,
                reason,
            } => SpawnError::Root {
                action,
                path,
                reason,
            },
            Self::Runtime { reason, stderr } => SpawnError::Runtime {
                name: name.to_owned(),
                reason,
                stderr,
            },
            Self::Aborted => SpawnError::Runtime {
                name: name.to_owned(),
                reason: "the start was called off".to_owned(),
                stderr: String::new(),
            },
        }
    }
}

/// One end of the socket.
pub(crate) struct Wire(OwnedFd);

impl Wire {
    /// Two ends. Both close on exec; who forks drops the other one.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(a), Self(b)))
    }

    /// Sends one document. That the other side is dead is not an error here: it is learnt by reading.
    pub(crate) fn send(&self, document: &impl Serialize) {
        if let Ok(bytes) = serde_json::to_vec(document) {
            let _ = rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL);
        }
    }

    /// Waits for one document. `None`: the other side is gone (or speaks another language, which is the same).
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> Option<T> {
        let mut buffer = vec![0; 256 << 10];
        let (n, _) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty())
        })
        .ok()?;
        serde_json::from_slice(&buffer[..n]).ok()
    }
}

impl From<OwnedFd> for Wire {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(Exit::Code(3).status(), 3);
        assert_eq!(Exit::Signal(15).status(), 143);
        assert_eq!(Exit::Signal(64).status(), 192);
    }

    #[test]
    fn documents_arrive_whole_and_the_end_is_none() {
        let (a, b) = Wire::pair().unwrap();
        a.send(&Order::Go);
        a.send(&Order::Abort);
        assert_eq!(b.receive(), Some(Order::Go));
        assert_eq!(b.receive(), Some(Order::Abort));
        drop(a);
        assert_eq!(b.receive::<Order>(), None);
        b.send(&Order::Go); // nobody there: no signal, no panic
    }
}
