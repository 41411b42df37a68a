//! What has to be done to the kernel, as data. Pure: nothing here touches it.
//!
//! ```text
//! PortSpec ──► host()   ──► one RTM_NEWLINK, then a batch on the host    (closed: the inside is down)
//!         └──► inside() ──► a batch in the container's namespace         (opens it)
//! ```
//!
//! [`crate::kernel`] performs the steps in order and, when one fails, undoes what was done, newest
//! first. [`Step::undo`] says how.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::name::{IfName, MacAddr};
use crate::port::{Configure, PortSpec};

/// Longest alternative name of an interface: ALTIFNAMSIZ (128) counts the trailing NUL.
const ALTNAME_MAX: usize = 127;

/// One thing to do to one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// On the host: a veth with one queue each way, its host end on the bridge, its inside created in the
    /// container's namespace with its final name and address; both down.
    AddVeth {
        /// Name of the host end.
        host: IfName,
        /// Hardware address of the host end.
        host_mac: MacAddr,
        /// The bridge it goes to.
        bridge: IfName,
        /// Name inside.
        inside: IfName,
        /// Hardware address inside.
        mac: MacAddr,
        /// Bytes, of both ends.
        mtu: u32,
    },
    /// On the host: no IPv6 on the host end. It is a port of the bridge and nothing else.
    DisableIpv6 {
        /// The host end.
        host: IfName,
    },
    /// On the host: no IPv4 on the host end either, as far as there is a switch for it; and up. Not earlier: an
    /// interface that comes up without IPv6 spares the kernel to begin and end with it.
    RaiseHostEnd {
        /// The host end.
        host: IfName,
        /// What it stands for, where its name had to be shortened.
        alias: Option<String>,
    },
    /// On the host: isolated, locked, no learning, no flooding of unknown unicast, and no way past the
    /// bridge for frames to reserved addresses.
    GuardPort {
        /// The host end.
        host: IfName,
    },
    /// On the host: the one address that the locked port accepts frames from.
    AddFdb {
        /// The host end.
        host: IfName,
        /// The address inside.
        mac: MacAddr,
    },
    /// On the host: the container's link-local address that follows from its hardware address is found without
    /// asking, whether it uses that or not. The next hop of its prefixes.
    AddNeighbour {
        /// The bridge.
        bridge: IfName,
        /// Hardware address inside.
        mac: MacAddr,
    },
    /// On the host.
    DeleteNeighbour {
        /// The bridge.
        bridge: IfName,
        /// Hardware address inside.
        mac: MacAddr,
    },
    /// On the host: a prefix of the container's own leads to it, whichever addresses it makes in it. They need no
    /// neighbour entries of their own, of which the host has few.
    AddPrefix {
        /// The bridge.
        bridge: IfName,
        /// Hardware address inside.
        mac: MacAddr,
        /// Where to.
        prefix: Ipv6Net,
    },
    /// On the host.
    DeletePrefix {
        /// The bridge.
        bridge: IfName,
        /// Hardware address inside.
        mac: MacAddr,
        /// Where to.
        prefix: Ipv6Net,
    },
    /// On the host: the full name of a link whose name had to be shortened.
    AddAltname {
        /// The link.
        host: IfName,
        /// Its full name.
        altname: String,
    },
    /// On the host.
    DeleteLink {
        /// The link.
        host: IfName,
    },
    /// Inside: `lo` up.
    LoopbackUp,
    /// Inside: the interface up.
    LinkUp {
        /// The interface.
        inside: IfName,
    },
    /// Inside: the interface down.
    LinkDown {
        /// The interface.
        inside: IfName,
    },
    /// Inside: an address, without duplicate address detection (the allocator guarantees uniqueness).
    AddAddress {
        /// The interface.
        inside: IfName,
        /// With prefix length.
        address: IpNet,
    },
    /// Inside.
    DeleteAddress {
        /// The interface.
        inside: IfName,
        /// With prefix length.
        address: IpNet,
    },
    /// Inside: the default route of one family.
    AddDefaultRoute {
        /// The interface.
        inside: IfName,
        /// The next hop.
        gateway: IpAddr,
        /// Which of the container's networks it is; the first one's route is preferred.
        place: u8,
    },
    /// Inside: another route.
    AddRoute {
        /// The interface.
        inside: IfName,
        /// Where to.
        destination: IpNet,
        /// The next hop; none to what is on the link.
        gateway: Option<IpAddr>,
        /// The table; the main one when absent.
        table: Option<u32>,
    },
    /// Inside: what is sent from these addresses goes by this table.
    AddRule {
        /// From where.
        source: IpNet,
        /// The table.
        table: u32,
    },
    /// Inside.
    DeleteRule {
        /// From where.
        source: IpNet,
        /// The table.
        table: u32,
    },
}

impl Step {
    /// What takes this step back; none where taking back an earlier one does, or where there is
    /// nothing to take back.
    pub fn undo(&self) -> Option<Step> {
        match self {
            Self::AddVeth { host, .. } => Some(Self::DeleteLink { host: host.clone() }),
            Self::LinkUp { inside } => Some(Self::LinkDown {
                inside: inside.clone(),
            }),
            Self::AddAddress { inside, address } => Some(Self::DeleteAddress {
                inside: inside.clone(),
                address: *address,
            }),
            Self::AddNeighbour { bridge, mac } => Some(Self::DeleteNeighbour {
                bridge: bridge.clone(),
                mac: *mac,
            }),
            Self::AddPrefix {
                bridge,
                mac,
                prefix,
            } => Some(Self::DeletePrefix {
                bridge: bridge.clone(),
                mac: *mac,
                prefix: *prefix,
            }),
            // gone with the link
            Self::DisableIpv6 { .. }
            | Self::RaiseHostEnd { .. }
            | Self::GuardPort { .. }
            | Self::AddFdb { .. }
            | Self::AddAltname { .. } => None,
            // the kernel removes routes when their interface goes down
            Self::AddDefaultRoute { .. } | Self::AddRoute { .. } => None,
            Self::AddRule { source, table } => Some(Self::DeleteRule {
                source: *source,
                table: *table,
            }),
            // not known to have been down before, and nobody is reached through it
            Self::LoopbackUp => None,
            Self::DeleteLink { .. } | Self::LinkDown { .. } | Self::DeleteAddress { .. } => None,
            Self::DeleteNeighbour { .. } | Self::DeletePrefix { .. } => None,
            Self::DeleteRule { .. } => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddVeth {
                host,
                bridge,
                inside,
                ..
            } => write!(f, "add veth {host} on {bridge} with {inside} inside"),
            Self::DisableIpv6 { host } => write!(f, "disable IPv6 on {host}"),
            Self::RaiseHostEnd { host, .. } => write!(f, "silence IPv4 on {host} and set it up"),
            Self::GuardPort { host } => write!(f, "isolate and lock port {host}"),
            Self::AddFdb { host, mac } => write!(f, "add {mac} to the FDB for {host}"),
            Self::AddNeighbour { bridge, mac } => {
                write!(f, "add neighbour {} on {bridge}", mac.link_local())
            }
            Self::DeleteNeighbour { bridge, mac } => {
                write!(f, "delete neighbour {} on {bridge}", mac.link_local())
            }
            Self::AddPrefix {
                bridge,
                mac,
                prefix,
            } => write!(
                f,
                "add route to {prefix} via {} on {bridge}",
                mac.link_local()
            ),
            Self::DeletePrefix { bridge, prefix, .. } => {
                write!(f, "delete route to {prefix} on {bridge}")
            }
            Self::AddAltname { host, altname } => write!(f, "name {host} also {altname}"),
            Self::DeleteLink { host } => write!(f, "delete link {host}"),
            Self::LoopbackUp => write!(f, "set lo up inside"),
            Self::LinkUp { inside } => write!(f, "set {inside} up inside"),
            Self::LinkDown { inside } => write!(f, "set {inside} down inside"),
            Self::AddAddress { inside, address } => {
                write!(f, "add address {address} to {inside} inside")
            }
            Self::DeleteAddress { inside, address } => {
                write!(f, "delete address {address} from {inside} inside")
            }
            Self::AddDefaultRoute {
                inside, gateway, ..
            } => {
                write!(f, "add default route via {gateway} on {inside} inside")
            }
            Self::AddRoute {
                inside,
                destination,
                table,
                ..
            } => {
                write!(f, "add route to {destination} on {inside} inside")?;
                table.map_or(Ok(()), |table| write!(f, ", table {table}"))
            }
            Self::AddRule { source, table } => {
                write!(f, "send what is from {source} by table {table} inside")
            }
            Self::DeleteRule { source, table } => {
                write!(f, "delete the rule from {source} to table {table} inside")
            }
        }
    }
}

/// The full name of a link that is called `short`, where that was shortened and the full one is
/// something the kernel takes as an alternative name.
pub fn altname(short: &IfName, full: String) -> Option<String> {
    (full != short.as_str() && full.len() <= ALTNAME_MAX).then_some(full)
}

/// Steps on the host: the port exists, on its bridge, guarded, its inside still down.
pub fn host(spec: &PortSpec) -> Vec<Step> {
    let host = spec.host_ifname();
    let full = format!("vb-{}", spec.name());
    let shortened = full != host.as_str();
    let mut steps = vec![
        Step::AddVeth {
            host: host.clone(),
            host_mac: spec.host_mac(),
            bridge: spec.bridge.clone(),
            inside: spec.ifname.clone(),
            mac: spec.mac,
            mtu: spec.mtu,
        },
        Step::DisableIpv6 { host: host.clone() },
        Step::GuardPort { host: host.clone() },
        Step::AddFdb {
            host: host.clone(),
            mac: spec.mac,
        },
        Step::RaiseHostEnd {
            host: host.clone(),
            alias: shortened.then(|| spec.name().to_string()),
        },
    ];
    if let Some(altname) = altname(&host, full) {
        steps.push(Step::AddAltname { host, altname });
    }
    steps.extend(ways(&spec.bridge, spec.mac, &spec.prefixes));
    steps
}

/// Steps on the host: prefixes lead to the container. (Their next hop goes nowhere before the inside is up.)
pub fn ways(bridge: &IfName, mac: MacAddr, prefixes: &[Ipv6Net]) -> Vec<Step> {
    let neighbour = Step::AddNeighbour {
        bridge: bridge.clone(),
        mac,
    };
    let routes = prefixes.iter().map(|prefix| Step::AddPrefix {
        bridge: bridge.clone(),
        mac,
        prefix: *prefix,
    });
    let neighbour = (!prefixes.is_empty()).then_some(neighbour);
    neighbour.into_iter().chain(routes).collect()
}

/// Steps inside. With [`Configure::Static`] the last ones open the container; otherwise somebody
/// inside brings the interface up.
pub fn inside(spec: &PortSpec) -> Vec<Step> {
    let mut steps = vec![Step::LoopbackUp];
    if spec.configure != Configure::Static {
        return steps;
    }
    let inside = || spec.ifname.clone();
    steps.push(Step::LinkUp { inside: inside() });
    // Only then addresses: with the link up they are in use at once, and the kernel notifies once.
    steps.extend(spec.addresses.iter().map(|address| Step::AddAddress {
        inside: inside(),
        address: *address,
    }));
    steps.extend(gateways(spec).map(|gateway| Step::AddDefaultRoute {
        inside: inside(),
        gateway,
        place: spec.place,
    }));
    if !spec.several {
        return steps;
    }
    // The IPv4 subnet is on the link; nothing of IPv6 is.
    if let Some(subnet) = spec.subnet6 {
        let via_link_local = gateways(spec).filter(IpAddr::is_ipv6);
        steps.extend(via_link_local.map(|gateway| Step::AddRoute {
            inside: inside(),
            destination: subnet.into(),
            gateway: Some(gateway),
            table: None,
        }));
    }
    steps.extend(sources(spec));
    steps
}

/// The next hops of the families that a port has addresses of.
fn gateways(spec: &PortSpec) -> impl Iterator<Item = IpAddr> {
    let has = |v4: bool| spec.addresses.iter().any(|net| net.addr().is_ipv4() == v4);
    let four = spec.gateway4.map(IpAddr::V4).filter(|_| has(true));
    let six = spec.gateway6_ll.map(IpAddr::V6).filter(|_| has(false));
    four.into_iter().chain(six)
}

/// The tables inside a container with several networks, by the number of the network: one for each.
const TABLES: u32 = 11_000;

/// Networks of one container at most, and so tables.
pub const MOST_PLACES: u8 = 16;

/// Rules that may be left in the namespace from when the sources of these steps were the container's at another place:
/// they stand before new ones, and lead to what is now the table of another port.
pub fn stale_rules(steps: &[Step]) -> Vec<Step> {
    let tables = TABLES..TABLES + u32::from(MOST_PLACES);
    let others = |step: &Step| match step {
        Step::AddRule { source, table } => {
            let (source, own) = (*source, *table);
            let others = tables.clone().filter(move |table| *table != own);
            Some(others.map(move |table| Step::DeleteRule { source, table }))
        }
        _ => None,
    };
    steps.iter().filter_map(others).flatten().collect()
}

/// Steps inside a container with several networks: what is sent from this port's addresses leaves by this port. Else
/// an answer to somebody who came by the second port would leave by the first, where the guard does not know its source.
pub fn sources(spec: &PortSpec) -> Vec<Step> {
    let table = TABLES + u32::from(spec.place);
    let route = |destination: IpNet, gateway: Option<IpAddr>| Step::AddRoute {
        inside: spec.ifname.clone(),
        destination,
        gateway,
        table: Some(table),
    };
    let on_link = spec.addresses.iter().filter(|net| net.addr().is_ipv4());
    let mut steps: Vec<Step> = on_link.map(|net| route(net.trunc(), None)).collect();
    steps.extend(gateways(spec).map(|gateway| {
        let everything = match gateway {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        route(everything, Some(gateway))
    }));
    // A prefix of its own is around its address.
    let prefixes = spec.prefixes.iter().map(|net| IpNet::V6(*net));
    let alone = spec.addresses.iter().map(|net| IpNet::from(net.addr()));
    let alone = alone.filter(|net| {
        let mut prefixes = spec.prefixes.iter();
        !prefixes.any(|prefix| IpNet::V6(*prefix).contains(net))
    });
    steps.extend(
        prefixes
            .chain(alone)
            .map(|source| Step::AddRule { source, table }),
    );
    steps
}

#[cfg(test)]
mod tests;
