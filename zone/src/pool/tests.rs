#![allow(clippy::unwrap_used)]

use super::*;
use crate::alloc::{Taken, resolve};
use crate::file::ZoneFile;

fn pool(text: &str) -> Pool {
    let file = ZoneFile::parse("z.toml", text).unwrap();
    Pool::new(&resolve(&"z".parse().unwrap(), &file, &Taken::default(), b"m").unwrap())
}

fn name(text: &str) -> ContainerName {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const SMALL: &str = "subnet4 = \"10.0.0.0/29\"\nsubnet6 = \"fd00::/64\"";

#[test]
fn one_address_of_each_family_kept_for_the_name() {
    let mut pool = pool(SMALL);
    let web = pool.assign(&name("web"), &[]).unwrap();
    assert_eq!(web, [ip("10.0.0.2"), ip("fd00::2")]);
    assert_eq!(
        pool.assign(&name("db"), &[]).unwrap(),
        [ip("10.0.0.3"), ip("fd00::3")]
    );
    assert_eq!(pool.assign(&name("web"), &[]).unwrap(), web);
    assert_eq!(pool.of(&name("web")), web);
    assert_eq!(pool.owner(ip("10.0.0.2")), Some(&name("web")));
    assert_eq!(pool.iter().count(), 2);
}

#[test]
fn a_released_address_is_given_again_last() {
    let mut pool = pool(SMALL);
    for who in ["a", "b"] {
        pool.assign(&name(who), &[]).unwrap();
    }
    pool.forget(&name("a"));
    assert!(pool.of(&name("a")).is_empty());
    let order: Vec<IpAddr> = ["c", "d", "e", "f"]
        .map(|who| pool.assign(&name(who), &[]).unwrap()[0])
        .into();
    assert_eq!(
        order,
        ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"].map(ip)
    );
    let error = pool.assign(&name("g"), &[]).unwrap_err();
    assert!(matches!(error, AllocError::Exhausted { .. }), "{error}");
    assert!(pool.of(&name("g")).is_empty(), "a refusal gives nothing");
}

#[test]
fn the_pool_bounds_what_is_given_unasked_only() {
    let mut pool = pool("pool = \"10.0.0.4-10.0.0.5\"\nsubnet4 = \"10.0.0.0/24\"");
    assert_eq!(pool.assign(&name("a"), &[]).unwrap()[0], ip("10.0.0.4"));
    let wanted = [ip("10.0.0.200")];
    assert_eq!(pool.assign(&name("b"), &wanted).unwrap()[0], wanted[0]);
    assert_eq!(pool.assign(&name("c"), &[]).unwrap()[0], ip("10.0.0.5"));
    assert!(pool.assign(&name("d"), &[]).is_err());
}

#[test]
fn a_wanted_address_is_checked() {
    let mut pool = pool(SMALL);
    pool.reserve(&name("web"), ip("10.0.0.5")).unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["10.0.0.5"], "belongs to container web"),
        (&["10.0.0.0"], "network address"),
        (&["10.0.0.1"], "gateway"),
        (&["10.0.0.7"], "broadcast"),
        (&["10.0.0.8"], "not in zone z (10.0.0.0/29, "),
        (&["fd00::"], "anycast"),
        (&["fd00::1"], "gateway"),
        (&["fd00:1::1"], "not in zone z"),
        (&["10.0.0.2", "10.0.0.3"], "one family"),
    ];
    for (wanted, part) in cases {
        let wanted: Vec<IpAddr> = wanted.iter().map(|text| ip(text)).collect();
        let message = pool.assign(&name("db"), &wanted).unwrap_err().to_string();
        assert!(message.contains(part), "{wanted:?}: {message}");
        assert!(pool.of(&name("db")).is_empty());
    }
}

#[test]
fn a_wanted_address_replaces_what_the_name_had() {
    let mut pool = pool(SMALL);
    pool.assign(&name("a"), &[]).unwrap();
    let now = pool.assign(&name("a"), &[ip("10.0.0.6")]).unwrap();
    assert_eq!(now, [ip("10.0.0.6"), ip("fd00::2")]);
    assert_eq!(pool.owner(ip("10.0.0.2")), None);
    pool.reserve(&name("b"), ip("10.0.0.2")).unwrap();
}

#[test]
fn a_zone_without_ipv6_gives_none() {
    let mut pool = pool("subnet6 = \"none\"\nsubnet4 = \"10.0.0.0/30\"");
    assert_eq!(pool.assign(&name("a"), &[]).unwrap(), [ip("10.0.0.2")]);
    assert!(pool.reserve(&name("a"), ip("fd00::2")).is_err());
}

#[test]
fn sixty_five_thousand_addresses_take_no_time() {
    let mut pool = pool("subnet4 = \"10.0.0.0/16\"\nsubnet6 = \"fd00::/64\"");
    for i in 0..65_533 {
        pool.assign(&name(&i.to_string()), &[]).unwrap();
    }
    assert!(pool.assign(&name("late"), &[]).is_err());
    for i in (0..65_533).step_by(2) {
        pool.forget(&name(&i.to_string()));
    }
    // every gap is a range of its own now; a search in them all would take minutes
    for i in (0..65_533).step_by(2) {
        pool.assign(&name(&format!("again-{i}")), &[]).unwrap();
    }
    assert!(pool.assign(&name("late"), &[]).is_err());
}

#[test]
fn ranges_take_the_place_of_the_pool() {
    let mut pool = pool(SMALL);
    let only = |first: &str, last: &str| vec![(ip(first), ip(last))];
    pool.assign(&name("web"), &[]).unwrap();
    // neither the gateway nor what another has
    let range = only("10.0.0.0", "10.0.0.3");
    let db = pool.assign_within(&name("db"), &[], &range).unwrap();
    assert_eq!(db, [ip("10.0.0.3"), ip("fd00::3")]);
    let full = pool.assign_within(&name("late"), &[], &range).unwrap_err();
    assert!(full.to_string().contains("10.0.0.0-10.0.0.3"), "{full}");
    assert!(pool.of(&name("late")).is_empty());
    // what it has counts where it is in the range, and is replaced where it is not
    let range = only("10.0.0.3", "10.0.0.6");
    let again = pool.assign_within(&name("db"), &[], &range).unwrap();
    assert_eq!(again, db);
    let moved = pool.assign_within(&name("web"), &[], &range).unwrap();
    assert_eq!(moved, [ip("10.0.0.4"), ip("fd00::2")]);
    assert_eq!(pool.owner(ip("10.0.0.2")), None);
    for (first, last) in [
        ("10.0.0.9", "10.0.1.9"),
        ("10.0.0.6", "10.0.0.3"),
        ("10.0.0.3", "fd00::9"),
    ] {
        let range = only(first, last);
        let wrong = pool.assign_within(&name("x"), &[], &range);
        assert!(wrong.is_err(), "{first}-{last}");
    }
}

#[test]
fn when_nothing_is_free_the_name_that_has_its_address_longest_gives_it_up() {
    let mut pool = pool(SMALL);
    let names = ["a", "b", "c", "d", "e"].map(name);
    for who in &names {
        pool.assign(who, &[]).unwrap();
    }
    assert!(!pool.has_room());
    let running = |name: &ContainerName| name.as_str() == "a";
    assert_eq!(pool.idle(&[], running), Some(&names[1]));
    assert_eq!(pool.idle(&[], |_| true), None);
    let range = [(ip("10.0.0.5"), ip("10.0.0.6"))];
    assert_eq!(pool.idle(&range, running), Some(&names[3]));
    pool.forget(&names[1]);
    let next = pool.assign(&name("f"), &[]).unwrap();
    assert_eq!(next[0], ip("10.0.0.3"));
    // the next in turn is behind it
    assert_eq!(pool.idle(&[], running), Some(&names[2]));
}

const WIDE: &str = "subnet6 = \"fd00:1:2::/48\"";

#[test]
fn a_prefix_for_each_container_in_a_wide_zone() {
    let mut pool = pool(WIDE);
    let six = |pool: &mut Pool, who: &str| pool.assign(&name(who), &[]).unwrap()[1];
    assert_eq!(six(&mut pool, "a"), ip("fd00:1:2:1::1"));
    assert_eq!(six(&mut pool, "b"), ip("fd00:1:2:2::1"));
    assert_eq!(six(&mut pool, "a"), ip("fd00:1:2:1::1"));
    // whoever asks for an address gets the prefix around it, and may move in it
    let mut wants = |who: &str, address: &str| {
        let given = pool.assign(&name(who), &[ip(address)]);
        given.map(|all| all[1]).map_err(|e| e.to_string())
    };
    assert_eq!(wants("c", "fd00:1:2:7::99"), Ok(ip("fd00:1:2:7::99")));
    assert_eq!(wants("c", "fd00:1:2:7::9"), Ok(ip("fd00:1:2:7::9")));
    for (address, why) in [
        ("fd00:1:2:7::1", "belongs to container c"),
        ("fd00:1:2:7::9", "belongs to container c"),
        ("fd00:1:2:9::", "subnet-router anycast address"),
        ("fd00:1:2::1", "gateway"),
        ("fd00:1:2::2", "gateway's prefix"),
        ("fd00:1:2:c000::1", "part for delegated prefixes"),
        ("fd00:1:2:ffff::1", "part for delegated prefixes"),
        ("fd00:1:3::1", "is not in zone"),
    ] {
        let error = wants("d", address).unwrap_err();
        assert!(error.contains(why), "{address}: {error}");
    }
    pool.forget(&name("c"));
    let given = pool.assign(&name("d"), &[ip("fd00:1:2:7::1")]).unwrap();
    assert_eq!(given[1], ip("fd00:1:2:7::1"));
}

#[test]
fn prefixes_run_out_and_come_back() {
    let mut pool = pool("subnet4 = \"none\"\nsubnet6 = \"fd00:1:2::/56\"");
    for number in 0..0xbf {
        let given = pool.assign(&name(&format!("c{number}")), &[]).unwrap();
        assert_eq!(given, [ip(&format!("fd00:1:2:{:x}::1", number + 1))]);
    }
    let error = pool.assign(&name("late"), &[]).unwrap_err();
    assert!(matches!(error, AllocError::Exhausted { .. }), "{error}");
    pool.forget(&name("c7"));
    assert_eq!(
        pool.assign(&name("late"), &[]).unwrap(),
        [ip("fd00:1:2:8::1")]
    );
}

#[test]
fn an_address_from_before_there_were_prefixes_is_kept() {
    let mut pool = pool(WIDE);
    pool.reserve(&name("old"), ip("fd00:1:2::2")).unwrap();
    pool.reserve(&name("older"), ip("fd00:1:2::3")).unwrap();
    assert!(pool.reserve(&name("new"), ip("fd00:1:2::3")).is_err());
    assert_eq!(
        pool.assign(&name("old"), &[]).unwrap()[1],
        ip("fd00:1:2::2")
    );
    let again = pool.assign(&name("old"), &[ip("fd00:1:2::2")]).unwrap();
    assert_eq!(again[1], ip("fd00:1:2::2"));
    pool.forget(&name("old"));
    assert_eq!(
        pool.assign(&name("old"), &[]).unwrap()[1],
        ip("fd00:1:2:1::1")
    );
    assert!(pool.assign(&name("x"), &[ip("fd00:1:2::2")]).is_err());
}
