//! Machines nobody attached, served from the pool (RFC 2131 "dynamic allocation").

use dhcp::{ServerConfig, Silence, State};
use dhcproto::v4::{DhcpOption, MessageType};

use crate::world::*;

#[test]
fn without_a_pool_there_is_silence() {
    let mut world = World::with_web_and_db(config());
    let unattached = Silence::Unattached(mac(9));
    for said in [
        discover(9),
        selecting(9, ip(9)),
        init_reboot(9, [192, 0, 2, 1].into()),
        renewing(9, ip(9)),
        decline(9, ip(9)),
        release(9, ip(9)),
        inform(9, ip(9)),
    ] {
        assert_eq!(world.silence(&said), unattached);
    }
}

// RFC 2131 §3.1
#[test]
fn guests_get_addresses_of_the_pool_and_keep_them() {
    let mut world = World::with_web_and_db(config_with_pool(100, 199));
    let first = world.gets_address(8);
    let second = world.gets_address(9);
    assert_eq!((first, second), (ip(100), ip(101)));
    assert_eq!(world.gets_address(8), first);
    world.pass(1800);
    world.granted(&renewing(8, first));
    // §4.3.1: the other lease ran out, and its address waits for the one who had it
    assert_eq!(world.pass(1800).len(), 1);
    assert_eq!(world.gets_address(10), ip(102));
    assert_eq!(world.gets_address(9), second);
}

// RFC 2131 §4.3.1: "the address requested in the 'Requested IP Address' option, if … valid and
// not already allocated"
#[test]
fn a_guest_gets_the_address_it_would_like_if_it_is_free() {
    let mut world = World::with_web_and_db(config_with_pool(2, 199));
    assert_eq!(
        world.told(&discover(8).requested(ip(150))).yiaddr(),
        ip(150)
    );
    // taken by an offer, bound to a machine, outside the pool, the server's own
    let first_free = ip(4);
    for taken in [ip(150), ip(3), ip(250), SERVER] {
        let offer = world.told(&discover(9).requested(taken));
        assert_eq!(offer.yiaddr(), first_free);
    }
}

#[test]
fn an_offer_is_kept_for_a_while_and_then_forgotten() {
    let mut world = World::new(config_with_pool(100, 100));
    assert_eq!(world.told(&discover(8)).yiaddr(), ip(100));
    assert_eq!(world.silence(&discover(9)), Silence::PoolExhausted);
    assert!(world.pass(30).is_empty(), "an offer was never durable");
    assert!(world.leases().is_empty());
    assert_eq!(world.told(&discover(9)).yiaddr(), ip(100));
}

// RFC 2131 §3.1.4: "Those servers not selected by the DHCPREQUEST message use the message as
// notification that the client has declined that server's offer."
#[test]
fn an_offer_is_dropped_when_the_client_takes_another() {
    let mut world = World::new(config_with_pool(100, 100));
    world.told(&discover(8));
    let other = ip(250);
    let taken = selecting(8, ip(240)).server(other);
    assert_eq!(world.silence(&taken), Silence::OtherServer(other));
    assert_eq!(world.gets_address(9), ip(100));
    // but a lease is not given up by such a message
    assert_eq!(
        world.silence(&selecting(9, ip(240)).server(other)),
        Silence::OtherServer(other)
    );
    assert_eq!(world.leases(), ["02:00:00:00:00:09 10.89.0.100 Bound"]);
}

#[test]
fn a_full_pool_is_silent_until_a_lease_ends() {
    let mut world = World::new(config_with_pool(100, 102));
    for n in 1..=3 {
        world.gets_address(n);
    }
    assert_eq!(world.silence(&discover(4)), Silence::PoolExhausted);
    let released = world.recorded(&release(2, ip(101)));
    assert_eq!(released.state, State::Released);
    assert_eq!(world.gets_address(4), ip(101));
    // and the one who released it starts anew
    assert_eq!(world.told(&renewing(2, ip(101))).kind(), MessageType::Nak);
}

// RFC 2131 §4.3.3
#[test]
fn a_declined_address_of_the_pool_rests() {
    let mut world = World::new(config_with_pool(100, 101));
    world.gets_address(8);
    let lease = world.recorded(&decline(8, ip(100)));
    assert_eq!(
        (lease.state, lease.expires),
        (State::Declined, START + 3600)
    );
    assert_eq!(world.gets_address(8), ip(101));
    assert_eq!(world.silence(&discover(9)), Silence::PoolExhausted);
    // nobody can ask for it either
    assert_eq!(world.told(&selecting(9, ip(100))).kind(), MessageType::Nak);

    world.granted(&renewing(8, ip(101)));
    world.pass(3599);
    world.granted(&renewing(8, ip(101)));
    assert_eq!(world.silence(&discover(9)), Silence::PoolExhausted);
    let ended = world.pass(1);
    assert_eq!(
        (ended[0].address, ended[0].state),
        (ip(100), State::Expired)
    );
    // and then it is nobody's: not even the one who declined it finds it again
    assert_eq!(world.leases(), ["02:00:00:00:00:08 10.89.0.101 Bound"]);
    assert_eq!(world.gets_address(9), ip(100));
}

// RFC 2131 §4.3.2, INIT-REBOOT: "If the DHCP server has no record of this client, then it MUST
// remain silent"; on the wrong network it SHOULD send a NAK all the same.
#[test]
fn a_guest_that_remembers_an_address() {
    let mut world = World::new(config_with_pool(100, 199));
    assert_eq!(world.silence(&init_reboot(8, ip(150))), Silence::NoRecord);
    let nak = world.told(&init_reboot(8, [192, 0, 2, 9].into()));
    assert_eq!(nak.kind(), MessageType::Nak);

    let address = world.gets_address(8);
    world.granted(&init_reboot(8, address));
    assert_eq!(
        world.told(&init_reboot(8, ip(150))).kind(),
        MessageType::Nak
    );
    // after it expired the record is still there
    world.pass(3600);
    let (lease, _) = world.granted(&init_reboot(8, address));
    assert_eq!((lease.address, lease.state), (address, State::Bound));
}

// The daemon lost its offers in a restart, the clients did not.
#[test]
fn an_address_nobody_has_is_confirmed_without_a_record() {
    let mut world = World::new(config_with_pool(100, 199));
    world.granted(&selecting(8, ip(150)));
    world.granted(&renewing(9, ip(151)));
    // those that somebody has are not
    for said in [
        selecting(10, ip(150)),
        renewing(10, ip(151)),
        rebinding(10, ip(151)),
    ] {
        assert_eq!(world.told(&said).kind(), MessageType::Nak);
    }
    // nor those outside the pool
    assert_eq!(world.told(&renewing(10, ip(250))).kind(), MessageType::Nak);
}

// RFC 2131 §4.2: the client identifier tells clients apart (a boot loader and a system, say)
#[test]
fn two_identifiers_on_one_hardware_address_are_two_clients() {
    let mut world = World::new(config_with_pool(100, 199));
    let a = world.told(&discover(8).client_id(b"\0loader")).yiaddr();
    let b = world.told(&discover(8).client_id(b"\0system")).yiaddr();
    assert_ne!(a, b);
    world.granted(&selecting(8, a).client_id(b"\0loader"));
    let nak = world.told(&selecting(8, a).client_id(b"\0system"));
    assert_eq!(nak.kind(), MessageType::Nak);
    // RFC 2132 §9.14: type 1 and the hardware address say no more than the hardware address
    let c = world.told(&discover(8)).yiaddr();
    let d = world
        .told(&discover(8).client_id(&[1, 2, 0, 0, 0, 0, 8]))
        .yiaddr();
    assert_eq!(c, d);
}

#[test]
fn one_machine_cannot_empty_the_pool_with_identifiers() {
    let mut world = World::new(config_with_pool(100, 199));
    for n in 0..8u8 {
        let id = [0, n];
        let address = world.told(&discover(8).client_id(&id)).yiaddr();
        world.granted(&selecting(8, address).client_id(&id));
    }
    world.now += 10;
    let ninth = discover(8).client_id(&[0, 9]);
    assert_eq!(world.silence(&ninth), Silence::TooManyLeases(mac(8)));
    // nor by asking for addresses directly, nor by declining
    let direct = selecting(8, ip(150)).client_id(&[0, 10]);
    assert_eq!(world.silence(&direct), Silence::TooManyLeases(mac(8)));
    world.recorded(&decline(8, ip(100)).client_id(&[0, 0]));
    assert_eq!(world.silence(&ninth), Silence::TooManyLeases(mac(8)));
    // a lease that is over gives way
    world.recorded(&release(8, ip(101)).client_id(&[0, 1]));
    world.told(&ninth);
    assert_eq!(world.leases().len(), 8);
}

#[test]
fn strangers_are_heard_in_turn() {
    let mut world = World::new(ServerConfig {
        strangers: 2,
        ..config_with_pool(100, 199)
    });
    world.told(&discover(7));
    world.told(&discover(8));
    assert_eq!(world.silence(&discover(9)), Silence::RateLimited(mac(9)));
    world.now += 1;
    world.told(&discover(9));
}

#[test]
fn what_a_guest_calls_itself_is_kept_if_it_is_a_host_name() {
    let mut world = World::new(config_with_pool(100, 199));
    for (said, kept) in [
        ("vm-1", Some("vm-1")),
        ("vm.example.org", Some("vm.example.org")),
        ("", None),
        ("-x", None),
        ("a b", None),
        ("\u{1b}[31m", None),
        ("a..b", None),
    ] {
        let name = DhcpOption::Hostname(said.into());
        let (lease, _) = world.granted(&selecting(8, ip(100)).with(name));
        assert_eq!(lease.hostname.as_deref(), kept, "{said:?}");
    }
}

// RFC 4039
#[test]
fn rapid_commit_is_one_message_each_way() {
    let rapid = discover(8).with(DhcpOption::RapidCommit);
    let mut world = World::new(ServerConfig {
        rapid_commit: true,
        ..config_with_pool(100, 199)
    });
    let (lease, ack) = world.granted(&rapid);
    assert_eq!(lease.state, State::Bound);
    assert_eq!(ack.kind(), MessageType::Ack);
    assert!(
        ack.order().contains(&80),
        "§3.1: the server includes the option"
    );
    assert_eq!(world.told(&discover(9)).kind(), MessageType::Offer);

    let mut world = World::new(config_with_pool(100, 199));
    let offer = world.told(&rapid);
    assert_eq!(offer.kind(), MessageType::Offer);
    assert!(!offer.order().contains(&80));
}

#[test]
fn a_guest_that_is_attached_later_keeps_nothing_of_the_pool() {
    let mut world = World::new(config_with_pool(100, 199));
    world.gets_address(8);
    let ended = world.dhcp.bind(mac(8), ip(5), None).unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(world.gets_address(8), ip(5));
    assert_eq!(world.gets_address(9), ip(101));
    assert_eq!(
        world.told(&discover(10).requested(ip(100))).yiaddr(),
        ip(100)
    );
}

#[test]
fn another_pool_leaves_running_leases_until_they_are_renewed() {
    let mut world = World::new(config_with_pool(100, 199));
    world.gets_address(8);
    world.dhcp.reconfigure(config_with_pool(200, 201)).unwrap();
    assert_eq!(world.leases(), ["02:00:00:00:00:08 10.89.0.100 Bound"]);
    assert_eq!(world.told(&renewing(8, ip(100))).kind(), MessageType::Nak);
    assert_eq!(world.gets_address(8), ip(200));
    // the old one can still be given back, and is then remembered by nobody
    world.recorded(&release(8, ip(100)));
    assert_eq!(world.pass(3600).len(), 1);
    assert_eq!(world.leases(), ["02:00:00:00:00:08 10.89.0.200 Expired"]);
}

#[test]
fn leases_of_guests_come_back_from_the_store() {
    let mut world = World::new(config_with_pool(100, 101));
    let (lease, _) = world.granted(&selecting(8, ip(101)).client_id(b"\0x"));
    let mut world = World::new(config_with_pool(100, 101));
    world.dhcp.restore(lease).unwrap();
    assert_eq!(world.gets_address(9), ip(100));
    assert_eq!(world.silence(&discover(10)), Silence::PoolExhausted);
    world.granted(&renewing(8, ip(101)).client_id(b"\0x"));
}
