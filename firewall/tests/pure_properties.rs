//! The main proof of the pure half, over random small worlds:
//!
//! - the compiled elements, walked as the kernel walks them, say what the oracle says, for every pair of
//!   endpoints, port boundary and family;
//! - explanations say the same;
//! - elements after any sequence of events are those of a fresh start, and no connection keeps a
//!   verdict that does not hold any more.
//!
//! `PROPTEST_CASES=2000 cargo test -p firewall --test pure_properties` runs more of them.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use firewall::compile::Firewall;
use firewall::explain::explain;
use firewall::model::{Clock, Container, Endpoint, Flow, Traffic, World, Zone};
use firewall::oracle;
use firewall::policy::PolicyFile;
use firewall::sets::{Action, Changes, Family};
use proptest::prelude::*;
use pure::kernel::{Hook, Kernel, Packet};
use pure::worlds::{self, ADDRESSES, Setting, TRAFFIC};
use pure::{flows, print};

fn every_flow(mut check: impl FnMut(&Flow)) {
    let endpoints = worlds::endpoints();
    for from in &endpoints {
        for to in &endpoints {
            for family in Family::ALL {
                let other = |end: &Endpoint| matches!(end, Endpoint::Address(a) if Family::of(*a) != family);
                if other(from) || other(to) {
                    continue;
                }
                for traffic in TRAFFIC {
                    for published in [false, true] {
                        check(&Flow {
                            from: from.clone(),
                            to: to.clone(),
                            traffic,
                            family,
                            published,
                        });
                    }
                }
            }
        }
    }
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..ProptestConfig::with_cases(cases.unwrap_or(default))
    }
}

fn agree(setting: &Setting) -> Result<(), TestCaseError> {
    let firewall = setting.firewall();
    let (world, policies) = (firewall.world(), firewall.policies());
    let kernel = Kernel::new(&firewall.elements());
    let mut wrong = None;
    every_flow(|flow| {
        if wrong.is_some() {
            return;
        }
        let wanted = oracle::allows(world, policies, flow);
        let explained = explain(world, policies, flow);
        if (explained.verdict == Action::Allow) != wanted || explained.reasons.is_empty() {
            wrong = Some(format!("oracle says {wanted} of {flow:?}\n{explained:#?}"));
            return;
        }
        let got = match flows::packet(world, flow) {
            Some(packet) => kernel.passes(&packet),
            None => false,
        };
        if got != wanted {
            wrong = Some(format!(
                "oracle says {wanted}, elements {got} of {flow:?}\n{explained:#?}"
            ));
        }
    });
    match wrong {
        None => Ok(()),
        Some(wrong) => {
            let elements = print::elements(&firewall, &firewall.elements()).join("\n");
            let files = setting.files.join("--\n");
            Err(TestCaseError::fail(format!("{wrong}\n{files}\n{elements}")))
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    Zone(Zone),
    ZoneGone(u8),
    Attach(Container),
    Detach(u8),
    /// These files and no others.
    Policies(Vec<String>),
    /// One file more, or another one under the same name.
    File(usize, String),
    /// A file goes.
    FileGone(usize),
    /// A rule is added to a file.
    Rule(usize, String),
    /// It is some other time of the week.
    Clock(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let zone = prop_oneof![worlds::zone(0), worlds::zone(1), worlds::zone(2)];
    let container = || {
        prop_oneof![
            worlds::container(0),
            worlds::container(1),
            worlds::container(2)
        ]
    };
    let rule = prop_oneof![worlds::rule("ingress"), worlds::rule("egress")];
    prop_oneof![
        1 => zone.prop_map(Event::Zone),
        1 => (0u8..3).prop_map(Event::ZoneGone),
        8 => container().prop_map(Event::Attach),
        5 => (0u8..3).prop_map(Event::Detach),
        1 => worlds::files().prop_map(Event::Policies),
        2 => (0usize..3, worlds::file()).prop_map(|(n, text)| Event::File(n, text)),
        1 => (0usize..3).prop_map(Event::FileGone),
        2 => (0u16..7 * 24 * 60).prop_map(Event::Clock),
        4 => (0usize..3, rule).prop_map(|(n, text)| Event::Rule(n, text)),
    ]
}

/// The events that make a setting, in an order in which they may well come.
fn begin(setting: Setting) -> Vec<Event> {
    let zones = setting.zones.into_iter().map(Event::Zone);
    let files = [Event::Policies(setting.files)];
    let containers = setting.containers.into_iter().map(Event::Attach);
    zones.chain(files).chain(containers).collect()
}

/// What an event does to the texts of the files.
fn edit(texts: &mut BTreeMap<String, String>, event: &Event) -> Option<String> {
    let name = |n: &usize| format!("f{n}.toml");
    match event {
        Event::File(n, text) => texts.insert(name(n), text.clone()).or(Some(String::new())),
        Event::FileGone(n) => texts.remove(&name(n)),
        Event::Rule(n, rule) => {
            let text = texts.get_mut(&name(n))?;
            // `ingress = []` and `[[ingress]]` exclude each other
            let list = if rule.starts_with("[[in") {
                "ingress = []\n"
            } else {
                "egress = []\n"
            };
            *text = text.replace(list, "") + rule;
            Some(String::new())
        }
        _ => None,
    }?;
    match event {
        Event::File(n, _) | Event::FileGone(n) | Event::Rule(n, _) => Some(name(n)),
        _ => None,
    }
}

/// Packets among all addresses, with little traffic.
fn packets(world: &World) -> Vec<Packet> {
    let mut packets = Vec::new();
    for from in ADDRESSES {
        for to in ADDRESSES {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            for traffic in [
                Traffic::Port(6, 80),
                Traffic::Port(17, 1000),
                Traffic::Icmp(8),
            ] {
                for published in [false, true] {
                    let flow = Flow {
                        from: Endpoint::Address(from),
                        to: Endpoint::Address(to),
                        traffic,
                        family: Family::of(from),
                        published,
                    };
                    packets.extend(flows::packet(world, &flow));
                }
            }
        }
    }
    packets
}

fn happen(events: &[Event]) -> Result<(), TestCaseError> {
    let mut firewall = Setting {
        zones: vec![],
        containers: vec![],
        files: vec![],
    }
    .firewall();
    let mut kernel = Kernel::default();
    // what connections may remember: whatever has passed since verdicts were forgotten
    let mut remembered: HashSet<Packet> = HashSet::new();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for event in events {
        let edited = edit(&mut texts, event);
        let changes = match event.clone() {
            Event::Zone(zone) => firewall.set_zone(zone),
            Event::ZoneGone(n) => firewall.remove_zone(&format!("z{n}").parse().unwrap()),
            Event::Attach(container) => firewall.attach(container),
            Event::Clock(minute) => firewall.set_clock(Clock::at_minute(minute)),
            Event::Detach(n) => firewall.detach(&worlds::container_name(n)),
            Event::Policies(files) => {
                let name = |n| format!("f{n}.toml");
                texts = files
                    .iter()
                    .enumerate()
                    .map(|(n, text)| (name(n), text.clone()))
                    .collect();
                firewall.set_policies(worlds::policy_set(&files))
            }
            Event::File(..) | Event::FileGone(_) | Event::Rule(..) => {
                let file = |name: String| {
                    let text = texts.get(&name);
                    let file = text.map(|text| Arc::new(PolicyFile::parse(&name, text).unwrap()));
                    (name, file)
                };
                let edits: Vec<_> = edited.map(file).into_iter().collect();
                let files: Vec<_> = edits.iter().filter_map(|(_, file)| file.clone()).collect();
                // in batches of their own, or all in one
                if files.iter().any(|file| file.rules().count() % 2 == 1) {
                    unseen(&firewall.announce(&files), &firewall, &mut kernel)?;
                }
                firewall.edit_policies(edits)
            }
        };
        kernel.apply(&changes);
        prop_assert_eq!(
            print::elements(&firewall, &kernel.dump()),
            print::elements(&firewall, &firewall.elements()),
            "after {:?}",
            event
        );
        let mut steps = 0;
        while let Some(changes) = firewall.tidy() {
            unseen(&changes, &firewall, &mut kernel)?;
            steps += 1;
            prop_assert!(steps < 5, "no end of tidying after {:?}", event);
        }
        // the same as from scratch
        let scratch = Setting {
            zones: firewall.world().zones.values().cloned().collect(),
            containers: firewall.world().containers.values().cloned().collect(),
            files: vec![],
        };
        let mut scratch = scratch.firewall();
        scratch.set_clock(firewall.world().clock);
        scratch.set_policies(firewall.policies().clone());
        let fresh = print::elements(&scratch, &print::in_use(&scratch.elements()));
        prop_assert_eq!(
            print::elements(&firewall, &print::in_use(&kernel.dump())),
            fresh,
            "after {:?}",
            event
        );
        // nobody passes on what he remembers and may not any more
        if changes.forget {
            remembered.clear();
        }
        let world = firewall.world();
        for packet in packets(world) {
            if kernel.passes(&packet) {
                if kernel.passes_and_remembers(&packet) {
                    remembered.insert(packet);
                }
            } else {
                prop_assert!(
                    !remembered.contains(&packet) || !reaches(&firewall, &packet),
                    "{:?} passes on a remembered verdict after {:?}",
                    packet,
                    event
                );
            }
        }
    }
    Ok(())
}

/// Changes that no packet notices.
fn unseen(
    changes: &Changes,
    firewall: &Firewall,
    kernel: &mut Kernel,
) -> Result<(), TestCaseError> {
    let passing = |kernel: &Kernel| -> Vec<bool> {
        let packets = packets(firewall.world());
        packets.iter().map(|packet| kernel.passes(packet)).collect()
    };
    let before = passing(kernel);
    kernel.apply(changes);
    prop_assert_eq!(before, passing(kernel), "{:?}", changes);
    prop_assert!(!changes.forget);
    Ok(())
}

/// Whether a packet would get anywhere if the policy chains let it pass: it does not come from, nor is it
/// sent to, an address of a zone that nobody has.
fn reaches(firewall: &Firewall, packet: &Packet) -> bool {
    let world = firewall.world();
    let nobody = |address| {
        let in_zone = world.zones.values().any(|zone| match address {
            std::net::IpAddr::V4(a) => zone.subnet4.is_some_and(|net| net.contains(&a)),
            std::net::IpAddr::V6(a) => zone.subnet6.is_some_and(|net| net.contains(&a)),
        });
        in_zone
            && !world
                .containers
                .values()
                .any(|c| flows::held(world, c).contains(&address))
    };
    let from_host = packet.hook == Hook::Output;
    let to_host = packet.hook == Hook::Input;
    (from_host || !nobody(packet.client)) && (to_host || !nobody(packet.server))
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn elements_and_explanations_agree_with_the_oracle(setting in worlds::setting()) {
        agree(&setting)?;
    }

    #[test]
    fn events_one_by_one_are_as_good_as_a_fresh_start(
        setting in worlds::setting(),
        events in prop::collection::vec(event(), 1..10),
    ) {
        happen(&[begin(setting), events].concat())?;
    }
}
