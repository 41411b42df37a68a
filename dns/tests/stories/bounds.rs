//! What one container can take, and what everybody together can.

use dns::{Client, Config, Limit, Outcome, Silence};
use hickory_proto::op::ResponseCode::{NoError, Refused, ServFail};
use hickory_proto::rr::RecordType::A;

use crate::world::*;

fn tight() -> Config {
    Config {
        asked: Limit {
            per_second: 10,
            burst: 5,
        },
        forwarded: Limit {
            per_second: 1,
            burst: 3,
        },
        waiting: 2,
        flights: 4,
        ..Config::default()
    }
}

#[test]
fn who_asks_too_much_is_not_heard_while_others_ask() {
    let mut world = World::with(tight());
    let bytes = question("db", A).to_vec().unwrap();
    let heard = |world: &mut World, from: Client<'static>, count: usize| {
        let outcomes: Vec<_> = (0..count).map(|_| world.send(from, &bytes).1).collect();
        let dropped = Outcome::Ignore(Silence::RateLimited);
        outcomes.iter().filter(|o| **o != dropped).count()
    };
    assert_eq!(
        heard(&mut world, WEB, 100),
        100,
        "alone it takes what it likes"
    );
    assert_eq!(heard(&mut world, DB, 1), 1);
    assert_eq!(heard(&mut world, WEB, 100), 0, "and has used up its share");
    assert_eq!(
        heard(&mut world, DB, 4),
        4,
        "while the other has all of its own"
    );
    world.now += 500;
    assert_eq!(heard(&mut world, WEB, 100), 5);
    world.now += 5000;
    assert_eq!(heard(&mut world, WEB, 100), 100, "alone again");
}

#[test]
fn what_is_forwarded_for_a_container_is_bounded() {
    let mut config = tight();
    config.waiting = 100;
    let mut world = World::with(config);
    for n in 0..3 {
        world.ask(&format!("n{n}.example.org"), A).upstream();
    }
    assert_eq!(world.answer("n3.example.org", A).code(), Refused);
    assert_eq!(
        world.answer("db", A).code(),
        NoError,
        "names of the zone are not forwarded"
    );
    world.now += 1000;
    world.ask("n3.example.org", A).upstream();
    assert_eq!(world.dns.counters("dmz").unwrap().limited, 1);
}

#[test]
fn what_waits_is_bounded_for_each_and_in_all() {
    let mut world = World::with(tight());
    let first = world.ask("n0.example.org", A);
    world.ask("n1.example.org", A).upstream();
    assert_eq!(
        world.answer("n0.example.org", A).code(),
        Refused,
        "two wait already"
    );
    world.ask_as(DB, question("n2.example.org", A)).upstream();
    world.ask_as(DB, question("n3.example.org", A)).upstream();
    let told = world.ask_as(PROBE, question("n4.example.org", A)).told();
    assert_eq!(told.code(), ServFail, "four are on their way already");
    let upstream = first.upstream().clone();
    world.says(
        &upstream,
        &answer_to(&upstream, NoError, &["n0.example.org 60 A 198.51.100.7"]),
    );
    world
        .ask_as(PROBE, question("n4.example.org", A))
        .upstream();
    let joins = world.ask("n3.example.org", A);
    assert_eq!(joins.outcome, Outcome::Wait, "one of its own is answered");
}

#[test]
fn the_cache_keeps_to_its_budget() {
    let config = Config {
        cache: 20_000,
        forwarded: Limit {
            per_second: 1000,
            burst: 1000,
        },
        ..Config::default()
    };
    let mut world = World::with(config);
    for n in 0..500 {
        let name = format!("n{n}.example.org");
        let asked = world.ask(&name, A);
        let upstream = asked.upstream().clone();
        let text = format!("{name} 300 A 198.51.100.7");
        world.says(&upstream, &answer_to(&upstream, NoError, &[&text]));
        let (answers, bytes) = world.dns.cached();
        assert!(answers >= 1 && bytes <= 20_000, "{answers} in {bytes}");
    }
    world.dns.flush();
    assert_eq!(world.dns.cached(), (0, 0));
}
