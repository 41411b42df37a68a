//! Token buckets: how often a machine may speak before it is no longer heard.
//!
//! Time comes in whole seconds, as everywhere in this crate, so tokens arrive once a second.

use std::collections::BTreeMap;

/// A rate: so many messages a second on average, so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Messages a second in the long run.
    pub per_second: u32,
    /// Messages that may come at once, after a pause.
    pub burst: u32,
}

/// What is left of a [`Limit`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    tokens: u32,
    /// When `tokens` was last true, in seconds since the epoch.
    at: u64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(now: u64, limit: Limit) -> Self {
        Self {
            tokens: limit.burst,
            at: now,
        }
    }

    /// Takes a token; false if there is none. A clock that was set back gives nothing and costs
    /// nothing.
    pub(crate) fn take(&mut self, now: u64, limit: Limit) -> bool {
        self.tokens = self.level(now, limit);
        self.at = now;
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    fn level(&self, now: u64, limit: Limit) -> u32 {
        let gained = now
            .saturating_sub(self.at)
            .saturating_mul(limit.per_second.into());
        u64::from(self.tokens)
            .saturating_add(gained)
            .min(limit.burst.into()) as u32 // at most burst, which is a u32
    }
}

/// Buckets for keys nobody announced, so bounded in number: past `capacity` newcomers are refused
/// until a bucket is full again and can be forgotten without loss.
#[derive(Debug)]
pub(crate) struct Meter<K> {
    buckets: BTreeMap<K, Bucket>,
    capacity: usize,
    /// The last second in which full buckets were looked for: once a second is enough, since that
    /// is how often tokens arrive.
    swept: Option<u64>,
}

impl<K: Ord> Meter<K> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            buckets: BTreeMap::new(),
            capacity,
            swept: None,
        }
    }

    /// Takes a token of `key`; false if it has none, or is new and there is no room for it.
    pub(crate) fn take(&mut self, now: u64, key: K, limit: Limit) -> bool {
        if let Some(bucket) = self.buckets.get_mut(&key) {
            return bucket.take(now, limit);
        }
        if self.buckets.len() >= self.capacity && self.swept != Some(now) {
            self.swept = Some(now);
            self.buckets
                .retain(|_, bucket| bucket.level(now, limit) < limit.burst);
        }
        if self.buckets.len() >= self.capacity {
            return false;
        }
        let mut bucket = Bucket::full(now, limit);
        let heard = bucket.take(now, limit);
        self.buckets.insert(key, bucket);
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        per_second: 2,
        burst: 5,
    };

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let mut bucket = Bucket::full(100, LIMIT);
        let taken = |bucket: &mut Bucket, now| (0..10).filter(|_| bucket.take(now, LIMIT)).count();
        assert_eq!(taken(&mut bucket, 100), 5);
        assert_eq!(taken(&mut bucket, 100), 0);
        assert_eq!(taken(&mut bucket, 101), 2);
        assert_eq!(taken(&mut bucket, 1000), 5);
        // the clock was set back: nothing gained, and the future is not owed
        assert_eq!(taken(&mut bucket, 50), 0);
        assert_eq!(taken(&mut bucket, 51), 2);
    }

    #[test]
    fn a_meter_never_holds_more_than_its_capacity() {
        let mut meter = Meter::new(3);
        for key in 0..3 {
            assert!(meter.take(0, key, LIMIT));
        }
        assert!(!meter.take(0, 3, LIMIT), "no room for a fourth");
        assert!(meter.take(0, 2, LIMIT), "those inside are still heard");
        // a second later the first two are full again and forgotten
        assert!(meter.take(1, 3, LIMIT));
        assert!(meter.buckets.len() <= 3);
    }
}
