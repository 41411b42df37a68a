//! Published ports: destination NAT, judged by the container's port and the true source.

use std::net::IpAddr;

use crate::net::probe::{Reach, probe};
use crate::world::Verdict::Deny;
use crate::world::{HOST, OUTSIDE, World};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn published_ports_are_open_to_world_and_host() {
    let world = World::new("publish");
    world.zone("web").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .publish("9000-9001:80")
        .publish("5353:53/udp")
        .publish("127.0.0.1:8081:81")
        .start();
    let other = world.container("other").in_zone("web").start();
    for (host, outside) in HOST.map(address).into_iter().zip(OUTSIDE.map(address)) {
        for traffic in ["tcp/8080", "tcp/9000", "tcp/9001", "udp/5353"] {
            let came = probe(&world.outside, host, traffic);
            assert_eq!(
                (came.who(), came.source()),
                ("web", Some(outside)),
                "{host} {traffic}"
            );
            assert_eq!(
                probe(&world.netns, host, traffic).who(),
                "web",
                "host to {host} {traffic}"
            );
            // Nothing but the published door is open, and not to other containers.
            assert!(
                !probe(&other.netns, host, traffic).passed(),
                "other to {host} {traffic}"
            );
        }
        assert!(
            !probe(&world.outside, host, "tcp/8081").passed(),
            "published on the host's loopback only"
        );
    }
    for (loopback, traffic) in [
        ("127.0.0.1", "tcp/8080"),
        ("127.0.0.1", "tcp/8081"),
        ("127.0.0.1", "udp/5353"),
    ] {
        assert_eq!(
            probe(&world.netns, address(loopback), traffic).who(),
            "web",
            "{loopback} {traffic}"
        );
    }
    world.verdicts(&[
        (Deny, "world", "web", "tcp/80"),
        (Deny, "host", "web", "tcp/80"),
        (Deny, "other", "web", "tcp/80"),
    ]);
    // What answered at the host's own ports before still does.
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "tcp/22").who(),
        "host"
    );
    web.stop();
    assert!(
        !probe(&world.outside, address(HOST[0]), "tcp/8080").passed(),
        "the door goes with the container"
    );
    assert!(!probe(&world.netns, address("127.0.0.1"), "tcp/8081").passed());
}

pub fn the_loopback_of_v6_leads_to_the_container_too() {
    let world = World::new("publish-loopback");
    world.zone("web").create();
    let _web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .start();
    assert_eq!(
        probe(&world.netns, address("127.0.0.1"), "tcp/8080").who(),
        "web"
    );
    assert_eq!(probe(&world.netns, address("::1"), "tcp/8080").who(), "web");
}

pub fn policy_judges_what_comes_through_a_published_port() {
    let world = World::new("publish-policy");
    world.zone("web").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .publish("8081:81")
        .start();
    let other = world.container("other").in_zone("web").start();
    let from_world =
        |port: &str| HOST.map(|host| probe(&world.outside, address(host), port).passed());
    let from_other =
        |port: &str| HOST.map(|host| probe(&other.netns, address(host), port).passed());

    // The rule names the container's port and the true source.
    world.policy(
        "web",
        "[[ingress]]\nfrom = [\"192.0.2.2\", \"2001:db8:1::2\"]\nports = [\"tcp/80\"]\n",
    );
    assert_eq!(from_world("tcp/8080"), [true; 2]);
    assert_eq!(
        from_world("tcp/8081"),
        [false; 2],
        "mentioned ingress closes the other port"
    );
    assert!(
        !probe(&world.netns, address(HOST[0]), "tcp/8080").passed(),
        "the host is not among the sources"
    );

    world.policy("web", "[[ingress]]\nfrom = [\"198.51.100.7\"]\n");
    assert_eq!(from_world("tcp/8080"), [false; 2]);

    // Hairpin: another container, and the container itself, need egress and ingress.
    world.policy(
        "web",
        "[[ingress]]\nfrom = [\"container:other\", \"container:web\"]\nports = [\"tcp/80\"]\n",
    );
    assert_eq!(
        from_other("tcp/8080"),
        [false; 2],
        "other has no egress to it yet"
    );
    world.policy("other", "[[egress]]\nto = [\"container:web\"]\n");
    assert_eq!(from_other("tcp/8080"), [true; 2]);
    let itself = || HOST.map(|host| web.tcp(address(host), 8080).passed());
    assert_eq!(
        itself(),
        [false; 2],
        "it may not open connections to itself through the host"
    );
    world.policy(
        "self",
        "applies-to = { container = \"web\" }\n[[egress]]\nto = [\"container:web\"]\n",
    );
    assert_eq!(itself(), [true; 2]);
}

pub fn a_port_is_published_once() {
    let world = World::new("publish-twice");
    world.zone("web").create();
    let _web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .start();
    let refused = world
        .container("second")
        .in_zone("web")
        .publish("192.0.2.1:8080:80")
        .try_start();
    let said = refused.err().expect("the port is taken").fails(1);
    assert!(said.contains("8080") && said.contains("web"), "{said}");
    assert_eq!(
        world.own_links().len(),
        2,
        "nothing of the refused one is left"
    );
    // Another protocol, or another port, is another door.
    let _udp = world
        .container("second")
        .in_zone("web")
        .publish("8080:53/udp")
        .start();
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "udp/8080").who(),
        "second"
    );
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "tcp/8080").who(),
        "web"
    );
}

pub fn an_internal_zone_publishes_nothing() {
    let world = World::new("publish-internal");
    world.zone("vault").internal().default("allow").create();
    let started = world
        .container("one")
        .in_zone("vault")
        .publish("8080:80")
        .try_start();
    if let Err(refused) = &started {
        assert!(refused.clone().fails(1).contains("internal"), "{refused}");
    }
    for host in HOST.map(address) {
        assert_ne!(probe(&world.outside, host, "tcp/8080").who(), "one");
        assert!(matches!(
            probe(&world.outside, host, "tcp/8080"),
            Reach::Refused | Reach::Silent
        ));
    }
}
