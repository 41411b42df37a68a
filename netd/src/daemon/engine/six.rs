//! IPv6 for the machines of a zone: router advertisements and DHCPv6.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use dhcp::v6::frame::{self, Ends, Payload, Received};
use dhcp::v6::{
    Advertisement, Advertiser, Binding, Delegation, Lease, Outcome, Responder, Silence, Source,
};
use ipnet::Ipv6Net;
use tokio::sync::oneshot;
use zone::{Configure, MacAddr, PortName, Zone, ZoneName};

use super::lease::now;
use super::{Engine, refused};
use crate::api;
use crate::daemon::chain;
use crate::daemon::record::Record;
use crate::daemon::store::{Kind, StoreError, Stored};

/// Unasked advertisements that go out at one time; more wait for the next.
const AT_ONCE: usize = 1000;

/// Prefixes that one machine is delegated at one time. Each takes as many elements as the machine itself.
const DELEGATED: usize = 4;

/// What tells that a lease is durable.
type Durable = oneshot::Receiver<Result<(), StoreError>>;

/// IPv6 in one zone.
pub(super) struct Six {
    responder: Responder,
    router: Advertiser,
    ifindex: u32,
    gateway: Gateway,
    sender: OwnedFd,
    tally: Tally,
}

/// Who the frames are from.
#[derive(Clone, Copy)]
struct Gateway {
    mac: dhcp::Mac,
    link_local: Ipv6Addr,
}

/// What was done since the daemon started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Frames that came.
    pub(crate) received: u64,
    /// Router advertisements sent, asked for or not.
    pub(crate) advertisements: u64,
    /// DHCPv6 replies sent, those that wait for the disk included.
    pub(crate) replies: u64,
    /// What was not answered, by reason.
    pub(crate) silences: BTreeMap<&'static str, u64>,
}

impl Six {
    fn send(&self, to_mac: dhcp::Mac, to: Ipv6Addr, fill: impl FnOnce(Ends) -> Option<Vec<u8>>) {
        let Some(frame) = fill(self.ends(to_mac, to)) else {
            return;
        };
        self.send_frame(&frame);
    }

    fn ends(&self, to_mac: dhcp::Mac, to: Ipv6Addr) -> Ends {
        Ends {
            from_mac: self.gateway.mac,
            from: self.gateway.link_local,
            to_mac,
            to,
        }
    }

    fn send_frame(&self, frame: &[u8]) {
        let sent = crate::daemon::sys::send_frame6(self.sender.as_fd(), self.ifindex, frame);
        if let Err(e) = sent {
            tracing::debug!(ifindex = self.ifindex, error = %e, "send a frame");
        }
    }

    fn advertise(&mut self, advertisements: Vec<Advertisement>) {
        for told in advertisements {
            self.tally.advertisements += 1;
            self.send(told.mac, told.to, |ends| frame::icmp(ends, &told.message));
        }
    }

    fn silent(&mut self, zone: &ZoneName, silence: &Silence) {
        *self.tally.silences.entry(silence.name()).or_default() += 1;
        tracing::debug!(zone = %zone, reason = %silence, "IPv6 message not answered");
    }
}

impl Engine {
    /// Whether a zone has IPv6 to serve.
    pub(crate) fn speaks6(&self, zone: &ZoneName) -> bool {
        self.six.contains_key(zone)
    }

    /// Begins or goes on to serve IPv6 in a zone that is up. Leases are kept.
    pub(super) fn six_up(&mut self, name: &ZoneName, what: &str) -> Result<(), api::Error> {
        let state = self.zone(name)?;
        let (zone, ifindex) = (state.zone.clone(), state.ifindex);
        let before = self.six.remove(name);
        let (Some(subnet), Some(link_local)) = (zone.subnet6, zone.gateway6_ll()) else {
            for lease in before.iter().flat_map(|six| six.responder.leases()) {
                self.store
                    .put(Kind::Lease6, lease_key(name, lease.net), None);
            }
            return Ok(());
        };
        let failed = |e: &dyn std::fmt::Display| refused(format!("{what}: IPv6: {e}"));
        let (responder, router) = self
            .six_config(&zone, subnet)
            .map_err(|e| failed(&chain(&e)))?;
        let sender = crate::daemon::sys::frame_sender().map_err(|e| failed(&e))?;
        let tally = before.as_ref().map(|six| six.tally.clone());
        let six = Six {
            responder,
            router,
            ifindex,
            gateway: Gateway {
                mac: zone.mac.0,
                link_local,
            },
            sender,
            tally: tally.unwrap_or_default(),
        };
        self.six.insert(name.clone(), six);
        let attached = self.ports.values().filter(|r| r.zone == *name);
        for record in attached.cloned().collect::<Vec<_>>() {
            self.bind6(&record);
        }
        if let (Some(before), Some(six)) = (before, self.six.get_mut(name)) {
            for lease in before.responder.leases() {
                if !six.responder.restore(lease.clone()) {
                    self.store
                        .put(Kind::Lease6, lease_key(name, lease.net), None);
                }
            }
            let attached = self.ports.of_zone(name.as_str());
            let names = attached.map(Record::port).collect();
            self.follow_all_delegated(names);
        }
        Ok(())
    }

    fn six_config(
        &self,
        zone: &Zone,
        subnet: Ipv6Net,
    ) -> Result<(Responder, Advertiser), dhcp::Error> {
        let resolvers = self.resolvers(zone);
        let dns: Vec<Ipv6Addr> = resolvers
            .iter()
            .filter_map(|address| match address {
                IpAddr::V6(address) => Some(*address),
                IpAddr::V4(_) => None,
            })
            .collect();
        let mut config = dhcp::v6::Config::new(zone.name.as_str(), self.duid(), subnet);
        config.dns.clone_from(&dns);
        config.search = match zone.dhcp.search.as_slice() {
            [] => vec![zone.domain.clone()],
            names => names.to_vec(),
        };
        if let Some(seconds) = zone.dhcp.lease {
            config.lease = Duration::from_secs(seconds.into());
        }
        config.rapid_commit = zone.dhcp.rapid_commit;
        config.delegation = zone::prefix::delegated(subnet).map(|range| Delegation {
            range,
            length: zone::prefix::LENGTH,
        });
        config.prefixes_per_machine = DELEGATED;
        let router = dhcp::v6::RouterConfig {
            mac: zone.mac.0,
            subnet,
            mtu: zone.mtu,
            dns,
            search: config.search.clone(),
        };
        let seed = now()
            ^ u64::from(u32::from_be_bytes([
                zone.mac.0[2],
                zone.mac.0[3],
                zone.mac.0[4],
                zone.mac.0[5],
            ]));
        Ok((Responder::new(config)?, Advertiser::new(router, seed)?))
    }

    /// The server's identifier: of the kind that is a UUID (RFC 6355), from what tells this machine from
    /// others, which is kept.
    fn duid(&self) -> Vec<u8> {
        use sha2::Digest;
        let hash = sha2::Sha256::new()
            .chain_update("netd dhcpv6\0")
            .chain_update(&self.machine_id)
            .finalize();
        [&[0, 4], &hash[..16]].concat()
    }

    /// A zone goes: tells its machines that there is no router any more.
    pub(super) fn farewell6(&mut self, name: &ZoneName) {
        if let Some(six) = self.six.get_mut(name) {
            let told = six.router.farewell();
            six.advertise(told);
        }
    }

    /// Ends to serve IPv6 in a zone.
    pub(super) fn six_down(&mut self, name: &ZoneName) {
        self.six.remove(name);
    }

    /// The container's hardware address gets its address from now on, and is told of the gateway unless it is
    /// configured from outside.
    pub(super) fn bind6(&mut self, record: &Record) {
        let Some(six) = self.six.get_mut(&record.zone) else {
            return;
        };
        let address = record.ips().into_iter().find_map(|ip| match ip {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        });
        let Some(address) = address else { return };
        let mac = record.mac.0;
        let binding = Binding {
            address,
            prefix: zone::prefix::of(six.responder.config().subnet, address),
        };
        match six.responder.bind(mac, binding) {
            Ok(ended) => {
                for lease in ended {
                    let key = lease_key(&record.zone, lease.net);
                    self.store.put(Kind::Lease6, key, None);
                }
            }
            Err(e) => {
                tracing::error!(container = %record.container, error = %e, "offer its address by DHCPv6");
            }
        }
        if record.configure != Configure::Static {
            six.router.add(now(), mac, binding.prefix);
        }
    }

    /// The container is gone.
    pub(super) fn unbind6(&mut self, record: &Record) {
        let Some(six) = self.six.get_mut(&record.zone) else {
            return;
        };
        six.router.remove(record.mac.0);
        for lease in six.responder.unbind(record.mac.0) {
            let key = lease_key(&record.zone, lease.net);
            self.store.put(Kind::Lease6, key, None);
        }
    }

    /// A frame was heard on a zone's bridge. What is to be sent once leases are durable is returned; the rest
    /// is done.
    pub(crate) fn heard6(
        &mut self,
        zone: &ZoneName,
        bytes: &[u8],
    ) -> Option<(Vec<Durable>, Vec<u8>)> {
        let six = self.six.get_mut(zone)?;
        let received = Received::parse(bytes)?;
        six.tally.received += 1;
        let message = match received.payload {
            Payload::Solicitation { message, hops } => {
                let (mac, source) = (received.mac, received.source);
                match six.router.solicited(now(), mac, source, hops, message) {
                    Ok(told) => six.advertise(vec![told]),
                    Err(silence) => six.silent(zone, &silence),
                }
                return None;
            }
            Payload::Dhcp(message) => message,
        };
        let from = Source {
            address: received.source,
            to: received.to,
            mac: received.mac,
            zone: Some(zone.as_str()),
        };
        let (leases, reply) = match six.responder.handle(now(), message, from) {
            Outcome::Ignore(silence) => {
                six.silent(zone, &silence);
                return None;
            }
            Outcome::Send(reply) => (Vec::new(), reply),
            Outcome::Commit { leases, then } => (leases, then),
        };
        six.tally.replies += 1;
        let ends = six.ends(reply.mac, reply.to);
        let frame = frame::udp(ends, dhcp::v6::SERVER_PORT, reply.port, &reply.bytes)?;
        if leases.is_empty() {
            six.send_frame(&frame);
            return None;
        }
        if leases.iter().any(Lease::is_prefix) {
            let name = self.ports.with_mac(zone, MacAddr(received.mac)).cloned();
            let led = name.map_or(Ok(()), |name| self.follow_delegated(&name));
            // the client asks again
            if let Err(e) = led {
                let why = crate::daemon::control::message(&e).to_owned();
                tracing::error!(zone = %zone, "prefix not delegated: {why}");
                return None;
            }
        }
        let durable = leases.iter().map(|lease| {
            let (key, value) = stored(zone, lease);
            self.store.commit(Kind::Lease6, key, value)
        });
        Some((durable.collect(), frame))
    }

    /// Sends a frame that waited for the disk.
    pub(crate) fn send6(&self, zone: &ZoneName, frame: &[u8]) {
        if let Some(six) = self.six.get(zone) {
            six.send_frame(frame);
        }
    }

    /// Lets leases end whose time has come, and sends the advertisements that are due.
    pub(crate) fn follow_six(&mut self) {
        let now = now();
        let mut over = Vec::new();
        for (zone, six) in &mut self.six {
            if six.responder.next_deadline().is_some_and(|at| at <= now) {
                for lease in six.responder.expire(now) {
                    let (key, value) = stored(zone, &lease);
                    self.store.put(Kind::Lease6, key, value);
                    if lease.is_prefix() {
                        let name = self.ports.with_mac(zone, MacAddr(lease.mac));
                        over.extend(name.cloned());
                    }
                }
            }
            let due = six.router.poll(now, AT_ONCE);
            six.advertise(due);
        }
        self.follow_all_delegated(over);
    }

    /// Prefixes that are delegated to a container lead to it, pass its guard and are judged as it; those that are not any
    /// more do not.
    fn follow_delegated(&mut self, name: &PortName) -> Result<(), api::Error> {
        let Some(record) = self.ports.get(name) else {
            return Ok(());
        };
        let six = self.six.get(&record.zone);
        let leases = six.map(|six| six.responder.leases_of(record.mac.0));
        let wanted: Vec<Ipv6Net> = leases
            .into_iter()
            .flatten()
            .filter(|lease| lease.is_prefix())
            .map(|lease| lease.net)
            .collect();
        if wanted == record.delegated {
            return Ok(());
        }
        let mut record = record.clone();
        let before = std::mem::replace(&mut record.delegated, wanted);
        let what = format!("delegate prefixes to {name}");
        self.records.write(&record).map_err(|e| {
            refused(format!(
                "{what}: record it in {}: {e}",
                self.dirs.runtime.display()
            ))
        })?;
        self.ports.insert(record.clone());
        let zone = self.zone(&record.zone)?;
        let (bridge, ifindex) = (zone.zone.bridge.clone(), zone.ifindex);
        let gone: Vec<Ipv6Net> = before
            .iter()
            .filter(|net| !record.delegated.contains(net))
            .copied()
            .collect();
        self.links.remove_ways(ifindex, record.mac, &gone, false);
        self.enforce(&record, &what)?;
        self.name_prefixes(&record);
        tracing::info!(container = %name, delegated = ?record.delegated, "prefixes delegated");
        self.links
            .add_ways(&bridge, record.mac, &record.delegated)
            .map_err(|e| refused(format!("{what}: {}", chain(&e))))
    }

    fn follow_all_delegated(&mut self, names: Vec<PortName>) {
        for name in names {
            if let Err(e) = self.follow_delegated(&name) {
                let why = crate::daemon::control::message(&e).to_owned();
                tracing::error!(container = %name, "{why}");
            }
        }
    }

    pub(super) fn restore_leases6(&mut self, state: &Stored) {
        for (key, value) in state.of(Kind::Lease6) {
            let zone = key.split('/').next().unwrap_or_default();
            let lease = serde_json::from_str::<Lease>(value);
            let six = self.six.get_mut(zone);
            let restored = match (lease, six) {
                (Ok(lease), Some(six)) => six.responder.restore(lease),
                (Err(_), _) => {
                    tracing::warn!(key, "a stored lease cannot be read");
                    continue;
                }
                (Ok(_), None) => false,
            };
            if !restored {
                self.store.put(Kind::Lease6, key.to_owned(), None);
            }
        }
        let names = self.ports.values().map(Record::port);
        let names = names.collect();
        self.follow_all_delegated(names);
    }

    /// What was done so far, by zone.
    pub(super) fn ipv6_state(&self) -> Vec<api::Ipv6Zone> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let zones = self.six.iter();
        zones
            .map(|(zone, Six { tally, .. })| api::Ipv6Zone {
                zone: zone.to_string(),
                received: number(tally.received),
                advertisements: number(tally.advertisements),
                replies: number(tally.replies),
                silent: tally
                    .silences
                    .iter()
                    .map(|(reason, count)| api::Ipv6Silence {
                        reason: (*reason).to_owned(),
                        count: number(*count),
                    })
                    .collect(),
            })
            .collect()
    }

    /// Where the lease of an address stands, and when it ends.
    pub(super) fn lease6(&self, zone: &ZoneName, address: Ipv6Addr) -> Option<&Lease> {
        self.lease6_of(zone, address.into())
    }

    /// The same of a delegated prefix.
    pub(super) fn lease6_of(&self, zone: &ZoneName, net: Ipv6Net) -> Option<&Lease> {
        self.six.get(zone)?.responder.lease(net)
    }
}

/// A lease as the store has it: what is over is not kept, as the address is the container's all the same.
fn stored(zone: &ZoneName, lease: &Lease) -> (String, Option<String>) {
    let lasts = matches!(lease.state, dhcp::State::Bound | dhcp::State::Declined);
    let value = lasts.then(|| serde_json::to_string(lease).unwrap_or_default());
    (lease_key(zone, lease.net), value)
}

/// The key of a lease in the store.
fn lease_key(zone: &ZoneName, net: Ipv6Net) -> String {
    format!("{zone}/{net}")
}
