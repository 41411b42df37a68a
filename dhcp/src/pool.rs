//! The range of addresses for machines nobody attached, and which of them to give next.
//!
//! An address that was never given comes first, then the one that has been idle longest, so that a
//! machine that returns finds its old address free (RFC 2131 §4.3.1). Both are O(log n), and an
//! unused pool takes no memory.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

#[derive(Debug)]
pub(crate) struct Pool {
    last: u32,
    first: u32,
    /// The first address never looked at. Wider than an address: it ends one past `last`.
    fresh: u64,
    /// Addresses that were looked at and are free: since when (0 if nobody remembers), which.
    /// It may miss none, and may hold some that are not free after all: `pick` asks.
    idle: BTreeSet<(u64, u32)>,
}

impl Pool {
    /// The addresses from `first` to `last`.
    pub(crate) fn new(first: Ipv4Addr, last: Ipv4Addr) -> Self {
        Self {
            first: first.into(),
            last: last.into(),
            fresh: u32::from(first).into(),
            idle: BTreeSet::new(),
        }
    }

    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address.into())
    }

    /// The address became free at `since`.
    pub(crate) fn retire(&mut self, since: u64, address: Ipv4Addr) {
        if self.contains(address) {
            self.idle.insert((since, address.into()));
        }
    }

    /// The address, free since `since`, is taken.
    pub(crate) fn revive(&mut self, since: u64, address: Ipv4Addr) {
        self.idle.remove(&(since, address.into()));
    }

    /// How many addresses are remembered as idle.
    #[cfg(test)]
    pub(crate) fn idle_len(&self) -> usize {
        self.idle.len()
    }

    /// Takes the next address: one that was `never` given, else the longest idle that is `free`.
    /// It is the caller's from then on.
    pub(crate) fn pick(
        &mut self,
        never: impl Fn(Ipv4Addr) -> bool,
        free: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        while self.fresh <= self.last.into() {
            let address = Ipv4Addr::from(self.fresh as u32); // at most last
            self.fresh += 1;
            if never(address) {
                return Some(address);
            }
        }
        while let Some((_, address)) = self.idle.pop_first() {
            let address = Ipv4Addr::from(address);
            if free(address) {
                return Some(address);
            }
        }
        None
    }
}
