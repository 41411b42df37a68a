//! What a question comes to in a world: who is asked through which door, which flow that is to a policy, and
//! who would answer whom. Written from the design as naively as the oracle, and without asking the daemon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall::model::{Container, Endpoint, Flow, Publish, Traffic, World};
use firewall::policy::PolicySet;
use firewall::sets::Family;
use zone::PortName;

use super::places::{self, address};
use super::question::{Kind, Question};

/// A world and its policies, as they are in force.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// Zones, containers, addresses of the host.
    pub world: World,
    /// The files.
    pub policies: PolicySet,
}

/// What a question comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The flow to be judged. `None`: nobody listens there for the container world, so nobody may hear it.
    pub flow: Option<Flow>,
    /// Who answers when it passes: a container, `host` or `world`.
    pub server: String,
    /// What kind of path it is.
    pub kind: Kind,
    /// Whom the server sees.
    pub seen: Seen,
}

impl Judged {
    /// Whether the daemon itself forwards it: then the container is asked by another packet.
    pub fn in_user_space(&self, question: &Question) -> bool {
        let family = self.flow.as_ref().map(|flow| flow.family);
        family.is_some_and(|family| family != Family::of(question.to))
    }
}

/// Whom a server sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// This address.
    As(IpAddr),
    /// Some address of the host.
    AsHost,
}

impl Scene {
    /// What a question comes to.
    pub fn judged(&self, question: &Question) -> Option<Judged> {
        let wire = Family::of(question.to);
        let door = self.is_host(question.to).then(|| self.door(question));
        let through = door.flatten();
        let (server, to, traffic, family) = match &through {
            Some(door) => (
                door.server.to_string(),
                Endpoint::Container(door.server.clone()),
                door.traffic,
                door.family,
            ),
            None => (
                self.name_of(question.to),
                self.endpoint(question.to, question.named),
                question.traffic,
                wire,
            ),
        };
        let from = self.from(question, through.is_some(), family)?;
        let knocks =
            matches!(question.traffic, Traffic::Port(_, port) if places::DOORS.contains(&port));
        let closed = through.is_none() && knocks && server == "host";
        let published = through.is_some() || closed;
        let flow = Flow {
            from,
            to,
            traffic,
            family,
            published: through.is_some(),
        };
        Some(Judged {
            kind: self.kind(&question.from, &server, published),
            seen: self.seen(question, &server, through.is_some(), wire),
            flow: (!closed).then_some(flow),
            server,
        })
    }

    fn from(&self, question: &Question, published: bool, family: Family) -> Option<Endpoint> {
        Some(match question.from.as_str() {
            // Sent to an address of its own, the host speaks from it.
            "host" if published && family != Family::of(question.to) => {
                Endpoint::Address(Ipv4Addr::LOCALHOST.into())
            }
            "host" if published => Endpoint::Address(question.to),
            "host" => Endpoint::Host,
            "world" => {
                let source = question.source?;
                let nowhere = places::NOWHERE.map(address).contains(&source);
                if nowhere && question.named {
                    Endpoint::World
                } else {
                    Endpoint::Address(source)
                }
            }
            name => {
                let container = self.container(name)?;
                let own = self.own_address(container, family)?;
                if let Some(source) = question.source {
                    Endpoint::Address(source)
                } else if question.named {
                    Endpoint::Container(container.name.clone())
                } else {
                    Endpoint::Address(own)
                }
            }
        })
    }

    fn seen(&self, question: &Question, server: &str, published: bool, wire: Family) -> Seen {
        match question.from.as_str() {
            "host" => Seen::AsHost,
            "world" => question.source.map_or(Seen::AsHost, Seen::As),
            // A hairpin comes back from the host; and what leaves the zones is masqueraded, but for IPv6 that
            // the world knows.
            _ if published => Seen::AsHost,
            name => {
                let own = self
                    .container(name)
                    .and_then(|container| self.own_address(container, wire));
                let own = question.source.or(own);
                let known = matches!(own, Some(IpAddr::V6(own)) if own.segments()[0] == 0x2001);
                match own {
                    Some(own) if server != "world" || known => Seen::As(own),
                    _ => Seen::AsHost,
                }
            }
        }
    }

    fn kind(&self, from: &str, server: &str, published: bool) -> Kind {
        if published {
            return Kind::Published;
        }
        match (self.container(from), self.container(server)) {
            (Some(client), Some(server)) if client.zone == server.zone => Kind::SameZone,
            (Some(_), Some(_)) => Kind::CrossZone,
            (Some(_), None) if server == "world" => Kind::Out,
            (None, Some(_)) if from == "world" => Kind::In,
            (None, None) => Kind::Beside,
            _ => Kind::Host,
        }
    }

    /// A container by name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        let name: PortName = name.parse().ok()?;
        self.world.containers.get(&name)
    }

    /// A container's address in a family.
    pub fn own_address(&self, container: &Container, family: Family) -> Option<IpAddr> {
        let mut addresses = self.world.addresses(container);
        addresses.find(|address| Family::of(*address) == family)
    }

    /// An address that a container has besides, where it has a prefix.
    pub fn another(&self, container: &Container) -> Option<IpAddr> {
        let nets = self.world.networks(container).into_iter();
        let mut nets = nets.filter(|net| net.prefix_len() == 64);
        nets.find_map(|net| places::another(net.addr()))
    }

    /// The host's addresses in its zones.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.world.zones.values().flat_map(|zone| {
            let v4 = zone.gateway4.map(IpAddr::V4);
            v4.into_iter().chain(zone.gateway6.map(IpAddr::V6))
        })
    }

    /// Whether an address is the host's own, loopback among them.
    pub fn is_host(&self, to: IpAddr) -> bool {
        to.is_loopback() || self.world.host.contains(&to) || self.gateways().any(|own| own == to)
    }

    fn name_of(&self, to: IpAddr) -> String {
        let mut containers = self.world.containers.values();
        let container = containers.find(|one| self.world.has(one, to));
        match container {
            Some(container) => container.name.to_string(),
            None if self.is_host(to) => "host".to_owned(),
            None => "world".to_owned(),
        }
    }

    fn endpoint(&self, to: IpAddr, named: bool) -> Endpoint {
        let name = self.name_of(to);
        match name.as_str() {
            "world" if named && places::NOWHERE.map(address).contains(&to) => Endpoint::World,
            "world" | "host" => Endpoint::Address(to),
            _ if !named => Endpoint::Address(to),
            // by name, its main address is meant
            name if self.container(name).and_then(|one| self.another(one)) == Some(to) => {
                Endpoint::Address(to)
            }
            name => match name.parse() {
                Ok(name) => Endpoint::Container(name),
                Err(_) => Endpoint::Address(to),
            },
        }
    }

    /// Where a host port leads, if anywhere.
    fn door(&self, question: &Question) -> Option<Door> {
        let Traffic::Port(proto, port) = question.traffic else {
            return None;
        };
        // Loopback is for the host alone.
        if question.to.is_loopback() && question.from != "host" {
            return None;
        }
        let zone_of = |container: &Container| self.world.zones.get(&container.zone);
        let containers = self.world.containers.values();
        let mut doors = containers
            .filter(|container| zone_of(container).is_some_and(|zone| !zone.internal))
            .flat_map(|container| container.publish.iter().map(move |p| (container, p)));
        let family = |container: &Container| match question.to {
            // To a container without IPv6 it is forwarded in user space, by IPv4.
            to if self.own_address(container, Family::of(to)).is_some() => Some(Family::of(to)),
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(Family::V4),
            _ => None,
        };
        let (container, publish) = doors.find(|(container, publish)| {
            let Publish { first, last, .. } = publish;
            publish.proto == proto
                && (*first..=*last).contains(&port)
                && publish.address.is_none_or(|only| only == question.to)
                && family(container).is_some()
        })?;
        Some(Door {
            server: container.name.clone(),
            traffic: Traffic::Port(proto, publish.port + (port - publish.first)),
            family: family(container)?,
        })
    }
}

/// Where a published port leads.
struct Door {
    server: PortName,
    traffic: Traffic,
    family: Family,
}
