//! Installing, changing and reading back.

use std::time::Instant;

use firewall::kernel::{TableMonitor, Tables, TablesError};
use firewall::sets::{Action, Changes, Element, Family, Key, SetId, Shape, group};

use crate::elements::{EGRESS, element};
use crate::lab::{Lab, bare_host, privileged, sh, try_sh};

fn bare() -> Option<Tables> {
    if !privileged() {
        return None;
    }
    bare_host();
    Some(Tables::open(None).unwrap())
}

fn count() -> (usize, usize) {
    let out = sh("nft -a list ruleset");
    let rules = out
        .lines()
        .filter(|l| l.contains("# handle") && !l.contains('{'))
        .count();
    (out.lines().filter(|l| l.contains("chain ")).count(), rules)
}

#[test]
fn an_install_over_an_install_changes_no_number() {
    let Some(mut lab) = Lab::new() else { return };
    assert!(lab.tables.owned(), "Linux 6.9 or newer");
    let before = count();
    assert!(before.0 > 40 && before.1 > 300, "{before:?}");
    let mut elements = lab.base();
    for n in 1..=4 {
        elements.extend(lab.c(n).open());
    }
    lab.tables.install(&elements, &[]).unwrap();
    assert_eq!(count(), before);
    lab.tables.install(&[], &[]).unwrap();
    assert_eq!(count(), before);
    assert_eq!(lab.tables.verify(&[]).unwrap(), [""; 0]);
    lab.tables.remove().unwrap();
    assert_eq!(sh("nft list ruleset"), "");
    lab.tables.remove().unwrap();
}

#[test]
fn nft_can_read_what_we_write() {
    let Some(mut lab) = Lab::new() else { return };
    let c2 = lab.c(2);
    let mut more = lab.c(1).open();
    more.extend(lab.c(1).peer(EGRESS, Action::Allow, c2, Some((6, 80))));
    more.extend(lab.c(1).publish(None, 8080, 80));
    more.extend(lab.c(1).publish(Some("127.0.0.1"), 8081, 81));
    more.extend(
        lab.c(1)
            .range(EGRESS, Action::Allow, "198.51.100.0/24", 6, (80, 90)),
    );
    lab.add(more);
    let text = sh("nft list ruleset");
    for line in [
        "10.99.0.11 . 10.99.0.12 . tcp . 80",
        "set eg4_if_allow_net_range_odd",
        "10.99.0.0/24",
        "fd99::/64",
        "tcp . 8080 : 10.99.0.11 . 80",
        "127.0.0.1 . tcp . 8081 : 10.99.0.11 . 81",
        "ct original ip saddr . ct reply ip saddr . ct protocol . ct reply proto-src @eg4_allow_peer_port return",
        "ct mark @generation meta mark set 0x20000000 accept",
        "reject with icmpx admin-prohibited",
        "iifname \"vb-*\"",
        "comment \"neither side is a container\"",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    // nft's JSON too, and the rules twice the same (elements with a time end meanwhile).
    sh("nft -j list ruleset > /dev/null");
    let rules = |text: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| !line.contains("\tchain "));
        let counted = |line: &str| line.split(" packets ").next().map(str::to_owned);
        lines.filter_map(counted).collect()
    };
    let first = rules(&text);
    assert!(first.len() > 1000, "{}", first.len());
    assert_eq!(rules(&sh("nft list ruleset")), first);
}

#[test]
fn adjacent_and_extreme_intervals_are_kept_apart() {
    let Some(mut tables) = bare() else { return };
    let nets = [
        "10.89.0.0/24",
        "10.89.1.0/24",
        "10.89.2.0/23",
        "0.0.0.0/32",
        "255.255.255.0/24",
    ];
    let six = ["fd00::/64", "fd00:0:0:1::/64", "ffff::/16", "::/128"];
    let elements: Vec<Element> = nets
        .iter()
        .chain(&six)
        .map(|n| crate::elements::net(SetId::Subnets, n))
        .collect();
    tables.install(&elements, &[]).unwrap();
    assert_eq!(tables.verify(&elements).unwrap(), [""; 0]);
    for address in [
        "10.89.0.0",
        "10.89.0.255",
        "10.89.1.0",
        "10.89.3.255",
        "0.0.0.0",
        "255.255.255.255",
    ] {
        assert!(has("subnets4", address), "{address}");
    }
    for address in ["10.88.255.255", "10.89.4.0", "0.0.0.1", "255.255.254.255"] {
        assert!(!has("subnets4", address), "{address}");
    }
    assert!(has("subnets6", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
    assert!(has("subnets6", "fd00:0:0:1::") && !has("subnets6", "fd00:0:0:2::"));
    // The middle one goes, its neighbours stay; it comes back split.
    let change = Changes {
        limits: None,
        remove: vec![elements[1].clone()],
        add: vec![
            crate::elements::net(SetId::Subnets, "10.89.1.0/25"),
            crate::elements::net(SetId::Subnets, "10.89.1.192/26"),
        ],
        forget: false,
    };
    tables.apply(&change).unwrap();
    assert!(has("subnets4", "10.89.0.255") && has("subnets4", "10.89.2.0"));
    assert!(has("subnets4", "10.89.1.127") && !has("subnets4", "10.89.1.128"));
    let differences = tables.verify(&elements).unwrap();
    assert!(
        differences.iter().any(|d| d.contains("10.89.1.128")),
        "{differences:?}"
    );
}

/// Whether nft finds an address in a set.
fn has(set: &str, address: &str) -> bool {
    try_sh(&format!(
        "nft get element inet netd {set} '{{ {address} }}'"
    ))
    .0
}

#[test]
fn some_elements_can_be_looked_for_among_others() {
    let Some(mut tables) = bare() else { return };
    let own = |n: u8| {
        let ip = std::net::IpAddr::from([10, 0, 0, n]);
        element(SetId::Own(Family::V4), Key::new().ip(ip))
    };
    let net = |text| crate::elements::net(SetId::Subnets, text);
    let mut there = vec![own(1), own(2), net("10.89.0.0/24"), net("10.90.0.0/24")];
    // neighbours, the highest of all, one alone, and the other kind of ranges
    for text in [
        "10.92.0.0/24",
        "10.92.1.0/24",
        "10.92.2.0/25",
        "255.255.255.0/24",
        "10.93.0.7/32",
        "ffff:ffff:ffff:ff00::/56",
    ] {
        there.push(net(text));
    }
    let port = |first: u16, last: u16| {
        let key = |port| {
            let host = std::net::IpAddr::from([192, 0, 2, 1]);
            Key::new().ip(host).proto(6).port(port)
        };
        Element {
            last: Some(key(last)),
            data: Some(Key::new().ip(std::net::IpAddr::from([10, 89, 0, 2]))),
            ..element(SetId::PublishRange(Family::V4), key(first))
        }
    };
    there.push(port(8000, 8099));
    tables.install(&there, &[]).unwrap();
    for one in &there {
        let alone = std::slice::from_ref(one);
        assert_eq!(tables.verify_some(alone).unwrap(), [""; 0], "{one:?}");
    }
    // within what is there, and wider: none of these is there
    for text in ["10.89.0.0/25", "10.92.0.0/21", "255.255.255.128/25"] {
        assert_ne!(tables.verify_some(&[net(text)]).unwrap(), [""; 0], "{text}");
    }
    for (first, last) in [(8000, 8098), (8001, 8099), (8000, 8100)] {
        assert_ne!(tables.verify_some(&[port(first, last)]).unwrap(), [""; 0]);
    }
    // what else is there does not matter
    assert_eq!(tables.verify_some(&there[1..3]).unwrap(), [""; 0]);
    assert_eq!(tables.verify_some(&[]).unwrap(), [""; 0]);
    for (missing, words) in [(own(3), "10.0.0.3"), (net("10.91.0.0/24"), "10.91.0.0")] {
        let differences = tables.verify_some(&[own(1), missing]).unwrap();
        assert!(
            !differences.is_empty()
                && differences
                    .iter()
                    .all(|d| d.contains("lacks") && !d.contains("10.0.0.1 ")),
            "{differences:?}"
        );
        assert!(differences[0].contains(words), "{differences:?}");
    }
}

#[test]
fn a_change_is_all_or_nothing_and_the_error_names_the_element() {
    let Some(mut tables) = bare() else { return };
    let own = |n: u8| {
        let ip = std::net::IpAddr::from([10, 0, 0, n]);
        element(SetId::Own(Family::V4), Key::new().ip(ip))
    };
    assert!(matches!(
        tables.apply(&Changes::default()),
        Err(TablesError::NotInstalled)
    ));
    tables.install(&[own(1)], &[]).unwrap();
    let add = |add: Vec<Element>| Changes {
        add,
        ..Changes::default()
    };
    let twice = tables
        .apply(&add(vec![own(2), own(1), own(3)]))
        .unwrap_err();
    assert!(
        twice
            .to_string()
            .contains("add element inet netd own4 { 10.0.0.1 }"),
        "{twice}"
    );
    let remove = Changes {
        limits: None,
        remove: vec![own(1), own(9)],
        add: vec![own(5)],
        forget: true,
    };
    let absent = tables.apply(&remove).unwrap_err();
    assert!(
        absent
            .to_string()
            .contains("remove element inet netd own4 { 10.0.0.9 }"),
        "{absent}"
    );
    assert_eq!(tables.verify(&[own(1)]).unwrap(), [""; 0]);
    // Remove comes before add: data of a map is replaced in one step.
    let zone_of = |number| Element {
        data: Some(Key::new().mark(number)),
        timeout: None,
        ..element(SetId::ZoneOf(Family::V4), own(1).key)
    };
    tables.apply(&add(vec![zone_of(256)])).unwrap();
    tables
        .apply(&Changes {
            limits: None,
            remove: vec![zone_of(256)],
            add: vec![zone_of(257)],
            forget: true,
        })
        .unwrap();
    assert_eq!(tables.verify(&[own(1), zone_of(257)]).unwrap(), [""; 0]);
    let wrong = tables.verify(&[own(2), zone_of(256)]).unwrap();
    assert_eq!(wrong.len(), 4, "{wrong:?}");
}

#[test]
fn each_install_and_each_forget_is_a_new_generation() {
    let Some(mut tables) = bare() else { return };
    assert_eq!(tables.generation(), None);
    tables.install(&[], &[]).unwrap();
    let first = tables.generation().unwrap();
    assert_eq!(first >> 24, 0x6e);
    tables
        .apply(&Changes {
            forget: true,
            ..Changes::default()
        })
        .unwrap();
    let second = tables.generation().unwrap();
    assert_eq!((second - first) & 0xff_ffff, 1);
    assert!(sh("nft list set inet netd generation").contains(&format!("{second:#010x}")));
    let remember = sh("nft list map inet netd remember");
    assert_eq!(
        remember.matches(&format!("{second:#010x}")).count(),
        2,
        "{remember}"
    );
    // Another process that takes the tables over goes on from there.
    let mut heir = Tables::open(Some(tables.socket().try_clone_to_owned().unwrap())).unwrap();
    heir.install(&[], &[]).unwrap();
    assert_eq!((heir.generation().unwrap() - second) & 0xff_ffff, 1);
    assert!(heir.verify(&[]).unwrap().is_empty());
    assert!(!tables.verify(&[]).unwrap().is_empty());
}

#[test]
fn the_monitor_hears_others_but_not_us() {
    let Some(mut tables) = bare() else { return };
    let mut monitor = TableMonitor::open(&tables).unwrap();
    tables.install(&[], &[]).unwrap();
    tables
        .apply(&Changes {
            forget: true,
            ..Changes::default()
        })
        .unwrap();
    assert!(!monitor.drain().unwrap(), "we");
    sh(
        "nft add table inet other; nft add chain inet other c; nft delete table inet other; nft add table ip netd",
    );
    assert!(!monitor.drain().unwrap(), "somebody else's table");
    let mut other = Tables::open(Some(tables.socket().try_clone_to_owned().unwrap())).unwrap();
    other.install(&[], &[]).unwrap();
    assert!(!monitor.drain().unwrap(), "the same socket");
    tables.remove().unwrap();
    sh("nft add table inet netd; nft add set inet netd own4 '{ type ipv4_addr; }'");
    assert!(
        monitor.drain().unwrap(),
        "somebody else's change of our table"
    );
    assert!(!monitor.drain().unwrap(), "only once");
}

#[test]
fn a_hundred_thousand_elements_in_one_transaction() {
    let Some(mut tables) = bare() else { return };
    let mut elements = Vec::new();
    for own in 0..1000u32 {
        for peer in 0..100u32 {
            let key = Key::new()
                .ip(std::net::Ipv4Addr::from(0x0a00_0000 + own).into())
                .ip(std::net::Ipv4Addr::from(0x0b00_0000 + peer).into())
                .proto(6)
                .port(80);
            let set = SetId::Rule(EGRESS, Family::V4, Action::Allow, Shape::PeerPort);
            elements.push(element(set, key));
        }
    }
    let monitor = TableMonitor::open(&tables);
    let begin = Instant::now();
    tables.install(&elements, &[]).unwrap();
    println!("100,000 elements installed in {:?}", begin.elapsed());
    let begin = Instant::now();
    tables.install(&elements, &[]).unwrap();
    println!("… and again over them in {:?}", begin.elapsed());
    assert!(!monitor.unwrap().drain().unwrap());
    let begin = Instant::now();
    assert_eq!(tables.verify(&elements).unwrap(), [""; 0]);
    println!("verified in {:?}", begin.elapsed());
    elements.pop();
    assert_eq!(tables.verify(&elements).unwrap().len(), 1);
}

#[test]
fn thirty_elements_are_changed_in_a_moment() {
    let Some(mut tables) = bare() else { return };
    tables.install(&[], &[]).unwrap();
    let mut elements = Vec::new();
    for n in 0..15u8 {
        let ip = std::net::IpAddr::from([10, 0, 0, n]);
        elements.push(element(SetId::Own(Family::V4), Key::new().ip(ip)));
        let key = Key::new().ip(ip).mark(group::ANY).proto(6).port(80);
        let set = SetId::Rule(EGRESS, Family::V4, Action::Allow, Shape::GroupPort);
        elements.push(element(set, key));
    }
    let mut times = Vec::new();
    for round in 0..200 {
        let add = Changes {
            add: elements.clone(),
            ..Changes::default()
        };
        let remove = Changes {
            limits: None,
            remove: elements.clone(),
            forget: round % 2 == 0,
            ..Changes::default()
        };
        let begin = Instant::now();
        tables.apply(&add).unwrap();
        let added = begin.elapsed();
        let begin = Instant::now();
        tables.apply(&remove).unwrap();
        times.push((added, begin.elapsed()));
    }
    times.sort();
    println!(
        "30 elements added, removed: median {:?}",
        times[times.len() / 2]
    );
    assert_eq!(tables.verify(&[]).unwrap(), [""; 0]);
}
