//! Who reaches whom: each path allowed and denied, both families, TCP and UDP, with positive controls.

use std::net::IpAddr;

use firewall::sets::{Action, Element, Family, Key, SetId, group};

use crate::elements::{EGRESS, INGRESS, element, zone};
use crate::lab::{GATEWAY4, GATEWAY6, HOST4, HOST6, Lab, WORLD4, WORLD6, sh};
use crate::probe::{Fate, ping, serve, serve_here, tcp, tcp_here, udp, udp_here};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn without_a_rule_nothing_passes_and_containers_are_told() {
    let Some(lab) = Lab::new() else { return };
    let (c1, c2, c4) = (lab.c(1), lab.c(2), lab.c(4));
    for ns in [&c2.ns, &c4.ns, &lab.world] {
        serve(ns, 80);
    }
    serve_here(80);
    for to in [
        c2.ips(),
        c4.ips(),
        [ip(WORLD4), ip(WORLD6)],
        [ip(GATEWAY4[0]), ip(GATEWAY6[0])],
    ] {
        for to in to {
            assert_eq!(tcp(&c1.ns, to, 80), Fate::Refused, "{to}");
            assert_eq!(udp(&c1.ns, to, 80), Fate::Refused, "{to}");
        }
    }
    for to in c2.ips() {
        assert_eq!(tcp_here(to, 80), Fate::Refused, "{to}");
        assert_eq!(udp_here(to, 80), Fate::Refused, "{to}");
        // The world learns nothing.
        assert_eq!(tcp(&lab.world, to, 80), Fate::Silence, "{to}");
        assert_eq!(udp(&lab.world, to, 80), Fate::Silence, "{to}");
    }
    assert!(!ping(&c1.ns, c2.ip4) && !ping(&c1.ns, c2.ip6));
    // The gateway answers echo whatever policy says; its other addresses and other gateways do not.
    assert!(ping(&c1.ns, ip(GATEWAY4[0])) && ping(&c1.ns, ip(GATEWAY6[0])));
    assert!(!ping(&c1.ns, ip(GATEWAY4[1])) && !ping(&c1.ns, ip(HOST6)));
}

#[test]
fn same_zone_needs_both_sides() {
    let Some(mut lab) = Lab::new() else { return };
    let mut egress = lab
        .c(1)
        .group(EGRESS, Action::Allow, zone(0), Some((TCP, 80)));
    egress.extend(
        lab.c(1)
            .group(EGRESS, Action::Allow, zone(0), Some((UDP, 80))),
    );
    let mut ingress = lab
        .c(2)
        .peer(INGRESS, Action::Allow, lab.c(1), Some((TCP, 80)));
    ingress.extend(
        lab.c(2)
            .peer(INGRESS, Action::Allow, lab.c(1), Some((UDP, 80))),
    );
    for port in [80, 81] {
        serve(&lab.c(2).ns, port);
        serve(&lab.c(3).ns, port);
    }
    lab.add(egress);
    for to in lab.c(2).ips() {
        assert_eq!(tcp(&lab.c(1).ns, to, 80), Fate::Refused, "only one side");
    }
    lab.add(ingress);
    for (from, to) in lab.c(1).ips().into_iter().zip(lab.c(2).ips()) {
        assert_eq!(tcp(&lab.c(1).ns, to, 80), Fate::Open(from));
        assert_eq!(udp(&lab.c(1).ns, to, 80), Fate::Open(from));
        assert_eq!(tcp(&lab.c(1).ns, to, 81), Fate::Refused, "another port");
        assert_eq!(tcp(&lab.c(3).ns, to, 80), Fate::Refused, "another client");
    }
    for to in lab.c(3).ips() {
        assert_eq!(tcp(&lab.c(1).ns, to, 80), Fate::Refused, "another server");
    }
    for to in lab.c(1).ips() {
        assert!(!tcp(&lab.c(2).ns, to, 80).is_open(), "the other way round");
    }
}

#[test]
fn zones_reach_one_another_only_by_rules_on_both_sides() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(4).ns, 80);
    let mut open = lab.c(1).open();
    open.extend(lab.c(4).open());
    lab.add(open);
    for to in lab.c(4).ips() {
        assert_eq!(
            tcp(&lab.c(1).ns, to, 80),
            Fate::Refused,
            "not by any default"
        );
    }
    let mut rules = lab.c(1).group(EGRESS, Action::Allow, zone(1), None);
    rules.extend(lab.c(4).group(INGRESS, Action::Allow, zone(0), None));
    lab.add(rules);
    for (from, to) in lab.c(1).ips().into_iter().zip(lab.c(4).ips()) {
        assert_eq!(tcp(&lab.c(1).ns, to, 80), Fate::Open(from));
    }
}

#[test]
fn the_world_out_and_in() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.world, 80);
    serve(&lab.c(2).ns, 80);
    let mut rules = lab.c(1).group(EGRESS, Action::Allow, group::WORLD, None);
    rules.extend(
        lab.c(2)
            .group(INGRESS, Action::Allow, group::WORLD, Some((TCP, 80))),
    );
    lab.add(rules);
    // Masqueraded on the way out.
    assert_eq!(tcp(&lab.c(1).ns, ip(WORLD4), 80), Fate::Open(ip(HOST4)));
    assert_eq!(tcp(&lab.c(1).ns, ip(WORLD6), 80), Fate::Open(ip(HOST6)));
    assert_eq!(udp(&lab.c(1).ns, ip(WORLD4), 80), Fate::Open(ip(HOST4)));
    assert!(ping(&lab.c(1).ns, ip(WORLD4)) && ping(&lab.c(1).ns, ip(WORLD6)));
    assert_eq!(tcp(&lab.c(2).ns, ip(WORLD4), 80), Fate::Refused);
    // By a route of its own, without translation.
    for (from, to) in [ip(WORLD4), ip(WORLD6)].into_iter().zip(lab.c(2).ips()) {
        assert_eq!(tcp(&lab.world, to, 80), Fate::Open(from));
        assert_eq!(udp(&lab.world, to, 80), Fate::Silence);
    }
    // Errors about a passed connection pass: nobody serves this port, and the world says so.
    assert_eq!(udp(&lab.c(1).ns, ip(WORLD4), 9), Fate::Refused);
    assert_eq!(udp(&lab.c(1).ns, ip(WORLD6), 9), Fate::Refused);
    // World is not the host, nor loopback, multicast or another zone.
    serve_here(80);
    assert_eq!(tcp(&lab.c(1).ns, ip(HOST4), 80), Fate::Refused);
    assert_eq!(tcp(&lab.c(1).ns, ip("169.254.169.254"), 80), Fate::Refused);
}

#[test]
fn errors_made_by_the_host_reach_the_container() {
    let Some(mut lab) = Lab::new() else { return };
    let world = lab.c(1).group(EGRESS, Action::Allow, group::WORLD, None);
    lab.add(world);
    serve(&lab.world, 80);
    assert!(tcp(&lab.c(1).ns, ip(WORLD4), 80).is_open());
    // No route: the host says so. (UDP: a refusal would look the same for TCP.)
    sh("ip route add unreachable 198.51.100.0/24; ip -6 route add unreachable 2001:db8:99::/64");
    for to in ["198.51.100.1", "2001:db8:99::1"] {
        let out = lab.c(1).ns.try_sh(&format!("ping -n -c 1 -W 1 {to}")).1;
        assert!(
            out.contains("Unreachable") || out.contains("No route") || out.contains("unreachable"),
            "{out}"
        );
        assert!(
            !out.contains("filtered") && !out.contains("prohibited"),
            "{out}"
        );
    }
    // Too big for the next link: path MTU discovery works.
    sh("ip link set up0 mtu 1300");
    for to in [WORLD4, WORLD6] {
        let out = lab
            .c(1)
            .ns
            .try_sh(&format!("ping -n -c 1 -W 1 -M do -s 1350 {to}"))
            .1;
        assert!(out.contains("1300"), "{out}");
    }
}

#[test]
fn host_to_container_and_back() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(1).ns, 80);
    serve_here(80);
    let ingress = lab
        .c(1)
        .group(INGRESS, Action::Allow, group::HOST, Some((TCP, 80)));
    lab.add(ingress);
    for (from, to) in [ip(GATEWAY4[0]), ip(GATEWAY6[0])]
        .into_iter()
        .zip(lab.c(1).ips())
    {
        assert_eq!(tcp_here(to, 80), Fate::Open(from));
        assert_eq!(udp_here(to, 80), Fate::Refused);
    }
    assert!(
        !tcp(&lab.world, lab.c(1).ip4, 80).is_open(),
        "host is not world"
    );
    assert!(
        !tcp(&lab.c(1).ns, ip(GATEWAY4[0]), 80).is_open(),
        "the other way"
    );
    let egress = lab.c(1).group(EGRESS, Action::Allow, group::HOST, None);
    lab.add(egress);
    for to in [GATEWAY4[0], GATEWAY6[0], HOST4, HOST6, GATEWAY4[1]] {
        assert!(tcp(&lab.c(1).ns, ip(to), 80).is_open(), "{to}");
        // Nobody serves it: the host's own reset and error come through.
        assert_eq!(tcp(&lab.c(1).ns, ip(to), 81), Fate::Refused);
    }
    // The host talks to itself as ever.
    assert!(tcp_here(ip(GATEWAY4[0]), 80).is_open() && tcp_here(ip("::1"), 80).is_open());
    // The outside does not reach a gateway, the host's own address it does.
    assert!(!tcp(&lab.world, ip(GATEWAY4[0]), 80).is_open());
    assert!(tcp(&lab.world, ip(HOST4), 80).is_open());
}

#[test]
fn the_gateways_resolver_is_always_open_its_zones_only() {
    let Some(lab) = Lab::new() else { return };
    serve_here(53);
    serve_here(54);
    for to in [GATEWAY4[0], GATEWAY6[0]] {
        assert!(tcp(&lab.c(1).ns, ip(to), 53).is_open(), "{to}");
        assert!(udp(&lab.c(1).ns, ip(to), 53).is_open(), "{to}");
        assert!(!udp(&lab.c(1).ns, ip(to), 54).is_open(), "{to}");
        assert!(!udp(&lab.c(4).ns, ip(to), 53).is_open(), "another zone's");
    }
    assert!(!udp(&lab.c(1).ns, ip(HOST4), 53).is_open());
}

#[test]
fn published_ports() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(1).ns, 80);
    let mut rules = lab.c(1).publish(None, 8080, 80);
    rules.extend(lab.c(1).publish(Some(HOST4), 8081, 80));
    rules.extend(lab.c(1).publish(Some("127.0.0.1"), 8082, 80));
    lab.add(rules);
    assert_eq!(
        tcp(&lab.world, ip(HOST4), 8080),
        Fate::Silence,
        "policy decides"
    );
    let open = lab.c(1).published_open(80);
    lab.add(open);
    // The true source is seen.
    assert_eq!(tcp(&lab.world, ip(HOST4), 8080), Fate::Open(ip(WORLD4)));
    assert_eq!(tcp(&lab.world, ip(HOST6), 8080), Fate::Open(ip(WORLD6)));
    assert_eq!(tcp(&lab.world, ip(HOST4), 8081), Fate::Open(ip(WORLD4)));
    assert!(!tcp(&lab.world, ip(HOST6), 8081).is_open());
    assert!(
        !tcp(&lab.world, ip(HOST4), 8082).is_open(),
        "loopback is the host's"
    );
    // Not directly, and not for other containers.
    for to in lab.c(1).ips() {
        assert_eq!(tcp(&lab.world, to, 80), Fate::Silence);
        assert_eq!(tcp_here(to, 80), Fate::Refused);
    }
    assert_eq!(tcp(&lab.c(2).ns, ip(GATEWAY4[0]), 8080), Fate::Refused);
    // From the host: by any of its addresses, loopback too.
    assert_eq!(tcp_here(ip(HOST4), 8080), Fate::Open(ip(HOST4)));
    assert_eq!(tcp_here(ip(HOST6), 8080), Fate::Open(ip(HOST6)));
    assert_eq!(tcp_here(ip("127.0.0.1"), 8080), Fate::Open(ip(GATEWAY4[0])));
    assert_eq!(tcp_here(ip("127.0.0.1"), 8082), Fate::Open(ip(GATEWAY4[0])));
    assert_eq!(tcp_here(ip("::1"), 8080), Fate::Open(ip(GATEWAY6[0])));
    assert_eq!(udp_here(ip("::1"), 8080), Fate::Refused, "another protocol");
    // Where bridge netfilter is in the way, user space forwards: what listens on ::1 keeps it.
    serve_here(8080);
    let user = vec![element(SetId::UserLoopback, Key::new().ip(ip("::1")))];
    lab.add(user.clone());
    assert_eq!(tcp_here(ip("::1"), 8080), Fate::Open(ip("::1")));
    lab.tighten(user);
    assert_eq!(tcp_here(ip("::1"), 8080), Fate::Open(ip(GATEWAY6[0])));
    assert_eq!(tcp_here(ip("127.0.0.1"), 8080), Fate::Open(ip(GATEWAY4[0])));
    // An ingress rule decides as for any other connection, by the container's port.
    let rule = lab
        .c(1)
        .group(INGRESS, Action::Deny, group::WORLD, Some((TCP, 80)));
    let nodeny = lab.nodeny(1, INGRESS);
    lab.add(rule);
    lab.tighten(nodeny);
    assert_eq!(tcp(&lab.world, ip(HOST4), 8080), Fate::Silence);
    assert!(tcp_here(ip(HOST4), 8080).is_open());
}

/// A range, mapped as the compiler maps it: with a span of ports, or the address alone.
fn range(lab: &Lab, set: fn(Family) -> SetId, hosts: (u16, u16), to: &[u16]) -> Vec<Element> {
    let any = |v6: bool| match v6 {
        false => (ip("0.0.0.0"), ip("255.255.255.255")),
        true => (ip("::"), ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
    };
    let element = |own: IpAddr| {
        let (low, high) = any(own.is_ipv6());
        let key = |address, port| Key::new().ip(address).proto(TCP).port(port);
        let data = to
            .iter()
            .fold(Key::new().ip(own), |key, port| key.port(*port));
        Element {
            data: Some(data),
            ..Element::range(set(Family::of(own)), key(low, hosts.0), key(high, hosts.1))
        }
    };
    lab.c(1).ips().map(element).into()
}

#[test]
fn a_published_range_is_one_element_and_leads_port_by_port() {
    let Some(mut lab) = Lab::new() else { return };
    for port in [8000, 8499, 8999, 9000, 9777, 9999, 500, 1500] {
        serve(&lab.c(1).ns, port);
    }
    let mut rules = lab.c(1).open();
    // The ports stay.
    rules.extend(range(&lab, SetId::PublishRange, (8000, 8999), &[]));
    // They move up by 2000.
    rules.extend(range(
        &lab,
        SetId::PublishShift,
        (7000, 7999),
        &[2000, 9999],
    ));
    // They move down by 10000: 19000-19999 to 9000-9999, in a span of 10000 ports.
    rules.extend(range(
        &lab,
        SetId::PublishShift,
        (19_000, 19_999),
        &[0, 9999],
    ));
    // They move down by 500, more than twice as far as they begin, in two parts.
    rules.extend(range(&lab, SetId::PublishShift, (1000, 1999), &[500, 1499]));
    rules.extend(range(
        &lab,
        SetId::PublishShift,
        (2000, 3000),
        &[1001, 2501],
    ));
    lab.add(rules);
    assert!(
        sh("nft list ruleset").contains("publish_shift4"),
        "nft can read it"
    );
    for host in [HOST4, HOST6] {
        for (port, open) in [
            (8000, true),
            (8499, true),
            (8999, true),
            (8001, false),
            (9000, false),
            (7000, true),
            (7777, true),
            (7776, false),
            (7999, true),
            (8777, false),
            (19_000, true),
            (19_777, true),
            (19_999, true),
            (19_001, false),
            (20_000, false),
            (1000, true),
            (2000, true),
            (1001, false),
            (2001, false),
        ] {
            let came = tcp(&lab.world, ip(host), port);
            assert_eq!(came.is_open(), open, "{host} {port}: {came:?}");
        }
    }
    assert!(tcp_here(ip("127.0.0.1"), 19_777).is_open());
    assert!(tcp_here(ip("::1"), 19_777).is_open());
}

#[test]
fn a_neighbour_does_not_reach_what_is_published_on_loopback() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(1).ns, 80);
    let mut rules = lab.c(1).open();
    rules.extend(lab.c(1).publish(Some("127.0.0.1"), 8082, 80));
    rules.extend(lab.c(1).publish(Some("::1"), 8082, 80));
    rules.extend(lab.c(1).publish(None, 8080, 80));
    lab.add(rules);
    assert!(tcp_here(ip("127.0.0.1"), 8082).is_open());
    assert!(tcp_here(ip("::1"), 8082).is_open());
    // Machines that believe the host's loopback to be behind its address.
    let lie = |gateway4: &str, gateway6: &str, dev: &str| {
        format!(
            "ip route flush table local root 127.0.0.0/8; ip -6 route del local ::1 dev lo table local
             echo 1 > /proc/sys/net/ipv4/conf/{dev}/route_localnet
             ip route add 127.0.0.1 via {gateway4} dev {dev}; ip -6 route add ::1 via {gateway6} dev {dev}"
        )
    };
    lab.world.sh(&lie(HOST4, HOST6, "out0"));
    let inside = lie(GATEWAY4[0], "fe80::ff:fe00:ff00", "host0");
    lab.c(2).ns.sh(&inside);
    // With bridge netfilter the hooks see packets before the kernel looks at their addresses.
    for bridged in [0, 1] {
        sh(&format!(
            "for f in iptables ip6tables; do echo {bridged} > /proc/sys/net/bridge/bridge-nf-call-$f; done"
        ));
        for (from, who) in [(&lab.world, "the world"), (&lab.c(2).ns, "a container")] {
            for to in ["127.0.0.1", "::1"] {
                for port in [8082, 8080] {
                    let came = tcp(from, ip(to), port);
                    assert!(
                        !came.is_open(),
                        "{who} at {to} {port}, bridged {bridged}: {came:?}"
                    );
                }
            }
        }
    }
    // Nor one way only, without an answer.
    let led = sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
    let led: Vec<_> = led
        .lines()
        .filter(|line| line.contains("dst=127.0.0.1 ") || line.contains("dst=::1 "))
        .filter(|line| !line.contains("src=127.0.0.1 ") && !line.contains("src=::1 "))
        .collect();
    assert!(led.is_empty(), "{led:#?}");
}

#[test]
fn hairpin_and_self_hairpin_are_judged_by_their_true_ends() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(1).ns, 80);
    let mut rules = lab.c(1).publish(None, 8080, 80);
    rules.extend(lab.c(1).published_open(80));
    rules.extend(lab.c(2).group(EGRESS, Action::Allow, group::ANY, None));
    rules.extend(lab.c(4).group(EGRESS, Action::Allow, group::ANY, None));
    lab.add(rules);
    for to in [HOST4, HOST6, GATEWAY4[0], GATEWAY6[0]] {
        assert_eq!(
            tcp(&lab.c(2).ns, ip(to), 8080),
            Fate::Refused,
            "{to}: no ingress"
        );
        assert_eq!(
            tcp(&lab.c(1).ns, ip(to), 8080),
            Fate::Refused,
            "{to}: itself"
        );
    }
    let mut rules = lab
        .c(1)
        .peer(INGRESS, Action::Allow, lab.c(2), Some((TCP, 80)));
    rules.extend(
        lab.c(1)
            .peer(INGRESS, Action::Allow, lab.c(4), Some((TCP, 80))),
    );
    lab.add(rules);
    for (to, gateway) in [(HOST4, GATEWAY4), (HOST6, GATEWAY6)] {
        assert_eq!(
            tcp(&lab.c(2).ns, ip(to), 8080),
            Fate::Open(ip(gateway[0])),
            "hairpin"
        );
        assert_eq!(
            tcp(&lab.c(4).ns, ip(to), 8080),
            Fate::Open(ip(gateway[0])),
            "zone to zone"
        );
        assert_eq!(tcp(&lab.c(3).ns, ip(to), 8080), Fate::Refused, "no rule");
    }
    let mut rules = lab
        .c(1)
        .peer(INGRESS, Action::Allow, lab.c(1), Some((TCP, 80)));
    rules.extend(
        lab.c(1)
            .peer(EGRESS, Action::Allow, lab.c(1), Some((TCP, 80))),
    );
    lab.add(rules);
    for (to, gateway) in [(HOST4, GATEWAY4[0]), (HOST6, GATEWAY6[0])] {
        assert_eq!(
            tcp(&lab.c(1).ns, ip(to), 8080),
            Fate::Open(ip(gateway)),
            "self-hairpin"
        );
    }
}

#[test]
fn internal_zones_have_no_path_to_the_world() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.world, 80);
    serve(&lab.c(4).ns, 80);
    serve_here(80);
    let mut rules = lab.c(4).open();
    rules.extend(lab.c(4).group(EGRESS, Action::Allow, group::ANY, None));
    rules.extend(
        lab.c(4)
            .range(EGRESS, Action::Allow, "192.0.2.0/24", 6, (0, 65535)),
    );
    rules.extend(
        lab.c(4)
            .range(INGRESS, Action::Allow, "0.0.0.0/0", 6, (0, 65535)),
    );
    rules.extend(lab.c(1).group(EGRESS, Action::Allow, group::ANY, None));
    rules.extend(lab.c(4).group(INGRESS, Action::Allow, zone(0), None));
    lab.add(rules);
    assert!(
        tcp(&lab.c(4).ns, ip(WORLD4), 80).is_open() && tcp(&lab.world, lab.c(4).ip4, 80).is_open()
    );
    let internal = ["10.98.0.0/24", "fd98::/64"]
        .map(|n| crate::elements::net(firewall::sets::SetId::Internal, n));
    lab.add(internal.into());
    lab.tighten(vec![]);
    for to in [WORLD4, WORLD6] {
        assert_eq!(tcp(&lab.c(4).ns, ip(to), 80), Fate::Refused);
    }
    assert_eq!(tcp(&lab.world, lab.c(4).ip4, 80), Fate::Silence);
    assert!(tcp(&lab.c(4).ns, ip(GATEWAY4[1]), 80).is_open(), "the host");
    assert!(
        tcp(&lab.c(1).ns, lab.c(4).ip4, 80).is_open(),
        "another zone"
    );
}

#[test]
fn judged_the_same_with_bridge_netfilter_switched_on() {
    let Some(mut lab) = Lab::new() else { return };
    // As Docker and Kubernetes do. (Publishing between containers of one bridge does not work then.)
    for bridge in crate::lab::BRIDGES {
        firewall::kernel::gate::install(crate::gate::index(bridge)).unwrap();
    }
    sh(
        "cd /proc/sys/net/bridge; echo 1 > bridge-nf-call-iptables; echo 1 > bridge-nf-call-ip6tables",
    );
    serve(&lab.c(2).ns, 80);
    serve(&lab.world, 80);
    let mut rules = lab
        .c(1)
        .peer(EGRESS, Action::Allow, lab.c(2), Some((TCP, 80)));
    rules.extend(lab.c(1).group(EGRESS, Action::Allow, group::WORLD, None));
    rules.extend(lab.c(2).group(INGRESS, Action::Allow, zone(0), None));
    lab.add(rules);
    for to in lab.c(2).ips() {
        assert!(tcp(&lab.c(1).ns, to, 80).is_open(), "{to}");
        assert_eq!(tcp(&lab.c(3).ns, to, 80), Fate::Refused, "{to}");
        assert!(!udp(&lab.c(1).ns, to, 80).is_open(), "{to}");
    }
    for to in [WORLD4, WORLD6] {
        assert!(tcp(&lab.c(1).ns, ip(to), 80).is_open(), "{to}");
        assert_eq!(tcp(&lab.c(2).ns, ip(to), 80), Fate::Refused, "{to}");
    }
}
