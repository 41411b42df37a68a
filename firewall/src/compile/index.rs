//! Which files apply to a container, and which files an event concerns, without asking every file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use zone::{ContainerName, PortName, ZoneName};

use super::bundles::Files as Bundled;
use super::identities::Pair;
use super::numbers::Labels;
use crate::model::Container;
use crate::policy::{AppliesTo, Mode, Peer, PolicyFile, PolicySet};
use crate::sets::Action;

/// A file's key in the [`PolicySet`].
pub(super) type FileKey = Arc<str>;

/// One entry of an index by `K`: the files there.
type Files<K> = BTreeMap<K, BTreeSet<FileKey>>;

/// Files by those to whom they apply.
#[derive(Debug, Default, Clone)]
struct Targets {
    /// Files that apply to this container (if their other keys match).
    by_container: Files<ContainerName>,
    /// Files that name no container and apply to this zone (if their labels match).
    by_zone: Files<ZoneName>,
    /// Files that name neither and apply to containers with this label, which is their first one.
    by_label: Files<Pair>,
}

/// Indexes of the files.
#[derive(Debug, Default, Clone)]
pub(super) struct FileIndex {
    /// Files in force, by those to whom they apply.
    enforced: Targets,
    /// Files on trial, by those to whom they apply.
    trial: Targets,
    /// Files with a rule about this container.
    naming: Files<ContainerName>,
    /// Files with a rule about this zone.
    naming_zone: Files<ZoneName>,
    /// Files with a rule about this label.
    naming_label: Files<Pair>,
    /// Networks that rules allow, and how often.
    allowed: BTreeMap<IpNet, usize>,
    /// How many rules in force deny.
    denies: usize,
}

fn insert<K: Ord>(files: &mut Files<K>, key: K, file: &FileKey) {
    files.entry(key).or_default().insert(file.clone());
}

fn remove<K: Ord>(files: &mut Files<K>, key: &K, file: &FileKey) {
    if let Some(set) = files.get_mut(key) {
        set.remove(file);
        if set.is_empty() {
            files.remove(key);
        }
    }
}

impl Targets {
    fn add(&mut self, key: &FileKey, target: &AppliesTo) {
        if let Some(name) = &target.container {
            insert(&mut self.by_container, name.clone(), key);
        } else if let Some(zone) = &target.zone {
            insert(&mut self.by_zone, zone.clone(), key);
        } else if let Some((label, value)) = target.labels.first_key_value() {
            insert(&mut self.by_label, (label.clone(), value.clone()), key);
        }
    }

    fn remove(&mut self, key: &FileKey, target: &AppliesTo) {
        if let Some(name) = &target.container {
            remove(&mut self.by_container, name, key);
        } else if let Some(zone) = &target.zone {
            remove(&mut self.by_zone, zone, key);
        } else if let Some((label, value)) = target.labels.first_key_value() {
            remove(&mut self.by_label, &(label.clone(), value.clone()), key);
        }
    }

    /// The files that apply to a container, in the order of their keys.
    fn applying(&self, policies: &PolicySet, container: &Container) -> Vec<Arc<PolicyFile>> {
        let keys = self.keys(policies, container);
        keys.filter_map(|key| policies.0.get(&**key))
            .cloned()
            .collect()
    }

    fn keys<'a>(
        &'a self,
        policies: &'a PolicySet,
        container: &'a Container,
    ) -> impl Iterator<Item = &'a FileKey> {
        let mut keys: BTreeSet<&FileKey> = BTreeSet::new();
        let named = self.by_container.get(container.name.container());
        keys.extend(named.into_iter().flatten());
        keys.extend(self.by_zone.get(&container.zone).into_iter().flatten());
        if !self.by_label.is_empty() {
            for (label, value) in &container.labels {
                let pair = (label.clone(), value.clone());
                keys.extend(self.by_label.get(&pair).into_iter().flatten());
            }
        }
        keys.into_iter().filter(|key| {
            let file = policies.0.get(&***key);
            file.is_some_and(|file| file.applies_to.matches(container))
        })
    }
}

impl FileIndex {
    pub(super) fn add(&mut self, key: &FileKey, file: &PolicyFile) {
        match file.mode {
            Mode::Enforce => self.enforced.add(key, &file.applies_to),
            Mode::Audit => return self.trial.add(key, &file.applies_to),
        }
        for rule in file.rules() {
            self.denies += usize::from(rule.action == Action::Deny);
            for peer in &rule.peers {
                match peer {
                    Peer::Container(name) => insert(&mut self.naming, name.clone(), key),
                    Peer::Zone(zone) => insert(&mut self.naming_zone, zone.clone(), key),
                    Peer::Label(label, value) => {
                        insert(&mut self.naming_label, (label.clone(), value.clone()), key);
                    }
                    Peer::Net(net) if rule.action == Action::Allow => {
                        *self.allowed.entry(*net).or_default() += 1;
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn remove(&mut self, key: &FileKey, file: &PolicyFile) {
        match file.mode {
            Mode::Enforce => self.enforced.remove(key, &file.applies_to),
            Mode::Audit => return self.trial.remove(key, &file.applies_to),
        }
        for rule in file.rules() {
            self.denies -= usize::from(rule.action == Action::Deny);
            for peer in &rule.peers {
                match peer {
                    Peer::Container(name) => remove(&mut self.naming, name, key),
                    Peer::Zone(zone) => remove(&mut self.naming_zone, zone, key),
                    Peer::Label(label, value) => {
                        remove(&mut self.naming_label, &(label.clone(), value.clone()), key);
                    }
                    Peer::Net(net) if rule.action == Action::Allow => {
                        if let Some(count) = self.allowed.get_mut(net) {
                            *count -= 1;
                            if *count == 0 {
                                self.allowed.remove(net);
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// The files in force that apply to a container, in the order of their keys.
    pub(super) fn applying(
        &self,
        policies: &PolicySet,
        container: &Container,
    ) -> Vec<Arc<PolicyFile>> {
        self.enforced.applying(policies, container)
    }

    /// The keys of the same.
    pub(super) fn bundle_of(&self, policies: &PolicySet, container: &Container) -> Bundled {
        self.enforced.keys(policies, container).cloned().collect()
    }

    /// Whether a file on trial applies to a container.
    pub(super) fn on_trial(&self, policies: &PolicySet, container: &Container) -> bool {
        !self.trial.applying(policies, container).is_empty()
    }

    /// Files with a rule about a container by name.
    pub(super) fn naming(&self, name: &PortName) -> impl Iterator<Item = &FileKey> {
        self.naming.get(name.container()).into_iter().flatten()
    }

    /// Files with a rule about a zone.
    pub(super) fn naming_zone(&self, zone: &ZoneName) -> impl Iterator<Item = &FileKey> {
        self.naming_zone.get(zone).into_iter().flatten()
    }

    /// Files with a rule about one of these labels.
    pub(super) fn naming_labels(&self, labels: &Labels) -> impl Iterator<Item = &FileKey> {
        labels.iter().flat_map(|(label, value)| {
            let pair = (label.clone(), value.clone());
            self.naming_label.get(&pair).into_iter().flatten()
        })
    }

    /// Whether some file has a rule about a label.
    pub(super) fn names_label(&self, pair: &Pair) -> bool {
        self.naming_label.contains_key(pair)
    }

    /// Whether some rule in force denies.
    pub(super) fn denies(&self) -> bool {
        self.denies > 0
    }

    /// Whether some rule of somebody allows a network that shares an address with this one.
    pub(super) fn allows(&self, net: IpNet) -> bool {
        let around = || {
            (0..=net.prefix_len()).any(|length| {
                let wider = IpNet::new(net.addr(), length);
                wider.is_ok_and(|wider| self.allowed.contains_key(&wider.trunc()))
            })
        };
        let within = || {
            let first = IpNet::new(net.network(), 0).unwrap_or(net);
            let last = IpNet::from(net.broadcast());
            self.allowed.range(first..=last).next().is_some()
        };
        !self.allowed.is_empty() && (around() || within())
    }
}
