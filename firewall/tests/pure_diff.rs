//! What would change, held to every flow: a flow's verdict differs if and only if a row is about it.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use std::collections::BTreeSet;
use std::net::IpAddr;

use firewall::diff::{Change, Difference, End, Way, diff, diff_within};
use firewall::model::{Clock, Container, Endpoint, Flow, Traffic, World};
use firewall::oracle::{self, Party, Who};
use firewall::policy::{Peer, PolicySet};
use firewall::sets::{Action, Direction, Family};
use proptest::prelude::*;
use pure::worlds::{self, Setting, TRAFFIC};

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 150,
        ..ProptestConfig::with_cases(cases.and_then(|n| n.parse().ok()).unwrap_or(default))
    }
}

/// Whether one of two ends is a container: of the others no policy says anything.
fn is_ours(world: &World, from: &Endpoint, to: &Endpoint, family: Family) -> bool {
    [(from, to), (to, from)].into_iter().any(|(one, other)| {
        oracle::party(world, one, other, family)
            .is_ok_and(|party| matches!(party.who, Who::Container(_)))
    })
}

/// Every flow there can be between the endpoints of small worlds.
fn flows(world: &World) -> Vec<Flow> {
    let endpoints = worlds::endpoints();
    let mut flows = Vec::new();
    for from in &endpoints {
        for to in &endpoints {
            for family in Family::ALL {
                let party = |one, other| oracle::party(world, one, other, family).is_ok();
                if !party(from, to) || !party(to, from) || !is_ours(world, from, to, family) {
                    continue;
                }
                // a published port leads to the one main address
                let elsewhere = oracle::party(world, to, from, family).is_ok_and(|party| {
                    let Who::Container(container) = party.who else {
                        return false;
                    };
                    let mut own = world.addresses(container);
                    own.find(|a| Family::of(*a) == family) != party.address
                });
                for traffic in TRAFFIC {
                    let none = matches!(traffic, Traffic::Icmp(13)) && family == Family::V6;
                    for published in [false, true] {
                        if !(none || published && elsewhere) {
                            flows.push(Flow {
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
    flows
}

/// Whether a row tells an address of a container apart from its first one of that family: another network of the
/// container's, or on the other side of where a network that rules name begins or ends.
fn is_apart(world: &World, sets: [&PolicySet; 2], container: &Container, address: IpAddr) -> bool {
    let family = Family::of(address);
    let mut addresses = world.addresses(container);
    let Some(first) = addresses.find(|a| Family::of(*a) == family) else {
        return false;
    };
    let mut networks = world.networks(container).into_iter();
    if networks.any(|net| net.contains(&address) && !net.contains(&first)) {
        return true;
    }
    let files = sets.into_iter().flat_map(|set| set.0.values());
    let sections = files.flat_map(|file| Direction::ALL.map(|d| file.section(d)));
    let rules = sections.flatten().flat_map(|section| &section.rules);
    let mut cuts = rules
        .flat_map(|rule| &rule.peers)
        .filter_map(|peer| match peer {
            Peer::Net(net) if Family::of(net.addr()) == family => Some(*net),
            _ => None,
        });
    let (low, high) = (first.min(address), first.max(address));
    cuts.any(|net| {
        (low < net.network() && net.network() <= high)
            || (low <= net.broadcast() && net.broadcast() < high)
    })
}

/// Whether an end of a row means somebody. The sender on loopback is the host.
fn means(world: &World, sets: [&PolicySet; 2], end: &End, party: Party<'_>, sends: bool) -> bool {
    let apart = |container: &Container| {
        party
            .address
            .is_some_and(|a| is_apart(world, sets, container, a))
    };
    let within = |nets: &[ipnet::IpNet]| {
        party
            .address
            .is_some_and(|a| nets.iter().any(|net| net.contains(&a)))
    };
    let loopback = sends && party.address.is_some_and(|a| a.is_loopback());
    match (end, party.who) {
        (End::Container(name), Who::Container(container)) => {
            container.name == *name && !apart(container)
        }
        (End::Host { except }, who) if who == Who::Host || loopback => !within(except),
        (End::World { except }, Who::World) => !within(except),
        (End::HostAt(net), who) if who == Who::Host || loopback => within(&[*net]),
        (End::Name(pattern), Who::World) => party.names.is_some_and(|names| {
            let mut names = names.keys();
            names.any(|name| firewall::model::name_matches(pattern, name))
        }),
        // of its own addresses, and not of a wider network that it is in
        (End::Net(net), Who::Container(container)) => {
            let mut own = world.networks(container).into_iter();
            own.any(|one| one.contains(net)) && within(&[*net]) && apart(container)
        }
        (End::Net(_), Who::Host) => false,
        (End::Net(net), _) => !loopback && within(&[*net]),
        _ => false,
    }
}

fn is_about(world: &World, sets: [&PolicySet; 2], row: &Change, flow: &Flow) -> bool {
    let from = oracle::party(world, &flow.from, &flow.to, flow.family).unwrap();
    let to = oracle::party(world, &flow.to, &flow.from, flow.family).unwrap();
    let way = if flow.published {
        Way::Published
    } else {
        Way::Direct
    };
    let mut ends = row.from.iter();
    ends.any(|end| means(world, sets, end, from, true))
        && row.to.iter().any(|end| means(world, sets, end, to, false))
        && row.family.is_none_or(|family| family == flow.family)
        && row.way.is_none_or(|told| told == way)
        && row.traffic.contains(flow.traffic)
}

fn tell(difference: &Difference) -> String {
    let list = |ends: &[End]| {
        ends.iter()
            .map(End::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let rows = difference.rows.iter().map(|row| {
        let (from, to) = (list(&row.from), list(&row.to));
        let (before, after) = (row.before.verdict.as_str(), row.after.verdict.as_str());
        let family = match row.family {
            Some(Family::V4) => " (IPv4)",
            Some(Family::V6) => " (IPv6)",
            None => "",
        };
        let way = row.way.map_or(String::new(), |way| format!(" {way:?}"));
        format!(
            "{from} -> {to}: {}{family}{way} {before} -> {after}",
            row.traffic
        )
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn complete_and_exact(
    world: &World,
    old: &PolicySet,
    new: &PolicySet,
    minute: u16,
) -> Result<(), TestCaseError> {
    let difference = diff(world, old, new);
    prop_assert_eq!((difference.more, difference.unasked), (0, 0));
    for flow in flows(world) {
        let verdict = |set| {
            if oracle::allows(world, set, &flow) {
                Action::Allow
            } else {
                Action::Deny
            }
        };
        let (before, after) = (verdict(old), verdict(new));
        let about: Vec<_> = difference
            .rows
            .iter()
            .filter(|row| is_about(world, [old, new], row, &flow))
            .collect();
        let verdicts = about
            .iter()
            .map(|row| (row.before.verdict, row.after.verdict));
        let told: BTreeSet<_> = verdicts.filter(|(before, after)| before != after).collect();
        let wanted: BTreeSet<_> = (before != after)
            .then_some((before, after))
            .into_iter()
            .collect();
        prop_assert_eq!(told, wanted, "{:?}\n{}", flow, tell(&difference));
        prop_assert!(
            about.len() <= 1,
            "{:?} is told {} times\n{}",
            flow,
            about.len(),
            tell(&difference)
        );
    }
    // at other times of the week rows may tell of limits only, but of every flow that they are about
    let later = World {
        clock: Clock::at_minute(minute),
        ..world.clone()
    };
    for flow in flows(world) {
        let verdict = |set| oracle::allows(&later, set, &flow);
        let told = || {
            difference
                .rows
                .iter()
                .any(|row| is_about(world, [old, new], row, &flow))
        };
        prop_assert!(
            verdict(old) == verdict(new) || told(),
            "{flow:?} in minute {minute}\n{}",
            tell(&difference)
        );
    }
    Ok(())
}

fn world_of(setting: &Setting) -> World {
    setting.firewall().world().clone()
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn rows_are_what_the_oracle_says(
        setting in worlds::setting(),
        files in worlds::files(),
        minute in 0u16..7 * 24 * 60,
    ) {
        let (old, new) = (worlds::policy_set(&setting.files), worlds::policy_set(&files));
        complete_and_exact(&world_of(&setting), &old, &new, minute)?;
    }

    #[test]
    fn one_rule_more_is_told_exactly(
        setting in worlds::setting(),
        file in worlds::file(),
        rule in prop_oneof![worlds::rule("ingress"), worlds::rule("egress")],
        minute in 0u16..7 * 24 * 60,
    ) {
        let list = if rule.starts_with("[[in") { "ingress = []\n" } else { "egress = []\n" };
        let mut before = setting.files.clone();
        before.push(file.clone());
        let mut after = setting.files.clone();
        after.push(file.replace(list, "") + &rule);
        let (old, new) = (worlds::policy_set(&before), worlds::policy_set(&after));
        complete_and_exact(&world_of(&setting), &old, &new, minute)?;
    }

    #[test]
    fn the_same_policies_change_nothing(setting in worlds::setting()) {
        let set = worlds::policy_set(&setting.files);
        // lines move, meanings do not
        let moved: Vec<String> = setting.files.iter().map(|text| format!("\n# moved\n{text}")).collect();
        let moved = worlds::policy_set(&moved);
        prop_assert!(diff(&world_of(&setting), &set, &moved).is_empty());
    }

    #[test]
    fn a_ceiling_leaves_out_and_counts(setting in worlds::setting(), files in worlds::files()) {
        let (old, new) = (worlds::policy_set(&setting.files), worlds::policy_set(&files));
        let world = world_of(&setting);
        let whole = diff(&world, &old, &new);
        let rows = diff_within(&world, &old, &new, usize::MAX, 1);
        prop_assert_eq!(rows.rows.len() + rows.more, whole.rows.len());
        prop_assert!(rows.rows.len() <= 1);
        let asked = diff_within(&world, &old, &new, 1, usize::MAX);
        prop_assert!(whole.is_empty() || !asked.is_empty());
    }
}
