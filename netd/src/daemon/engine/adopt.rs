//! Ports that nobody attached: plugged into a zone's bridge by systemd-nspawn, a virtual machine or a person.
//!
//! ```text
//! seen on a bridge ─► held (isolated, locked) ─► name ─► policy ─► hardware address ─► address ─► elements ─► record
//!                          │                        └───────┴──────────┴── refused: stays held, and the reason is told
//!                          └── the guard drops everything from and to it until its elements are there
//! ```
//!
//! Nothing here opens anything before the container's policy is in force: a port that is not in the guard's set
//! sends and receives nothing, whether or not this has run.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use firewall::model;
use tokio::sync::Notify;
use zone::{Configure, ContainerName, IfName, MacAddr, NameError, PortName, Stranger, ZoneName};

use super::attach::{address_nets, spec_of};
use super::request::default_ifname;
use super::{Engine, refused};
use crate::api;
use crate::daemon::chain;
use crate::daemon::reaper::Reaper;
use crate::daemon::record::Record;

/// What systemd-nspawn puts before the machine's name.
const PREFIX: &str = "vb-";

/// A port on one of our bridges that is not adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    zone: ZoneName,
    port: String,
    why: Why,
}

/// Why a port is not adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// Its machine's hardware address is not known: it has said nothing yet.
    Silent,
    /// It is on a bridge of somebody else's, and the chain of plugins that made it has not come to netd.
    Unclaimed,
    /// In words.
    Refused(String),
}

impl From<api::Error> for Why {
    fn from(error: api::Error) -> Self {
        Why::Refused(crate::daemon::control::message(&error).to_owned())
    }
}

/// Ports on our bridges that are not adopted, by index.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    held: std::collections::BTreeMap<u32, Held>,
    /// Told when one begins or ends to be silent.
    news: Rc<Notify>,
}

impl Strangers {
    pub(super) fn knows(&self, ifindex: u32) -> bool {
        self.held.contains_key(&ifindex)
    }

    /// The port is gone, or is somebody's by now.
    pub(super) fn forget(&mut self, ifindex: u32) {
        if self
            .held
            .remove(&ifindex)
            .is_some_and(|h| h.why == Why::Silent)
        {
            self.news.notify_one();
        }
    }

    /// Ports of a zone that goes, and are nobody's business then.
    pub(super) fn leave(&mut self, zone: &ZoneName) -> Vec<u32> {
        let of = self.held.iter().filter(|(_, held)| held.zone == *zone);
        let ports: Vec<u32> = of.map(|(ifindex, _)| *ifindex).collect();
        ports.iter().for_each(|ifindex| self.forget(*ifindex));
        ports
    }

    fn note(&mut self, ifindex: u32, held: Held) {
        if self.held.get(&ifindex) == Some(&held) {
            return;
        }
        match &held.why {
            Why::Silent => {
                tracing::info!(port = %held.port, zone = %held.zone, "plugged in; its machine has said nothing yet");
            }
            Why::Unclaimed => {
                tracing::debug!(port = %held.port, zone = %held.zone, "plugged in; not under policy yet");
            }
            Why::Refused(reason) => {
                tracing::warn!(port = %held.port, zone = %held.zone, "not adopted: {reason}");
            }
        }
        self.held.insert(ifindex, held);
        self.news.notify_one();
    }
}

impl Engine {
    /// Told when [`Engine::silent_ports`] changes.
    pub(crate) fn silent_news(&self) -> Rc<Notify> {
        self.strangers.news.clone()
    }

    /// Ports whose machines have said nothing yet.
    pub(crate) fn silent_ports(&self) -> Vec<u32> {
        let held = self.strangers.held.iter();
        held.filter(|(_, held)| held.why == Why::Silent)
            .map(|(ifindex, _)| *ifindex)
            .collect()
    }

    /// What is wrong with ports that are not adopted.
    pub(super) fn stranger_problems(&self) -> impl Iterator<Item = api::Problem> {
        self.strangers.held.values().filter_map(|held| match &held.why {
            Why::Silent | Why::Unclaimed => None,
            Why::Refused(reason) => Some(api::Problem {
                subject: format!("port {}", held.port),
                message: format!(
                    "plugged into zone {} and not adopted, everything from and to it is dropped: {reason}",
                    held.zone
                ),
            }),
        })
    }

    /// What is to be known of ports that are not adopted yet.
    pub(super) fn stranger_warnings(&self) -> impl Iterator<Item = String> {
        let warning = |held: &Held| {
            let (port, zone) = (&held.port, &held.zone);
            match held.why {
                Why::Silent => Some(format!(
                    "port {port} was plugged into zone {zone}: it is adopted when its machine asks for an address; until then everything from and to it is dropped"
                )),
                Why::Unclaimed => Some(format!(
                    "port {port} is on the bridge of zone {zone}, and its network has no netd-policy (or has not come to it): everything from and to it is dropped"
                )),
                Why::Refused(_) => None,
            }
        };
        self.strangers.held.values().filter_map(warning)
    }

    /// Looks at every port of a zone's bridge that is nobody's.
    pub(super) fn meet_ports_of(&mut self, zone: &ZoneName) {
        let Some(bridge) = self.zones.get(zone).map(|s| s.zone.bridge.clone()) else {
            return;
        };
        match self.links.port_indexes(&bridge) {
            Ok(ports) => ports.into_iter().for_each(|ifindex| self.meet(ifindex)),
            Err(e) => tracing::error!(bridge = %bridge, error = %chain(&e), "list its ports"),
        }
    }

    /// Tries again with ports that were not adopted: what stood in the way may be gone.
    pub(crate) fn meet_again(&mut self) {
        let held: Vec<u32> = self.strangers.held.keys().copied().collect();
        for ifindex in held {
            self.meet(ifindex);
        }
    }

    /// Looks at a port that may be on one of our bridges: adopts it, or holds it.
    pub(super) fn meet(&mut self, ifindex: u32) {
        self.meet_with(ifindex, None);
    }

    /// A port's machine has asked for an address, by a frame from this hardware address.
    pub(crate) fn heard_stranger(&mut self, ifindex: u32, mac: MacAddr) {
        self.meet_with(ifindex, Some(mac));
    }

    fn meet_with(&mut self, ifindex: u32, heard: Option<MacAddr>) {
        if self.ports.at(ifindex).is_some() {
            self.strangers.forget(ifindex);
            return;
        }
        let port = match self.links.stranger(ifindex) {
            Ok(Some(port)) => port,
            Ok(None) => return self.strangers.forget(ifindex),
            Err(e) => {
                tracing::error!(ifindex, error = %chain(&e), "look at a port");
                return;
            }
        };
        let on = |state: &&super::ZoneState| Some(state.ifindex) == port.master;
        let Some(zone) = self.zones.values().find(on).map(|s| s.zone.name.clone()) else {
            return self.strangers.forget(ifindex);
        };
        // One of ours that was closed, or is being undone.
        if Reaper::groups().contains(&port.group) || port.is_own_make() {
            return self.strangers.forget(ifindex);
        }
        let held = self
            .links
            .hold_port(&port)
            .map_err(|e| Why::Refused(chain(&e)));
        match held.and_then(|()| self.adopt(&zone, &port, heard)) {
            Ok(()) => self.strangers.forget(ifindex),
            Err(why) => {
                let port = port.name;
                self.strangers.note(ifindex, Held { zone, port, why });
            }
        }
    }

    /// Takes a port over under the name that it says, or does nothing.
    fn adopt(
        &mut self,
        zone: &ZoneName,
        port: &Stranger,
        heard: Option<MacAddr>,
    ) -> Result<(), Why> {
        if self.zone(zone)?.zone.is_foreign() {
            return Err(Why::Unclaimed);
        }
        let refuse = |reason: String| Err(Why::Refused(reason));
        let container = name_of(port).map_err(|e| Why::Refused(e.to_string()))?;
        let host_ifname: IfName = port
            .name
            .parse()
            .map_err(|e: NameError| Why::Refused(e.to_string()))?;
        let what = format!("adopt {container}");
        if let Some(other) = self.ports.of_container(container.as_str()).first() {
            return refuse(format!(
                "its name stands for container {container}, which is in zone {} already, on port {} (detach that, or plug this in under another name)",
                other.zone, other.host_ifname
            ));
        }
        if self.is_closing(container.as_str()) {
            return refuse(format!(
                "the last port of container {container} is still being deleted"
            ));
        }
        let Some(mac) = heard.or(port.peer.as_ref().map(|peer| peer.mac)) else {
            return Err(Why::Silent);
        };
        self.refuse_hardware(zone, mac)?;
        let mut asked = model::Container {
            name: PortName::from(&container),
            zone: zone.clone(),
            ifindex: port.ifindex,
            mac,
            addresses: Vec::new(),
            labels: Default::default(),
            publish: Vec::new(),
        };
        self.refuse_without_policy(&asked, &what)?;
        let (addresses, fresh) = self.assign_adopted(zone, &container, mac, &what)?;
        asked.addresses.clone_from(&addresses);
        let state = self.zone(zone)?;
        let inside = port.peer.as_ref().and_then(|peer| peer.name.parse().ok());
        let record = Record {
            container,
            zone: zone.clone(),
            ifname: match inside {
                Some(name) => name,
                None => default_ifname(0).map_err(|e| Why::Refused(e.to_string()))?,
            },
            host_ifname,
            ifindex: port.ifindex,
            mac,
            addresses: address_nets(state, &addresses),
            configure: Configure::Dhcp,
            labels: Default::default(),
            publish: Vec::new(),
            netns: (0, 0),
            aliases: Vec::new(),
            bandwidth: Default::default(),
            owner: None,
            adopted: true,
            delegated: Vec::new(),
            place: 0,
        };
        let outcome = self.put_in_force(&record, &what);
        if let Err(e) = outcome {
            if fresh && let Some(state) = self.zones.get_mut(zone) {
                state.pool.forget(&record.container);
            }
            return Err(e.into());
        }
        if fresh {
            self.keep_addresses(&record);
        }
        tracing::info!(container = %record.container, zone = %record.zone, port = %record.host_ifname, mac = %record.mac,
            addresses = ?record.ips(), "adopted");
        Ok(())
    }

    /// In the order of an attach: the port, then its elements, which open it.
    pub(super) fn put_in_force(&mut self, record: &Record, what: &str) -> Result<(), api::Error> {
        let spec = spec_of(self.zone(&record.zone)?, record);
        self.links
            .repair_port(&spec, record.ifindex)
            .map_err(|e| refused(format!("{what}: {}", chain(&e))))?;
        // its machine may be sending already
        let limited = self.limit(record, what);
        let enforced = limited
            .and_then(|()| self.enforce(record, what))
            .map(|()| self.forget_waiting(record));
        let done = enforced.and_then(|()| {
            self.records.write(record).map_err(|e| {
                let dir = self.dirs.runtime.display();
                refused(format!("{what}: record it in {dir}: {e}"))
            })
        });
        if let Err(e) = done {
            let changes = self.firewall.detach(&record.port());
            if let Err(e) = self.apply(&changes) {
                tracing::error!(container = %record.container, error = ?e, "undo adopt: remove elements");
            }
            if let Err(e) = self.records.remove(&record.port()) {
                tracing::error!(container = %record.container, error = %e, "undo adopt: remove its record");
            }
            self.remove_ways(record);
            self.unlimit(record);
            return Err(e);
        }
        self.bind_lease(record);
        self.name_container(record);
        self.ports.insert(record.clone());
        Ok(())
    }

    /// An address of hardware that cannot be the machine's.
    fn refuse_hardware(&self, zone: &ZoneName, mac: MacAddr) -> Result<(), Why> {
        if !mac.is_unicast() {
            return Err(Why::Refused(format!(
                "its hardware address {mac} is not a unicast one"
            )));
        }
        if self.zone(zone)?.zone.mac == mac {
            return Err(Why::Refused(format!(
                "its hardware address {mac} is the gateway's"
            )));
        }
        match self.ports.with_mac(zone, mac) {
            Some(other) => Err(Why::Refused(format!(
                "its hardware address {mac} belongs to container {}",
                other.container()
            ))),
            None => Ok(()),
        }
    }

    /// Its addresses, and whether they are new to the name: of `[dhcp] pool` where the zone has one, else as any
    /// container's.
    fn assign_adopted(
        &mut self,
        zone: &ZoneName,
        container: &ContainerName,
        mac: MacAddr,
        what: &str,
    ) -> Result<(Vec<IpAddr>, bool), Why> {
        self.promise_by_mac(zone, container, mac);
        let state = self.zone(zone)?;
        let reserved = state.pool.promised(container).is_some();
        let promised = match state.zone.dhcp.pool.filter(|_| !reserved) {
            None => None,
            Some((first, last)) => {
                let Some(address) = self.free_of_pool(zone, container, mac, first, last) else {
                    return Err(Why::Refused(format!(
                        "the zone's [dhcp] pool {first}-{last} is used up"
                    )));
                };
                Some(address)
            }
        };
        let Some(state) = self.zones.get_mut(zone) else {
            return Err(super::no_such_zone(zone.as_str()).into());
        };
        if let Some(address) = promised {
            state.pool.promise(container, address);
        }
        let assigned = self.assign(zone, container, &[], &[], what);
        if promised.is_some()
            && let Some(state) = self.zones.get_mut(zone)
        {
            state.pool.withdraw(container);
        }
        Ok(assigned?)
    }

    /// The address of `[dhcp] pool` that the name has; else one that nobody has, or has had.
    fn free_of_pool(
        &self,
        zone: &ZoneName,
        container: &ContainerName,
        mac: MacAddr,
        first: Ipv4Addr,
        last: Ipv4Addr,
    ) -> Option<Ipv4Addr> {
        let state = self.zones.get(zone)?;
        let reserved = |a: &Ipv4Addr| state.zone.dhcp.reservations.iter().any(|r| r.address == *a);
        let leased = |a: &Ipv4Addr| {
            let lease = state.responder.as_ref().and_then(|r| r.lease(*a));
            let over =
                |l: &&dhcp::Lease| matches!(l.state, dhcp::State::Released | dhcp::State::Expired);
            lease.is_some_and(|l| !over(&l) && l.mac != mac.0)
        };
        let others = |a: &Ipv4Addr| {
            let owner = state.pool.owner((*a).into());
            owner.is_some_and(|owner| owner != container)
        };
        let free = |a: &Ipv4Addr| {
            state.zone.gateway4 != Some(*a) && !reserved(a) && !leased(a) && !others(a)
        };
        let four = |ip: &IpAddr| match ip {
            IpAddr::V4(a) => Some(*a),
            IpAddr::V6(_) => None,
        };
        let names = self.kept.iter().filter(|((z, _), _)| z == zone);
        let mut kept = std::collections::BTreeSet::new();
        for ((_, name), ips) in names {
            for address in ips.iter().filter_map(four) {
                let inside = (first..=last).contains(&address);
                if name == container && inside && free(&address) {
                    return Some(address);
                }
                kept.insert(address);
            }
        }
        let range = || (u32::from(first)..=u32::from(last)).map(Ipv4Addr::from);
        let unused = range().find(|a| free(a) && !kept.contains(a));
        unused.or_else(|| range().find(free))
    }

    /// An adopted port left its bridge. Whoever plugged it in may do that; it may be on another bridge of ours by now.
    pub(super) fn port_left(&mut self, record: &Record) {
        self.port_vanished(&record.port());
        self.meet(record.ifindex);
    }
}

/// The container that a port stands for: what follows `vb-`, in the alternative name where that is the long form.
fn name_of(port: &Stranger) -> Result<ContainerName, NameError> {
    let long = port
        .altnames
        .iter()
        .find_map(|name| name.strip_prefix(PREFIX));
    let short = port.name.strip_prefix(PREFIX);
    long.or(short).unwrap_or(&port.name).parse()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn port(name: &str, altnames: &[&str]) -> Stranger {
        Stranger {
            ifindex: 7,
            name: name.to_owned(),
            altnames: altnames.iter().map(|&name| name.to_owned()).collect(),
            mac: None,
            master: None,
            group: 0,
            peer: None,
        }
    }

    #[test]
    fn a_port_is_named_as_whoever_plugged_it_in_named_it() {
        for (container, name, altnames) in [
            ("web", "vb-web", &[][..]),
            ("web", "vb-web", &["enp0s3"]),
            (
                "a-machine-with-a-long-name",
                "vb-a-machineKd4F",
                &["vb-a-machine-with-a-long-name"],
            ),
            ("tap0", "tap0", &[]),
            ("vnet3", "vnet3", &["other"]),
        ] {
            assert_eq!(name_of(&port(name, altnames)).unwrap().as_str(), container);
        }
        for wrong in ["vb-", "vb-_x", "vb-ä", "-"] {
            assert!(name_of(&port(wrong, &[])).is_err(), "{wrong}");
        }
    }
}
