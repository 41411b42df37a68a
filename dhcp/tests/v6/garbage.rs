//! Noise, cut and bent messages: never a panic, never a lease for somebody else, never more memory than
//! the limits say.

use dhcp::v6::wire::{Message, kind::*, unwrap_relays};
use dhcp::v6::{Config, Outcome, Silence, frame};
use proptest::prelude::*;

use crate::world::*;

fn everything() -> Vec<Said> {
    [SOLICIT, REQUEST, CONFIRM, RENEW, REBIND, RELEASE, DECLINE]
        .into_iter()
        .map(|what| {
            says(2, what)
                .na(7, &[ip(2), ip(3)])
                .pd(8, &["::/60"])
                .asks(&[23, 24])
        })
        .chain([says(2, SOLICIT).na(1, &[]).relayed(ip(1), 0, Some(b"x"))])
        .collect()
}

fn open() -> Config {
    Config {
        pool: Some((ip(0x10), ip(0x1f))),
        relays: vec!["fd00::/64".parse().unwrap()],
        ..config()
    }
}

#[test]
fn every_cut_is_survived_and_grants_no_more() {
    for said in everything() {
        let mut dhcp = attached(open(), &[2, 3]);
        for cut in 0..said.bytes.len() {
            let mut short = said.clone();
            short.bytes.truncate(cut);
            let after = 10 * cut as u64;
            if let Outcome::Commit { leases, .. } = short.to(&mut dhcp, after) {
                assert!(leases.iter().all(|lease| lease.net.addr() != ip(3)));
            }
        }
    }
}

#[test]
fn identifiers_of_impossible_length() {
    let mut dhcp = attached(config(), &[2]);
    for length in [0, 2, 131, 2000] {
        let said = bare(2, SOLICIT).option(1, &vec![7; length]);
        let bad = Silence::BadOption { option: 1 };
        assert_eq!(said.silence(&mut dhcp), bad, "{length}");
    }
    for length in [3, 130] {
        let said = bare(2, SOLICIT).option(1, &vec![7; length]);
        said.told(&mut dhcp, 5);
    }
    let twice = says(2, SOLICIT).option(1, &duid(3));
    assert_eq!(twice.silence(&mut dhcp), Silence::BadOption { option: 1 });
}

#[test]
fn many_parts_are_not_all_looked_at() {
    let mut said = says(2, SOLICIT);
    for iaid in 0..50 {
        said = said.na(iaid, &[ip(9); 20]);
    }
    said = said.asks(&[23; 500]);
    let message = Message::parse(&said.bytes).unwrap();
    assert_eq!((message.ias.len(), message.asked.len()), (8, 64));
    assert_eq!(message.ias[0].nets.len(), 8);
}

/// However many identifiers one machine makes up, it has its share of the pool, and the others theirs.
#[test]
fn nobody_drains_the_pool() {
    let mut dhcp = attached(
        Config {
            leases_per_machine: 4,
            ..open()
        },
        &[2],
    );
    for second in 0..200u64 {
        let mut said = bare(5, REQUEST)
            .option(1, &[0, 2, second as u8, 9])
            .option(2, &SERVER);
        said = said.na(second as u32, &[]).na(1000, &[]);
        said.to(&mut dhcp, second);
    }
    assert_eq!(dhcp.leases().count(), 4);
    let other = says(6, REQUEST).na(1, &[]).told(&mut dhcp, 201);
    assert!(other.contains("bound"), "{other}");
}

proptest! {
    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..14) {
        let mut dhcp = attached(open(), &[2, 3]);
        let mut said = bare(2, kind);
        said.bytes.extend_from_slice(&bytes);
        let _ = said.to(&mut dhcp, 0);
        said.bytes = bytes.clone();
        let _ = said.to(&mut dhcp, 0);
        let _ = Message::parse(&bytes);
        let _ = unwrap_relays(&bytes);
        let _ = frame::Received::parse(&bytes);
    }

    /// Bytes of real messages, bent: an attached machine never gets a lease but for its own address, and
    /// nobody else's lease changes.
    #[test]
    fn bent(which in 0usize..8, at in any::<prop::sample::Index>(), to in any::<u8>(), also in any::<prop::sample::Index>(), too in any::<u8>()) {
        let mut dhcp = attached(config(), &[2, 3]);
        says(3, REQUEST).na(7, &[ip(3)]).told(&mut dhcp, 0);
        let before = dhcp.lease(ip(3).into()).cloned();
        let mut said = everything()[which].clone();
        let (at, also) = (at.index(said.bytes.len()), also.index(said.bytes.len()));
        said.bytes[at] = to;
        said.bytes[also] = too;
        if let Outcome::Commit { leases, .. } = said.to(&mut dhcp, 1) {
            prop_assert!(leases.iter().all(|lease| lease.net.addr() == ip(2) && lease.mac == mac(2)));
        }
        prop_assert_eq!(dhcp.lease(ip(3).into()), before.as_ref());
    }

    /// What is answered can be read by somebody else.
    #[test]
    fn answers_are_well_formed(which in 0usize..7, iaid in any::<u32>()) {
        let mut dhcp = attached(config(), &[2]);
        let said = everything()[which].clone().na(iaid, &[]);
        let (Outcome::Send(reply) | Outcome::Commit { then: reply, .. }) = said.to(&mut dhcp, 0) else {
            return Ok(());
        };
        words(&reply.bytes);
    }
}
