//! A world told by names, for verdict tables.

use std::sync::Arc;

use firewall::compile::Firewall;
use firewall::explain::explain;
use firewall::model::World;
use firewall::model::{Container, DefaultPolicy, Endpoint, Flow, Publish, Traffic, Zone};
use firewall::oracle;
use firewall::policy::PolicyFile;
use firewall::sets::{Action, Family};

use super::flows;

/// Builds a [`Firewall`] out of words. Zone `n` (in the order of telling) is 10.89.n.0/24 and
/// fd00:0:0:n::/64; containers get .2, .3, … in the order of telling.
#[derive(Default)]
pub struct Story {
    pub firewall: Firewall,
    next: u8,
}

impl Story {
    pub fn new() -> Self {
        let mut story = Self::default();
        let host = ["192.0.2.1", "2001:db8:1::1"];
        story
            .firewall
            .set_host(host.iter().map(|a| a.parse().unwrap()).collect());
        story
    }

    pub fn zone(self, name: &str, default: DefaultPolicy) -> Self {
        self.zone_with(name, default, false)
    }

    pub fn internal_zone(self, name: &str, default: DefaultPolicy) -> Self {
        self.zone_with(name, default, true)
    }

    fn zone_with(mut self, name: &str, default: DefaultPolicy, internal: bool) -> Self {
        let n = self.firewall.world().zones.len();
        let name: zone::ZoneName = name.parse().unwrap();
        self.firewall.set_zone(Zone {
            bridge: name.bridge(),
            subnet4: Some(format!("10.89.{n}.0/24").parse().unwrap()),
            subnet6: Some(format!("fd00:0:0:{n}::/64").parse().unwrap()),
            gateway4: Some(format!("10.89.{n}.1").parse().unwrap()),
            gateway6: Some(format!("fd00:0:0:{n}::1").parse().unwrap()),
            name,
            internal,
            default,
            masquerade6: true,
            relays: Vec::new(),
            uplink: None,
        });
        self
    }

    /// `labels`: `tier=front team=a`; `publish`: `8080:80`.
    pub fn container(mut self, name: &str, zone: &str, labels: &str, publish: &str) -> Self {
        let n = self.next + 2;
        self.next += 1;
        let subnets = &self.firewall.world().zones[zone];
        let (v4, v6) = (subnets.subnet4.unwrap(), subnets.subnet6.unwrap());
        let pair = |text: &str| {
            let (key, value) = text.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        };
        let ports = |text: &str| {
            let (host, port) = text.split_once(':').unwrap();
            let first = host.parse().unwrap();
            Publish {
                address: None,
                proto: 6,
                first,
                last: first,
                port: port.parse().unwrap(),
            }
        };
        let name: zone::PortName = name.parse().unwrap();
        self.firewall.attach(Container {
            zone: zone.parse().unwrap(),
            ifindex: 100 + u32::from(n),
            mac: name.mac(),
            addresses: vec![
                v4.hosts().nth(usize::from(n) - 1).unwrap().into(),
                (u128::from(v6.network()) + u128::from(n))
                    .to_be_bytes()
                    .into(),
            ],
            labels: labels.split_whitespace().map(pair).collect(),
            publish: publish.split_whitespace().map(ports).collect(),
            name,
        });
        self
    }

    pub fn file(mut self, name: &str, text: &str) -> Self {
        let file = PolicyFile::parse(name, text).unwrap_or_else(|wrong| panic!("{wrong}"));
        self.firewall
            .edit_policies([(name.to_owned(), Some(Arc::new(file)))]);
        self
    }

    /// Asks the oracle, the compiled elements and the explanation, in both families where an endpoint
    /// is not an address of one, and wants the same answer of all.
    pub fn tell(&self, table: &[(Action, Ask)]) {
        let (world, policies) = (self.firewall.world(), self.firewall.policies());
        let kernel = super::kernel::Kernel::new(&self.firewall.elements());
        for (wanted, ask) in table {
            for family in ask.families() {
                let flow = ask.flow(family);
                let explained = explain(world, policies, &flow);
                let why = format!("{ask:?} in {family:?}: {explained:#?}");
                let allowed = *wanted == Action::Allow;
                assert_eq!(
                    oracle::allows(world, policies, &flow),
                    allowed,
                    "oracle: {why}"
                );
                assert_eq!(explained.verdict, *wanted, "explain: {why}");
                assert!(!explained.reasons.is_empty(), "{why}");
                let packet = flows::packet(world, &flow);
                let passes = packet.is_some_and(|packet| kernel.passes(&packet));
                assert_eq!(passes, allowed, "elements: {why}");
            }
        }
    }

    pub fn world(&self) -> &World {
        self.firewall.world()
    }
}

/// One question of a verdict table.
#[derive(Debug, Clone)]
pub struct Ask {
    from: Endpoint,
    to: Endpoint,
    traffic: Traffic,
    published: bool,
    family: Option<Family>,
}

fn endpoint(text: &str) -> Endpoint {
    match text {
        "host" => Endpoint::Host,
        "world" => Endpoint::World,
        _ => match text.parse() {
            Ok(address) => Endpoint::Address(address),
            Err(_) => Endpoint::Container(text.parse().unwrap()),
        },
    }
}

impl Ask {
    fn families(&self) -> Vec<Family> {
        let named = [&self.from, &self.to]
            .into_iter()
            .find_map(|end| match end {
                Endpoint::Address(address) => Some(Family::of(*address)),
                _ => None,
            });
        named
            .or(self.family)
            .map_or(Family::ALL.to_vec(), |only| vec![only])
    }

    fn flow(&self, family: Family) -> Flow {
        Flow {
            from: self.from.clone(),
            to: self.to.clone(),
            traffic: self.traffic,
            family,
            published: self.published,
        }
    }

    /// Came through a published port.
    pub fn published(self) -> Self {
        Self {
            published: true,
            ..self
        }
    }

    /// In IPv4 only.
    pub fn v4(self) -> Self {
        Self {
            family: Some(Family::V4),
            ..self
        }
    }
}

pub fn ask(from: &str, to: &str, traffic: Traffic) -> Ask {
    Ask {
        from: endpoint(from),
        to: endpoint(to),
        traffic,
        published: false,
        family: None,
    }
}

pub fn tcp(from: &str, to: &str, port: u16) -> Ask {
    ask(from, to, Traffic::Port(6, port))
}

pub fn udp(from: &str, to: &str, port: u16) -> Ask {
    ask(from, to, Traffic::Port(17, port))
}

pub fn icmp(from: &str, to: &str, kind: u8) -> Ask {
    ask(from, to, Traffic::Icmp(kind))
}
