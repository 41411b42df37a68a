//! Netlink messages as bytes, and a blocking socket that sends a batch and waits for its one answer.
//!
//! Written by hand so that the floor costs what the kernel costs: one `send`, one `recv`, no allocation beyond the
//! batch itself. Layouts: `linux/netlink.h` (`nlmsghdr`, `nlattr`, `nlmsgerr`).

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use crate::error::{Error, Result};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
/// `NLA_F_NESTED`: set on attributes that hold attributes, which nf_tables demands.
const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// Several messages that travel in one datagram, in order.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    last: usize,
    count: u32,
    awaited: Option<u32>,
}

impl Batch {
    /// Opens the next message; `body` writes its family header and attributes.
    pub(crate) fn message(mut self, kind: u16, flags: i32, body: impl FnOnce(&mut Body)) -> Self {
        let start = self.bytes.len();
        self.last = start;
        self.count += 1;
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        let mut body_of = Body { bytes: self.bytes };
        body(&mut body_of);
        self.bytes = body_of.bytes;
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Asks for an acknowledgement of the message written last, which is what [`Socket::send`] waits for. (A failure of
    /// any other is told in any case.) Without this, it is asked of the batch's last message.
    pub(crate) fn acknowledged(mut self) -> Self {
        let at = self.last + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        let flags = flags | libc::NLM_F_ACK as u16;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        self.awaited = Some(self.count);
        self
    }
}

/// What stands after a message's header.
pub(crate) struct Body {
    bytes: Vec<u8>,
}

impl Body {
    /// Appends bytes as they are: a family header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends one attribute.
    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Appends a text attribute with its NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    /// Appends a number in host byte order (rtnetlink).
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// Appends a number in network byte order (nf_tables).
    pub(crate) fn network_number(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Appends an attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A warm netlink socket. It belongs to the network namespace it was opened in.
pub(crate) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a routing socket in the calling thread's network namespace.
    pub(crate) fn route() -> Result<Self> {
        Self::open(None, "open a routing socket")
    }

    /// Opens a netfilter socket in the calling thread's network namespace.
    pub(crate) fn netfilter() -> Result<Self> {
        Self::open(
            Some(rustix::net::netlink::NETFILTER),
            "open a netfilter socket",
        )
    }

    fn open(protocol: Option<Protocol>, what: &str) -> Result<Self> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(|source| Error::os(what, source))?;
        Ok(Self {
            fd,
            buffer: vec![0; 16 * 1024],
        })
    }

    /// Sends the batch and waits for its acknowledgement, or for the kernel's refusal of one of its messages.
    pub(crate) fn send(&mut self, what: &str, batch: Batch) -> Result<()> {
        let batch = match batch.awaited {
            Some(_) => batch,
            None => batch.acknowledged(),
        };
        send(&self.fd, &batch.bytes, SendFlags::empty())
            .map_err(|source| Error::os(what, source))?;
        loop {
            let (length, _) = recv(&self.fd, &mut self.buffer[..], RecvFlags::empty())
                .map_err(|source| Error::os(what, source))?;
            let mut rest = &self.buffer[..length];
            while let Some((sequence, error)) = next_error(&mut rest) {
                if error != 0 {
                    let source = io::Error::from_raw_os_error(-error);
                    return Err(Error::os(what, source));
                }
                if Some(sequence) == batch.awaited {
                    return Ok(());
                }
            }
        }
    }
}

/// Takes the next `NLMSG_ERROR` off `rest`: its sequence number and error (0 = acknowledgement).
fn next_error(rest: &mut &[u8]) -> Option<(u32, i32)> {
    loop {
        let header = rest.get(..HEADER)?;
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let length = u32::from_ne_bytes(word(0)) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let sequence = u32::from_ne_bytes(word(8));
        let message = rest.get(..length)?;
        *rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        if kind == NLMSG_ERROR {
            let code = message.get(HEADER..HEADER + 4)?;
            let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
            return Some((sequence, code));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn attributes_are_padded_and_lengths_are_not() {
        let batch = Batch::default().message(16, 0, |b| {
            b.raw(&[0; 16]);
            b.nest(1, |b| b.text(2, "ab"));
        });
        // header 16, family header 16, nest 4, attribute 4 + "ab\0" padded to 4
        assert_eq!(batch.bytes.len(), 44);
        assert_eq!(batch.bytes[..4], 44u32.to_ne_bytes());
        assert_eq!(batch.bytes[32..34], 12u16.to_ne_bytes());
        assert_eq!(batch.bytes[36..38], 7u16.to_ne_bytes());
    }

    #[test]
    fn only_the_last_message_asks_for_an_answer() {
        let batch = Batch::default()
            .message(16, 0, |b| b.raw(&[0; 16]))
            .message(16, 0, |b| b.raw(&[0; 16]));
        let Batch { bytes, awaited, .. } = batch.acknowledged();
        let ack = libc::NLM_F_ACK as u16;
        let flags = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(awaited, Some(2));
        assert_eq!(flags(6) & ack, 0);
        assert_eq!(flags(38) & ack, ack);
    }

    #[test]
    fn errors_are_found_among_other_messages() {
        let mut bytes = Vec::new();
        let mut push = |kind: u16, sequence: u32, code: i32| {
            bytes.extend_from_slice(&20u32.to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&[0; 2]);
            bytes.extend_from_slice(&sequence.to_ne_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&code.to_ne_bytes());
        };
        push(16, 1, 0);
        push(NLMSG_ERROR, 2, -17);
        let mut rest = &bytes[..];
        assert_eq!(next_error(&mut rest), Some((2, -17)));
        assert_eq!(next_error(&mut rest), None);
    }
}
