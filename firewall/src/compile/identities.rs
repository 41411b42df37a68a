//! Numbers for containers as rules tell them apart by label: identities.
//!
//! ```text
//! labels {tier: front, name: web-17} ── only tier=front is named by a rule ──► {tier: front} ──► number
//! ```
//!
//! An identity is the set of those labels of a container that some rule names. Labels that no rule names, such as one
//! of its own that each container has, make no identities: a rule about a label costs one element for each identity
//! with it, and would else cost one for each container.
//!
//! When a rule is the first to name a label, or the last one goes, identities of attached containers change. A packet on
//! its way may have read an old number and not yet looked for it. So this is done in steps, each a batch of its own:
//! first the new numbers get their rules, then the containers get the new numbers, and only some time later the old
//! numbers lose their rules. At each moment either number gives the same verdict.

use std::collections::{BTreeMap, BTreeSet};

use zone::PortName;

use super::numbers::{Labels, Pool};
use crate::model::World;
use crate::sets::group;

/// A label and its value.
pub(super) type Pair = (String, String);

/// A label that rules name, or named.
#[derive(Debug, Default, Clone)]
struct Named {
    /// Some rule names it now.
    wanted: bool,
    /// The numbers of the identities with it.
    numbers: BTreeSet<u32>,
}

/// An identity that has a number.
#[derive(Debug, Clone)]
struct Held {
    identity: Labels,
    members: usize,
}

/// Who has which labels, and the number of what of them counts.
#[derive(Debug, Default, Clone)]
pub(super) struct Identities {
    pool: Pool,
    numbers: BTreeMap<Labels, u32>,
    held: BTreeMap<u32, Held>,
    named: BTreeMap<Pair, Named>,
    /// The number of each attached container.
    of: BTreeMap<PortName, u32>,
    /// Attached containers by each of their labels.
    holders: BTreeMap<Pair, BTreeSet<PortName>>,
    /// Containers whose identity is not the one that their labels make now.
    stale: BTreeSet<PortName>,
    /// Numbers that nobody has any more, or not yet.
    empty: BTreeSet<u32>,
}

fn pairs(labels: &Labels) -> impl Iterator<Item = Pair> {
    labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
}

impl Identities {
    /// The labels of these that some rule names.
    fn counting(&self, labels: &Labels) -> Labels {
        let counts = |pair: &Pair| self.named.get(pair).is_some_and(|named| named.wanted);
        pairs(labels).filter(counts).collect()
    }

    /// The identity that a container with these labels comes to, and whether it is a new one.
    pub(super) fn coming(&self, labels: &Labels) -> (Labels, bool) {
        let identity = self.counting(labels);
        let new = !self.numbers.contains_key(&identity);
        (identity, new)
    }

    /// The identity of a container that goes, and whether it ends with it.
    pub(super) fn going(&self, name: &PortName) -> (Labels, bool) {
        let held = self.of.get(name).and_then(|number| self.held.get(number));
        held.map_or_else(Default::default, |held| {
            (held.identity.clone(), held.members == 1)
        })
    }

    /// A container with these labels is attached.
    pub(super) fn add(&mut self, labels: &Labels, name: &PortName) {
        for pair in pairs(labels) {
            self.holders.entry(pair).or_default().insert(name.clone());
        }
        self.join(name, self.counting(labels));
    }

    /// It is detached.
    pub(super) fn remove(&mut self, labels: &Labels, name: &PortName) {
        for pair in pairs(labels) {
            if let Some(holders) = self.holders.get_mut(&pair) {
                holders.remove(name);
                if holders.is_empty() {
                    self.holders.remove(&pair);
                }
            }
        }
        self.stale.remove(name);
        if let Some(number) = self.leave(name) {
            self.end(number);
        }
    }

    /// The number of an identity, a new one where it has none.
    fn numbered(&mut self, identity: Labels) -> u32 {
        if let Some(number) = self.numbers.get(&identity) {
            return *number;
        }
        let number = group::LABELS_BASE + self.pool.take();
        for pair in pairs(&identity) {
            self.named.entry(pair).or_default().numbers.insert(number);
        }
        self.numbers.insert(identity.clone(), number);
        self.empty.insert(number);
        let members = 0;
        self.held.insert(number, Held { identity, members });
        number
    }

    fn join(&mut self, name: &PortName, identity: Labels) {
        let number = self.numbered(identity);
        if let Some(held) = self.held.get_mut(&number) {
            held.members += 1;
        }
        self.empty.remove(&number);
        self.of.insert(name.clone(), number);
    }

    /// Returns the number when nobody has it any more.
    fn leave(&mut self, name: &PortName) -> Option<u32> {
        let number = self.of.remove(name)?;
        let held = self.held.get_mut(&number)?;
        held.members -= 1;
        if held.members > 0 {
            return None;
        }
        self.empty.insert(number);
        Some(number)
    }

    /// Nobody has the number: it is free.
    fn end(&mut self, number: u32) {
        self.empty.remove(&number);
        let Some(held) = self.held.remove(&number) else {
            return;
        };
        self.numbers.remove(&held.identity);
        for pair in pairs(&held.identity) {
            if let Some(named) = self.named.get_mut(&pair) {
                named.numbers.remove(&number);
                if !named.wanted && named.numbers.is_empty() {
                    self.named.remove(&pair);
                }
            }
        }
        self.pool.give_back(number - group::LABELS_BASE);
    }

    /// Whether some rule names the label, as far as was told.
    pub(super) fn is_wanted(&self, pair: &Pair) -> bool {
        self.named.get(pair).is_some_and(|named| named.wanted)
    }

    /// A rule names the label, or no rule does any more. Containers keep their numbers until
    /// [`Identities::move_in`].
    pub(super) fn want(&mut self, pair: &Pair, wanted: bool, world: &World) {
        let named = self.named.entry(pair.clone()).or_default();
        named.wanted = wanted;
        if !wanted && named.numbers.is_empty() {
            self.named.remove(pair);
        }
        let holders: Vec<_> = self
            .holders
            .get(pair)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        for name in holders {
            let Some(container) = world.containers.get(&name) else {
                continue;
            };
            let number = self.numbers.get(&self.counting(&container.labels));
            if number.is_some() && number == self.of.get(&name) {
                self.stale.remove(&name);
            } else {
                self.stale.insert(name);
            }
        }
    }

    /// Containers that need another number.
    pub(super) fn stale(&self) -> &BTreeSet<PortName> {
        &self.stale
    }

    /// The identities that those containers need and that have no number yet.
    pub(super) fn missing(&self, world: &World) -> Vec<Labels> {
        let containers = self
            .stale
            .iter()
            .filter_map(|name| world.containers.get(name));
        let needed: BTreeSet<Labels> = containers.map(|c| self.counting(&c.labels)).collect();
        let missing = needed
            .into_iter()
            .filter(|identity| !self.numbers.contains_key(identity));
        missing.collect()
    }

    /// Gives them numbers.
    pub(super) fn number(&mut self, identities: Vec<Labels>) -> BTreeSet<u32> {
        identities
            .into_iter()
            .map(|identity| self.numbered(identity))
            .collect()
    }

    /// Gives those containers the numbers that are ready for them.
    pub(super) fn move_in(&mut self, world: &World) {
        for name in std::mem::take(&mut self.stale) {
            if let Some(container) = world.containers.get(&name) {
                let identity = self.counting(&container.labels);
                self.leave(&name);
                self.join(&name, identity);
            }
        }
    }

    /// Numbers that nobody has.
    pub(super) fn empty(&self) -> &BTreeSet<u32> {
        &self.empty
    }

    /// Forgets them.
    pub(super) fn sweep(&mut self) {
        for number in std::mem::take(&mut self.empty) {
            self.end(number);
        }
    }

    /// What a number stands for.
    pub(super) fn identity(&self, number: u32) -> Option<&Labels> {
        self.held.get(&number).map(|held| &held.identity)
    }

    /// The number of a container's identity.
    pub(super) fn group(&self, name: &PortName) -> Option<u32> {
        self.of.get(name).copied()
    }

    /// The numbers of all identities with this label.
    pub(super) fn with(&self, key: &str, value: &str) -> impl Iterator<Item = u32> {
        let named = self.named.get(&(key.to_owned(), value.to_owned()));
        named
            .into_iter()
            .flat_map(|named| named.numbers.iter().copied())
    }

    /// Attached containers that may have all these labels: those with the one that the fewest have.
    pub(super) fn candidates(&self, wanted: &Labels) -> Vec<PortName> {
        let found: Option<Vec<_>> = pairs(wanted).map(|pair| self.holders.get(&pair)).collect();
        let fewest = found.and_then(|all| all.into_iter().min_by_key(|holders| holders.len()));
        fewest.into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn named(pairs: &[(&str, &str)]) -> Identities {
        let mut identities = Identities::default();
        for (key, value) in pairs {
            let pair = ((*key).to_owned(), (*value).to_owned());
            identities.want(&pair, true, &World::default());
        }
        identities
    }

    #[test]
    fn labels_that_no_rule_names_make_no_identities() {
        let mut identities = named(&[("tier", "front")]);
        for number in 0..5 {
            let own = number.to_string();
            let name = format!("c{number}").parse().unwrap();
            identities.add(&labels(&[("tier", "front"), ("name", &own)]), &name);
        }
        assert_eq!(identities.with("tier", "front").count(), 1);
        assert_eq!(
            identities.candidates(&labels(&[("tier", "front")])).len(),
            5
        );
        let narrow = labels(&[("tier", "front"), ("name", "3")]);
        assert_eq!(identities.candidates(&narrow), ["c3".parse().unwrap()]);
        assert!(
            identities
                .candidates(&labels(&[("tier", "back")]))
                .is_empty()
        );
    }

    #[test]
    fn an_identity_lives_as_long_as_somebody_has_it() {
        let mut identities = named(&[("tier", "front"), ("team", "a"), ("x", "y")]);
        let (web, db) = ("web".parse().unwrap(), "db".parse().unwrap());
        let front = labels(&[("tier", "front"), ("team", "a")]);
        assert!(identities.coming(&front).1);
        identities.add(&front, &web);
        identities.add(&front, &db);
        assert!(!identities.coming(&front).1);
        identities.remove(&front, &web);
        let number = identities.group(&db);
        assert_eq!(identities.going(&db), (front.clone(), true));
        identities.remove(&front, &db);
        assert_eq!(identities.group(&db), None);
        assert_eq!(identities.with("team", "a").count(), 0);
        let other = labels(&[("x", "y")]);
        identities.add(&other, &web);
        assert_eq!(
            identities.group(&web),
            number,
            "free numbers are used again"
        );
    }
}
