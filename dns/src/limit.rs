//! Token buckets: how much a container may ask.

use crate::Millis;

/// A rate: so many a second on average, so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In the long run.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// What is left of a [`Limit`], in thousandths of a token, so that a token's share comes each millisecond.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    thousandths: u64,
    at: Millis,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(now: Millis, limit: Limit) -> Self {
        Self {
            thousandths: u64::from(limit.burst) * 1000,
            at: now,
        }
    }

    /// Takes a token; false if there is none.
    pub(crate) fn take(&mut self, now: Millis, limit: Limit) -> bool {
        let passed = now.saturating_sub(self.at);
        let gained = passed.saturating_mul(limit.per_second.into());
        let most = u64::from(limit.burst) * 1000;
        self.thousandths = self.thousandths.saturating_add(gained).min(most);
        self.at = self.at.max(now);
        match self.thousandths.checked_sub(1000) {
            Some(left) => {
                self.thousandths = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let limit = Limit {
            per_second: 10,
            burst: 3,
        };
        let mut bucket = Bucket::full(0, limit);
        let mut took = |now| (0..20).filter(|_| bucket.take(now, limit)).count();
        assert_eq!(took(0), 3);
        assert_eq!(took(99), 0);
        assert_eq!(took(100), 1);
        assert_eq!(took(50), 0, "a clock that goes back gives nothing");
        assert_eq!(took(300), 2);
        assert_eq!(took(1_000_000), 3);
    }
}
