//! Other programs' tables, and the routing table's word on a way, as data for [`crate::explain`].
//!
//! Read over sockets of their own and given up again: explanations are rare, and what they read is never
//! kept. Nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::foreign_rules;
use super::nf::{self, flag, msg};
use super::socket::{Socket, SocketError};
use super::wire::{self, NFGEN, Writer};
use crate::explain::Way;
use crate::explain::foreign::{
    Base, Element, Expression, Hook, Ruleset, RulesetChain, RulesetRule, RulesetSet, RulesetTable,
    TableFamily,
};
use crate::skeleton::TABLE;

/// How often an interrupted dump is read again.
const ATTEMPTS: usize = 20;
/// Elements of one set that are read; of a larger one it is not known who else is in it.
const LARGEST_SET: usize = 1 << 16;

const NFTA_HANDLE: u16 = 3;
const ELEM_F_CATCHALL: u32 = 2;

/// Every table but netd's own, and what is known of the old iptables.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn read() -> Result<Ruleset, SocketError> {
    let mut reader = Reader {
        socket: Socket::netfilter()?,
        writer: Writer::default(),
    };
    let tables = reader.tables()?;
    let mut ruleset = Ruleset {
        tables,
        legacy: legacy(),
    };
    if ruleset.tables.is_empty() {
        return Ok(ruleset);
    }
    reader.chains(&mut ruleset.tables)?;
    ruleset
        .tables
        .retain(|table| table.chains.iter().any(|chain| chain.base.is_some()));
    reader.rules(&mut ruleset.tables)?;
    reader.sets(&mut ruleset.tables)?;
    Ok(ruleset)
}

/// Tables of `ip_tables` and `ip6_tables` that are in use; netlink does not show them.
fn legacy() -> Vec<String> {
    let mut names = Vec::new();
    for (file, program) in [
        ("/proc/net/ip_tables_names", "iptables"),
        ("/proc/net/ip6_tables_names", "ip6tables"),
    ] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        names.extend(text.lines().map(|table| format!("{program} {table}")));
    }
    names
}

fn family(number: u8) -> Option<TableFamily> {
    Some(match number {
        1 => TableFamily::Inet,
        2 => TableFamily::Ip,
        3 => TableFamily::Arp,
        7 => TableFamily::Bridge,
        10 => TableFamily::Ip6,
        _ => return None,
    })
}

fn number(family: TableFamily) -> u8 {
    match family {
        TableFamily::Inet => 1,
        TableFamily::Ip => 2,
        TableFamily::Arp => 3,
        TableFamily::Bridge => 7,
        TableFamily::Ip6 => 10,
    }
}

struct Reader {
    socket: Socket,
    writer: Writer,
}

impl Reader {
    /// Every object of a kind, with the family of its table; `filter` narrows it down.
    fn all<T>(
        &mut self,
        kind: u16,
        family_number: u8,
        filter: impl Fn(&mut Writer),
        mut parse: impl FnMut(TableFamily, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, SocketError> {
        for _ in 0..ATTEMPTS {
            let sequence = self.socket.next_sequence();
            self.writer.clear();
            self.writer.begin(
                nf::SUBSYS_NFTABLES << 8 | kind,
                flag::REQUEST | flag::DUMP,
                sequence,
                &[family_number, 0, 0, 0],
            );
            filter(&mut self.writer);
            self.writer.end();
            let mut all = Vec::new();
            let result = self
                .socket
                .dump(self.writer.as_slice(), sequence, |message| {
                    let family = message.body.first().copied().and_then(family);
                    let body = message.body.get(NFGEN..);
                    if let (Some(family), Some(body)) = (family, body) {
                        all.extend(parse(family, body));
                    }
                });
            match result {
                Ok(true) => return Ok(all),
                Ok(false) => {}
                // the object went while it was read
                Err(SocketError::Refused { errno, .. }) if errno == rustix::io::Errno::NOENT => {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            }
        }
        Err(SocketError::Interrupted)
    }

    fn tables(&mut self) -> Result<Vec<RulesetTable>, SocketError> {
        const DORMANT: u32 = 1;
        self.all(
            msg::GETTABLE,
            0,
            |_| {},
            |family, body| {
                let name = wire::text(body, nf::TABLE_NAME)?;
                let flags = wire::be32(body, nf::TABLE_FLAGS).unwrap_or(0);
                let own =
                    name == TABLE && matches!(family, TableFamily::Inet | TableFamily::Bridge);
                (!own && flags & DORMANT == 0).then(|| RulesetTable {
                    family,
                    name: name.to_owned(),
                    chains: Vec::new(),
                    sets: BTreeMap::new(),
                })
            },
        )
    }

    fn chains(&mut self, tables: &mut [RulesetTable]) -> Result<(), SocketError> {
        let all = self.all(
            msg::GETCHAIN,
            0,
            |_| {},
            |family, body| {
                let table = wire::text(body, nf::CHAIN_TABLE)?.to_owned();
                let chain = RulesetChain {
                    name: wire::text(body, nf::CHAIN_NAME)?.to_owned(),
                    base: base(family, body),
                    rules: Vec::new(),
                };
                Some((family, table, chain))
            },
        )?;
        for (family, table, chain) in all {
            if let Some(table) = find(tables, family, &table) {
                table.chains.push(chain);
            }
        }
        Ok(())
    }

    fn rules(&mut self, tables: &mut [RulesetTable]) -> Result<(), SocketError> {
        for table in tables {
            let name = table.name.clone();
            let family = table.family;
            let rules = self.all(
                msg::GETRULE,
                number(family),
                |w| w.text(nf::RULE_TABLE, &name),
                |of, body| {
                    if of != family || wire::text(body, nf::RULE_TABLE)? != name {
                        return None;
                    }
                    let chain = wire::text(body, nf::RULE_CHAIN)?.to_owned();
                    Some((chain, rule(body)))
                },
            )?;
            for (chain, rule) in rules {
                let chain = table.chains.iter_mut().find(|c| c.name == chain);
                if let Some(chain) = chain {
                    chain.rules.push(rule);
                }
            }
        }
        Ok(())
    }

    /// Only the sets that rules look something up in.
    fn sets(&mut self, tables: &mut [RulesetTable]) -> Result<(), SocketError> {
        for table in tables {
            let name = table.name.clone();
            let family = table.family;
            let used: BTreeSet<String> = table
                .chains
                .iter()
                .flat_map(|chain| &chain.rules)
                .flat_map(|rule| &rule.expressions)
                .filter_map(|expression| match expression {
                    Expression::Lookup { set, .. } => Some(set.clone()),
                    _ => None,
                })
                .collect();
            if used.is_empty() {
                continue;
            }
            let flags = self.all(
                msg::GETSET,
                number(family),
                |w| w.text(nf::SET_TABLE, &name),
                |of, body| {
                    let own = of == family && wire::text(body, nf::SET_TABLE)? == name;
                    let flags = wire::be32(body, nf::SET_FLAGS).unwrap_or(0);
                    own.then_some((wire::text(body, nf::SET_NAME)?.to_owned(), flags))
                },
            )?;
            for (set, flags) in flags.into_iter().filter(|(set, _)| used.contains(set)) {
                let elements = self.elements(family, &name, &set)?;
                table.sets.insert(set, described(flags, elements));
            }
        }
        Ok(())
    }

    /// The elements of a set, and one more than are used where it has too many.
    fn elements(
        &mut self,
        family: TableFamily,
        table: &str,
        set: &str,
    ) -> Result<Vec<Element>, SocketError> {
        let mut read = 0;
        let lists = self.all(
            msg::GETSETELEM,
            number(family),
            |w| {
                w.text(nf::ELEM_LIST_TABLE, table);
                w.text(nf::ELEM_LIST_SET, set);
            },
            |_, body| {
                if read > LARGEST_SET {
                    return None;
                }
                let list = wire::attribute(body, nf::ELEM_LIST_ELEMENTS)?;
                let elements: Vec<Element> = wire::attributes(list)
                    .filter_map(|(_, bytes)| element(bytes))
                    .collect();
                read += elements.len();
                Some(elements)
            },
        )?;
        Ok(lists.into_iter().flatten().collect())
    }
}

fn find<'a>(
    tables: &'a mut [RulesetTable],
    family: TableFamily,
    name: &str,
) -> Option<&'a mut RulesetTable> {
    tables
        .iter_mut()
        .find(|table| table.family == family && table.name == name)
}

fn base(family: TableFamily, body: &[u8]) -> Option<Base> {
    let hook = wire::attribute(body, nf::CHAIN_HOOK)?;
    // ARP numbers its hooks otherwise, and is not asked
    if family == TableFamily::Arp {
        return None;
    }
    Some(Base {
        hook: Hook::from_number(wire::be32(hook, nf::HOOK_HOOKNUM)?)?,
        is_nat: wire::text(body, nf::CHAIN_TYPE) == Some("nat"),
        priority: wire::be32(hook, nf::HOOK_PRIORITY)?.cast_signed(),
        drops: wire::be32(body, nf::CHAIN_POLICY) == Some(nf::NF_DROP.cast_unsigned()),
    })
}

fn rule(body: &[u8]) -> RulesetRule {
    let list = wire::attribute(body, nf::RULE_EXPRESSIONS).unwrap_or_default();
    let handle = wire::attribute(body, NFTA_HANDLE)
        .and_then(|value| Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?)));
    RulesetRule {
        handle: handle.unwrap_or(0),
        comment: wire::attribute(body, nf::RULE_USERDATA).and_then(comment),
        expressions: wire::attributes(list)
            .map(|(_, expression)| foreign_rules::expression(expression))
            .collect(),
    }
}

/// The comment that nft wrote beside a rule: type, length, text with its NUL.
fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*len))?;
        if *kind == nf::UDATA_RULE_COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        userdata = rest.get(usize::from(*len)..)?;
    }
    None
}

fn described(flags: u32, mut elements: Vec<Element>) -> RulesetSet {
    let cut = elements.len() > LARGEST_SET;
    elements.truncate(LARGEST_SET);
    RulesetSet {
        // sets of several fields give first and last of each in one element
        intervals: flags & nf::SET_F_INTERVAL != 0 && flags & nf::SET_F_CONCAT == 0,
        elements,
        cut,
    }
}

fn element(bytes: &[u8]) -> Option<Element> {
    let value = |kind| {
        let data = wire::attribute(bytes, kind)?;
        let mut value = wire::attribute(data, nf::DATA_VALUE)?.to_vec();
        value.resize(value.len().next_multiple_of(4), 0);
        Some(value)
    };
    let flags = wire::be32(bytes, nf::ELEM_FLAGS).unwrap_or(0);
    let catchall = flags & ELEM_F_CATCHALL != 0;
    Some(Element {
        key: match value(nf::ELEM_KEY) {
            Some(key) => key,
            None if catchall => Vec::new(),
            None => return None,
        },
        last: value(nf::ELEM_KEY_END),
        ends: flags & nf::ELEM_F_INTERVAL_END != 0,
        catchall,
        data: wire::attribute(bytes, nf::ELEM_DATA).and_then(foreign_rules::data),
    })
}

/// The interface by which the host would send to an address, and from which address it would.
///
/// # Errors
/// When the kernel cannot be asked. That there is no way is `None`.
pub fn way(to: IpAddr) -> Result<Option<Way>, SocketError> {
    const RTM_GETROUTE: u16 = 26;
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_PREFSRC: u16 = 7;
    /// Length of `struct rtmsg`.
    const RTMSG: usize = 12;
    let mut socket = Socket::open(None)?;
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    let (family, destination) = match to {
        IpAddr::V4(a) => (2, a.octets().to_vec()),
        IpAddr::V6(a) => (10, a.octets().to_vec()),
    };
    let mut header = [0u8; RTMSG];
    header[0] = family;
    header[1] = if to.is_ipv4() { 32 } else { 128 };
    writer.begin(RTM_GETROUTE, flag::REQUEST | flag::ACK, sequence, &header);
    writer.bytes(RTA_DST, &destination);
    writer.end();
    let mut found = None;
    let result = socket.dump(writer.as_slice(), sequence, |message| {
        let body = message.body.get(RTMSG..).unwrap_or_default();
        let index = wire::attribute(body, RTA_OIF).and_then(|value| wire::u32_at(value, 0));
        let source = wire::attribute(body, RTA_PREFSRC).and_then(address);
        found = index.map(|index| (index, source));
    });
    match result {
        Ok(_) => {}
        // no route, or one that says so
        Err(SocketError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error),
    }
    let Some((index, source)) = found else {
        return Ok(None);
    };
    Ok(ifname(&mut socket, index)?.map(|interface| Way {
        interface,
        index: Some(index),
        source,
    }))
}

fn ifname(socket: &mut Socket, index: u32) -> Result<Option<String>, SocketError> {
    const RTM_GETLINK: u16 = 18;
    const IFLA_IFNAME: u16 = 3;
    /// Length of `struct ifinfomsg`.
    const IFINFOMSG: usize = 16;
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    let mut header = [0u8; IFINFOMSG];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    writer.begin(RTM_GETLINK, flag::REQUEST | flag::ACK, sequence, &header);
    writer.end();
    let mut name = None;
    let result = socket.dump(writer.as_slice(), sequence, |message| {
        let body = message.body.get(IFINFOMSG..).unwrap_or_default();
        name = wire::text(body, IFLA_IFNAME).map(str::to_owned);
    });
    match result {
        Ok(_) | Err(SocketError::Refused { .. }) => Ok(name),
        Err(error) => Err(error),
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(<[u8; 4]>::try_from(value).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(value).ok()?.into()),
        _ => None,
    }
}
