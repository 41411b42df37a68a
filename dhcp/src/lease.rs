//! A lease: which machine holds which address until when.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// An Ethernet hardware address.
pub type Mac = [u8; 6];

/// Shows a [`Mac`] as people write it, `02:00:5e:10:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HardwareAddress(pub Mac);

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(
            f,
            "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            m[0], m[1], m[2], m[3], m[4], m[5]
        )
    }
}

/// Where a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Promised in an OFFER, not yet asked for. Never durable.
    Offered,
    /// Acknowledged: the machine may use the address until the lease expires.
    Bound,
    /// Given back by the machine (RFC 2131 §4.3.4).
    Released,
    /// Refused by the machine because something else answered for it (RFC 2131 §4.3.3). An address
    /// of the pool rests until `expires`.
    Declined,
    /// Ran out.
    Expired,
}

/// Which machine holds which address until when.
///
/// The address is the key: one lease an address, in memory and in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The machine's hardware address (`chaddr`).
    pub mac: Mac,
    /// The client identifier it gave (RFC 2132 §9.14, RFC 4361), where that says more than the
    /// hardware address: at most 255 bytes, as they were on the wire.
    pub client_id: Option<Box<[u8]>>,
    /// The address.
    pub address: Ipv4Addr,
    /// The name of an attached machine; else what the client called itself, if that is a host name.
    pub hostname: Option<Box<str>>,
    /// Where the lease stands.
    pub state: State,
    /// Seconds since the epoch: when an offer, a lease or a quarantine ends; for a released or
    /// expired lease when it ended.
    pub expires: u64,
}

impl Lease {
    /// Whether the address is free for somebody else, the lease being no more than a memory that no
    /// time changes.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Released | State::Expired)
    }
}
