//! What an upstream resolver said: checked, cut down to what clients use, and kept as bytes.
//!
//! Records are relayed as they stand, so types that nobody here knows pass too (RFC 3597). That works because names in
//! them can only point back, and what lies before them (header and question) has the same length in every answer.

use std::net::IpAddr;

use crate::Millis;
use crate::name::{NameBuf, View};
use crate::wire::{
    HEADER, Header, Malformed, Rcode, Record, flag, number, read_name, records, u16_at, u32_at,
};

/// Seconds for which a positive answer is kept at most.
const LONGEST: u32 = 86_400;
/// Seconds for which a "no" is kept at most (RFC 2308 §5 recommends one to three hours).
const LONGEST_NO: u32 = 3_600;
/// CNAMEs that are followed at most.
const CHAIN: usize = 16;

/// An answer, of upstream or made here, that clients with the same question can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) rcode: Rcode,
    /// Header and question, for the places of records to be right, then the records.
    message: Box<[u8]>,
    question: usize,
    /// Records in the answer and authority sections.
    counts: [u16; 2],
    /// Where TTLs stand, and what they are.
    ttls: Box<[(u16, u32)]>,
    /// Seconds for which it holds.
    pub(crate) lifetime: u32,
    /// When it was received.
    pub(crate) at: Millis,
}

/// What is wrong with a message that should answer our question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It does not answer it: somebody guesses, or an old answer comes late.
    NotOurs,
    /// It does, but not letter by letter: perhaps somebody guesses.
    OtherCase,
    /// It was cut off: ask again over TCP.
    Truncated,
    /// The server cannot or will not answer, with this code.
    Refused(Rcode),
    /// It cannot be read.
    Malformed,
}

impl From<Malformed> for Wrong {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Stored {
    /// Reads an answer to the question that was asked under `id`. `dnssec`: the client wants the authority section's
    /// proofs with a positive answer too.
    pub(crate) fn read(
        now: Millis,
        id: u16,
        question: &[u8],
        dnssec: bool,
        message: &[u8],
    ) -> Result<Self, Wrong> {
        let header = Header::parse(message).map_err(|_| Wrong::NotOurs)?;
        let query = header.flags & flag::QR == 0 || header.flags & flag::OPCODE != 0;
        if header.id != id || query {
            return Err(Wrong::NotOurs);
        }
        let rcode = Rcode(header.flags & flag::RCODE);
        let start = HEADER + question.len();
        let theirs = message.get(HEADER..start);
        if header.counts[0] != 1 || !theirs.is_some_and(|q| q.eq_ignore_ascii_case(question)) {
            // what does not understand a query does not repeat it
            return Err(match (header.counts[0], rcode) {
                (0, Rcode::FORMERR | Rcode::NOTIMP | Rcode::SERVFAIL | Rcode::REFUSED) => {
                    Wrong::Refused(rcode)
                }
                _ => Wrong::NotOurs,
            });
        }
        if theirs != Some(question) {
            return Err(Wrong::OtherCase);
        }
        if header.flags & flag::TC != 0 {
            return Err(Wrong::Truncated);
        }
        if !matches!(rcode, Rcode::NO_ERROR | Rcode::NXDOMAIN) {
            return Err(Wrong::Refused(rcode));
        }
        let [_, answers, authority, _] = header.counts;
        let kind = u16_at(question, question.len() - 4)?;
        let mut ttls = Vec::new();
        let mut end = start;
        let (mut lifetime, mut no, mut hit) = (LONGEST, None, false);
        for record in records(message, start, answers) {
            let record = record?;
            let ttl = ttl(record);
            hit |= record.kind == kind || kind == number::ANY;
            lifetime = lifetime.min(ttl);
            ttls.push((place(record)?, ttl));
            end = record.end;
        }
        let negative = rcode == Rcode::NXDOMAIN || !hit;
        // other authority records are of no use to those who ask us, nor are additional ones
        let kept = if negative || dnssec { authority } else { 0 };
        for record in records(message, end, kept) {
            let record = record?;
            if record.kind == number::SOA && record.end >= record.data + 4 {
                // RFC 2308 §5: the lesser of its TTL and its last field
                let minimum = u32_at(message, record.end - 4)?;
                no = Some(ttl(record).min(minimum).min(LONGEST_NO));
            }
            ttls.push((place(record)?, ttl(record)));
            end = record.end;
        }
        if negative {
            // without an SOA it is not to be kept (RFC 2308 §5)
            lifetime = lifetime.min(no.unwrap_or(0));
        }
        Ok(Self {
            rcode,
            message: message.get(..end).ok_or(Wrong::Malformed)?.into(),
            question: question.len(),
            counts: [answers, kept],
            ttls: ttls.into(),
            lifetime,
            at: now,
        })
    }

    /// A failure, kept for a second: so many may ask meanwhile (RFC 9520 §3.2).
    pub(crate) fn failure(now: Millis, rcode: Rcode, question: usize) -> Self {
        Self {
            rcode,
            message: vec![0; HEADER + question].into(),
            question,
            counts: [0; 2],
            ttls: Box::default(),
            lifetime: 1,
            at: now,
        }
    }

    /// Whether it is an answer, not a failure.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self.rcode, Rcode::NO_ERROR | Rcode::NXDOMAIN)
    }

    /// Whether it still holds.
    pub(crate) fn fresh(&self, now: Millis) -> bool {
        now.saturating_sub(self.at) < u64::from(self.lifetime) * 1000
    }

    /// Its records with their TTLs counted down, `most` seconds at most, and how many of them are in the answer and authority sections.
    pub(crate) fn records(&self, now: Millis, most: u32) -> (Vec<u8>, [u16; 2]) {
        let start = HEADER + self.question;
        let mut bytes = self.message[start..].to_vec();
        let age = u32::try_from(now.saturating_sub(self.at) / 1000).unwrap_or(u32::MAX);
        for (at, ttl) in &self.ttls {
            let left = (*ttl)
                .min(self.lifetime.max(1))
                .saturating_sub(age)
                .min(most);
            let at = usize::from(*at) - start;
            if let Some(room) = bytes.get_mut(at..at + 4) {
                room.copy_from_slice(&left.to_be_bytes());
            }
        }
        (bytes, self.counts)
    }

    /// The addresses at the end of the chain of CNAMEs that begins at `name`, with the seconds they hold.
    pub(crate) fn addresses(&self, now: Millis, name: View<'_>) -> Vec<(IpAddr, u32)> {
        let age = u32::try_from(now.saturating_sub(self.at) / 1000).unwrap_or(u32::MAX);
        let start = HEADER + self.question;
        let all: Vec<Record> = records(&self.message, start, self.counts[0])
            .filter_map(Result::ok)
            .filter(|record| record.class == number::IN)
            .collect();
        let read = |at| {
            let mut name = NameBuf::new();
            read_name(&self.message, at, &mut name).map(|_| name).ok()
        };
        let owned = |record: &&Record, name: &NameBuf| {
            read(record.start).is_some_and(|owner| owner.view() == name.view())
        };
        let mut at = NameBuf::new();
        at.push(name.bytes());
        let mut least = u32::MAX;
        for _ in 0..CHAIN {
            let mut aliases = all.iter().filter(|record| record.kind == number::CNAME);
            let Some(alias) = aliases.find(|record| owned(record, &at)) else {
                break;
            };
            let Some(target) = read(alias.data) else {
                return Vec::new();
            };
            least = least.min(ttl(*alias));
            at = target;
        }
        let found = all
            .iter()
            .filter(|record| owned(record, &at))
            .filter_map(|record| {
                let data = self.message.get(record.data..record.end)?;
                let address = match record.kind {
                    number::A => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
                    number::AAAA => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
                    _ => return None,
                };
                Some((address, ttl(*record).min(least).saturating_sub(age)))
            });
        found.collect()
    }

    /// Bytes that keeping it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.message.len() + self.ttls.len() * size_of::<(u16, u32)>()
    }
}

/// A record's TTL; with the top bit set it is none (RFC 2181 §8).
fn ttl(record: Record) -> u32 {
    if record.ttl > i32::MAX as u32 {
        return 0;
    }
    record.ttl.min(LONGEST)
}

fn place(record: Record) -> Result<u16, Malformed> {
    u16::try_from(record.ttl_at).map_err(|_| Malformed)
}
