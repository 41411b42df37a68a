//! The bridge table: is the sender who it says it is?
//!
//! A frame from a container's port passes when its hardware address, and the source its network
//! header claims, were given to that port. It leaves with [`GUARDED`] in its mark; the gate on the
//! bridge drops what has no such mark. Frames of ports that are not in the set pass unmarked: they
//! are either another bridge's business, or die at the gate.
//!
//! What a lookup cannot load (a fragment without its transport header) does not match, so every
//! check here lets *in* on a match; none lets in on a miss.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::GUARDED;
use super::ir::*;
use crate::sets::{Field, SetId};

const IIF: Load = Load::Meta(Meta::Iif);

/// DHCP messages a second, and at once, that a port may send.
const DHCP: Bucket = Bucket::a_second(50, 100);

pub(super) fn meters() -> Vec<MeterSpec> {
    vec![MeterSpec {
        name: "rate_dhcp",
        key: vec![Field::IfIndex],
        connections: false,
    }]
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
    let length = |bytes| Step::Is(IP6_LENGTH, Value::be16(bytes));
    let option = |kind: u16, name| Step::Is(ND_OPTION, Value::named(&kind.to_be_bytes(), name));
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
                or_drop(
                    vec![l4proto(1), Step::Is(ICMP_TYPE, Value::byte(5, "redirect"))],
                    "redirect",
                ),
                rule([
                    Step::In(vec![IP_SADDR], SetId::GuardRelay),
                    l4proto(17),
                    Step::Is(DPORT, Value::be16(67)),
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
        chain(
            "guard_nd",
            vec![
                rule([
                    icmpv6(135, "nd-neighbor-solicit"),
                    unspecified(),
                    own_ip6(ND_TARGET),
                    length(24),
                    goto("let_in"),
                ])
                .because("duplicate address detection"),
                rule([
                    icmpv6(135, "nd-neighbor-solicit"),
                    unspecified(),
                    own_ip6(ND_TARGET),
                    length(32),
                    option(0x0e01, "0x0e01"),
                    goto("let_in"),
                ])
                .because("the same with a nonce, RFC 7527"),
                rule([
                    icmpv6(135, "nd-neighbor-solicit"),
                    own_ip6(IP6_SADDR),
                    length(24),
                    goto("let_in"),
                ]),
                rule([
                    icmpv6(135, "nd-neighbor-solicit"),
                    own_ip6(IP6_SADDR),
                    length(32),
                    option(0x0101, "0x0101"),
                    own_mac(ND_OPTION_MAC),
                    goto("let_in"),
                ])
                .because("source link-layer address"),
                rule([
                    icmpv6(136, "nd-neighbor-advert"),
                    own_ip6(IP6_SADDR),
                    own_ip6(ND_TARGET),
                    length(24),
                    goto("let_in"),
                ]),
                rule([
                    icmpv6(136, "nd-neighbor-advert"),
                    own_ip6(IP6_SADDR),
                    own_ip6(ND_TARGET),
                    length(32),
                    option(0x0201, "0x0201"),
                    own_mac(ND_OPTION_MAC),
                    goto("let_in"),
                ])
                .because("target link-layer address"),
                drop("neighbour discovery"),
            ],
        ),
        chain(
            "guard_icmp6",
            vec![
                or_drop(vec![icmpv6(134, "nd-router-advert")], "router"),
                or_drop(vec![icmpv6(137, "nd-redirect")], "redirect"),
                rule([icmpv6(135, "nd-neighbor-solicit"), goto("guard_nd")]),
                rule([icmpv6(136, "nd-neighbor-advert"), goto("guard_nd")]),
                or_drop(vec![icmpv6(130, "mld-listener-query")], "multicast querier"),
                rule([
                    icmpv6(133, "nd-router-solicit"),
                    unspecified(),
                    own_mac(ETHER_SADDR),
                    length(8),
                    goto("let_in"),
                ]),
                rule([
                    icmpv6(133, "nd-router-solicit"),
                    own_ip6(IP6_SADDR),
                    length(8),
                    goto("let_in"),
                ]),
                rule([
                    icmpv6(133, "nd-router-solicit"),
                    own_ip6(IP6_SADDR),
                    length(16),
                    Step::Is(RS_OPTION, Value::named(&[1, 1], "0x0101")),
                    own_mac(RS_OPTION_MAC),
                    goto("let_in"),
                ]),
                or_drop(
                    vec![icmpv6(133, "nd-router-solicit")],
                    "router solicitation",
                ),
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
        chain(
            "guard_ip6",
            vec![
                rule([l4proto(58), jump("guard_icmp6")]),
                or_drop(
                    vec![l4proto(17), Step::Is(SPORT, Value::be16(547))],
                    "dhcpv6 server",
                ),
                rule([own_ip6(IP6_SADDR), goto("let_in")]),
                drop("ipv6 source"),
            ],
        ),
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
            -350,
            vec![
                let_in_tcp(ether(0x0800, "ip"), own_ip4(ETHER_SADDR, IP_SADDR)),
                let_in_tcp(ether(0x86dd, "ip6"), own_ip6(IP6_SADDR)),
                rule([Step::In(vec![IIF], SetId::GuardPorts), goto("from_port")]),
            ],
        ),
        filter(
            "forward",
            Point::Forward,
            0,
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
            ],
        ),
    ]
}
