//! A lease: which machine holds which address or prefix until when.

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::lease::{Mac, State};

/// Which machine holds which address or prefix until when. The network is the key: one lease a
/// network, in memory and in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The hardware address of the machine, or of the relay agent that spoke for it.
    pub mac: Mac,
    /// The client's identifier (RFC 8415 §11), as it was on the wire: 3 to 130 bytes.
    pub duid: Box<[u8]>,
    /// The identity association it is for (RFC 8415 §12), a number of the client's.
    pub iaid: u32,
    /// An address as a /128 (IA_NA), or a delegated prefix (IA_PD).
    pub net: Ipv6Net,
    /// Where the lease stands.
    pub state: State,
    /// Seconds since the epoch: the end of its valid lifetime or of a quarantine; when it ended for a
    /// released or expired one.
    pub expires: u64,
}

impl Lease {
    /// Whether it is a delegated prefix.
    pub fn is_prefix(&self) -> bool {
        self.net.prefix_len() < 128
    }

    /// Whether the network is nobody else's any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Released | State::Expired)
    }
}
