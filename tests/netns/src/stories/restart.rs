//! The daemon comes and goes; the network stays. And what netd made, it removes.

use std::time::Instant;

use rustix::process::Signal;

use crate::machine;
use crate::net::frame;
use crate::net::netns;
use crate::net::steady::{Steady, Storm};
use crate::net::trap::Trap;
use crate::world::Verdict::{Allow, Deny};
use crate::world::{World, signal};

pub fn a_new_daemon_takes_over_without_a_packet_lost() {
    let world = World::new("take-over");
    world.zone("web").default("deny").create();
    let mut one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    world.write_policy(
        "one",
        "[[egress]]\nto = [\"container:two\"]\nports = [\"udp/53\"]\n",
    );
    world.policy(
        "two",
        "[[ingress]]\nfrom = [\"container:one\"]\nports = [\"udp/53\"]\n",
    );
    let trap = Trap::set(&two.netns, "host0", |frame| {
        frame::destination(frame).is_some_and(|(_, port)| port == 666)
    });
    let told = one.attached.clone();
    let flows = [
        Steady::start(&one.netns, two.v4().into(), 53),
        Steady::start(&one.netns, two.v6().into(), 53),
    ];
    let storm = Storm::new()
        .routed(&one.netns, two.v4().into(), 666)
        .routed(&world.outside, two.v6().into(), 666)
        .routed(&world.netns, two.v4().into(), 666);
    for _ in 0..3 {
        world.restart_netd();
        world.kill_netd();
        world.start_netd();
    }
    assert!(storm.rounds() > 100, "the storm hardly blew");
    drop(storm);
    for flow in flows {
        let (sent, lost) = flow.finish();
        eprintln!("measured: {lost} of {sent} packets lost over three restarts and three kills");
        assert_eq!(lost, 0, "of {sent} packets");
    }
    trap.is_empty("denied while the daemon came and went");
    // Everything is known as before, and the same request is no news.
    one.try_attach().unwrap();
    assert_eq!(one.attached["addresses"], told["addresses"]);
    assert_eq!(one.status()["host_ifname"], told["host_ifname"]);
    world.verdicts(&[
        (Allow, "one", "two", "udp/53"),
        (Deny, "one", "two", "tcp/80"),
    ]);
}

pub fn what_netd_made_it_removes() {
    let world = World::without_daemon("no-trace");
    let seen = || {
        [
            world.sh("ip link; ip addr; ip route; ip -6 route; ip rule; ip -6 rule"),
            world.sh("nft list ruleset; ls /run/netns"),
            world.sh("cd /proc/sys/net; grep -r . ipv4/conf/all ipv4/conf/default ipv4/conf/up0 ipv4/ip_forward ipv6/conf/all ipv6/conf/up0 netfilter/nf_conntrack_tcp_loose bridge 2>/dev/null | grep -v stable_secret"),
        ]
        .map(|text| mask_timers(&text))
    };
    // The kernel loads and registers conntrack and bridge switches on first use.
    world.sh("nft add table inet t; nft delete table inet t");
    let before = seen();
    world.start_netd();
    world.zone("web").default("allow").create();
    world.zone("dmz").create();
    let one = world
        .container("one")
        .in_zone("web")
        .publish("8080:80")
        .start();
    let two = world.container("two").in_zone("dmz").start();
    world.verdicts(&[
        (Allow, "one", "world", "tcp/80"),
        (Allow, "two", "world", "tcp/80"),
    ]);
    one.stop();
    two.stop();
    world.netd("zone delete web").ok();
    world.netd("zone delete dmz").ok();
    world.stop_netd();
    let gone = Instant::now();
    while !world.netd_processes().is_empty() && gone.elapsed().as_secs() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let left = world.netd_processes();
    let left: Vec<String> = left.into_iter().map(machine::command_line).collect();
    assert!(
        left.is_empty(),
        "processes stay after the last zone is gone: {left:?}"
    );
    for (before, after) in before.iter().zip(seen()) {
        let new: Vec<_> = after
            .lines()
            .filter(|line| !before.lines().any(|old| old == *line))
            .collect();
        let lost: Vec<_> = before
            .lines()
            .filter(|line| !after.lines().any(|now| now == *line))
            .collect();
        assert!(
            new.is_empty() && lost.is_empty(),
            "left: {new:#?}\ngone: {lost:#?}"
        );
    }
}

/// Neighbour and router timers count by themselves.
fn mask_timers(text: &str) -> String {
    text.lines()
        .filter(|line| !line.contains("fe80::"))
        .map(|line| format!("{}\n", line.split(" expires ").next().unwrap_or(line)))
        .collect()
}

pub fn two_daemons_share_a_machine() {
    let here = World::new("here");
    let there = World::beside("there");
    for world in [&here, &there] {
        world.zone("web").default("allow").create();
    }
    let one = here.container("one").in_zone("web").start();
    let _two = here.container("two").in_zone("web").start();
    // Names are each daemon's own; the namespaces' names belong to this story.
    let _three = there.container("three").in_zone("web").start();
    let _four = there.container("four").in_zone("web").start();
    here.verdicts(&[
        (Allow, "one", "two", "tcp/80"),
        (Allow, "one", "world", "tcp/80"),
    ]);
    there.verdicts(&[
        (Allow, "three", "four", "tcp/80"),
        (Allow, "three", "world", "tcp/80"),
    ]);
    here.kill_netd();
    there.verdicts(&[(Allow, "three", "four", "tcp/80")]);
    assert!(!there.netd("list --json").ok().contains("\"one\""));
    here.start_netd();
    assert_eq!(one.status()["container"], "one");
}

pub fn a_command_that_needs_a_daemon_starts_one() {
    let world = World::without_daemon("autostart");
    let refused = world.netd("list").fails(4);
    assert!(
        refused.contains("netd daemon"),
        "it does not say how to start one: {refused}"
    );
    let mut command = world.command();
    command
        .args(["zone", "create", "web", "--json"])
        .env_remove("NETD_AUTOSTART");
    let zone = world.netns.enter(|| netns::run(&mut command)).json();
    assert_eq!(zone["bridge"], "vz-web");
    let _one = world.container("one").in_zone("web").start();
    let status = world.netd("status --json").json();
    let pid = u32::try_from(status["pid"].as_u64().unwrap()).unwrap();
    assert!(world.netd_processes().contains(&pid), "{status}");
    // Many at once start one.
    signal(pid, Signal::KILL);
    let started = Instant::now();
    // Reaped, so that its last thread has closed the socket: one that is dying may still accept.
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        std::thread::yield_now();
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut command = world.command();
                command
                    .args(["list", "--json"])
                    .env_remove("NETD_AUTOSTART");
                let list = world.netns.enter(|| netns::run(&mut command)).ok();
                assert!(list.contains("\"one\""), "{list}");
            });
        }
    });
    eprintln!(
        "measured: eight commands found a dead daemon and were served in {:?}",
        started.elapsed()
    );
    // Those that came second see the lock and end.
    let daemons = || {
        let all = world.netd_processes().into_iter();
        all.filter(|pid| machine::command_line(*pid).contains("daemon"))
            .count()
    };
    while daemons() != 1 {
        assert!(started.elapsed().as_secs() < 10, "{} daemons", daemons());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for pid in world.netd_processes() {
        signal(pid, Signal::TERM);
    }
}
