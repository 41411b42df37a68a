//! RFC 2131 tables 4 and 5 as verdict tables, and the destinations of §4.1.

use std::net::Ipv4Addr;

use dhcp::{Destination, Outcome, Silence, State};
use dhcproto::v4::{DhcpOption, MessageType};

use crate::world::*;

/// A verdict, without the bytes.
#[derive(Debug, PartialEq)]
enum Verdict {
    Offer,
    Ack,
    Nak,
    Record(State),
    Silent(Silence),
}
use Verdict::*;

fn verdict(world: &mut World, said: &Said) -> Verdict {
    match world.outcome(said) {
        Outcome::Send(reply) | Outcome::Commit { then: reply, .. } => match reply.kind {
            dhcp::Kind::Offer => Offer,
            dhcp::Kind::Ack => Ack,
            dhcp::Kind::Nak => Nak,
        },
        Outcome::Record(lease) => Record(lease.state),
        Outcome::Ignore(silence) => Silent(silence),
    }
}

fn missing(option: u8) -> Verdict {
    Silent(Silence::Missing { option })
}

fn contradiction(what: &'static str) -> Verdict {
    Silent(Silence::Contradiction(what))
}

const OTHER: Ipv4Addr = ip(250);

/// Each row on a fresh world in which web has its lease of .2.
fn holds(rows: Vec<(Verdict, Said)>) {
    for (expected, said) in rows {
        let mut world = World::with_web_and_db(config());
        world.gets_address(1);
        assert_eq!(verdict(&mut world, &said), expected, "{said:?}");
    }
}

#[test]
fn table_4_the_four_kinds_of_request() {
    let request = || says(1, MessageType::Request);
    holds(vec![
        // INIT-REBOOT: no server-ip, requested-ip, no ciaddr
        (Ack, request().requested(ip(2))),
        (Nak, request().requested(ip(9))),
        // SELECTING: server-ip, requested-ip, no ciaddr
        (Ack, request().server(SERVER).requested(ip(2))),
        (Nak, request().server(SERVER).requested(ip(9))),
        (
            Silent(Silence::OtherServer(OTHER)),
            request().server(OTHER).requested(ip(2)),
        ),
        (missing(50), request().server(SERVER)),
        (
            contradiction("a REQUEST with both a server identifier and ciaddr"),
            request().server(SERVER).requested(ip(2)).ciaddr(ip(2)),
        ),
        // RENEWING: no server-ip, no requested-ip, ciaddr, unicast
        (Ack, request().ciaddr(ip(2)).to(SERVER)),
        (Nak, request().ciaddr(ip(9)).to(SERVER)),
        (
            contradiction("a REQUEST with both a server identifier and ciaddr"),
            request().server(SERVER).ciaddr(ip(2)).to(SERVER),
        ),
        (
            contradiction("a REQUEST for two addresses"),
            request().requested(ip(2)).ciaddr(ip(3)).source(ip(2)),
        ),
        // a kindness: the same address twice
        (Ack, request().requested(ip(2)).ciaddr(ip(2))),
        // REBINDING: the same, broadcast
        (Ack, request().ciaddr(ip(2))),
        (Nak, request().ciaddr(ip(9))),
        // nothing at all
        (missing(50), request()),
    ]);
}

#[test]
fn table_5_what_clients_send() {
    let says = |kind| says(1, kind);
    use MessageType as M;
    holds(vec![
        // DISCOVER: ciaddr zero; requested-ip may, server-ip must not (and is not looked at)
        (Offer, says(M::Discover)),
        (Offer, says(M::Discover).requested(ip(9))),
        (Offer, says(M::Discover).server(OTHER)),
        (
            contradiction("a DISCOVER whose ciaddr is set"),
            says(M::Discover).ciaddr(ip(2)),
        ),
        // INFORM: ciaddr is the client's address
        (Ack, says(M::Inform).ciaddr(ip(2))),
        (
            Silent(Silence::NotYours(ip(9))),
            says(M::Inform).ciaddr(ip(9)),
        ),
        (
            contradiction("an INFORM whose ciaddr is not set"),
            says(M::Inform),
        ),
        // DECLINE: ciaddr zero, requested-ip must, server-ip must
        (
            Record(State::Declined),
            says(M::Decline).requested(ip(2)).server(SERVER),
        ),
        (missing(54), says(M::Decline).requested(ip(2))),
        (missing(50), says(M::Decline).server(SERVER)),
        (
            Silent(Silence::OtherServer(OTHER)),
            says(M::Decline).requested(ip(2)).server(OTHER),
        ),
        (
            contradiction("a DECLINE of two addresses"),
            says(M::Decline)
                .requested(ip(2))
                .server(SERVER)
                .ciaddr(ip(3))
                .source(ip(2)),
        ),
        // RELEASE: ciaddr, server-ip must, requested-ip must not
        (
            Record(State::Released),
            says(M::Release).ciaddr(ip(2)).server(SERVER),
        ),
        (missing(54), says(M::Release).ciaddr(ip(2))),
        (
            contradiction("a RELEASE whose ciaddr is not set"),
            says(M::Release).server(SERVER),
        ),
        (
            contradiction("a RELEASE of two addresses"),
            says(M::Release)
                .ciaddr(ip(2))
                .requested(ip(3))
                .server(SERVER),
        ),
        (
            Silent(Silence::OtherServer(OTHER)),
            says(M::Release).ciaddr(ip(2)).server(OTHER),
        ),
        // what servers send, and what came later, is not for us
        (not_for_servers(2), says(M::Offer)),
        (not_for_servers(5), says(M::Ack)),
        (not_for_servers(6), says(M::Nak)),
        (not_for_servers(9), says(M::ForceRenew)),
        (not_for_servers(10), says(M::LeaseQuery)),
        (not_for_servers(0), says(M::Unknown(0))),
        (not_for_servers(200), says(M::Unknown(200))),
    ]);
}

fn not_for_servers(message_type: u8) -> Verdict {
    Silent(Silence::NotForServers {
        message_type: Some(message_type),
    })
}

// RFC 2131 §4.1
#[test]
fn where_replies_go() {
    let mut world = World::with_web_and_db(config());
    let (ip, mac) = (ip(2), mac(1));
    let unicast = Destination::Unicast { ip, mac };
    let client = Destination::Client { ip, mac };
    let broadcast = Destination::Broadcast { mac };
    let mut to = |said: Said| match world.outcome(&said) {
        Outcome::Send(reply) | Outcome::Commit { then: reply, .. } => reply.to,
        other => panic!("{said:?} → {other:?}"),
    };
    // neither giaddr nor ciaddr: as the broadcast bit says
    assert_eq!(to(discover(1)), unicast);
    assert_eq!(to(discover(1).broadcast()), broadcast);
    assert_eq!(to(selecting(1, ip)), unicast);
    assert_eq!(to(selecting(1, ip).broadcast()), broadcast);
    // ciaddr goes before the broadcast bit
    assert_eq!(to(renewing(1, ip)), client);
    assert_eq!(to(rebinding(1, ip).broadcast()), client);
    assert_eq!(to(inform(1, ip).broadcast()), client);
    // a NAK is broadcast in any case
    assert_eq!(to(init_reboot(1, crate::world::ip(9))), broadcast);
    assert_eq!(to(renewing(1, crate::world::ip(9))), broadcast);

    assert_eq!(unicast.udp(), (ip, 68));
    assert_eq!(client.udp(), (ip, 68));
    assert_eq!(broadcast.udp(), (Ipv4Addr::BROADCAST, 68));
}

// RFC 2131 table 3, the fields of replies
#[test]
fn fields_are_copied_as_table_3_says() {
    let mut world = World::with_web_and_db(config());
    let offer = world.told(&discover(1).broadcast()).message;
    assert_eq!(
        (offer.hops(), offer.secs(), offer.xid()),
        (0, 0, 0xabcd_0001)
    );
    assert!(offer.flags().broadcast());
    assert_eq!(offer.chaddr(), mac(1));
    for unset in [offer.ciaddr(), offer.siaddr(), offer.giaddr()] {
        assert!(unset.is_unspecified());
    }
    let (_, ack) = world.granted(&renewing(1, ip(2)));
    assert_eq!((ack.message.ciaddr(), ack.yiaddr()), (ip(2), ip(2)));
}

// RFC 6842 §3: the client identifier comes back in every reply, unaltered
#[test]
fn the_client_identifier_is_echoed() {
    let mut world = World::with_web_and_db(config());
    for id in [&[1, 2, 0, 0, 0, 0, 1][..], &[255; 255], &[7]] {
        let echo = DhcpOption::ClientIdentifier(id.to_vec());
        for said in [discover(1), init_reboot(1, ip(9)), inform(1, ip(2))] {
            let told = world.told(&said.client_id(id));
            assert_eq!(told.option(61.into()), Some(&echo), "{:?}", told.kind());
        }
        let (_, ack) = world.granted(&selecting(1, ip(2)).client_id(id));
        assert_eq!(ack.option(61.into()), Some(&echo));
    }
    assert_eq!(world.told(&discover(1)).option(61.into()), None);
}
