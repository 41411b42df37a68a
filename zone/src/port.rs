//! What a container's port is to be.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::name::{ContainerName, IfName, MacAddr, PortName, ZoneName};

/// Who configures the interface inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Configure {
    /// netd, from outside, before anything runs inside: addresses, routes, link up.
    #[default]
    Static,
    /// A DHCP client inside. Only `lo` is up; the client brings the interface up.
    Dhcp,
    /// Somebody inside. Only `lo` is up.
    None,
}

impl Configure {
    /// The word that stands for it on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dhcp => "dhcp",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is none of `static`, `dhcp` and `none`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way to configure an interface; use static, dhcp or none")]
pub struct ConfigureError(String);

impl FromStr for Configure {
    type Err = ConfigureError;

    fn from_str(word: &str) -> Result<Self, ConfigureError> {
        [Self::Static, Self::Dhcp, Self::None]
            .into_iter()
            .find(|configure| configure.as_str() == word)
            .ok_or_else(|| ConfigureError(word.to_owned()))
    }
}

/// A container's port, all decided: what [`crate::plan`] turns into steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// Whose it is.
    pub container: ContainerName,
    /// The zone it is in.
    pub zone: ZoneName,
    /// That zone's bridge.
    pub bridge: IfName,
    /// Name of the interface inside, usually `host0`.
    pub ifname: IfName,
    /// Hardware address inside.
    pub mac: MacAddr,
    /// Addresses with the prefix length they get inside: the subnet's for IPv4, 128 for IPv6.
    pub addresses: Vec<IpNet>,
    /// Prefixes of its own, which the host routes to it.
    #[serde(default)]
    pub prefixes: Vec<Ipv6Net>,
    /// Next hop of the IPv4 default route; none without.
    pub gateway4: Option<Ipv4Addr>,
    /// Next hop of the IPv6 default route: the bridge's link-local address; none without.
    pub gateway6_ll: Option<Ipv6Addr>,
    /// Bytes, of both ends.
    pub mtu: u32,
    /// Who configures the inside.
    pub configure: Configure,
    /// Which of the container's networks it is, counted from 0: the first one has the default routes.
    #[serde(default)]
    pub place: u8,
    /// Whether the container has ports in other zones beside this one: then what it sends from an address leaves by
    /// the port of that address.
    #[serde(default)]
    pub several: bool,
    /// The zone's IPv6 subnet, where the container reaches it by this port and not by a default route.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
}

impl PortSpec {
    /// The port's name.
    pub fn name(&self) -> PortName {
        PortName::of(&self.container, &self.zone, self.place)
    }

    /// Name of the host end.
    pub fn host_ifname(&self) -> IfName {
        self.name().host_ifname()
    }

    /// Hardware address of the host end: the inside's with one bit flipped. Fixed, so that nobody
    /// (udev's `MACAddressPolicy=persistent` would) sees a random one and replaces it; nothing is sent to it.
    pub fn host_mac(&self) -> MacAddr {
        Self::host_mac_of(self.mac)
    }

    /// [`PortSpec::host_mac`] for this address inside.
    pub fn host_mac_of(inside: MacAddr) -> MacAddr {
        let mut mac = inside.0;
        mac[0] ^= 0x40;
        MacAddr(mac)
    }
}
