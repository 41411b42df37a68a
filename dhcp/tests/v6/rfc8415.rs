//! RFC 8415, §16 and §18.3, as it is for attached machines: one address each, whatever they say.

use dhcp::v6::wire::{kind::*, option};
use dhcp::v6::{Binding, Config, Delegation, Silence};
use dhcproto::v6::Status;

use crate::world::*;

const GRANTED: &str = "NA 7 T(1350, 2160)(fd00::2 2700/3600)";

/// §18.3.1, §18.3.9: a solicit is advertised the address that is granted later, and nothing is kept.
#[test]
fn solicit_and_request() {
    let mut dhcp = attached(config(), &[2]);
    assert_eq!(
        says(2, SOLICIT).na(7, &[]).asks(&[23]).told(&mut dhcp, 0),
        format!("advertise {GRANTED}, preference 255, dns [fd00::1]")
    );
    assert_eq!(dhcp.leases().count(), 0);
    assert_eq!(
        says(2, REQUEST)
            .na(7, &[ip(2)])
            .asks(&[24])
            .told(&mut dhcp, 1),
        format!("reply {GRANTED}, search dmz.internal. | fd00::2/128 bound until +3601")
    );
    // again, as after a lost reply: the same, longer
    assert!(
        says(2, REQUEST)
            .na(7, &[ip(2)])
            .told(&mut dhcp, 9)
            .ends_with("fd00::2/128 bound until +3609")
    );
    assert_eq!(dhcp.leases().count(), 1);
}

/// §18.3.1: rapid commit where both want it.
#[test]
fn rapid_commit() {
    let mut dhcp = attached(config(), &[2]);
    let said = says(2, SOLICIT).na(7, &[]).asks(&[99]).rapid();
    assert_eq!(
        said.told(&mut dhcp, 0),
        format!("reply {GRANTED}, preference 255, rapid | fd00::2/128 bound until +3600")
    );
    let mut dhcp = attached(
        Config {
            rapid_commit: false,
            ..config()
        },
        &[2],
    );
    assert!(said.told(&mut dhcp, 0).starts_with("advertise"));
}

/// §18.3.1, §18.3.2: a second association gets nothing, and temporary addresses are not served.
#[test]
fn what_is_not_there() {
    let mut dhcp = attached(config(), &[2]);
    let said = says(2, SOLICIT).na(7, &[]).na(8, &[]).pd(1, &["::/56"]);
    assert_eq!(
        said.asks(&[99]).told(&mut dhcp, 0),
        format!("advertise {GRANTED}, NA 8(NoAddrsAvail), preference 255, PD 1(NoPrefixAvail)")
    );
    let temporary = says(2, SOLICIT).option(option::IA_TA, &[0, 0, 0, 3]);
    assert_eq!(
        temporary.asks(&[99]).told(&mut dhcp, 0),
        "advertise TA 3(NoAddrsAvail), preference 255"
    );
}

/// §18.3.2: addresses of another link get NotOnLink; another's get one's own.
#[test]
fn request_of_what_is_not_ones_own() {
    let mut dhcp = attached(config(), &[2, 3]);
    let foreign = says(2, REQUEST).na(7, &["2001:db8::9".parse().unwrap()]);
    assert_eq!(
        foreign.asks(&[99]).told(&mut dhcp, 0),
        "reply NA 7(NotOnLink)"
    );
    let others = says(2, REQUEST).na(7, &[ip(3)]).asks(&[99]);
    assert_eq!(
        others.told(&mut dhcp, 0),
        format!("reply {GRANTED} | fd00::2/128 bound until +3600")
    );
}

/// §18.3.3
#[test]
fn confirm() {
    let mut dhcp = attached(config(), &[2]);
    let asks = |address: &str| says(2, CONFIRM).na(7, &[address.parse().unwrap()]);
    assert_eq!(asks("fd00::2").told(&mut dhcp, 0), "reply Success");
    assert_eq!(asks("2001:db8::2").told(&mut dhcp, 0), "reply NotOnLink");
    // no address in it: no answer
    assert_eq!(
        says(2, CONFIRM).na(7, &[]).silence(&mut dhcp),
        Silence::Nothing
    );
}

/// §18.3.4, §18.3.5: longer, and what the client has besides is withdrawn with lifetimes of zero.
#[test]
fn renew_and_rebind() {
    let mut dhcp = attached(config(), &[2]);
    for what in [RENEW, REBIND] {
        let said = says(2, what).na(7, &[ip(2)]).asks(&[99]);
        assert_eq!(
            said.told(&mut dhcp, 60),
            format!("reply {GRANTED} | fd00::2/128 bound until +3660")
        );
        let said = says(2, what).na(7, &[ip(2), ip(77)]).asks(&[99]);
        assert_eq!(
            said.told(&mut dhcp, 61),
            "reply NA 7 T(1350, 2160)(fd00::2 2700/3600, fd00::4d 0/0) | fd00::2/128 bound until +3661"
        );
    }
}

/// The machine's address was changed by an attach: the old one is withdrawn, the new one given.
#[test]
fn renumbering() {
    let mut dhcp = attached(config(), &[2]);
    says(2, REQUEST).na(7, &[ip(2)]).told(&mut dhcp, 0);
    let ended = dhcp.bind(
        mac(2),
        Binding {
            address: ip(9),
            prefix: None,
        },
    );
    assert_eq!(ended.unwrap().len(), 1);
    assert_eq!(
        says(2, RENEW)
            .na(7, &[ip(2)])
            .asks(&[99])
            .told(&mut dhcp, 9),
        "reply NA 7 T(1350, 2160)(fd00::9 2700/3600, fd00::2 0/0) | fd00::9/128 bound until +3609"
    );
}

/// §18.3.7: released is free; what is not held gets NoBinding within a success.
#[test]
fn release() {
    let mut dhcp = attached(config(), &[2, 3]);
    says(2, REQUEST).na(7, &[ip(2)]).told(&mut dhcp, 0);
    let theirs = says(3, RELEASE).na(7, &[ip(2)]);
    assert_eq!(theirs.told(&mut dhcp, 1), "reply NA 7(NoBinding), Success");
    let other_ia = says(2, RELEASE).na(8, &[ip(2)]);
    assert_eq!(
        other_ia.told(&mut dhcp, 1),
        "reply NA 8(NoBinding), Success"
    );
    let own = says(2, RELEASE).na(7, &[ip(2)]);
    assert_eq!(
        own.told(&mut dhcp, 5),
        "reply Success | fd00::2/128 released until +5"
    );
    assert_eq!(dhcp.leases().count(), 0);
    assert!(has(&own.told(&mut dhcp, 6), Status::NoBinding));
}

/// §18.3.8. The address is the machine's all the same: nobody else can have it.
#[test]
fn decline() {
    let mut dhcp = attached(config(), &[2]);
    says(2, REQUEST).na(7, &[ip(2)]).told(&mut dhcp, 0);
    assert_eq!(
        says(2, DECLINE).na(7, &[ip(2)]).told(&mut dhcp, 5),
        "reply Success | fd00::2/128 declined until +3605"
    );
    assert!(
        says(2, SOLICIT)
            .na(7, &[])
            .told(&mut dhcp, 6)
            .contains("fd00::2")
    );
}

/// §18.3.6
#[test]
fn information_request() {
    let mut dhcp = attached(config(), &[2]);
    let asks = |said: Said| said.asks(&[23, 24, 32]).told(&mut dhcp, 0);
    let told = "reply dns [fd00::1], search dmz.internal., refresh 8640";
    let mut asks = asks;
    assert_eq!(asks(says(2, INFORMATION_REQUEST)), told);
    assert_eq!(
        asks(bare(2, INFORMATION_REQUEST)),
        told,
        "without an identifier"
    );
}

/// §16.2–§16.12: what must be discarded.
#[test]
fn what_must_be_there_and_must_not() {
    let mut dhcp = attached(config(), &[2]);
    let (client, server) = (option::CLIENT_ID, option::SERVER_ID);
    for what in [SOLICIT, REQUEST, CONFIRM, RENEW, REBIND, DECLINE, RELEASE] {
        let nameless = bare(2, what).option(server, &SERVER).na(7, &[ip(2)]);
        let missing = Silence::Missing { option: client };
        assert_eq!(nameless.silence(&mut dhcp), missing, "{what}");
    }
    for what in [SOLICIT, CONFIRM, REBIND] {
        let forbidden = Silence::Forbidden { option: server };
        let said = says(2, what).option(server, &SERVER).na(7, &[ip(2)]);
        assert_eq!(said.silence(&mut dhcp), forbidden, "{what}");
    }
    for what in [REQUEST, RENEW, DECLINE, RELEASE] {
        let said = bare(2, what).option(client, &duid(2)).na(7, &[ip(2)]);
        let missing = Silence::Missing { option: server };
        assert_eq!(said.silence(&mut dhcp), missing, "{what}");
        let other = bare(2, what)
            .option(client, &duid(2))
            .option(server, b"another");
        assert_eq!(
            other.na(7, &[ip(2)]).silence(&mut dhcp),
            Silence::OtherServer
        );
    }
    let other = says(2, INFORMATION_REQUEST).option(server, b"another");
    assert_eq!(other.silence(&mut dhcp), Silence::OtherServer);
    let with_ia = says(2, INFORMATION_REQUEST).na(7, &[]);
    let option = option::IA_NA;
    assert_eq!(with_ia.silence(&mut dhcp), Silence::Forbidden { option });
    let mut dhcp = attached(config(), &[2]);
    for message_type in [ADVERTISE, REPLY, 10, RELAY_REPL, 0, 255] {
        assert_eq!(
            says(2, message_type).silence(&mut dhcp),
            Silence::NotForServers { message_type }
        );
    }
}

/// §16, §18.4: to the server's own address.
#[test]
fn unicast() {
    let mut dhcp = attached(config(), &[2]);
    for what in [SOLICIT, CONFIRM, REBIND, INFORMATION_REQUEST] {
        let said = says(2, what).unicast();
        assert_eq!(said.silence(&mut dhcp), Silence::Unicast, "{what}");
    }
    for what in [REQUEST, RENEW, RELEASE, DECLINE] {
        let said = says(2, what).na(7, &[ip(2)]).unicast();
        assert_eq!(said.told(&mut dhcp, 0), "reply UseMulticast", "{what}");
    }
    assert_eq!(dhcp.leases().count(), 0);
}

/// The end of a lease comes when it was said, is told once, and the address stays the machine's.
#[test]
fn expiry() {
    let mut dhcp = attached(config(), &[2]);
    says(2, REQUEST).na(7, &[ip(2)]).told(&mut dhcp, 0);
    assert_eq!(dhcp.next_deadline(), Some(START + 3600));
    assert!(dhcp.expire(START + 3599).is_empty());
    let ended = dhcp.expire(START + 3600);
    assert_eq!(lease_words(&ended[0]), "fd00::2/128 expired until +3600");
    assert_eq!(
        (dhcp.expire(START + 9999).len(), dhcp.next_deadline()),
        (0, None)
    );
    let again = says(2, RENEW).na(7, &[ip(2)]).told(&mut dhcp, 4000);
    assert!(again.contains("fd00::2 2700/3600"), "{again}");
}

/// §6.3, §18.3: one prefix a machine, the same each time, another one for another machine, free again
/// when released, and none more than there are.
#[test]
fn prefix_delegation() {
    let delegation = Some(Delegation {
        range: "fd00:0:0:f0::/60".parse().unwrap(),
        length: 61,
    });
    let mut dhcp = attached(
        Config {
            delegation,
            subnet: "fd00::/56".parse().unwrap(),
            ..config()
        },
        &[2, 3, 4],
    );
    let asks = |n, what| says(n, what).pd(1, &["::/48"]).asks(&[99]);
    assert_eq!(
        asks(2, SOLICIT).told(&mut dhcp, 0),
        "advertise preference 255, PD 1 T(1350, 2160)(fd00:0:0:f0::/61 2700/3600)"
    );
    let granted = |told: String, prefix: &str| assert!(told.contains(prefix), "{told}");
    granted(
        asks(2, REQUEST).told(&mut dhcp, 0),
        "fd00:0:0:f0::/61 bound",
    );
    granted(
        asks(3, REQUEST).told(&mut dhcp, 0),
        "fd00:0:0:f8::/61 bound",
    );
    granted(asks(2, RENEW).told(&mut dhcp, 1), "fd00:0:0:f0::/61 bound");
    assert!(has(
        &asks(4, REQUEST).told(&mut dhcp, 1),
        Status::NoPrefixAvail
    ));
    let two = says(3, REQUEST).pd(1, &[]).pd(2, &[]).told(&mut dhcp, 1);
    assert!(two.contains("PD 2(NoPrefixAvail)"), "{two}");
    let back = says(2, RELEASE).pd(1, &["fd00:0:0:f0::/61"]);
    granted(back.told(&mut dhcp, 2), "released");
    granted(
        asks(4, REQUEST).told(&mut dhcp, 3),
        "fd00:0:0:f0::/61 bound",
    );
    // gone with the machine
    assert_eq!(dhcp.unbind(mac(4)).len(), 1);
}

/// A few prefixes for one machine, by its associations; beyond that those it has, whatever it calls itself.
#[test]
fn several_prefixes_of_one_machine() {
    let delegation = Some(Delegation {
        range: "fd00:0:0:f0::/60".parse().unwrap(),
        length: 64,
    });
    let mut dhcp = attached(
        Config {
            delegation,
            subnet: "fd00::/56".parse().unwrap(),
            prefixes_per_machine: 2,
            ..config()
        },
        &[2, 3],
    );
    let two = says(2, REQUEST).pd(1, &[]).pd(2, &[]).pd(3, &[]);
    let told = two.told(&mut dhcp, 0);
    for part in [
        "fd00:0:0:f0::/64 bound",
        "fd00:0:0:f1::/64 bound",
        "PD 3(NoPrefixAvail)",
    ] {
        assert!(told.contains(part), "{told}");
    }
    // each association keeps its own
    let told = says(2, RENEW).pd(2, &[]).told(&mut dhcp, 1);
    assert!(told.contains("fd00:0:0:f1::/64 bound"), "{told}");
    // one that it never mentioned gets one that it has, and takes nothing from others
    let told = says(2, REQUEST).pd(9, &[]).told(&mut dhcp, 2);
    assert!(told.contains("fd00:0:0:f"), "{told}");
    assert_eq!(dhcp.leases().count(), 2);
    let told = says(3, REQUEST).pd(1, &[]).told(&mut dhcp, 3);
    assert!(told.contains("fd00:0:0:f2::/64 bound"), "{told}");
    assert_eq!(dhcp.unbind(mac(2)).len(), 2);
}

/// What is restored from the store counts; what nobody can have any more does not.
#[test]
fn a_restart() {
    let mut dhcp = attached(config(), &[2]);
    says(2, REQUEST).na(7, &[ip(2)]).told(&mut dhcp, 0);
    let kept: Vec<_> = dhcp.leases().cloned().collect();
    let mut after = attached(config(), &[2]);
    assert!(after.restore(kept[0].clone()));
    assert!(
        says(2, RELEASE)
            .na(7, &[ip(2)])
            .told(&mut after, 1)
            .contains("released")
    );
    let mut without = attached(config(), &[3]);
    assert!(!without.restore(kept[0].clone()), "not attached any more");
}
