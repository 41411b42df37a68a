//! A packet, and the points of its way at which tables see it.

use std::net::IpAddr;

use super::expression::{Base, Hook, TableFamily};
use crate::sets::Family;

/// Priority at which destinations are translated (`NF_IP_PRI_NAT_DST`).
const DSTNAT: i32 = -100;
/// Priority at which sources are translated (`NF_IP_PRI_NAT_SRC`).
const SRCNAT: i32 = 100;

/// An address in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addr {
    /// This one.
    Is(IpAddr),
    /// Some address of the world that no rule names.
    Unnamed,
    /// Nobody can say.
    Unknown,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name; absent where it is not known which one it is.
    pub name: Option<String>,
    /// Its index, where that is known.
    pub index: Option<u32>,
    /// Its kind (`bridge`), where that is known.
    pub kind: Option<&'static str>,
}

impl Link {
    /// An interface that nobody can name.
    pub fn unknown() -> Self {
        Self {
            name: None,
            index: None,
            kind: None,
        }
    }
}

/// Addresses and ports of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
}

/// Which of a connection's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The one that opens it.
    First,
    /// The answer.
    Answer,
    /// The next one the same way.
    Next,
}

/// A packet, as it is everywhere on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Which of the connection's.
    pub turn: Turn,
    /// Its family.
    pub family: Family,
    /// IP protocol number.
    pub proto: u8,
    /// Type of an ICMP message, in its own family's numbers.
    pub icmp: Option<u8>,
    /// The connection as its opener wrote it.
    pub original: Head,
    /// … and as it is answered.
    pub reply: Head,
    /// Whether the destination is translated.
    pub dnat: bool,
    /// Whether the source is.
    pub snat: bool,
    /// Whether addresses are the host's own: the routing table would call them local.
    pub local: Vec<IpAddr>,
}

/// On which layer tables see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// IP.
    Ip,
    /// Frames of a bridge.
    Bridge,
}

/// One point of its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Which layer.
    pub layer: Layer,
    /// Which point.
    pub hook: Hook,
    /// Where it came in.
    pub iif: Option<Link>,
    /// Where it goes out.
    pub oif: Option<Link>,
    /// The header before addresses are translated here.
    pub before: Head,
    /// The header after that.
    pub after: Head,
    /// Marks it may bear.
    pub marks: Vec<u32>,
}

/// A packet and its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// The packet.
    pub packet: Packet,
    /// Its way.
    pub passages: Vec<Passage>,
}

impl Journey {
    /// As people say it.
    pub(super) fn words(&self) -> &'static str {
        match self.packet.turn {
            Turn::First => "the packet that opens the connection",
            Turn::Answer => "the answer",
            Turn::Next => "packets of the open connection",
        }
    }
}

impl Passage {
    /// Whether a base chain sees packets here.
    pub(super) fn meets(&self, family: TableFamily, base: &Base) -> bool {
        let layer = match family {
            TableFamily::Inet | TableFamily::Ip | TableFamily::Ip6 => Layer::Ip,
            TableFamily::Bridge => Layer::Bridge,
            // ARP is asked by itself
            TableFamily::Arp => return false,
        };
        layer == self.layer && self.hook == base.hook
    }

    /// The header as a chain of this priority sees it.
    pub(super) fn head(&self, priority: i32) -> &Head {
        let translated_at = match self.hook {
            Hook::Prerouting | Hook::Output => DSTNAT,
            Hook::Postrouting | Hook::Input => SRCNAT,
            Hook::Forward => i32::MAX,
        };
        if priority < translated_at {
            &self.before
        } else {
            &self.after
        }
    }
}

impl Packet {
    /// Whether a table of this family sees it.
    pub(super) fn meets(&self, family: TableFamily) -> bool {
        match family {
            TableFamily::Ip => self.family == Family::V4,
            TableFamily::Ip6 => self.family == Family::V6,
            TableFamily::Inet | TableFamily::Bridge => true,
            TableFamily::Arp => false,
        }
    }

    /// Whether the routing table calls an address the host's own.
    pub(super) fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.local.contains(&address)
    }
}
