//! Relay agents (RFC 1542, RFC 3046, RFC 3527).

use std::net::Ipv4Addr;

use dhcp::{Destination, ServerConfig, Silence};
use dhcproto::v4::relay::{RelayAgentInformation, RelayInfo};
use dhcproto::v4::{DhcpOption, MessageType, OptionCode};

use crate::world::*;

const AGENT: Ipv4Addr = ip(200);

fn world() -> World {
    World::with_web_and_db(ServerConfig {
        relays: vec![
            "10.89.0.200/32".parse().unwrap(),
            "198.51.100.0/28".parse().unwrap(),
        ],
        ..config_with_pool(100, 199)
    })
}

/// By routing: it is not attached.
fn to(ip: Ipv4Addr) -> Destination {
    Destination::Relay { ip, mac: None }
}

fn information() -> RelayAgentInformation {
    let mut info = RelayAgentInformation::default();
    info.insert(RelayInfo::AgentCircuitId(vec![1, 2, 3]));
    info.insert(RelayInfo::AgentRemoteId(vec![9]));
    info
}

#[test]
fn an_exchange_through_an_agent() {
    let mut world = world();
    let info = DhcpOption::RelayAgentInformation(information());

    let offer = world.told(&discover(8).through(AGENT).with(info.clone()));
    // §4.1: to the agent, which is told in giaddr for whom it is
    assert_eq!(offer.to, to(AGENT));
    assert_eq!(offer.to.udp(), (AGENT, 67));
    assert_eq!(offer.message.giaddr(), AGENT);
    assert_eq!(offer.message.chaddr(), mac(8));
    // RFC 3046 §2.2: back as it came, and last
    assert_eq!(offer.option(OptionCode::RelayAgentInformation), Some(&info));
    assert_eq!(offer.order().last(), Some(&82));

    let chosen = selecting(8, offer.yiaddr())
        .through(AGENT)
        .with(info.clone());
    let (lease, ack) = world.granted(&chosen);
    assert_eq!(lease.address, ip(100));
    assert_eq!(ack.to, to(AGENT));
    assert_eq!(ack.option(OptionCode::RelayAgentInformation), Some(&info));

    // §4.3.2: the broadcast bit is set so that the agent broadcasts the NAK
    let nak = world.told(&init_reboot(8, ip(150)).through(AGENT).with(info.clone()));
    assert_eq!(nak.kind(), MessageType::Nak);
    assert_eq!(nak.to, to(AGENT));
    assert!(nak.message.flags().broadcast());
    assert_eq!(nak.option(OptionCode::RelayAgentInformation), Some(&info));
    assert_eq!(nak.order(), [53, 54, 56, 82]);
}

#[test]
fn agents_that_are_not_configured_are_not_heard() {
    let mut world = world();
    let (source, giaddr) = (ip(77), ip(77));
    let unknown = Silence::UnknownRelay { source, giaddr };
    assert_eq!(world.silence(&discover(8).through(giaddr)), unknown);

    // neither with a stolen giaddr …
    let (source, giaddr) = (ip(77), AGENT);
    let unknown = Silence::UnknownRelay { source, giaddr };
    let said = discover(8).through(AGENT).source(source);
    assert_eq!(world.silence(&said), unknown);

    // … nor to have our answer sent to a third party
    let (source, giaddr) = (AGENT, [203, 0, 113, 1].into());
    let unknown = Silence::UnknownRelay { source, giaddr };
    let said = discover(8).through(giaddr).source(AGENT);
    assert_eq!(world.silence(&said), unknown);
}

// Attached machines are on the zone's own link. Whoever says that one is behind him lies.
#[test]
fn no_agent_speaks_for_an_attached_machine() {
    let mut world = world();
    world.gets_address(1);
    let before = world.leases();
    for said in [
        discover(1),
        selecting(1, ip(2)),
        renewing(1, ip(2)),
        rebinding(1, ip(2)),
        init_reboot(1, ip(150)),
        decline(1, ip(2)),
        release(1, ip(2)),
        inform(1, ip(2)),
    ] {
        let silence = world.silence(&said.through(AGENT));
        assert_eq!(silence, Silence::AttachedBehindRelay(mac(1)));
    }
    assert_eq!(world.leases(), before);
}

// An agent outside the subnet says by link selection which subnet it asks for.
#[test]
fn the_subnet_is_the_agents_or_the_one_it_selects() {
    let mut world = world();
    let outside: Ipv4Addr = [198, 51, 100, 1].into();
    let said = discover(8).through(outside).zone(None);
    assert_eq!(world.silence(&said), Silence::OtherSubnet(outside));

    let link = |address| {
        let mut info = RelayAgentInformation::default();
        info.insert(RelayInfo::LinkSelection(address));
        DhcpOption::RelayAgentInformation(info)
    };
    let offer = world.told(&said.clone().with(link(ip(0))));
    assert_eq!(offer.yiaddr(), ip(100));
    assert_eq!(offer.to, to(outside));
    let elsewhere = [192, 0, 2, 0].into();
    let silence = world.silence(&said.with(link(elsewhere)));
    assert_eq!(silence, Silence::OtherSubnet(elsewhere));
}

#[test]
fn an_agent_in_another_zone_is_not_heard() {
    let said = discover(8).through(AGENT).zone(Some("lan"));
    assert_eq!(world().silence(&said), Silence::OtherZone);
}

#[test]
fn an_agent_has_a_limit_of_its_own() {
    let mut world = World::new(ServerConfig {
        relays: vec!["10.89.0.200/31".parse().unwrap()],
        relay_limit: dhcp::Limit {
            per_second: 1,
            burst: 3,
        },
        ..config_with_pool(100, 199)
    });
    for n in 1..=3 {
        world.told(&discover(n).through(AGENT));
    }
    let fourth = discover(4).through(AGENT);
    assert_eq!(world.silence(&fourth), Silence::RateLimited(mac(4)));
    world.told(&discover(4).through(ip(201)));
}

// RFC 3046 §2.2 also for what an agent on the link adds without setting giaddr
#[test]
fn relay_information_without_giaddr_is_echoed() {
    let info = DhcpOption::RelayAgentInformation(information());
    let offer = world().told(&discover(1).with(info.clone()));
    assert_eq!(offer.option(OptionCode::RelayAgentInformation), Some(&info));
    assert_eq!(offer.yiaddr(), ip(2));
}

// an agent that is an attached machine is reached without routing, since it is known where it is
#[test]
fn an_attached_agent_is_framed() {
    let mut world = world();
    world
        .dhcp
        .bind(mac(3), AGENT, Some("agent".into()))
        .unwrap();
    let offer = world.told(&discover(8).through(AGENT));
    let mac = Some(mac(3));
    assert_eq!(offer.to, Destination::Relay { ip: AGENT, mac });
    assert_eq!(offer.to.udp(), (AGENT, 67));
    assert_eq!(offer.to.mac(), mac);
}
