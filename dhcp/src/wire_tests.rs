#![allow(clippy::unwrap_used)]

use dhcproto::v4 as proto;
use dhcproto::{Decodable, Encodable};
use proptest::prelude::*;

use super::*;

const MAC: Mac = [2, 0, 0, 0, 0, 1];

fn header() -> Header {
    Header {
        op: 1,
        xid: 0x0102_0304,
        secs: 3,
        flags: BROADCAST,
        ciaddr: Ipv4Addr::new(10, 0, 0, 1),
        yiaddr: Ipv4Addr::new(10, 0, 0, 2),
        giaddr: Ipv4Addr::new(10, 0, 0, 4),
        chaddr: MAC,
    }
}

/// A message of `header()` with these raw options.
fn with_options(options: &[u8]) -> Vec<u8> {
    let mut bytes = header().emit().to_vec();
    bytes.extend_from_slice(options);
    bytes
}

#[test]
fn dhcproto_reads_the_header_as_it_was_meant() {
    let bytes = with_options(&[53, 1, 1, 255]);
    let message = proto::Message::from_bytes(&bytes).unwrap();
    assert_eq!(message.opcode(), proto::Opcode::BootRequest);
    assert_eq!(message.xid(), 0x0102_0304);
    assert_eq!(message.secs(), 3);
    assert!(message.flags().broadcast());
    assert_eq!(message.ciaddr(), Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(message.yiaddr(), Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!(message.siaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(message.giaddr(), Ipv4Addr::new(10, 0, 0, 4));
    assert_eq!(message.chaddr(), MAC);
    assert_eq!((message.sname(), message.fname()), (None, None));
    assert_eq!(message.to_vec().unwrap(), bytes);
}

#[test]
fn headers_that_are_not_one_ethernet_machine_asking() {
    let change = |at: usize, value: u8| {
        let mut bytes = header().emit();
        bytes[at] = value;
        Header::parse(&bytes)
    };
    assert_eq!(change(3, 1), Ok(header())); // hops are not ours to judge
    assert_eq!(change(0, 2), Err(Silence::NotARequest { op: 2 }));
    let wrong = |htype, hlen| Err(Silence::NotEthernet { htype, hlen });
    assert_eq!(change(1, 32), wrong(32, 6));
    assert_eq!(change(2, 255), wrong(1, 255)); // dhcproto's chaddr() would panic
    assert_eq!(change(2, 0), wrong(1, 0));
    assert_eq!(change(239, 0), Err(Silence::NoCookie));
    let group = [3, 0, 0, 0, 0, 1];
    assert_eq!(change(28, 3), Err(Silence::NotOneMachine(group)));
    let short = &header().emit()[..239];
    assert_eq!(Header::parse(short), Err(Silence::Truncated { len: 239 }));
}

// RFC 3396 §5: all parts of an option are joined, wherever they are.
#[test]
fn parts_of_a_long_option_are_joined() {
    let bytes = with_options(&[61, 2, 0, 1, 53, 1, 1, 61, 1, 2, 61, 1, 3, 255]);
    let options = Options::parse(&bytes).unwrap();
    assert_eq!(
        options.client_id.unwrap().as_slice(),
        Some(&[0, 1, 2, 3][..])
    );
    assert_eq!(options.message_type, Some(1));
}

// RFC 2131 §4.1, RFC 2132 §9.3: options may go on in `file` and then in `sname`.
#[test]
fn overloaded_fields_are_read() {
    let mut bytes = with_options(&[53, 1, 3, 52, 1, 3, 61, 1, 7, 255]);
    bytes[FILE.start..][..7].copy_from_slice(&[61, 1, 8, 54, 4, 10, 0]);
    bytes[FILE.start + 7..][..3].copy_from_slice(&[0, 1, 255]);
    bytes[SNAME.start..][..10].copy_from_slice(&[50, 4, 10, 0, 0, 9, 61, 1, 9, 255]);
    let options = Options::parse(&bytes).unwrap();
    assert_eq!(options.server, Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(options.requested, Some(Ipv4Addr::new(10, 0, 0, 9)));
    assert_eq!(options.client_id.unwrap().as_slice(), Some(&[7, 8, 9][..]));

    // without option 52 they are a name and a file, whatever they look like
    bytes[FIXED + 5] = 0;
    assert_eq!(Options::parse(&bytes).unwrap().server, None);
}

#[test]
fn lengths_are_checked_where_they_matter() {
    for (option, raw) in [
        (53, &[53, 0, 255][..]),
        (53, &[53, 2, 1, 1, 255]),
        (50, &[50, 3, 1, 2, 3, 255]),
        (51, &[51, 1, 0, 255]),
        (54, &[54, 5, 1, 2, 3, 4, 5, 255]),
        (57, &[57, 4, 0, 0, 2, 64, 255]),
        (52, &[52, 0, 255]),
    ] {
        let found = Options::parse(&with_options(raw));
        assert_eq!(found, Err(Silence::BadOption { option }), "{raw:?}");
    }
    // a client identifier of 300 bytes is legal RFC 3396, and of no use to anybody
    let mut long = Vec::new();
    push_option(&mut long, code::CLIENT_ID, &[9; 300]);
    let found = Options::parse(&with_options(&long));
    assert_eq!(found, Err(Silence::BadOption { option: 61 }));
}

// dhcproto's owned decoder gives up here and loses the requested address.
#[test]
fn a_host_name_in_latin_1_hides_nothing() {
    let bytes = with_options(&[12, 3, b'k', 0xf6, b'n', 50, 4, 10, 0, 0, 9, 53, 1, 1, 255]);
    let options = Options::parse(&bytes).unwrap();
    assert_eq!(options.requested, Some(Ipv4Addr::new(10, 0, 0, 9)));
    assert_eq!(options.message_type, Some(1));
}

#[test]
fn link_selection_is_found_inside_relay_information() {
    let link = |info: &[u8]| {
        let mut raw = Vec::new();
        push_option(&mut raw, code::RELAY_INFO, info);
        Options::parse(&with_options(&raw)).unwrap().link
    };
    let nine = Some(Ipv4Addr::new(10, 0, 0, 9));
    assert_eq!(link(&[1, 2, 7, 7, 5, 4, 10, 0, 0, 9]), nine);
    assert_eq!(link(&[1, 2, 7, 7]), None);
    assert_eq!(link(&[1, 200, 5, 4, 10, 0, 0, 9]), None);
    assert_eq!(link(&[5, 3, 10, 0, 0]), None);
}

prop_compose! {
    fn any_header()(xid: u32, secs: u16, flags: u16, addresses: [[u8; 4]; 3], mut chaddr: [u8; 6])
        -> Header {
        chaddr[0] = chaddr[0] & 0xfe | 2;
        let [ciaddr, yiaddr, giaddr] = addresses.map(Ipv4Addr::from);
        Header { op: 1, xid, secs, flags, ciaddr, yiaddr, giaddr, chaddr }
    }
}

fn any_octets() -> impl Strategy<Value = Option<Octets<255>>> {
    let bytes = proptest::collection::vec(any::<u8>(), 1..=255);
    proptest::option::of(bytes.prop_map(|bytes| Octets::try_from(&bytes[..]).unwrap()))
}

prop_compose! {
    fn any_options()(
        message_type: Option<u8>,
        requested in proptest::option::of(1u32..),
        lease_time: Option<u32>,
        server: Option<[u8; 4]>,
        max_size: Option<u16>,
        rapid_commit: bool,
        parameters in any_octets(),
        client_id in any_octets(),
        host_name in any_octets(),
        fqdn in any_octets(),
        relay_info in any_octets(),
    ) -> Options {
        let link = relay_info.as_ref().and_then(link_selection);
        Options {
            message_type,
            requested: requested.map(Ipv4Addr::from),
            lease_time,
            server: server.map(Ipv4Addr::from),
            parameters, max_size, client_id, host_name, rapid_commit, fqdn, relay_info, link,
        }
    }
}

proptest! {
    #[test]
    fn parse_is_the_inverse_of_emit(header in any_header(), options in any_options()) {
        let mut bytes = header.emit().to_vec();
        bytes.extend(options.emit());
        prop_assert_eq!(Header::parse(&bytes), Ok(header));
        prop_assert_eq!(Options::parse(&bytes), Ok(options));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Header::parse(&bytes);
        let _ = Options::parse(&bytes);
    }
}
