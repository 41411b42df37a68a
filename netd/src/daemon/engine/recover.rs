//! The start: take over what runs, finish or undo what was half done, then be in force.
//!
//! Until [`Engine::start`] replaces the ruleset in one transaction, the one of the daemon before stays
//! in force, so no packet is lost or let through in between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use firewall::compile::Firewall;
use firewall::kernel::{Tables, TablesError, keeper};
use tokio::sync::{Notify, mpsc};
use zone::{ContainerName, LinkError, Links, PortName, ZoneName};

use super::attach::model_of;
use super::decide::Decider;
use super::names::Names;
use super::{Engine, ZoneEvents};
use crate::daemon::applied::AppliedError;
use crate::daemon::chain;
use crate::daemon::decisions::Decisions;
use crate::daemon::dirs::Dirs;
use crate::daemon::edits::Edits;
use crate::daemon::files::Files;
use crate::daemon::keep::Bridges;
use crate::daemon::leases::{Before, Journal, JournalError};
use crate::daemon::loopback6::Doors;
use crate::daemon::named::Named;
use crate::daemon::opened::Line;
use crate::daemon::ports::Ports;
use crate::daemon::reaper::Reaper;
use crate::daemon::record::{Record, Records};
use crate::daemon::scribe::Scribe;
use crate::daemon::store::{Kind, Store, StoreError, Stored};

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("use the directory {path}")]
    Dir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "another netd daemon runs with the runtime directory {path} (its socket is netd.sock there)"
    )]
    Running { path: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("open netlink sockets (netd needs CAP_NET_ADMIN)")]
    Links(#[source] LinkError),
    #[error("take the ruleset over (netd needs CAP_NET_ADMIN)")]
    Tables(#[source] TablesError),
    #[error("ask the keeper for the ruleset's socket")]
    Keeper(#[source] keeper::KeeperError),
    #[error("finish what an apply of policies began")]
    Applied(#[from] AppliedError),
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

impl Engine {
    /// Starts the engine; the second value is where names of deleted links arrive.
    pub(crate) fn start(
        dirs: Dirs,
        zone_events: ZoneEvents,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Vec<PortName>>), StartError> {
        let dir = |path: PathBuf| move |source| StartError::Dir { path, source };
        let (store, stored) = Store::open(&dirs.state)?;
        let (journal, before) = Journal::open(&dirs.state)?;
        let records = Records::open(&dirs.runtime).map_err(dir(dirs.runtime.clone()))?;
        let zone_files =
            Files::open(dirs.zones(), dirs.good().join("zones")).map_err(dir(dirs.zones()))?;
        let group_files =
            Files::open(dirs.config.clone(), dirs.good()).map_err(dir(dirs.config.clone()))?;
        let policy_files = Files::open(dirs.policies(), dirs.good().join("policies"))
            .map_err(dir(dirs.policies()))?;
        let applied = super::apply::open(&dirs)?;
        // Before they are read: what is edited meanwhile is read again.
        let edits = Edits::watch(&dirs).map_err(dir(dirs.config.clone()))?;
        let machine_id = machine_id(&dirs).map_err(dir(dirs.state.clone()))?;
        let links = Links::open().map_err(StartError::Links)?;
        let socket = keeper::take(&dirs.keeper_socket()).map_err(StartError::Keeper)?;
        let tables = Tables::open(socket).map_err(StartError::Tables)?;
        let (reaper, reaped) = Reaper::start().map_err(StartError::Thread)?;
        let decisions =
            Decisions::start(&dirs.decisions(), &dirs.learned()).map_err(StartError::Thread)?;
        let forwarding = std::fs::read(dirs.forwarding())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (opened, recalled) = super::opened::open(&dirs);
        let named = Named::new(&dirs.state);
        let bridges = Bridges::read(&dirs);
        let mut engine = Self {
            dirs,
            named,
            bridges,
            started: Instant::now(),
            machine_id,
            store,
            journal,
            records,
            links,
            tables,
            firewall: Firewall::new(),
            zone_files,
            group_files,
            policy_files,
            scribe: Scribe::default(),
            edits,
            applied,
            apply_due: None,
            apply_news: std::rc::Rc::new(Notify::new()),
            zones: BTreeMap::new(),
            ports: Ports::default(),
            strangers: super::adopt::Strangers::default(),
            answered: Vec::new(),
            renumbered: None,
            six: BTreeMap::new(),
            kept: kept_addresses(&stored),
            unsaved: BTreeMap::new(),
            chosen: chosen_subnets(&stored),
            limited: super::bandwidth::Limited::default(),
            closing: BTreeMap::new(),
            reaped: std::rc::Rc::new(Notify::new()),
            reaper,
            forwarding,
            doors: Doors::default(),
            decider: Decider::new(decisions),
            closed_ports: BTreeMap::new(),
            zone_events,
            names: Names::new(),
            opened,
            opened_names: BTreeSet::new(),
            restored: 0,
            unfollowed: BTreeMap::new(),
            problems: BTreeMap::new(),
        };
        engine.resume_apply();
        engine.take_over(&stored, &before, recalled)?;
        Ok((engine, reaped))
    }

    fn take_over(
        &mut self,
        stored: &Stored,
        before: &Before,
        recalled: Vec<Line>,
    ) -> Result<(), StartError> {
        if let Some(aside) = &stored.put_aside {
            self.problems.insert(
                self.dirs.state.display().to_string(),
                format!(
                    "the state file was damaged and is kept as {}; addresses of containers that are not attached now may change",
                    aside.display()
                ),
            );
        }
        let (records, unreadable) = self.records.read().map_err(|source| StartError::Dir {
            path: self.dirs.runtime.clone(),
            source,
        })?;
        for path in unreadable {
            tracing::error!(file = %path.display(), "the record cannot be read; its link is taken down");
            // Its link has no record then, and is undone below.
            let _ = std::fs::remove_file(&path);
        }
        self.read_files(&records)?;
        // What is attached must be known before zones come up, so that the pools keep its addresses;
        // and what the daemon before had no time to store is stored now.
        let noted = self.records.kept().map_err(|source| StartError::Dir {
            path: self.dirs.runtime.clone(),
            source,
        })?;
        let kept = |record: &&Record| {
            let file = self.zone_files.good.get(record.zone.as_str());
            // others give addresses where the bridge is theirs
            file.is_none_or(|file| file.value.bridge.is_none())
        };
        let all = records.iter().chain(&noted);
        let kept: Vec<&Record> = all.filter(kept).collect();
        for record in kept {
            let name = (record.zone.clone(), record.container.clone());
            if self.kept.get(&name) != Some(&record.ips()) {
                self.keep_addresses(record);
            }
        }
        for record in noted {
            let name = (record.zone.clone(), record.container.clone());
            self.unsaved.entry(name).or_insert(0);
        }
        for record in &records {
            self.ports.insert(record.clone());
        }
        self.rules_in_force(&records, recalled)?;
        self.follow_zone_files();
        self.tell_bridges();
        self.match_links(records);
        self.limit_again();
        self.sweep_named();
        self.check_ways();
        self.restore_leases(before);
        self.restore_leases6(stored);
        self.follow_doors();
        self.look_at_all_published();
        self.name_host();
        if let Err(e) = self.forward() {
            self.note("forwarding".into(), Err(e));
        }
        Ok(())
    }

    fn read_files(&mut self, records: &[Record]) -> Result<(), StartError> {
        // policies mean nothing without them
        self.read_groups();
        self.policy_files
            .read(|_| false)
            .map_err(|source| StartError::Dir {
                path: self.dirs.policies(),
                source,
            })?;
        self.zone_files
            .read(|_| false)
            .map_err(|source| StartError::Dir {
                path: self.dirs.zones(),
                source,
            })?;
        for zone in records.iter().map(|r| &r.zone).collect::<BTreeSet<_>>() {
            if !self.zone_files.revive(zone.as_str()) {
                tracing::error!(zone = %zone, "its file is gone; its containers are detached");
            }
        }
        Ok(())
    }

    /// One transaction replaces the ruleset of the daemon before by ours, for all that is recorded.
    fn rules_in_force(
        &mut self,
        records: &[Record],
        recalled: Vec<Line>,
    ) -> Result<(), StartError> {
        // The changes of each step are not sent: all elements together are, below.
        let set = self.policy_set();
        self.follow_clock();
        self.firewall.set_policies(set);
        let names: Vec<ZoneName> = self
            .zone_files
            .good
            .keys()
            .filter_map(|stem| stem.parse().ok())
            .collect();
        for name in names {
            let Some(file) = self
                .zone_files
                .good
                .get(name.as_str())
                .map(|g| g.value.clone())
            else {
                continue;
            };
            match self.resolve(&name, &file, &format!("zone {name}")) {
                Ok(zone) => {
                    self.firewall.set_zone(super::zones::model(&zone));
                }
                Err(e) => self.note(format!("zone {name}"), Err(e)),
            }
        }
        for record in records {
            self.firewall.attach(model_of(record));
        }
        self.recall_names(recalled);
        self.tables
            .install(&self.firewall.elements(), &self.firewall.limits())
            .map_err(StartError::Tables)
    }

    /// Links and records must agree: what only one side knows is undone.
    fn match_links(&mut self, records: Vec<Record>) {
        let bridges: Vec<_> = self.zones.values().map(|z| z.zone.bridge.clone()).collect();
        let mut there = BTreeSet::new();
        for bridge in bridges {
            match self.links.port_indexes(&bridge) {
                Ok(ports) => there.extend(ports),
                Err(e) => tracing::error!(bridge = %bridge, error = %chain(&e), "list its ports"),
            }
        }
        for record in records {
            let known = self.zones.contains_key(&record.zone)
                && self.is_there(&record)
                && (!record.adopted || there.contains(&record.ifindex));
            if known {
                there.remove(&record.ifindex);
                self.repair_port(&record);
                self.bind_lease(&record);
            } else {
                self.port_vanished(&record.port());
            }
        }
        for ifindex in &there {
            let port = match self.links.stranger(*ifindex) {
                Ok(Some(port)) if port.is_own_make() => port.name,
                _ => continue,
            };
            tracing::info!(port = %port, "an attach was cut off before it was done; undone");
            if let Err(e) = self.links.close_port(*ifindex, self.reaper.group()) {
                tracing::error!(port = %port, error = %chain(&e), "undo a cut-off attach");
            }
        }
        for group in Reaper::groups() {
            if let Err(e) = zone::reap(group) {
                tracing::error!(error = %chain(&e), "delete links that were closed before the restart");
            }
        }
        // What else is there was plugged in by somebody else, while no daemon ran or just before one was killed.
        for ifindex in there {
            self.meet(ifindex);
        }
    }

    /// Whether the record's link is the one the kernel has under its index.
    fn is_there(&self, record: &Record) -> bool {
        self.links.ifname(record.ifindex).as_deref() == Some(record.host_ifname.as_str())
    }
}

fn kept_addresses(stored: &Stored) -> BTreeMap<(ZoneName, ContainerName), Vec<IpAddr>> {
    stored
        .of(Kind::Address)
        .filter_map(|(key, value)| {
            let (zone, container) = key.split_once('/')?;
            let addresses = serde_json::from_str(value).ok()?;
            Some(((zone.parse().ok()?, container.parse().ok()?), addresses))
        })
        .collect()
}

fn chosen_subnets(
    stored: &Stored,
) -> BTreeMap<ZoneName, (Option<ipnet::Ipv4Net>, Option<ipnet::Ipv6Net>)> {
    stored
        .of(Kind::Subnet)
        .filter_map(|(key, value)| Some((key.parse().ok()?, serde_json::from_str(value).ok()?)))
        .collect()
}

/// What tells this machine from others: `/etc/machine-id`, else one of our own making.
fn machine_id(dirs: &Dirs) -> io::Result<Vec<u8>> {
    let own = dirs.state.join("machine-id");
    for path in [PathBuf::from("/etc/machine-id"), own.clone()] {
        match std::fs::read(&path) {
            Ok(id) if id.len() >= 16 => return Ok(id),
            _ => {}
        }
    }
    let mut id = [0u8; 32];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    std::fs::write(&own, id)?;
    Ok(id.to_vec())
}
