//! Ceilings: a file over one is refused where it goes over, one at all of them compiles into a bounded
//! number of elements.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use std::fmt::Write;
use std::sync::Arc;

use firewall::model::DefaultPolicy;
use firewall::policy::limits::{
    MAX_ELEMENTS, MAX_ENTRIES, MAX_PEERS, MAX_PIECES, MAX_PORTS, MAX_RULES, most_pieces,
};
use firewall::policy::together::{MAX_ELEMENTS_TOGETHER, MAX_PIECES_TOGETHER, too_much};
use firewall::policy::{MAX_BYTES, MAX_CONDITIONAL, PolicyFile};
use firewall::sets::{Action, Direction, Family, SetId, Shape};
use proptest::prelude::*;
use pure::story::Story;

/// The one error of a file, which names the number that is allowed.
fn refused(text: &str, most: usize) -> String {
    assert!(text.len() <= MAX_BYTES, "{}", text.len());
    let wrong = PolicyFile::parse("web.toml", text).unwrap_err();
    let errors: Vec<_> = wrong.iter().map(|d| d.headline()).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let number = format!("{most} ");
    assert!(format!("{} ", errors[0]).contains(&number), "{}", errors[0]);
    errors[0].clone()
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    let items: Vec<String> = (0..count).map(|n| format!("{:?}", item(n))).collect();
    format!("[{}]", items.join(","))
}

fn address(n: usize) -> String {
    // no two of them are neighbours, which would become one element
    let n = n * 2;
    format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255)
}

fn port(n: usize) -> String {
    format!("tcp/{}", n * 2 + 1)
}

#[test]
fn entries_of_a_rule() {
    let peers = |n| format!("[[egress]]\nto = {}\n", list(n, address));
    assert!(PolicyFile::parse("web.toml", &peers(MAX_PEERS)).is_ok());
    let said = refused(&peers(MAX_PEERS + 1), MAX_PEERS);
    assert!(said.starts_with("web.toml:2:6: "), "{said}");
    let ports = |n| format!("[[egress]]\nports = {}\n", list(n, port));
    assert!(PolicyFile::parse("web.toml", &ports(MAX_PORTS)).is_ok());
    let said = refused(&ports(MAX_PORTS + 1), MAX_PORTS);
    assert!(said.starts_with("web.toml:2:9: "), "{said}");
}

#[test]
fn entries_that_groups_bring_count_too() {
    let half = MAX_PEERS / 2;
    let other = |n| address(n + half);
    let groups = format!(
        "a = {}\nb = {}\n",
        list(half, address),
        list(half + 1, other)
    );
    let groups = firewall::policy::Groups::parse("groups.toml", &groups).unwrap();
    let read = |text: &str| PolicyFile::parse_with("web.toml", text, &groups);
    let file = read("[[egress]]\nto = [\"@a\", \"10.0.0.2\"]\n").unwrap();
    assert_eq!(file.rules().next().unwrap().peers.len(), half, "each once");
    let wrong = read("[[egress]]\nto = [\"@a\", \"@b\"]\n").unwrap_err();
    assert!(wrong.0[0].headline().contains("2:6: "), "{wrong}");
    assert!(wrong.0[0].headline().contains("2001 entries; at most 2000"));
}

#[test]
fn rules_of_a_file() {
    let rules = |n: usize| "[[egress]]\nto=[\"host\"]\n".repeat(n);
    assert!(PolicyFile::parse("web.toml", &rules(MAX_RULES)).is_ok());
    let said = refused(&rules(MAX_RULES + 1), MAX_RULES);
    assert!(said.starts_with("web.toml:20001:1: "), "{said}");
    // both directions together
    let both = format!("[[ingress]]\n{}", rules(MAX_RULES));
    let said = refused(&both, MAX_RULES);
    assert!(said.starts_with("web.toml:20000:1: "), "{said}");
}

#[test]
fn entries_of_a_file() {
    // labels and zones, so that few elements come of many entries
    let ports = list(MAX_PORTS, port);
    let mut text = "egress = [\n".to_owned();
    for _ in 0..101 {
        let _ = writeln!(text, "{{ ports = {ports} }},");
    }
    text += "]\n";
    let said = PolicyFile::parse("web.toml", &text).unwrap_err();
    let elements = said.0.iter().any(|d| d.headline().contains("20000"));
    let entries = said.0.iter().find(|d| d.headline().contains("50000"));
    assert!(elements, "{said}");
    // 501 entries a rule, as `any` is one
    assert_eq!(
        entries.unwrap().line as usize,
        1 + MAX_ENTRIES.div_ceil(501)
    );
}

#[test]
fn peers_times_ports() {
    let rule = |peers, ports| {
        format!(
            "[[egress]]\nto = {}\nports = {}\n",
            list(peers, address),
            list(ports, port)
        )
    };
    assert!(PolicyFile::parse("web.toml", &rule(200, 100)).is_ok());
    let said = refused(&rule(201, 100), MAX_ELEMENTS);
    assert!(said.starts_with("web.toml:1:1: "), "{said}");
    let two = format!("{}{}", rule(100, 100), rule(101, 100));
    let said = refused(&two, MAX_ELEMENTS);
    assert!(said.starts_with("web.toml:4:1: "), "{said}");
}

#[test]
fn conditional_rules_of_a_direction() {
    let text = |n: u32| "[[egress]]\nto=[\"host\"]\nrate=\"5/second\"\n".repeat(n as usize);
    assert!(PolicyFile::parse("web.toml", &text(MAX_CONDITIONAL)).is_ok());
    refused(&text(MAX_CONDITIONAL + 1), MAX_CONDITIONAL as usize);
}

/// One network around all, with many ports, and many in it that are open altogether: each of them is
/// cut at every port.
fn explosive(ports: usize, inner: usize) -> String {
    let ports = list(ports, port);
    let inner = list(inner, |n| format!("10.{}.{}.0/24", n >> 7, n << 1 & 255));
    format!("[[egress]]\nto=[\"10.0.0.0/8\"]\nports={ports}\n[[egress]]\nto={inner}\n")
}

#[test]
fn networks_that_fall_into_pieces() {
    let text = explosive(500, 1000);
    let said = refused(&text, MAX_PIECES);
    assert!(said.starts_with("web.toml:4:1: "), "{said}");
    // what is told of is the rule that is cut, not the one that cuts
    let nested: String = (8..=30)
        .map(|length| {
            format!(
                "[[egress]]\nto=[\"10.0.0.0/{length}\"]\nports={}\n",
                list(20, |n| port(n + length))
            )
        })
        .collect();
    assert!(PolicyFile::parse("web.toml", &nested).is_ok());
}

/// One container with an address of each family.
fn world() -> Story {
    Story::new()
        .zone("dmz", DefaultPolicy::Egress)
        .container("web", "dmz", "", "")
}

/// How many elements a file becomes.
fn elements(text: &str) -> usize {
    let mut story = world();
    let before = story.firewall.elements().len();
    let file = PolicyFile::parse("web.toml", text).unwrap_or_else(|wrong| panic!("{wrong}"));
    let edit = [("web".to_owned(), Some(file.into()))];
    story.firewall.edit_policies(edit);
    story.firewall.elements().len().saturating_sub(before)
}

/// As many as a ceiling lets through.
fn most(text: impl Fn(usize) -> String) -> String {
    let (mut good, mut bad) = (1, 20_001);
    while bad - good > 1 {
        let middle = (good + bad) / 2;
        let text = text(middle);
        if text.len() < MAX_BYTES && PolicyFile::parse("web.toml", &text).is_ok() {
            good = middle;
        } else {
            bad = middle;
        }
    }
    text(good)
}

#[test]
fn a_file_at_the_ceiling_becomes_a_bounded_number_of_elements() {
    let files = [
        ("pieces", most(|n| explosive(n.min(500), n.min(2000)))),
        ("few ports cut many", most(|n| explosive(10, n.min(2000)))),
        ("many ports cut few", most(|n| explosive(n.min(500), 6))),
        (
            "addresses times ports",
            most(|n| {
                format!(
                    "[[egress]]\nto={}\nports={}\n",
                    list(n, address),
                    list(100, port)
                )
            }),
        ),
        (
            "addresses times ranges, around them a network",
            most(|n| {
                let ranges = list(8, |n| format!("tcp/{}-{}", n * 9 + 1, n * 9 + 5));
                let to = list(n.min(2000), address);
                let outer = "[[egress]]\nto=[\"10.0.0.0/8\"]\nports=[\"tcp/3\",\"tcp/20-40\"]\n";
                format!("{outer}[[egress]]\nto={to}\nports={ranges}\n")
            }),
        ),
        ("rules", most(|n| "[[egress]]\nto=[\"host\"]\n".repeat(n))),
    ];
    for (what, text) in files {
        let file = PolicyFile::parse("web.toml", &text).unwrap();
        let rules = file.rules().count();
        let started = std::time::Instant::now();
        let count = elements(&text);
        eprintln!(
            "{what}: {rules} rules, {count} elements, {:?}",
            started.elapsed()
        );
        // of two families
        assert!(count <= 2 * (MAX_ELEMENTS + MAX_PIECES), "{what}: {count}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The bound that is counted while reading is one: the compiler does not make more of a file.
    #[test]
    fn pieces_are_never_more_than_was_counted(
        rules in prop::collection::vec(
            (
                prop::collection::vec((0u32..4, 0u32..=4), 1..4),
                prop::option::of(prop::collection::vec(0usize..7, 1..4)),
                prop::option::weighted(0.2, Just("time = \"Mon\"\n")),
            ),
            1..8,
        )
    ) {
        const PORTS: [&str; 7] =
            ["tcp/80", "tcp/1-79", "tcp/70-90", "tcp/*", "udp/53", "proto/7", "icmp/*"];
        let mut text = String::new();
        for (peers, ports, time) in &rules {
            let to = list(peers.len(), |n| {
                let (place, bits) = peers[n];
                format!("10.0.0.{}/{}", ((place * 5) >> bits) << bits, 32 - bits)
            });
            let _ = write!(text, "[[egress]]\nto={to}\n{}", time.unwrap_or_default());
            if let Some(ports) = ports {
                let ports = list(ports.len(), |n| PORTS[ports[n]].to_owned());
                let _ = writeln!(text, "ports={ports}");
            }
        }
        let file = PolicyFile::parse("web.toml", &text).unwrap();
        let rules = file.egress.unwrap().rules;
        let bound = most_pieces(&rules, Action::Allow, Family::V4);
        let mut story = world();
        let file = PolicyFile::parse("web.toml", &text).unwrap();
        story.firewall.edit_policies([("web".to_owned(), Some(file.into()))]);
        let boxes = story.firewall.elements();
        let boxes = boxes.iter().filter(|element| matches!(
            element.set,
            SetId::Rule(Direction::Egress, Family::V4, Action::Allow, Shape::NetList)
        )).count();
        prop_assert!(boxes <= bound, "{} > {}: {}", boxes, bound, text);
    }
}

/// So many files for `web`, with these rules each.
fn files(count: usize, rules: &str) -> Vec<Arc<PolicyFile>> {
    let text = format!("applies-to = {{ container = \"web\" }}\n{rules}");
    let file = |n| PolicyFile::parse(&format!("f{n}.toml"), &text).unwrap();
    (0..count).map(|n| Arc::new(file(n))).collect()
}

#[test]
fn elements_of_all_files_of_a_container() {
    let half = MAX_ELEMENTS_TOGETHER / 2;
    let rules = "[[egress]]\nto = LIST\n".repeat(half / 2000);
    let rules = rules.replace("LIST", &list(2000, address));
    assert_eq!(too_much(&files(2, &rules)), None);
    let mut many = files(2, &rules);
    many.extend(files(1, "[[egress]]\nto = [\"host\"]\n"));
    let said = too_much(&many).unwrap().to_string();
    assert_eq!(
        said,
        "the 3 files that apply to it become 40001 elements together, and at most 40000 are allowed: \
         f0.toml (20000), f1.toml (20000), f0.toml (1)"
    );
}

#[test]
fn pieces_of_all_files_of_a_container() {
    let nested = |first: usize| {
        let nets = list(23, |n| format!("10.0.0.0/{}", n + 8));
        let ports = list(4, |n| {
            format!("tcp/{}-{}", first + n * 10, first + n * 10 + 4)
        });
        format!("[[egress]]\nto = {nets}\nports = {ports}\n")
    };
    let mut all = Vec::new();
    let mut count = 0;
    while too_much(&all).is_none() {
        count += 1;
        assert!(count < 1000, "no end");
        let file = files(1, &nested(count * 50)).remove(0);
        all.push(file);
    }
    let said = too_much(&all).unwrap().to_string();
    assert!(said.contains("pieces of networks together"), "{said}");
    all.pop();
    let rules: Vec<_> = all.iter().flat_map(|file| file.rules()).collect();
    let pieces = most_pieces(rules, Action::Allow, Family::V4);
    assert!(
        (MAX_PIECES_TOGETHER / 2..=MAX_PIECES_TOGETHER).contains(&pieces),
        "{pieces}"
    );
}
