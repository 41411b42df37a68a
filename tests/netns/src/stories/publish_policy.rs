//! Published ports and policy: what is closed stays closed, and netd says so.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{oci, run};
use crate::net::netns;
use crate::net::probe::probe;
use crate::world::{HOST, World};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn a_closed_port_is_warned_of_everywhere() {
    let world = World::new("publish-closed");
    world.zone("web").default("allow").create();
    world.policy("web", "[[ingress]]\nports = [\"tcp/81\", \"tcp/9500\"]\n");
    let mut web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .publish("8081:81")
        .publish("9000-9999:9000")
        .publish("8081:81/udp")
        .start();
    let said = |document: &Value| -> Vec<String> {
        let all = document["warnings"].as_array().expect("warnings");
        all.iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let about = |list: &[String], closed: &[&str]| {
        assert_eq!(list.len(), closed.len(), "{list:?}");
        for (text, port) in list.iter().zip(closed) {
            assert!(
                text.contains(&format!("publish {port}: ")) && text.contains("web"),
                "{text}"
            );
        }
    };
    about(&said(&web.attached), &["8080:80", "8081:81/udp"]);
    web.try_attach().unwrap();
    about(&said(&web.attached), &["8080:80", "8081:81/udp"]);
    about(
        &said(&world.netd("status web --json").json()),
        &["8080:80", "8081:81/udp"],
    );
    about(
        &said(&world.netd("status --json").json()),
        &["8080:80", "8081:81/udp"],
    );
    about(
        &said(&world.netd("reload --json").json()),
        &["8080:80", "8081:81/udp"],
    );
    assert!(
        world
            .netd("status web")
            .ok()
            .contains("publish 8080:80: no ingress rule")
    );
    let reloaded = world.netd("reload");
    assert!(
        reloaded.code == 0 && reloaded.stderr.contains("warning: web: publish 8080:80"),
        "{reloaded}"
    );
    assert!(!probe(&world.outside, address(HOST[0]), "tcp/8080").passed());
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "tcp/8081").who(),
        "web"
    );

    // Another file opens it; a deny for all closes it; without a word about ingress all is open.
    world.policy("more", "applies-to = { zone = \"web\" }\n[[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/80\", \"udp/81\"]\n");
    about(&said(&world.netd("status --json").json()), &[]);
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "tcp/8080").who(),
        "web"
    );
    world.policy("shut", "applies-to = { zone = \"web\" }\n[[ingress]]\naction = \"deny\"\nports = [\"tcp/9000-9999\"]\n");
    about(
        &said(&world.netd("reload --json").json()),
        &["9000-9999:9000"],
    );
    // A new daemon knows it as well.
    world.restart_netd();
    about(
        &said(&world.netd("status web --json").json()),
        &["9000-9999:9000"],
    );
    for name in ["web", "more", "shut"] {
        world.no_policy(name);
    }
    about(&said(&world.netd("status --json").json()), &[]);
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "tcp/8080").who(),
        "web"
    );
    web.stop();
    about(&said(&world.netd("status --json").json()), &[]);
}

pub fn a_published_port_opens_to_world_and_host_in_any_default() {
    let world = World::new("publish-default");
    world.zone("dmz").default("allow").create();
    let far = world.container("far").in_zone("dmz").start();
    let mut kept = Vec::new();
    for (port, default) in [(8080, "egress"), (8081, "deny"), (8082, "allow")] {
        world.zone(default).default(default).create();
        let own = format!("of-{default}");
        let web = world
            .container(&own)
            .in_zone(default)
            .publish(&format!("{port}:80"))
            .start();
        let near = world
            .container(&format!("near-{default}"))
            .in_zone(default)
            .start();
        let traffic = format!("tcp/{port}");
        let by_default = default == "allow";
        for host in HOST {
            let host = address(host);
            for (from, reaches) in [
                (&world.outside, true),
                (&world.netns, true),
                (&far.netns, false),
                (&near.netns, by_default),
            ] {
                let came = probe(from, host, &traffic);
                assert_eq!(came.who() == own, reaches, "{default}: {from:?}: {came:?}");
            }
        }
        for direct in web.addresses() {
            for from in [&world.outside, &world.netns] {
                let came = probe(from, direct, "tcp/80");
                assert_eq!(came.passed(), by_default, "directly, {default}: {came:?}");
            }
        }
        kept.push(web);
    }
    // A file that mentions ingress decides alone, whatever it says of the other direction.
    let everywhere = || {
        [
            probe(&world.outside, address(HOST[0]), "tcp/8080").passed(),
            probe(&world.outside, address(HOST[1]), "tcp/8080").passed(),
            probe(&world.netns, address("127.0.0.1"), "tcp/8080").passed(),
            probe(&world.netns, address("::1"), "tcp/8080").passed(),
        ]
    };
    world.policy("of-egress", "egress = []\n");
    assert_eq!(everywhere(), [true; 4]);
    world.policy("of-egress", "ingress = []\n");
    assert_eq!(everywhere(), [false; 4]);
}

pub fn run_and_runtimes_publish_alike() {
    let world = World::new("publish-run");
    world.zone("web").create();
    world.zone("vault").internal().create();
    let root = run::root(&world.dir);
    let script = "httpd -h /srv -p 80; httpd -h /srv -p 8005; touch /tmp/up; while [ ! -e /tmp/end ]; do sleep 0.1; done";
    let mut command = world.command();
    command.arg("run").arg("-D").arg(&root);
    command.args([
        "-M",
        "c1",
        "--network-zone=web",
        "--port=tcp:8080:80",
        "--port=8000-8009:8000",
        "--port=127.0.0.1:8081:80",
    ]);
    command.args(["--", "/bin/sh", "-c", script]);
    let mut child = world.netns.enter(|| command.spawn()).unwrap();
    let begun = Instant::now();
    while !root.join("tmp/up").exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it does not start"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = world.netd("status c1 --json").json();
    assert_eq!(
        status["published"],
        json!(["8080:80", "8000-8009:8000", "127.0.0.1:8081:80"])
    );
    let opens = |from: &netns::Netns, to: &str, port: u16| {
        let to = std::net::SocketAddr::new(address(to), port);
        from.enter(|| std::net::TcpStream::connect_timeout(&to, Duration::from_millis(800)).is_ok())
    };
    for host in HOST {
        assert!(
            opens(&world.outside, host, 8080) && opens(&world.outside, host, 8005),
            "{host}"
        );
        assert!(
            !opens(&world.outside, host, 8081) && !opens(&world.outside, host, 8004),
            "{host}"
        );
    }
    assert!(opens(&world.netns, "127.0.0.1", 8081) && opens(&world.netns, "::1", 8080));
    // Refusals stop the start, and name who has the port.
    let start = |name: &str, zone: &str, port: &str| {
        let mut command: Command = world.command();
        command.arg("run").arg("-D").arg(&root).args(["-M", name]);
        command.args([format!("--network-zone={zone}"), format!("--port={port}")]);
        command.args(["--", "/bin/touch", "/tmp/started"]);
        world.netns.enter(|| netns::run(&mut command))
    };
    for (zone, port, why) in [
        ("web", "8080:81", "container c1"),
        ("web", "8009:80", "8000-8009:8000"),
        ("web", "22:80", "tcp/22 of :: is in use by"),
        ("vault", "9000:80", "vault is internal"),
    ] {
        let ran = start("c2", zone, port);
        assert!(ran.code != 0 && ran.stderr.contains(why), "{port}: {ran}");
        assert!(!root.join("tmp/started").exists(), "{port}");
    }
    // By annotation of a bundle.
    let annotated = |publish: &str| {
        let annotations =
            json!({ "io.netd.zone": "web", "io.netd.name": "boxed", "io.netd.publish": publish });
        let bundle = oci::bundle(&world, "crun", "ip addr show host0; exit 3", &annotations);
        oci::start(&world, "crun", "boxed", &bundle)
    };
    let ran = annotated("9000:80,9100-9199:9100/udp");
    assert_eq!(ran.code, 3, "{ran}");
    // Of a hook's words the runtime passes on that it failed.
    for publish in ["8005:80", "80:80/sctp", "22:22", "9300:80,9300:81"] {
        let ran = annotated(publish);
        assert!(
            ran.code != 3 && !ran.stdout.contains("host0"),
            "{publish}: {ran}"
        );
    }
    std::fs::write(root.join("tmp/end"), "").unwrap();
    child.wait().unwrap();
    assert!(!opens(&world.outside, HOST[0], 8080));
}

pub fn an_internal_zone_refuses_and_a_zone_that_becomes_internal_closes() {
    let world = World::new("publish-vault");
    world.zone("vault").internal().default("allow").create();
    let asked = world
        .container("one")
        .in_zone("vault")
        .publish("8080:80")
        .try_start();
    let said = asked.err().expect("internal").fails(1);
    assert!(said.contains("zone vault is internal"), "{said}");
    world.zone("web").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .start();
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "tcp/8080").who(),
        "web"
    );
    assert_eq!(probe(&world.netns, address("::1"), "tcp/8080").who(), "web");
    let file = world.folder("config/zones").join("web.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let internal = match text.contains("internal = false") {
        true => text.replace("internal = false", "internal = true"),
        false => format!("internal = true\n{text}"),
    };
    std::fs::write(&file, internal).unwrap();
    world.netd("reload").ok();
    for (from, to) in [
        (&world.outside, HOST[0]),
        (&world.outside, HOST[1]),
        (&world.netns, "127.0.0.1"),
        (&world.netns, "::1"),
    ] {
        assert!(!probe(from, address(to), "tcp/8080").passed(), "{to}");
    }
    web.stop();
}
