//! What a rule's shapes mean: deny wins, groups, ranges, protocols, ICMP types.

use std::net::IpAddr;

use firewall::sets::{Action, Direction, Family, Key, SetId, Shape, group};

use crate::elements::{EGRESS, INGRESS, element, number_of, zone};
use crate::lab::{GATEWAY4, GATEWAY6, Lab, WORLD4, WORLD6};
use crate::probe::{Fate, ping, serve, serve_here, tcp, tcp_here, udp};

const TCP: u8 = 6;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_deny_always_wins() {
    let Some(mut lab) = Lab::new() else { return };
    for n in [2, 3] {
        serve(&lab.c(n).ns, 80);
        serve(&lab.c(n).ns, 81);
    }
    let mut rules = Vec::new();
    for n in [1, 2, 3] {
        rules.extend(lab.c(n).open());
    }
    rules.extend(
        lab.c(1)
            .peer(EGRESS, Action::Allow, lab.c(2), Some((TCP, 80))),
    );
    lab.add(rules);
    let reaches = |lab: &Lab, n: usize, port| {
        lab.c(n)
            .ips()
            .map(|to| tcp(&lab.c(1).ns, to, port).is_open())
    };
    assert_eq!(reaches(&lab, 2, 80), [true; 2]);
    // By port of a container, by zone, by any: each shape of deny.
    let denies = [
        lab.c(1)
            .peer(EGRESS, Action::Deny, lab.c(2), Some((TCP, 80))),
        lab.c(2)
            .group(INGRESS, Action::Deny, zone(0), Some((TCP, 80))),
        lab.c(2)
            .group(INGRESS, Action::Deny, group::ANY, Some((TCP, 80))),
        lab.c(1)
            .group(EGRESS, Action::Deny, group::ANY, Some((TCP, 80))),
    ];
    for (i, deny) in denies.into_iter().enumerate() {
        let (owner, d) = [(1, EGRESS), (2, INGRESS), (2, INGRESS), (1, EGRESS)][i];
        let nodeny = lab.nodeny(owner, d);
        lab.add(deny.clone());
        lab.tighten(nodeny.clone());
        assert_eq!(reaches(&lab, 2, 80), [false; 2], "deny {i}");
        assert_eq!(reaches(&lab, 2, 81), [true; 2], "another port, deny {i}");
        assert_eq!(
            reaches(&lab, 3, 80),
            [i < 3; 2],
            "another container, deny {i}"
        );
        let c3 = lab.c(3).ip4;
        assert!(
            tcp_here(c3, 80).is_open(),
            "others are not concerned, deny {i}"
        );
        lab.tables
            .apply(&firewall::sets::Changes {
                limits: None,
                remove: deny,
                add: nodeny,
                forget: false,
            })
            .unwrap();
        assert_eq!(reaches(&lab, 2, 80), [true; 2], "deny {i} is gone");
    }
}

#[test]
fn groups() {
    let Some(mut lab) = Lab::new() else { return };
    let lab = &mut lab;
    serve(&lab.c(2).ns, 80);
    let mut rules = Vec::new();
    for n in [1, 3, 4] {
        rules.extend(lab.c(n).group(EGRESS, Action::Allow, group::ANY, None));
    }
    lab.add(rules);
    // Who reaches c2 through which group: c1 (its zone, its identity), c3 (its zone),
    // c4 (another zone, its identity), the host, the world.
    let cases = [
        (zone(0), [true, true, false, false, false]),
        (zone(1), [false, false, true, false, false]),
        (lab.c(1).identity(), [true, false, false, false, false]),
        (lab.c(4).identity(), [false, false, true, false, false]),
        (group::HOST, [false, false, false, true, false]),
        (group::WORLD, [false, false, false, false, true]),
        (group::ANY, [true; 5]),
    ];
    for port in [None, Some((TCP, 80))] {
        for (number, expected) in cases {
            let rule = lab.c(2).group(INGRESS, Action::Allow, number, port);
            lab.add(rule.clone());
            for to in lab.c(2).ips() {
                let seen = [
                    tcp(&lab.c(1).ns, to, 80).is_open(),
                    tcp(&lab.c(3).ns, to, 80).is_open(),
                    tcp(&lab.c(4).ns, to, 80).is_open(),
                    tcp_here(to, 80).is_open(),
                    tcp(&lab.world, to, 80).is_open(),
                ];
                assert_eq!(seen, expected, "group {number:#x} {port:?} to {to}");
            }
            lab.tighten(rule);
        }
    }
}

#[test]
fn ranges_of_ports_and_addresses() {
    let Some(mut lab) = Lab::new() else { return };
    for port in [79, 80, 85, 90, 91] {
        serve(&lab.world, port);
        serve(&lab.c(2).ns, port);
    }
    let mut rules = [
        lab.c(1)
            .range(EGRESS, Action::Allow, "192.0.2.0/24", TCP, (80, 90)),
        lab.c(1)
            .range(EGRESS, Action::Allow, "2001:db8:1::2/128", TCP, (80, 90)),
        // An address of a container, by number: it matches whatever stands behind it.
        lab.c(1)
            .range(EGRESS, Action::Allow, "10.99.0.12/32", TCP, (80, 90)),
    ]
    .concat();
    // Ports of a group, and only those.
    for own in lab.c(2).ips() {
        let set = |shape| SetId::Rule(INGRESS, Family::of(own), Action::Allow, shape);
        let list = number_of(&own);
        let key = |port| Key::new().mark(list).proto(TCP).port(port);
        let mut range = element(set(Shape::Ports), key(85));
        range.last = Some(key(90));
        rules.push(range);
        let mut leads = element(set(Shape::GroupList), Key::new().ip(own).mark(zone(0)));
        leads.data = Some(Key::new().mark(list));
        rules.push(leads);
    }
    lab.add(rules);
    let c1 = &lab.c(1).ns;
    for (to, open) in [
        (ip(WORLD4), 80..=90),
        (ip(WORLD6), 80..=90),
        (lab.c(2).ip4, 85..=90),
    ] {
        for port in [79, 80, 85, 90, 91] {
            assert_eq!(
                tcp(c1, to, port).is_open(),
                open.contains(&port),
                "{to} {port}"
            );
        }
        assert!(!udp(c1, to, 85).is_open());
    }
    assert!(
        !tcp(c1, lab.c(2).ip6, 85).is_open(),
        "no rule for this address"
    );
}

#[test]
fn protocols_and_icmp_types() {
    let Some(mut lab) = Lab::new() else { return };
    let echo = |lab: &Lab, n: usize, d: Direction| {
        let types = lab.c(n).ips().into_iter().zip([(1, 8), (58, 128)]);
        types
            .map(|(own, (proto, kind))| {
                let key = Key::new()
                    .ip(own)
                    .mark(zone(0))
                    .proto(proto)
                    .icmp_type(kind);
                element(
                    SetId::Rule(d, Family::of(own), Action::Allow, Shape::GroupPort),
                    key,
                )
            })
            .collect::<Vec<_>>()
    };
    serve(&lab.c(2).ns, 80);
    serve(&lab.c(2).ns, 8 << 8);
    assert!(!ping(&lab.c(1).ns, lab.c(2).ip4) && !ping(&lab.c(1).ns, lab.c(2).ip6));
    let rules = [echo(&lab, 1, EGRESS), echo(&lab, 2, INGRESS)].concat();
    lab.add(rules);
    for to in lab.c(2).ips() {
        assert!(ping(&lab.c(1).ns, to), "{to}");
        assert!(!tcp(&lab.c(1).ns, to, 8 << 8).is_open());
    }
    // All of TCP, nothing of UDP.
    let mut rules = Vec::new();
    for (n, d) in [(1, EGRESS), (2, INGRESS)] {
        for own in lab.c(n).ips() {
            let set = SetId::Rule(d, Family::of(own), Action::Allow, Shape::GroupProto);
            rules.push(element(set, Key::new().ip(own).mark(group::ANY).proto(TCP)));
        }
    }
    lab.add(rules);
    for to in lab.c(2).ips() {
        assert!(tcp(&lab.c(1).ns, to, 80).is_open());
        assert_eq!(udp(&lab.c(1).ns, to, 80), Fate::Refused);
    }
}

#[test]
fn an_unknown_address_of_a_zone_is_nobody() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(2).ns, 80);
    let open = [lab.c(1).open(), lab.c(2).open()].concat();
    lab.add(open);
    assert!(tcp(&lab.c(1).ns, lab.c(2).ip4, 80).is_open());
    let own: Vec<_> = lab
        .c(2)
        .ips()
        .map(|a| element(SetId::Own(Family::of(a)), Key::new().ip(a)))
        .into();
    lab.tighten(own);
    for to in lab.c(2).ips() {
        assert!(!tcp(&lab.c(1).ns, to, 80).is_open(), "{to}");
        assert!(!tcp_here(to, 80).is_open(), "{to}");
        assert!(!tcp(&lab.world, to, 80).is_open(), "{to}");
    }
    serve_here(80);
    for to in [GATEWAY4[0], GATEWAY6[0]] {
        assert!(!tcp(&lab.c(2).ns, ip(to), 80).is_open(), "{to}");
    }
}

#[test]
fn fragments_are_judged_as_a_whole() {
    let Some(mut lab) = Lab::new() else { return };
    for n in [2, 3] {
        serve(&lab.c(n).ns, 80);
    }
    let mut rules = lab.c(1).group(EGRESS, Action::Allow, zone(0), None);
    rules.extend(
        lab.c(2)
            .peer(INGRESS, Action::Allow, lab.c(1), Some((17, 80))),
    );
    lab.add(rules);
    let asks = |n: usize| {
        lab.c(n).ips().map(|to| {
            lab.c(1).ns.run(|| {
                let any: IpAddr = if to.is_ipv4() {
                    [0u8; 4].into()
                } else {
                    [0u16; 8].into()
                };
                let socket = std::net::UdpSocket::bind((any, 0)).unwrap();
                socket
                    .set_read_timeout(Some(std::time::Duration::from_millis(500)))
                    .unwrap();
                socket.send_to(&[7; 4000], (to, 80)).unwrap();
                socket.recv(&mut [0; 64]).is_ok()
            })
        })
    };
    assert_eq!(asks(2), [true; 2]);
    assert_eq!(asks(3), [false; 2]);
}

#[test]
fn what_is_always_open_is_limited() {
    let Some(lab) = Lab::new() else { return };
    for to in [GATEWAY4[0], GATEWAY6[0]] {
        let out = lab
            .c(1)
            .ns
            .try_sh(&format!("ping -nq -i 0.0005 -c 800 -W 0.3 {to}"))
            .1;
        let received = out
            .split(" received")
            .next()
            .and_then(|s| s.rsplit(' ').next());
        let received: usize = received.unwrap().parse().unwrap();
        assert!((200..700).contains(&received), "{out}");
        // Another container has a bucket of its own.
        assert!(ping(&lab.c(2).ns, ip(to)), "{to}");
    }
}

#[test]
fn whoever_is_missed_in_the_maps_of_numbers_is_dropped_and_told_nothing() {
    let Some(mut lab) = Lab::new() else { return };
    let lab = &mut lab;
    serve(&lab.c(2).ns, 80);
    let mut rules = lab.c(1).open();
    // Everybody may come but c1.
    let denied = lab.c(1).identity();
    rules.extend(lab.c(2).group(INGRESS, Action::Allow, group::ANY, None));
    rules.extend(lab.c(2).group(INGRESS, Action::Deny, denied, None));
    lab.add(rules);
    lab.tighten(lab.nodeny(2, INGRESS));
    for to in lab.c(2).ips() {
        assert_eq!(tcp(&lab.c(1).ns, to, 80), Fate::Refused);
        assert!(tcp_here(to, 80).is_open());
    }
    lab.tighten(lab.c(1).labels_of());
    for to in lab.c(2).ips() {
        assert_eq!(tcp(&lab.c(1).ns, to, 80), Fate::Silence);
        assert!(tcp_here(to, 80).is_open());
    }
}
