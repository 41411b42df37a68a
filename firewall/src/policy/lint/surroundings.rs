//! What is known around the files that are checked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use zone::{ContainerName, Subnet6, ZoneFile, ZoneName};

use crate::policy::{AppliesTo, PolicyFile};

/// What is known of a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneFacts {
    /// No path to or from the world.
    pub internal: bool,
    /// Whether it has IPv6.
    pub has_v6: bool,
    /// Its subnets. Where netd chooses them and has not told yet, the range that it chooses from.
    pub subnets: Vec<IpNet>,
    /// The host's addresses in it, where they are known.
    pub gateways: Vec<IpAddr>,
}

/// What is known of a port of an attached container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its zone.
    pub zone: ZoneName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What is known around the files. `None`: nothing, and so nothing is said about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// All zones there are.
    pub zones: Option<BTreeMap<ZoneName, ZoneFacts>>,
    /// All containers that are attached, and what each of their ports is.
    pub containers: Option<BTreeMap<ContainerName, Vec<Attached>>>,
    /// Addresses of the host outside its zones, as far as they are known.
    pub host: Vec<IpAddr>,
}

/// Where subnets are taken from that a zone file does not give: 10.89.0.0/16, and unique local addresses.
fn chosen() -> (IpNet, IpNet) {
    let v4 = Ipv4Net::new_assert([10, 89, 0, 0].into(), 16);
    let v6 = Ipv6Net::new_assert([0xfd00, 0, 0, 0, 0, 0, 0, 0].into(), 8);
    (v4.into(), v6.into())
}

impl ZoneFacts {
    /// What a zone's file alone tells.
    pub fn of_file(file: &ZoneFile) -> Self {
        let (any4, any6) = chosen();
        let mut facts = Self {
            internal: file.internal,
            has_v6: file.subnet6 != Subnet6::None,
            ..Self::default()
        };
        match file.subnet4 {
            Some(net) => facts.add(net.into()),
            None if file.without_ipv4 => {}
            None => facts.subnets.push(any4),
        }
        match file.subnet6 {
            Subnet6::Net(net) => facts.add(net.into()),
            Subnet6::Auto => facts.subnets.push(any6),
            Subnet6::None => {}
        }
        facts
    }

    /// A subnet whose first address is the gateway.
    fn add(&mut self, net: IpNet) {
        self.subnets.push(net.trunc());
        self.gateways.extend(net.hosts().next());
    }
}

impl Surroundings {
    /// All that is known of zones.
    pub(super) fn all_zones(&self) -> impl Iterator<Item = (&ZoneName, &ZoneFacts)> {
        self.zones.iter().flatten()
    }

    /// The zone of all containers that a file applies to, where that can be told.
    pub(super) fn zone_of(&self, file: &PolicyFile) -> Option<(&ZoneName, &ZoneFacts)> {
        let AppliesTo {
            container, zone, ..
        } = &file.applies_to;
        let attached = || {
            let containers = self.containers.as_ref()?;
            match containers.get(container.as_ref()?)?.as_slice() {
                [port] => Some(&port.zone),
                _ => None,
            }
        };
        let name = zone.as_ref().or_else(attached)?;
        self.zones.as_ref()?.get_key_value(name)
    }
}
