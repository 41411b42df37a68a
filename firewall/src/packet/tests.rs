#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A header of IPv4 from 10.89.0.2 to 192.0.2.7.
fn header4(proto: u8, options: usize, fragment: u16) -> Vec<u8> {
    let mut bytes = vec![0x45 + options as u8 / 4, 0, 0, 0, 0, 0];
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, proto, 0, 0, 10, 89, 0, 2, 192, 0, 2, 7]);
    bytes.extend(vec![1; options]);
    bytes
}

/// A header of IPv6 from fd00::2 to 2001:db8::7.
fn header6(next: u8) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    bytes.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
    bytes.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    bytes
}

const PORTS: [u8; 8] = [0xc3, 0x50, 0, 80, 0, 0, 0, 0];

fn tcp80() -> Carries {
    Carries::Ports {
        proto: 6,
        source: 50_000,
        port: 80,
    }
}

#[test]
fn plain_packets() {
    let packet = Packet::parse(&[header4(6, 0, 0x4000), PORTS.to_vec()].concat()).unwrap();
    assert_eq!(packet.from.to_string(), "10.89.0.2");
    assert_eq!(packet.to.to_string(), "192.0.2.7");
    assert_eq!(packet.carries, tcp80());
    assert_eq!(packet.traffic(), Some(Traffic::Port(6, 80)));
    let packet = Packet::parse(&[header6(17), PORTS.to_vec()].concat()).unwrap();
    assert_eq!(packet.from.to_string(), "fd00::2");
    assert_eq!(packet.to.to_string(), "2001:db8::7");
    assert_eq!(packet.traffic(), Some(Traffic::Port(17, 80)));
    let gre = Packet::parse(&header4(47, 0, 0)).unwrap();
    assert_eq!(gre.traffic(), Some(Traffic::Proto(47)));
}

#[test]
fn what_stands_between_the_headers_is_skipped() {
    let options = [header4(6, 40, 0), PORTS.to_vec()].concat();
    assert_eq!(Packet::parse(&options).unwrap().carries, tcp80());
    // hop-by-hop of 16 bytes, routing of 8, the first fragment, authentication of 12, options, TCP
    let mut long = header6(0);
    long.extend([43, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    long.extend([44, 0, 0, 0, 0, 0, 0, 0]);
    long.extend([51, 0, 0, 1, 0, 0, 0, 9]);
    long.extend([60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    long.extend([6, 0, 0, 0, 0, 0, 0, 0]);
    long.extend(PORTS);
    assert_eq!(Packet::parse(&long).unwrap().carries, tcp80());
}

#[test]
fn later_fragments_tell_no_ports() {
    let first = [header4(17, 0, 0x2000), PORTS.to_vec()].concat();
    assert!(Packet::parse(&first).unwrap().traffic().is_some());
    let later = [header4(17, 0, 0x2001), PORTS.to_vec()].concat();
    let later = Packet::parse(&later).unwrap();
    assert_eq!(
        (later.carries, later.traffic()),
        (Carries::Fragment(17), None)
    );
    let mut later = header6(44);
    later.extend([17, 0, 0, 8, 0, 0, 0, 9]);
    later.extend(PORTS);
    assert_eq!(
        Packet::parse(&later).unwrap().carries,
        Carries::Fragment(17)
    );
}

#[test]
fn messages_of_icmp() {
    // (family's header, type, the type as rules have it, an error?)
    let rows = [
        (header4(1, 0, 0), 8, Some(8), false),
        (header4(1, 0, 0), 3, Some(3), true),
        (header4(1, 0, 0), 13, Some(13), false),
        (header6(58), 128, Some(8), false),
        (header6(58), 129, Some(0), false),
        (header6(58), 1, Some(3), true),
        (header6(58), 2, None, true),
        (header6(58), 135, None, false),
    ];
    for (mut bytes, kind, traffic, error) in rows {
        bytes.extend([kind, 0, 0, 0]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.traffic(), traffic.map(Traffic::Icmp), "{packet:?}");
        assert_eq!(packet.is_error(), error, "{packet:?}");
    }
    // each other's protocol number is just a number
    assert_eq!(
        Packet::parse(&header4(58, 0, 0)).unwrap().carries,
        Carries::Other(58)
    );
    assert_eq!(
        Packet::parse(&header6(1)).unwrap().carries,
        Carries::Other(1)
    );
}

#[test]
fn what_is_no_packet() {
    assert_eq!(Packet::parse(&[]), Err(NotPacket::Short));
    assert_eq!(Packet::parse(&[0x50; 60]), Err(NotPacket::Version(5)));
    assert_eq!(Packet::parse(&[0x44; 60]), Err(NotPacket::Malformed));
    let whole = [header4(6, 8, 0), PORTS[..4].to_vec()].concat();
    for cut in 0..whole.len() {
        assert_eq!(Packet::parse(&whole[..cut]), Err(NotPacket::Short), "{cut}");
    }
    let mut whole = header6(0);
    whole.extend([17, 0, 0, 0, 0, 0, 0, 0]);
    whole.extend(&PORTS[..4]);
    for cut in 0..whole.len() {
        assert_eq!(Packet::parse(&whole[..cut]), Err(NotPacket::Short), "{cut}");
    }
}

proptest! {
    /// Whatever somebody sends, it is read or it is not; and more bytes behind it change nothing.
    #[test]
    fn arbitrary_bytes(version in prop::sample::select(vec![0x45u8, 0x4f, 0x60, 0x00]), mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            let _ = (packet.traffic(), packet.is_error());
            prop_assert_eq!(packet.from.is_ipv4(), packet.to.is_ipv4());
            bytes.push(0);
            prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
        }
    }

    /// Extension headers in any order and number.
    #[test]
    fn arbitrary_extensions(chain in prop::collection::vec((prop::sample::select(vec![0u8, 43, 44, 51, 60, 6, 17, 58, 59]), any::<[u8; 7]>()), 0..14)) {
        let mut bytes = header6(chain.first().map_or(6, |c| c.0));
        for (next, rest) in chain.iter().skip(1) {
            bytes.push(*next);
            bytes.extend(rest);
        }
        let _ = Packet::parse(&bytes);
    }
}
