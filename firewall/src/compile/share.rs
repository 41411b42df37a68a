//! Which bundle a container has, and what comes and goes with bundles. See [`super::bundles`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zone::PortName;

use super::bundles::{Files, Numbered, PortList, Side};
use super::nets::{self, Nets};
use super::{Firewall, difference};
use crate::policy::PolicyFile;
use crate::sets::{Action, Changes, Direction, Element, Family};

/// A bundle that an edit touches, as it was.
pub(super) struct Touched {
    files: Files,
    read: Vec<Arc<PolicyFile>>,
    nets: BTreeMap<Side, Numbered>,
    lists: Vec<(u32, PortList)>,
}

impl Firewall {
    /// What makes `after` of `before`, and lists of ports that are new, are in `changes`.
    pub(super) fn settle(
        &mut self,
        before: Vec<Element>,
        after: Vec<Element>,
        changes: &mut Changes,
    ) {
        difference::between(before, after, changes);
        changes.add.extend(self.bundles.fresh(&BTreeSet::new()));
    }

    /// What stands under a number, for people: `networks of web.toml`, `tcp/80-90 of web.toml`. None for a number that is
    /// not in use.
    pub fn shared(&self, number: u32) -> Option<String> {
        self.bundles.words(number)
    }

    /// The files of a bundle, as far as they are there.
    fn read(&self, files: &Files) -> Vec<Arc<PolicyFile>> {
        let read = files.iter().filter_map(|key| self.policies.0.get(&**key));
        read.cloned().collect()
    }

    /// What a bundle's files say about networks, by side, under the number that it takes.
    fn nets_of(
        &self,
        files: &Files,
        read: &[Arc<PolicyFile>],
    ) -> Vec<(Side, Numbered, Vec<Element>)> {
        let mut all = Vec::new();
        for direction in Direction::ALL {
            let rules = nets::rules(read, direction);
            for family in Family::ALL {
                for action in [Action::Allow, Action::Deny] {
                    let side = (direction, family, action);
                    let nets = Nets::of(side, rules.iter().copied());
                    let mut elements = nets.elements(0, &self.bundles, files, true);
                    if elements.is_empty() {
                        continue;
                    }
                    let numbered = self.bundles.number(files, side, &elements);
                    nets::renumber(&mut elements, numbered.number);
                    all.push((side, numbered, elements));
                }
            }
        }
        all
    }

    /// The elements of one side of a bundle's networks, as they stand.
    fn nets_under(
        &self,
        files: &Files,
        read: &[Arc<PolicyFile>],
        side: Side,
        number: u32,
    ) -> Vec<Element> {
        let nets = Nets::of(side, nets::rules(read, side.0));
        nets.elements(number, &self.bundles, files, false)
    }

    /// All elements of a bundle.
    pub(super) fn bundle(&self, files: &Files, out: &mut Vec<Element>) {
        let read = self.read(files);
        for (side, numbered) in self.bundles.nets(files) {
            out.extend(self.nets_under(files, &read, side, numbered.number));
        }
        for (number, list) in self.bundles.lists(files) {
            list.elements(number, out);
        }
    }

    /// A container gets its bundle. The elements of networks that come with it.
    pub(super) fn enter(&mut self, name: &PortName) -> Vec<Element> {
        let Some(container) = self.world.containers.get(name) else {
            return Vec::new();
        };
        let files = self.files.bundle_of(&self.policies, container);
        if self.bundles.files_of(name) == Some(&files) {
            return Vec::new();
        }
        self.bundles.leave(name);
        if !self.bundles.join(name, &files) {
            return Vec::new();
        }
        let read = self.read(&files);
        let nets = self.nets_of(&files, &read);
        let numbers = nets.iter().map(|(side, number, _)| (*side, *number));
        self.bundles.tell(&files, numbers.collect());
        nets.into_iter()
            .flat_map(|(.., elements)| elements)
            .collect()
    }

    /// A container gives up its bundle. The elements that go with it: of bundles that nobody had for longest.
    pub(super) fn quit(&mut self, name: &PortName) -> Vec<Element> {
        self.bundles.leave(name);
        let mut went = Vec::new();
        for files in self.bundles.surplus() {
            self.bundle(&files, &mut went);
            self.bundles.end(&files);
        }
        went
    }

    /// The bundles that an edit of these files touches, before it.
    pub(super) fn touched<'a>(&self, keys: impl Iterator<Item = &'a String>) -> Vec<Touched> {
        let bundles = self.bundles.with(keys.map(String::as_str));
        let touched = bundles.into_iter().map(|files| Touched {
            read: self.read(&files),
            nets: self.bundles.nets(&files),
            lists: self.bundles.lists(&files),
            files,
        });
        touched.collect()
    }

    /// After the edit: the numbers of what the bundles say now, and what becomes of their networks.
    pub(super) fn renew(&mut self, touched: &[Touched], changes: &mut Changes) {
        for Touched {
            files, read, nets, ..
        } in touched
        {
            self.bundles.renew(files);
            let now = self.read(files);
            let new = match now.len() == files.len() {
                true => self.nets_of(files, &now),
                // a file is gone, and nobody has them together any more
                false => Vec::new(),
            };
            for (side, old) in nets {
                let same =
                    |(other, number, _): &(Side, Numbered, _)| other == side && number == old;
                if !new.iter().any(same) {
                    changes
                        .remove
                        .extend(self.nets_under(files, read, *side, old.number));
                }
            }
            let numbers = new
                .iter()
                .map(|(side, number, _)| (*side, *number))
                .collect();
            for (side, number, elements) in new {
                if nets.get(&side) != Some(&number) {
                    changes.add.extend(elements);
                }
            }
            self.bundles.tell(files, numbers);
        }
    }

    /// When all containers have their new elements: what becomes of lists of ports, and of bundles that cannot be any
    /// more.
    pub(super) fn renewed(&mut self, touched: Vec<Touched>, changes: &mut Changes) {
        let but: BTreeSet<Files> = touched
            .iter()
            .map(|touched| touched.files.clone())
            .collect();
        changes.add.extend(self.bundles.fresh(&but));
        for Touched { files, lists, .. } in touched {
            let new: BTreeMap<u32, PortList> = self.bundles.lists(&files).into_iter().collect();
            let went: BTreeSet<u32> = lists.iter().map(|(number, _)| *number).collect();
            for (number, list) in &lists {
                if !new.contains_key(number) {
                    list.elements(*number, &mut changes.remove);
                }
            }
            for (number, list) in &new {
                if !went.contains(number) {
                    list.elements(*number, &mut changes.add);
                }
            }
            let went = went.into_iter().filter(|number| !new.contains_key(number));
            self.bundles.forget(went);
            if self.read(&files).len() < files.len() {
                self.bundles.end(&files);
            }
        }
    }
}
