//! Bridges that somebody else makes: what a zone changes on them, and the ports that others plug in.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::RouteMessageBuilder;

use super::encode;
use super::error::LinkError;
use super::forwarding::Forwarding;
use super::inside;
use super::links::Links;
use super::netns::Netns;
use super::socket::Refused;
use crate::name::{IfName, MacAddr};

/// The metric of a route that comes before those the kernel makes with an address (256).
const PREFERRED: u32 = 64;

/// An interface in a container's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inside {
    /// Its index there.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Index of its other end, where it is one end of a veth.
    pub peer: Option<u32>,
}

impl Links {
    /// The index of a bridge that somebody else makes; none while there is none of that name.
    ///
    /// # Errors
    /// A link of its name is no bridge, or the kernel refuses.
    pub fn foreign_bridge(&mut self, name: &IfName) -> Result<Option<u32>, LinkError> {
        self.bridge(name)
    }

    /// What a zone needs of a bridge that is not its own and that the bridge has not: it answers ARP for all of its
    /// containers, at once, and sends and takes no redirects. (See design §3, "Links".)
    ///
    /// # Errors
    /// A sysctl cannot be read.
    pub fn plan_foreign_bridge(&self, name: &IfName) -> Result<Forwarding, LinkError> {
        let mut plan = Forwarding::default();
        for (path, value) in [
            (format!("ipv4/conf/{name}/proxy_arp_pvlan"), "1"),
            (format!("ipv4/neigh/{name}/proxy_delay"), "0"),
            (format!("ipv4/conf/{name}/send_redirects"), "0"),
            (format!("ipv4/conf/{name}/accept_redirects"), "0"),
            (format!("ipv6/conf/{name}/accept_redirects"), "0"),
            (format!("ipv6/conf/{name}/accept_ra"), "0"),
        ] {
            plan.want_alone(path, value)?;
        }
        Ok(plan)
    }

    /// Looks at an interface in a namespace; none when there is none of that name, or it has no hardware address.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel refuses.
    pub fn look_inside(
        &mut self,
        ifname: &IfName,
        netns: &Netns,
    ) -> Result<Option<Inside>, LinkError> {
        let socket = inside::socket(&self.home, netns);
        let mut socket = socket.map_err(|source| LinkError::EnterNetns {
            ifname: ifname.clone(),
            source,
        })?;
        let link = socket.link(encode::get_link(ifname));
        let link =
            link.map_err(|source| LinkError::kernel(format!("look at {ifname} inside"), source))?;
        Ok(link.and_then(|link| {
            Some(Inside {
                ifindex: link.index,
                mac: link.mac?,
                peer: link.peer.filter(|_| link.kind == "veth"),
            })
        }))
    }

    /// Has a container whose address was given on-link reach its neighbours by the gateway: ports are isolated, and nobody
    /// answers neighbour discovery for another. What is there already stays; a route that is preferred comes beside it.
    ///
    /// # Errors
    /// The namespace cannot be entered, the interface is missing, or the kernel refuses.
    pub fn lead_by_gateway(
        &mut self,
        ifname: &IfName,
        netns: &Netns,
        subnet: Ipv6Net,
        gateway: Ipv6Addr,
    ) -> Result<(), LinkError> {
        let socket = inside::socket(&self.home, netns);
        let mut socket = socket.map_err(|source| LinkError::EnterNetns {
            ifname: ifname.clone(),
            source,
        })?;
        let action = format!("lead {subnet} by {gateway} on {ifname} inside");
        let index = socket.index_of(ifname.as_str());
        let index = index.map_err(|source| LinkError::kernel(&action, source))?;
        let route = |destination: Ipv6Net| {
            RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(destination.network(), destination.prefix_len())
                .output_interface(index)
                .priority(PREFERRED)
        };
        let messages = [
            route(gateway.into()).build(),
            route(subnet).gateway(gateway).build(),
        ];
        let requests = messages.map(|route| encode::put(RouteNetlinkMessage::NewRoute(route)));
        match socket.batch(requests.into()) {
            Ok(()) => Ok(()),
            Err(Refused(errors)) => Err(LinkError::kernel(action, errors[0].1.clone())),
        }
    }

    /// Lets a port that was held go on as the kernel has ports that nobody set up.
    ///
    /// # Errors
    /// It is gone or on no bridge, or the kernel refuses.
    pub fn let_port_go(&mut self, ifindex: u32) -> Result<(), LinkError> {
        let requests = vec![encode::ordinary_port(ifindex)];
        self.all(&format!("let port {ifindex} go"), requests)
    }
}
