//! The skeleton in the `nftables` crate's schema types: the JSON of `nft -j list ruleset`.

use std::collections::HashSet;

use nftables::expr::{
    BinaryOperation, CT, CTDir, CTFamily, Expression, Fib, FibFlag, FibResult, Map, Meta as NfMeta,
    MetaKey, NamedExpression, Payload, PayloadBase, PayloadField, PayloadRaw, Prefix,
};
use nftables::schema::{self, NfListObject};
use nftables::stmt::{
    self, CTCount, Counter, JumpTarget, Limit, Log, Mangle, Match, Meter, NAT, NATFamily, Operator,
    RejectType, Statement,
};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};
use serde_json::{Value as Json, json};

use super::ir::*;
use super::text::{type_name, unit};
use super::{LOG_BYTES, LOG_GROUP, TABLE, tables};
use crate::sets::{Family, Field, SetId, SetSpec, Table};

/// The whole skeleton as one JSON document, without elements.
pub fn render() -> Json {
    let mut objects = Vec::new();
    for spec in tables() {
        let family = family_of(spec.table);
        objects.push(object(NfListObject::Table(schema::Table {
            family,
            name: TABLE.into(),
            handle: None,
        })));
        for id in SetId::all() {
            let set = id.spec();
            if set.table == spec.table {
                objects.push(set_object(family, &set));
            }
        }
        for meter in &spec.meters {
            objects.push(json!({ "set": {
                "family": family, "table": TABLE, "name": meter.name,
                "type": types(&meter.key), "size": METER_SIZE,
                "flags": if meter.connections { json!(["dynamic"]) } else { json!(["timeout", "dynamic"]) },
            }}));
        }
        for chain in &spec.chains {
            objects.push(object(NfListObject::Chain(chain_object(family, chain))));
        }
        for chain in &spec.chains {
            for rule in &chain.rules {
                objects.push(object(NfListObject::Rule(schema::Rule {
                    family,
                    table: TABLE.into(),
                    chain: chain.name.clone().into(),
                    expr: rule.steps.iter().map(statement).collect(),
                    handle: None,
                    index: None,
                    comment: rule.comment.map(Into::into),
                })));
            }
        }
    }
    json!({ "nftables": objects })
}

fn object(object: NfListObject<'_>) -> Json {
    // The schema's types hold nothing that JSON cannot (no maps with keys other than strings).
    let mut json = serde_json::to_value(object).unwrap_or(Json::Null);
    sort_flags(&mut json);
    json
}

/// The schema keeps flags in hash sets; their order must not change from run to run.
fn sort_flags(json: &mut Json) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(sort_flags),
        Json::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Json::Array(flags) if name == "flags" => {
                        flags.sort_by_key(ToString::to_string);
                    }
                    value => sort_flags(value),
                }
            }
        }
        _ => {}
    }
}

fn family_of(table: Table) -> NfFamily {
    match table {
        Table::Inet => NfFamily::INet,
        Table::Bridge => NfFamily::Bridge,
    }
}

fn types(fields: &[Field]) -> Json {
    match fields {
        [one] => json!(type_name(*one)),
        more => json!(more.iter().map(|f| type_name(*f)).collect::<Vec<_>>()),
    }
}

/// Sets are written without the schema's types: its `SetType` knows neither interface indexes nor
/// nfprotos.
fn set_object(family: NfFamily, set: &SetSpec) -> Json {
    let mut body = json!({
        "family": family, "table": TABLE, "name": set.name, "type": types(&set.key),
    });
    if set.interval {
        body["flags"] = json!(["interval"]);
    }
    if set.timed {
        body["flags"] = json!(["timeout"]);
    }
    if set.counted {
        body["stmt"] = json!([{ "counter": null }]);
    }
    if set.data.is_empty() {
        json!({ "set": body })
    } else {
        body["map"] = types(&set.data);
        json!({ "map": body })
    }
}

fn chain_object(family: NfFamily, chain: &Chain) -> schema::Chain<'static> {
    schema::Chain {
        family,
        table: TABLE.into(),
        name: chain.name.clone().into(),
        newname: None,
        handle: None,
        _type: chain.hook.map(|hook| match hook.nat {
            true => NfChainType::NAT,
            false => NfChainType::Filter,
        }),
        hook: chain.hook.map(|hook| match hook.point {
            Point::Prerouting => NfHook::Prerouting,
            Point::Input => NfHook::Input,
            Point::Forward => NfHook::Forward,
            Point::Output => NfHook::Output,
            Point::Postrouting => NfHook::Postrouting,
        }),
        prio: chain.hook.map(|hook| hook.priority),
        dev: None,
        policy: chain.hook.map(|_| NfChainPolicy::Accept),
    }
}

type Expr = Expression<'static>;

fn named(expression: NamedExpression<'static>) -> Expr {
    Expression::Named(expression)
}

fn string(text: impl Into<String>) -> Expr {
    Expression::String(text.into().into())
}

fn reference(id: SetId) -> Expr {
    string(format!("@{}", id.spec().name))
}

fn value(value: &Value) -> Expr {
    match value.text.parse() {
        Ok(number) => Expression::Number(number),
        Err(_) => string(value.text.clone()),
    }
}

fn meta(key: Meta) -> Expr {
    let key = match key {
        Meta::Mark => MetaKey::Mark,
        Meta::Priority => MetaKey::Priority,
        Meta::Iif => MetaKey::Iif,
        Meta::Oif => MetaKey::Oif,
        Meta::Iifname => MetaKey::Iifname,
        Meta::Oifname => MetaKey::Oifname,
        Meta::Ibrname => MetaKey::Ibridgename,
        Meta::Nfproto => MetaKey::Nfproto,
        Meta::L4proto => MetaKey::L4proto,
    };
    named(NamedExpression::Meta(NfMeta { key }))
}

fn ct(key: &'static str, family: Option<Family>, dir: Option<CTDir>) -> Expr {
    named(NamedExpression::CT(CT {
        key: key.into(),
        family: family.map(|f| match f {
            Family::V4 => CTFamily::IP,
            Family::V6 => CTFamily::IP6,
        }),
        dir,
    }))
}

fn load(load: Load) -> Expr {
    let (original, reply) = (Some(CTDir::Original), Some(CTDir::Reply));
    match load {
        Load::Meta(key) => meta(key),
        Load::Ct(Ct::State) => ct("state", None, None),
        Load::Ct(Ct::Status) => ct("status", None, None),
        Load::Ct(Ct::Direction) => ct("direction", None, None),
        Load::Ct(Ct::Mark) => ct("mark", None, None),
        Load::Ct(Ct::Protocol) => ct("protocol", None, None),
        Load::Ct(Ct::Client(f)) => ct("saddr", Some(f), original),
        Load::Ct(Ct::Server(f)) => ct("saddr", Some(f), reply),
        Load::Ct(Ct::ServerPort) => ct("proto-src", None, reply),
        Load::Ct(Ct::IcmpType) => and(ct("proto-dst", None, original), 0xff00),
        Load::Payload {
            base,
            offset,
            len,
            name,
        } => payload(base, offset, len, name),
        Load::FibType(of) => {
            let flags = match of {
                FibOf::Daddr => HashSet::from([FibFlag::Daddr]),
                FibOf::DaddrOnIif => HashSet::from([FibFlag::Daddr, FibFlag::Iif]),
                FibOf::SaddrOnOif => HashSet::from([FibFlag::Saddr, FibFlag::Oif]),
            };
            let result = FibResult::Type;
            named(NamedExpression::Fib(Fib { result, flags }))
        }
        Load::Prefix(half) => Expression::BinaryOperation(Box::new(BinaryOperation::AND(
            self::load(half.whole()),
            string("ffff:ffff:ffff:ffff::"),
        ))),
    }
}

fn payload(base: Base, offset: u8, len: u8, name: &'static str) -> Expr {
    let payload = match name.split_once(' ') {
        Some((protocol, field)) => Payload::PayloadField(PayloadField {
            protocol: protocol.into(),
            field: field.into(),
        }),
        None => Payload::PayloadRaw(PayloadRaw {
            base: match base {
                Base::Link => PayloadBase::LL,
                Base::Network => PayloadBase::NH,
                Base::Transport => PayloadBase::TH,
            },
            offset: u32::from(offset) * 8,
            len: u32::from(len) * 8,
        }),
    };
    named(NamedExpression::Payload(payload))
}

fn and(left: Expr, mask: u32) -> Expr {
    Expression::BinaryOperation(Box::new(BinaryOperation::AND(
        left,
        Expression::Number(mask),
    )))
}

fn key(loads: &[Load]) -> Expr {
    match loads {
        [one] => load(*one),
        more => named(NamedExpression::Concat(
            more.iter().map(|l| load(*l)).collect(),
        )),
    }
}

fn map(loads: &[Load], id: SetId) -> Expr {
    named(NamedExpression::Map(Box::new(Map {
        key: key(loads),
        data: reference(id),
    })))
}

fn matches(left: Expr, op: Operator, right: Expr) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn mangle(key: Expr, value: Expr) -> Statement<'static> {
    Statement::Mangle(Mangle { key, value })
}

fn target(name: &str) -> JumpTarget<'static> {
    JumpTarget {
        target: name.to_owned().into(),
    }
}

fn nat(family: Family, addr: Expr) -> NAT<'static> {
    NAT {
        addr: Some(addr),
        family: Some(match family {
            Family::V4 => NATFamily::IP,
            Family::V6 => NATFamily::IP6,
        }),
        port: None,
        flags: None,
    }
}

fn limit(bucket: Bucket) -> Statement<'static> {
    Statement::Limit(Limit {
        rate: bucket.count,
        rate_unit: None,
        per: Some(unit(bucket.seconds).into()),
        burst: Some(bucket.burst),
        burst_unit: None,
        inv: None,
    })
}

fn reject(refusal: Refusal) -> stmt::Reject {
    match refusal {
        Refusal::TcpReset => stmt::Reject::new(Some(RejectType::TCPReset), None),
        Refusal::AdminProhibited => {
            stmt::Reject::new(Some(RejectType::ICMPX), Some(RejectCode::AdminProhibited))
        }
    }
}

fn statement(step: &Step) -> Statement<'static> {
    match step {
        Step::Is(l, v) => matches(load(*l), Operator::EQ, value(v)),
        Step::IsNot(l, v) => matches(load(*l), Operator::NEQ, value(v)),
        Step::Any(l, v) => matches(load(*l), Operator::IN, value(v)),
        Step::Masked(l, mask, v) => {
            matches(and(load(*l), *mask), Operator::EQ, Expression::Number(*v))
        }
        Step::InNet(l, net) => {
            let prefix = Prefix {
                addr: Box::new(string(net.addr().to_string())),
                len: u32::from(net.prefix_len()),
            };
            matches(
                load(*l),
                Operator::EQ,
                named(NamedExpression::Prefix(prefix)),
            )
        }
        Step::In(k, id) => matches(key(k), Operator::EQ, reference(*id)),
        Step::NotIn(k, id) => matches(key(k), Operator::NEQ, reference(*id)),
        Step::Set(k, number) => mangle(meta(*k), Expression::Number(*number)),
        Step::SetFrom(k, l, id) => mangle(meta(*k), map(l, *id)),
        Step::CtMarkFromPriority => mangle(ct("mark", None, None), meta(Meta::Priority)),
        Step::Meter {
            name,
            key: k,
            bucket,
        } => Statement::Meter(Meter {
            name: (*name).into(),
            key: key(k),
            stmt: Box::new(limit(*bucket)),
        }),
        Step::Connections { name, key: k, most } => Statement::Meter(Meter {
            name: (*name).into(),
            key: key(k),
            stmt: Box::new(Statement::CTCount(CTCount {
                val: Expression::Number(*most),
                inv: None,
            })),
        }),
        Step::Log { prefix } => Statement::Log(Some(Log {
            prefix: Some((*prefix).into()),
            group: Some(LOG_GROUP.into()),
            snaplen: Some(LOG_BYTES),
            queue_threshold: None,
            level: None,
            flags: None,
        })),
        Step::Count => Statement::Counter(Counter::Anonymous(None)),
        Step::Reject(refusal) => Statement::Reject(Some(reject(*refusal))),
        Step::Masquerade => Statement::Masquerade(None),
        Step::Dnat(f, k, id) => Statement::DNAT(Some(nat(*f, map(k, *id)))),
        Step::Accept => Statement::Accept(None),
        Step::Drop => Statement::Drop(None),
        Step::Return => Statement::Return(None),
        Step::Jump(to) => Statement::Jump(target(to)),
        Step::Goto(to) => Statement::Goto(target(to)),
    }
}
