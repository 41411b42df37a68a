//! Conditional rules: those with a rate, a number of connections at one time, or hours.
//!
//! ```text
//! eg4_allow … no match ─► eg4_if_allow: number 0, 1, … 7 ─► _try ─► _match (peer, class, groups)
//!                              │ holds: return                └───► in force now? ─► eg4_limits
//!                              └ no more: refuse
//! ```
//!
//! They are few for one container, so they are tried one by one, with their number in the packet's
//! priority and in the keys of their elements. The generation is lost by that: connections in which
//! a conditional rule had a part are not remembered but judged again with each packet, which is also
//! what lets hours end on time. Their conntrack mark says that they were counted.
//!
//! The limits themselves are the only rules that depend on policies: one for each rate and number in
//! use, whoever uses it. Buckets and counts belong to the container, the rule and the source.

use super::ir::*;
use super::judge::{by_name, by_port, group_of, has_names, is_group};
use super::lane::{Lane, peer_prefix, prefix, sides};
use super::{COUNTED, PASSED_MASK, REMEMBERED};
use crate::policy::MAX_CONDITIONAL;
use crate::sets::{Action, Direction, Family, Field, Limit, SetId, Shape, group, limit};

const MARK: Load = Load::Meta(Meta::Mark);
const NUMBER: Load = Load::Meta(Meta::Priority);

pub(super) fn meters() -> Vec<MeterSpec> {
    let meters = |f| {
        let ip = match f {
            Family::V4 => Field::Ip4,
            Family::V6 => Field::Ip6,
        };
        [false, true].map(|connections| MeterSpec {
            name: meter_name(f, connections),
            key: vec![ip, Field::Mark, ip],
            connections,
        })
    };
    Family::ALL.into_iter().flat_map(meters).collect()
}

fn meter_name(f: Family, connections: bool) -> &'static str {
    match (f, connections) {
        (Family::V4, false) => "rates4",
        (Family::V4, true) => "connections4",
        (Family::V6, false) => "rates6",
        (Family::V6, true) => "connections6",
    }
}

pub(super) fn chains() -> Vec<Chain> {
    let mut chains = vec![counted()];
    for f in Lane::ALL {
        let matching = format!("{}_match", name(Direction::Egress, f, Action::Allow));
        chains.push(by_name(f, &matching));
        for d in Direction::ALL {
            chains.extend(limits(d, f, &[]));
            for a in [Action::Deny, Action::Allow] {
                chains.extend([
                    match_group(d, f, a),
                    match_container(d, f, a, sides(d, f).1, "_match_container"),
                    match_peer(d, f, a),
                    attempt(d, f, a),
                    all(d, f, a),
                ]);
                chains.extend(match_prefix(d, f, a));
            }
        }
    }
    chains
}

/// Name of the chain that tries the conditional rules of a direction and action.
pub(super) fn name(d: Direction, f: Lane, a: Action) -> String {
    format!("{}_if_{}", prefix(d, f), a.as_str())
}

/// What takes the place of the generation: that a conditional rule had a part, and which ranges the
/// packet is to look into.
fn counted() -> Chain {
    chain(
        "counted",
        vec![
            rule([Step::Set(Meta::Priority, COUNTED)]),
            rule([is_odd(true), Step::Set(Meta::Priority, COUNTED | 1)]),
        ],
    )
}

/// The generation is even, or odd, asked where it is lost.
fn is_odd(odd: bool) -> Step {
    let key = vec![Load::Meta(Meta::Nfproto)];
    match odd {
        false => Step::NotIn(key, SetId::Odd),
        true => Step::In(key, SetId::Odd),
    }
}

/// Numbers one by one, until one decides or none is left.
fn all(d: Direction, f: Lane, a: Action) -> Chain {
    let mut rules = Vec::new();
    if a == Action::Deny {
        // Most have none: they keep the generation.
        let (own, _) = sides(d, f);
        rules.push(rule([Step::Set(Meta::Mark, 0)]));
        rules.push(rule([Step::SetFrom(
            Meta::Mark,
            vec![own, MARK],
            SetId::Condition(d, f.family(), a),
        )]));
        rules.push(rule([is_group(0), Step::Return]).because("no conditional deny"));
    }
    for number in 0..MAX_CONDITIONAL {
        rules.push(rule([
            Step::Set(Meta::Priority, number),
            jump(format!("{}_try", name(d, f, a))),
        ]));
        rules.push(match a {
            Action::Allow => rule([is_group(group::ALLOWED), goto("counted")]),
            Action::Deny => rule([is_group(group::ALLOWED), goto("refuse")]),
        });
        rules.push(match a {
            Action::Allow => rule([is_group(group::LAST), goto("refuse")]),
            Action::Deny => rule([is_group(group::LAST), goto("counted")]),
        });
    }
    rules.push(match a {
        Action::Allow => rule([goto("refuse")]),
        Action::Deny => rule([goto("counted")]),
    });
    chain(name(d, f, a), rules)
}

/// The rule of the number: the mark becomes [`group::LAST`] when there is none, [`group::ALLOWED`]
/// when it matches and holds, and 0 otherwise.
fn attempt(d: Direction, f: Lane, a: Action) -> Chain {
    let (own, _) = sides(d, f);
    let condition = SetId::Condition(d, f.family(), a);
    let mut rules = vec![
        rule([Step::Set(Meta::Mark, group::LAST)]),
        rule([Step::SetFrom(Meta::Mark, vec![own, NUMBER], condition)]),
        rule([is_group(group::LAST), Step::Return]),
        rule([jump(format!("{}_match", name(d, f, a)))]),
        rule([
            Step::IsNot(MARK, Value::host32(group::ALLOWED)),
            Step::Set(Meta::Mark, 0),
            Step::Return,
        ]),
        rule([Step::SetFrom(Meta::Priority, vec![own, NUMBER], condition)])
            .because("from here on its mark in the place of its number"),
    ];
    match a {
        Action::Deny => rules.push(
            rule([
                Step::In(vec![NUMBER], SetId::Asleep),
                Step::Set(Meta::Mark, 0),
            ])
            .because("not in its hours"),
        ),
        Action::Allow => rules.extend([
            rule([Step::Set(Meta::Mark, 0)]),
            rule([Step::SetFrom(Meta::Mark, vec![NUMBER], SetId::Limit)]),
            rule([goto(limits_name(d, f))]),
        ]),
    }
    chain(format!("{}_try", name(d, f, a)), rules)
}

fn limits_name(d: Direction, f: Lane) -> String {
    format!("{}_limits", prefix(d, f))
}

/// Every limit that a policy has, in one chain: the mark is the number of the limit, the priority
/// the mark of the rule. A source that is known by its prefix is one source, and has a chain of its own.
fn limits(d: Direction, f: Lane, limits: &[(u32, Limit)]) -> Vec<Chain> {
    let holds = || [Step::Set(Meta::Mark, group::ALLOWED), Step::Return];
    let holding = |mut steps: Vec<Step>| {
        steps.extend(holds());
        Rule {
            steps,
            comment: None,
        }
    };
    let old = Value::bit32(2 | 4, "established,related");
    let mut rules = vec![
        rule([is_group(0), Step::Return]).because("not in its hours"),
        holding(vec![Step::Any(Load::Ct(Ct::State), old)]).because("not a new connection"),
        holding(vec![Step::Masked(
            Load::Ct(Ct::Mark),
            PASSED_MASK,
            REMEMBERED,
        )])
        .because("counted before"),
        holding(vec![is_group(limit::NONE)]),
    ];
    let (own, peer) = sides(d, f);
    let (source, prefix) = match d {
        Direction::Egress => (own, None),
        Direction::Ingress => (peer, peer_prefix(d, f)),
    };
    let each = |source: Load| {
        let key = || vec![own, NUMBER, source];
        let mut rules = Vec::new();
        for (number, limit) in limits {
            let mut steps = vec![is_group(*number)];
            steps.extend(limit.rate.map(|rate| Step::Meter {
                name: meter_name(f.family(), false),
                key: key(),
                bucket: Bucket {
                    count: rate.count,
                    seconds: rate.seconds,
                    burst: rate.burst,
                },
            }));
            steps.extend(limit.connections.map(|most| Step::Connections {
                name: meter_name(f.family(), true),
                key: key(),
                most,
            }));
            rules.push(holding(steps));
        }
        rules.push(rule([Step::Set(Meta::Mark, 0)]));
        rules
    };
    let name = limits_name(d, f);
    let mut chains = Vec::new();
    if let Some(prefix) = prefix {
        let apart = format!("{name}_prefix");
        let is_own = Step::In(vec![prefix], SetId::Own(f.family()));
        rules.push(rule([is_own, goto(apart.clone())]));
        chains.push(chain(apart, each(prefix)));
    }
    rules.extend(each(source));
    chains.push(chain(name, rules));
    chains
}

/// The chains that change when limits do, with the limits in use.
pub(super) fn with_limits(in_use: &[(u32, Limit)]) -> Vec<Chain> {
    let chains = |f| Direction::ALL.map(|d| limits(d, f, in_use));
    Lane::ALL.into_iter().flat_map(chains).flatten().collect()
}

fn matched() -> [Step; 2] {
    [Step::Set(Meta::Mark, group::ALLOWED), Step::Return]
}

/// As for unconditional rules, with the number of the rule after the owner's address.
fn match_peer(d: Direction, lane: Lane, a: Action) -> Chain {
    let (own, peer) = sides(d, lane);
    let f = lane.family();
    let set = |shape| SetId::If(d, f, a, shape);
    let n = name(d, lane, a);
    let key = [own, NUMBER, peer];
    let mut rules = Vec::from(by_port(f, &key, set(Shape::PeerPort), &matched()));
    rules.push(rule([Step::Set(Meta::Mark, 0)]));
    for odd in [false, true] {
        let part = set(Shape::NetPart).in_generation(odd);
        rules.push(rule([
            is_odd(odd),
            Step::SetFrom(Meta::Mark, key.to_vec(), part),
        ]));
    }
    rules.extend(ranges(f, [own, NUMBER, MARK], set(Shape::NetRange)));
    rules.push(rule([jump(format!("{}_class", prefix(d, lane)))]));
    rules.push(rule([is_group(0), Step::Return]));
    rules.push(rule([
        is_group(group::CONTAINER),
        goto(format!("{n}_match_container")),
    ]));
    if peer_prefix(d, lane).is_some() {
        rules.push(rule([
            is_group(group::PREFIX),
            goto(format!("{n}_match_prefix")),
        ]));
    }
    rules.extend(ask_group(&n));
    if has_names(d, a) {
        rules.push(rule([
            is_group(group::WORLD),
            jump(format!("{n}_match_resolved")),
        ]));
        rules.push(rule([is_group(group::ALLOWED), Step::Return]));
    }
    rules.push(rule([Step::Set(Meta::Mark, group::ANY)]));
    rules.push(rule([goto(format!("{n}_match_group"))]));
    chain(format!("{n}_match"), rules)
}

/// The lookups of a range of ports, in the one set or its twin.
fn ranges(f: Family, key: [Load; 3], set: SetId) -> Vec<Rule> {
    let mut rules = Vec::new();
    for odd in [false, true] {
        let lookups = by_port(f, &key, set.in_generation(odd), &matched());
        rules.extend(lookups.map(|mut rule| {
            rule.steps.insert(0, is_odd(odd));
            rule
        }));
    }
    rules
}

fn match_container(d: Direction, lane: Lane, a: Action, peer: Load, end: &str) -> Chain {
    let f = lane.family();
    let n = name(d, lane, a);
    let mut rules = Vec::new();
    for map in [SetId::ZoneOf(f), SetId::LabelsOf(f)] {
        rules.extend(group_of(peer, map));
        rules.extend(ask_group(&n));
    }
    rules.push(rule([Step::Set(Meta::Mark, group::ANY)]));
    rules.push(rule([goto(format!("{n}_match_group"))]));
    chain(format!("{n}{end}"), rules)
}

/// The same for a container that is known by its prefix, and a port of it by name. (What is not one port of it is
/// among the networks.)
fn match_prefix(d: Direction, lane: Lane, a: Action) -> Option<Chain> {
    let peer = peer_prefix(d, lane)?;
    let (own, _) = sides(d, lane);
    let f = lane.family();
    let set = SetId::If(d, f, a, Shape::PeerPort);
    let mut rules = Vec::from(by_port(f, &[own, NUMBER, peer], set, &matched()));
    let mut chain = match_container(d, lane, a, peer, "_match_prefix");
    rules.append(&mut chain.rules);
    Some(Chain { rules, ..chain })
}

fn match_group(d: Direction, lane: Lane, a: Action) -> Chain {
    let (own, _) = sides(d, lane);
    let f = lane.family();
    let set = |shape| SetId::If(d, f, a, shape);
    let key = [own, NUMBER, MARK];
    let mut rules = Vec::from(by_port(f, &key, set(Shape::GroupPort), &matched()));
    rules.extend(ranges(f, key, set(Shape::GroupRange)));
    chain(format!("{}_match_group", name(d, lane, a)), rules)
}

fn ask_group(name: &str) -> [Rule; 2] {
    [
        rule([jump(format!("{name}_match_group"))]),
        rule([is_group(group::ALLOWED), Step::Return]),
    ]
}
