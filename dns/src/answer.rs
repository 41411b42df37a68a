//! Writing answers: header, the question as it was asked, records that point to it, EDNS.

use std::net::IpAddr;

use crate::Transport;
use crate::name::{MAX_NAME, View};
use crate::query::Asked;
use crate::wire::{HEADER, Header, Rcode, flag, number};

/// The largest UDP message we send or ask for (RFC 9715 §3.2): it is not fragmented anywhere.
pub(crate) const UDP_SIZE: u16 = 1232;
/// The largest UDP message for those who do not speak EDNS (RFC 1035 §4.2.1).
const PLAIN_SIZE: u16 = 512;

/// Why an answer is what it is, for those who ask (RFC 8914 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason {
    code: u16,
    text: &'static str,
}

impl Reason {
    /// The container's policy lets it use no answer.
    pub(crate) const POLICY: Self = Self {
        code: 18, // Prohibited
        text: "its egress policy has no use for an answer",
    };
    /// It forwards too much.
    pub(crate) const TOO_MANY: Self = Self {
        code: 18,
        text: "too many queries to be forwarded",
    };
    /// There is nobody to forward to.
    pub(crate) const NO_UPSTREAM: Self = Self {
        code: 22, // No Reachable Authority
        text: "no upstream resolver is known",
    };
    /// Nobody upstream answered in time.
    pub(crate) const UPSTREAM: Self = Self {
        code: 22,
        text: "no upstream resolver answered",
    };
    /// Zone transfers and other classes.
    pub(crate) const NOT_SERVED: Self = Self {
        code: 21, // Not Supported
        text: "not served here",
    };
}

/// An answer in the making.
pub(crate) struct Answer {
    bytes: Vec<u8>,
    header: Header,
}

impl Answer {
    /// To this query, with this code, and no records yet.
    pub(crate) fn new(asked: &Asked<'_>, rcode: Rcode) -> Self {
        let repeated = asked.flags & (flag::OPCODE | flag::RD | flag::CD);
        let header = Header {
            id: asked.id,
            flags: flag::QR | flag::RA | repeated | rcode.0 & flag::RCODE,
            counts: [u16::from(!asked.question.is_empty()), 0, 0, 0],
        };
        let mut bytes = Vec::with_capacity(HEADER + asked.question.len() + 64);
        bytes.extend(header.bytes());
        bytes.extend(asked.question);
        Self { bytes, header }
    }

    /// It comes from who should know.
    pub(crate) fn authoritative(mut self) -> Self {
        self.header.flags |= flag::AA;
        self
    }

    /// A record of the name that was asked.
    pub(crate) fn record(&mut self, kind: u16, ttl: u32, data: &[u8]) {
        self.header.counts[1] += 1;
        self.bytes
            .extend(0xc000_u16.wrapping_add(HEADER as u16).to_be_bytes());
        self.rest(kind, ttl, data);
    }

    /// An address of the name that was asked.
    pub(crate) fn address(&mut self, address: IpAddr, ttl: u32) {
        match address {
            IpAddr::V4(a) => self.record(number::A, ttl, &a.octets()),
            IpAddr::V6(a) => self.record(number::AAAA, ttl, &a.octets()),
        }
    }

    /// The SOA of the zone that the answer is about: in the answer where it was asked for, else in the authority section,
    /// where it tells how long a "no" may be remembered (RFC 2308 §3, §5).
    pub(crate) fn soa(&mut self, apex: View<'_>, asked_for: bool, ttl: u32) {
        self.header.counts[if asked_for { 1 } else { 2 }] += 1;
        self.bytes.extend(apex.bytes());
        let mut data = Vec::with_capacity(64 + 2 * apex.bytes().len());
        for label in [&b"\x08_gateway"[..], b"\x0ahostmaster"] {
            if label.len() + apex.bytes().len() <= MAX_NAME {
                data.extend(label);
            }
            data.extend(apex.bytes());
        }
        // serial, refresh, retry, expire, minimum: nobody transfers the zone, so the last alone counts
        for number in [1, 3600, 600, 86400, ttl] {
            data.extend(number.to_be_bytes());
        }
        self.rest(number::SOA, ttl, &data);
    }

    fn rest(&mut self, kind: u16, ttl: u32, data: &[u8]) {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(number::IN.to_be_bytes());
        self.bytes.extend(ttl.to_be_bytes());
        self.bytes.extend((data.len() as u16).to_be_bytes()); // names and addresses: far below 64 KiB
        self.bytes.extend(data);
    }

    /// Records of somebody else's answer, as they stand. Names in them point to the question, which stands where it stood.
    pub(crate) fn relay(&mut self, records: &[u8], counts: [u16; 2]) {
        self.bytes.extend(records);
        self.header.counts[1] += counts[0];
        self.header.counts[2] += counts[1];
    }

    /// The bytes to send. What is too large for the way it goes says so, and has no records: they are asked for again
    /// over TCP (RFC 2181 §9).
    pub(crate) fn finish(
        mut self,
        asked: &Asked<'_>,
        over: Transport,
        rcode: Rcode,
        reason: Option<Reason>,
    ) -> Vec<u8> {
        let opt = asked.edns.map(|_| opt(rcode, asked.dnssec(), reason));
        let room = match over {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => usize::from(asked.edns.map_or(PLAIN_SIZE, |edns| {
                // smaller ones are to be taken as 512 (RFC 6891 §6.2.3)
                edns.size.clamp(PLAIN_SIZE, UDP_SIZE)
            })),
        };
        if self.bytes.len() + opt.as_ref().map_or(0, Vec::len) > room {
            self.bytes.truncate(HEADER + asked.question.len());
            self.header.counts = [self.header.counts[0], 0, 0, 0];
            self.header.flags |= flag::TC;
        }
        if let Some(opt) = opt {
            self.header.counts[3] += 1;
            self.bytes.extend(opt);
        }
        self.bytes[..HEADER].copy_from_slice(&self.header.bytes());
        self.bytes
    }
}

/// An OPT record (RFC 6891 §6.1.2), with the reason where there is one (RFC 8914 §2).
fn opt(rcode: Rcode, dnssec: bool, reason: Option<Reason>) -> Vec<u8> {
    let extended = (rcode.0 >> 4) as u8; // an rcode has 12 bits
    let mut opt = vec![0];
    opt.extend(number::OPT.to_be_bytes());
    opt.extend(UDP_SIZE.to_be_bytes());
    opt.extend([extended, 0, if dnssec { 0x80 } else { 0 }, 0]);
    match reason {
        None => opt.extend([0, 0]),
        Some(Reason { code, text }) => {
            let length = text.len() as u16 + 2; // a short text of ours
            opt.extend((length + 4).to_be_bytes());
            opt.extend(15u16.to_be_bytes());
            opt.extend(length.to_be_bytes());
            opt.extend(code.to_be_bytes());
            opt.extend(text.as_bytes());
        }
    }
    opt
}

/// An answer without records.
pub(crate) fn bare(
    asked: &Asked<'_>,
    over: Transport,
    rcode: Rcode,
    reason: Option<Reason>,
) -> Vec<u8> {
    Answer::new(asked, rcode).finish(asked, over, rcode, reason)
}

/// A query for upstream: the question with its letters' case changed at random, and our own EDNS.
pub(crate) fn upstream(
    id: u16,
    question: &[u8],
    edns: Option<bool>,
    checking_disabled: bool,
) -> Vec<u8> {
    let header = Header {
        id,
        flags: flag::RD | if checking_disabled { flag::CD } else { 0 },
        counts: [1, 0, 0, u16::from(edns.is_some())],
    };
    let mut bytes = header.bytes().to_vec();
    bytes.extend(question);
    if let Some(dnssec) = edns {
        bytes.extend(opt(Rcode::NO_ERROR, dnssec, None));
    }
    bytes
}
