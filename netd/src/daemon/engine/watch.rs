//! The kernel is checked against what should be: events of links and tables, and what to do about them.

use std::collections::{BTreeMap, BTreeSet};

use firewall::kernel::{TableMonitor, TablesError};
use zone::{LinkEvent, MacAddr, PortFlags, Ways, ZoneName};

use super::Engine;
use crate::daemon::chain;

impl Engine {
    /// Links changed. Our own changes come by here as well; they agree with what should be.
    pub(crate) fn links_changed(&mut self, events: Vec<LinkEvent>) {
        let mut zones: BTreeSet<ZoneName> = BTreeSet::new();
        let mut host_changed = false;
        let mut forgotten = Vec::new();
        let mut cut_off = BTreeSet::new();
        let mut ports: BTreeMap<u32, bool> = BTreeMap::new();
        let mut strangers: BTreeSet<u32> = BTreeSet::new();
        for event in events {
            match event {
                LinkEvent::Bridge {
                    name,
                    ifindex,
                    up,
                    gone,
                } => {
                    let zones_now = &self.zones;
                    let Some(state) = zones_now.values().find(|s| s.zone.bridge.as_str() == name)
                    else {
                        continue;
                    };
                    if state.zone.is_foreign() {
                        let now = if gone {
                            super::foreign::ABSENT
                        } else {
                            ifindex
                        };
                        if state.ifindex != now && (!gone || state.ifindex == ifindex) {
                            zones.insert(state.zone.name.clone());
                        }
                        continue;
                    }
                    let links = &mut self.links;
                    let mut down = || !links.is_up(ifindex).is_ok_and(|up| up);
                    if state.ifindex == ifindex && (gone || !up) && down() {
                        tracing::warn!(bridge = %name, gone, "somebody took the bridge down; putting it right");
                        zones.insert(state.zone.name.clone());
                    }
                }
                LinkEvent::Address { ifindex, gone } => {
                    match self.zones.values().find(|s| s.ifindex == ifindex) {
                        Some(state) if gone => {
                            zones.insert(state.zone.name.clone());
                        }
                        Some(_) => {}
                        None => host_changed = true,
                    }
                }
                // Our own changes of a port come by one after the other: what counts is the last.
                LinkEvent::Port {
                    ifindex,
                    gone,
                    flags,
                    up,
                    master,
                    ..
                } => {
                    if self.ports.at(ifindex).is_none() {
                        // one of ours that was closed looks like this
                        let closed = !up && flags == Some(PortFlags::GUARDED);
                        let ours = self.zones.values().any(|s| s.ifindex == master);
                        if self.strangers.knows(ifindex) || (ours && !gone && !closed) {
                            strangers.insert(ifindex);
                        }
                        continue;
                    }
                    let before = ports.get(&ifindex).copied().unwrap_or_default();
                    let loose = flags.map_or(before, |flags| flags != PortFlags::GUARDED);
                    ports.insert(ifindex, gone || !up || loose);
                }
                LinkEvent::Forgotten { ifindex } => forgotten.push(ifindex),
                LinkEvent::Way { ifindex, mac } => {
                    cut_off.insert((ifindex, mac));
                }
                // A link without an address is of no use to a zone.
                LinkEvent::Other => {}
                LinkEvent::Overrun => {
                    tracing::warn!("link events were lost; checking everything");
                    self.check_everything();
                }
            }
        }
        for (ifindex, wrong) in ports {
            if wrong {
                self.check_port(ifindex);
            }
        }
        for ifindex in strangers {
            self.meet(ifindex);
        }
        for ifindex in forgotten {
            // A port that was closed or lost its bridge forgets as well, and is none of ours by now or
            // is repaired with its bridge.
            let record = self.ports.at(ifindex).cloned();
            if let Some(record) = record.filter(|r| !zones.contains(&r.zone)) {
                self.repair_port(&record);
            }
        }
        for (ifindex, mac) in cut_off {
            self.lead_again(ifindex, mac, &zones);
        }
        for zone in zones {
            let outcome = self.zone_repair(&zone);
            self.note(format!("zone {zone}"), outcome);
        }
        if host_changed {
            self.name_host();
        }
        if host_changed && !self.zones.is_empty() {
            let outcome = self.forward();
            self.note("forwarding".into(), outcome);
        }
    }

    /// What leads to the prefixes of a container is gone. When that was our own doing, the container is gone as well, or
    /// its zone is repaired.
    fn lead_again(&mut self, ifindex: u32, mac: MacAddr, repaired: &BTreeSet<ZoneName>) {
        let Some(state) = self.zones.values().find(|s| s.ifindex == ifindex) else {
            return;
        };
        let zone = &state.zone;
        let name = self.ports.with_mac(&zone.name, mac);
        let record = name.and_then(|name| self.ports.get(name));
        let Some(record) = record.filter(|r| !repaired.contains(&r.zone)) else {
            return;
        };
        let prefixes = record.prefixes(zone.subnet6);
        if let Err(e) = self.links.add_ways(&zone.bridge, mac, &prefixes) {
            tracing::error!(container = %record.container, error = %chain(&e), "lead its prefixes to it");
        }
    }

    /// What leads to prefixes on each bridge, against what should: some of it may be left of containers that went
    /// while nobody looked.
    pub(crate) fn check_ways(&mut self) {
        let wide = |subnet: Option<ipnet::Ipv6Net>| subnet.is_some_and(zone::prefix::is_wide);
        let zones = self.zones.values();
        let zones: Vec<_> = zones
            .filter(|s| wide(s.zone.subnet6))
            .map(|s| (s.zone.clone(), s.ifindex))
            .collect();
        for (zone, ifindex) in zones {
            let records = self.ports.of_zone(zone.name.as_str());
            let wanted: Ways = records
                .map(|r| (r.mac, r.prefixes(zone.subnet6).into_iter().collect()))
                .filter(|(_, prefixes): &(_, BTreeSet<_>)| !prefixes.is_empty())
                .collect();
            let outcome = self.links.sweep_ways(ifindex, &wanted).and_then(|missing| {
                for (mac, prefixes) in missing {
                    tracing::warn!(zone = %zone.name, mac = %mac, "its prefixes led nowhere; putting it right");
                    let prefixes: Vec<_> = prefixes.into_iter().collect();
                    self.links.add_ways(&zone.bridge, mac, &prefixes)?;
                }
                Ok(())
            });
            let outcome =
                outcome.map_err(|e| super::refused(format!("zone {}: {}", zone.name, chain(&e))));
            self.note(format!("prefixes of zone {}", zone.name), outcome);
        }
    }

    /// A port left its bridge, or has not the flags it should have. Events are old news: what counts
    /// is how the port stands now.
    fn check_port(&mut self, ifindex: u32) {
        let Some(record) = self.ports.at(ifindex).cloned() else {
            return;
        };
        let Some(bridge) = self.zones.get(&record.zone).map(|s| s.ifindex) else {
            return;
        };
        let port = self.links.port(ifindex);
        // Asked last: ports leave a bridge that is being deleted while it still has its name, and the kernel answers
        // about a port when that is over.
        if !matches!(port, Ok(None)) && self.links.ifname(bridge).is_none() {
            // The bridge is gone; its own event makes it again, ports and all.
            return;
        }
        match port {
            Ok(None) => self.port_vanished(&record.port()),
            Ok(Some((master, _))) if record.adopted && master != Some(bridge) => {
                self.port_left(&record);
            }
            Ok(Some((master, state))) => {
                if master != Some(bridge) || !state.is_some_and(|s| s.is_guarded() && s.up) {
                    tracing::warn!(container = %record.container, "somebody changed its port; putting it right");
                    self.repair_port(&record);
                }
            }
            Err(e) => {
                tracing::error!(container = %record.container, error = %chain(&e), "look at its port")
            }
        }
    }

    /// Bridges, ports and ruleset against what should be.
    pub(crate) fn check_everything(&mut self) {
        let records: Vec<_> = self.ports.values().cloned().collect();
        for record in records {
            self.check_port(record.ifindex);
        }
        let names: Vec<ZoneName> = self.zones.keys().cloned().collect();
        for name in names {
            let outcome = self.zone_repair(&name);
            self.note(format!("zone {name}"), outcome);
        }
        self.check_ways();
        self.check_bandwidth();
        self.check_tables();
    }

    /// What no event tells of: whether the gate still stands before each bridge.
    pub(crate) fn check_gates(&mut self) {
        let bridges: Vec<_> = self
            .zones
            .values()
            .filter(|s| s.ifindex != super::foreign::ABSENT)
            .map(|s| (s.zone.name.clone(), s.ifindex))
            .collect();
        for (zone, ifindex) in bridges {
            if firewall::kernel::gate::present(ifindex) {
                self.problems.remove(&format!("gate of zone {zone}"));
                continue;
            }
            tracing::warn!(zone = %zone, "somebody took the gate off the bridge; putting it back");
            let outcome = firewall::kernel::gate::install(ifindex)
                .map_err(|e| super::refused(format!("zone {zone}: {}", chain(&e))));
            self.note(format!("gate of zone {zone}"), outcome);
        }
    }

    /// What no event tells of either: sysctls of the bridges, and forwarding.
    pub(crate) fn check_settings(&mut self) {
        let zones: Vec<_> = self
            .zones
            .values()
            .filter(|s| !s.zone.is_foreign())
            .map(|s| s.zone.clone())
            .collect();
        for zone in &zones {
            let outcome = self.links.strayed_settings(zone).and_then(|strayed| {
                if strayed.is_empty() {
                    return Ok(());
                }
                tracing::warn!(zone = %zone.name, settings = ?strayed, "somebody changed its bridge; putting it right");
                self.links.ensure_bridge(zone).map(drop)
            });
            let outcome =
                outcome.map_err(|e| super::refused(format!("zone {}: {}", zone.name, chain(&e))));
            self.note(format!("settings of zone {}", zone.name), outcome);
        }
        if !zones.is_empty() {
            let outcome = self.forward();
            self.note("forwarding".into(), outcome);
        }
    }

    /// Compares the ruleset in force with what should be, and writes it anew where they differ.
    pub(crate) fn check_tables(&mut self) {
        match self.tables.verify(&self.firewall.elements()) {
            Ok(differences) if differences.is_empty() => {}
            Ok(differences) => {
                tracing::warn!(differences = ?differences, "the ruleset was changed by somebody");
                self.restore_tables();
            }
            Err(e) => {
                tracing::warn!(error = %chain(&e), "the ruleset cannot be checked");
                self.restore_tables();
            }
        }
    }

    /// Writes the ruleset anew, in one transaction.
    pub(crate) fn restore_tables(&mut self) {
        self.restored += 1;
        match self
            .tables
            .install(&self.firewall.elements(), &self.firewall.limits())
        {
            Ok(()) => {
                self.problems.remove("ruleset");
                tracing::warn!("ruleset restored");
                let outcome = self.forward();
                self.note("forwarding".into(), outcome);
            }
            Err(e) => {
                let message = format!("the ruleset cannot be restored: {}", chain(&e));
                tracing::error!("{message}");
                self.problems.insert("ruleset".into(), message);
            }
        }
    }

    /// Tells when somebody else changes the tables. None where the kernel refuses them that for as long as
    /// our socket is open: to be told of each element that we add ourselves would cost every attach.
    pub(crate) fn table_monitor(&self) -> Result<Option<TableMonitor>, TablesError> {
        let watched = !self.tables.owned();
        watched
            .then(|| TableMonitor::open(&self.tables))
            .transpose()
    }

    /// Whether nobody else can change the tables.
    pub(crate) fn tables_owned(&self) -> bool {
        self.tables.owned()
    }

    /// Whether rules alone keep new ports apart.
    pub(crate) fn knows_bridges(&self) -> bool {
        self.tables.knows_bridges()
    }

    /// The socket that owns the tables, for the keeper.
    pub(crate) fn tables_socket(&self) -> std::os::fd::BorrowedFd<'_> {
        self.tables.socket()
    }

    /// Whether nothing is left to keep: then tables and keeper can go when the daemon stops.
    pub(crate) fn is_idle(&self) -> bool {
        self.zones.is_empty() && self.ports.is_empty()
    }

    /// Removes the tables. Only when idle.
    pub(crate) fn remove_tables(&mut self) {
        if let Err(e) = self.tables.remove() {
            tracing::warn!(error = %chain(&e), "remove the tables");
        }
    }
}
