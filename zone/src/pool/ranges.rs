//! A set of numbers as ranges that neither touch nor overlap.

use std::collections::BTreeMap;

/// First number → last number, both inclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u128, u128>);

impl Ranges {
    /// Adds `first..=last`, none of which may be in the set. Nothing when it is empty.
    pub(super) fn insert(&mut self, mut first: u128, mut last: u128) {
        if first > last {
            return;
        }
        if let Some((&before, &end)) = self.0.range(..first).next_back()
            && end.checked_add(1) == Some(first)
        {
            self.0.remove(&before);
            first = before;
        }
        if let Some(after) = last.checked_add(1)
            && let Some(end) = self.0.remove(&after)
        {
            last = end;
        }
        self.0.insert(first, last);
    }

    /// Adds one number that is not in the set.
    pub(super) fn put(&mut self, number: u128) {
        debug_assert!(!self.contains(number));
        self.insert(number, number);
    }

    /// The range a number is in.
    fn range_of(&self, number: u128) -> Option<(u128, u128)> {
        let (&first, &last) = self.0.range(..=number).next_back()?;
        (number <= last).then_some((first, last))
    }

    pub(super) fn contains(&self, number: u128) -> bool {
        self.range_of(number).is_some()
    }

    /// Takes one number out, if it is in.
    pub(super) fn take(&mut self, number: u128) {
        let Some((first, last)) = self.range_of(number) else {
            return;
        };
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
    }

    /// Takes out what is in of `first..=last`.
    pub(super) fn take_range(&mut self, first: u128, last: u128) {
        while let Some(found) = self.first_in(first, last) {
            let Some((from, to)) = self.range_of(found) else {
                return;
            };
            self.0.remove(&from);
            if from < first {
                self.0.insert(from, first - 1);
            }
            if to > last {
                self.0.insert(last + 1, to);
            }
        }
    }

    /// The smallest number of the set within `from..=to`.
    pub(super) fn first_in(&self, from: u128, to: u128) -> Option<u128> {
        if from > to {
            return None;
        }
        if self.contains(from) {
            return Some(from);
        }
        let (&first, _) = self.0.range(from..=to).next()?;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_split() {
        let mut set = Ranges::default();
        set.insert(1, 9);
        set.take(5);
        assert_eq!(set.0, BTreeMap::from([(1, 4), (6, 9)]));
        set.put(5);
        assert_eq!(set.0, BTreeMap::from([(1, 9)]));
        set.take(1);
        set.take(9);
        set.take(77);
        assert_eq!(set.0, BTreeMap::from([(2, 8)]));
        assert_eq!(set.first_in(0, 1), None);
        assert_eq!(set.first_in(0, 2), Some(2));
        assert_eq!(set.first_in(4, 9), Some(4));
        assert_eq!(set.first_in(9, 20), None);
        assert_eq!(set.first_in(3, 2), None);
    }

    #[test]
    fn a_range_is_cut_out_of_whatever_is_there() {
        let mut set = Ranges::default();
        set.insert(1, 9);
        set.insert(20, 29);
        set.take_range(5, 22);
        assert_eq!(set.0, BTreeMap::from([(1, 4), (23, 29)]));
        set.take_range(24, 25);
        set.take_range(100, 200);
        set.take_range(9, 3);
        assert_eq!(set.0, BTreeMap::from([(1, 4), (23, 23), (26, 29)]));
        set.take_range(0, 99);
        assert_eq!(set.0, BTreeMap::new());
    }

    #[test]
    fn the_last_number_of_all_is_no_trap() {
        let mut set = Ranges::default();
        set.insert(u128::MAX - 1, u128::MAX);
        set.take(u128::MAX);
        set.put(u128::MAX);
        assert_eq!(set.first_in(u128::MAX, u128::MAX), Some(u128::MAX));
    }
}
