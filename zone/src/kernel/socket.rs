//! A warm, blocking NETLINK_ROUTE socket: many messages in one send, and their answers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::error::{KernelError, LinkError};
use super::wire::{
    self, Link, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, acknowledgement,
};

/// Dumps come in pieces of up to 32 KiB (the kernel's largest, see `netlink_dump`).
const RECEIVE: usize = 32 * 1024;

/// A message and its flags beyond NLM_F_REQUEST.
pub(super) struct Request {
    pub(super) message: RouteNetlinkMessage,
    pub(super) flags: u16,
}

/// Which messages of a batch the kernel refused, and why; in order, never empty.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Vec<(usize, KernelError)>);

/// Why a dump did not come.
#[derive(Debug)]
pub(super) enum DumpError {
    Refused(KernelError),
    Malformed,
}

impl DumpError {
    pub(super) fn of(self, action: &str) -> LinkError {
        match self {
            Self::Refused(source) => LinkError::kernel(action, source),
            Self::Malformed => LinkError::Malformed {
                action: action.to_owned(),
            },
        }
    }
}

pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    out: Vec<u8>,
    answer: Vec<u8>,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// A socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        Self::with_room(RECEIVE)
    }

    /// The same for short answers only: no dumps.
    pub(super) fn open_small() -> io::Result<Self> {
        Self::with_room(2048)
    }

    fn with_room(room: usize) -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_ext_ack(true)?;
        // errors without a copy of the request
        socket.set_cap_ack(true)?;
        // dumps honour the filters of their request
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self {
            socket,
            sequence: 0,
            out: Vec::with_capacity(1024),
            answer: vec![0; room],
        })
    }

    fn push(&mut self, message: RouteNetlinkMessage, flags: u16) {
        let payload = NetlinkPayload::from(message);
        let mut message = NetlinkMessage::new(Default::default(), payload);
        self.sequence = self.sequence.wrapping_add(1);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = self.out.len();
        let end = start + message.buffer_len();
        self.out.resize(end.next_multiple_of(4), 0);
        message.serialize(&mut self.out[start..end]);
    }

    /// Reads one datagram; the slice is the datagram.
    fn receive(&mut self) -> io::Result<&[u8]> {
        let length = loop {
            match self.socket.recv(&mut &mut self.answer[..], 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        Ok(&self.answer[..length])
    }

    fn send(&mut self) -> io::Result<()> {
        let sent = self.socket.send(&self.out, 0);
        self.out.clear();
        sent.map(drop)
    }

    /// Does everything in order, in one send. The kernel goes on past a message that it refuses, and
    /// tells of each; only the last is acknowledged, so that a batch that succeeds is two system calls.
    pub(super) fn batch(&mut self, requests: Vec<Request>) -> Result<(), Refused> {
        let count = requests.len();
        if count == 0 {
            return Ok(());
        }
        let first = self.sequence.wrapping_add(1);
        let all = |error: io::Error| Refused(vec![(0, error.into())]);
        for (index, request) in requests.into_iter().enumerate() {
            let ack = if index + 1 == count { NLM_F_ACK } else { 0 };
            self.push(request.message, request.flags | ack);
        }
        let last = self.sequence;
        self.send().map_err(all)?;
        let mut refused = Vec::new();
        loop {
            let datagram = self.receive().map_err(all)?;
            let mut done = false;
            for message in wire::messages(datagram) {
                // anything else is an answer to a call that was given up
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR || index >= count {
                    continue;
                }
                if let Some(Some(error)) = acknowledgement(&message) {
                    refused.push((index, error));
                }
                done |= message.sequence == last;
            }
            if done {
                break;
            }
        }
        if refused.is_empty() {
            Ok(())
        } else {
            Err(Refused(refused))
        }
    }

    /// One message, and its answer.
    pub(super) fn call(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), KernelError> {
        let outcome = self.batch(vec![Request { message, flags }]);
        outcome.map_err(|Refused(mut errors)| errors.swap_remove(0).1)
    }

    /// Every object the kernel lists, by the payload of its message. Asks again when the list changed
    /// under the kernel's hands.
    pub(super) fn dump<T>(
        &mut self,
        message: RouteNetlinkMessage,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, DumpError> {
        // a list that changes all the time is taken as it comes in the end
        const ATTEMPTS: usize = 8;
        for attempt in 1.. {
            let (list, changed) = self.dump_once(message.clone(), &parse)?;
            if !changed || attempt >= ATTEMPTS {
                return Ok(list);
            }
        }
        Err(DumpError::Malformed)
    }

    fn dump_once<T>(
        &mut self,
        message: RouteNetlinkMessage,
        parse: &impl Fn(&[u8]) -> Option<T>,
    ) -> Result<(Vec<T>, bool), DumpError> {
        let io = |error: io::Error| DumpError::Refused(error.into());
        self.push(message, NLM_F_DUMP);
        let sequence = self.sequence;
        self.send().map_err(io)?;
        let (mut list, mut changed) = (Vec::new(), false);
        loop {
            let datagram = self.receive().map_err(io)?;
            for message in wire::messages(datagram).filter(|m| m.sequence == sequence) {
                changed |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    // a dump's own error comes with its end
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match acknowledgement(&message) {
                            Some(Some(error)) => Err(DumpError::Refused(error)),
                            _ => Ok((list, changed)),
                        };
                    }
                    NLMSG_OVERRUN => return Err(DumpError::Malformed),
                    _ => list.extend(parse(message.payload)),
                }
            }
        }
    }

    /// One link, by a request that names it; none when there is no such link.
    pub(super) fn link(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<Link>, KernelError> {
        self.ask(message, Link::parse)
    }

    /// One object that the kernel looks up; none when there is no such object.
    pub(super) fn ask<T>(
        &mut self,
        message: RouteNetlinkMessage,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, KernelError> {
        self.push(message, 0);
        let sequence = self.sequence;
        self.send()?;
        loop {
            let datagram = self.receive()?;
            let mut answers = wire::messages(datagram).filter(|m| m.sequence == sequence);
            let Some(message) = answers.next() else {
                continue;
            };
            if message.kind != NLMSG_ERROR {
                return Ok(parse(message.payload));
            }
            let none = [
                rustix::io::Errno::NODEV,
                rustix::io::Errno::NETUNREACH,
                rustix::io::Errno::HOSTUNREACH,
            ];
            return match acknowledgement(&message) {
                Some(Some(error)) if none.into_iter().any(|errno| error.is(errno)) => Ok(None),
                Some(Some(error)) => Err(error),
                _ => Ok(None),
            };
        }
    }

    /// The index of the link that has this name in the socket's namespace.
    pub(super) fn index_of(&self, name: &str) -> Result<u32, KernelError> {
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// The name of the link that has this index in the socket's namespace.
    pub(super) fn name_of(&self, index: u32) -> Option<String> {
        rustix::net::netdevice::index_to_name(&self.socket, index).ok()
    }
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Netlink({})", self.socket.as_raw_fd())
    }
}
