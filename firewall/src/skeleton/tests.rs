#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::ir::{Step, TableSpec};
use super::*;
use crate::sets::SetId;

/// Compares with a golden file; `BLESS=1 cargo test` rewrites it, and the diff is the review.
fn golden(name: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, now).unwrap();
    }
    let then = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        then == now,
        "{} differs; look at it with BLESS=1 and git diff",
        path.display()
    );
}

#[test]
fn text_is_as_reviewed() {
    golden("skeleton.nft", &render_nft_text());
}

#[test]
fn json_is_as_reviewed() {
    let json = render_nft_json();
    let objects = json["nftables"].as_array().unwrap();
    // a line each, so that a diff can be read
    let lines: Vec<String> = objects.iter().map(|object| format!("{object}\n")).collect();
    golden("skeleton.json", &lines.concat());
    assert!(objects.iter().all(|object| !object.is_null()));
}

#[test]
fn every_jump_leads_somewhere_and_every_chain_is_reached() {
    for TableSpec { chains, .. } in tables() {
        let names: BTreeSet<_> = chains.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names.len(), chains.len(), "two chains of one name");
        let mut reached: BTreeMap<&str, usize> = BTreeMap::new();
        for step in chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.steps) {
            if let Step::Jump(to) | Step::Goto(to) = step {
                assert!(names.contains(to.as_str()), "no chain {to}");
                *reached.entry(to).or_default() += 1;
            }
        }
        for chain in &chains {
            let used = chain.hook.is_some() || reached.contains_key(chain.name.as_str());
            assert!(used, "nothing leads to {}", chain.name);
        }
    }
}

#[test]
fn every_set_is_looked_up_with_a_key_of_its_shape() {
    let mut used = BTreeSet::new();
    for spec in tables() {
        for step in spec
            .chains
            .iter()
            .flat_map(|c| &c.rules)
            .flat_map(|r| &r.steps)
        {
            let (key, id) = match step {
                Step::In(key, id) | Step::NotIn(key, id) => (key, *id),
                Step::SetFrom(_, key, id) | Step::Dnat(_, key, id) => (key, *id),
                _ => continue,
            };
            let set = id.spec();
            assert_eq!(set.table, spec.table, "{}", set.name);
            let loaded: Vec<_> = key.iter().map(|load| load.size()).collect();
            let wanted: Vec<_> = set.key.iter().map(|field| field.len()).collect();
            assert_eq!(loaded, wanted, "{}", set.name);
            used.insert(id);
        }
    }
    assert_eq!(used, SetId::all().into_iter().collect());
}

#[test]
fn names_fit_in_the_kernel() {
    for spec in tables() {
        for chain in &spec.chains {
            assert!(chain.name.len() < 32, "{}", chain.name);
            for rule in &chain.rules {
                assert!(rule.comment.unwrap_or_default().len() < 128);
            }
        }
    }
}
