//! The leases, found by address, by machine and by deadline.
//!
//! Trees and not hash tables: the keys are chosen by whoever sends packets, and a tree has no bad
//! keys and no pause to grow. A lease is stored once; the indexes hold slot numbers, which keeps
//! 65,000 leases at a few MiB.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::lease::{Lease, Mac};
use crate::pool::Pool;

#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Option<Lease>>,
    vacant: Vec<u32>,
    by_address: BTreeMap<Ipv4Addr, u32>,
    by_client: BTreeSet<(Mac, u32)>,
    deadlines: BTreeSet<(u64, u32)>,
    /// Told of every address that is taken or becomes free.
    pool: Option<Pool>,
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
        let mut pool = self.pool.take();
        let found = pool.as_mut().and_then(|pool| {
            // an address with a lease that is over is among the idle ones: its turn is later
            let never = |address| !self.by_address.contains_key(&address) && !reserved(address);
            pool.pick(never, |address| self.is_free(address) && !reserved(address))
        });
        self.pool = pool;
        found
    }

    /// Whether no lease of the address is running.
    pub(crate) fn is_free(&self, address: Ipv4Addr) -> bool {
        self.get(address).is_none_or(Lease::is_over)
    }

    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        let slot = *self.by_address.get(&address)?;
        self.slots.get(slot as usize)?.as_ref()
    }

    /// The leases of one machine, also those that are over.
    pub(crate) fn of(&self, mac: Mac) -> impl Iterator<Item = &Lease> {
        self.by_client
            .range((mac, 0)..=(mac, u32::MAX))
            .filter_map(|&(_, slot)| self.slots.get(slot as usize)?.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_address
            .values()
            .filter_map(|&slot| self.slots.get(slot as usize)?.as_ref())
    }

    /// Stores a lease in place of whatever its address had.
    pub(crate) fn put(&mut self, lease: Lease) {
        let address = lease.address;
        let slot = match self.unlink(address) {
            Some(slot) => slot,
            None => {
                if let Some(pool) = &mut self.pool {
                    pool.revive(0, address);
                }
                self.vacant.pop().unwrap_or_else(|| {
                    self.slots.push(None);
                    (self.slots.len() - 1) as u32 // one a lease, so at most 2^32
                })
            }
        };
        self.by_address.insert(address, slot);
        self.by_client.insert((lease.mac, slot));
        if lease.has_deadline() {
            self.deadlines.insert((lease.expires, slot));
        } else if let Some(pool) = &mut self.pool {
            pool.retire(lease.expires, address);
        }
        self.slots[slot as usize] = Some(lease);
    }

    /// Forgets the lease of an address, which is then free.
    pub(crate) fn remove(&mut self, address: Ipv4Addr) -> Option<Lease> {
        let slot = self.unlink(address);
        if let Some(pool) = &mut self.pool {
            pool.retire(0, address);
        }
        let slot = slot?;
        self.by_address.remove(&address);
        self.vacant.push(slot);
        self.slots[slot as usize].take()
    }

    /// Takes the lease of an address out of every index but `by_address`.
    fn unlink(&mut self, address: Ipv4Addr) -> Option<u32> {
        let slot = *self.by_address.get(&address)?;
        let lease = self.slots.get(slot as usize)?.as_ref()?;
        self.by_client.remove(&(lease.mac, slot));
        if lease.has_deadline() {
            self.deadlines.remove(&(lease.expires, slot));
        } else if let Some(pool) = &mut self.pool {
            pool.revive(lease.expires, address);
        }
        Some(slot)
    }

    /// When the first lease ends.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// A lease whose time has come, if there is one.
    pub(crate) fn due(&self, now: u64) -> Option<&Lease> {
        let &(at, slot) = self.deadlines.first()?;
        if at > now {
            return None;
        }
        self.slots.get(slot as usize)?.as_ref()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
