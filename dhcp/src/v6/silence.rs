//! Why a message goes unanswered.

use std::fmt;
use std::net::Ipv6Addr;

use crate::lease::{HardwareAddress, Mac};

/// The reason why a message is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Silence {
    /// Too short for what it says it is.
    Truncated {
        /// Bytes there were.
        len: usize,
    },
    /// A message type that servers do not answer (RFC 8415 §16).
    NotForServers {
        /// The message type.
        message_type: u8,
    },
    /// An option of impossible length, or one that may be there once and is there twice.
    BadOption {
        /// The option's code.
        option: u16,
    },
    /// An option this message must carry (RFC 8415 §16) is missing.
    Missing {
        /// The option's code.
        option: u16,
    },
    /// An option this message must not carry (RFC 8415 §16).
    Forbidden {
        /// The option's code.
        option: u16,
    },
    /// A message that must be sent to a group came to one address (RFC 8415 §16).
    Unicast,
    /// A message about no address at all (RFC 8415 §18.3.3).
    Nothing,
    /// It went through more relay agents than may be (RFC 8415 §7.6, HOP_COUNT_LIMIT).
    TooManyRelays,
    /// It came from outside the zone this responder serves.
    OtherZone,
    /// No machine sends from there.
    ForeignSource(Ipv6Addr),
    /// It claims to come through a relay agent that is not configured.
    UnknownRelay(Ipv6Addr),
    /// A relay agent's client is on a link that this responder does not serve.
    OtherLink(Ipv6Addr),
    /// The sender has used up its share.
    RateLimited(Mac),
    /// Nobody attached the machine, and there is no pool for guests.
    Unattached(Mac),
    /// The message is for another server.
    OtherServer,
    /// RFC 8415 §18.3.5: what is not known here may be another server's.
    NoRecord,
    /// The machine is configured from outside and is advertised nothing.
    Configured(Mac),
    /// Not a router solicitation as RFC 4861 §6.1.1 wants it.
    BadSolicitation(&'static str),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { len } => write!(f, "{len} bytes are too few"),
            Self::NotForServers { message_type } => {
                write!(f, "message type {message_type} is not for servers")
            }
            Self::BadOption { option } => write!(f, "option {option} is malformed or repeated"),
            Self::Missing { option } => write!(f, "option {option} is missing"),
            Self::Forbidden { option } => write!(f, "option {option} must not be there"),
            Self::Unicast => f.write_str("it must be sent to a group, not to one address"),
            Self::Nothing => f.write_str("it asks about no address"),
            Self::TooManyRelays => f.write_str("it came through too many relay agents"),
            Self::OtherZone => f.write_str("it came from outside the zone"),
            Self::ForeignSource(address) => write!(f, "no client sends from {address}"),
            Self::UnknownRelay(address) => write!(f, "relay agent {address} is not configured"),
            Self::OtherLink(address) => write!(f, "the link of {address} is not served here"),
            Self::RateLimited(mac) => write!(f, "{} sends too much", HardwareAddress(*mac)),
            Self::Unattached(mac) => write!(
                f,
                "{} is not attached and there is no pool for guests",
                HardwareAddress(*mac)
            ),
            Self::OtherServer => f.write_str("it is for another server"),
            Self::NoRecord => f.write_str("there is no lease it could be about"),
            Self::Configured(mac) => {
                write!(f, "{} is configured from outside", HardwareAddress(*mac))
            }
            Self::BadSolicitation(what) => write!(f, "no valid router solicitation: {what}"),
        }
    }
}

impl Silence {
    /// A short name of the reason, for counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::NotForServers { .. } => "not-for-servers",
            Self::BadOption { .. } => "bad-option",
            Self::Missing { .. } => "missing-option",
            Self::Forbidden { .. } => "forbidden-option",
            Self::Unicast => "unicast",
            Self::Nothing => "nothing-asked",
            Self::TooManyRelays => "too-many-relays",
            Self::OtherZone => "other-zone",
            Self::ForeignSource(_) => "foreign-source",
            Self::UnknownRelay(_) => "unknown-relay",
            Self::OtherLink(_) => "other-link",
            Self::RateLimited(_) => "rate-limited",
            Self::Unattached(_) => "unattached",
            Self::OtherServer => "other-server",
            Self::NoRecord => "no-record",
            Self::Configured(_) => "configured",
            Self::BadSolicitation(_) => "bad-solicitation",
        }
    }
}
