//! DHCP: what the responder knows, and what becomes durable.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zone::{Configure, MacAddr, Zone, ZoneName};

use super::Engine;
use crate::api;
use crate::daemon::record::Record;
use crate::daemon::store::Kind;

/// How long a lease lasts. Addresses are kept for names anyway, so this only bounds how long a client
/// goes on without asking.
const LEASE: Duration = Duration::from_secs(3600);

/// Interface MTU (RFC 2132 §5.1).
const OPTION_MTU: u8 = 26;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

impl Engine {
    /// A responder for a zone; none without IPv4.
    pub(super) fn responder(
        &self,
        zone: &Zone,
        what: &str,
    ) -> Result<Option<dhcp::Responder>, api::Error> {
        let (Some(gateway), Some(subnet)) = (zone.gateway4, zone.subnet4) else {
            return Ok(None);
        };
        let v4 = |address: &IpAddr| match address {
            IpAddr::V4(a) => Some(*a),
            IpAddr::V6(_) => None,
        };
        let mut config = dhcp::ServerConfig::new(zone.name.as_str(), gateway, subnet);
        config.dns = self.resolvers(zone).iter().filter_map(v4).collect();
        config.domain = Some(zone.domain.clone());
        config.mtu = u16::try_from(zone.mtu).unwrap_or(u16::MAX);
        // Few clients ask for the MTU, and all of them need it where it is not the usual one.
        config.extra.push(dhcp::Extra {
            code: OPTION_MTU,
            value: config.mtu.to_be_bytes().to_vec(),
            when: dhcp::When::Always,
        });
        config.lease = LEASE;
        dhcp::Responder::new(config)
            .map(Some)
            .map_err(|e| super::refused(format!("{what}: DHCP: {}", crate::daemon::chain(&e))))
    }

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
        self.unbind6(record);
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
        }
        leases
    }
}

/// The key of a lease in the store.
pub(super) fn lease_key(zone: &ZoneName, address: Ipv4Addr) -> String {
    format!("{zone}/{address}")
}
