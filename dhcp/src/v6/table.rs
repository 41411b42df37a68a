//! Leases by network, by end and by client.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv6Net;

use super::lease::Lease;
use crate::lease::{Mac, State};

/// Who a lease is for.
pub(super) type Client = (Mac, Box<[u8]>, u32);

#[derive(Debug, Default)]
pub(super) struct Table {
    leases: BTreeMap<Ipv6Net, Lease>,
    /// What ends when: bound leases and quarantines.
    ends: BTreeSet<(u64, Ipv6Net)>,
    clients: BTreeSet<(Client, Ipv6Net)>,
}

fn has_end(lease: &Lease) -> bool {
    matches!(lease.state, State::Bound | State::Declined)
}

fn client(lease: &Lease) -> Client {
    (lease.mac, lease.duid.clone(), lease.iaid)
}

impl Table {
    pub(super) fn get(&self, net: Ipv6Net) -> Option<&Lease> {
        self.leases.get(&net)
    }

    pub(super) fn put(&mut self, lease: Lease) {
        self.remove(lease.net);
        if has_end(&lease) {
            self.ends.insert((lease.expires, lease.net));
        }
        self.clients.insert((client(&lease), lease.net));
        self.leases.insert(lease.net, lease);
    }

    pub(super) fn remove(&mut self, net: Ipv6Net) -> Option<Lease> {
        let lease = self.leases.remove(&net)?;
        self.ends.remove(&(lease.expires, net));
        self.clients.remove(&(client(&lease), net));
        Some(lease)
    }

    /// The leases of an identity association.
    pub(super) fn of_client(&self, client: &Client) -> impl Iterator<Item = &Lease> {
        let from = (client.clone(), Ipv6Net::default());
        self.clients
            .range(from..)
            .take_while(move |(other, _)| other == client)
            .filter_map(|(_, net)| self.leases.get(net))
    }

    /// The leases of a hardware address.
    pub(super) fn of_mac(&self, mac: Mac) -> impl Iterator<Item = &Lease> {
        let from = ((mac, Box::default(), 0), Ipv6Net::default());
        self.clients
            .range(from..)
            .take_while(move |((other, _, _), _)| *other == mac)
            .filter_map(|(_, net)| self.leases.get(net))
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// The lease that ended first, if by `now`.
    pub(super) fn due(&self, now: u64) -> Option<Ipv6Net> {
        self.ends
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, net)| *net)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }
}
