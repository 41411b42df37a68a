//! Messages: EDNS, sizes, codes.

use dns::Client;
use dns::Transport::{Tcp, Udp};
use hickory_proto::op::{OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use crate::world::*;

// RFC 6891 §6.1.1: EDNS is answered with EDNS, and not otherwise; §6.1.4: DO is repeated
#[test]
fn edns_is_answered_with_edns() {
    let mut world = World::new();
    for dnssec in [false, true] {
        let asked = with_edns(question("db", RecordType::A), 4096, dnssec);
        let told = world.ask_as(WEB, asked).told();
        let edns = told.message.edns.clone().unwrap();
        assert_eq!(edns.max_payload(), 1232);
        assert_eq!(edns.flags().dnssec_ok, dnssec);
        assert_eq!(edns.version(), 0);
        assert_eq!(told.answers(), ["A 10.89.0.3"]);
    }
    assert!(world.answer("db", RecordType::A).message.edns.is_none());
}

// RFC 6891 §6.1.3
#[test]
fn another_version_of_edns_is_told_which_one_we_speak() {
    let mut world = World::new();
    let mut asked = with_edns(question("db", RecordType::A), 1232, false);
    asked.edns.as_mut().unwrap().set_version(1);
    let told = world.ask_as(WEB, asked).told();
    assert_eq!(u16::from(told.code()), 16, "BADVERS");
    assert_eq!(told.message.edns.unwrap().version(), 0);
}

/// So many addresses of one name.
fn many(count: u8) -> Vec<String> {
    (0..count)
        .map(|n| format!("big.example.org 300 A 198.51.100.{n}"))
        .collect()
}

// RFC 6891 §6.2.3, §6.2.5; RFC 2181 §9: what does not fit is empty, not half
#[test]
fn a_large_answer_is_cut_off_for_udp_and_whole_for_tcp() {
    let mut world = World::new();
    let big = question("big.example.org", RecordType::A);
    let first = world.ask_as(WEB, big.clone());
    let upstream = first.upstream().clone();
    let records = many(40); // 16 bytes each
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let done = world.says(
        &upstream,
        &answer_to(&upstream, ResponseCode::NoError, &records),
    );
    let told = first.in_reply(&done);
    assert!(told.message.metadata.truncation);
    assert_eq!(
        (told.code(), told.answers().len()),
        (ResponseCode::NoError, 0)
    );

    for (message, over, whole) in [
        (big.clone(), Tcp, true),
        (with_edns(big.clone(), 1232, false), Udp, true),
        (with_edns(big.clone(), 65535, false), Udp, true),
        (with_edns(big.clone(), 600, false), Udp, false),
        (with_edns(big.clone(), 0, false), Udp, false), // taken as 512
        (big.clone(), Udp, false),
    ] {
        let told = world.ask_as(Client { over, ..WEB }, message).told();
        assert_eq!(told.message.metadata.truncation, !whole);
        assert_eq!(told.answers().len(), if whole { 40 } else { 0 });
    }

    // more than we send over UDP to anybody
    let records: Vec<String> = many(100);
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    world.pass(400_000);
    let again = world.ask_as(WEB, with_edns(big.clone(), 4096, false));
    let upstream = again.upstream().clone();
    let done = world.says(
        &upstream,
        &answer_to(&upstream, ResponseCode::NoError, &records),
    );
    assert!(again.in_reply(&done).message.metadata.truncation);
    let told = world.ask_as(Client { over: Tcp, ..WEB }, big).told();
    assert_eq!(told.answers().len(), 100);
}

#[test]
fn what_is_not_served_says_so() {
    let mut world = World::new();
    let chaos = {
        let mut query = Query::query(Name::from_ascii("version.bind.").unwrap(), RecordType::TXT);
        query.set_query_class(DNSClass::CH);
        let mut message = question("x", RecordType::A);
        message.queries = vec![query];
        message
    };
    let update = {
        let mut message = question("web", RecordType::SOA);
        message.metadata.op_code = OpCode::Update;
        message
    };
    let two = {
        let mut message = question("web", RecordType::A);
        message.add_query(Query::query(
            Name::from_ascii("db.").unwrap(),
            RecordType::A,
        ));
        message
    };
    for (what, message, code) in [
        (
            "RFC 5936: a zone transfer",
            question("dmz.internal", RecordType::AXFR),
            ResponseCode::Refused,
        ),
        ("RFC 1035 §3.2.4: class CH", chaos, ResponseCode::Refused),
        ("RFC 1035 §4.1.1: an update", update, ResponseCode::NotImp),
        ("RFC 9619: two questions", two, ResponseCode::FormErr),
    ] {
        assert_eq!(world.ask_as(WEB, message).told().code(), code, "{what}");
    }
    // RFC 1035 §4.1.1: who does not want us to look further is not told what others looked up
    let mut plain = question("www.example.org", RecordType::A);
    plain.metadata.recursion_desired = false;
    assert_eq!(
        world.ask_as(WEB, plain).told().code(),
        ResponseCode::Refused
    );
    let mut plain = question("db", RecordType::A);
    plain.metadata.recursion_desired = false;
    let told = world.ask_as(WEB, plain).told();
    assert!(!told.message.metadata.recursion_desired);
    assert_eq!(told.answers(), ["A 10.89.0.3"]);
}

// RFC 8914 §4.19
#[test]
fn a_refusal_says_why_to_who_speaks_edns() {
    let mut world = World::new();
    world.egress(dns::Egress::nothing());
    let asked = with_edns(question("www.example.org", RecordType::A), 1232, false);
    let told = world.ask_as(WEB, asked).told();
    assert_eq!(told.code(), ResponseCode::Refused);
    let edns = told.message.edns.unwrap();
    let Some(EdnsOption::Unknown(15, bytes)) = edns.option(EdnsCode::Unknown(15)) else {
        panic!("{edns:?}")
    };
    assert_eq!(bytes[..2], [0, 18]);
    assert!(String::from_utf8_lossy(&bytes[2..]).contains("policy"));
}
