//! What `netd policy learn` writes: it parses, it allows what was seen, and nothing else but what it says
//! it generalises.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firewall::learn::{ENOUGH, Kind, Learned, MAX_KINDS, Peer, policy};
use firewall::model::{DefaultPolicy, Endpoint, Flow, Traffic};
use firewall::oracle;
use firewall::policy::{PolicyFile, Ports};
use firewall::sets::{Action, Direction, Family};
use proptest::prelude::*;
use proptest::sample::select;
use pure::story::Story;

const WEB: &str = "web";

/// The container, six in each of two zones, everything open but what web's own file closes.
fn story() -> Story {
    let mut story = Story::new()
        .zone("dmz", DefaultPolicy::Deny)
        .zone("lan", DefaultPolicy::Deny)
        .container(WEB, "dmz", "", "");
    for zone in ["dmz", "lan"] {
        for n in 0..6 {
            story = story.container(&format!("{zone}{n}"), zone, "open=yes", "");
        }
    }
    story.file(
        "open.toml",
        "applies-to = { labels = { open = \"yes\" } }\n[[ingress]]\n[[egress]]\n",
    )
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_340_000 + second)
}

fn container(name: &str) -> Peer {
    let zone = name.trim_end_matches(|c: char| c.is_ascii_digit());
    Peer::Container(zone.parse().unwrap(), name.parse().unwrap())
}

fn world(address: &str) -> Peer {
    Peer::World(address.parse().unwrap())
}

fn seen(direction: Direction, peer: Peer, traffic: Traffic) -> Kind {
    Kind {
        direction,
        verdict: Action::Allow,
        peer,
        ports: traffic.into(),
    }
}

fn learned(kinds: &[Kind]) -> Learned {
    let mut learned = Learned::default();
    for (n, kind) in kinds.iter().enumerate() {
        learned.note(kind.clone(), at(n as u64));
    }
    learned
}

fn written(kinds: &[Kind]) -> String {
    policy(&WEB.parse().unwrap(), &learned(kinds), |_| true, &[])
}

/// The rules without comments and blank lines.
fn rules(text: &str) -> Vec<&str> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.skip(1).collect()
}

const OUT: Direction = Direction::Egress;
const IN: Direction = Direction::Ingress;

fn tcp(port: u16) -> Traffic {
    Traffic::Port(6, port)
}

#[test]
fn a_file_that_reads_well() {
    let mut kinds = vec![
        seen(OUT, container("dmz1"), tcp(5432)),
        seen(OUT, container("dmz1"), Traffic::Icmp(8)),
        seen(OUT, container("lan2"), tcp(5432)),
        seen(OUT, container("lan2"), Traffic::Icmp(8)),
        seen(OUT, Peer::Host, Traffic::Port(17, 123)),
        seen(
            OUT,
            Peer::Address("169.254.169.254".parse().unwrap()),
            tcp(80),
        ),
    ];
    for port in [8000, 8001, 8002, 9000, 9001] {
        kinds.push(seen(IN, Peer::Host, tcp(port)));
    }
    let mut learned = learned(&kinds);
    learned.note(kinds[0].clone(), at(100));
    let text = policy(&WEB.parse().unwrap(), &learned, |_| true, &[]);
    assert_eq!(
        text,
        "# What web was seen doing, from 2026-11-22T09:33:20Z to 2026-11-22T09:35:00Z. Read it before it is put in force.\n\
         applies-to = { container = \"web\" }\n\
         \n\
         # 5 times, from 2026-11-22T09:33:20Z to 2026-11-22T09:35:00Z\n\
         [[egress]]\n\
         to    = [\"container:dmz1\", \"container:lan2\"]\n\
         ports = [\"tcp/5432\", \"icmp/echo-request\"]\n\
         \n\
         # once, at 2026-11-22T09:33:25Z\n\
         [[egress]]\n\
         to    = [\"169.254.169.254\"]\n\
         ports = [\"tcp/80\"]\n\
         \n\
         # once, at 2026-11-22T09:33:24Z\n\
         [[egress]]\n\
         to    = [\"host\"]\n\
         ports = [\"udp/123\"]\n\
         \n\
         # 5 times, from 2026-11-22T09:33:26Z to 2026-11-22T09:33:30Z\n\
         [[ingress]]\n\
         from  = [\"host\"]\n\
         ports = [\"tcp/8000-8002\", \"tcp/9000\", \"tcp/9001\"]\n"
    );
}

#[test]
fn enough_of_one_class_on_one_port_stand_for_it() {
    let world_of = |count: usize| -> Vec<Kind> {
        let address = |n| world(&format!("198.51.100.{}", 3 * n));
        (0..count)
            .map(|n| seen(OUT, address(n), tcp(443)))
            .collect()
    };
    assert_eq!(
        rules(&written(&world_of(ENOUGH - 1)))[2..],
        [
            "to    = [\"198.51.100.0\", \"198.51.100.3\", \"198.51.100.6\"]",
            "ports = [\"tcp/443\"]"
        ]
    );
    assert_eq!(
        rules(&written(&world_of(ENOUGH)))[2..],
        ["to    = [\"world\"]", "ports = [\"tcp/443\"]"]
    );
    let zone_of = |count: usize| -> Vec<Kind> {
        let name = |n| container(&format!("lan{n}"));
        (0..count).map(|n| seen(IN, name(n), tcp(80))).collect()
    };
    assert!(written(&zone_of(ENOUGH - 1)).contains("container:lan2"));
    assert!(written(&zone_of(ENOUGH)).contains("from  = [\"zone:lan\"]"));
    // not on ports that only one of them used
    let mut kinds = zone_of(ENOUGH);
    kinds.push(seen(IN, container("lan0"), tcp(22)));
    let text = written(&kinds);
    assert!(
        text.contains("from  = [\"container:lan0\"]\nports = [\"tcp/22\"]"),
        "{text}"
    );
}

#[test]
fn adjacent_addresses_are_one_network() {
    let kinds: Vec<Kind> = ["192.0.2.4", "192.0.2.5", "2001:db8::1"]
        .map(|address| seen(OUT, world(address), tcp(25)))
        .into();
    assert_eq!(
        rules(&written(&kinds))[2],
        "to    = [\"192.0.2.4/31\", \"2001:db8::1\"]"
    );
}

#[test]
fn what_is_missing_is_said() {
    let mut learned = learned(&[seen(OUT, container("dmz1"), tcp(5432))]);
    learned.lost = 12;
    learned.more = true;
    let name = WEB.parse().unwrap();
    let refused = Kind {
        verdict: Action::Deny,
        ..seen(OUT, container("dmz2"), tcp(23))
    };
    learned.note(refused, at(9));
    learned.note(seen(OUT, container("dmz1"), tcp(0)), at(9));
    let text = policy(
        &name,
        &learned,
        |direction| direction == OUT,
        &["policies/base.toml".to_owned()],
    );
    for words in [
        "# 12 decisions were not recorded",
        "# There were more than 4096 kinds",
        "# 1 kinds of connections were refused",
        "# No rule can name tcp/0",
        "# ingress was not on trial",
        "# What policies/base.toml allows in force is not told here",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(
        !text.contains("tcp/23") && !text.contains("ingress ="),
        "{text}"
    );
    let text = policy(&name, &learned, |_| true, &[]);
    assert!(
        text.contains("\ningress = []  # nothing was seen\n"),
        "{text}"
    );
}

#[test]
fn what_is_kept_is_bounded_and_what_is_old_can_be_left_out() {
    let kind = |n: usize| seen(IN, world("192.0.2.7"), tcp(n as u16 + 1));
    let mut learned = Learned::default();
    for n in 0..MAX_KINDS {
        learned.note(kind(n), at(n as u64));
    }
    assert!(!learned.more);
    learned.note(kind(0), at(5000));
    assert!(!learned.more, "it was there already");
    learned.note(kind(MAX_KINDS), at(5001));
    assert_eq!((learned.more, learned.kinds.len()), (true, MAX_KINDS));
    let late = learned.since(at(MAX_KINDS as u64 - 1));
    let ports: Vec<String> = late.kinds.keys().map(|k| k.ports.to_string()).collect();
    assert_eq!(ports, ["tcp/1", "tcp/4096"]);
}

const WORLD: [&str; 9] = [
    "198.51.100.4",
    "198.51.100.5",
    "198.51.100.6",
    "198.51.100.7",
    "203.0.113.9",
    "2001:db8:2::6",
    "2001:db8:2::7",
    "2001:db8:3::1",
    "203.0.113.1",
];

fn peers() -> Vec<Peer> {
    let containers = ["dmz", "lan"]
        .into_iter()
        .flat_map(|zone| (0..6).map(move |n| container(&format!("{zone}{n}"))));
    let others = ["169.254.169.254", "169.254.1.1", "fe80::9"];
    let others = others.map(|address| Peer::Address(address.parse().unwrap()));
    containers
        .chain(WORLD.map(world))
        .chain(others)
        .chain([Peer::Host])
        .collect()
}

const TRAFFIC: [Traffic; 14] = [
    Traffic::Port(6, 79),
    Traffic::Port(6, 80),
    Traffic::Port(6, 81),
    Traffic::Port(6, 82),
    Traffic::Port(6, 84),
    Traffic::Port(6, 65535),
    Traffic::Port(6, 65534),
    Traffic::Port(6, 65533),
    Traffic::Port(17, 80),
    Traffic::Port(17, 81),
    Traffic::Port(132, 80),
    Traffic::Icmp(8),
    Traffic::Icmp(0),
    Traffic::Proto(47),
];

fn endpoint(peer: &Peer) -> Endpoint {
    match peer {
        Peer::Container(_, name) => Endpoint::Container(name.into()),
        Peer::Host => Endpoint::Host,
        Peer::World(address) | Peer::Address(address) => Endpoint::Address(*address),
    }
}

fn families(peer: &Peer) -> Vec<Family> {
    match peer {
        Peer::World(address) | Peer::Address(address) => vec![Family::of(*address)],
        Peer::Container(..) | Peer::Host => Family::ALL.to_vec(),
    }
}

fn flow(direction: Direction, peer: &Peer, traffic: Traffic, family: Family) -> Flow {
    let own = Endpoint::Container(WEB.parse().unwrap());
    let (from, to) = match direction {
        Direction::Egress => (own, endpoint(peer)),
        Direction::Ingress => (endpoint(peer), own),
    };
    Flow {
        from,
        to,
        traffic,
        family,
        published: false,
    }
}

/// Whether one may be allowed because others were seen.
fn covered(kinds: &BTreeSet<Kind>, kind: &Kind) -> bool {
    let alike = |test: &dyn Fn(&Peer) -> bool| {
        let same = |k: &&Kind| k.direction == kind.direction && k.ports == kind.ports;
        kinds.iter().filter(same).filter(|k| test(&k.peer)).count() >= ENOUGH
    };
    kinds.contains(kind)
        || match &kind.peer {
            Peer::World(_) => alike(&|peer| matches!(peer, Peer::World(_))),
            Peer::Container(zone, _) => {
                alike(&|peer| matches!(peer, Peer::Container(z, _) if z == zone))
            }
            Peer::Host | Peer::Address(_) => false,
        }
}

/// Whether netd lets it through whatever policy says.
fn built_in(kind: &Kind, traffic: Traffic) -> bool {
    kind.direction == OUT && kind.peer == Peer::Host && traffic == Traffic::Icmp(8)
}

fn holds(kinds: Vec<Kind>) -> Result<(), TestCaseError> {
    let text = written(&kinds);
    let file = PolicyFile::parse("web.toml", &text);
    prop_assert!(file.is_ok(), "{:?}\n{}", file, text);
    prop_assert!(file.unwrap().warnings.is_empty(), "{}", text);
    let kinds: BTreeSet<Kind> = kinds.into_iter().collect();
    let story = story().file("web.toml", &text);
    for direction in Direction::ALL {
        for peer in peers() {
            for traffic in TRAFFIC {
                let kind = seen(direction, peer.clone(), traffic);
                let wanted = covered(&kinds, &kind) || built_in(&kind, traffic);
                for family in families(&peer) {
                    let flow = flow(direction, &peer, traffic, family);
                    let allowed =
                        oracle::allows(story.firewall.world(), story.firewall.policies(), &flow);
                    prop_assert_eq!(allowed, wanted, "{:?}\n{}", flow, text);
                }
            }
        }
    }
    Ok(())
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let kind = (
        select(Direction::ALL.to_vec()),
        select(peers()),
        select(TRAFFIC.to_vec()),
    )
        .prop_map(|(direction, peer, traffic)| seen(direction, peer, traffic));
    // few peers on many ports, many peers on few ports, and anything
    let crowd = (
        select(Direction::ALL.to_vec()),
        select(TRAFFIC.to_vec()),
        prop::sample::subsequence(peers(), 0..12),
    )
        .prop_map(|(direction, traffic, peers)| {
            peers
                .into_iter()
                .map(|peer| seen(direction, peer, traffic))
                .collect::<Vec<_>>()
        });
    (
        prop::collection::vec(kind, 0..12),
        prop::collection::vec(crowd, 0..4),
    )
        .prop_map(|(single, crowds)| {
            single
                .into_iter()
                .chain(crowds.into_iter().flatten())
                .collect()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn what_was_seen_is_allowed_and_nothing_else(kinds in kinds()) {
        holds(kinds)?;
    }

    /// Whatever an address and a port may be, the file parses.
    #[test]
    fn every_kind_can_be_written(proto in any::<u8>(), port in any::<u16>(), icmp in any::<u8>(), address in any::<[u8; 16]>(), v4 in any::<bool>()) {
        let address: IpAddr = if v4 { IpAddr::from([address[0], address[1], address[2], address[3]]) } else { address.into() };
        let traffic = if firewall::policy::has_ports(proto) { Traffic::Port(proto, port) } else { Traffic::Proto(proto) };
        let kinds = [traffic, Traffic::Icmp(icmp), Traffic::Port(17, port)].map(|t| seen(OUT, Peer::Address(address), t));
        let text = written(&kinds);
        let file = PolicyFile::parse("web.toml", &text);
        prop_assert!(file.is_ok(), "{:?}\n{}", file, text);
        let said: Vec<Ports> = file.unwrap().rules().flat_map(|r| r.ports.clone().unwrap_or_default()).collect();
        prop_assert!(said.contains(&kinds[2].ports) || port == 0, "{}", text);
    }
}

/// As much as is ever kept, in a few moments: one scan of many ports, and many who ask one port.
#[test]
fn as_much_as_is_kept_is_written() {
    let mut learned = Learned::default();
    for n in 0..2048u16 {
        learned.note(
            seen(IN, container("lan1"), tcp(n * 2 + 1)),
            at(u64::from(n)),
        );
        let [high, low] = n.to_be_bytes();
        let address = Peer::Address(IpAddr::from([169, 254, high, low]));
        learned.note(seen(OUT, address, tcp(80)), at(u64::from(n)));
    }
    assert_eq!(learned.kinds.len(), MAX_KINDS);
    let text = policy(&WEB.parse().unwrap(), &learned, |_| true, &[]);
    let file = PolicyFile::parse("web.toml", &text).unwrap();
    // a rule has 500 ports at most
    assert_eq!(file.rules().count(), 5 + 1);
    assert!(text.contains("to    = [\"169.254.0.0/21\"]"), "{text}");
}
