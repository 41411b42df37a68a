//! The judgement: deny, class of the peer, allow; once for each direction and family.
//!
//! A packet comes here with a connection. `judge4` asks which sides are containers: the egress of
//! the client and the ingress of the server must both pass; when neither side is a known container,
//! it is dropped. A miss is a drop: a judgement only ends by matches.
//!
//! The packet mark carries the group of the peer from rule to rule. A map lookup that misses leaves
//! the mark as it was, so it is set to 0 before each.
//!
//! # One policy or the other
//!
//! The kernel looks up one set after the other, and a batch may commit in between: the packet would
//! meet the denies of before and the allows of after, and pass though both policies deny it. So the
//! generation, which every batch replaces that may deny what was allowed, is read *before* the first
//! lookup, into the packet's priority. After the last one it must still be in force, else the packet is
//! judged once more; and it is what the connection remembers. (A batch that only loosens keeps the
//! generation: old denies with new allows are nothing but the new policy, or stricter.)
//!
//! ```text
//! judge4 ─► judge4_once ─► still this generation: pass ─► else judge4_again ─► judge4_once ─► pass or drop
//! ```
//!
//! The kernel puts ranges in force a moment after everything else of a batch. So what stands under a number never changes
//! ([`SetId::is_numbered`]): new ranges stand before anything leads to them. Those of conditional rules are in two sets
//! each, one for even generations and one for odd ones (see [`SetId::twin`]), so that those of a generation stand before
//! it comes.
//!
//! A packet that misses what a batch replaces under its eyes is not refused but dropped in silence: it comes again.
//!
//! # Lanes
//!
//! In a zone where each container has a prefix ([`crate::model::Zone::key`]), the elements of a container have the
//! prefix in the place of an address, and whatever address it uses has to become that before it is looked up. So the
//! chains exist three times: for IPv4, for IPv6, and for the owner by its prefix. Nobody's address is a prefix (its
//! second half is zero), so that one set holds both, and which lane a packet takes is told by the set that it is
//! found in. A peer is looked up whole, as networks and addresses in rules are; when it turns out to be a container that is known
//! by its prefix, then as that.
//!
//! A conditional rule loses the generation. Where one had a part, the judgement is made twice while
//! `@changing` says that a batch committed within the last second, and both must pass: two batches in a
//! row are farther apart than two judgements.

use super::ir::*;
use super::lane::{Lane, Side, own_side, peer, peer_prefix, prefix, sides};
use super::verdict::{pass, refuse};
use super::{COUNTED, condition};
use crate::sets::{Action, Direction, Family, SetId, Shape, group};

const MARK: Load = Load::Meta(Meta::Mark);
const PRIORITY: Load = Load::Meta(Meta::Priority);

/// Every chain of the judgement.
pub(super) fn chains() -> Vec<Chain> {
    let mut chains = vec![refuse(), pass()];
    for f in Lane::ALL {
        for d in Direction::ALL {
            chains.push(class(d, f));
            for a in [Action::Deny, Action::Allow] {
                chains.extend([by_range(d, f, a), by_list(d, f, a)]);
                chains.push(by_group(d, f, a));
                chains.push(by_container(d, f, a, peer(d, f.family()), "_container"));
                chains.extend(by_prefix(d, f, a));
                chains.push(by_peer(d, f, a));
            }
            chains.push(direction(d, f));
        }
        chains.push(by_name(f, &name(Direction::Egress, f, Action::Allow, "")));
        chains.push(by_world(Direction::Egress, f, Action::Allow));
        chains.extend(judge_of(f));
    }
    for f in Family::ALL {
        chains.extend(judge(f));
    }
    chains
}

fn name(d: Direction, f: Lane, a: Action, rest: &str) -> String {
    let action = match a {
        Action::Allow => "allow",
        Action::Deny => "deny",
    };
    format!("{}_{action}{rest}", prefix(d, f))
}

/// The generation that was read before the lookups is still in force.
fn is_current() -> Step {
    Step::In(vec![PRIORITY], SetId::Generation)
}

/// A conditional rule had a part.
fn is_counted() -> Step {
    Step::Masked(PRIORITY, !1, COUNTED)
}

/// A judgement returns when the packet passes. The client, or the server alone, is known by a lane.
fn judge_of(f: Lane) -> Vec<Chain> {
    let n = f.word();
    let both = |server: Lane| match server {
        Lane::Prefix => format!("judge{n}_both_prefix"),
        Lane::V4 | Lane::V6 => format!("judge{n}_both"),
    };
    let mut chains = vec![chain(
        format!("judge{n}_server"),
        vec![rule([goto(prefix(Direction::Ingress, f))])],
    )];
    // Asked before the egress: were the server detached meanwhile, its ingress would be skipped.
    let mut rules = Vec::new();
    for server in Lane::of(f.family()) {
        chains.push(chain(
            both(*server),
            vec![
                rule([jump(prefix(Direction::Egress, f))]),
                rule([goto(prefix(Direction::Ingress, *server))]),
            ],
        ));
        rules.push(rule([Side::Server.is_own(*server), goto(both(*server))]));
    }
    rules.push(rule([goto(prefix(Direction::Egress, f))]));
    chains.push(chain(format!("judge{n}_client"), rules));
    chains
}

fn judge(f: Family) -> Vec<Chain> {
    let n = digit(f);
    let known = |side: Side, rest: &str| -> Vec<Rule> {
        let lanes = Lane::of(f).iter();
        let to = |lane: &Lane| goto(format!("judge{}_{rest}", lane.word()));
        lanes
            .map(|lane| rule([side.is_own(*lane), to(lane)]))
            .collect()
    };
    let mut once = vec![
        rule([Step::Set(Meta::Priority, 0)]),
        rule([Step::SetFrom(
            Meta::Priority,
            vec![Load::Meta(Meta::Nfproto)],
            SetId::Remember,
        )])
        .because("the generation to remember, read before the lookups"),
    ];
    once.extend(known(Side::Client, "client"));
    once.push(
        rule([
            Step::Is(Load::Ct(Ct::Direction), Value::byte(0, "original")),
            Step::In(vec![Load::Meta(Meta::Iifname)], SetId::Bridges),
            Step::Count,
            Step::Drop,
        ])
        .because("from a zone, and nobody's any more"),
    );
    once.extend(known(Side::Server, "server"));
    once.push(rule([Step::Count, Step::Drop]).because("neither side is a container"));
    vec![
        chain(format!("judge{n}_once"), once),
        chain(
            format!("judge{n}_again"),
            vec![
                rule([
                    is_counted(),
                    Step::Is(Load::Ct(Ct::Mark), Value::host32(0)),
                    Step::CtMarkFromPriority,
                ])
                .because("counted once"),
                rule([jump(format!("judge{n}_once"))]),
                rule([is_current(), goto("pass")]),
                rule([is_counted(), goto("pass")]),
                rule([Step::Count, Step::Drop]).because("two batches in one judgement"),
            ],
        ),
        chain(
            format!("judge{n}"),
            vec![
                rule([jump(format!("judge{n}_once"))]),
                rule([is_current(), goto("pass")]),
                rule([
                    is_counted(),
                    Step::NotIn(vec![PRIORITY], SetId::Changing),
                    goto("pass"),
                ])
                .because("no batch for a second"),
                rule([goto(format!("judge{n}_again"))]),
            ],
        ),
    ]
}

fn direction(d: Direction, lane: Lane) -> Chain {
    let (own, _) = sides(d, lane);
    let f = lane.family();
    chain(
        prefix(d, lane),
        vec![
            rule([
                Step::NotIn(vec![own], SetId::NoDeny(d, f)),
                jump(name(d, lane, Action::Deny, "")),
            ]),
            rule([
                Step::NotIn(vec![own], SetId::NoDeny(d, f)),
                jump(condition::name(d, lane, Action::Deny)),
            ]),
            rule([goto(name(d, lane, Action::Allow, ""))]),
        ],
    )
}

/// The two lookups of a key that ends in a port: the server's port, or the type of an ICMP message.
/// Each is closed to the other's protocols: an ICMP id or half a port must not pass for a type.
pub(super) fn by_port(f: Family, key: &[Load], set: SetId, end: &[Step]) -> [Rule; 2] {
    by_port_of(f, key, &[], set, end)
}

/// The same for a key in which something follows the port.
fn by_port_of(f: Family, key: &[Load], after: &[Load], set: SetId, end: &[Step]) -> [Rule; 2] {
    let proto = Load::Ct(Ct::Protocol);
    let lookup = |gate: Step, port: Ct| {
        let mut key = key.to_vec();
        key.extend([proto, Load::Ct(port)]);
        key.extend_from_slice(after);
        let mut steps = vec![gate, Step::In(key, set)];
        steps.extend_from_slice(end);
        Rule {
            steps,
            comment: None,
        }
    };
    [
        lookup(Step::IsNot(proto, protocol(icmp(f))), Ct::ServerPort),
        lookup(Step::Is(proto, protocol(icmp(f))), Ct::IcmpType),
    ]
}

/// The exact lookups of one kind of peer, the common ones.
fn lookups(f: Family, key: [Load; 2], sets: [SetId; 3], end: &[Step]) -> Vec<Rule> {
    let [port, proto, all] = sets;
    let mut rules = Vec::from(by_port(f, &key, port, end));
    let with_proto = vec![key[0], key[1], Load::Ct(Ct::Protocol)];
    rules.push(lookup(with_proto, proto, end));
    rules.push(lookup(key.to_vec(), all, end));
    rules
}

fn lookup(key: Vec<Load>, set: SetId, end: &[Step]) -> Rule {
    let mut steps = vec![Step::In(key, set)];
    steps.extend_from_slice(end);
    Rule {
        steps,
        comment: None,
    }
}

/// What a match of `a` means at the end of a lookup.
fn verdict(a: Action) -> Step {
    match a {
        Action::Allow => Step::Return,
        Action::Deny => goto("refuse"),
    }
}

fn by_peer(d: Direction, lane: Lane, a: Action) -> Chain {
    let (own, peer) = sides(d, lane);
    let f = lane.family();
    let set = |shape| SetId::Rule(d, f, a, shape);
    let sets = [
        set(Shape::PeerPort),
        set(Shape::PeerProto),
        set(Shape::Peer),
    ];
    let mut rules = lookups(f, [own, peer], sets, &[verdict(a)]);
    rules.push(rule([Step::Set(Meta::Mark, 0)]));
    rules.push(rule([jump(name(d, lane, a, "_ranges"))]));
    rules.push(rule([is_group(group::ALLOWED), verdict(a)]));
    rules.push(rule([jump(format!("{}_class", prefix(d, lane)))]));
    rules.push(match a {
        Action::Allow => rule([is_group(0), goto(condition::name(d, lane, a))]),
        Action::Deny => rule([is_group(0), Step::Return]),
    });
    let container = name(d, lane, a, "_container");
    rules.push(rule([is_group(group::CONTAINER), goto(container)]));
    if peer_prefix(d, lane).is_some() {
        let known = name(d, lane, a, "_prefix");
        rules.push(rule([is_group(group::PREFIX), goto(known)]));
    }
    if (d, a) == (Direction::Ingress, Action::Allow) {
        // The peer is world or host here. Only connections that came through the published port.
        // They lead to its one main address.
        let own = own_side(d)[0].whole(f);
        let key = vec![own, Load::Ct(Ct::Protocol), Load::Ct(Ct::ServerPort)];
        let dnat = Step::Any(Load::Ct(Ct::Status), Value::bit32(0x20, "dnat"));
        for set in [SetId::PublishedOpen(f), SetId::PublishedRange(f)] {
            rules.push(
                rule([dnat.clone(), Step::In(key.clone(), set), Step::Return])
                    .because("published, and no file mentions ingress"),
            );
        }
    }
    if has_names(d, a) {
        rules.push(rule([
            is_group(group::WORLD),
            goto(name(d, lane, a, "_world")),
        ]));
    }
    rules.extend(ask_group(d, lane, a));
    rules.extend(any_group(d, lane, a));
    chain(name(d, lane, a, ""), rules)
}

/// The peer is in the world, where names may have been resolved to it.
fn by_world(d: Direction, lane: Lane, a: Action) -> Chain {
    let mut rules = Vec::from(ask_group(d, lane, a));
    rules.push(rule([jump(name(d, lane, a, "_resolved"))]));
    rules.push(rule([is_group(group::ALLOWED), verdict(a)]));
    rules.extend(any_group(d, lane, a));
    chain(name(d, lane, a, "_world"), rules)
}

/// Lists of ports of the peer, and networks that it may be in; a match leaves [`group::ALLOWED`] in the
/// mark, for denies too. The mark is 0 before.
fn by_range(d: Direction, lane: Lane, a: Action) -> Chain {
    let (own, peer) = sides(d, lane);
    let f = lane.family();
    let set = |shape| SetId::Rule(d, f, a, shape);
    let list = || name(d, lane, a, "_list");
    let mut rules = vec![
        rule([Step::SetFrom(
            Meta::Mark,
            vec![own, peer],
            set(Shape::PeerList),
        )]),
        rule([Step::IsNot(MARK, Value::host32(0)), jump(list())]),
        rule([is_group(group::ALLOWED), Step::Return]),
        rule([Step::Set(Meta::Mark, 0)]),
        rule([Step::SetFrom(Meta::Mark, vec![own], SetId::Nets(d, f, a))]),
        rule([is_group(0), Step::Return]),
    ];
    rules.extend(by_port_of(
        f,
        &[MARK],
        &[peer],
        set(Shape::NetPort),
        &found(),
    ));
    let with_proto = vec![MARK, Load::Ct(Ct::Protocol), peer];
    rules.push(lookup(with_proto, set(Shape::NetProto), &found()));
    rules.push(lookup(vec![MARK, peer], set(Shape::Net), &found()));
    rules.push(rule([Step::SetFrom(
        Meta::Mark,
        vec![MARK, peer],
        set(Shape::NetList),
    )]));
    rules.push(rule([goto(list())]));
    chain(name(d, lane, a, "_ranges"), rules)
}

/// The list of ports in the mark, where it is one.
fn by_list(d: Direction, lane: Lane, a: Action) -> Chain {
    let f = lane.family();
    let ports = SetId::Rule(d, f, a, Shape::Ports);
    let rules = by_port(f, &[MARK], ports, &found());
    chain(name(d, lane, a, "_list"), rules.into())
}

fn found() -> [Step; 2] {
    [Step::Set(Meta::Mark, group::ALLOWED), Step::Return]
}

/// Whether `dns:` peers mean something: what names resolve to is opened, and nothing else is done with it.
pub(super) fn has_names(d: Direction, a: Action) -> bool {
    (d, a) == (Direction::Egress, Action::Allow)
}

/// The peer is in the world: the names it was resolved from for this container, which are a group. `prefix`:
/// of the chains that have `_resolved` and `_group` behind it.
pub(super) fn by_name(f: Lane, prefix: &str) -> Chain {
    let (own, peer) = sides(Direction::Egress, f);
    chain(
        format!("{prefix}_resolved"),
        vec![
            rule([Step::Set(Meta::Mark, 0)]),
            rule([Step::SetFrom(
                Meta::Mark,
                vec![own, peer],
                SetId::Resolved(f.family()),
            )]),
            rule([is_group(0), Step::Return]),
            rule([goto(format!("{prefix}_group"))]),
        ],
    )
}

/// The peer is a container: its zone, its labels, and `any`.
fn by_container(d: Direction, lane: Lane, a: Action, peer: Load, end: &str) -> Chain {
    let f = lane.family();
    let mut rules = Vec::new();
    for map in [SetId::ZoneOf(f), SetId::LabelsOf(f)] {
        rules.extend(group_of(peer, map));
        rules.extend(ask_group(d, lane, a));
    }
    rules.extend(any_group(d, lane, a));
    chain(name(d, lane, a, end), rules)
}

/// The same for one that is known by its prefix; and what rules say of it by name.
fn by_prefix(d: Direction, lane: Lane, a: Action) -> Option<Chain> {
    let peer = peer_prefix(d, lane)?;
    let (own, _) = sides(d, lane);
    let f = lane.family();
    let set = |shape| SetId::Rule(d, f, a, shape);
    let sets = [
        set(Shape::PeerPort),
        set(Shape::PeerProto),
        set(Shape::Peer),
    ];
    let mut rules = lookups(f, [own, peer], sets, &[verdict(a)]);
    rules.extend([
        rule([Step::Set(Meta::Mark, 0)]),
        rule([Step::SetFrom(
            Meta::Mark,
            vec![own, peer],
            set(Shape::PeerList),
        )]),
        rule([jump(name(d, lane, a, "_list"))]),
        rule([is_group(group::ALLOWED), verdict(a)]),
    ]);
    let mut chain = by_container(d, lane, a, peer, "_prefix");
    rules.append(&mut chain.rules);
    Some(Chain { rules, ..chain })
}

/// Puts the group that a container is of into the mark. Every container has one in both maps; one that is just
/// replaced may be missed for a moment, and that must neither pass for no label nor be told to anybody.
pub(super) fn group_of(peer: Load, map: SetId) -> Vec<Rule> {
    vec![
        rule([Step::Set(Meta::Mark, 0)]),
        rule([Step::SetFrom(Meta::Mark, vec![peer], map)]),
        rule([is_group(0), Step::Count, Step::Drop]),
    ]
}

/// Looks the group in the mark up; a match leaves [`group::ALLOWED`] in the mark, for denies too. Else the mark is lost.
fn by_group(d: Direction, lane: Lane, a: Action) -> Chain {
    let (own, _) = sides(d, lane);
    let f = lane.family();
    let set = |shape| SetId::Rule(d, f, a, shape);
    let sets = [
        set(Shape::GroupPort),
        set(Shape::GroupProto),
        set(Shape::Group),
    ];
    let mut rules = lookups(f, [own, MARK], sets, &found());
    rules.push(rule([Step::SetFrom(
        Meta::Mark,
        vec![own, MARK],
        set(Shape::GroupList),
    )]));
    rules.push(rule([goto(name(d, lane, a, "_list"))]));
    chain(name(d, lane, a, "_group"), rules)
}

fn ask_group(d: Direction, f: Lane, a: Action) -> [Rule; 2] {
    [
        rule([jump(name(d, f, a, "_group"))]),
        rule([is_group(group::ALLOWED), verdict(a)]),
    ]
}

/// The last group; and what no unconditional rule allows, a conditional one may.
fn any_group(d: Direction, f: Lane, a: Action) -> Vec<Rule> {
    let mut rules = vec![rule([Step::Set(Meta::Mark, group::ANY)])];
    rules.extend(ask_group(d, f, a));
    rules.extend((a == Action::Allow).then(|| rule([goto(condition::name(d, f, a))])));
    rules
}

pub(super) fn is_group(number: u32) -> Step {
    Step::Is(MARK, Value::host32(number))
}

/// Which class the peer is of: its mark, or 0 for none.
fn class(d: Direction, lane: Lane) -> Chain {
    let (own, peer) = sides(d, lane);
    let f = lane.family();
    let mut rules = vec![
        rule([Step::Set(Meta::Mark, 0)]),
        rule([
            Step::In(vec![peer], SetId::Own(f)),
            Step::Set(Meta::Mark, group::CONTAINER),
            Step::Return,
        ]),
    ];
    if let Some(prefix) = peer_prefix(d, lane) {
        rules.push(rule([
            Step::In(vec![prefix], SetId::Own(f)),
            Step::Set(Meta::Mark, group::PREFIX),
            Step::Return,
        ]));
    }
    let multicast: &[&str] = match f {
        Family::V4 => &["224.0.0.0/3"],
        Family::V6 => &["ff00::/8"],
    };
    let reserved: &[&str] = match f {
        Family::V4 => &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"],
        Family::V6 => &["::/127", "fe80::/10"],
    };
    let in_nets = |nets: &[&str]| {
        nets.iter()
            .filter_map(|net| net.parse().ok())
            .map(|net| rule([Step::InNet(peer, net), Step::Return]))
            .collect::<Vec<_>>()
    };
    // Before the host: a group is not an address of the host, although the host listens to it.
    rules.extend(in_nets(multicast));
    for side in [Meta::Iif, Meta::Oif] {
        rules.push(rule([
            Step::Is(Load::Meta(side), Value::host32(0)),
            Step::Set(Meta::Mark, group::HOST),
            Step::Return,
        ]));
    }
    rules.push(rule([
        Step::In(vec![peer], SetId::Subnets(f)),
        Step::Return,
    ]));
    rules.extend(in_nets(reserved));
    rules.push(rule([
        Step::In(vec![own], SetId::Internal(f)),
        Step::Return,
    ]));
    rules.push(rule([Step::Set(Meta::Mark, group::WORLD)]));
    chain(format!("{}_class", prefix(d, lane)), rules)
}
