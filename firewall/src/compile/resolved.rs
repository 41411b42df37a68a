//! What the gateway's resolver gave containers, for as long as it holds.

use std::collections::BTreeMap;
use std::net::IpAddr;

use zone::PortName;

use super::owner::Focus;
use super::{Firewall, View, names};
use crate::model::{Container, Resolved};
use crate::sets::{Changes, Element, Family, Key, Life, SetId};

/// Addresses of names that are open to one container at one time. Of more, those that end first give way.
const MAX_ADDRESSES: usize = 1024;
/// Names of one address, likewise.
const MAX_NAMES: usize = 16;
/// Seconds that an element outlives what it stands for, so that it is there still when [`Firewall::lapse`] removes it: it
/// is for a daemon that is dead by then.
const GRACE: u64 = 2;

/// An address, and the names that it has from now on.
type Update = (IpAddr, BTreeMap<Box<str>, u64>);

impl Firewall {
    /// The resolver is about to give a container these addresses for a name: each is open to it until a second of the
    /// kernel's monotonic clock, as far as its `dns:` rules say. What is open for longer already stays so.
    ///
    /// That they are addresses of the world is looked at with each packet as well. A name that no rule in force is about is
    /// noted, for what files on trial have to say; it opens nothing, and takes no room from names that do.
    pub fn open(&mut self, owner: &PortName, name: &str, addresses: &[(IpAddr, u64)]) -> Changes {
        let Some(container) = self.world.containers.get(owner) else {
            return Changes::default();
        };
        if !self.names.knows(owner) {
            let files = self.files.applying(&self.policies, container);
            let resolved = self.world.resolved.get(owner);
            self.names.set(owner, names::patterns(&files), resolved);
        }
        let known = self.world.resolved.get(owner);
        let mut updates: BTreeMap<IpAddr, BTreeMap<Box<str>, u64>> = BTreeMap::new();
        for (address, until) in addresses {
            let has = || known.and_then(|all| all.get(address));
            let names = updates
                .entry(*address)
                .or_insert_with(|| has().cloned().unwrap_or_default());
            if names.get(name).is_some_and(|old| old >= until) {
                continue;
            }
            if names.len() >= MAX_NAMES && !names.contains_key(name) {
                let open = |name: &str| self.names.are_about(owner, name);
                let first = names
                    .iter()
                    .map(|(name, until)| (open(name), *until, name.clone()))
                    .min();
                match first {
                    Some((held, _, first)) if open(name) || !held => names.remove(&first),
                    _ => continue,
                };
            }
            names.insert(name.into(), *until);
        }
        updates.retain(|address, names| known.and_then(|all| all.get(address)) != Some(names));
        if updates.is_empty() {
            return Changes::default();
        }
        self.make_room(owner, &mut updates);
        self.resolve(owner, updates.into_iter().take(MAX_ADDRESSES).collect())
    }

    /// Ends what does not hold any more at a second of the kernel's monotonic clock. Running connections go on: who may
    /// open one is what an answer is about.
    pub fn lapse(&mut self, now: u64) -> Changes {
        let mut changes = Changes::default();
        while let Some((until, owner, address)) = self.lapses.first().cloned() {
            if until > now {
                break;
            }
            let names = self
                .world
                .resolved
                .get(&owner)
                .and_then(|r| r.get(&address));
            let mut names = names.cloned().unwrap_or_default();
            names.retain(|_, until| *until > now);
            self.lapses.pop_first();
            let more = self.resolve(&owner, vec![(address, names)]);
            changes.remove.extend(more.remove);
            changes.add.extend(more.add);
        }
        changes
    }

    /// Ends all that names opened to a container.
    pub fn close(&mut self, owner: &PortName) -> Changes {
        let resolved = self.world.resolved.get(owner);
        let addresses = resolved.into_iter().flat_map(|all| all.keys());
        let updates = addresses.map(|a| (*a, BTreeMap::new())).collect();
        self.resolve(owner, updates)
    }

    /// When [`Firewall::lapse`] is due.
    pub fn lapse_due(&self) -> Option<u64> {
        self.lapses.first().map(|(until, ..)| *until)
    }

    fn make_room(&self, owner: &PortName, updates: &mut BTreeMap<IpAddr, BTreeMap<Box<str>, u64>>) {
        let Some(known) = self.world.resolved.get(owner) else {
            return;
        };
        let new = updates.keys().filter(|a| !known.contains_key(*a)).count();
        let Some(excess) = (known.len() + new).checked_sub(MAX_ADDRESSES) else {
            return;
        };
        let open = |names: &BTreeMap<Box<str>, u64>| {
            let mut names = names.keys();
            names.any(|name| self.names.are_about(owner, name))
        };
        let mut old: Vec<_> = known
            .iter()
            .filter(|(address, _)| !updates.contains_key(*address))
            .map(|(address, names)| (open(names), first_end(names), *address))
            .collect();
        old.sort_unstable();
        for (held, _, address) in old.into_iter().take(excess) {
            let noted = |(address, names): &(&IpAddr, &BTreeMap<_, _>)| {
                !known.contains_key(*address) && !open(names)
            };
            let noted = updates.iter().find(noted).map(|(address, _)| *address);
            match noted.filter(|_| held) {
                Some(noted) => updates.remove(&noted),
                None => updates.insert(address, BTreeMap::new()),
            };
        }
    }

    /// Gives addresses other names.
    fn resolve(&mut self, owner: &PortName, updates: Vec<Update>) -> Changes {
        let mut changes = Changes::default();
        let Some(container) = self.world.containers.get(owner).cloned() else {
            return changes;
        };
        let new_group = updates
            .iter()
            .any(|(_, names)| self.names.is_new(owner, names));
        let elements = |firewall: &Self| {
            let mut out = Vec::new();
            if new_group {
                firewall.policy_of(&container, Focus::Everything, &mut out);
            } else {
                let addresses = updates.iter().map(|(address, _)| *address);
                of(firewall.view(), &container, addresses, &mut out);
            }
            out
        };
        let before = elements(self);
        for (address, names) in &updates {
            self.names.put(owner, *address, names);
            let resolved = self.world.resolved.entry(owner.clone()).or_default();
            let lapse = |names: &_| (first_end(names), owner.clone(), *address);
            let old = match names.is_empty() {
                true => resolved.remove(address),
                false => resolved.insert(*address, names.clone()),
            };
            if let Some(old) = old {
                self.lapses.remove(&lapse(&old));
            }
            if !names.is_empty() {
                self.lapses.insert(lapse(names));
            }
        }
        if self
            .world
            .resolved
            .get(owner)
            .is_some_and(Resolved::is_empty)
        {
            self.world.resolved.remove(owner);
        }
        let after = elements(self);
        self.settle(before, after, &mut changes);
        changes
    }

    /// All that was resolved for a container.
    pub(super) fn unresolve(&mut self, owner: &PortName) {
        self.names.remove(owner);
        let resolved = self.world.resolved.remove(owner).unwrap_or_default();
        for (address, names) in resolved {
            self.lapses
                .remove(&(first_end(&names), owner.clone(), address));
        }
    }

    /// What was resolved for it before it became another version of itself.
    pub(super) fn resolve_again(&mut self, owner: &PortName, resolved: Resolved) -> Changes {
        if let Some(container) = self.world.containers.get(owner) {
            let files = self.files.applying(&self.policies, container);
            self.names.set(owner, names::patterns(&files), None);
        }
        self.resolve(owner, resolved.into_iter().collect())
    }
}

/// When the first of some names of an address ends.
fn first_end(names: &BTreeMap<Box<str>, u64>) -> u64 {
    names.values().copied().min().unwrap_or_default()
}

/// The elements of addresses that were resolved for a container, appended to `out`.
pub(super) fn of(
    view: View<'_>,
    container: &Container,
    addresses: impl Iterator<Item = IpAddr>,
    out: &mut Vec<Element>,
) {
    let Some(resolved) = view.world.resolved.get(&container.name) else {
        return;
    };
    let own: Vec<IpAddr> = view.world.keys(container);
    for address in addresses {
        let group = view.names.group(&container.name, address);
        let (Some(group), Some(names)) = (group, resolved.get(&address)) else {
            continue;
        };
        // What is noted beside them ends nothing.
        let about = |name: &str| view.names.are_about(&container.name, name);
        let ends = names.iter().filter(|(name, _)| about(name));
        let end = ends.map(|(_, until)| *until).min().unwrap_or_default();
        let family = Family::of(address);
        for own in own.iter().filter(|own| Family::of(**own) == family) {
            let key = Key::new().ip(*own).ip(address);
            out.push(Element {
                timeout: Some(Life::Until(end + GRACE)),
                ..Element::entry(SetId::Resolved(family), key, Key::new().mark(group))
            });
        }
    }
}
