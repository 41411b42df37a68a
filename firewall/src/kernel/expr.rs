//! Steps of rules as nf_tables expressions. Attribute numbers: `linux/netfilter/nf_tables.h`.

use super::nf;
use super::wire::Writer;
use crate::sets::{Family, SetId};
use crate::skeleton::ir::{Base, Bucket, Ct, FIRST_HALF, FibOf, Load, Meta, Refusal, Step};
use crate::skeleton::{LOG_BYTES, LOG_GROUP};

/// Writes the expressions of one step.
pub(super) fn step(w: &mut Writer, step: &Step) {
    let reg = nf::REG32_00;
    match step {
        Step::Is(l, value) => {
            load(w, *l, reg);
            cmp(w, EQ, &value.bytes);
        }
        Step::IsNot(l, value) => {
            load(w, *l, reg);
            cmp(w, NEQ, &value.bytes);
        }
        Step::Any(l, bits) => {
            load(w, *l, reg);
            mask(w, reg, &bits.bytes);
            cmp(w, NEQ, &vec![0; bits.bytes.len()]);
        }
        Step::Masked(l, bits, value) => {
            load(w, *l, reg);
            mask(w, reg, &bits.to_ne_bytes());
            cmp(w, EQ, &value.to_ne_bytes());
        }
        Step::InNet(l, net) => {
            load(w, *l, reg);
            let (netmask, network) = match net {
                ipnet::IpNet::V4(n) => {
                    (n.netmask().octets().to_vec(), n.network().octets().to_vec())
                }
                ipnet::IpNet::V6(n) => {
                    (n.netmask().octets().to_vec(), n.network().octets().to_vec())
                }
            };
            mask(w, reg, &netmask);
            cmp(w, EQ, &network);
        }
        Step::In(k, set) => lookup(w, k, *set, 0, None),
        Step::NotIn(k, set) => lookup(w, k, *set, LOOKUP_INV, None),
        Step::Set(key, value) => {
            expression(w, "immediate", |w| {
                w.be32(IMMEDIATE_DREG, reg);
                w.nest(IMMEDIATE_DATA, |w| {
                    w.bytes(nf::DATA_VALUE, &value.to_ne_bytes());
                });
            });
            set_meta(w, *key);
        }
        Step::SetFrom(key, k, set) => {
            lookup(w, k, *set, 0, Some(reg));
            set_meta(w, *key);
        }
        Step::CtMarkFromPriority => {
            load(w, Load::Meta(Meta::Priority), reg);
            expression(w, "ct", |w| {
                w.be32(CT_KEY, CT_MARK);
                w.be32(CT_SREG, reg);
            });
        }
        Step::Meter { name, key, bucket } => meter(w, name, key, *bucket),
        Step::Connections { name, key, most } => connections(w, name, key, *most),
        Step::Log { prefix } => expression(w, "log", |w| {
            w.bytes(1, &LOG_GROUP.to_be_bytes());
            w.text(2, prefix);
            w.be32(3, LOG_BYTES);
        }),
        Step::Count => expression(w, "counter", |w| {
            w.be64(1, 0);
            w.be64(2, 0);
        }),
        Step::Reject(refusal) => reject(w, *refusal),
        Step::Masquerade => expression(w, "masq", |_| {}),
        Step::Dnat(family, k, set) => dnat(w, *family, k, *set),
        Step::Accept => verdict(w, nf::NF_ACCEPT, None),
        Step::Drop => verdict(w, nf::NF_DROP, None),
        Step::Return => verdict(w, nf::NFT_RETURN, None),
        Step::Jump(to) => verdict(w, nf::NFT_JUMP, Some(to)),
        Step::Goto(to) => verdict(w, nf::NFT_GOTO, Some(to)),
    }
}

fn expression(w: &mut Writer, name: &str, fill: impl FnOnce(&mut Writer)) {
    w.nest(nf::LIST_ELEM, |w| expression_body(w, name, fill));
}

fn expression_body(w: &mut Writer, name: &str, fill: impl FnOnce(&mut Writer)) {
    w.text(nf::EXPR_NAME, name);
    w.nest(nf::EXPR_DATA, fill);
}

const META_DREG: u16 = 1;
const META_KEY: u16 = 2;
const META_SREG: u16 = 3;

fn meta_key(key: Meta) -> u32 {
    match key {
        Meta::Priority => 2,
        Meta::Mark => 3,
        Meta::Iif => 4,
        Meta::Oif => 5,
        Meta::Iifname => 6,
        Meta::Oifname => 7,
        Meta::Nfproto => 15,
        Meta::L4proto => 16,
        Meta::Ibrname => 17,
    }
}

fn set_meta(w: &mut Writer, key: Meta) {
    expression(w, "meta", |w| {
        w.be32(META_KEY, meta_key(key));
        w.be32(META_SREG, nf::REG32_00);
    });
}

const CT_DREG: u16 = 1;
const CT_KEY: u16 = 2;
const CT_DIRECTION: u16 = 3;
const CT_SREG: u16 = 4;
const CT_MARK: u32 = 3;

/// Key and direction (0 original, 1 reply).
fn ct_key(key: Ct) -> (u32, Option<u8>) {
    let address = |family| match family {
        Family::V4 => 19,
        Family::V6 => 21,
    };
    match key {
        Ct::State => (0, None),
        Ct::Direction => (1, None),
        Ct::Status => (2, None),
        Ct::Mark => (CT_MARK, None),
        Ct::Protocol => (10, None),
        Ct::Client(f) => (address(f), Some(0)),
        Ct::Server(f) => (address(f), Some(1)),
        Ct::ServerPort => (11, Some(1)),
        Ct::IcmpType => (12, Some(0)),
    }
}

/// Loads into a register and those after it.
fn load(w: &mut Writer, load: Load, reg: u32) {
    match load {
        Load::Meta(key) => expression(w, "meta", |w| {
            w.be32(META_DREG, reg);
            w.be32(META_KEY, meta_key(key));
        }),
        Load::Ct(key) => {
            let (number, direction) = ct_key(key);
            expression(w, "ct", |w| {
                w.be32(CT_KEY, number);
                w.be32(CT_DREG, reg);
                if let Some(direction) = direction {
                    w.bytes(CT_DIRECTION, &[direction]);
                }
            });
            if key == Ct::IcmpType {
                mask(w, reg, &[0xff, 0]);
            }
        }
        Load::Payload {
            base, offset, len, ..
        } => expression(w, "payload", |w| {
            w.be32(1, reg);
            w.be32(
                2,
                match base {
                    Base::Link => 0,
                    Base::Network => 1,
                    Base::Transport => 2,
                },
            );
            w.be32(3, u32::from(offset));
            w.be32(4, u32::from(len));
        }),
        Load::FibType(of) => {
            // enum nft_fib_result, enum nft_fib_flags
            const RESULT_ADDRTYPE: u32 = 3;
            const F_SADDR: u32 = 1;
            const F_DADDR: u32 = 2;
            const F_IIF: u32 = 8;
            const F_OIF: u32 = 16;
            let flags = match of {
                FibOf::Daddr => F_DADDR,
                FibOf::DaddrOnIif => F_DADDR | F_IIF,
                FibOf::SaddrOnOif => F_SADDR | F_OIF,
            };
            expression(w, "fib", |w| {
                w.be32(1, reg);
                w.be32(2, RESULT_ADDRTYPE);
                w.be32(3, flags);
            });
        }
        Load::Prefix(half) => {
            self::load(w, half.whole(), reg);
            mask(w, reg, &FIRST_HALF);
        }
    }
}

const EQ: u32 = 0;
const NEQ: u32 = 1;

fn cmp(w: &mut Writer, op: u32, value: &[u8]) {
    expression(w, "cmp", |w| {
        w.be32(1, nf::REG32_00);
        w.be32(2, op);
        w.nest(3, |w| w.bytes(nf::DATA_VALUE, value));
    });
}

/// Masks a register in place.
fn mask(w: &mut Writer, reg: u32, bits: &[u8]) {
    expression(w, "bitwise", |w| {
        w.be32(1, reg);
        w.be32(2, reg);
        w.be32(3, bits.len() as u32);
        w.nest(4, |w| w.bytes(nf::DATA_VALUE, bits));
        w.nest(5, |w| w.bytes(nf::DATA_VALUE, &vec![0; bits.len()]));
    });
}

const LOOKUP_INV: u32 = 1;

fn load_key(w: &mut Writer, key: &[Load]) {
    let mut reg = nf::REG32_00;
    for part in key {
        load(w, *part, reg);
        reg += part.size().div_ceil(4) as u32;
    }
}

fn lookup(w: &mut Writer, key: &[Load], set: SetId, flags: u32, to: Option<u32>) {
    load_key(w, key);
    let name = set.spec().name;
    expression(w, "lookup", |w| {
        w.text(1, &name);
        w.be32(2, nf::REG32_00);
        if let Some(to) = to {
            w.be32(3, to);
        }
        w.be32(5, flags);
    });
}

const IMMEDIATE_DREG: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;

fn verdict(w: &mut Writer, code: i32, to: Option<&str>) {
    expression(w, "immediate", |w| {
        w.be32(IMMEDIATE_DREG, nf::REG_VERDICT);
        w.nest(IMMEDIATE_DATA, |w| {
            w.nest(nf::DATA_VERDICT, |w| {
                w.be32(nf::VERDICT_CODE, code.cast_unsigned());
                if let Some(to) = to {
                    w.text(nf::VERDICT_CHAIN, to);
                }
            });
        });
    });
}

fn meter(w: &mut Writer, name: &str, key: &[Load], bucket: Bucket) {
    const OP_UPDATE: u32 = 1;
    load_key(w, key);
    expression(w, "dynset", |w| {
        w.text(1, name);
        w.be32(3, OP_UPDATE);
        w.be32(4, nf::REG32_00);
        w.be64(6, bucket.keep() * 1000);
        w.nest(7, |w| {
            expression_body(w, "limit", |w| {
                w.be64(1, u64::from(bucket.count));
                w.be64(2, u64::from(bucket.seconds));
                w.be32(3, bucket.burst);
                w.be32(4, 0);
                w.be32(5, 0);
            });
        });
    });
}

fn connections(w: &mut Writer, name: &str, key: &[Load], most: u32) {
    const OP_ADD: u32 = 0;
    load_key(w, key);
    expression(w, "dynset", |w| {
        w.text(1, name);
        w.be32(3, OP_ADD);
        w.be32(4, nf::REG32_00);
        w.nest(7, |w| {
            expression_body(w, "connlimit", |w| {
                w.be32(1, most);
                w.be32(2, 0);
            });
        });
    });
}

fn reject(w: &mut Writer, refusal: Refusal) {
    const TCP_RST: u32 = 1;
    const ICMPX_UNREACH: u32 = 2;
    const ICMPX_ADMIN_PROHIBITED: u8 = 3;
    expression(w, "reject", |w| match refusal {
        Refusal::TcpReset => {
            w.be32(1, TCP_RST);
            w.bytes(2, &[0]);
        }
        Refusal::AdminProhibited => {
            w.be32(1, ICMPX_UNREACH);
            w.bytes(2, &[ICMPX_ADMIN_PROHIBITED]);
        }
    });
}

const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_REG_ADDR_MIN: u16 = 3;
const NAT_REG_PROTO_MIN: u16 = 5;
const NAT_REG_PROTO_MAX: u16 = 6;
const NAT_FLAGS: u16 = 7;
/// The new port is the first of the span and, added to it, the old one modulo the length of the span
/// (`nf_nat_l4proto_unique_tuple` in net/netfilter/nf_nat_core.c; Linux 4.18).
const NAT_RANGE_PROTO_OFFSET: u32 = 1 << 5;

fn dnat(w: &mut Writer, family: Family, key: &[Load], set: SetId) {
    const DNAT: u32 = 1;
    let reg = nf::REG32_00;
    lookup(w, key, set, 0, Some(reg));
    let (nfproto, words) = match family {
        Family::V4 => (2, 1),
        Family::V6 => (10, 4),
    };
    // The map's data: an address, then the first and the last port if there are any.
    let ports = set.spec().data.len().saturating_sub(1);
    expression(w, "nat", |w| {
        w.be32(NAT_TYPE, DNAT);
        w.be32(NAT_FAMILY, nfproto);
        w.be32(NAT_REG_ADDR_MIN, reg);
        if ports > 0 {
            w.be32(NAT_REG_PROTO_MIN, reg + words);
        }
        if ports > 1 {
            w.be32(NAT_REG_PROTO_MAX, reg + words + 1);
            w.be32(NAT_FLAGS, NAT_RANGE_PROTO_OFFSET);
        }
    });
}
