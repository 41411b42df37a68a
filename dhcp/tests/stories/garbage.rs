//! Whatever is sent: no panic, no answer to anybody but the sender, and nobody else's lease changes.

use dhcp::{Lease, Outcome, ServerConfig, Source};
use dhcproto::v4::{DhcpOption, MessageType};
use proptest::prelude::*;

use crate::world::*;

/// Machines 1 (web) and 2 (db) are attached, 8 and 9 are guests; all have leases. 3 is attached
/// and is the one who misbehaves.
const VILLAIN: u8 = 3;

fn world() -> World {
    let mut world = World::with_web_and_db(ServerConfig {
        relays: vec!["198.51.100.7/32".parse().unwrap()],
        rapid_commit: true,
        ..config_with_pool(100, 199)
    });
    world.dhcp.bind(mac(VILLAIN), ip(4), None).unwrap();
    for n in [1, 2, 8, 9] {
        world.gets_address(n);
    }
    world
}

/// The leases of everybody but one machine.
fn others(world: &World, n: u8) -> Vec<Lease> {
    let leases = world.dhcp.leases();
    leases
        .filter(|lease| lease.mac != mac(n))
        .cloned()
        .collect()
}

/// What the L2 guard does before the responder sees a message: `chaddr` is the port's, and the source
/// address is the port's or none.
fn guarded(bytes: &mut [u8], n: u8) {
    if let Some(chaddr) = bytes.get_mut(28..34) {
        chaddr.copy_from_slice(&mac(n));
    }
}

/// A sensible message of machine `n`, about any address, in any role.
fn any_said(n: u8) -> impl Strategy<Value = Said> {
    let address = prop_oneof![
        (0u8..=255).prop_map(ip),
        Just(ip(2)),
        Just(ip(3)),
        Just(ip(4)),
        Just(ip(100)),
        Just(ip(101)),
        any::<[u8; 4]>().prop_map(Into::into),
    ];
    let id = prop_oneof![
        Just(None),
        Just(Some(vec![1, 2, 0, 0, 0, 0, 2])), // db's
        proptest::collection::vec(any::<u8>(), 1..30).prop_map(Some),
    ];
    let relayed = prop::bool::weighted(0.2);
    (0u8..8, address, id, any::<bool>(), relayed).prop_map(
        move |(kind, address, id, rapid, relayed)| {
            let mut said = match kind {
                0 => discover(n).requested(address),
                1 => selecting(n, address),
                2 => init_reboot(n, address),
                3 => renewing(n, address),
                4 => rebinding(n, address),
                5 => decline(n, address),
                6 => release(n, address),
                _ => inform(n, address),
            };
            if let Some(id) = id {
                said = said.client_id(&id);
            }
            if rapid {
                said = said.with(DhcpOption::RapidCommit);
            }
            if relayed {
                said = said.giaddr(address);
            }
            said
        },
    )
}

/// Where the villain can send from, given the guard.
fn villains_source() -> impl Strategy<Value = Source<'static>> {
    let address = prop_oneof![Just([0, 0, 0, 0].into()), Just(ip(4))];
    let to = prop_oneof![Just(SERVER), Just([255, 255, 255, 255].into())];
    (address, to).prop_map(|(address, to)| Source {
        address,
        to,
        zone: Some("dmz"),
        hardware: None,
    })
}

/// Says it, and checks that it was nobody else's business.
fn check(world: &mut World, bytes: &[u8], from: Source<'_>, n: u8) -> Result<(), TestCaseError> {
    let before = others(world, n);
    let outcome = world.dhcp.handle(world.now, bytes, from);
    prop_assert_eq!(others(world, n), before);
    match &outcome {
        Outcome::Send(reply) | Outcome::Commit { then: reply, .. } => {
            prop_assert_eq!(reply.to.mac(), Some(mac(n)));
            let told = Told::new(reply.clone(), SERVER);
            let theirs = told.yiaddr();
            let owner = world.dhcp.lease(theirs).map(|lease| lease.mac);
            prop_assert!(
                owner.is_none_or(|owner| owner == mac(n)),
                "{theirs} is another's"
            );
            // what it is told fits what it takes, and says the same when read by somebody else
            prop_assert_eq!(told.message.chaddr(), mac(n));
            prop_assert!(matches!(
                told.kind(),
                MessageType::Offer | MessageType::Ack | MessageType::Nak
            ));
        }
        Outcome::Record(lease) => prop_assert_eq!(lease.mac, mac(n)),
        Outcome::Ignore(silence) => prop_assert!(!silence.to_string().is_empty()),
    }
    if let Outcome::Commit { lease, .. } | Outcome::Record(lease) = outcome {
        prop_assert_eq!(lease.mac, mac(n));
        prop_assert_eq!(world.dhcp.lease(lease.address), Some(&lease));
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..700),
                    from in villains_source()) {
        guarded(&mut bytes, VILLAIN);
        check(&mut world(), &bytes, from, VILLAIN)?;
    }

    #[test]
    fn random_options(options in proptest::collection::vec(any::<u8>(), 0..400),
                      from in villains_source()) {
        let mut bytes = discover(VILLAIN).bytes();
        bytes.truncate(240);
        bytes.extend([53, 1, 1]);
        bytes.extend(options);
        check(&mut world(), &bytes, from, VILLAIN)?;
    }

    #[test]
    fn mutated_messages_of_an_attached_machine(
        scripts in proptest::collection::vec(
            (any_said(VILLAIN), villains_source(),
             proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
             proptest::option::of(any::<prop::sample::Index>()), 0u64..4000),
            1..20)
    ) {
        let mut world = world();
        for (said, from, flips, cut, later) in scripts {
            let mut bytes = said.bytes();
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            guarded(&mut bytes, VILLAIN);
            check(&mut world, &bytes, from, VILLAIN)?;
            world.pass(later);
            // whatever it did, it has its address and no other
            let mine = world.dhcp.leases().filter(|lease| lease.mac == mac(VILLAIN));
            for lease in mine {
                prop_assert_eq!(lease.address, ip(4));
            }
        }
        world.now += 1000;
        prop_assert_eq!(world.gets_address(VILLAIN), ip(4));
        prop_assert_eq!(world.gets_address(2), ip(3));
    }

    // A guest has the pool, within bounds, and nothing of others either.
    #[test]
    fn messages_of_a_guest(scripts in proptest::collection::vec((any_said(20), 0u64..60), 1..40)) {
        let mut world = world();
        for (said, later) in scripts {
            check(&mut world, &said.bytes(), said.from(), 20)?;
            world.pass(later);
            let mine = || world.dhcp.leases().filter(|lease| lease.mac == mac(20));
            prop_assert!(mine().count() <= 8);
            for lease in mine() {
                prop_assert!((ip(100)..=ip(199)).contains(&lease.address));
            }
        }
    }

    // Without the guard, and through the configured agent: the attached are out of its reach.
    #[test]
    fn an_agent_that_lies(said in any_said(2), flips in proptest::collection::vec((28usize..236, any::<u8>()), 0..6)) {
        let mut world = world();
        let agent = [198, 51, 100, 7].into();
        let said = said.through(agent).zone(None);
        let attached = |world: &World| -> Vec<Lease> {
            let bound = [mac(1), mac(2), mac(VILLAIN)];
            world.dhcp.leases().filter(|lease| bound.contains(&lease.mac)).cloned().collect()
        };
        let before = attached(&world);
        let mut bytes = said.bytes();
        for (at, value) in flips {
            bytes[at] = value;
        }
        if let Outcome::Send(reply) | Outcome::Commit { then: reply, .. } =
            world.dhcp.handle(world.now, &bytes, said.from())
        {
            prop_assert!(![ip(2), ip(3), ip(4)].contains(&Told::new(reply, SERVER).yiaddr()));
        }
        prop_assert_eq!(attached(&world), before);
    }
}
