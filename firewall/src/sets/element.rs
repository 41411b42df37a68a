//! Elements, their keys, and what an event changes.

use std::net::IpAddr;

use zone::{IfName, MacAddr};

use super::SetId;
use crate::policy::Rate;

/// A key or data in register layout: see [`crate::sets`].
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<u8>);

impl Key {
    /// No fields yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Appends an address of either family.
    pub fn ip(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => self.field(&a.octets()),
            IpAddr::V6(a) => self.field(&a.octets()),
        }
    }

    /// Appends a hardware address.
    pub fn mac(self, mac: MacAddr) -> Self {
        self.field(&mac.0)
    }

    /// Appends an IP protocol number.
    pub fn proto(self, proto: u8) -> Self {
        self.field(&[proto])
    }

    /// Appends a port.
    pub fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// Appends an ICMP or ICMPv6 message type in the place of a port.
    pub fn icmp_type(self, icmp_type: u8) -> Self {
        self.field(&[icmp_type, 0])
    }

    /// Appends a mark or a group number.
    pub fn mark(self, mark: u32) -> Self {
        self.field(&mark.to_ne_bytes())
    }

    /// Appends an interface index.
    pub fn ifindex(self, index: u32) -> Self {
        self.field(&index.to_ne_bytes())
    }

    /// Appends an interface name.
    pub fn ifname(self, name: &IfName) -> Self {
        let mut bytes = [0u8; 16];
        bytes[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        self.field(&bytes)
    }

    /// Appends an nfproto: 2 for IPv4, 10 for IPv6.
    pub fn nfproto(self, nfproto: u8) -> Self {
        self.field(&[nfproto])
    }
}

/// What a conditional rule limits, for each source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    /// New connections.
    pub rate: Option<Rate>,
    /// Connections at one time.
    pub connections: Option<u32>,
}

/// How long an element lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// So many seconds from when it is added.
    Seconds(u32),
    /// Until this second of the kernel's monotonic clock (clock_gettime(2)).
    Until(u64),
}

/// One element of one set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The set it belongs to.
    pub set: SetId,
    /// Its key; the first one of the range in an interval set.
    pub key: Key,
    /// The last key of the range, inclusive, field by field; interval sets only.
    pub last: Option<Key>,
    /// Its data; maps only.
    pub data: Option<Key>,
    /// How long it lives; for ever when absent.
    pub timeout: Option<Life>,
}

impl Element {
    /// An element of a set of single keys.
    pub fn new(set: SetId, key: Key) -> Self {
        Self {
            set,
            key,
            last: None,
            data: None,
            timeout: None,
        }
    }

    /// An element of an interval set: from `key` to `last`, field by field.
    pub fn range(set: SetId, key: Key, last: Key) -> Self {
        Self {
            last: Some(last),
            ..Self::new(set, key)
        }
    }

    /// An element of a map.
    pub fn entry(set: SetId, key: Key, data: Key) -> Self {
        Self {
            data: Some(data),
            ..Self::new(set, key)
        }
    }
}

/// What an event changes in the kernel: one atomic batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Elements to remove. Removed first.
    pub remove: Vec<Element>,
    /// Elements to add.
    pub add: Vec<Element>,
    /// The limits that conditional rules have from now on, all of them with their numbers; `None` where
    /// they stay.
    pub limits: Option<Vec<(u32, Limit)>>,
    /// Some connection that was allowed may now be denied: remembered verdicts must be forgotten in
    /// the same batch.
    pub forget: bool,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty() && self.limits.is_none() && !self.forget
    }
}
