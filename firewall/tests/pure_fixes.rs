//! What `explain` suggests works, keeps what was open, and opens as little as can be said: over random small
//! worlds, with the suggestion applied to the files as a person would.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use std::sync::Arc;

use firewall::explain::{Question, Surroundings, answer};
use firewall::model::{Endpoint, Flow, Traffic, World};
use firewall::oracle;
use firewall::policy::{PolicyFile, PolicySet};
use firewall::sets::{Action, Family};
use proptest::prelude::*;
use proptest::sample::Index;
use pure::worlds::{self, Setting, TRAFFIC};

/// Texts of files by name.
type Texts = Vec<(String, String)>;

fn texts(setting: &Setting) -> Texts {
    let named = setting.files.iter().enumerate();
    named
        .map(|(n, text)| (format!("f{n}.toml"), text.clone()))
        .collect()
}

fn parsed(texts: &Texts) -> Result<PolicySet, TestCaseError> {
    let mut set = PolicySet::default();
    for (name, text) in texts {
        let file = PolicyFile::parse(name, text)
            .map_err(|wrong| TestCaseError::fail(format!("{wrong}\n{text}")))?;
        set.0.insert(name.clone(), Arc::new(file));
    }
    Ok(set)
}

fn flow(from: &Endpoint, to: &Endpoint, traffic: Traffic, family: Family, published: bool) -> Flow {
    Flow {
        from: from.clone(),
        to: to.clone(),
        traffic,
        family,
        published,
    }
}

/// Among all endpoints, with the traffic in question and some other.
fn some_flows(asked: Traffic) -> Vec<Flow> {
    let endpoints = worlds::endpoints();
    let mut flows = Vec::new();
    for from in &endpoints {
        for to in &endpoints {
            for family in Family::ALL {
                for traffic in [asked, Traffic::Port(6, 81), Traffic::Icmp(8)] {
                    for published in [false, true] {
                        flows.push(flow(from, to, traffic, family, published));
                    }
                }
            }
        }
    }
    flows
}

/// The container at an end, if there is one.
fn name(world: &World, end: &Endpoint) -> Option<String> {
    match end {
        Endpoint::Container(name) => Some(name.container().to_owned()),
        Endpoint::Address(address) => {
            let mut all = world.containers.values();
            let has = |c: &&firewall::model::Container| world.has(c, *address);
            all.find(has).map(|c| c.name.container().to_owned())
        }
        _ => None,
    }
}

fn check(
    setting: &Setting,
    from: Index,
    to: Index,
    traffic: Index,
    v6: bool,
) -> Result<bool, TestCaseError> {
    let firewall = setting.firewall();
    let world = firewall.world();
    let before = texts(setting);
    let old = parsed(&before)?;
    let family = if v6 { Family::V6 } else { Family::V4 };
    let endpoints = worlds::endpoints();
    let question = Question {
        from: from.get(&endpoints).clone(),
        to: to.get(&endpoints).clone(),
        traffic: *traffic.get(&TRAFFIC),
        family,
    };
    let answer = answer(world, &old, &question, &Surroundings::default());
    if answer.verdict == Action::Allow || answer.fix.is_empty() {
        prop_assert!(answer.fix.is_empty());
        return Ok(false);
    }
    let mut after = before.clone();
    for fix in &answer.fix {
        let file = after.iter_mut().find(|(name, _)| *name == fix.file);
        match file {
            Some((_, text)) => {
                prop_assert!(!fix.create, "{fix:?} exists");
                text.push_str(&fix.text);
            }
            None => {
                prop_assert!(fix.create, "{fix:?} does not exist");
                after.push((fix.file.clone(), fix.text.clone()));
            }
        }
    }
    let new = parsed(&after)?;
    let context = || format!("{question:?}\n{answer:#?}\n{after:#?}");
    // asked again
    let again = firewall::explain::answer(world, &new, &question, &Surroundings::default());
    prop_assert_eq!(again.verdict, Action::Allow, "{}", context());
    let restated = answer
        .fix
        .iter()
        .any(|fix| fix.text.contains("published ports"));
    for flow in some_flows(question.traffic) {
        let (was, is) = (
            oracle::allows(world, &old, &flow),
            oracle::allows(world, &new, &flow),
        );
        prop_assert!(is || !was, "closes {:?}\n{}", flow, context());
        if is && !was {
            let traffic = flow.traffic == question.traffic || restated;
            let owners: Vec<String> = answer
                .fix
                .iter()
                .flat_map(|fix| ["c0", "c1", "c2"].map(|c| (fix, c)))
                .filter(|(fix, c)| {
                    fix.file.starts_with(&format!("{c}."))
                        || fix.file.starts_with(&format!("{c}-"))
                        || after.iter().any(|(name, text)| {
                            *name == fix.file && text.contains(&format!("container = \"{c}\""))
                        })
                })
                .map(|(_, c)| c.to_owned())
                .collect();
            let ends = [name(world, &flow.from), name(world, &flow.to)];
            let owned = ends.into_iter().flatten().any(|end| owners.contains(&end));
            prop_assert!(traffic && owned, "opens {:?}\n{}", flow, context());
        }
    }
    Ok(true)
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases.unwrap_or(default))
    }
}

/// What cannot be opened by adding a rule is not tried; everything else is.
fn is_hopeless(setting: &Setting, from: Index, to: Index, traffic: Index, v6: bool) -> bool {
    let mut open = setting.clone();
    open.files = vec![
        "applies-to = { zone = \"z0\" }\n[[ingress]]\n[[egress]]\n".into(),
        "applies-to = { zone = \"z1\" }\n[[ingress]]\n[[egress]]\n".into(),
        "applies-to = { zone = \"z2\" }\n[[ingress]]\n[[egress]]\n".into(),
    ];
    // "anybody" leaves out what only an address means
    for file in &mut open.files {
        file.push_str("[[ingress]]\nfrom = [\"0.0.0.0/0\", \"::/0\"]\n[[egress]]\nto = [\"0.0.0.0/0\", \"::/0\"]\n");
    }
    let firewall = open.firewall();
    let endpoints = worlds::endpoints();
    let question = Question {
        from: from.get(&endpoints).clone(),
        to: to.get(&endpoints).clone(),
        traffic: *traffic.get(&TRAFFIC),
        family: if v6 { Family::V6 } else { Family::V4 },
    };
    let answer = answer(
        firewall.world(),
        firewall.policies(),
        &question,
        &Surroundings::default(),
    );
    answer.verdict == Action::Deny || matches!(question.traffic, Traffic::Port(_, 0))
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn suggestions_work_and_open_little(
        setting in worlds::setting(),
        asked in prop::collection::vec((any::<Index>(), any::<Index>(), any::<Index>(), any::<bool>()), 6),
    ) {
        for (from, to, traffic, v6) in asked {
            check(&setting, from, to, traffic, v6)?;
        }
    }

    /// Where no rule denies, there is always a suggestion.
    #[test]
    fn without_denies_there_is_a_suggestion(
        setting in worlds::setting(),
        asked in prop::collection::vec((any::<Index>(), any::<Index>(), any::<Index>(), any::<bool>()), 6),
    ) {
        let mut setting = setting;
        setting.files.retain(|text| !text.contains("deny"));
        for (from, to, traffic, v6) in asked {
            if is_hopeless(&setting, from, to, traffic, v6) {
                continue;
            }
            let firewall = setting.firewall();
            let endpoints = worlds::endpoints();
            let question = Question {
                from: from.get(&endpoints).clone(),
                to: to.get(&endpoints).clone(),
                traffic: *traffic.get(&TRAFFIC),
                family: if v6 { Family::V6 } else { Family::V4 },
            };
            let answer = answer(firewall.world(), firewall.policies(), &question, &Surroundings::default());
            prop_assert!(
                answer.verdict == Action::Allow || !answer.fix.is_empty(),
                "{:?}\n{:#?}\n{}", question, answer, setting.files.join("--\n")
            );
        }
    }
}
