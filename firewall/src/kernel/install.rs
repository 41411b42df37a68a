//! The whole of both tables, written over whatever stands there.
//!
//! The base chains are never deleted while they are what the skeleton says: were they deleted and
//! made again in one batch, a packet that is between the new chain (not yet in force) and the old
//! one (no longer in force) when the batch commits would meet neither. So an install deletes rules
//! and sets and writes new ones into the chains that stand; the kernel switches all chains at once.
//!
//! Ranges come into force later than the rest of a transaction (see [`super::steps`]), so their sets stand
//! too. Those of the next generation are filled before, those of the last one after it, and what stands under a number
//! comes before and goes after (see [`super::standing`]). Where that cannot be, as when a table is made for the first time, the generation comes last, in a transaction of
//! its own: until then nothing passes.

use std::collections::{BTreeMap, BTreeSet};

use super::dump::{ChainState, ElementState, SetState};
use super::encode::{Batch, meter_state, set_state};
use super::nf;
use super::standing::{Numbers, Ranges};
use super::steps::everywhere;
use super::tables::{Tables, TablesError, check_owner, is_odd};
use crate::sets::{Element, Limit, SetId, SetSpec};
use crate::skeleton;
use crate::skeleton::ir::{Chain, Point, TableSpec};

/// Elements by set.
type BySet<'a> = BTreeMap<SetId, Vec<&'a Element>>;

/// Sets in which most containers have elements.
fn is_common(id: SetId) -> bool {
    use crate::sets::{Action, Shape};
    match id {
        SetId::Own(_)
        | SetId::Nets(_, _, Action::Allow)
        | SetId::ZoneOf(_)
        | SetId::LabelsOf(_)
        | SetId::NoDeny(..)
        | SetId::Generation
        | SetId::Remember => true,
        SetId::Rule(_, _, Action::Allow, shape) => matches!(
            shape,
            Shape::PeerPort
                | Shape::GroupPort
                | Shape::Group
                | Shape::GroupList
                | Shape::GroupProto
        ),
        _ => false,
    }
}

/// What stands of a table that is to be written.
enum Standing {
    Nothing,
    /// Not a table of this netd on this kernel: another program's, or another version's hooks.
    Strange,
    /// Its chains may stand, and sets with what is in them.
    Ours(Vec<ChainState>, Vec<SetState>),
}

impl Tables {
    /// Writes the skeleton with the limits in use, `elements`, what [`Tables::set_opened`] was told and a new generation
    /// over whatever tables of ours are there: our own, an orphan's, or none. No packet sees a moment without rules,
    /// or one with half of them. All remembered verdicts are forgotten.
    ///
    /// # Errors
    /// [`TablesError::Owned`] if another live socket owns a table; otherwise what the kernel
    /// refused. What was in force before then still is.
    pub fn install(
        &mut self,
        elements: &[Element],
        limits: &[(u32, Limit)],
    ) -> Result<(), TablesError> {
        skeleton::set_limits(&mut self.skeleton, limits);
        // Somebody may change a table that nobody owns between our reading and our writing.
        match self.try_install(elements) {
            Err(TablesError::Refused { .. }) if !self.ownership => self.try_install(elements),
            result => result,
        }
    }

    fn try_install(&mut self, elements: &[Element]) -> Result<(), TablesError> {
        let generation = self.next_generation()?;
        let odd = is_odd(generation);
        let all: Vec<Element> = elements.iter().flat_map(everywhere).collect();
        let wanted = by_set(&all);
        let mut standing = Vec::new();
        for spec in self.skeleton.clone() {
            standing.push(self.standing(&spec)?);
        }
        let ranges = self.standing_ranges(&standing, &wanted)?;
        let stale = |of_next: bool| {
            let stale = ranges.iter().filter(|(_, found)| **found == Ranges::Wrong);
            let stale = stale.map(|(set, _)| *set);
            let stale = stale.filter(|set| is_of(*set, odd) == Some(of_next));
            stale.collect::<Vec<_>>()
        };
        self.refill(&stale(true), &wanted)?;
        let differ = || {
            ranges.values().filter_map(|found| match found {
                Ranges::Differ { lacking, surplus } => Some((lacking, surplus)),
                _ => None,
            })
        };
        let mut lacking = differ().flat_map(|(lacking, _)| lacking).peekable();
        if lacking.peek().is_some() {
            self.batch.begin(self.socket.next_sequence());
            for element in lacking {
                self.batch.add(&self.specs[&element.set], element);
            }
            self.commit("add ranges")?;
        }

        let has_twin = |set: SetId| is_of(set, odd).is_some();
        let keep = ranges
            .iter()
            .filter(|(set, found)| **found != Ranges::Wrong || has_twin(**set));
        let keep: BTreeSet<SetId> = keep.map(|(set, _)| *set).collect();
        let is_range = |set: &SetId| self.specs[set].interval;
        let complete = wanted
            .keys()
            .filter(|set| is_range(set))
            .all(|set| keep.contains(set));
        let own = self.own_elements(generation);
        let (last, own): (Vec<_>, Vec<_>) = own.into_iter().partition(|element| {
            !complete && matches!(element.set, SetId::Generation | SetId::Remember)
        });
        let wanted_now = by_set(all.iter().chain(&own));
        self.write(&standing, &keep, &wanted_now)?;
        if !last.is_empty() {
            self.batch.begin(self.socket.next_sequence());
            for element in &last {
                self.batch.add(&self.specs[&element.set], element);
            }
            self.commit("open the tables")?;
        }
        self.generation = Some(generation);
        self.refill(&stale(false), &wanted)?;
        let mut surplus = differ().flat_map(|(_, surplus)| surplus).peekable();
        if surplus.peek().is_some() {
            self.batch.begin(self.socket.next_sequence());
            for element in surplus {
                self.batch.remove(&self.specs[&element.set], element);
            }
            self.commit("remove ranges")?;
        }
        self.batch.begin(0);
        self.remember_rules()
    }

    /// The decisive transaction: rules, and all sets that are not in `keep`.
    fn write(
        &mut self,
        standing: &[Standing],
        keep: &BTreeSet<SetId>,
        wanted: &BySet<'_>,
    ) -> Result<(), TablesError> {
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(self.ownership));
        batch.begin(self.socket.next_sequence());
        let flags = self.table_flags().0;
        let mut kept = BTreeMap::new();
        let mut id = 0;
        for (spec, standing) in self.skeleton.iter().zip(standing) {
            let kept_sets = clear(&mut batch, spec, standing, flags, keep);
            let sets = self.specs.iter().filter(|(_, s)| s.table == spec.table);
            // the kernel looks for a set by its name from the first one on
            let (common, others): (Vec<_>, Vec<_>) = sets.partition(|(id, _)| is_common(**id));
            for (set_id, set) in common.into_iter().chain(others) {
                if keep.contains(set_id) {
                    continue;
                }
                if kept_sets.contains(&set_state(set)) {
                    let there = self.dump.elements(set.table, &set.name)?;
                    kept.insert(*set_id, there.into_iter().collect::<BTreeSet<_>>());
                    continue;
                }
                id += 1;
                batch.new_set(set, id);
            }
            for meter in &spec.meters {
                if !kept_sets.contains(&meter_state(meter)) {
                    id += 1;
                    batch.new_meter(spec.table, meter, id);
                }
            }
        }
        // By set, so that a message holds as many as it can.
        let elements = wanted.iter().filter(|(set, _)| !keep.contains(set));
        let elements: Vec<&Element> = elements.flat_map(|(_, list)| list).copied().collect();
        exchange(&mut batch, &self.specs, &mut kept, &elements);
        for spec in &self.skeleton {
            for chain in &spec.chains {
                for rule in &chain.rules {
                    batch.new_rule(spec.table, &chain.name, rule);
                }
            }
        }
        self.batch = batch;
        self.commit("install the tables")
    }

    /// Fills sets anew that no packet looks into.
    fn refill(&mut self, sets: &[SetId], wanted: &BySet<'_>) -> Result<(), TablesError> {
        if sets.is_empty() {
            return Ok(());
        }
        self.batch.begin(self.socket.next_sequence());
        for set in sets {
            self.batch.flush(&self.specs[set]);
            for element in wanted.get(set).into_iter().flatten() {
                self.batch.add(&self.specs[set], element);
            }
        }
        self.commit("fill ranges")
    }

    fn standing(&mut self, spec: &TableSpec) -> Result<Standing, TablesError> {
        let table = spec.table;
        let Some(state) = self.dump.table(table)? else {
            return Ok(Standing::Nothing);
        };
        let (flags, portid) = self.table_flags();
        check_owner(table, state, portid)?;
        let chains = self.dump.chains(table)?;
        let wanted_hooks: BTreeSet<_> = spec.chains.iter().filter_map(hook_of).collect();
        let standing_hooks: BTreeSet<_> = chains
            .iter()
            .filter_map(|chain| Some((chain.name.clone(), chain.hook.clone()?)))
            .collect();
        let persist = state.flags & nf::TABLE_F_PERSIST == flags & nf::TABLE_F_PERSIST;
        Ok(match persist && wanted_hooks == standing_hooks {
            true => Standing::Ours(chains, self.dump.sets(table)?),
            false => Standing::Strange,
        })
    }

    /// The sets of ranges that stand as they should, and what is in them.
    fn standing_ranges(
        &mut self,
        standing: &[Standing],
        wanted: &BySet<'_>,
    ) -> Result<BTreeMap<SetId, Ranges>, TablesError> {
        let mut ranges = BTreeMap::new();
        let mut numbers = Numbers::default();
        for (spec, standing) in self.skeleton.iter().zip(standing) {
            let Standing::Ours(_, sets) = standing else {
                continue;
            };
            let of_table = self.specs.iter().filter(|(_, set)| set.table == spec.table);
            for (id, set) in of_table.filter(|(_, set)| set.interval) {
                let stands = sets.contains(&set_state(set));
                let found = match stands {
                    true => self.dump.elements(set.table, &set.name)?,
                    false => Vec::new(),
                };
                let wanted = wanted.get(id).map(Vec::as_slice).unwrap_or_default();
                if id.is_numbered() {
                    numbers.note(&found, wanted);
                }
                if !stands {
                    continue;
                }
                ranges.insert(*id, Ranges::of(*id, set, found, wanted));
            }
        }
        numbers.settle(&mut ranges);
        Ok(ranges)
    }
}

/// Whether a set with a twin is the one that packets of the next generation look into.
fn is_of(set: SetId, next_odd: bool) -> Option<bool> {
    match set {
        SetId::IfOdd(..) => Some(next_odd),
        _ => set.twin().map(|_| !next_odd),
    }
}

fn by_set<'a>(elements: impl IntoIterator<Item = &'a Element>) -> BySet<'a> {
    let mut by_set = BySet::new();
    for element in elements {
        by_set.entry(element.set).or_default().push(element);
    }
    by_set
}

/// Adds `all`, but to sets that were kept only what they lack; what they have too much goes.
fn exchange(
    batch: &mut Batch,
    specs: &BTreeMap<SetId, SetSpec>,
    kept: &mut BTreeMap<SetId, BTreeSet<ElementState>>,
    all: &[&Element],
) {
    let mut add = Vec::new();
    for element in all {
        let there = kept.get_mut(&element.set);
        if !there.is_some_and(|there| there.remove(&ElementState::exact(element))) {
            add.push(*element);
        }
    }
    for (set, too_much) in kept {
        for state in too_much.iter() {
            batch.remove(&specs[set], &state.element(*set));
        }
    }
    for element in add {
        batch.add(&specs[&element.set], element);
    }
}

/// Makes the table and its chains stand empty, whatever stands there now. Returns the sets that it
/// left standing with their elements. Those of `keep`; maps: the kernel takes the elements of a deleted map out of force
/// before the last packet has left the old rules, and that packet would find nothing. Meters: buckets
/// stay as empty, and counts as high, as they are.
fn clear(
    batch: &mut Batch,
    spec: &TableSpec,
    standing: &Standing,
    flags: u32,
    keep: &BTreeSet<SetId>,
) -> Vec<SetState> {
    let table = spec.table;
    let (standing, sets) = match standing {
        Standing::Ours(chains, sets) => (chains, sets),
        other => {
            // Nothing of a strange one can be kept, and a packet on its way between the old base chain and
            // the new one while this commits may meet neither.
            if matches!(other, Standing::Strange) {
                batch.delete_table(table);
            }
            batch.new_table(table, flags);
            for chain in &spec.chains {
                batch.new_chain(table, chain);
            }
            return Vec::new();
        }
    };
    batch.new_table(table, flags);
    batch.delete_rules(table);
    let ours = SetId::all().into_iter().filter_map(|id| {
        let set = id.spec();
        let is_map = !set.interval && !set.data.is_empty();
        (is_map || keep.contains(&id)).then(|| set_state(&set))
    });
    let wanted: Vec<_> = ours.chain(spec.meters.iter().map(meter_state)).collect();
    let (kept, others): (Vec<_>, Vec<_>) =
        sets.iter().cloned().partition(|set| wanted.contains(set));
    for set in others {
        batch.delete_set(table, &set.name);
    }
    let wanted: BTreeSet<_> = spec
        .chains
        .iter()
        .map(|chain| chain.name.as_str())
        .collect();
    let names: BTreeSet<_> = standing.iter().map(|chain| chain.name.as_str()).collect();
    for name in names.difference(&wanted) {
        batch.delete_chain(table, name);
    }
    for chain in &spec.chains {
        if !names.contains(chain.name.as_str()) {
            batch.new_chain(table, chain);
        }
    }
    kept
}

/// Name, type, hook and priority of a base chain, as the kernel tells them.
pub(super) fn hook_of(chain: &Chain) -> Option<(String, (String, u32, i32))> {
    let hook = chain.hook?;
    let kind = if hook.nat { "nat" } else { "filter" };
    let number = match hook.point {
        Point::Prerouting => 0,
        Point::Input => 1,
        Point::Forward => 2,
        Point::Output => 3,
        Point::Postrouting => 4,
    };
    Some((chain.name.clone(), (kind.to_owned(), number, hook.priority)))
}
