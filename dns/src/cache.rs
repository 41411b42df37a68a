//! Answers of upstream, kept while they hold, within a budget of bytes.
//!
//! What goes when the budget is spent is what nobody asked for since the hand last passed it (the clock algorithm), so
//! each insertion costs the same on average, however much is kept.

use std::collections::HashMap;
use std::rc::Rc;

use crate::Millis;
use crate::name::{Name, View};
use crate::reply::Stored;

/// What an answer answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The zone that asks, in its present version: no zone learns from a cache what another one asked.
    pub(crate) generation: u32,
    pub(crate) name: Name,
    pub(crate) kind: u16,
    /// DNSSEC records are wanted; checks are not.
    pub(crate) dnssec: bool,
    pub(crate) checking_disabled: bool,
}

impl Key {
    /// The name asked for.
    pub(crate) fn name(&self) -> View<'_> {
        self.name.view()
    }
}

#[derive(Debug)]
struct Slot {
    key: Key,
    stored: Rc<Stored>,
    /// Somebody asked for it since the hand last passed.
    used: bool,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<Slot>,
    index: HashMap<Key, usize>,
    hand: usize,
    bytes: usize,
    budget: usize,
}

/// Bytes of a slot and its index entry, besides what they point to.
const OVERHEAD: usize = size_of::<Slot>() + 2 * size_of::<Key>();

fn cost(slot: &Slot) -> usize {
    OVERHEAD + 2 * slot.key.name().bytes().len() + slot.stored.size()
}

impl Cache {
    /// An empty cache that takes at most so many bytes.
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            slots: Vec::new(),
            index: HashMap::new(),
            hand: 0,
            bytes: 0,
            budget,
        }
    }

    /// What is known and still holds.
    pub(crate) fn get(&mut self, now: Millis, key: &Key) -> Option<Rc<Stored>> {
        let slot = &mut self.slots[*self.index.get(key)?];
        if !slot.stored.fresh(now) {
            return None;
        }
        slot.used = true;
        Some(slot.stored.clone())
    }

    /// Keeps an answer, if it may be kept at all.
    pub(crate) fn put(&mut self, now: Millis, key: Key, stored: Rc<Stored>) {
        if let Some(&at) = self.index.get(&key) {
            self.remove(at);
        }
        let slot = Slot {
            key,
            stored,
            used: false,
        };
        let size = cost(&slot);
        if !slot.stored.fresh(now) || size > self.budget / 8 {
            return;
        }
        while self.bytes + size > self.budget && !self.slots.is_empty() {
            self.evict(now);
        }
        self.bytes += size;
        self.index.insert(slot.key.clone(), self.slots.len());
        self.slots.push(slot);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.budget);
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Answers kept.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn evict(&mut self, now: Millis) {
        loop {
            self.hand = if self.hand < self.slots.len() {
                self.hand
            } else {
                0
            };
            let slot = &mut self.slots[self.hand];
            if !slot.used || !slot.stored.fresh(now) {
                self.remove(self.hand);
                return;
            }
            slot.used = false;
            self.hand += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        let slot = self.slots.swap_remove(at);
        self.bytes -= cost(&slot);
        self.index.remove(&slot.key);
        if let Some(moved) = self.slots.get(at) {
            self.index.insert(moved.key.clone(), at);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::Rcode;

    fn key(n: u32) -> Key {
        Key {
            generation: 1,
            name: format!("n{n}.example.org").parse().unwrap(),
            kind: 1,
            dnssec: false,
            checking_disabled: false,
        }
    }

    fn stored(at: Millis) -> Rc<Stored> {
        Rc::new(Stored::failure(at, Rcode::SERVFAIL, 30))
    }

    #[test]
    fn the_budget_holds_and_what_is_used_stays() {
        let mut cache = Cache::new(20_000);
        cache.put(0, key(0), stored(0));
        for n in 1..1000 {
            cache.put(0, key(n), stored(0));
            assert!(cache.get(0, &key(0)).is_some(), "asked for each time");
            assert!(cache.bytes() <= 20_000);
            assert_eq!(cache.index.len(), cache.slots.len());
        }
        assert!(cache.len() > 20, "{} kept", cache.len());
        let known = (0..1000).filter(|n| cache.get(0, &key(*n)).is_some());
        assert_eq!(known.count(), cache.len());
        assert_eq!(cache.bytes(), cache.slots.iter().map(cost).sum::<usize>());
    }

    #[test]
    fn what_is_over_is_gone() {
        let mut cache = Cache::new(20_000);
        cache.put(0, key(0), stored(0));
        assert!(cache.get(999, &key(0)).is_some());
        assert!(cache.get(1000, &key(0)).is_none());
        cache.put(5000, key(1), stored(0));
        assert!(cache.get(5000, &key(1)).is_none(), "over before it came");
        cache.put(5000, key(0), stored(5000));
        assert_eq!(cache.len(), 1, "replaced, not added");
        cache.clear();
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }
}
