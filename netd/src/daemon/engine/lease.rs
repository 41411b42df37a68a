//! DHCP: what the responder knows, and what becomes durable.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use zone::{Configure, MacAddr, ZoneName};

use super::{Engine, ZoneState};
use crate::api;
use crate::daemon::leases::{Before, Entry, JournalError, push, put};
use crate::daemon::record::Record;

/// Leases in one answer of the control socket: a long one takes the time of its length squared to write.
const LISTED_AT_ONCE: usize = 100;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

impl Engine {
    /// The container's hardware address gets its address from now on.
    pub(super) fn bind_lease(&mut self, record: &Record) {
        self.bind6(record);
        let Some(responder) = self
            .zones
            .get_mut(&record.zone)
            .and_then(|s| s.responder.as_mut())
        else {
            return;
        };
        let mut over = Vec::new();
        for ip in record.ips() {
            let IpAddr::V4(address) = ip else {
                continue;
            };
            match responder.bind(record.mac.0, address, Some(record.container.to_string())) {
                Ok(ended) => over.extend(ended),
                Err(e) => {
                    tracing::error!(container = %record.container, error = %e, "offer its address by DHCP")
                }
            }
        }
        for lease in over {
            self.drop_lease(&record.zone, lease.address);
        }
    }

    /// The container is gone: nobody gets its address.
    pub(super) fn unbind_lease(&mut self, record: &Record) {
        self.unbind6(record);
        let responder = self
            .zones
            .get_mut(&record.zone)
            .and_then(|s| s.responder.as_mut());
        if let Some(lease) = responder.and_then(|r| r.unbind(record.mac.0)) {
            self.drop_lease(&record.zone, lease.address);
        }
    }

    /// Makes it durable with the next commit that an address has no lease any more.
    fn drop_lease(&self, zone: &ZoneName, address: Ipv4Addr) {
        let zone = zone.to_string();
        let mut entry = Vec::new();
        push(&mut entry, &Entry::Gone { zone, address });
        self.journal.write(entry);
    }

    /// DHCP messages arrived in a zone: what is to be sent now, and what once its leases are durable. `None` where
    /// the zone has no DHCP server any more.
    pub(crate) fn dhcp<'a>(
        &mut self,
        zone: &ZoneName,
        messages: impl Iterator<Item = (&'a [u8], Ipv4Addr, Ipv4Addr)>,
    ) -> Option<Answers> {
        let state = self.zones.get_mut(zone)?;
        let (mac, responder) = (state.zone.mac, state.responder.as_mut()?);
        let now = now();
        let mut answers = Answers::default();
        for (packet, from, to) in messages {
            let source = dhcp::Source {
                address: from,
                to,
                zone: Some(zone.as_str()),
                hardware: None,
            };
            match responder.handle(now, packet, source) {
                dhcp::Outcome::Ignore(silence) => {
                    tracing::debug!(zone = %zone, reason = %silence, "DHCP message not answered");
                }
                dhcp::Outcome::Record(lease) => {
                    put(&mut answers.recorded, zone.as_str(), &lease);
                }
                dhcp::Outcome::Send(reply) => answers.now.extend(frame(zone, mac, &reply)),
                dhcp::Outcome::Commit { lease, then } => {
                    put(&mut answers.committed, zone.as_str(), &lease);
                    answers.then.extend(frame(zone, mac, &then));
                }
            }
        }
        if !answers.recorded.is_empty() {
            self.journal.write(std::mem::take(&mut answers.recorded));
        }
        Some(answers)
    }

    /// Makes leases durable; the receiver tells when they are.
    pub(crate) fn commit_leases(
        &self,
        entries: Vec<u8>,
    ) -> tokio::sync::oneshot::Receiver<Result<(), JournalError>> {
        self.journal.commit(entries)
    }

    /// Lets leases expire whose time has come, in every zone.
    pub(crate) fn expire_leases(&mut self) {
        let now = now();
        let mut ended = Vec::new();
        for (name, state) in &mut self.zones {
            let Some(responder) = &mut state.responder else {
                continue;
            };
            if responder.next_deadline().is_some_and(|at| at <= now) {
                ended.extend(responder.expire(now).into_iter().map(|l| (name.clone(), l)));
            }
        }
        for (zone, lease) in ended {
            self.record_lease(&zone, &lease);
        }
    }

    /// Makes a lease durable with the next commit; nobody waits for it.
    fn record_lease(&self, zone: &ZoneName, lease: &dhcp::Lease) {
        let mut entry = Vec::new();
        put(&mut entry, zone.as_str(), lease);
        self.journal.write(entry);
    }

    /// A zone was deleted, and all its leases.
    pub(super) fn forget_leases(&self, zone: &ZoneName) {
        let mut entry = Vec::new();
        let zone = zone.to_string();
        push(&mut entry, &Entry::ZoneGone { zone });
        self.journal.write(entry);
    }

    /// Takes leases back from the journal.
    pub(super) fn restore_leases(&mut self, before: &Before) {
        let mut lost = 0u32;
        let zones = &mut self.zones;
        let wrong = before.tell(|entry| match entry {
            Entry::Put { zone, lease } => {
                let responder = responder_of(zones, &zone);
                // The zone may have given up IPv4 since.
                let Some(responder) = responder.filter(|r| !r.config().no_ipv4) else {
                    return;
                };
                responder.forget(lease.address);
                lost += u32::from(responder.restore(lease).is_err());
            }
            Entry::Gone { zone, address } => {
                if let Some(responder) = responder_of(zones, &zone) {
                    responder.forget(address);
                }
            }
            Entry::ZoneGone { zone } => {
                if let Some(responder) = responder_of(zones, &zone) {
                    let all: Vec<_> = responder.leases().map(|l| l.address).collect();
                    for address in all {
                        responder.forget(address);
                    }
                }
            }
            Entry::Whole => {}
        });
        for state in self.zones.values_mut() {
            Self::withhold_leases(&mut state.pool, state.responder.as_ref());
        }
        if lost > 0 {
            tracing::info!(
                leases = lost,
                "stored leases do not fit zones or containers any more"
            );
        }
        if !wrong.is_empty() {
            let subject = self.dirs.state.display().to_string();
            self.problems.insert(subject, wrong.join("; "));
        }
    }

    /// Addresses that somebody has, some at a time, and where the next ones are: attached containers by name, then
    /// `ZONE/ADDRESS` of machines nobody attached.
    pub(crate) fn leases(&self, from: Option<&str>) -> (Vec<api::Lease>, Option<String>) {
        match from.and_then(|from| from.split_once('/')) {
            Some((zone, address)) => self.leases_of_others(zone, address.parse().ok()),
            None => self.leases_of_containers(from.unwrap_or_default()),
        }
    }

    fn leases_of_containers(&self, from: &str) -> (Vec<api::Lease>, Option<String>) {
        let mut leases = Vec::new();
        let records = self.ports.values();
        for record in records.skip_while(|record| record.port().as_str() < from) {
            if leases.len() >= LISTED_AT_ONCE {
                return (leases, Some(record.port().to_string()));
            }
            let responder = self
                .zones
                .get(&record.zone)
                .and_then(|s| s.responder.as_ref());
            for ip in record.ips() {
                let lease = match ip {
                    IpAddr::V4(address) => responder
                        .and_then(|r| r.lease(address))
                        .map(|l| (l.state, l.expires)),
                    IpAddr::V6(address) => self
                        .lease6(&record.zone, address)
                        .map(|l| (l.state, l.expires)),
                };
                leases.push(api::Lease {
                    container: record.container.to_string(),
                    zone: record.zone.to_string(),
                    mac: record.mac.to_string(),
                    address: ip.to_string(),
                    kind: match (record.configure, lease) {
                        (Configure::Static, None) => "static".into(),
                        _ => "dhcp".into(),
                    },
                    state: lease.map_or_else(
                        || match record.configure {
                            Configure::Static => "bound".to_owned(),
                            _ => "reserved".to_owned(),
                        },
                        |(state, _)| format!("{state:?}").to_lowercase(),
                    ),
                    expires: lease.and_then(|(_, expires)| i64::try_from(expires).ok()),
                });
            }
            for net in &record.delegated {
                let lease = self.lease6_of(&record.zone, *net);
                leases.push(api::Lease {
                    container: record.container.to_string(),
                    zone: record.zone.to_string(),
                    mac: record.mac.to_string(),
                    address: net.to_string(),
                    kind: "delegated".into(),
                    state: "bound".into(),
                    expires: lease.and_then(|l| i64::try_from(l.expires).ok()),
                });
            }
        }
        let first = self.zones.keys().next();
        (leases, first.map(|zone| format!("{zone}/0.0.0.0")))
    }

    fn leases_of_others(
        &self,
        zone: &str,
        from: Option<Ipv4Addr>,
    ) -> (Vec<api::Lease>, Option<String>) {
        let mut leases = Vec::new();
        let from = from.unwrap_or(Ipv4Addr::UNSPECIFIED);
        for (name, state) in self
            .zones
            .iter()
            .skip_while(|(name, _)| name.as_str() < zone)
        {
            let records = self.ports.of_zone(name.as_str());
            let attached: BTreeSet<IpAddr> = records.flat_map(|r| r.ips()).collect();
            let Some(responder) = &state.responder else {
                continue;
            };
            let first = if name.as_str() == zone {
                from
            } else {
                Ipv4Addr::UNSPECIFIED
            };
            let others = responder.leases_from(first);
            let mut others = others.filter(|l| !attached.contains(&l.address.into()));
            let room = LISTED_AT_ONCE - leases.len();
            leases.extend(others.by_ref().take(room).map(|lease| api::Lease {
                container: lease.hostname.as_deref().unwrap_or_default().to_owned(),
                zone: name.to_string(),
                mac: MacAddr(lease.mac).to_string(),
                address: lease.address.to_string(),
                kind: "dhcp".into(),
                state: format!("{:?}", lease.state).to_lowercase(),
                expires: i64::try_from(lease.expires).ok(),
            }));
            if let Some(next) = others.next() {
                return (leases, Some(format!("{name}/{}", next.address)));
            }
        }
        (leases, None)
    }
}

/// What is to be done about some DHCP messages.
#[derive(Default)]
pub(crate) struct Answers {
    /// Frames to send at once.
    pub(crate) now: Vec<Vec<u8>>,
    /// Entries of the journal that must be durable …
    pub(crate) committed: Vec<u8>,
    /// … before these frames leave.
    pub(crate) then: Vec<Vec<u8>>,
    /// Entries that nobody waits for.
    recorded: Vec<u8>,
}

/// The frame of a reply from the gateway.
fn frame(zone: &ZoneName, gateway: MacAddr, reply: &dhcp::Reply) -> Option<Vec<u8>> {
    match reply.frame(gateway.0) {
        Ok(Some(frame)) => Some(frame),
        Ok(None) => {
            let to = reply.to.udp().0;
            tracing::warn!(zone = %zone, relay = %to, "a relay agent that is not attached cannot be answered");
            None
        }
        Err(e) => {
            tracing::error!(zone = %zone, error = %e, "frame a DHCP reply");
            None
        }
    }
}

fn responder_of<'a>(
    zones: &'a mut BTreeMap<ZoneName, ZoneState>,
    zone: &str,
) -> Option<&'a mut dhcp::Responder> {
    zones.get_mut(zone)?.responder.as_mut()
}
