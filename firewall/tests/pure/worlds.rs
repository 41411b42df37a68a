//! Random small worlds: a few zones, containers and files, made of few addresses, labels and ports, so
//! that they meet each other often.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use firewall::compile::Firewall;
use firewall::model::{Container, DefaultPolicy, Endpoint, Publish, Traffic, Zone};
use firewall::policy::{PolicyFile, PolicySet};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use zone::{PortName, ZoneName};

pub const HOST: &str = "192.0.2.1";
pub const HOST6: &str = "2001:db8:1::1";
/// Addresses of the world that no network of `NETS` names, but for those of everything.
pub const WORLD: &str = "203.0.113.77";
pub const WORLD6: &str = "2001:db8:ffff::77";

/// Peers by what they are. They meet the containers of small worlds often.
const NAMES: [&str; 14] = [
    "any",
    "host",
    "world",
    "container:c0",
    "container:c1",
    "container:c2",
    "container:c9",
    "zone:z0",
    "zone:z1",
    "zone:z2",
    "zone:z9",
    "label:tier=a",
    "label:tier=b",
    "label:app=x",
];

/// Peers by address.
const NETS: [&str; 29] = [
    "0.0.0.0/0",
    "::/0",
    "10.89.0.0/16",
    "10.89.0.0/29",
    "10.89.0.2/31",
    "10.89.0.3",
    "10.89.1.0/29",
    "10.89.0.1",
    "198.51.100.0/24",
    "198.51.100.7",
    "192.0.2.1",
    "169.254.169.254",
    "fd00::/16",
    "fd00:0:0:1::/64",
    "fd00::3",
    "fd00::1",
    "fd00:0:2::/48",
    "fd00:0:2:2::/64",
    "fd00:0:2:2::1",
    "fd00:0:2:2::/127",
    "fd00:0:2:2::",
    "fd00:0:2:3::5",
    "fd00:0:2:3:8000::/65",
    "2001:db8:2::/48",
    "2001:db8:2::7",
    "fe80::/10",
    "224.0.0.0/4",
    "198.51.100.6/31",
    "127.0.0.0/8",
];

const PORTS: [&str; 20] = [
    "tcp/80",
    "tcp/79-81",
    "tcp/1-79",
    "tcp/81-65535",
    "tcp/*",
    "tcp/81",
    "udp/53",
    "udp/67",
    "udp/1-1000",
    "udp/*",
    "icmp/echo-request",
    "icmp/timestamp-request",
    "icmp/*",
    "gre",
    "proto/0",
    "proto/255",
    "sctp/80",
    "sctp/*",
    "icmp/echo-reply",
    "proto/5",
];

pub const TRAFFIC: [Traffic; 19] = [
    Traffic::Port(6, 0),
    Traffic::Port(6, 1),
    Traffic::Port(6, 79),
    Traffic::Port(6, 80),
    Traffic::Port(6, 81),
    Traffic::Port(6, 82),
    Traffic::Port(6, 65535),
    Traffic::Port(17, 53),
    Traffic::Port(17, 67),
    Traffic::Port(17, 1000),
    Traffic::Port(17, 1001),
    Traffic::Port(132, 80),
    Traffic::Icmp(0),
    Traffic::Icmp(8),
    Traffic::Icmp(13),
    Traffic::Proto(0),
    Traffic::Proto(5),
    Traffic::Proto(47),
    Traffic::Proto(255),
];

fn zone_name(index: u8) -> ZoneName {
    format!("z{index}").parse().unwrap()
}

/// The last one is a further network of the one before it.
pub fn container_name(index: u8) -> PortName {
    let name = match index {
        2 => "c1@z2".to_owned(),
        _ => format!("c{index}"),
    };
    name.parse().unwrap()
}

fn subnet4(zone: u8) -> String {
    format!("10.89.{zone}.0/29")
}

/// In the last of them each container has a prefix.
fn subnet6(zone: u8) -> String {
    match zone {
        2 => "fd00:0:2::/48".to_owned(),
        _ => format!("fd00:0:0:{zone}::/64"),
    }
}

pub fn zone(index: u8) -> impl Strategy<Value = Zone> {
    let default = select(vec![
        DefaultPolicy::Egress,
        DefaultPolicy::Deny,
        DefaultPolicy::Allow,
    ]);
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.8));
    (default, flags).prop_map(move |(default, (internal, masquerade6, v6))| {
        let name = zone_name(index);
        Zone {
            bridge: name.bridge(),
            subnet4: Some(subnet4(index).parse().unwrap()),
            subnet6: v6.then(|| subnet6(index).parse().unwrap()),
            gateway4: Some(Ipv4Addr::new(10, 89, index, 1)),
            gateway6: v6.then(|| {
                let subnet: ipnet::Ipv6Net = subnet6(index).parse().unwrap();
                (u128::from(subnet.network()) + 1).into()
            }),
            name,
            internal,
            default,
            masquerade6,
            uplink: None,
            relays: Vec::new(),
        }
    })
}

fn publish() -> impl Strategy<Value = Publish> {
    let address = select(vec![
        None,
        Some("192.0.2.1"),
        Some("127.0.0.1"),
        Some("2001:db8:1::1"),
    ]);
    let proto = select(vec![6u8, 17]);
    (
        address,
        proto,
        select(vec![0u16, 1, 5]),
        select(vec![80u16, 81, 1000]),
    )
        .prop_map(|(address, proto, more, port)| Publish {
            address: address.map(|a| a.parse().unwrap()),
            proto,
            first: 0,
            last: more,
            port,
        })
}

/// A container at one of the addresses of its zone; the addresses of two never meet, as long as the
/// callers use each index once.
pub fn container(index: u8) -> impl Strategy<Value = Container> {
    let labels = subsequence(vec![("tier", "a"), ("app", "x"), ("team", "t")], 0..=3);
    let addresses = select(vec![(true, true), (true, false), (false, true)]);
    let publish = prop::collection::vec(publish(), 0..2);
    (0u8..3, labels, any::<bool>(), addresses, publish).prop_map(
        move |(zone, labels, b, (v4, v6), mut publish)| {
            // networks of one container are in zones of their own
            let zone = match index {
                1 => zone % 2,
                2 => 2,
                _ => zone,
            };
            let mut labels: BTreeMap<String, String> = labels
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect();
            if let (true, Some(tier)) = (b, labels.get_mut("tier")) {
                *tier = "b".into();
            }
            for (n, publish) in publish.iter_mut().enumerate() {
                // host ports apart
                publish.first += 1000 + u16::from(index) * 100 + n as u16 * 10;
                publish.last += publish.first;
            }
            let name = container_name(index);
            let v4 = v4.then(|| IpAddr::V4(Ipv4Addr::new(10, 89, zone, 2 + index)));
            let v6 = v6.then(|| {
                let number = 2 + u16::from(index);
                let segments = match zone {
                    2 => [0xfd00, 0, 2, number, 0, 0, 0, 1],
                    _ => [0xfd00, 0, 0, zone.into(), 0, 0, 0, number],
                };
                IpAddr::V6(Ipv6Addr::from(segments))
            });
            Container {
                zone: zone_name(zone),
                ifindex: 100 + u32::from(index),
                mac: name.mac(),
                addresses: v4.into_iter().chain(v6).collect(),
                labels,
                publish,
                name,
            }
        },
    )
}

/// The text of one rule.
pub fn rule(direction: &'static str) -> impl Strategy<Value = String> {
    let who = if direction == "ingress" { "from" } else { "to" };
    let peer = prop_oneof![3 => select(NAMES.to_vec()), 2 => select(NETS.to_vec())];
    let peers = prop::option::weighted(0.9, prop::collection::vec(peer, 1..=3));
    let ports = prop::option::weighted(0.7, subsequence(PORTS.to_vec(), 1..=3));
    let limit = prop::option::weighted(
        0.2,
        select(vec!["rate = \"5/second\"\n", "max-connections = 3\n"]),
    );
    let hours = prop::option::weighted(0.2, select(HOURS.to_vec()));
    (prop::bool::weighted(0.3), peers, ports, limit, hours).prop_map(
        move |(deny, peers, ports, limit, hours)| {
            let mut text = format!("[[{direction}]]\n");
            if deny {
                text += "action = \"deny\"\n";
            } else {
                text += limit.unwrap_or_default();
            }
            if let Some(hours) = hours {
                text += &format!("time = {hours:?}\n");
            }
            if let Some(peers) = peers {
                text += &format!("{who} = {peers:?}\n");
            }
            if let Some(ports) = ports {
                text += &format!("ports = {ports:?}\n");
            }
            text
        },
    )
}

fn section(direction: &'static str) -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        1 => Just((String::new(), String::new())),
        1 => Just((format!("{direction} = []\n"), String::new())),
        4 => prop::collection::vec(rule(direction), 1..4).prop_map(|rules| (String::new(), rules.concat())),
    ]
}

/// Hours: some are now (Monday, 00:00), some are not, some never end.
const HOURS: [&str; 5] = [
    "Mon-Fri 08:00-18:00",
    "Mon",
    "22:00-06:00",
    "Sat,Sun",
    "Mon-Sun",
];

const TARGETS: [&str; 8] = [
    "container = \"c0\"",
    "container = \"c1\", zone = \"z0\"",
    "container = \"c1\", zone = \"z2\"",
    "zone = \"z0\"",
    "zone = \"z1\", labels = { tier = \"a\" }",
    "labels = { tier = \"b\" }",
    "labels = { tier = \"a\", app = \"x\" }",
    "container = \"c1\"",
];

/// The text of a file.
pub fn file() -> impl Strategy<Value = String> {
    (
        select(TARGETS.to_vec()),
        section("ingress"),
        section("egress"),
    )
        .prop_map(|(target, ingress, egress)| {
            format!(
                "applies-to = {{ {target} }}\n{}{}{}{}",
                ingress.0, egress.0, ingress.1, egress.1
            )
        })
}

/// Files by name.
pub fn files() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(file(), 0..4)
}

pub fn policy_set(files: &[String]) -> PolicySet {
    let parse = |(n, text): (usize, &String)| {
        let name = format!("f{n}.toml");
        let file = PolicyFile::parse(&name, text);
        let file = file.unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
        (name, Arc::new(file))
    };
    PolicySet(files.iter().enumerate().map(parse).collect())
}

/// A world with all its zones, some containers and files.
#[derive(Debug, Clone)]
pub struct Setting {
    pub zones: Vec<Zone>,
    pub containers: Vec<Container>,
    pub files: Vec<String>,
}

impl Setting {
    pub fn firewall(&self) -> Firewall {
        let mut firewall = Firewall::new();
        firewall.set_host(vec![HOST.parse().unwrap(), HOST6.parse().unwrap()]);
        for zone in &self.zones {
            firewall.set_zone(zone.clone());
        }
        firewall.set_policies(policy_set(&self.files));
        for container in &self.containers {
            firewall.attach(container.clone());
        }
        firewall
    }
}

pub fn setting() -> impl Strategy<Value = Setting> {
    let zones = (zone(0), zone(1), zone(2)).prop_map(|(a, b, c)| vec![a, b, c]);
    let containers = (
        prop::option::weighted(0.9, container(0)),
        prop::option::weighted(0.9, container(1)),
        prop::option::weighted(0.5, container(2)),
    )
        .prop_map(|(a, b, c)| [a, b, c].into_iter().flatten().collect());
    (zones, containers, files()).prop_map(|(zones, containers, files)| Setting {
        zones,
        containers,
        files,
    })
}

/// Addresses of every kind.
pub const ADDRESSES: [&str; 35] = [
    "255.255.255.255",
    "10.89.0.1",
    "10.89.1.1",
    "10.89.0.2",
    "10.89.0.3",
    "10.89.1.2",
    "10.89.1.3",
    "10.89.0.6",
    HOST,
    WORLD,
    "198.51.100.7",
    "198.51.100.8",
    "169.254.169.254",
    "224.0.0.1",
    "127.0.0.1",
    "fd00::1",
    "fd00:0:0:1::1",
    "fd00::2",
    "fd00::3",
    "fd00:0:0:1::3",
    "fd00::77",
    HOST6,
    WORLD6,
    "2001:db8:2::7",
    "2001:db8:2::8",
    "fe80::1",
    "::1",
    "fd00:0:2::1",
    "fd00:0:2::5",
    "fd00:0:2:2::",
    "fd00:0:2:2::1",
    "fd00:0:2:2:9:8:7:6",
    "fd00:0:2:3::5",
    "fd00:0:2:3:9000::1",
    "fd00:0:2:9::1",
];

/// Every endpoint that a flow may have.
pub fn endpoints() -> Vec<Endpoint> {
    let containers = (0..3).map(|index| Endpoint::Container(container_name(index)));
    let addresses = ADDRESSES
        .iter()
        .map(|a| Endpoint::Address(a.parse().unwrap()));
    containers
        .chain([Endpoint::Host, Endpoint::World])
        .chain(addresses)
        .collect()
}
