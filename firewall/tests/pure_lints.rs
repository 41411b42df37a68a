//! Lints: each says something where it should, at the right place, and nothing where it should not.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use firewall::diagnostics::{Diagnostic, Severity};
use firewall::policy::lint::{self, Attached, NAMES, Surroundings, ZoneFacts};
use firewall::policy::{Groups, PolicyFile};
use zone::ZoneFile;

/// Zones `dmz` (10.7.0.0/24, fd00:7::/64), `old` (10.8.0.0/24, no IPv6), `vault` (internal, 10.9.0.0/24), and
/// `auto`, whose subnets netd chooses; `web` (tier=front) is attached to dmz, `safe` to vault, `both` to
/// these two; the host is
/// 192.168.1.5.
fn around() -> Surroundings {
    let zone = |text: &str| ZoneFacts::of_file(&ZoneFile::parse("z.toml", text).unwrap());
    let attached = |zone: &str, labels: &[(&str, &str)]| Attached {
        zone: zone.parse().unwrap(),
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    };
    let v6 = "subnet6 = \"fd00:7::/64\"";
    let dmz = zone(&format!("subnet4 = \"10.7.0.0/24\"\n{v6}"));
    let vault = "internal = true\nsubnet4 = \"10.9.0.0/24\"";
    let zones = BTreeMap::from([
        ("dmz".parse().unwrap(), dmz),
        (
            "old".parse().unwrap(),
            zone("subnet4 = \"10.8.0.0/24\"\nsubnet6 = \"none\""),
        ),
        ("vault".parse().unwrap(), zone(vault)),
        ("auto".parse().unwrap(), zone("")),
    ]);
    let containers = BTreeMap::from([
        (
            "web".parse().unwrap(),
            vec![attached("dmz", &[("tier", "front")])],
        ),
        ("safe".parse().unwrap(), vec![attached("vault", &[])]),
        (
            "both".parse().unwrap(),
            vec![attached("dmz", &[]), attached("vault", &[])],
        ),
    ]);
    Surroundings {
        zones: Some(zones),
        containers: Some(containers),
        host: vec!["192.168.1.5".parse().unwrap()],
    }
}

fn groups() -> Groups {
    let text =
        "office = [\"198.51.100.0/24\", \"2001:db8::/32\"]\nlan = [\"10.0.0.0/8\"]\nnobody = []\n";
    Groups::parse("groups.toml", text).unwrap()
}

fn check(files: &[(&str, &str)], around: &Surroundings) -> Vec<Diagnostic> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    let told = lint::check(&files, &groups(), around);
    told.into_iter().flat_map(|found| found.0).collect()
}

/// `LINT LINE:COLUMN` of all that is said about `policies/web.toml` with this text.
fn said(text: &str) -> Vec<String> {
    let found = check(&[("web.toml", text)], &around());
    for one in &found {
        assert_eq!(one.severity, Severity::Warning, "{one}");
        assert!(one.help.is_some(), "what to do? {one}");
    }
    let shown = |d: &Diagnostic| format!("{} {}:{}", d.lint.unwrap_or("?"), d.line, d.column);
    found.iter().map(shown).collect()
}

/// A text, and what is said about it: nothing, or one thing.
const TABLE: &[(&str, &str)] = &[
    // an allow that a deny covers altogether
    (
        "shadowed 1:1",
        "[[egress]]\nto = ['container:safe']\n[[egress]]\naction = 'deny'\nto = ['container:safe']",
    ),
    (
        "shadowed 1:1",
        "[[ingress]]\nfrom = ['world', '203.0.113.9']\nports = ['tcp/80']\n[[ingress]]\naction = 'deny'\nfrom = ['world']",
    ),
    (
        "shadowed 1:1",
        "[[ingress]]\ntime = 'Mon'\n[[ingress]]\naction = 'deny'\ntime = 'Mon-Fri'",
    ),
    (
        "shadowed 1:1",
        "[[ingress]]\nfrom = ['@office']\n[[ingress]]\naction = 'deny'\nfrom = ['world']",
    ),
    (
        "",
        "[[ingress]]\nfrom = ['world']\n[[ingress]]\naction = 'deny'\nfrom = ['203.0.113.9', '2001:db8::9']",
    ),
    (
        "",
        "[[ingress]]\nports = ['tcp/80']\n[[ingress]]\naction = 'deny'\nports = ['udp/80']",
    ),
    (
        "",
        "[[ingress]]\nports = ['tcp/80']\n[[ingress]]\naction = 'deny'\ntime = 'Sat,Sun'",
    ),
    (
        "",
        "[[egress]]\nports = ['tcp/80']\n[[ingress]]\nports = ['tcp/80']",
    ),
    // a rule that another one covers
    (
        "covered 3:1",
        "[[egress]]\nto = ['host', 'world']\n[[egress]]\nto = ['world', 'host']",
    ),
    (
        "covered 1:1",
        "[[egress]]\nto = ['host']\nports = ['tcp/5']\n[[egress]]\nto = ['host']\nports = ['tcp/1-9']",
    ),
    (
        "covered 1:1",
        "[[egress]]\nto = ['host']\nrate = '5/second'\n[[egress]]\nto = ['host']",
    ),
    (
        "covered 6:1",
        "[[egress]]\nports = ['tcp/5']\n[[egress]]\naction = 'deny'\nports = ['tcp/6-9']\n[[egress]]\naction = 'deny'\nports = ['tcp/7']",
    ),
    (
        "",
        "[[egress]]\nto = ['host']\nports = ['tcp/5']\n[[egress]]\nto = ['world']\nports = ['tcp/1-9']",
    ),
    (
        "",
        "[[egress]]\nto = ['host']\n[[egress]]\nto = ['host', 'world']\nrate = '5/second'\ntime = 'Mon'",
    ),
    (
        "",
        "[[egress]]\nto = ['host']\ntime = 'Mon'\n[[egress]]\nto = ['host']\ntime = 'Tue'",
    ),
    (
        "",
        "[[egress]]\nto = ['host']\nrate = '5/second'\n[[egress]]\nto = ['host']\nrate = '9/second'\ntime = 'Mon'",
    ),
    // never
    (
        "unreachable 3:7",
        "applies-to = { zone = 'vault' }\n[[egress]]\nto = ['world']",
    ),
    (
        "unreachable 3:15",
        "applies-to = { container = 'safe' }\n[[egress]]\nto = ['host', 'world']",
    ),
    ("unreachable 1:1", "[[ingress]]\nfrom = ['@nobody']"),
    ("unreachable 2:7", "[[egress]]\nto = ['127.0.0.1']"),
    (
        "unreachable 3:7",
        "applies-to = { zone = 'old' }\n[[egress]]\nto = ['2001:db8::/32']",
    ),
    (
        "unreachable 1:14",
        "applies-to = { container = 'web', zone = 'vault' }",
    ),
    (
        "",
        "applies-to = { zone = 'vault' }\n[[egress]]\naction = 'deny'\nto = ['world']\n[[egress]]\nto = ['host']",
    ),
    (
        "",
        "applies-to = { zone = 'dmz' }\n[[egress]]\nto = ['world']",
    ),
    ("", "[[ingress]]\nfrom = ['@nobody', 'host']"),
    (
        "",
        "applies-to = { zone = 'old' }\n[[egress]]\nto = ['2001:db8::/32', '198.51.100.0/24']",
    ),
    ("", "applies-to = { container = 'web', zone = 'dmz' }"),
    // wider than it looks
    (
        "wide 2:7",
        "[[egress]]\nto = ['10.0.0.0/8', '2001:db8::/32']",
    ),
    ("wide 2:7", "[[egress]]\nto = ['@lan', 'host']"),
    (
        "wide 2:7",
        "[[egress]]\nto = ['fd00:7::/48', '198.51.100.0/24']",
    ),
    ("wide 2:7", "[[egress]]\nto = ['10.7.0.0/25', 'host']"),
    ("wide 2:7", "[[egress]]\nto = ['10.7.0.1', 'host']"),
    ("wide 2:7", "[[egress]]\nto = ['10.7.0.9', 'host']"),
    ("wide 2:7", "[[egress]]\nto = ['10.89.0.0/16', 'host']"),
    ("wide 2:7", "[[egress]]\nto = ['192.168.0.0/16', 'host']"),
    ("wide 2:7", "[[egress]]\nto = ['0.0.0.0/0', 'host']"),
    ("wide 2:7", "[[egress]]\nto = ['any']"),
    (
        "wide 2:17",
        "[[ingress]]\nfrom = ['host', 'any']\nports = ['tcp/80']",
    ),
    ("", "[[egress]]\nto = ['10.7.0.128/25', 'host']"),
    ("", "[[egress]]\nto = ['198.51.100.0/24', 'host']"),
    ("", "[[egress]]\nto = ['10.89.3.0/24', 'host']"),
    (
        "",
        "[[egress]]\naction = 'deny'\nto = ['10.0.0.0/8', 'fc00::/7']\n[[egress]]\nto = ['world']",
    ),
    ("", "[[egress]]\n[[ingress]]\nports = ['tcp/80']"),
    ("", "[[ingress]]\nfrom = ['any']\nports = ['tcp/80']"),
    // one family
    (
        "one-family 3:7",
        "[[egress]]\naction = 'deny'\nto = ['0.0.0.0/0']\n[[egress]]",
    ),
    (
        "one-family 3:7",
        "[[egress]]\naction = 'deny'\nto = ['203.0.113.9']\n[[egress]]",
    ),
    ("one-family 2:7", "[[egress]]\nto = ['203.0.113.0/24']"),
    (
        "one-family 2:10",
        "[[egress]]\nports = ['icmp/timestamp-request']",
    ),
    (
        "",
        "[[egress]]\naction = 'deny'\nto = ['0.0.0.0/0', '::/0']\nports = ['tcp/25']\n[[egress]]",
    ),
    (
        "",
        "[[egress]]\naction = 'deny'\nto = ['203.0.113.9', '2001:db8::9']\n[[egress]]",
    ),
    ("", "[[egress]]\nto = ['203.0.113.9', 'host']"),
    (
        "",
        "applies-to = { zone = 'old' }\n[[egress]]\nto = ['203.0.113.9']",
    ),
    ("", "[[egress]]\nports = ['icmp/echo-request']"),
    // names
    (
        "unknown-name 2:15",
        "[[egress]]\nto = ['host', 'zone:dnz']\n[[ingress]]\nfrom = ['zone:dnz']",
    ),
    ("unknown-name 2:7", "[[egress]]\nto = ['container:wbe']"),
    ("unknown-name 2:7", "[[egress]]\nto = ['label:tier=back']"),
    ("unknown-name 1:14", "applies-to = { zone = 'dnz' }"),
    (
        "unknown-name 1:14",
        "applies-to = { labels = { tier = 'fornt' } }",
    ),
    (
        "",
        "[[egress]]\nto = ['zone:dmz', 'container:safe', 'label:tier=front']",
    ),
    (
        "",
        "applies-to = { zone = 'dmz', labels = { tier = 'front' } }",
    ),
    // denies alone
    (
        "denies-only 1:1",
        "[[egress]]\naction = 'deny'\nto = ['host']",
    ),
    (
        "",
        "[[egress]]\naction = 'deny'\nto = ['host']\n[[egress]]\nto = ['world']",
    ),
    ("", "egress = []"),
    // limits
    (
        "pointless 3:1",
        "[[egress]]\nports = ['icmp/*']\nmax-connections = 5",
    ),
    (
        "",
        "[[egress]]\nports = ['icmp/*', 'tcp/80']\nmax-connections = 5",
    ),
    ("", "[[egress]]\nports = ['icmp/*']\nrate = '5/second'"),
    // twice
    ("twice 2:15", "[[egress]]\nto = ['host', 'host']"),
    ("twice 2:19", "[[egress]]\nports = ['tcp/1', 'tcp/1']"),
    ("", "[[egress]]\nto = ['host', 'world']"),
];

#[test]
fn what_each_lint_says_and_where() {
    let mut wrong = Vec::new();
    for (wanted, text) in TABLE {
        let found = said(text).join(", ");
        if found != *wanted {
            wrong.push(format!("{text}\n  wanted {wanted:?}, said {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_lint_is_tried_and_explained() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policies.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for name in NAMES {
        let row = format!("| `{name}` |");
        assert!(docs.contains(&row), "{name} is not in docs/policies.md");
        let tried = TABLE.iter().any(|(wanted, _)| wanted.starts_with(name));
        // groups have goldens of their own
        assert!(tried || name == "empty-group", "{name} is not tried");
    }
}

#[test]
fn without_surroundings_nothing_is_said_about_them() {
    let text = "applies-to = { zone = 'nowhere' }\n[[egress]]\nto = ['zone:none', 'container:none', 'label:a=b', '10.0.0.0/8', '192.168.1.5']\n";
    let found = check(&[("web.toml", text)], &Surroundings::default());
    assert_eq!(found, []);
}

#[test]
fn files_that_contradict_one_another() {
    let open = "applies-to = { zone = 'dmz' }\n[[egress]]\nto = ['world']\n";
    let deny = "[[egress]]\naction = 'deny'\nto = ['world']\n[[egress]]\nto = ['host']\n";
    let same = format!("applies-to = {{ zone = 'dmz' }}\n{deny}");
    let told = |other: &str| {
        let found = check(&[("a.toml", open), ("b.toml", other)], &around());
        let shown = |d: &Diagnostic| format!("{}:{}:{} {}", d.file, d.line, d.column, d.message);
        found.iter().map(shown).collect::<Vec<_>>()
    };
    let found = told(&same);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("a.toml:2:1 nothing passes by this rule: the deny at b.toml:2:1 ")
    );
    // more containers on one side, and others
    assert_eq!(
        told(&same.replace("zone = 'dmz'", "labels = { tier = 'front' }")),
        [""; 0]
    );
    assert_eq!(told(&same.replace("'dmz'", "'old'")), [""; 0]);
    // a file that applies to more contradicts, too
    let narrow = open.replace("zone = 'dmz'", "zone = 'dmz', labels = { tier = 'front' }");
    let found = check(&[("b.toml", &same), ("a.toml", &narrow)], &around());
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn what_another_file_opens_is_not_closed_by_denies_alone() {
    let denies = "[[egress]]\naction = 'deny'\nto = ['203.0.113.9', '2001:db8::9']\n";
    let base = "applies-to = { zone = 'dmz' }\n[[egress]]\nto = ['world']\n";
    let target = "applies-to = { zone = 'dmz', container = 'web' }\n";
    let denies = format!("{target}{denies}");
    assert_eq!(
        check(&[("a.toml", &denies), ("base.toml", base)], &around()),
        []
    );
    let elsewhere = base.replace("dmz", "old");
    let found = check(&[("a.toml", &denies), ("base.toml", &elsewhere)], &around());
    assert_eq!(found.len(), 1);
}

/// The policies in fenced blocks of a page, or written by the demo.
fn policies_of(page: &str, fence: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split(fence).skip(1);
    let blocks = blocks.filter_map(|block| block.split_once("\n").map(|(_, rest)| rest));
    let blocks = blocks.map(|block| {
        let end = block.find("\n```").or_else(|| block.find("\nTOML"));
        block[..end.unwrap_or(block.len())].to_owned() + "\n"
    });
    let policy = |text: &String| {
        ["[[ingress]]", "[[egress]]"]
            .iter()
            .any(|w| text.contains(w))
    };
    blocks.filter(policy).collect()
}

#[test]
fn nothing_is_said_about_the_examples() {
    let mut all = policies_of("docs/policies.md", "```toml");
    all.extend(policies_of("README.md", "```toml"));
    let documented = all.len();
    assert!(documented > 0, "no example found");
    all.extend(policies_of("tests/demo", "<<'TOML'"));
    assert!(all.len() > documented, "no policy of the demo found");
    // who is there is not known of examples
    let around = Surroundings {
        containers: None,
        host: Vec::new(),
        zones: None,
    };
    for text in all {
        let groups =
            Groups::parse("groups.toml", "office = ['192.0.2.0/24', 'container:vpn']").unwrap();
        let file = [("web.toml".to_owned(), text.clone())];
        let found = lint::check(&file, &groups, &around).remove(0);
        let refused = PolicyFile::parse_with("web.toml", &text, &groups).err();
        assert!(found.is_empty(), "{found}\n{refused:?}\n{text}");
    }
}
