//! Routes to the prefixes of containers, and the neighbours they go by.
//!
//! They are of the bridge and not of the port: they do not go with the container's link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::encode;
use super::error::LinkError;
use super::links::Links;
use super::wire::{attributes, u16_at, u32_at};
use crate::name::{IfName, MacAddr};

// linux/rtnetlink.h, linux/neighbour.h
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NDA_DST: u16 = 1;
const NUD_PERMANENT: u16 = 0x80;

/// Prefixes by the hardware address of the container that they lead to.
pub type Ways = BTreeMap<MacAddr, BTreeSet<Ipv6Net>>;

impl Links {
    /// Leads prefixes to a container. Those that do already still do.
    ///
    /// # Errors
    /// There is no such bridge, or the kernel refuses.
    pub fn add_ways(
        &mut self,
        bridge: &IfName,
        mac: MacAddr,
        prefixes: &[Ipv6Net],
    ) -> Result<(), LinkError> {
        let index = self.host.index_of(bridge.as_str());
        let index = index.map_err(|_| LinkError::NoBridge {
            name: bridge.clone(),
        })?;
        self.lead(bridge, index, mac, prefixes)
    }

    /// Leads prefixes to a container no more; with `all`, nothing leads to it. What is gone is gone.
    pub fn remove_ways(&mut self, ifindex: u32, mac: MacAddr, prefixes: &[Ipv6Net], all: bool) {
        let routes = prefixes
            .iter()
            .map(|prefix| encode::delete_prefix_route(ifindex, mac, *prefix));
        let neighbour = all.then(|| encode::delete_neighbour(ifindex, mac.link_local().into()));
        let requests: Vec<_> = routes.chain(neighbour).collect();
        if !prefixes.is_empty() {
            // went with the bridge, or was taken by somebody else: what counts is that it is not there
            let _ = self.host.batch(requests);
        }
    }

    /// Which of these prefixes no route leads to a container.
    ///
    /// # Errors
    /// The kernel does not tell what there is.
    pub fn missing_ways(
        &mut self,
        ifindex: u32,
        mac: MacAddr,
        prefixes: &[Ipv6Net],
    ) -> Result<Vec<Ipv6Net>, LinkError> {
        let mut missing = Vec::new();
        for prefix in prefixes {
            // looked up, as there may be thousands of others
            let mut message = RouteMessage::default();
            message.header.address_family = AddressFamily::Inet6;
            message.header.destination_prefix_length = 128;
            message.header.flags = RouteFlags::FibMatch;
            let first = RouteAddress::Inet6(prefix.network());
            message.attributes.push(RouteAttribute::Destination(first));
            let found = self
                .host
                .ask(RouteNetlinkMessage::GetRoute(message), route)
                .map_err(|source| {
                    LinkError::kernel(format!("look for the route to {prefix}"), source)
                })?;
            let leads = |way: Way| (way.ifindex, way.mac, way.prefix) == (ifindex, mac, *prefix);
            if !found.is_some_and(leads) {
                missing.push(*prefix);
            }
        }
        Ok(missing)
    }

    /// Removes what leads to prefixes on a bridge and should not: what is left of containers that went while nobody
    /// looked. Returns what is missing.
    ///
    /// # Errors
    /// The kernel does not tell what there is.
    pub fn sweep_ways(&mut self, ifindex: u32, wanted: &Ways) -> Result<Ways, LinkError> {
        let failed = |error: super::socket::DumpError| error.of("list routes to prefixes");
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        let get = RouteNetlinkMessage::GetRoute(message);
        let routes = self.host.dump(get, route).map_err(failed)?;
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet6;
        let get = RouteNetlinkMessage::GetNeighbour(message);
        let neighbours = self.host.dump(get, neighbour).map_err(failed)?;
        let mut missing = wanted.clone();
        let mut requests = Vec::new();
        for way in routes.into_iter().filter(|way| way.ifindex == ifindex) {
            let wants = wanted
                .get(&way.mac)
                .is_some_and(|p| p.contains(&way.prefix));
            if !wants {
                requests.push(encode::delete_prefix_route(ifindex, way.mac, way.prefix));
            } else if let Some(prefixes) = missing.get_mut(&way.mac) {
                prefixes.remove(&way.prefix);
            }
        }
        let mut known = BTreeSet::new();
        for (at, mac) in neighbours {
            if at == ifindex && wanted.contains_key(&mac) {
                known.insert(mac);
            } else if at == ifindex {
                requests.push(encode::delete_neighbour(ifindex, mac.link_local().into()));
            }
        }
        if !requests.is_empty() {
            // what is gone meanwhile is gone
            let _ = self.host.batch(requests);
        }
        missing.retain(|mac, prefixes| !prefixes.is_empty() || !known.contains(mac));
        // without the neighbour its routes are put there again as well
        for (mac, prefixes) in &mut missing {
            if !known.contains(mac) {
                prefixes.extend(wanted.get(mac).into_iter().flatten());
            }
        }
        Ok(missing)
    }
}

struct Way {
    ifindex: u32,
    mac: MacAddr,
    prefix: Ipv6Net,
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(<[u8; 16]>::try_from(bytes).ok()?.into())
}

/// A route of ours, from `struct rtmsg` and its attributes.
fn route(payload: &[u8]) -> Option<Way> {
    let (&family, &length, &protocol) = (payload.first()?, payload.get(1)?, payload.get(5)?);
    if i32::from(family) != libc::AF_INET6 || protocol != encode::ROUTES {
        return None;
    }
    let (mut destination, mut gateway, mut ifindex) = (None, None, 0);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            RTA_DST => destination = address(value),
            RTA_GATEWAY => gateway = address(value),
            RTA_OIF => ifindex = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(Way {
        ifindex,
        mac: MacAddr::of_link_local(gateway?)?,
        prefix: Ipv6Net::new(destination?, length).ok()?,
    })
}

/// Link and hardware address of a permanent neighbour by which prefixes may be reached, from `struct ndmsg` and its
/// attributes.
fn neighbour(payload: &[u8]) -> Option<(u32, MacAddr)> {
    match u16_at(payload, 8)? & NUD_PERMANENT {
        0 => None,
        _ => link_local(payload),
    }
}

/// The same, whatever its state: one that is deleted is not permanent any more when the news are told.
fn link_local(payload: &[u8]) -> Option<(u32, MacAddr)> {
    let (family, index) = (i32::from(*payload.first()?), u32_at(payload, 4)?);
    if family != libc::AF_INET6 {
        return None;
    }
    let (_, bytes) = attributes(payload.get(12..)?).find(|(kind, _)| *kind == NDA_DST)?;
    Some((index, MacAddr::of_link_local(address(bytes)?)?))
}

/// What led to somebody and is gone, by news of a route or neighbour: bridge and hardware address.
pub(super) fn lost(payload: &[u8], is_route: bool) -> Option<(u32, MacAddr)> {
    match is_route {
        true => route(payload).map(|way| (way.ifindex, way.mac)),
        false => link_local(payload),
    }
}
