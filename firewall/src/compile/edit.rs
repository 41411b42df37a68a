//! Files come, change and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zone::PortName;

use super::index::FileKey;
use super::owner::{self, Applying, Focus, View};
use super::{Firewall, difference, names, renumber};
use crate::policy::{PolicyFile, PolicySet};
use crate::sets::Changes;

impl Firewall {
    /// These policies, and no others, are in force.
    pub fn set_policies(&mut self, policies: PolicySet) -> Changes {
        let gone = self
            .policies
            .0
            .keys()
            .filter(|key| !policies.0.contains_key(*key));
        let mut edits: Vec<(String, Option<Arc<PolicyFile>>)> =
            gone.map(|key| (key.clone(), None)).collect();
        for (key, file) in policies.0 {
            let same = self.policies.0.get(&key).is_some_and(|old| {
                // cheap for the many that were not read again
                Arc::ptr_eq(old, &file) || **old == *file
            });
            if !same {
                edits.push((key, Some(file)));
            }
        }
        self.edit_policies(edits)
    }

    /// Some files are put in force, or not any more (`None`). Costs nothing for all the others.
    ///
    /// When they name labels that no file named before, [`Firewall::announce`] has to be in force first; if it was
    /// not called, the changes hold what it would have said. Numbers of labels that are not used any more are left to
    /// [`Firewall::tidy`].
    pub fn edit_policies(
        &mut self,
        edits: impl IntoIterator<Item = (String, Option<Arc<PolicyFile>>)>,
    ) -> Changes {
        let edits: BTreeMap<String, Option<Arc<PolicyFile>>> = edits.into_iter().collect();
        let announced = self.announce(edits.values().flatten());
        let moved = self.move_in();
        let named = self.named_by(&edits);
        let mut changes = self.replace(edits);
        self.unwant(named);
        let moves = !moved.is_empty();
        if !announced.is_empty() || moves {
            changes = renumber::merged([announced, moved, changes]);
        }
        // an old number with new rules is nobody's policy
        changes.forget = moves || difference::tightens(&changes);
        self.note(changes)
    }

    fn replace(&mut self, edits: BTreeMap<String, Option<Arc<PolicyFile>>>) -> Changes {
        let mut concerned: BTreeSet<PortName> = BTreeSet::new();
        for (key, new) in &edits {
            let old = self.policies.0.get(key);
            for file in old.into_iter().chain(new) {
                concerned.extend(self.targets(&file.applies_to));
            }
        }
        let files_of = |firewall: &Self, name: &PortName| {
            let container = firewall.world.containers.get(name);
            container.map(|c| firewall.files_of(c))
        };
        let before: Vec<_> = concerned.iter().map(|name| files_of(self, name)).collect();
        let touched = self.touched(edits.keys());
        let mut changes = Changes::default();
        let went = self.replace_files(edits, &mut changes);
        self.renew(&touched, &mut changes);
        for name in &concerned {
            let came = self.enter(name);
            changes.add.extend(came);
        }
        for (name, before) in concerned.iter().zip(before) {
            // one by one: an edit of a file that applies to thousands must not hold all their elements
            let (Some(container), Some(before), Some(after)) = (
                self.world.containers.get(name),
                before,
                files_of(self, name),
            ) else {
                continue;
            };
            let elements = |firewall: &Self, files: &Applying, keep: bool| {
                let mut out = Vec::new();
                let view = View {
                    keep,
                    ..firewall.view()
                };
                owner::elements(view, container, files, Focus::Everything, &mut out);
                out
            };
            let old = elements(self, &before, false);
            self.names.remove(name);
            if let Some(resolved) = self.world.resolved.get(name) {
                let patterns = names::patterns(&after.enforced);
                self.names.set(name, patterns, Some(resolved));
            }
            difference::between(old, elements(self, &after, true), &mut changes);
        }
        self.renewed(touched, &mut changes);
        for old in &went {
            self.conditions.forget(old);
        }
        changes
    }

    /// Puts files in the place of others, with what is the same for all containers: the limits and hours
    /// of conditional rules. Returns those that went; their marks are still known.
    fn replace_files(
        &mut self,
        edits: BTreeMap<String, Option<Arc<PolicyFile>>>,
        changes: &mut Changes,
    ) -> Vec<Arc<PolicyFile>> {
        let clock = self.world.clock;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let (mut went, mut came) = (Vec::new(), Vec::new());
        let mut limits = false;
        for (key, new) in edits {
            let shared: FileKey = key.as_str().into();
            if let Some(old) = self.policies.0.remove(&key) {
                self.conditions.elements(&old, clock, &mut before);
                limits |= self.conditions.release(&old);
                self.files.remove(&shared, &old);
                went.push(old);
            }
            if let Some(new) = new {
                self.files.add(&shared, &new);
                self.policies.0.insert(key, new.clone());
                came.push(new);
            }
        }
        // only now, so that a mark that one file gives up is free for the next
        for new in &came {
            limits |= self.conditions.add(new);
        }
        for new in &came {
            self.conditions.elements(new, clock, &mut after);
        }
        difference::between(before, after, changes);
        changes.limits = limits.then(|| self.conditions.limits());
        went.retain(|old| !came.iter().any(|new| Arc::ptr_eq(old, new)));
        went
    }
}
