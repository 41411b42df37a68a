//! Ports that somebody else plugged into a bridge of ours: looked at, held, let go.

use super::encode;
use super::error::LinkError;
use super::links::Links;
use super::sysctl;
use super::wire::Link;
use crate::name::{IfName, MacAddr};
use crate::port::PortSpec;

/// A link that may be a port of a bridge, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Its index.
    pub ifindex: u32,
    /// Its name: any bytes that the kernel takes, made readable.
    pub name: String,
    /// Its alternative names, in the kernel's order.
    pub altnames: Vec<String>,
    /// Its own hardware address; none where it has none of six bytes.
    pub mac: Option<MacAddr>,
    /// The bridge it is on.
    pub master: Option<u32>,
    /// Its group; 0 unless somebody put it in one.
    pub group: u32,
    /// The other end of a veth, wherever it is.
    pub peer: Option<Peer>,
}

/// The other end of a veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name there.
    pub name: String,
    /// Its hardware address.
    pub mac: MacAddr,
}

impl Stranger {
    /// Whether netd made this link: nobody else gives both ends one hardware address but for one bit
    /// ([`PortSpec::host_mac`]).
    pub fn is_own_make(&self) -> bool {
        let pair = self.mac.zip(self.peer.as_ref());
        pair.is_some_and(|(mac, peer)| mac == PortSpec::host_mac_of(peer.mac))
    }
}

impl Links {
    /// Looks at a link, whatever it is; none when there is no such link.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn stranger(&mut self, ifindex: u32) -> Result<Option<Stranger>, LinkError> {
        let link = self.look(encode::get_link_at(ifindex), ifindex)?;
        let Some(link) = link else {
            return Ok(None);
        };
        let peer = match (link.kind.as_str(), link.peer) {
            ("veth", Some(index)) => self.peer(index, link.peer_netns),
            _ => None,
        };
        Ok(Some(Stranger {
            ifindex,
            name: link.name,
            altnames: link.altnames,
            mac: link.mac,
            master: link.master,
            group: link.group,
            peer,
        }))
    }

    /// The other end of a veth. None where it cannot be seen: its namespace has no number here, or it is on
    /// its way from one to the other.
    fn peer(&mut self, index: u32, netns: Option<u32>) -> Option<Peer> {
        let request = match netns {
            None => encode::get_link_at(index),
            Some(netns) => encode::get_link_in(netns, index),
        };
        let link = self.look(request, index).ok().flatten()?;
        Some(Peer {
            mac: link.mac?,
            name: link.name,
        })
    }

    fn look(
        &mut self,
        request: netlink_packet_route::RouteNetlinkMessage,
        index: u32,
    ) -> Result<Option<Link>, LinkError> {
        let link = self.host.link(request);
        link.map_err(|source| LinkError::kernel(format!("look at link {index}"), source))
    }

    /// The indexes of all ports of a bridge, also of those whose names are no [`IfName`]s; none when there is no
    /// such bridge.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn port_indexes(&mut self, bridge: &IfName) -> Result<Vec<u32>, LinkError> {
        let Ok(index) = self.host.index_of(bridge.as_str()) else {
            return Ok(Vec::new());
        };
        let links = self.host.dump(encode::get_ports(index), Link::parse);
        let links = links.map_err(|error| error.of(&format!("list the ports of {bridge}")))?;
        let own = links.into_iter().filter(|link| link.master == Some(index));
        Ok(own.map(|link| link.index).collect())
    }

    /// Holds a port where it is: isolated, locked, taught nothing, and no interface of the host besides.
    ///
    /// # Errors
    /// It is gone or on no bridge, or the kernel refuses.
    pub fn hold_port(&mut self, port: &Stranger) -> Result<(), LinkError> {
        let requests = vec![
            encode::guard_port(port.ifindex),
            encode::flush_port(port.ifindex),
            encode::quiet_host_end(port.ifindex),
        ];
        self.all(&format!("hold port {}", port.name), requests)?;
        // Last: a name that has no such file must not keep the rest from the port.
        sysctl::ensure(&format!("ipv6/conf/{}/disable_ipv6", port.name), "1")?;
        Ok(())
    }

    /// Takes a port off its bridge, down, and leaves it to whoever made it. One that is gone is let go.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release_port(&mut self, ifindex: u32) -> Result<(), LinkError> {
        if self.host.name_of(ifindex).is_none() {
            return Ok(());
        }
        // Down first: for an instant it is an ordinary interface of the host.
        let requests = vec![encode::down(ifindex), encode::enslave(ifindex, 0)];
        self.all(&format!("take port {ifindex} off its bridge"), requests)
    }
}
