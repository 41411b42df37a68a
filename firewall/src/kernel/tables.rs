//! netd's two tables, and changes of their elements. [`super::install`] writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use zone::IfName;

use super::dump::{Dump, RuleState, TableState};
use super::encode::Batch;
use super::nf;
use super::socket::{Socket, SocketError};
use super::steps::{self, Step};
use super::words;
use crate::sets::{Changes, Element, Family, Key, Life, SetId, SetSpec, Table};
use crate::skeleton::ir::TableSpec;
use crate::skeleton::{self, COUNTED, REMEMBERED, REMEMBERED_MASK};

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
    pub(super) socket: Socket,
    pub(super) dump: Dump,
    pub(super) batch: Batch,
    pub(super) specs: BTreeMap<SetId, SetSpec>,
    pub(super) skeleton: Vec<TableSpec>,
    pub(super) ownership: bool,
    bridge_names: bool,
    opened: BTreeSet<(Family, IfName)>,
    /// 24 bits; nothing before the first install.
    pub(super) generation: Option<u32>,
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
        let ownership = probe(&mut socket, |batch| {
            batch.probe_table(nf::TABLE_F_OWNER | nf::TABLE_F_PERSIST);
        })?;
        let mut skeleton = skeleton::tables();
        let bridge_names = probe(&mut socket, Batch::probe_bridge_names)?;
        if !bridge_names {
            skeleton::without_bridge_names(&mut skeleton);
        }
        Ok(Self {
            socket,
            dump: Dump::open()?,
            // Linux 6.3 can, and 6.9 lets tables be owned.
            batch: Batch::new(ownership),
            specs: SetId::all().into_iter().map(|id| (id, id.spec())).collect(),
            skeleton,
            ownership,
            bridge_names,
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

    /// Whether rules alone keep ports apart that nobody attached, because the kernel tells them of bridges.
    pub fn knows_bridges(&self) -> bool {
        self.bridge_names
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

    /// The one after the last, which may be another daemon's: verdicts it remembered must not count.
    pub(super) fn next_generation(&mut self) -> Result<u32, TablesError> {
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
        // A kernel that knows no owners (6.9) may not know how to renew an element either (6.3).
        let always = changing().into_iter().filter(|_| !self.ownership);
        let always = always.map(|element| Element {
            timeout: None,
            ..element
        });
        let odd = odd_elements().into_iter().filter(|_| is_odd(generation));
        let generation = generation_elements(generation).into_iter();
        opened.chain(generation).chain(odd).chain(always).collect()
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
        let steps = steps::plan(changes, is_odd(new));
        if let Some(step) = &steps.before {
            self.begin(step);
            self.commit("change ranges")?;
        }
        self.begin(&steps.decisive);
        if changes.forget {
            let parity = (is_odd(old), is_odd(new));
            for element in generation_elements(old) {
                self.batch.remove(&self.specs[&element.set], &element);
            }
            for element in generation_elements(new) {
                self.batch.add(&self.specs[&element.set], &element);
            }
            for element in odd_elements() {
                match parity {
                    (true, false) => self.batch.remove(&self.specs[&element.set], &element),
                    (false, true) => self.batch.add(&self.specs[&element.set], &element),
                    _ => {}
                }
            }
            if self.ownership {
                let spec = &self.specs[&SetId::Changing];
                let changing = changing();
                changing.iter().for_each(|c| self.batch.remove(spec, c));
                changing.iter().for_each(|c| self.batch.add(spec, c));
            }
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
        if let Some(step) = &steps.after {
            self.begin(step);
            self.commit("change ranges of the last generation")?;
        }
        if let Some(skeleton) = skeleton {
            self.skeleton = skeleton;
            self.remember_rules()?;
        }
        Ok(())
    }

    /// Begins a transaction with what it removes and adds.
    fn begin(&mut self, step: &Step) {
        self.batch.begin(self.socket.next_sequence());
        for element in &step.remove {
            self.batch.remove(&self.specs[&element.set], element);
        }
        for element in &step.add {
            self.batch.add(&self.specs[&element.set], element);
        }
    }

    /// Reads the rules back, for [`Tables::verify`] to compare with.
    pub(super) fn remember_rules(&mut self) -> Result<(), TablesError> {
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

    pub(super) fn commit(&mut self, doing: &'static str) -> Result<(), TablesError> {
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

/// Seconds during which a judgement may have begun before the last batch.
const SETTLES: u32 = 1;

/// What says that a batch committed within the last second, for even and odd generations.
fn changing() -> [Element; 2] {
    [COUNTED, COUNTED | 1].map(|mark| Element {
        timeout: Some(Life::Seconds(SETTLES)),
        ..Element::new(SetId::Changing, Key::new().mark(mark))
    })
}

/// What says that the generation is odd.
fn odd_elements() -> [Element; 2] {
    [2, 10].map(|nfproto| Element::new(SetId::Odd, Key::new().nfproto(nfproto)))
}

pub(super) fn is_odd(generation: u32) -> bool {
    generation & 1 == 1
}

/// The generation itself, and the map from which packets learn it.
fn generation_elements(generation: u32) -> [Element; 3] {
    let mark = Key::new().mark(REMEMBERED | generation);
    let remember =
        |nfproto| Element::entry(SetId::Remember, Key::new().nfproto(nfproto), mark.clone());
    let generation = Element::new(SetId::Generation, mark.clone());
    [generation, remember(2), remember(10)]
}

/// Whether the kernel takes a transaction that makes a table and deletes it: no trace of it is ever seen.
fn probe(socket: &mut Socket, fill: impl FnOnce(&mut Batch)) -> Result<bool, TablesError> {
    let mut batch = Batch::default();
    batch.begin(socket.next_sequence());
    fill(&mut batch);
    let (bytes, last) = batch.finish();
    let result = socket.transact(bytes, last);
    socket.skip_to(batch.sequence());
    match result {
        Ok(()) => Ok(true),
        Err(SocketError::Refused {
            errno:
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT,
            ..
        }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn check_owner(table: Table, state: TableState, portid: u32) -> Result<(), TablesError> {
    match state.owner {
        Some(owner) if owner != portid => Err(TablesError::Owned {
            family: skeleton::text::family_of(table),
            portid: owner,
        }),
        _ => Ok(()),
    }
}

fn opened_element((family, name): &(Family, IfName)) -> Element {
    Element::new(SetId::Opened(*family), Key::new().ifname(name))
}
