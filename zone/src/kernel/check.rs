//! Is the inside of a port still what it was made?

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::encode;
use super::error::LinkError;
use super::inside;
use super::links::Links;
use super::look;
use super::netns::Netns;
use super::socket::Netlink;
use super::wire::{attributes, u32_at};
use crate::plan::{self, Step};
use crate::port::{Configure, PortSpec};

// linux/rtnetlink.h
const RT_TABLE_MAIN: u8 = 254;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
// linux/fib_rules.h
const FRA_SRC: u16 = 2;
const FRA_TABLE: u16 = 15;

/// What is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The resource: `interface NAME`, `address CIDR` or `route CIDR`.
    pub subject: String,
    /// What is wrong with it.
    pub message: String,
}

impl Links {
    fn open_inside(&self, spec: &PortSpec, netns: &Netns) -> Result<Netlink, LinkError> {
        inside::socket_for_dumps(&self.home, netns).map_err(|source| LinkError::EnterNetns {
            ifname: spec.ifname.clone(),
            source,
        })
    }

    /// Compares the inside of a port with what [`Links::open_port`] made: the interface with its hardware address;
    /// where netd configures it, also that it is up, its addresses and its default routes. `besides`: addresses that
    /// somebody else gave it.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel does not answer.
    pub fn check_inside(
        &mut self,
        spec: &PortSpec,
        besides: &[IpNet],
        netns: &Netns,
    ) -> Result<Vec<Flaw>, LinkError> {
        let mut socket = self.open_inside(spec, netns)?;
        let mut flaws = Vec::new();
        let mut flaw = |subject: String, message: &str| {
            flaws.push(Flaw {
                message: format!("{subject} {message}"),
                subject,
            });
        };
        let interface = format!("interface {}", spec.ifname);
        let link = socket
            .link(encode::get_link(&spec.ifname))
            .map_err(|source| LinkError::kernel(format!("look at {interface} inside"), source))?;
        let Some(link) = link else {
            flaw(interface, "is missing");
            return Ok(flaws);
        };
        if link.mac != Some(spec.mac) {
            flaw(interface.clone(), "has another hardware address");
        }
        if spec.configure != Configure::Static {
            return Ok(flaws);
        }
        if !link.up {
            flaw(interface, "is down");
        }
        let addresses = socket
            .dump(encode::get_addresses(link.index), look::address)
            .map_err(|error| error.of("list addresses inside"))?;
        let besides = besides.iter().filter(|net| !spec.addresses.contains(net));
        for wanted in spec.addresses.iter().chain(besides) {
            if !addresses.contains(&(link.index, *wanted)) {
                flaw(format!("address {wanted}"), "is missing");
            }
        }
        let has = |v4: bool| spec.addresses.iter().any(|net| net.addr().is_ipv4() == v4);
        let gateways = [
            (
                spec.gateway4.map(IpAddr::V4),
                AddressFamily::Inet,
                "0.0.0.0/0",
            ),
            (
                spec.gateway6_ll.map(IpAddr::V6),
                AddressFamily::Inet6,
                "::/0",
            ),
        ];
        for (gateway, family, destination) in gateways {
            let Some(gateway) = gateway.filter(|gateway| has(gateway.is_ipv4())) else {
                continue;
            };
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let routes = socket
                .dump(RouteNetlinkMessage::GetRoute(message), default_route)
                .map_err(|error| error.of("list routes inside"))?;
            if !routes.contains(&(link.index, gateway)) {
                flaw(
                    format!("route {destination}"),
                    &format!("by {gateway} is missing"),
                );
            }
        }
        Ok(flaws)
    }
}

impl Links {
    /// Compares what keeps the sources of a container with several networks apart, as [`Links::keep_sources_apart`] made
    /// it: that what is sent from the port's addresses leaves by the port.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel refuses.
    pub fn check_sources(
        &mut self,
        spec: &PortSpec,
        netns: &Netns,
    ) -> Result<Vec<Flaw>, LinkError> {
        let mut socket = self.open_inside(spec, netns)?;
        let (mut rules, mut routes) = (Vec::new(), Vec::new());
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let found = socket.dump(RouteNetlinkMessage::GetRule(message), by_source);
            rules.extend(found.map_err(|error| error.of("list rules inside"))?);
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let found = socket.dump(RouteNetlinkMessage::GetRoute(message), in_table);
            routes.extend(found.map_err(|error| error.of("list routes inside"))?);
        }
        let missing = |step: &Step| match step {
            Step::AddRule { source, table } => {
                (!rules.contains(&(*source, *table))).then(|| format!("rule from {source}"))
            }
            Step::AddRoute {
                destination,
                gateway,
                table: Some(table),
                ..
            } => {
                let wanted = (*table, destination.prefix_len(), *gateway);
                (!routes.contains(&wanted)).then(|| format!("route {destination} of table {table}"))
            }
            _ => None,
        };
        let flaw = |step: &Step| {
            let what = missing(step)?;
            Some(Flaw {
                message: format!(
                    "{what} is missing: answers from {} may leave by another port",
                    spec.ifname
                ),
                subject: "sources".into(),
            })
        };
        Ok(plan::sources(spec).iter().filter_map(flaw).collect())
    }
}

/// Source and table of a rule, from `struct fib_rule_hdr` and its attributes.
fn by_source(payload: &[u8]) -> Option<(IpNet, u32)> {
    let (&length, &short) = (payload.get(2)?, payload.get(4)?);
    let (mut source, mut table) = (None, u32::from(short));
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            FRA_SRC => source = look::ip(value),
            FRA_TABLE => table = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some((IpNet::new(source?, length).ok()?, table))
}

/// Table, length of the destination and gateway of a route in a table with a large number.
fn in_table(payload: &[u8]) -> Option<(u32, u8, Option<IpAddr>)> {
    let &length = payload.get(1)?;
    let (mut table, mut gateway) = (None, None);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            RTA_TABLE => table = u32_at(value, 0),
            RTA_GATEWAY => gateway = look::ip(value),
            _ => {}
        }
    }
    Some((table?, length, gateway))
}

/// Interface and gateway of a default route in the main table, from `struct rtmsg` and its attributes.
fn default_route(payload: &[u8]) -> Option<(u32, IpAddr)> {
    let (&length, &table) = (payload.get(1)?, payload.get(4)?);
    if length != 0 || table != RT_TABLE_MAIN {
        return None;
    }
    let (mut oif, mut gateway) = (None, None);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            RTA_OIF => oif = u32_at(value, 0),
            RTA_GATEWAY => gateway = look::ip(value),
            _ => {}
        }
    }
    Some((oif?, gateway?))
}
