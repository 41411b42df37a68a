//! Whatever is sent, by clients or from upstream: no panic, and every answer is a message that others can read, to the
//! query that was asked, within its size.

use dns::{Client, Egress, Outcome, Progress, Transport};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::*;

/// An answer repeats id and question, is well-formed and not too large.
fn check(query: &[u8], answer: &[u8], over: Transport) -> Result<(), TestCaseError> {
    let message = Message::from_vec(answer);
    prop_assert!(message.is_ok(), "{message:?} {answer:?}");
    let message = message.unwrap();
    prop_assert_eq!(&answer[..2], &query[..2]);
    prop_assert_eq!(message.metadata.message_type, MessageType::Response);
    if let Some(asked) = message.queries.first() {
        prop_assert_eq!(message.queries.len(), 1);
        let end = 12 + asked.name().len() + 4;
        let repeated = query.get(12..end) == answer.get(12..end);
        prop_assert!(repeated, "{query:?} {answer:?}");
    }
    let most = match (over, &message.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, Some(_)) => 1232,
        (Transport::Udp, None) => 512,
    };
    prop_assert!(answer.len() <= most, "{} bytes", answer.len());
    Ok(())
}

fn any_client() -> impl Strategy<Value = Client<'static>> {
    let from = prop_oneof![Just(WEB), Just(DB), Just(PROBE)];
    (from, any::<bool>()).prop_map(|(client, tcp)| Client {
        over: if tcp { Transport::Tcp } else { Transport::Udp },
        ..client
    })
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("web".to_owned()),
        Just("db.dmz.internal".to_owned()),
        Just("dmz.internal".to_owned()),
        Just("3.0.89.10.in-addr.arpa".to_owned()),
        Just("www.example.org".to_owned()),
        Just("localhost".to_owned()),
        Just(".".to_owned()),
        "[a-z0-9]{1,20}(\\.[a-z0-9-]{1,12}){0,9}",
        "([a-z0-9]{1,2}\\.){1,34}(ip6|in-addr)\\.arpa",
    ]
}

fn any_query() -> impl Strategy<Value = Vec<u8>> {
    let edns = proptest::option::of((any::<u16>(), any::<bool>()));
    (any_name(), any::<u16>(), prop::bool::ANY, edns).prop_filter_map(
        "a name",
        |(name, kind, usual, edns)| {
            let kind = if usual {
                RecordType::A
            } else {
                RecordType::from(kind)
            };
            hickory_proto::rr::Name::from_ascii(&name).ok()?;
            let mut message = question(&name, kind);
            if let Some((size, dnssec)) = edns {
                message = with_edns(message, size, dnssec);
            }
            message.to_vec().ok()
        },
    )
}

proptest! {
    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600), from in any_client()) {
        let mut world = World::new();
        if let Outcome::Answer(answer) = world.send(from, &bytes).1 {
            check(&bytes, &answer.bytes, from.over)?;
        }
        let (_, progress) = (world.pass(5000), world.dns.under_way());
        prop_assert_eq!(progress, 0);
    }

    #[test]
    fn mutated_queries(
        mut bytes in any_query(),
        flips in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut in proptest::option::weighted(0.2, any::<Index>()),
        closed in any::<bool>(),
        from in any_client(),
    ) {
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut world = World::new();
        if closed {
            world.egress(Egress::nothing());
        }
        let (ticket, outcome) = world.send(from, &bytes);
        match outcome {
            Outcome::Answer(answer) => check(&bytes, &answer.bytes, from.over)?,
            Outcome::Ask(query) => {
                prop_assert!(!(closed && from.address == WEB.address));
                let sent = Message::from_vec(&query.bytes).unwrap();
                prop_assert!(sent.queries[0].name().num_labels() != 1
                    || !matches!(sent.queries[0].query_type(), RecordType::A | RecordType::AAAA));
                // nobody answers: SERVFAIL in time
                let happened = world.pass(4000);
                let (_, last) = happened.last().unwrap();
                let Progress::Done { replies, .. } = last else { panic!("{last:?}") };
                prop_assert_eq!(replies.len(), 1);
                prop_assert_eq!(replies[0].to, ticket);
                check(&bytes, &replies[0].message.bytes, from.over)?;
            }
            Outcome::Wait => prop_assert!(false, "nobody else asked"),
            Outcome::Ignore(silence) => prop_assert!(!silence.to_string().is_empty()),
        }
    }

    // What upstream says reaches the client whole, or not at all.
    #[test]
    fn mutated_answers(
        flips in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..5),
        cut in proptest::option::weighted(0.2, any::<Index>()),
        chain in any::<bool>(),
        from in any_client(),
        size in any::<u16>(),
    ) {
        let mut world = World::new();
        let names = ["*.example.org".parse().unwrap()];
        world.egress(Egress::names(names));
        let query = with_edns(question("www.example.org", RecordType::A), size, false);
        let bytes = query.to_vec().unwrap();
        let (_, outcome) = world.send(from, &bytes);
        let Outcome::Ask(upstream) = outcome else { panic!("{outcome:?}") };
        let records: &[&str] = if chain {
            &["www.example.org 300 CNAME a.example.", "a.example 300 A 198.51.100.7"]
        } else {
            &["www.example.org 300 A 198.51.100.7", "www.example.org 300 A 198.51.100.8"]
        };
        let mut answer = answer_to(&upstream, ResponseCode::NoError, records).to_vec().unwrap();
        for (at, value) in flips {
            let at = at.index(answer.len());
            answer[at] = value;
        }
        if let Some(cut) = cut {
            answer.truncate(cut.index(answer.len()));
        }
        let mut progress = world.says_bytes(upstream.attempt, &answer);
        if !matches!(progress, Progress::Done { .. }) {
            progress = world.pass(4000).pop().unwrap().1;
        }
        let Progress::Done { replies, .. } = progress else { panic!("{progress:?}") };
        prop_assert_eq!(replies.len(), 1);
        let message = &replies[0].message;
        // data of records is relayed as it stands, so another reader may find fault with it; the rest is ours
        prop_assert_eq!(&message.bytes[..2], &bytes[..2]);
        prop_assert_eq!(&message.bytes[12..33], &bytes[12..33]);
        prop_assert!(from.over == Transport::Tcp || message.bytes.len() <= 1232);
        for (address, _) in message.opens.iter().flat_map(|opens| &opens.addresses) {
            prop_assert!(!address.is_loopback() && !address.is_multicast());
        }
    }

    #[test]
    fn random_answers(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut world = World::new();
        let asked = world.ask("www.example.org", RecordType::A);
        let upstream = asked.upstream().clone();
        // behind a header and question that fit
        let mut answer = answer_to(&upstream, ResponseCode::NoError, &[]).to_vec().unwrap();
        answer.truncate(33);
        answer[7] = bytes.first().copied().unwrap_or_default();
        answer[9] = bytes.last().copied().unwrap_or_default();
        answer.extend(bytes);
        world.says_bytes(upstream.attempt, &answer);
        world.pass(4000);
        prop_assert_eq!(world.dns.under_way(), 0);
    }
}
