//! The engine: everything that happens, in one order.
//!
//! It holds what should be (zones, policies, attached containers) and makes the kernel agree. Each
//! operation either holds afterwards or has been undone; its errors are sentences for people.

mod adopt;
mod apply;
mod attach;
mod bandwidth;
pub(crate) mod clock;
mod decide;
mod detach;
mod dhcp_config;
mod diff;
mod doors;
mod explain;
mod fold;
mod foreign;
mod forward;
mod lease;
mod named;
mod names;
mod opened;
mod owned;
mod publish;
mod recover;
mod reload;
mod request;
mod several;
mod six;
mod view;
mod watch;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use firewall::compile::Firewall;
use firewall::kernel::Tables;
use firewall::policy::{Groups, PolicyFile};
use ipnet::{Ipv4Net, Ipv6Net};
use tokio::sync::{Notify, mpsc};
use zone::{ContainerName, Forwarding, IfName, Links, Pool, PortName, Zone, ZoneFile, ZoneName};

use super::Dirs;
use super::applied::Applied;
use super::edits::Edits;
use super::files::Files;
use super::keep::Bridges;
use super::leases::Journal;
use super::loopback6::Doors;
use super::named::Named;
use super::ports::Ports;
use super::reaper::Reaper;
use super::record::{Record, Records};
use super::scribe::Scribe;
use super::store::Store;
use crate::api;

pub(crate) use decide::container_name;
pub(crate) use recover::StartError;

/// A zone that is up.
pub(crate) struct ZoneState {
    pub(crate) zone: Zone,
    pub(crate) file: ZoneFile,
    pub(crate) pool: Pool,
    /// Index of the bridge.
    pub(crate) ifindex: u32,
    /// None without IPv4.
    pub(crate) responder: Option<dhcp::Responder>,
}

/// What the tasks that own sockets of DHCP and DNS have to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ZoneEvent {
    /// Serve this bridge; the bridge may be a new one under an old name.
    Up {
        zone: ZoneName,
        bridge: IfName,
        ifindex: u32,
    },
    /// Stop serving.
    Down { zone: ZoneName },
}

/// Tells everybody who serves zones.
pub(crate) struct ZoneEvents(pub(crate) Vec<mpsc::UnboundedSender<ZoneEvent>>);

impl ZoneEvents {
    /// The receivers end with the daemon only.
    fn send(&self, event: &ZoneEvent) {
        for receiver in &self.0 {
            let _ = receiver.send(event.clone());
        }
    }
}

/// See the [module](self).
pub(crate) struct Engine {
    dirs: Dirs,
    started: Instant,
    machine_id: Vec<u8>,
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    records: Records,
    /// Files for namespaces with names.
    named: Named,
    bridges: Bridges,
    links: Links,
    tables: Tables,
    firewall: Firewall,
    zone_files: Files<ZoneFile>,
    /// `groups.toml` alone.
    group_files: Files<Arc<Groups>>,
    policy_files: Files<Arc<PolicyFile>>,
    scribe: Scribe,
    edits: Edits,
    /// What was applied in one step, and how to get back.
    applied: Applied,
    /// When that has to be looked at.
    apply_due: Option<tokio::time::Instant>,
    /// Told when that changes.
    pub(crate) apply_news: std::rc::Rc<Notify>,
    zones: BTreeMap<ZoneName, ZoneState>,
    /// Zones with IPv6.
    six: BTreeMap<ZoneName, six::Six>,
    ports: Ports,
    /// Ports on our bridges that are not adopted.
    strangers: adopt::Strangers,
    /// Addresses that names have, attached or not; what the store holds.
    kept: BTreeMap<(ZoneName, ContainerName), Vec<IpAddr>>,
    /// Names whose addresses may not be durable yet, each with the number of its write.
    unsaved: BTreeMap<(ZoneName, ContainerName), u64>,
    /// Subnets chosen for zones; what the store holds.
    chosen: BTreeMap<ZoneName, (Option<Ipv4Net>, Option<Ipv6Net>)>,
    /// What limits ports.
    limited: bandwidth::Limited,
    /// Ports whose old link is closed and not yet deleted, with the network namespaces that its other end is in.
    closing: BTreeMap<PortName, (u64, u64)>,
    /// Told each time names leave `closing`.
    pub(crate) reaped: std::rc::Rc<Notify>,
    reaper: Reaper,
    forwarding: Option<Forwarding>,
    /// Published ports on `::1`, where the kernel does not do it.
    doors: Doors,
    /// Tells what rules that log and files on trial have to say.
    pub(crate) decider: decide::Decider,
    /// Published ports that policy closes to everybody, in words, by container's port.
    closed_ports: BTreeMap<PortName, Vec<String>>,
    zone_events: ZoneEvents,
    names: names::Names,
    /// What names have opened, on disk.
    opened: super::opened::Opened,
    /// Containers that are in there.
    opened_names: BTreeSet<PortName>,
    /// How often the ruleset had to be restored.
    restored: u64,
    /// Attached just now: see [`Engine::after_answers`].
    answered: Vec<Record>,
    /// When numbers of labels were given out anew, while some may be left over: see [`Engine::tidy_numbers`].
    renumbered: Option<Instant>,
    /// Zone files that are good and cannot be followed, by stem, and why.
    unfollowed: BTreeMap<String, String>,
    /// What is wrong besides files, by subject.
    problems: BTreeMap<String, String>,
}

impl Engine {
    /// Tells when files were edited.
    pub(crate) fn edit_news(&self) -> std::io::Result<super::edits::News> {
        self.edits.news()
    }

    /// The reaper deleted the links of these containers.
    pub(crate) fn links_reaped(&mut self, names: &[PortName]) {
        for name in names {
            self.closing.remove(name);
        }
        self.reaper.done();
        self.reaped.notify_waiters();
        self.meet_again();
    }

    /// Whether links that were closed are still there.
    pub(crate) fn is_reaping(&self) -> bool {
        self.reaper.is_busy()
    }

    /// Sends changes to the kernel; where they do not fit what is there, writes everything anew.
    fn apply(&mut self, changes: &firewall::sets::Changes) -> Result<(), api::Error> {
        // Also what changes no element may change what the resolver may ask.
        self.names.forget_verdicts();
        if changes.is_empty() {
            return Ok(());
        }
        let Err(first) = self.tables.apply(changes) else {
            return Ok(());
        };
        tracing::warn!(error = %super::chain(&first), "elements do not fit the ruleset in force; writing it anew");
        self.install()
            .map_err(|e| refused(format!("write the ruleset: {}", super::chain(&e))))
    }

    /// Writes the ruleset anew, where what is there is not what was thought.
    fn install(&mut self) -> Result<(), firewall::kernel::TablesError> {
        self.restored += 1;
        self.tables
            .install(&self.firewall.elements(), &self.firewall.limits())
    }

    /// Notes what is wrong with a subject, or that nothing is any longer.
    pub(crate) fn problem(&mut self, subject: String, message: Option<String>) {
        match message {
            Some(message) => self.problems.insert(subject, message),
            None => self.problems.remove(&subject),
        };
    }

    /// Addresses of the host outside the zones, for explanations.
    fn host_addresses(&mut self) -> Vec<IpAddr> {
        match self.links.addresses() {
            Ok(addresses) => addresses
                .into_iter()
                .filter(|a| {
                    !self
                        .zones
                        .values()
                        .any(|z| z.zone.subnets().any(|net| net.contains(a)))
                })
                .collect(),
            Err(e) => {
                tracing::warn!(error = %super::chain(&e), "cannot read the host's addresses");
                Vec::new()
            }
        }
    }
}

/// The request was understood, and was refused or failed.
fn refused(message: impl Into<String>) -> api::Error {
    api::Error::Refused {
        message: message.into(),
    }
}

/// The request cannot be understood.
fn invalid(message: impl Into<String>) -> api::Error {
    api::Error::Invalid {
        message: message.into(),
    }
}

/// There is no such zone.
fn no_such_zone(zone: &str) -> api::Error {
    api::Error::NoSuchZone {
        message: format!(
            "no such zone: {zone} (`netd zone list` shows those there are, `netd zone create {zone}` makes it)"
        ),
    }
}

/// There is no such container.
fn no_such_container(container: &str) -> api::Error {
    api::Error::NoSuchContainer {
        message: format!(
            "no such container: {container} (`netd list` shows those that are attached)"
        ),
    }
}
