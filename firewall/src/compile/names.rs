//! Names of the world → groups.
//!
//! An address that was resolved for a container is, to its `dns:` rules, a member of a group: that of all the `dns:` peers
//! for whose names the container was given it. Most addresses are of one peer only. So an answer costs one element for
//! each of its addresses, whatever the rules about the name say, and a rule one for each group, as it does for labels.
//!
//! Groups are those of one container: what another one's rules say of the same names are elements of that one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use zone::PortName;

use super::numbers::Pool;
use crate::model::{Resolved, name_matches};
use crate::policy::{Peer, PolicyFile};
use crate::sets::{Action, group};

/// Groups of one container at most.
const MAX_GROUPS: usize = 256;

/// `dns:` peers as files write them, without the kind.
type Patterns = BTreeSet<Box<str>>;

/// The groups of all containers.
#[derive(Debug, Default, Clone)]
pub(super) struct Names {
    pool: Pool,
    of: BTreeMap<PortName, Groups>,
}

/// The groups of one container.
#[derive(Debug, Default, Clone)]
struct Groups {
    /// Of its rules.
    patterns: Patterns,
    /// Sets of patterns that some address was resolved for, with their numbers. They stay until rules change.
    held: BTreeMap<Patterns, u32>,
    of: BTreeMap<IpAddr, u32>,
}

impl Groups {
    fn matching(&self, names: &BTreeMap<Box<str>, u64>) -> Patterns {
        let matching = self.patterns.iter().filter(|pattern| {
            let mut names = names.keys();
            names.any(|name| name_matches(pattern, name))
        });
        matching.cloned().collect()
    }
}

/// The `dns:` peers of some files that open something.
pub(super) fn patterns(files: &[Arc<PolicyFile>]) -> Patterns {
    let sections = files.iter().filter_map(|file| file.egress.as_ref());
    let rules = sections.flat_map(|section| &section.rules);
    let allows = rules.filter(|rule| rule.action == Action::Allow);
    let peers = allows.flat_map(|rule| &rule.peers);
    peers
        .filter_map(|peer| match peer {
            Peer::Dns(pattern) => Some(pattern.as_str().into()),
            _ => None,
        })
        .collect()
}

impl Names {
    /// Whether it was told the patterns of a container's rules.
    pub(super) fn knows(&self, owner: &PortName) -> bool {
        self.of.contains_key(owner)
    }

    /// Takes the patterns of a container's rules, and gives each of its addresses its group.
    pub(super) fn set(
        &mut self,
        owner: &PortName,
        patterns: Patterns,
        resolved: Option<&Resolved>,
    ) {
        self.remove(owner);
        if patterns.is_empty() {
            return;
        }
        let groups = Groups {
            patterns,
            ..Groups::default()
        };
        self.of.insert(owner.clone(), groups);
        for (address, names) in resolved.into_iter().flatten() {
            self.put(owner, *address, names);
        }
    }

    /// Forgets a container.
    pub(super) fn remove(&mut self, owner: &PortName) {
        let Some(groups) = self.of.remove(owner) else {
            return;
        };
        for number in groups.held.into_values() {
            self.pool.give_back(number - group::NAMES_BASE);
        }
    }

    /// Whether a rule in force is about a name.
    pub(super) fn are_about(&self, owner: &PortName, name: &str) -> bool {
        self.of.get(owner).is_some_and(|groups| {
            let mut patterns = groups.patterns.iter();
            patterns.any(|pattern| name_matches(pattern, name))
        })
    }

    /// Whether an address with these names makes a new group.
    pub(super) fn is_new(&self, owner: &PortName, names: &BTreeMap<Box<str>, u64>) -> bool {
        self.of.get(owner).is_some_and(|groups| {
            let wanted = groups.matching(names);
            !wanted.is_empty() && !groups.held.contains_key(&wanted)
        })
    }

    /// An address has these names now; without any that a rule is about it has no group.
    pub(super) fn put(
        &mut self,
        owner: &PortName,
        address: IpAddr,
        names: &BTreeMap<Box<str>, u64>,
    ) {
        let Some(groups) = self.of.get_mut(owner) else {
            return;
        };
        groups.of.remove(&address);
        let wanted = groups.matching(names);
        let number = match groups.held.get(&wanted) {
            Some(number) => *number,
            // of more than that nobody thought who wrote the rules; it stays closed
            None if wanted.is_empty() || groups.held.len() >= MAX_GROUPS => return,
            None => group::NAMES_BASE + self.pool.take(),
        };
        groups.held.insert(wanted, number);
        groups.of.insert(address, number);
    }

    /// The group of an address.
    pub(super) fn group(&self, owner: &PortName, address: IpAddr) -> Option<u32> {
        self.of.get(owner)?.of.get(&address).copied()
    }

    /// The groups of all addresses that were resolved for a pattern, and perhaps for others.
    pub(super) fn with<'a>(
        &'a self,
        owner: &PortName,
        pattern: &'a str,
    ) -> impl Iterator<Item = u32> + 'a {
        let held = self.of.get(owner).into_iter().flat_map(|g| &g.held);
        held.filter(move |(set, _)| set.contains(pattern))
            .map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(list: &[&str]) -> BTreeMap<Box<str>, u64> {
        list.iter().map(|name| ((*name).into(), 100)).collect()
    }

    #[test]
    fn addresses_of_the_same_peers_are_one_group() {
        let web: PortName = "web".parse().unwrap();
        let at = |n: u8| IpAddr::from([198, 51, 100, n]);
        let mut all = Names::default();
        let patterns = ["*.example.org", "www.example.org"].map(Into::into).into();
        let resolved = [(at(1), names(&["a.example.org"]))].into();
        all.set(&web, patterns, Some(&resolved));
        let wide = all.group(&web, at(1)).unwrap();
        assert!(!all.is_new(&web, &names(&["b.example.org"])));
        all.put(&web, at(2), &names(&["b.example.org"]));
        assert_eq!(all.group(&web, at(2)), Some(wide));
        assert!(all.is_new(&web, &names(&["www.example.org"])));
        all.put(&web, at(3), &names(&["www.example.org"]));
        let both = all.group(&web, at(3)).unwrap();
        assert_ne!(both, wide);
        let with = |all: &Names, p: &str| all.with(&web, p).collect::<BTreeSet<_>>();
        assert_eq!(with(&all, "*.example.org"), [wide, both].into());
        assert_eq!(with(&all, "www.example.org"), [both].into());
        // a name that comes beside another one, and names that go
        all.put(&web, at(1), &names(&["a.example.org", "www.example.org"]));
        assert_eq!(all.group(&web, at(1)), Some(both));
        all.put(&web, at(1), &names(&[]));
        assert_eq!(all.group(&web, at(1)), None);
        assert!(!all.is_new(&web, &names(&["elsewhere.org"])));
        all.put(&web, at(2), &names(&["elsewhere.org"]));
        assert_eq!(all.group(&web, at(2)), None);
        let db: PortName = "db".parse().unwrap();
        assert_eq!(all.group(&db, at(3)), None);
        all.remove(&web);
        assert_eq!(all.group(&web, at(3)), None);
        assert_eq!(all.pool.take() + all.pool.take(), 1, "all were given back");
    }
}
