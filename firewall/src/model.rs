//! What the firewall knows of the world it rules: zones, containers and what they publish.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
pub use zone::DefaultPolicy;
use zone::{IfName, MacAddr, PortName, ZoneName};

/// A zone, as far as packets are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: ZoneName,
    /// Its bridge.
    pub bridge: IfName,
    /// IPv4 subnet, if it has one.
    pub subnet4: Option<Ipv4Net>,
    /// IPv6 subnet, if it has one.
    pub subnet6: Option<Ipv6Net>,
    /// The host's IPv4 address in it.
    pub gateway4: Option<Ipv4Addr>,
    /// The host's IPv6 address in it.
    pub gateway6: Option<Ipv6Addr>,
    /// No path to or from the world, whatever policies say.
    pub internal: bool,
    /// For directions that no file mentions.
    pub default: DefaultPolicy,
    /// Whether IPv6 to the world is masqueraded (ULA zones). IPv4 always is, unless `internal`.
    pub masquerade6: bool,
    /// The only interface through which it reaches the world; any when absent.
    pub uplink: Option<IfName>,
    /// Containers that may speak DHCP for others, as relay agents do, by their addresses.
    pub relays: Vec<Ipv4Addr>,
}

impl Zone {
    /// What policy knows the container by that has an address of the zone: the address; or, where each container
    /// has a prefix ([`zone::prefix`]), that prefix with zeroes behind it, which is nobody's address.
    pub fn key(&self, address: IpAddr) -> IpAddr {
        match (address, self.subnet6) {
            (IpAddr::V6(a), Some(subnet)) => {
                zone::prefix::of(subnet, a).map_or(address, |net| net.network().into())
            }
            _ => address,
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.subnet4.is_some_and(|net| net.contains(&a)),
            IpAddr::V6(a) => self.subnet6.is_some_and(|net| net.contains(&a)),
        }
    }

    /// Whether a container can be met at an address: it is of the zone, and would not pass for a prefix that it is not.
    fn serves(&self, address: IpAddr) -> bool {
        let is_prefix = address == self.key(address);
        self.has(address)
            && (!is_prefix || !second_half_is_zero(address) || self.is_prefix(address))
    }

    fn is_prefix(&self, address: IpAddr) -> bool {
        match (address, self.subnet6) {
            (IpAddr::V6(a), Some(subnet)) => zone::prefix::of(subnet, a).is_some(),
            _ => false,
        }
    }
}

/// Whether an address is of IPv6 and has nothing in its second half (the subnet-router anycast address of a /64): only
/// prefixes of containers are looked up so.
pub fn second_half_is_zero(address: IpAddr) -> bool {
    match address {
        IpAddr::V6(a) => u128::from(a) << 64 == 0,
        IpAddr::V4(_) => false,
    }
}

/// A port of the host that leads to a port of a container: `[ADDR:]HOSTPORT[-END]:PORT[/udp]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publish {
    /// The host address it listens on; every address of both families when absent.
    pub address: Option<IpAddr>,
    /// IP protocol number: 6 or 17.
    pub proto: u8,
    /// First host port.
    pub first: u16,
    /// Last host port, inclusive; equals `first` for a single port.
    pub last: u16,
    /// The container's port for `first`; the others follow one by one.
    pub port: u16,
}

/// A container attached to a zone. One that is in several zones is there once for each: everything but the name that
/// rules call it by differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name; for a further network of it, that of the port ([`PortName::container`] is what rules name).
    pub name: PortName,
    /// The zone it is in.
    pub zone: ZoneName,
    /// Index of the host end of its link.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Its addresses, without prefix lengths; at most a few of each family, its main ones first. In zones with prefixes
    /// each IPv6 one stands for the /64 around it, all of which is the container's.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it publishes.
    pub publish: Vec<Publish>,
}

/// Everything the firewall rules over, but for the policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Zones by name.
    pub zones: BTreeMap<ZoneName, Zone>,
    /// Attached containers by name.
    pub containers: BTreeMap<PortName, Container>,
    /// The host's own addresses outside the zones. Used by `explain` and the oracle only: in the
    /// kernel the hook that sees a packet tells whether it is the host's.
    pub host: Vec<IpAddr>,
    /// What time it is, for rules that count at some times only.
    pub clock: Clock,
    /// What names of the world were resolved to, for each container.
    pub resolved: BTreeMap<PortName, Resolved>,
}

/// Addresses of the world that the gateway's resolver gave one container, with the names it gave them for, each until a
/// second of the kernel's monotonic clock. Names are in lower case, without a dot at their end.
pub type Resolved = BTreeMap<IpAddr, BTreeMap<Box<str>, u64>>;

/// Whether a name is one that a `dns:` peer means: itself, or, behind `*.`, any beneath it.
pub fn name_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern == name,
        Some(domain) => name
            .strip_suffix(domain)
            .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
    }
}

/// A minute of the week, in the host's local time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clock {
    /// From Monday, 00:00.
    pub minute: u16,
}

impl Clock {
    /// A minute of the week; those beyond it are of the next one.
    pub fn at_minute(minute: u16) -> Self {
        Self {
            minute: minute % (7 * 24 * 60),
        }
    }
}

impl World {
    /// All ports of a container, by its name.
    pub fn ports_of(&self, container: &str) -> impl Iterator<Item = &Container> {
        let (from, to) = PortName::further(container);
        let between = (Bound::Included(from.as_str()), Bound::Excluded(to.as_str()));
        let first = self.containers.get(container);
        let further = self.containers.range::<str, _>(between).map(|(_, c)| c);
        first.into_iter().chain(further)
    }

    /// The addresses at which a container can be met: those in the subnets of its zone. One that lost
    /// its zone, or whose zone lost the subnet, has none: nothing passes, rather than something unruled.
    pub fn addresses<'a>(&'a self, container: &'a Container) -> impl Iterator<Item = IpAddr> + 'a {
        let zone = self.zones.get(&container.zone);
        let addresses = container.addresses.iter().copied();
        addresses.filter(move |address| zone.is_some_and(|zone| zone.serves(*address)))
    }

    /// What policy knows a container by ([`Zone::key`]), each once.
    pub fn keys(&self, container: &Container) -> Vec<IpAddr> {
        let Some(zone) = self.zones.get(&container.zone) else {
            return Vec::new();
        };
        let mut keys = Vec::with_capacity(container.addresses.len());
        for address in &container.addresses {
            let key = zone.key(*address);
            if zone.serves(*address) && !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// Whether an address is a container's: one of its own, or in a prefix of its own.
    pub fn has(&self, container: &Container, address: IpAddr) -> bool {
        let Some(zone) = self.zones.get(&container.zone) else {
            return false;
        };
        let key = zone.key(address);
        zone.has(address)
            && container
                .addresses
                .iter()
                .any(|own| zone.serves(*own) && zone.key(*own) == key)
    }

    /// All addresses that a container may use, as networks.
    pub fn networks(&self, container: &Container) -> Vec<IpNet> {
        let zone = self.zones.get(&container.zone);
        let net = |key: IpAddr| {
            let prefix = zone.is_some_and(|zone| zone.is_prefix(key));
            match key {
                IpAddr::V6(a) if prefix => zone::prefix::around(a).into(),
                _ => key.into(),
            }
        };
        self.keys(container).into_iter().map(net).collect()
    }
}

/// An endpoint of a flow, as `explain` and the oracle take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A container by name: its port in one zone.
    Container(PortName),
    /// The host, by its gateway address in the other side's zone.
    Host,
    /// Some address of the world.
    World,
    /// This address, whatever stands behind it.
    Address(IpAddr),
}

/// What a flow carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// A connection to a port of TCP (6), UDP (17), SCTP (132), DCCP (33) or UDP-Lite (136).
    Port(u8, u16),
    /// An ICMP message type (v4 number; its v6 counterpart on v6).
    Icmp(u8),
    /// Some other IP protocol.
    Proto(u8),
}

/// A connection that somebody opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Who opens it.
    pub from: Endpoint,
    /// To whom, after destination translation.
    pub to: Endpoint,
    /// With what.
    pub traffic: Traffic,
    /// In which family.
    pub family: crate::sets::Family,
    /// Whether it came through a published port.
    pub published: bool,
}
