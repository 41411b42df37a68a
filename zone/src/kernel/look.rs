//! Looking at one link, or at the host's own addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::encode;
use super::error::LinkError;
use super::links::Links;
use super::survey::PortState;
use super::wire::{Link, attributes, u32_at};
use crate::name::IfName;

// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// The bridge a link is on, and how it stands there; none and none when it is no port.
pub type PortLook = (Option<u32>, Option<PortState>);

impl Links {
    /// The name of the link with this index; none when there is no such link.
    pub fn ifname(&self, ifindex: u32) -> Option<String> {
        self.host.name_of(ifindex)
    }

    /// The link with this index, as a port; none when there is no such link.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn port(&mut self, ifindex: u32) -> Result<Option<PortLook>, LinkError> {
        let link = self
            .host
            .link(encode::get_link_at(ifindex))
            .map_err(|source| LinkError::kernel(format!("look at link {ifindex}"), source))?;
        Ok(link.map(|link| (link.master, PortState::of(link))))
    }

    /// Whether the link with this index is there and up.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn is_up(&mut self, ifindex: u32) -> Result<bool, LinkError> {
        let link = self
            .host
            .link(encode::get_link_at(ifindex))
            .map_err(|source| LinkError::kernel(format!("look at link {ifindex}"), source))?;
        Ok(link.is_some_and(|link| link.up))
    }

    /// Whether there are bridges besides these.
    pub(super) fn other_bridges(&mut self, ours: &[IfName]) -> Result<bool, LinkError> {
        let links = self.host.dump(encode::get_links(), Link::parse);
        let links = links.map_err(|error| error.of("list links"))?;
        let mut bridges = links.iter().filter(|link| link.kind == "bridge");
        Ok(bridges.any(|link| !ours.iter().any(|name| name.as_str() == link.name)))
    }

    /// All addresses of the host, those of loopback and of bridges too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn addresses(&mut self) -> Result<Vec<IpAddr>, LinkError> {
        let all = self.addressed()?;
        Ok(all.into_iter().map(|(_, net)| net.addr()).collect())
    }

    /// All addresses with their prefix length, each with the index of its link.
    pub(super) fn addressed(&mut self) -> Result<Vec<(u32, IpNet)>, LinkError> {
        self.list_addresses(0)
    }

    /// Addresses of one link, with prefix length.
    pub(super) fn addresses_of(&mut self, index: u32) -> Result<Vec<IpNet>, LinkError> {
        let all = self.list_addresses(index)?;
        let own = all.into_iter().filter(|(of, _)| *of == index);
        Ok(own.map(|(_, net)| net).collect())
    }

    fn list_addresses(&mut self, index: u32) -> Result<Vec<(u32, IpNet)>, LinkError> {
        let all = self.host.dump(encode::get_addresses(index), address);
        all.map_err(|error| error.of("list the host's addresses"))
    }
}

/// Index of the link and address with prefix length, from `struct ifaddrmsg` and its attributes.
pub(super) fn address(payload: &[u8]) -> Option<(u32, IpNet)> {
    let (length, index) = (*payload.get(1)?, u32_at(payload, 4)?);
    let (mut local, mut remote) = (None, None);
    for (kind, value) in attributes(payload.get(8..)?) {
        match kind {
            // the peer's on a point-to-point link, where the own one is IFA_LOCAL
            IFA_ADDRESS => remote = ip(value),
            IFA_LOCAL => local = ip(value),
            _ => {}
        }
    }
    let net = IpNet::new(local.or(remote)?, length).ok()?;
    Some((index, net))
}

/// An address of either family, by its length.
pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(<[u8; 4]>::try_from(value).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(value).ok()?.into()),
        _ => None,
    }
}
