//! What travels over the control socket, and what `--json` prints: interface `io.netd.Control`.
//!
//! The daemon serves it with zlink (`daemon/control.rs`), the command line calls it with a small blocking
//! client (`client.rs`), and any varlink client can do the same.

mod apply;
mod dhcp;
mod limit;
mod network;
mod six;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

pub(crate) use apply::{
    AppliedState, PolicyChange, PolicyDifference, PolicyStep, PolicyText, PolicyTexts,
};
pub(crate) use dhcp::{DhcpSilence, DhcpZone};
pub(crate) use limit::{Limit, LimitChange, PolicyLimit};

pub(crate) use network::{Network, PolicyNetwork};
pub(crate) use six::{Ipv6Silence, Ipv6Zone};

/// Name of the varlink interface.
pub(crate) const INTERFACE: &str = "io.netd.Control";

/// What `zone create` and `zone set` say of a zone; absent fields keep the default or what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct ZoneSettings {
    /// Somebody else's bridge, or absent for one of netd's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bridge: Option<String>,
    /// CIDR, or absent for the next free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subnet4: Option<String>,
    /// CIDR, `none`, or absent for a ULA derived from machine and zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subnet6: Option<String>,
    /// No path to or from the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) internal: Option<bool>,
    /// The only interface through which the zone reaches the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uplink: Option<String>,
    /// `egress`, `deny` or `allow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<i64>,
    /// DNS domain handed to containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) domain: Option<String>,
    /// `FIRST-LAST`: addresses that are given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<String>,
    /// Resolvers handed to containers instead of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dns: Option<Vec<String>>,
    /// `ADDR` or `ADDR:PORT`: resolvers that the gateway asks instead of the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upstream: Option<Vec<String>>,
    /// The same for names of some domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_domains: Option<HashMap<String, Vec<String>>>,
}

/// A zone as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Zone {
    /// Its name.
    pub(crate) name: String,
    /// Its bridge.
    pub(crate) bridge: String,
    /// CIDR.
    pub(crate) subnet4: Option<String>,
    /// CIDR.
    pub(crate) subnet6: Option<String>,
    /// The host's IPv4 address in it.
    pub(crate) gateway4: Option<String>,
    /// The host's IPv6 address in it.
    pub(crate) gateway6: Option<String>,
    /// No path to or from the world.
    pub(crate) internal: bool,
    /// The only interface through which it reaches the world.
    pub(crate) uplink: Option<String>,
    /// `egress`, `deny` or `allow`.
    pub(crate) default: String,
    /// Bytes.
    pub(crate) mtu: i64,
    /// DNS domain handed to containers.
    pub(crate) domain: String,
    /// Resolvers handed to containers.
    pub(crate) dns: Vec<String>,
    /// Resolvers that the gateway asks instead of the host's.
    #[serde(default)]
    pub(crate) upstream: Vec<String>,
    /// The same for names of some domains.
    #[serde(default)]
    pub(crate) upstream_domains: HashMap<String, Vec<String>>,
    /// `FIRST-LAST`, when limited.
    pub(crate) pool: Option<String>,
    /// Names of the containers attached to it.
    pub(crate) containers: Vec<String>,
}

/// A request to attach. The network namespace is the descriptor passed along with the message when
/// `netns_fd` is set, else `netns` (a path) or `pid`, as the daemon sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct AttachRequest {
    /// The container's name.
    pub(crate) container: String,
    /// The zone's name.
    pub(crate) zone: String,
    /// Index among the descriptors passed along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) netns_fd: Option<i64>,
    /// Path of a network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) netns: Option<String>,
    /// A process in the network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<i64>,
    /// The namespace's name in /run/netns: with `static`, /etc/netns/NAME/resolv.conf is made for `ip netns exec`,
    /// if that is its name for the daemon too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) netns_name: Option<String>,
    /// Name of the interface inside; `host0` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ifname: Option<String>,
    /// `static`, `dhcp` or `none`; `static` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) configure: Option<String>,
    /// Wanted addresses, at most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) addresses: Vec<String>,
    /// Wanted hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub(crate) labels: HashMap<String, String>,
    /// `[ADDR:]HOSTPORT[-END]:PORT[/udp]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) publish: Vec<String>,
    /// `FIRST-LAST`: where its addresses have to come from, instead of the zone's pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ranges: Vec<String>,
    /// Further names of it in the zone. Who came first has a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aliases: Vec<String>,
    /// How much it may send and receive; what policies say holds too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) bandwidth: Vec<Limit>,
    /// The key under which a door finds it again, unique: see `DetachOwned`, `Reclaim`, `Check`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// Whether its port is there already, the other end of `ifname`, made and configured by somebody else: in zones
    /// on a bridge that is not netd's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) take: Option<bool>,
    /// It may be a further network of a container that is in another zone. Without this, and without `ifname`, that is
    /// a difference, and refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) further: Option<bool>,
}

/// An attached container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Container {
    /// Its name.
    pub(crate) container: String,
    /// Its zone.
    pub(crate) zone: String,
    /// Name of its interface inside.
    pub(crate) ifname: String,
    /// Name of the host end.
    pub(crate) host_ifname: String,
    /// Hardware address inside.
    pub(crate) mac: String,
    /// Addresses with prefix length.
    pub(crate) addresses: Vec<String>,
    /// Gateways.
    pub(crate) gateways: Vec<String>,
    /// Resolvers.
    pub(crate) dns: Vec<String>,
    /// DNS domain.
    pub(crate) domain: String,
    /// Bytes.
    pub(crate) mtu: i64,
    /// Labels.
    pub(crate) labels: HashMap<String, String>,
    /// Published ports, as requested.
    pub(crate) published: Vec<String>,
    /// How much it may send and receive: what is in force, at most one of each direction.
    #[serde(default)]
    pub(crate) bandwidth: Vec<Limit>,
    /// `attached`; or `refused`, with the reason among the daemon's problems.
    pub(crate) state: String,
    /// All of its networks in their order, where there are several; the fields above are the first one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) networks: Vec<Network>,
}

/// An address that somebody has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Lease {
    /// Whose.
    pub(crate) container: String,
    /// In which zone.
    pub(crate) zone: String,
    /// Hardware address.
    pub(crate) mac: String,
    /// Address, without prefix length.
    pub(crate) address: String,
    /// `static` (configured from outside) or `dhcp`.
    pub(crate) kind: String,
    /// `reserved` (kept for the name), `offered`, `bound`, `released`, `declined` or `expired`.
    pub(crate) state: String,
    /// End of the lease in seconds since 1970; absent where it has none.
    pub(crate) expires: Option<i64>,
}

/// Something that is wrong and stays wrong until somebody mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Problem {
    /// The file or object it is about.
    pub(crate) subject: String,
    /// The whole message; diagnostics carry `FILE:LINE:COLUMN`.
    pub(crate) message: String,
}

/// What the resolver did for a zone since the daemon started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct ResolverZone {
    /// The zone.
    pub(crate) zone: String,
    /// Messages that came.
    pub(crate) queries: i64,
    /// Answered from what netd knows itself.
    pub(crate) local: i64,
    /// Answered from the cache.
    pub(crate) cached: i64,
    /// Sent upstream.
    pub(crate) forwarded: i64,
    /// Waited for a question that was on its way already.
    pub(crate) joined: i64,
    /// Refused because the container's policy has no use for an answer.
    pub(crate) refused: i64,
    /// No upstream resolver gave an answer.
    pub(crate) failed: i64,
    /// Dropped or refused because the container asks too much.
    pub(crate) limited: i64,
    /// Malformed, not served, or from nobody of the zone.
    pub(crate) wrong: i64,
}

/// The resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Resolver {
    /// The host's resolvers, which it asks for zones without `upstream`.
    pub(crate) upstream: Vec<String>,
    /// Answers in its cache.
    pub(crate) cached: i64,
    /// Questions on their way.
    pub(crate) under_way: i64,
    /// Zone by zone.
    pub(crate) zones: Vec<ResolverZone>,
}

/// The daemon's own state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct DaemonStatus {
    /// netd's version.
    pub(crate) version: String,
    /// Process id of the daemon.
    pub(crate) pid: i64,
    /// Seconds since it started.
    pub(crate) uptime: i64,
    /// Names of the zones.
    pub(crate) zones: Vec<String>,
    /// Number of attached containers.
    pub(crate) containers: i64,
    /// Number of policy files in force.
    pub(crate) policies: i64,
    /// Whether the tables belong to netd alone (`owned`), or are only watched (`watched`).
    pub(crate) tables: String,
    /// How often the ruleset had to be restored.
    pub(crate) restored: i64,
    /// What the DHCP servers of the zones did.
    #[serde(default)]
    pub(crate) dhcp: Vec<DhcpZone>,
    /// The resolver.
    #[serde(default)]
    pub(crate) resolver: Resolver,
    /// What was done for machines that ask for IPv6, by zone.
    #[serde(default)]
    pub(crate) ipv6: Vec<Ipv6Zone>,
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
    /// The last apply of policies, if there was one.
    pub(crate) applied: Option<AppliedState>,
    /// What is worth a warning.
    pub(crate) warnings: Vec<String>,
}

/// One rule or default that took part in a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Reason {
    /// The policy file; absent for a default or a built-in rule.
    pub(crate) file: Option<String>,
    /// Counted from 1.
    pub(crate) line: Option<i64>,
    /// Counted from 1.
    pub(crate) column: Option<i64>,
    /// `egress` or `ingress`; absent where neither fits.
    pub(crate) direction: Option<String>,
    /// `allow` or `deny`.
    pub(crate) action: String,
    /// A sentence for people.
    pub(crate) text: String,
}

/// Whether a connection would pass, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Explanation {
    /// `allow`, or `deny` where one of the families that were asked about is denied.
    pub(crate) verdict: String,
    /// In the order in which they took part; those of the family that decides.
    pub(crate) reasons: Vec<Reason>,
    /// Translations of addresses on the way, as far as it goes.
    pub(crate) steps: Vec<Step>,
    /// Chains of other tables in the way.
    pub(crate) foreign: Vec<Obstacle>,
    /// What would have to be added to allow it.
    pub(crate) fix: Vec<Fix>,
    /// The same for each family that was asked about.
    pub(crate) families: Vec<Answer>,
    /// Each way between two containers of which one has several networks; the first is what all of the above is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) paths: Vec<Path>,
}

/// A way from one container's network to another's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Path {
    /// `CONTAINER@ZONE`, or the end as it was asked about.
    pub(crate) from: String,
    /// The same.
    pub(crate) to: String,
    /// `allow`, or `deny` where one of the families is denied.
    pub(crate) verdict: String,
}

/// Whether a connection of one family would pass, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Answer {
    /// 4 or 6.
    pub(crate) family: i64,
    /// `allow` or `deny`.
    pub(crate) verdict: String,
    /// In the order in which they took part.
    pub(crate) reasons: Vec<Reason>,
    /// Translations of addresses on the way, as far as it goes.
    pub(crate) steps: Vec<Step>,
    /// Chains of other tables in the way.
    pub(crate) foreign: Vec<Obstacle>,
    /// What would have to be added to allow it.
    pub(crate) fix: Vec<Fix>,
}

/// A translation of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Step {
    /// `dnat`, `masquerade`, `hairpin` or `name`.
    pub(crate) kind: String,
    /// A sentence for people.
    pub(crate) text: String,
    /// Address, and port where that changes too.
    pub(crate) from: String,
    /// What it becomes.
    pub(crate) to: String,
}

/// A chain of another table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Obstacle {
    /// Family and name.
    pub(crate) table: String,
    /// The chain.
    pub(crate) chain: String,
    /// `drop` where that is certain, else `maybe`.
    pub(crate) verdict: String,
    /// A sentence for people.
    pub(crate) text: String,
}

/// Lines to be added to a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Fix {
    /// The file.
    pub(crate) file: String,
    /// Whether it is a new one.
    pub(crate) create: bool,
    /// The lines.
    pub(crate) text: String,
}

/// A rule or default in force for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyRule {
    /// The policy file; absent for a default or a built-in rule.
    pub(crate) file: Option<String>,
    /// Counted from 1.
    pub(crate) line: Option<i64>,
    /// Counted from 1.
    pub(crate) column: Option<i64>,
    /// `egress` or `ingress`; absent where neither fits.
    pub(crate) direction: Option<String>,
    /// `allow` or `deny`.
    pub(crate) action: String,
    /// A sentence for people.
    pub(crate) text: String,
    /// How many packets it has matched since it is in force for this container: about one for each
    /// connection. Absent for a default or a built-in rule.
    pub(crate) hits: Option<i64>,
}

/// The policy in force for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyView {
    /// The container.
    pub(crate) container: String,
    /// Its zone.
    pub(crate) zone: String,
    /// Policy files that apply to it.
    pub(crate) files: Vec<String>,
    /// What holds, rule by rule and default by default.
    pub(crate) rules: Vec<PolicyRule>,
    /// How much it may send and receive: of each direction the lowest limit.
    #[serde(default)]
    pub(crate) bandwidth: Vec<PolicyLimit>,
    /// The rules it became, as `nft` text or JSON, when asked for.
    pub(crate) nft: Option<String>,
    /// The same for each of its networks, where there are several; the fields above are the first one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) networks: Vec<PolicyNetwork>,
}

/// What there is to know of a container beside what it was seen doing, which is in a file: it can be long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Lesson {
    /// The container.
    pub(crate) container: String,
    /// The file with what it was seen doing.
    pub(crate) file: String,
    /// `egress`, `ingress`: what files on trial mention of it now.
    pub(crate) on_trial: Vec<String>,
    /// Files that apply to it and are in force.
    pub(crate) in_force: Vec<String>,
}

/// Errors of the interface. Every one carries the whole message for people.
#[derive(Debug, Clone, PartialEq, Eq, zlink::ReplyError, zlink::introspect::ReplyError)]
#[zlink(interface = "io.netd.Control")]
pub(crate) enum Error {
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
