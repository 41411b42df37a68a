//! What is in the kernel: tables, chains, sets and elements, read over a socket of their own.
//!
//! A dump that another program's change interrupts is read again (`NLM_F_DUMP_INTR`).

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};

use super::encode::{exact, family_of};
use super::nf::{self, flag, msg};
use super::socket::{Socket, SocketError};
use super::wire::{self, NFGEN, Writer};
use crate::sets::{Element, Key, SetId, SetSpec, Table};
use crate::skeleton::TABLE;

/// How often an interrupted dump is read again.
const ATTEMPTS: usize = 20;

/// A table as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableState {
    pub(super) flags: u32,
    /// Port of the socket that owns it.
    pub(super) owner: Option<u32>,
}

/// A chain as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainState {
    pub(super) name: String,
    /// Type, hook and priority of a base chain.
    pub(super) hook: Option<(String, u32, i32)>,
}

/// A set as the kernel has it; types and lengths of key and data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetState {
    pub(super) name: String,
    pub(super) flags: u32,
    pub(super) key: (u32, u32),
    pub(super) data: (u32, u32),
}

/// A rule as the kernel has it: its chain, and a hash of its expressions without counters.
pub(super) type RuleState = (String, u64);

/// An element as the kernel has it. Keys are padded to registers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ElementState {
    pub(super) key: Vec<u8>,
    pub(super) key_end: Option<Vec<u8>>,
    pub(super) interval_end: bool,
    pub(super) data: Option<Vec<u8>>,
}

impl ElementState {
    /// An element of a hash set or map as a dump would show it.
    pub(super) fn exact(element: &Element) -> Self {
        Self {
            key: element.key.0.clone(),
            key_end: None,
            interval_end: false,
            data: element.data.as_ref().map(|data| data.0.clone()),
        }
    }

    /// The element of a hash set or map that the dump showed.
    pub(super) fn element(&self, set: SetId) -> Element {
        Element {
            set,
            key: Key(self.key.clone()),
            last: None,
            data: self.data.clone().map(Key),
            timeout: None,
        }
    }
}

/// Reads nf_tables.
#[derive(Debug)]
pub(super) struct Dump {
    socket: Socket,
    writer: Writer,
}

impl Dump {
    pub(super) fn open() -> Result<Self, SocketError> {
        Ok(Self {
            socket: Socket::netfilter()?,
            writer: Writer::default(),
        })
    }

    fn all<T>(
        &mut self,
        kind: u16,
        table: Table,
        filter: impl Fn(&mut Writer),
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, SocketError> {
        self.ask(kind, flag::DUMP, table, filter, parse)
    }

    /// What the kernel answers; nothing where it has nothing of the kind.
    fn ask<T>(
        &mut self,
        kind: u16,
        how: u16,
        table: Table,
        filter: impl Fn(&mut Writer),
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, SocketError> {
        for _ in 0..ATTEMPTS {
            let sequence = self.socket.next_sequence();
            let family = family_of(table);
            self.writer.clear();
            self.writer.begin(
                nf::SUBSYS_NFTABLES << 8 | kind,
                flag::REQUEST | how,
                sequence,
                &[family, 0, 0, 0],
            );
            filter(&mut self.writer);
            self.writer.end();
            let mut all = Vec::new();
            let result = self
                .socket
                .dump(self.writer.as_slice(), sequence, |message| {
                    let family_matches = message.body.first() == Some(&family);
                    let body = message.body.get(NFGEN..).unwrap_or_default();
                    if family_matches {
                        all.extend(parse(body));
                    }
                });
            match result {
                Ok(true) => return Ok(all),
                Ok(false) => {}
                Err(SocketError::Refused { errno, .. }) if errno == rustix::io::Errno::NOENT => {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            }
        }
        Err(SocketError::Interrupted)
    }

    /// Our table, if it is there.
    pub(super) fn table(&mut self, table: Table) -> Result<Option<TableState>, SocketError> {
        let parse = |body: &[u8]| {
            (wire::text(body, nf::TABLE_NAME)? == TABLE).then(|| TableState {
                flags: wire::be32(body, nf::TABLE_FLAGS).unwrap_or(0),
                owner: wire::be32(body, nf::TABLE_OWNER),
            })
        };
        Ok(self.all(msg::GETTABLE, table, |_| {}, parse)?.pop())
    }

    /// The chains of our table.
    pub(super) fn chains(&mut self, table: Table) -> Result<Vec<ChainState>, SocketError> {
        self.all(
            msg::GETCHAIN,
            table,
            |_| {},
            |body| {
                if wire::text(body, nf::CHAIN_TABLE)? != TABLE {
                    return None;
                }
                let hook = wire::attribute(body, nf::CHAIN_HOOK).and_then(|hook| {
                    Some((
                        wire::text(body, nf::CHAIN_TYPE)?.to_owned(),
                        wire::be32(hook, nf::HOOK_HOOKNUM)?,
                        wire::be32(hook, nf::HOOK_PRIORITY)?.cast_signed(),
                    ))
                });
                Some(ChainState {
                    name: wire::text(body, nf::CHAIN_NAME)?.to_owned(),
                    hook,
                })
            },
        )
    }

    /// The sets of our table.
    pub(super) fn sets(&mut self, table: Table) -> Result<Vec<SetState>, SocketError> {
        self.all(
            msg::GETSET,
            table,
            |w| w.text(nf::SET_TABLE, TABLE),
            |body| {
                if wire::text(body, nf::SET_TABLE)? != TABLE {
                    return None;
                }
                let number = |kind| wire::be32(body, kind).unwrap_or(0);
                Some(SetState {
                    name: wire::text(body, nf::SET_NAME)?.to_owned(),
                    flags: number(nf::SET_FLAGS),
                    key: (number(nf::SET_KEY_TYPE), number(nf::SET_KEY_LEN)),
                    data: (number(nf::SET_DATA_TYPE), number(nf::SET_DATA_LEN)),
                })
            },
        )
    }

    /// The elements of a set.
    pub(super) fn elements(
        &mut self,
        table: Table,
        set: &str,
    ) -> Result<Vec<ElementState>, SocketError> {
        self.elements_as(table, set, parse_element)
    }

    /// Which of these are there: the kernel looks each up by its key, however many others there are. Of a set of ranges
    /// it finds the element in which the key lies; and one that has a neighbour with the same key it may not find.
    pub(super) fn those_of(
        &mut self,
        spec: &SetSpec,
        elements: &BTreeSet<ElementState>,
    ) -> Result<BTreeSet<ElementState>, SocketError> {
        let mut found = BTreeSet::new();
        for element in elements {
            let lists = self.ask(
                msg::GETSETELEM,
                flag::ACK,
                spec.table,
                |w| {
                    w.text(nf::ELEM_LIST_TABLE, TABLE);
                    w.text(nf::ELEM_LIST_SET, &spec.name);
                    w.nest(nf::ELEM_LIST_ELEMENTS, |w| {
                        w.nest(nf::LIST_ELEM, |w| {
                            if element.interval_end {
                                w.be32(nf::ELEM_FLAGS, nf::ELEM_F_INTERVAL_END);
                            }
                            w.nest(nf::ELEM_KEY, |w| {
                                w.bytes(nf::DATA_VALUE, exact(spec, &element.key));
                            });
                        });
                    });
                },
                |body| {
                    let list = wire::attribute(body, nf::ELEM_LIST_ELEMENTS)?;
                    wire::attributes(list).find_map(|(_, element)| parse_element(element))
                },
            )?;
            found.extend(lists);
        }
        Ok(found)
    }

    /// The elements of a set that counts, each with the packets that matched it.
    pub(super) fn counted(
        &mut self,
        table: Table,
        set: &str,
    ) -> Result<Vec<(ElementState, u64)>, SocketError> {
        self.elements_as(table, set, |element| {
            let counter = wire::attribute(element, nf::ELEM_EXPR)
                .and_then(|expression| wire::attribute(expression, nf::EXPR_DATA));
            let packets = counter.and_then(|data| wire::be64(data, nf::COUNTER_PACKETS));
            Some((parse_element(element)?, packets.unwrap_or(0)))
        })
    }

    fn elements_as<T>(
        &mut self,
        table: Table,
        set: &str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, SocketError> {
        let lists = self.all(
            msg::GETSETELEM,
            table,
            |w| {
                w.text(nf::ELEM_LIST_TABLE, TABLE);
                w.text(nf::ELEM_LIST_SET, set);
            },
            |body| {
                let list = wire::attribute(body, nf::ELEM_LIST_ELEMENTS)?;
                Some(
                    wire::attributes(list)
                        .filter_map(|(_, element)| parse(element))
                        .collect::<Vec<_>>(),
                )
            },
        )?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// The rules of our table, in order. Counters are left out, they count.
    pub(super) fn rules(&mut self, table: Table) -> Result<Vec<RuleState>, SocketError> {
        self.all(
            msg::GETRULE,
            table,
            |w| w.text(nf::RULE_TABLE, TABLE),
            |body| {
                if wire::text(body, nf::RULE_TABLE)? != TABLE {
                    return None;
                }
                let chain = wire::text(body, nf::RULE_CHAIN)?.to_owned();
                let mut content = DefaultHasher::new();
                let list = wire::attribute(body, nf::RULE_EXPRESSIONS)?;
                for (_, expression) in wire::attributes(list) {
                    if wire::text(expression, nf::EXPR_NAME) != Some("counter") {
                        content.write(expression);
                    }
                }
                Some((chain, content.finish()))
            },
        )
    }
}

/// One element: also used to name the element in an error.
pub(super) fn parse_element(element: &[u8]) -> Option<ElementState> {
    let value = |kind| {
        let data = wire::attribute(element, kind)?;
        let mut value = wire::attribute(data, nf::DATA_VALUE)?.to_vec();
        value.resize(value.len().next_multiple_of(4), 0);
        Some(value)
    };
    let flags = wire::be32(element, nf::ELEM_FLAGS).unwrap_or(0);
    Some(ElementState {
        key: value(nf::ELEM_KEY)?,
        key_end: value(nf::ELEM_KEY_END),
        interval_end: flags & nf::ELEM_F_INTERVAL_END != 0,
        data: value(nf::ELEM_DATA),
    })
}
