//! The harness itself, without netd: a probe that could not tell, or a trap that caught nothing, would
//! make every other story worthless.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::net::frame::{self, BROADCAST, IPV4};
use crate::net::netns::Netns;
use crate::net::probe::{Reach, probe};
use crate::net::raw::PacketSocket;
use crate::net::steady::{Steady, Storm};
use crate::net::trap::Trap;
use crate::world::{HOST, OUTSIDE, World};

pub fn a_private_host_is_ready_at_once() {
    let started = Instant::now();
    let world = World::without_daemon("quick");
    eprintln!(
        "measured: a private host with a world outside takes {:?}",
        started.elapsed()
    );
    for (host, outside) in HOST.iter().zip(OUTSIDE) {
        let reach = probe(&world.outside, host.parse().unwrap(), "tcp/22");
        assert_eq!(
            (reach.who(), reach.source()),
            ("host", outside.parse().ok())
        );
        let reach = probe(&world.netns, outside.parse().unwrap(), "udp/123");
        assert_eq!((reach.who(), reach.source()), ("world", host.parse().ok()));
        assert!(probe(&world.netns, outside.parse().unwrap(), "icmp/echo-request").passed());
    }
    assert_eq!(world.own_links(), Vec::<String>::new());
}

pub fn probes_tell_the_four_outcomes_apart() {
    let world = World::without_daemon("outcomes");
    world.outside.sh("nft -f - <<'X'\n\
         table inet t {\n chain echo { }\n chain in { type filter hook input priority 0; policy accept;\n\
         tcp dport 1001 reject with tcp reset\n\
         meta l4proto { tcp, udp } th dport 1002 reject with icmpx admin-prohibited\n\
         meta l4proto { tcp, udp } th dport 1003 drop\n\
         ip saddr 192.0.2.1 icmp type echo-request ip ttl 64 jump echo\n}\n}\nX");
    for to in OUTSIDE.map(|text| text.parse::<IpAddr>().unwrap()) {
        for proto in ["tcp", "udp"] {
            let ask = |port: u16| probe(&world.netns, to, &format!("{proto}/{port}"));
            assert_eq!(ask(1000), Reach::Refused, "{to} {proto}: nobody listens");
            // A connecting TCP may not hear ICMP: while its own SYN goes out, the socket is locked.
            if proto == "udp" {
                assert_eq!(ask(1002), Reach::Prohibited, "{to} {proto}: prohibited");
            }
            assert_eq!(ask(1003), Reach::Silent, "{to} {proto}: dropped");
        }
        assert_eq!(probe(&world.netns, to, "tcp/1001"), Reach::Refused);
        assert_eq!(probe(&world.netns, to, "tcp/80").who(), "world");
    }
    world
        .outside
        .sh("nft add rule inet t echo reject with icmpx admin-prohibited");
    assert_eq!(
        probe(
            &world.netns,
            OUTSIDE[0].parse().unwrap(),
            "icmp/echo-request"
        ),
        Reach::Prohibited
    );
    world
        .outside
        .sh("nft flush chain inet t echo; nft add rule inet t echo drop");
    assert_eq!(
        probe(
            &world.netns,
            OUTSIDE[0].parse().unwrap(),
            "icmp/echo-request"
        ),
        Reach::Silent
    );
}

pub fn traps_catch_forged_frames() {
    let (one, two) = (Netns::create("one"), Netns::create("two"));
    one.sh("ip link add left type veth peer name right netns two; ip link set left up");
    two.sh("ip link set right up");
    let trap = Trap::set(&two, "right", |frame| {
        frame::destination(frame) == Some((17, 666))
    });
    let sender = one.enter(|| PacketSocket::open("left")).unwrap();
    let forged = frame::udp4(
        (Ipv4Addr::new(10, 1, 1, 1), 5),
        (Ipv4Addr::new(10, 1, 1, 2), 667),
        b"x",
    );
    sender
        .send(&frame::ethernet(BROADCAST, [2; 6], IPV4, &forged))
        .unwrap();
    trap.is_empty("another port");
    let forged = frame::udp4(
        (Ipv4Addr::new(10, 1, 1, 1), 5),
        (Ipv4Addr::new(10, 1, 1, 2), 666),
        b"x",
    );
    sender
        .send(&frame::ethernet(BROADCAST, [2; 6], IPV4, &forged))
        .unwrap();
    trap.has_caught("the port");
}

pub fn steady_flows_measure_gaps_and_storms_arrive() {
    let world = World::without_daemon("steady");
    let outside: IpAddr = OUTSIDE[0].parse().unwrap();
    let flow = Steady::start(&world.netns, outside, 123);
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    let calm = flow.longest_gap(start);
    world.outside.sh("nft add table t; nft add chain t in '{ type filter hook input priority 0; }'; nft add rule t in udp dport 123 drop");
    let cut = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    world.outside.sh("nft delete table t");
    let back = flow.wait_for_answer(cut, Duration::from_secs(1));
    let gap = flow.longest_gap(cut);
    assert!(calm < Duration::from_millis(200), "{calm:?}");
    assert!(
        back > Duration::from_millis(250) && gap > Duration::from_millis(250),
        "{back:?} {gap:?}"
    );
    let (sent, lost) = flow.finish();
    assert!(lost > 50 && lost < sent, "{lost} of {sent}");

    let trap = Trap::set(&world.outside, "eth0", |frame| {
        frame::destination(frame).is_some_and(|(_, port)| port == 666)
    });
    let storm = Storm::new().routed(&world.netns, outside, 667);
    std::thread::sleep(Duration::from_millis(50));
    trap.is_empty("another port");
    let both = storm.routed(&world.netns, OUTSIDE[1].parse().unwrap(), 666);
    trap.has_caught("the storm");
    assert!(both.rounds() > 10);
}
