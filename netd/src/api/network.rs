//! Containers in several zones: what is shown of each network.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

use super::{Container, Limit, PolicyLimit, PolicyRule, PolicyView};

/// A container's port in one zone. The fields are those of [`Container`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Network {
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
    /// `attached` or `adopted`.
    pub(crate) state: String,
}

impl Network {
    fn of(port: Container) -> Self {
        Self {
            zone: port.zone,
            ifname: port.ifname,
            host_ifname: port.host_ifname,
            mac: port.mac,
            addresses: port.addresses,
            gateways: port.gateways,
            dns: port.dns,
            domain: port.domain,
            mtu: port.mtu,
            labels: port.labels,
            published: port.published,
            bandwidth: port.bandwidth,
            state: port.state,
        }
    }
}

impl Container {
    /// One container of its ports, in their order: the first one's fields, and all of them in `networks` if there are
    /// several.
    pub(crate) fn joined(ports: Vec<Self>) -> Option<Self> {
        let first = ports.first()?.clone();
        let networks = match ports.len() {
            1 => Vec::new(),
            _ => ports.into_iter().map(Network::of).collect(),
        };
        Some(Self { networks, ..first })
    }

    /// Each of its ports, as a container that has no other.
    pub(crate) fn ports(&self) -> Vec<Self> {
        if self.networks.is_empty() {
            return vec![self.clone()];
        }
        let networks = self.networks.iter().cloned();
        let port = |network: Network| Self {
            container: self.container.clone(),
            zone: network.zone,
            ifname: network.ifname,
            host_ifname: network.host_ifname,
            mac: network.mac,
            addresses: network.addresses,
            gateways: network.gateways,
            dns: network.dns,
            domain: network.domain,
            mtu: network.mtu,
            labels: network.labels,
            published: network.published,
            bandwidth: network.bandwidth,
            state: network.state,
            networks: Vec::new(),
        };
        networks.map(port).collect()
    }
}

/// The policy in force for a container's port in one zone. The fields are those of [`PolicyView`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyNetwork {
    /// The zone.
    pub(crate) zone: String,
    /// Policy files that apply to it.
    pub(crate) files: Vec<String>,
    /// What holds, rule by rule and default by default.
    pub(crate) rules: Vec<PolicyRule>,
    /// How much it may send and receive: of each direction the lowest limit.
    #[serde(default)]
    pub(crate) bandwidth: Vec<PolicyLimit>,
    /// The rules it became, when asked for.
    pub(crate) nft: Option<String>,
}

impl PolicyView {
    /// As [`Container::joined`].
    pub(crate) fn joined(ports: Vec<Self>) -> Option<Self> {
        let first = ports.first()?.clone();
        let network = |port: Self| PolicyNetwork {
            zone: port.zone,
            files: port.files,
            rules: port.rules,
            bandwidth: port.bandwidth,
            nft: port.nft,
        };
        let networks = match ports.len() {
            1 => Vec::new(),
            _ => ports.into_iter().map(network).collect(),
        };
        Some(Self { networks, ..first })
    }

    /// As [`Container::ports`].
    pub(crate) fn ports(&self) -> Vec<Self> {
        if self.networks.is_empty() {
            return vec![self.clone()];
        }
        let networks = self.networks.iter().cloned();
        let port = |network: PolicyNetwork| Self {
            container: self.container.clone(),
            zone: network.zone,
            files: network.files,
            rules: network.rules,
            bandwidth: network.bandwidth,
            nft: network.nft,
            networks: Vec::new(),
        };
        networks.map(port).collect()
    }
}
