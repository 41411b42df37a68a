//! Overlapping networks and ports → disjoint boxes.
//!
//! The kernel's interval sets of several fields (pipapo) refuse elements that overlap, and rules overlap
//! all the time: `192.0.2.0/24` on `tcp/1-1024`, `192.0.2.7` on everything. What one owner's rules of one
//! direction and action say about addresses becomes a list of boxes of which no two touch a common
//! point, and which cover the same points as the rules did.
//!
//! Protocol and port are one number here, `protocol << 16 | port`: "every protocol" is one interval,
//! "all of tcp" is one, and so is each range of ports. Networks are nested or apart, never crossing;
//! so an outer network keeps all that it has, and an inner one what its outer ones do not cover.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Both ends inclusive.
pub(super) type Interval = (u32, u32);

/// Every protocol and port.
pub(super) const EVERYTHING: Interval = (0, 0x00ff_ffff);

/// Protocol and port as one number.
pub(super) fn point(proto: u8, port: u16) -> u32 {
    u32::from(proto) << 16 | u32::from(port)
}

/// A range of addresses (both ends inclusive, as numbers), of protocols and of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cuboid {
    pub(super) protos: (u8, u8),
    pub(super) ports: (u16, u16),
    pub(super) peers: (u128, u128),
}

/// Numbers that intervals are made of.
pub(super) trait Number: Ord + Copy {
    /// The next one; the highest is its own.
    fn after(self) -> Self;
}

impl Number for u32 {
    fn after(self) -> Self {
        self.saturating_add(1)
    }
}

impl Number for u128 {
    fn after(self) -> Self {
        self.saturating_add(1)
    }
}

/// Sorts, and makes one of those that overlap or touch.
pub(super) fn union<T: Number>(mut intervals: Vec<(T, T)>) -> Vec<(T, T)> {
    intervals.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(intervals.len());
    for (first, last) in intervals {
        match merged.last_mut() {
            Some(before) if first <= before.1.after() => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// What is in `from` and not in `covered`. Both sorted and disjoint.
fn subtract(from: &[Interval], covered: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    for &(mut first, last) in from {
        let begin = covered.partition_point(|c| c.1 < first);
        let mut whole = true;
        for &(start, end) in covered[begin..].iter().take_while(|c| c.0 <= last) {
            if start > first {
                left.push((first, start - 1));
            }
            if end >= last {
                whole = false;
                break;
            }
            first = end + 1;
        }
        if whole {
            left.push((first, last));
        }
    }
    left
}

/// The parts of an interval that are rectangles of protocols × ports: at most three.
pub(super) fn rectangles((first, last): Interval) -> impl Iterator<Item = ((u8, u8), (u16, u16))> {
    let split = |point: u32| {
        let bytes = point.to_be_bytes();
        (bytes[1], u16::from_be_bytes([bytes[2], bytes[3]]))
    };
    let (low, from) = split(first);
    let (high, to) = split(last);
    let mut parts = [None; 3];
    if low == high {
        parts[0] = Some(((low, low), (from, to)));
    } else {
        // whole protocols in the middle, and what is left at both ends
        let begin = u16::from(low) + u16::from(from > 0);
        let end = i16::from(high) - i16::from(to < u16::MAX);
        if from > 0 {
            parts[0] = Some(((low, low), (from, u16::MAX)));
        }
        if let (Ok(begin), Ok(end)) = (u8::try_from(begin), u8::try_from(end))
            && begin <= end
        {
            parts[1] = Some(((begin, end), (0, u16::MAX)));
        }
        if to < u16::MAX {
            parts[2] = Some(((high, high), (0, to)));
        }
    }
    parts.into_iter().flatten()
}

/// Networks with what is open in them. A network given twice has the union.
#[derive(Debug, Default)]
pub(super) struct Networks(BTreeMap<(u128, Reverse<u128>), Vec<Interval>>);

impl Networks {
    pub(super) fn add(&mut self, (first, last): (u128, u128), open: Interval) {
        self.0.entry((first, Reverse(last))).or_default().push(open);
    }

    /// Disjoint boxes that cover the same points; neighbours with the same protocols and ports are one.
    pub(super) fn disjoint(self) -> Vec<Cuboid> {
        let mut by_ports: BTreeMap<_, Vec<(u128, u128)>> = BTreeMap::new();
        // the networks around the current one, outermost first, each with all that is covered there
        let mut around: Vec<(u128, Vec<Interval>)> = Vec::new();
        // outer networks come before inner ones: smaller begin first, then larger end
        let mut networks = self.0.into_iter().peekable();
        while let Some(((first, Reverse(last)), open)) = networks.next() {
            while around.last().is_some_and(|outer| outer.0 < first) {
                around.pop();
            }
            let open = union(open);
            let covered = around
                .last()
                .map(|outer| outer.1.as_slice())
                .unwrap_or_default();
            for interval in subtract(&open, covered) {
                for rectangle in rectangles(interval) {
                    by_ports.entry(rectangle).or_default().push((first, last));
                }
            }
            let has_inner = networks.peek().is_some_and(|(next, _)| next.0 <= last);
            if has_inner {
                let covered = union([covered, &open].concat());
                around.push((last, covered));
            }
        }
        let mut boxes = Vec::new();
        for ((protos, ports), networks) in by_ports {
            // in the order of their begins, and disjoint, because nested ones differ in ports
            let mut merged: Vec<(u128, u128)> = Vec::with_capacity(networks.len());
            for (first, last) in networks {
                match merged.last_mut() {
                    Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
                    _ => merged.push((first, last)),
                }
            }
            boxes.extend(merged.into_iter().map(|peers| Cuboid {
                protos,
                ports,
                peers,
            }));
        }
        boxes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disjoint(networks: &[(u128, u128, Interval)]) -> Vec<Cuboid> {
        let mut all = Networks::default();
        for &(first, last, open) in networks {
            all.add((first, last), open);
        }
        all.disjoint()
    }

    fn tcp(first: u16, last: u16) -> Interval {
        (point(6, first), point(6, last))
    }

    fn cuboid(peers: (u128, u128), protos: (u8, u8), ports: (u16, u16)) -> Cuboid {
        Cuboid {
            protos,
            ports,
            peers,
        }
    }

    #[test]
    fn rules_that_do_not_overlap_stay_as_they_are() {
        assert_eq!(
            disjoint(&[(0, 15, tcp(80, 80)), (4, 7, tcp(443, 443))]),
            [
                cuboid((0, 15), (6, 6), (80, 80)),
                cuboid((4, 7), (6, 6), (443, 443))
            ]
        );
    }

    #[test]
    fn an_inner_network_keeps_what_the_outer_one_does_not_cover() {
        assert_eq!(
            disjoint(&[(0, 15, tcp(10, 20)), (4, 7, EVERYTHING)]),
            [
                cuboid((4, 7), (0, 5), (0, 65535)),
                cuboid((4, 7), (6, 6), (0, 9)),
                cuboid((0, 15), (6, 6), (10, 20)),
                cuboid((4, 7), (6, 6), (21, 65535)),
                cuboid((4, 7), (7, 255), (0, 65535)),
            ]
        );
    }

    #[test]
    fn neighbours_become_one() {
        assert_eq!(
            disjoint(&[(0, 7, tcp(1, 9)), (8, 15, tcp(1, 4)), (8, 15, tcp(5, 9))]),
            [cuboid((0, 15), (6, 6), (1, 9))]
        );
    }

    #[test]
    fn the_ends_of_everything() {
        let all = [(0, u128::MAX, EVERYTHING)];
        assert_eq!(
            disjoint(&all),
            [cuboid((0, u128::MAX), (0, 255), (0, 65535))]
        );
        let highest = point(255, 65535);
        assert_eq!(
            disjoint(&[
                (0, u128::MAX, (highest, highest)),
                (5, 5, EVERYTHING),
                (0, 0, (0, 0))
            ]),
            [
                cuboid((0, 0), (0, 0), (0, 0)),
                cuboid((5, 5), (0, 254), (0, 65535)),
                cuboid((5, 5), (255, 255), (0, 65534)),
                cuboid((0, u128::MAX), (255, 255), (65535, 65535)),
            ]
        );
    }

    #[test]
    fn rectangles_of_every_kind() {
        let parts = |a, b| rectangles((a, b)).collect::<Vec<_>>();
        assert_eq!(parts(point(6, 5), point(6, 9)), [((6, 6), (5, 9))]);
        assert_eq!(parts(point(6, 0), point(7, 65535)), [((6, 7), (0, 65535))]);
        assert_eq!(
            parts(point(6, 1), point(7, 0)),
            [((6, 6), (1, 65535)), ((7, 7), (0, 0))]
        );
        assert_eq!(
            parts(point(6, 1), point(9, 3)),
            [((6, 6), (1, 65535)), ((7, 8), (0, 65535)), ((9, 9), (0, 3))]
        );
    }

    /// A network of at most 16 addresses, and an interval with ends near those of protocols.
    fn network() -> impl Strategy<Value = (u128, u128, Interval)> {
        let ends = prop::sample::select(vec![
            0,
            point(5, 65535),
            point(6, 0),
            point(6, 1),
            point(6, 80),
            point(6, 81),
            point(6, 65535),
            point(7, 0),
            point(255, 65534),
            point(255, 65535),
        ]);
        (0u32..5, 0u128..16, ends.clone(), ends).prop_map(|(bits, address, a, b)| {
            let first = address >> bits << bits;
            (first, first + (1 << bits) - 1, (a.min(b), a.max(b)))
        })
    }

    proptest! {
        #[test]
        fn boxes_are_disjoint_and_cover_what_the_rules_cover(
            networks in prop::collection::vec(network(), 0..8)
        ) {
            let boxes = disjoint(&networks);
            let points = [0, 1, point(5, 65535), point(6, 0), point(6, 1), point(6, 79), point(6, 80),
                point(6, 81), point(6, 82), point(6, 65535), point(7, 0), point(7, 1), point(200, 9),
                point(255, 65533), point(255, 65534), point(255, 65535)];
            for address in 0..32u128 {
                for at in points {
                    let wanted = networks.iter().any(|(first, last, open)| {
                        (*first..=*last).contains(&address) && (open.0..=open.1).contains(&at)
                    });
                    let (proto, port) = ((at >> 16) as u8, at as u16);
                    let hits = boxes.iter().filter(|b| {
                        b.peers.0 <= address && address <= b.peers.1
                            && b.protos.0 <= proto && proto <= b.protos.1
                            && b.ports.0 <= port && port <= b.ports.1
                    }).count();
                    prop_assert_eq!(hits, usize::from(wanted), "address {} at {:#x}: {:?}", address, at, boxes);
                }
            }
        }
    }
}
