//! Is what is in the kernel what should be there?

use std::collections::{BTreeMap, BTreeSet};

use super::dump::ElementState;
use super::encode::{Bounds, bounds};
use super::install::hook_of;
use super::steps::everywhere;
use super::tables::{Tables, TablesError};
use crate::sets::{Element, Key, SetId, SetSpec, Table};
use crate::skeleton::TABLE;
use crate::skeleton::element::fields;
use crate::skeleton::text::family_of;

/// How many differing elements of one set are named; the rest is counted.
const NAMED: usize = 5;

impl Tables {
    /// How many packets each of these elements of policy sets has matched since it was put in force: about
    /// one for each connection, as verdicts are remembered. 0 for what is not there.
    ///
    /// # Errors
    /// The sets cannot be read.
    pub fn hits(&mut self, elements: &[Element]) -> Result<Vec<u64>, TablesError> {
        let sets = elements
            .iter()
            .flat_map(|element| [Some(element.set), element.set.twin()]);
        let sets: BTreeSet<SetId> = sets.flatten().collect();
        let mut found = BTreeMap::new();
        let (dump, specs, _) = self.parts();
        for id in sets {
            let spec = &specs[&id];
            if spec.counted {
                let counted = dump.counted(spec.table, &spec.name)?;
                // the end of one range may be the beginning of another
                for (state, packets) in counted.into_iter().filter(|(s, _)| !s.interval_end) {
                    found.insert((id, state.key), packets);
                }
            }
        }
        let packets = |element: Element| found.get(&(element.set, element.key.0)).copied();
        Ok(elements
            .iter()
            .map(|element| everywhere(element).filter_map(packets).sum())
            .collect())
    }

    /// Reads everything back and compares it with the skeleton, `elements` and the generation.
    /// Returns the differences in words; an empty list when all is as it should be.
    ///
    /// # Errors
    /// [`TablesError::NotInstalled`], or the tables cannot be read.
    pub fn verify(&mut self, elements: &[Element]) -> Result<Vec<String>, TablesError> {
        let generation = self.current().ok_or(TablesError::NotInstalled)?;
        let own = self.own_elements(generation);
        let elements: Vec<Element> = elements.iter().flat_map(everywhere).collect();
        let by_set = by_set(elements.iter().chain(&own));
        let mut differences = self.verify_skeleton()?;
        for table in [Table::Inet, Table::Bridge] {
            self.verify_sets(table, &by_set, true, &mut differences)?;
        }
        Ok(differences)
    }

    /// As [`Tables::verify`], but only the skeleton, and whether these elements are there. Nothing but these is read, so
    /// that it takes as long beside many; a set of ranges that seems to lack one is read whole before that is said.
    ///
    /// # Errors
    /// [`TablesError::NotInstalled`], or the tables cannot be read.
    pub fn verify_some(&mut self, elements: &[Element]) -> Result<Vec<String>, TablesError> {
        self.current().ok_or(TablesError::NotInstalled)?;
        let elements: Vec<Element> = elements.iter().flat_map(everywhere).collect();
        let by_set = by_set(elements.iter());
        let mut differences = self.verify_skeleton()?;
        for table in [Table::Inet, Table::Bridge] {
            self.verify_sets(table, &by_set, false, &mut differences)?;
        }
        Ok(differences)
    }

    /// Compares tables, chains and rules with the skeleton.
    fn verify_skeleton(&mut self) -> Result<Vec<String>, TablesError> {
        let rules = std::mem::take(&mut self.rules);
        let (flags, portid) = self.table_flags();
        let mut differences = Vec::new();
        let (dump, _, skeleton) = self.parts();
        for spec in skeleton {
            let family = family_of(spec.table);
            let Some(state) = dump.table(spec.table)? else {
                differences.push(format!("table {family} {TABLE} is missing"));
                continue;
            };
            if state.flags != flags || (flags != 0 && state.owner != Some(portid)) {
                differences.push(format!("table {family} {TABLE} is no longer ours"));
            }
            let standing: BTreeSet<_> = dump.chains(spec.table)?.into_iter().collect();
            for chain in &spec.chains {
                let hook = hook_of(chain).map(|(_, hook)| hook);
                let as_wanted =
                    |s: &super::dump::ChainState| s.name == chain.name && s.hook == hook;
                if !standing.iter().any(as_wanted) {
                    let name = &chain.name;
                    differences.push(format!("chain {family} {TABLE} {name} is missing"));
                }
            }
            if standing.len() > spec.chains.len() {
                differences.push(format!("table {family} {TABLE} has chains too many"));
            }
            let now = dump.rules(spec.table)?;
            if !rules
                .iter()
                .any(|(t, then)| *t == spec.table && *then == now)
            {
                differences.push(format!("rules of table {family} {TABLE} were changed"));
            }
        }
        self.rules = rules;
        Ok(differences)
    }

    /// Compares the sets of a table with what should be in them: all of them, or those that something should be in,
    /// which may hold more.
    fn verify_sets(
        &mut self,
        table: Table,
        by_set: &BTreeMap<SetId, Vec<&Element>>,
        all: bool,
        differences: &mut Vec<String>,
    ) -> Result<(), TablesError> {
        let (dump, specs, _) = self.parts();
        let family = family_of(table);
        let of_table = specs.iter().filter(|(id, set)| {
            // what comes and goes by itself
            set.table == table && **id != SetId::Changing && (all || by_set.contains_key(id))
        });
        for (id, set) in of_table {
            let wanted: BTreeSet<ElementState> = by_set
                .get(id)
                .into_iter()
                .flatten()
                .flat_map(|element| states(set, element))
                .collect();
            let some = match all {
                true => BTreeSet::new(),
                false => dump.those_of(set, &wanted)?,
            };
            // what a look-up does not find may be there all the same
            let found = match all || (set.interval && !wanted.is_subset(&some)) {
                true => dump.elements(table, &set.name)?.into_iter().collect(),
                false => some,
            };
            let name = format!("{family} {TABLE} {}", set.name);
            report(differences, set, &name, "lacks", wanted.difference(&found));
            if all {
                report(differences, set, &name, "has", found.difference(&wanted));
            }
        }
        Ok(())
    }
}

/// Elements by the set that they belong to.
fn by_set<'a>(elements: impl Iterator<Item = &'a Element>) -> BTreeMap<SetId, Vec<&'a Element>> {
    let mut by_set: BTreeMap<SetId, Vec<&Element>> = BTreeMap::new();
    for element in elements {
        by_set.entry(element.set).or_default().push(element);
    }
    by_set
}

fn report<'a>(
    differences: &mut Vec<String>,
    set: &SetSpec,
    name: &str,
    verb: &str,
    elements: impl Iterator<Item = &'a ElementState>,
) {
    let words: Vec<_> = elements
        .map(|element| {
            let last = element.key_end.clone().map(Key);
            fields(&set.key, &Key(element.key.clone()), last.as_ref())
        })
        .collect();
    let named = words.len().min(NAMED);
    for word in &words[..named] {
        differences.push(format!("set {name} {verb} {{ {word} }}"));
    }
    if words.len() > named {
        let more = words.len() - named;
        differences.push(format!("set {name} {verb} {more} more"));
    }
}

/// An element as a dump would show it.
pub(super) fn states(spec: &SetSpec, element: &Element) -> Vec<ElementState> {
    let state = ElementState::exact(element);
    match bounds(spec, element) {
        Bounds::Exact => vec![state],
        Bounds::Closed(last) => vec![ElementState {
            key_end: Some(last.0.clone()),
            ..state
        }],
        Bounds::HalfOpen(end) => {
            let end = end.map(|end| ElementState {
                key: end.0,
                interval_end: true,
                data: None,
                ..state.clone()
            });
            [Some(state), end].into_iter().flatten().collect()
        }
    }
}
