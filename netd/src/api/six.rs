//! IPv6 as `netd status` shows it.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

/// What was done for the machines of a zone that ask for IPv6, since the daemon started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Ipv6Zone {
    /// The zone.
    pub(crate) zone: String,
    /// Router solicitations and DHCPv6 messages that came.
    pub(crate) received: i64,
    /// Router advertisements sent, asked for or not.
    pub(crate) advertisements: i64,
    /// DHCPv6 replies.
    pub(crate) replies: i64,
    /// What was not answered.
    pub(crate) silent: Vec<Ipv6Silence>,
}

/// Messages that were not answered for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Ipv6Silence {
    /// The kind of reason; words that stay.
    pub(crate) reason: String,
    /// How many messages.
    pub(crate) count: i64,
}
