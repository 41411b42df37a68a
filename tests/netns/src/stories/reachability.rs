//! Who reaches whom: every path, both families, with real packets, and `netd explain` says the same.

use crate::net::probe::probe;
use crate::world::Verdict::{Allow, Deny};
use crate::world::{HOST, OUTSIDE, World};

pub fn zone_defaults() {
    let world = World::new("defaults");
    for default in ["egress", "allow", "deny"] {
        world.zone(default).default(default).create();
    }
    let start = |name: &str, zone: &str| world.container(name).in_zone(zone).start();
    let _all = [
        ("e1", "egress"),
        ("e2", "egress"),
        ("a1", "allow"),
        ("a2", "allow"),
        ("d1", "deny"),
        ("d2", "deny"),
    ]
    .map(|(name, zone)| start(name, zone));
    world.verdicts(&[
        // egress: out to the world, and nothing else
        (Allow, "e1", "world", "tcp/80"),
        (Allow, "e1", "world", "udp/123"),
        (Allow, "e1", "world", "icmp/echo-request"),
        (Deny, "e1", "e2", "tcp/80"),
        (Deny, "e1", "e2", "udp/53"),
        (Deny, "e1", "e2", "icmp/echo-request"),
        (Deny, "e1", "host", "tcp/22"),
        (Deny, "host", "e1", "tcp/80"),
        (Deny, "world", "e1", "tcp/80"),
        (Deny, "world", "e1", "icmp/echo-request"),
        // … but its gateway always answers echo requests
        (Allow, "e1", "host", "icmp/echo-request"),
    ]);
    world.verdicts(&[
        // allow: its zone, the host and the world, both ways
        (Allow, "a1", "a2", "tcp/80"),
        (Allow, "a1", "a2", "udp/53"),
        (Allow, "a1", "a2", "icmp/echo-request"),
        (Allow, "a1", "host", "tcp/22"),
        (Allow, "host", "a1", "tcp/80"),
        (Allow, "host", "a1", "udp/53"),
        (Allow, "a1", "world", "tcp/80"),
        (Allow, "world", "a1", "tcp/80"),
        (Allow, "world", "a1", "icmp/echo-request"),
        // … but no other zone, not even one that would let it in
        (Deny, "a1", "e1", "tcp/80"),
        (Deny, "a1", "d1", "udp/53"),
        (Deny, "e1", "a1", "tcp/80"),
    ]);
    world.verdicts(&[
        // deny: nothing
        (Deny, "d1", "d2", "tcp/80"),
        (Deny, "d1", "world", "tcp/80"),
        (Deny, "d1", "world", "udp/123"),
        (Deny, "d1", "host", "tcp/22"),
        (Deny, "host", "d1", "tcp/80"),
        (Deny, "world", "d1", "tcp/80"),
        (Deny, "world", "d1", "udp/53"),
        // … but its gateway
        (Allow, "d1", "host", "icmp/echo-request"),
    ]);
}

pub fn the_world_sees_the_host_and_containers_see_who_asks() {
    let world = World::new("sources");
    world.zone("web").default("allow").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    for (outside, host) in OUTSIDE.iter().zip(HOST) {
        let out = probe(&one.netns, outside.parse().unwrap(), "tcp/80");
        assert_eq!(
            (out.who(), out.source()),
            ("world", host.parse().ok()),
            "out to {outside}"
        );
    }
    for (to, from) in two.addresses().into_iter().zip(one.addresses()) {
        assert_eq!(
            one.tcp(to, 80).source(),
            Some(from),
            "inside the zone nothing is translated"
        );
    }
    for (to, outside) in two.addresses().into_iter().zip(OUTSIDE) {
        let came = probe(&world.outside, to, "tcp/80");
        assert_eq!(
            (came.who(), came.source()),
            ("two", outside.parse().ok()),
            "from {outside}"
        );
    }
}

pub fn zones_meet_only_where_both_sides_say_so() {
    let world = World::new("cross-zone");
    world.zone("shop").default("allow").create();
    world.zone("store").default("allow").create();
    let _shop = world.container("shop").in_zone("shop").start();
    let _store = world.container("store").in_zone("store").start();
    world.verdicts(&[(Deny, "shop", "store", "tcp/80")]);

    world.policy(
        "store",
        "[[ingress]]\nfrom = [\"zone:shop\"]\nports = [\"tcp/80\", \"icmp/echo-request\"]\n",
    );
    // the store would let it in, but its own zone's default does not let it out to other zones
    world.verdicts(&[(Deny, "shop", "store", "tcp/80")]);

    world.policy(
        "shop",
        "[[egress]]\nto = [\"container:store\"]\nports = [\"tcp/80-81\", \"icmp/echo-request\"]\n",
    );
    world.verdicts(&[
        (Allow, "shop", "store", "tcp/80"),
        (Allow, "shop", "store", "icmp/echo-request"),
        // the shop may, the store does not let it in
        (Deny, "shop", "store", "tcp/81"),
        (Deny, "shop", "store", "udp/53"),
        // replies pass, but the way back is not open
        (Deny, "store", "shop", "tcp/80"),
        // a file that mentions a direction closes the rest of it
        (Deny, "shop", "world", "tcp/80"),
        (Allow, "store", "world", "tcp/80"),
        (Deny, "host", "store", "tcp/80"),
    ]);

    world.no_policy("store");
    world.verdicts(&[(Deny, "shop", "store", "tcp/80")]);
}

pub fn internal_zones_have_no_world() {
    let world = World::new("internal");
    world.zone("vault").default("allow").internal().create();
    world.zone("web").default("allow").create();
    let _one = world.container("one").in_zone("vault").start();
    let _two = world.container("two").in_zone("vault").start();
    let _web = world.container("web").in_zone("web").start();
    let paths = [
        (Allow, "one", "two", "tcp/80"),
        (Allow, "one", "host", "tcp/22"),
        (Allow, "host", "one", "tcp/80"),
        (Deny, "one", "world", "tcp/80"),
        (Deny, "one", "world", "udp/123"),
        (Deny, "world", "one", "tcp/80"),
        (Deny, "one", "web", "tcp/80"),
    ];
    world.verdicts(&paths);
    // No policy opens the way to the world …
    world.policy(
        "one",
        "[[egress]]\nto = [\"any\", \"world\", \"0.0.0.0/0\", \"::/0\"]\n[[ingress]]\n",
    );
    world.verdicts(&paths[..6]);
    // … but other zones are reached as policy says.
    world.policy("web", "[[ingress]]\nfrom = [\"container:one\"]\n");
    world.verdicts(&[
        (Allow, "one", "web", "tcp/80"),
        (Deny, "two", "web", "tcp/80"),
    ]);
}

/// Docker and Kubernetes switch on that bridged frames pass the L3 hooks too.
pub fn beside_bridge_netfilter() {
    let world = World::without_daemon("br-netfilter");
    let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if !std::path::Path::new(switch).exists() {
        world.netns.run("modprobe br_netfilter");
    }
    world.sh(&format!(
        "echo 1 >{switch}; echo 1 >{}",
        switch.replace("iptables", "ip6tables")
    ));
    world.start_netd();
    world.zone("web").default("allow").create();
    world.zone("dmz").default("allow").create();
    let _one = world
        .container("one")
        .in_zone("web")
        .publish("8080:80")
        .start();
    let _two = world.container("two").in_zone("web").start();
    let _three = world.container("three").in_zone("dmz").start();
    world.verdicts(&[
        (Allow, "one", "two", "tcp/80"),
        (Allow, "one", "two", "udp/53"),
        (Allow, "one", "two", "icmp/echo-request"),
        (Allow, "one", "world", "tcp/80"),
        (Allow, "one", "host", "tcp/22"),
        (Allow, "host", "one", "tcp/80"),
        (Allow, "world", "one", "tcp/80"),
        (Deny, "one", "three", "tcp/80"),
    ]);
    for host in HOST {
        assert_eq!(
            probe(&world.outside, host.parse().unwrap(), "tcp/8080").who(),
            "one"
        );
    }
    world.policy("two", "ingress = []\n");
    world.verdicts(&[
        (Deny, "one", "two", "tcp/80"),
        (Deny, "host", "two", "udp/53"),
    ]);
}

pub fn a_zone_keeps_to_its_uplink() {
    let world = World::new("uplink");
    world.zone("right").option("--uplink", "up0").create();
    world.zone("wrong").option("--uplink", "up1").create();
    let right = world.container("right").in_zone("right").start();
    let wrong = world.container("wrong").in_zone("wrong").start();
    for outside in ["192.0.2.2", "2001:db8:1::2"] {
        let outside = outside.parse().unwrap();
        assert!(probe(&right.netns, outside, "tcp/80").passed());
        assert!(!probe(&wrong.netns, outside, "tcp/80").passed());
    }
}
