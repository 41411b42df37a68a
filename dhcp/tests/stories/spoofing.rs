//! What a machine on the link can try with the name of another. (That `chaddr` is the port's own is
//! the L2 guard's work; where frames are seen, `hardware` checks it again.)

use dhcp::{ServerConfig, Silence};
use dhcproto::v4::MessageType;

use crate::world::*;

fn world() -> World {
    let mut world = World::with_web_and_db(config_with_pool(100, 199));
    world.gets_address(1);
    world.gets_address(2);
    world
}

#[test]
fn a_frame_from_another_machine_is_not_believed() {
    let mut world = world();
    let before = world.leases();
    for said in [
        release(2, ip(3)),
        decline(2, ip(3)),
        renewing(2, ip(3)),
        discover(2),
    ] {
        let silence = world.silence(&said.hardware(mac(1)));
        assert_eq!(silence, Silence::ForeignHardware(mac(1)));
    }
    assert_eq!(world.leases(), before);
    // positive control: the machine itself
    world.recorded(&release(2, ip(3)).hardware(mac(2)));
}

#[test]
fn a_datagram_from_another_address_is_not_believed() {
    let mut world = world();
    let before = world.leases();
    for said in [release(2, ip(3)), renewing(2, ip(3)), discover(2)] {
        let silence = world.silence(&said.source(ip(2)));
        assert_eq!(silence, Silence::ForeignSource(ip(2)));
    }
    assert_eq!(world.leases(), before);
}

#[test]
fn another_zone_or_the_world_is_not_heard() {
    let mut world = world();
    let before = world.leases();
    for zone in [None, Some("lan"), Some("")] {
        let silence = world.silence(&release(2, ip(3)).zone(zone));
        assert_eq!(silence, Silence::OtherZone);
    }
    assert_eq!(world.leases(), before);
}

#[test]
fn another_machines_address_cannot_be_given_back_or_declined() {
    let mut world = world();
    let before = world.leases();
    let not_yours = Silence::NotYours(ip(3));
    assert_eq!(world.silence(&release(1, ip(3)).source(ip(2))), not_yours);
    assert_eq!(world.silence(&decline(1, ip(3))), not_yours);
    // and a guest's
    let guest = world.gets_address(8);
    let before_guest = world.leases();
    let not_yours = Silence::NotYours(guest);
    assert_eq!(world.silence(&release(1, guest).source(ip(2))), not_yours);
    assert_eq!(world.silence(&decline(9, guest)), Silence::NoRecord);
    assert_eq!(world.leases(), before_guest);
    assert_eq!(before_guest.len(), before.len() + 1);
}

// By the letter of RFC 2131 §4.2 the identifier is the client. Here it is only together with the
// hardware address, or whoever knows it would be the client.
#[test]
fn another_machines_client_identifier_is_of_no_use() {
    let mut world = world();
    let id = b"\0the guest's";
    let (lease, _) = world.granted(&selecting(8, ip(150)).client_id(id));
    let before = world.leases();

    assert_ne!(world.told(&discover(9).client_id(id)).yiaddr(), ip(150));
    let nak = world.told(&selecting(9, ip(150)).client_id(id));
    assert_eq!(nak.kind(), MessageType::Nak);
    let silence = world.silence(&decline(9, ip(150)).client_id(id));
    assert_eq!(silence, Silence::NoRecord);
    // an attached machine that claims it is still itself
    assert_eq!(world.told(&discover(1).client_id(id)).yiaddr(), ip(2));
    let silence = world.silence(&release(1, ip(150)).client_id(id).source(ip(2)));
    assert_eq!(silence, Silence::NotYours(ip(150)));

    assert_eq!(world.dhcp.lease(ip(150)), Some(&lease));
    assert!(before.iter().all(|lease| world.leases().contains(lease)));
}

// The answer to an INFORM goes to ciaddr: nobody is to be answered at another's address.
/// RFC 2131 §4.3.5 answers to ciaddr, so that must be the asker's.
#[test]
fn inform_in_the_name_of_another_address_is_not_answered() {
    let mut world = world();
    let guest = world.gets_address(8);
    for address in [ip(3), guest] {
        let silence = world.silence(&inform(1, address).source(ip(2)));
        assert_eq!(silence, Silence::NotYours(address));
        assert_eq!(
            world.silence(&inform(9, address)),
            Silence::NotYours(address)
        );
    }
    assert_eq!(world.silence(&inform(9, SERVER)), Silence::NotYours(SERVER));
    let outside = [192, 0, 2, 1].into();
    assert_eq!(
        world.silence(&inform(9, outside)),
        Silence::OtherSubnet(outside)
    );
    // positive control: an address that is nobody's
    assert_eq!(world.told(&inform(9, ip(99))).kind(), MessageType::Ack);
}

// A frame to every port would tell every container of the lease.
#[test]
fn no_reply_is_framed_for_everybody() {
    let mut world = world();
    let offer = discover(1).broadcast();
    let nak = init_reboot(1, ip(3));
    for said in [offer, nak] {
        let told = world.told(&said);
        assert_eq!(told.to.udp().0, std::net::Ipv4Addr::BROADCAST);
        assert_eq!(told.to.mac(), Some(mac(1)));
    }
}

// Only who is configured as a relay agent can make use of giaddr, so a container that sets it is
// not heard at all, in its own name or in another's.
#[test]
fn a_container_is_no_relay_agent() {
    let mut world = World::with_web_and_db(ServerConfig {
        relays: vec!["198.51.100.0/24".parse().unwrap()],
        ..config_with_pool(100, 199)
    });
    for n in [1, 2, 8] {
        let said = discover(n).through(ip(2));
        let (source, giaddr) = (ip(2), ip(2));
        assert_eq!(
            world.silence(&said),
            Silence::UnknownRelay { source, giaddr }
        );
    }
    assert!(world.leases().is_empty());
}
