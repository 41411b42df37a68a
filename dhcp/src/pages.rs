//! Leases by address, in pages of neighbours.
//!
//! A pool fills densely, attached machines may lie anywhere. Pages serve both: 65,000 leases in a
//! row take what the leases take, one alone takes a page of a kibibyte, and the tree above is small
//! and never pauses to grow, as a hash table would.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::lease::Lease;

/// Leases a page. At 56 bytes each, just under a kibibyte.
const SIZE: u32 = 16;

type Page = [Option<Lease>; SIZE as usize];

#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeMap<u32, Box<Page>>);

/// Which page an address is on, and where.
fn place(address: Ipv4Addr) -> (u32, usize) {
    let address = u32::from(address);
    (address / SIZE, (address % SIZE) as usize)
}

impl Pages {
    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        let (page, at) = place(address);
        self.0.get(&page)?[at].as_ref()
    }

    /// Puts a lease at its address, and returns the one that was there.
    pub(crate) fn put(&mut self, lease: Lease) -> Option<Lease> {
        let (page, at) = place(lease.address);
        self.0.entry(page).or_default()[at].replace(lease)
    }

    pub(crate) fn remove(&mut self, address: Ipv4Addr) -> Option<Lease> {
        let (page, at) = place(address);
        let leases = self.0.get_mut(&page)?;
        let lease = leases[at].take();
        if leases.iter().all(Option::is_none) {
            self.0.remove(&page);
        }
        lease
    }

    /// In the order of addresses, from one on.
    pub(crate) fn iter_from(&self, first: Ipv4Addr) -> impl Iterator<Item = &Lease> {
        let leases = self.0.range(place(first).0..);
        let leases = leases.flat_map(|(_, page)| page.iter().flatten());
        leases.skip_while(move |lease| lease.address < first)
    }

    /// In the order of addresses.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.0.values().flat_map(|page| page.iter().flatten())
    }
}
