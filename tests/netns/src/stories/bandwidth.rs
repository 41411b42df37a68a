//! How much a container may send and receive. Bounds are wide: they tell a limit from none, not how exact it is.

use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::net::flow::Flow;
use crate::world::{Container, HOST, OUTSIDE, World};

/// What no limit lets through.
const UNLIMITED: Range<f64> = 200.0..f64::INFINITY;
/// Around a limit.
fn about(mbit: f64) -> Range<f64> {
    mbit / 2.0..mbit * 1.5
}

/// Waits until a flow carries as much: on a busy machine less goes at times, and never more than the limit for long.
#[track_caller]
fn carries(flow: &Flow, expected: Range<f64>) {
    let started = Instant::now();
    loop {
        let mbit = flow.mbit();
        if expected.contains(&mbit) {
            return;
        }
        let late = started.elapsed() > Duration::from_secs(30);
        assert!(!late, "{mbit} mbit, not {expected:?}");
    }
}

fn bandwidth(container: &Container) -> Vec<(String, u64)> {
    let status = container.status();
    let limits = status["bandwidth"].as_array().unwrap().iter();
    let limit = |limit: &Value| {
        let direction = limit["direction"].as_str().unwrap().to_owned();
        (direction, limit["rate"].as_u64().unwrap() / 1_000_000)
    };
    limits.map(limit).collect()
}

/// Nothing on any port, and nothing beside one.
#[track_caller]
fn nothing_is_limited(world: &World) {
    let started = Instant::now();
    // interfaces are deleted behind the caller's back
    let beside = || world.links().iter().any(|name| name.starts_with("vi-"));
    let limiting = || {
        let disciplines = world.sh("tc qdisc show");
        let any = disciplines.lines().any(|line| {
            let on_port = line.contains("clsact") && line.contains("vb-");
            on_port || ["tbf", "ingress"].iter().any(|word| line.contains(word))
        });
        any.then_some(disciplines)
    };
    while beside() || limiting().is_some() {
        let late = started.elapsed() > Duration::from_secs(20);
        assert!(!late, "{:?} {:?}", world.links(), limiting());
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn each_direction_has_its_rate_and_an_edit_cuts_nobody() {
    let world = World::new("bandwidth");
    world.zone("web").default("allow").create();
    let limits = "bandwidth = { ingress = \"20mbit\", egress = \"40mbit\" }\n";
    world.policy("web", limits);
    let web = world
        .container("web")
        .in_zone("web")
        .label("tier", "front")
        .start();
    let other = world.container("other").in_zone("web").start();
    assert_eq!(
        bandwidth(&web),
        [("ingress".to_owned(), 20), ("egress".to_owned(), 40)]
    );
    assert_eq!(bandwidth(&other), []);
    let outside: IpAddr = OUTSIDE[0].parse().unwrap();
    let gateway = HOST[0].parse().unwrap();
    let to_web = Flow::start(&other.netns, &web.netns, web.v4());
    carries(&to_web, about(20.0));
    let to_world = Flow::start(&web.netns, &world.outside, outside);
    carries(&to_world, about(40.0));
    // to each other, and to the host, they are limited alike, in both families
    drop(to_world);
    for (into, address) in [
        (&other.netns, IpAddr::from(other.v6())),
        (&world.netns, gateway),
    ] {
        carries(&Flow::start(&web.netns, into, address), about(40.0));
    }
    let others = Flow::start(&other.netns, &world.outside, outside);
    carries(&others, UNLIMITED);
    drop(others);

    let shown = world.netd("policy show web --json").json();
    let place = &shown["bandwidth"][0];
    assert!(
        place["file"]
            .as_str()
            .unwrap()
            .ends_with("policies/web.toml"),
        "{place}"
    );
    assert_eq!(
        (&place["line"], &place["column"]),
        (&json!(1), &json!(25)),
        "{place}"
    );
    assert_eq!(place["text"], "20mbit");
    let said = world.netd("policy show web").ok();
    assert!(said.contains("40mbit"), "{said}");

    // Files add up: the lowest holds. One on trial is no limit.
    let front = |mode: &str, rate: &str| {
        format!(
            "applies-to = {{ labels = {{ tier = \"front\" }} }}\n{mode}bandwidth = \"{rate}\"\n"
        )
    };
    world.policy("trial", &front("mode = \"audit\"\n", "1mbit"));
    world.policy("front", &front("", "30mbit"));
    assert_eq!(
        bandwidth(&web),
        [("ingress".to_owned(), 20), ("egress".to_owned(), 30)]
    );
    world.no_policy("trial");
    world.no_policy("front");

    // An edit changes the rate under a connection, and its end ends the limit.
    let folder = world.dir.join("new");
    std::fs::create_dir(&folder).unwrap();
    let wider = "bandwidth = \"100mbit\"\n";
    std::fs::write(folder.join("web.toml"), wider).unwrap();
    let path = folder.display().to_string();
    let difference = world.netd_args(["policy", "diff", "--json", &path]).json();
    assert_eq!(
        difference["bandwidth"],
        json!([
            { "container": "web", "direction": "ingress", "before": "20mbit", "after": "100mbit" },
            { "container": "web", "direction": "egress", "before": "40mbit", "after": "100mbit" },
        ])
    );
    let from_web = Flow::start(&web.netns, &other.netns, other.v4());
    world.policy("web", wider);
    carries(&to_web, about(100.0));
    drop(to_web);
    carries(&from_web, about(100.0));
    world.policy("web", "bandwidth = { ingress = \"20mbit\" }\n");
    carries(&from_web, UNLIMITED);
    assert_eq!(bandwidth(&web), [("ingress".to_owned(), 20)]);
    // A bad file changes nothing, and tells where.
    world.write_policy("web", "bandwidth = \"0mbit\"\n");
    let refused = world.netd("reload");
    assert!(
        refused.code == 1 && refused.stderr.contains("web.toml:1:13"),
        "{refused}"
    );
    assert_eq!(bandwidth(&web), [("ingress".to_owned(), 20)]);
    world.no_policy("web");
    assert_eq!(bandwidth(&web), []);
    nothing_is_limited(&world);
}

pub fn limits_outlive_daemons_and_tampering_and_nothing_is_left_of_them() {
    let world = World::new("bandwidth-stays");
    world.zone("web").default("allow").create();
    world.policy(
        "all",
        "applies-to = { zone = \"web\" }\nbandwidth = \"20mbit\"\n",
    );
    let web = world.container("web").in_zone("web").start();
    let other = world.container("other").in_zone("web").start();
    let outside: IpAddr = OUTSIDE[0].parse().unwrap();
    let aside = |container: &Container| {
        let port = container.host_ifname();
        let index = world.sh(&format!("ip -o link show {port} | cut -d: -f1"));
        format!("vi-{}", index.trim())
    };
    let queue = aside(&web);
    let out = Flow::start(&web.netns, &world.outside, outside);
    carries(&out, about(20.0));
    let into = Flow::start(&world.outside, &web.netns, web.v4());
    world.sh(&format!(
        "tc filter del dev {port} ingress; tc qdisc del dev {port} root",
        port = web.host_ifname()
    ));
    carries(&into, about(20.0));
    drop(into);
    carries(&out, about(20.0));
    world.sh(&format!("tc qdisc del dev {queue} root"));
    carries(&out, about(20.0));
    // Without a daemon they stay; a new one puts right what somebody changed meanwhile, and clears up.
    world.kill_netd();
    carries(&out, about(20.0));
    world.sh(&format!("ip link del {queue}"));
    let gone = aside(&other);
    world.sh(&format!("ip link del {}", other.host_ifname()));
    assert!(world.links().contains(&gone), "{gone}");
    world.start_netd();
    carries(&out, about(20.0));
    let started = Instant::now();
    while world.links().contains(&gone) {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(out);
    // What was edited while no daemon ran holds too.
    world.kill_netd();
    world.write_policy(
        "all",
        "applies-to = { zone = \"web\" }\nbandwidth = { ingress = \"40mbit\" }\n",
    );
    world.start_netd();
    assert_eq!(bandwidth(&web), [("ingress".to_owned(), 40)]);
    carries(&Flow::start(&web.netns, &world.outside, outside), UNLIMITED);
    // Containers that end take theirs along, however they end.
    world.policy(
        "all",
        "applies-to = { zone = \"web\" }\nbandwidth = \"20mbit\"\n",
    );
    let third = world.container("third").in_zone("web").start();
    web.detach();
    third.stop();
    nothing_is_limited(&world);
}
