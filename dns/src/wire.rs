//! Messages as bytes (RFC 1035 §4.1): a header, names that may point back, records one after the other. Nothing here panics,
//! whatever the bytes are; what reads beyond them, or in circles, is [`Malformed`].

use crate::name::{MAX_NAME, NameBuf};

/// Bytes of the header.
pub(crate) const HEADER: usize = 12;

/// Types and classes by number.
pub(crate) mod number {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const DS: u16 = 43;
    pub(crate) const DNSKEY: u16 = 48;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
    /// The class of the Internet.
    pub(crate) const IN: u16 = 1;
}

/// Response codes (RFC 1035 §4.1.1, RFC 6891 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rcode(pub(crate) u16);

impl Rcode {
    pub(crate) const NO_ERROR: Self = Self(0);
    pub(crate) const FORMERR: Self = Self(1);
    pub(crate) const SERVFAIL: Self = Self(2);
    pub(crate) const NXDOMAIN: Self = Self(3);
    pub(crate) const NOTIMP: Self = Self(4);
    pub(crate) const REFUSED: Self = Self(5);
    pub(crate) const BADVERS: Self = Self(16);
}

/// Bits of the second and third pair of header bytes.
pub(crate) mod flag {
    pub(crate) const QR: u16 = 1 << 15;
    pub(crate) const AA: u16 = 1 << 10;
    pub(crate) const TC: u16 = 1 << 9;
    pub(crate) const RD: u16 = 1 << 8;
    pub(crate) const RA: u16 = 1 << 7;
    pub(crate) const CD: u16 = 1 << 4;
    pub(crate) const OPCODE: u16 = 0xf << 11;
    pub(crate) const RCODE: u16 = 0xf;
}

/// A message that cannot be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The header's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// Questions, answers, authority, additional.
    pub(crate) counts: [u16; 4],
}

impl Header {
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let field = |n: usize| u16_at(message, 2 * n);
        Ok(Self {
            id: field(0)?,
            flags: field(1)?,
            counts: [field(2)?, field(3)?, field(4)?, field(5)?],
        })
    }

    pub(crate) fn bytes(&self) -> [u8; HEADER] {
        let [questions, answers, authority, additional] = self.counts;
        let fields = [
            self.id, self.flags, questions, answers, authority, additional,
        ];
        let mut bytes = [0; HEADER];
        for (to, field) in bytes.chunks_exact_mut(2).zip(fields) {
            to.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => Ok(u16::from_be_bytes([a, b])),
        _ => Err(Malformed),
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(Malformed),
    }
}

/// Reads the name that starts at `at` into `name`, following pointers, and returns where what comes after it starts.
pub(crate) fn read_name(message: &[u8], at: usize, name: &mut NameBuf) -> Result<usize, Malformed> {
    let mut at = at;
    let mut end = None;
    // a pointer leads to an earlier place than the last one did (RFC 1035 §4.1.4: "a prior occurrence"), so this ends
    let mut before = at;
    loop {
        let length = *message.get(at).ok_or(Malformed)?;
        match length >> 6 {
            0 => {
                let next = at + 1 + usize::from(length);
                let label = message.get(at..next).ok_or(Malformed)?;
                if !name.push(label) {
                    return Err(Malformed);
                }
                if length == 0 {
                    return Ok(end.unwrap_or(next));
                }
                at = next;
            }
            3 => {
                let target = usize::from(u16_at(message, at)? & 0x3fff);
                if target >= before {
                    return Err(Malformed);
                }
                end.get_or_insert(at + 2);
                (at, before) = (target, target);
            }
            _ => return Err(Malformed),
        }
    }
}

/// Where what comes after the name at `at` starts. Pointers are checked for direction, not followed.
pub(crate) fn skip_name(message: &[u8], at: usize) -> Result<usize, Malformed> {
    let start = at;
    let mut at = at;
    loop {
        let length = *message.get(at).ok_or(Malformed)?;
        match length >> 6 {
            0 if length == 0 => return Ok(at + 1),
            0 => at += 1 + usize::from(length),
            3 if usize::from(u16_at(message, at)? & 0x3fff) < start => return Ok(at + 2),
            _ => return Err(Malformed),
        }
        if at - start >= MAX_NAME {
            return Err(Malformed);
        }
    }
}

/// One resource record, by its places in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where its owner's name starts.
    pub(crate) start: usize,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    /// Where its TTL stands.
    pub(crate) ttl_at: usize,
    /// Where its data starts.
    pub(crate) data: usize,
    /// Where the next record starts.
    pub(crate) end: usize,
}

impl Record {
    pub(crate) fn read(message: &[u8], start: usize) -> Result<Self, Malformed> {
        let at = skip_name(message, start)?;
        let data = at + 10;
        let end = data + usize::from(u16_at(message, at + 8)?);
        if end > message.len() {
            return Err(Malformed);
        }
        Ok(Self {
            start,
            kind: u16_at(message, at)?,
            class: u16_at(message, at + 2)?,
            ttl: u32_at(message, at + 4)?,
            ttl_at: at + 4,
            data,
            end,
        })
    }
}

/// So many records, from a place in the message on. Ends at the first that cannot be read, with the error.
pub(crate) fn records(
    message: &[u8],
    start: usize,
    count: u16,
) -> impl Iterator<Item = Result<Record, Malformed>> {
    let (mut at, mut left) = (start, count);
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let record = Record::read(message, at);
        match record {
            Ok(record) => at = record.end,
            Err(Malformed) => left = 0,
        }
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name_at(message: &[u8], at: usize) -> Result<(String, usize), Malformed> {
        let mut name = NameBuf::new();
        let end = read_name(message, at, &mut name)?;
        Ok((name.view().to_string(), end))
    }

    // RFC 1035 §4.1.4's own example
    #[test]
    fn pointers_lead_back() {
        let mut message = vec![0; 20];
        message.extend(b"\x01F\x03ISI\x04ARPA\0");
        let second = message.len();
        message.extend(b"\x03FOO\xc0\x14");
        let third = message.len();
        message.extend(b"\xc0\x1a\0");
        assert_eq!(name_at(&message, 20).unwrap(), ("f.isi.arpa".into(), 32));
        assert_eq!(
            name_at(&message, second).unwrap(),
            ("foo.f.isi.arpa".into(), third)
        );
        assert_eq!(
            name_at(&message, third).unwrap(),
            ("arpa".into(), third + 2)
        );
        assert_eq!(skip_name(&message, second), Ok(third));
        assert_eq!(skip_name(&message, 20), Ok(32));
    }

    #[test]
    fn circles_and_what_lies_beyond_are_malformed() {
        for bytes in [
            &b"\xc0\x00"[..],    // to itself
            b"\x01a\xc0\x00",    // a circle through a label
            b"\xc0\x02\xc0\x00", // forwards
            b"\x05ab",           // ends within a label
            b"\x40a\0",          // a kind of label that is none
            b"\x01a",            // no end
            b"",
        ] {
            assert_eq!(name_at(bytes, 0), Err(Malformed), "{bytes:?}");
            assert_eq!(skip_name(bytes, 0), Err(Malformed), "{bytes:?}");
        }
        let long = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(4);
        assert_eq!(name_at(&[long, vec![0]].concat(), 0), Err(Malformed));
    }
}
