//! When there is no ruleset at all, the gate on the bridge is closed.

use firewall::kernel::{Tables, gate};

use crate::lab::{BRIDGES, GATEWAY4, GATEWAY6, HOST4, Lab, WORLD4, WORLD6, sh};
use crate::probe::{ping, serve, serve_here, tcp, tcp_here};

pub(crate) fn index(name: &str) -> u32 {
    sh(&format!("ip -o link show {name} | cut -d: -f1"))
        .trim()
        .parse()
        .unwrap()
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

#[test]
fn with_the_tables_everything_works_and_without_them_nothing() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.world, 80);
    serve_here(80);
    for n in 1..=4 {
        serve(&lab.c(n).ns, 80);
    }
    let rules: Vec<_> = (1..=4).flat_map(|n| lab.c(n).open()).collect();
    lab.add(rules.clone());
    for bridge in BRIDGES {
        assert!(!gate::present(index(bridge)));
        gate::install(index(bridge)).unwrap();
        gate::install(index(bridge)).unwrap();
        assert!(gate::present(index(bridge)));
        assert_eq!(
            sh(&format!(
                "tc filter show dev {bridge} ingress; tc filter show dev {bridge} egress"
            ))
            .matches("direct-action")
            .count(),
            2
        );
    }
    let paths = |lab: &Lab| {
        let c1 = &lab.c(1).ns;
        let mut open = Vec::new();
        for (i, to) in [WORLD4, WORLD6, GATEWAY4[0], GATEWAY6[0], HOST4]
            .into_iter()
            .enumerate()
        {
            open.push((i, tcp(c1, ip(to), 80).is_open()));
        }
        for to in lab.c(2).ips() {
            open.push((5, tcp(c1, to, 80).is_open()));
            open.push((6, tcp(&lab.world, to, 80).is_open()));
            open.push((7, tcp_here(to, 80).is_open()));
        }
        open.push((8, ping(c1, ip(GATEWAY4[0])) || ping(c1, ip(GATEWAY6[0]))));
        open
    };
    let closed: Vec<_> = paths(&lab).into_iter().filter(|p| !p.1).collect();
    assert_eq!(closed, [], "with tables and gate");
    // Neighbours are found anew through the gate: ARP, and neighbour discovery both ways.
    sh("ip neigh flush all; ip -6 neigh flush all");
    assert!(paths(&lab).iter().all(|p| p.1));
    // Daemon and keeper dead, and somebody flushes everything.
    lab.tables = Tables::open(None).unwrap();
    sh("nft flush ruleset");
    let open: Vec<_> = paths(&lab).into_iter().filter(|p| p.1).collect();
    assert_eq!(open, [], "with the gate alone");
    // Without the gate it would all be open: the story can fail.
    for bridge in BRIDGES {
        sh(&format!("tc qdisc del dev {bridge} clsact"));
        assert!(!gate::present(index(bridge)));
    }
    assert!(tcp(&lab.c(1).ns, lab.c(2).ip4, 80).is_open());
    // The tables come back, the gate too.
    for bridge in BRIDGES {
        gate::install(index(bridge)).unwrap();
    }
    let elements = [lab.base(), rules].concat();
    lab.tables.install(&elements, &[]).unwrap();
    assert!(paths(&lab).iter().all(|p| p.1));
}

#[test]
fn the_gate_leaves_other_filters_alone_and_needs_an_interface() {
    let Some(_lab) = Lab::without_tables() else {
        return;
    };
    sh(
        "tc qdisc add dev vz-a clsact; tc filter add dev vz-a ingress protocol all pref 7 u32 match u32 0 0 classid 1:1",
    );
    gate::install(index("vz-a")).unwrap();
    assert!(gate::present(index("vz-a")));
    assert!(sh("tc filter show dev vz-a ingress").contains("u32"));
    let error = gate::install(9999).unwrap_err();
    assert!(error.to_string().contains("9999"), "{error}");
    assert!(!gate::present(9999));
}

#[test]
fn a_port_that_the_guard_does_not_know_is_closed_by_the_gate() {
    let Some(mut lab) = Lab::new() else { return };
    serve_here(80);
    let rules = lab.c(1).open();
    lab.add(rules);
    gate::install(index("vz-a")).unwrap();
    assert!(tcp(&lab.c(1).ns, ip(GATEWAY4[0]), 80).is_open());
    let guard = lab.c(1).guard();
    lab.tighten(guard);
    for to in [GATEWAY4[0], GATEWAY6[0]] {
        assert!(!tcp(&lab.c(1).ns, ip(to), 80).is_open(), "{to}");
    }
}
