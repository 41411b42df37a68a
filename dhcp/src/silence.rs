//! Why a message goes unanswered. Silence has reasons, and they can be logged and counted.

use std::fmt;
use std::net::Ipv4Addr;

use crate::lease::{HardwareAddress, Mac};

/// The reason why a message is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Silence {
    /// Shorter than a DHCP message's fixed part (240 bytes, RFC 2131 §2).
    Truncated {
        /// Bytes there were.
        len: usize,
    },
    /// Not a BOOTREQUEST: something else's reply, or noise.
    NotARequest {
        /// The `op` field.
        op: u8,
    },
    /// The hardware type or length is not Ethernet's.
    NotEthernet {
        /// The `htype` field.
        htype: u8,
        /// The `hlen` field.
        hlen: u8,
    },
    /// A group hardware address, or zeroes: no machine has it.
    NotOneMachine(Mac),
    /// The magic cookie (RFC 2131 §3) is missing: plain BOOTP, or noise.
    NoCookie,
    /// A message type that servers do not answer, or none.
    NotForServers {
        /// The message type, if there was one.
        message_type: Option<u8>,
    },
    /// An option this message must carry (RFC 2131 table 5) is missing.
    Missing {
        /// The option's code.
        option: u8,
    },
    /// An option of impossible length.
    BadOption {
        /// The option's code.
        option: u8,
    },
    /// Fields that RFC 2131 tables 4 and 5 do not allow together.
    Contradiction(&'static str),
    /// It arrived from outside the zone this responder serves.
    OtherZone,
    /// Its UDP source is neither unspecified nor the client's own address.
    ForeignSource(Ipv4Addr),
    /// The frame came from a hardware address that is not the one the message speaks for.
    ForeignHardware(Mac),
    /// It claims to come through a relay agent that is not configured.
    UnknownRelay {
        /// The UDP source.
        source: Ipv4Addr,
        /// The relay agent's address as claimed (`giaddr`).
        giaddr: Ipv4Addr,
    },
    /// A relay agent speaks for an attached machine. Those are on the zone's own link and never
    /// behind a relay.
    AttachedBehindRelay(Mac),
    /// The relay agent's client is on a subnet that this responder does not serve.
    OtherSubnet(Ipv4Addr),
    /// The sender has used up its share.
    RateLimited(Mac),
    /// Nobody attached the machine, and there is no pool for guests.
    Unattached(Mac),
    /// The message is for another server.
    OtherServer(Ipv4Addr),
    /// RFC 2131 §4.3.2: a server without record of an INIT-REBOOT client must remain silent; and
    /// what is not held cannot be released or declined.
    NoRecord,
    /// The address belongs to somebody else.
    NotYours(Ipv4Addr),
    /// Every address of the pool is in use.
    PoolExhausted,
    /// One hardware address has as many leases as one may have, under different identifiers.
    TooManyLeases(Mac),
    /// What must be said does not fit into what the client can receive.
    ReplyTooLarge,
    /// The zone has no IPv4, and it did not ask whether it can do without (RFC 8925).
    NoIpv4,
}

impl Silence {
    /// The kind of reason in one word or two, for counters. Stable.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::NotARequest { .. } => "not-a-request",
            Self::NotEthernet { .. } => "not-ethernet",
            Self::NotOneMachine(_) => "not-one-machine",
            Self::NoCookie => "no-cookie",
            Self::NotForServers { .. } => "not-for-servers",
            Self::Missing { .. } => "missing-option",
            Self::BadOption { .. } => "bad-option",
            Self::Contradiction(_) => "contradiction",
            Self::OtherZone => "other-zone",
            Self::ForeignSource(_) => "foreign-source",
            Self::ForeignHardware(_) => "foreign-hardware",
            Self::UnknownRelay { .. } => "unknown-relay",
            Self::AttachedBehindRelay(_) => "attached-behind-relay",
            Self::OtherSubnet(_) => "other-subnet",
            Self::RateLimited(_) => "rate-limited",
            Self::Unattached(_) => "unattached",
            Self::OtherServer(_) => "other-server",
            Self::NoRecord => "no-record",
            Self::NotYours(_) => "not-yours",
            Self::PoolExhausted => "pool-exhausted",
            Self::TooManyLeases(_) => "too-many-leases",
            Self::ReplyTooLarge => "reply-too-large",
            Self::NoIpv4 => "no-ipv4",
        }
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { len } => write!(f, "{len} bytes are too few for a DHCP message"),
            Self::NotARequest { op } => write!(f, "op {op} is not a request"),
            Self::NotEthernet { htype, hlen } => {
                write!(f, "hardware type {htype}, length {hlen} is not Ethernet")
            }
            Self::NotOneMachine(mac) => {
                write!(f, "{} is not one machine's address", HardwareAddress(*mac))
            }
            Self::NoCookie => f.write_str("there is no DHCP magic cookie"),
            Self::NotForServers {
                message_type: Some(message_type),
            } => write!(f, "message type {message_type} is not for servers"),
            Self::NotForServers { message_type: None } => {
                f.write_str("there is no message type (plain BOOTP is not served)")
            }
            Self::Missing { option } => write!(f, "option {option} is missing"),
            Self::BadOption { option } => write!(f, "option {option} has an impossible length"),
            Self::Contradiction(what) => write!(f, "fields contradict one another: {what}"),
            Self::OtherZone => f.write_str("it came from outside the zone"),
            Self::ForeignSource(address) => {
                write!(f, "it was sent from {address}, not the client's address")
            }
            Self::ForeignHardware(mac) => write!(
                f,
                "its frame was sent by {}, not by the client",
                HardwareAddress(*mac)
            ),
            Self::UnknownRelay { source, giaddr } => {
                write!(f, "relay agent {giaddr} (from {source}) is not configured")
            }
            Self::AttachedBehindRelay(mac) => write!(
                f,
                "{} is attached here and cannot be behind a relay agent",
                HardwareAddress(*mac)
            ),
            Self::OtherSubnet(address) => write!(f, "subnet of {address} is not served here"),
            Self::RateLimited(mac) => write!(f, "{} sends too much", HardwareAddress(*mac)),
            Self::Unattached(mac) => write!(
                f,
                "{} is not attached and there is no pool for guests",
                HardwareAddress(*mac)
            ),
            Self::OtherServer(server) => write!(f, "it is for server {server}"),
            Self::NoRecord => f.write_str("there is no lease it could be about"),
            Self::NotYours(address) => write!(f, "{address} belongs to another machine"),
            Self::PoolExhausted => f.write_str("every address of the pool is in use"),
            Self::TooManyLeases(mac) => write!(
                f,
                "{} holds leases under too many client identifiers",
                HardwareAddress(*mac)
            ),
            Self::ReplyTooLarge => f.write_str("the reply is larger than the client can receive"),
            Self::NoIpv4 => f.write_str("the zone has no IPv4"),
        }
    }
}
