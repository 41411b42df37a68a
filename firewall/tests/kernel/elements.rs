//! Elements by hand, as the compiler would make them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use firewall::sets::{Action, Direction, Element, Family, Key, SetId, Shape, group};
use ipnet::IpNet;
use zone::{IfName, MacAddr};

use crate::lab::{BRIDGES, Container, GATEWAY4, GATEWAY6, Lab};

pub(crate) const EGRESS: Direction = Direction::Egress;
pub(crate) const INGRESS: Direction = Direction::Ingress;

pub(crate) fn element(set: SetId, key: Key) -> Element {
    Element {
        set,
        key,
        last: None,
        data: None,
        timeout: None,
    }
}

fn mapped(set: SetId, key: Key, data: Key) -> Element {
    Element {
        data: Some(data),
        timeout: None,
        ..element(set, key)
    }
}

pub(crate) fn net(set: fn(Family) -> SetId, net: &str) -> Element {
    let net: IpNet = net.parse().unwrap();
    Element {
        last: Some(Key::new().ip(net.broadcast())),
        ..element(set(Family::of(net.addr())), Key::new().ip(net.network()))
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The number of a zone of the lab.
pub(crate) fn zone(n: usize) -> u32 {
    group::ZONE_BASE + n as u32
}

impl Container {
    pub(crate) fn ips(&self) -> [IpAddr; 2] {
        [self.ip4, self.ip6]
    }

    /// What the guard knows of it.
    pub(crate) fn guard(&self) -> Vec<Element> {
        let mac = MacAddr(self.mac);
        let port = || Key::new().ifindex(self.ifindex);
        let mut all = vec![
            element(SetId::GuardPorts, port()),
            element(SetId::GuardMac, port().mac(mac)),
        ];
        for address in [self.ip4, self.ip6, mac.link_local().into()] {
            let set = match address {
                IpAddr::V4(_) => SetId::GuardIp4,
                IpAddr::V6(_) => SetId::GuardIp6,
            };
            all.push(element(set, port().mac(mac).ip(address)));
        }
        all
    }

    fn own(&self) -> Vec<Element> {
        let mut all = Vec::new();
        for address in self.ips() {
            let f = Family::of(address);
            all.push(element(SetId::Own(f), Key::new().ip(address)));
            let number = Key::new().mark(zone(self.zone));
            all.push(mapped(SetId::ZoneOf(f), Key::new().ip(address), number));
        }
        all.extend(self.labels_of());
        all
    }

    /// Tells its identity.
    pub(crate) fn labels_of(&self) -> Vec<Element> {
        self.ips()
            .map(|address| {
                let number = Key::new().mark(self.identity());
                let set = SetId::LabelsOf(Family::of(address));
                mapped(set, Key::new().ip(address), number)
            })
            .into()
    }

    /// The number of its identity, which is its own.
    pub(crate) fn identity(&self) -> u32 {
        group::LABELS_BASE + self.ifindex
    }

    /// A rule about a group of peers, both families; `port` as (protocol, port).
    pub(crate) fn group(
        &self,
        d: Direction,
        a: Action,
        group: u32,
        port: Option<(u8, u16)>,
    ) -> Vec<Element> {
        self.ips()
            .map(|own| {
                let key = Key::new().ip(own).mark(group);
                let (shape, key) = match port {
                    None => (Shape::Group, key),
                    Some((proto, port)) => (Shape::GroupPort, key.proto(proto).port(port)),
                };
                element(SetId::Rule(d, Family::of(own), a, shape), key)
            })
            .into()
    }

    /// A rule about another container, both families.
    pub(crate) fn peer(
        &self,
        d: Direction,
        a: Action,
        peer: &Container,
        port: Option<(u8, u16)>,
    ) -> Vec<Element> {
        let pairs = self.ips().into_iter().zip(peer.ips());
        pairs
            .map(|(own, peer)| {
                let key = Key::new().ip(own).ip(peer);
                let (shape, key) = match port {
                    None => (Shape::Peer, key),
                    Some((proto, port)) => (Shape::PeerPort, key.proto(proto).port(port)),
                };
                element(SetId::Rule(d, Family::of(own), a, shape), key)
            })
            .collect()
    }

    /// A rule about a network and a range of ports.
    pub(crate) fn range(
        &self,
        d: Direction,
        a: Action,
        net: &str,
        proto: u8,
        ports: (u16, u16),
    ) -> [Element; 2] {
        let net: IpNet = net.parse().unwrap();
        let own = self.ips()[usize::from(net.addr().is_ipv6())];
        let list = number_of(&(own, d, a, net));
        let set = |shape| SetId::Rule(d, Family::of(own), a, shape);
        let peer = |address| Key::new().mark(nets_number(own, d, a)).ip(address);
        let port = |port| Key::new().mark(list).proto(proto).port(port);
        let (first, last) = (peer(net.network()), peer(net.broadcast()));
        [
            Element {
                data: Some(Key::new().mark(list)),
                ..Element::range(set(Shape::NetList), first, last)
            },
            Element::range(set(Shape::Ports), port(ports.0), port(ports.1)),
        ]
    }

    /// Publishes a port on every host address, and on `at` alone.
    pub(crate) fn publish(&self, at: Option<&str>, host_port: u16, port: u16) -> Vec<Element> {
        let all = self.ips().into_iter().filter_map(|own| {
            let f = Family::of(own);
            let to = Key::new().ip(own).port(port);
            let key = match at.map(ip) {
                None => {
                    return Some(mapped(
                        SetId::Publish(f),
                        Key::new().proto(6).port(host_port),
                        to,
                    ));
                }
                Some(at) if Family::of(at) == f => Key::new().ip(at).proto(6).port(host_port),
                Some(_) => return None,
            };
            Some(mapped(SetId::PublishAt(f), key, to))
        });
        all.collect()
    }

    /// Lets world and host in through its published port.
    pub(crate) fn published_open(&self, port: u16) -> Vec<Element> {
        self.ips()
            .map(|own| {
                let set = SetId::PublishedOpen(Family::of(own));
                element(set, Key::new().ip(own).proto(6).port(port))
            })
            .into()
    }

    /// The default `allow`: its own zone, host and world, both ways.
    pub(crate) fn open(&self) -> Vec<Element> {
        let mut all = Vec::new();
        for d in Direction::ALL {
            for g in [zone(self.zone), group::HOST, group::WORLD] {
                all.extend(self.group(d, Action::Allow, g, None));
            }
        }
        all
    }
}

impl Lab {
    /// What every zone and container has; nobody may do anything yet.
    pub(crate) fn base(&self) -> Vec<Element> {
        let mut all = Vec::new();
        for (i, bridge) in BRIDGES.iter().enumerate() {
            let name: IfName = bridge.parse().unwrap();
            all.push(element(SetId::Bridges, Key::new().ifname(&name)));
            for gateway in [GATEWAY4[i], GATEWAY6[i]] {
                let f = Family::of(ip(gateway));
                all.push(element(SetId::Gateways(f), Key::new().ip(ip(gateway))));
            }
        }
        for subnet in ["10.98.0.0/24", "10.99.0.0/24", "fd98::/64", "fd99::/64"] {
            all.push(net(SetId::Subnets, subnet));
            all.push(net(SetId::Masquerade, subnet));
        }
        for c in &self.boxes {
            all.extend(c.guard());
            all.extend(c.own());
            for d in Direction::ALL {
                for own in c.ips() {
                    let set = SetId::NoDeny(d, Family::of(own));
                    all.push(element(set, Key::new().ip(own)));
                    for a in [Action::Allow, Action::Deny] {
                        all.push(nets(own, d, a, nets_number(own, d, a)));
                    }
                }
            }
        }
        all
    }

    /// The elements that say a container's direction has no deny rules.
    pub(crate) fn nodeny(&self, n: usize, d: Direction) -> Vec<Element> {
        self.c(n)
            .ips()
            .map(|own| element(SetId::NoDeny(d, Family::of(own)), Key::new().ip(own)))
            .into()
    }
}

/// A number under which ranges stand.
pub(crate) fn number_of(what: &impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    u32::try_from(hasher.finish() >> 32).unwrap() | 0x8000_0000
}

/// The number of networks that [`Lab::base`] gives to each address.
pub(crate) fn nets_number(own: IpAddr, d: Direction, a: Action) -> u32 {
    number_of(&(own, d, a))
}

/// Leads an address to networks.
pub(crate) fn nets(own: IpAddr, d: Direction, a: Action, number: u32) -> Element {
    let set = SetId::Nets(d, Family::of(own), a);
    Element::entry(set, Key::new().ip(own), Key::new().mark(number))
}
