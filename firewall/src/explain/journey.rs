//! The way of a connection's packets through the host's hooks, for [`super::foreign`].

use std::net::IpAddr;

use super::Way;
use super::foreign::{Addr, Head, Hook, Journey, Layer, Link, Packet, Passage, Turn};
use super::steps::Route;
use crate::model::{Container, Traffic, World};
use crate::oracle::{self, Party, Who};
use crate::sets::Family;
use crate::skeleton::{GUARDED, JUDGED};

/// One end of a connection, as the hooks meet it.
struct End {
    /// The interface by which packets come from it and go to it; none for the host itself.
    link: Option<Link>,
    /// Its port on the bridge.
    port: Option<Link>,
    address: Addr,
}

/// The packets of a connection, each with its way. `seen` is the source as the server sees it.
pub(super) fn journeys(
    world: &World,
    route: &Route,
    (from, to): (Party<'_>, Party<'_>),
    seen: Option<IpAddr>,
    way: Option<&Way>,
) -> Vec<Journey> {
    let (client, server) = (end(world, from, way), end(world, to, way));
    let (sport, dport, proto, icmp) = ports(route);
    let (asked, asked_port) = match route.entrance {
        Some((address, port)) => (Addr::Is(address), Some(port)),
        None => (server.address, dport),
    };
    let seen = seen.map_or(client.address, Addr::Is);
    let head = |src, dst, sport, dport| Head {
        src,
        dst,
        sport,
        dport,
    };
    // the same connection: as it is written, as it is forwarded, as it arrives
    let written = head(client.address, asked, sport, asked_port);
    let forwarded = head(client.address, server.address, sport, dport);
    let arrives = head(seen, server.address, sport, dport);
    let turned = |h: &Head| head(h.dst, h.src, h.dport, h.sport);
    let mut local = world.host.clone();
    for zone in world.zones.values() {
        local.extend(zone.gateway4.map(IpAddr::V4));
        local.extend(zone.gateway6.map(IpAddr::V6));
    }
    let packet = |turn, icmp| Packet {
        turn,
        family: route.flow.family,
        proto,
        icmp,
        original: written.clone(),
        reply: turned(&arrives),
        dnat: route.entrance.is_some(),
        snat: seen != client.address,
        local: local.clone(),
    };
    let there = |turn| Journey {
        packet: packet(turn, icmp),
        passages: passages(
            &client,
            &server,
            [&written, &forwarded, &arrives],
            route.entrance.is_some(),
        ),
    };
    let mut journeys = vec![there(Turn::First)];
    if let Some(answer) = answer_type(icmp, route.flow.family) {
        journeys.push(Journey {
            packet: packet(Turn::Answer, answer),
            passages: passages(
                &server,
                &client,
                [&turned(&arrives), &turned(&forwarded), &turned(&written)],
                false,
            ),
        });
        journeys.push(there(Turn::Next));
    }
    journeys
}

/// `[came, went, left]`: the header on arrival, between the translations, and when it leaves.
fn passages(from: &End, to: &End, heads: [&Head; 3], rerouted: bool) -> Vec<Passage> {
    let [came, between, left] = heads.map(Clone::clone);
    let at = |layer, hook, iif: &Option<Link>, oif: &Option<Link>, before: &Head, after: &Head| {
        Passage {
            layer,
            hook,
            iif: iif.clone(),
            oif: oif.clone(),
            before: before.clone(),
            after: after.clone(),
            marks: marks(from, to, hook),
        }
    };
    let mut way = Vec::new();
    let none = None;
    let ip = Layer::Ip;
    if from.port.is_some() {
        for hook in [Hook::Prerouting, Hook::Input] {
            way.push(at(Layer::Bridge, hook, &from.port, &none, &came, &came));
        }
    }
    match (&from.link, &to.link) {
        (None, _) => {
            // after destination translation the interface is still that of the first lookup
            let oif = if rerouted {
                Some(Link::unknown())
            } else {
                to.link.clone()
            };
            way.push(at(ip, Hook::Output, &none, &oif, &came, &between));
        }
        (Some(_), None) => {
            way.push(at(ip, Hook::Prerouting, &from.link, &none, &came, &between));
            way.push(at(ip, Hook::Input, &from.link, &none, &between, &left));
        }
        (Some(_), Some(_)) => {
            way.push(at(ip, Hook::Prerouting, &from.link, &none, &came, &between));
            way.push(at(
                ip,
                Hook::Forward,
                &from.link,
                &to.link,
                &between,
                &between,
            ));
        }
    }
    if to.link.is_some() {
        let iif = &from.link;
        way.push(at(ip, Hook::Postrouting, iif, &to.link, &between, &left));
    }
    if to.port.is_some() {
        for hook in [Hook::Output, Hook::Postrouting] {
            way.push(at(Layer::Bridge, hook, &none, &to.port, &left, &left));
        }
    }
    way
}

/// Marks that netd gives packets; whether its chain or another comes first at a hook is not known.
fn marks(from: &End, to: &End, hook: Hook) -> Vec<u32> {
    let came = if from.port.is_some() { GUARDED } else { 0 };
    let judged = if to.port.is_some() || from.port.is_some() {
        JUDGED
    } else {
        0
    };
    match hook {
        Hook::Prerouting => vec![came],
        // on the layer of bridges this is before the host took it up
        Hook::Input => vec![came, 0],
        Hook::Forward | Hook::Output => vec![came, judged],
        Hook::Postrouting => vec![judged],
    }
}

fn end(world: &World, party: Party<'_>, way: Option<&Way>) -> End {
    let address = party.address.map_or(Addr::Unnamed, Addr::Is);
    match party.who {
        Who::Container(container) => End {
            link: bridge(world, container),
            port: Some(Link {
                name: Some(container.name.host_ifname().to_string()),
                index: (container.ifindex != 0).then_some(container.ifindex),
                kind: Some("veth"),
            }),
            address,
        },
        // what is sent to many ends at the host
        _ if super::is_host(party) || oracle::is_group(party) => End {
            link: None,
            port: None,
            address,
        },
        _ => End {
            link: Some(way.map_or_else(Link::unknown, |way| Link {
                name: Some(way.interface.clone()),
                index: way.index,
                kind: None,
            })),
            port: None,
            address,
        },
    }
}

fn bridge(world: &World, container: &Container) -> Option<Link> {
    let name = world
        .zones
        .get(&container.zone)
        .map(|zone| zone.bridge.to_string());
    Some(Link {
        name,
        index: None,
        kind: Some("bridge"),
    })
}

/// Source port, destination port, protocol and ICMP type in the family's own numbers.
fn ports(route: &Route) -> (Option<u16>, Option<u16>, u8, Option<u8>) {
    match (route.flow.traffic, route.flow.family) {
        (Traffic::Port(proto, port), _) => (None, Some(port), proto, None),
        (Traffic::Proto(proto), _) => (None, None, proto, None),
        (Traffic::Icmp(kind), Family::V4) => (None, None, 1, Some(kind)),
        (Traffic::Icmp(kind), Family::V6) => {
            let kind = crate::policy::icmp_counterpart(kind).unwrap_or(kind);
            (None, None, 58, Some(kind))
        }
    }
}

/// The type of the answer to an ICMP message; the outer `None` where there is no answer.
#[allow(clippy::option_option)]
fn answer_type(icmp: Option<u8>, family: Family) -> Option<Option<u8>> {
    match (icmp, family) {
        (None, _) => Some(None),
        (Some(8), Family::V4) => Some(Some(0)),
        (Some(13), Family::V4) => Some(Some(14)),
        (Some(15), Family::V4) => Some(Some(16)),
        (Some(17), Family::V4) => Some(Some(18)),
        (Some(128), Family::V6) => Some(Some(129)),
        _ => None,
    }
}
