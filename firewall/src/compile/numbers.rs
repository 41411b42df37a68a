//! Numbers for zones, and the pool they come from.
//!
//! Peers that are many become one number in the keys of the kernel's sets: a packet's address is looked
//! up once for the number of its zone and once for that of its labels (see [`super::identities`]), so a rule
//! costs one element for each zone or identity it means, and never one for each pair of containers.

use std::collections::{BTreeMap, BTreeSet};

use zone::ZoneName;

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
