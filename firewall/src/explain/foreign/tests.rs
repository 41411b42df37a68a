//! Verdict tables: rules of ufw, firewalld and Docker in small, and what becomes of a connection.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::sets::Family;

const WEB: &str = "10.89.0.2";
const OUTSIDE: &str = "192.0.2.2";

fn link(name: &str) -> Option<Link> {
    Some(Link {
        name: Some(name.into()),
        index: None,
        kind: None,
    })
}

fn is(address: &str) -> Addr {
    Addr::Is(address.parse::<IpAddr>().unwrap())
}

/// web → the outside, by `vz-dmz` and `eth0`, tcp to a port; and its answer.
fn forwarded(port: u16) -> Vec<Journey> {
    let head = |src, dst, sport, dport| Head {
        src,
        dst,
        sport,
        dport,
    };
    let there = head(is(WEB), is(OUTSIDE), None, Some(port));
    let back = head(is(OUTSIDE), is(WEB), Some(port), None);
    let journey = |turn, iif: &str, oif: &str, seen: &Head| Journey {
        packet: Packet {
            turn,
            family: Family::V4,
            proto: 6,
            icmp: None,
            original: there.clone(),
            reply: back.clone(),
            dnat: false,
            snat: false,
            local: vec!["192.0.2.1".parse().unwrap()],
        },
        passages: vec![Passage {
            layer: Layer::Ip,
            hook: Hook::Forward,
            iif: link(iif),
            oif: link(oif),
            before: seen.clone(),
            after: seen.clone(),
            marks: vec![0],
        }],
    };
    vec![
        journey(Turn::First, "vz-dmz", "eth0", &there),
        journey(Turn::Answer, "eth0", "vz-dmz", &back),
        journey(Turn::Next, "vz-dmz", "eth0", &there),
    ]
}

fn rule(handle: u64, expressions: Vec<Expression>) -> RulesetRule {
    RulesetRule {
        handle,
        comment: None,
        expressions,
    }
}

fn chain(name: &str, drops: Option<bool>, rules: Vec<Vec<Expression>>) -> RulesetChain {
    let numbered = (1..).zip(rules);
    RulesetChain {
        name: name.into(),
        base: drops.map(|drops| Base {
            hook: Hook::Forward,
            is_nat: false,
            priority: 0,
            drops,
        }),
        rules: numbered.map(|(n, rule)| self::rule(n, rule)).collect(),
    }
}

fn ruleset(chains: Vec<RulesetChain>) -> Ruleset {
    with_sets(chains, BTreeMap::new())
}

fn with_sets(chains: Vec<RulesetChain>, sets: BTreeMap<String, RulesetSet>) -> Ruleset {
    Ruleset {
        tables: vec![RulesetTable {
            family: TableFamily::Inet,
            name: "other".into(),
            chains,
            sets,
        }],
        legacy: vec![],
    }
}

fn name(key: u32, text: &str) -> Vec<Expression> {
    let mut with = text.as_bytes().to_vec();
    if let Some(prefix) = text.strip_suffix('*') {
        with = prefix.into();
    } else {
        with.resize(16, 0);
    }
    vec![
        Expression::Meta { key, to: 0 },
        Expression::Cmp {
            of: 0,
            order: Order::Is,
            with,
        },
    ]
}

fn iifname(text: &str) -> Vec<Expression> {
    name(6, text)
}

fn oifname(text: &str) -> Vec<Expression> {
    name(7, text)
}

/// `ct state & bits != 0`
fn state(bits: u32) -> Vec<Expression> {
    vec![
        Expression::Ct {
            key: 0,
            direction: None,
            to: 0,
        },
        Expression::Bitwise {
            of: 0,
            to: 0,
            mask: bits.to_ne_bytes().into(),
            xor: vec![0; 4],
        },
        Expression::Cmp {
            of: 0,
            order: Order::IsNot,
            with: vec![0; 4],
        },
    ]
}

fn dport(port: u16) -> Vec<Expression> {
    vec![
        Expression::Payload {
            base: PayloadBase::Transport,
            offset: 2,
            len: 2,
            to: 0,
        },
        Expression::Cmp {
            of: 0,
            order: Order::Is,
            with: port.to_be_bytes().into(),
        },
    ]
}

fn saddr(net: &[u8]) -> Vec<Expression> {
    vec![
        Expression::Payload {
            base: PayloadBase::Network,
            offset: 12,
            len: net.len() as u32,
            to: 0,
        },
        Expression::Cmp {
            of: 0,
            order: Order::Is,
            with: net.into(),
        },
    ]
}

fn xt(name: &str) -> Vec<Expression> {
    vec![Expression::Match {
        name: name.into(),
        revision: 0,
        info: vec![],
    }]
}

fn verdict(verdict: Verdict) -> Vec<Expression> {
    vec![Expression::Immediate {
        to: Target::Verdict,
        data: Data::Verdict(verdict),
    }]
}

fn jump(to: &str) -> Vec<Expression> {
    verdict(Verdict::Jump(to.into()))
}

fn all<const N: usize>(parts: [Vec<Expression>; N]) -> Vec<Expression> {
    parts.concat()
}

/// `drop`, `maybe`, `pass`
fn asked(ruleset: &Ruleset, port: u16) -> (&'static str, String) {
    let found = obstacles(ruleset, &forwarded(port));
    match found.first() {
        None => ("pass", String::new()),
        Some(first) if first.certain => ("drop", first.text.clone()),
        Some(first) => ("maybe", first.text.clone()),
    }
}

#[test]
fn base_chains() {
    use Verdict::{Accept, Drop, Return};
    let accept = || verdict(Accept);
    let drop = || verdict(Drop);
    let base = |policy, rules| vec![chain("fw", Some(policy), rules)];
    let both_ways = || {
        vec![
            all([state(2 | 4), accept()]),
            all([iifname("vz-*"), accept()]),
        ]
    };
    let table: Vec<(&str, Vec<RulesetChain>, &str)> = vec![
        // nothing accepts
        ("drop", base(true, vec![]), "policy of chain fw is drop"),
        ("pass", base(false, vec![]), ""),
        // Docker: only its own bridge
        (
            "drop",
            base(true, vec![all([oifname("docker0"), accept()])]),
            "policy of chain fw is drop",
        ),
        // the way out is open, the way back is not
        (
            "drop",
            base(true, vec![all([iifname("vz-*"), accept()])]),
            "accepts the answer",
        ),
        ("pass", base(true, both_ways()), ""),
        // established connections only where new ones are let in
        (
            "drop",
            base(true, vec![all([state(8), accept()])]),
            "accepts the answer",
        ),
        // a rule that drops
        (
            "drop",
            base(false, vec![all([saddr(&[10, 89]), drop()])]),
            "rule 1 in chain fw drops the packet that opens",
        ),
        (
            "pass",
            base(false, vec![all([saddr(&[10, 90]), drop()])]),
            "",
        ),
        (
            "drop",
            base(false, vec![all([dport(80), drop()])]),
            "rule 1",
        ),
        ("pass", base(false, vec![all([dport(81), drop()])]), ""),
        // refused is dropped, too
        (
            "drop",
            base(false, vec![vec![Expression::Counter(), Expression::Reject]]),
            "rule 1",
        ),
        // an unknown module before a drop, before an accept, and where it does not matter
        (
            "maybe",
            base(false, vec![all([xt("geoip"), drop()])]),
            "the match geoip of iptables",
        ),
        (
            "maybe",
            base(true, vec![all([xt("geoip"), accept()])]),
            "is not known: that depends on the match geoip",
        ),
        (
            "drop",
            base(true, vec![all([dport(81), xt("geoip"), accept()])]),
            "policy of chain fw",
        ),
        (
            "drop",
            base(false, vec![all([xt("geoip"), drop()]), drop()]),
            "rule 1",
        ),
        // chains
        (
            "drop",
            vec![
                chain("fw", Some(false), vec![jump("in"), accept()]),
                chain("in", None, vec![all([dport(80), drop()])]),
            ],
            "rule 1 in chain in",
        ),
        (
            "pass",
            vec![
                chain("fw", Some(true), vec![jump("in"), accept()]),
                chain("in", None, vec![verdict(Return), drop()]),
            ],
            "",
        ),
        // goto does not come back: the policy is next
        (
            "drop",
            vec![
                chain(
                    "fw",
                    Some(true),
                    vec![verdict(Verdict::Goto("in".into())), accept()],
                ),
                chain("in", None, vec![]),
            ],
            "policy of chain fw",
        ),
        (
            "pass",
            vec![
                chain("fw", Some(true), vec![jump("a"), accept()]),
                chain("a", None, vec![verdict(Verdict::Goto("b".into())), drop()]),
                chain("b", None, vec![]),
            ],
            "",
        ),
        // limits hold in the ordinary course of things, their passing does not
        (
            "drop",
            base(
                false,
                vec![all([vec![Expression::Ordinarily(true)], drop()])],
            ),
            "rule 1",
        ),
        (
            "pass",
            base(
                false,
                vec![all([vec![Expression::Ordinarily(false)], drop()])],
            ),
            "",
        ),
        (
            "maybe",
            base(true, vec![verdict(Verdict::Queue)]),
            "a program that it is queued to",
        ),
    ];
    for (n, (wanted, chains, text)) in table.into_iter().enumerate() {
        let (got, said) = asked(&ruleset(chains), 80);
        assert_eq!(got, wanted, "row {n}: {said}");
        assert!(said.contains(text), "row {n}: {said}");
    }
}

impl Expression {
    #[allow(non_snake_case)]
    fn Counter() -> Self {
        Self::Nothing
    }
}

#[test]
fn verdict_maps_and_sets() {
    let element = |key: u32, verdict| Element {
        key: key.to_ne_bytes().into(),
        data: Some(Data::Verdict(verdict)),
        ..Element::default()
    };
    let states = RulesetSet {
        elements: vec![
            element(2, Verdict::Accept),
            element(4, Verdict::Accept),
            element(1, Verdict::Drop),
        ],
        ..RulesetSet::default()
    };
    let vmap = vec![
        Expression::Ct {
            key: 0,
            direction: None,
            to: 0,
        },
        Expression::Lookup {
            set: "states".into(),
            of: 0,
            not: false,
            to: Some(Target::Verdict),
        },
    ];
    let sets = BTreeMap::from([("states".to_owned(), states)]);
    let only_established = vec![chain("fw", Some(true), vec![vmap.clone()])];
    let (got, said) = asked(&with_sets(only_established, sets.clone()), 80);
    assert_eq!(got, "drop");
    assert!(said.contains("opens the connection"), "{said}");
    let and_new = vec![chain(
        "fw",
        Some(true),
        vec![vmap, all([iifname("vz-dmz"), verdict(Verdict::Accept)])],
    )];
    assert_eq!(asked(&with_sets(and_new, sets), 80).0, "pass");
}

/// Addresses, then ports, of which one is in no set and one cannot be known.
#[test]
fn sets_of_several_fields() {
    let element = |net: [u8; 4], last: [u8; 4], port: u16| Element {
        key: [net.as_slice(), &port.to_be_bytes(), &[0, 0]].concat(),
        last: Some([last.as_slice(), &port.to_be_bytes(), &[0, 0]].concat()),
        ..Element::default()
    };
    let set = RulesetSet {
        elements: vec![element([10, 89, 0, 0], [10, 89, 0, 255], 80)],
        ..RulesetSet::default()
    };
    let lookup = vec![
        Expression::Payload {
            base: PayloadBase::Network,
            offset: 12,
            len: 4,
            to: 0,
        },
        Expression::Payload {
            base: PayloadBase::Transport,
            offset: 2,
            len: 2,
            to: 1,
        },
        Expression::Lookup {
            set: "bad".into(),
            of: 0,
            not: false,
            to: None,
        },
    ];
    let sets = BTreeMap::from([("bad".to_owned(), set)]);
    let chains = vec![chain(
        "fw",
        Some(false),
        vec![all([lookup, verdict(Verdict::Drop)])],
    )];
    let ruleset = with_sets(chains, sets);
    assert_eq!(asked(&ruleset, 80).0, "drop");
    assert_eq!(asked(&ruleset, 81).0, "pass");
}

#[test]
fn a_mark_that_others_change_is_not_known() {
    let mark = |value: u32| {
        vec![
            Expression::Meta { key: 3, to: 0 },
            Expression::Cmp {
                of: 0,
                order: Order::Is,
                with: value.to_ne_bytes().into(),
            },
        ]
    };
    let drops = || all([mark(7), verdict(Verdict::Drop)]);
    let quiet = ruleset(vec![chain("fw", Some(false), vec![drops()])]);
    assert_eq!(asked(&quiet, 80).0, "pass");
    let marking = vec![vec![Expression::SetsMark], drops()];
    let loud = ruleset(vec![chain("fw", Some(false), marking)]);
    let (got, said) = asked(&loud, 80);
    assert_eq!(got, "maybe");
    assert!(said.contains("meta mark"), "{said}");
}

#[test]
fn tables_of_the_other_family_and_other_hooks_do_not_matter() {
    let mut other = ruleset(vec![chain("fw", Some(true), vec![])]);
    other.tables[0].family = TableFamily::Ip6;
    assert_eq!(asked(&other, 80).0, "pass");
    let mut input = ruleset(vec![chain("fw", Some(true), vec![])]);
    input.tables[0].chains[0].base.as_mut().unwrap().hook = Hook::Input;
    assert_eq!(asked(&input, 80).0, "pass");
}

/// What `iptables-nft -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT` and the like leave.
#[test]
fn modules_of_iptables_that_everybody_has() {
    let mut info = vec![0u8; 160];
    info[146..148].copy_from_slice(&1u16.to_ne_bytes());
    info[150..152].copy_from_slice(&(2u16 | 4).to_ne_bytes());
    let module = |name: &str, revision, info: &[u8]| {
        vec![Expression::Match {
            name: name.into(),
            revision,
            info: info.into(),
        }]
    };
    let accept = || verdict(Verdict::Accept);
    let established = || all([module("conntrack", 3, &info), accept()]);
    let alone = ruleset(vec![chain("FORWARD", Some(true), vec![established()])]);
    let (got, said) = asked(&alone, 80);
    assert_eq!(got, "drop");
    assert!(said.contains("opens the connection"), "{said}");
    let both = vec![
        established(),
        all([
            iifname("vz-dmz"),
            module("comment", 0, b"zones\0"),
            accept(),
        ]),
    ];
    let both = ruleset(vec![chain("FORWARD", Some(true), both)]);
    assert_eq!(asked(&both, 80).0, "pass");

    // -p tcp --dport 80:90, all sources
    let mut ports = vec![0u8; 12];
    for (at, port) in [(0, 0u16), (2, u16::MAX), (4, 80), (6, 90)] {
        ports[at..at + 2].copy_from_slice(&port.to_ne_bytes());
    }
    let drops = ruleset(vec![chain(
        "FORWARD",
        Some(false),
        vec![all([module("tcp", 0, &ports), verdict(Verdict::Drop)])],
    )]);
    assert_eq!(asked(&drops, 85).0, "drop");
    // the answer goes to a port that is nobody's
    assert_eq!(asked(&drops, 95).0, "pass");
}
