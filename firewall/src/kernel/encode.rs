//! The skeleton and elements as nf_tables messages.

use super::dump::SetState;
use super::nf::{self, flag, msg};
use super::wire::{Open, Writer};
use crate::sets::{Element, Field, Key, Life, SetId, SetSpec, Table};
use crate::skeleton::TABLE;
use crate::skeleton::ir::{Chain, Load, METER_SIZE, Meta, MeterSpec, Point, Rule, Step, Value};

/// Bytes of elements in one message: attributes are at most 65,535 bytes long, the list of elements
/// is one, and an element is under 300.
const ELEMENTS_MAX: usize = 60_000;

/// The kernel's number for the family of a table.
pub(super) fn family_of(table: Table) -> u8 {
    match table {
        Table::Inet => nf::NFPROTO_INET,
        Table::Bridge => nf::NFPROTO_BRIDGE,
    }
}

/// Where elements of a line end (half open), or the last key of ranges of several fields.
pub(super) enum Bounds<'a> {
    /// The key alone
    Exact,
    /// One message element with first and last key
    Closed(&'a Key),
    /// Two elements, start and end; no end when the range reaches the end of the address space
    HalfOpen(Option<Key>),
}

/// How an element is written for its set.
pub(super) fn bounds<'a>(spec: &SetSpec, element: &'a Element) -> Bounds<'a> {
    if !spec.interval {
        return Bounds::Exact;
    }
    let last = element.last.as_ref().unwrap_or(&element.key);
    if spec.line {
        Bounds::HalfOpen(successor(last))
    } else {
        Bounds::Closed(last)
    }
}

/// The key after this one, taken as one number; nothing after the last.
fn successor(key: &Key) -> Option<Key> {
    let mut bytes = key.0.clone();
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(Key(bytes));
        }
    }
    None
}

/// Milliseconds that an element has from now. What should be over has one: none would be for ever.
fn lifetime(life: Life) -> u64 {
    match life {
        Life::Seconds(seconds) => u64::from(seconds) * 1000,
        Life::Until(second) => {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let now = i128::from(now.tv_sec) * 1000 + i128::from(now.tv_nsec) / 1_000_000;
            let left = i128::from(second) * 1000 - now;
            u64::try_from(left).unwrap_or(0).max(1)
        }
    }
}

/// A batch of nf_tables messages: one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    writer: Writer,
    sequence: u32,
    open: Option<Elements>,
    /// The kernel knows DESTROYSETELEM.
    destroys: bool,
}

/// The message of elements that is being written.
#[derive(Debug)]
struct Elements {
    set: SetId,
    kind: u16,
    list: Open,
}

impl Batch {
    /// An empty one. `destroys`: the kernel knows DESTROYSETELEM.
    pub(super) fn new(destroys: bool) -> Self {
        Self {
            destroys,
            ..Self::default()
        }
    }

    /// Begins a transaction; its messages are numbered from `sequence` on.
    pub(super) fn begin(&mut self, sequence: u32) {
        self.writer.clear();
        self.sequence = sequence;
        self.open = None;
        self.frame(nf::MSG_BATCH_BEGIN);
    }

    fn frame(&mut self, kind: u16) {
        let [a, b] = nf::SUBSYS_NFTABLES.to_be_bytes();
        self.writer
            .begin(kind, flag::REQUEST, self.sequence, &[0, 0, a, b]);
        self.writer.end();
    }

    /// Ends it: its bytes, and the sequence number of the message that will be acknowledged.
    pub(super) fn finish(&mut self) -> (&[u8], u32) {
        self.close_elements();
        // The last message that does something: kernels before 6.10 do not acknowledge the end.
        self.writer.add_flags(flag::ACK);
        let last = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        self.frame(nf::MSG_BATCH_END);
        (self.writer.as_slice(), last)
    }

    /// The sequence number of the message that was begun last.
    pub(super) fn sequence(&self) -> u32 {
        self.sequence
    }

    fn message(&mut self, kind: u16, flags: u16, table: Table, fill: impl FnOnce(&mut Writer)) {
        self.close_elements();
        self.start(kind, flags, table);
        fill(&mut self.writer);
        self.writer.end();
    }

    fn start(&mut self, kind: u16, flags: u16, table: Table) {
        self.sequence = self.sequence.wrapping_add(1);
        self.writer.begin(
            nf::SUBSYS_NFTABLES << 8 | kind,
            flag::REQUEST | flags,
            self.sequence,
            &[family_of(table), 0, 0, 0],
        );
    }

    /// Makes a table, or takes over an orphan.
    pub(super) fn new_table(&mut self, table: Table, flags: u32) {
        self.message(msg::NEWTABLE, flag::CREATE, table, |w| {
            w.text(nf::TABLE_NAME, TABLE);
            w.be32(nf::TABLE_FLAGS, flags);
        });
    }

    /// Makes and deletes a table, to see whether the kernel knows the flags.
    pub(super) fn probe_table(&mut self, flags: u32) {
        const PROBE: &str = "netd-probe";
        self.message(msg::NEWTABLE, flag::CREATE, Table::Inet, |w| {
            w.text(nf::TABLE_NAME, PROBE);
            w.be32(nf::TABLE_FLAGS, flags);
        });
        self.message(msg::DELTABLE, 0, Table::Inet, |w| {
            w.text(nf::TABLE_NAME, PROBE)
        });
    }

    /// Makes and deletes a rule that asks for the name of the bridge, to see whether the kernel knows it.
    pub(super) fn probe_bridge_names(&mut self) {
        const PROBE: &str = "netd-probe";
        let step = Step::IsNot(Load::Meta(Meta::Ibrname), Value::named(&[0; 16], ""));
        self.message(msg::NEWTABLE, flag::CREATE, Table::Bridge, |w| {
            w.text(nf::TABLE_NAME, PROBE);
        });
        self.message(msg::NEWCHAIN, flag::CREATE, Table::Bridge, |w| {
            w.text(nf::CHAIN_TABLE, PROBE);
            w.text(nf::CHAIN_NAME, PROBE);
        });
        let flags = flag::CREATE | flag::APPEND;
        self.message(msg::NEWRULE, flags, Table::Bridge, |w| {
            w.text(nf::RULE_TABLE, PROBE);
            w.text(nf::RULE_CHAIN, PROBE);
            w.nest(nf::RULE_EXPRESSIONS, |w| super::expr::step(w, &step));
        });
        self.message(msg::DELTABLE, 0, Table::Bridge, |w| {
            w.text(nf::TABLE_NAME, PROBE)
        });
    }

    pub(super) fn delete_table(&mut self, table: Table) {
        self.message(msg::DELTABLE, 0, table, |w| w.text(nf::TABLE_NAME, TABLE));
    }

    /// Deletes the rules of all chains of a table.
    pub(super) fn delete_rules(&mut self, table: Table) {
        self.message(msg::DELRULE, 0, table, |w| w.text(nf::RULE_TABLE, TABLE));
    }

    /// Deletes the rules of one chain.
    pub(super) fn delete_rules_of(&mut self, table: Table, chain: &str) {
        self.message(msg::DELRULE, 0, table, |w| {
            w.text(nf::RULE_TABLE, TABLE);
            w.text(nf::RULE_CHAIN, chain);
        });
    }

    pub(super) fn delete_set(&mut self, table: Table, name: &str) {
        self.message(msg::DELSET, 0, table, |w| {
            w.text(nf::SET_TABLE, TABLE);
            w.text(nf::SET_NAME, name);
        });
    }

    pub(super) fn delete_chain(&mut self, table: Table, name: &str) {
        self.message(msg::DELCHAIN, 0, table, |w| {
            w.text(nf::CHAIN_TABLE, TABLE);
            w.text(nf::CHAIN_NAME, name);
        });
    }

    pub(super) fn new_chain(&mut self, table: Table, chain: &Chain) {
        self.message(msg::NEWCHAIN, flag::CREATE | flag::EXCL, table, |w| {
            w.text(nf::CHAIN_TABLE, TABLE);
            w.text(nf::CHAIN_NAME, &chain.name);
            let Some(hook) = chain.hook else { return };
            w.nest(nf::CHAIN_HOOK, |w| {
                w.be32(nf::HOOK_HOOKNUM, hook_number(hook.point));
                w.be32(nf::HOOK_PRIORITY, hook.priority.cast_unsigned());
            });
            w.be32(nf::CHAIN_POLICY, nf::NF_ACCEPT.cast_unsigned());
            w.text(nf::CHAIN_TYPE, if hook.nat { "nat" } else { "filter" });
        });
    }

    pub(super) fn new_rule(&mut self, table: Table, chain: &str, rule: &Rule) {
        let flags = flag::CREATE | flag::APPEND;
        self.message(msg::NEWRULE, flags, table, |w| {
            w.text(nf::RULE_TABLE, TABLE);
            w.text(nf::RULE_CHAIN, chain);
            w.nest(nf::RULE_EXPRESSIONS, |w| {
                rule.steps.iter().for_each(|s| super::expr::step(w, s));
            });
            if let Some(comment) = rule.comment {
                let mut udata = vec![nf::UDATA_RULE_COMMENT, comment.len() as u8 + 1];
                udata.extend_from_slice(comment.as_bytes());
                udata.push(0);
                w.bytes(nf::RULE_USERDATA, &udata);
            }
        });
    }

    pub(super) fn new_set(&mut self, spec: &SetSpec, id: u32) {
        let state = set_state(spec);
        let concat = state.flags & nf::SET_F_CONCAT != 0;
        self.message(msg::NEWSET, flag::CREATE | flag::EXCL, spec.table, |w| {
            w.text(nf::SET_TABLE, TABLE);
            w.text(nf::SET_NAME, &spec.name);
            w.be32(nf::SET_FLAGS, state.flags);
            w.be32(nf::SET_KEY_TYPE, state.key.0);
            w.be32(nf::SET_KEY_LEN, state.key.1);
            w.be32(nf::SET_ID, id);
            if !spec.data.is_empty() {
                w.be32(nf::SET_DATA_TYPE, state.data.0);
                w.be32(nf::SET_DATA_LEN, state.data.1);
            }
            // Without a size, exact sets become growing hash tables (nft_set_hash.c, "rhash").
            if concat {
                w.nest(nf::SET_DESC, |w| {
                    w.nest(nf::SET_DESC_CONCAT, |w| {
                        for field in &spec.key {
                            let len = field.len() as u32;
                            w.nest(nf::LIST_ELEM, |w| w.be32(nf::SET_FIELD_LEN, len));
                        }
                    });
                });
            }
            w.bytes(nf::SET_USERDATA, &byteorder(&spec.key, &spec.data));
            if spec.counted {
                w.nest(nf::SET_EXPR, |w| {
                    w.text(nf::EXPR_NAME, "counter");
                    w.nest(nf::EXPR_DATA, |_| {});
                });
            }
        });
    }

    pub(super) fn new_meter(&mut self, table: Table, meter: &MeterSpec, id: u32) {
        self.message(msg::NEWSET, flag::CREATE | flag::EXCL, table, |w| {
            w.text(nf::SET_TABLE, TABLE);
            w.text(nf::SET_NAME, meter.name);
            let state = meter_state(meter);
            w.be32(nf::SET_FLAGS, state.flags);
            w.be32(nf::SET_KEY_TYPE, state.key.0);
            w.be32(nf::SET_KEY_LEN, state.key.1);
            w.be32(nf::SET_ID, id);
            w.nest(nf::SET_DESC, |w| w.be32(nf::SET_DESC_SIZE, METER_SIZE));
            w.bytes(nf::SET_USERDATA, &byteorder(&meter.key, &[]));
        });
    }

    /// Adds an element; one that is there already is an error.
    pub(super) fn add(&mut self, spec: &SetSpec, element: &Element) {
        self.element(msg::NEWSETELEM, flag::CREATE | flag::EXCL, spec, element);
    }

    /// Removes an element; one that is not there is an error, but where elements end by themselves.
    pub(super) fn remove(&mut self, spec: &SetSpec, element: &Element) {
        let kind = match spec.timed && self.destroys {
            true => msg::DESTROYSETELEM,
            false => msg::DELSETELEM,
        };
        self.element(kind, 0, spec, element);
    }

    /// Removes all elements of a set.
    pub(super) fn flush(&mut self, spec: &SetSpec) {
        self.message(msg::DELSETELEM, 0, spec.table, |w| {
            w.text(nf::ELEM_LIST_TABLE, TABLE);
            w.text(nf::ELEM_LIST_SET, &spec.name);
        });
    }

    fn element(&mut self, kind: u16, flags: u16, spec: &SetSpec, element: &Element) {
        let fits = self.open.as_ref().is_some_and(|open| {
            open.set == element.set
                && open.kind == kind
                && self.writer.size(open.list) < ELEMENTS_MAX
        });
        if !fits {
            self.close_elements();
            self.start(kind, flags, spec.table);
            self.writer.text(nf::ELEM_LIST_TABLE, TABLE);
            self.writer.text(nf::ELEM_LIST_SET, &spec.name);
            let list = self.writer.open(nf::ELEM_LIST_ELEMENTS);
            self.open = Some(Elements {
                set: element.set,
                kind,
                list,
            });
        }
        let lifetime = element.timeout.map(lifetime);
        let w = &mut self.writer;
        let data = |w: &mut Writer| {
            if let Some(data) = &element.data {
                w.nest(nf::ELEM_DATA, |w| w.bytes(nf::DATA_VALUE, &data.0));
            }
            if let (Some(milliseconds), msg::NEWSETELEM) = (lifetime, kind) {
                w.be64(nf::ELEM_TIMEOUT, milliseconds);
            }
        };
        match bounds(spec, element) {
            Bounds::Exact => w.nest(nf::LIST_ELEM, |w| {
                w.nest(nf::ELEM_KEY, |w| {
                    w.bytes(nf::DATA_VALUE, exact(spec, &element.key.0))
                });
                data(w);
            }),
            Bounds::Closed(last) => w.nest(nf::LIST_ELEM, |w| {
                w.nest(nf::ELEM_KEY, |w| w.bytes(nf::DATA_VALUE, &element.key.0));
                w.nest(nf::ELEM_KEY_END, |w| w.bytes(nf::DATA_VALUE, &last.0));
                data(w);
            }),
            Bounds::HalfOpen(end) => {
                w.nest(nf::LIST_ELEM, |w| {
                    w.nest(nf::ELEM_KEY, |w| w.bytes(nf::DATA_VALUE, &element.key.0));
                    data(w);
                });
                if let Some(end) = end {
                    w.nest(nf::LIST_ELEM, |w| {
                        w.be32(nf::ELEM_FLAGS, nf::ELEM_F_INTERVAL_END);
                        w.nest(nf::ELEM_KEY, |w| w.bytes(nf::DATA_VALUE, &end.0));
                    });
                }
            }
        }
    }

    fn close_elements(&mut self) {
        if let Some(open) = self.open.take() {
            self.writer.close(open.list);
            self.writer.end();
        }
    }
}

/// A set as the kernel should have it.
pub(super) fn set_state(spec: &SetSpec) -> SetState {
    let mut flags = 0;
    if spec.interval {
        flags |= nf::SET_F_INTERVAL;
    }
    if spec.interval && !spec.line {
        flags |= nf::SET_F_CONCAT;
    }
    if !spec.data.is_empty() {
        flags |= nf::SET_F_MAP;
    }
    if spec.timed {
        flags |= nf::SET_F_TIMEOUT;
    }
    SetState {
        name: spec.name.clone(),
        flags,
        key: (key_type(spec), length(&spec.key)),
        data: (type_of(&spec.data), length(&spec.data)),
    }
}

/// nft's number for the type of a set's key. A line of several fields is one number to nft as well:
/// it crashes (1.0.6) on concatenations that are intervals and yet no boxes.
fn key_type(spec: &SetSpec) -> u32 {
    match spec.line && spec.key.len() > 1 {
        true => nf::datatype::INTEGER,
        false => type_of(&spec.key),
    }
}

/// A meter as the kernel should have it. One that counts connections forgets a key with its last
/// connection; its elements have no time to live (nft_dynset.c refuses both).
pub(super) fn meter_state(meter: &MeterSpec) -> SetState {
    SetState {
        name: meter.name.to_owned(),
        flags: match meter.connections {
            true => nf::SET_F_EVAL,
            false => nf::SET_F_EVAL | nf::SET_F_TIMEOUT,
        },
        key: (type_of(&meter.key), length(&meter.key)),
        data: (0, 0),
    }
}

/// Keys of one field have no padding in the kernel.
pub(super) fn exact<'a>(spec: &SetSpec, key: &'a [u8]) -> &'a [u8] {
    match spec.key.as_slice() {
        [one] => key.get(..one.len()).unwrap_or(key),
        _ => key,
    }
}

fn hook_number(point: Point) -> u32 {
    match point {
        Point::Prerouting => 0,
        Point::Input => 1,
        Point::Forward => 2,
        Point::Output => 3,
        Point::Postrouting => 4,
    }
}

/// Length of a key in registers; a single field is not padded.
fn length(fields: &[Field]) -> u32 {
    match fields {
        [one] => one.len() as u32,
        more => more.iter().map(|f| f.padded() as u32).sum(),
    }
}

/// nft's number for the type of a key; for concatenations 6 bits a field.
fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |all, field| {
        all << nf::datatype::BITS
            | match field {
                Field::Ip4 => nf::datatype::IPADDR,
                Field::Ip6 => nf::datatype::IP6ADDR,
                Field::Mac => nf::datatype::ETHERADDR,
                Field::Proto => nf::datatype::INET_PROTOCOL,
                Field::Port => nf::datatype::INET_SERVICE,
                Field::Mark => nf::datatype::MARK,
                Field::IfIndex => nf::datatype::IFINDEX,
                Field::IfName => nf::datatype::IFNAME,
                Field::NfProto => nf::datatype::NF_PROTO,
            }
    })
}

/// Tells nft in which byte order to read keys and data.
fn byteorder(key: &[Field], data: &[Field]) -> Vec<u8> {
    let order = |fields: &[Field]| match fields {
        [Field::Mark | Field::IfIndex | Field::IfName | Field::NfProto] => nf::BYTEORDER_HOST,
        _ => nf::BYTEORDER_NETWORK,
    };
    let mut udata = Vec::new();
    let mut put = |kind, order: u32| {
        udata.extend_from_slice(&[kind, 4]);
        udata.extend_from_slice(&order.to_ne_bytes());
    };
    put(nf::UDATA_SET_KEYBYTEORDER, order(key));
    if !data.is_empty() {
        put(nf::UDATA_SET_DATABYTEORDER, order(data));
    }
    udata
}
