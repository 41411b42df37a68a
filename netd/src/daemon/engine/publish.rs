//! Published ports: what refuses an attach, what is worth a warning, and connections that go elsewhere from
//! now on.

use std::net::IpAddr;
use std::sync::Arc;

use firewall::compile::Firewall;
use firewall::kernel::conntrack::{self, HostPorts};
use firewall::model::Publish;
use firewall::policy::{Peer, PolicyFile, Ports, Rule};
use firewall::sets::{Action, Family};
use tokio::task::JoinHandle;
use zone::PortName;

use super::attach::model_of;
use super::request::Request;
use super::{Engine, refused};
use crate::api;
use crate::daemon::record::Record;
use crate::daemon::{chain, listeners};
use crate::publish;

const UDP: u8 = 17;

impl Engine {
    /// Refuses what cannot be published, before anything is made.
    pub(super) fn refuse_published(&self, request: &Request, what: &str) -> Result<(), api::Error> {
        if request.publish.is_empty() {
            return Ok(());
        }
        if self
            .zones
            .get(&request.zone)
            .is_some_and(|z| z.zone.internal)
        {
            return Err(refused(format!(
                "{what}: zone {} is internal: nothing in it can be published",
                request.zone
            )));
        }
        for (n, (text, publish)) in request.publish.iter().enumerate() {
            let refuse = |why: String| Err(refused(format!("{what}: publish {text}: {why}")));
            let mut earlier = request.publish[..n].iter();
            let twice = |(_, other): &&(String, Publish)| {
                other != publish && Firewall::publish_meet(other, publish)
            };
            if let Some((other, _)) = earlier.find(twice) {
                return refuse(format!("the same host port is asked for by {other}"));
            }
            if let Some(zone) = publish.address.and_then(|at| self.zone_of_address(at)) {
                return refuse(format!(
                    "the address belongs to zone {zone}; publish on an address of the host"
                ));
            }
            if let Some((owner, other)) = self.firewall.publish_conflict(publish) {
                let owner = owner.container();
                let port = publish.first.max(other.first);
                return refuse(format!(
                    "port {}/{port} is published by container {owner} already, as {} (choose another one, or detach {owner})",
                    publish::proto(publish.proto),
                    publish::text(&super::doors::shown(other))
                ));
            }
            if let Some(why) = self.listened_on(publish) {
                return refuse(why);
            }
        }
        Ok(())
    }

    /// The zone in which an address is, unless it is the gateway's.
    fn zone_of_address(&self, at: IpAddr) -> Option<&zone::ZoneName> {
        let mut zones = self.zones.values().map(|state| &state.zone);
        let zone = zones.find(|zone| zone.subnets().any(|net| net.contains(&at)))?;
        (!self.gateways().contains(&at)).then_some(&zone.name)
    }

    fn gateways(&self) -> Vec<IpAddr> {
        let zones = self.zones.values().map(|state| &state.zone);
        zones
            .flat_map(|zone| {
                let v4 = zone.gateway4.map(IpAddr::V4);
                v4.into_iter().chain(zone.gateway6.map(IpAddr::V6))
            })
            .collect()
    }

    /// The program of the host that listens on a port, in words.
    fn listened_on(&self, publish: &Publish) -> Option<String> {
        let found = match listeners::in_the_way(publish, &self.gateways()) {
            Ok(found) => found,
            Err(e) => {
                // Not a reason to publish nothing: the kernel has no sock_diag for this protocol.
                tracing::warn!(error = %e, "cannot ask who listens on the host's ports");
                return None;
            }
        };
        found.iter().find_map(|listener| {
            let owner = listener.owner();
            // Our own doors on ::1: one that is just being closed, as its port is nobody's by now.
            let door = owner
                .as_ref()
                .is_some_and(|(_, pid)| *pid == std::process::id())
                && listener.address.is_loopback();
            let by = owner.map_or_else(
                || "a program that cannot be seen from here".to_owned(),
                |(name, pid)| format!("{name} (pid {pid})"),
            );
            (!door).then(|| {
                format!(
                    "port {}/{} of {} is in use by {by} (choose another one, or stop it)",
                    publish::proto(publish.proto),
                    listener.port,
                    listener.address
                )
            })
        })
    }

    /// What is worth saying about what a container publishes, when it attaches.
    pub(super) fn publish_warnings(&mut self, record: &Record) -> Vec<String> {
        let port = record.port();
        self.look_at_published(&port);
        let closed = self.closed_ports.get(&port).cloned();
        let mut warnings = closed.unwrap_or_default();
        let bound = |(text, publish): &(String, Publish)| {
            let at = publish.address.filter(|at| !at.is_loopback())?;
            Some((text.clone(), at))
        };
        let bound: Vec<(String, IpAddr)> = record.publish.iter().filter_map(bound).collect();
        if bound.is_empty() {
            return warnings;
        }
        match self.links.addresses() {
            Ok(addresses) => warnings.extend(
                bound
                    .into_iter()
                    .filter(|(_, at)| !addresses.contains(at))
                    .map(|(text, at)| {
                        format!("publish {text}: the host has no address {at}; the port opens once it has")
                    }),
            ),
            Err(e) => tracing::warn!(error = %chain(&e), "cannot read the host's addresses"),
        }
        warnings
    }

    /// Finds out again which published ports of a container are closed by its policy.
    pub(super) fn look_at_published(&mut self, name: &PortName) {
        self.closed_ports.remove(name);
        let Some(record) = self.ports.get(name).filter(|r| !r.publish.is_empty()) else {
            return;
        };
        let files = self.firewall.applying(&model_of(record));
        let closed: Vec<String> = record
            .publish
            .iter()
            .filter(|(_, publish)| is_closed(&files, publish))
            .map(|(text, _)| {
                format!(
                    "publish {text}: no ingress rule of {} lets anybody through to that port",
                    name.container()
                )
            })
            .collect();
        if !closed.is_empty() {
            self.closed_ports.insert(name.clone(), closed);
        }
    }

    /// The same for everybody.
    pub(super) fn look_at_all_published(&mut self) {
        let names: Vec<PortName> = self.ports.keys().cloned().collect();
        for name in names {
            self.look_at_published(&name);
        }
    }

    /// The same after edits: for the containers that the files are about, or were.
    pub(super) fn look_at_edited<'a>(&mut self, files: impl Iterator<Item = &'a Arc<PolicyFile>>) {
        let targets: Vec<_> = files.map(|file| &file.applies_to).collect();
        let concerned: Vec<PortName> = self
            .ports
            .publishing()
            .map(model_of)
            .filter(|container| targets.iter().any(|target| target.matches(container)))
            .map(|container| container.name)
            .collect();
        for name in concerned {
            self.look_at_published(&name);
        }
    }

    /// Warnings about published ports of one container.
    pub(super) fn closed_ports_of(&self, container: &str) -> Vec<String> {
        let ports = self.ports.of_container(container).into_iter();
        let closed = ports.filter_map(|record| self.closed_ports.get(&record.port()));
        closed.flatten().cloned().collect()
    }

    /// Warnings about published ports of everybody.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let all = self.closed_ports.iter();
        all.flat_map(|(name, list)| {
            let name = name.container();
            list.iter().map(move |text| format!("{name}: {text}"))
        })
        .chain(self.stranger_warnings())
        .collect()
    }

    /// Flows of UDP that went to these ports go where they lead from now on: a client that keeps its port
    /// would otherwise stay with whom it spoke to before. (TCP begins anew by itself.) Finding them is a walk
    /// over the kernel's table, so that it is done on another thread; the attach is answered after it.
    pub(super) fn forget_flows(&mut self, record: &Record) -> Option<JoinHandle<()>> {
        let udp = |(_, publish): &&(String, Publish)| publish.proto == UDP;
        let published: Vec<&Publish> = record.publish.iter().filter(udp).map(|(_, p)| p).collect();
        if published.is_empty() {
            return None;
        }
        let host: Arc<[IpAddr]> = match self.links.addresses() {
            Ok(addresses) => addresses.into(),
            Err(e) => {
                tracing::warn!(error = %chain(&e), "cannot read the host's addresses");
                return None;
            }
        };
        let mut ports = Vec::new();
        for publish in published {
            for family in Family::ALL {
                let mut own = record.ips().into_iter();
                let to = own.find(|address| Family::of(*address) == family);
                let there = publish.address.is_none_or(|at| Family::of(at) == family);
                if let Some(to) = to.filter(|_| there) {
                    ports.push(HostPorts {
                        family,
                        proto: publish.proto,
                        ports: (publish.first, publish.last),
                        at: publish.address,
                        host: host.clone(),
                        to,
                    });
                }
            }
        }
        let container = record.container.clone();
        Some(tokio::task::spawn_blocking(
            move || match conntrack::delete_towards(&ports) {
                Ok(0) => {}
                Ok(flows) => {
                    tracing::info!(%container, flows, "flows to its published ports begin anew")
                }
                Err(e) => {
                    tracing::warn!(%container, error = %chain(&e), "flows to its published ports")
                }
            },
        ))
    }
}

/// Whether files mention ingress and none of their rules lets anybody through to any of the ports.
fn is_closed(files: &[Arc<PolicyFile>], publish: &Publish) -> bool {
    let sections = files.iter().filter_map(|file| file.ingress.as_ref());
    let mut mentioned = false;
    let mut rules: Vec<&Rule> = Vec::new();
    for section in sections {
        mentioned = true;
        rules.extend(&section.rules);
    }
    let last = publish
        .port
        .saturating_add(publish.last.saturating_sub(publish.first));
    let some = |ports: &Ports| match *ports {
        Ports::Range {
            proto,
            first,
            last: end,
        } => proto == publish.proto && first <= last && publish.port <= end,
        Ports::Proto(proto) => proto == publish.proto,
        Ports::Icmp(_) | Ports::EveryIcmp => false,
    };
    let all = |ports: &Ports| match *ports {
        Ports::Range {
            proto,
            first,
            last: end,
        } => proto == publish.proto && first <= publish.port && last <= end,
        Ports::Proto(proto) => proto == publish.proto,
        Ports::Icmp(_) | Ports::EveryIcmp => false,
    };
    let about = |rule: &Rule, which: &dyn Fn(&Ports) -> bool| {
        rule.ports
            .as_ref()
            .is_none_or(|ports| ports.iter().any(which))
    };
    let open = rules
        .iter()
        .any(|rule| rule.action == Action::Allow && !rule.peers.is_empty() && about(rule, &some));
    let shut = rules.iter().any(|rule| {
        rule.action == Action::Deny
            && (rule.time.is_none() && rule.rate.is_none() && rule.max_connections.is_none())
            && rule.peers.contains(&Peer::Any)
            && about(rule, &all)
    });
    mentioned && (!open || shut)
}
