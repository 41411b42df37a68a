//! Every message is counted, and every silence with its reason.

use dhcp::Silence;

use crate::world::*;

#[test]
fn answers_and_silences_are_counted() {
    let mut world = World::with_web_and_db(config());
    world.gets_address(1);
    world.told(&init_reboot(1, ip(9)));
    world.recorded(&release(1, ip(2)));
    world.silence(&discover(7));
    world.now += 5;
    world.silence(&discover(8));
    world.silence(&discover(2).source(ip(2)));
    let tally = world.dhcp.tally();
    assert_eq!(
        (
            tally.received,
            tally.offers,
            tally.acks,
            tally.naks,
            tally.heeded
        ),
        (7, 1, 1, 1, 1)
    );
    let reasons: Vec<_> = tally
        .silent
        .iter()
        .map(|(reason, s)| (*reason, s.count))
        .collect();
    assert_eq!(reasons, [("foreign-source", 1), ("unattached", 2)]);
    let unattached = &tally.silent["unattached"];
    assert_eq!(unattached.at, START + 5);
    assert_eq!(unattached.last, Silence::Unattached(mac(8)));

    // whatever is configured anew, the counts go on
    world.dhcp.reconfigure(config_with_pool(100, 109)).unwrap();
    assert_eq!(world.dhcp.tally().received, 7);
}

#[test]
fn the_pool_says_how_full_it_is() {
    let mut world = World::new(config_with_pool(100, 109));
    assert_eq!(world.dhcp.pool_use(), Some((10, 0)));
    world.gets_address(7);
    world.told(&discover(8));
    assert_eq!(world.dhcp.pool_use(), Some((10, 2)));
    world.recorded(&release(7, ip(100)));
    world.pass(60);
    assert_eq!(world.dhcp.pool_use(), Some((10, 0)));
    assert_eq!(World::new(config()).dhcp.pool_use(), None);
}
