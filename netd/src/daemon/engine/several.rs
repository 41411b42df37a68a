//! Several networks of one container: one port in each zone, all of them in one network namespace.
//!
//! ```text
//! place 0: CONTAINER       host0  metric 0    the name, the link and the hardware address of a container with one network
//! place 1: CONTAINER@ZONE  host1  metric 100  everything derived from that name
//! place 2: CONTAINER@ZONE  host2  metric 200
//! ```
//!
//! A further network has to be asked for as one: by naming several zones in one command, or by naming its interface.
//!
//! To guard, policy and names each port is a container of its own; only what is asked by the container's name goes
//! through here.

use std::collections::BTreeSet;

use zone::plan::MOST_PLACES;
use zone::{Configure, IfName, Netns, PortSpec};

use super::attach::spec_of;
use super::request::{Request, default_ifname};
use super::{Engine, invalid, refused};
use crate::api;
use crate::daemon::chain;
use crate::daemon::record::Record;

/// Where a new port goes beside those that the container has.
pub(super) struct Place {
    /// The lowest that is free.
    pub(super) number: u8,
    /// Its interface inside.
    pub(super) ifname: IfName,
    /// The ports that the container has, by their order.
    pub(super) beside: Vec<Record>,
}

impl Engine {
    /// Finds the place of a port that is asked for, in a zone where the container has none.
    pub(super) fn place(&self, request: &Request, what: &str) -> Result<Place, api::Error> {
        let beside = self.ports.of_container(request.container.as_str());
        // Somebody who means to move it, or mistook the zone, must not connect the two.
        if let Some(other) = beside.first().filter(|_| !request.further) {
            let zones: Vec<&str> = beside.iter().map(|record| record.zone.as_str()).collect();
            return Err(refused(format!(
                "attach {}: it is attached already, and differently: zone is {}, asked for is {} (detach it first; to have \
                 it in several, name all of them, or name the further interface: --ifname host{})",
                request.container,
                zones.join(", "),
                request.zone,
                other.place.saturating_add(1)
            )));
        }
        let taken: BTreeSet<u8> = beside.iter().map(|record| record.place).collect();
        let Some(number) = (0..MOST_PLACES).find(|place| !taken.contains(place)) else {
            return Err(refused(format!(
                "{what}: it is attached to {MOST_PLACES} zones already, and more are not possible"
            )));
        };
        let ifname = match &request.ifname {
            Some(name) => name.clone(),
            None => default_ifname(number).map_err(|e| invalid(format!("{what}: {e}")))?,
        };
        for other in &beside {
            // of an adopted port nobody knows the namespace
            if !other.adopted && other.netns != request.netns.id() {
                return Err(refused(format!(
                    "{what}: it is attached already, and differently: network namespace is another one in zone {}, asked \
                     for is this one (a container is in one namespace: detach it first, or take another name)",
                    other.zone
                )));
            }
            if other.ifname == ifname {
                return Err(refused(format!(
                    "{what}: interface {ifname} is its port in zone {} (--ifname gives this one another name)",
                    other.zone
                )));
            }
        }
        Ok(Place {
            number,
            ifname,
            beside: beside.into_iter().cloned().collect(),
        })
    }

    /// Has the ports that are there already answer by the way they were asked: the container gets another way.
    pub(super) fn keep_apart(
        &mut self,
        beside: &[Record],
        netns: &Netns,
        what: &str,
    ) -> Result<(), api::Error> {
        let configured = |record: &&Record| record.configure == Configure::Static;
        for record in beside.iter().filter(configured) {
            let Some(state) = self.zones.get(&record.zone) else {
                continue;
            };
            let spec = PortSpec {
                several: true,
                ..spec_of(state, record)
            };
            self.links
                .keep_sources_apart(&spec, netns)
                .map_err(|e| refused(format!("{what}: {}", chain(&e))))?;
        }
        Ok(())
    }

    /// Whether a link of the container is still being deleted.
    pub(crate) fn is_closing(&self, container: &str) -> bool {
        let (from, to) = zone::PortName::further(container);
        let between = (
            std::ops::Bound::Included(from.as_str()),
            std::ops::Bound::Excluded(to.as_str()),
        );
        let further = || self.closing.range::<str, _>(between).next();
        self.closing.contains_key(container) || further().is_some()
    }

    /// Whether an old link is still in this network namespace, with the names and routes that it has there.
    pub(crate) fn is_leaving(&self, netns: impl FnOnce() -> Option<(u64, u64)>) -> bool {
        if self.closing.is_empty() {
            return false;
        }
        netns().is_some_and(|netns| self.closing.values().any(|its| *its == netns))
    }
}
