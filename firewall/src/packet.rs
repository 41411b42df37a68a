//! The first bytes of a packet → who, to whom, with what.
//!
//! The bytes come from the kernel, which has looked at the packet before, but what stands in it was
//! written by whoever sent it: nothing here trusts a length. Headers are walked as conntrack walks them
//! (`nf_conntrack_proto.c`, `ipv6_skip_exthdr`), so that the protocol is the one that was judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use crate::model::Traffic;
use crate::policy::{has_ports, icmp_counterpart};
use crate::sets::{Action, Family};

/// Who sends what to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source.
    pub from: IpAddr,
    /// Destination, of the same family.
    pub to: IpAddr,
    /// What is in it.
    pub carries: Carries,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// A protocol with ports.
    Ports {
        /// IP protocol number; [`has_ports`] holds for it.
        proto: u8,
        /// Source port.
        source: u16,
        /// Destination port.
        port: u16,
    },
    /// ICMP or ICMPv6, by the packet's family.
    Icmp {
        /// Type, as the packet's own family numbers it.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Another IP protocol, by number.
    Other(u8),
    /// A piece of a datagram that is not its first: whatever the protocol, its header is elsewhere.
    Fragment(u8),
}

/// Why bytes are no packet that could be told anything about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPacket {
    /// Neither IPv4 nor IPv6.
    #[error("IP version {0}")]
    Version(u8),
    /// The bytes end within a header.
    #[error("cut off within its headers")]
    Short,
    /// A header contradicts itself.
    #[error("a header of impossible length")]
    Malformed,
}

/// Where a packet was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// It ends at the host.
    Input,
    /// It goes through the host.
    Forward,
    /// It begins at the host.
    Output,
}

/// A packet that was judged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// What the kernel did with it.
    pub verdict: Action,
    /// Where.
    pub hook: Hook,
    /// Index of the interface it came by; none for the host's own.
    pub iif: Option<u32>,
    /// Index of the interface it leaves by; none when it ends at the host.
    pub oif: Option<u32>,
    /// When, if the kernel says so.
    pub time: Option<SystemTime>,
    /// The packet.
    pub packet: Packet,
}

impl Packet {
    /// Reads the beginning of a packet, from its IP header on.
    ///
    /// # Errors
    /// When it is no IP packet, or too little of it is there.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotPacket> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => v4(bytes),
            Some(6) => v6(bytes),
            Some(other) => Err(NotPacket::Version(other)),
            None => Err(NotPacket::Short),
        }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.from)
    }

    /// What rules see in it. `None` for what no rule can name: a later fragment, and messages of
    /// ICMPv6 without a counterpart in ICMP.
    pub fn traffic(&self) -> Option<Traffic> {
        match self.carries {
            Carries::Ports { proto, port, .. } => Some(Traffic::Port(proto, port)),
            Carries::Other(proto) => Some(Traffic::Proto(proto)),
            Carries::Icmp { kind, .. } => match self.family() {
                Family::V4 => Some(Traffic::Icmp(kind)),
                Family::V6 => (0..=u8::MAX)
                    .find(|icmp| icmp_counterpart(*icmp) == Some(kind))
                    .map(Traffic::Icmp),
            },
            Carries::Fragment(_) => None,
        }
    }

    /// Whether it is an error about another packet (RFC 792; RFC 4443, §2.1): these belong to the
    /// connection they are about, and open none.
    pub fn is_error(&self) -> bool {
        match (self.carries, self.family()) {
            (Carries::Icmp { kind, .. }, Family::V4) => matches!(kind, 3 | 4 | 5 | 11 | 12),
            (Carries::Icmp { kind, .. }, Family::V6) => kind < 128,
            _ => false,
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, NotPacket> {
    let pair = bytes.get(at..at + 2).ok_or(NotPacket::Short)?;
    Ok(u16::from_be_bytes([pair[0], pair[1]]))
}

fn byte_at(bytes: &[u8], at: usize) -> Result<u8, NotPacket> {
    bytes.get(at).copied().ok_or(NotPacket::Short)
}

/// RFC 791, §3.1.
fn v4(bytes: &[u8]) -> Result<Packet, NotPacket> {
    const LEAST: usize = 20;
    let header: &[u8; LEAST] = bytes
        .get(..LEAST)
        .and_then(|header| header.try_into().ok())
        .ok_or(NotPacket::Short)?;
    let length = usize::from(header[0] & 15) * 4;
    if length < LEAST {
        return Err(NotPacket::Malformed);
    }
    let proto = header[9];
    let later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    let carries = if later {
        Carries::Fragment(proto)
    } else {
        carries(proto, 1, bytes.get(length..).ok_or(NotPacket::Short)?)?
    };
    let address = |at: usize| {
        IpAddr::V4(Ipv4Addr::new(
            header[at],
            header[at + 1],
            header[at + 2],
            header[at + 3],
        ))
    };
    Ok(Packet {
        from: address(12),
        to: address(16),
        carries,
    })
}

/// RFC 8200, §3 and §4.
fn v6(bytes: &[u8]) -> Result<Packet, NotPacket> {
    const HEADER: usize = 40;
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const OPTIONS: u8 = 60;
    let address = |at: usize| -> Result<IpAddr, NotPacket> {
        let bytes = bytes.get(at..at + 16).ok_or(NotPacket::Short)?;
        let octets: [u8; 16] = bytes.try_into().map_err(|_| NotPacket::Short)?;
        Ok(Ipv6Addr::from(octets).into())
    };
    let (from, to) = (address(8)?, address(24)?);
    let mut next = byte_at(bytes, 6)?;
    let mut at = HEADER;
    // Each header is at least 8 bytes long, so this ends with the bytes.
    let carries = loop {
        match next {
            HOP_BY_HOP | ROUTING | OPTIONS => {
                next = byte_at(bytes, at)?;
                at += (usize::from(byte_at(bytes, at + 1)?) + 1) * 8;
            }
            AUTHENTICATION => {
                next = byte_at(bytes, at)?;
                at += (usize::from(byte_at(bytes, at + 1)?) + 2) * 4;
            }
            FRAGMENT => {
                let later = u16_at(bytes, at + 2)? & !7 != 0;
                next = byte_at(bytes, at)?;
                at += 8;
                if later {
                    break Carries::Fragment(next);
                }
            }
            proto => break carries(proto, 58, bytes.get(at..).ok_or(NotPacket::Short)?)?,
        }
    };
    Ok(Packet { from, to, carries })
}

/// `icmp`: the protocol number of ICMP in the family at hand.
fn carries(proto: u8, icmp: u8, bytes: &[u8]) -> Result<Carries, NotPacket> {
    if has_ports(proto) {
        return Ok(Carries::Ports {
            proto,
            source: u16_at(bytes, 0)?,
            port: u16_at(bytes, 2)?,
        });
    }
    if proto == icmp {
        return Ok(Carries::Icmp {
            kind: byte_at(bytes, 0)?,
            code: byte_at(bytes, 1)?,
        });
    }
    Ok(Carries::Other(proto))
}

#[cfg(test)]
mod tests;
