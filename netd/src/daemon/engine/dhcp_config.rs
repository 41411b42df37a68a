//! A zone as its DHCP server sees it, and the addresses that the two allocators must not both give: `zone::Pool`
//! gives to containers, the responder's pool and reservations are for machines nobody attached.

use std::net::IpAddr;
use std::time::Duration;

use zone::dhcp::Who;
use zone::{ContainerName, MacAddr, Pool, Zone, ZoneName};

use super::{Engine, refused};
use crate::api;
use crate::daemon::chain;

/// How long a lease lasts where the zone does not say. Addresses are kept for names anyway, so this only bounds how
/// long a client goes on without asking.
const LEASE: Duration = Duration::from_secs(3600);

/// How many seconds clients in a zone of IPv6 alone keep IPv4 off, where the zone does not say (RFC 8925 §3.4).
const V6ONLY_WAIT: u32 = 1800;

/// Interface MTU (RFC 2132 §5.1).
const OPTION_MTU: u8 = 26;

impl Engine {
    /// What a zone's responder is told; none on a foreign bridge.
    fn dhcp_config(&self, zone: &Zone) -> Option<dhcp::ServerConfig> {
        if zone.is_foreign() {
            return None;
        }
        let (Some(gateway), Some(subnet)) = (zone.gateway4, zone.subnet4) else {
            let wait = zone.dhcp.ipv6_only.unwrap_or(V6ONLY_WAIT);
            let wait = Duration::from_secs(wait.into());
            return Some(dhcp::ServerConfig::without_ipv4(zone.name.as_str(), wait));
        };
        let v4 = |address: &IpAddr| match address {
            IpAddr::V4(a) => Some(*a),
            IpAddr::V6(_) => None,
        };
        let file = &zone.dhcp;
        let mut config = dhcp::ServerConfig::new(zone.name.as_str(), gateway, subnet);
        config.dns = self.resolvers(zone).iter().filter_map(v4).collect();
        config.domain = Some(zone.domain.clone());
        config.mtu = u16::try_from(zone.mtu).unwrap_or(u16::MAX);
        config.ntp = file.ntp.clone();
        config.search = file.search.clone();
        config.routes = file.routes.clone();
        config.ipv6_only = file.ipv6_only.map(|s| Duration::from_secs(s.into()));
        config.rapid_commit = file.rapid_commit;
        config.pool = file.pool;
        config.lease = file.lease.map_or(LEASE, |s| Duration::from_secs(s.into()));
        config.relays = file.relays.iter().map(|a| (*a).into()).collect();
        // Few clients ask for the MTU, and all of them need it where it is not the usual one.
        config.extra.push(dhcp::Extra {
            code: OPTION_MTU,
            value: config.mtu.to_be_bytes().to_vec(),
            when: dhcp::When::Always,
        });
        // Later ones replace those before.
        config
            .extra
            .extend(file.options.iter().map(|option| dhcp::Extra {
                code: option.code,
                value: option.value.clone(),
                when: if option.always {
                    dhcp::When::Always
                } else {
                    dhcp::When::Default
                },
            }));
        let reservation = |r: &zone::dhcp::Reservation| dhcp::Reservation {
            who: match &r.who {
                Who::Mac(mac) => dhcp::Who::Mac(mac.0),
                Who::ClientId(id) => dhcp::Who::ClientId(id.as_slice().into()),
                Who::Container(_) => dhcp::Who::Nobody,
            },
            address: r.address,
            hostname: r.hostname.clone(),
        };
        config.reservations = file.reservations.iter().map(reservation).collect();
        Some(config)
    }

    /// A responder for a zone as it is to be; none on a foreign bridge.
    pub(super) fn responder(
        &self,
        zone: &Zone,
        what: &str,
    ) -> Result<Option<dhcp::Responder>, api::Error> {
        let responder = self.dhcp_config(zone).map(dhcp::Responder::new);
        responder
            .transpose()
            .map_err(|e| refused(format!("{what}: DHCP: {}", chain(&e))))
    }

    /// The responder that the zone has, told what `fresh` was told, so that leases stay; `fresh` itself where there is
    /// none for this subnet.
    pub(super) fn keep_leases(
        &mut self,
        zone: &ZoneName,
        fresh: Option<dhcp::Responder>,
    ) -> Option<dhcp::Responder> {
        let fresh = fresh?;
        let state = self.zones.get_mut(zone);
        let Some(mut old) = state.and_then(|state| state.responder.take()) else {
            return Some(fresh);
        };
        let (was, is) = (old.config(), fresh.config());
        let same = was.subnet == is.subnet && was.server == is.server;
        if same && old.reconfigure(is.clone()).is_ok() {
            Some(old)
        } else {
            Some(fresh)
        }
    }

    /// Keeps from containers what is for others.
    pub(super) fn withhold(pool: &mut Pool, zone: &Zone, responder: Option<&dhcp::Responder>) {
        if let Some((first, last)) = zone.dhcp.pool {
            pool.withhold(first, last);
        }
        for reservation in &zone.dhcp.reservations {
            match &reservation.who {
                Who::Container(name) => pool.promise(name, reservation.address),
                Who::Mac(_) | Who::ClientId(_) => {
                    pool.withhold(reservation.address, reservation.address);
                }
            }
        }
        Self::withhold_leases(pool, responder);
    }

    /// Keeps from containers what others have: leases from before the pool was moved, too.
    pub(super) fn withhold_leases(pool: &mut Pool, responder: Option<&dhcp::Responder>) {
        for lease in responder.iter().flat_map(|r| r.leases()) {
            let address = lease.address;
            let over = matches!(lease.state, dhcp::State::Released | dhcp::State::Expired);
            if !over && pool.owner(address.into()).is_none() && !pool.is_withheld(address.into()) {
                pool.withhold(address, address);
            }
        }
    }

    /// An address reserved for a hardware address is the container's that has it.
    pub(super) fn promise_by_mac(
        &mut self,
        zone: &ZoneName,
        container: &ContainerName,
        mac: MacAddr,
    ) {
        let Some(state) = self.zones.get_mut(zone) else {
            return;
        };
        let mut reserved = state.zone.dhcp.reservations.iter();
        if let Some(found) = reserved.rfind(|r| r.who == Who::Mac(mac)) {
            state.pool.promise(container, found.address);
        }
    }

    /// Refuses reservations of addresses that other containers have now.
    pub(super) fn check_reservations(&self, zone: &Zone, what: &str) -> Result<(), api::Error> {
        for reservation in &zone.dhcp.reservations {
            let has = |a: &IpAddr| *a == IpAddr::V4(reservation.address);
            let meant = |record: &crate::daemon::record::Record| match &reservation.who {
                Who::Container(name) => record.container == *name,
                Who::Mac(mac) => record.mac == *mac,
                Who::ClientId(_) => false,
            };
            let mut attached = self.ports.of_zone(zone.name.as_str());
            if let Some(other) = attached.find(|r| r.ips().iter().any(has) && !meant(r)) {
                return Err(refused(format!(
                    "{what}: dhcp: {} is reserved for another, and container {} has it now (detach it first, or reserve another address)",
                    reservation.address, other.container
                )));
            }
        }
        Ok(())
    }

    /// What DHCP did in each zone.
    pub(super) fn dhcp_view(&self) -> Vec<api::DhcpZone> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let zones = self.zones.iter().filter_map(|(name, state)| {
            let responder = state.responder.as_ref()?;
            let tally = responder.tally();
            let mut silent: Vec<_> = tally
                .silent
                .iter()
                .map(|(reason, silent)| api::DhcpSilence {
                    reason: (*reason).to_owned(),
                    count: number(silent.count),
                    at: number(silent.at),
                    last: silent.last.to_string(),
                })
                .collect();
            silent.sort_by_key(|s| std::cmp::Reverse(s.at));
            let pool = responder.pool_use();
            Some(api::DhcpZone {
                zone: name.to_string(),
                received: number(tally.received),
                offers: number(tally.offers),
                acks: number(tally.acks),
                naks: number(tally.naks),
                heeded: number(tally.heeded),
                silent,
                pool: pool.map(|(all, _)| number(all)),
                pool_used: pool.map(|(_, used)| number(used)),
            })
        });
        zones.collect()
    }
}
