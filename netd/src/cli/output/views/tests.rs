//! Goldens: what is printed, in `cli/output/golden/`. `BLESS=1 cargo test -p netd` rewrites them.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;

use super::*;
use crate::api::{AppliedState, DhcpSilence, PolicyLimit, PolicyRule, ResolverZone};

pub(in super::super) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/cli/output/golden/{name}"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name}: BLESS=1 rewrites it");
}

fn dmz() -> Zone {
    Zone {
        name: "dmz".into(),
        bridge: "vz-dmz".into(),
        subnet4: Some("10.89.0.0/24".into()),
        subnet6: Some("fd5c:1a2b:3c4d:1::/64".into()),
        gateway4: Some("10.89.0.1".into()),
        gateway6: Some("fd5c:1a2b:3c4d:1::1".into()),
        internal: false,
        uplink: Some("eth0".into()),
        default: "egress".into(),
        mtu: 1500,
        domain: "dmz.test".into(),
        dns: vec!["9.9.9.9".into(), "149.112.112.112".into()],
        upstream: vec!["192.0.2.53".into()],
        upstream_domains: [("corp.example".to_owned(), vec!["10.0.0.53".to_owned()])].into(),
        pool: Some("10.89.0.10-10.89.0.99".into()),
        containers: vec!["db".into(), "web".into()],
    }
}

fn vault() -> Zone {
    Zone {
        name: "a-vault-of-secrets".into(),
        bridge: "vz-a-v1f0c2b7d".into(),
        subnet6: None,
        gateway6: None,
        internal: true,
        uplink: None,
        default: "deny".into(),
        domain: String::new(),
        dns: vec![],
        upstream: vec![],
        upstream_domains: Default::default(),
        pool: None,
        containers: vec![],
        ..dmz()
    }
}

fn web() -> Container {
    Container {
        container: "web".into(),
        zone: "dmz".into(),
        ifname: "host0".into(),
        host_ifname: "vb-web".into(),
        mac: "02:4f:5c:6d:7e:8f".into(),
        addresses: vec!["10.89.0.2/24".into(), "fd5c:1a2b:3c4d:1::2/128".into()],
        gateways: vec!["10.89.0.1".into(), "fe80::ff:fe00:1".into()],
        dns: vec!["10.89.0.1".into()],
        domain: "dmz.test".into(),
        mtu: 1500,
        labels: HashMap::from([
            ("tier".into(), "front".into()),
            ("env".into(), "prod".into()),
        ]),
        published: vec!["8080:80".into(), "53:53/udp".into()],
        bandwidth: vec![Limit {
            direction: "egress".into(),
            rate: 20_000_000,
            burst: Some(25_000),
        }],
        state: "attached".into(),
        networks: Vec::new(),
    }
}

fn bare() -> Container {
    Container {
        container: "a-container-with-a-long-name".into(),
        addresses: vec![],
        gateways: vec![],
        dns: vec![],
        domain: String::new(),
        labels: HashMap::new(),
        published: vec![],
        bandwidth: vec![],
        state: "refused".into(),
        ..web()
    }
}

pub(in super::super) fn reason(
    place: Option<(&str, i64, i64)>,
    direction: &str,
    action: &str,
    text: &str,
) -> Reason {
    Reason {
        file: place.map(|(file, _, _)| file.into()),
        line: place.map(|(_, line, _)| line),
        column: place.map(|(_, _, column)| column),
        direction: (!direction.is_empty()).then(|| direction.into()),
        action: action.into(),
        text: text.into(),
    }
}

fn reasons() -> Vec<Reason> {
    let file = "/etc/netd/policies/db.toml";
    vec![
        reason(
            None,
            "egress",
            "allow",
            "zone dmz lets its containers reach one another",
        ),
        reason(
            Some((file, 4, 1)),
            "ingress",
            "deny",
            "from label:tier=front, ports tcp/5432",
        ),
    ]
}

#[test]
fn zones_in_a_table() {
    golden("zone-list.txt", &zones(&[dmz(), vault()]));
}

#[test]
fn one_zone() {
    golden("zone-show.txt", &zone(&dmz()));
    golden("zone-show-internal.txt", &zone(&vault()));
}

#[test]
fn containers_in_a_table() {
    golden(
        "list.txt",
        &containers(&[web(), bare()].map(Listed::attached)),
    );
}

#[test]
fn one_container() {
    golden(
        "status-container.txt",
        &container(&web(), &[], &[], Vec::new(), Vec::new()),
    );
    let problem = Problem {
        subject: "/etc/netd/policies/web.toml".into(),
        message: "/etc/netd/policies/web.toml:3:1: error: unknown key `port`\n  |\n3 | port = 1\n  | ^^^^"
            .into(),
    };
    golden(
        "status-refused.txt",
        &container(&bare(), &[problem], &[], Vec::new(), Vec::new()),
    );
}

fn counters(zone: &str, queries: i64) -> ResolverZone {
    ResolverZone {
        zone: zone.into(),
        queries,
        local: queries / 2,
        cached: queries / 4,
        forwarded: queries / 8,
        joined: queries / 16,
        refused: queries / 16,
        failed: 0,
        limited: 0,
        wrong: 0,
    }
}

#[test]
fn the_daemon() {
    let status = DaemonStatus {
        version: "0.1.0".into(),
        pid: 4711,
        uptime: 93_784,
        zones: vec!["dmz".into(), "lab".into()],
        containers: 3,
        policies: 2,
        tables: "owned".into(),
        restored: 0,
        dhcp: vec![
            DhcpZone {
                zone: "dmz".into(),
                received: 17,
                offers: 5,
                acks: 6,
                naks: 1,
                heeded: 0,
                silent: vec![DhcpSilence {
                    reason: "rate-limited".into(),
                    count: 5,
                    at: 1000,
                    last: "02:00:00:00:00:01 sends too much".into(),
                }],
                pool: Some(51),
                pool_used: Some(3),
            },
            DhcpZone {
                zone: "lab".into(),
                received: 0,
                offers: 0,
                acks: 0,
                naks: 0,
                heeded: 0,
                silent: Vec::new(),
                pool: None,
                pool_used: None,
            },
        ],
        resolver: Resolver {
            upstream: vec!["192.0.2.53".into(), "2001:db8::53".into()],
            cached: 12,
            under_way: 0,
            zones: vec![counters("dmz", 480), counters("lab", 0)],
        },
        ipv6: vec![crate::api::Ipv6Zone {
            zone: "lab".into(),
            received: 12,
            advertisements: 9,
            replies: 4,
            silent: vec![crate::api::Ipv6Silence {
                reason: "rate-limited".into(),
                count: 2,
            }],
        }],
        problems: vec![Problem {
            subject: "zone lab".into(),
            message: "its bridge cannot be made".into(),
        }],
        applied: Some(AppliedState {
            state: "waiting".into(),
            at: 1000,
            remaining: Some(45),
            kept: None,
        }),
        warnings: vec![
            "web: publish 8080:80: no ingress rule of web lets anybody through to that port".into(),
        ],
    };
    golden("status.txt", &super::status(&status, 1015));
}

#[test]
fn leases_in_a_table() {
    let lease = |name: &str, kind: &str, state: &str, expires| Lease {
        container: name.into(),
        zone: "dmz".into(),
        mac: "02:4f:5c:6d:7e:8f".into(),
        address: "10.89.0.2".into(),
        kind: kind.into(),
        state: state.into(),
        expires,
    };
    let all = [
        lease("web", "static", "reserved", None),
        lease("db", "dhcp", "bound", Some(1_000_000 + 3_552)),
        lease("old", "dhcp", "expired", Some(1_000_000 - 90)),
    ];
    golden("lease-list.txt", &leases(&all, 1_000_000));
}

/// As a rule in force, with what it has matched where it is a file's.
fn counted(reason: Reason) -> PolicyRule {
    PolicyRule {
        hits: reason.line.map(|line| 40 + line),
        file: reason.file,
        line: reason.line,
        column: reason.column,
        direction: reason.direction,
        action: reason.action,
        text: reason.text,
    }
}

#[test]
fn a_policy() {
    let mut view = PolicyView {
        container: "db".into(),
        zone: "dmz".into(),
        files: vec!["/etc/netd/policies/db.toml".into()],
        rules: reasons().into_iter().map(counted).collect(),
        bandwidth: vec![
            PolicyLimit {
                file: Some("/etc/netd/policies/db.toml".into()),
                line: Some(1),
                column: Some(13),
                direction: "ingress".into(),
                rate: 100_000_000,
                burst: 125_000,
                text: "100mbit".into(),
            },
            PolicyLimit {
                file: None,
                line: None,
                column: None,
                direction: "egress".into(),
                rate: 20_000_000,
                burst: 65_536,
                text: "20mbit burst 64kb".into(),
            },
        ],
        nft: None,
        networks: Vec::new(),
    };
    golden("policy-show.txt", &policy(&view));
    view.nft = Some("table inet netd {\n}\n".into());
    assert_eq!(policy(&view), "table inet netd {\n}\n");
}

#[test]
fn what_was_done() {
    let created = ZoneCreated {
        zone: dmz(),
        created: true,
    };
    let attached_again = Attached {
        container: web(),
        created: false,
        warnings: vec![],
    };
    golden(
        "done.txt",
        &[zone_created(&created), attached(&attached_again)].concat(),
    );
}
