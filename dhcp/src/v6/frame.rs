//! Ethernet frames with what this module speaks, read and written by hand.
//!
//! A packet socket gives what neither an ICMPv6 nor a UDP socket tells: the hardware address that a
//! message came from, which the L2 guard vouches for. Answers go to that address, so that nobody's
//! neighbour entry has a part in who gets them (and a multicast one goes to one machine, RFC 6085).

use std::net::Ipv6Addr;

use crate::lease::Mac;

const ETHERNET: usize = 14;
const IP: usize = 40;
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Hop limit of neighbour discovery: what has it was sent on this very link (RFC 4861 §6.1).
const HOPS: u8 = 255;

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The Ethernet source.
    pub mac: Mac,
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub to: Ipv6Addr,
    /// What it carries.
    pub payload: Payload<'a>,
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A router solicitation: the whole ICMPv6 message. Its checksum is right.
    Solicitation {
        /// From the type on.
        message: &'a [u8],
        /// IPv6 hop limit.
        hops: u8,
    },
    /// A DHCPv6 message to a server: what the UDP datagram carries. (Its checksum may be left to
    /// hardware that a virtual link does not have, and is not looked at.)
    Dhcp(&'a [u8]),
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

impl<'a> Received<'a> {
    /// Reads a frame; none where it is neither a router solicitation nor a DHCPv6 message to a server,
    /// or is damaged. Messages behind extension headers are not read: no client sends such.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let mac = octets(frame, 6)?;
        if octets(frame, 12)? != ETHERTYPE_IPV6 {
            return None;
        }
        let packet = frame.get(ETHERNET..)?;
        let [first] = octets(packet, 0)?;
        let [next] = octets(packet, 6)?;
        let [hops] = octets(packet, 7)?;
        let length = usize::from(u16::from_be_bytes(octets(packet, 4)?));
        if first >> 4 != 6 {
            return None;
        }
        let source = Ipv6Addr::from(octets::<16>(packet, 8)?);
        let to = Ipv6Addr::from(octets::<16>(packet, 24)?);
        let body = packet.get(IP..IP.checked_add(length)?)?;
        let payload = match next {
            ICMPV6 if body.first() == Some(&super::router::SOLICITATION) => {
                if checksum(source, to, ICMPV6, body) != 0 {
                    return None;
                }
                Payload::Solicitation {
                    message: body,
                    hops,
                }
            }
            UDP if octets(body, 2)? == super::SERVER_PORT.to_be_bytes() => {
                let length = usize::from(u16::from_be_bytes(octets(body, 4)?));
                Payload::Dhcp(body.get(8..length)?)
            }
            _ => return None,
        };
        Some(Self {
            mac,
            source,
            to,
            payload,
        })
    }
}

/// The two ends of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Sender's hardware address.
    pub from_mac: Mac,
    /// Sender's address.
    pub from: Ipv6Addr,
    /// Receiver's hardware address.
    pub to_mac: Mac,
    /// Receiver's address, or a group.
    pub to: Ipv6Addr,
}

/// A frame with an ICMPv6 message, whose checksum is filled in; without the trailing FCS.
/// None past 65,535 bytes.
pub fn icmp(ends: Ends, message: &[u8]) -> Option<Vec<u8>> {
    let mut body = message.to_vec();
    body.get_mut(2..4)?.fill(0);
    let sum = checksum(ends.from, ends.to, ICMPV6, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    frame(ends, ICMPV6, &body)
}

/// A frame with a UDP datagram. None past 65,527 bytes.
pub fn udp(ends: Ends, from_port: u16, to_port: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len().checked_add(8)?).ok()?;
    let mut body = Vec::with_capacity(length.into());
    for part in [from_port, to_port, length, 0] {
        body.extend_from_slice(&part.to_be_bytes());
    }
    body.extend_from_slice(payload);
    let sum = match checksum(ends.from, ends.to, UDP, &body) {
        0 => 0xffff, // RFC 8200 §8.1: zero would mean that there is none
        sum => sum,
    };
    body[6..8].copy_from_slice(&sum.to_be_bytes());
    frame(ends, UDP, &body)
}

fn frame(ends: Ends, next: u8, body: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(body.len()).ok()?;
    let mut frame = Vec::with_capacity(ETHERNET + IP + body.len());
    frame.extend_from_slice(&ends.to_mac);
    frame.extend_from_slice(&ends.from_mac);
    frame.extend_from_slice(&ETHERTYPE_IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[next, HOPS]);
    frame.extend_from_slice(&ends.from.octets());
    frame.extend_from_slice(&ends.to.octets());
    frame.extend_from_slice(body);
    Some(frame)
}

/// The internet checksum with IPv6's pseudo header (RFC 8200 §8.1). Zero over a message whose own
/// checksum is right.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, next: u8, body: &[u8]) -> u16 {
    let words = |bytes: &[u8]| {
        let mut sum = 0u64;
        for word in bytes.chunks(2) {
            let low = word.get(1).copied().unwrap_or(0);
            sum += u64::from(u16::from_be_bytes([word[0], low]));
        }
        sum
    };
    let mut sum = words(&from.octets()) + words(&to.octets()) + words(body);
    sum += body.len() as u64 + u64::from(next);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16) // folded to 16 bits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ends() -> Ends {
        Ends {
            from_mac: [2, 0, 0, 0, 0, 1],
            from: "fe80::1".parse().unwrap(),
            to_mac: [2, 0, 0, 0, 0, 2],
            to: "ff02::2".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let frame = icmp(ends(), &[133, 0, 9, 9, 0, 0, 0, 0]).unwrap();
        let read = Received::parse(&frame).unwrap();
        assert_eq!((read.mac, read.to), (ends().from_mac, ends().to));
        let Payload::Solicitation { message, hops } = read.payload else {
            panic!("{read:?}");
        };
        assert_eq!((message.len(), hops), (8, 255));
        let frame = udp(ends(), 546, 547, b"odd").unwrap();
        let read = Received::parse(&frame).unwrap();
        assert_eq!(read.payload, Payload::Dhcp(b"odd"));
    }

    #[test]
    fn a_checksum_of_rfc_1071_by_hand() {
        // fe80::1 → ff02::2, length 8, next header 58, type 133: the words add up to
        // fe80+1 + ff02+2 + 8 + 3a + 8500 = 282c7 → 82c7+2 = 82c9 → !82c9 = 7d36
        let frame = icmp(ends(), &[133, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(frame[56..58], [0x7d, 0x36]);
    }

    #[test]
    fn a_damaged_frame_is_none() {
        let frame = icmp(ends(), &[133, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        for cut in 0..frame.len() {
            assert_eq!(Received::parse(&frame[..cut]), None, "{cut}");
        }
        for at in (14..frame.len()).filter(|at| ![15, 16, 17, 21].contains(at)) {
            let mut bad = frame.clone();
            bad[at] ^= 0x41;
            assert_eq!(Received::parse(&bad), None, "byte {at}");
        }
        // a UDP length beyond the datagram
        let mut bad = udp(ends(), 546, 547, b"abc").unwrap();
        bad[59] = 200;
        assert_eq!(Received::parse(&bad), None);
        bad[58..60].copy_from_slice(&[0, 7]);
        assert_eq!(Received::parse(&bad), None);
    }
}
