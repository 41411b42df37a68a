//! Machines nobody attached: served from a pool, if there is one, and never more than their share.

use dhcp::v6::wire::kind::*;
use dhcp::v6::{Config, Silence};

use crate::world::*;

fn with_pool() -> Config {
    Config {
        pool: Some((ip(0x10), ip(0x12))),
        leases_per_machine: 2,
        ..config()
    }
}

#[test]
fn without_a_pool_there_is_silence() {
    let mut dhcp = attached(config(), &[2]);
    assert_eq!(
        says(5, SOLICIT).na(1, &[]).silence(&mut dhcp),
        Silence::Unattached(mac(5))
    );
}

#[test]
fn a_guest_keeps_its_address_and_gets_no_other() {
    let mut dhcp = attached(with_pool(), &[2]);
    let first = says(5, REQUEST).na(1, &[]).told(&mut dhcp, 0);
    assert!(first.contains("fd00::10/128 bound"), "{first}");
    // a wish is granted where it can be
    let second = says(5, REQUEST).na(2, &[ip(0x12)]).told(&mut dhcp, 0);
    assert!(second.contains("fd00::12/128 bound"), "{second}");
    let third = says(5, REQUEST).na(3, &[]).told(&mut dhcp, 0);
    assert!(third.contains("NoAddrsAvail"), "its share is two: {third}");
    // another's, asked for
    let other = says(6, REQUEST).na(1, &[ip(0x10)]).told(&mut dhcp, 0);
    assert!(other.contains("fd00::11/128 bound"), "{other}");
    let last = says(7, REQUEST).na(1, &[]).told(&mut dhcp, 0);
    assert!(last.contains("NoAddrsAvail"), "{last}");
}

/// §18.3.4: NoBinding; §18.3.5: silence, for it may be another server's; or zero lifetimes where it can
/// be nobody's here.
#[test]
fn renewing_what_is_not_known() {
    let mut dhcp = attached(with_pool(), &[2]);
    let renew = says(5, RENEW).na(1, &[ip(0x10)]).asks(&[99]);
    assert_eq!(renew.told(&mut dhcp, 0), "reply NA 1(NoBinding)");
    let rebind = says(5, REBIND).na(1, &[ip(0x10)]);
    assert_eq!(rebind.silence(&mut dhcp), Silence::NoRecord);
    let elsewhere = says(5, REBIND).na(1, &["2001:db8::1".parse().unwrap()]);
    assert_eq!(
        elsewhere.asks(&[99]).told(&mut dhcp, 0),
        "reply NA 1(2001:db8::1 0/0)"
    );
}

/// §18.3.8: not given to anybody for a while.
#[test]
fn a_declined_address_rests() {
    let mut dhcp = attached(with_pool(), &[2]);
    says(5, REQUEST).na(1, &[]).told(&mut dhcp, 0);
    says(5, DECLINE).na(1, &[ip(0x10)]).told(&mut dhcp, 1);
    let next = says(5, REQUEST).na(1, &[]).told(&mut dhcp, 2);
    assert!(next.contains("fd00::11/128 bound"), "{next}");
    // after its rest it is anybody's again
    dhcp.expire(START + 3601);
    let other = says(6, REQUEST).na(1, &[]).told(&mut dhcp, 3602);
    assert!(other.contains("fd00::10/128 bound"), "{other}");
}

/// An attach takes an address of the pool: the guest loses it.
#[test]
fn an_attach_goes_before_a_guest() {
    let mut dhcp = attached(with_pool(), &[]);
    says(5, REQUEST).na(1, &[]).told(&mut dhcp, 0);
    let ended = dhcp.bind(mac(0x10), binding(0x10)).unwrap();
    assert_eq!(ended.len(), 1);
    let renew = says(5, RENEW).na(1, &[ip(0x10)]).told(&mut dhcp, 1);
    assert!(renew.contains("NoBinding"), "{renew}");
}

#[test]
fn whoever_says_too_much_is_not_heard() {
    let mut dhcp = attached(with_pool(), &[2, 3]);
    for n in [2, 5] {
        let said = says(n, SOLICIT).na(1, &[]);
        for _ in 0..20 {
            said.told(&mut dhcp, 0);
        }
        assert_eq!(said.silence(&mut dhcp), Silence::RateLimited(mac(n)));
        said.told(&mut dhcp, 1); // a second later it is heard again
    }
    says(3, SOLICIT).na(1, &[]).told(&mut dhcp, 0);
}

/// §18.4, §22: what came by a way that no client of the link takes.
#[test]
fn a_source_that_is_nobodys() {
    let mut dhcp = attached(config(), &[2, 3]);
    for bad in ["fd00::3", "::", "2001:db8::1"] {
        let mut said = says(2, SOLICIT).na(1, &[]);
        said.from = bad.parse().unwrap();
        assert_eq!(said.silence(&mut dhcp), Silence::ForeignSource(said.from));
    }
    let mut own = says(2, SOLICIT).na(1, &[]);
    own.from = ip(2);
    own.told(&mut dhcp, 0);
    let mut outside = own.source();
    outside.zone = None;
    let outcome = dhcp.handle(START, &own.bytes, outside);
    assert_eq!(outcome, dhcp::v6::Outcome::Ignore(Silence::OtherZone));
}
