//! Upstream: which server is asked when, what is believed, what is kept.

use dns::{Attempt, Progress, Transport, UpstreamQuery};
use hickory_proto::op::ResponseCode::{FormErr, NXDomain, NoError, Refused, ServFail};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType::{A, AAAA, MX, PTR, SRV};

use crate::world::*;

const WWW: &str = "www.example.org";
const SOA: &str = "!example.org 3600 SOA ns.example.org. me.example.org. 1 2 3 4 60";

fn ask_again(progress: Progress<u32>) -> UpstreamQuery {
    match progress {
        Progress::Ask(query) => query,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_query_is_forwarded_and_its_answer_relayed() {
    let mut world = World::new();
    let asked = world.ask("WWW.Example.org", A);
    let upstream = asked.upstream().clone();
    assert_eq!(
        (upstream.server, upstream.over),
        (server(FIRST), Transport::Udp)
    );
    let sent = Message::from_vec(&upstream.bytes).unwrap();
    assert!(sent.metadata.recursion_desired && !sent.metadata.authentic_data);
    assert_eq!(sent.edns.as_ref().unwrap().max_payload(), 1232);
    let records = [
        "www.example.org 300 CNAME web.example.org.",
        "web.example.org 300 A 198.51.100.7",
    ];
    let done = world.says(&upstream, &answer_to(&upstream, NoError, &records));
    let told = asked.in_reply(&done);
    assert_eq!(told.answers(), ["A 198.51.100.7", "CNAME web.example.org."]);
    assert!(!told.message.metadata.authoritative && !told.message.metadata.authentic_data);
    let counters = world.dns.counters("dmz").unwrap();
    assert_eq!((counters.forwarded, counters.queries), (1, 1));
    assert_eq!(world.dns.next_deadline(), None);
}

// RFC 3597 §4: what nobody here knows passes as it stands
#[test]
fn records_of_any_type_pass_unchanged() {
    let mut world = World::new();
    for (kind, text) in [
        (MX, "www.example.org 300 MX 10 mail.example.org."),
        (SRV, "www.example.org 300 SRV 1 2 443 web.example.org."),
    ] {
        let asked = world.ask(WWW, kind);
        let upstream = asked.upstream().clone();
        let done = world.says(&upstream, &answer_to(&upstream, NoError, &[text]));
        let told = asked.in_reply(&done);
        assert_eq!(told.message.answers, [record(text)], "{kind}");
    }
    let private = hickory_proto::rr::RecordType::Unknown(65_400);
    let asked = world.ask(WWW, private);
    let upstream = asked.upstream().clone();
    let mut bytes = answer_to(&upstream, NoError, &[]).to_vec().unwrap();
    bytes.truncate(bytes.len() - 11); // its OPT
    bytes[7] = 1;
    bytes[11] = 0;
    let own = b"\xc0\x0c\xff\x78\0\x01\0\0\0\x3c\0\x03abc";
    bytes.extend(own);
    let done = world.says_bytes(upstream.attempt, &bytes);
    let Progress::Done { replies, .. } = done else {
        panic!("{done:?}")
    };
    assert!(replies[0].message.bytes.ends_with(own));
}

// RFC 5452 §9.1: id, question, and (by the caller's socket) addresses and ports must fit
#[test]
fn what_does_not_fit_the_question_is_not_believed() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let upstream = asked.upstream().clone();
    let right = answer_to(&upstream, NoError, &["www.example.org 300 A 198.51.100.7"]);
    type Change = fn(&mut Message);
    let wrong: [(&str, Change); 5] = [
        ("another id", |m| m.metadata.id ^= 1),
        ("another type", |m| {
            m.queries[0].set_query_type(AAAA);
        }),
        ("another name", |m| {
            m.queries[0].set_name("evil.example.org.".parse().unwrap());
        }),
        ("no question", |m| m.queries.clear()),
        ("a query", |m| {
            m.metadata.message_type = hickory_proto::op::MessageType::Query
        }),
    ];
    for (what, change) in wrong {
        let mut message = right.clone();
        change(&mut message);
        assert_eq!(world.says(&upstream, &message), Progress::Listen, "{what}");
    }
    for junk in [&b""[..], b"x", &[0xff; 64]] {
        let progress = world.says_bytes(upstream.attempt, junk);
        assert_eq!(progress, Progress::Listen);
    }
    // an attempt that never was
    let other = Attempt {
        flight: upstream.attempt.flight,
        number: 9,
    };
    let bytes = right.to_vec().unwrap();
    assert_eq!(world.says_bytes(other, &bytes), Progress::Listen);
    // the right one is still welcome, once
    let done = world.says(&upstream, &right);
    assert_eq!(asked.in_reply(&done).answers(), ["A 198.51.100.7"]);
    assert_eq!(world.says(&upstream, &right), Progress::Listen);
}

// draft-vixie-dnsext-dns0x20: letters' case is a secret too; who does not keep it is asked over TCP
#[test]
fn an_answer_in_another_case_is_asked_for_over_tcp() {
    let mut world = World::new();
    let name = "a-rather-long-name-with-many-letters.example.org";
    let asked = world.ask(name, A);
    let upstream = asked.upstream().clone();
    let text = format!("{name} 300 A 198.51.100.66");
    let mut lower = answer_to(&upstream, NoError, &[&text]);
    let before = lower.queries[0].name().clone();
    lower.queries[0].set_name(before.to_lowercase());
    assert!(
        !before.eq_case(lower.queries[0].name()),
        "some letter is large"
    );
    let again = ask_again(world.says(&upstream, &lower));
    assert_eq!((again.over, again.server), (Transport::Tcp, server(FIRST)));
    let text = format!("{name} 300 A 198.51.100.7");
    let done = world.says(&again, &answer_to(&again, NoError, &[&text]));
    assert_eq!(asked.in_reply(&done).answers(), ["A 198.51.100.7"]);
}

// RFC 2181 §9, RFC 7766 §5
#[test]
fn what_was_cut_off_is_asked_for_over_tcp() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let upstream = asked.upstream().clone();
    let mut cut = answer_to(&upstream, NoError, &[]);
    cut.metadata.truncation = true;
    let again = ask_again(world.says(&upstream, &cut));
    assert_eq!((again.over, again.server), (Transport::Tcp, server(FIRST)));
    let records: Vec<String> = (0..200)
        .map(|n| format!("www.example.org 300 A 198.51.100.{n}"))
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let done = world.says(&again, &answer_to(&again, NoError, &records));
    assert!(asked.in_reply(&done).message.metadata.truncation);
}

// RFC 6891 §7: servers of before EDNS
#[test]
fn who_does_not_know_edns_is_asked_without() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let upstream = asked.upstream().clone();
    let mut confused = answer_to(&upstream, FormErr, &[]);
    confused.queries.clear();
    confused.edns = None;
    let again = ask_again(world.says(&upstream, &confused));
    assert!(Message::from_vec(&again.bytes).unwrap().edns.is_none());
    assert_eq!(again.server, server(FIRST));
    let records = ["www.example.org 300 A 198.51.100.7"];
    let done = world.says(&again, &answer_to(&again, NoError, &records));
    assert_eq!(asked.in_reply(&done).answers(), ["A 198.51.100.7"]);
}

#[test]
fn silence_is_answered_by_the_next_server_and_in_the_end_by_servfail() {
    let mut world = World::new();
    let start = world.now;
    let asked = world.ask(WWW, A);
    let happened = world.pass(10_000);
    let mut tries = vec![];
    for (at, progress) in &happened[..happened.len() - 1] {
        let Progress::Ask(query) = progress else {
            panic!("{progress:?}")
        };
        tries.push((at - start, query.server.to_string()));
    }
    assert_eq!(
        tries,
        [
            (800, SECOND.to_owned()),
            (1600, FIRST.to_owned()),
            (2400, SECOND.to_owned()),
            (3200, FIRST.to_owned())
        ]
    );
    let (at, done) = &happened[happened.len() - 1];
    assert_eq!(at - start, 4000);
    assert_eq!(asked.in_reply(done).code(), ServFail);
    assert_eq!(world.dns.under_way(), 0);
    assert_eq!(world.dns.counters("dmz").unwrap().failed, 1);
}

#[test]
fn a_late_answer_of_an_earlier_try_is_welcome() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let first = asked.upstream().clone();
    world.pass(1000);
    let done = world.says(
        &first,
        &answer_to(&first, NoError, &["www.example.org 300 A 198.51.100.7"]),
    );
    assert_eq!(asked.in_reply(&done).answers(), ["A 198.51.100.7"]);
    // and clears the server's name
    assert_eq!(
        world.ask("other.example.org", A).upstream().server,
        server(FIRST)
    );
}

#[test]
fn a_server_that_failed_is_asked_last_for_a_while() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let first = asked.upstream().clone();
    let again = ask_again(world.fails(&first));
    assert_eq!(again.server, server(SECOND), "at once");
    world.says(
        &again,
        &answer_to(&again, NoError, &["www.example.org 300 A 198.51.100.7"]),
    );
    assert_eq!(
        world.ask("a.example.org", A).upstream().server,
        server(SECOND)
    );
    world.now += 31_000;
    assert_eq!(
        world.ask("b.example.org", A).upstream().server,
        server(FIRST)
    );
}

#[test]
fn when_no_server_can_be_reached_nobody_waits() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let again = ask_again(world.fails(asked.upstream()));
    let done = world.fails(&again);
    assert_eq!(asked.in_reply(&done).code(), ServFail);
    // RFC 9520 §3.2: the failure is kept for a moment
    assert_eq!(world.answer(WWW, A).code(), ServFail);
    world.now += 1000;
    world.ask(WWW, A).upstream();
    world.dns.set_upstream(vec![]);
    assert_eq!(
        world.answer("a.example.org", A).code(),
        ServFail,
        "nobody to ask"
    );
}

#[test]
fn a_server_that_refuses_makes_place_for_the_next() {
    let mut world = World::new();
    for code in [ServFail, Refused] {
        let name = format!("{}.example.org", u16::from(code));
        let asked = world.ask(&name, A);
        let first = asked.upstream().clone();
        let again = ask_again(world.says(&first, &answer_to(&first, code, &[])));
        assert_ne!(again.server, first.server);
        let done = world.says(&again, &answer_to(&again, code, &[]));
        assert_eq!(asked.in_reply(&done).code(), code, "as the last one said");
    }
    let asked = world.ask("broken.example.org", A);
    let first = asked.upstream().clone();
    let mut bytes = answer_to(&first, NoError, &["broken.example.org 300 A 198.51.100.7"])
        .to_vec()
        .unwrap();
    bytes[7] = 9; // answers that are not there
    let again = ask_again(world.says_bytes(first.attempt, &bytes));
    assert_ne!(again.server, first.server);
}

#[test]
fn the_same_question_is_asked_once() {
    let mut world = World::new();
    let first = world.ask(WWW, A);
    let upstream = first.upstream().clone();
    let second = world.ask_as(DB, question("wWw.example.ORG", A));
    assert_eq!(second.outcome, dns::Outcome::Wait);
    let third = world.ask_as(DB, with_edns(question(WWW, A), 1232, false));
    assert_eq!(third.outcome, dns::Outcome::Wait);
    // other questions are others
    world.ask(WWW, AAAA).upstream();
    world
        .ask_as(DB, with_edns(question(WWW, A), 1232, true))
        .upstream();
    // and another zone's are its own
    world.ask_as(PROBE, question(WWW, A)).upstream();
    // one who leaves meanwhile takes nobody along
    let gone = world.ask_as(WEB, question(WWW, A));
    assert_eq!(gone.outcome, dns::Outcome::Wait);
    world.dns.detach("web");
    let done = world.says(
        &upstream,
        &answer_to(&upstream, NoError, &["www.example.org 300 A 198.51.100.7"]),
    );
    for asked in [&second, &third] {
        assert_eq!(asked.in_reply(&done).answers(), ["A 198.51.100.7"]);
    }
    let Progress::Done { replies, .. } = done else {
        panic!("{done:?}")
    };
    assert_eq!(replies.len(), 2);
    assert_eq!(world.dns.counters("dmz").unwrap().joined, 3);
}

// RFC 1035 §3.2.1, RFC 2181 §5.2 and §8
#[test]
fn answers_are_kept_while_they_hold() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let upstream = asked.upstream().clone();
    let records = [
        "www.example.org 300 A 198.51.100.7",
        "www.example.org 300 A 198.51.100.8",
    ];
    world.says(&upstream, &answer_to(&upstream, NoError, &records));
    world.now += 100_000;
    let told = world.answer("wWW.example.org", A);
    assert_eq!((told.answers().len(), told.ttls()), (2, vec![200, 200]));
    world.now += 199_000;
    assert_eq!(world.answer(WWW, A).ttls(), [1, 1]);
    world.now += 1000;
    world.ask(WWW, A).upstream();
    assert_eq!(world.dns.counters("dmz").unwrap().cached, 2);

    for (name, ttl, kept) in [
        ("zero.example.org", "0", None),
        ("negative.example.org", "2147483648", None),
        ("endless.example.org", "2000000", Some(86_400)),
    ] {
        let asked = world.ask(name, A);
        let upstream = asked.upstream().clone();
        let text = format!("{name} {ttl} A 198.51.100.7");
        let done = world.says(&upstream, &answer_to(&upstream, NoError, &[&text]));
        assert_eq!(
            asked.in_reply(&done).answers(),
            ["A 198.51.100.7"],
            "{name}"
        );
        match kept {
            None => drop(world.ask(name, A).upstream()),
            Some(ttl) => assert_eq!(world.answer(name, A).ttls(), [ttl], "{name}"),
        }
    }
}

// RFC 2308 §5: the lesser of the SOA's TTL and its minimum; without an SOA not at all
#[test]
fn a_no_is_kept_as_long_as_its_soa_says() {
    let mut world = World::new();
    let short = SOA.replace(" 3600 ", " 20 ");
    let long = SOA
        .replace(" 4 60", " 4 999999")
        .replace(" 3600 ", " 999999 ");
    for (name, code, soa, seconds) in [
        ("no.example.org", NXDomain, SOA, 60),
        ("nodata.example.org", NoError, SOA, 60),
        ("short.example.org", NXDomain, &short, 20),
        ("long.example.org", NXDomain, &long, 3600),
    ] {
        let asked = world.ask(name, A);
        let upstream = asked.upstream().clone();
        let done = world.says(&upstream, &answer_to(&upstream, code, &[soa]));
        let told = asked.in_reply(&done);
        assert_eq!(
            (told.code(), told.soa().as_deref()),
            (code, Some("example.org.")),
            "{name}"
        );
        assert_eq!(told.ttls(), [seconds], "{name}");
        world.now += u64::from(seconds) * 1000 - 1000;
        let told = world.answer(name, A);
        assert_eq!((told.code(), told.ttls()), (code, vec![1]), "{name}");
        world.now += 1000;
        world.ask(name, A).upstream();
    }
    let asked = world.ask("bare.example.org", A);
    let upstream = asked.upstream().clone();
    world.says(&upstream, &answer_to(&upstream, NXDomain, &[]));
    world.ask("bare.example.org", A).upstream();
}

// RFC 2308 §2.1, §2.2: the alias exists, what it leads to does not
#[test]
fn an_alias_to_nothing_is_kept_as_the_soa_says() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let upstream = asked.upstream().clone();
    let records = ["www.example.org 300 CNAME gone.example.org.", SOA];
    let done = world.says(&upstream, &answer_to(&upstream, NXDomain, &records));
    let told = asked.in_reply(&done);
    assert_eq!((told.code(), told.answers().len()), (NXDomain, 1));
    world.now += 59_000;
    assert_eq!(world.answer(WWW, A).code(), NXDomain);
    world.now += 1000;
    world.ask(WWW, A).upstream();
}

#[test]
fn a_zone_learns_nothing_from_what_another_one_asked() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let upstream = asked.upstream().clone();
    world.says(
        &upstream,
        &answer_to(&upstream, NoError, &["www.example.org 300 A 198.51.100.7"]),
    );
    assert_eq!(world.answer(WWW, A).answers().len(), 1);
    world.ask_as(PROBE, question(WWW, A)).upstream();
    // nor does a zone with other servers keep what its old ones said
    let mut dmz = zone("dmz", 0);
    dmz.upstream = vec![server("192.0.2.99:53")];
    world.dns.set_zone(dmz);
    assert_eq!(world.ask(WWW, A).upstream().server, server("192.0.2.99:53"));
    world.dns.set_upstream(vec![server(SECOND)]);
    assert_eq!(
        world
            .ask_as(PROBE, question("a.example.org", A))
            .upstream()
            .server,
        server(SECOND)
    );
}

#[test]
fn domains_have_their_own_servers() {
    let mut world = World::new();
    let mut dmz = zone("dmz", 0);
    let domain = |name: &str, at: &str| (name.parse().unwrap(), vec![server(at)]);
    dmz.domains = vec![
        domain("example", "192.0.2.50:53"),
        domain("corp.example", "192.0.2.51:53"),
        domain("168.192.in-addr.arpa", "192.0.2.52:53"),
        domain("test", "192.0.2.53:53"),
    ];
    world.dns.set_zone(dmz);
    for (name, at) in [
        ("git.corp.example", "192.0.2.51:53"),
        ("corp.example", "192.0.2.51:53"),
        ("notcorp.example", "192.0.2.50:53"),
        ("example", "192.0.2.50:53"),
        ("1.7.168.192.in-addr.arpa", "192.0.2.52:53"),
        ("a.test", "192.0.2.53:53"),
        ("www.example.org", FIRST),
    ] {
        assert_eq!(world.ask(name, PTR).upstream().server, server(at), "{name}");
    }
    // the zone's own names are nobody else's all the same
    let told = world.answer("3.0.89.10.in-addr.arpa", PTR);
    assert_eq!(told.answers(), ["PTR db.dmz.internal."]);
    assert_eq!(
        world.answer("nobody.dmz.internal", A).code(),
        ResponseCode::NXDomain
    );
}

// RFC 6891 §6.1.1 and RFC 3225: upstream's EDNS is its own affair, ours is ours
#[test]
fn edns_of_upstream_is_not_relayed() {
    let mut world = World::new();
    let asked = world.ask(WWW, A);
    let upstream = asked.upstream().clone();
    let mut answer = answer_to(&upstream, NoError, &["www.example.org 300 A 198.51.100.7"]);
    answer.add_additional(record("ns.example.org 300 A 198.51.100.9"));
    let done = world.says(&upstream, &answer);
    let told = asked.in_reply(&done);
    assert!(told.message.edns.is_none() && told.message.additionals.is_empty());
    let proofs = with_edns(question(WWW, A), 1232, true);
    let asked = world.ask_as(WEB, proofs);
    let sent = Message::from_vec(&asked.upstream().bytes).unwrap();
    assert!(sent.edns.unwrap().flags().dnssec_ok);
}
