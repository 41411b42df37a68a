//! Networks with ranges of ports, which overlap as rules like → parts that do not.
//!
//! Rules overlap all the time: `192.0.2.0/24` on `tcp/1-1024`, `192.0.2.7` on everything. What one owner's
//! rules of one direction and action say about networks becomes a list of parts, none of which touches
//! another, each with all that is said about it. A packet looks up first in which part its peer is, then
//! its protocol and port there.
//!
//! Protocol and port are one number here, `protocol << 16 | port`: "every protocol" is one interval,
//! "all of tcp" is one, and so is each range of ports. Networks are nested or apart, never crossing.

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

/// A range of addresses (both ends inclusive, as numbers), and the protocols and ports there: sorted,
/// disjoint.
pub(super) type Part = ((u128, u128), Vec<Interval>);

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

/// Networks with what is open in them. A network given twice has the union.
#[derive(Debug, Default)]
pub(super) struct Networks(BTreeMap<(u128, Reverse<u128>), Vec<Interval>>);

impl Networks {
    pub(super) fn add(&mut self, (first, last): (u128, u128), open: Interval) {
        self.0.entry((first, Reverse(last))).or_default().push(open);
    }

    /// Parts that do not touch one another and cover the same points; neighbours with the same protocols
    /// and ports are one.
    pub(super) fn parts(self) -> Vec<Part> {
        let mut parts = Parts::default();
        // the networks around the current one, outermost first, each with all that is said there
        let mut around: Vec<(u128, Vec<Interval>)> = Vec::new();
        // outer networks come before inner ones: smaller begin first, then larger end
        for ((first, Reverse(last)), open) in self.0 {
            while let Some((end, said)) = around.pop_if(|outer| outer.0 < first) {
                parts.up_to(end, &said);
            }
            let said = match (around.last(), first.checked_sub(1)) {
                (Some((_, said)), Some(before)) => {
                    parts.up_to(before, said);
                    union([said, open.as_slice()].concat())
                }
                (Some((_, said)), None) => union([said, open.as_slice()].concat()),
                (None, _) => union(open),
            };
            parts.next = Some(first);
            around.push((last, said));
        }
        while let Some((end, said)) = around.pop() {
            parts.up_to(end, &said);
        }
        parts.done
    }
}

/// Parts, while they are cut in the order of their addresses.
#[derive(Default)]
struct Parts {
    done: Vec<Part>,
    /// The first address that is in none of them; nothing behind the last address of all.
    next: Option<u128>,
}

impl Parts {
    /// All that is left up to an address.
    fn up_to(&mut self, last: u128, said: &[Interval]) {
        let Some(first) = self.next.filter(|first| *first <= last) else {
            return;
        };
        self.next = last.checked_add(1);
        match self.done.last_mut() {
            Some(((_, end), same)) if *same == said && end.checked_add(1) == Some(first) => {
                *end = last;
            }
            _ => self.done.push(((first, last), said.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(networks: &[(u128, u128, Interval)]) -> Vec<Part> {
        let mut all = Networks::default();
        for &(first, last, open) in networks {
            all.add((first, last), open);
        }
        all.parts()
    }

    fn tcp(first: u16, last: u16) -> Interval {
        (point(6, first), point(6, last))
    }

    #[test]
    fn rules_that_do_not_overlap_stay_as_they_are() {
        assert_eq!(
            parts(&[(0, 3, tcp(80, 80)), (6, 7, tcp(443, 443))]),
            [((0, 3), vec![tcp(80, 80)]), ((6, 7), vec![tcp(443, 443)])]
        );
    }

    #[test]
    fn an_inner_network_has_what_the_outer_one_has() {
        assert_eq!(
            parts(&[(0, 15, tcp(10, 20)), (4, 7, tcp(15, 30)), (4, 4, tcp(9, 9))]),
            [
                ((0, 3), vec![tcp(10, 20)]),
                ((4, 4), vec![tcp(9, 30)]),
                ((5, 7), vec![tcp(10, 30)]),
                ((8, 15), vec![tcp(10, 20)]),
            ]
        );
        // one that says nothing new is none
        assert_eq!(
            parts(&[(0, 15, EVERYTHING), (4, 7, tcp(10, 20))]),
            [((0, 15), vec![EVERYTHING])]
        );
    }

    #[test]
    fn neighbours_become_one() {
        assert_eq!(
            parts(&[(0, 7, tcp(1, 9)), (8, 15, tcp(1, 4)), (8, 15, tcp(5, 9))]),
            [((0, 15), vec![tcp(1, 9)])]
        );
    }

    #[test]
    fn the_ends_of_everything() {
        let all = (0, u128::MAX, tcp(1, 1));
        assert_eq!(parts(&[all]), [((0, u128::MAX), vec![tcp(1, 1)])]);
        let highest = (u128::MAX, u128::MAX, tcp(2, 2));
        assert_eq!(
            parts(&[all, highest, (0, 0, EVERYTHING)]),
            [
                ((0, 0), vec![EVERYTHING]),
                ((1, u128::MAX - 1), vec![tcp(1, 1)]),
                ((u128::MAX, u128::MAX), vec![tcp(1, 2)]),
            ]
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
        fn parts_are_disjoint_and_cover_what_the_rules_cover(
            networks in prop::collection::vec(network(), 0..8)
        ) {
            let parts = parts(&networks);
            let points = [0, 1, point(5, 65535), point(6, 0), point(6, 1), point(6, 79), point(6, 80),
                point(6, 81), point(6, 82), point(6, 65535), point(7, 0), point(7, 1), point(200, 9),
                point(255, 65533), point(255, 65534), point(255, 65535)];
            for address in 0..32u128 {
                let here: Vec<_> = parts.iter().filter(|(p, _)| p.0 <= address && address <= p.1).collect();
                prop_assert!(here.len() <= 1, "address {}: {:?}", address, parts);
                for at in points {
                    let wanted = networks.iter().any(|(first, last, open)| {
                        (*first..=*last).contains(&address) && (open.0..=open.1).contains(&at)
                    });
                    let said = here.iter().flat_map(|(_, said)| said);
                    let hits = said.filter(|said| said.0 <= at && at <= said.1).count();
                    prop_assert_eq!(hits, usize::from(wanted), "address {} at {:#x}: {:?}", address, at, parts);
                }
            }
        }
    }
}
