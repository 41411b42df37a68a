//! The near end of the control socket: varlink (JSON, each message ended by a NUL) over a unix
//! socket, blocking, one call at a time.
//!
//! ```text
//! Command ─► Client::attach(…) ─► {"method":…}\0 (+ descriptor) ─► daemon
//!                 Reply or Error ◄── {"parameters":…}\0 ◄───────────┘
//! ```
//!
//! No runtime and no threads: a call costs a connect, a write and a read.

pub(crate) mod autostart;
mod control;

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use control::{Attached, ZoneCreated};

use crate::api::INTERFACE;
use crate::error::Error;

/// How long one answer may take. A daemon under load answers within milliseconds, one that is stuck
/// must not hold up a container's start for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest answer that is taken, as zlink has it.
const LARGEST: usize = 100 << 20;

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    socket: PathBuf,
    patience: Duration,
    /// What came after the last message's NUL.
    rest: Vec<u8>,
}

/// What was asked and is not answered yet.
#[derive(Debug)]
pub(crate) struct Question {
    method: &'static str,
    sent: io::Result<()>,
}

#[derive(Serialize)]
struct Call<'a, P> {
    method: &'a str,
    parameters: &'a P,
}

#[derive(Deserialize)]
struct Reply {
    parameters: Option<Value>,
    error: Option<String>,
}

impl Client {
    /// Connects to the daemon's socket. Fails with [`Error::Unreachable`] where nobody listens.
    pub(crate) fn connect(socket: &Path) -> Result<Self, Error> {
        Self::connect_patiently(socket, PATIENCE)
    }

    /// As [`Client::connect`], for questions that one can do without: a daemon that does not answer soon
    /// counts as none.
    pub(crate) fn connect_briefly(socket: &Path) -> Result<Self, Error> {
        Self::connect_patiently(socket, Duration::from_secs(2))
    }

    fn connect_patiently(socket: &Path, patience: Duration) -> Result<Self, Error> {
        let unreachable = |source: io::Error| Error::Unreachable {
            socket: socket.to_owned(),
            source,
        };
        let address = SocketAddrUnix::new(socket).map_err(|e| unreachable(e.into()))?;
        let connect = || -> rustix::io::Result<_> {
            let fd = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )?;
            // Before connecting: where the listener's queue is full, connect waits that long, too.
            sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(patience))?;
            sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(patience))?;
            rustix::io::retry_on_intr(|| rustix::net::connect(&fd, &address))?;
            Ok(fd)
        };
        match connect() {
            Ok(fd) => Ok(Self {
                stream: UnixStream::from(fd),
                socket: socket.to_owned(),
                patience,
                rest: Vec::new(),
            }),
            Err(e) => Err(unreachable(e.into())),
        }
    }

    /// Calls `METHOD` of the control interface, with descriptors passed along.
    ///
    /// # Errors
    /// What the daemon refused, typed; and every way in which a conversation can fail.
    fn call<R: DeserializeOwned>(
        &mut self,
        method: &'static str,
        parameters: &impl Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> Result<R, Error> {
        let asked = self.ask(method, parameters, fds)?;
        self.answer(asked)
    }

    /// The first half of a call: the daemon begins, and this process may do something else.
    fn ask(
        &mut self,
        method: &'static str,
        parameters: &impl Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Question, Error> {
        let name = format!("{INTERFACE}.{method}");
        let mut message = serde_json::to_vec(&Call {
            method: &name,
            parameters,
        })
        .map_err(|source| Error::Mismatch { method, source })?;
        message.push(0);
        let sent = self.send(&message, fds);
        Ok(Question { method, sent })
    }

    /// The second half: waits for the answer to the last question.
    fn answer<R: DeserializeOwned>(&mut self, asked: Question) -> Result<R, Error> {
        let Question { method, sent } = asked;
        // A daemon that refuses at once may have closed its side before it read everything: its
        // answer is worth more than our broken pipe.
        let bytes = match (self.receive(), sent) {
            (Ok(bytes), _) => bytes,
            (Err(_), Err(e)) => return Err(self.broke_off(e)),
            (Err(e), Ok(())) => return Err(e),
        };
        let reply: Reply = serde_json::from_slice(&bytes).map_err(|e| Error::Garbage {
            socket: self.socket.clone(),
            what: format!("{e} in {}", excerpt(&bytes)),
        })?;
        match reply.error {
            Some(error) => Err(refusal(error, reply.parameters)),
            None => {
                let parameters = reply
                    .parameters
                    .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
                serde_json::from_value(parameters)
                    .map_err(|source| Error::Mismatch { method, source })
            }
        }
    }

    /// Sends the whole message; the descriptors travel with its first bytes.
    fn send(&mut self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(
                self.stream.as_fd(),
                &[IoSlice::new(message)],
                &mut control,
                SendFlags::NOSIGNAL,
            )
        })?;
        self.stream.write_all(&message[sent..])
    }

    /// The next message, without its NUL.
    fn receive(&mut self) -> Result<Vec<u8>, Error> {
        let mut message = std::mem::take(&mut self.rest);
        let mut seen = 0;
        let mut chunk = [0u8; 16 * 1024];
        loop {
            if let Some(end) = message[seen..].iter().position(|&b| b == 0) {
                self.rest = message.split_off(seen + end + 1);
                message.pop();
                return Ok(message);
            }
            seen = message.len();
            if seen > LARGEST {
                return Err(Error::Garbage {
                    socket: self.socket.clone(),
                    what: format!("an answer without end, over {} MiB", LARGEST >> 20),
                });
            }
            match self.stream.read(&mut chunk) {
                Ok(0) if message.is_empty() => {
                    return Err(Error::HungUp {
                        socket: self.socket.clone(),
                    });
                }
                Ok(0) => {
                    return Err(Error::Garbage {
                        socket: self.socket.clone(),
                        what: format!("a message without end: {}", excerpt(&message)),
                    });
                }
                Ok(n) => message.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.broke_off(e)),
            }
        }
    }

    fn broke_off(&self, source: io::Error) -> Error {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::TimedOut {
                socket,
                seconds: self.patience.as_secs(),
            },
            io::ErrorKind::ConnectionReset => Error::HungUp { socket },
            _ => Error::BrokeOff { socket, source },
        }
    }
}

/// An error reply, typed.
fn refusal(name: String, parameters: Option<Value>) -> Error {
    let text = |key: &str| {
        parameters
            .as_ref()
            .and_then(|p| p.get(key))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let own = name
        .strip_prefix(INTERFACE)
        .and_then(|n| n.strip_prefix('.'));
    match (own, text("message")) {
        (Some("NoSuchZone"), Some(message)) => return Error::NoSuchZone(message),
        (Some("NoSuchContainer"), Some(message)) => return Error::NoSuchContainer(message),
        (Some("Invalid"), Some(message)) => return Error::Invalid(message),
        (Some("Refused"), Some(message)) => return Error::Refused(message),
        _ => {}
    }
    // https://varlink.org/Service: the errors every service may answer with.
    match name.strip_prefix("org.varlink.service.") {
        Some("InterfaceNotFound") => {
            Error::NotImplemented(text("interface").unwrap_or_else(|| INTERFACE.to_owned()))
        }
        Some("MethodNotFound" | "MethodNotImplemented") => {
            Error::NotImplemented(text("method").unwrap_or_else(|| "the method".to_owned()))
        }
        Some("InvalidParameter") => Error::Invalid(format!(
            "the daemon does not understand the parameter {}",
            text("parameter").unwrap_or_default()
        )),
        Some("PermissionDenied") => {
            Error::Refused("the daemon takes orders from root only".to_owned())
        }
        _ => Error::UnknownReply {
            name,
            parameters: parameters.map(|p| p.to_string()).unwrap_or_default(),
        },
    }
}

/// The beginning of something unexpected, fit for a terminal.
fn excerpt(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(60)];
    let dots = if bytes.len() > head.len() { "…" } else { "" };
    format!("{:?}{dots}", String::from_utf8_lossy(head))
}

#[cfg(test)]
mod tests;
