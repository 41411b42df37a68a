//! Bounds of what the resolver does and keeps.

use crate::Millis;
use crate::limit::Limit;

/// Bounds. The default suits a host with some hundred containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Milliseconds until a question that nobody upstream answers has failed. Below the five seconds that clients wait.
    pub patience: Millis,
    /// Milliseconds until the next server is asked as well.
    pub spacing: Millis,
    /// Bytes of the cache.
    pub cache: usize,
    /// Questions on their way upstream at one time.
    pub flights: usize,
    /// Queries of one container that wait for upstream at one time.
    pub waiting: u32,
    /// What a container may ask, as long as others ask too; alone it may ask what it likes.
    pub asked: Limit,
    /// What may be forwarded for a container. Answers from the cache do not count.
    pub forwarded: Limit,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            patience: 4000,
            spacing: 800,
            cache: 1024 * 1024,
            flights: 2048,
            waiting: 256,
            asked: Limit {
                per_second: 20_000,
                burst: 20_000,
            },
            forwarded: Limit {
                per_second: 500,
                burst: 2000,
            },
        }
    }
}

/// What was done for a zone since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that came.
    pub queries: u64,
    /// Answered from the directory.
    pub local: u64,
    /// Answered from the cache.
    pub cached: u64,
    /// Sent upstream, tries not counted.
    pub forwarded: u64,
    /// Joined a question on its way.
    pub joined: u64,
    /// Refused because the container's policy has no use for an answer.
    pub refused: u64,
    /// No upstream resolver answered in time.
    pub failed: u64,
    /// Dropped or refused because its container asks too much.
    pub limited: u64,
    /// Wrong: malformed, of a kind or class that is not served, from a stranger.
    pub wrong: u64,
}
