//! Zones: made, changed, deleted, and brought up from their files.

use ipnet::Ipv6Net;
use zone::{Pool, Subnet6, Taken, Zone, ZoneFile, ZoneName};

use super::{Engine, ZoneEvent, ZoneState, no_such_zone, refused};
use crate::api::{self, ZoneSettings};
use crate::daemon::chain;
use crate::daemon::store::Kind;
pub(super) use crate::model::zone as model;

impl Engine {
    /// Makes a zone. False when it was there already with the same settings.
    pub(crate) fn zone_create(
        &mut self,
        name: &str,
        settings: &ZoneSettings,
    ) -> Result<(api::Zone, bool), api::Error> {
        let name = zone_name(name)?;
        let what = format!("create zone {name}");
        if let Some(state) = self.zones.get(&name) {
            let wanted = merge(&state.file, settings, &what)?;
            let differences = differences(&state.zone, &state.file, &wanted);
            if differences.is_empty() {
                return Ok((self.zone_view(state), false));
            }
            return Err(refused(format!(
                "{what}: it exists, and differently: {} (`netd zone set {name}` changes it)",
                differences.join("; ")
            )));
        }
        if self.zone_files.bad.contains_key(name.as_str()) {
            return Err(refused(format!(
                "{what}: {} exists and cannot be read; mend or remove it first",
                self.zone_files.path(name.as_str()).display()
            )));
        }
        let file = merge(&ZoneFile::default(), settings, &what)?;
        let zone = self.resolve(&name, &file, &what)?;
        // The file says what was chosen, so that it stays what it is.
        let written = ZoneFile {
            subnet4: zone.subnet4,
            subnet6: zone.subnet6.map_or(Subnet6::None, Subnet6::Net),
            ..file
        };
        self.zone_files
            .write(name.as_str(), written.to_toml(), written.clone())
            .map_err(|e| {
                refused(format!(
                    "{what}: write {}: {e}",
                    self.zone_files.path(name.as_str()).display()
                ))
            })?;
        if let Err(e) = self.zone_up(zone, written, &what) {
            if let Err(e) = self.zone_files.remove(name.as_str()) {
                tracing::error!(zone = %name, error = %e, "undo zone create: remove its file");
            }
            return Err(e);
        }
        tracing::info!(zone = %name, "zone created");
        self.meet_ports_of(&name);
        let state = self.zone(&name)?;
        Ok((self.zone_view(state), true))
    }

    /// Changes a zone. What would take addresses away from attached containers is refused.
    pub(crate) fn zone_set(
        &mut self,
        name: &str,
        settings: &ZoneSettings,
    ) -> Result<api::Zone, api::Error> {
        let name = zone_name(name)?;
        let what = format!("set zone {name}");
        let state = self.zone(&name)?;
        let file = merge(&state.file, settings, &what)?;
        self.zone_change(&name, &file, &what)?;
        self.zone_files
            .write(name.as_str(), file.to_toml(), file)
            .map_err(|e| {
                refused(format!(
                    "{what}: write {}: {e}",
                    self.zone_files.path(name.as_str()).display()
                ))
            })?;
        let state = self.zone(&name)?;
        Ok(self.zone_view(state))
    }

    /// Puts another file of a zone in force.
    pub(super) fn zone_change(
        &mut self,
        name: &ZoneName,
        file: &ZoneFile,
        what: &str,
    ) -> Result<(), api::Error> {
        let zone = self.resolve(name, file, what)?;
        self.check_reservations(&zone, what)?;
        let attached: Vec<_> = self.ports.of_zone(name.as_str()).cloned().collect();
        let old = self.zone(name)?;
        let moved = (old.zone.subnet4, old.zone.subnet6) != (zone.subnet4, zone.subnet6);
        if moved && !attached.is_empty() {
            return Err(refused(format!(
                "{what}: its subnet cannot change while containers are attached ({}); detach them first",
                attached
                    .iter()
                    .map(|r| r.container.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            )));
        }
        self.zone_up(zone, file.clone(), what)
    }

    /// Deletes a zone. False when there was none.
    pub(crate) fn zone_delete(&mut self, name: &str, force: bool) -> Result<bool, api::Error> {
        let name = zone_name(name)?;
        let what = format!("delete zone {name}");
        if !self.zones.contains_key(&name) {
            // Perhaps only a file that cannot be read.
            let there = self.zone_files.bad.contains_key(name.as_str());
            self.zone_files
                .remove(name.as_str())
                .map_err(|e| refused(format!("{what}: remove its file: {e}")))?;
            return Ok(there);
        }
        let attached: Vec<String> = self
            .ports
            .of_zone(name.as_str())
            .map(|r| r.container.to_string())
            .collect();
        if !attached.is_empty() && !force {
            return Err(refused(format!(
                "{what}: containers are attached: {} (detach them, or use --force)",
                attached.join(", ")
            )));
        }
        self.farewell6(&name);
        for container in &attached {
            self.detach(container, Some(name.as_str()))?;
        }
        self.zone_down(&name, &what)?;
        self.zone_files
            .remove(name.as_str())
            .map_err(|e| refused(format!("{what}: remove its file: {e}")))?;
        for (kind, key) in self.stored_keys(&name) {
            self.store.put(kind, key, None);
        }
        self.forget_leases(&name);
        tracing::info!(zone = %name, "zone deleted");
        Ok(true)
    }

    /// Brings a zone up, or makes what is there agree with it.
    pub(super) fn zone_up(
        &mut self,
        zone: Zone,
        file: ZoneFile,
        what: &str,
    ) -> Result<(), api::Error> {
        let name = zone.name.clone();
        let existed = self.zones.contains_key(&name);
        // What cannot be served is refused before anything happens.
        let responder = self.responder(&zone, what)?;
        // Rules first: the bridge must not carry a packet before they know it.
        let changes = self.firewall.set_zone(model(&zone));
        self.apply(&changes)?;
        self.bridges.add(&zone.bridge);
        let raised = match zone.is_foreign() {
            true => self.take_bridge(&zone),
            false => self
                .links
                .ensure_bridge(&zone)
                .map_err(|e| chain(&e))
                .and_then(|ifindex| match firewall::kernel::gate::install(ifindex) {
                    Ok(()) => Ok(ifindex),
                    Err(e) => Err(chain(&e)),
                }),
        };
        let ifindex = match raised {
            Ok(ifindex) => ifindex,
            Err(reason) => {
                if !existed {
                    let changes = self.firewall.remove_zone(&name);
                    if let Err(e) = self.apply(&changes) {
                        tracing::error!(zone = %name, error = ?e, "undo zone create: remove elements");
                    }
                    if zone.is_foreign() {
                        self.give_bridge_back(&name, super::foreign::ABSENT);
                    } else if let Err(e) = self.links.delete_bridge(&zone.bridge) {
                        tracing::error!(zone = %name, error = %chain(&e), "undo zone create: delete its bridge");
                    }
                }
                self.tell_bridges();
                return Err(refused(format!("{what}: {reason}")));
            }
        };
        let responder = self.keep_leases(&name, responder);
        let pool = self.filled_pool(&zone, responder.as_ref());
        let (bridge, foreign) = (zone.bridge.clone(), zone.is_foreign());
        let state = ZoneState {
            zone,
            file,
            pool,
            ifindex,
            responder,
        };
        self.zones.insert(name.clone(), state);
        let attached: Vec<_> = self.ports.of_zone(name.as_str()).cloned().collect();
        for record in &attached {
            self.bind_lease(record);
        }
        let served = self.six_up(&name, what);
        let wrong = served
            .err()
            .map(|e| crate::daemon::control::message(&e).to_owned());
        self.problem(format!("IPv6 of zone {name}"), wrong);
        self.name_zone(&name);
        self.forward()?;
        // addresses and names there are somebody else's
        if !foreign {
            self.zone_events.send(&ZoneEvent::Up {
                zone: name,
                bridge,
                ifindex,
            });
        }
        Ok(())
    }

    /// Takes a zone down: bridge, rules, sockets. Its file stays.
    pub(super) fn zone_down(&mut self, name: &ZoneName, what: &str) -> Result<(), api::Error> {
        let state = self.zone(name)?;
        let (bridge, ifindex) = (state.zone.bridge.clone(), state.ifindex);
        if state.zone.is_foreign() {
            let attached: Vec<_> = self.ports.of_zone(name.as_str()).cloned().collect();
            for record in attached {
                self.close(&record)?;
            }
            self.give_bridge_back(name, ifindex);
        } else {
            self.links
                .delete_bridge(&bridge)
                .map_err(|e| refused(format!("{what}: {}", chain(&e))))?;
        }
        let changes = self.firewall.remove_zone(name);
        self.apply(&changes)?;
        self.zones.remove(name);
        self.tell_bridges();
        self.six_down(name);
        self.unname_zone(name);
        self.zone_events
            .send(&ZoneEvent::Down { zone: name.clone() });
        self.forward()
    }

    /// Tells the keeper whose ports to keep apart while there is no daemon.
    pub(super) fn tell_bridges(&mut self) {
        let bridges = self.zones.values().map(|state| &state.zone.bridge);
        self.bridges.keep(bridges);
    }

    /// Every zone.
    pub(crate) fn zone_list(&self) -> Vec<api::Zone> {
        self.zones
            .values()
            .map(|state| self.zone_view(state))
            .collect()
    }

    /// One zone.
    pub(crate) fn zone_show(&self, name: &str) -> Result<api::Zone, api::Error> {
        let name = zone_name(name)?;
        Ok(self.zone_view(self.zone(&name)?))
    }

    pub(super) fn zone(&self, name: &ZoneName) -> Result<&ZoneState, api::Error> {
        self.zones
            .get(name)
            .ok_or_else(|| no_such_zone(name.as_str()))
    }

    /// Chooses what the file leaves open, and checks the rest against zones and host routes.
    pub(super) fn resolve(
        &mut self,
        name: &ZoneName,
        file: &ZoneFile,
        what: &str,
    ) -> Result<Zone, api::Error> {
        // Routes of zones' own bridges say nothing against a zone; this one's may be left of a daemon
        // before us.
        let mut bridges: Vec<_> = self.zones.values().map(|s| s.zone.bridge.clone()).collect();
        bridges.push(file.bridge.clone().unwrap_or_else(|| name.bridge()));
        let routes = self
            .links
            .routes_besides(&bridges)
            .map_err(|e| refused(format!("{what}: read the host's routes: {}", chain(&e))))?;
        let zones = self
            .zones
            .values()
            .filter(|state| state.zone.name != *name)
            .flat_map(|state| {
                let v4 = state.zone.subnet4.map(ipnet::IpNet::V4);
                let v6 = state.zone.subnet6.map(ipnet::IpNet::V6);
                v4.into_iter()
                    .chain(v6)
                    .map(|net| (state.zone.name.clone(), net))
            })
            .collect();
        let taken = Taken { zones, routes };
        // What was chosen for a file that leaves it open stays chosen.
        let mut file = file.clone();
        if let Some(chosen) = self.chosen.get(name) {
            if file.subnet4.is_none() && !file.without_ipv4 {
                file.subnet4 = chosen.0;
            }
            if let (Subnet6::Auto, Some(net)) = (&file.subnet6, chosen.1) {
                file.subnet6 = Subnet6::Net(net);
            }
        }
        let zone = zone::resolve(name, &file, &taken, &self.machine_id)
            .map_err(|e| refused(format!("{what}: {}", chain(&e))))?;
        self.check_bridge(&zone, what)?;
        let chosen = (zone.subnet4, zone.subnet6);
        if self.chosen.insert(name.clone(), chosen) != Some(chosen) {
            let value = serde_json::to_string(&chosen).unwrap_or_default();
            self.store.put(Kind::Subnet, name.to_string(), Some(value));
        }
        Ok(zone)
    }

    /// A pool with the addresses that names of this zone have.
    fn filled_pool(&self, zone: &Zone, responder: Option<&dhcp::Responder>) -> Pool {
        let mut pool = Pool::new(zone);
        let attached = self
            .ports
            .of_zone(zone.name.as_str())
            .map(|r| (r.container.clone(), r.ips()));
        let attached: Vec<_> = attached.collect();
        for (container, ip) in attached
            .iter()
            .flat_map(|(c, ips)| ips.iter().map(move |ip| (c, ip)))
        {
            // What is attached has its addresses, whatever else they are for now.
            if let Err(e) = pool.reserve(container, *ip) {
                tracing::warn!(zone = %zone.name, container = %container, address = %ip, reason = %chain(&e),
                    "an attached container has an address that it should not have");
            }
        }
        Self::withhold(&mut pool, zone, responder);
        let kept = self
            .kept
            .iter()
            .filter(|((z, _), _)| *z == zone.name)
            .map(|((_, c), ips)| (c.clone(), ips.clone()));
        for (container, ips) in kept {
            for ip in ips {
                if pool.owner(ip) == Some(&container) || pool.is_withheld(ip) {
                    continue;
                }
                if let Err(e) = pool.reserve(&container, ip) {
                    tracing::warn!(zone = %zone.name, container = %container, address = %ip, reason = %chain(&e),
                        "the address kept for this name cannot be kept any longer");
                }
            }
        }
        pool
    }

    fn stored_keys(&mut self, zone: &ZoneName) -> Vec<(Kind, String)> {
        self.chosen.remove(zone);
        let gone: Vec<_> = self
            .kept
            .keys()
            .filter(|(z, _)| z == zone)
            .cloned()
            .collect();
        let mut keys = vec![(Kind::Subnet, zone.to_string())];
        for key in gone {
            keys.push((Kind::Address, super::attach::address_key(&key.0, &key.1)));
            self.kept.remove(&key);
        }
        keys
    }

    /// After a bridge was made anew: its ports, its rules' view of it, its sockets.
    pub(super) fn zone_repair(&mut self, name: &ZoneName) -> Result<(), api::Error> {
        let what = format!("repair zone {name}");
        let state = self.zone(name)?;
        let (zone, file) = (state.zone.clone(), state.file.clone());
        self.zone_up(zone, file, &what)?;
        if self.zone(name)?.zone.is_foreign() {
            self.follow_bridge(name);
        } else {
            let attached: Vec<_> = self.ports.of_zone(name.as_str()).cloned().collect();
            for record in attached {
                self.repair_port(&record);
            }
        }
        self.meet_ports_of(name);
        let ifindex = self.zone(name)?.ifindex;
        self.links
            .ask_neighbours_again(ifindex)
            .map_err(|e| refused(format!("{what}: {}", chain(&e))))
    }

    /// Makes a port what it should be again: on its bridge, isolated, locked, up. One that went along with its bridge is
    /// none of ours any more.
    pub(super) fn repair_port(&mut self, record: &crate::daemon::record::Record) {
        let Some(state) = self.zones.get(&record.zone) else {
            return;
        };
        if self
            .links
            .port(record.ifindex)
            .is_ok_and(|port| port.is_none())
        {
            return self.port_vanished(&record.port());
        }
        let what = format!("repair the port of {}", record.container);
        let spec = super::attach::spec_of(state, record);
        let repaired = self
            .links
            .repair_port(&spec, record.ifindex)
            .map_err(|e| refused(format!("{what}: {}", chain(&e))));
        let outcome = repaired.and_then(|()| self.enforce(record, &what));
        self.note(format!("container {}", record.container), outcome);
    }
}

fn zone_name(text: &str) -> Result<ZoneName, api::Error> {
    text.parse()
        .map_err(|e| super::invalid(format!("zone: {e}")))
}

/// A zone file with settings laid over it: as text, so that the command line and a text editor are
/// judged by the same parser.
fn merge(base: &ZoneFile, settings: &ZoneSettings, what: &str) -> Result<ZoneFile, api::Error> {
    let text = |value: &Option<String>| value.as_ref().map(|v| format!("{v:?}"));
    let dns = settings.dns.as_ref().map(|list| format!("{list:?}"));
    let upstream = settings.upstream.as_ref().map(|list| format!("{list:?}"));
    let domains = settings.upstream_domains.as_ref().map(|domains| {
        let each = domains
            .iter()
            .map(|(name, list)| format!("{name:?} = {list:?}"));
        format!("{{ {} }}", each.collect::<Vec<_>>().join(", "))
    });
    let overrides = [
        ("bridge", text(&settings.bridge)),
        ("subnet4", text(&settings.subnet4)),
        ("subnet6", text(&settings.subnet6)),
        ("internal", settings.internal.map(|v| v.to_string())),
        ("uplink", text(&settings.uplink)),
        ("default", text(&settings.default)),
        ("mtu", settings.mtu.map(|v| v.to_string())),
        ("domain", text(&settings.domain)),
        ("pool", text(&settings.pool)),
        ("dns", dns),
        ("upstream", upstream),
        ("upstream-domains", domains),
    ];
    let mut merged = String::new();
    // First: behind a table's header a key would be the table's.
    for (key, value) in &overrides {
        if let Some(value) = value {
            merged.push_str(&format!("{key} = {value}\n"));
        }
    }
    let mut in_table = false;
    for line in base.to_toml().lines() {
        in_table |= line.starts_with('[');
        let key = line.split('=').next().unwrap_or_default().trim();
        let replaced = overrides.iter().any(|(k, v)| *k == key && v.is_some());
        if in_table || !replaced {
            merged.push_str(line);
            merged.push('\n');
        }
    }
    ZoneFile::parse("settings", &merged)
        .map_err(|e| super::invalid(format!("{what}: {}; {}", e.message, e.remedy)))
}

/// What differs between a zone as it stands and as it is wanted; open subnets agree with any.
fn differences(zone: &Zone, has: &ZoneFile, wanted: &ZoneFile) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, has: String, wanted: String| {
        if has != wanted {
            differences.push(format!("{what} is {has}, asked for is {wanted}"));
        }
    };
    differ("bridge", said(&has.bridge), said(&wanted.bridge));
    if wanted.subnet4.is_some() || wanted.without_ipv4 {
        differ("subnet4", said(&zone.subnet4), said(&wanted.subnet4));
    }
    match &wanted.subnet6 {
        Subnet6::Auto => {}
        Subnet6::None => differ("subnet6", said(&zone.subnet6), said::<Ipv6Net>(&None)),
        Subnet6::Net(net) => differ("subnet6", said(&zone.subnet6), net.to_string()),
    }
    differ(
        "internal",
        has.internal.to_string(),
        wanted.internal.to_string(),
    );
    differ("uplink", said(&has.uplink), said(&wanted.uplink));
    differ(
        "default",
        has.default.to_string(),
        wanted.default.to_string(),
    );
    differ("mtu", said(&has.mtu), said(&wanted.mtu));
    differ("domain", said(&has.domain), said(&wanted.domain));
    let pool = |file: &ZoneFile| {
        let pool = file.pool;
        said(&pool.map(|(first, last)| format!("{first}-{last}")))
    };
    differ("pool", pool(has), pool(wanted));
    differ("dns", listed(&has.dns), listed(&wanted.dns));
    differ("upstream", listed(&has.upstream), listed(&wanted.upstream));
    let domains = |file: &ZoneFile| {
        let each = file.upstream_domains.iter();
        listed(each.map(|(domain, servers)| format!("{domain} = {}", listed(servers))))
    };
    differ("upstream-domains", domains(has), domains(wanted));
    differences
}

/// A setting as people write it.
fn said<T: ToString>(value: &Option<T>) -> String {
    value
        .as_ref()
        .map_or_else(|| "left out".into(), T::to_string)
}

/// Several of one setting.
pub(super) fn listed<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    match values.is_empty() {
        true => "nothing".into(),
        false => values.join(", "),
    }
}
