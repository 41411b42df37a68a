//! Questions: every pair, family and boundary of ports, direct and through published ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use firewall::model::{Container, Publish, Traffic};
use firewall::policy::Ports;
use firewall::sets::{Direction, Family};

use super::places::{self, address};
use super::{Dice, Scene};

/// What kind of path a question takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Two containers of one zone.
    SameZone,
    /// Two containers of two zones.
    CrossZone,
    /// A container to the world.
    Out,
    /// The world to a container's own address.
    In,
    /// A container to the host, or the host to a container.
    Host,
    /// Anybody through a port that the host publishes.
    Published,
    /// Past the zones: the world to the host.
    Beside,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::SameZone,
        Self::CrossZone,
        Self::Out,
        Self::In,
        Self::Host,
        Self::Published,
        Self::Beside,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::SameZone => "same zone",
            Self::CrossZone => "cross zone",
            Self::Out => "container to world",
            Self::In => "world to container",
            Self::Host => "container and host",
            Self::Published => "published",
            Self::Beside => "world to host",
        }
    }
}

/// What is sent by whom to which address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// In whose namespace: a container's name, `host`, or `world`.
    pub from: String,
    /// By which of its addresses; the world has several, and so has a container with a prefix.
    pub source: Option<IpAddr>,
    /// To which address.
    pub to: IpAddr,
    /// With what, as the client sends it.
    pub traffic: Traffic,
    /// Whether explain and oracle are asked by name, where there is one, rather than by address.
    pub named: bool,
}

impl Question {
    /// The protocol's name and port.
    pub fn carries(&self) -> String {
        said(self.traffic)
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            from, source, to, ..
        } = self;
        write!(f, "{from}")?;
        if let Some(source) = source {
            write!(f, " ({source})")?;
        }
        write!(f, " to {to} {}", self.carries())
    }
}

/// Traffic as `netd explain` takes it.
pub fn said(traffic: Traffic) -> String {
    match traffic {
        Traffic::Port(6, port) => format!("tcp/{port}"),
        Traffic::Port(17, port) => format!("udp/{port}"),
        Traffic::Port(proto, port) => format!("proto-{proto}/{port}"),
        Traffic::Icmp(kind) => format!("icmp/{kind}"),
        Traffic::Proto(proto) => format!("proto/{proto}"),
    }
}

/// Every question about a scene, in an order of chance.
pub fn all(scene: &Scene, dice: &mut Dice) -> Vec<Question> {
    let mut questions = Vec::new();
    for (from, source) in speakers(scene) {
        let client = scene.container(&from);
        for to in targets(scene, &from, source) {
            let server = scene.world.containers.values();
            let server = server.into_iter().find(|one| scene.world.has(one, to));
            let another = server.is_some_and(|one| !one.addresses.contains(&to));
            for traffic in boundaries(scene, client, server, to) {
                let bare = matches!(traffic, Traffic::Proto(_));
                if bare && !bare_makes_sense(scene, client, source, to) {
                    continue;
                }
                // Whoever answers by UDP does so from its main address.
                if another && matches!(traffic, Traffic::Port(17, _)) {
                    continue;
                }
                // One pair of addresses has one connection without ports; the main ones have it.
                if bare && (another || client.is_some() && source.is_some()) {
                    continue;
                }
                questions.push(Question {
                    from: from.clone(),
                    source,
                    to,
                    traffic,
                    named: dice.chance(70),
                });
            }
        }
        for (to, traffic) in doors(scene, &from, source) {
            questions.push(Question {
                from: from.clone(),
                source,
                to,
                traffic,
                named: dice.chance(70),
            });
        }
    }
    let most = questions.len();
    dice.some(questions, most)
}

/// So many of them, of every kind as many as there are, up to its share; what is left over is shared again.
pub fn some(scene: &Scene, dice: &mut Dice, most: usize) -> Vec<Question> {
    let mut kinds: BTreeMap<Kind, Vec<Question>> = BTreeMap::new();
    for question in all(scene, dice) {
        if let Some(judged) = scene.judged(&question) {
            kinds.entry(judged.kind).or_default().push(question);
        }
    }
    let mut chosen = Vec::new();
    while chosen.len() < most && !kinds.is_empty() {
        for questions in kinds.values_mut() {
            chosen.extend(questions.pop());
        }
        kinds.retain(|_, questions| !questions.is_empty());
    }
    chosen.truncate(most);
    chosen
}

/// Who asks, and by which address.
fn speakers(scene: &Scene) -> Vec<(String, Option<IpAddr>)> {
    let containers = scene.world.containers.keys();
    let mut speakers: Vec<_> = containers.map(|name| (name.to_string(), None)).collect();
    let containers = scene.world.containers.values();
    speakers.extend(containers.filter_map(|container| {
        let another = scene.another(container)?;
        Some((container.name.to_string(), Some(another)))
    }));
    speakers.push(("host".to_owned(), None));
    let addresses = places::WORLD.map(address);
    speakers.extend(addresses.map(|source| ("world".to_owned(), Some(source))));
    speakers
}

/// Whom somebody asks directly.
fn targets(scene: &Scene, from: &str, source: Option<IpAddr>) -> Vec<IpAddr> {
    let others = scene.world.containers.values();
    let others = others.filter(|other| other.name.as_str() != from);
    let mut targets: Vec<IpAddr> = others
        .flat_map(|other| scene.world.addresses(other).chain(scene.another(other)))
        .collect();
    if from != "host" {
        targets.extend(scene.gateways());
        targets.extend(places::HOST.map(address));
    }
    if scene.container(from).is_some() {
        targets.extend(places::WORLD.map(address));
        targets.push(address(places::METADATA));
    }
    let of_family = |to: &IpAddr| match (source, scene.container(from)) {
        (Some(source), _) => source.is_ipv4() == to.is_ipv4(),
        (None, Some(client)) => scene.own_address(client, Family::of(*to)).is_some(),
        (None, None) => true,
    };
    targets.retain(of_family);
    targets
}

/// What one asks another: both sides of every boundary in the rules of the two, and what is always asked.
fn boundaries(
    scene: &Scene,
    client: Option<&Container>,
    server: Option<&Container>,
    to: IpAddr,
) -> Vec<Traffic> {
    let mut asked = vec![
        Traffic::Port(6, 80),
        Traffic::Port(17, 53),
        Traffic::Icmp(8),
    ];
    let sides = [(client, Direction::Egress), (server, Direction::Ingress)];
    for (owner, direction) in sides {
        let files = owner
            .into_iter()
            .flat_map(|owner| scene.policies.applying(owner));
        let sections = files.filter_map(|file| file.section(direction));
        let rules = sections.flat_map(|section| &section.rules);
        for ports in rules.flat_map(|rule| rule.ports.iter().flatten()) {
            match *ports {
                Ports::Range { proto, first, last } => {
                    for port in [first.saturating_sub(1), first, last, last.saturating_add(1)] {
                        asked.push(Traffic::Port(proto, port));
                    }
                }
                Ports::Proto(6) => asked.extend([Traffic::Port(6, 1), Traffic::Port(6, 65535)]),
                Ports::Proto(17) => asked.extend([Traffic::Port(17, 1), Traffic::Port(17, 65535)]),
                Ports::Proto(proto) => asked.push(Traffic::Proto(proto)),
                Ports::Icmp(kind) => asked.push(Traffic::Icmp(kind)),
                Ports::EveryIcmp => asked.push(Traffic::Icmp(13)),
            }
        }
    }
    asked.retain(|asked| match *asked {
        Traffic::Port(6, port) => places::TCP.contains(&port),
        Traffic::Port(17, port) => places::UDP.contains(&port),
        Traffic::Icmp(kind) => kind == 8 || kind == 13 && to.is_ipv4(),
        Traffic::Proto(proto) => proto == places::BARE,
        Traffic::Port(..) => false,
    });
    let mut once = Vec::new();
    for traffic in asked {
        if !once.contains(&traffic) {
            once.push(traffic);
        }
    }
    once
}

/// Without ports, two addresses have one connection only: what the other side sends is its reply. And behind one
/// address of the host, only one container can have one with an address of the world. So each pair is asked in one
/// direction, and each address of the world by one container.
fn bare_makes_sense(
    scene: &Scene,
    client: Option<&Container>,
    source: Option<IpAddr>,
    to: IpAddr,
) -> bool {
    let family = Family::of(to);
    let from = match (client, source) {
        (Some(client), _) => scene.own_address(client, family),
        (None, Some(source)) => Some(source),
        (None, None) => scene.gateways().find(|own| Family::of(*own) == family),
    };
    let Some(from) = from else {
        return false;
    };
    let world = places::WORLD.map(address);
    if let (Some(client), Some(place)) = (client, world.iter().position(|own| *own == to)) {
        // Of `c2` the third address, whoever else comes and goes.
        let own = client.name.as_str().trim_start_matches('c').parse().ok();
        if own != Some(place / 2) {
            return false;
        }
    }
    let last = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    let even = (u16::from(last(from)) + u16::from(last(to))).is_multiple_of(2);
    even == (last(from) < last(to))
}

/// Ports of the host: those published, and those beside them.
fn doors(scene: &Scene, from: &str, source: Option<IpAddr>) -> Vec<(IpAddr, Traffic)> {
    let published = scene.world.containers.values();
    let published = published.flat_map(|container| container.publish.iter());
    let mut doors = Vec::new();
    for publish in published {
        let Publish {
            proto, first, last, ..
        } = publish;
        let ports = BTreeSet::from([first - 1, *first, *last, last + 1]);
        for to in door_addresses(scene, from, source) {
            for port in &ports {
                let door = (to, Traffic::Port(*proto, *port));
                if !doors.contains(&door) {
                    doors.push(door);
                }
            }
        }
    }
    doors
}

/// The host's addresses as somebody may call them.
fn door_addresses(scene: &Scene, from: &str, source: Option<IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = places::HOST.map(address).to_vec();
    match scene.container(from) {
        Some(client) => {
            let zone = scene.world.zones.get(&client.zone);
            addresses.extend(zone.and_then(|zone| zone.gateway4).map(IpAddr::V4));
            addresses.extend(zone.and_then(|zone| zone.gateway6).map(IpAddr::V6));
            addresses.retain(|to| scene.own_address(client, Family::of(*to)).is_some());
            addresses.retain(|to| source.is_none_or(|s| s.is_ipv4() == to.is_ipv4()));
        }
        None if from == "host" => addresses.extend(["127.0.0.1", "::1"].map(address)),
        None => addresses.retain(|to| source.is_some_and(|s| s.is_ipv4() == to.is_ipv4())),
    }
    addresses
}
