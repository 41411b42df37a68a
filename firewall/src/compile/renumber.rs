//! What becomes of the numbers of identities when rules name other labels than before.
//!
//! ```text
//! announce: new numbers get their rules ─► edit: containers get new numbers ─► tidy: old numbers lose their rules
//! ```
//!
//! Three batches instead of one, for the packet that has read a number and not yet looked for it in the rules (see
//! [`super::identities`]). The first and the last change no verdict: nobody has these numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zone::PortName;

use super::identities::Pair;
use super::numbers::Labels;
use super::owner::Focus;
use super::{Firewall, difference, links};
use crate::policy::{Mode, Peer, PolicyFile};
use crate::sets::{Changes, Element};

/// The labels that the rules of a file in force are about.
fn named(file: &PolicyFile) -> impl Iterator<Item = Pair> {
    let enforced = file.mode == Mode::Enforce;
    let rules = file.rules().filter(move |_| enforced);
    rules
        .flat_map(|rule| &rule.peers)
        .filter_map(|peer| match peer {
            Peer::Label(label, value) => Some((label.clone(), value.clone())),
            _ => None,
        })
}

/// Changes that are made in one batch, one after the other.
pub(super) fn merged(all: [Changes; 3]) -> Changes {
    let mut whole = Changes::default();
    let (mut remove, mut add) = (Vec::new(), Vec::new());
    for changes in all {
        remove.extend(changes.remove);
        add.extend(changes.add);
        whole.limits = changes.limits.or(whole.limits);
    }
    difference::between(remove, add, &mut whole);
    whole
}

impl Firewall {
    /// Some files are about to be put in force. What has to be in force before [`Firewall::edit_policies`]: rules for
    /// the numbers that containers will get with it, where the files are the first to name a label.
    pub fn announce<'a>(
        &mut self,
        files: impl IntoIterator<Item = &'a Arc<PolicyFile>>,
    ) -> Changes {
        for pair in files.into_iter().flat_map(|file| named(file)) {
            if !self.labels.is_wanted(&pair) {
                self.labels.want(&pair, true, &self.world);
            }
        }
        self.number_missing()
    }

    /// The next step of putting numbers in order that rules do not need any more; none when all is in order. Changes
    /// no verdict. Some time should pass before the next one.
    pub fn tidy(&mut self) -> Option<Changes> {
        // whoever moves in first: numbers that are made ready for somebody are nobody's as well
        if !self.labels.stale().is_empty() {
            return Some(match self.labels.missing(&self.world).is_empty() {
                true => self.move_in(),
                false => self.number_missing(),
            });
        }
        (!self.labels.empty().is_empty()).then(|| self.sweep())
    }

    /// Labels that these files, which are to go, name.
    pub(super) fn named_by(
        &self,
        keys: &BTreeMap<String, Option<Arc<PolicyFile>>>,
    ) -> BTreeSet<Pair> {
        let files = keys.keys().filter_map(|key| self.policies.0.get(key));
        files.flat_map(|file| named(file)).collect()
    }

    /// Those of these labels that no file names any more need not count.
    pub(super) fn unwant(&mut self, labels: BTreeSet<Pair>) {
        for pair in labels {
            if !self.files.names_label(&pair) {
                self.labels.want(&pair, false, &self.world);
            }
        }
    }

    /// Gives containers the numbers that are ready for them.
    pub(super) fn move_in(&mut self) -> Changes {
        let mut changes = Changes::default();
        if self.labels.stale().is_empty() {
            return changes;
        }
        let moving = self.labels.stale().clone();
        let elements = |firewall: &Self| {
            let mut out = Vec::new();
            let containers = moving
                .iter()
                .filter_map(|n| firewall.world.containers.get(n));
            for container in containers {
                links::container(firewall.view(), container, &mut out);
            }
            out
        };
        let before = elements(self);
        self.labels.move_in(&self.world);
        let after = elements(self);
        self.settle(before, after, &mut changes);
        changes
    }

    fn number_missing(&mut self) -> Changes {
        let missing = self.labels.missing(&self.world);
        if missing.is_empty() {
            return Changes::default();
        }
        let owners = self.owners_about(&missing);
        let before = self.of_groups(&owners, &BTreeSet::new());
        let numbers = self.labels.number(missing);
        let mut changes = Changes::default();
        let after = self.of_groups(&owners, &numbers);
        self.settle(before, after, &mut changes);
        changes
    }

    fn sweep(&mut self) -> Changes {
        let empty = self.labels.empty().clone();
        let identities = empty
            .iter()
            .filter_map(|number| self.labels.identity(*number));
        let owners = self.owners_about(&identities.cloned().collect::<Vec<_>>());
        let before = self.of_groups(&owners, &empty);
        self.labels.sweep();
        let mut changes = Changes::default();
        let after = self.of_groups(&owners, &empty);
        self.settle(before, after, &mut changes);
        changes
    }

    /// Containers with rules about one of these identities.
    fn owners_about(&self, identities: &[Labels]) -> BTreeSet<PortName> {
        let files: BTreeSet<_> = identities
            .iter()
            .flat_map(|identity| self.files.naming_labels(identity))
            .collect();
        files
            .into_iter()
            .flat_map(|file| self.targets_of(file))
            .collect()
    }

    /// At least those elements of these containers' policies that are about one of these numbers.
    fn of_groups(&self, owners: &BTreeSet<PortName>, numbers: &BTreeSet<u32>) -> Vec<Element> {
        let mut out = Vec::new();
        for owner in owners.iter().filter_map(|n| self.world.containers.get(n)) {
            self.policy_of(owner, Focus::Groups(numbers), &mut out);
        }
        out
    }
}
