//! Ranges that stand already when the tables are written anew.
//!
//! The daemon that comes after another one, dead or not, knows other idle bundles than the one before, so the two
//! rarely want the very same ranges. What stands under a number never changes, though: what lacks is added
//! before anything leads to it, and what is too much goes when nothing does any more.

use std::collections::{BTreeMap, BTreeSet};

use super::dump::ElementState;
use super::verify::states;
use crate::sets::{Element, Key, SetId, SetSpec};

/// What to do about the ranges of a set that stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ranges {
    /// They are what they should be.
    Right,
    /// Ranges under numbers of which none has to change: see [`Numbers::settle`].
    Differ {
        /// To be added first.
        lacking: Vec<Element>,
        /// To be removed last.
        surplus: Vec<Element>,
    },
    /// They have to be written anew.
    Wrong,
}

impl Ranges {
    /// Compares what stands in a set with what should.
    pub(super) fn of(
        id: SetId,
        spec: &SetSpec,
        found: Vec<ElementState>,
        wanted: &[&Element],
    ) -> Self {
        let there: BTreeSet<ElementState> = found.iter().cloned().collect();
        let states: BTreeSet<_> = wanted.iter().flat_map(|e| states(spec, e)).collect();
        if there == states {
            return Ranges::Right;
        }
        let there = match id.is_numbered() {
            true => ranges(id, found),
            false => None,
        };
        let Some(there) = there else {
            return Ranges::Wrong;
        };
        let wanted: BTreeSet<Element> = wanted.iter().map(|element| with_last(element)).collect();
        Ranges::Differ {
            lacking: wanted.difference(&there).cloned().collect(),
            surplus: there.difference(&wanted).cloned().collect(),
        }
    }
}

/// The numbers under which something stands, and those under which something should, in whichever set.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    there: BTreeSet<[u8; 4]>,
    wanted: BTreeSet<[u8; 4]>,
}

impl Numbers {
    /// Notes what stands in a set with numbers, and what should.
    pub(super) fn note(&mut self, found: &[ElementState], wanted: &[&Element]) {
        let begins = found.iter().filter(|state| !state.interval_end);
        self.there
            .extend(begins.filter_map(|state| number(&state.key)));
        let wanted = wanted.iter().filter_map(|element| number(&element.key.0));
        self.wanted.extend(wanted);
    }

    /// Where what stands under a number would change, all that differs is wrong: packets would meet the old and the
    /// new under it. Numbers are hashes, and once in a great while two things have the same one.
    pub(super) fn settle(&self, sets: &mut BTreeMap<SetId, Ranges>) {
        let changes = |elements: &[Element], numbers: &BTreeSet<[u8; 4]>| {
            let mut its = elements.iter().filter_map(|element| number(&element.key.0));
            its.any(|number| numbers.contains(&number))
        };
        let any = sets.values().any(|ranges| match ranges {
            Ranges::Differ { lacking, surplus } => {
                changes(lacking, &self.there) || changes(surplus, &self.wanted)
            }
            Ranges::Right | Ranges::Wrong => false,
        });
        let differ = |ranges: &&mut Ranges| matches!(ranges, Ranges::Differ { .. });
        for ranges in sets.values_mut().filter(differ).filter(|_| any) {
            *ranges = Ranges::Wrong;
        }
    }
}

/// The number that a key begins with.
fn number(key: &[u8]) -> Option<[u8; 4]> {
    key.first_chunk().copied()
}

fn with_last(element: &Element) -> Element {
    let last = element.last.clone().unwrap_or_else(|| element.key.clone());
    Element {
        last: Some(last),
        ..element.clone()
    }
}

/// The elements that a dump of a line shows; `None` where begins and ends do not alternate.
fn ranges(set: SetId, mut found: Vec<ElementState>) -> Option<BTreeSet<Element>> {
    // where one range ends and the next one begins, the end comes first
    found.sort_by(|a, b| (&a.key, !a.interval_end).cmp(&(&b.key, !b.interval_end)));
    let mut all = BTreeSet::new();
    let mut found = found.into_iter().peekable();
    while let Some(begin) = found.next() {
        if begin.interval_end {
            return None;
        }
        let last = match found.peek() {
            Some(end) if end.interval_end => predecessor(&end.key)?,
            Some(_) => return None,
            None => vec![0xff; begin.key.len()],
        };
        found.next();
        all.insert(Element {
            last: Some(Key(last)),
            ..begin.element(set)
        });
    }
    Some(all)
}

/// The key before this one, taken as one number.
fn predecessor(key: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = key.to_vec();
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            return Some(bytes);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sets::{Action, Direction, Family, Shape};

    const NET: SetId = SetId::Rule(Direction::Egress, Family::V4, Action::Allow, Shape::Net);
    const PORTS: SetId = SetId::Rule(Direction::Egress, Family::V4, Action::Allow, Shape::Ports);

    fn net(number: u32, net: &str) -> Element {
        let (first, last) = net.split_once('-').unwrap_or((net, net));
        let key = |text: &str| Key::new().mark(number).ip(text.parse().unwrap());
        Element::range(NET, key(first), key(last))
    }

    fn of(there: &[Element], wanted: &[Element]) -> Ranges {
        let [(_, ranges)] = all_of([(NET, there, wanted)]);
        ranges
    }

    /// Several sets at once.
    fn all_of<const N: usize>(sets: [(SetId, &[Element], &[Element]); N]) -> [(SetId, Ranges); N] {
        let mut numbers = Numbers::default();
        let mut all = BTreeMap::new();
        for (id, there, wanted) in sets {
            let spec = id.spec();
            let found: Vec<_> = there.iter().flat_map(|e| states(&spec, e)).collect();
            let wanted: Vec<_> = wanted.iter().collect();
            numbers.note(&found, &wanted);
            all.insert(id, Ranges::of(id, &spec, found, &wanted));
        }
        numbers.settle(&mut all);
        all.into_iter().collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn what_stands_under_other_numbers_comes_first_and_goes_last() {
        let kept = net(7, "10.0.0.0-10.0.0.255");
        let beside = net(7, "10.0.1.0-10.0.1.255");
        let whole = net(u32::MAX, "0.0.0.0-255.255.255.255");
        let new = net(9, "0.0.0.0");
        assert_eq!(
            of(
                &[whole.clone(), kept.clone(), beside.clone()],
                &[new.clone(), beside.clone(), kept.clone()],
            ),
            Ranges::Differ {
                lacking: vec![new],
                surplus: vec![whole.clone()],
            }
        );
        assert_eq!(
            of(&[kept.clone(), whole.clone()], &[whole, kept]),
            Ranges::Right
        );
    }

    #[test]
    fn a_number_under_which_something_else_stands_is_written_anew() {
        let old = [net(7, "10.0.0.0-10.0.0.255"), net(8, "10.9.0.1")];
        for wanted in [
            net(7, "10.0.0.0-10.0.0.127"),
            net(7, "10.0.1.0-10.0.1.255"),
            net(8, "10.9.0.0-10.9.0.1"),
        ] {
            assert_eq!(of(&old, &[wanted]), Ranges::Wrong);
        }
        let more = [old[0].clone(), old[1].clone(), net(8, "10.9.0.3")];
        assert_eq!(of(&old, &more), Ranges::Wrong);
        assert_eq!(of(&more, &old), Ranges::Wrong);
    }

    #[test]
    fn a_number_that_means_something_else_in_another_set_is_written_anew() {
        let ports = |number: u32| {
            let key = |port| Key::new().mark(number).proto(6).port(port);
            Element::range(PORTS, key(1), key(9))
        };
        let (seven, eight) = ([net(7, "10.0.0.1")], [net(8, "10.0.0.1")]);
        // it comes here, and stands there; it goes here, and is wanted there
        for (there, wanted) in [([].as_slice(), [ports(7)].as_slice()), (&[ports(8)], &[])] {
            let sets = all_of([(NET, &seven, &seven), (PORTS, there, wanted)]);
            let is_wrong = there.is_empty();
            assert_eq!(sets[1].1 == Ranges::Wrong, is_wrong, "{sets:?}");
            assert_eq!(sets[0].1, Ranges::Right);
            let sets = all_of([(NET, &eight, &eight), (PORTS, there, wanted)]);
            assert_eq!(sets[1].1 == Ranges::Wrong, !is_wrong, "{sets:?}");
        }
    }

    #[test]
    fn a_torn_range_is_written_anew() {
        let spec = NET.spec();
        let wanted = net(7, "10.0.0.0-10.0.0.255");
        let mut found = states(&spec, &wanted);
        found.retain(|state| state.interval_end);
        assert_eq!(Ranges::of(NET, &spec, found, &[&wanted]), Ranges::Wrong);
    }
}
