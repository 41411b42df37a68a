//! Ranges, and on which addresses of the host a published port is met.

use std::net::IpAddr;

use crate::net::netns::Netns;
use crate::net::probe::probe;
use crate::world::{HOST, OUTSIDE, World};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Who answers, by name; empty for nobody.
fn who(from: &Netns, to: &str, traffic: &str) -> String {
    probe(from, address(to), traffic).who().to_owned()
}

/// Elements of a map, as nft prints them.
fn elements(world: &World, map: &str) -> usize {
    let text = world.nft(&format!("list map inet netd {map}")).ok();
    let (_, elements) = text.split_once("elements").unwrap_or_default();
    elements.matches(" : ").count()
}

pub fn a_range_is_one_element_and_leads_port_by_port() {
    let world = World::new("publish-ranges");
    world.zone("web").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("20000-29999:20000")
        .publish("30000-39999:5000/udp")
        .publish("7000-7009:40000")
        .serves(&[
            "tcp/20000",
            "tcp/24999",
            "tcp/29999",
            "udp/5000",
            "udp/9999",
            "udp/14999",
            "tcp/40009",
        ])
        .start();
    for map in [
        "publish_range4",
        "publish_range6",
        "publish_shift4",
        "publish_shift6",
    ] {
        assert_eq!(elements(&world, map), 1, "{map}");
    }
    // Short ranges that move are written out.
    assert_eq!(elements(&world, "publish4"), 10);
    for host in HOST {
        for (traffic, open) in [
            ("tcp/20000", true),
            ("tcp/24999", true),
            ("tcp/29999", true),
            ("tcp/25000", false),
            ("tcp/30000", false),
            ("udp/30000", true),
            ("udp/34999", true),
            ("udp/39999", true),
            ("udp/30001", false),
            ("udp/20000", false),
            ("tcp/7009", true),
            ("tcp/7008", false),
        ] {
            let came = probe(&world.outside, address(host), traffic);
            assert_eq!(came.who() == "web", open, "{host} {traffic}: {came:?}");
            if open {
                let outside = if host == HOST[0] {
                    OUTSIDE[0]
                } else {
                    OUTSIDE[1]
                };
                assert_eq!(came.source(), Some(address(outside)), "{host} {traffic}");
            }
        }
    }
    for loopback in ["127.0.0.1", "::1"] {
        for traffic in ["tcp/24999", "udp/34999", "tcp/7009"] {
            assert_eq!(
                who(&world.netns, loopback, traffic),
                "web",
                "{loopback} {traffic}"
            );
        }
    }
    // Policy judges by the container's port.
    world.policy(
        "web",
        "[[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/24999\", \"udp/9999\"]\n",
    );
    for (traffic, open) in [
        ("tcp/24999", true),
        ("tcp/20000", false),
        ("udp/34999", true),
        ("udp/30000", false),
    ] {
        assert_eq!(
            who(&world.outside, HOST[0], traffic) == "web",
            open,
            "{traffic}"
        );
    }
    // Nobody gets a port in the middle.
    let second = world
        .container("second")
        .in_zone("web")
        .publish("28000:80")
        .try_start();
    let said = second.err().expect("the port is taken").fails(1);
    for part in [
        "28000:80",
        "tcp/28000",
        "container web",
        "20000-29999:20000",
    ] {
        assert!(said.contains(part), "{part} not in {said}");
    }
    web.stop();
    for map in [
        "publish4",
        "publish_range4",
        "publish_range6",
        "publish_shift4",
        "publish_shift6",
    ] {
        assert_eq!(elements(&world, map), 0, "{map}");
    }
}

pub fn bound_addresses_are_met_there_only() {
    let world = World::new("publish-bound");
    world.zone("web").default("allow").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("192.0.2.1:8080:80")
        .publish("[2001:db8:1::1]:8081:80")
        .publish("127.0.0.1:8082:80")
        .publish("[::1]:8083:80")
        .publish("[::1]:5353:53/udp")
        .publish("192.0.2.9:8084:80")
        .start();
    // An address that the host has not yet is no reason to wait with the start of a container.
    let warnings = web.attached["warnings"].to_string();
    assert!(
        warnings.contains("192.0.2.9") && warnings.contains("8084"),
        "{warnings}"
    );
    assert!(!warnings.contains("8080"), "{warnings}");
    let other = world.container("other").in_zone("web").start();
    let [four, six] = HOST;
    let table = [
        (four, "tcp/8080", true, true),
        (six, "tcp/8080", false, false),
        ("127.0.0.1", "tcp/8080", false, false),
        (six, "tcp/8081", true, true),
        (four, "tcp/8081", false, false),
        ("::1", "tcp/8081", false, false),
        ("127.0.0.1", "tcp/8082", false, true),
        (four, "tcp/8082", false, false),
        ("127.0.0.2", "tcp/8082", false, false),
        ("::1", "tcp/8083", false, true),
        ("::1", "udp/5353", false, true),
        (six, "tcp/8083", false, false),
        (four, "tcp/8084", false, false),
    ];
    for (to, traffic, world_reaches, host_reaches) in table {
        let loopback = address(to).is_loopback();
        if !loopback {
            assert_eq!(
                who(&world.outside, to, traffic) == "web",
                world_reaches,
                "world to {to} {traffic}"
            );
            assert_eq!(
                who(&other.netns, to, traffic) == "web",
                world_reaches,
                "container to {to} {traffic}"
            );
        }
        assert_eq!(
            who(&world.netns, to, traffic) == "web",
            host_reaches,
            "host to {to} {traffic}"
        );
    }
    let by_gateway = who(&other.netns, &other.gateway4().to_string(), "tcp/8080");
    assert_ne!(by_gateway, "web", "bound elsewhere");
    // What comes from loopback is seen as the gateway.
    let came = probe(&world.netns, address("::1"), "tcp/8083");
    assert!(
        came.source()
            .is_some_and(|a| a.is_ipv6() && !a.is_loopback()),
        "{came:?}"
    );
    // The address arrives, and the port is there.
    world.sh("ip addr add 192.0.2.9/24 dev up0");
    assert_eq!(who(&world.outside, "192.0.2.9", "tcp/8084"), "web");

    let refused = |publish: &str, why: &str| {
        let third = world
            .container("third")
            .in_zone("web")
            .publish(publish)
            .try_start();
        let said = third.err().expect(publish).fails(1);
        assert!(said.contains(why), "{publish}: {said}");
    };
    refused(&format!("{}:9000:80", web.v4()), "belongs to zone web");
    for (publish, why) in [
        ("80:80/sctp", "only tcp and udp"),
        ("0.0.0.0:80:80", "every address"),
    ] {
        let third = world
            .container("third")
            .in_zone("web")
            .publish(publish)
            .try_start();
        let said = third.err().expect(publish).fails(2);
        assert!(said.contains(why), "{publish}: {said}");
    }
}

/// Makes a namespace believe that the host's loopback addresses are behind its gateways.
fn lie(netns: &Netns, dev: &str, gateway4: &str, gateway6: &str) {
    netns.sh(&format!(
        "ip route flush table local root 127.0.0.0/8; ip -6 route del local ::1 dev lo table local
         echo 1 >/proc/sys/net/ipv4/conf/{dev}/route_localnet
         ip route add 127.0.0.1 via {gateway4} dev {dev}; ip -6 route add ::1 via {gateway6} dev {dev}"
    ));
}

pub fn nobody_but_the_host_reaches_its_loopback() {
    let world = World::new("publish-lie");
    world.zone("web").default("allow").create();
    let _web = world
        .container("web")
        .in_zone("web")
        .publish("127.0.0.1:8082:80")
        .publish("[::1]:8082:80")
        .publish("8080:80")
        .start();
    let other = world.container("other").in_zone("web").start();
    lie(&world.outside, "eth0", HOST[0], HOST[1]);
    let gateway6 = other
        .sh("ip -6 route show default")
        .split_whitespace()
        .nth(2)
        .unwrap()
        .to_owned();
    lie(
        &other.netns,
        "host0",
        &other.gateway4().to_string(),
        &gateway6,
    );
    for bridged in [0, 1] {
        world.sh(&format!("for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ ! -e $f ] || echo {bridged} >$f; done"));
        for port in ["tcp/8080", "tcp/8082"] {
            for to in ["127.0.0.1", "::1"] {
                for (from, name) in [(&world.outside, "world"), (&other.netns, "container")] {
                    assert_ne!(
                        who(from, to, port),
                        "web",
                        "{name} to {to} {port}, bridged: {bridged}"
                    );
                }
            }
        }
    }
    // Nor one way only, without an answer.
    let led = world.sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
    let to_loopback = |line: &&str| line.contains("dst=127.0.0.1 ") || line.contains("dst=::1 ");
    assert_eq!(led.lines().find(to_loopback), None);
    assert_eq!(who(&world.netns, "127.0.0.1", "tcp/8082"), "web");
}

pub fn hairpins_in_both_families_by_host_and_by_gateway() {
    let world = World::new("publish-hairpin");
    world.zone("web").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .publish("5353:53/udp")
        .publish("9000-9009:80")
        .start();
    let other = world.container("other").in_zone("web").start();
    let gateways: Vec<String> = other.attached["gateways"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a.as_str().unwrap().to_owned())
        .filter(|a| !a.starts_with("fe80"))
        .collect();
    let zone = world.netd("zone show web --json").json();
    let gateway6 = zone["gateway6"].as_str().unwrap().to_owned();
    let targets = [
        HOST[0].to_owned(),
        HOST[1].to_owned(),
        gateways[0].clone(),
        gateway6,
    ];
    let reach = |from: &Netns| -> Vec<bool> {
        let each = targets
            .iter()
            .flat_map(|to| ["tcp/8080", "udp/5353", "tcp/9000"].map(|t| who(from, to, t) == "web"));
        each.collect()
    };
    let (all, none) = (vec![true; 12], vec![false; 12]);
    assert_eq!(reach(&other.netns), none);
    assert_eq!(reach(&web.netns), none);
    // Either side alone is not enough.
    world.policy("other", "[[egress]]\nto = [\"container:web\"]\n");
    assert_eq!(reach(&other.netns), none);
    world.policy("web", "[[ingress]]\nfrom = [\"container:other\"]\n");
    assert_eq!(reach(&other.netns), all, "policy sees who it really is");
    assert_eq!(reach(&web.netns), none);
    // A container of that name, and nobody else.
    let third = world.container("third").in_zone("web").start();
    world.policy("third", "[[egress]]\nto = [\"container:web\"]\n");
    assert_eq!(reach(&third.netns), none);
    // To itself: its own egress and its own ingress.
    world.policy(
        "self",
        "applies-to = { container = \"web\" }\n[[egress]]\nto = [\"container:web\"]\n",
    );
    assert_eq!(reach(&web.netns), none, "egress alone");
    world.policy("self", "applies-to = { container = \"web\" }\n[[egress]]\nto = [\"container:web\"]\n[[ingress]]\nfrom = [\"container:web\"]\n");
    assert_eq!(reach(&web.netns), all);
    // On a hairpin it sees the gateway, otherwise the true source.
    let came = probe(&other.netns, address(HOST[0]), "tcp/8080");
    assert_eq!(came.source(), Some(other.gateway4().into()));
    world.policy(
        "web",
        "[[ingress]]\nfrom = [\"world\", \"container:other\"]\n",
    );
    let came = probe(&world.outside, address(HOST[0]), "tcp/8080");
    assert_eq!(came.source(), Some(address(OUTSIDE[0])));
}
