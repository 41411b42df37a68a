//! World and policies → set elements, event by event.
//!
//! ```text
//! event ─► who is concerned (indexes) ─► their elements before ─┐
//!                                  └──► their elements after  ─┴► difference ─► Changes
//! ```
//!
//! Elements are not kept: a container's elements are a pure function of the world, the policies and the
//! numbers given to zones and sets of labels, so what an event removes is computed from how things were.
//! That takes no memory, and an event after another can never drift from what a fresh start would
//! give (a property test holds the two together).
//!
//! What an event costs depends on those it concerns and on nobody else: indexes lead from a container to
//! its files, from a name, zone or label to the files with rules about it, and from a file to its
//! containers.

mod bandwidth;
mod bundles;
mod ceiling;
mod collect;
mod condition;
mod difference;
mod edit;
mod hits;
mod identities;
mod index;
mod links;
mod names;
mod nets;
mod numbers;
mod owner;
pub(crate) mod publish;
mod ranges;
mod renumber;
mod resolved;
mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use zone::{PortName, ZoneName};

use crate::model::{Clock, Container, Publish, World, Zone};
use crate::policy::{AppliesTo, PolicyFile, PolicySet};
use crate::sets::{Changes, Element, Limit};
use bundles::Bundles;
use condition::Conditions;
pub use hits::RuleElements;
use identities::Identities;
use index::{FileIndex, FileKey};
use names::Names;
use numbers::ZoneNumbers;
use owner::{Applying, Focus, View};

/// World and policies, and the elements that follow from them.
///
/// The caller sees to it that no address, interface or host port belongs to two containers at once
/// ([`Firewall::publish_conflict`] tells for host ports), and that subnets of zones do not overlap.
#[derive(Debug, Default, Clone)]
pub struct Firewall {
    world: World,
    policies: PolicySet,
    files: FileIndex,
    zones: ZoneNumbers,
    labels: Identities,
    conditions: Conditions,
    names: Names,
    bundles: Bundles,
    /// When addresses of names end: the first of the names of each.
    lapses: BTreeSet<(u64, PortName, IpAddr)>,
    /// Containers of each zone, also of zones that do not exist (any more).
    members: BTreeMap<ZoneName, BTreeSet<PortName>>,
    host_ports: publish::HostPorts,
    /// Whether published ports on `::1` are forwarded in user space.
    user_loopback: bool,
    /// Addresses given back since verdicts were last forgotten: connections may remember a verdict about
    /// whoever had them.
    given_back: BTreeSet<IpAddr>,
}

impl Firewall {
    /// An empty world without policies.
    pub fn new() -> Self {
        Self::default()
    }

    /// The world as the events so far have made it.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The policies in force.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// The mark that stands for a zone's containers in group keys, while the zone exists.
    pub fn zone_group(&self, zone: &ZoneName) -> Option<u32> {
        self.zones.group(zone)
    }

    /// What a mark in group keys stands for, when it stands for containers with labels: those of them that some
    /// rule names.
    pub fn identity(&self, mark: u32) -> Option<&BTreeMap<String, String>> {
        self.labels.identity(mark)
    }

    /// Tells the host's own addresses outside the zones. Changes no element: in the kernel the hook
    /// knows.
    pub fn set_host(&mut self, addresses: Vec<IpAddr>) {
        self.world.host = addresses;
    }

    /// Somebody who already listens on one of the host ports that `wanted` would take, and where.
    pub fn publish_conflict(&self, wanted: &Publish) -> Option<(&PortName, &Publish)> {
        self.host_ports.conflict(wanted)
    }

    /// Whether two would listen on one host port.
    pub fn publish_meet(a: &Publish, b: &Publish) -> bool {
        publish::meet(a, b)
    }

    /// Whether published ports on `::1` are forwarded in user space.
    pub fn user_loopback(&self) -> bool {
        self.user_loopback
    }

    /// Says whether published ports on `::1` are forwarded in user space; else the kernel translates them, which
    /// needs the route that zone bridges have.
    pub fn set_user_loopback(&mut self, user: bool) -> Changes {
        let mut changes = Changes::default();
        if self.user_loopback != user {
            self.user_loopback = user;
            let list = if user {
                &mut changes.add
            } else {
                &mut changes.remove
            };
            list.push(publish::user_loopback());
        }
        changes
    }

    /// A zone comes, or is not any more what it was.
    pub fn set_zone(&mut self, zone: Zone) -> Changes {
        if self.world.zones.get(&zone.name) == Some(&zone) {
            return Changes::default();
        }
        let name = zone.name.clone();
        self.zone_event(&name, |firewall| {
            firewall.zones.add(&zone.name);
            firewall.world.zones.insert(zone.name.clone(), zone);
        })
    }

    /// A zone goes. Its containers, if any are left, lose their addresses: nothing passes.
    pub fn remove_zone(&mut self, name: &ZoneName) -> Changes {
        if !self.world.zones.contains_key(name) {
            return Changes::default();
        }
        self.zone_event(name, |firewall| {
            firewall.zones.remove(name);
            firewall.world.zones.remove(name);
        })
    }

    fn zone_event(&mut self, name: &ZoneName, event: impl FnOnce(&mut Self)) -> Changes {
        let mut concerned: BTreeSet<PortName> = self.members.get(name).cloned().unwrap_or_default();
        // rules may name the zone, or one of its containers, whose addresses come and go with it
        let members = concerned.clone();
        let naming_members = members.iter().flat_map(|member| self.files.naming(member));
        for file in self.files.naming_zone(name).chain(naming_members) {
            concerned.extend(self.targets_of(file));
        }
        let elements = |firewall: &Self| {
            let mut out = Vec::new();
            if let Some(zone) = firewall.world.zones.get(name) {
                links::zone(zone, &mut out);
            }
            for container in concerned
                .iter()
                .filter_map(|n| firewall.world.containers.get(n))
            {
                firewall.all_of(container, &mut out);
            }
            out
        };
        let before = elements(self);
        event(self);
        let mut changes = Changes::default();
        let after = elements(self);
        self.settle(before, after, &mut changes);
        // addresses may have become, or ceased to be, the world's
        changes.forget = !changes.is_empty();
        self.note(changes)
    }

    /// A container comes, or is not any more what it was.
    pub fn attach(&mut self, mut container: Container) -> Changes {
        let mut seen = BTreeSet::new();
        container.addresses.retain(|address| seen.insert(*address));
        let name = container.name.clone();
        let old = self.world.containers.get(&name).cloned();
        if old.as_ref() == Some(&container) {
            return Changes::default();
        }
        let fresh = old.is_none();
        // A packet to it that is being judged meets a newcomer's groups half way: denied by none yet,
        // allowed by one already.
        let denied = self.files.denies();
        let remembered = fresh && self.may_be_remembered(&container);
        let mut changes = self.container_event(old, Some(container));
        changes.forget = remembered || denied || !fresh;
        self.note(changes)
    }

    /// A container goes.
    pub fn detach(&mut self, name: &PortName) -> Changes {
        let Some(old) = self.world.containers.get(name).cloned() else {
            return Changes::default();
        };
        // not a tightening: its port is closed, and nobody is behind its addresses. They count once
        // somebody gets them again.
        self.given_back.extend(self.world.keys(&old));
        self.given_back.extend(&old.addresses);
        self.container_event(Some(old), None)
    }

    /// Whether a connection may remember a verdict that was passed when an address of a newcomer was
    /// somebody else's or nobody's.
    fn may_be_remembered(&self, container: &Container) -> bool {
        let given_back = |address: &IpAddr| self.given_back.contains(address);
        container.addresses.iter().any(given_back)
            || self.world.keys(container).iter().any(given_back)
            // while it was nobody's, it was open to rules about networks only
            || self.world.networks(container).into_iter().any(|net| self.files.allows(net))
    }

    fn container_event(&mut self, old: Option<Container>, new: Option<Container>) -> Changes {
        let mut changes = Changes::default();
        if let (Some(_), Some(new)) = (&old, &new) {
            // everything may differ: as if it went and came
            let new = new.clone();
            let name = new.name.clone();
            let resolved = self.world.resolved.get(&name).cloned();
            let went = self.container_event(old, None);
            let mut came = self.container_event(None, Some(new));
            if let Some(resolved) = resolved {
                came.add.extend(self.resolve_again(&name, resolved).add);
            }
            difference::between(
                [went.remove, came.remove].concat(),
                [went.add, came.add].concat(),
                &mut changes,
            );
            return changes;
        }
        let Some(subject) = old.clone().or_else(|| new.clone()) else {
            return changes;
        };
        // whether its identity begins or ends with it
        let (identity, labels_too) = match &new {
            Some(_) => self.labels.coming(&subject.labels),
            None => self.labels.going(&subject.name),
        };
        let mut files: BTreeSet<&FileKey> = self.files.naming(&subject.name).collect();
        if labels_too {
            files.extend(self.files.naming_labels(&identity));
        }
        let mut concerned: BTreeSet<PortName> = BTreeSet::new();
        for file in files {
            concerned.extend(self.targets_of(file));
        }
        concerned.remove(&subject.name);
        let elements = |firewall: &Self| {
            let mut out = Vec::new();
            if let Some(container) = firewall.world.containers.get(&subject.name) {
                firewall.all_of(container, &mut out);
            }
            let group = firewall.labels.group(&subject.name);
            let keys = firewall.world.keys(&subject);
            let focus = Focus::Peer {
                peer: &subject,
                keys: &keys,
                group: group.filter(|_| labels_too),
            };
            for container in concerned
                .iter()
                .filter_map(|n| firewall.world.containers.get(n))
            {
                firewall.policy_of(container, focus, &mut out);
            }
            out
        };
        let before = elements(self);
        match new {
            Some(container) => {
                self.insert(container);
                changes.add = self.enter(&subject.name);
            }
            None => {
                self.take_out(&subject);
                changes.remove = self.quit(&subject.name);
            }
        }
        let after = elements(self);
        self.settle(before, after, &mut changes);
        changes
    }

    fn insert(&mut self, container: Container) {
        self.labels.add(&container.labels, &container.name);
        self.host_ports.add(&container);
        let members = self.members.entry(container.zone.clone()).or_default();
        members.insert(container.name.clone());
        self.world
            .containers
            .insert(container.name.clone(), container);
    }

    fn take_out(&mut self, container: &Container) {
        self.world.containers.remove(&container.name);
        self.unresolve(&container.name);
        self.labels.remove(&container.labels, &container.name);
        self.host_ports.remove(container);
        if let Some(members) = self.members.get_mut(&container.zone) {
            members.remove(&container.name);
            if members.is_empty() {
                self.members.remove(&container.zone);
            }
        }
    }

    /// The time of the week moves on, or jumps. Rules with hours come and go.
    pub fn set_clock(&mut self, clock: Clock) -> Changes {
        let before = std::mem::replace(&mut self.world.clock, clock);
        let mut changes = Changes::default();
        for file in self.conditions.timed() {
            let (mut old, mut new) = (Vec::new(), Vec::new());
            self.conditions.elements(file, before, &mut old);
            self.conditions.elements(file, clock, &mut new);
            // what stays keeps the time it was given
            for element in &old {
                if !new.iter().any(|other| other.key == element.key) {
                    changes.remove.push(element.clone());
                }
            }
            new.retain(|element| !old.iter().any(|other| other.key == element.key));
            changes.add.append(&mut new);
        }
        changes.forget = !changes.is_empty();
        changes
    }

    /// Whether some rule has hours.
    pub fn has_hours(&self) -> bool {
        self.conditions.timed().next().is_some()
    }

    /// In how many minutes, from the beginning of this one, [`Firewall::set_clock`] is due: when the next
    /// rule begins or ceases to count. `None` while no rule has hours.
    pub fn clock_due(&self) -> Option<u16> {
        let rules = self.conditions.timed().flat_map(|file| file.rules());
        let windows = rules.filter_map(|rule| rule.time.as_ref());
        windows
            .filter_map(|window| window.changes_in(self.world.clock))
            .min()
    }

    /// The limits that conditional rules have, with their numbers in [`crate::sets::SetId::Limit`].
    pub fn limits(&self) -> Vec<(u32, Limit)> {
        self.conditions.limits()
    }

    /// Every element, for a rebuild. The same world, policies and history give the same list.
    pub fn elements(&self) -> Vec<Element> {
        let mut all = Vec::new();
        all.extend(self.user_loopback.then(publish::user_loopback));
        for zone in self.world.zones.values() {
            links::zone(zone, &mut all);
        }
        for file in self.policies.0.values() {
            self.conditions.elements(file, self.world.clock, &mut all);
        }
        for container in self.world.containers.values() {
            self.all_of(container, &mut all);
        }
        for files in self.bundles.all() {
            self.bundle(files, &mut all);
        }
        self.bundles.nothing_fresh();
        all
    }

    /// The elements that exist because of one container: guard, membership, translations and its own
    /// policy, also what it shares with others that have the same files. None when it is not attached.
    pub fn elements_of(&self, name: &PortName) -> Vec<Element> {
        let mut elements = Vec::new();
        if let Some(container) = self.world.containers.get(name) {
            self.all_of(container, &mut elements);
        }
        if let Some(files) = self.bundles.files_of(name) {
            self.bundle(files, &mut elements);
        }
        elements
    }

    /// The files in force for a container.
    pub fn applying(&self, container: &Container) -> Vec<Arc<PolicyFile>> {
        self.files.applying(&self.policies, container)
    }

    fn view(&self) -> View<'_> {
        View {
            world: &self.world,
            zones: &self.zones,
            labels: &self.labels,
            conditions: &self.conditions,
            names: &self.names,
            bundles: &self.bundles,
            keep: true,
        }
    }

    /// What a container's policy is made of.
    fn files_of(&self, container: &Container) -> Applying {
        let bundle = self.bundles.files_of(&container.name);
        Applying {
            enforced: self.files.applying(&self.policies, container),
            trial: self.files.on_trial(&self.policies, container),
            nets: bundle
                .map(|files| self.bundles.nets(files))
                .unwrap_or_default(),
            bundle: bundle.cloned().unwrap_or_else(|| Arc::new([])),
        }
    }

    /// All elements that exist because of a container, but for those of others' rules about it.
    fn all_of(&self, container: &Container, out: &mut Vec<Element>) {
        links::container(self.view(), container, out);
        publish::translations(&self.world, container, out);
        self.policy_of(container, Focus::Everything, out);
    }

    fn policy_of(&self, container: &Container, focus: Focus<'_>, out: &mut Vec<Element>) {
        owner::elements(
            self.view(),
            container,
            &self.files_of(container),
            focus,
            out,
        );
    }

    /// Attached containers to which a file applies.
    fn targets_of(&self, key: &FileKey) -> Vec<PortName> {
        let file = self.policies.0.get(&**key);
        file.map(|file| self.targets(&file.applies_to))
            .unwrap_or_default()
    }

    fn targets(&self, target: &AppliesTo) -> Vec<PortName> {
        let mut names = if let Some(name) = &target.container {
            let ports = self.world.ports_of(name.as_str());
            ports.map(|port| port.name.clone()).collect()
        } else if !target.labels.is_empty() {
            self.labels.candidates(&target.labels)
        } else if let Some(zone) = &target.zone {
            let members = self.members.get(zone);
            members.into_iter().flatten().cloned().collect()
        } else {
            Vec::new()
        };
        names.retain(|name| {
            let container = self.world.containers.get(name);
            container.is_some_and(|container| target.matches(container))
        });
        names
    }

    /// Once verdicts are forgotten, nobody remembers one about the former owner of an address.
    fn note(&mut self, changes: Changes) -> Changes {
        if changes.forget {
            self.given_back.clear();
        }
        changes
    }
}
