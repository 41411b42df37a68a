//! What would change, row by row, as people read it.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use std::collections::BTreeMap;
use std::sync::Arc;

use firewall::diff::{Change, End, Outcome, Way, diff, diff_within};
use firewall::explain::Reason;
use firewall::model::DefaultPolicy;
use firewall::policy::{Mode, PolicyFile, PolicySet};
use firewall::sets::Family;
use pure::story::Story;

fn set(files: &[(&str, &str)]) -> PolicySet {
    let parse = |(name, text): &(&str, &str)| {
        let file = PolicyFile::parse(name, text).unwrap_or_else(|wrong| panic!("{wrong}"));
        ((*name).to_owned(), Arc::new(file))
    };
    PolicySet(files.iter().map(parse).collect())
}

fn outcome(outcome: &Outcome) -> String {
    let verdict = outcome.verdict.as_str();
    match outcome.limits.as_slice() {
        [] => verdict.to_owned(),
        limits => format!("{verdict} [{}]", limits.join("; ")),
    }
}

fn row(row: &Change) -> String {
    let ends = |ends: &[End]| {
        let ends: Vec<_> = ends.iter().map(End::to_string).collect();
        ends.join(", ")
    };
    let place = |reason: &Reason| match (&reason.file, reason.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        _ => "default".to_owned(),
    };
    let places = |reasons: &[Reason]| {
        let mut places: Vec<_> = reasons.iter().map(place).collect();
        places.dedup();
        places.join(", ")
    };
    let family = match row.family {
        Some(Family::V4) => " IPv4",
        Some(Family::V6) => " IPv6",
        None => "",
    };
    let way = match row.way {
        Some(Way::Direct) => " direct",
        Some(Way::Published) => " published",
        None => "",
    };
    format!(
        "{} -> {} {}{family}{way} {} -> {} ({} -> {})",
        ends(&row.from),
        ends(&row.to),
        row.traffic,
        outcome(&row.before),
        outcome(&row.after),
        places(&row.because_before),
        places(&row.because_after),
    )
}

#[track_caller]
fn told(story: &Story, old: &PolicySet, new: &PolicySet, expected: &[&str]) {
    let difference = diff(story.world(), old, new);
    let rows: Vec<String> = difference.rows.iter().map(row).collect();
    assert_eq!(rows, expected);
    assert_eq!((difference.more, difference.unasked), (0, 0));
}

fn shop() -> Story {
    Story::new()
        .zone("web", DefaultPolicy::Deny)
        .container("db", "web", "", "")
        .container("web", "web", "tier=front", "")
}

const DB: &str = "[[ingress]]\nfrom = [\"container:web\"]\nports = [\"tcp/5432\"]\n";

#[test]
fn a_port_between_two_containers() {
    let web = "[[egress]]\nto = [\"container:db\"]\n";
    let old = set(&[("web.toml", web)]);
    let new = set(&[("web.toml", web), ("db.toml", DB)]);
    told(
        &shop(),
        &old,
        &new,
        &["web -> db tcp/5432 deny -> allow (default -> db.toml:1)"],
    );
    told(
        &shop(),
        &new,
        &old,
        &["web -> db tcp/5432 allow -> deny (db.toml:1 -> default)"],
    );
    // one side alone opens nothing
    told(&shop(), &set(&[]), &set(&[("db.toml", DB)]), &[]);
}

#[test]
fn the_world_the_host_and_networks() {
    let old = set(&[]);
    let deny = "[[egress]]\nto = [\"world\"]\nports = [\"tcp/*\"]\n\
                [[egress]]\naction = \"deny\"\nto = [\"198.51.100.0/24\"]\n";
    told(
        &shop(),
        &old,
        &set(&[("web.toml", deny)]),
        &["web -> world but 198.51.100.0/24 tcp/* deny -> allow (default -> web.toml:1)"],
    );
    // the gateway serves DNS, DHCP and echo whatever policies say, other addresses of the host do not
    let host = "[[egress]]\nto = [\"host\"]\nports = [\"tcp/*\"]\n";
    told(
        &shop(),
        &old,
        &set(&[("web.toml", host)]),
        &[
            "web -> host tcp/1-52, tcp/54-65535 deny -> allow (default -> web.toml:1)",
            "web -> host at 192.0.2.1, host at 2001:db8:1::1 tcp/53 deny -> allow (default -> web.toml:1)",
        ],
    );
    let net = "[[ingress]]\nfrom = [\"192.0.2.0/24\", \"2001:db8::/32\"]\nports = [\"icmp/echo-request\"]\n";
    told(
        &shop(),
        &old,
        &set(&[("web.toml", net)]),
        &[
            "host at 192.0.2.1, host at 2001:db8:1::1, 192.0.2.0/24, 2001:db8::/32 -> web icmp/echo-request deny -> allow (default -> web.toml:1)",
        ],
    );
}

#[test]
fn everything_is_one_row() {
    let open = "[[ingress]]\n[[egress]]\n";
    let difference = diff(shop().world(), &set(&[]), &set(&[("web.toml", open)]));
    let rows: Vec<String> = difference.rows.iter().map(row).collect();
    assert!(
        rows.contains(
            &"host, world -> web every protocol and port deny -> allow (default -> web.toml:1)"
                .to_owned()
        ),
        "{rows:#?}"
    );
    assert!(rows.len() <= 7, "{rows:#?}");
}

#[test]
fn rules_that_say_the_same_elsewhere_are_no_change() {
    let moved = format!("# moved\n\n{DB}");
    told(
        &shop(),
        &set(&[("db.toml", DB)]),
        &set(&[(
            "other.toml",
            &format!("applies-to = {{ container = \"db\" }}\n{moved}"),
        )]),
        &[],
    );
}

#[test]
fn a_published_port_that_files_take_over() {
    let story = Story::new()
        .zone("web", DefaultPolicy::Deny)
        .container("web", "web", "", "8080:80");
    told(
        &story,
        &set(&[]),
        &set(&[(
            "web.toml",
            "[[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/80\"]\n",
        )]),
        &[
            "host -> web tcp/80 published allow -> deny (default -> web.toml:1)",
            "world -> web tcp/80 direct deny -> allow (default -> web.toml:1)",
        ],
    );
}

#[test]
fn limits_are_told_where_verdicts_stay() {
    let open = "[[egress]]\nto = [\"container:db\"]\nports = [\"tcp/5432\"]\n";
    let old = set(&[("web.toml", open), ("db.toml", DB)]);
    let limited = |more: &str| format!("{DB}{more}");
    for (more, says) in [
        (
            "rate = \"50/second burst 100\"\n",
            "ingress rate 50/second burst 100",
        ),
        ("max-connections = 20\n", "ingress at most 20 connections"),
        (
            "time = \"Mon 00:00-01:00\"\n",
            "ingress only Mon 00:00-01:00",
        ),
    ] {
        let new = set(&[("web.toml", open), ("db.toml", &limited(more))]);
        let row = format!("web -> db tcp/5432 allow -> allow [{says}] (db.toml:1 -> db.toml:1)");
        told(&shop(), &old, &new, &[&row]);
    }
    // not now (it is Monday, 00:00), and at other times
    let new = set(&[
        ("web.toml", open),
        ("db.toml", &limited("time = \"Sat,Sun\"\n")),
    ]);
    told(
        &shop(),
        &old,
        &new,
        &["web -> db tcp/5432 allow -> deny [ingress only Sat,Sun] (db.toml:1 -> db.toml:1)"],
    );
    // a limit beside a rule without one limits nothing
    let both = format!("{DB}{}", limited("rate = \"5/second\"\n"));
    told(
        &shop(),
        &old,
        &set(&[("web.toml", open), ("db.toml", &both)]),
        &[],
    );
}

#[test]
fn what_is_on_trial_or_recorded_is_told() {
    let open = "[[egress]]\nto = [\"container:db\"]\nports = [\"tcp/5432\"]\n";
    let old = set(&[("web.toml", open), ("db.toml", DB)]);
    let mut trial = PolicyFile::parse("trial.toml", "applies-to = { container = \"db\" }\n[[ingress]]\naction = \"deny\"\nfrom = [\"container:web\"]\n").unwrap();
    trial.mode = Mode::Audit;
    let mut new = old.clone();
    new.0.insert("trial.toml".into(), Arc::new(trial));
    told(
        &shop(),
        &old,
        &new,
        &["web -> db tcp/5432 allow -> allow [audit: would deny] ( -> trial.toml:2)"],
    );
    let mut recorded = PolicyFile::clone(&old.0["db.toml"]);
    recorded.ingress.as_mut().unwrap().rules[0].log = true;
    let mut new = old.clone();
    new.0.insert("db.toml".into(), Arc::new(recorded));
    told(
        &shop(),
        &old,
        &new,
        &["web -> db tcp/5432 allow -> allow [ingress log] (db.toml:1 -> db.toml:1)"],
    );
}

#[test]
fn equal_containers_are_asked_about_once() {
    let mut story = Story::new()
        .zone("web", DefaultPolicy::Deny)
        .container("db", "web", "", "");
    for n in 0..200 {
        story = story.container(&format!("w{n:03}"), "web", "tier=front", "");
    }
    let files = |ports: &str| {
        let fronts = format!(
            "applies-to = {{ labels = {{ tier = \"front\" }} }}\n[[egress]]\nto = [\"label:tier=front\", \"container:db\"]\nports = [\"tcp/{ports}\"]\n"
        );
        let fronts = format!(
            "{fronts}[[ingress]]\nfrom = [\"label:tier=front\"]\nports = [\"tcp/{ports}\"]\n"
        );
        set(&[("fronts.toml", &fronts), ("db.toml", "[[ingress]]\n")])
    };
    let (old, new) = (files("80"), files("80-81"));
    // a thousandth of what asking about each would need
    let difference = diff_within(story.world(), &old, &new, 1_000, 10);
    assert_eq!(difference.unasked, 0);
    let rows: Vec<_> = difference
        .rows
        .iter()
        .map(|row| (row.from.len(), row.to.len(), row.traffic.to_string()))
        .collect();
    assert_eq!(
        rows,
        [
            (200, 1, "tcp/81".to_owned()),
            (200, 200, "tcp/81".to_owned())
        ]
    );
}

#[test]
fn a_second_address_of_a_container_has_rows_of_its_own() {
    let story = shop();
    let mut world = story.world().clone();
    let web = world
        .containers
        .values_mut()
        .find(|c| c.name.as_str() == "web")
        .unwrap();
    web.addresses.push("10.89.0.77".parse().unwrap());
    let old = set(&[
        ("web.toml", "[[egress]]\nto = [\"any\"]\n"),
        ("db.toml", "ingress = []\n"),
    ]);
    let new = set(&[
        ("web.toml", "[[egress]]\nto = [\"any\"]\n"),
        (
            "db.toml",
            "[[ingress]]\nfrom = [\"10.89.0.77\"]\nports = [\"tcp/80\"]\n",
        ),
    ]);
    let rows: Vec<String> = diff(&world, &old, &new).rows.iter().map(row).collect();
    let expected: BTreeMap<usize, String> = BTreeMap::from([(
        0,
        "10.89.0.77 -> db tcp/80 deny -> allow (db.toml:1 -> db.toml:1)".to_owned(),
    )]);
    assert_eq!(rows, expected.into_values().collect::<Vec<_>>());
}

#[test]
fn too_much_is_cut_off_and_counted() {
    let mut story = Story::new().zone("web", DefaultPolicy::Deny);
    let mut files = BTreeMap::new();
    for n in 0..24 {
        let name = format!("c{n:03}");
        story = story.container(&name, "web", "", "");
        let text = format!(
            "[[egress]]\nports = [\"tcp/{}\"]\n[[ingress]]\nports = [\"tcp/80-90\"]\n",
            80 + n % 10
        );
        let file = PolicyFile::parse(&format!("{name}.toml"), &text).unwrap();
        files.insert(format!("{name}.toml"), Arc::new(file));
    }
    let (old, new) = (PolicySet::default(), PolicySet(files));
    let difference = diff_within(story.world(), &old, &new, 2_000, 1_000);
    assert!(difference.unasked > 0 && !difference.rows.is_empty());
    assert!(!difference.is_empty());
    // containers that rules tell apart, and more questions: everything is told
    let whole = diff(story.world(), &old, &new);
    assert_eq!(whole.unasked, 0);
    let pairs = whole.rows.iter().filter(|row| {
        let container = |ends: &[End]| ends.iter().all(|end| matches!(end, End::Container(_)));
        container(&row.from) && container(&row.to)
    });
    assert_eq!(pairs.count(), 24 * 24);
}

#[test]
fn names_have_rows_of_their_own() {
    let rule =
        |names: &str, ports: &str| format!("[[egress]]\nto = [{names}]\nports = [\"{ports}\"]\n");
    let (org, both) = (
        "\"dns:*.example.org\"",
        "\"dns:*.example.org\", \"dns:example.net\"",
    );
    let old = set(&[("web.toml", &rule(org, "tcp/443"))]);
    let new = set(&[("web.toml", &rule(both, "tcp/443"))]);
    told(
        &shop(),
        &set(&[("web.toml", "egress = []")]),
        &new,
        &[
            "web -> dns:*.example.org, dns:example.net tcp/443 deny -> allow (web.toml:1 -> web.toml:1)",
        ],
    );
    told(
        &shop(),
        &old,
        &new,
        &["web -> dns:example.net tcp/443 deny -> allow (web.toml:1 -> web.toml:1)"],
    );
    told(
        &shop(),
        &new,
        &old,
        &["web -> dns:example.net tcp/443 allow -> deny (web.toml:1 -> web.toml:1)"],
    );
    told(&shop(), &new, &new, &[]);
    // a narrower name that a wider rule is about already
    let narrow = set(&[(
        "web.toml",
        &(rule(org, "tcp/443") + &rule("\"dns:www.example.org\"", "tcp/443-444")),
    )]);
    told(
        &shop(),
        &old,
        &narrow,
        &["web -> dns:www.example.org tcp/444 deny -> allow (web.toml:1 -> web.toml:4)"],
    );
    // what becomes of the whole world becomes of the name as well
    let open = Story::new()
        .zone("web", DefaultPolicy::Egress)
        .container("web", "web", "", "");
    told(
        &open,
        &set(&[]),
        &old,
        &["web -> world every protocol and port allow -> deny (default -> web.toml:1)"],
    );
    let trial = format!("mode = \"audit\"\n{}", rule(org, "tcp/443"));
    told(
        &shop(),
        &set(&[]),
        &set(&[("web.toml", &trial)]),
        &["web -> dns:*.example.org tcp/443 deny -> deny [audit: would allow] ( -> web.toml:2)"],
    );
}
