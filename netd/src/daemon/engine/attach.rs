//! Attaching a container: closed at every moment until its policy is in force.
//!
//! ```text
//! check ─► address ─► link, inside down ─► record ─► elements (guard, own, policy) ─► inside up ─► done
//! ```
//!
//! Whatever fails undoes what came before it, newest first.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;

use firewall::model;
use ipnet::IpNet;
use tokio::task::JoinHandle;
use zone::{ContainerName, MacAddr, PortName, PortSpec, ZoneName};

use super::request::{Request, default_ifname};
use super::several::Place;
use super::zones::listed;
use super::{Engine, ZoneState, invalid, no_such_zone, refused};
use crate::api;
use crate::daemon::chain;
use crate::daemon::record::Record;
use crate::daemon::store::Kind;

/// Stands for the number of a write that is still to be queued; no write has it.
const NOT_QUEUED: u64 = u64::MAX;

/// What an attach came to.
pub(crate) struct Attached {
    pub(crate) container: api::Container,
    /// False when it was attached already, in the same way.
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
    /// Ends when flows to its published ports go where they should.
    pub(crate) flows: Option<JoinHandle<()>>,
}

impl Engine {
    /// Attaches a container, or finds that it is attached in this way already.
    pub(crate) fn attach(
        &mut self,
        request: api::AttachRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<Attached, api::Error> {
        // calls that come one upon the other leave no time in between
        self.after_answers();
        let request = Request::check(request, fds)?;
        if !self.zones.contains_key(&request.zone) {
            return Err(no_such_zone(request.zone.as_str()));
        }
        let name = request.container.as_str();
        if let Some(record) = self.ports.of_container_in(name, &request.zone).cloned() {
            return self.attached_already(&request, &record);
        }
        let owner = request.owner.as_deref();
        if let Some(record) = owner.and_then(|o| self.ports.owned_by(o).next())
            && record.container != request.container
        {
            return Err(refused(format!(
                "attach {}: it is attached already, as {}",
                request.container, record.container
            )));
        }
        let what = format!("attach {} to zone {}", request.container, request.zone);
        self.refuse_other_way(&request, &what)?;
        let place = self.place(&request, &what)?;
        let port = PortName::of(&request.container, &request.zone, place.number);
        self.refuse_without_policy(&asked_for(&request, &port), &what)?;
        if request.take {
            return self.take_port(&request, &place, &what);
        }
        self.refuse_published(&request, &what)?;
        let mac = request.mac.unwrap_or_else(|| port.mac());
        self.promise_by_mac(&request.zone, &request.container, mac);
        let (addresses, fresh) = self.assign(
            &request.zone,
            &request.container,
            &request.addresses,
            &request.ranges,
            &what,
        )?;
        let outcome = self.attach_at(&request, &what, &place, mac, addresses);
        if outcome.is_err()
            && fresh
            && let Some(state) = self.zones.get_mut(&request.zone)
        {
            state.pool.forget(&request.container);
        }
        let record = outcome?;
        if fresh {
            self.note_addresses(&record);
        }
        let mut warnings = self.publish_warnings(&record);
        warnings.extend(self.serve_named(&request, &record));
        Ok(Attached {
            container: self.view(&record),
            created: true,
            warnings,
            flows: self.forget_flows(&record),
        })
    }

    /// The same request again is a success; a different one is refused with the difference named.
    fn attached_already(
        &mut self,
        request: &Request,
        record: &Record,
    ) -> Result<Attached, api::Error> {
        let mut differences = Vec::new();
        let mut differ = |what: &str, has: String, asked: String| {
            if has != asked {
                differences.push(format!("{what} is {has}, asked for is {asked}"));
            }
        };
        if record.adopted && !request.take {
            let port = record.host_ifname.as_str();
            differ(
                "port",
                format!("{port}, which somebody plugged in and netd adopted"),
                "a new one".into(),
            );
        }
        let ifname = match &request.ifname {
            Some(name) => name.clone(),
            None => default_ifname(record.place).map_err(|e| invalid(e.to_string()))?,
        };
        differ("interface", record.ifname.to_string(), ifname.to_string());
        if !request.take {
            differ(
                "configure",
                record.configure.to_string(),
                request.configure.to_string(),
            );
        }
        let labels = |labels: &BTreeMap<String, String>| {
            listed(labels.iter().map(|(key, value)| format!("{key}={value}")))
        };
        differ("labels", labels(&record.labels), labels(&request.labels));
        fn publish(list: &[(String, model::Publish)]) -> Vec<(&model::Publish, &String)> {
            let mut sorted: Vec<_> = list.iter().map(|(text, p)| (p, text)).collect();
            sorted.sort();
            sorted
        }
        let (has, asked) = (publish(&record.publish), publish(&request.publish));
        // one port may be written in several ways
        if !has.iter().map(|(p, _)| p).eq(asked.iter().map(|(p, _)| p)) {
            let text = |list: Vec<(_, &String)>| listed(list.into_iter().map(|(_, text)| text));
            differ("publish", text(has), text(asked));
        }
        if let Some(mac) = request.mac {
            differ("hardware address", record.mac.to_string(), mac.to_string());
        }
        for asked in &request.addresses {
            if !record.ips().contains(asked) {
                differ("addresses", listed(record.ips()), asked.to_string());
            }
        }
        differ("aliases", listed(&record.aliases), listed(&request.aliases));
        differ(
            "bandwidth",
            record.bandwidth.to_string(),
            request.bandwidth.to_string(),
        );
        let owner = |owner: &Option<String>| owner.clone().unwrap_or_else(|| "nobody".into());
        differ("owner", owner(&record.owner), owner(&request.owner));
        if record.netns != request.netns.id() {
            differ("network namespace", "another one".into(), "this one".into());
        }
        if differences.is_empty() {
            return Ok(Attached {
                container: self.view(record),
                created: false,
                warnings: self.publish_warnings(record),
                flows: None,
            });
        }
        Err(refused(format!(
            "attach {}: it is attached already, and differently: {} (detach it first)",
            request.container,
            differences.join("; ")
        )))
    }

    /// Containers of a bridge of somebody else's come with their port; others have none yet.
    fn refuse_other_way(&self, request: &Request, what: &str) -> Result<(), api::Error> {
        let zone = &self.zone(&request.zone)?.zone;
        match (zone.is_foreign(), request.take) {
            (true, false) => Err(refused(format!(
                "{what}: the zone stands on bridge {}, which is not netd's: its containers come by the plugin chain of a CNI network, with netd-policy in it",
                zone.bridge
            ))),
            (false, true) => Err(refused(format!(
                "{what}: the zone has a bridge of its own, on which netd makes the ports (a zone for netd-policy says on which bridge it stands: `netd zone create {} --bridge NAME`)",
                zone.name
            ))),
            _ => Ok(()),
        }
    }

    /// A policy file that is bad, with no last good one, refuses the containers it may be about.
    pub(super) fn refuse_without_policy(
        &self,
        asked: &model::Container,
        what: &str,
    ) -> Result<(), api::Error> {
        for (stem, bad) in &self.policy_files.bad {
            let path = self.policy_files.path(stem);
            if !self.policy_files.good.contains_key(stem)
                && super::reload::bad_may_apply(&path, &bad.text, asked)
            {
                return Err(refused(format!(
                    "{what}: its policy cannot be read, and there is no last good one:\n{}",
                    bad.message
                )));
            }
        }
        if let Some(much) = self.firewall.too_much_for(asked) {
            return Err(refused(format!(
                "{what}: its policy asks for too much: {much}"
            )));
        }
        Ok(())
    }

    /// Its addresses, and whether they are new to the name.
    pub(super) fn assign(
        &mut self,
        zone: &ZoneName,
        container: &ContainerName,
        wanted: &[IpAddr],
        ranges: &[(IpAddr, IpAddr)],
        what: &str,
    ) -> Result<(Vec<IpAddr>, bool), api::Error> {
        let no_zone = || no_such_zone(zone.as_str());
        let state = self.zones.get(zone).ok_or_else(no_zone)?;
        let before = state.pool.of(container);
        let addresses = loop {
            let state = self.zones.get_mut(zone).ok_or_else(no_zone)?;
            let assigned = state.pool.assign_within(container, wanted, ranges);
            let idle = match assigned {
                Err(zone::AllocError::Exhausted { .. }) => self.idle(zone, ranges),
                _ => None,
            };
            match idle {
                Some(idle) => self.give_up_addresses(zone, &idle),
                None => break assigned.map_err(|e| refused(format!("{what}: {}", chain(&e))))?,
            }
        };
        let fresh = before != addresses;
        if fresh && let Some(reason) = self.cannot_store() {
            if let Some(state) = self.zones.get_mut(zone) {
                state.pool.forget(container);
                for address in &before {
                    // It had them a moment ago, and nobody else ran in between.
                    let _ = state.pool.reserve(container, *address);
                }
            }
            return Err(refused(format!(
                "{what}: its address cannot be stored in {}: {reason} (make room, then try again)",
                self.dirs.state.display()
            )));
        }
        Ok((addresses, fresh))
    }

    /// A name that keeps addresses in a zone and could be without them.
    pub(super) fn idle(
        &self,
        zone: &ZoneName,
        ranges: &[(IpAddr, IpAddr)],
    ) -> Option<ContainerName> {
        let in_use = |name: &ContainerName| {
            let here = self.ports.of_container_in(name.as_str(), zone).is_some();
            here || self.is_closing(name.as_str())
        };
        let state = self.zones.get(zone)?;
        state.pool.idle(ranges, in_use).cloned()
    }

    /// Others need them more.
    fn give_up_addresses(&mut self, zone: &ZoneName, name: &ContainerName) {
        tracing::info!(zone = %zone, container = %name, "the zone has no free address: what was kept for this name is given away");
        if let Some(state) = self.zones.get_mut(zone) {
            state.pool.forget(name);
        }
        self.kept.remove(&(zone.clone(), name.clone()));
        self.store.put(Kind::Address, address_key(zone, name), None);
        let unsaved = self.unsaved.remove(&(zone.clone(), name.clone()));
        if unsaved.is_some()
            && let Err(e) = self.records.forget_kept(zone, name)
        {
            tracing::warn!(container = %name, error = %e, "remove the note of its addresses");
        }
    }

    /// Why nothing can be stored now, if so.
    pub(super) fn cannot_store(&self) -> Option<String> {
        if let Some(reason) = self.store.failure() {
            return Some(reason);
        }
        let free = rustix::fs::statvfs(&self.dirs.state).ok()?;
        let room = free.f_bavail.saturating_mul(free.f_frsize);
        // One commit copies a few pages; below this it may not fit.
        (room < 64 * 1024).then(|| format!("no space left on the device ({room} bytes free)"))
    }

    fn attach_at(
        &mut self,
        request: &Request,
        what: &str,
        place: &Place,
        mac: MacAddr,
        addresses: Vec<IpAddr>,
    ) -> Result<Record, api::Error> {
        let Some(state) = self.zones.get(&request.zone) else {
            return Err(no_such_zone(request.zone.as_str()));
        };
        if let Some(other) = self.ports.with_mac(&request.zone, mac) {
            return Err(refused(format!(
                "{what}: hardware address {mac} belongs to container {} already",
                other.container()
            )));
        }
        let port = PortName::of(&request.container, &request.zone, place.number);
        let mut record = Record {
            container: request.container.clone(),
            zone: request.zone.clone(),
            ifname: place.ifname.clone(),
            host_ifname: port.host_ifname(),
            ifindex: 0,
            mac,
            addresses: address_nets(state, &addresses),
            configure: request.configure,
            labels: request.labels.clone(),
            publish: request.publish.clone(),
            netns: request.netns.id(),
            aliases: request.aliases.clone(),
            bandwidth: request.bandwidth,
            owner: request.owner.clone(),
            adopted: false,
            delegated: Vec::new(),
            place: place.number,
        };
        let spec = PortSpec {
            several: !place.beside.is_empty(),
            subnet6: state.zone.subnet6,
            ..spec_of(state, &record)
        };
        let port = self
            .links
            .create_port(&spec, &request.netns)
            .map_err(|e| refused(format!("{what}: {}", chain(&e))))?;
        record.ifindex = port.ifindex;
        let opened = self
            .enforce(&record, what)
            .map(|()| self.forget_waiting(&record))
            .and_then(|()| self.limit(&record, what))
            .and_then(|()| self.keep_apart(&place.beside, &request.netns, what))
            .and_then(|()| {
                self.links
                    .open_port(&port, &spec, &request.netns)
                    .map_err(|e| refused(format!("{what}: {}", chain(&e))))
            });
        let recorded = opened.and_then(|()| {
            self.records.write(&record).map_err(|e| {
                refused(format!(
                    "{what}: record it in {}: {e}",
                    self.dirs.runtime.display()
                ))
            })
        });
        if let Err(e) = recorded {
            self.undo_attach(&record);
            return Err(e);
        }
        self.bind_lease(&record);
        self.name_container(&record);
        self.ports.insert(record.clone());
        if !record.publish.is_empty() {
            self.follow_doors();
        }
        self.answered.push(record.clone());
        Ok(record)
    }

    /// What an attach need not do before it is answered, for all that were. The answer is on its way, so
    /// the first packet finds the carrier noticed.
    pub(crate) fn after_answers(&mut self) {
        for record in std::mem::take(&mut self.answered) {
            let name = (record.zone.clone(), record.container.clone());
            if self.unsaved.get(&name) == Some(&NOT_QUEUED) {
                self.keep_addresses(&record);
            }
            if let Err(e) = self.links.notice_carrier(record.ifindex) {
                tracing::warn!(container = %record.container, error = %chain(&e), "its link may be slow to start");
            }
            tracing::info!(container = %record.container, zone = %record.zone, addresses = ?record.ips(), "attached");
        }
    }

    /// Puts guard and policy of a container in force.
    pub(super) fn enforce(&mut self, record: &Record, what: &str) -> Result<(), api::Error> {
        let changes = self.firewall.attach(model_of(record));
        self.apply(&changes).map_err(|e| match e {
            api::Error::Refused { message } => refused(format!("{what}: {message}")),
            other => other,
        })
    }

    /// What was sent to its addresses while they were nobody's, or somebody else's, is not for it: it was judged by
    /// what held then. Only after its policy is in force, before it can answer.
    pub(super) fn forget_waiting(&mut self, record: &Record) {
        let Some(state) = self.zones.get(&record.zone) else {
            return;
        };
        let ifindex = state.ifindex;
        let prefixes = record.prefixes(state.zone.subnet6).into_iter();
        // the one address in its prefix that everybody knows beforehand
        let half = u128::from(record.mac.link_local()) & u128::from(u64::MAX);
        let formed = prefixes.map(|prefix| (u128::from(prefix.network()) | half).into());
        let formed: Vec<IpAddr> = formed.map(|address: Ipv6Addr| address.into()).collect();
        let addresses = record.ips().into_iter().chain(formed);
        self.links.forget_neighbours(ifindex, addresses);
    }

    /// Takes back what an attach did before it failed; goes on past errors.
    fn undo_attach(&mut self, record: &Record) {
        let changes = self.firewall.detach(&record.port());
        if let Err(e) = self.apply(&changes) {
            tracing::error!(container = %record.container, error = ?e, "undo attach: remove elements");
        }
        if let Err(e) = self.records.remove(&record.port()) {
            tracing::error!(container = %record.container, error = %e, "undo attach: remove its record");
        }
        self.close_link(record, false);
        self.unlimit(record);
        self.reap(record);
    }

    /// Notes addresses that the name had not before. The record holds them until they are stored, which is after
    /// the answer: the store's thread would compete with whoever waits for that.
    fn note_addresses(&mut self, record: &Record) {
        let name = (record.zone.clone(), record.container.clone());
        self.kept.insert(name.clone(), record.ips());
        self.unsaved.insert(name, NOT_QUEUED);
    }

    /// Stores addresses that the name had not before; durable with the next commit.
    pub(super) fn keep_addresses(&mut self, record: &Record) {
        let name = (record.zone.clone(), record.container.clone());
        self.kept.insert(name.clone(), record.ips());
        let key = address_key(&record.zone, &record.container);
        let ips: Vec<String> = record.ips().iter().map(ToString::to_string).collect();
        let value = serde_json::to_string(&ips).unwrap_or_default();
        let number = self.store.put(Kind::Address, key, Some(value));
        self.unsaved.insert(name, number);
    }
}

/// The key of a name's addresses in the store.
pub(super) fn address_key(zone: &ZoneName, container: &ContainerName) -> String {
    format!("{zone}/{container}")
}

/// The container as the firewall sees it.
pub(super) fn model_of(record: &Record) -> model::Container {
    let delegated = record.delegated.iter();
    let delegated = delegated.map(|net| IpAddr::V6(net.network()));
    model::Container {
        name: record.port(),
        zone: record.zone.clone(),
        ifindex: record.ifindex,
        mac: record.mac,
        addresses: record.ips().into_iter().chain(delegated).collect(),
        labels: record.labels.clone(),
        publish: super::doors::with_aside(record.publish.iter().map(|(_, p)| p.clone())),
    }
}

/// What a link has to be for this record.
pub(super) fn spec_of(state: &ZoneState, record: &Record) -> PortSpec {
    PortSpec {
        container: record.container.clone(),
        zone: record.zone.clone(),
        bridge: state.zone.bridge.clone(),
        ifname: record.ifname.clone(),
        mac: record.mac,
        addresses: record.addresses.clone(),
        prefixes: record.prefixes(state.zone.subnet6),
        gateway4: state.zone.gateway4,
        gateway6_ll: state.zone.gateway6_ll(),
        mtu: state.zone.mtu,
        configure: record.configure,
        place: record.place,
        several: false,
        subnet6: None,
    }
}

/// Addresses with the prefix length that they get inside.
pub(super) fn address_nets(state: &ZoneState, addresses: &[IpAddr]) -> Vec<IpNet> {
    let with_prefix = |address: &IpAddr| {
        let length = match address {
            IpAddr::V4(_) => state.zone.subnet4.map_or(32, |net| net.prefix_len()),
            // On-link is off: every packet goes by the gateway, also to the same zone.
            IpAddr::V6(_) => 128,
        };
        IpNet::new(*address, length).unwrap_or_else(|_| IpNet::from(*address))
    };
    addresses.iter().map(with_prefix).collect()
}

/// What an attach asks for, as the firewall sees it.
fn asked_for(request: &Request, port: &PortName) -> model::Container {
    model::Container {
        name: port.clone(),
        zone: request.zone.clone(),
        ifindex: 0,
        mac: port.mac(),
        addresses: Vec::new(),
        labels: request.labels.clone(),
        publish: Vec::new(),
    }
}
