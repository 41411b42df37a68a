//! DHCP as `netd status` shows it.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

/// What the DHCP server of a zone did since the daemon started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct DhcpZone {
    /// The zone.
    pub(crate) zone: String,
    /// Messages that came.
    pub(crate) received: i64,
    /// Offers made.
    pub(crate) offers: i64,
    /// Acknowledgements made.
    pub(crate) acks: i64,
    /// Refusals made.
    pub(crate) naks: i64,
    /// Releases and declines, which have no answer.
    pub(crate) heeded: i64,
    /// What was not answered, newest first.
    pub(crate) silent: Vec<DhcpSilence>,
    /// Addresses for machines nobody attached; absent without such a pool.
    pub(crate) pool: Option<i64>,
    /// How many of them somebody has.
    pub(crate) pool_used: Option<i64>,
}

/// Messages that were not answered for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct DhcpSilence {
    /// The kind of reason; words that stay.
    pub(crate) reason: String,
    /// How many messages.
    pub(crate) count: i64,
    /// When the last one came, in seconds since 1970.
    pub(crate) at: i64,
    /// Why the last one was not answered, in a sentence.
    pub(crate) last: String,
}
