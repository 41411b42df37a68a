//! Numbers for zones, and for sets of labels.
//!
//! Peers that are many become one number in the keys of the kernel's sets: a packet's address is looked
//! up once for the number of its zone and once for that of its labels, so a rule costs one element for
//! each zone or set of labels it means, and never one for each pair of containers.

use std::collections::{BTreeMap, BTreeSet};

use zone::{ContainerName, ZoneName};

use crate::sets::group;

/// The labels of a container.
pub(super) type Labels = BTreeMap<String, String>;

/// Gives out the lowest number that is free.
#[derive(Debug, Default, Clone)]
pub(super) struct Pool {
    next: u32,
    free: BTreeSet<u32>,
}

impl Pool {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn give_back(&mut self, number: u32) {
        self.free.insert(number);
    }
}

/// Zones that exist, numbered.
#[derive(Debug, Default, Clone)]
pub(super) struct ZoneNumbers {
    pool: Pool,
    held: BTreeMap<ZoneName, u32>,
}

impl ZoneNumbers {
    /// Numbers a zone, unless it has a number.
    pub(super) fn add(&mut self, zone: &ZoneName) {
        if !self.held.contains_key(zone) {
            self.held.insert(zone.clone(), self.pool.take());
        }
    }

    pub(super) fn remove(&mut self, zone: &ZoneName) {
        if let Some(number) = self.held.remove(zone) {
            self.pool.give_back(number);
        }
    }

    /// The group of a zone's containers.
    pub(super) fn group(&self, zone: &ZoneName) -> Option<u32> {
        const ROOM: u32 = group::LABELS_BASE - group::ZONE_BASE;
        self.held.get(zone).map(|&number| {
            if number < ROOM {
                group::ZONE_BASE + number
            } else {
                // beyond 65,280 zones: from the other end of the numbers for labels
                u32::MAX - (number - ROOM)
            }
        })
    }
}

/// Sets of labels that attached containers have, numbered, with those who have them.
#[derive(Debug, Default, Clone)]
pub(super) struct LabelSets {
    pool: Pool,
    held: BTreeMap<Labels, (u32, BTreeSet<ContainerName>)>,
    by_pair: BTreeMap<(String, String), BTreeMap<u32, Labels>>,
}

impl LabelSets {
    /// Whether nobody has exactly these labels. The empty set is nobody's and needs no number.
    pub(super) fn is_new(&self, labels: &Labels) -> bool {
        !labels.is_empty() && !self.held.contains_key(labels)
    }

    /// Whether this container alone has exactly these labels.
    pub(super) fn is_last(&self, labels: &Labels) -> bool {
        self.held
            .get(labels)
            .is_some_and(|(_, members)| members.len() == 1)
    }

    pub(super) fn add(&mut self, labels: &Labels, name: &ContainerName) {
        if labels.is_empty() {
            return;
        }
        if let Some((_, members)) = self.held.get_mut(labels) {
            members.insert(name.clone());
            return;
        }
        let number = group::LABELS_BASE + self.pool.take();
        for (key, value) in labels {
            let pair = (key.clone(), value.clone());
            let sets = self.by_pair.entry(pair).or_default();
            sets.insert(number, labels.clone());
        }
        let members = BTreeSet::from([name.clone()]);
        self.held.insert(labels.clone(), (number, members));
    }

    pub(super) fn remove(&mut self, labels: &Labels, name: &ContainerName) {
        let Some((number, members)) = self.held.get_mut(labels) else {
            return;
        };
        members.remove(name);
        if !members.is_empty() {
            return;
        }
        let number = *number;
        self.held.remove(labels);
        for (key, value) in labels {
            let pair = (key.clone(), value.clone());
            if let Some(sets) = self.by_pair.get_mut(&pair) {
                sets.remove(&number);
                if sets.is_empty() {
                    self.by_pair.remove(&pair);
                }
            }
        }
        self.pool.give_back(number - group::LABELS_BASE);
    }

    /// The group of those who have exactly these labels.
    pub(super) fn group(&self, labels: &Labels) -> Option<u32> {
        self.held.get(labels).map(|(number, _)| *number)
    }

    /// The groups of all sets with this label.
    pub(super) fn with(&self, key: &str, value: &str) -> impl Iterator<Item = u32> {
        let pair = (key.to_owned(), value.to_owned());
        self.by_pair
            .get(&pair)
            .into_iter()
            .flat_map(|sets| sets.keys().copied())
    }

    /// Containers that have all these labels (and perhaps more).
    pub(super) fn members(&self, wanted: &Labels) -> Vec<ContainerName> {
        let mut sets: Option<&BTreeMap<u32, Labels>> = None;
        for (key, value) in wanted {
            match self.by_pair.get(&(key.clone(), value.clone())) {
                None => return Vec::new(),
                Some(found) if sets.is_none_or(|s| found.len() < s.len()) => sets = Some(found),
                Some(_) => {}
            }
        }
        let sets = sets.into_iter().flat_map(|sets| sets.values());
        sets.filter(|labels| wanted.iter().all(|(k, v)| labels.get(k) == Some(v)))
            .filter_map(|labels| self.held.get(labels))
            .flat_map(|(_, members)| members.iter().cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn a_set_of_labels_lives_as_long_as_somebody_has_it() {
        let mut sets = LabelSets::default();
        let (web, db) = ("web".parse().unwrap(), "db".parse().unwrap());
        let front = labels(&[("tier", "front"), ("team", "a")]);
        assert!(sets.is_new(&front));
        sets.add(&front, &web);
        sets.add(&front, &db);
        sets.add(&labels(&[("tier", "front")]), &"c".parse().unwrap());
        assert_eq!(sets.with("tier", "front").count(), 2);
        assert_eq!(sets.members(&labels(&[("tier", "front")])).len(), 3);
        assert_eq!(
            sets.members(&labels(&[("tier", "front"), ("team", "a")]))
                .len(),
            2
        );
        sets.remove(&front, &web);
        assert!(sets.is_last(&front));
        let number = sets.group(&front);
        sets.remove(&front, &db);
        assert_eq!(sets.group(&front), None);
        assert_eq!(sets.with("team", "a").count(), 0);
        let other = labels(&[("x", "y")]);
        sets.add(&other, &web);
        assert_eq!(sets.group(&other), number, "free numbers are used again");
    }

    #[test]
    fn zones_never_share_a_number_with_labels() {
        let mut zones = ZoneNumbers::default();
        zones.pool.next = 65_279;
        let names: Vec<ZoneName> = ["a", "b", "c"].iter().map(|n| n.parse().unwrap()).collect();
        names.iter().for_each(|name| zones.add(name));
        let groups: Vec<_> = names.iter().filter_map(|name| zones.group(name)).collect();
        assert_eq!(groups, [0xffff, u32::MAX, u32::MAX - 1]);
    }
}
