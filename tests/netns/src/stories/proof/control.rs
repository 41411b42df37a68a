//! Controls of the proof: what it rests on would be noticed if it were not so.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::ask::Lie;
use super::draw::places::{self, address};
use super::shrink::shrink;
use super::tally::Tally;
use super::{Case, play, play_again};
use crate::net::ears::{self, Ears, Place};
use crate::net::probe::Reach;
use crate::net::volley::{self, Carried, Shot};
use crate::world::World;

/// An oracle that overlooks denies says of too much that it is allowed.
pub fn a_lie_is_found_and_made_small() {
    let mut tally = Tally::default();
    for seed in 1..20 {
        let mut case = Case {
            lie: Some(Lie::NoDenies),
            events: Vec::new(),
            ..Case::of(seed)
        };
        if !case.plan.script().contains("deny\"") {
            continue;
        }
        case.plan.containers.truncate(4);
        let Some((_, found)) = play(&case, None, &mut tally) else {
            continue;
        };
        let (small, found) = shrink(case, found, play_again);
        let text = small.script();
        let why = format!("{text}\n{}", found.answers);
        assert!(text.contains("action = \"deny\""), "{why}");
        assert!(small.plan.containers.len() <= 2, "{why}");
        assert!(small.plan.files.len() <= 2, "{why}");
        assert!(found.answers.contains("packets: Stop"), "{why}");
        return;
    }
    panic!("nobody noticed that the oracle overlooks denies");
}

/// One that overlooks allows says of too much that it is denied; real packets pass.
pub fn packets_that_should_not_pass_are_found() {
    let mut tally = Tally::default();
    let case = Case {
        lie: Some(Lie::NoAllows),
        ..Case::of(1)
    };
    let (_, found) = play(&case, None, &mut tally).expect("somebody notices");
    assert!(found.answers.contains("packets: Pass"), "{}", found.answers);
    assert!(
        found.answers.contains("explain: allow"),
        "{}",
        found.answers
    );
    assert!(found.answers.contains("oracle:  deny"), "{}", found.answers);
}

/// What arrives is heard, also when nothing ever comes back; and what does not arrive is not.
pub fn packets_are_heard_without_answers() {
    let world = World::quiet_beside("ears");
    let ears = Ears::open();
    ears.add(&Place {
        name: "world".to_owned(),
        netns: world.outside.clone(),
        tcp: places::TCP.to_vec(),
        udp: places::UDP.to_vec(),
        addresses: Vec::new(),
    });
    let targets: [IpAddr; 2] = ["192.0.2.2", "2001:db8:1::2"].map(address);
    let carried = [
        Carried::Tcp(80),
        Carried::Udp(53),
        Carried::Icmp(8),
        Carried::Bare,
    ];
    let mut next = places::FIRST_KEY;
    let mut volley = || {
        let shots: Vec<Shot> = targets
            .iter()
            .flat_map(|to| carried.map(|carried| (*to, carried)))
            .map(|(to, carried)| {
                next += 1;
                Shot {
                    key: next,
                    source: None,
                    to,
                    carried,
                    keep: false,
                }
            })
            .collect();
        let hits = volley::fire(&world.netns, &shots, Duration::from_millis(500));
        (shots, hits)
    };
    let heard = |shot: &Shot| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            if ears
                .arrivals(shot.key)
                .iter()
                .any(|arrival| arrival.at == "world")
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    };
    let (shots, hits) = volley();
    for (shot, hit) in shots.iter().zip(&hits) {
        let answered = hit.reach.passed() || shot.carried == Carried::Bare;
        assert!(answered && heard(shot), "{shot:?}: {hit:?}");
    }
    // Answers are lost on their way.
    world.outside.sh("nft -f - <<'X'\n\
         table inet deaf { chain o { type filter hook output priority 0; \
         icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; drop; }; }\nX");
    let (shots, hits) = volley();
    for (shot, hit) in shots.iter().zip(&hits) {
        assert_eq!(hit.reach, Reach::Silent, "{shot:?}");
        assert!(heard(shot), "{shot:?} was not heard");
    }
    // Nothing is delivered any more; a raw socket would see what the hooks had not judged yet.
    world.outside.sh("nft -f - <<'X'\n\
         table inet shut { chain i { type filter hook input priority 0; \
         icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; drop; }; }\nX");
    let (shots, hits) = volley();
    std::thread::sleep(Duration::from_millis(100));
    for (shot, hit) in shots.iter().zip(&hits) {
        assert_eq!(hit.reach, Reach::Silent, "{shot:?}");
        assert!(ears.arrivals(shot.key).is_empty(), "{shot:?} was heard");
    }
    assert_eq!(ears::lost(&world.outside), 0);
}
