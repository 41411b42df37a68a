//! Zones on bridges that somebody else makes, whose containers come with port and address already.
//!
//! ```text
//! another CNI plugin: bridge, pair, addresses ─► the port is held (unknown to the guard, so nothing passes)
//!                          netd-policy: ADD ─► found by its inside ─► limits, elements ─► record ─► open
//! ```
//!
//! Rules know the zone by the name of its bridge and by its subnet, so they hold before the bridge is there. The gate
//! comes with it: at the news of the bridge, at the latest with the first ADD.

use std::net::IpAddr;

use zone::{ContainerName, Forwarding, IfName, NameError, Zone, ZoneName};

use super::attach::{Attached, address_nets};
use super::request::Request;
use super::several::Place;
use super::{Engine, refused};
use crate::api;
use crate::daemon::chain;
use crate::daemon::record::Record;

/// Index of a bridge that is not there; the kernel counts from 1.
pub(super) const ABSENT: u32 = 0;

impl Engine {
    /// Makes a bridge of somebody else's what a zone needs. [`ABSENT`] while there is none: the zone waits for it.
    pub(super) fn take_bridge(&mut self, zone: &Zone) -> Result<u32, String> {
        let Some(ifindex) = self
            .links
            .foreign_bridge(&zone.bridge)
            .map_err(|e| chain(&e))?
        else {
            return Ok(ABSENT);
        };
        firewall::kernel::gate::install(ifindex).map_err(|e| chain(&e))?;
        let plan = self.links.plan_foreign_bridge(&zone.bridge);
        let plan = plan.map_err(|e| chain(&e))?;
        if !plan.is_empty() {
            let mut record = self.bridge_before(&zone.name);
            record.merge(plan.clone());
            // On record before anything changes, as with forwarding.
            self.keep_bridge(&zone.name, &record)?;
            plan.apply().map_err(|e| chain(&e))?;
        }
        Ok(ifindex)
    }

    /// Gives a bridge back to whoever made it, as it was. Goes on past errors. Nobody of the zone is attached any more.
    pub(super) fn give_bridge_back(&mut self, name: &ZoneName, ifindex: u32) {
        let path = self.dirs.bridge(name);
        for e in self.bridge_before(name).undo() {
            tracing::warn!(zone = %name, error = %chain(&e), "set a bridge back");
        }
        if let Err(e) = std::fs::remove_file(&path)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %path.display(), error = %e, "remove the record of a bridge");
        }
        for port in self.strangers.leave(name) {
            if let Err(e) = self.links.let_port_go(port) {
                tracing::warn!(zone = %name, port, error = %chain(&e), "let a port go");
            }
        }
        if ifindex != ABSENT
            && let Err(e) = firewall::kernel::gate::remove(ifindex)
        {
            tracing::warn!(zone = %name, error = %chain(&e), "take the gate off a bridge");
        }
    }

    fn bridge_before(&self, name: &ZoneName) -> Forwarding {
        let read = std::fs::read(self.dirs.bridge(name)).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    fn keep_bridge(&self, name: &ZoneName, record: &Forwarding) -> Result<(), String> {
        let path = self.dirs.bridge(name);
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&path, serde_json::to_vec(record)?)
        };
        write().map_err(|e: std::io::Error| format!("record it in {}: {e}", path.display()))
    }

    /// Two zones cannot share a bridge, nor one change it under its containers.
    pub(super) fn check_bridge(&self, zone: &Zone, what: &str) -> Result<(), api::Error> {
        let bridge = &zone.bridge;
        let mut others = self.zones.values().map(|state| &state.zone);
        if let Some(other) = others.find(|z| z.bridge == *bridge && z.name != zone.name) {
            return Err(refused(format!(
                "{what}: bridge {bridge} is that of zone {} already",
                other.name
            )));
        }
        match self.zones.get(&zone.name) {
            Some(state) if state.zone.bridge != *bridge => Err(refused(format!(
                "{what}: it stands on bridge {}, and cannot move to {bridge}: delete the zone, then create it anew",
                state.zone.bridge
            ))),
            _ => Ok(()),
        }
    }

    /// The bridge of a zone came or went: what is on it, and what was.
    pub(super) fn follow_bridge(&mut self, name: &ZoneName) {
        let records: Vec<Record> = self.ports.of_zone(name.as_str()).cloned().collect();
        for record in records {
            let there = self.zones.get(name).map(|s| s.ifindex);
            let on = match self.links.port(record.ifindex) {
                Ok(Some((master, _))) => master,
                Ok(None) => None,
                Err(e) => {
                    tracing::error!(container = %record.container, error = %chain(&e), "look at its port");
                    continue;
                }
            };
            match on.is_some() && on == there {
                true => self.repair_port(&record),
                false => self.port_vanished(&record.port()),
            }
        }
    }

    /// Takes a port that another plugin made and plugged in: the other end of `ifname` in the namespace.
    pub(super) fn take_port(
        &mut self,
        request: &Request,
        place: &Place,
        what: &str,
    ) -> Result<Attached, api::Error> {
        let (zone, ifname) = (&request.zone, &place.ifname);
        if !request.publish.is_empty() || !request.aliases.is_empty() || !request.ranges.is_empty()
        {
            return Err(refused(format!(
                "{what}: its zone stands on a bridge that is not netd's, where others publish ports and give addresses"
            )));
        }
        let six = request.addresses.iter().find(|a| a.is_ipv6());
        if let (Some(six), None) = (six, self.zone(zone)?.zone.subnet6) {
            return Err(refused(format!(
                "{what}: it has the address {six}, and zone {zone} has no IPv6 (`netd zone set {zone} --subnet6 CIDR`, as the network's ipam has it)"
            )));
        }
        if request.addresses.is_empty() {
            return Err(refused(format!("{what}: it has no address")));
        }
        let failed = |e: zone::LinkError| refused(format!("{what}: {}", chain(&e)));
        let inside = self
            .links
            .look_inside(ifname, &request.netns)
            .map_err(failed)?;
        let Some((inside, ifindex)) = inside.and_then(|i| Some((i, i.peer?))) else {
            return Err(refused(format!(
                "{what}: {ifname} inside is no veth; netd takes ports of bridges only"
            )));
        };
        if let Some(mac) = request.mac.filter(|mac| *mac != inside.mac) {
            return Err(refused(format!(
                "{what}: the hardware address of {ifname} is {}, asked for is {mac}",
                inside.mac
            )));
        }
        let port = self.links.stranger(ifindex).map_err(failed)?;
        // The index alone may be that of some link of this host, where the other end is in a third namespace.
        let port = port.filter(|port| {
            let peer = port.peer.as_ref();
            peer.is_some_and(|p| p.mac == inside.mac && p.name == ifname.as_str())
        });
        let Some(port) = port else {
            return Err(refused(format!(
                "{what}: the other end of {ifname} is not on this host"
            )));
        };
        if port.master.is_none() || port.master != self.zones.get(zone).map(|s| s.ifindex) {
            // news of the bridge may be on their way
            self.zone_repair(zone)?;
        }
        let state = self.zone(zone)?;
        if port.master != Some(state.ifindex) {
            return Err(refused(format!(
                "{what}: its port {} is not on bridge {}",
                port.name, state.zone.bridge
            )));
        }
        self.check_mac(zone, inside.mac, what)?;
        let addresses = self.take_addresses(request, what)?;
        let host_ifname: IfName = port
            .name
            .parse()
            .map_err(|e: NameError| refused(format!("{what}: {e}")))?;
        let record = Record {
            container: request.container.clone(),
            zone: zone.clone(),
            ifname: ifname.clone(),
            host_ifname,
            ifindex,
            mac: inside.mac,
            addresses: address_nets(self.zone(zone)?, &addresses),
            configure: zone::Configure::None,
            labels: request.labels.clone(),
            publish: Vec::new(),
            netns: request.netns.id(),
            aliases: Vec::new(),
            bandwidth: request.bandwidth,
            owner: request.owner.clone(),
            adopted: true,
            delegated: Vec::new(),
            place: place.number,
        };
        let held = self.links.hold_port(&port).map_err(failed);
        let led = held.and_then(|()| self.lead_inside(request, &record, what));
        if let Err(e) = led.and_then(|()| self.put_in_force(&record, what)) {
            self.forget_given(&record);
            return Err(e);
        }
        self.strangers.forget(ifindex);
        tracing::info!(container = %record.container, zone = %zone, port = %record.host_ifname, mac = %record.mac,
            addresses = ?record.ips(), "taken under policy");
        Ok(Attached {
            container: self.view(&record),
            created: true,
            warnings: Vec::new(),
            flows: self.forget_flows(&record),
        })
    }

    /// What IPAM gave it, at most one of each family, is its own in the zone, and nothing else.
    fn take_addresses(&mut self, request: &Request, what: &str) -> Result<Vec<IpAddr>, api::Error> {
        let (zone, container) = (&request.zone, &request.container);
        for address in &request.addresses {
            self.take_over_address(zone, container, *address);
        }
        let mut taken: Vec<IpAddr> = Vec::new();
        for address in &request.addresses {
            let same = |other: &&IpAddr| other.is_ipv4() == address.is_ipv4();
            let outcome = match (taken.iter().find(same), self.zones.get_mut(zone)) {
                (Some(first), _) => Err(zone::AllocError::TwoOfAFamily {
                    first: *first,
                    second: *address,
                }),
                (None, Some(state)) => state.pool.reserve(container, *address),
                (None, None) => return Err(super::no_such_zone(zone.as_str())),
            };
            if let Err(e) = outcome {
                if let Some(state) = self.zones.get_mut(zone) {
                    state.pool.forget(container);
                }
                return Err(refused(format!("{what}: {}", chain(&e))));
            }
            taken.push(*address);
        }
        taken.sort_by_key(IpAddr::is_ipv6);
        Ok(taken)
    }

    /// IPAM gives IPv6 addresses on-link, which isolated ports are not.
    fn lead_inside(
        &mut self,
        request: &Request,
        record: &Record,
        what: &str,
    ) -> Result<(), api::Error> {
        let zone = &self.zone(&record.zone)?.zone;
        let (Some(subnet), Some(gateway)) = (zone.subnet6, zone.gateway6) else {
            return Ok(());
        };
        if !record.ips().iter().any(IpAddr::is_ipv6) {
            return Ok(());
        }
        self.links
            .lead_by_gateway(&record.ifname, &request.netns, subnet, gateway)
            .map_err(|e| refused(format!("{what}: {}", chain(&e))))
    }

    fn check_mac(&self, zone: &ZoneName, mac: zone::MacAddr, what: &str) -> Result<(), api::Error> {
        match self.ports.with_mac(zone, mac) {
            Some(other) => Err(refused(format!(
                "{what}: hardware address {mac} belongs to container {} already",
                other.container()
            ))),
            None => Ok(()),
        }
    }

    /// Whoever gives addresses there has given this one to somebody else since: a name that is not attached has it no more.
    fn take_over_address(&mut self, zone: &ZoneName, container: &ContainerName, address: IpAddr) {
        let Some(state) = self.zones.get_mut(zone) else {
            return;
        };
        let attached =
            |name: &ContainerName| self.ports.of_container_in(name.as_str(), zone).is_some();
        let owner = state.pool.owner(address).cloned();
        if let Some(owner) = owner.filter(|o| o != container && !attached(o)) {
            state.pool.forget(&owner);
        }
        state.pool.forget(container);
    }

    /// Addresses that others give are not kept for a name.
    pub(super) fn forget_given(&mut self, record: &Record) {
        if let Some(state) = self.zones.get_mut(&record.zone)
            && state.zone.is_foreign()
        {
            state.pool.forget(&record.container);
        }
    }
}
