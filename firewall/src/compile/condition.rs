//! Conditional rules: their marks, their limits, and whether they count now.
//!
//! A mark stands for one rule of one file wherever the file applies. It follows from what the rule says
//! and not from what else is in force, so that buckets and counts of connections, which are kept by
//! mark, outlive every edit elsewhere and a restart.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::model::Clock;
use crate::policy::{Mode, PolicyFile, Rule};
use crate::sets::{Action, Direction, Element, Key, Life, Limit, SetId, limit};

/// Marks are above every number of a step on the way of a packet.
const MARK: u32 = 0x8000_0000;

/// Marks of the rules of a file, in its order; `None` for unconditional ones.
#[derive(Debug, Default, Clone)]
struct Marks {
    ingress: Vec<Option<u32>>,
    egress: Vec<Option<u32>>,
}

impl Marks {
    fn of(&self, direction: Direction) -> &[Option<u32>] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// The conditional rules of all files in force, by file: an old and a new version are told apart by where
/// they are in memory, so that what an edit removes can still be named.
#[derive(Debug, Default, Clone)]
pub(super) struct Conditions {
    files: BTreeMap<usize, (Arc<PolicyFile>, Marks)>,
    /// Those of them with a rule that has hours: asked for with every turn of the daemon's loop.
    timed: BTreeMap<usize, Arc<PolicyFile>>,
    /// Marks that are given.
    taken: HashSet<u32>,
    /// Limits in use: their number, and how many rules have them.
    limits: BTreeMap<Limit, (u32, usize)>,
}

fn at(file: &Arc<PolicyFile>) -> usize {
    Arc::as_ptr(file).addr()
}

fn limit_of(rule: &Rule) -> Option<Limit> {
    let limit = Limit {
        rate: rule.rate,
        connections: rule.max_connections,
    };
    (limit.rate.is_some() || limit.connections.is_some()).then_some(limit)
}

impl Conditions {
    /// A file comes into force. Tells whether a limit is new.
    pub(super) fn add(&mut self, file: &Arc<PolicyFile>) -> bool {
        if file.mode != Mode::Enforce || !file.rules().any(Rule::is_conditional) {
            return false;
        }
        let mut marks = Marks::default();
        let mut new = false;
        for direction in Direction::ALL {
            let mut given = Vec::new();
            for rule in file.section(direction).into_iter().flat_map(|s| &s.rules) {
                if !rule.is_conditional() {
                    given.push(None);
                    continue;
                }
                let mut hasher = DefaultHasher::new();
                (&file.file, direction).hash(&mut hasher);
                // the rule without its place in the file, and groups by name: whoever comes into one or
                // goes empties nobody's bucket
                format!(
                    "{:?}{:?}{:?}{:?}{:?}",
                    rule.action,
                    rule.who(),
                    rule.ports,
                    rule.rate,
                    rule.max_connections
                )
                .hash(&mut hasher);
                let bytes = hasher.finish().to_le_bytes();
                let mut mark = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) | MARK;
                while self.taken.contains(&mark) {
                    mark = mark.wrapping_add(1) | MARK;
                }
                self.taken.insert(mark);
                given.push(Some(mark));
                if let Some(limit) = limit_of(rule) {
                    new |= self.add_limit(limit);
                }
            }
            match direction {
                Direction::Ingress => marks.ingress = given,
                Direction::Egress => marks.egress = given,
            }
        }
        if file.rules().any(|rule| rule.time.is_some()) {
            self.timed.insert(at(file), file.clone());
        }
        self.files.insert(at(file), (file.clone(), marks));
        new
    }

    fn add_limit(&mut self, limit: Limit) -> bool {
        if let Some((_, uses)) = self.limits.get_mut(&limit) {
            *uses += 1;
            return false;
        }
        let used: Vec<u32> = self.limits.values().map(|(number, _)| *number).collect();
        let free = (limit::BASE..).find(|number| !used.contains(number));
        self.limits.insert(limit, (free.unwrap_or(limit::BASE), 1));
        true
    }

    /// A file is about to go: others may have its marks and limits. Tells whether a limit is no longer
    /// used.
    pub(super) fn release(&mut self, file: &Arc<PolicyFile>) -> bool {
        let Some((_, marks)) = self.files.get(&at(file)) else {
            return false;
        };
        for mark in marks.ingress.iter().chain(&marks.egress).flatten() {
            self.taken.remove(mark);
        }
        let mut gone = false;
        for limit in file.rules().filter_map(limit_of) {
            if let Some((_, uses)) = self.limits.get_mut(&limit) {
                *uses -= 1;
                if *uses == 0 {
                    self.limits.remove(&limit);
                    gone = true;
                }
            }
        }
        gone
    }

    /// A file is gone.
    pub(super) fn forget(&mut self, file: &Arc<PolicyFile>) {
        self.files.remove(&at(file));
        self.timed.remove(&at(file));
    }

    /// Files with a rule that has hours.
    pub(super) fn timed(&self) -> impl Iterator<Item = &Arc<PolicyFile>> {
        self.timed.values()
    }

    /// Limits in use with their numbers.
    pub(super) fn limits(&self) -> Vec<(u32, Limit)> {
        let limits = self.limits.iter();
        limits
            .map(|(limit, (number, _))| (*number, *limit))
            .collect()
    }

    /// The mark of a conditional rule, by its place in its direction's section.
    pub(super) fn mark(
        &self,
        file: &Arc<PolicyFile>,
        direction: Direction,
        place: usize,
    ) -> Option<u32> {
        let (_, marks) = self.files.get(&at(file))?;
        *marks.of(direction).get(place)?
    }

    /// The elements of a file's conditional rules, appended to `out`: limits of those that count now, and
    /// denies that do not. They are the same for every container.
    pub(super) fn elements(&self, file: &Arc<PolicyFile>, clock: Clock, out: &mut Vec<Element>) {
        for direction in Direction::ALL {
            let rules = file.section(direction).into_iter().flat_map(|s| &s.rules);
            for (place, rule) in rules.enumerate() {
                let Some(mark) = self.mark(file, direction, place) else {
                    continue;
                };
                let key = Key::new().mark(mark);
                let minutes = rule.time.as_ref().and_then(|time| time.changes_in(clock));
                let timeout = minutes.map(|minutes| Life::Seconds(u32::from(minutes) * 60));
                match (rule.action, rule.counts_at(clock)) {
                    (Action::Allow, true) => {
                        let limit = limit_of(rule).and_then(|limit| self.limits.get(&limit));
                        let number = limit.map_or(limit::NONE, |(number, _)| *number);
                        let data = Key::new().mark(number);
                        out.push(Element {
                            timeout,
                            ..Element::entry(SetId::Limit, key, data)
                        });
                    }
                    (Action::Deny, false) => out.push(Element {
                        timeout,
                        ..Element::new(SetId::Asleep, key)
                    }),
                    _ => {}
                }
            }
        }
    }
}
