//! What is there: ports, routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, route::RouteMessage};

use super::encode;
use super::error::LinkError;
use super::links::Links;
use super::wire::{Link, PortFlags, attributes, u32_at};
use crate::name::{IfName, MacAddr};

// linux/rtnetlink.h
const RT_TABLE_MAIN: u32 = 254;
const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
const RTM_F_CLONED: u32 = 0x200;

/// A port of a bridge as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortState {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: IfName,
    /// Its own hardware address (not the one inside).
    pub mac: MacAddr,
    /// No frame goes to another isolated port.
    pub isolated: bool,
    /// Only frames from addresses in the FDB are taken.
    pub locked: bool,
    /// The FDB learns from frames.
    pub learning: bool,
    /// Frames to unknown unicast addresses are sent here.
    pub flood: bool,
    /// Whether it is up.
    pub up: bool,
    /// Its group; 0 unless somebody put it in one.
    pub group: u32,
}

impl PortState {
    /// Whether everything is set that keeps a port in its place.
    pub fn is_guarded(&self) -> bool {
        let flags = PortFlags {
            isolated: self.isolated,
            locked: self.locked,
            learning: self.learning,
            flood: self.flood,
        };
        flags == PortFlags::GUARDED
    }

    pub(super) fn of(link: Link) -> Option<Self> {
        let port = link.port?;
        Some(Self {
            ifindex: link.index,
            // names of interfaces may hold bytes that ours do not; such a port is none of ours
            name: link.name.parse().ok()?,
            mac: link.mac?,
            isolated: port.isolated,
            locked: port.locked,
            learning: port.learning,
            flood: port.flood,
            up: link.up,
            group: link.group,
        })
    }
}

impl Links {
    /// The ports of a bridge, by index; none when there is no such bridge.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn ports(&mut self, bridge: &IfName) -> Result<Vec<PortState>, LinkError> {
        let Ok(index) = self.host.index_of(bridge.as_str()) else {
            return Ok(Vec::new());
        };
        let links = self.host.dump(encode::get_ports(index), Link::parse);
        let links = links.map_err(|error| error.of(&format!("list the ports of {bridge}")))?;
        let own = links.into_iter().filter(|link| link.master == Some(index));
        let mut ports: Vec<PortState> = own.filter_map(PortState::of).collect();
        ports.sort_by_key(|port| port.ifindex);
        Ok(ports)
    }

    /// Destinations the host has routes to in its main tables, connected subnets too, without default
    /// routes and link-local ones. Sorted.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn routes(&mut self) -> Result<Vec<IpNet>, LinkError> {
        self.routes_besides(&[])
    }

    /// [`Links::routes`] without those out of `bridges`: the routes of zones themselves.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn routes_besides(&mut self, bridges: &[IfName]) -> Result<Vec<IpNet>, LinkError> {
        let ours: Vec<u32> = bridges
            .iter()
            .filter_map(|bridge| self.host.index_of(bridge.as_str()).ok())
            .collect();
        let mut nets = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let found = self
                .host
                .dump(RouteNetlinkMessage::GetRoute(message), route);
            let found = found.map_err(|error| error.of("list the host's routes"))?;
            let besides = found.into_iter().filter(|(oif, _)| !ours.contains(oif));
            nets.extend(besides.map(|(_, net)| net));
        }
        nets.sort();
        nets.dedup();
        Ok(nets)
    }
}

/// Interface (0 for several next hops) and destination of a unicast route in the main table that stands
/// in the way of a zone; from `struct rtmsg` and its attributes.
fn route(payload: &[u8]) -> Option<(u32, IpNet)> {
    let (&family, &length) = (payload.first()?, payload.get(1)?);
    let (&table, &kind) = (payload.get(4)?, payload.get(7)?);
    let flags = u32_at(payload, 8)?;
    let (mut table, mut destination, mut oif) = (u32::from(table), None, 0);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            RTA_DST => destination = Some(value),
            RTA_OIF => oif = u32_at(value, 0)?,
            RTA_TABLE => table = u32_at(value, 0)?,
            _ => {}
        }
    }
    if table != RT_TABLE_MAIN || kind != RTN_UNICAST || flags & RTM_F_CLONED != 0 || length == 0 {
        return None;
    }
    let bytes = destination?;
    let net = if i32::from(family) == libc::AF_INET {
        let address = Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?);
        IpNet::V4(Ipv4Net::new(address, length).ok()?)
    } else {
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
        IpNet::V6(Ipv6Net::new(address, length).ok()?)
    };
    let everywhere = match net.network() {
        IpAddr::V4(address) => address.is_link_local() || address.is_multicast(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80 || address.is_multicast(),
    };
    (!everywhere).then_some((oif, net))
}
