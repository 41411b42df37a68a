//! Protocols and ports as one line of numbers, cut wherever a rule cuts them.
//!
//! A point is `protocol << 16 | port`; types of ICMP take the place of ports, and other protocols are one
//! piece each. What cannot be (ports of protocols that have none, ICMP types without a counterpart in IPv6)
//! has points too: nobody asks about them, and they follow their neighbours, so that `everything` is one
//! interval.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::Traffic;
use crate::policy::{Ports, has_ports, icmp_counterpart};
use crate::sets::Family;

/// Both ends inclusive.
pub(super) type Interval = (u32, u32);

const LAST: u32 = 0x00ff_ffff;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

fn point(proto: u8, port: u16) -> u32 {
    u32::from(proto) << 16 | u32::from(port)
}

/// Protocol and port of a point.
fn split(point: u32) -> (u8, u16) {
    let [_, proto, high, low] = point.to_be_bytes();
    (proto, u16::from_be_bytes([high, low]))
}

/// What an entry of `ports` stands for.
pub(super) fn interval(ports: Ports) -> Interval {
    match ports {
        Ports::Range { proto, first, last } => (point(proto, first), point(proto, last)),
        Ports::Proto(proto) => (point(proto, 0), point(proto, u16::MAX)),
        Ports::Icmp(kind) => (point(ICMP, kind.into()), point(ICMP, kind.into())),
        Ports::EveryIcmp => (point(ICMP, 0), point(ICMP, u16::MAX)),
    }
}

/// Whether two intervals have a point in common.
pub(super) fn overlap(one: Interval, other: Interval) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}

/// Traffic at a point, if there is such traffic in a family.
pub(super) fn traffic(at: u32, family: Family) -> Option<Traffic> {
    match split(at) {
        (proto, port) if has_ports(proto) => Some(Traffic::Port(proto, port)),
        (ICMP, kind) => u8::try_from(kind)
            .ok()
            .filter(|kind| family == Family::V4 || icmp_counterpart(*kind).is_some())
            .map(Traffic::Icmp),
        (ICMP6, _) => None,
        (proto, _) => Some(Traffic::Proto(proto)),
    }
}

/// The line, cut into pieces: every flow of a piece is treated alike.
#[derive(Debug)]
pub(super) struct Pieces(Vec<u32>);

impl Pieces {
    /// Cut where the built-in rules, and these intervals, begin and end.
    pub(super) fn cut(intervals: impl Iterator<Item = Interval>) -> Self {
        let whole = |proto: u8| (point(proto, 0), point(proto, u16::MAX));
        let kinds = (0..=u8::MAX).filter(|kind| icmp_counterpart(*kind).is_some());
        let kinds = kinds.chain([8]).map(|kind| interval(Ports::Icmp(kind)));
        let services = [(6, 53), (17, 53), (17, 67)]
            .map(|(proto, port)| (point(proto, port), point(proto, port)));
        let protocols =
            (0..=u8::MAX).filter(|proto| has_ports(*proto) || [ICMP, ICMP6].contains(proto));
        let mut starts = BTreeSet::from([0, point(ICMP, 256)]);
        for (first, last) in intervals
            .chain(kinds)
            .chain(services)
            .chain(protocols.map(whole))
        {
            starts.insert(first);
            starts.insert(last + 1);
        }
        starts.retain(|start| *start <= LAST);
        Self(starts.into_iter().collect())
    }

    /// The pieces in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Interval> {
        let ends = self.0.iter().skip(1).map(|next| next - 1).chain([LAST]);
        self.0.iter().copied().zip(ends)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The set of the pieces with `Some(true)`; `None` stands for what cannot be.
    pub(super) fn set(&self, within: &[Option<bool>]) -> TrafficSet {
        let mut filled: Vec<bool> = Vec::with_capacity(within.len());
        let icmp: Vec<usize> = self
            .iter()
            .enumerate()
            .filter(|(_, (first, _))| split(*first).0 == ICMP)
            .map(|(index, _)| index)
            .collect();
        let every_icmp = icmp.iter().all(|index| within[*index] != Some(false))
            && icmp.iter().any(|index| within[*index] == Some(true));
        // what cannot be goes with the greater part, so that few words are needed
        let count = |is: bool| within.iter().filter(|piece| **piece == Some(is)).count();
        let mostly = count(true) > count(false);
        for (index, piece) in within.iter().enumerate() {
            filled.push(piece.unwrap_or_else(|| {
                let before = within[..index].iter().rev().find_map(|real| *real);
                let after = within[index..].iter().find_map(|real| *real);
                let (before, after) = (before.or(after), after.or(before));
                let (before, after) = (before.unwrap_or(false), after.unwrap_or(false));
                (every_icmp && icmp.contains(&index))
                    || before && after
                    || mostly && (before || after)
            }));
        }
        let mut set: Vec<Interval> = Vec::new();
        for ((first, last), _) in self.iter().zip(filled).filter(|(_, within)| *within) {
            match set.last_mut() {
                Some(before) if before.1 + 1 == first => before.1 = last,
                _ => set.push((first, last)),
            }
        }
        TrafficSet(set)
    }
}

/// Some protocols and ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrafficSet(Vec<Interval>);

impl TrafficSet {
    /// Whether some traffic is among them.
    pub fn contains(&self, traffic: Traffic) -> bool {
        let at = match traffic {
            Traffic::Port(proto, port) => point(proto, port),
            Traffic::Icmp(kind) => point(ICMP, kind.into()),
            Traffic::Proto(proto) => point(proto, 0),
        };
        self.0.iter().any(|part| overlap(*part, (at, at)))
    }

    /// As `ports` of a policy file has them; `None`: every protocol and port, but for [`Self::except`].
    pub fn ports(&self) -> Option<Vec<String>> {
        (!self.is_nearly_all()).then(|| words(&self.0))
    }

    /// What is left out of every protocol and port.
    pub fn except(&self) -> Vec<String> {
        if self.is_nearly_all() {
            words(&self.others())
        } else {
            Vec::new()
        }
    }

    /// Whether it is shorter to say what is missing.
    fn is_nearly_all(&self) -> bool {
        let covered: u32 = self.0.iter().map(|(first, last)| last - first + 1).sum();
        covered > LAST / 2 && words(&self.others()).len() < words(&self.0).len()
    }

    fn others(&self) -> Vec<Interval> {
        let mut others = Vec::new();
        let mut next = 0;
        for (first, last) in &self.0 {
            if *first > next {
                others.push((next, first - 1));
            }
            next = last + 1;
        }
        if next <= LAST {
            others.push((next, LAST));
        }
        others
    }
}

impl fmt::Display for TrafficSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ports(), self.except()) {
            (Some(ports), _) => f.write_str(&ports.join(", ")),
            (None, except) if except.is_empty() => f.write_str("every protocol and port"),
            (None, except) => write!(f, "everything but {}", except.join(", ")),
        }
    }
}

/// Intervals as people write them.
fn words(intervals: &[Interval]) -> Vec<String> {
    let mut words = Vec::new();
    for (first, last) in intervals {
        let ((low, from), (high, to)) = (split(*first), split(*last));
        // protocols without ports, one after the other
        let mut run: Option<(u8, u8)> = None;
        let flush = |run: &mut Option<(u8, u8)>, words: &mut Vec<String>| match run.take() {
            Some((one, same)) if one == same => words.push(Ports::Proto(one).to_string()),
            Some((first, last)) => words.push(format!("proto/{first}-{last}")),
            None => {}
        };
        for proto in low..=high {
            let from = if proto == low { from } else { 0 };
            let to = if proto == high { to } else { u16::MAX };
            if proto == ICMP || has_ports(proto) {
                flush(&mut run, &mut words);
                words.push(if proto == ICMP {
                    types(from, to)
                } else {
                    ports(proto, from, to)
                });
            } else {
                run = Some((run.map_or(proto, |run| run.0), proto));
            }
        }
        flush(&mut run, &mut words);
    }
    words
}

fn ports(proto: u8, first: u16, last: u16) -> String {
    let entry = match (first, last) {
        (0, u16::MAX) => Ports::Proto(proto),
        // port 0 is nobody's, and has no place in a file
        (0, last) if last > 0 => Ports::Range {
            proto,
            first: 1,
            last,
        },
        (first, last) => Ports::Range { proto, first, last },
    };
    entry.to_string()
}

fn types(first: u16, last: u16) -> String {
    match (u8::try_from(first), u8::try_from(last)) {
        (Ok(first), Ok(last)) if first == last => Ports::Icmp(first).to_string(),
        (Ok(first), Ok(last)) if (first, last) != (0, u8::MAX) => format!("icmp/{first}-{last}"),
        (Ok(first), Err(_)) if first > 0 => format!("icmp/{first}-255"),
        _ => Ports::EveryIcmp.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces that the entries stand for.
    fn set(entries: &[Ports], family: Family) -> TrafficSet {
        let pieces = Pieces::cut(entries.iter().map(|entry| interval(*entry)));
        let within: Vec<Option<bool>> = pieces
            .iter()
            .map(|piece| {
                traffic(piece.0, family)?;
                Some(entries.iter().any(|entry| overlap(interval(*entry), piece)))
            })
            .collect();
        pieces.set(&within)
    }

    #[test]
    fn sets_are_written_as_files_write_them() {
        let tcp = |first, last| Ports::Range {
            proto: 6,
            first,
            last,
        };
        for (entries, text) in [
            (vec![tcp(80, 80)], "tcp/80"),
            (
                vec![tcp(1, 52), tcp(53, 80), Ports::Proto(17)],
                "tcp/1-80, udp/*",
            ),
            (
                vec![Ports::Icmp(8), Ports::Proto(47)],
                "icmp/echo-request, gre",
            ),
            (vec![Ports::EveryIcmp], "icmp/*"),
            (vec![Ports::Proto(46), Ports::Proto(47)], "proto/46-47"),
        ] {
            for family in Family::ALL {
                assert_eq!(set(&entries, family).to_string(), text);
            }
        }
        assert_eq!(set(&[], Family::V4), TrafficSet::default());
    }

    #[test]
    fn nearly_everything_is_told_by_what_is_missing() {
        let pieces = Pieces::cut([].into_iter());
        for family in Family::ALL {
            let but = |left: Option<Traffic>| {
                let within: Vec<_> = pieces
                    .iter()
                    .map(|(first, _)| Some(Some(traffic(first, family)?) != left))
                    .collect();
                pieces.set(&within).to_string()
            };
            assert_eq!(but(None), "every protocol and port");
            let resolver = Some(Traffic::Port(6, 53));
            assert_eq!(but(resolver), "everything but tcp/53");
            let echo = Some(Traffic::Icmp(8));
            assert_eq!(but(echo), "everything but icmp/echo-request");
        }
    }

    #[test]
    fn pieces_cover_the_line_once() {
        let pieces = Pieces::cut([(point(6, 80), point(6, 90)), (point(255, 0), LAST)].into_iter());
        let mut next = 0;
        for (first, last) in pieces.iter() {
            assert_eq!(first, next);
            assert!(last >= first);
            next = last + 1;
        }
        assert_eq!(next, LAST + 1);
    }
}
