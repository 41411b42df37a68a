//! netd as a CNI plugin of several networks, and called at the same time, too late, or with what cannot be.

use std::net::IpAddr;
use std::process::{Child, Command};

use serde_json::{Value, json};

use super::cni::{Network, Pod, error, names};
use crate::net::probe::probe;
use crate::net::server::Server;
use crate::world::World;

/// Two configurations, an interface each: what runtimes do with `--network a --network b`.
pub fn two_networks_are_two_attachments() {
    let world = World::new("cni-two");
    for zone in ["web", "dmz"] {
        world.zone(zone).default("allow").create();
    }
    let peers = ["web", "dmz"].map(|zone| {
        let name = format!("peer-{zone}");
        world.container(&name).in_zone(zone).start()
    });
    let first = Network::new(&world, "1.1.0", "first");
    let mut second = Network::new(&world, "1.1.0", "second");
    second.config["zone"] = json!("dmz");
    second.ifname = "eth1";
    let pod = Pod::new("id-two", "shop");
    let results = [first.add(&pod), second.add(&pod)];
    let server = Server::start(&pod.netns, "shop", &["tcp/80".to_owned()]);
    assert_eq!(
        world.netd("status shop --json").json()["networks"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let address = |result: &Value| -> IpAddr {
        let text = result["ips"][0]["address"].as_str().unwrap();
        text.split('/').next().unwrap().parse().unwrap()
    };
    let own = [address(&results[0]), address(&results[1])];
    let both_ways = || {
        for (peer, own) in peers.iter().zip(own) {
            let reach = probe(&pod.netns, peer.addresses()[0], "tcp/80");
            assert_eq!(
                (reach.who(), reach.source()),
                (peer.name.as_str(), Some(own))
            );
            assert_eq!(peer.tcp(own, 80).who(), "shop");
        }
    };
    both_ways();
    first.check(&pod, &results[0]).ok();
    second.check(&pod, &results[1]).ok();
    // CHECK sees that answers would leave by the wrong port.
    let rules = pod.netns.sh("ip rule show");
    let rule = rules
        .lines()
        .find(|line| line.contains(&format!("from {}", own[1])));
    let rule = rule.unwrap().split_once(':').unwrap().1.trim().to_owned();
    pod.netns.sh(&format!("ip rule del {rule}"));
    let (code, said) = error(&second.check(&pod, &results[1]));
    assert!(code == 101 && said.contains("rule from"), "{said}");
    pod.netns.sh(&format!("ip rule add pref 32000 {rule}"));
    second.check(&pod, &results[1]).ok();
    pod.netns.sh("ip route flush table 11001");
    let (_, said) = error(&second.check(&pod, &results[1]));
    assert!(said.contains("of table 11001"), "{said}");
    first.check(&pod, &results[0]).ok();
    // GC of one network takes nothing of the other, and DEL neither.
    let valid = json!({ "cni.dev/valid-attachments": [] });
    second.call("GC", &second.with(&valid), None).ok();
    assert_eq!(
        probe(&pod.netns, peers[0].addresses()[0], "tcp/80").who(),
        "peer-web"
    );
    assert!(!probe(&pod.netns, peers[1].addresses()[0], "tcp/80").passed());
    first.check(&pod, &results[0]).ok();
    let results = [results[0].clone(), second.add(&pod)];
    assert_eq!(address(&results[1]), own[1], "kept for the name");
    both_ways();
    first.del(&pod);
    assert!(!probe(&pod.netns, peers[0].addresses()[0], "tcp/80").passed());
    assert_eq!(
        probe(&pod.netns, peers[1].addresses()[0], "tcp/80").who(),
        "peer-dmz"
    );
    second.del(&pod);
    second.del(&pod);
    assert!(!names(&world).contains(&"shop".to_owned()));
    drop(server);
}

/// Runtimes call in parallel, too late and twice.
pub fn what_runtimes_do_at_the_same_time_leaves_one_or_none() {
    let world = World::new("cni-races");
    world.zone("web").create();
    let net = Network::new(&world, "1.1.0", "net");
    let pod = Pod::new("id-race", "race");
    for _ in 0..3 {
        let adds: Vec<Child> = (0..4)
            .map(|_| net.spawn("ADD", &net.config, Some(&pod)))
            .collect();
        let codes = adds
            .into_iter()
            .map(|add| add.wait_with_output().unwrap().status.code());
        let won = codes.filter(|code| *code == Some(0)).count();
        assert_eq!(won, 1, "one ADD of four");
        assert_eq!(names(&world), ["race"]);
        let dels: Vec<Child> = (0..4)
            .map(|_| net.spawn("DEL", &net.config, Some(&pod)))
            .collect();
        for del in dels {
            assert!(del.wait_with_output().unwrap().status.success());
        }
        assert_eq!(names(&world), [] as [&str; 0]);
    }
    // The daemon dies between ADD and DEL, and the container with it.
    let result = net.add(&pod);
    world.kill_netd();
    pod.netns.remove();
    world.start_netd();
    net.del(&pod);
    assert_eq!(names(&world), [] as [&str; 0]);
    assert_eq!(world.own_links(), ["vz-web"]);
    // Names that are paths, and a namespace that is the host's.
    let outside = Pod::new("id-path", "");
    let wrong = |name: &str, value: &str, words: &str| {
        let mut command = Command::new(net.folder.join("netd"));
        for (key, value) in world.command().get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command
            .envs([("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "eth0")])
            .env("CNI_CONTAINERID", outside.id)
            .env("CNI_NETNS", outside.netns.path())
            .env("CNI_PATH", &net.folder)
            .env(name, value);
        let config = world.dir.join("config.json");
        std::fs::write(&config, net.config.to_string()).unwrap();
        command.stdin(std::fs::File::open(&config).unwrap());
        let output = world.netns.enter(|| command.output()).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            !output.status.success() && said.contains(words),
            "{name}={value}: {said}"
        );
    };
    for path in ["../../etc/passwd", "a/b", ".", "..", "a b", "a\nb"] {
        wrong("CNI_CONTAINERID", path, "CNI_CONTAINERID");
        wrong("CNI_IFNAME", path, "CNI_IFNAME");
    }
    wrong("CNI_CONTAINERID", "-rf", "CNI_CONTAINERID");
    wrong("CNI_ARGS", "K8S_POD_NAME=../../x", "CNI_ARGS");
    wrong("CNI_NETNS", "/proc/self/ns/net", "host");
    wrong("CNI_NETNS", "/etc/passwd", "/etc/passwd");
    wrong("CNI_NETNS", "/proc/self/ns/mnt", "network namespace");
    let mut named = net.with(&json!({ "name": "../net" }));
    error(&net.call("ADD", &named, Some(&outside)));
    named["name"] = json!("net");
    named["zone"] = json!("../zones");
    error(&net.call("ADD", &named, Some(&outside)));
    assert_eq!(names(&world), [] as [&str; 0]);
    drop(result);
}
