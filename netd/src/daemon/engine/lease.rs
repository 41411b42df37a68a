//! DHCP: what the responder knows, and what becomes durable.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zone::{MacAddr, Zone, ZoneName};

use super::{Engine, ZoneState};
use crate::api;
use crate::daemon::record::{Configure, Record};
use crate::daemon::store::Kind;

/// How long a lease lasts. Addresses are kept for names anyway, so this only bounds how long a client
/// goes on without asking.
const LEASE: Duration = Duration::from_secs(3600);

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// A responder for a zone, when the zone has IPv4. `dns` are the resolvers to hand out.
pub(super) fn responder(zone: &Zone, dns: &[IpAddr]) -> dhcp::Responder {
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(a) => Some(*a),
        IpAddr::V6(_) => None,
    };
    let gateway = zone.gateway4.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let subnet = zone
        .subnet4
        .unwrap_or_else(|| ipnet::Ipv4Net::from(Ipv4Addr::UNSPECIFIED));
    let mut config = dhcp::ServerConfig::new(gateway, subnet);
    config.router = zone.gateway4;
    config.dns = dns.iter().filter_map(v4).collect();
    config.domain = Some(zone.domain.clone());
    config.mtu = u16::try_from(zone.mtu).unwrap_or(u16::MAX);
    config.lease = LEASE;
    dhcp::Responder::new(config)
}

impl Engine {
    /// The container's hardware address gets its address from now on.
    pub(super) fn bind_lease(&mut self, record: &Record) {
        let Some(state) = self.zones.get_mut(&record.zone) else {
            return;
        };
        for ip in record.ips() {
            if let IpAddr::V4(address) = ip {
                state
                    .responder
                    .bind(record.mac.0, address, Some(record.container.to_string()));
            }
        }
    }

    /// The container is gone: nobody gets its address.
    pub(super) fn unbind_lease(&mut self, record: &Record) {
        if let Some(state) = self.zones.get_mut(&record.zone) {
            state.responder.unbind(record.mac.0);
        }
        let key = lease_key(&record.zone, record.mac);
        self.store.put(Kind::Lease, key, None);
    }

    /// A DHCP message arrived in a zone.
    pub(crate) fn dhcp(
        &mut self,
        zone: &ZoneName,
        packet: &[u8],
        source: Ipv4Addr,
    ) -> Option<dhcp::Outcome> {
        let state = self.zones.get_mut(zone)?;
        let source = dhcp::Source { address: source };
        Some(state.responder.handle(now(), packet, source))
    }

    /// Makes a lease durable; the receiver tells when it is.
    pub(crate) fn store_lease(
        &self,
        zone: &ZoneName,
        lease: &dhcp::Lease,
    ) -> tokio::sync::oneshot::Receiver<Result<(), crate::daemon::store::StoreError>> {
        let key = lease_key(zone, MacAddr(lease.mac));
        let value = serde_json::to_string(lease).unwrap_or_default();
        self.store.commit(Kind::Lease, key, Some(value))
    }

    /// What a reply's frame has to carry as its sender: hardware and IP address of the gateway.
    pub(crate) fn dhcp_sender(&self, zone: &ZoneName) -> Option<(MacAddr, Ipv4Addr)> {
        let state = self.zones.get(zone)?;
        Some((state.zone.mac, state.zone.gateway4?))
    }

    /// Lets leases expire whose time has come, in every zone.
    pub(crate) fn expire_leases(&mut self) {
        let now = now();
        let mut ended = Vec::new();
        for (name, ZoneState { responder, .. }) in &mut self.zones {
            if responder.next_deadline().is_some_and(|at| at <= now) {
                ended.extend(responder.expire(now).into_iter().map(|l| (name.clone(), l)));
            }
        }
        for (zone, lease) in ended {
            self.store
                .put(Kind::Lease, lease_key(&zone, MacAddr(lease.mac)), None);
        }
    }

    /// Every address somebody has.
    pub(crate) fn leases(&self) -> Vec<api::Lease> {
        let mut leases = Vec::new();
        for record in self.ports.values() {
            let lease = self.zones.get(&record.zone).and_then(|state| {
                state
                    .responder
                    .leases()
                    .find(|lease| lease.mac == record.mac.0)
            });
            for ip in record.ips() {
                let lease = lease.filter(|l| IpAddr::V4(l.address) == ip);
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
        leases
    }
}

/// The key of a lease in the store.
pub(super) fn lease_key(zone: &ZoneName, mac: MacAddr) -> String {
    format!("{zone}/{mac}")
}
