//! DHCPv6 messages as bytes (RFC 8415 §8, §9, §21), checked.
//!
//! Nothing here copies more than a few numbers out of a message, and nothing recurses: relay agents'
//! wrappings are taken off in a loop of at most [`MOST_RELAYS`]. How many parts of a message are looked
//! at is bounded; more are ignored, since no client needs them.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv6Net;

use super::silence::Silence;

/// Message types (RFC 8415 §7.3).
pub mod kind {
    #![allow(missing_docs)] // the names are the RFC's
    pub const SOLICIT: u8 = 1;
    pub const ADVERTISE: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const CONFIRM: u8 = 4;
    pub const RENEW: u8 = 5;
    pub const REBIND: u8 = 6;
    pub const REPLY: u8 = 7;
    pub const RELEASE: u8 = 8;
    pub const DECLINE: u8 = 9;
    pub const INFORMATION_REQUEST: u8 = 11;
    pub const RELAY_FORW: u8 = 12;
    pub const RELAY_REPL: u8 = 13;
}

/// Option codes (RFC 8415 §21, RFC 3646).
pub mod option {
    #![allow(missing_docs)] // the names are the RFCs'
    pub const CLIENT_ID: u16 = 1;
    pub const SERVER_ID: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const IA_TA: u16 = 4;
    pub const IA_ADDR: u16 = 5;
    pub const ORO: u16 = 6;
    pub const PREFERENCE: u16 = 7;
    pub const RELAY_MSG: u16 = 9;
    pub const STATUS_CODE: u16 = 13;
    pub const RAPID_COMMIT: u16 = 14;
    pub const INTERFACE_ID: u16 = 18;
    pub const DNS: u16 = 23;
    pub const SEARCH: u16 = 24;
    pub const IA_PD: u16 = 25;
    pub const IA_PREFIX: u16 = 26;
    pub const REFRESH_TIME: u16 = 32;
}

/// Status codes (RFC 8415 §21.13).
pub mod status {
    #![allow(missing_docs)] // the names are the RFC's
    pub const SUCCESS: u16 = 0;
    pub const NO_ADDRS_AVAIL: u16 = 2;
    pub const NO_BINDING: u16 = 3;
    pub const NOT_ON_LINK: u16 = 4;
    pub const USE_MULTICAST: u16 = 5;
    pub const NO_PREFIX_AVAIL: u16 = 6;
}

/// Bytes of a DUID: a type of 2 and at most 128 more (RFC 8415 §11.1).
pub const DUID_LENGTHS: RangeInclusive<usize> = 3..=130;
/// Relay agents that a message may have come through (RFC 8415 §7.6, HOP_COUNT_LIMIT).
pub const MOST_RELAYS: usize = 8;
/// Identity associations that are looked at in a message.
pub const MOST_IAS: usize = 8;
/// Addresses or prefixes that are looked at in an identity association.
pub const MOST_NETS: usize = 8;
/// Asked-for options that are looked at.
pub const MOST_ASKED: usize = 64;

/// One relay agent that a message came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay<'a> {
    /// How many agents it had passed before.
    pub hops: u8,
    /// An address of the link that the client, or the agent before this one, is on; or unspecified.
    pub link: Ipv6Addr,
    /// Who the message was received from.
    pub peer: Ipv6Addr,
    /// Comes back to the agent as it is (RFC 8415 §21.18).
    pub interface_id: Option<&'a [u8]>,
}

/// What kind of identity association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IaKind {
    /// Addresses (RFC 8415 §21.4).
    Addresses,
    /// Temporary addresses (RFC 8415 §21.5), which are not served.
    Temporary,
    /// Prefixes for delegation (RFC 8415 §21.21).
    Prefixes,
}

/// An identity association as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ia {
    /// Of what.
    pub kind: IaKind,
    /// Its number, the client's choice.
    pub iaid: u32,
    /// What it has or wants; an address is a /128. At most [`MOST_NETS`].
    pub nets: Vec<Ipv6Net>,
}

/// A client's message, its options sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Message type.
    pub kind: u8,
    /// Transaction id.
    pub xid: [u8; 3],
    /// The client's DUID.
    pub client: Option<&'a [u8]>,
    /// The server it is for.
    pub server: Option<&'a [u8]>,
    /// At most [`MOST_IAS`].
    pub ias: Vec<Ia>,
    /// Codes of the options it asks for, at most [`MOST_ASKED`].
    pub asked: Vec<u16>,
    /// Takes a reply where an advertisement would do.
    pub rapid: bool,
}

/// Options one after the other. Ends with an error where one is longer than what is left.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u16, &'a [u8]), Silence>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some((head, rest)) = self.0.split_at_checked(4) else {
            let len = self.0.len();
            self.0 = &[];
            return Some(Err(Silence::Truncated { len }));
        };
        let code = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let Some((value, rest)) = rest.split_at_checked(length) else {
            self.0 = &[];
            return Some(Err(Silence::BadOption { option: code }));
        };
        self.0 = rest;
        Some(Ok((code, value)))
    }
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let bytes: [u8; 16] = bytes.get(at..at.checked_add(16)?)?.try_into().ok()?;
    Some(bytes.into())
}

/// Puts an option that may be there once into its place.
fn once<'a>(place: &mut Option<&'a [u8]>, option: u16, value: &'a [u8]) -> Result<(), Silence> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Silence::BadOption { option }),
    }
}

/// Takes the wrappings of relay agents off, outermost first: they, and the client's message.
///
/// # Errors
/// A wrapping is cut off or has no message in it, or there are too many.
pub fn unwrap_relays(packet: &[u8]) -> Result<(Vec<Relay<'_>>, &[u8]), Silence> {
    let mut relays = Vec::new();
    let mut packet = packet;
    while packet.first() == Some(&kind::RELAY_FORW) {
        if relays.len() == MOST_RELAYS {
            return Err(Silence::TooManyRelays);
        }
        let truncated = Silence::Truncated { len: packet.len() };
        let (Some(link), Some(peer)) = (address(packet, 2), address(packet, 18)) else {
            return Err(truncated);
        };
        let hops = packet[1];
        if usize::from(hops) >= MOST_RELAYS {
            return Err(Silence::TooManyRelays);
        }
        let (mut message, mut interface_id) = (None, None);
        for option in Options(&packet[34..]) {
            match option? {
                (option::RELAY_MSG, value) => once(&mut message, option::RELAY_MSG, value)?,
                (option::INTERFACE_ID, value) => {
                    once(&mut interface_id, option::INTERFACE_ID, value)?;
                }
                _ => {}
            }
        }
        relays.push(Relay {
            hops,
            link,
            peer,
            interface_id,
        });
        let option = option::RELAY_MSG;
        packet = message.ok_or(Silence::Missing { option })?;
    }
    Ok((relays, packet))
}

impl<'a> Message<'a> {
    /// Reads a client's message.
    ///
    /// # Errors
    /// It is cut off, or an option is malformed.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Silence> {
        let &[kind, a, b, c, ref options @ ..] = packet else {
            return Err(Silence::Truncated { len: packet.len() });
        };
        let mut message = Self {
            kind,
            xid: [a, b, c],
            client: None,
            server: None,
            ias: Vec::new(),
            asked: Vec::new(),
            rapid: false,
        };
        for option in Options(options) {
            let (code, value) = option?;
            let bad = Silence::BadOption { option: code };
            match code {
                option::CLIENT_ID | option::SERVER_ID => {
                    if !DUID_LENGTHS.contains(&value.len()) {
                        return Err(bad);
                    }
                    let place = match code {
                        option::CLIENT_ID => &mut message.client,
                        _ => &mut message.server,
                    };
                    once(place, code, value)?;
                }
                option::IA_NA | option::IA_TA | option::IA_PD => {
                    let ia = Ia::parse(code, value).ok_or(bad)?;
                    if message.ias.len() < MOST_IAS {
                        message.ias.push(ia);
                    }
                }
                option::ORO => {
                    if value.len() % 2 != 0 {
                        return Err(bad);
                    }
                    let codes = value.chunks_exact(2);
                    let codes = codes.map(|code| u16::from_be_bytes([code[0], code[1]]));
                    let room = MOST_ASKED - message.asked.len();
                    message.asked.extend(codes.take(room));
                }
                option::RAPID_COMMIT => message.rapid = true,
                _ => {}
            }
        }
        Ok(message)
    }
}

impl Ia {
    /// None where it is malformed.
    fn parse(code: u16, value: &[u8]) -> Option<Self> {
        let (kind, fixed) = match code {
            option::IA_TA => (IaKind::Temporary, 4),
            option::IA_NA => (IaKind::Addresses, 12),
            _ => (IaKind::Prefixes, 12),
        };
        let options = value.get(fixed..)?;
        let iaid = u32::from_be_bytes(value.get(..4)?.try_into().ok()?);
        let mut nets = Vec::new();
        for option in Options(options) {
            let net = match (kind, option.ok()?) {
                (IaKind::Addresses | IaKind::Temporary, (option::IA_ADDR, value)) => {
                    value.get(24..)?;
                    Ipv6Net::from(address(value, 0)?)
                }
                (IaKind::Prefixes, (option::IA_PREFIX, value)) => {
                    let length = *value.get(8)?;
                    if length == 128 {
                        continue; // no prefix anybody delegates
                    }
                    // bits beyond the length are to be ignored (RFC 8415 §21.22)
                    Ipv6Net::new(address(value, 9)?, length).ok()?.trunc()
                }
                _ => continue,
            };
            if nets.len() < MOST_NETS {
                nets.push(net);
            }
        }
        Some(Self { kind, iaid, nets })
    }
}

/// A message being written.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn message(kind: u8, xid: [u8; 3]) -> Self {
        Self(vec![kind, xid[0], xid[1], xid[2]])
    }

    pub(super) fn option(&mut self, code: u16, value: &[u8]) {
        self.nest(code, |w| w.0.extend_from_slice(value));
    }

    /// An option whose value is written by `fill`; left out where it does not fit the length field.
    pub(super) fn nest(&mut self, code: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&code.to_be_bytes());
        self.0.extend_from_slice(&[0, 0]);
        fill(self);
        let length = self.0.len() - start - 4;
        match u16::try_from(length) {
            Ok(length) => self.0[start + 2..start + 4].copy_from_slice(&length.to_be_bytes()),
            Err(_) => self.0.truncate(start),
        }
    }

    pub(super) fn status(&mut self, code: u16, message: &str) {
        self.nest(option::STATUS_CODE, |w| {
            w.0.extend_from_slice(&code.to_be_bytes());
            w.0.extend_from_slice(message.as_bytes());
        });
    }

    /// An address or prefix with its lifetimes in seconds.
    pub(super) fn net(&mut self, net: Ipv6Net, preferred: u32, valid: u32) {
        if net.prefix_len() == 128 {
            self.nest(option::IA_ADDR, |w| {
                w.0.extend_from_slice(&net.addr().octets());
                w.0.extend_from_slice(&preferred.to_be_bytes());
                w.0.extend_from_slice(&valid.to_be_bytes());
            });
        } else {
            self.nest(option::IA_PREFIX, |w| {
                w.0.extend_from_slice(&preferred.to_be_bytes());
                w.0.extend_from_slice(&valid.to_be_bytes());
                w.0.push(net.prefix_len());
                w.0.extend_from_slice(&net.network().octets());
            });
        }
    }
}
