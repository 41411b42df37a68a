//! The judgement: deny, class of the peer, allow; once for each direction and family.
//!
//! A packet comes here with a connection. `judge4` asks which sides are containers: the egress of
//! the client and the ingress of the server must both pass; when neither side is a known container,
//! it is dropped. A miss is a drop: `pass` is only reached by matches.
//!
//! The packet mark carries the group of the peer from rule to rule. A map lookup that misses leaves
//! the mark as it was, so it is set to 0 before each.
//!
//! The generation is read *before* the first lookup, into the packet's priority, and written to the
//! conntrack mark after the last one. Were it read at the end, a packet judged by the old elements
//! while a batch commits could be remembered with the new generation, and live on.

use super::ir::*;
use super::{JUDGED, PASSED_MASK, REMEMBERED, condition, record};
use crate::sets::{Action, Direction, Family, SetId, Shape, group};

const MARK: Load = Load::Meta(Meta::Mark);

/// Every chain of the judgement.
pub(super) fn chains() -> Vec<Chain> {
    let mut chains = vec![refuse(), pass()];
    for f in Family::ALL {
        for d in Direction::ALL {
            chains.push(class(d, f));
            for a in [Action::Deny, Action::Allow] {
                chains.extend([by_group(d, f, a), by_container(d, f, a), by_peer(d, f, a)]);
            }
            chains.push(direction(d, f));
        }
        chains.extend(judge(f));
    }
    chains
}

/// `eg4`, `in6`, …
pub(super) fn prefix(d: Direction, f: Family) -> String {
    let way = match d {
        Direction::Egress => "eg",
        Direction::Ingress => "in",
    };
    format!("{way}{}", digit(f))
}

fn name(d: Direction, f: Family, a: Action, rest: &str) -> String {
    let action = match a {
        Action::Allow => "allow",
        Action::Deny => "deny",
    };
    format!("{}_{action}{rest}", prefix(d, f))
}

/// (own, peer): the container whose rules are asked, and the other side.
pub(super) fn sides(d: Direction, f: Family) -> (Load, Load) {
    let (client, server) = (Load::Ct(Ct::Client(f)), Load::Ct(Ct::Server(f)));
    match d {
        Direction::Egress => (client, server),
        Direction::Ingress => (server, client),
    }
}

fn judge(f: Family) -> Vec<Chain> {
    let n = digit(f);
    let is_own = |side| Step::In(vec![Load::Ct(side)], SetId::Own(f));
    let (client, server) = (Ct::Client(f), Ct::Server(f));
    vec![
        chain(
            format!("judge{n}_server"),
            vec![
                rule([jump(prefix(Direction::Ingress, f))]),
                rule([goto("pass")]),
            ],
        ),
        chain(
            format!("judge{n}_client"),
            vec![
                rule([jump(prefix(Direction::Egress, f))]),
                rule([is_own(server), goto(format!("judge{n}_server"))]),
                rule([goto("pass")]),
            ],
        ),
        chain(
            format!("judge{n}"),
            vec![
                rule([Step::Set(Meta::Priority, 0)]),
                rule([Step::SetFrom(
                    Meta::Priority,
                    vec![Load::Meta(Meta::Nfproto)],
                    SetId::Remember,
                )])
                .because("the generation to remember, read before the lookups"),
                rule([is_own(client), goto(format!("judge{n}_client"))]),
                rule([is_own(server), goto(format!("judge{n}_server"))]),
                rule([Step::Count, Step::Drop]).because("neither side is a container"),
            ],
        ),
    ]
}

fn direction(d: Direction, f: Family) -> Chain {
    let (own, _) = sides(d, f);
    chain(
        prefix(d, f),
        vec![
            rule([
                Step::NotIn(vec![own], SetId::NoDeny(d, f)),
                jump(name(d, f, Action::Deny, "")),
            ]),
            rule([
                Step::NotIn(vec![own], SetId::NoDeny(d, f)),
                jump(condition::name(d, f, Action::Deny)),
            ]),
            rule([goto(name(d, f, Action::Allow, ""))]),
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

/// The lookups of one kind of peer, exact ones first: they are the common ones and the cheapest.
fn lookups(f: Family, key: [Load; 2], sets: [SetId; 4], end: &[Step]) -> Vec<Rule> {
    let [port, proto, all, range] = sets;
    let mut rules = Vec::from(by_port(f, &key, port, end));
    let with_proto = vec![key[0], key[1], Load::Ct(Ct::Protocol)];
    rules.push(lookup(with_proto, proto, end));
    rules.push(lookup(key.to_vec(), all, end));
    rules.extend(by_port(f, &key, range, end));
    rules
}

/// The lookups of networks that the peer may be in.
fn net_lookups(f: Family, [own, peer]: [Load; 2], sets: [SetId; 4], end: &[Step]) -> Vec<Rule> {
    let [port, proto, all, range] = sets;
    let mut rules = Vec::from(by_port_of(f, &[own], &[peer], port, end));
    let with_proto = vec![own, Load::Ct(Ct::Protocol), peer];
    rules.push(lookup(with_proto, proto, end));
    rules.push(lookup(vec![own, peer], all, end));
    rules.extend(by_port(f, &[own, peer], range, end));
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

fn by_peer(d: Direction, f: Family, a: Action) -> Chain {
    let (own, peer) = sides(d, f);
    let set = |shape| SetId::Rule(d, f, a, shape);
    let sets = [
        set(Shape::PeerPort),
        set(Shape::PeerProto),
        set(Shape::Peer),
        set(Shape::PeerRange),
    ];
    let nets = [
        set(Shape::NetPort),
        set(Shape::NetProto),
        set(Shape::Net),
        set(Shape::NetRange),
    ];
    let mut rules = lookups(f, [own, peer], sets, &[verdict(a)]);
    rules.extend(net_lookups(f, [own, peer], nets, &[verdict(a)]));
    rules.push(rule([jump(format!("{}_class", prefix(d, f)))]));
    rules.push(match a {
        Action::Allow => rule([is_group(0), goto(condition::name(d, f, a))]),
        Action::Deny => rule([is_group(0), Step::Return]),
    });
    let container = name(d, f, a, "_container");
    rules.push(rule([is_group(group::CONTAINER), goto(container)]));
    if (d, a) == (Direction::Ingress, Action::Allow) {
        // The peer is world or host here. Only connections that came through the published port.
        let key = vec![own, Load::Ct(Ct::Protocol), Load::Ct(Ct::ServerPort)];
        let dnat = Step::Any(Load::Ct(Ct::Status), Value::bit32(0x20, "dnat"));
        for set in [SetId::PublishedOpen(f), SetId::PublishedRange(f)] {
            rules.push(
                rule([dnat.clone(), Step::In(key.clone(), set), Step::Return])
                    .because("published, and no file mentions ingress"),
            );
        }
    }
    rules.extend(ask_group(d, f, a));
    rules.push(rule([Step::Set(Meta::Mark, group::ANY)]));
    rules.extend(ask_group(d, f, a));
    rules.extend(the_end(d, f, a));
    chain(name(d, f, a, ""), rules)
}

/// The peer is a container: its zone, its labels, and `any`.
fn by_container(d: Direction, f: Family, a: Action) -> Chain {
    let (_, peer) = sides(d, f);
    let mut rules = Vec::new();
    for map in [SetId::ZoneOf(f), SetId::LabelsOf(f)] {
        rules.extend(group_of(peer, map));
        rules.extend(ask_group(d, f, a));
    }
    rules.push(rule([Step::Set(Meta::Mark, group::ANY)]));
    rules.extend(ask_group(d, f, a));
    rules.extend(the_end(d, f, a));
    chain(name(d, f, a, "_container"), rules)
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

/// Looks the group in the mark up; a match leaves [`group::ALLOWED`] in the mark, for denies too.
fn by_group(d: Direction, f: Family, a: Action) -> Chain {
    let (own, _) = sides(d, f);
    let set = |shape| SetId::Rule(d, f, a, shape);
    let sets = [
        set(Shape::GroupPort),
        set(Shape::GroupProto),
        set(Shape::Group),
        set(Shape::GroupRange),
    ];
    let end = [Step::Set(Meta::Mark, group::ALLOWED), Step::Return];
    chain(name(d, f, a, "_group"), lookups(f, [own, MARK], sets, &end))
}

fn ask_group(d: Direction, f: Family, a: Action) -> [Rule; 2] {
    [
        rule([jump(name(d, f, a, "_group"))]),
        rule([is_group(group::ALLOWED), verdict(a)]),
    ]
}

/// What no unconditional rule allows, a conditional one may.
fn the_end(d: Direction, f: Family, a: Action) -> Option<Rule> {
    (a == Action::Allow).then(|| rule([goto(condition::name(d, f, a))]))
}

pub(super) fn is_group(number: u32) -> Step {
    Step::Is(MARK, Value::host32(number))
}

/// Which class the peer is of: its mark, or 0 for none.
fn class(d: Direction, f: Family) -> Chain {
    let (own, peer) = sides(d, f);
    let mut rules = vec![
        rule([Step::Set(Meta::Mark, 0)]),
        rule([
            Step::In(vec![peer], SetId::Own(f)),
            Step::Set(Meta::Mark, group::CONTAINER),
            Step::Return,
        ]),
    ];
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
    chain(format!("{}_class", prefix(d, f)), rules)
}

/// Packets a second, and at once, that one sender is told about; the rest is dropped in silence.
const REFUSALS: Bucket = Bucket::a_second(100, 200);

/// Tells containers and the host at once; what comes from elsewhere is dropped in silence.
fn refuse() -> Chain {
    let told = |f: Family, name| {
        rule([
            family(f),
            Step::Meter {
                name,
                key: vec![saddr(f)],
                bucket: REFUSALS,
            },
            goto("answer"),
        ])
    };
    chain(
        "refuse",
        vec![
            record::deny(),
            rule([
                Step::IsNot(Load::Meta(Meta::Iif), Value::host32(0)),
                Step::NotIn(vec![Load::Meta(Meta::Iifname)], SetId::Bridges),
                Step::Count,
                Step::Drop,
            ])
            .because("from the world: in silence"),
            told(Family::V4, "rate_refuse4"),
            told(Family::V6, "rate_refuse6"),
            rule([Step::Count, Step::Drop]).because("told often enough"),
        ],
    )
}

/// The answer of a refusal.
pub(super) fn answer() -> Chain {
    chain(
        "answer",
        vec![
            rule([l4proto(6), Step::Count, Step::Reject(Refusal::TcpReset)]),
            rule([Step::Count, Step::Reject(Refusal::AdminProhibited)]),
        ],
    )
}

/// Both sides pass: the verdict is remembered and the packet marked.
fn pass() -> Chain {
    let ct_mark = Load::Ct(Ct::Mark);
    chain(
        "pass",
        vec![
            record::pass(),
            rule([
                Step::Is(ct_mark, Value::host32(0)),
                Step::CtMarkFromPriority,
            ]),
            rule([
                Step::Masked(ct_mark, PASSED_MASK, REMEMBERED),
                Step::CtMarkFromPriority,
            ]),
            rule([Step::Set(Meta::Priority, 0)]),
            rule([Step::Set(Meta::Mark, 0)]),
            rule([
                Step::IsNot(Load::Meta(Meta::Oif), Value::host32(0)),
                Step::Set(Meta::Mark, JUDGED),
            ]),
            rule([Step::Accept]),
        ],
    )
}
