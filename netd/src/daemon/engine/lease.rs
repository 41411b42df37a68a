//! DHCP: what the responder knows, and what becomes durable.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use zone::{Configure, MacAddr, ZoneName};

use super::Engine;
use super::dhcp_config::is_of;
use crate::api;
use crate::daemon::record::Record;
use crate::daemon::store::Kind;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

impl Engine {
    /// The container's hardware address gets its address from now on.
    pub(super) fn bind_lease(&mut self, record: &Record) {
        let Some(responder) = self
            .zones
            .get_mut(&record.zone)
            .and_then(|s| s.responder.as_mut())
        else {
            return;
        };
        for ip in record.ips() {
            let IpAddr::V4(address) = ip else {
                continue;
            };
            match responder.bind(record.mac.0, address, Some(record.container.to_string())) {
                Ok(ended) => {
                    for lease in ended {
                        self.store
                            .put(Kind::Lease, lease_key(&record.zone, lease.address), None);
                    }
                }
                Err(e) => {
                    tracing::error!(container = %record.container, error = %e, "offer its address by DHCP")
                }
            }
        }
    }

    /// The container is gone: nobody gets its address.
    pub(super) fn unbind_lease(&mut self, record: &Record) {
        let responder = self
            .zones
            .get_mut(&record.zone)
            .and_then(|s| s.responder.as_mut());
        if let Some(lease) = responder.and_then(|r| r.unbind(record.mac.0)) {
            self.store
                .put(Kind::Lease, lease_key(&record.zone, lease.address), None);
        }
    }

    /// A DHCP message arrived in a zone.
    pub(crate) fn dhcp(
        &mut self,
        zone: &ZoneName,
        packet: &[u8],
        from: Ipv4Addr,
        to: Ipv4Addr,
    ) -> Option<dhcp::Outcome> {
        let responder = self.zones.get_mut(zone)?.responder.as_mut()?;
        let source = dhcp::Source {
            address: from,
            to,
            zone: Some(zone.as_str()),
            hardware: None,
        };
        Some(responder.handle(now(), packet, source))
    }

    /// Makes a lease durable; the receiver tells when it is.
    pub(crate) fn store_lease(
        &self,
        zone: &ZoneName,
        lease: &dhcp::Lease,
    ) -> tokio::sync::oneshot::Receiver<Result<(), crate::daemon::store::StoreError>> {
        let key = lease_key(zone, lease.address);
        let value = serde_json::to_string(lease).unwrap_or_default();
        self.store.commit(Kind::Lease, key, Some(value))
    }

    /// The gateway's hardware address: the sender of reply frames.
    pub(crate) fn gateway_mac(&self, zone: &ZoneName) -> Option<MacAddr> {
        Some(self.zones.get(zone)?.zone.mac)
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
    pub(crate) fn record_lease(&self, zone: &ZoneName, lease: &dhcp::Lease) {
        let value = serde_json::to_string(lease).unwrap_or_default();
        self.store
            .put(Kind::Lease, lease_key(zone, lease.address), Some(value));
    }

    /// Every address somebody has.
    pub(crate) fn leases(&self) -> Vec<api::Lease> {
        let mut leases = Vec::new();
        for record in self.ports.values() {
            let responder = self
                .zones
                .get(&record.zone)
                .and_then(|s| s.responder.as_ref());
            for ip in record.ips() {
                let lease = match ip {
                    IpAddr::V4(address) => responder.and_then(|r| r.lease(address)),
                    IpAddr::V6(_) => None,
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
                        |l| format!("{:?}", l.state).to_lowercase(),
                    ),
                    expires: lease.and_then(|l| i64::try_from(l.expires).ok()),
                });
            }
        }
        for (name, state) in &self.zones {
            let attached = |address: Ipv4Addr| {
                let mut records = self.ports.values().filter(|r| r.zone == *name);
                records.any(|r| is_of(r, address))
            };
            let Some(responder) = &state.responder else {
                continue;
            };
            let others = responder.leases().filter(|l| !attached(l.address));
            leases.extend(others.map(|lease| api::Lease {
                container: lease.hostname.as_deref().unwrap_or_default().to_owned(),
                zone: name.to_string(),
                mac: MacAddr(lease.mac).to_string(),
                address: lease.address.to_string(),
                kind: "dhcp".into(),
                state: format!("{:?}", lease.state).to_lowercase(),
                expires: i64::try_from(lease.expires).ok(),
            }));
        }
        leases
    }
}

/// The key of a lease in the store.
pub(super) fn lease_key(zone: &ZoneName, address: Ipv4Addr) -> String {
    format!("{zone}/{address}")
}
