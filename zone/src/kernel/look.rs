//! Looking at one link, or at the host's own addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;

use super::encode;
use super::error::LinkError;
use super::links::Links;
use super::survey::PortState;
use super::wire::{Link, attributes};
use crate::name::IfName;

// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

impl Links {
    /// The name of the link with this index; none when there is no such link.
    pub fn ifname(&self, ifindex: u32) -> Option<String> {
        self.host.name_of(ifindex)
    }

    /// The link with this index: the index of its bridge, and how it stands there. The outer none: no
    /// such link; the inner one: it is no port.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn port(
        &mut self,
        ifindex: u32,
    ) -> Result<Option<(Option<u32>, Option<PortState>)>, LinkError> {
        let link = self
            .host
            .link(encode::get_link_at(ifindex))
            .map_err(|source| LinkError::kernel(format!("look at link {ifindex}"), source))?;
        Ok(link.map(|link| (link.master, PortState::of(link))))
    }

    /// Whether there are bridges besides these.
    pub(super) fn other_bridges(&mut self, ours: &[IfName]) -> Result<bool, LinkError> {
        let links = self
            .host
            .dump(
                RouteNetlinkMessage::GetLink(LinkMessage::default()),
                Link::parse,
            )
            .map_err(|error| error.of("list links"))?;
        Ok(links
            .iter()
            .filter(|link| link.kind == "bridge")
            .any(|link| !ours.iter().any(|name| name.as_str() == link.name)))
    }

    /// All addresses of the host, those of loopback and of bridges too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn addresses(&mut self) -> Result<Vec<IpAddr>, LinkError> {
        self.host
            .dump(
                RouteNetlinkMessage::GetAddress(AddressMessage::default()),
                address,
            )
            .map_err(|error| error.of("list the host's addresses"))
    }
}

/// The address of a `struct ifaddrmsg` and its attributes.
fn address(payload: &[u8]) -> Option<IpAddr> {
    let family = i32::from(*payload.first()?);
    let mut found = None;
    for (kind, value) in attributes(payload.get(8..)?) {
        // IFA_LOCAL is the own address of a point-to-point link, where IFA_ADDRESS is the peer's.
        if kind == IFA_LOCAL || (kind == IFA_ADDRESS && found.is_none()) {
            found = Some(value);
        }
    }
    let bytes = found?;
    match family {
        libc::AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}
