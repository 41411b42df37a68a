//! The inet table: which packets are zone traffic, what is always open, and address translation.
//!
//! Zone traffic is known by the bridge's name *or* by the subnet, so that neither a missing bridge
//! nor a route of somebody else leads around the judgement. After destination translation in the
//! output hook the kernel's `oifname` is stale; there the destination address decides.
//!
//! An established connection costs one lookup: its remembered verdict is in `@generation`. Errors
//! and resets made by the kernel carry the connection they are about ("related").

use super::ir::*;
use super::lane::Side;
use super::{GUARDED, JUDGED};
use super::{condition, judge, record, verdict};
use crate::sets::{Family, Field, SetId};

const IIFNAME: Load = Load::Meta(Meta::Iifname);
const OIFNAME: Load = Load::Meta(Meta::Oifname);

/// Index of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;

/// DNS messages to its gateway a second, and at once, that a container may send.
const DNS: Bucket = Bucket::a_second(200_000, 20_000);
/// Echo requests to its gateway a second, and at once, that a container may send.
const ECHO: Bucket = Bucket::a_second(100, 200);

pub(super) fn meters() -> Vec<MeterSpec> {
    let meter = |name, field| MeterSpec {
        name,
        key: vec![field],
        connections: false,
    };
    // In IPv6 a port may have many addresses; the guard lets it have one hardware address.
    let mut meters = vec![
        meter("rate_dns4", Field::Ip4),
        meter("rate_dns6", Field::Mac),
        meter("rate_echo4", Field::Ip4),
        meter("rate_echo6", Field::Mac),
        meter("rate_refuse4", Field::Ip4),
        meter("rate_refuse6", Field::Mac),
        meter("rate_refuse6_host", Field::Ip6),
    ];
    meters.extend(record::meters());
    meters.extend(condition::meters());
    meters
}

pub(super) fn chains() -> Vec<Chain> {
    let mut chains = vec![verdict::answer()];
    chains.extend(record::chains());
    chains.extend(condition::chains());
    chains.extend(judge::chains());
    chains.push(publish());
    for f in Family::ALL {
        chains.extend([forward_zone(f), gateway(f), input_zone(f), output_zone(f)]);
    }
    chains.extend([
        zone_forward(),
        zone_input(),
        prerouting(),
        filter("forward", Point::Forward, 0, forward()),
        filter("input", Point::Input, 0, input()),
        filter("output", Point::Output, 0, output()),
        nat("nat_prerouting", Point::Prerouting, -100, nat_prerouting()),
        nat(
            "nat_output",
            Point::Output,
            -100,
            vec![rule([jump("publish")])],
        ),
        nat("nat_postrouting", Point::Postrouting, 100, postrouting()),
    ]);
    chains
}

fn from_bridge() -> Step {
    Step::In(vec![IIFNAME], SetId::Bridges)
}

fn to_bridge() -> Step {
    Step::In(vec![OIFNAME], SetId::Bridges)
}

fn is_remembered() -> Step {
    Step::In(vec![Load::Ct(Ct::Mark)], SetId::Generation)
}

fn state(bit: u32, name: &str) -> Step {
    Step::Any(Load::Ct(Ct::State), Value::bit32(bit, name))
}

fn reply() -> Step {
    Step::Is(Load::Ct(Ct::Direction), Value::byte(1, "reply"))
}

fn dport(port: u16) -> Step {
    Step::Is(DPORT, Value::be16(port))
}

fn icmp_type(f: Family, v4: u8, v6: u8, name: &str) -> [Step; 2] {
    let value = match f {
        Family::V4 => Step::Is(ICMP_TYPE, Value::byte(v4, name)),
        Family::V6 => Step::Is(ICMPV6_TYPE, Value::byte(v6, name)),
    };
    [l4proto(icmp(f)), value]
}

/// The steps, then mark and accept.
fn judged<const N: usize>(steps: [Step; N]) -> Rule {
    let mut steps = Vec::from(steps);
    steps.extend([Step::Set(Meta::Mark, JUDGED), Step::Accept]);
    Rule {
        steps,
        comment: None,
    }
}

fn net(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok()
}

fn in_net(load: Load, text: &str) -> Option<Step> {
    net(text).map(|net| Step::InNet(load, net))
}

/// Before connection tracking.
fn prerouting() -> Chain {
    let ours = |f| {
        rule([
            family(f),
            Step::In(vec![saddr(f)], SetId::Subnets(f)),
            Step::Count,
            Step::Drop,
        ])
        .because("a zone's address from outside the zones")
    };
    let rules = vec![
        // The mark stays: with bridge-nf-call-iptables this hook runs before the gate looks at it.
        rule([
            Step::Is(Load::Meta(Meta::Mark), Value::host32(GUARDED)),
            Step::Accept,
        ])
        .because("guarded: its source is its own"),
        // The bridge hands frames to 01:80:c2:00:00:0x up on the port itself, past its own hooks
        // and past the gate (br_input.c, br_handle_frame). A port is no host interface.
        rule([
            Step::Is(IIFNAME, Value::named(b"vb-", "vb-*")),
            Step::Count,
            Step::Drop,
        ])
        .because("around the bridge"),
        rule([from_bridge(), Step::Accept]),
        rule([
            Step::Is(
                Load::Meta(Meta::Iif),
                Value::named(&LOOPBACK.to_ne_bytes(), "lo"),
            ),
            Step::Accept,
        ]),
        ours(Family::V4),
        ours(Family::V6),
    ];
    filter("prerouting", Point::Prerouting, -300, rules)
}

/// The loopback addresses of a family, as destinations.
fn to_loopback(f: Family) -> Option<Step> {
    in_net(
        daddr(f),
        match f {
            Family::V4 => "127.0.0.0/8",
            Family::V6 => "::1/128",
        },
    )
}

/// Publishing on loopback needs `route_localnet` on the bridges, and its counterpart, a route; the zones
/// must not profit.
fn no_loopback(f: Family) -> Option<Rule> {
    let rule = rule([
        family(f),
        to_loopback(f)?,
        from_bridge(),
        Step::Count,
        Step::Drop,
    ]);
    Some(rule.because("loopback is the host's"))
}

/// Nobody comes to a loopback address from another machine: a neighbour that sends to 127.0.0.1 would be
/// led to what is published there before the kernel looks whether that is a martian.
fn nat_prerouting() -> Vec<Rule> {
    let dropped = Family::ALL.into_iter().filter_map(no_loopback);
    let passed_by = Family::ALL.into_iter().filter_map(|f| {
        let rule = rule([family(f), to_loopback(f)?, Step::Return]);
        Some(rule.because("published on loopback: for the host, which comes by the output hook"))
    });
    dropped
        .chain(passed_by)
        .chain([rule([jump("publish")])])
        .collect()
}

fn forward() -> Vec<Rule> {
    let mut rules = vec![
        // First, before it is even known whether this is zone traffic: only that is remembered.
        judged([is_remembered()]).because("remembered verdict"),
        rule([from_bridge(), goto("zone_forward")]),
        rule([to_bridge(), goto("zone_forward")]),
    ];
    for f in Family::ALL {
        for address in [saddr(f), daddr(f)] {
            rules.push(rule([
                family(f),
                Step::In(vec![address], SetId::Subnets(f)),
                goto("zone_forward"),
            ]));
        }
    }
    rules.extend(Family::ALL.map(|f| {
        rule([
            family(f),
            Step::In(vec![IIFNAME], SetId::Opened(f)),
            Step::Count,
            Step::Drop,
        ])
        .because("forwarding was switched on here for the zones only")
    }));
    rules
}

fn zone_forward() -> Chain {
    chain(
        "zone_forward",
        vec![
            rule([state(1, "invalid"), Step::Count, Step::Drop]),
            astray(IIFNAME, OIFNAME),
            astray(OIFNAME, IIFNAME),
            rule([family(Family::V4), goto("zone_forward4")]),
            rule([family(Family::V6), goto("zone_forward6")]),
            rule([Step::Count, Step::Drop]),
        ],
    )
}

/// A pinned zone and the world meet on its uplink only.
fn astray(zone: Load, other: Load) -> Rule {
    rule([
        Step::In(vec![zone], SetId::Pinned),
        Step::NotIn(vec![other], SetId::Bridges),
        Step::NotIn(vec![zone, other], SetId::Uplink),
        goto("refuse"),
    ])
    .because("not by the zone's uplink")
}

fn forward_zone(f: Family) -> Chain {
    let n = digit(f);
    let internal = |side: Side, other: Side| {
        let mut steps = vec![Step::In(vec![side.whole(f)], SetId::Internal(f))];
        steps.extend(other.is_not_own(f));
        steps.push(goto("refuse"));
        Rule {
            steps,
            comment: Some("internal: containers and the host only"),
        }
    };
    chain(
        format!("zone_forward{n}"),
        vec![
            internal(Side::Client, Side::Server),
            internal(Side::Server, Side::Client),
            rule([goto(format!("judge{n}"))]),
        ],
    )
}

fn input() -> Vec<Rule> {
    let mut rules = vec![rule([from_bridge(), goto("zone_input")])];
    for f in Family::ALL {
        rules.push(
            rule([
                Step::IsNot(
                    Load::Meta(Meta::Iif),
                    Value::named(&LOOPBACK.to_ne_bytes(), "lo"),
                ),
                family(f),
                Step::In(vec![daddr(f)], SetId::Gateways(f)),
                state(8, "new"),
                Step::Count,
                Step::Drop,
            ])
            .because("a gateway serves its zone, not the outside"),
        );
    }
    rules
}

fn zone_input() -> Chain {
    chain(
        "zone_input",
        vec![
            rule([Step::Set(Meta::Mark, 0)])
                .because("the guard's mark has done its work at the gate"),
            rule([is_remembered(), Step::Accept]).because("remembered verdict"),
            rule([state(1, "invalid"), Step::Count, Step::Drop]),
            rule([family(Family::V4), goto("zone_input4")]),
            rule([family(Family::V6), goto("zone_input6")]),
            rule([Step::Count, Step::Drop]),
        ],
    )
}

/// DHCP, DNS and echo at the gateway are open whatever policy says, each at a limited rate (that of
/// DHCP is the guard's; DHCPv6 is heard before). What is over the rate, or for another host address, is judged.
fn input_zone(f: Family) -> Chain {
    let n = digit(f);
    let mut rules = Vec::new();
    match f {
        Family::V4 => {
            // Only what a zone begins: answers of what is published on loopback have their destination back
            // here, and those that are not remembered come this far.
            let original = Step::Is(Load::Ct(Ct::Direction), Value::byte(0, "original"));
            rules.extend(no_loopback(f).map(|mut rule| {
                rule.steps.insert(2, original);
                rule
            }));
            let broadcast = Value::ip(std::net::Ipv4Addr::BROADCAST.into());
            rules.push(rule([
                family(f),
                l4proto(17),
                dport(67),
                Step::Is(IP_DADDR, broadcast),
                Step::Accept,
            ]));
            rules.push(rule([
                family(f),
                l4proto(17),
                dport(67),
                Step::In(vec![IP_DADDR], SetId::Gateways(f)),
                Step::Accept,
            ]));
        }
        Family::V6 => {
            let types = [
                (135, "nd-neighbor-solicit"),
                (136, "nd-neighbor-advert"),
                (143, "mld2-listener-report"),
                (131, "mld-listener-report"),
                (132, "mld-listener-done"),
            ];
            for (number, name) in types {
                let [proto, kind] = icmp_type(f, number, number, name);
                rules.push(rule([proto, kind, Step::Accept]));
            }
            let [proto, kind] = icmp_type(f, 133, 133, "nd-router-solicit");
            rules.push(
                rule([proto, kind, Step::Count, Step::Drop])
                    .because("heard like DHCPv6; the kernel would note whatever source it has"),
            );
            rules.push(
                rule([family(f), l4proto(17), dport(547), Step::Count, Step::Drop])
                    .because("DHCPv6: heard by a packet socket before it comes here"),
            );
            let [proto, kind] = icmp_type(f, 8, 128, "echo-request");
            rules.extend(in_net(IP6_DADDR, "fe80::/10").map(|link_local| {
                rule([
                    family(f),
                    link_local,
                    proto,
                    kind,
                    meter("rate_echo6", f, ECHO),
                    Step::Accept,
                ])
            }));
        }
    }
    rules.push(rule([
        family(f),
        Step::In(vec![daddr(f)], SetId::Gateways(f)),
        Step::Is(Load::FibType(FibOf::DaddrOnIif), Value::bit32(2, "local")),
        jump(format!("gateway{n}")),
    ]));
    rules.push(rule([goto(format!("judge{n}"))]));
    chain(format!("zone_input{n}"), rules)
}

fn meter(name: &'static str, f: Family, bucket: Bucket) -> Step {
    Step::Meter {
        name,
        key: vec![match f {
            Family::V4 => IP_SADDR,
            Family::V6 => ETHER_SADDR,
        }],
        bucket,
    }
}

/// What the gateway of its own zone always offers a container.
fn gateway(f: Family) -> Chain {
    let (dns, echo) = match f {
        Family::V4 => ("rate_dns4", "rate_echo4"),
        Family::V6 => ("rate_dns6", "rate_echo6"),
    };
    let [proto, kind] = icmp_type(f, 8, 128, "echo-request");
    chain(
        format!("gateway{}", digit(f)),
        vec![
            rule([
                family(f),
                l4proto(17),
                dport(53),
                meter(dns, f, DNS),
                Step::Accept,
            ]),
            rule([
                family(f),
                l4proto(6),
                dport(53),
                meter(dns, f, DNS),
                Step::Accept,
            ]),
            rule([family(f), proto, kind, meter(echo, f, ECHO), Step::Accept]),
        ],
    )
}

fn output() -> Vec<Rule> {
    let by_subnet = |f| {
        rule([
            family(f),
            Step::In(vec![daddr(f)], SetId::Subnets(f)),
            goto(format!("zone_output{}", digit(f))),
        ])
    };
    let by_bridge = |f| {
        rule([
            to_bridge(),
            family(f),
            goto(format!("zone_output{}", digit(f))),
        ])
    };
    vec![
        by_subnet(Family::V4),
        by_subnet(Family::V6),
        by_bridge(Family::V4),
        by_bridge(Family::V6),
    ]
}

fn output_zone(f: Family) -> Chain {
    let mut rules = vec![
        rule([
            family(f),
            Step::In(vec![daddr(f)], SetId::Gateways(f)),
            Step::Accept,
        ])
        .because("the host to itself"),
    ];
    let [proto, redirect] = icmp_type(f, 5, 137, "redirect");
    rules.push(
        rule([proto, redirect, Step::Count, Step::Drop])
            .because("a container that followed it would be cut off"),
    );
    rules.push(judged([is_remembered()]).because("remembered verdict"));
    rules
        .push(judged([state(4, "related"), l4proto(icmp(f))]).because("errors made by the kernel"));
    rules.push(
        judged([
            state(4, "related"),
            l4proto(6),
            Step::Any(TCP_FLAGS, Value::byte(4, "rst")),
        ])
        .because("resets made by the kernel"),
    );
    match f {
        Family::V4 => rules.push(
            judged([
                family(f),
                l4proto(17),
                Step::Is(SPORT, Value::be16(67)),
                dport(68),
                Step::In(vec![IP_SADDR], SetId::Gateways(f)),
            ])
            .because("DHCP replies"),
        ),
        Family::V6 => {
            let types = [
                (134, "nd-router-advert"),
                (135, "nd-neighbor-solicit"),
                (136, "nd-neighbor-advert"),
                (130, "mld-listener-query"),
                (143, "mld2-listener-report"),
                (131, "mld-listener-report"),
                (132, "mld-listener-done"),
            ];
            for (number, name) in types {
                rules.push(judged(icmp_type(f, number, number, name)));
            }
        }
    }
    // Requests over the rate never got in, so these are answers to requests that did. Those of another zone's
    // gateway are judged: its resolver is the host's like any other port. Lookups come last, since most packets are no answers.
    for proto in [17, 6] {
        rules.push(judged([
            l4proto(proto),
            Step::Is(Load::Ct(Ct::ServerPort), Value::be16(53)),
            reply(),
            Step::In(vec![Load::Ct(Ct::Server(f))], SetId::Gateways(f)),
            Step::Is(Load::FibType(FibOf::SaddrOnOif), Value::bit32(2, "local")),
        ]));
    }
    let [proto, echo] = icmp_type(f, 0, 129, "echo-reply");
    rules.push(judged([reply(), proto, echo]));
    rules.push(rule([state(1, "invalid"), Step::Count, Step::Drop]));
    rules.push(rule([goto(format!("judge{}", digit(f)))]));
    chain(format!("zone_output{}", digit(f)), rules)
}

/// Destination translation for published ports, from outside, from zones and from the host.
fn publish() -> Chain {
    let proto = Load::Meta(Meta::L4proto);
    let mut rules = vec![rule([
        Step::IsNot(Load::FibType(FibOf::Daddr), Value::bit32(2, "local")),
        Step::Return,
    ])];
    for f in Family::ALL {
        if f == Family::V6 {
            rules.push(
                rule([
                    family(f),
                    Step::In(vec![IP6_DADDR], SetId::UserLoopback),
                    Step::Return,
                ])
                .because("::1 is forwarded in user space here"),
            );
        }
        rules.push(rule([
            family(f),
            Step::Dnat(f, vec![daddr(f), proto, DPORT], SetId::PublishAt(f)),
        ]));
        rules.push(
            rule([
                from_bridge(),
                family(f),
                Step::In(vec![daddr(f)], SetId::Gateways(f)),
                dport(53),
                Step::Return,
            ])
            .because("the gateway's resolver stays reachable"),
        );
        rules.push(rule([
            family(f),
            Step::Dnat(f, vec![proto, DPORT], SetId::Publish(f)),
        ]));
        for ranges in [SetId::PublishRange(f), SetId::PublishShift(f)] {
            rules.push(rule([
                family(f),
                Step::Dnat(f, vec![daddr(f), proto, DPORT], ranges),
            ]));
        }
    }
    chain("publish", rules)
}

fn postrouting() -> Vec<Rule> {
    let dnat = Step::Any(Load::Ct(Ct::Status), Value::bit32(0x20, "dnat"));
    let mut rules = vec![
        rule([from_bridge(), to_bridge(), dnat, Step::Masquerade]).because("hairpin, self-hairpin"),
    ];
    for (f, loopback) in [(Family::V4, "127.0.0.0/8"), (Family::V6, "::1/128")] {
        rules.extend(in_net(saddr(f), loopback).map(|loopback| {
            rule([family(f), loopback, to_bridge(), Step::Masquerade])
                .because("published on loopback")
        }));
    }
    for f in Family::ALL {
        rules.push(rule([
            from_bridge(),
            Step::NotIn(vec![OIFNAME], SetId::Bridges),
            family(f),
            Step::In(vec![saddr(f)], SetId::Masquerade(f)),
            Step::Masquerade,
        ]));
    }
    rules
}
