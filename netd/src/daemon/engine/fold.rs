//! The journal of leases begun anew: everything there is to tell, some at a time, so that neither the engine nor
//! memory feels it.

use std::net::Ipv4Addr;
use std::ops::Bound;

use zone::ZoneName;

use super::Engine;
use crate::daemon::leases::put;

/// Leases told at once: some tens of kilobytes.
const AT_ONCE: usize = 512;

/// Where to go on.
pub(crate) type Place = (ZoneName, Ipv4Addr);

impl Engine {
    /// Whether the journal has grown, and what the responders know is all there is to know: no zone is missing.
    pub(crate) fn wants_fold(&self) -> bool {
        self.journal.wants_fold() && self.can_fold()
    }

    /// Whether no zone is missing.
    pub(crate) fn can_fold(&self) -> bool {
        let up = |stem: &String| self.zones.contains_key(stem.as_str());
        self.zone_files.bad.is_empty() && self.zone_files.good.keys().all(up)
    }

    /// Entries that tell of some leases from `place` on, and where the next ones are. Leases that change while this
    /// goes on are told of twice, the second time as they are then.
    pub(crate) fn told_leases(&self, place: Option<&Place>) -> (Vec<u8>, Option<Place>) {
        let from = match place {
            Some((zone, _)) => Bound::Included(zone.clone()),
            None => Bound::Unbounded,
        };
        let first = |name: &ZoneName| match place {
            Some((zone, address)) if zone == name => *address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let leases = self
            .zones
            .range((from, Bound::Unbounded))
            .flat_map(|(name, state)| {
                let first = first(name);
                let leases = state
                    .responder
                    .iter()
                    .flat_map(move |r| r.leases_from(first));
                leases.map(move |lease| (name, lease))
            });
        // An offer is never durable.
        let mut leases = leases.filter(|(_, lease)| lease.state != dhcp::State::Offered);
        let mut entries = Vec::new();
        for (name, lease) in leases.by_ref().take(AT_ONCE) {
            put(&mut entries, name.as_str(), lease);
        }
        let next = leases
            .next()
            .map(|(name, lease)| (name.clone(), lease.address));
        (entries, next)
    }
}
