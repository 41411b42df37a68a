//! The zone file, `zones/NAME.toml`.
//!
//! ```toml
//! bridge   = "cni0"              # a bridge of somebody else's, who gives addresses; absent: one of netd's own
//! subnet4  = "10.89.3.0/24"      # absent: the next free /24 of 10.89.0.0/16; "none": no IPv4
//! subnet6  = "fd12:3456::/64"    # absent: a ULA /64 of machine and zone; "none": no IPv6
//! internal = false               # true: no path to or from the world
//! uplink   = "eth0"              # the only interface through which the zone reaches the world
//! default  = "egress"            # or "deny", "allow"
//! mtu      = 1500
//! domain   = "dmz.internal"
//! pool     = "10.89.3.100-10.89.3.199"
//! dns      = ["192.0.2.53"]      # handed to containers instead of the gateway
//! upstream = ["192.0.2.53"]      # where the gateway asks what it does not know; absent: as the host does
//! upstream-domains = { "corp.example" = ["10.0.0.53", "10.0.0.54:5353"] }
//!
//! [dhcp]                         # see the module `dhcp`
//! ```
//!
//! Every key may be absent. What is wrong is found here, with line and column, and nothing of a
//! file that has an error is used.

pub mod dhcp;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::name::IfName;
use dhcp::Dhcp;

/// What a container may do in a direction that no applying file mentions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultPolicy {
    /// Out to `world`, nothing else, nothing in.
    #[default]
    Egress,
    /// Nothing.
    Deny,
    /// Everything but other zones: its own zone's containers, host and world, both ways.
    Allow,
}

impl DefaultPolicy {
    /// The word that stands for it in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }

    /// The policy that `word` stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Egress, Self::Deny, Self::Allow]
            .into_iter()
            .find(|policy| policy.as_str() == word)
    }
}

impl fmt::Display for DefaultPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a zone file says of IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subnet6 {
    /// A unique local /64 derived from the machine and the zone's name.
    #[default]
    Auto,
    /// No IPv6 in this zone.
    None,
    /// This one.
    Net(Ipv6Net),
}

/// A zone as its file describes it. Absent values are `None`, empty or the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneFile {
    /// A bridge that somebody else makes, gives addresses on and deletes; netd's own when absent. Then `subnet4` is
    /// given, and `subnet6` where there is IPv6.
    #[serde(default)]
    pub bridge: Option<IfName>,
    /// IPv4 subnet, /8 to /30; the next free one when absent.
    pub subnet4: Option<Ipv4Net>,
    /// No IPv4 in this zone: `subnet4 = "none"`.
    #[serde(default)]
    pub without_ipv4: bool,
    /// IPv6 subnet, /48 to /120.
    pub subnet6: Subnet6,
    /// No path to or from the world, whatever policies say.
    pub internal: bool,
    /// The only interface through which the zone reaches the world; any when absent.
    pub uplink: Option<IfName>,
    /// For directions that no policy file mentions.
    pub default: DefaultPolicy,
    /// Bytes: 1280 to 65535, from 576 without IPv6; 1500 when absent.
    pub mtu: Option<u32>,
    /// DNS domain handed to containers; `ZONE.internal` when absent.
    pub domain: Option<String>,
    /// First and last address that are given out unasked; the whole subnet when absent.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Resolvers handed to containers instead of the gateway's own.
    pub dns: Vec<IpAddr>,
    /// Resolvers that the gateway asks, in order of preference; the host's when empty.
    pub upstream: Vec<SocketAddr>,
    /// Resolvers that the gateway asks for names of some domains, in lower case.
    pub upstream_domains: BTreeMap<String, Vec<SocketAddr>>,
    /// What its DHCP server hands out besides.
    #[serde(default)]
    pub dhcp: Dhcp,
}

impl ZoneFile {
    /// Reads a zone file. `file` is the name shown in errors.
    ///
    /// # Errors
    /// The first thing that is wrong: syntax, an unknown key, a bad value, values that contradict
    /// one another.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        parse::zone_file(file, text)
    }

    /// Sets one key, named as in the file, to a value as it stands on a command line: without
    /// quotes, `true` or `false`, lists with commas.
    ///
    /// # Errors
    /// There is no such key, the value is bad, or it contradicts the others. Then nothing changes.
    pub fn set(&mut self, key: &str, words: &str) -> Result<(), SettingError> {
        *self = parse::setting(self, key, words)?;
        Ok(())
    }

    /// The file that says this, keys in the order of the documentation, defaults left out.
    /// `parse(to_toml(f)) == f` for every file that `parse` accepts.
    pub fn to_toml(&self) -> String {
        let mut table = toml_edit::DocumentMut::new();
        let mut set = |key: &str, value: toml_edit::Value| {
            table.insert(key, toml_edit::Item::Value(value));
        };
        if let Some(bridge) = &self.bridge {
            set("bridge", bridge.as_str().into());
        }
        if let Some(net) = self.subnet4 {
            set("subnet4", net.to_string().into());
        } else if self.without_ipv4 {
            set("subnet4", "none".into());
        }
        match self.subnet6 {
            Subnet6::Auto => {}
            Subnet6::None => set("subnet6", "none".into()),
            Subnet6::Net(net) => set("subnet6", net.to_string().into()),
        }
        if self.internal {
            set("internal", true.into());
        }
        if let Some(uplink) = &self.uplink {
            set("uplink", uplink.as_str().into());
        }
        if self.default != DefaultPolicy::default() {
            set("default", self.default.as_str().into());
        }
        if let Some(mtu) = self.mtu {
            set("mtu", i64::from(mtu).into());
        }
        if let Some(domain) = &self.domain {
            set("domain", domain.as_str().into());
        }
        if let Some((first, last)) = self.pool {
            set("pool", format!("{first}-{last}").into());
        }
        if !self.dns.is_empty() {
            let list: toml_edit::Array = self.dns.iter().map(IpAddr::to_string).collect();
            set("dns", list.into());
        }
        let servers = |list: &[SocketAddr]| -> toml_edit::Array {
            list.iter().map(|server| server_text(*server)).collect()
        };
        if !self.upstream.is_empty() {
            set("upstream", servers(&self.upstream).into());
        }
        if !self.upstream_domains.is_empty() {
            let domains = self.upstream_domains.iter();
            let table: toml_edit::InlineTable = domains
                .map(|(domain, list)| (domain.as_str(), toml_edit::Value::from(servers(list))))
                .collect();
            set("upstream-domains", table.into());
        }
        // Tables last: a key behind one would be the table's.
        if let Some(dhcp) = self.dhcp.to_toml() {
            table.insert("dhcp", toml_edit::Item::Table(dhcp));
        }
        table.to_string()
    }
}

/// Port of DNS.
const DNS_PORT: u16 = 53;

/// A resolver as it is written: `192.0.2.53`, or with a port that is not DNS's `192.0.2.53:5353`, `[2001:db8::53]:5353`.
pub fn server_text(server: SocketAddr) -> String {
    if server.port() == DNS_PORT {
        server.ip().to_string()
    } else {
        server.to_string()
    }
}

/// Something wrong in a file, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}; {remedy}")]
pub struct FileError {
    /// The file, as it was named to the parser.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, with the value.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

/// Something wrong with a value that does not come from a file, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct SettingError {
    /// What is wrong, with the value.
    pub message: String,
    /// What to give instead.
    pub remedy: String,
}
