//! Containers by the key of the door that attached them, and what doors ask about them and their zone.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use zone::{Configure, Netns};

use super::attach::spec_of;
use super::{Engine, invalid, no_such_zone, refused};
use crate::api::{self, Problem};
use crate::daemon::chain;
use crate::daemon::record::Record;

impl Engine {
    /// Detaches the container of an owner. False when it has none.
    pub(crate) fn detach_owned(&mut self, owner: &str) -> Result<bool, api::Error> {
        self.after_answers();
        let records: Vec<Record> = self.ports.owned_by(owner).cloned().collect();
        let mut outcome = Ok(!records.is_empty());
        for record in records {
            match self.close(&record) {
                Ok(()) => {
                    tracing::info!(container = %record.container, zone = %record.zone, owner, "detached");
                }
                Err(e) => outcome = Err(e),
            }
        }
        outcome
    }

    /// Detaches the containers of all owners that begin with `prefix`, but for those in `keep`. Goes on past
    /// errors; tells the names of those that it detached.
    ///
    /// # Errors
    /// What could not be detached, all in one.
    pub(crate) fn reclaim(
        &mut self,
        prefix: &str,
        keep: &[String],
    ) -> Result<Vec<String>, api::Error> {
        if prefix.is_empty() {
            return Err(invalid("reclaim: without a prefix that would be everybody"));
        }
        self.after_answers();
        let keep: BTreeSet<&str> = keep.iter().map(String::as_str).collect();
        let stale = self.ports.owners(prefix).filter(|o| !keep.contains(o));
        let stale: Vec<Record> = stale
            .flat_map(|owner| self.ports.owned_by(owner).cloned())
            .collect();
        let (mut detached, mut failed) = (Vec::new(), Vec::new());
        for record in stale {
            match self.close(&record) {
                Ok(()) => {
                    tracing::info!(container = %record.container, zone = %record.zone, "detached, nobody uses it any more");
                    detached.push(record.container.to_string());
                }
                Err(api::Error::Refused { message }) => failed.push(message),
                Err(e) => failed.push(format!("detach {}: {e:?}", record.container)),
            }
        }
        match failed.is_empty() {
            true => Ok(detached),
            false => Err(refused(failed.join("; "))),
        }
    }

    /// Compares the kernel with what an owner's container should have: its port, what is inside (the namespace is
    /// the descriptor) with those `addresses` too that others gave it, guard, policy and published ports, and the gate.
    /// None when there is no such container.
    pub(crate) fn check(
        &mut self,
        owner: &str,
        addresses: &[String],
        fds: Vec<OwnedFd>,
    ) -> Result<Option<(api::Container, Vec<Problem>)>, api::Error> {
        self.after_answers();
        let Some(record) = self.ports.owned_by(owner).next().cloned() else {
            return Ok(None);
        };
        let what = format!("check {}", record.container);
        let failed = |e: zone::LinkError| refused(format!("{what}: {}", chain(&e)));
        let netns = fds.into_iter().next();
        let netns = netns.ok_or_else(|| invalid(format!("{what}: no network namespace")))?;
        let netns = Netns::from_fd(netns).map_err(failed)?;
        let mut besides = Vec::new();
        for text in addresses {
            let wrong = |_| invalid(format!("{what}: {text:?} is no address with prefix length"));
            besides.push(text.parse::<IpNet>().map_err(wrong)?);
        }
        let mut problems = Vec::new();
        let mut problem = |subject: String, message: String| {
            problems.push(Problem { subject, message });
        };
        let Some(state) = self.zones.get(&record.zone) else {
            let zone = format!("zone {}", record.zone);
            problem(zone.clone(), format!("{zone} is not there"));
            return Ok(Some((self.view(&record), problems)));
        };
        let (spec, bridge) = (spec_of(state, &record), state.ifindex);
        if netns.id() == record.netns {
            for flaw in self
                .links
                .check_inside(&spec, &besides, &netns)
                .map_err(failed)?
            {
                problem(flaw.subject, flaw.message);
            }
            let several = self.ports.of_container(record.container.as_str()).len() > 1;
            if several && spec.configure == Configure::Static {
                let flaws = self.links.check_sources(&spec, &netns);
                for flaw in flaws.map_err(failed)? {
                    problem(flaw.subject, flaw.message);
                }
            }
        } else {
            let message = "it is attached in another network namespace".to_owned();
            problem("network namespace".into(), message);
        }
        let subject = format!("interface {}", record.host_ifname);
        match self.links.port(record.ifindex).map_err(failed)? {
            None => problem(subject.clone(), format!("{subject} is missing")),
            Some((master, port)) => {
                if master != Some(bridge) {
                    problem(
                        subject.clone(),
                        format!("{subject} is not on bridge {}", spec.bridge),
                    );
                } else if !port.is_some_and(|port| port.is_guarded() && port.up) {
                    problem(
                        subject.clone(),
                        format!("{subject} is down, or not isolated and locked"),
                    );
                }
            }
        }
        let ways = self.links.missing_ways(bridge, spec.mac, &spec.prefixes);
        for prefix in ways.map_err(failed)? {
            let message = format!("no route of the host leads to its prefix {prefix}");
            problem("prefix".into(), message);
        }
        if !firewall::kernel::gate::present(bridge) {
            let message = format!("the gate of bridge {} is missing", spec.bridge);
            problem("rules".into(), message);
        }
        if let Some(message) = self.missing_limit(&record) {
            problem("rules".into(), message);
        }
        let elements = self.firewall.elements_of(&record.port());
        match self.tables.verify_some(&elements) {
            Ok(differences) => {
                for difference in differences {
                    problem("rules".into(), difference);
                }
            }
            Err(e) => problem("rules".into(), format!("cannot be read: {}", chain(&e))),
        }
        Ok(Some((self.view(&record), problems)))
    }

    /// Why a container could not be attached to a zone now, or would lack something; empty when all is well.
    pub(crate) fn readiness(&mut self, zone: &str) -> Result<Vec<Problem>, api::Error> {
        let state = self.zones.get(zone).ok_or_else(|| no_such_zone(zone))?;
        let has_room = state.pool.has_room() || self.idle(&state.zone.name, &[]).is_some();
        let mut problems = Vec::new();
        let mut problem = |subject: &str, message: String| {
            problems.push(Problem {
                subject: subject.to_owned(),
                message,
            });
        };
        if !has_room {
            problem("addresses", format!("zone {zone} has no free address left"));
        }
        let bridge = state.ifindex;
        // one of somebody else's comes with the first container
        let waits = bridge == super::foreign::ABSENT;
        if !waits && !self.links.is_up(bridge).is_ok_and(|up| up) {
            problem("bridge", format!("the bridge of zone {zone} is down"));
        }
        if let Some(reason) = self.cannot_store() {
            problem("state", format!("nothing can be stored: {reason}"));
        }
        for subject in ["ruleset", "forwarding"] {
            if let Some(message) = self.problems.get(subject) {
                problem(subject, message.clone());
            }
        }
        Ok(problems)
    }
}
