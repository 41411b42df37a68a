//! Netlink on the wire: a writer that nests attributes without copying, and a reader.
//!
//! netlink-packet-netfilter builds a tree of boxed attributes for each message and knows neither
//! `KEY_END` nor most expressions; a batch of elements has to be written in microseconds.

/// Set on attributes that hold attributes.
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Length of `struct nlmsghdr`, in bytes.
pub(super) const HEADER: usize = 16;
/// Length of `struct nfgenmsg`, in bytes.
pub(super) const NFGEN: usize = 4;

/// A growing buffer of netlink messages.
#[derive(Debug, Default)]
pub(super) struct Writer {
    buffer: Vec<u8>,
    message: usize,
}

/// The place of an open attribute.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(super) struct Open(usize);

impl Writer {
    /// Forgets what was written; keeps the room, unless it was an install's.
    pub(super) fn clear(&mut self) {
        const KEEP: usize = 1 << 18;
        self.buffer.clear();
        self.buffer.shrink_to(KEEP);
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Begins a message; the one before it must be ended.
    pub(super) fn begin(&mut self, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
        self.message = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        self.buffer.extend_from_slice(&sequence.to_ne_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(body);
        self.pad();
    }

    /// Ends the message.
    pub(super) fn end(&mut self) {
        let len = (self.buffer.len() - self.message) as u32;
        self.buffer[self.message..self.message + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// Adds flags to the message that was begun last.
    pub(super) fn add_flags(&mut self, flags: u16) {
        let at = self.message + 6;
        let old = u16::from_ne_bytes([self.buffer[at], self.buffer[at + 1]]);
        self.buffer[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    fn pad(&mut self) {
        let len = self.buffer.len().next_multiple_of(4);
        self.buffer.resize(len, 0);
    }

    /// An attribute of bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let len = (4 + value.len()) as u16;
        self.buffer.extend_from_slice(&len.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        self.pad();
    }

    /// An attribute of text, with its NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let len = (5 + value.len()) as u16;
        self.buffer.extend_from_slice(&len.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value.as_bytes());
        self.buffer.push(0);
        self.pad();
    }

    /// An attribute of four bytes in network byte order.
    pub(super) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute of eight bytes in network byte order.
    pub(super) fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Opens an attribute that holds attributes.
    pub(super) fn open(&mut self, kind: u16) -> Open {
        let open = Open(self.buffer.len());
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer
            .extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        open
    }

    /// Closes it.
    pub(super) fn close(&mut self, open: Open) {
        let len = (self.buffer.len() - open.0) as u16;
        self.buffer[open.0..open.0 + 2].copy_from_slice(&len.to_ne_bytes());
    }

    /// Bytes in an open attribute so far, its header included.
    pub(super) fn size(&self, open: Open) -> usize {
        self.buffer.len() - open.0
    }

    /// Opens an attribute, lets `fill` write its content, and closes it.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let open = self.open(kind);
        fill(self);
        self.close(open);
    }
}

/// A message that was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// Splits what was received into messages. Stops at the first that is cut off.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let len = u32_at(header, 0)? as usize;
        let body = bytes.get(HEADER..len)?;
        let message = Message {
            kind: u16_at(header, 4)?,
            flags: u16_at(header, 6)?,
            sequence: u32_at(header, 8)?,
            body,
        };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Splits attributes: type without flags, and value. Stops at the first that is cut off.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a type.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|a| a.0 == kind).map(|a| a.1)
}

/// The first attribute of a type as text.
pub(super) fn text(bytes: &[u8], kind: u16) -> Option<&str> {
    let value = attribute(bytes, kind)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

/// The first attribute of a type as a number in network byte order.
pub(super) fn be32(bytes: &[u8], kind: u16) -> Option<u32> {
    let value = attribute(bytes, kind)?;
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

/// An attribute of eight bytes in network byte order.
pub(super) fn be64(bytes: &[u8], kind: u16) -> Option<u64> {
    let value = attribute(bytes, kind)?;
    Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?))
}

/// Two bytes at an offset, host byte order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Four bytes at an offset, host byte order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut w = Writer::default();
        w.begin(7, 1, 42, &[1, 2, 3, 4]);
        w.text(1, "netd");
        w.nest(2, |w| {
            w.be32(3, 0xdead_beef);
            w.bytes(4, &[9]);
        });
        w.end();
        w.begin(8, 0, 43, &[]);
        w.end();
        w.add_flags(flag());
        let all: Vec<_> = messages(w.as_slice()).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].sequence), (7, 42));
        assert_eq!((all[1].kind, all[1].flags), (8, 4));
        let body = &all[0].body[4..];
        assert_eq!(text(body, 1), Some("netd"));
        let nested = attribute(body, 2).unwrap();
        assert_eq!(be32(nested, 3), Some(0xdead_beef));
        assert_eq!(attribute(nested, 4), Some(&[9][..]));
    }

    fn flag() -> u16 {
        super::super::nf::flag::ACK
    }

    #[test]
    fn garbage_ends_quietly() {
        for len in 0..40 {
            let bytes: Vec<u8> = (0..len).map(|b: u8| b.wrapping_mul(37)).collect();
            assert!(messages(&bytes).count() <= 40);
            assert!(attributes(&bytes).count() <= 40);
        }
        // A length of zero must not loop.
        assert_eq!(attributes(&[0; 8]).count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
    }
}
