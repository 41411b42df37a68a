//! Machines that were attached: one address each, whatever they say.

use dhcp::{Destination, State};
use dhcproto::v4::{DhcpOption, MessageType, OptionCode};

use crate::world::*;

// RFC 2131 §3.1, figure 3
#[test]
fn a_machine_gets_the_address_it_was_attached_with() {
    let mut world = World::with_web_and_db(config());

    let offer = world.told(&discover(1));
    assert_eq!(offer.kind(), MessageType::Offer);
    assert_eq!(offer.yiaddr(), ip(2));
    assert_eq!(offer.message.xid(), 0xabcd_0001);
    assert!(world.leases().is_empty(), "an offer is no lease");

    let (lease, ack) = world.granted(&selecting(1, ip(2)));
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(ack.yiaddr(), ip(2));
    let option = |code| ack.option(code).cloned();
    let server = DhcpOption::ServerIdentifier(SERVER);
    assert_eq!(option(OptionCode::ServerIdentifier), Some(server));
    let lease_time = DhcpOption::AddressLeaseTime(3600);
    assert_eq!(option(OptionCode::AddressLeaseTime), Some(lease_time));
    assert_eq!(option(OptionCode::Renewal), Some(DhcpOption::Renewal(1800)));
    assert_eq!(
        option(OptionCode::Rebinding),
        Some(DhcpOption::Rebinding(3150))
    );
    let hostname = DhcpOption::Hostname("web".into());
    assert_eq!(option(OptionCode::Hostname), Some(hostname));

    assert_eq!(lease.state, State::Bound);
    assert_eq!(lease.expires, START + 3600);
    assert_eq!(lease.hostname.as_deref(), Some("web"));
    assert_eq!(world.leases(), ["02:00:00:00:00:01 10.89.0.2 Bound"]);
}

// RFC 2131 §4.4.5: T1, T2, and the end
#[test]
fn a_lease_is_renewed_rebound_and_ends() {
    let mut world = World::with_web_and_db(config());
    world.gets_address(1);

    assert!(world.pass(1800).is_empty());
    let (lease, ack) = world.granted(&renewing(1, ip(2)));
    assert_eq!(lease.expires, START + 1800 + 3600);
    // §4.1: ciaddr is where the answer goes
    let (ip_, mac_) = (ip(2), mac(1));
    assert_eq!(ack.to, Destination::Client { ip: ip_, mac: mac_ });
    assert_eq!(ack.message.ciaddr(), ip(2));

    assert!(world.pass(3150).is_empty());
    world.granted(&rebinding(1, ip(2)));

    assert_eq!(world.dhcp.next_deadline(), Some(world.now + 3600));
    let ended = world.pass(3600);
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].address, ended[0].state), (ip(2), State::Expired));
    assert_eq!(world.dhcp.next_deadline(), None);

    // the address is still its own
    assert_eq!(world.gets_address(1), ip(2));
}

// Habit 2 of the house: a call that comes early is harmless
#[test]
fn waking_early_changes_nothing() {
    let mut world = World::with_web_and_db(config());
    world.gets_address(1);
    assert!(world.dhcp.expire(world.now + 3599).is_empty());
    assert_eq!(world.leases(), ["02:00:00:00:00:01 10.89.0.2 Bound"]);
}

// RFC 2131 §3.2: a client that remembers its address skips the discovery
#[test]
fn after_a_restart_the_machine_finds_its_address_again() {
    let mut world = World::with_web_and_db(config());
    let (lease, _) = world.granted(&selecting(1, ip(2)));

    // the daemon died, and the store gives the lease back, here before the machine is bound again
    let mut world = World::new(config());
    world.dhcp.restore(lease).unwrap();
    let ended = world.dhcp.bind(mac(1), ip(2), Some("web".into())).unwrap();
    assert!(ended.is_empty());
    assert_eq!(world.leases(), ["02:00:00:00:00:01 10.89.0.2 Bound"]);

    let (lease, ack) = world.granted(&init_reboot(1, ip(2)));
    assert_eq!((lease.address, ack.yiaddr()), (ip(2), ip(2)));
    world.granted(&renewing(1, ip(2)));
}

// RFC 2131 §4.3.2: "if the requested address is incorrect … the server SHOULD respond with a NAK"
#[test]
fn every_other_address_is_refused() {
    let mut world = World::with_web_and_db(config_with_pool(100, 200));
    world.gets_address(2);
    let elsewhere = [192, 0, 2, 7].into();
    // db's address, a free one of the pool, a free one outside, the server's own, another network's
    for address in [ip(3), ip(100), ip(50), SERVER, elsewhere] {
        for said in [
            selecting(1, address),
            init_reboot(1, address),
            renewing(1, address),
            rebinding(1, address),
        ] {
            let nak = world.told(&said);
            assert_eq!(nak.kind(), MessageType::Nak, "{said:?}");
            assert_eq!(nak.yiaddr().to_bits(), 0);
            assert_eq!(nak.message.ciaddr().to_bits(), 0);
            // §4.1: a NAK is broadcast, also to who has a ciaddr
            assert_eq!(nak.to, Destination::Broadcast { mac: mac(1) });
            // table 3: nothing else in it; and the same for each, so that it tells nothing
            assert_eq!(nak.order(), [53, 54, 56]);
        }
        world.now += 10; // not too fast
    }
    assert_eq!(world.leases(), ["02:00:00:00:00:02 10.89.0.3 Bound"]);
}

#[test]
fn what_it_would_like_in_a_discover_does_not_matter() {
    let mut world = World::with_web_and_db(config_with_pool(100, 200));
    assert_eq!(world.told(&discover(1).requested(ip(150))).yiaddr(), ip(2));
    assert_eq!(world.told(&discover(1).requested(ip(3))).yiaddr(), ip(2));
}

// RFC 2131 §4.3.3. The address is unique by construction, so there is nothing to look for.
#[test]
fn a_declined_address_is_recorded_and_offered_again() {
    let mut world = World::with_web_and_db(config());
    world.gets_address(1);
    let lease = world.recorded(&decline(1, ip(2)));
    assert_eq!((lease.address, lease.state), (ip(2), State::Declined));
    // said twice it is not written twice
    assert_eq!(world.silence(&decline(1, ip(2))), dhcp::Silence::NoRecord);

    world.now += 10; // §3.1.5: the client waits ten seconds
    assert_eq!(world.gets_address(1), ip(2));
    assert_eq!(world.leases(), ["02:00:00:00:00:01 10.89.0.2 Bound"]);
}

// RFC 2131 §4.3.4
#[test]
fn a_released_address_stays_reserved() {
    let mut world = World::with_web_and_db(config_with_pool(2, 4));
    world.gets_address(1);
    let lease = world.recorded(&release(1, ip(2)));
    assert_eq!((lease.state, lease.expires), (State::Released, START));

    // nobody else gets it, though it lies in the pool and is asked for
    let offer = world.told(&discover(9).requested(ip(2)));
    assert_eq!(offer.yiaddr(), ip(4), "the only one that is nobody's");
    assert_eq!(world.gets_address(1), ip(2));
}

// RFC 2131 §4.3.5
/// RFC 2131 §3.4, §4.3.5: no lease time, no address of its own.
#[test]
fn inform_gets_everything_but_an_address() {
    let mut world = World::with_web_and_db(config());
    let ack = world.told(&inform(1, ip(2)));
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(ack.yiaddr().to_bits(), 0);
    assert_eq!(ack.message.ciaddr(), ip(2));
    for absent in [51, 58, 59] {
        assert_eq!(ack.option(absent.into()), None, "option {absent}");
    }
    assert!(ack.option(OptionCode::Router).is_some());
    assert!(world.leases().is_empty(), "there need be no lease");
}

#[test]
fn attached_elsewhere_it_gets_the_new_address_only() {
    let mut world = World::with_web_and_db(config());
    world.gets_address(1);
    let ended = world.dhcp.bind(mac(1), ip(77), None).unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].address, ip(2));
    // it still uses the old one and asks for more time: NAK, and then the new one
    assert_eq!(world.told(&renewing(1, ip(2))).kind(), MessageType::Nak);
    assert_eq!(world.gets_address(1), ip(77));
    // and the old one can be given to another machine
    world.dhcp.bind(mac(3), ip(2), None).unwrap();
    assert_eq!(world.gets_address(3), ip(2));
}

#[test]
fn a_detached_machine_is_no_longer_answered() {
    let mut world = World::with_web_and_db(config());
    world.gets_address(1);
    let lease = world.dhcp.unbind(mac(1)).unwrap();
    assert_eq!(lease.address, ip(2));
    assert_eq!(world.dhcp.next_deadline(), None);
    let unattached = dhcp::Silence::Unattached(mac(1));
    for said in [
        discover(1),
        renewing(1, ip(2)),
        inform(1, ip(2)),
        release(1, ip(2)),
    ] {
        assert_eq!(world.silence(&said), unattached);
    }
    assert_eq!(world.dhcp.unbind(mac(1)), None);
}

// RFC 2131 §4.3.1: a client may ask for a shorter lease
#[test]
fn the_lease_time_wanted_is_kept_within_bounds() {
    let mut world = World::with_web_and_db(config());
    for (wanted, given) in [
        (600, 600),
        (1, 120),
        (0, 120),
        (7200, 3600),
        (u32::MAX, 3600),
    ] {
        let said = selecting(1, ip(2)).with(DhcpOption::AddressLeaseTime(wanted));
        let (lease, ack) = world.granted(&said);
        assert_eq!(lease.expires, START + given);
        let told = DhcpOption::AddressLeaseTime(given as u32);
        assert_eq!(ack.option(OptionCode::AddressLeaseTime), Some(&told));
    }
}

// RFC 4361, RFC 2132 §9.14: the identifier changes with the client program, the machine does not
/// RFC 2131 §4.2, RFC 4361 §4: whatever the identifier is.
#[test]
fn any_client_identifier_gets_the_same_address() {
    let mut world = World::with_web_and_db(config());
    for id in [
        &[1, 2, 0, 0, 0, 0, 1][..],
        &[255, 0, 0, 0, 1, 0, 2],
        b"\0anything",
    ] {
        let offer = world.told(&discover(1).client_id(id));
        assert_eq!(offer.yiaddr(), ip(2));
        let (lease, _) = world.granted(&selecting(1, ip(2)).client_id(id));
        assert_eq!(lease.address, ip(2));
    }
    assert_eq!(world.leases().len(), 1);
}

#[test]
fn one_machine_that_talks_without_pause_is_no_longer_heard_and_the_others_are() {
    let mut world = World::with_web_and_db(config());
    for _ in 0..20 {
        world.told(&discover(1));
    }
    let limited = dhcp::Silence::RateLimited(mac(1));
    assert_eq!(world.silence(&discover(1)), limited);
    assert_eq!(world.gets_address(2), ip(3));
    // attaching it again is no way around it
    world.dhcp.bind(mac(1), ip(2), None).unwrap();
    assert_eq!(world.silence(&discover(1)), limited);
    world.now += 1;
    assert_eq!(world.gets_address(1), ip(2));
}
