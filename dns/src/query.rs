//! Bytes → [`Query`]: what is asked, or what to say to somebody whose message makes no query.

use crate::name::NameBuf;
use crate::silence::Silence;
use crate::wire::{HEADER, Header, Malformed, Rcode, flag, number, read_name, records, u16_at};

/// The EDNS of a query (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest UDP answer it takes.
    pub(crate) size: u16,
    /// It wants DNSSEC records.
    pub(crate) dnssec: bool,
}

/// A query that makes sense: one question.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    pub(crate) asked: Asked<'a>,
    pub(crate) name: NameBuf,
    pub(crate) kind: u16,
    pub(crate) class: u16,
}

/// What an answer repeats of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// The question as it was sent: name, type and class. Empty where it could not be read.
    pub(crate) question: &'a [u8],
    pub(crate) edns: Option<Edns>,
}

impl Asked<'_> {
    pub(crate) fn recursion_desired(&self) -> bool {
        self.flags & flag::RD != 0
    }

    pub(crate) fn checking_disabled(&self) -> bool {
        self.flags & flag::CD != 0
    }

    pub(crate) fn dnssec(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec)
    }
}

/// Not a query that can be answered with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault<'a> {
    /// Say nothing.
    Silent(Silence),
    /// Say that it is wrong.
    Answer(Asked<'a>, Rcode),
}

impl<'a> Query<'a> {
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Fault<'a>> {
        let header = Header::parse(message).map_err(|_| Fault::Silent(Silence::Short))?;
        if header.flags & flag::QR != 0 {
            return Err(Fault::Silent(Silence::NotAQuery));
        }
        let mut asked = Asked {
            id: header.id,
            flags: header.flags,
            question: &[],
            edns: None,
        };
        if header.flags & flag::OPCODE != 0 {
            return Err(Fault::Answer(asked, Rcode::NOTIMP));
        }
        // one question (RFC 9619), and nothing that only answers have
        let [1, 0, 0, additional] = header.counts else {
            return Err(Fault::Answer(asked, Rcode::FORMERR));
        };
        let mut name = NameBuf::new();
        let read = |name: &mut NameBuf| {
            let after = read_name(message, HEADER, name)?;
            let question = message.get(HEADER..after + 4).ok_or(Malformed)?;
            Ok((
                question,
                u16_at(message, after)?,
                u16_at(message, after + 2)?,
            ))
        };
        let Ok((question, kind, class)) = read(&mut name).map_err(|Malformed| ()) else {
            return Err(Fault::Answer(asked, Rcode::FORMERR));
        };
        asked.question = question;
        match edns(message, HEADER + question.len(), additional) {
            Ok(Some((edns, version))) => {
                asked.edns = Some(edns);
                if version != 0 {
                    return Err(Fault::Answer(asked, Rcode::BADVERS));
                }
            }
            Ok(None) => {}
            Err(Malformed) => return Err(Fault::Answer(asked, Rcode::FORMERR)),
        }
        Ok(Self {
            asked,
            name,
            kind,
            class,
        })
    }
}

/// The OPT record among the additional ones, with its version. Two, or one that is not the root's, are an error (RFC 6891
/// §6.1.1, §6.1.2).
fn edns(message: &[u8], start: usize, count: u16) -> Result<Option<(Edns, u8)>, Malformed> {
    let mut found = None;
    for record in records(message, start, count) {
        let record = record?;
        if record.kind != number::OPT {
            continue;
        }
        if found.is_some() || message.get(record.start) != Some(&0) {
            return Err(Malformed);
        }
        // the TTL's bytes: extended rcode, version, DO and reserved bits (§6.1.3)
        let [_, version, bits, _] = record.ttl.to_be_bytes();
        let edns = Edns {
            size: record.class,
            dnssec: bits & 0x80 != 0,
        };
        found = Some((edns, version));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A query about `web`, A, and what comes behind the question.
    fn message(counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
        let header = Header {
            id: 7,
            flags: flag::RD,
            counts,
        };
        let mut bytes = header.bytes().to_vec();
        bytes.extend(b"\x03WeB\0\0\x01\0\x01");
        bytes.extend(rest);
        bytes
    }

    fn rcode(message: &[u8]) -> Option<u16> {
        match Query::parse(message) {
            Err(Fault::Answer(asked, rcode)) => {
                assert_eq!(asked.id, 7);
                Some(rcode.0)
            }
            _ => None,
        }
    }

    const OPT: &[u8] = b"\0\0\x29\x10\0\0\0\x80\0\0\0";

    #[test]
    fn a_query_is_read() {
        let bytes = message([1, 0, 0, 1], OPT);
        let Ok(query) = Query::parse(&bytes) else {
            panic!("not read")
        };
        assert_eq!(query.name.view().to_string(), "web");
        assert_eq!((query.kind, query.class), (1, 1));
        assert_eq!(query.asked.question, b"\x03WeB\0\0\x01\0\x01");
        let edns = query.asked.edns.unwrap();
        assert_eq!((edns.size, edns.dnssec), (4096, true));
    }

    #[test]
    fn faults_have_their_codes() {
        let twice = [OPT, OPT].concat();
        let newer = [&OPT[..6], &[1], &OPT[7..]].concat();
        let owned = [b"\x01a", OPT].concat();
        for (what, bytes, code) in [
            ("RFC 9619: no question", message([0, 0, 0, 0], &[]), 1),
            ("RFC 9619: two questions", message([2, 0, 0, 0], &[]), 1),
            ("answers in a query", message([1, 1, 0, 0], &[]), 1),
            ("RFC 6891 §6.1.1: two OPT", message([1, 0, 0, 2], &twice), 1),
            (
                "RFC 6891 §6.1.2: OPT of a name",
                message([1, 0, 0, 1], &owned),
                1,
            ),
            (
                "RFC 6891 §6.1.3: version 1",
                message([1, 0, 0, 1], &newer),
                16,
            ),
            (
                "an OPT that ends too early",
                message([1, 0, 0, 1], &OPT[..9]),
                1,
            ),
            ("no OPT where one is counted", message([1, 0, 0, 1], &[]), 1),
        ] {
            assert_eq!(rcode(&bytes), Some(code), "{what}");
        }
        let mut update = message([1, 0, 0, 0], &[]);
        update[2] = 5 << 3;
        assert_eq!(rcode(&update), Some(4), "an update");
        let mut answer = message([1, 0, 0, 0], &[]);
        answer[2] |= 0x80;
        let silent = |bytes: &[u8]| match Query::parse(bytes) {
            Err(Fault::Silent(silence)) => Some(silence),
            _ => None,
        };
        assert_eq!(silent(&answer), Some(Silence::NotAQuery));
        assert_eq!(silent(&answer[..11]), Some(Silence::Short));
    }
}
