//! Goldens: `golden/wrong/*.toml` → what is said about them (those with `NAME.groups` beside them use these
//! groups); `golden/groups/*.toml` → what is said about a groups.toml; `golden/elements/*.toml` → what
//! policies become.
//!
//! `BLESS=1 cargo test -p firewall --test pure_goldens` rewrites them; the diff is the review.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use std::path::{Path, PathBuf};

use firewall::explain::policy_of;
use firewall::model::DefaultPolicy;
use firewall::policy::lint::{self, Surroundings};
use firewall::policy::{Groups, PolicyFile};
use pure::print;
use pure::story::Story;

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder);
    let entries = std::fs::read_dir(folder).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn compare(golden: &Path, shown: &str) {
    let shown: String = shown
        .lines()
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(golden, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap_or_default();
    assert_eq!(shown, expected, "{} (BLESS=1 accepts it)", golden.display());
}

#[test]
fn what_is_said_about_wrong_files() {
    for case in cases("wrong") {
        let name = case.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&case).unwrap();
        let groups = match std::fs::read_to_string(case.with_extension("groups")) {
            Ok(text) => Groups::parse("groups.toml", &text).unwrap(),
            Err(_) => Groups::default(),
        };
        let accepted = PolicyFile::parse_with(name, &text, &groups).is_ok();
        let file = (name.to_owned(), text);
        let said = lint::check(&[file], &groups, &Surroundings::default());
        let shown = format!("{}{}", if accepted { "accepted\n" } else { "" }, said[0]);
        compare(&case.with_extension("txt"), &shown);
    }
}

#[test]
fn what_is_said_about_groups() {
    for case in cases("groups") {
        let text = std::fs::read_to_string(&case).unwrap();
        let shown = match Groups::parse("groups.toml", &text) {
            Ok(groups) => format!("accepted\n{}", groups.warnings),
            Err(wrong) => wrong.to_string(),
        };
        compare(&case.with_extension("txt"), &shown);
    }
}

/// The world of `golden/elements`: one zone of each default, a few containers.
fn world() -> Story {
    Story::new()
        .zone("dmz", DefaultPolicy::Egress)
        .zone("lan", DefaultPolicy::Allow)
        .internal_zone("vault", DefaultPolicy::Deny)
        .container("web", "dmz", "tier=front", "8080:80")
        .container("shop", "dmz", "tier=edge team=a", "")
        .container("db", "lan", "tier=back", "")
        .container("safe", "vault", "", "9090:90")
}

#[test]
fn what_a_world_without_files_becomes() {
    let story = world();
    let lines = print::elements(&story.firewall, &story.firewall.elements());
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/elements/no-files.elements");
    compare(&golden, &lines.join("\n"));
}

/// A file's golden shows what it adds to the world, what it removes from it, and how it is told.
#[test]
fn what_files_become() {
    for case in cases("elements") {
        let name = case.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&case).unwrap();
        let mut story = world();
        let file = PolicyFile::parse(name, &text).unwrap_or_else(|wrong| panic!("{wrong}"));
        let changes = story
            .firewall
            .edit_policies([(name.to_owned(), Some(file.into()))]);
        let mut shown = String::new();
        for (sign, elements) in [('-', &changes.remove), ('+', &changes.add)] {
            for line in print::elements(&story.firewall, elements) {
                shown += &format!("{sign} {line}\n");
            }
        }
        shown += &format!(
            "verdicts {}\n",
            if changes.forget { "forgotten" } else { "kept" }
        );
        for name in story.world().containers.keys() {
            let policy = policy_of(story.world(), story.firewall.policies(), name);
            if policy.iter().all(|reason| reason.file.is_none()) {
                continue;
            }
            shown += &format!("\npolicy of {name}\n");
            for reason in policy {
                let place = match (&reason.file, reason.line, reason.column) {
                    (Some(file), Some(line), Some(column)) => format!("{file}:{line}:{column}: "),
                    _ => String::new(),
                };
                let direction = reason.direction.map_or("", |d| d.as_str());
                let action = reason.action.as_str();
                shown += &format!("  {place}{direction} {action}: {}\n", reason.text);
            }
        }
        compare(&case.with_extension("elements"), &shown);
    }
}
