//! Conditional rules with real packets: rates, connections at one time, hours. Compiled from text.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use firewall::compile::Firewall;
use firewall::kernel::Tables;
use firewall::model::{Clock, Container, DefaultPolicy, Zone};
use firewall::policy::{PolicyFile, PolicySet};
use firewall::sets::{Changes, Element, Life, SetId};
use zone::MacAddr;

use crate::lab::{BRIDGES, GATEWAY4, GATEWAY6, Lab};
use crate::probe::{connect, ping, serve, tcp, udp};

/// Monday, ten o'clock.
const MONDAY: Clock = Clock { minute: 10 * 60 };
/// Monday, in the evening.
const EVENING: Clock = Clock { minute: 20 * 60 };

pub(crate) fn policies(files: &[(&str, &str)]) -> PolicySet {
    let parse = |(name, text): &(&str, &str)| {
        let file = PolicyFile::parse(name, text).unwrap_or_else(|e| panic!("{e}"));
        ((*name).to_owned(), Arc::new(file))
    };
    PolicySet(files.iter().map(parse).collect())
}

/// The lab as the firewall knows it: zone `a` with c1, c2 and c3, zone `b` with c4.
pub(crate) fn firewall(lab: &Lab, files: &[(&str, &str)]) -> Firewall {
    let mut firewall = Firewall::new();
    firewall.set_clock(MONDAY);
    for (i, (name, net4, net6)) in [
        ("a", "10.99.0.0/24", "fd99::/64"),
        ("b", "10.98.0.0/24", "fd98::/64"),
    ]
    .into_iter()
    .enumerate()
    {
        firewall.set_zone(Zone {
            name: name.parse().unwrap(),
            bridge: BRIDGES[i].parse().unwrap(),
            subnet4: Some(net4.parse().unwrap()),
            subnet6: Some(net6.parse().unwrap()),
            gateway4: Some(GATEWAY4[i].parse().unwrap()),
            gateway6: Some(GATEWAY6[i].parse().unwrap()),
            internal: false,
            default: DefaultPolicy::Allow,
            masquerade6: true,
            relays: Vec::new(),
            uplink: None,
        });
    }
    firewall.set_policies(policies(files));
    for n in 1..=4 {
        let c = lab.c(n);
        firewall.attach(Container {
            name: format!("c{n}").parse().unwrap(),
            zone: ["a", "b"][c.zone].parse().unwrap(),
            ifindex: c.ifindex,
            mac: MacAddr(c.mac),
            addresses: vec![c.ip4, c.ip6],
            labels: Default::default(),
            publish: Vec::new(),
        });
    }
    firewall
}

pub(crate) fn install(lab: &mut Lab, firewall: &Firewall) {
    lab.tables
        .install(&firewall.elements(), &firewall.limits())
        .unwrap();
    verify(lab, firewall);
}

fn verify(lab: &mut Lab, firewall: &Firewall) {
    let wrong = lab.tables.verify(&firewall.elements()).unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn alive((stream, _): &mut (TcpStream, IpAddr)) -> bool {
    let mut byte = [0];
    stream
        .write_all(b"x")
        .and_then(|()| stream.read_exact(&mut byte))
        .is_ok()
}

/// Connections that are kept, one after the other, until one is refused.
fn fill(lab: &Lab, n: usize, to: IpAddr, most: usize) -> Vec<(TcpStream, IpAddr)> {
    lab.c(n)
        .ns
        .run(move || (0..most).map_while(|_| connect(to, 80).ok()).collect())
}

#[test]
fn a_rate_counts_new_connections_of_each_source() {
    let Some(mut lab) = Lab::without_tables() else {
        return;
    };
    serve(&lab.c(2).ns, 80);
    serve(&lab.c(2).ns, 81);
    let rated = "[[ingress]]\nfrom = [\"zone:a\", \"192.0.2.0/24\"]\nports = [\"tcp/80\", \"udp/80\"]\nrate = \"3/hour\"\n\
                 [[ingress]]\nports = [\"tcp/81\"]\n";
    let mut firewall = firewall(&lab, &[("c2.toml", rated)]);
    install(&mut lab, &firewall);
    let (ip4, ip6) = (lab.c(2).ip4, lab.c(2).ip6);
    // a bucket for each source address, so one for each family
    for to in [ip4, ip6] {
        let mut kept = fill(&lab, 1, to, 5);
        assert_eq!(kept.len(), 3, "{to}");
        assert!(kept.iter_mut().all(alive), "{to}: those that got in go on");
        assert!(
            !udp(&lab.c(1).ns, to, 80).is_open(),
            "the bucket is the rule's"
        );
        assert!(
            tcp(&lab.c(1).ns, to, 81).is_open(),
            "another rule has no rate"
        );
        assert_eq!(
            fill(&lab, 3, to, 5).len(),
            3,
            "another source, another bucket"
        );
    }
    assert!(tcp(&lab.world, ip4, 80).is_open(), "by network, too");
    assert!(
        !tcp(&lab.c(4).ns, ip4, 80).is_open(),
        "a rate allows nobody else"
    );
    // an edit elsewhere and a restart leave buckets as empty as they are
    let mut files = vec![
        ("c2.toml", rated),
        ("c3.toml", "[[ingress]]\nrate = \"100/second\"\n"),
    ];
    let changes = firewall.set_policies(policies(&files));
    assert!(changes.limits.is_some());
    lab.tables.apply(&changes).unwrap();
    verify(&mut lab, &firewall);
    assert!(!tcp(&lab.c(1).ns, ip4, 80).is_open());
    let socket = lab.tables.socket().try_clone_to_owned().unwrap();
    lab.tables = Tables::open(Some(socket)).unwrap();
    install(&mut lab, &firewall);
    assert!(!tcp(&lab.c(1).ns, ip4, 80).is_open());
    // another rate is another rule
    let faster = rated.replace("3/hour", "4/hour");
    files[0].1 = &faster;
    lab.tables
        .apply(&firewall.set_policies(policies(&files)))
        .unwrap();
    assert_eq!(fill(&lab, 1, ip4, 6).len(), 4);
    verify(&mut lab, &firewall);
}

#[test]
fn a_rate_fills_up_again() {
    let Some(mut lab) = Lab::without_tables() else {
        return;
    };
    serve(&lab.c(2).ns, 80);
    let text = "[[ingress]]\nrate = \"5/second burst 2\"\n";
    let firewall = firewall(&lab, &[("c2.toml", text)]);
    install(&mut lab, &firewall);
    let to = lab.c(2).ip4;
    let got = || (0..4).filter(|_| ping(&lab.c(1).ns, to)).count();
    let first = got();
    assert!((2..4).contains(&first), "{first}");
    std::thread::sleep(Duration::from_millis(900));
    assert!(got() >= 2, "two tokens came in the meantime");
}

#[test]
fn connections_at_one_time() {
    let Some(mut lab) = Lab::without_tables() else {
        return;
    };
    serve(&lab.c(2).ns, 80);
    let text = "[[egress]]\nto = [\"container:c2\"]\nmax-connections = 2\n";
    let firewall = firewall(&lab, &[("c1.toml", text)]);
    install(&mut lab, &firewall);
    for to in lab.c(2).ips() {
        let mut kept = fill(&lab, 1, to, 4);
        assert_eq!(kept.len(), 2, "{to}");
        assert!(kept.iter_mut().all(alive));
        assert!(!tcp(&lab.c(1).ns, to, 80).is_open());
        // a restart counts those that are there
        install(&mut lab, &firewall);
        assert!(kept.iter_mut().all(alive));
        assert!(!tcp(&lab.c(1).ns, to, 80).is_open());
        drop(kept.pop());
        std::thread::sleep(Duration::from_millis(200));
        let mut again = fill(&lab, 1, to, 2);
        assert_eq!(again.len(), 1, "{to}: a place was free");
        assert!(alive(&mut again[0]) && alive(&mut kept[0]));
    }
    assert!(
        tcp(&lab.c(3).ns, lab.c(2).ip4, 80).is_open(),
        "c3 has no limit"
    );
}

#[test]
fn hours_open_and_close() {
    let Some(mut lab) = Lab::without_tables() else {
        return;
    };
    serve(&lab.c(2).ns, 80);
    serve(&lab.c(3).ns, 80);
    let open = "[[ingress]]\ntime = \"Mon-Fri 08:00-18:00\"\n";
    let shut = "[[ingress]]\n[[ingress]]\naction = \"deny\"\nfrom = [\"zone:a\"]\ntime = \"18:00-08:00\"\n";
    let mut firewall = firewall(&lab, &[("c2.toml", open), ("c3.toml", shut)]);
    install(&mut lab, &firewall);
    let mut kept: Vec<_> = [2, 3]
        .into_iter()
        .flat_map(|n| lab.c(n).ips())
        .map(|to| lab.c(1).ns.run(|| connect(to, 80).unwrap()))
        .collect();
    assert!(kept.iter_mut().all(alive));
    let evening = firewall.set_clock(EVENING);
    assert!(evening.forget && evening.limits.is_none());
    lab.tables.apply(&evening).unwrap();
    verify(&mut lab, &firewall);
    for stream in &mut kept {
        assert!(!alive(stream), "what was open is cut when the hours end");
    }
    for n in [2, 3] {
        for to in lab.c(n).ips() {
            assert!(!tcp(&lab.c(1).ns, to, 80).is_open(), "{to}");
        }
    }
    assert!(
        tcp(&lab.world, lab.c(3).ip4, 80).is_open(),
        "the deny is about zone a"
    );
    lab.tables.apply(&firewall.set_clock(MONDAY)).unwrap();
    for n in [2, 3] {
        for to in lab.c(n).ips() {
            assert!(tcp(&lab.c(1).ns, to, 80).is_open(), "{to}");
        }
    }
    verify(&mut lab, &firewall);
}

/// The daemon is dead when the hours end: the kernel keeps the time.
#[test]
fn hours_end_without_a_daemon() {
    let Some(mut lab) = Lab::without_tables() else {
        return;
    };
    serve(&lab.c(2).ns, 80);
    serve(&lab.c(3).ns, 80);
    let open = "[[ingress]]\ntime = \"Mon 08:00-18:00\"\n";
    let shut = "[[ingress]]\n[[ingress]]\naction = \"deny\"\ntime = \"Mon 18:00-20:00\"\n";
    let firewall = firewall(&lab, &[("c2.toml", open), ("c3.toml", shut)]);
    install(&mut lab, &firewall);
    let timed: Vec<Element> = firewall
        .elements()
        .into_iter()
        .filter(|element| matches!(element.set, SetId::Limit | SetId::Asleep))
        .collect();
    assert_eq!(timed.len(), 2);
    assert!(
        timed
            .iter()
            .all(|e| e.timeout == Some(Life::Seconds(8 * 3600))),
        "{timed:?}"
    );
    // eight hours are long: the same elements with a second to live
    let mut short = timed.clone();
    for element in &mut short {
        element.timeout = Some(Life::Seconds(1));
    }
    lab.tables
        .apply(&Changes {
            remove: timed,
            add: short,
            ..Changes::default()
        })
        .unwrap();
    let mut kept = [2, 3].map(|n| {
        let to = lab.c(n).ip4;
        lab.c(1).ns.run(|| connect(to, 80).unwrap())
    });
    assert!(kept.iter_mut().all(alive));
    std::thread::sleep(Duration::from_millis(1200));
    for (n, stream) in [2, 3].into_iter().zip(&mut kept) {
        assert!(!alive(stream), "c{n}");
        assert!(!tcp(&lab.c(1).ns, lab.c(n).ip4, 80).is_open(), "c{n}");
    }
}

#[test]
fn elements_count_what_matches_them() {
    let Some(mut lab) = Lab::without_tables() else {
        return;
    };
    serve(&lab.c(2).ns, 80);
    let text = "[[ingress]]\nports = [\"tcp/80\"]\n[[ingress]]\nports = [\"tcp/81\"]\n";
    let firewall = firewall(&lab, &[("c2.toml", text)]);
    install(&mut lab, &firewall);
    for _ in 0..3 {
        assert!(tcp(&lab.c(1).ns, lab.c(2).ip4, 80).is_open());
    }
    let rules: Vec<Element> = firewall
        .elements_of(&"c2".parse().unwrap())
        .into_iter()
        .filter(|e| {
            matches!(
                e.set,
                SetId::Rule(
                    firewall::sets::Direction::Ingress,
                    firewall::sets::Family::V4,
                    ..
                )
            )
        })
        .collect();
    assert_eq!(rules.len(), 2);
    let hits = lab.tables.hits(&rules).unwrap();
    assert_eq!(hits.iter().filter(|n| **n == 0).count(), 1, "{hits:?}");
    let used = hits.iter().max().copied().unwrap();
    // the first packet of each is judged, and at most a few more while its verdict is not remembered yet
    assert!((3..=6).contains(&used), "{hits:?}");
}
