//! netd's two tables: installed in one transaction, changed in one transaction.
//!
//! The base chains are never deleted while they are what the skeleton says: were they deleted and
//! made again in one batch, a packet that is between the new chain (not yet in force) and the old
//! one (no longer in force) when the batch commits would meet neither. So an install deletes rules
//! and sets and writes new ones into the chains that stand; the kernel switches all chains at once.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use zone::IfName;

use super::dump::{Dump, ElementState, RuleState, SetState, TableState};
use super::encode::{Batch, meter_state, set_state};
use super::nf;
use super::socket::{Socket, SocketError};
use super::words;
use crate::sets::{Changes, Element, Family, Key, Limit, SetId, SetSpec, Table};
use crate::skeleton::ir::{Chain, Point, TableSpec};
use crate::skeleton::{self, REMEMBERED, REMEMBERED_MASK};

/// The tables could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// The socket failed, or the kernel refused to say something.
    #[error("talk to nf_tables")]
    Socket(#[from] SocketError),
    /// The kernel refused a transaction; nothing of it is in force.
    #[error("{doing}: {what}")]
    Refused {
        /// What was tried
        doing: &'static str,
        /// The object at fault: an element, a rule, a set
        what: String,
        /// What the kernel said
        source: SocketError,
    },
    /// Another live socket owns the table: a daemon, or a keeper that was not asked for its socket.
    #[error(
        "table {family} netd is owned by another socket (port {portid}): is another netd, or its keeper, running?"
    )]
    Owned {
        /// `inet` or `bridge`
        family: &'static str,
        /// The owner's netlink port
        portid: u32,
    },
    /// Elements cannot be changed before the tables are there.
    #[error("the tables are not installed yet")]
    NotInstalled,
}

/// netd's tables in the kernel of this network namespace.
#[derive(Debug)]
pub struct Tables {
    socket: Socket,
    dump: Dump,
    batch: Batch,
    specs: BTreeMap<SetId, SetSpec>,
    skeleton: Vec<TableSpec>,
    ownership: bool,
    opened: BTreeSet<(Family, IfName)>,
    /// 24 bits; nothing before the first install.
    generation: Option<u32>,
    /// As the kernel told them after the install.
    pub(super) rules: Vec<(Table, Vec<RuleState>)>,
}

const BOTH: [Table; 2] = [Table::Inet, Table::Bridge];

impl Tables {
    /// Opens a socket, or takes over the one that the keeper held (it owns the tables), and asks
    /// the kernel whether tables can be owned and persist (Linux 6.9).
    ///
    /// # Errors
    /// No netlink, or no CAP_NET_ADMIN.
    pub fn open(socket: Option<OwnedFd>) -> Result<Self, TablesError> {
        let mut socket = match socket {
            Some(fd) => Socket::from_fd(fd)?,
            None => Socket::netfilter()?,
        };
        let ownership = probe(&mut socket)?;
        Ok(Self {
            socket,
            dump: Dump::open()?,
            batch: Batch::default(),
            specs: SetId::all().into_iter().map(|id| (id, id.spec())).collect(),
            skeleton: skeleton::tables(),
            ownership,
            opened: BTreeSet::new(),
            generation: None,
            rules: Vec::new(),
        })
    }

    /// The socket that owns the tables, to be handed to the keeper.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Its netlink port, for [`super::TableMonitor`].
    pub fn portid(&self) -> u32 {
        self.socket.portid()
    }

    /// Whether nobody but the owner of [`Tables::socket`] can change the tables.
    pub fn owned(&self) -> bool {
        self.ownership
    }

    /// The generation that new verdicts are remembered with, as it stands in conntrack marks.
    pub fn generation(&self) -> Option<u32> {
        self.generation.map(|g| REMEMBERED | g)
    }

    fn flags(&self) -> u32 {
        if self.ownership {
            nf::TABLE_F_OWNER | nf::TABLE_F_PERSIST
        } else {
            0
        }
    }

    /// Writes the skeleton with the limits in use, `elements`, what [`Tables::set_opened`] was told and a new generation,
    /// in one transaction that replaces whatever tables of ours are there: our own, an orphan's, or
    /// none. No packet sees a moment without rules. All remembered verdicts are forgotten.
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
        let mut batch = std::mem::take(&mut self.batch);
        batch.begin(self.socket.next_sequence());
        let (flags, portid) = self.table_flags();
        let mut kept = BTreeMap::new();
        let mut id = 0;
        for spec in &self.skeleton {
            let keep = clear(&mut batch, &mut self.dump, spec, flags, portid)?;
            let sets = self.specs.iter().filter(|(_, s)| s.table == spec.table);
            // the kernel looks for a set by its name from the first one on
            let (common, others): (Vec<_>, Vec<_>) = sets.partition(|(id, _)| is_common(**id));
            for (set_id, set) in common.into_iter().chain(others) {
                if keep.contains(&set_state(set)) {
                    let there = self.dump.elements(set.table, &set.name)?;
                    kept.insert(*set_id, there.into_iter().collect::<BTreeSet<_>>());
                    continue;
                }
                id += 1;
                batch.new_set(set, id);
            }
            for meter in &spec.meters {
                if !keep.contains(&meter_state(meter)) {
                    id += 1;
                    batch.new_meter(spec.table, meter, id);
                }
            }
        }
        let own = self.own_elements(generation);
        let mut all: Vec<&Element> = elements.iter().chain(&own).collect();
        // By set, so that a message holds as many as it can.
        all.sort_by_key(|element| element.set);
        exchange(&mut batch, &self.specs, &mut kept, &all);
        for spec in &self.skeleton {
            for chain in &spec.chains {
                for rule in &chain.rules {
                    batch.new_rule(spec.table, &chain.name, rule);
                }
            }
        }
        self.batch = batch;
        self.commit("install the tables")?;
        self.batch.begin(0);
        self.generation = Some(generation);
        self.remember_rules()
    }

    /// The one after the last, which may be another daemon's: verdicts it remembered must not count.
    fn next_generation(&mut self) -> Result<u32, TablesError> {
        let last = match self.generation {
            Some(generation) => Some(generation),
            None => self.generation_in_kernel()?,
        };
        Ok(last.map_or_else(super::random, |g| g.wrapping_add(1)) & !REMEMBERED_MASK)
    }

    fn generation_in_kernel(&mut self) -> Result<Option<u32>, TablesError> {
        let name = SetId::Generation.spec().name;
        let elements = self.dump.elements(Table::Inet, &name)?;
        Ok(elements
            .first()
            .and_then(|element| super::wire::u32_at(&element.key, 0)))
    }

    /// The elements that are not the compiler's business.
    pub(super) fn own_elements(&self, generation: u32) -> Vec<Element> {
        let opened = self.opened.iter().map(opened_element);
        opened.chain(generation_elements(generation)).collect()
    }

    /// Applies changes in one transaction, or not at all. Removing what is not there and adding
    /// what is are errors: the caller's picture is wrong, and it should [`Tables::install`].
    ///
    /// # Errors
    /// [`TablesError::NotInstalled`], or what the kernel refused, with the element at fault.
    pub fn apply(&mut self, changes: &Changes) -> Result<(), TablesError> {
        let old = self.generation.ok_or(TablesError::NotInstalled)?;
        if changes.is_empty() {
            return Ok(());
        }
        let new = match changes.forget {
            true => old.wrapping_add(1) & !REMEMBERED_MASK,
            false => old,
        };
        let sequence = self.socket.next_sequence();
        self.batch.begin(sequence);
        let mut remove: Vec<&Element> = changes.remove.iter().collect();
        remove.sort_by_key(|element| element.set);
        for element in remove {
            self.batch.remove(&self.specs[&element.set], element);
        }
        if changes.forget {
            for element in generation_elements(old) {
                self.batch.remove(&self.specs[&element.set], &element);
            }
            for element in generation_elements(new) {
                self.batch.add(&self.specs[&element.set], &element);
            }
        }
        let mut add: Vec<&Element> = changes.add.iter().collect();
        add.sort_by_key(|element| element.set);
        for element in add {
            self.batch.add(&self.specs[&element.set], element);
        }
        let mut skeleton = None;
        if let Some(limits) = &changes.limits {
            let mut tables = self.skeleton.clone();
            for chain in skeleton::set_limits(&mut tables, limits) {
                self.batch.delete_rules_of(Table::Inet, &chain.name);
                for rule in &chain.rules {
                    self.batch.new_rule(Table::Inet, &chain.name, rule);
                }
            }
            skeleton = Some(tables);
        }
        self.commit("change elements")?;
        self.generation = Some(new);
        if let Some(skeleton) = skeleton {
            self.skeleton = skeleton;
            self.remember_rules()?;
        }
        Ok(())
    }

    /// Reads the rules back, for [`Tables::verify`] to compare with.
    fn remember_rules(&mut self) -> Result<(), TablesError> {
        self.rules.clear();
        for table in BOTH {
            let rules = self.dump.rules(table)?;
            self.rules.push((table, rules));
        }
        Ok(())
    }

    /// Says on which interfaces netd switched forwarding on, for IPv4 and for IPv6: what they send
    /// elsewhere than to zones is dropped. In force at once, or with the first install.
    ///
    /// # Errors
    /// As [`Tables::apply`].
    pub fn set_opened(
        &mut self,
        four: &BTreeSet<IfName>,
        six: &BTreeSet<IfName>,
    ) -> Result<(), TablesError> {
        let four = four.iter().map(|name| (Family::V4, name.clone()));
        let six = six.iter().map(|name| (Family::V6, name.clone()));
        let new: BTreeSet<_> = four.chain(six).collect();
        if self.generation.is_some() && new != self.opened {
            self.apply(&Changes {
                remove: self.opened.difference(&new).map(opened_element).collect(),
                add: new.difference(&self.opened).map(opened_element).collect(),
                limits: None,
                forget: false,
            })?;
        }
        self.opened = new;
        Ok(())
    }

    /// Deletes both tables.
    ///
    /// # Errors
    /// [`TablesError::Owned`], or what the kernel refused.
    pub fn remove(&mut self) -> Result<(), TablesError> {
        self.batch.begin(self.socket.next_sequence());
        let mut any = false;
        for table in BOTH {
            if let Some(state) = self.dump.table(table)? {
                check_owner(table, state, self.socket.portid())?;
                self.batch.delete_table(table);
                any = true;
            }
        }
        self.generation = None;
        match any {
            true => self.commit("delete the tables"),
            false => Ok(()),
        }
    }

    pub(super) fn parts(&mut self) -> (&mut Dump, &BTreeMap<SetId, SetSpec>, &[TableSpec]) {
        (&mut self.dump, &self.specs, &self.skeleton)
    }

    pub(super) fn table_flags(&self) -> (u32, u32) {
        (self.flags(), self.socket.portid())
    }

    pub(super) fn current(&self) -> Option<u32> {
        self.generation
    }

    fn commit(&mut self, doing: &'static str) -> Result<(), TablesError> {
        let (bytes, last) = self.batch.finish();
        let result = self.socket.transact(bytes, last);
        let result = result.map_err(|source| match &source {
            SocketError::Refused {
                sequence, offset, ..
            } => TablesError::Refused {
                doing,
                what: words::object(bytes, *sequence, *offset),
                source,
            },
            _ => TablesError::Socket(source),
        });
        // Sequence numbers of the batch are used up.
        self.socket.skip_to(self.batch.sequence());
        result
    }
}

/// The generation itself, and the map from which packets learn it.
fn generation_elements(generation: u32) -> [Element; 3] {
    let mark = Key::new().mark(REMEMBERED | generation);
    let remember = |nfproto| Element {
        set: SetId::Remember,
        key: Key::new().nfproto(nfproto),
        last: None,
        data: Some(mark.clone()),
        timeout: None,
    };
    let generation = Element {
        set: SetId::Generation,
        key: mark.clone(),
        last: None,
        data: None,
        timeout: None,
    };
    [generation, remember(2), remember(10)]
}

/// A table that is made and deleted in one transaction: no trace of it is ever seen.
fn probe(socket: &mut Socket) -> Result<bool, TablesError> {
    let mut batch = Batch::default();
    batch.begin(socket.next_sequence());
    batch.probe_table(nf::TABLE_F_OWNER | nf::TABLE_F_PERSIST);
    let (bytes, last) = batch.finish();
    let result = socket.transact(bytes, last);
    socket.skip_to(batch.sequence());
    match result {
        Ok(()) => Ok(true),
        Err(SocketError::Refused { errno, .. })
            if errno == rustix::io::Errno::OPNOTSUPP || errno == rustix::io::Errno::INVAL =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn check_owner(table: Table, state: TableState, portid: u32) -> Result<(), TablesError> {
    match state.owner {
        Some(owner) if owner != portid => Err(TablesError::Owned {
            family: skeleton::text::family_of(table),
            portid: owner,
        }),
        _ => Ok(()),
    }
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
/// left standing with their elements. Maps: the kernel takes the elements of a deleted map out of force
/// before the last packet has left the old rules, and that packet would find nothing. Meters: buckets
/// stay as empty, and counts as high, as they are.
fn clear(
    batch: &mut Batch,
    dump: &mut Dump,
    spec: &TableSpec,
    flags: u32,
    portid: u32,
) -> Result<Vec<SetState>, TablesError> {
    let table = spec.table;
    let Some(state) = dump.table(table)? else {
        batch.new_table(table, flags);
        for chain in &spec.chains {
            batch.new_chain(table, chain);
        }
        return Ok(Vec::new());
    };
    check_owner(table, state, portid)?;
    let standing = dump.chains(table)?;
    let wanted_hooks: BTreeSet<_> = spec.chains.iter().filter_map(hook_of).collect();
    let standing_hooks: BTreeSet<_> = standing
        .iter()
        .filter_map(|chain| Some((chain.name.clone(), chain.hook.clone()?)))
        .collect();
    let persist = state.flags & nf::TABLE_F_PERSIST == flags & nf::TABLE_F_PERSIST;
    if !persist || wanted_hooks != standing_hooks {
        // Not a table of this netd on this kernel (another program's, or another version's hooks):
        // nothing of it can be kept, and a packet on its way between the old base chain and the new
        // one while this commits may meet neither.
        batch.delete_table(table);
        batch.new_table(table, flags);
        for chain in &spec.chains {
            batch.new_chain(table, chain);
        }
        return Ok(Vec::new());
    }
    batch.new_table(table, flags);
    batch.delete_rules(table);
    let maps = SetId::all()
        .into_iter()
        .map(|id| set_state(&id.spec()))
        .filter(|set| set.flags & nf::SET_F_MAP != 0);
    let wanted: Vec<_> = maps.chain(spec.meters.iter().map(meter_state)).collect();
    let (kept, others): (Vec<_>, Vec<_>) = dump
        .sets(table)?
        .into_iter()
        .partition(|set| wanted.contains(set));
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
    Ok(kept)
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

/// Sets in which most containers have elements.
fn is_common(id: SetId) -> bool {
    use crate::sets::{Action, Shape};
    match id {
        SetId::Own(_)
        | SetId::ZoneOf(_)
        | SetId::LabelsOf(_)
        | SetId::NoDeny(..)
        | SetId::Generation
        | SetId::Remember => true,
        SetId::Rule(_, _, Action::Allow, shape) => matches!(
            shape,
            Shape::PeerPort | Shape::GroupPort | Shape::Group | Shape::NetPort | Shape::GroupProto
        ),
        _ => false,
    }
}

fn opened_element((family, name): &(Family, IfName)) -> Element {
    Element {
        set: SetId::Opened(*family),
        key: Key::new().ifname(name),
        last: None,
        data: None,
        timeout: None,
    }
}
