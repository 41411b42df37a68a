//! Token buckets: how many records a second.

use std::time::Instant;

/// A bucket that fills by time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    rate: f64,
    size: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one: `rate` a second, `size` at once.
    pub(crate) fn new(rate: u32, size: u32, now: Instant) -> Self {
        Self {
            rate: f64::from(rate),
            size: f64::from(size),
            tokens: f64::from(size),
            filled: now,
        }
    }

    /// Takes one out, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + since.as_secs_f64() * self.rate).min(self.size);
        self.filled = self.filled.max(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn as_many_at_once_and_then_as_many_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        let taken = |bucket: &mut Bucket, ms| {
            let now = start + Duration::from_millis(ms);
            (0..100).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(taken(&mut bucket, 0), 3);
        assert_eq!(taken(&mut bucket, 50), 0);
        assert_eq!(taken(&mut bucket, 250), 2);
        assert_eq!(taken(&mut bucket, 60_000), 3);
        // a clock that is read out of order gives nothing
        assert_eq!(taken(&mut bucket, 59_000), 0);
    }
}
