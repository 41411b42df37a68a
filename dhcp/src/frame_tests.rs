#![allow(clippy::unwrap_used)]

use super::*;

const SERVER: Endpoint = Endpoint {
    mac: [2, 0, 0, 0, 0xff, 1],
    ip: Ipv4Addr::new(10, 89, 0, 1),
    port: 67,
};
const CLIENT: Endpoint = Endpoint {
    mac: [2, 0, 0, 0, 0, 1],
    ip: Ipv4Addr::new(10, 89, 0, 2),
    port: 68,
};

fn hex(text: &str) -> Vec<u8> {
    let byte = |digits| u8::from_str_radix(digits, 16).unwrap();
    text.split_whitespace().map(byte).collect()
}

// Written by another program, and read by tcpdump as "udp sum ok".
#[test]
fn frames_as_others_make_them() {
    let odd = hex("02 00 00 00 00 01 02 00 00 00 ff 01 08 00
         45 00 00 21 00 00 40 00 40 11 26 18 0a 59 00 01 0a 59 00 02
         00 43 00 44 00 0d a6 c6 68 65 6c 6c 6f");
    assert_eq!(udp_frame(SERVER, CLIENT, b"hello"), Ok(odd));

    let broadcast = Endpoint {
        ip: Ipv4Addr::BROADCAST,
        ..CLIENT
    };
    let empty = hex("02 00 00 00 00 01 02 00 00 00 ff 01 08 00
         45 00 00 1c 00 00 40 00 40 11 30 78 0a 59 00 01 ff ff ff ff
         00 43 00 44 00 08 f4 fd");
    assert_eq!(udp_frame(SERVER, broadcast, b""), Ok(empty));
}

// RFC 768: a sum of zero is sent as all ones, since zero says that there is none
#[test]
fn a_checksum_of_zero() {
    let frame = udp_frame(SERVER, CLIENT, &[0xea, 0x9e]).unwrap();
    assert_eq!(frame[40..42], [0xff, 0xff]);
}

// RFC 1071 §3: the example
#[test]
fn the_internet_checksum() {
    let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum([&data[..]]), !0xddf2);
}

#[test]
fn the_longest_payload() {
    assert!(udp_frame(SERVER, CLIENT, &[0; 65_507]).is_ok());
    let error = udp_frame(SERVER, CLIENT, &[0; 65_508]).unwrap_err();
    assert_eq!(error, Error::LongPayload(65_508));
}
