//! Ends of a question that stand for several: a container with several networks has a port in each of its zones.

use firewall::model::{Container, Endpoint, World};
use zone::{PortName, ZoneName};

/// Ways that are asked about at most.
const MOST: usize = 32;

/// One way from one end to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
}

/// The ports that are meant by a container's name, or by `CONTAINER@ZONE`. None when nobody of that name is attached.
pub(super) fn ports(world: &World, name: &str) -> Option<Vec<Endpoint>> {
    let zone = name.split_once('@').map(|(_, zone)| zone);
    let container = name.split('@').next().unwrap_or(name);
    let of = |port: &&Container| zone.is_none_or(|zone| port.zone.as_str() == zone);
    let ports: Vec<Endpoint> = world
        .ports_of(container)
        .filter(of)
        .map(|port| Endpoint::Container(port.name.clone()))
        .collect();
    (!ports.is_empty()).then_some(ports)
}

/// The ways between them, the one that a packet takes first: a container sends by its port in the zone where the other
/// is, and by its first one to all others. To be found by DNS it is asked for in the zone of who asks.
pub(super) fn ways(world: &World, from: &[Endpoint], to: &[Endpoint]) -> Vec<Way> {
    let zones = |ends: &[Endpoint]| -> Vec<Option<ZoneName>> {
        ends.iter().map(|end| zone_of(world, end)).collect()
    };
    let (from_zones, to_zones) = (zones(from), zones(to));
    let mut ways = Vec::new();
    for (f, client) in from.iter().enumerate() {
        for (t, server) in to.iter().enumerate() {
            let same = from_zones[f].is_some() && from_zones[f] == to_zones[t];
            let way = Way {
                from: client.clone(),
                to: server.clone(),
            };
            ways.push((!same, place(client), place(server), way));
        }
    }
    ways.sort_by_key(|(other_zone, from, to, _)| (*other_zone, *from, *to));
    ways.into_iter().map(|(.., way)| way).take(MOST).collect()
}

/// First ports first.
fn place(end: &Endpoint) -> bool {
    matches!(end, Endpoint::Container(name) if !name.is_first())
}

fn zone_of(world: &World, end: &Endpoint) -> Option<ZoneName> {
    match end {
        Endpoint::Container(name) => Some(world.containers.get(name)?.zone.clone()),
        Endpoint::Address(address) => {
            let mut zones = world.zones.values();
            let of = |zone: &&firewall::model::Zone| match address {
                std::net::IpAddr::V4(a) => zone.subnet4.is_some_and(|net| net.contains(a)),
                std::net::IpAddr::V6(a) => zone.subnet6.is_some_and(|net| net.contains(a)),
            };
            zones.find(of).map(|zone| zone.name.clone())
        }
        Endpoint::Host | Endpoint::World => None,
    }
}

/// An end as a path names it.
pub(super) fn text(world: &World, end: &Endpoint, asked: &str) -> String {
    let container = match end {
        Endpoint::Container(name) => world.containers.get(name),
        _ => None,
    };
    match container {
        Some(port) => PortName::of(&port.name.container_name(), &port.zone, 1).to_string(),
        None => asked.to_owned(),
    }
}
