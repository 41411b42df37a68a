//! Router advertisements as bytes (RFC 4861 §4.2), and solicitations read.
//!
//! Each machine gets its own: its prefix, or none to make addresses in. No prefix is ever on-link.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::silence::Silence;
use crate::error::Error;
use crate::lease::Mac;

/// ICMPv6 type of a router solicitation.
pub const SOLICITATION: u8 = 133;
/// ICMPv6 type of a router advertisement.
pub const ADVERTISEMENT: u8 = 134;

/// Longest and shortest time between unsolicited advertisements, in seconds (RFC 4861 §6.2.1, the
/// defaults).
pub const MAX_INTERVAL: u64 = 600;
/// See [`MAX_INTERVAL`].
pub const MIN_INTERVAL: u64 = 200;

/// Seconds that this is a default router: the most there is (RFC 4861 §6.2.1), so that a daemon that is away for
/// an hour is not missed. What goes is told with zeroes. Names and resolvers likewise (RFC 8106 §5.1).
const LIFETIME: u16 = 9000;
/// Valid and preferred lifetime of prefixes in seconds. Addresses are kept for names, so they end only with
/// the zone; then advertisements with lifetimes of zero say so.
const VALID: u32 = 86_400;
/// See [`VALID`].
const PREFERRED: u32 = 14_400;
const HOP_LIMIT: u8 = 64;

const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
const AUTONOMOUS: u8 = 0x40;

mod nd_option {
    pub(super) const SOURCE_LINK_LAYER: u8 = 1;
    pub(super) const PREFIX: u8 = 3;
    pub(super) const MTU: u8 = 5;
    pub(super) const RDNSS: u8 = 25;
    pub(super) const DNSSL: u8 = 31;
}

/// What a zone's gateway advertises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    /// Hardware address of the gateway.
    pub mac: Mac,
    /// The zone's subnet.
    pub subnet: Ipv6Net,
    /// Bytes.
    pub mtu: u32,
    /// Resolvers (RFC 8106 §5.1), best first.
    pub dns: Vec<Ipv6Addr>,
    /// Search domains (RFC 8106 §5.2).
    pub search: Vec<String>,
}

/// The advertisements of a zone, but for the machine's own prefix.
#[derive(Debug, Clone)]
pub(super) struct Template {
    config: RouterConfig,
    search: Vec<u8>,
}

impl Template {
    pub(super) fn new(config: RouterConfig) -> Result<Self, Error> {
        let search = super::domain::encode(config.search.iter().map(String::as_str))?;
        Ok(Self { config, search })
    }

    /// An advertisement for one machine; `prefix`: the one of its own. `over`: this is no router any more
    /// (RFC 4861 §6.2.5), and nothing it said is good any longer. The checksum is left out.
    pub(super) fn advertisement(&self, prefix: Option<Ipv6Net>, over: bool) -> Vec<u8> {
        let life = |seconds: u32| if over { 0 } else { seconds };
        let mut m = vec![ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, MANAGED | OTHER];
        let lifetime = if over { 0 } else { LIFETIME };
        m.extend_from_slice(&lifetime.to_be_bytes());
        m.extend_from_slice(&[0; 8]); // reachable and retransmission time: the machine's own
        m.extend_from_slice(&[nd_option::SOURCE_LINK_LAYER, 1]);
        m.extend_from_slice(&self.config.mac);
        m.extend_from_slice(&[nd_option::MTU, 1, 0, 0]);
        m.extend_from_slice(&self.config.mtu.to_be_bytes());
        // never on-link: neighbours are reached by the gateway too. Addresses of its own making are the
        // machine's only in a prefix of its own.
        let (net, flags) = match prefix {
            Some(prefix) => (prefix, AUTONOMOUS),
            None => (self.config.subnet, 0),
        };
        m.extend_from_slice(&[nd_option::PREFIX, 4, net.prefix_len(), flags]);
        m.extend_from_slice(&life(VALID).to_be_bytes());
        m.extend_from_slice(&life(PREFERRED).to_be_bytes());
        m.extend_from_slice(&[0; 4]);
        m.extend_from_slice(&net.network().octets());
        let told = life(LIFETIME.into());
        // the length field counts 8 bytes each, in one byte
        let dns: Vec<_> = self.config.dns.iter().take(127).collect();
        if !dns.is_empty() {
            m.extend_from_slice(&[nd_option::RDNSS, 1 + 2 * dns.len() as u8, 0, 0]);
            m.extend_from_slice(&told.to_be_bytes());
            m.extend(dns.iter().flat_map(|ip| ip.octets()));
        }
        let length = self.search.len().div_ceil(8);
        if let (1.., Ok(words)) = (length, u8::try_from(1 + length)) {
            m.extend_from_slice(&[nd_option::DNSSL, words, 0, 0]);
            m.extend_from_slice(&told.to_be_bytes());
            m.extend_from_slice(&self.search);
            m.resize(m.len().next_multiple_of(8), 0);
        }
        m
    }
}

/// Holds a solicitation to RFC 4861 §6.1.1. (Its checksum was right.)
///
/// # Errors
/// It must be discarded.
pub(super) fn check_solicitation(
    message: &[u8],
    hops: u8,
    source: Ipv6Addr,
) -> Result<(), Silence> {
    let bad = |what| Err(Silence::BadSolicitation(what));
    if hops != 255 {
        return bad("hop limit is not 255");
    }
    if message.get(1) != Some(&0) {
        return bad("code is not 0");
    }
    let Some(mut options) = message.get(8..) else {
        return bad("shorter than 8 bytes");
    };
    while !options.is_empty() {
        let Some(&[kind, length]) = options.get(..2) else {
            return bad("an option is cut off");
        };
        let length = usize::from(length) * 8;
        if length == 0 {
            return bad("an option of length 0");
        }
        let Some(rest) = options.get(length..) else {
            return bad("an option is cut off");
        };
        if kind == nd_option::SOURCE_LINK_LAYER && source.is_unspecified() {
            return bad("a hardware address of nobody");
        }
        options = rest;
    }
    Ok(())
}
