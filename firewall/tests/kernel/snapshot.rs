//! Two policies in turn that both deny a packet, each for another reason: none in between lets it pass.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::conditions::{firewall, install, policies};
use crate::lab::Lab;

/// Sends to a closed port from many sockets, each a connection of its own.
fn blast(lab: &Lab, to: IpAddr, stop: &Arc<AtomicBool>, sent: &Arc<AtomicUsize>) {
    let any = match to {
        IpAddr::V4(_) => "0.0.0.0",
        IpAddr::V6(_) => "::",
    };
    let (stop, sent) = (stop.clone(), sent.clone());
    lab.c(1).ns.spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let socket = UdpSocket::bind((any, 0)).unwrap();
            for _ in 0..20 {
                let ok = socket.send_to(b"x", (to, 82)).is_ok();
                sent.fetch_add(usize::from(ok), Ordering::Relaxed);
            }
        }
    });
}

#[test]
fn a_packet_meets_one_policy_or_the_other() {
    let Some(mut lab) = Lab::without_tables() else {
        return;
    };
    // closed, as nothing allows it; and closed, as a deny stands beside an allow
    let pairs = [
        [
            "ingress = []\n",
            "[[ingress]]\n[[ingress]]\naction = \"deny\"\nports = [\"udp/82\"]\n",
        ],
        [
            "[[ingress]]\nfrom = [\"container:c2\"]\n",
            "[[ingress]]\nrate = \"100000/second burst 1000000\"\n[[ingress]]\naction = \"deny\"\nfrom = [\"zone:a\"]\n",
        ],
        [
            "ingress = []\n",
            "[[ingress]]\n[[ingress]]\naction = \"deny\"\nfrom = [\"10.0.0.0/8\", \"fd00::/8\"]\nports = [\"udp/80-90\"]\n",
        ],
    ];
    let mut firewall = firewall(&lab, &[]);
    let server = lab.c(3).ns.run(|| UdpSocket::bind("[::]:82").unwrap());
    server.set_nonblocking(true).unwrap();
    for [one, other] in pairs {
        let sets = [one, other].map(|text| policies(&[("c3.toml", text)]));
        firewall.set_policies(sets[0].clone());
        install(&mut lab, &firewall);
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        for to in lab.c(3).ips() {
            blast(&lab, to, &stop, &sent);
        }
        let begin = Instant::now();
        let mut edits = 0;
        while begin.elapsed() < Duration::from_secs(4) {
            for set in [&sets[1], &sets[0]] {
                let changes = firewall.set_policies(set.clone());
                assert!(!changes.is_empty());
                lab.tables.apply(&changes).unwrap();
                edits += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let mut arrived = 0;
        while server.recv(&mut [0; 16]).is_ok() {
            arrived += 1;
        }
        let sent = sent.load(Ordering::Relaxed);
        println!("{edits} edits, {arrived} of {sent} arrived");
        assert!(sent > 1000 && edits > 10);
        assert_eq!(arrived, 0, "of {sent}, under {one:?} and {other:?}");
    }
}

/// Sends over few connections that live long, as one that was passed once does.
fn stream(lab: &Lab, to: IpAddr, stop: &Arc<AtomicBool>) {
    let stop = stop.clone();
    lab.c(1).ns.spawn(move || {
        let sockets: Vec<_> = (0..8)
            .map(|_| UdpSocket::bind(("::", 0)).or_else(|_| UdpSocket::bind(("0.0.0.0", 0))))
            .map(|socket| socket.unwrap())
            .collect();
        let to = match to {
            IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
            v6 => v6,
        };
        while !stop.load(Ordering::Relaxed) {
            for socket in &sockets {
                let _ = socket.send_to(b"x", (to, 82));
            }
        }
    });
}

fn drain(server: &UdpSocket) -> usize {
    let mut arrived = 0;
    while server.recv(&mut [0; 16]).is_ok() {
        arrived += 1;
    }
    arrived
}

#[test]
fn a_denied_range_ends_what_runs_and_nothing_of_it_is_remembered() {
    let Some(mut lab) = Lab::without_tables() else {
        return;
    };
    let open = "[[ingress]]\n";
    let closed = "[[ingress]]\n[[ingress]]\naction = \"deny\"\nfrom = [\"10.0.0.0/8\", \"fd00::/8\"]\nports = [\"udp/80-90\"]\n";
    let sets = [open, closed].map(|text| policies(&[("c3.toml", text)]));
    let mut firewall = firewall(&lab, &[]);
    firewall.set_policies(sets[0].clone());
    install(&mut lab, &firewall);
    let server = lab.c(3).ns.run(|| UdpSocket::bind("[::]:82").unwrap());
    server.set_nonblocking(true).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    for to in lab.c(3).ips() {
        stream(&lab, to, &stop);
    }
    let begin = Instant::now();
    let (mut edits, mut passed, mut leaked) = (0, 0, 0);
    while begin.elapsed() < Duration::from_secs(4) {
        lab.tables
            .apply(&firewall.set_policies(sets[1].clone()))
            .unwrap();
        // what was on its way
        std::thread::sleep(Duration::from_millis(1));
        passed += drain(&server);
        std::thread::sleep(Duration::from_millis(2));
        leaked += drain(&server);
        // a restart in between opens nothing either
        if edits % 20 == 0 {
            install(&mut lab, &firewall);
            std::thread::sleep(Duration::from_millis(2));
            leaked += drain(&server);
        }
        lab.tables
            .apply(&firewall.set_policies(sets[0].clone()))
            .unwrap();
        std::thread::sleep(Duration::from_millis(1));
        edits += 1;
    }
    stop.store(true, Ordering::Relaxed);
    println!("{edits} edits, {passed} passed while open, {leaked} while closed");
    assert!(edits > 20 && passed > 1000);
    assert_eq!(leaked, 0);
}
