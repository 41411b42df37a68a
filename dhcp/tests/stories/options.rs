//! Which options a reply carries, and in what order.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::{Destination, Extra, ServerConfig, Silence, When};
use dhcproto::v4::{DhcpOption, OptionCode};

use crate::world::*;

/// Everything a zone can be told.
fn full() -> ServerConfig {
    ServerConfig {
        dns: vec![SERVER, [192, 0, 2, 53].into()],
        domain: Some("dmz.example".into()),
        search: vec!["dmz.example".into(), "example".into()],
        routes: vec![("192.0.2.0/25".parse().unwrap(), ip(9))],
        mtu: 1400,
        ipv6_only: Some(Duration::from_secs(1800)),
        ..config()
    }
}

/// What comes before all else in an OFFER: type, server, times.
const TIMES: [u8; 5] = [53, 54, 51, 58, 59];

fn after_times(order: Vec<u8>) -> Vec<u8> {
    assert_eq!(order[..5], TIMES);
    order[5..].to_vec()
}

#[test]
fn who_asks_for_nothing_gets_what_is_usual() {
    let mut world = World::with_web_and_db(full());
    let offer = world.told(&discover(1));
    assert_eq!(after_times(offer.order()), [1, 12, 3, 6, 15, 26, 28]);
    let expected = [
        DhcpOption::SubnetMask([255, 255, 255, 0].into()),
        DhcpOption::Router(vec![SERVER]),
        DhcpOption::DomainNameServer(vec![SERVER, [192, 0, 2, 53].into()]),
        DhcpOption::Hostname("web".into()),
        DhcpOption::DomainName("dmz.example".into()),
        DhcpOption::InterfaceMtu(1400),
        DhcpOption::BroadcastAddr(ip(255)),
    ];
    for option in expected {
        let code = OptionCode::from(&option);
        assert_eq!(offer.option(code), Some(&option));
    }
}

// RFC 2132 §9.8: in the order of the client's preference; §3.3: but the mask before the router
#[test]
fn who_asks_gets_that_in_the_order_asked() {
    let mut world = World::with_web_and_db(full());
    let mut order = |codes: &[u8]| after_times(world.told(&discover(1).asks_for(codes)).order());
    assert_eq!(order(&[6, 3, 15, 1, 12]), [1, 6, 3, 15, 12]);
    assert_eq!(order(&[28, 26]), [1, 28, 26]);
    // what is asked twice, or is not configured, or is the protocol's own
    assert_eq!(order(&[6, 6, 42, 43, 6]), [1, 6]);
    assert_eq!(order(&[53, 54, 51, 58, 59, 61, 82, 0, 255]), [1]);
    // a real list: busybox udhcpc's
    assert_eq!(order(&[1, 3, 6, 12, 15, 28, 42]), [1, 3, 6, 12, 15, 28]);
}

// RFC 3442: who asks for classless routes ignores the router option, which is then not sent; the
// default route comes with them.
#[test]
fn classless_routes_replace_the_router() {
    let mut world = World::with_web_and_db(full());
    let offer = world.told(&discover(1).asks_for(&[1, 3, 121, 33]));
    assert_eq!(after_times(offer.order()), [1, 121]);
    let at = offer.bytes.windows(2).position(|w| w == [121, 14]).unwrap();
    let mut expected = vec![25, 192, 0, 2, 0];
    expected.extend(ip(9).octets());
    expected.push(0);
    expected.extend(SERVER.octets());
    assert_eq!(offer.bytes[at + 2..][..14], expected);

    // a default route of the configuration's own is left as it is
    let default = ("0.0.0.0/0".parse().unwrap(), ip(9));
    world
        .dhcp
        .reconfigure(ServerConfig {
            routes: vec![default],
            ..full()
        })
        .unwrap();
    let offer = world.told(&discover(1).asks_for(&[121]));
    let routes = DhcpOption::ClasslessStaticRoute(vec![default]);
    assert_eq!(
        offer.option(OptionCode::ClasslessStaticRoute),
        Some(&routes)
    );

    // and without any the router option stays
    world.dhcp.reconfigure(config()).unwrap();
    let offer = world.told(&discover(1).asks_for(&[121, 3]));
    assert_eq!(after_times(offer.order()), [1, 3]);
}

// RFC 3397 (domain search) and RFC 8925 (IPv6-only preferred) go to who asks
#[test]
fn search_list_and_ipv6_only() {
    let mut world = World::with_web_and_db(full());
    let offer = world.told(&discover(1).asks_for(&[119, 108]));
    assert_eq!(after_times(offer.order()), [1, 119, 108]);
    let Some(DhcpOption::DomainSearch(names)) = offer.option(OptionCode::DomainSearch) else {
        panic!("{offer:?}")
    };
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["dmz.example.", "example."]);
    // RFC 8925 §3.1: code 108, four bytes
    assert!(offer.bytes.windows(6).any(|w| w == [108, 4, 0, 0, 7, 8]));
    // §3.4: never below 300 s
    world
        .dhcp
        .reconfigure(ServerConfig {
            ipv6_only: Some(Duration::from_secs(1)),
            ..full()
        })
        .unwrap();
    let offer = world.told(&discover(1).asks_for(&[108]));
    assert!(offer.bytes.windows(6).any(|w| w == [108, 4, 0, 0, 1, 44]));
}

#[test]
fn options_can_be_added_and_replaced_as_data() {
    let extra = |code, value: &[u8], when| Extra {
        code,
        value: value.to_vec(),
        when,
    };
    let mut world = World::with_web_and_db(ServerConfig {
        extra: vec![
            extra(42, &[192, 0, 2, 123], When::Default), // NTP, RFC 2132 §8.3
            extra(114, b"https://portal.example/", When::Requested), // RFC 8910
            extra(224, b"x", When::Always),
            extra(106, b"old", When::Always),
            extra(6, &[192, 0, 2, 53], When::Default),
        ],
        ..full()
    });
    let offer = world.told(&discover(1));
    assert_eq!(
        after_times(offer.order()),
        [1, 12, 3, 6, 15, 26, 28, 42, 106, 224]
    );
    let dns = DhcpOption::DomainNameServer(vec![[192, 0, 2, 53].into()]);
    assert_eq!(offer.option(OptionCode::DomainNameServer), Some(&dns));
    let offer = world.told(&discover(1).asks_for(&[114]));
    assert_eq!(after_times(offer.order()), [1, 114, 106, 224]);
}

// RFC 2132 §9.10, RFC 2131 §2: 576-byte datagrams unless the client takes more
#[test]
fn replies_fit_what_the_client_can_receive() {
    let blob = |code| Extra {
        code,
        value: vec![code; 200],
        when: When::Default,
    };
    let mut world = World::with_web_and_db(ServerConfig {
        extra: vec![blob(224), blob(225), blob(226)],
        ..full()
    });
    let mut told = |size: Option<u16>, codes: &[u8]| {
        let mut said = discover(1).asks_for(codes);
        if let Some(size) = size {
            said = said.with(DhcpOption::MaxMessageSize(size));
        }
        let offer = world.told(&said);
        (after_times(offer.order()), offer.bytes.len() + 28)
    };
    for size in [None, Some(0), Some(576)] {
        // the first has the best chance, and what is small still finds room
        let (order, len) = told(size, &[226, 225, 224, 3]);
        assert_eq!(order, [1, 226, 3]);
        assert!(len <= 576);
    }
    assert_eq!(
        told(Some(1000), &[226, 225, 224, 3]).0,
        [1, 226, 225, 224, 3]
    );
    // past the MTU a reply would come in fragments
    let (order, len) = told(Some(65535), &[224, 225, 226]);
    assert_eq!(order, [1, 224, 225, 226]);
    assert!(len <= 1400);
}

// RFC 3396: a value over 255 bytes goes in parts
#[test]
fn a_long_option_is_split() {
    let value: Vec<u8> = (0..=255).chain(0..=99).collect();
    let mut world = World::with_web_and_db(ServerConfig {
        extra: vec![Extra {
            code: 224,
            value: value.clone(),
            when: When::Requested,
        }],
        ..config()
    });
    let said = discover(1)
        .asks_for(&[224])
        .with(DhcpOption::MaxMessageSize(1500));
    let offer = world.told(&said);
    assert_eq!(after_times(offer.order()), [1, 224, 224]);
    let Some(DhcpOption::Unknown(option)) = offer.option(224.into()) else {
        panic!("{offer:?}")
    };
    assert_eq!(option.data(), value);
}

// RFC 3046 and RFC 6842 both say MUST, and the client's limit too
/// RFC 2131 §4.1, RFC 2132 §9.10: the room that the client has.
#[test]
fn what_cannot_be_said_in_the_room_there_is_is_not_said() {
    let mut world = World::with_web_and_db(config());
    let mut info = dhcproto::v4::relay::RelayAgentInformation::default();
    info.insert(dhcproto::v4::relay::RelayInfo::AgentCircuitId(vec![1; 250]));
    let said = discover(1)
        .client_id(&[9; 255])
        .with(DhcpOption::RelayAgentInformation(info));
    assert_eq!(world.silence(&said), Silence::ReplyTooLarge);
    let said = said.with(DhcpOption::MaxMessageSize(1000));
    assert!(world.told(&said).bytes.len() <= 1000 - 28);
}

/// RFC 2131 §4.1: to whom a reply goes, at both layers.
#[test]
fn frames_carry_the_reply() {
    let mut world = World::with_web_and_db(config());
    let dhcp::Outcome::Send(reply) = world.outcome(&discover(1)) else {
        panic!()
    };
    let gateway = [2, 0, 0, 0, 0xff, 1];
    let frame = reply.frame(gateway).unwrap().unwrap();
    assert_eq!(frame[..6], mac(1));
    assert_eq!(frame[6..12], gateway);
    assert_eq!(frame[26..30], SERVER.octets());
    assert_eq!(frame[30..34], ip(2).octets());
    assert_eq!(frame[34..38], [0, 67, 0, 68]);
    assert_eq!(frame[42..], reply.bytes);

    let dhcp::Outcome::Send(reply) = world.outcome(&discover(1).broadcast()) else {
        panic!()
    };
    let frame = reply.frame(gateway).unwrap().unwrap();
    assert_eq!(frame[..6], mac(1), "one machine, not everybody");
    assert_eq!(frame[30..34], Ipv4Addr::BROADCAST.octets());
}

/// RFC 8925 §3.3, in a zone without IPv4: who asks for option 108 is offered no address and told how long to do without;
/// everybody else hears nothing, and nothing is kept of anybody.
#[test]
fn a_zone_without_ipv4_says_so_to_who_asks() {
    let config = ServerConfig::without_ipv4("dmz", Duration::from_secs(1800));
    let mut world = World::new(config);
    let offer = world.told(&discover(1).asks_for(&[1, 3, 6, 108]));
    assert_eq!(offer.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(after_times(offer.order()), [108]);
    assert!(offer.bytes.windows(6).any(|w| w == [108, 4, 0, 0, 7, 8]));
    assert_eq!(offer.to, Destination::Broadcast { mac: mac(1) });
    assert_eq!(
        world.silence(&discover(1).asks_for(&[1, 3, 6])),
        Silence::NoIpv4
    );
    assert_eq!(world.dhcp.leases().count(), 0);
    for _ in 0..18 {
        world.told(&discover(1).asks_for(&[108]));
    }
    let silence = world.silence(&discover(1).asks_for(&[108]));
    assert_eq!(silence, Silence::RateLimited(mac(1)));
}
