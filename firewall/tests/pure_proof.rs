//! The worlds of chance of `make proof`, without a kernel: the same seeds, the same questions, put to the oracle,
//! to the explanation and to the compiled elements. Quicker by far than with real packets, so there are more.
//!
//! `PROOF_SEEDS=1000-2000 cargo test -p firewall --test pure_proof` tries those seeds.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

#[path = "../../tests/netns/src/stories/proof/draw/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod draw;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use draw::{Dice, Kind, Scene, paper, question};
use firewall::compile::Firewall;
use firewall::explain::explain;
use firewall::oracle;
use firewall::sets::{Action, Family};
use pure::flows;
use pure::kernel::Kernel;

fn seeds() -> RangeInclusive<u64> {
    let read = || {
        let text = std::env::var("PROOF_SEEDS").ok()?;
        let (first, last) = text.split_once('-')?;
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    read().unwrap_or(1..=30)
}

fn firewall(scene: &Scene) -> Firewall {
    let mut firewall = Firewall::new();
    firewall.set_host(scene.world.host.clone());
    firewall.set_clock(scene.world.clock);
    for zone in scene.world.zones.values() {
        firewall.set_zone(zone.clone());
    }
    firewall.set_policies(scene.policies.clone());
    for container in scene.world.containers.values() {
        firewall.attach(container.clone());
    }
    firewall
}

#[test]
fn elements_and_explanations_agree_with_the_oracle() {
    let mut seen: BTreeMap<(Kind, Family, bool), usize> = BTreeMap::new();
    for seed in seeds() {
        let plan = draw::plan(seed, 0);
        let scene = paper::scene(&plan);
        let firewall = firewall(&scene);
        let kernel = Kernel::new(&firewall.elements());
        let mut dice = Dice::new(seed).aside(2);
        for question in question::some(&scene, &mut dice, 1_000) {
            let Some(judged) = scene.judged(&question) else {
                continue;
            };
            let Some(flow) = &judged.flow else {
                continue;
            };
            let allowed = oracle::allows(&scene.world, &scene.policies, flow);
            let explained = explain(&scene.world, &scene.policies, flow);
            let packet = flows::packet(&scene.world, flow);
            let passes = packet.is_some_and(|packet| kernel.passes(&packet));
            let explains = explained.verdict == Action::Allow;
            assert!(
                allowed == explains && allowed == passes,
                "seed {seed}: {question}: oracle {allowed}, explain {explains}, elements {passes}\n{}\n{explained:#?}",
                plan.script()
            );
            let at = (judged.kind, flow.family, allowed);
            *seen.entry(at).or_default() += 1;
        }
    }
    // What is drawn must have something to say of every path.
    for kind in Kind::ALL {
        for family in Family::ALL {
            for allowed in [true, false] {
                assert!(
                    seen.contains_key(&(kind, family, allowed)),
                    "no world has {} in {family:?} that is {}: {seen:#?}",
                    kind.name(),
                    if allowed { "allowed" } else { "denied" }
                );
            }
        }
    }
}
