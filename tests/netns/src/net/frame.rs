//! Ethernet frames by hand, honest and forged: just enough of ARP, IPv4, IPv6, UDP, TCP, ICMP and neighbour discovery.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub type Mac = [u8; 6];

/// To everybody on the link.
pub const BROADCAST: Mac = [0xff; 6];

pub const ARP: u16 = 0x0806;
pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;

/// Reads `02:00:00:00:00:01`.
pub fn mac(text: &str) -> Mac {
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).unwrap();
    }
    mac
}

/// The group's hardware address for an IPv6 multicast address (RFC 2464 §7).
pub fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// An Ethernet frame.
pub fn ethernet(to: Mac, from: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The payload behind an 802.1Q tag.
pub fn tagged(to: Mac, from: Mac, vlan: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut inner = vlan.to_be_bytes().to_vec();
    inner.extend_from_slice(&ethertype.to_be_bytes());
    inner.extend_from_slice(payload);
    ethernet(to, from, 0x8100, &inner)
}

/// ARP for IPv4 over Ethernet (RFC 826); operation 1 asks, 2 answers.
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend_from_slice(&operation.to_be_bytes());
    for (mac, ip) in [sender, target] {
        packet.extend_from_slice(&mac);
        packet.extend_from_slice(&ip.octets());
    }
    packet
}

/// An IPv4 packet (RFC 791) without options.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// An IPv6 packet (RFC 8200) without extension headers.
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(&[next, hop_limit]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(payload);
    packet
}

/// UDP in IPv4, its checksum left out (RFC 768 allows that).
pub fn udp4(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    ipv4(from.0, to.0, 17, &udp(from.1, to.1, 0, data))
}

/// UDP in IPv6.
pub fn udp6(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), data: &[u8]) -> Vec<u8> {
    let bare = udp(from.1, to.1, 0, data);
    let sum = checksum(&[&pseudo(from.0, to.0, 17, bare.len()), &bare]);
    ipv6(from.0, to.0, 17, 64, &udp(from.1, to.1, sum, data))
}

fn udp(from: u16, to: u16, sum: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap();
    let mut packet: Vec<u8> = [from, to, length, sum]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect();
    packet.extend_from_slice(data);
    packet
}

/// An ICMP message (RFC 792): `body` is all behind the checksum.
pub fn icmp4(from: Ipv4Addr, to: Ipv4Addr, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(body);
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(from, to, 1, &message)
}

/// An ICMPv6 message (RFC 4443) with the hop limit of 255 that neighbour discovery demands (RFC 4861).
pub fn icmp6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(body);
    let sum = checksum(&[&pseudo(from, to, 58, message.len()), &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv6(from, to, 58, 255, &message)
}

/// A neighbour advertisement (RFC 4861 §4.4), override and solicited set, with the target's link-layer address.
pub fn advertisement(from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut body = vec![0x60, 0, 0, 0];
    body.extend_from_slice(&target.octets());
    body.extend_from_slice(&[2, 1]);
    body.extend_from_slice(&mac);
    icmp6(from, to, 136, 0, &body)
}

/// A neighbour solicitation (RFC 4861 §4.3) with the sender's link-layer address.
pub fn solicitation(from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&target.octets());
    body.extend_from_slice(&[1, 1]);
    body.extend_from_slice(&mac);
    icmp6(from, to, 135, 0, &body)
}

/// A router advertisement (RFC 4861 §4.2) that offers itself as default router and 2001:db8:bad::/64 for addresses.
pub fn router_advertisement(from: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut body = vec![64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&[1, 1]);
    body.extend_from_slice(&mac);
    body.extend_from_slice(&[
        3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0,
    ]);
    body.extend_from_slice(&"2001:db8:bad::".parse::<Ipv6Addr>().unwrap().octets());
    icmp6(from, "ff02::1".parse().unwrap(), 134, 0, &body)
}

/// Protocol and destination port of a frame with UDP or TCP; unfragmented, without IPv6 extension headers.
pub fn destination(frame: &[u8]) -> Option<(u8, u16)> {
    let (protocol, transport) = transport(frame)?;
    let port = transport.get(2..4)?;
    matches!(protocol, 6 | 17).then(|| (protocol, u16::from_be_bytes([port[0], port[1]])))
}

/// Protocol and what follows the IP header of a frame.
pub fn transport(frame: &[u8]) -> Option<(u8, &[u8])> {
    let ethertype = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let packet = frame.get(14..)?;
    match ethertype {
        IPV4 => Some((
            *packet.get(9)?,
            packet.get(usize::from(packet[0] & 0x0f) * 4..)?,
        )),
        IPV6 => Some((*packet.get(6)?, packet.get(40..)?)),
        _ => None,
    }
}

/// Whether the frame carries these bytes somewhere.
pub fn carries(frame: &[u8], mark: &[u8]) -> bool {
    frame.windows(mark.len()).any(|window| window == mark)
}

fn pseudo(from: Ipv6Addr, to: Ipv6Addr, next: u8, length: usize) -> Vec<u8> {
    let mut header = from.octets().to_vec();
    header.extend_from_slice(&to.octets());
    header.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    header.extend_from_slice(&[0, 0, 0, next]);
    header
}

/// The Internet checksum (RFC 1071) over parts of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
