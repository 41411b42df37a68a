//! The slow, obvious answer to the question whether a connection may be opened.
//!
//! Written from the sentences of the design (§2, "A policy") and nothing else: no sets, no numbers, no
//! ranges. Property tests hold the compiled elements to it, stories hold the kernel to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::model::{
    Container, DefaultPolicy, Endpoint, Flow, Publish, Traffic, World, Zone, name_matches,
};
use crate::policy::{Peer, PolicySet, Ports, Rule, has_ports, icmp_counterpart, number};
use crate::sets::{Action, Direction, Family};

/// Who stands at one end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who<'a> {
    /// An attached container.
    Container(&'a Container),
    /// The host itself.
    Host,
    /// Neither a container or zone address, nor the host, loopback, multicast or link-local.
    World,
    /// An address of a zone that nobody has.
    Unused(&'a Zone),
    /// Loopback, multicast, link-local, broadcast, unspecified or reserved.
    Special,
}

/// One end of a flow: who, and by which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party<'a> {
    /// Who.
    pub who: Who<'a>,
    /// The address that networks in rules are compared with. `None`: some address of the world that no
    /// network names, but for those of everything (`0.0.0.0/0`, `::/0`).
    pub address: Option<IpAddr>,
    /// The names for which the gateway's resolver gave this address to the container at the other end.
    pub names: Option<&'a BTreeMap<Box<str>, u64>>,
}

/// Why an endpoint can be no end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoParty {
    /// No such container.
    #[error("{0} is not attached")]
    NotAttached(zone::PortName),
    /// It has no address of the flow's family.
    #[error("{0} has no IPv{1} address")]
    NoAddress(String, u8),
    /// The address is of the other family.
    #[error("{0} is no IPv{1} address")]
    OtherFamily(IpAddr, u8),
}

/// Whether a connection may be opened.
pub fn allows(world: &World, policies: &PolicySet, flow: &Flow) -> bool {
    let (Ok(from), Ok(to)) = (
        party(world, &flow.from, &flow.to, flow.family),
        party(world, &flow.to, &flow.from, flow.family),
    ) else {
        return false;
    };
    if !exists(flow) || stray(from, to) {
        return false;
    }
    let (client, server) = match (from.who, to.who) {
        (Who::Container(client), Who::Container(server)) => (Some(client), Some(server)),
        (Who::Container(client), _) => (Some(client), None),
        (_, Who::Container(server)) => (None, Some(server)),
        // zones are for containers: an unused address answers nobody, and a gateway its zone only
        (_, Who::Unused(_)) => return false,
        (Who::World | Who::Special, Who::Host) if !is_host(from) && at_gateway(world, to) => {
            return false;
        }
        // what neither comes from a container nor goes to one is not netd's business
        _ => return true,
    };
    if let Some(client) = client {
        if gateway_service(world, client, to, flow) {
            return true;
        }
        if !is_group(to) && cut_off(world, client, to) {
            return false;
        }
        if !direction_allows(world, policies, client, Direction::Egress, to, flow) {
            return false;
        }
    }
    if let Some(server) = server {
        if cut_off(world, server, from) {
            return false;
        }
        return open_by_publishing(world, policies, server, from, flow)
            || direction_allows(world, policies, server, Direction::Ingress, from, flow);
    }
    true
}

/// Who an endpoint is. `other` is the other end: the host is met at the gateway of its zone.
///
/// # Errors
/// When nothing can come from or go to such an endpoint in this family.
pub fn party<'a>(
    world: &'a World,
    endpoint: &Endpoint,
    other: &Endpoint,
    family: Family,
) -> Result<Party<'a>, NoParty> {
    let digit = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    match endpoint {
        Endpoint::Container(name) => {
            let container = world.containers.get(name);
            let container = container.ok_or_else(|| NoParty::NotAttached(name.clone()))?;
            let address = world
                .addresses(container)
                .find(|a| Family::of(*a) == family);
            let address = address.ok_or_else(|| NoParty::NoAddress(name.to_string(), digit))?;
            Ok(Party {
                who: Who::Container(container),
                address: Some(address),
                names: None,
            })
        }
        Endpoint::Host => Ok(Party {
            who: Who::Host,
            address: host_address(world, other, family),
            names: None,
        }),
        Endpoint::World => Ok(Party {
            who: Who::World,
            address: None,
            names: None,
        }),
        Endpoint::Address(address) if Family::of(*address) != family => {
            Err(NoParty::OtherFamily(*address, digit))
        }
        Endpoint::Address(address) => Ok(Party {
            who: who(world, *address),
            address: Some(*address),
            names: names(world, other, *address),
        }),
    }
}

/// "Exactly the addresses that our resolver gave this container, and nothing to any other."
fn names<'a>(
    world: &'a World,
    container: &Endpoint,
    address: IpAddr,
) -> Option<&'a BTreeMap<Box<str>, u64>> {
    let name = match container {
        Endpoint::Container(name) => name,
        Endpoint::Address(address) => match who(world, *address) {
            Who::Container(container) => &container.name,
            _ => return None,
        },
        Endpoint::Host | Endpoint::World => return None,
    };
    world.resolved.get(name)?.get(&address)
}

fn gateway(zone: &Zone, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => zone.gateway4.map(IpAddr::V4),
        Family::V6 => zone.gateway6.map(IpAddr::V6),
    }
}

/// The host's address as the other end sees it.
fn host_address(world: &World, other: &Endpoint, family: Family) -> Option<IpAddr> {
    let container = match other {
        Endpoint::Container(name) => world.containers.get(name),
        Endpoint::Address(address) => match who(world, *address) {
            Who::Container(container) => Some(container),
            _ => None,
        },
        _ => None,
    };
    let zone = container.and_then(|c| world.zones.get(&c.zone));
    let gateway = zone.and_then(|zone| gateway(zone, family));
    let own = || {
        world
            .host
            .iter()
            .copied()
            .find(|a| Family::of(*a) == family)
    };
    gateway.or_else(own)
}

/// Who has an address.
fn who(world: &World, address: IpAddr) -> Who<'_> {
    let mut containers = world.containers.values();
    let has = |c: &&Container| {
        // "an address inside a container's prefix is that container"
        world.has(c, address)
    };
    if let Some(container) = containers.find(has) {
        return Who::Container(container);
    }
    let family = Family::of(address);
    let mut zones = world.zones.values();
    let is_gateway = zones.any(|zone| gateway(zone, family) == Some(address));
    if is_gateway || world.host.contains(&address) {
        return Who::Host;
    }
    let mut zones = world.zones.values();
    if let Some(zone) = zones.find(|zone| in_zone(zone, address)) {
        return Who::Unused(zone);
    }
    if special(address) {
        Who::Special
    } else {
        Who::World
    }
}

fn in_zone(zone: &Zone, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => zone.subnet4.is_some_and(|net| net.contains(&a)),
        IpAddr::V6(a) => zone.subnet6.is_some_and(|net| net.contains(&a)),
    }
}

/// Loopback, multicast, link-local, and what is nobody's address at all (RFC 6890).
fn special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            a.is_loopback() || a.is_link_local() || a.octets()[0] == 0 || a.octets()[0] >= 224
        }
        IpAddr::V6(a) => {
            a.is_loopback() || a.is_unspecified() || a.is_unicast_link_local() || a.is_multicast()
        }
    }
}

/// Whether there is such traffic: a protocol with ports has ports, and IPv6 has a counterpart of an ICMP
/// type or not.
fn exists(flow: &Flow) -> bool {
    match flow.traffic {
        Traffic::Port(proto, _) => has_ports(proto),
        Traffic::Icmp(kind) => flow.family == Family::V4 || icmp_counterpart(kind).is_some(),
        Traffic::Proto(proto) => !has_ports(proto) && !matches!(proto, 1 | 58),
    }
}

/// Whether a packet is where it cannot be: from an address of a zone that nobody has, or to loopback, which
/// never leaves a container.
fn stray(from: Party<'_>, to: Party<'_>) -> bool {
    let loopback = to.address.is_some_and(|address| address.is_loopback());
    matches!(from.who, Who::Unused(_)) || loopback
}

/// Whether something is sent to many: such packets end at the host and are never forwarded.
pub(crate) fn is_group(to: Party<'_>) -> bool {
    to.address.is_some_and(|address| match address {
        IpAddr::V4(a) => a.is_multicast() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_multicast(),
    })
}

/// "`--internal`: no path to or from `world`, other zones and the host as policy says."
fn cut_off(world: &World, container: &Container, other: Party<'_>) -> bool {
    let zone = world.zones.get(&container.zone);
    let internal = zone.is_some_and(|zone| zone.internal);
    internal && !is_host(other) && !matches!(other.who, Who::Container(_))
}

/// The host, which also speaks from loopback when a port is published there.
fn is_host(party: Party<'_>) -> bool {
    let loopback = party.address.is_some_and(|address| address.is_loopback());
    party.who == Who::Host || loopback
}

/// Whether the host is addressed as a zone's gateway.
pub(crate) fn at_gateway(world: &World, to: Party<'_>) -> bool {
    let mut zones = world.zones.values();
    to.address.is_some_and(|address| {
        zones.any(|zone| gateway(zone, Family::of(address)) == Some(address))
    })
}

/// "Whatever policy says, a container can always reach its zone's DHCP server, the gateway's resolver and
/// the gateway by ICMP echo."
fn gateway_service(world: &World, client: &Container, to: Party<'_>, flow: &Flow) -> bool {
    let zone = world.zones.get(&client.zone);
    let gateway = zone.and_then(|zone| gateway(zone, flow.family));
    let everybody = Some(IpAddr::V4(Ipv4Addr::BROADCAST));
    match flow.traffic {
        Traffic::Port(6 | 17, 53) | Traffic::Icmp(8) => gateway.is_some() && to.address == gateway,
        Traffic::Port(17, 67) if flow.family == Family::V4 => {
            gateway.is_some() && (to.address == gateway || to.address == everybody)
        }
        _ => false,
    }
}

/// "If no applying file mentions ingress, connections that came through the published port are open to
/// `world` and `host` (in any zone default)."
fn open_by_publishing(
    world: &World,
    policies: &PolicySet,
    server: &Container,
    from: Party<'_>,
    flow: &Flow,
) -> bool {
    flow.published
        && may_be_published(world, server, from, flow)
        && policies.applying(server).all(|file| file.ingress.is_none())
}

/// Whether something may have come through a published port: where it does not end at a container's
/// published port, or does not come from outside, it did not.
pub(crate) fn may_be_published(
    world: &World,
    server: &Container,
    from: Party<'_>,
    flow: &Flow,
) -> bool {
    let zone = world.zones.get(&server.zone);
    let through = |publish: &Publish| {
        let offset = |port: u16| port.checked_sub(publish.port);
        let in_range = |offset: u16| offset <= publish.last.saturating_sub(publish.first);
        let family = publish.address.is_none_or(|a| Family::of(a) == flow.family);
        matches!(flow.traffic, Traffic::Port(proto, port)
            if family && proto == publish.proto && offset(port).is_some_and(in_range))
    };
    zone.is_some_and(|zone| !zone.internal)
        && (is_host(from) || from.who == Who::World)
        && server.publish.iter().any(through)
        && is_first_address(world, server, &flow.to)
}

/// A published port leads to the first address of a family.
fn is_first_address(world: &World, server: &Container, to: &Endpoint) -> bool {
    match to {
        Endpoint::Address(address) => {
            let family = Family::of(*address);
            world.addresses(server).find(|a| Family::of(*a) == family) == Some(*address)
        }
        _ => true,
    }
}

/// "A packet passes if some rule allows it and no rule denies it. A direction that some applying file
/// mentions is closed but for what is allowed. A direction that none mentions follows the default."
fn direction_allows(
    world: &World,
    policies: &PolicySet,
    owner: &Container,
    direction: Direction,
    peer: Party<'_>,
    flow: &Flow,
) -> bool {
    let sections: Vec<_> = policies
        .applying(owner)
        .filter_map(|file| file.section(direction))
        .collect();
    if sections.is_empty() {
        return default_allows(world, owner, direction, peer);
    }
    let rules = sections.iter().flat_map(|section| &section.rules);
    let matching: Vec<&Rule> = number(rules.map(|rule| ((), rule)))
        .filter(|(_, rule, counts)| counts.at(rule, world.clock))
        .map(|(_, rule, _)| rule)
        .filter(|rule| rule_matches(rule, peer, flow))
        .collect();
    matching.iter().any(|rule| rule.action == Action::Allow)
        && matching.iter().all(|rule| rule.action != Action::Deny)
}

/// "`egress` (out to `world`, nothing else, nothing in), `deny` (nothing), `allow` (everything but other
/// zones)."
pub(crate) fn default_allows(
    world: &World,
    owner: &Container,
    direction: Direction,
    peer: Party<'_>,
) -> bool {
    let Some(zone) = world.zones.get(&owner.zone) else {
        return false;
    };
    match zone.default {
        DefaultPolicy::Deny => false,
        DefaultPolicy::Egress => direction == Direction::Egress && peer.who == Who::World,
        DefaultPolicy::Allow => match peer.who {
            Who::Container(container) => container.zone == owner.zone,
            Who::World => true,
            _ => is_host(peer),
        },
    }
}

/// Whether a rule is about a flow, whenever it counts.
pub(crate) fn rule_matches(rule: &Rule, peer: Party<'_>, flow: &Flow) -> bool {
    let ports = match &rule.ports {
        None => true,
        Some(ports) => ports.iter().any(|ports| ports_match(*ports, flow)),
    };
    ports
        && rule
            .peers
            .iter()
            .any(|wanted| peer_matches(wanted, peer, flow.family))
}

/// Whether an entry of `from` or `to` means somebody.
pub(crate) fn peer_matches(wanted: &Peer, peer: Party<'_>, family: Family) -> bool {
    let container = match peer.who {
        Who::Container(container) => Some(container),
        _ => None,
    };
    match wanted {
        Peer::Container(name) => container.is_some_and(|c| c.name.container() == name.as_str()),
        Peer::Zone(zone) => container.is_some_and(|c| c.zone == *zone),
        Peer::Label(key, value) => container.is_some_and(|c| c.labels.get(key) == Some(value)),
        Peer::Host => is_host(peer),
        Peer::World => peer.who == Who::World,
        Peer::Any => container.is_some() || is_host(peer) || peer.who == Who::World,
        Peer::Net(net) => network_matches(net, peer, family),
        // "An answer never opens anything but `world` addresses."
        Peer::Dns(pattern) => {
            let mut names = peer.names.into_iter().flat_map(BTreeMap::keys);
            peer.who == Who::World && names.any(|name| name_matches(pattern, name))
        }
    }
}

/// "A CIDR matches by address, whatever stands behind it."
fn network_matches(net: &IpNet, peer: Party<'_>, family: Family) -> bool {
    match peer.address {
        Some(address) => net.contains(&address),
        None => Family::of(net.addr()) == family && peer.who == Who::World && net.prefix_len() == 0,
    }
}

fn ports_match(wanted: Ports, flow: &Flow) -> bool {
    match (wanted, flow.traffic) {
        (Ports::Range { proto, first, last }, Traffic::Port(p, port)) => {
            proto == p && (first..=last).contains(&port)
        }
        (Ports::Proto(proto), Traffic::Port(p, _) | Traffic::Proto(p)) => proto == p,
        (Ports::Icmp(wanted), Traffic::Icmp(kind)) => wanted == kind,
        (Ports::EveryIcmp, Traffic::Icmp(_)) => true,
        _ => false,
    }
}
