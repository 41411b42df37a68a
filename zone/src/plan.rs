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
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn spec(container: &str, configure: Configure) -> PortSpec {
        let container: crate::ContainerName = container.parse().unwrap();
        PortSpec {
            mac: container.mac(),
            container,
            zone: "dmz".parse().unwrap(),
            bridge: "vz-dmz".parse().unwrap(),
            ifname: "host0".parse().unwrap(),
            addresses: vec![
                "10.89.0.2/24".parse().unwrap(),
                "fd00::2/128".parse().unwrap(),
            ],
            prefixes: Vec::new(),
            gateway4: Some([10, 89, 0, 1].into()),
            gateway6_ll: Some("fe80::1".parse().unwrap()),
            mtu: 1500,
            configure,
            place: 0,
            several: false,
            subnet6: None,
        }
    }

    fn words(steps: &[Step]) -> Vec<String> {
        steps.iter().map(Step::to_string).collect()
    }

    #[test]
    fn a_port_is_guarded_before_anything_inside_is_up() {
        let spec = spec("web", Configure::Static);
        assert_eq!(
            words(&host(&spec)),
            [
                "add veth vb-web on vz-dmz with host0 inside",
                "disable IPv6 on vb-web",
                "isolate and lock port vb-web",
                &format!("add {} to the FDB for vb-web", spec.mac),
                "silence IPv4 on vb-web and set it up",
            ]
        );
        assert_eq!(
            host(&spec).len(),
            5,
            "no altname where nothing was shortened"
        );
        assert_eq!(
            words(&inside(&spec)),
            [
                "set lo up inside",
                "set host0 up inside",
                "add address 10.89.0.2/24 to host0 inside",
                "add address fd00::2/128 to host0 inside",
                "add default route via 10.89.0.1 on host0 inside",
                "add default route via fe80::1 on host0 inside",
            ]
        );
    }

    #[test]
    fn prefixes_of_its_own_lead_to_it_and_go_with_it() {
        let mut spec = spec("web", Configure::Static);
        spec.prefixes = vec!["fd00:0:0:1::/64".parse().unwrap()];
        let steps = host(&spec);
        let hop = spec.mac.link_local();
        assert_eq!(
            words(&steps)[5..],
            [
                format!("add neighbour {hop} on vz-dmz"),
                format!("add route to fd00:0:0:1::/64 via {hop} on vz-dmz"),
            ]
        );
        let back: Vec<Step> = steps.iter().rev().filter_map(Step::undo).collect();
        assert_eq!(
            words(&back),
            [
                "delete route to fd00:0:0:1::/64 on vz-dmz",
                &format!("delete neighbour {hop} on vz-dmz"),
                "delete link vb-web",
            ]
        );
    }

    #[test]
    fn of_several_networks_each_answers_by_its_own_port() {
        let mut spec = spec("web", Configure::Static);
        (spec.place, spec.several) = (1, true);
        spec.ifname = "host1".parse().unwrap();
        spec.subnet6 = Some("fd00::/64".parse().unwrap());
        let steps = inside(&spec);
        assert_eq!(
            words(&steps)[4..],
            [
                "add default route via 10.89.0.1 on host1 inside",
                "add default route via fe80::1 on host1 inside",
                "add route to fd00::/64 on host1 inside",
                "add route to 10.89.0.0/24 on host1 inside, table 11001",
                "add route to 0.0.0.0/0 on host1 inside, table 11001",
                "add route to ::/0 on host1 inside, table 11001",
                "send what is from 10.89.0.2/32 by table 11001 inside",
                "send what is from fd00::2/128 by table 11001 inside",
            ]
        );
        let back: Vec<Step> = steps.iter().rev().filter_map(Step::undo).collect();
        assert_eq!(
            words(&back)[..2],
            [
                "delete the rule from fd00::2/128 to table 11001 inside",
                "delete the rule from 10.89.0.2/32 to table 11001 inside",
            ]
        );
        // all of a prefix is its own
        spec.prefixes = vec!["fd00::/64".parse().unwrap()];
        assert_eq!(
            words(&sources(&spec))[3..],
            [
                "send what is from fd00::/64 by table 11001 inside",
                "send what is from 10.89.0.2/32 by table 11001 inside",
            ]
        );
        let Step::AddVeth { host: link, .. } = &host(&spec)[0] else {
            panic!("no link first");
        };
        assert_eq!(*link, spec.name().host_ifname());
        assert!(
            matches!(&host(&spec)[5], Step::AddAltname { altname, .. } if altname == "vb-web@dmz")
        );
    }

    #[test]
    fn a_client_inside_finds_its_interface_down() {
        for configure in [Configure::Dhcp, Configure::None] {
            let steps = inside(&spec("web", configure));
            assert_eq!(words(&steps), ["set lo up inside"]);
        }
    }

    #[test]
    fn a_route_needs_an_address_of_its_family() {
        let mut spec = spec("web", Configure::Static);
        spec.addresses.truncate(1);
        assert_eq!(
            words(&inside(&spec)).last().unwrap(),
            "add default route via 10.89.0.1 on host0 inside"
        );
    }

    #[test]
    fn shortened_names_keep_the_full_one_beside_them() {
        let long = "a-name-that-does-not-fit";
        let steps = host(&spec(long, Configure::Static));
        let Some(Step::AddAltname { altname, .. }) = steps.last() else {
            panic!("no altname in {steps:?}");
        };
        assert_eq!(altname, &format!("vb-{long}"));
        assert!(matches!(&steps[4], Step::RaiseHostEnd { alias: Some(a), .. } if a == long));
        // 128 bytes are a container's name, but no altname: the alias alone tells
        let steps = host(&spec(&"x".repeat(128), Configure::Static));
        assert!(matches!(steps.last(), Some(Step::RaiseHostEnd { .. })));
    }

    #[test]
    fn undo_closes_first_and_leaves_nothing() {
        let spec = spec("web", Configure::Static);
        let undo = |steps: Vec<Step>| {
            let back: Vec<Step> = steps.iter().rev().filter_map(Step::undo).collect();
            words(&back)
        };
        assert_eq!(undo(host(&spec)), ["delete link vb-web"]);
        assert_eq!(
            undo(inside(&spec)),
            [
                "delete address fd00::2/128 from host0 inside",
                "delete address 10.89.0.2/24 from host0 inside",
                "set host0 down inside",
            ]
        );
    }
}
