//! Which elements a rule became.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use std::collections::BTreeSet;

use firewall::compile::RuleElements;
use firewall::model::DefaultPolicy;
use firewall::sets::{Element, SetId};
use proptest::prelude::*;
use pure::print;
use pure::story::Story;
use pure::worlds;

fn rules(files: &[(&str, &str)]) -> (Story, Vec<RuleElements>) {
    let mut story = Story::new()
        .zone("dmz", DefaultPolicy::Deny)
        .container("web", "dmz", "", "")
        .container("db", "dmz", "", "");
    for (name, text) in files {
        story = story.file(name, text);
    }
    let rules = story.firewall.elements_by_rule(&"web".parse().unwrap());
    (story, rules)
}

#[test]
fn each_rule_has_its_own_and_rules_that_say_the_same_share() {
    let (story, rules) = rules(&[
        (
            "web.toml",
            "[[egress]]\nto = [\"container:db\"]\nports = [\"tcp/80\", \"tcp/443\"]\n\
             [[egress]]\nto = [\"host\"]\n",
        ),
        (
            "zone.toml",
            "applies-to = { zone = \"dmz\" }\n[[egress]]\nto = [\"container:db\"]\nports = [\"tcp/80\"]\n\
             [[ingress]]\naction = \"deny\"\n",
        ),
    ]);
    let told: Vec<String> = rules
        .iter()
        .map(|rule| {
            let lines = print::elements(&story.firewall, &rule.elements);
            let way = rule.direction.as_str();
            format!("{}:{} {way} {}", rule.file, rule.at.line, lines.len())
        })
        .collect();
    // one in each family for each peer and port
    assert_eq!(
        told,
        [
            "web.toml:1 egress 4",
            "web.toml:4 egress 2",
            "zone.toml:2 egress 2",
            "zone.toml:5 ingress 2",
        ]
    );
    let of = |n: usize| rules[n].elements.iter().collect::<BTreeSet<&Element>>();
    assert!(of(2).is_subset(&of(0)));
    assert!(of(1).is_disjoint(&of(0)));
}

#[test]
fn ranges_that_became_one_box_count_for_each() {
    let (_, rules) = rules(&[(
        "web.toml",
        "[[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/1-100\"]\n\
         [[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/50-200\"]\n\
         [[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/300-400\"]\n\
         [[ingress]]\nfrom = [\"world\"]\nports = [\"udp/60-70\"]\n",
    )]);
    assert_eq!(rules[0].elements, rules[1].elements);
    assert_eq!(rules[0].elements.len(), 2, "tcp/1-200 in both families");
    for (n, other) in [(0, 2), (0, 3), (2, 3)] {
        assert_ne!(rules[n].elements, rules[other].elements);
    }
}

#[test]
fn conditional_rules_have_theirs() {
    let (_, rules) = rules(&[(
        "web.toml",
        "[[ingress]]\nfrom = [\"host\"]\nports = [\"tcp/80\"]\nrate = \"5/second\"\n\
         [[ingress]]\nfrom = [\"host\"]\nports = [\"tcp/80\"]\nrate = \"9/second\"\n",
    )]);
    for rule in &rules {
        assert_eq!(rule.elements.len(), 2);
        assert!(rule.elements.iter().all(|e| matches!(e.set, SetId::If(..))));
    }
    assert_ne!(rules[0].elements, rules[1].elements);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Every element of a direction that files mention is some rule's, and rules have no others.
    #[test]
    fn no_element_without_a_rule(setting in worlds::setting()) {
        let firewall = setting.firewall();
        for (name, container) in &firewall.world().containers {
            let rules = firewall.elements_by_rule(name);
            let of_rules: BTreeSet<Element> = rules.iter().flat_map(|r| r.elements.clone()).collect();
            let mentions = |direction| {
                let mut files = firewall.policies().applying(container);
                files.any(|file| file.section(direction).is_some())
            };
            let wanted: BTreeSet<Element> = firewall
                .elements_of(name)
                .into_iter()
                .filter(|element| match element.set {
                    // what counts no packets
                    SetId::Rule(.., shape) | SetId::If(.., shape) if shape.is_map() => false,
                    SetId::Rule(direction, ..) | SetId::If(direction, ..) => mentions(direction),
                    _ => false,
                })
                // others' rules about it are not its own
                .filter(|element| {
                    let own: Vec<Vec<u8>> = firewall.world().keys(container).iter().map(|a| match a {
                        std::net::IpAddr::V4(a) => a.octets().to_vec(),
                        std::net::IpAddr::V6(a) => a.octets().to_vec(),
                    }).collect();
                    element.set.is_numbered() || own.iter().any(|own| element.key.0.starts_with(own))
                })
                .collect();
            prop_assert_eq!(
                print::elements(&firewall, &of_rules.into_iter().collect::<Vec<_>>()),
                print::elements(&firewall, &wanted.into_iter().collect::<Vec<_>>())
            );
        }
    }
}
