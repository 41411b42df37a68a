//! What travels over the control socket, and what `--json` prints: interface `io.netd.Control`.
//!
//! The daemon serves it with zlink (`daemon/control.rs`), the command line calls it with a small blocking
//! client (`client.rs`), and any varlink client can do the same.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zlink::introspect::Type;

/// Name of the varlink interface.
pub const INTERFACE: &str = "io.netd.Control";

/// What `zone create` and `zone set` say of a zone; absent fields keep the default or what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct ZoneSettings {
    /// CIDR, or absent for the next free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet4: Option<String>,
    /// CIDR, `none`, or absent for a ULA derived from machine and zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<String>,
    /// No path to or from the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal: Option<bool>,
    /// The only interface through which the zone reaches the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// `egress`, `deny` or `allow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i64>,
    /// DNS domain handed to containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// `FIRST-LAST`: addresses that are given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Resolvers handed to containers instead of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Vec<String>>,
}

/// A zone as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// CIDR.
    pub subnet4: Option<String>,
    /// CIDR.
    pub subnet6: Option<String>,
    /// The host's IPv4 address in it.
    pub gateway4: Option<String>,
    /// The host's IPv6 address in it.
    pub gateway6: Option<String>,
    /// No path to or from the world.
    pub internal: bool,
    /// The only interface through which it reaches the world.
    pub uplink: Option<String>,
    /// `egress`, `deny` or `allow`.
    pub default: String,
    /// Bytes.
    pub mtu: i64,
    /// DNS domain handed to containers.
    pub domain: String,
    /// Resolvers handed to containers.
    pub dns: Vec<String>,
    /// `FIRST-LAST`, when limited.
    pub pool: Option<String>,
    /// Names of the containers attached to it.
    pub containers: Vec<String>,
}

/// A request to attach. The network namespace is the descriptor passed along with the message when
/// `netns_fd` is set, else `netns` (a path) or `pid`, as the daemon sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct AttachRequest {
    /// The container's name.
    pub container: String,
    /// The zone's name.
    pub zone: String,
    /// Index among the descriptors passed along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns_fd: Option<i64>,
    /// Path of a network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// A process in the network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i64>,
    /// Name of the interface inside; `host0` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// `static`, `dhcp` or `none`; `static` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configure: Option<String>,
    /// Wanted addresses, at most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Wanted hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub labels: HashMap<String, String>,
    /// `[ADDR:]HOSTPORT[-END]:PORT[/udp]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
}

/// An attached container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Container {
    /// Its name.
    pub container: String,
    /// Its zone.
    pub zone: String,
    /// Name of its interface inside.
    pub ifname: String,
    /// Name of the host end.
    pub host_ifname: String,
    /// Hardware address inside.
    pub mac: String,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Gateways.
    pub gateways: Vec<String>,
    /// Resolvers.
    pub dns: Vec<String>,
    /// DNS domain.
    pub domain: String,
    /// Bytes.
    pub mtu: i64,
    /// Labels.
    pub labels: HashMap<String, String>,
    /// Published ports, as requested.
    pub published: Vec<String>,
    /// `attached`; or `refused`, with the reason among the daemon's problems.
    pub state: String,
}

/// An address that somebody has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Lease {
    /// Whose.
    pub container: String,
    /// In which zone.
    pub zone: String,
    /// Hardware address.
    pub mac: String,
    /// Address, without prefix length.
    pub address: String,
    /// `static` (configured from outside) or `dhcp`.
    pub kind: String,
    /// `reserved` (kept for the name), `offered`, `bound`, `released`, `declined` or `expired`.
    pub state: String,
    /// End of the lease in seconds since 1970; absent where it has none.
    pub expires: Option<i64>,
}

/// Something that is wrong and stays wrong until somebody mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Problem {
    /// The file or object it is about.
    pub subject: String,
    /// The whole message; diagnostics carry `FILE:LINE:COLUMN`.
    pub message: String,
}

/// The daemon's own state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Status {
    /// netd's version.
    pub version: String,
    /// Process id of the daemon.
    pub pid: i64,
    /// Seconds since it started.
    pub uptime: i64,
    /// Names of the zones.
    pub zones: Vec<String>,
    /// Number of attached containers.
    pub containers: i64,
    /// Number of policy files in force.
    pub policies: i64,
    /// Whether the tables belong to netd alone (`owned`), or are only watched (`watched`).
    pub tables: String,
    /// How often the ruleset had to be restored.
    pub restored: i64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// One rule or default that took part in a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Reason {
    /// The policy file; absent for a default or a built-in rule.
    pub file: Option<String>,
    /// Counted from 1.
    pub line: Option<i64>,
    /// Counted from 1.
    pub column: Option<i64>,
    /// `egress` or `ingress`; absent where neither fits.
    pub direction: Option<String>,
    /// `allow` or `deny`.
    pub action: String,
    /// A sentence for people.
    pub text: String,
}

/// Whether a connection would pass, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Explanation {
    /// `allow` or `deny`.
    pub verdict: String,
    /// In the order in which they took part.
    pub reasons: Vec<Reason>,
}

/// The policy in force for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct PolicyView {
    /// The container.
    pub container: String,
    /// Its zone.
    pub zone: String,
    /// Policy files that apply to it.
    pub files: Vec<String>,
    /// What holds, rule by rule and default by default.
    pub rules: Vec<Reason>,
    /// The rules it became, as `nft` text or JSON, when asked for.
    pub nft: Option<String>,
}

/// Errors of the interface. Every one carries the whole message for people.
#[derive(Debug, Clone, PartialEq, Eq, zlink::ReplyError, zlink::introspect::ReplyError)]
#[zlink(interface = "io.netd.Control")]
pub enum Error {
    /// No such zone (exit code 3).
    NoSuchZone {
        /// What was tried, on which object, and what to do.
        message: String,
    },
    /// No such container (exit code 3).
    NoSuchContainer {
        /// What was tried, on which object, and what to do.
        message: String,
    },
    /// The request cannot be understood (exit code 2).
    Invalid {
        /// What is wrong with it.
        message: String,
    },
    /// The request was understood and refused or failed (exit code 1).
    Refused {
        /// What was tried, on which object, why it failed, and what to do.
        message: String,
    },
}
