//! Ethernet frames made by hand, for clients that have no address yet and answer no ARP.

use std::net::Ipv4Addr;

use crate::error::Error;
use crate::lease::Mac;

/// One end of a UDP datagram on an Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Hardware address.
    pub mac: Mac,
    /// IPv4 address.
    pub ip: Ipv4Addr,
    /// UDP port.
    pub port: u16,
}

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_UDP: u8 = 17;

/// An Ethernet frame with an IPv4 UDP datagram, checksums set, without the trailing FCS (the
/// interface's work). The datagram says "don't fragment" and so needs no identification (RFC 6864).
///
/// # Errors
/// [`Error::LongPayload`] past 65,507 bytes, the most an IPv4 datagram carries.
pub fn udp_frame(from: Endpoint, to: Endpoint, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let too_long = |_| Error::LongPayload(payload.len());
    let ip_len = u16::try_from(IP + UDP + payload.len()).map_err(too_long)?;
    let udp_len = u16::try_from(UDP + payload.len()).map_err(too_long)?;

    let mut ip = [0; IP];
    ip[0] = 0x45; // version 4, five words
    ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
    ip[6] = 0x40; // don't fragment
    ip[8] = 64; // time to live
    ip[9] = PROTOCOL_UDP;
    ip[12..16].copy_from_slice(&from.ip.octets());
    ip[16..20].copy_from_slice(&to.ip.octets());
    let ip_sum = checksum([&ip[..]]);
    ip[10..12].copy_from_slice(&ip_sum.to_be_bytes());

    let mut udp = [0; UDP];
    udp[0..2].copy_from_slice(&from.port.to_be_bytes());
    udp[2..4].copy_from_slice(&to.port.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    let [len_high, len_low] = udp_len.to_be_bytes();
    let pseudo = [0, PROTOCOL_UDP, len_high, len_low];
    let udp_sum = match checksum([&ip[12..20], &pseudo, &udp, payload]) {
        0 => 0xffff, // RFC 768: zero would mean that there is none
        sum => sum,
    };
    udp[6..8].copy_from_slice(&udp_sum.to_be_bytes());

    let mut frame = Vec::with_capacity(ETHERNET + IP + UDP + payload.len());
    frame.extend_from_slice(&to.mac);
    frame.extend_from_slice(&from.mac);
    frame.extend_from_slice(&ETHERTYPE_IPV4);
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&udp);
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// The internet checksum (RFC 1071) of parts, all but the last of even length.
fn checksum<const N: usize>(parts: [&[u8]; N]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        let mut words = part.chunks_exact(2);
        for word in &mut words {
            sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            sum += u64::from(u16::from_be_bytes([*last, 0]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16) // folded to 16 bits
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
