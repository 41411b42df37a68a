//! Limits on a port, with real packets. Bounds are wide: they tell a limit from none, not how exact it is.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use firewall::bandwidth::{Bandwidth, Shape};
use firewall::kernel::bandwidth::{self, Standing};

use crate::lab::{Lab, Ns, WORLD4, sh};

const PORT: u16 = 5001;
const LONG: Duration = Duration::from_millis(1500);

fn shape(mbit: u64) -> Option<Shape> {
    let rate = mbit * 1_000_000;
    Some(Shape { rate, burst: None })
}

fn both(ingress: u64, egress: u64) -> Bandwidth {
    Bandwidth {
        ingress: shape(ingress),
        egress: shape(egress),
    }
}

/// Counts what comes, and tells the sender when its connection ends.
fn serve(ns: &Ns) {
    let (ready, is_ready) = std::sync::mpsc::channel();
    ns.spawn(move || {
        let listener = TcpListener::bind(("::", PORT)).unwrap();
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut buffer, mut total, mut begin) = (vec![0; 1 << 18], 0u64, None);
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                begin.get_or_insert_with(Instant::now);
                total += n as u64;
            }
            let time = begin.map_or(1.0, |begin: Instant| begin.elapsed().as_secs_f64());
            let mbit = total as f64 * 8e-6 / time;
            let _ = stream.write_all(&mbit.to_ne_bytes());
        }
    });
    is_ready.recv().unwrap();
}

/// Megabits a second that arrive.
fn throughput(from: &Ns, to: IpAddr) -> f64 {
    from.run(|| {
        let mut stream = TcpStream::connect((to, PORT)).unwrap();
        let (begin, block) = (Instant::now(), vec![7; 1 << 16]);
        while begin.elapsed() < LONG {
            stream.write_all(&block).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        f64::from_ne_bytes(answer)
    })
}

#[test]
fn each_direction_has_its_rate_and_nothing_is_left_of_it() {
    let Some(mut lab) = Lab::new() else { return };
    let rules: Vec<_> = (1..=2).flat_map(|n| lab.c(n).open()).collect();
    lab.add(rules);
    let (c1, c2) = (lab.c(1), lab.c(2));
    for ns in [&lab.world, &c1.ns, &c2.ns] {
        serve(ns);
    }
    let world: IpAddr = WORLD4.parse().unwrap();
    let before = sh("ip -br link; tc qdisc show; ip -br addr");
    assert!(throughput(&c1.ns, c2.ip4) > 200.0);

    let limit = both(20, 40);
    let aside = bandwidth::set(c1.ifindex, 1500, limit).unwrap();
    assert!(aside.is_some());
    assert_eq!(bandwidth::set(c1.ifindex, 1500, limit).unwrap(), aside);
    let standing = Standing::read().unwrap();
    assert!(standing.agrees(c1.ifindex, limit), "{standing:?}");
    assert!(!standing.agrees(c1.ifindex, both(20, 41)));
    assert!(!standing.agrees(c1.ifindex, both(21, 40)));
    assert!(!standing.agrees(c1.ifindex, Bandwidth::default()));
    assert!(standing.agrees(c2.ifindex, Bandwidth::default()));
    for (from, to, low, high) in [
        (&c1.ns, world, 20.0, 60.0),
        (&c1.ns, c2.ip4, 20.0, 60.0),
        (&lab.world, c1.ip4, 10.0, 30.0),
        (&c2.ns, c1.ip4, 10.0, 30.0),
        (&c1.ns, c2.ip6, 20.0, 60.0),
    ] {
        let mbit = throughput(from, to);
        println!("{mbit} to {to}");
        assert!((low..high).contains(&mbit), "{mbit} to {to}");
    }
    assert!(
        throughput(&lab.world, c2.ip4) > 200.0,
        "others are not limited"
    );

    // another rate, and one direction alone
    bandwidth::set(c1.ifindex, 1500, both(100, 40)).unwrap();
    let mbit = throughput(&c2.ns, c1.ip4);
    assert!((50.0..150.0).contains(&mbit), "{mbit}");

    // what somebody deletes is missed
    for wrong in [
        "tc qdisc del dev vb-c1 root".to_owned(),
        "tc filter del dev vb-c1 ingress".to_owned(),
        format!("tc qdisc del dev vi-{} root", c1.ifindex),
        format!("ip link set vi-{} down", c1.ifindex),
        format!("ip link del vi-{}", c1.ifindex),
        "tc qdisc replace dev vb-c1 root tbf rate 1gbit burst 1mb latency 10ms".to_owned(),
        "tc qdisc replace dev vb-c1 root pfifo limit 10".to_owned(),
    ] {
        sh(&wrong);
        let standing = Standing::read().unwrap();
        assert!(
            !standing.agrees(c1.ifindex, both(100, 40)),
            "{wrong}: {standing:?}"
        );
        bandwidth::set(c1.ifindex, 1500, both(100, 40)).unwrap();
        let standing = Standing::read().unwrap();
        assert!(
            standing.agrees(c1.ifindex, both(100, 40)),
            "{wrong}: {standing:?}"
        );
    }
    let mbit = throughput(&c1.ns, world);
    assert!((20.0..60.0).contains(&mbit), "{mbit}");

    let ports: Vec<u32> = Standing::read().unwrap().ports().collect();
    assert!(
        ports.iter().all(|port| *port == c1.ifindex) && !ports.is_empty(),
        "{ports:?}"
    );
    bandwidth::clear(c1.ifindex, true, true).unwrap();
    assert!(throughput(&c1.ns, world) > 200.0);
    sh(&format!("ip link del vi-{}", c1.ifindex));
    assert_eq!(sh("ip -br link; tc qdisc show; ip -br addr"), before);
}
