//! What can be wrong with a configuration, a binding or a frame. (What is wrong with a message is
//! a [`Silence`](crate::Silence): nobody is to be told.)

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::lease::{HardwareAddress, Mac};

/// An error of this crate. One sentence, naming the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A subnet without room for a server and a client.
    #[error("subnet {0} is too small to serve addresses from (a /30 is the smallest)")]
    SubnetTooSmall(Ipv4Net),
    /// An address that must lie in the subnet does not, or is its network or broadcast address.
    #[error("{what} {address} is not a host address of {subnet}")]
    Outside {
        /// What the address is for.
        what: &'static str,
        /// The address.
        address: Ipv4Addr,
        /// The subnet it should be in.
        subnet: Ipv4Net,
    },
    /// A pool whose last address comes before its first.
    #[error("pool {first}-{last} ends before it begins")]
    PoolBackwards {
        /// First address of the pool.
        first: Ipv4Addr,
        /// Last address of the pool.
        last: Ipv4Addr,
    },
    /// A lease time the protocol or its clients cannot live with.
    #[error("lease time of {seconds} s is not between {least} s and {most} s")]
    LeaseTime {
        /// The time asked for, in seconds.
        seconds: u64,
        /// The shortest possible, in seconds.
        least: u64,
        /// The longest possible, in seconds.
        most: u64,
    },
    /// An interface MTU that IPv4 forbids (RFC 2132 §5.1).
    #[error("mtu {0} is below 68, the least that IPv4 allows")]
    Mtu(u16),
    /// Text that is not a domain name.
    #[error("{0:?} is not a domain name")]
    Domain(String),
    /// An option that is not for the configuration to set.
    #[error("option {0} belongs to the protocol itself and cannot be configured")]
    ReservedOption(u8),
    /// An option's value that does not fit a message.
    #[error("option {code} is {len} bytes long: it would not fit a message")]
    LongOption {
        /// The option's code.
        code: u8,
        /// Its encoded length, in bytes.
        len: usize,
    },
    /// A hardware address no single machine can have: a group address or all zeroes.
    #[error("{} is not the hardware address of one machine", HardwareAddress(*.0))]
    NotUnicast(Mac),
    /// The server's own address was asked for.
    #[error("{0} is the server's or the router's own address")]
    Own(Ipv4Addr),
    /// Two reservations have one address, or are for one machine.
    #[error("{0} is one of two reservations of the same address or for the same machine")]
    ReservedTwice(Ipv4Addr),
    /// The address is bound to another machine.
    #[error("{address} is bound to {}", HardwareAddress(*.mac))]
    Bound {
        /// The address.
        address: Ipv4Addr,
        /// The machine that has it.
        mac: Mac,
    },
    /// The address is leased to another machine.
    #[error("{address} is leased to {} until {expires} s since the epoch", HardwareAddress(*.mac))]
    Leased {
        /// The address.
        address: Ipv4Addr,
        /// The machine that has it.
        mac: Mac,
        /// When that lease ends, in seconds since the epoch.
        expires: u64,
    },
    /// A datagram longer than IPv4 can carry.
    #[error("a payload of {0} bytes does not fit a datagram")]
    LongPayload(usize),
    /// An IPv6 address that must lie in the subnet does not.
    #[error("{address} is not an address of {subnet}")]
    Outside6 {
        /// The address.
        address: Ipv6Addr,
        /// The subnet it should be in.
        subnet: Ipv6Net,
    },
    /// An IPv6 address is another machine's.
    #[error("address {address} belongs to {}", HardwareAddress(*.mac))]
    Bound6 {
        /// The address.
        address: Ipv6Addr,
        /// Whose it is.
        mac: Mac,
    },
    /// An IPv6 pool that ends before it begins, or has more than 65,536 addresses.
    #[error("pool {first}-{last} is no range of at most 65536 addresses")]
    Pool6 {
        /// First address of the pool.
        first: Ipv6Addr,
        /// Last address of the pool.
        last: Ipv6Addr,
    },
    /// Prefixes that cannot be delegated from a range.
    #[error("no prefixes of length {length} can be delegated from {range}")]
    Delegation {
        /// What is delegated from.
        range: Ipv6Net,
        /// The length of each.
        length: u8,
    },
    /// A server identifier of impossible length (RFC 8415 §11.1).
    #[error("a DUID of {0} bytes is not of 3 to 130")]
    Duid(usize),
}
