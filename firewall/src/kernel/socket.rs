//! A blocking netlink socket for nfnetlink: send, and collect what the kernel answers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::sys;
use super::wire::{self, HEADER, Message};

const SOL_NETLINK: i32 = 270;
const NETLINK_CAP_ACK: i32 = 10;
const NETLINK_EXT_ACK: i32 = 11;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_ACK_TLVS: u16 = 0x200;

/// Something went wrong on a netlink socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A system call failed.
    #[error("{doing} netlink socket")]
    Io {
        /// What was tried
        doing: &'static str,
        /// Why it failed
        source: io::Error,
    },
    /// The kernel refused a message.
    #[error("the kernel refused message {sequence}: {text}")]
    Refused {
        /// Sequence number of the message
        sequence: u32,
        /// The kernel's error number
        errno: Errno,
        /// The kernel's text where it gave one, else the error's
        text: String,
        /// Offset of the attribute at fault, from the start of the message
        offset: Option<usize>,
    },
    /// The dump was changed while it was read, again and again.
    #[error("the tables changed again and again while they were read")]
    Interrupted,
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> SocketError {
    move |errno| SocketError::Io {
        doing,
        source: errno.into(),
    }
}

/// A socket and its port number.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    portid: u32,
    sequence: u32,
    send_buffer: usize,
    buffer: Vec<u8>,
}

/// Bytes that the receive buffer is given at least: one dump message, and the errors of a batch.
const RECEIVE_BUFFER: usize = 1 << 20;

impl Socket {
    /// A new socket of a netlink protocol (rtnetlink, which is number 0, for `None`), bound to a port
    /// of its own.
    pub(super) fn open(protocol: Option<rustix::net::Protocol>) -> Result<Self, SocketError> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(failed("open"))?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0)).map_err(failed("bind"))?;
        Self::from_fd(fd)
    }

    /// A new socket for nfnetlink.
    pub(super) fn netfilter() -> Result<Self, SocketError> {
        Self::open(Some(netlink::NETFILTER))
    }

    /// A socket that somebody else opened. Whatever waits in it (answers to a daemon that was
    /// killed, or the rest of its dump) is read and dropped.
    pub(super) fn from_fd(fd: OwnedFd) -> Result<Self, SocketError> {
        let io = |doing| move |source| SocketError::Io { doing, source };
        sys::set_option(fd.as_fd(), SOL_NETLINK, NETLINK_CAP_ACK, 1)
            .map_err(io("set an option of"))?;
        sys::set_option(fd.as_fd(), SOL_NETLINK, NETLINK_EXT_ACK, 1)
            .map_err(io("set an option of"))?;
        // Without CAP_NET_ADMIN in the initial namespace this is refused, and the default must do.
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER);
        let address = rustix::net::getsockname(&fd).map_err(failed("read the address of"))?;
        let address =
            SocketAddrNetlink::try_from(address).map_err(failed("read the address of"))?;
        let mut socket = Self {
            fd,
            portid: address.pid(),
            // Fresh after a takeover: answers to another process must not pass for ours.
            sequence: super::random() | 1,
            send_buffer: 0,
            buffer: vec![0; 1 << 16],
        };
        socket.collect(|_| {})?;
        Ok(socket)
    }

    /// Its port number.
    pub(super) fn portid(&self) -> u32 {
        self.portid
    }

    /// The next sequence number.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Says that the numbers up to this one are used.
    pub(super) fn skip_to(&mut self, sequence: u32) {
        self.sequence = sequence;
    }

    /// Joins a multicast group.
    pub(super) fn join(&self, group: u32) -> Result<(), SocketError> {
        const NETLINK_ADD_MEMBERSHIP: i32 = 1;
        sys::set_option(
            self.fd.as_fd(),
            SOL_NETLINK,
            NETLINK_ADD_MEMBERSHIP,
            group as i32,
        )
        .map_err(|source| SocketError::Io {
            doing: "join a group with",
            source,
        })
    }

    /// Sends one buffer in one go: nfnetlink takes a batch from a single message only. The socket's
    /// send buffer is made as large as it needs to be.
    fn send(&mut self, bytes: &[u8]) -> Result<(), SocketError> {
        // The kernel doubles the value, refuses what is over it, and wants some for itself.
        if bytes.len() + 4096 > self.send_buffer {
            let wanted = bytes.len() + 65_536;
            match sockopt::set_socket_send_buffer_size_force(&self.fd, wanted) {
                Ok(()) => self.send_buffer = wanted,
                Err(_) => sockopt::set_socket_send_buffer_size(&self.fd, wanted)
                    .map_err(failed("enlarge the buffer of"))?,
            }
        }
        let to = SocketAddrNetlink::new(0, 0);
        loop {
            match rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &to) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("write to")(errno)),
            }
        }
    }

    /// Reads everything that waits. Overruns end it: the messages are gone.
    fn collect(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<bool, SocketError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let whole = loop {
            match self.receive(&mut buffer) {
                Ok(Received::Bytes(len)) => wire::messages(&buffer[..len]).for_each(&mut each),
                Ok(Received::Nothing) => break Ok(true),
                Ok(Received::Overrun) => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        self.buffer = buffer;
        whole
    }

    /// Reads once, without blocking. A buffer of 64 KiB holds whatever the kernel sends in one go.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<Received, SocketError> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((len, _)) => return Ok(Received::Bytes(len)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(Errno::NOBUFS) => return Ok(Received::Overrun),
                Err(errno) => return Err(failed("read from")(errno)),
            }
        }
    }

    /// Sends messages and returns the first error the kernel reports. `last` is the sequence number
    /// of the message that asks for an acknowledgement: without one nothing has happened.
    ///
    /// The kernel works inside `sendmsg`, so all answers are there when it returns.
    pub(super) fn transact(&mut self, bytes: &[u8], last: u32) -> Result<(), SocketError> {
        self.send(bytes)?;
        let mut acknowledged = false;
        let mut error = None;
        let whole = self.collect(|message| {
            if message.kind != NLMSG_ERROR {
                return;
            }
            match refusal(&message) {
                None => acknowledged |= message.sequence == last,
                Some(refused) if error.is_none() => error = Some(refused),
                Some(_) => {}
            }
        })?;
        match error {
            Some(error) => Err(error),
            None if acknowledged && whole => Ok(()),
            None => Err(SocketError::Io {
                doing: "wait for an acknowledgement on",
                source: Errno::NOBUFS.into(),
            }),
        }
    }

    /// Sends a dump request and hands over each message of the answer. Tells whether the dump was
    /// consistent.
    pub(super) fn dump(
        &mut self,
        bytes: &[u8],
        sequence: u32,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<bool, SocketError> {
        self.send(bytes)?;
        let mut buffer = vec![0u8; 1 << 17];
        let mut consistent = true;
        loop {
            let len = match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((len, _)) => len,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed("read from")(errno)),
            };
            for message in wire::messages(&buffer[..len]) {
                if message.sequence != sequence {
                    continue;
                }
                consistent &= message.flags & super::nf::flag::DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(consistent),
                    NLMSG_ERROR => match refusal(&message) {
                        Some(refused) => return Err(refused),
                        None => return Ok(consistent),
                    },
                    _ => each(message),
                }
            }
        }
    }
}

/// What one read brought.
#[derive(Debug)]
pub(super) enum Received {
    /// So many bytes
    Bytes(usize),
    /// Nothing waits
    Nothing,
    /// Messages were lost
    Overrun,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The error in an NLMSG_ERROR message, or nothing for an acknowledgement.
fn refusal(message: &Message<'_>) -> Option<SocketError> {
    let code = wire::u32_at(message.body, 0)?.cast_signed();
    if code == 0 {
        return None;
    }
    let errno = Errno::from_raw_os_error(-code);
    // struct nlmsgerr: the error and the header of our message; with NETLINK_CAP_ACK no payload.
    let tlvs = match message.flags & NLM_F_ACK_TLVS {
        0 => &[][..],
        _ => message.body.get(4 + HEADER..).unwrap_or_default(),
    };
    let text = wire::text(tlvs, NLMSGERR_ATTR_MSG)
        .map(|text| format!("{text} ({errno})"))
        .unwrap_or_else(|| io::Error::from(errno).to_string());
    let offset = wire::attribute(tlvs, NLMSGERR_ATTR_OFFS)
        .and_then(|value| wire::u32_at(value, 0))
        .map(|offset| offset as usize);
    Some(SocketError::Refused {
        sequence: message.sequence,
        errno,
        text,
        offset,
    })
}
