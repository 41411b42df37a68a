//! Containers that every rule of both sets treats alike are one group, and asked about once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use zone::{PortName, ZoneName};

use super::classes;
use crate::model::{Container, Publish, World};
use crate::policy::{Mode, Peer, PolicyFile, PolicySet, Section};
use crate::sets::{Direction, Family};

/// The files that apply to a container in one of the two sets, on trial or not.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane<'a>(pub(super) Vec<(&'a str, &'a Arc<PolicyFile>)>);

impl<'a> Lane<'a> {
    /// What the files say of a direction; those on trial only with `trial`.
    pub(super) fn sections(
        &self,
        direction: Direction,
        trial: bool,
    ) -> impl Iterator<Item = (&'a PolicyFile, &'a Section)> {
        self.0
            .iter()
            .filter(move |(_, file)| trial || file.mode == Mode::Enforce)
            .filter_map(move |(_, file)| Some((&***file, file.section(direction)?)))
    }
}

/// Containers that no rule tells apart.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// The one that is asked about.
    pub(super) one: &'a Container,
    /// All of them.
    pub(super) names: Vec<&'a PortName>,
    /// Before and after.
    pub(super) lanes: [Lane<'a>; 2],
    /// What the one has beside its first addresses, cut where networks of rules begin and end. A group with that is of one
    /// container.
    pub(super) parts: Vec<Part>,
}

/// Addresses of a container that rules do not tell apart.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) nets: Vec<IpNet>,
    /// The one that is asked about.
    pub(super) one: IpAddr,
}

impl Group<'_> {
    /// The addresses that are asked about.
    pub(super) fn addresses(&self, world: &World) -> impl Iterator<Item = IpAddr> {
        let first = Family::ALL.map(|family| {
            let mut all = world.addresses(self.one);
            all.find(|a| Family::of(*a) == family)
        });
        let parts = self.parts.iter().map(|part| part.one);
        first.into_iter().flatten().chain(parts)
    }
}

/// What rules tell containers apart by.
#[derive(Default)]
struct Named<'a> {
    containers: BTreeSet<&'a str>,
    labels: BTreeSet<(&'a str, &'a str)>,
    /// Where networks begin, and where they have ended.
    cuts: BTreeSet<(Family, u128)>,
}

impl<'a> Named<'a> {
    fn of(sets: [&'a PolicySet; 2]) -> Self {
        let mut named = Self::default();
        let files = sets.into_iter().flat_map(|set| set.0.values());
        for peer in files.flat_map(|file| file.rules()).flat_map(|r| &r.peers) {
            match peer {
                Peer::Container(name) => {
                    named.containers.insert(name.as_str());
                }
                Peer::Label(key, value) => {
                    named.labels.insert((key, value));
                }
                Peer::Net(net) => named.cuts.extend(classes::cuts(*net)),
                _ => {}
            }
        }
        named
    }

    /// The addresses of a network between two cuts each.
    fn pieces(&self, net: IpNet) -> Vec<(u128, u128)> {
        let family = Family::of(net.addr());
        let (first, last) = (
            classes::number(net.network()),
            classes::number(net.broadcast()),
        );
        let mut pieces = Vec::new();
        let mut from = first;
        let inside = (family, first)..=(family, last);
        for (_, cut) in self.cuts.range(inside).filter(|(_, cut)| *cut > first) {
            pieces.push((from, *cut - 1));
            from = *cut;
        }
        pieces.push((from, last));
        pieces
    }

    /// What a container has beside its first addresses and what is treated like them.
    fn parts(&self, world: &World, container: &Container) -> Vec<Part> {
        let first = Family::ALL.map(|family| {
            let mut all = world.addresses(container);
            all.find(|a| Family::of(*a) == family)
        });
        let mut parts = Vec::new();
        for net in world.networks(container) {
            let family = Family::of(net.addr());
            for (from, to) in self.pieces(net) {
                let mut first = first.iter().flatten();
                let known = first.any(|a| {
                    Family::of(*a) == family && (from..=to).contains(&classes::number(*a))
                });
                if !known {
                    parts.push(Part {
                        nets: classes::nets(family, &[(from, to)]),
                        one: classes::address(family, from),
                    });
                }
            }
        }
        parts
    }

    /// Which of the stretches between two cuts an address is in: by the cut before it.
    fn stretch(&self, address: IpAddr) -> (Family, Option<u128>) {
        let family = Family::of(address);
        let at = (family, classes::number(address));
        let before = self.cuts.range((family, 0)..=at).next_back();
        (family, before.map(|cut| cut.1))
    }
}

/// What equals have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    zone: &'a ZoneName,
    /// For one that some rule names, or that has more than one address of a family that rules tell apart.
    name: Option<&'a PortName>,
    labels: Vec<(&'a str, &'a str)>,
    addresses: Vec<(Family, Option<u128>)>,
    publish: &'a [Publish],
    files: [Vec<&'a str>; 2],
}

/// Files by the container they name, and the others.
struct Index<'a> {
    by_name: BTreeMap<&'a str, Vec<(&'a str, &'a Arc<PolicyFile>)>>,
    others: Vec<(&'a str, &'a Arc<PolicyFile>)>,
}

impl<'a> Index<'a> {
    fn of(set: &'a PolicySet) -> Self {
        let mut index = Self {
            by_name: BTreeMap::new(),
            others: Vec::new(),
        };
        for (key, file) in &set.0 {
            let entry = (key.as_str(), file);
            match &file.applies_to.container {
                Some(name) => index.by_name.entry(name.as_str()).or_default().push(entry),
                None => index.others.push(entry),
            }
        }
        index
    }

    fn applying(&self, container: &Container) -> Lane<'a> {
        let named = self
            .by_name
            .get(container.name.container())
            .into_iter()
            .flatten();
        let mut files: Vec<_> = named
            .chain(&self.others)
            .filter(|(_, file)| file.applies_to.matches(container))
            .copied()
            .collect();
        files.sort_unstable_by_key(|(key, _)| *key);
        Lane(files)
    }
}

/// The groups of all attached containers.
pub(super) fn of<'a>(world: &'a World, old: &'a PolicySet, new: &'a PolicySet) -> Vec<Group<'a>> {
    let named = Named::of([old, new]);
    let indexes = [Index::of(old), Index::of(new)];
    let mut groups: BTreeMap<Key<'a>, Group<'a>> = BTreeMap::new();
    for container in world.containers.values() {
        let lanes = [0, 1].map(|when: usize| indexes[when].applying(container));
        let addresses: Vec<_> = world.addresses(container).collect();
        let parts = named.parts(world, container);
        let alone = named.containers.contains(container.name.container()) || !parts.is_empty();
        let labels = container.labels.iter();
        let key = Key {
            zone: &container.zone,
            name: alone.then_some(&container.name),
            labels: labels
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .filter(|label| named.labels.contains(label))
                .collect(),
            addresses: addresses.iter().map(|a| named.stretch(*a)).collect(),
            publish: &container.publish,
            files: [0, 1].map(|when: usize| lanes[when].0.iter().map(|(key, _)| *key).collect()),
        };
        let group = groups.entry(key).or_insert_with(|| Group {
            one: container,
            names: Vec::new(),
            lanes,
            parts,
        });
        group.names.push(&container.name);
    }
    groups.into_values().collect()
}
