//! What is attached, in memory: records by name, and the ways to them that events and requests need. None
//! of them is a search through all.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use zone::{MacAddr, PortName, ZoneName};

use super::record::Record;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Ports {
    records: BTreeMap<PortName, Record>,
    by_ifindex: HashMap<u32, PortName>,
    by_zone: BTreeMap<ZoneName, Members>,
    /// Those with an owner, by that.
    by_owner: BTreeMap<String, BTreeSet<PortName>>,
    /// Those who publish something.
    publishing: BTreeSet<PortName>,
}

/// The containers of one zone.
#[derive(Debug, Default)]
struct Members {
    names: BTreeSet<PortName>,
    by_mac: HashMap<MacAddr, PortName>,
}

impl Ports {
    /// The record of a container.
    pub(crate) fn get<N>(&self, name: &N) -> Option<&Record>
    where
        PortName: Borrow<N>,
        N: Ord + ?Sized,
    {
        self.records.get(name)
    }

    /// The records of a container, by the order of its networks.
    pub(crate) fn of_container(&self, container: &str) -> Vec<&Record> {
        let (from, to) = PortName::further(container);
        let between = (Bound::Included(from.as_str()), Bound::Excluded(to.as_str()));
        let further = self.records.range::<str, _>(between).map(|(_, r)| r);
        let first = self.records.get(container).into_iter();
        let mut records: Vec<&Record> = first.chain(further).collect();
        records.sort_by_key(|record| record.place);
        records
    }

    /// The record of a container in a zone.
    pub(crate) fn of_container_in(&self, container: &str, zone: &ZoneName) -> Option<&Record> {
        let mut records = self.of_container(container).into_iter();
        records.find(|record| record.zone == *zone)
    }

    /// How many containers there are, whatever number of networks each has.
    pub(crate) fn containers(&self) -> usize {
        let mut names: Vec<&str> = self.records.keys().map(PortName::container).collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    }

    /// The record of the container whose link has this index on the host.
    pub(crate) fn at(&self, ifindex: u32) -> Option<&Record> {
        self.records.get(self.by_ifindex.get(&ifindex)?)
    }

    /// The container of a zone that has this hardware address.
    pub(crate) fn with_mac(&self, zone: &ZoneName, mac: MacAddr) -> Option<&PortName> {
        self.by_zone.get(zone)?.by_mac.get(&mac)
    }

    /// The records of the container that belongs to this owner: one, unless it was attached to several zones at once.
    pub(crate) fn owned_by(&self, owner: &str) -> impl Iterator<Item = &Record> {
        let names = self.by_owner.get(owner).into_iter().flatten();
        names.filter_map(|name| self.records.get(name))
    }

    /// Owners that begin with `prefix`, in order.
    pub(crate) fn owners(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let from = self.by_owner.range(prefix.to_owned()..);
        let owners = from.map(|(owner, _)| owner.as_str());
        owners.take_while(move |owner| owner.starts_with(prefix))
    }

    /// The records of a zone, by name.
    pub(crate) fn of_zone(&self, zone: &str) -> impl Iterator<Item = &Record> {
        let members = self.by_zone.get(zone);
        let names = members.into_iter().flat_map(|members| &members.names);
        names.filter_map(|name| self.records.get(name))
    }

    /// The records of those who publish something, by name.
    pub(crate) fn publishing(&self) -> impl Iterator<Item = &Record> {
        self.publishing
            .iter()
            .filter_map(|name| self.records.get(name))
    }

    /// Adds a record, in the place of another under this name.
    pub(crate) fn insert(&mut self, record: Record) {
        let name = &record.port();
        self.remove(name);
        self.by_ifindex.insert(record.ifindex, name.clone());
        let members = self.by_zone.entry(record.zone.clone()).or_default();
        members.names.insert(name.clone());
        members.by_mac.insert(record.mac, name.clone());
        if !record.publish.is_empty() {
            self.publishing.insert(name.clone());
        }
        if let Some(owner) = &record.owner {
            let owned = self.by_owner.entry(owner.clone()).or_default();
            owned.insert(name.clone());
        }
        self.records.insert(name.clone(), record);
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, name: &PortName) -> Option<Record> {
        let record = self.records.remove(name)?;
        self.publishing.remove(name);
        // Each way is this container's, or by now somebody else's.
        if self.by_ifindex.get(&record.ifindex) == Some(name) {
            self.by_ifindex.remove(&record.ifindex);
        }
        if let Some(owner) = &record.owner
            && let Some(owned) = self.by_owner.get_mut(owner)
        {
            owned.remove(name);
            if owned.is_empty() {
                self.by_owner.remove(owner);
            }
        }
        if let Some(members) = self.by_zone.get_mut(&record.zone) {
            members.names.remove(name);
            if members.by_mac.get(&record.mac) == Some(name) {
                members.by_mac.remove(&record.mac);
            }
            if members.names.is_empty() {
                self.by_zone.remove(&record.zone);
            }
        }
        Some(record)
    }

    /// Every record, by name.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Every name.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &PortName> {
        self.records.keys()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(name: &str, zone: &str, ifindex: u32, mac: u8) -> Record {
        let name: zone::ContainerName = name.parse().unwrap();
        Record {
            host_ifname: name.host_ifname(),
            container: name,
            zone: zone.parse().unwrap(),
            ifname: "host0".parse().unwrap(),
            ifindex,
            mac: MacAddr([2, 0, 0, 0, 0, mac]),
            addresses: Vec::new(),
            configure: zone::Configure::Static,
            labels: BTreeMap::new(),
            publish: Vec::new(),
            netns: (0, 0),
            aliases: Vec::new(),
            bandwidth: Default::default(),
            owner: None,
            adopted: false,
            delegated: Vec::new(),
            place: 0,
        }
    }

    #[test]
    fn owners_are_found_by_what_they_begin_with() {
        let mut ports = Ports::default();
        for (name, ifindex, owner) in [
            ("a", 7, Some("cni/net/1/eth0")),
            ("b", 8, Some("cni/net/2/eth0")),
            ("c", 9, Some("cni/net2/1/eth0")),
            ("d", 10, None),
        ] {
            let mac = u8::try_from(ifindex).unwrap();
            let owner = owner.map(str::to_owned);
            ports.insert(Record {
                owner,
                ..record(name, "dmz", ifindex, mac)
            });
        }
        let of = |ports: &Ports, prefix: &str| -> Vec<String> {
            ports.owners(prefix).map(str::to_owned).collect()
        };
        assert_eq!(of(&ports, "cni/net/"), ["cni/net/1/eth0", "cni/net/2/eth0"]);
        assert_eq!(of(&ports, "cni/other/"), [] as [&str; 0]);
        let name =
            |ports: &Ports, owner: &str| ports.owned_by(owner).next().map(|r| r.container.clone());
        assert_eq!(name(&ports, "cni/net/2/eth0"), Some("b".parse().unwrap()));
        ports.remove(&"b".parse().unwrap());
        assert_eq!(name(&ports, "cni/net/2/eth0"), None);
        assert_eq!(of(&ports, "cni/net/"), ["cni/net/1/eth0"]);
    }

    #[test]
    fn every_way_leads_to_the_record_and_none_when_it_is_gone() {
        let mut ports = Ports::default();
        let (web, db) = (record("web", "dmz", 7, 1), record("db", "dmz", 8, 2));
        ports.insert(web.clone());
        ports.insert(db.clone());
        assert_eq!(ports.at(7), Some(&web));
        assert_eq!(ports.with_mac(&web.zone, web.mac), Some(&web.port()));
        assert_eq!(ports.of_zone("dmz").count(), 2);
        // another link under the same name
        let moved = record("web", "lan", 9, 3);
        ports.insert(moved.clone());
        assert_eq!(ports.at(7), None);
        assert_eq!(ports.with_mac(&web.zone, web.mac), None);
        assert_eq!(ports.of_zone("dmz").collect::<Vec<_>>(), [&db]);
        assert_eq!(ports.at(9), Some(&moved));
        assert_eq!(ports.remove(&db.port()), Some(db));
        assert_eq!(ports.of_zone("dmz").count(), 0);
        assert_eq!((ports.keys().count(), ports.is_empty()), (1, false));
    }

    #[test]
    fn a_container_has_a_record_for_each_of_its_networks() {
        let mut ports = Ports::default();
        let first = record("web", "dmz", 7, 1);
        let further = |zone, ifindex, place| Record {
            place,
            ..record("web", zone, ifindex, 1)
        };
        ports.insert(record("web-2", "dmz", 10, 4));
        ports.insert(further("a", 9, 2));
        ports.insert(further("lan", 8, 1));
        ports.insert(first.clone());
        let zones = |ports: &Ports| -> Vec<String> {
            let of = ports.of_container("web");
            of.iter().map(|r| r.zone.to_string()).collect()
        };
        assert_eq!(zones(&ports), ["dmz", "lan", "a"]);
        let lan = "lan".parse().unwrap();
        assert_eq!(ports.of_container_in("web", &lan).unwrap().ifindex, 8);
        assert_eq!((ports.keys().count(), ports.containers()), (4, 2));
        assert_eq!(ports.remove(&first.port()), Some(first));
        assert_eq!(zones(&ports), ["lan", "a"]);
        assert_eq!(ports.of_zone("lan").count(), 1);
        assert_eq!((ports.keys().count(), ports.containers()), (3, 2));
    }

    #[test]
    fn an_index_that_was_given_again_stays_with_the_new_one() {
        let mut ports = Ports::default();
        let (old, new) = (record("old", "dmz", 7, 1), record("new", "dmz", 7, 2));
        ports.insert(old.clone());
        ports.insert(new.clone());
        ports.remove(&old.port());
        assert_eq!(ports.at(7), Some(&new));
    }
}
