//! The bridge table: is the sender who it says it is?
//!
//! A frame from a container's port passes when its hardware address, and the source its network
//! header claims, were given to that port. It leaves with [`GUARDED`] in its mark; the gate on the
//! bridge drops what has no such mark. Frames of ports that are not in the set pass unmarked: they
//! are either another bridge's business, or die at the gate. Frames of the host *to* such ports are dropped by
//! the output chain: the gate marks everything that leaves the host by a zone's bridge.
//!
//! What a lookup cannot load (a fragment without its transport header) does not match, so every
//! check here lets *in* on a match; none lets in on a miss.
//!
//! Errors. Connection tracking lets an ICMP error pass as part of the connection that it quotes, whoever sends it: a
//! router on the way may. A container is no such router: what it quotes was sent to it, so that nobody can break the
//! connections of others, or tell the world anything by their leave.
//!
//! A prefix of its own. In zones where containers have one, an address in it is its port's alone, like the main address:
//! the prefix is in the same set, with zeroes in the place of the second half.
//!
//! Each source of neighbour discovery takes an entry of the host's neighbour table, and so does each address that the
//! host answers on the link. A port may have any number of them, so those that are not its main address or follow from
//! its hardware address are let in a few times a second only.
//!
//! Link-local addresses. The one that follows from a hardware address (RFC 4291, appendix A) is its
//! port's alone, and so is the gateway's. One that a client makes up (RFC 7217, as dhcpcd and networkd can) is
//! let in from any port: it never leaves the link, nothing is reached on it but the gateway, and no other
//! port hears of it. What the gateway answers to it goes by hardware address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::ir::*;
use super::{FROM_BRIDGE, GUARDED};
use crate::sets::{Field, SetId};

const IIF: Load = Load::Meta(Meta::Iif);

/// Before everything else; in particular before br_netfilter, which takes frames out of the hook and then skips
/// what hangs at its own priority (0) or before (`br_nf_hook_thresh`, net/bridge/br_netfilter_hooks.c).
const EARLY: i32 = -350;

/// DHCP messages a second, and at once, that a port may send.
const DHCP: Bucket = Bucket::a_second(50, 100);

/// Messages a second, and at once, by which a port may make the host note a neighbour that has one of its many
/// addresses.
const NEIGHBOURS: Bucket = Bucket::a_second(5, 30);

/// ICMP messages that quote a packet; without redirects, which containers do not send at all.
const ERRORS: [(u8, &str); 4] = [
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
];

/// The header of fragments, which is no transport protocol: no packet is said to have it.
const NO_TRANSPORT: u8 = 44;

/// The middle of a link-local address that follows from a hardware address.
const EUI64: [u8; 2] = [0xff, 0xfe];

/// The steps that let an address be the sender's: each list is one way. By its whole, by its prefix, as a link-local one
/// that was made up.
fn own6(half: Half, middle: Load) -> [Vec<Step>; 3] {
    let whole = half.whole();
    let mut made_up = vec![Step::In(vec![IIF, ETHER_SADDR], SetId::GuardMac)];
    let link_local = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);
    made_up.push(Step::InNet(whole, link_local.into()));
    made_up.push(Step::IsNot(middle, Value::named(&EUI64, "0xfffe")));
    let own = |load| vec![Step::In(vec![IIF, ETHER_SADDR, load], SetId::GuardIp6)];
    [own(whole), own(Load::Prefix(half)), made_up]
}

fn own6_source() -> [Vec<Step>; 3] {
    own6(Half::Source, IP6_SADDR_MIDDLE)
}

/// What an error quotes was sent to the sender of the error. Not to a link-local address: nobody's connections need it.
fn own6_quoted() -> [Vec<Step>; 2] {
    [QUOTED_IP6_DADDR, Load::Prefix(Half::Quoted)]
        .map(|load| vec![Step::In(vec![IIF, ETHER_SADDR, load], SetId::GuardIp6)])
}

fn own6_target() -> [Vec<Step>; 3] {
    own6(Half::Target, ND_TARGET_MIDDLE)
}

/// The same where the host takes note of the source.
fn own6_noted() -> [Vec<Step>; 3] {
    let [whole, mut prefix, mut made_up] = own6_source();
    prefix.push(few());
    made_up.push(few());
    [whole, prefix, made_up]
}

fn few() -> Step {
    Step::Meter {
        name: "rate_neighbours",
        key: vec![IIF],
        bucket: NEIGHBOURS,
    }
}

/// One rule for each way: what comes before it, the way, what comes after, and in.
fn let_in_6(before: &[Step], ways: &[Vec<Step>], after: &[Step]) -> Vec<Rule> {
    ways.iter()
        .map(|way| Rule {
            steps: [before, way, after, &[goto("let_in")]].concat(),
            comment: None,
        })
        .collect()
}

/// Duplicate address detection, solicitations and advertisements; each with nothing more, or with the
/// one option that belongs there.
fn neighbour_discovery() -> Vec<Rule> {
    let icmpv6 = |number, name| Step::Is(ICMPV6_TYPE, Value::byte(number, name));
    let solicit = || icmpv6(135, "nd-neighbor-solicit");
    let advert = || icmpv6(136, "nd-neighbor-advert");
    let unspecified = Step::Is(IP6_SADDR, Value::ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    let plain = vec![Step::Is(IP6_LENGTH, Value::be16(24))];
    let with = |kind: u16, name, mac: bool| {
        let mut steps = vec![Step::Is(IP6_LENGTH, Value::be16(32))];
        steps.push(Step::Is(ND_OPTION, Value::named(&kind.to_be_bytes(), name)));
        steps.extend(mac.then(|| Step::In(vec![IIF, ND_OPTION_MAC], SetId::GuardMac)));
        steps
    };
    let mut rules = Vec::new();
    // duplicate address detection, and the same with a nonce (RFC 7527)
    for after in [plain.clone(), with(0x0e01, "0x0e01", false)] {
        rules.extend(let_in_6(
            &[solicit(), unspecified.clone()],
            &own6_target(),
            &after,
        ));
    }
    // with a source link-layer address
    for after in [plain.clone(), with(0x0101, "0x0101", true)] {
        for way in own6_noted() {
            // what is counted, last
            let counts = way.len() - usize::from(matches!(way.last(), Some(Step::Meter { .. })));
            let (way, meter) = way.split_at(counts);
            let after = [after.as_slice(), meter].concat();
            rules.extend(let_in_6(&[solicit()], &[way.to_vec()], &after));
        }
    }
    // with a target link-layer address
    for after in [plain, with(0x0201, "0x0201", true)] {
        for source in own6_source() {
            let before = [vec![advert()], source].concat();
            rules.extend(let_in_6(&before, &own6_target(), &after));
        }
    }
    rules.push(rule([Step::Count, Step::Drop]).because("neighbour discovery"));
    rules
}

/// Solicitations of routers, with nothing more or with the sender's hardware address.
fn router_solicitations() -> Vec<Rule> {
    let solicit = || Step::Is(ICMPV6_TYPE, Value::byte(133, "nd-router-solicit"));
    let meter = || Step::Meter {
        name: "rate_dhcp",
        key: vec![IIF],
        bucket: DHCP,
    };
    let unspecified = vec![
        Step::Is(IP6_SADDR, Value::ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED))),
        Step::In(vec![IIF, ETHER_SADDR], SetId::GuardMac),
    ];
    let plain = [Step::Is(IP6_LENGTH, Value::be16(8)), meter()];
    let with_mac = [
        Step::Is(IP6_LENGTH, Value::be16(16)),
        Step::Is(RS_OPTION, Value::named(&[1, 1], "0x0101")),
        Step::In(vec![IIF, RS_OPTION_MAC], SetId::GuardMac),
        meter(),
    ];
    let own = own6_source();
    let mut ways = vec![unspecified];
    ways.extend(own.clone());
    let mut rules = let_in_6(&[solicit()], &ways, &plain);
    rules.extend(let_in_6(&[solicit()], &own, &with_mac));
    rules.push(
        rule([solicit(), Step::Count, Step::Drop]).because("router solicitation, or too often"),
    );
    rules
}

pub(super) fn meters() -> Vec<MeterSpec> {
    let meter = |name| MeterSpec {
        name,
        key: vec![Field::IfIndex],
        connections: false,
    };
    vec![meter("rate_dhcp"), meter("rate_neighbours")]
}

pub(super) fn chains() -> Vec<Chain> {
    let arp = [
        Step::Is(ARP_HTYPE, Value::be16(1)),
        Step::Is(ARP_PTYPE, Value::named(&[8, 0], "ip")),
        Step::Is(ARP_HLEN, Value::byte(6, "6")),
        Step::Is(ARP_PLEN, Value::byte(4, "4")),
    ];
    let own_mac = |load| Step::In(vec![IIF, load], SetId::GuardMac);
    let own_ip4 = |mac, ip| Step::In(vec![IIF, mac, ip], SetId::GuardIp4);
    let own_ip6 = |ip| Step::In(vec![IIF, ETHER_SADDR, ip], SetId::GuardIp6);
    let icmpv6 = |number, name| Step::Is(ICMPV6_TYPE, Value::byte(number, name));
    let unspecified = || Step::Is(IP6_SADDR, Value::ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    let ether = |number: u16, name| Step::Is(ETHER_TYPE, Value::named(&number.to_be_bytes(), name));
    let drop = |why| rule([Step::Count, Step::Drop]).because(why);
    let or_drop = |mut steps: Vec<Step>, why| {
        steps.extend([Step::Count, Step::Drop]);
        Rule {
            steps,
            comment: Some(why),
        }
    };
    let arp_rule = |rest: Vec<Step>| Rule {
        steps: arp.iter().cloned().chain(rest).collect(),
        comment: None,
    };
    let op = |number: u16, name| Step::Is(ARP_OP, Value::named(&number.to_be_bytes(), name));
    let meter = || Step::Meter {
        name: "rate_dhcp",
        key: vec![IIF],
        bucket: DHCP,
    };
    let zero4 = || Value::ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    // TCP needs no other check; for it everything else would be a detour. (Whatever has addresses
    // here is a guarded port: its elements come and go together.)
    let let_in_tcp = |ether, own| {
        rule([
            ether,
            l4proto(6),
            own,
            Step::Set(Meta::Mark, GUARDED),
            Step::Accept,
        ])
        .because("the common case, in one lookup")
    };

    vec![
        chain(
            "let_in",
            vec![rule([Step::Set(Meta::Mark, GUARDED), Step::Accept])],
        ),
        chain(
            "guard_arp",
            vec![
                arp_rule(vec![
                    own_mac(ETHER_SADDR),
                    op(1, "request"),
                    own_ip4(ARP_SENDER_MAC, ARP_SENDER_IP),
                    goto("let_in"),
                ]),
                arp_rule(vec![
                    own_mac(ETHER_SADDR),
                    op(2, "reply"),
                    own_ip4(ARP_SENDER_MAC, ARP_SENDER_IP),
                    goto("let_in"),
                ]),
                arp_rule(vec![
                    own_mac(ETHER_SADDR),
                    op(1, "request"),
                    Step::Is(ARP_SENDER_IP, zero4()),
                    own_mac(ARP_SENDER_MAC),
                    goto("let_in"),
                ])
                .because("probe for a duplicate"),
                drop("arp"),
            ],
        ),
        chain(
            "guard_dhcp",
            vec![
                rule([
                    own_mac(DHCP_CHADDR),
                    own_ip4(ETHER_SADDR, IP_SADDR),
                    meter(),
                    goto("let_in"),
                ]),
                rule([
                    Step::Is(IP_SADDR, zero4()),
                    Step::Is(IP_DADDR, Value::ip(IpAddr::V4(Ipv4Addr::BROADCAST))),
                    Step::Is(SPORT, Value::be16(68)),
                    own_mac(DHCP_CHADDR),
                    own_mac(ETHER_SADDR),
                    meter(),
                    goto("let_in"),
                ]),
                drop("dhcp for another, or too often"),
            ],
        ),
        chain(
            "guard_ip4",
            vec![
                rule([l4proto(1), jump("guard_icmp")]),
                rule([
                    l4proto(17),
                    Step::Is(DPORT, Value::be16(67)),
                    Step::In(vec![IP_SADDR], SetId::GuardRelay),
                    own_ip4(ETHER_SADDR, IP_SADDR),
                    goto("let_in"),
                ])
                .because("a relay agent: the server limits it"),
                or_drop(
                    vec![l4proto(17), Step::Is(SPORT, Value::be16(67))],
                    "dhcp server",
                ),
                rule([
                    l4proto(17),
                    Step::Is(DPORT, Value::be16(67)),
                    goto("guard_dhcp"),
                ]),
                rule([own_ip4(ETHER_SADDR, IP_SADDR), goto("let_in")]),
                drop("ipv4 source"),
            ],
        ),
        chain("guard_icmp", {
            let of = |number, name| Step::Is(ICMP_TYPE, Value::byte(number, name));
            let mut rules = vec![or_drop(vec![of(5, "redirect")], "redirect")];
            rules
                .extend(ERRORS.map(|(number, name)| rule([of(number, name), goto("guard_error")])));
            rules
        }),
        chain(
            "guard_error",
            vec![
                rule([
                    own_ip4(ETHER_SADDR, QUOTED_IP_DADDR),
                    own_ip4(ETHER_SADDR, IP_SADDR),
                    goto("let_in"),
                ]),
                drop("error about what was sent to others"),
            ],
        ),
        chain("guard_nd", neighbour_discovery()),
        chain(
            "guard_icmp6",
            vec![
                or_drop(vec![icmpv6(134, "nd-router-advert")], "router"),
                rule([icmpv6(1, "destination-unreachable"), goto("guard_error6")]),
                rule([icmpv6(2, "packet-too-big"), goto("guard_error6")]),
                rule([icmpv6(3, "time-exceeded"), goto("guard_error6")]),
                rule([icmpv6(4, "parameter-problem"), goto("guard_error6")]),
                or_drop(vec![icmpv6(137, "nd-redirect")], "redirect"),
                rule([icmpv6(135, "nd-neighbor-solicit"), goto("guard_nd")]),
                rule([icmpv6(136, "nd-neighbor-advert"), goto("guard_nd")]),
                or_drop(vec![icmpv6(130, "mld-listener-query")], "multicast querier"),
                rule([icmpv6(133, "nd-router-solicit"), goto("guard_rs")]),
                rule([
                    unspecified(),
                    icmpv6(143, "mld2-listener-report"),
                    own_mac(ETHER_SADDR),
                    goto("let_in"),
                ]),
                rule([
                    unspecified(),
                    icmpv6(131, "mld-listener-report"),
                    own_mac(ETHER_SADDR),
                    goto("let_in"),
                ]),
                rule([
                    unspecified(),
                    icmpv6(132, "mld-listener-done"),
                    own_mac(ETHER_SADDR),
                    goto("let_in"),
                ]),
            ],
        ),
        chain("guard_error6", {
            let [whole, prefix, _] = own6_source();
            let mut rules = Vec::new();
            for quoted in own6_quoted() {
                rules.extend(let_in_6(&quoted, &[whole.clone(), prefix.clone()], &[]));
            }
            rules.push(drop("error about what was sent to others"));
            rules
        }),
        chain("guard_rs", router_solicitations()),
        chain("guard_dhcp6", {
            let mut rules = let_in_6(&[], &own6_source(), &[meter()]);
            rules.push(drop("dhcpv6 of another, or too often"));
            rules
        }),
        chain("guard_ip6", {
            let mut rules = vec![
                rule([l4proto(58), jump("guard_icmp6")]),
                or_drop(
                    vec![l4proto(17), Step::Is(SPORT, Value::be16(547))],
                    "dhcpv6 server",
                ),
                rule([
                    l4proto(17),
                    Step::Is(DPORT, Value::be16(547)),
                    goto("guard_dhcp6"),
                ]),
            ];
            // What cannot be told (a first fragment that ends before the transport header) might be any of these.
            let told = Step::IsNot(Load::Meta(Meta::L4proto), protocol(NO_TRANSPORT));
            let [whole, prefix, made_up] = own6_source();
            rules.extend(let_in_6(&[told], &[whole, prefix], &[]));
            // nothing but the gateway's echo is reached on it
            rules.extend(let_in_6(&[l4proto(58)], &[made_up], &[few()]));
            rules.push(drop("ipv6 source"));
            rules
        }),
        chain(
            "from_port",
            vec![
                rule([ether(0x0800, "ip"), goto("guard_ip4")]),
                rule([ether(0x86dd, "ip6"), goto("guard_ip6")]),
                rule([ether(0x0806, "arp"), goto("guard_arp")]),
                drop("ethertype"),
            ],
        ),
        filter(
            "guard",
            Point::Prerouting,
            EARLY,
            vec![
                let_in_tcp(ether(0x0800, "ip"), own_ip4(ETHER_SADDR, IP_SADDR)),
                let_in_tcp(ether(0x86dd, "ip6"), own_ip6(IP6_SADDR)),
                rule([Step::In(vec![IIF], SetId::GuardPorts), goto("from_port")]),
            ],
        ),
        filter(
            "forward",
            Point::Forward,
            EARLY,
            vec![
                rule([
                    Step::In(vec![IIF], SetId::GuardPorts),
                    Step::Count,
                    Step::Drop,
                ])
                .because("no bridge shortcut"),
                rule([
                    Step::In(vec![Load::Meta(Meta::Oif)], SetId::GuardPorts),
                    Step::Count,
                    Step::Drop,
                ]),
                rule([
                    Step::In(vec![Load::Meta(Meta::Ibrname)], SetId::GuardBridges),
                    Step::Count,
                    Step::Drop,
                ])
                .because("between ports that nobody attached"),
            ],
        ),
        filter(
            "output",
            Point::Output,
            EARLY,
            vec![
                rule([
                    Step::NotIn(vec![Load::Meta(Meta::Oif)], SetId::GuardPorts),
                    Step::Masked(Load::Meta(Meta::Mark), FROM_BRIDGE, FROM_BRIDGE),
                    Step::Count,
                    Step::Drop,
                ])
                .because("to a port that nobody attached"),
            ],
        ),
    ]
}
