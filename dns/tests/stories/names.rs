//! Names of containers: who has which, and who learns of them.

use dns::Silence;
use hickory_proto::op::ResponseCode::{NXDomain, NoError};
use hickory_proto::rr::RecordType::{A, AAAA, ANY, DS, HTTPS, MX, PTR, SOA, TXT};

use crate::world::*;

#[test]
fn a_container_is_known_by_its_name_in_both_families() {
    let mut world = World::new();
    for name in ["db", "db.dmz.internal", "DB", "Db.DMZ.Internal"] {
        assert_eq!(world.answer(name, A).answers(), ["A 10.89.0.3"], "{name}");
        assert_eq!(
            world.answer(name, AAAA).answers(),
            ["AAAA fd00::3"],
            "{name}"
        );
    }
    let both = world.answer("db", ANY);
    assert_eq!(both.answers(), ["A 10.89.0.3", "AAAA fd00::3"]);
    assert!(both.message.metadata.authoritative);
    assert!(both.ttls().iter().all(|ttl| *ttl <= 5));
    let own = world.answer("web", A);
    assert_eq!(own.answers(), ["A 10.89.0.2"]);
}

#[test]
fn with_a_domain_of_its_own_a_zone_is_also_named_in_it() {
    let mut world = World::new();
    let mut dmz = zone("dmz", 0);
    dmz.domain = "corp.example".parse().unwrap();
    world.dns.set_zone(dmz);
    for name in ["db", "db.corp.example", "db.dmz.corp.example"] {
        assert_eq!(world.answer(name, A).answers(), ["A 10.89.0.3"], "{name}");
    }
    // and no longer in the old one; `dmz.internal` is nobody's now
    assert_eq!(
        world.ask("db.dmz.internal", A).upstream().server,
        server(FIRST)
    );
    let none = world.answer("www.corp.example", A);
    assert_eq!(
        (none.code(), none.soa().unwrap().as_str()),
        (NXDomain, "corp.example.")
    );
}

// RFC 2308 §2: a name without such records is not a name that does not exist; §3: both bring the SOA
#[test]
fn no_data_is_not_no_name() {
    let mut world = World::new();
    let dmz = Some("dmz.internal.");
    let root = Some(".");
    for (name, kind, code, soa) in [
        ("db.dmz.internal", TXT, NoError, dmz),
        ("db.dmz.internal", MX, NoError, dmz),
        ("db.dmz.internal", HTTPS, NoError, dmz),
        ("db", TXT, NoError, root),
        ("dmz.internal", A, NoError, dmz),
        ("nobody.dmz.internal", A, NXDomain, dmz),
        ("a.db.dmz.internal", A, NXDomain, dmz),
        ("nobody", A, NXDomain, root),
        // RFC 8020 §2: there are names beneath it
        ("internal", A, NoError, root),
        ("internal", HTTPS, NoError, root),
    ] {
        let told = world.answer(name, kind);
        assert_eq!(told.code(), code, "{name} {kind}");
        assert_eq!(told.soa().as_deref(), soa, "{name} {kind}");
        assert_eq!(told.answers(), [""; 0], "{name} {kind}");
        assert!(told.ttls().iter().all(|ttl| *ttl <= 5), "{name} {kind}");
    }
    let apex = world.answer("dmz.internal", SOA);
    assert_eq!((apex.answers().len(), apex.soa()), (1, None));
}

#[test]
fn a_container_without_a_family_has_no_data_in_it() {
    let mut world = World::new();
    let mut four = container("four", "dmz", 0, 4);
    four.addresses.truncate(1);
    world.attach(four);
    let told = world.answer("four", AAAA);
    assert_eq!((told.code(), told.answers().len()), (NoError, 0));
    assert_eq!(world.answer("four", A).answers(), ["A 10.89.0.4"]);
}

// RFC 1035 §3.5, RFC 3596 §2.5
#[test]
fn addresses_lead_back_to_names() {
    let mut world = World::new();
    let v6 = "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    for (name, to) in [
        ("3.0.89.10.in-addr.arpa", "PTR db.dmz.internal."),
        ("3.0.89.10.IN-ADDR.arpa", "PTR db.dmz.internal."),
        ("1.0.89.10.in-addr.arpa", "PTR _gateway.dmz.internal."),
        (v6, "PTR db.dmz.internal."),
    ] {
        assert_eq!(world.answer(name, PTR).answers(), [to], "{name}");
    }
    for (name, kind, code) in [
        ("3.0.89.10.in-addr.arpa", A, NoError),
        ("9.0.89.10.in-addr.arpa", PTR, NXDomain),
        ("x.3.0.89.10.in-addr.arpa", PTR, NXDomain),
        // RFC 8020 §2: names exist beneath these
        ("0.89.10.in-addr.arpa", PTR, NoError),
        ("89.10.in-addr.arpa", PTR, NoError),
        ("10.in-addr.arpa", PTR, NoError),
    ] {
        let told = world.answer(name, kind);
        assert_eq!((told.code(), told.answers().len()), (code, 0), "{name}");
        assert!(told.soa().is_some(), "{name}");
    }
}

#[test]
fn the_gateway_has_names_unless_a_container_has_them() {
    let mut world = World::new();
    for name in [
        "_gateway",
        "gateway",
        "gateway.dmz.internal",
        "_gateway.dmz.internal",
    ] {
        assert_eq!(world.answer(name, A).answers(), ["A 10.89.0.1"], "{name}");
    }
    world.attach(container("gateway", "dmz", 0, 9));
    for name in ["gateway", "gateway.dmz.internal"] {
        assert_eq!(world.answer(name, A).answers(), ["A 10.89.0.9"], "{name}");
    }
    assert_eq!(world.answer("_gateway", A).answers(), ["A 10.89.0.1"]);
}

#[test]
fn another_zones_names_are_for_those_who_may_reach_them() {
    let mut world = World::new();
    let reverse = "2.1.89.10.in-addr.arpa";
    for (name, kind) in [("probe.lab.internal", A), (reverse, PTR), ("probe", A)] {
        assert_eq!(world.answer(name, kind).code(), NXDomain, "{name}");
    }
    world.policy.reach.push(("web", "probe"));
    assert_eq!(
        world.answer("probe.lab.internal", A).answers(),
        ["A 10.89.1.2"]
    );
    assert_eq!(
        world.answer(reverse, PTR).answers(),
        ["PTR probe.lab.internal."]
    );
    // a single label is of the own zone, whoever may be reached
    assert_eq!(world.answer("probe", A).code(), NXDomain);
    // and what web may learn, db may not
    let told = world.ask_as(DB, question("probe.lab.internal", A)).told();
    assert_eq!(told.code(), NXDomain);
    // nobody is told who else is in that zone, not even outside
    assert_eq!(world.answer("nobody.lab.internal", A).code(), NXDomain);
    assert_eq!(world.answer("_gateway.lab.internal", A).code(), NXDomain);
}

#[test]
fn zones_that_share_a_domain_keep_their_names_apart() {
    let mut world = World::new();
    for (name, third) in [("dmz", 0), ("lab", 1)] {
        let mut zone = zone(name, third);
        zone.domain = "corp.example".parse().unwrap();
        world.dns.set_zone(zone);
    }
    world.attach(container("twin", "lab", 1, 7));
    let mut twin = container("twin-of-dmz", "dmz", 0, 7);
    twin.hostnames = vec!["twin".into()];
    world.attach(twin);
    assert_eq!(
        world.answer("twin.corp.example", A).answers(),
        ["A 10.89.0.7"]
    );
    let told = world.ask_as(PROBE, question("twin.corp.example", A)).told();
    assert_eq!(told.answers(), ["A 10.89.1.7"]);
    assert_eq!(world.answer("probe.corp.example", A).code(), NXDomain);
    world.policy.reach.push(("web", "probe"));
    assert_eq!(
        world.answer("probe.corp.example", A).answers(),
        ["A 10.89.1.2"]
    );
}

#[test]
fn only_hostname_labels_are_served() {
    let mut world = World::new();
    let mut odd = container("my_app.1", "dmz", 0, 8);
    world.attach(odd.clone());
    assert_eq!(world.answer("8.0.89.10.in-addr.arpa", PTR).code(), NXDomain);
    assert_eq!(world.answer("my_app", A).code(), NXDomain);
    odd.hostnames.push("app".into());
    world.attach(odd);
    assert_eq!(world.answer("app", A).answers(), ["A 10.89.0.8"]);
    let back = world.answer("8.0.89.10.in-addr.arpa", PTR);
    assert_eq!(back.answers(), ["PTR app.dmz.internal."]);
}

#[test]
fn attach_and_detach_change_answers_at_once() {
    let mut world = World::new();
    assert_eq!(world.answer("new", A).code(), NXDomain);
    world.attach(container("new", "dmz", 0, 20));
    assert_eq!(world.answer("new", A).answers(), ["A 10.89.0.20"]);
    world.attach(container("new", "dmz", 0, 21));
    assert_eq!(world.answer("new", A).answers(), ["A 10.89.0.21"]);
    assert_eq!(
        world.answer("20.0.89.10.in-addr.arpa", PTR).code(),
        NXDomain
    );
    // to another zone
    world.attach(container("new", "lab", 1, 20));
    assert_eq!(world.answer("new", A).code(), NXDomain);
    assert!(world.dns.detach("new"));
    assert!(!world.dns.detach("new"));
    let told = world.ask_as(PROBE, question("new", A)).told();
    assert_eq!(told.code(), NXDomain);
    // a whole zone
    world.dns.remove_zone("dmz");
    assert_eq!(world.ask("db", A).silence(), Silence::NoZone);
}

#[test]
fn a_name_of_two_is_the_first_ones_until_it_goes() {
    let mut world = World::new();
    world.attach(container("DB", "dmz", 0, 33));
    assert_eq!(world.answer("db", A).answers(), ["A 10.89.0.3"]);
    world.dns.detach("db");
    assert_eq!(
        world.answer("db.dmz.internal", A).answers(),
        ["A 10.89.0.33"]
    );
    world.attach(container("db", "dmz", 0, 3));
    assert_eq!(world.answer("db", A).answers(), ["A 10.89.0.33"]);
}

#[test]
fn a_domain_that_changes_takes_the_names_along() {
    let mut world = World::new();
    let mut dmz = zone("dmz", 0);
    dmz.domain = "example.net".parse().unwrap();
    world.dns.set_zone(dmz);
    assert_eq!(world.answer("db.example.net", A).answers(), ["A 10.89.0.3"]);
    let back = world.answer("3.0.89.10.in-addr.arpa", PTR);
    assert_eq!(back.answers(), ["PTR db.example.net."]);
    world.dns.set_zone(zone("dmz", 0));
    assert_eq!(
        world.answer("db.dmz.internal", A).answers(),
        ["A 10.89.0.3"]
    );
    assert!(matches!(
        world.ask("db.example.net", A).outcome,
        dns::Outcome::Ask(_)
    ));
}

#[test]
fn nobody_from_outside_the_zone_is_answered() {
    let mut world = World::new();
    for address in [
        "192.0.2.9",
        "10.89.0.77",
        "10.89.1.2",
        "10.89.0.1",
        "fd00:1::2",
    ] {
        let from = dns::Client {
            address: ip(address),
            ..WEB
        };
        for name in ["web", "www.example.org"] {
            let asked = world.ask_as(from, question(name, A));
            assert_eq!(asked.silence(), Silence::Stranger, "{address}");
        }
    }
}

// RFC 6761 §6, RFC 6762 §22.1, RFC 7686 §2, RFC 9462 §6.1, RFC 6303 §4
#[test]
fn names_with_a_meaning_of_their_own_stay_here() {
    let mut world = World::new();
    for name in ["localhost", "a.localhost", "LocalHost"] {
        assert_eq!(world.answer(name, A).answers(), ["A 127.0.0.1"], "{name}");
        assert_eq!(world.answer(name, AAAA).answers(), ["AAAA ::1"], "{name}");
    }
    for name in [
        "printer.local",
        "a.invalid",
        "a.test",
        "abc.onion",
        "_dns.resolver.arpa",
        "1.1.168.192.in-addr.arpa",
        "1.0.0.127.in-addr.arpa",
        "1.0.16.172.in-addr.arpa",
        "1.0.64.100.in-addr.arpa",
        "x.168.192.in-addr.arpa",
        "255.255.255.255.in-addr.arpa",
        "1.0.d.f.ip6.arpa",
        "9.e.f.ip6.arpa",
        "8.b.d.0.1.0.0.2.ip6.arpa",
    ] {
        let told = world.answer(name, PTR);
        let apex = matches!(
            name,
            "8.b.d.0.1.0.0.2.ip6.arpa" | "255.255.255.255.in-addr.arpa"
        );
        assert_eq!(told.code(), if apex { NoError } else { NXDomain }, "{name}");
        assert!(told.soa().is_some(), "{name}");
    }
    for name in [
        "1.1.1.1.in-addr.arpa",
        "32.172.in-addr.arpa",
        "172.in-addr.arpa",
        "128.100.in-addr.arpa",
        "0.0.6.2.ip6.arpa",
        "localhost.example.org",
        "notlocal",
    ] {
        // whoever asks for a DS goes through the tree, top-level domains included
        let kind = if name == "notlocal" { DS } else { PTR };
        let asked = world.ask(name, kind);
        assert_eq!(asked.upstream().server, server(FIRST), "{name}");
    }
}
