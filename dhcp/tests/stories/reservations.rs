//! Reservations: addresses that the configuration keeps for machines nobody attached ("manual allocation",
//! RFC 2131 §1), by hardware address and by client identifier.

use dhcp::{Reservation, ServerConfig, Silence, State, Who};
use dhcproto::v4::{DhcpOption, MessageType};

use crate::world::*;

fn reservation(who: Who, host: u8) -> Reservation {
    Reservation {
        who,
        address: ip(host),
        hostname: Some(format!("kept-{host}")),
    }
}

fn config() -> ServerConfig {
    ServerConfig {
        reservations: vec![
            reservation(Who::Mac(mac(7)), 50),
            reservation(Who::ClientId([255, 1].into()), 101),
            reservation(Who::Nobody, 102),
        ],
        ..config_with_pool(100, 104)
    }
}

#[test]
fn a_reserved_machine_gets_its_address_and_no_other() {
    let mut world = World::with_web_and_db(config());
    let offer = world.told(&discover(7).requested(ip(103)).asks_for(&[12]));
    assert_eq!(offer.yiaddr(), ip(50));
    let name = DhcpOption::Hostname("kept-50".into());
    assert_eq!(offer.option(12.into()), Some(&name));
    let refused = world.told(&selecting(7, ip(103)));
    assert_eq!(refused.kind(), MessageType::Nak);
    let (lease, _) = world.granted(&selecting(7, ip(50)));
    assert_eq!(lease.hostname.as_deref(), Some("kept-50"));

    // all of its life: renewed, rebound, rebooted, given back, declined, run out
    world.granted(&renewing(7, ip(50)));
    world.granted(&rebinding(7, ip(50)));
    world.granted(&init_reboot(7, ip(50)));
    assert_eq!(
        world.told(&init_reboot(7, ip(103))).kind(),
        MessageType::Nak
    );
    assert_eq!(world.recorded(&release(7, ip(50))).state, State::Released);
    assert_eq!(world.gets_address(7), ip(50));
    assert_eq!(world.recorded(&decline(7, ip(50))).state, State::Declined);
    assert_eq!(world.gets_address(7), ip(50));
    world.pass(3600);
    assert_eq!(world.gets_address(7), ip(50));
}

#[test]
fn by_client_identifier_while_nobody_else_has_the_lease() {
    let mut world = World::with_web_and_db(config());
    let said = |n: u8, said: Said| said.client_id(&[255, 1]).asks_for(&[n]);
    assert_eq!(world.told(&said(1, discover(8))).yiaddr(), ip(101));
    world.granted(&said(1, selecting(8, ip(101))));
    // another machine that says the same is not told, nor can it end the lease
    let silence = Silence::NotYours(ip(101));
    assert_eq!(world.silence(&said(1, discover(9))), silence);
    assert_eq!(
        world.silence(&said(1, renewing(9, ip(101)).source([0; 4].into()))),
        silence
    );
    assert_eq!(
        world.silence(&said(1, release(9, ip(101)).source([0; 4].into()))),
        silence
    );
    // once it ended the identifier is what counts (RFC 4361: it outlives the network card)
    world.pass(3600);
    assert_eq!(world.told(&said(1, discover(9))).yiaddr(), ip(101));
}

#[test]
fn guests_and_others_never_get_a_reserved_address() {
    let mut world = World::with_web_and_db(config());
    for wanted in [50, 101, 102] {
        let offer = world.told(&discover(20).requested(ip(wanted)));
        assert_eq!(offer.yiaddr(), ip(100));
    }
    let got: Vec<_> = (20..23).map(|n| world.gets_address(n)).collect();
    assert_eq!(got, [ip(100), ip(103), ip(104)]);
    assert_eq!(world.silence(&discover(23)), Silence::PoolExhausted);
    assert_eq!(
        world.silence(&inform(23, ip(50))),
        Silence::NotYours(ip(50))
    );
}

#[test]
fn an_attached_machine_that_has_it_keeps_it() {
    let mut world = World::with_web_and_db(config());
    world.dhcp.bind(mac(3), ip(50), None).unwrap();
    assert_eq!(world.silence(&discover(7)), Silence::NotYours(ip(50)));
    assert_eq!(world.gets_address(3), ip(50));
    // and one whose reservation is for another address than it was attached with has the latter
    world.dhcp.unbind(mac(3));
    world.dhcp.bind(mac(7), ip(60), None).unwrap();
    assert_eq!(world.gets_address(7), ip(60));
}

#[test]
fn reserved_while_a_guest_has_it() {
    let mut world = World::new(config_with_pool(50, 50));
    assert_eq!(world.gets_address(9), ip(50));
    let config = ServerConfig {
        reservations: vec![reservation(Who::Mac(mac(7)), 50)],
        ..config_with_pool(50, 50)
    };
    world.dhcp.reconfigure(config).unwrap();
    assert_eq!(world.silence(&discover(7)), Silence::NotYours(ip(50)));
    // it is not renewed, and after its end the other has it
    let nak = world.outcome(&renewing(9, ip(50)));
    assert!(!matches!(nak, dhcp::Outcome::Commit { .. }), "{nak:?}");
    world.pass(3600);
    assert_eq!(world.gets_address(7), ip(50));
}

#[test]
fn without_a_pool_only_they_are_served() {
    let mut world = World::new(ServerConfig {
        pool: None,
        ..config()
    });
    assert_eq!(world.gets_address(7), ip(50));
    assert_eq!(world.silence(&discover(8)), Silence::Unattached(mac(8)));
}

#[test]
fn leases_of_reserved_machines_come_back_from_the_store() {
    let mut world = World::new(config());
    world.gets_address(7);
    let lease = world.dhcp.lease(ip(50)).unwrap().clone();
    let mut world = World::new(config());
    world.dhcp.restore(lease).unwrap();
    world.granted(&renewing(7, ip(50)));
}
