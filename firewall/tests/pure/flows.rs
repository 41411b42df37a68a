//! What a flow looks like to the chains.

use std::net::IpAddr;

use firewall::model::{Container, Endpoint, Flow, Traffic, World};
use firewall::sets::Family;

use super::kernel::{Hook, Packet};
use super::worlds::{WORLD, WORLD6};

fn in_family(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses.iter().copied().find(|a| Family::of(*a) == family)
}

/// The addresses of a container that lie in its zone.
pub fn held(world: &World, container: &Container) -> Vec<IpAddr> {
    let Some(zone) = world.zones.get(&container.zone) else {
        return Vec::new();
    };
    let inside = |address: &IpAddr| match address {
        IpAddr::V4(a) => zone.subnet4.is_some_and(|net| net.contains(a)),
        IpAddr::V6(a) => zone.subnet6.is_some_and(|net| net.contains(a)),
    };
    container.addresses.iter().copied().filter(inside).collect()
}

/// Whether an address is a container's: in the prefix of one of its own where the zone is wide, but beside the gateway.
fn holds(world: &World, container: &Container, address: IpAddr) -> bool {
    let subnet = world.zones.get(&container.zone).and_then(|z| z.subnet6);
    let half = |a: IpAddr| match a {
        IpAddr::V6(a) => u128::from(a) >> 64,
        IpAddr::V4(_) => 0,
    };
    let wide = |own: IpAddr| {
        subnet.is_some_and(|net| {
            net.prefix_len() <= 56 && u128::from(net.network()) >> 64 != half(own)
        })
    };
    let same = |own: &IpAddr| {
        *own == address
            || own.is_ipv6() && address.is_ipv6() && wide(*own) && half(*own) == half(address)
    };
    held(world, container).iter().any(same)
}

fn container<'a>(world: &'a World, endpoint: &Endpoint) -> Option<&'a Container> {
    match endpoint {
        Endpoint::Container(name) => world.containers.get(name),
        Endpoint::Address(a) => world.containers.values().find(|c| holds(world, c, *a)),
        _ => None,
    }
}

fn gateways(world: &World, zone: &str) -> Vec<IpAddr> {
    let zone = world.zones.get(zone);
    let gateways = zone.map(|z| [z.gateway4.map(IpAddr::V4), z.gateway6.map(IpAddr::V6)]);
    gateways.into_iter().flatten().flatten().collect()
}

/// The address of an endpoint, if it can have one in this family.
fn address(world: &World, endpoint: &Endpoint, other: &Endpoint, family: Family) -> Option<IpAddr> {
    match endpoint {
        Endpoint::Container(_) => in_family(&held(world, container(world, endpoint)?), family),
        Endpoint::Address(a) => (Family::of(*a) == family).then_some(*a),
        Endpoint::World => Some(match family {
            Family::V4 => WORLD.parse().unwrap(),
            Family::V6 => WORLD6.parse().unwrap(),
        }),
        Endpoint::Host => {
            let other = container(world, other);
            let gateways = other
                .map(|c| gateways(world, c.zone.as_str()))
                .unwrap_or_default();
            in_family(&gateways, family).or_else(|| in_family(&world.host, family))
        }
    }
}

fn is_host(world: &World, address: IpAddr) -> bool {
    world.host.contains(&address)
        || address.is_loopback()
        || world
            .zones
            .keys()
            .any(|zone| gateways(world, zone.as_str()).contains(&address))
}

/// Packets to a group end at the host.
fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_multicast() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_multicast(),
    }
}

/// The packet that opens a flow, if there is such a packet.
pub fn packet(world: &World, flow: &Flow) -> Option<Packet> {
    let client = address(world, &flow.from, &flow.to, flow.family)?;
    let server = address(world, &flow.to, &flow.from, flow.family)?;
    let (proto, port) = match (flow.traffic, flow.family) {
        (Traffic::Port(proto, port), _) => (proto, port),
        (Traffic::Proto(proto), _) => (proto, 0),
        (Traffic::Icmp(kind), Family::V4) => (1, u16::from(kind) << 8),
        (Traffic::Icmp(8), Family::V6) => (58, 128 << 8),
        (Traffic::Icmp(0), Family::V6) => (58, 129 << 8),
        (Traffic::Icmp(_), Family::V6) => return None,
    };
    let hook = if is_host(world, client) {
        Hook::Output
    } else if is_host(world, server) || is_group(server) {
        Hook::Input
    } else {
        Hook::Forward
    };
    let zone = container(world, &Endpoint::Address(client)).map(|c| c.zone.as_str());
    Some(Packet {
        client,
        server,
        proto,
        port,
        hook,
        dnat: flow.published,
        own_gateway: zone.is_some_and(|zone| gateways(world, zone).contains(&server)),
    })
}
