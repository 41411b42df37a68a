//! RFC 2131 table 3: which fields and options each reply has. A row of the table is a row here.

use std::net::Ipv4Addr;

use dhcp::{Extra, ServerConfig, When};
use dhcproto::v4::DhcpOption;

use crate::world::*;

const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// One reply of each kind to machine 1, which asks for everything there is.
fn replies() -> [(&'static str, Told); 4] {
    let everything: Vec<u8> = (1..=254).collect();
    let mut world = World::with_web_and_db(ServerConfig {
        dns: vec![ip(53)],
        domain: Some("dmz.internal".into()),
        extra: vec![Extra {
            code: 60,
            value: b"vendor".to_vec(),
            when: When::Default,
        }],
        ..config()
    });
    let ask = |said: Said| {
        said.asks_for(&everything)
            .with(DhcpOption::MaxMessageSize(1400))
            .client_id(b"me")
    };
    let offer = world.told(&ask(discover(1).requested(ip(2))));
    let (_, ack) = world.granted(&ask(selecting(1, ip(2))));
    let inform = world.told(&ask(inform(1, ip(2))));
    let nak = world.told(&ask(init_reboot(1, ip(9))));
    [
        ("OFFER", offer),
        ("ACK", ack),
        ("ACK to INFORM", inform),
        ("NAK", nak),
    ]
}

#[test]
fn fields() {
    for (kind, told) in replies() {
        let m = &told.message;
        let bytes = &told.bytes;
        assert_eq!(bytes[0], 2, "op of {kind}: BOOTREPLY");
        assert_eq!(bytes[1..3], [1, 6], "htype and hlen of {kind}");
        assert_eq!(bytes[3], 0, "hops of {kind}");
        assert_eq!(m.xid(), 0xabcd_0001, "xid of {kind}: the client's");
        assert_eq!(m.secs(), 0, "secs of {kind}");
        assert_eq!(m.giaddr(), NONE, "giaddr of {kind}: the client's message's");
        assert_eq!(m.chaddr(), mac(1), "chaddr of {kind}: the client's");
        assert_eq!(
            m.siaddr(),
            NONE,
            "siaddr of {kind}: there is no next server"
        );
        assert!(
            bytes[44..236].iter().all(|b| *b == 0),
            "sname and file of {kind}"
        );
        let (ciaddr, yiaddr) = match kind {
            "OFFER" | "ACK" => (NONE, ip(2)),
            // §4.3.5: no address of ours, "should not fill in yiaddr"
            "ACK to INFORM" => (ip(2), NONE),
            _ => (NONE, NONE),
        };
        assert_eq!((m.ciaddr(), m.yiaddr()), (ciaddr, yiaddr), "{kind}");
    }
}

#[test]
fn options() {
    // MUST, MAY and MUST NOT of table 3, with RFC 6842 for the client identifier: option, OFFER, ACK,
    // ACK to INFORM, NAK
    let rows: &[(u8, &str, [bool; 4])] = &[
        (50, "requested IP address", [false, false, false, false]),
        (51, "IP address lease time", [true, true, false, false]),
        (52, "overload", [false, false, false, false]),
        (53, "DHCP message type", [true, true, true, true]),
        (55, "parameter request list", [false, false, false, false]),
        (56, "message", [false, false, false, true]),
        (61, "client identifier", [true, true, true, true]),
        (60, "vendor class identifier", [true, true, true, false]),
        (54, "server identifier", [true, true, true, true]),
        (57, "maximum message size", [false, false, false, false]),
        (58, "T1", [true, true, false, false]),
        (59, "T2", [true, true, false, false]),
        (1, "all others: subnet mask", [true, true, true, false]),
        (3, "all others: router", [true, true, true, false]),
        (6, "all others: name servers", [true, true, true, false]),
        (15, "all others: domain", [true, true, true, false]),
    ];
    let replies = replies();
    for (code, name, expected) in rows {
        for ((kind, told), expected) in replies.iter().zip(expected) {
            let there = told.order().contains(code);
            assert_eq!(
                there,
                *expected,
                "{name} ({code}) in {kind}: {:?}",
                told.order()
            );
        }
    }
    for (kind, told) in &replies {
        assert_eq!(told.order()[0], 53, "the message type leads in {kind}");
        let mut codes = told.order();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(
            codes.len(),
            told.order().len(),
            "each option once in {kind}"
        );
    }
}

// §4.4.5, and RFC 2132 §9.11 and §9.12: T1 half of the lease, T2 seven eighths; both before its end
#[test]
fn times() {
    for lease in [10u32, 11, 60, 120, 3600, 86400] {
        let mut world = World::with_web_and_db(ServerConfig {
            lease: std::time::Duration::from_secs(lease.into()),
            ..config()
        });
        let offer = world.told(&discover(1));
        let time = |code: u8| match offer.option(code.into()) {
            Some(
                DhcpOption::AddressLeaseTime(t) | DhcpOption::Renewal(t) | DhcpOption::Rebinding(t),
            ) => *t,
            other => panic!("{code}: {other:?}"),
        };
        assert_eq!(time(51), lease);
        assert_eq!(time(58), lease / 2);
        assert_eq!(time(59), lease - lease / 8);
        assert!(time(58) < time(59) && time(59) < lease);
    }
}

// §4.3.1: "the server MUST NOT" offer other parameters in the ACK than in the OFFER, if nothing changed
#[test]
fn the_ack_says_what_the_offer_said() {
    let [(_, offer), (_, ack), ..] = replies();
    let mut said = offer.bytes.clone();
    let kind = said[240..]
        .windows(3)
        .position(|w| w == [53, 1, 2])
        .unwrap();
    said[240 + kind + 2] = 5;
    assert_eq!(said, ack.bytes);
}
