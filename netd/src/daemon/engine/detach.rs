//! Detaching: closed at once, deleted behind the caller's back.

use zone::{ContainerName, PortName, ZoneName};

use super::{Engine, refused};
use crate::api;
use crate::daemon::chain;
use crate::daemon::record::Record;

impl Engine {
    /// Detaches a container. False when it was not attached.
    pub(crate) fn detach(
        &mut self,
        container: &str,
        zone: Option<&str>,
    ) -> Result<bool, api::Error> {
        self.after_answers();
        let name: ContainerName = container
            .parse()
            .map_err(|e| super::invalid(format!("detach: {e}")))?;
        let zone: Option<ZoneName> = match zone {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|e| super::invalid(format!("detach {name}: {e}")))?,
            ),
        };
        let mut records = self.ports.of_container(name.as_str());
        if records.is_empty() {
            return Ok(false);
        }
        if let Some(zone) = zone {
            let zones: Vec<&str> = records.iter().map(|r| r.zone.as_str()).collect();
            let is_in = format!("it is in zone {}", zones.join(", "));
            records.retain(|record| record.zone == zone);
            if records.is_empty() {
                return Err(refused(format!("detach {name} from zone {zone}: {is_in}")));
            }
        }
        let records: Vec<Record> = records.into_iter().cloned().collect();
        let mut outcome = Ok(true);
        // What cannot be taken out of the ruleset of one zone does not keep the container in the others.
        for record in records {
            match self.close(&record) {
                Ok(()) => {
                    tracing::info!(container = %record.container, zone = %record.zone, "detached");
                }
                Err(e) => outcome = Err(e),
            }
        }
        self.meet_again();
        outcome
    }

    /// Closes a container: no packet of it passes when this returns. Its name stays blocked until its
    /// link is deleted.
    pub(super) fn close(&mut self, record: &Record) -> Result<(), api::Error> {
        if record.adopted {
            self.release_link(record);
        }
        self.unlimit(record);
        self.forget_given(record);
        let port = record.port();
        let changes = self.firewall.detach(&port);
        let outcome = self.apply(&changes);
        if !record.adopted {
            self.close_link(record, outcome.is_ok());
        }
        self.ports.remove(&port);
        self.closed_ports.remove(&port);
        if !record.publish.is_empty() {
            self.follow_doors();
        }
        // Only now: with its elements still there, a flow that is forgotten could begin anew.
        if !record.adopted || !record.publish.is_empty() {
            self.reap(record);
        }
        self.unbind_lease(record);
        self.unname_container(&port);
        self.unserve_named(&record.container);
        if let Err(e) = self.drop_record(record) {
            tracing::error!(container = %record.container, error = %e, "remove its record");
        }
        outcome.map_err(|e| match e {
            api::Error::Refused { message } => {
                refused(format!("detach {}: {message}", record.container))
            }
            other => other,
        })
    }

    /// Removes a container's record; what it says of addresses stays until that is durable.
    fn drop_record(&mut self, record: &Record) -> std::io::Result<()> {
        let name = (record.zone.clone(), record.container.clone());
        match self.unsaved.get(&name) {
            Some(number) if !self.store.is_durable(*number) => self.records.keep_addresses(record),
            _ => self.records.remove(&record.port()),
        }
    }

    /// Forgets notes of addresses that are durable by now.
    pub(crate) fn forget_notes(&mut self) {
        let durable: Vec<(ZoneName, ContainerName)> = self
            .unsaved
            .iter()
            .filter(|(_, number)| self.store.is_durable(**number))
            .map(|(name, _)| name.clone())
            .collect();
        for name in durable {
            self.unsaved.remove(&name);
            if let Err(e) = self.records.forget_kept(&name.0, &name.1) {
                tracing::warn!(zone = %name.0, container = %name.1, error = %e, "remove the note of its addresses");
            }
        }
    }

    /// Gives a port back to whoever made it: off the bridge, and down.
    fn release_link(&mut self, record: &Record) {
        if let Err(e) = self.links.release_port(record.ifindex) {
            tracing::error!(container = %record.container, error = %chain(&e), "take its port off the bridge");
        }
        self.remove_ways(record);
    }

    /// Puts the link where [`Engine::reap`] finds it; and takes it down where rules do not close it.
    pub(super) fn close_link(&mut self, record: &Record, is_closed: bool) {
        let (ifindex, group) = (record.ifindex, self.reaper.group());
        let closed = match is_closed {
            true => self.links.retire_port(ifindex, group),
            false => self.links.close_port(ifindex, group),
        };
        if let Err(e) = closed {
            tracing::error!(container = %record.container, error = %chain(&e), "close its link");
        }
        self.remove_ways(record);
    }

    /// Nothing leads to a container's prefixes any more.
    pub(super) fn remove_ways(&mut self, record: &Record) {
        if let Some(state) = self.zones.get(&record.zone) {
            let prefixes = record.prefixes(state.zone.subnet6);
            let ifindex = state.ifindex;
            self.links.remove_ways(ifindex, record.mac, &prefixes, true);
        }
    }

    /// Hands a container that is closed to the reaper, and the connections that were led to it. Its name is
    /// blocked until that is done.
    pub(super) fn reap(&mut self, record: &Record) {
        let led_to = match record.publish.is_empty() {
            true => Vec::new(),
            false => record.ips(),
        };
        self.closing.insert(record.port(), record.netns);
        self.reaper.gather(record.port(), led_to);
    }

    /// The host end is gone: the container's namespace ended, or somebody deleted the link.
    pub(super) fn port_vanished(&mut self, name: &PortName) {
        let Some(record) = self.ports.remove(name) else {
            return;
        };
        let changes = self.firewall.detach(name);
        if let Err(e) = self.apply(&changes) {
            tracing::error!(container = %name, error = ?e, "remove elements of a container that ended");
        }
        self.remove_ways(&record);
        self.unlimit(&record);
        self.forget_given(&record);
        self.closed_ports.remove(name);
        if !record.publish.is_empty() {
            self.follow_doors();
            self.reap(&record);
        }
        self.unbind_lease(&record);
        self.unname_container(name);
        self.unserve_named(&record.container);
        if let Err(e) = self.drop_record(&record) {
            tracing::error!(container = %name, error = %e, "remove the record of a container that ended");
        }
        self.problems
            .remove(&format!("container {}", record.container));
        tracing::info!(container = %name, zone = %record.zone, "its port is gone; detached");
        // Another of that name may have been plugged in already.
        self.meet_again();
    }
}
