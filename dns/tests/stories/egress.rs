//! The resolver is no hole in the policy, and opens what `dns:` rules say.

use dns::{Egress, Pattern};
use hickory_proto::op::ResponseCode::{NXDomain, NoError, Refused};
use hickory_proto::rr::RecordType::{A, AAAA};

use crate::world::*;

fn only(names: &[&str]) -> Egress {
    Egress::names(names.iter().map(|name| name.parse::<Pattern>().unwrap()))
}

#[test]
fn a_closed_container_asks_nobody_outside() {
    let mut world = World::new();
    // another one asked, so the answer is there; it changes nothing
    let asked = world.ask_as(DB, question("www.example.org", A));
    let upstream = asked.upstream().clone();
    let answer = answer_to(&upstream, NoError, &["www.example.org 300 A 198.51.100.7"]);
    world.says(&upstream, &answer);
    world.egress(Egress::nothing());
    for name in ["www.example.org", "secret.tunnel.example.org", "org"] {
        let kind = if name == "org" {
            hickory_proto::rr::RecordType::NS
        } else {
            A
        };
        assert_eq!(world.answer(name, kind).code(), Refused, "{name}");
    }
    assert_eq!(world.dns.under_way(), 0);
    // its zone's names are always answered
    assert_eq!(world.answer("db", A).answers(), ["A 10.89.0.3"]);
    assert_eq!(world.answer("nobody", A).code(), NXDomain);
    assert_eq!(world.dns.counters("dmz").unwrap().refused, 3);
}

#[test]
fn with_dns_rules_alone_only_their_names_leave() {
    let mut world = World::new();
    world.egress(only(&["*.example.org", "example.net"]));
    for (name, leaves) in [
        ("www.example.org", true),
        ("a.b.Example.org", true),
        ("example.net", true),
        ("example.org", false),
        ("www.example.net", false),
        ("evilexample.org", false),
    ] {
        let asked = world.ask(name, A);
        if leaves {
            assert_eq!(asked.upstream().server, server(FIRST), "{name}");
        } else {
            assert_eq!(asked.told().code(), Refused, "{name}");
        }
    }
}

#[test]
fn a_policy_that_closes_while_a_query_is_on_its_way_counts() {
    let mut world = World::new();
    let asked = world.ask("www.example.org", A);
    let upstream = asked.upstream().clone();
    world.egress(Egress::nothing());
    let answer = answer_to(&upstream, NoError, &["www.example.org 300 A 198.51.100.7"]);
    let done = world.says(&upstream, &answer);
    assert_eq!(asked.in_reply(&done).code(), Refused);
}

/// Asks upstream for a name as `web`, which gets these records.
fn resolves(
    world: &mut World,
    name: &str,
    kind: hickory_proto::rr::RecordType,
    records: &[&str],
) -> Told {
    let asked = world.ask(name, kind);
    let upstream = asked.upstream().clone();
    let done = world.says(&upstream, &answer_to(&upstream, NoError, records));
    asked.in_reply(&done)
}

#[test]
fn addresses_of_matching_names_open_with_what_is_left_of_their_time() {
    let mut world = World::new();
    world.egress(only(&["*.example.org"]));
    let records = [
        "www.example.org 300 A 198.51.100.7",
        "www.example.org 300 A 198.51.100.8",
    ];
    let told = resolves(&mut world, "www.example.org", A, &records);
    assert_eq!(told.addresses(), ["198.51.100.7 300", "198.51.100.8 300"]);
    let opens = told.opens.unwrap();
    assert_eq!(
        (opens.container.as_str(), opens.name.as_str()),
        ("web", "www.example.org")
    );
    let told = resolves(
        &mut world,
        "www.example.org",
        AAAA,
        &["www.example.org 60 AAAA 2600::7"],
    );
    assert_eq!(told.addresses(), ["2600::7 60"]);
    // from the cache too, for less time
    world.now += 100_000;
    let told = world.answer("WWW.example.org", A);
    assert_eq!(told.addresses(), ["198.51.100.7 200", "198.51.100.8 200"]);
    // and for nobody else: db has no such rule
    let told = world.ask_as(DB, question("www.example.org", A)).told();
    assert_eq!((told.answers().len(), told.opens), (2, None));
}

#[test]
fn names_of_interest_are_told_and_let_nothing_be_asked() {
    let mut world = World::new();
    let noted = Egress {
        noted: only(&["*.example.org"]).names,
        ..Egress::nothing()
    };
    world.egress(noted.clone());
    assert_eq!(world.answer("www.example.org", A).code(), Refused);
    world.egress(Egress {
        everything: true,
        ..noted
    });
    let records = ["www.example.org 86400 A 198.51.100.7"];
    let told = resolves(&mut world, "www.example.org", A, &records);
    assert_eq!(told.opens.as_ref().unwrap().name, "www.example.org");
    // It asks again in the time for which that is known.
    assert_eq!(told.ttls(), [3600]);
    let records = ["www.example.net 300 A 198.51.100.7"];
    let told = resolves(&mut world, "www.example.net", A, &records);
    assert_eq!(told.opens, None);
}

#[test]
fn a_rule_opens_also_where_everything_may_be_asked() {
    let mut world = World::new();
    let mut egress = only(&["www.example.org"]);
    egress.everything = true;
    world.egress(egress);
    let told = resolves(
        &mut world,
        "www.example.org",
        A,
        &["www.example.org 30 A 198.51.100.7"],
    );
    assert_eq!(told.addresses(), ["198.51.100.7 30"]);
    let told = resolves(
        &mut world,
        "example.net",
        A,
        &["example.net 30 A 198.51.100.8"],
    );
    assert_eq!(told.opens, None);
}

// RFC 1034 §3.6.2
#[test]
fn chains_are_followed_and_nothing_beside_them() {
    let mut world = World::new();
    world.egress(only(&["www.example.org"]));
    let records = [
        "edge.cdn.example 20 A 198.51.100.7",
        "www.example.org 300 CNAME www.cdn.example.",
        "other.cdn.example 20 A 198.51.100.66",
        "www.cdn.example 40 CNAME edge.cdn.example.",
        "edge.cdn.example 60 A 198.51.100.8",
        "www.example.net 60 A 198.51.100.67",
    ];
    let told = resolves(&mut world, "www.example.org", A, &records);
    assert_eq!(told.addresses(), ["198.51.100.7 20", "198.51.100.8 40"]);
    world.now += 20_000;
    let circle = [
        "www.example.org 300 CNAME a.example.",
        "a.example 300 CNAME www.example.org.",
        "a.example 300 A 198.51.100.7",
    ];
    let told = resolves(&mut world, "www.example.org", A, &circle);
    assert_eq!(told.answers().len(), 3);
    // a circle ends somewhere; what it opens is of the chain at most
    assert!(told.addresses().len() <= 1);
}

// No rebinding: what a name of the world leads to must be of the world
#[test]
fn answers_open_nothing_but_the_world() {
    let mut world = World::new();
    world.egress(only(&["*.example.org"]));
    world.dns.set_host(vec![ip("203.0.113.80"), ip("2600::80")]);
    for (n, (kind, address)) in [
        (A, "10.89.0.3"),    // of the zone
        (A, "10.89.1.2"),    // of another one
        (A, "203.0.113.80"), // the host
        (AAAA, "2600::80"),
        (A, "127.0.0.1"),
        (A, "0.0.0.0"),
        (A, "169.254.169.254"),
        (A, "224.0.0.1"),
        (A, "255.255.255.255"),
        (AAAA, "fd00::3"), // of the zone
        (AAAA, "fe80::1"),
        (AAAA, "::1"),
        (AAAA, "::"),
        (AAAA, "ff02::1"),
        (AAAA, "::ffff:198.51.100.7"),
        (AAAA, "64:ff9b::a59:3"), // 10.89.0.3 behind NAT64
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("n{n}.example.org");
        let text = format!("{name} 60 {kind} {address}");
        let told = resolves(&mut world, &name, kind, &[&text]);
        assert_eq!(told.answers().len(), 1, "{address} is told");
        assert_eq!(told.opens, None, "{address} is not opened");
    }
    let told = resolves(
        &mut world,
        "m.example.org",
        AAAA,
        &["m.example.org 60 AAAA 64:ff9b::c633:6407"],
    );
    assert_eq!(told.addresses(), ["64:ff9b::c633:6407 60"]);
}

// A machine beside the host is of the world like any other
#[test]
fn private_addresses_outside_the_zones_open() {
    let mut world = World::new();
    world.egress(only(&["*.corp.example"]));
    for (n, (kind, address)) in [(A, "192.168.7.7"), (A, "100.64.0.1"), (AAAA, "fd77::3")]
        .into_iter()
        .enumerate()
    {
        let name = format!("n{n}.corp.example");
        let text = format!("{name} 60 {kind} {address}");
        let told = resolves(&mut world, &name, kind, &[&text]);
        assert_eq!(told.addresses(), [format!("{address} 60")]);
    }
}
