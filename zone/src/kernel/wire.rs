//! Bytes of the kernel → what is needed of them. Every length is checked; what is unknown is skipped,
//! so that a newer kernel's attributes never lose a message.

use crate::name::MacAddr;

use super::error::KernelError;

// linux/netlink.h
pub(super) const HEADER: usize = 16;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLMSG_OVERRUN: u16 = 4;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLA_TYPE_MASK: u16 = 0x3fff;

// linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BRPORT_LOCKED: u16 = 39;
const IFF_UP: u32 = 1;
/// `ifi_family` of news about bridge ports.
pub(super) const AF_BRIDGE: u8 = 7;

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(field.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(field.try_into().ok()?))
}

/// A netlink message in a datagram.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The messages of a datagram; ends at the first that is malformed.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(datagram, 0)? as usize;
        let message = Message {
            kind: u16_at(datagram, 4)?,
            flags: u16_at(datagram, 6)?,
            sequence: u32_at(datagram, 8)?,
            payload: datagram.get(HEADER..length)?,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

/// Attributes, type (without flags) and value; ends at the first that is malformed.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// A string, with or without its NUL.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// What an NLMSG_ERROR says: none is an acknowledgement. The outer none: too short to tell.
pub(super) fn acknowledgement(message: &Message<'_>) -> Option<Option<KernelError>> {
    let code = u32_at(message.payload, 0)?.cast_signed();
    if code == 0 {
        return Some(None);
    }
    let mut text_found = None;
    if message.flags & NLM_F_ACK_TLVS != 0 {
        // the request's header, and its payload too unless the kernel left that out
        let request = if message.flags & NLM_F_CAPPED != 0 {
            HEADER
        } else {
            (u32_at(message.payload, 4)? as usize).next_multiple_of(4)
        };
        let attributes = attributes(message.payload.get(4 + request..).unwrap_or(&[]));
        text_found = attributes
            .filter(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map(|(_, value)| text(value))
            .next();
    }
    Some(Some(KernelError {
        errno: code.saturating_neg(),
        text: text_found,
    }))
}

/// What holds a port to its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortFlags {
    /// No frame goes to another isolated port.
    pub isolated: bool,
    /// Only frames from addresses in the FDB are taken.
    pub locked: bool,
    /// The FDB learns from frames.
    pub learning: bool,
    /// Frames to unknown unicast addresses are sent here.
    pub flood: bool,
}

impl PortFlags {
    /// What netd sets.
    pub const GUARDED: Self = Self {
        isolated: true,
        locked: true,
        learning: false,
        flood: false,
    };

    fn parse(bytes: &[u8]) -> Self {
        let mut flags = Self::default();
        for (kind, value) in attributes(bytes) {
            let on = value.first().is_some_and(|&byte| byte != 0);
            match kind {
                IFLA_BRPORT_ISOLATED => flags.isolated = on,
                IFLA_BRPORT_LOCKED => flags.locked = on,
                IFLA_BRPORT_LEARNING => flags.learning = on,
                IFLA_BRPORT_UNICAST_FLOOD => flags.flood = on,
                _ => {}
            }
        }
        flags
    }
}

/// A link as RTM_NEWLINK and RTM_DELLINK tell of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) family: u8,
    pub(super) index: u32,
    pub(super) up: bool,
    pub(super) name: String,
    pub(super) mac: Option<MacAddr>,
    pub(super) master: Option<u32>,
    pub(super) group: u32,
    /// `bridge`, `veth`, …; empty for hardware and in news about ports.
    pub(super) kind: String,
    /// As a port of a bridge.
    pub(super) port: Option<PortFlags>,
    /// Index of the other end, where there is one.
    pub(super) peer: Option<u32>,
    /// Our number of the namespace that the other end is in, where that is another one.
    pub(super) peer_netns: Option<u32>,
    /// Alternative names.
    pub(super) altnames: Vec<String>,
}

impl Link {
    /// From the payload: `struct ifinfomsg`, then attributes.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut link = Self {
            family: *payload.first()?,
            index: u32_at(payload, 4)?,
            up: u32_at(payload, 8)? & IFF_UP != 0,
            ..Self::default()
        };
        for (kind, value) in attributes(payload.get(16..)?) {
            match kind {
                IFLA_IFNAME => link.name = text(value),
                IFLA_ADDRESS => link.mac = value.try_into().ok().map(MacAddr),
                IFLA_MASTER => link.master = u32_at(value, 0),
                IFLA_GROUP => link.group = u32_at(value, 0)?,
                IFLA_LINK => link.peer = u32_at(value, 0),
                IFLA_LINK_NETNSID => link.peer_netns = u32_at(value, 0),
                IFLA_PROP_LIST => {
                    let names = attributes(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                    link.altnames.extend(names.map(|(_, name)| text(name)));
                }
                IFLA_LINKINFO => link.take_info(value),
                // in news about bridge ports; other families put other things here
                IFLA_PROTINFO if link.family == AF_BRIDGE => {
                    link.port = Some(PortFlags::parse(value));
                }
                _ => {}
            }
        }
        Some(link)
    }

    fn take_info(&mut self, bytes: &[u8]) {
        let mut port_of_bridge = false;
        for (kind, value) in attributes(bytes) {
            match kind {
                IFLA_INFO_KIND => self.kind = text(value),
                // the kernel puts the kind before the data
                IFLA_INFO_SLAVE_KIND => port_of_bridge = text(value) == "bridge",
                IFLA_INFO_SLAVE_DATA if port_of_bridge => {
                    self.port = Some(PortFlags::parse(value));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn error_message(flags: u16, tail: &[u8]) -> Vec<u8> {
        let mut payload = (-17i32).to_ne_bytes().to_vec();
        payload.extend(20u32.to_ne_bytes()); // length of the request: header and four bytes
        payload.extend([0; 12]);
        payload.extend(tail);
        let mut bytes = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn extended_acks_are_read_capped_or_not() {
        let attribute = [8, 0, 1, 0, b'd', b'u', b'p', 0];
        let mut uncapped = vec![0; 4];
        uncapped.extend(attribute);
        for (flags, tail) in [
            (NLM_F_ACK_TLVS | NLM_F_CAPPED, attribute.to_vec()),
            (NLM_F_ACK_TLVS, uncapped),
        ] {
            let bytes = error_message(flags, &tail);
            let message = messages(&bytes).next().unwrap();
            assert_eq!(message.sequence, 7);
            let error = acknowledgement(&message).unwrap().unwrap();
            assert_eq!(error.to_string(), "File exists: dup");
        }
        let bytes = error_message(NLM_F_CAPPED, &[]);
        let error = acknowledgement(&messages(&bytes).next().unwrap());
        assert_eq!(error.unwrap().unwrap().text, None);
    }

    proptest! {
        #[test]
        fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = acknowledgement(&message);
                let _ = Link::parse(message.payload);
            }
            let _ = Link::parse(&bytes);
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
