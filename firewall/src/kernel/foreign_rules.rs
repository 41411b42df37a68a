//! Expressions of other programs' rules, from netlink. Attribute numbers: `linux/netfilter/nf_tables.h`,
//! `nf_tables_compat.h`.

use super::nf;
use super::wire;
use crate::explain::foreign::{Data, Expression, Fib, Order, PayloadBase, Target, Verdict};

/// One expression; what is not known becomes [`Expression::Other`] under its name.
pub(super) fn expression(bytes: &[u8]) -> Expression {
    let name = wire::text(bytes, nf::EXPR_NAME).unwrap_or("?");
    let body = wire::attribute(bytes, nf::EXPR_DATA).unwrap_or_default();
    read(name, body).unwrap_or_else(|| Expression::Other(name.to_owned()))
}

/// A value or a verdict.
pub(super) fn data(bytes: &[u8]) -> Option<Data> {
    if let Some(value) = wire::attribute(bytes, nf::DATA_VALUE) {
        return Some(Data::Value(value.to_vec()));
    }
    let bytes = wire::attribute(bytes, nf::DATA_VERDICT)?;
    let chain = || wire::text(bytes, nf::VERDICT_CHAIN).map(str::to_owned);
    let code = wire::be32(bytes, nf::VERDICT_CODE)?.cast_signed();
    Some(Data::Verdict(match code {
        nf::NF_DROP => Verdict::Drop,
        nf::NF_ACCEPT => Verdict::Accept,
        nf::NFT_JUMP => Verdict::Jump(chain()?),
        nf::NFT_GOTO => Verdict::Goto(chain()?),
        nf::NFT_RETURN => Verdict::Return,
        -1 => Verdict::Continue,
        // the number of the queue stands in the upper half
        code if code & 0xff == 3 => Verdict::Queue,
        _ => return None,
    }))
}

/// The word at which a register begins: 1 to 4 are of sixteen bytes, 8 to 23 of four.
fn word(register: u32) -> Option<usize> {
    match register {
        1..=4 => Some((register as usize - 1) * 4),
        8..=23 => Some(register as usize - 8),
        _ => None,
    }
}

fn target(register: u32) -> Option<Target> {
    if register == nf::REG_VERDICT {
        return Some(Target::Verdict);
    }
    word(register).map(Target::Register)
}

fn read(name: &str, body: &[u8]) -> Option<Expression> {
    let number = |kind| wire::be32(body, kind);
    let register = |kind| word(number(kind)?);
    let value = |kind| {
        let data = wire::attribute(body, kind)?;
        Some(wire::attribute(data, nf::DATA_VALUE)?.to_vec())
    };
    Some(match name {
        "meta" => match (number(1), number(2)?) {
            (Some(to), key) => Expression::Meta { key, to: word(to)? },
            // NFT_META_MARK
            (None, 3) => Expression::SetsMark,
            (None, _) => Expression::Nothing,
        },
        "ct" => match number(1) {
            Some(to) => Expression::Ct {
                key: number(2)?,
                direction: wire::attribute(body, 3).and_then(|d| d.first().copied()),
                to: word(to)?,
            },
            None => Expression::Nothing,
        },
        "payload" => match register(1) {
            Some(to) => Expression::Payload {
                base: match number(2)? {
                    0 => PayloadBase::Link,
                    1 => PayloadBase::Network,
                    2 => PayloadBase::Transport,
                    _ => PayloadBase::Inner,
                },
                offset: number(3)?,
                len: number(4)?,
                to,
            },
            None => Expression::Nothing,
        },
        "fib" => Expression::Fib {
            to: register(1)?,
            fib: Fib {
                result: number(2)?,
                flags: number(3)?,
            },
        },
        "cmp" => Expression::Cmp {
            of: register(1)?,
            order: match number(2)? {
                0 => Order::Is,
                1 => Order::IsNot,
                2 => Order::Less,
                3 => Order::AtMost,
                4 => Order::More,
                5 => Order::AtLeast,
                _ => return None,
            },
            with: value(3)?,
        },
        "range" => Expression::Range {
            of: register(1)?,
            not: number(2)? == 1,
            first: value(3)?,
            last: value(4)?,
        },
        "bitwise" => match number(6).unwrap_or(0) {
            0 => Expression::Bitwise {
                of: register(1)?,
                to: register(2)?,
                mask: value(4)?,
                xor: value(5)?,
            },
            _ => Expression::Unknown {
                what: "a shifted value".into(),
                to: register(2)?,
            },
        },
        "byteorder" => Expression::Byteorder {
            of: register(1)?,
            to: register(2)?,
            len: number(4)? as usize,
            size: number(5)? as usize,
        },
        "lookup" => Expression::Lookup {
            set: wire::text(body, 1)?.to_owned(),
            of: register(2)?,
            not: number(5).unwrap_or(0) & 1 != 0,
            to: match number(3) {
                Some(to) => Some(target(to)?),
                None => None,
            },
        },
        "immediate" => Expression::Immediate {
            to: target(number(1)?)?,
            data: data(wire::attribute(body, 2)?)?,
        },
        "match" => Expression::Match {
            name: wire::text(body, 1)?.to_owned(),
            revision: number(2).unwrap_or(0),
            info: wire::attribute(body, 3)?.to_vec(),
        },
        "target" => Expression::Module {
            name: wire::text(body, 1)?.to_owned(),
            info: wire::attribute(body, 3).unwrap_or_default().to_vec(),
        },
        // flag 1: over the limit, which is not the ordinary course
        "limit" => Expression::Ordinarily(number(5).unwrap_or(0) & 1 == 0),
        "connlimit" | "quota" => Expression::Ordinarily(number(2).unwrap_or(0) & 1 == 0),
        "dynset" => Expression::Ordinarily(dynset(body)),
        "reject" => Expression::Reject,
        "masq" | "nat" | "redir" => Expression::Nat,
        "queue" => Expression::Queue,
        "counter" | "log" | "notrack" | "objref" | "last" | "dup" | "flow_offload" => {
            Expression::Nothing
        }
        "exthdr" => match register(1) {
            Some(to) => Expression::Unknown {
                what: "an option of the header".into(),
                to,
            },
            None => Expression::Nothing,
        },
        "osf" | "rt" | "xfrm" | "numgen" => Expression::Unknown {
            what: format!("`{name}`"),
            to: register(1)?,
        },
        "socket" | "tunnel" | "hash" => Expression::Unknown {
            what: format!("`{name}`"),
            to: register(2)?,
        },
        _ => return None,
    })
}

/// Whether a rule goes on after it added to a set: not where that is tied to a limit being passed.
fn dynset(body: &[u8]) -> bool {
    const DYNSET_EXPR: u16 = 7;
    const DYNSET_EXPRESSIONS: u16 = 10;
    let one = wire::attribute(body, DYNSET_EXPR).into_iter();
    let many = wire::attribute(body, DYNSET_EXPRESSIONS)
        .into_iter()
        .flat_map(|list| wire::attributes(list).map(|(_, expression)| expression));
    one.chain(many)
        .map(expression)
        .all(|expression| expression != Expression::Ordinarily(false))
}

#[cfg(test)]
mod tests {
    use super::super::wire::Writer;
    use super::*;

    /// A body of attributes; the message header is not looked at.
    fn body(name: &str, fill: impl FnOnce(&mut Writer)) -> Expression {
        let mut w = Writer::default();
        w.text(nf::EXPR_NAME, name);
        w.nest(nf::EXPR_DATA, fill);
        expression(w.as_slice())
    }

    #[test]
    fn registers_of_both_sizes_are_the_same_words() {
        let meta = |register| {
            body("meta", |w| {
                w.be32(1, register);
                w.be32(2, 6);
            })
        };
        assert_eq!(meta(1), Expression::Meta { key: 6, to: 0 });
        assert_eq!(meta(8), Expression::Meta { key: 6, to: 0 });
        assert_eq!(meta(2), Expression::Meta { key: 6, to: 4 });
        assert_eq!(meta(12), Expression::Meta { key: 6, to: 4 });
    }

    #[test]
    fn what_is_not_known_has_its_name() {
        assert_eq!(
            body("synproxy", |_| {}),
            Expression::Other("synproxy".into())
        );
        assert_eq!(expression(&[]), Expression::Other("?".into()));
        assert_eq!(
            body("cmp", |w| w.be32(1, 8)),
            Expression::Other("cmp".into())
        );
    }

    #[test]
    fn a_meter_that_is_passed_is_not_the_ordinary_course() {
        let meter = |flags| {
            body("dynset", |w| {
                w.nest(7, |w| {
                    w.text(nf::EXPR_NAME, "limit");
                    w.nest(nf::EXPR_DATA, |w| w.be32(5, flags));
                });
            })
        };
        assert_eq!(meter(1), Expression::Ordinarily(false));
        assert_eq!(meter(0), Expression::Ordinarily(true));
    }
}
