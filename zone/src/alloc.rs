//! Zone file → [`Zone`]: every value decided, subnets free of other zones and of the host's routes.
//!
//! Pure: what is taken is an argument, and the same arguments give the same zone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::file::{DefaultPolicy, Subnet6, ZoneFile};
use crate::name::{ContainerName, IfName, MacAddr, ZoneName};

/// Where zones without a subnet get theirs: 256 of /24.
const RANGE4: Ipv4Net = match Ipv4Net::new(Ipv4Addr::new(10, 89, 0, 0), 16) {
    Ok(net) => net,
    Err(_) => panic!("10.89.0.0/16 is a subnet"),
};

/// Largest payload of an Ethernet frame, in bytes.
const DEFAULT_MTU: u32 = 1500;

/// A zone, all decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Its name.
    pub name: ZoneName,
    /// Its bridge.
    pub bridge: IfName,
    /// IPv4 subnet.
    pub subnet4: Option<Ipv4Net>,
    /// IPv6 subnet, if it has one.
    pub subnet6: Option<Ipv6Net>,
    /// The host's IPv4 address in it: the first of the subnet.
    pub gateway4: Option<Ipv4Addr>,
    /// The host's IPv6 address in it: the first after the subnet-router anycast address.
    pub gateway6: Option<Ipv6Addr>,
    /// No path to or from the world, whatever policies say.
    pub internal: bool,
    /// The only interface through which it reaches the world.
    pub uplink: Option<IfName>,
    /// For directions that no policy file mentions.
    pub default: DefaultPolicy,
    /// Bytes.
    pub mtu: u32,
    /// DNS domain handed to containers.
    pub domain: String,
    /// First and last IPv4 address that are given out unasked.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Resolvers handed to containers.
    pub dns: Vec<IpAddr>,
    /// What its DHCP server hands out besides.
    #[serde(default)]
    pub dhcp: crate::file::dhcp::Dhcp,
    /// Hardware address of the bridge.
    pub mac: MacAddr,
}

impl Zone {
    /// The bridge's link-local address: next hop of IPv6 default routes inside. None without IPv6, and where
    /// the bridge is somebody else's.
    pub fn gateway6_ll(&self) -> Option<Ipv6Addr> {
        let own = self.subnet6.filter(|_| !self.is_foreign());
        own.map(|_| self.mac.link_local())
    }

    /// Whether its bridge and its addresses are somebody else's.
    pub fn is_foreign(&self) -> bool {
        self.bridge != self.name.bridge()
    }

    /// Subnets of both families.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> {
        let four = self.subnet4.map(IpNet::V4);
        four.into_iter().chain(self.subnet6.map(IpNet::V6))
    }
}

/// What a new zone must not overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Subnets of zones. Those of the zone that is being resolved do not count.
    pub zones: Vec<(ZoneName, IpNet)>,
    /// Destinations that the host has routes to, without the default route and without the
    /// connected routes of zones' own bridges.
    pub routes: Vec<IpNet>,
}

impl Taken {
    /// Who has some of `net`, other than the zone `name`.
    fn owner(&self, name: &ZoneName, net: IpNet) -> Option<Owner> {
        let overlaps = |other: &IpNet| net.contains(other) || other.contains(&net);
        let mut zones = self.zones.iter().filter(|(owner, _)| owner != name);
        if let Some((owner, other)) = zones.find(|(_, other)| overlaps(other)) {
            return Some(Owner::Zone(owner.clone(), *other));
        }
        let route = self.routes.iter().find(|route| overlaps(route))?;
        Some(Owner::Route(*route))
    }
}

/// Whose a subnet is already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Another zone's.
    Zone(ZoneName, IpNet),
    /// The host has a route there.
    Route(IpNet),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zone(name, net) => write!(f, "zone {name} ({net})"),
            Self::Route(net) => write!(f, "the host's route to {net}"),
        }
    }
}

/// A subnet or an address that cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// The subnet asked for is somebody else's.
    #[error("subnet {net} of zone {zone} overlaps {owner}; choose another subnet")]
    Overlap {
        /// The zone that asked.
        zone: ZoneName,
        /// What it asked for.
        net: IpNet,
        /// Who has it.
        owner: Owner,
    },
    /// No subnet of the range is free.
    #[error(
        "no free subnet for zone {zone} in {range} ({owner} is in the way); give one that is free"
    )]
    NoSubnet {
        /// The zone that asked.
        zone: ZoneName,
        /// Where one was looked for.
        range: IpNet,
        /// Who has the last one that was tried.
        owner: Owner,
    },
    /// The pool is not in the subnet that the zone got.
    #[error(
        "pool {first}-{last} of zone {zone} is not within its subnet {net}; give pool and subnet4 together"
    )]
    PoolOutside {
        /// The zone.
        zone: ZoneName,
        /// Its subnet.
        net: IpNet,
        /// First address of the pool.
        first: Ipv4Addr,
        /// Last address of the pool.
        last: Ipv4Addr,
    },
    /// An address of the `[dhcp]` part is none of the subnet that the zone got.
    #[error("zone {zone}: dhcp: {source}")]
    Dhcp {
        /// The zone.
        zone: ZoneName,
        /// Which, and why.
        source: crate::file::dhcp::Misplaced,
    },
    /// Every address is somebody's.
    #[error(
        "zone {zone} has no free address left in {range}; detach something, or widen the pool or subnet"
    )]
    Exhausted {
        /// The zone.
        zone: ZoneName,
        /// `FIRST-LAST`
        range: String,
    },
    /// What is asked for as a range is none.
    #[error("{first}-{last} is no range of addresses of one family")]
    NoRange {
        /// Its beginning.
        first: IpAddr,
        /// Its end.
        last: IpAddr,
    },
    /// The address is not of the zone.
    #[error("address {address} is not in zone {zone} ({subnets})")]
    Outside {
        /// The zone.
        zone: ZoneName,
        /// What was asked for.
        address: IpAddr,
        /// What the zone has.
        subnets: String,
    },
    /// The address has another purpose.
    #[error("address {address} is the {purpose} of zone {zone}; choose another")]
    Reserved {
        /// The zone.
        zone: ZoneName,
        /// What was asked for.
        address: IpAddr,
        /// What it is for.
        purpose: &'static str,
    },
    /// The address is another container's.
    #[error("address {address} belongs to container {owner}; choose another, or release it there")]
    Owned {
        /// What was asked for.
        address: IpAddr,
        /// Whose it is.
        owner: ContainerName,
    },
    /// More than one address of a family.
    #[error(
        "addresses {first} and {second} are of one family; a container has at most one of each"
    )]
    TwoOfAFamily {
        /// One.
        first: IpAddr,
        /// And the other.
        second: IpAddr,
    },
}

/// Decides everything that the file leaves open.
///
/// `machine_id` (the bytes of `/etc/machine-id`, or anything else that tells this host from others)
/// goes into the unique local prefix.
///
/// # Errors
/// A subnet asked for overlaps another zone's or a route of the host; or none is free.
pub fn resolve(
    name: &ZoneName,
    file: &ZoneFile,
    taken: &Taken,
    machine_id: &[u8],
) -> Result<Zone, AllocError> {
    let subnet4 = match file.subnet4 {
        Some(net) => Some(explicit(name, net.into(), taken).map(|()| net)?),
        None if file.without_ipv4 => None,
        None => Some(free4(name, taken)?),
    };
    let subnet6 = match file.subnet6 {
        Subnet6::Auto if file.bridge.is_some() => None,
        Subnet6::None => None,
        Subnet6::Net(net) => Some(explicit(name, net.into(), taken).map(|()| net)?),
        Subnet6::Auto => Some(free6(name, taken, machine_id)?),
    };
    if let (Some((first, last)), Some(net)) = (file.pool, subnet4)
        && !(net.contains(&first) && net.contains(&last))
    {
        return Err(AllocError::PoolOutside {
            zone: name.clone(),
            net: net.into(),
            first,
            last,
        });
    }
    subnet4
        .map_or(Ok(()), |net| file.dhcp.check(net))
        .map_err(|source| AllocError::Dhcp {
            zone: name.clone(),
            source,
        })?;
    Ok(Zone {
        name: name.clone(),
        bridge: file.bridge.clone().unwrap_or_else(|| name.bridge()),
        subnet4,
        subnet6,
        gateway4: subnet4.map(|net| Ipv4Addr::from(u32::from(net.network()) + 1)),
        gateway6: subnet6.map(|net| Ipv6Addr::from(u128::from(net.network()) + 1)),
        internal: file.internal,
        uplink: file.uplink.clone(),
        default: file.default,
        mtu: file.mtu.unwrap_or(DEFAULT_MTU),
        domain: file.domain.clone().unwrap_or_else(|| default_domain(name)),
        pool: file.pool,
        dns: file.dns.clone(),
        dhcp: file.dhcp.clone(),
        mac: bridge_mac(name),
    })
}

fn explicit(name: &ZoneName, net: IpNet, taken: &Taken) -> Result<(), AllocError> {
    match taken.owner(name, net) {
        None => Ok(()),
        Some(owner) => Err(AllocError::Overlap {
            zone: name.clone(),
            net,
            owner,
        }),
    }
}

/// The first free of `candidates`; `range` is what they come from.
fn first_free<N: Into<IpNet> + Copy>(
    name: &ZoneName,
    taken: &Taken,
    range: IpNet,
    candidates: impl Iterator<Item = N>,
) -> Result<N, AllocError> {
    let mut last_owner = Owner::Route(range);
    for net in candidates {
        match taken.owner(name, net.into()) {
            None => return Ok(net),
            Some(owner) => last_owner = owner,
        }
    }
    Err(AllocError::NoSubnet {
        zone: name.clone(),
        range,
        owner: last_owner,
    })
}

fn free4(name: &ZoneName, taken: &Taken) -> Result<Ipv4Net, AllocError> {
    let candidates = RANGE4.subnets(24).into_iter().flatten();
    first_free(name, taken, RANGE4.into(), candidates)
}

/// A /48 of `fd` and 40 bits of machine and zone (RFC 4193 §3.2 wants them random; a hash is as good and stays the
/// same), counted on where those are taken. Wide enough that each container has a prefix.
fn free6(name: &ZoneName, taken: &Taken, machine_id: &[u8]) -> Result<Ipv6Net, AllocError> {
    /// How many are tried.
    const TRIES: u64 = 1 << 16;
    const IDS: u64 = 1 << 40;
    let hash = digest(
        "netd prefix",
        &[machine_id, b"\0", name.as_str().as_bytes()].concat(),
    );
    let first = hash[..5]
        .iter()
        .fold(0, |id, byte| id << 8 | u64::from(*byte));
    let net = |id: u64| {
        let octets = (0xfd << 40 | u128::from(id)) << 80;
        Ipv6Net::new(octets.into(), 48).ok()
    };
    let candidates = (0..TRIES).filter_map(|step| net((first + step) % IDS));
    let range = Ipv6Net::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 8).unwrap_or_default();
    first_free(name, taken, range.into(), candidates)
}

fn digest(purpose: &str, bytes: &[u8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(purpose).chain_update([0]);
    hash.chain_update(bytes).finalize().into()
}

/// `ZONE.internal`: ICANN keeps that name for private use (resolution of 2024-07-29), so it never
/// means anything else. A zone's name may end in `-`, a hostname's label may not.
fn default_domain(name: &ZoneName) -> String {
    format!("{}.internal", name.as_str().trim_end_matches('-'))
}

/// The bridge's address: locally administered, from the zone's name alone, so that gateways keep
/// their link-local address when a bridge is made again.
pub fn bridge_mac(name: &ZoneName) -> MacAddr {
    let hash = digest("netd bridge", name.as_str().as_bytes());
    let mut mac = [0u8; 6];
    mac.copy_from_slice(&hash[..6]);
    mac[0] = (mac[0] & 0xfc) | 0x02;
    MacAddr(mac)
}

#[cfg(test)]
mod tests;
