//! The leases, found by address, by machine and by deadline.
//!
//! Trees and not hash tables: the keys are chosen by whoever sends packets, and a tree has no bad
//! keys. A lease is stored once, under its address; the indexes hold addresses.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::lease::{Lease, Mac};
use crate::pages::Pages;
use crate::pool::Pool;

#[derive(Debug, Default)]
pub(crate) struct Table {
    leases: Pages,
    by_client: BTreeSet<(Mac, Ipv4Addr)>,
    deadlines: BTreeSet<(Moment, Ipv4Addr)>,
    /// Told of every address that is taken or becomes free.
    pool: Option<Pool>,
}

/// Seconds since the epoch in five bytes, which last for 34,000 years and make an entry of the
/// largest index nine bytes instead of sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment([u8; 5]);

impl Moment {
    const LAST: u64 = 0xff_ffff_ffff;

    fn new(seconds: u64) -> Self {
        let [_, _, _, five @ ..] = seconds.min(Self::LAST).to_be_bytes();
        Self(five)
    }

    fn seconds(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from_be_bytes([0, 0, 0, a, b, c, d, e])
    }
}

impl Table {
    /// Makes `pool` the pool. Leases outside it stay until they end.
    pub(crate) fn set_pool(&mut self, mut pool: Option<Pool>) {
        if let Some(pool) = &mut pool {
            for lease in self.iter().filter(|lease| lease.is_over()) {
                pool.retire(lease.expires, lease.address);
            }
        }
        self.pool = pool;
    }

    /// Whether the address is one of the pool's.
    pub(crate) fn in_pool(&self, address: Ipv4Addr) -> bool {
        self.pool
            .as_ref()
            .is_some_and(|pool| pool.contains(address))
    }

    /// Whether there is a pool.
    pub(crate) fn has_pool(&self) -> bool {
        self.pool.is_some()
    }

    /// Takes the next free address of the pool, but for those that are `reserved`.
    pub(crate) fn pick(&mut self, reserved: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let leases = &self.leases;
        // an address with a lease that is over is among the idle ones: its turn is later
        let never = |address| leases.get(address).is_none() && !reserved(address);
        let free = |address| leases.get(address).is_none_or(Lease::is_over) && !reserved(address);
        self.pool.as_mut()?.pick(never, free)
    }

    /// Whether no lease of the address is running.
    pub(crate) fn is_free(&self, address: Ipv4Addr) -> bool {
        self.get(address).is_none_or(Lease::is_over)
    }

    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.leases.get(address)
    }

    /// The leases of one machine, also those that are over.
    pub(crate) fn of(&self, mac: Mac) -> impl Iterator<Item = &Lease> {
        self.by_client
            .range((mac, Ipv4Addr::UNSPECIFIED)..=(mac, Ipv4Addr::BROADCAST))
            .filter_map(|(_, address)| self.leases.get(*address))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter()
    }

    pub(crate) fn iter_from(&self, first: Ipv4Addr) -> impl Iterator<Item = &Lease> {
        self.leases.iter_from(first)
    }

    /// Stores a lease in place of whatever its address had.
    pub(crate) fn put(&mut self, lease: Lease) {
        let (mac, address, expires) = (lease.mac, lease.address, lease.expires);
        let over = lease.is_over();
        match self.leases.put(lease) {
            Some(old) => self.unlink(&old),
            None => {
                if let Some(pool) = &mut self.pool {
                    pool.revive(0, address);
                }
            }
        }
        self.by_client.insert((mac, address));
        if !over {
            self.deadlines.insert((Moment::new(expires), address));
        } else if let Some(pool) = &mut self.pool {
            pool.retire(expires, address);
        }
    }

    /// Forgets the lease of an address, which is then free.
    pub(crate) fn remove(&mut self, address: Ipv4Addr) -> Option<Lease> {
        let lease = self.leases.remove(address);
        if let Some(lease) = &lease {
            self.unlink(lease);
        }
        if let Some(pool) = &mut self.pool {
            pool.retire(0, address);
        }
        lease
    }

    /// Takes a lease that is no longer stored out of the indexes.
    fn unlink(&mut self, lease: &Lease) {
        self.by_client.remove(&(lease.mac, lease.address));
        if !lease.is_over() {
            let at = Moment::new(lease.expires);
            self.deadlines.remove(&(at, lease.address));
        } else if let Some(pool) = &mut self.pool {
            pool.revive(lease.expires, lease.address);
        }
    }

    /// When the first lease ends.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| at.seconds())
    }

    /// A lease whose time has come, if there is one.
    pub(crate) fn due(&self, now: u64) -> Option<&Lease> {
        let (at, address) = self.deadlines.first()?;
        if at.seconds() > now {
            return None;
        }
        self.leases.get(*address)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
