//! One container in several zones: real packets by each of its ports, and none by a wrong one.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::net::dns::{Over, ask};
use crate::net::frame;
use crate::net::netns::Netns;
use crate::net::probe::{Reach, probe};
use crate::net::raw::PacketSocket;
use crate::net::trap::Trap;
use crate::world::{Container, HOST, OUTSIDE, World};

/// The addresses of one of the networks that a document tells of, IPv4 first.
fn addresses(network: &Value) -> Vec<IpAddr> {
    let texts = network["addresses"].as_array().into_iter().flatten();
    let bare = |text: &Value| text.as_str()?.split('/').next()?.parse().ok();
    let mut addresses: Vec<IpAddr> = texts.filter_map(bare).collect();
    addresses.sort();
    addresses
}

/// The networks of a container in several zones.
fn networks(document: &Value) -> Vec<Value> {
    document["networks"].as_array().cloned().unwrap_or_default()
}

fn from(reach: &Reach) -> Option<IpAddr> {
    reach.source()
}

fn two_zones(world: &World) {
    for zone in ["a", "b"] {
        world.zone(zone).default("allow").create();
    }
}

fn web(world: &World) -> Container {
    world.container("web").in_zone("a").in_zone("b").start()
}

pub fn each_network_is_reached_by_its_own_interface() {
    let world = World::new("several");
    two_zones(&world);
    let mut web = web(&world);
    let told = networks(&web.attached);
    let names = |key: &str| -> Vec<String> {
        let of = told.iter().map(|network| network[key].as_str().unwrap());
        of.map(str::to_owned).collect()
    };
    assert_eq!(names("zone"), ["a", "b"]);
    assert_eq!(names("ifname"), ["host0", "host1"]);
    assert_eq!(names("host_ifname")[0], "vb-web");
    assert_ne!(names("host_ifname")[1], "vb-web");
    assert_ne!(names("mac")[0], names("mac")[1]);
    // What a program reads that knows of one network only.
    assert_eq!(web.attached["zone"], json!("a"));
    assert_eq!(web.attached["addresses"], told[0]["addresses"]);
    assert_eq!(web.status(), web.told());

    let [in_a, in_b] = [0, 1].map(|n| addresses(&told[n]));
    let peers = ["a", "b"].map(|zone| {
        let name = format!("peer-{zone}");
        world.container(&name).in_zone(zone).start()
    });
    for (peer, own, others) in [(&peers[0], &in_a, &in_b), (&peers[1], &in_b, &in_a)] {
        for (to, source) in peer.addresses().into_iter().zip(own) {
            let reach = web.tcp(to, 80);
            assert_eq!(
                (reach.who(), from(&reach)),
                (peer.name.as_str(), Some(*source))
            );
        }
        for (to, source) in own.iter().zip(peer.addresses()) {
            let reach = peer.tcp(*to, 80);
            assert_eq!((reach.who(), from(&reach)), ("web", Some(source)));
        }
        for to in others {
            assert!(
                !peer.tcp(*to, 80).passed(),
                "{} to {to}: zones do not meet",
                peer.name
            );
        }
    }
    // The world by the first one, in both families.
    for to in OUTSIDE {
        assert_eq!(web.tcp(to.parse::<IpAddr>().unwrap(), 80).who(), "world");
    }
    for family in ["-4", "-6"] {
        let route = web.sh(&format!(
            "ip {family} route get {}",
            OUTSIDE[usize::from(family == "-6")]
        ));
        assert!(route.contains("dev host0"), "{route}");
        let metrics = web.sh(&format!("ip {family} route show default"));
        assert_eq!(metrics.lines().count(), 2, "{metrics}");
    }

    // The same again is a success and changes nothing.
    let before = web.told();
    web.try_attach().unwrap();
    assert_eq!(
        (web.attached["created"].clone(), web.told()),
        (json!(false), before)
    );
    let said = world
        .netd("attach web --zone a --zone b --netns web --label x=y")
        .fails(1);
    assert!(
        said.contains("labels"),
        "the difference is not named: {said}"
    );
    let other = Netns::create("other");
    let said = world
        .netd("attach web --zone a --zone b --netns other")
        .fails(1);
    assert!(said.contains("network namespace"), "{said}");
    other.remove();
}

pub fn a_second_network_comes_and_goes_and_outlives_the_daemon() {
    let world = World::new("several-life");
    two_zones(&world);
    let mut web = world.container("web").in_zone("a").start();
    let peer = world.container("peer").in_zone("b").start();
    let alone = web.told();
    let said = world.netd("attach web --zone b --netns web").fails(1);
    assert!(
        said.contains("zone is a") && said.contains("--ifname host1"),
        "{said}"
    );
    let second = world
        .netd("attach web --zone b --netns web --ifname host1 --json")
        .json();
    assert_eq!(second["zone"], json!("b"));
    let in_b = addresses(&second);
    let reaches = || {
        let there = |to: &IpAddr| peer.tcp(*to, 80).who().to_owned();
        in_b.iter().map(there).collect::<Vec<_>>()
    };
    assert_eq!(reaches(), ["web", "web"]);
    let listed = world.netd("list --json").json();
    let list = listed["containers"]
        .as_array()
        .or(listed.as_array())
        .unwrap();
    assert_eq!(list.len(), 2, "web is one container: {listed}");
    let leases = world.netd("lease list --json").json().to_string();
    for address in &in_b {
        assert!(
            leases.contains(&format!("\"{address}\"")),
            "{address}: {leases}"
        );
    }

    let both = web.status();
    for end in ["restart", "kill"] {
        match end {
            "restart" => world.restart_netd(),
            _ => {
                world.kill_netd();
                assert_eq!(reaches(), ["web", "web"], "without a daemon");
                world.start_netd();
            }
        }
        assert_eq!(web.status(), both, "after a {end}");
        assert_eq!(reaches(), ["web", "web"], "after a {end}");
    }

    // Detached from the second, it is what it was; and from the first, the second stays.
    world.netd("detach web --zone b").ok();
    assert!(!peer.tcp(in_b[0], 80).passed());
    assert_eq!(web.status(), alone);
    web.try_attach().unwrap();
    let again = world
        .netd("attach web --zone b --netns web --ifname host1 --json")
        .json();
    assert_eq!(addresses(&again), in_b, "the name keeps its address");
    world.netd("detach web --zone a").ok();
    assert_eq!(reaches(), ["web", "web"]);
    let left = web.status();
    assert_eq!(
        (&left["zone"], &left["networks"]),
        (&json!("b"), &Value::Null)
    );
    let said = world.netd("detach web --zone a").fails(1);
    assert!(said.contains("it is in zone b"), "{said}");
    // It comes back at its place.
    let said = world
        .netd("attach web --zone a --zone b --netns web --json")
        .json();
    assert_eq!(networks(&said)[0]["ifname"], json!("host0"));
}

pub fn both_go_with_whoever_had_them() {
    let world = World::new("several-end");
    two_zones(&world);
    // A namespace that only a process has.
    let mut program = Command::new("unshare");
    let spawned = world
        .netns
        .enter(|| program.args(["--net", "sleep", "600"]).spawn());
    let mut program = spawned.unwrap();
    let pid = program.id();
    let own = format!("readlink /proc/{pid}/ns/net");
    let apart = |_: &usize| {
        std::thread::sleep(Duration::from_millis(20));
        world.sh(&own) != world.sh("readlink /proc/self/ns/net")
    };
    assert!((0..250).any(|n| apart(&n)), "unshare did not");
    world
        .netd(&format!("attach web --zone a --zone b --pid {pid}"))
        .ok();
    let ends = || -> usize {
        let links = world.own_links();
        links.iter().filter(|l| l.starts_with("vb-")).count()
    };
    assert_eq!(ends(), 2);
    program.kill().unwrap();
    program.wait().unwrap();
    let gone = |_: &usize| {
        std::thread::sleep(Duration::from_millis(50));
        world.netd("status web").code == 3 && ends() == 0
    };
    assert!((0..200).any(|n| gone(&n)), "what ended is still attached");
    assert_eq!(world.netd("status --json").json()["containers"], json!(0));
}

pub fn a_program_is_run_in_two_zones() {
    let world = World::new("several-run");
    two_zones(&world);
    let peer = world.container("peer").in_zone("b").start();
    let root = super::run::root(&world.dir);
    let script = "cat /etc/resolv.conf; ip address show host0; ip address show host1; nc -w 3 PEER 80 </dev/null";
    let script = script.replace("PEER", &peer.v4().to_string());
    let mut command = world.command();
    command.args([
        "run",
        "-q",
        "--network-zone=a",
        "--network-zone=b",
        "-M",
        "web",
        "-D",
    ]);
    command.arg(&root).args(["--", "/bin/sh", "-c", &script]);
    command.stdin(std::process::Stdio::null());
    std::fs::write(root.join("etc/resolv.conf"), "").unwrap();
    let ran = world.netns.enter(|| crate::net::netns::run(&mut command));
    assert_eq!(ran.code, 0, "{ran}");
    for told in [
        "search a.internal b.internal",
        "10.89.0.2/24",
        "10.89.1.3/24",
        "peer ",
    ] {
        assert!(ran.stdout.contains(told), "{told}: {ran}");
    }
    let gone = |_: &usize| {
        std::thread::sleep(Duration::from_millis(20));
        world.netd("status web").code == 3
    };
    assert!((0..250).any(|n| gone(&n)), "what ended is still attached");
}

pub fn rules_say_for_which_network_they_are() {
    let world = World::new("several-policy");
    two_zones(&world);
    let web = web(&world);
    let told = networks(&web.attached);
    let [in_a, in_b] = [0, 1].map(|n| addresses(&told[n]));
    let [a, b] = ["a", "b"].map(|zone| {
        world
            .container(&format!("peer-{zone}"))
            .in_zone(zone)
            .start()
    });
    let open = |peer: &Container, to: &[IpAddr]| -> Vec<bool> {
        to.iter().map(|to| peer.tcp(*to, 80).passed()).collect()
    };
    assert_eq!([open(&a, &in_a), open(&b, &in_b)].concat(), [true; 4]);
    let explained = |question: &str| world.netd(&format!("explain {question} tcp/80 --json"));

    // A file for its port in b says nothing of the other.
    world.policy(
        "web-b",
        "applies-to = { container = \"web\", zone = \"b\" }\ningress = []\n",
    );
    assert_eq!(open(&a, &in_a), [true; 2]);
    assert_eq!(open(&b, &in_b), [false; 2]);
    assert_eq!(explained("peer-a web").code, 0);
    assert_eq!(explained("peer-b web").code, 10);
    let paths = explained("peer-b web").stdout;
    let paths: Value = serde_json::from_str(&paths).unwrap_or_default();
    let verdict = |n: usize| paths["paths"][n]["verdict"].clone();
    assert_eq!(paths["paths"][0]["to"], json!("web@b"), "{paths}");
    assert_eq!((verdict(0), verdict(1)), (json!("deny"), json!("deny")));
    assert_eq!(explained("peer-a web@a").code, 0);
    let shown = world.netd("policy show web --json").json();
    let files = |n: usize| shown["networks"][n]["files"].as_array().unwrap().len();
    assert_eq!((files(0), files(1)), (0, 1), "{shown}");

    // A file for the container is for all of its ports, and `container:` stands for all of its addresses.
    world.policy(
        "web",
        "[[ingress]]\nfrom = [\"any\"]\nports = [\"tcp/81\"]\n",
    );
    world.no_policy("web-b");
    assert_eq!([open(&a, &in_a), open(&b, &in_b)].concat(), [false; 4]);
    world.no_policy("web");
    for peer in ["peer-a", "peer-b"] {
        world.policy(
            peer,
            "[[ingress]]\nfrom = [\"container:web\"]\nports = [\"tcp/80\"]\n[[egress]]\nto = [\"container:web\"]\n",
        );
    }
    for peer in [&a, &b] {
        for reach in web.tcp_to(peer, 80) {
            assert_eq!(reach.who(), peer.name);
        }
    }
    assert_eq!([open(&a, &in_a), open(&b, &in_b)].concat(), [true; 4]);
    // `zone:` means those in the zone only.
    world.policy("peer-b", "[[ingress]]\nfrom = [\"zone:a\"]\n");
    assert!(web.tcp_to(&b, 80).iter().all(|reach| !reach.passed()));
    world.policy("peer-b", "[[ingress]]\nfrom = [\"zone:b\"]\n");
    assert!(web.tcp_to(&b, 80).iter().all(Reach::passed));

    // What would change is told by port.
    let proposed = world.dir.join("proposed");
    std::fs::create_dir_all(&proposed).unwrap();
    std::fs::write(
        proposed.join("web-b.toml"),
        "applies-to = { container = \"web\", zone = \"b\" }\negress = []\n",
    )
    .unwrap();
    let diff = world
        .netd(&format!("policy diff {} --json", proposed.display()))
        .stdout;
    assert!(diff.contains("\"web@b\""), "{diff}");
}

pub fn a_port_published_on_the_second_network_answers_by_it() {
    let world = World::new("several-publish");
    for zone in ["a", "b"] {
        world.zone(zone).create();
    }
    let web = world
        .container("web")
        .in_zone("a")
        .publish("8080:80")
        .start();
    let second = world.netd("attach web --zone b --netns web --ifname host1 --publish 8081:80 --publish 5353:53/udp --json");
    let second = second.json();
    assert_eq!(second["published"].as_array().unwrap().len(), 2);
    for (host, outside) in HOST.iter().zip(OUTSIDE) {
        let host: IpAddr = host.parse().unwrap();
        let outside: IpAddr = outside.parse().unwrap();
        for port in ["tcp/8080", "tcp/8081"] {
            let reach = probe(&world.outside, host, port);
            assert_eq!(
                (reach.who(), from(&reach)),
                ("web", Some(outside)),
                "{host} {port}"
            );
        }
    }
    let said = world
        .netd("attach web --zone b --netns web --ifname host1 --publish 9999:80")
        .fails(1);
    assert!(said.contains("publish"), "{said}");
    // At another place it answers by that, whatever rules the place before left.
    world.zone("c").create();
    world.netd("detach web --zone b").ok();
    world
        .netd("attach web --zone c --netns web --ifname host1")
        .ok();
    world
        .netd("attach web --zone b --netns web --ifname host2 --publish 8081:80")
        .ok();
    for host in HOST {
        let reach = probe(&world.outside, host.parse().unwrap(), "tcp/8081");
        assert_eq!(reach.who(), "web", "{host}");
    }
    world.netd("detach web --zone c").ok();
    // The first network's answers go by the first, whoever is asked at the second.
    let rules = web.sh("ip rule; ip -6 rule");
    for place in ["11000", "11002"] {
        assert_eq!(rules.matches(place).count(), 2, "{rules}");
    }
}

pub fn names_of_all_its_zones_are_known() {
    let world = World::new("several-names");
    two_zones(&world);
    let web = web(&world);
    let told = networks(&web.attached);
    let [a, b] = ["a", "b"].map(|zone| {
        world
            .container(&format!("peer-{zone}"))
            .in_zone(zone)
            .start()
    });
    let at = |n: usize| -> IpAddr { told[n]["dns"][0].as_str().unwrap().parse().unwrap() };
    let domain = |n: usize| told[n]["domain"].as_str().unwrap().to_owned();
    // Its own name is its address in the zone where it is asked.
    for (peer, n) in [(&a, 0), (&b, 1)] {
        let answer = ask(&peer.netns, at(n), Over::Udp, "web", "A").answers;
        let own = addresses(&told[n])[0].to_string();
        assert!(
            answer.iter().any(|record| record.contains(&own)),
            "{answer:?}"
        );
    }
    // By whichever resolver: programs ask the first that they know.
    for n in [0, 1] {
        for (peer, zone) in [(&a, 0), (&b, 1)] {
            let name = format!("{}.{}", peer.name, domain(zone));
            let answer = ask(&web.netns, at(n), Over::Udp, &name, "A").answers;
            let theirs = peer.v4().to_string();
            assert!(
                answer.iter().any(|record| record.contains(&theirs)),
                "{name} at {n}: {answer:?}"
            );
        }
    }
    // What `ip netns exec` shows to programs.
    let file = world.sh("cat /etc/netns/web/resolv.conf");
    let search = format!("search {} {}\n", domain(0), domain(1));
    assert!(file.contains(&search), "{file}");
    for n in [0, 1] {
        assert!(file.contains(&format!("nameserver {}\n", at(n))), "{file}");
    }
    world.netd("detach web --zone b").ok();
    let file = world.sh("cat /etc/netns/web/resolv.conf");
    assert!(!file.contains(&domain(1)), "{file}");
    web.detach();
    world.sh("! test -e /etc/netns/web/resolv.conf");
}

pub fn nobody_is_a_way_from_one_zone_to_the_other() {
    let world = World::new("several-guard");
    two_zones(&world);
    let web = web(&world);
    let told = networks(&web.attached);
    let [a, b] = ["a", "b"].map(|zone| {
        world
            .container(&format!("peer-{zone}"))
            .in_zone(zone)
            .start()
    });
    let bridges = ["a", "b"].map(|zone| frame::mac(bridge_mac(&world, zone).trim()));
    let four = |n: usize| addresses(&told[n])[0];
    let mac = |n: usize| frame::mac(told[n]["mac"].as_str().unwrap());
    let send = |frame: &[u8]| {
        web.netns
            .enter(|| PacketSocket::open("host1")?.send(frame))
            .unwrap();
    };
    let packet = |source: IpAddr, mark: &str| -> Vec<u8> {
        let (IpAddr::V4(from), to) = (source, b.v4()) else {
            panic!("{source}");
        };
        frame::ethernet(
            bridges[1],
            mac(1),
            frame::IPV4,
            &frame::udp4((from, 9), (to, 9), mark.as_bytes()),
        )
    };
    let lies = Trap::set(&b.netns, "host0", |f| frame::carries(f, b"of-another"));
    let truth = Trap::set(&b.netns, "host0", |f| frame::carries(f, b"its-own"));
    send(&packet(four(0), "of-another port"));
    send(&packet(IpAddr::V4(a.v4()), "of-another container"));
    send(&packet(four(1), "its-own"));
    truth.has_caught("its own address in the zone");
    lies.is_empty("addresses of the other zone");

    // With forwarding on inside, and a neighbour that sends through it.
    web.sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    a.sh(&format!(
        "ip route add {} via {} onlink dev host0",
        b.v4(),
        four(0)
    ));
    assert!(!a.tcp(b.v4(), 80).passed(), "the container is a router");
}

fn bridge_mac(world: &World, zone: &str) -> String {
    world.sh(&format!(
        "ip -j link show vz-{zone} | sed 's/.*\"address\":\"\\([^\"]*\\)\".*/\\1/'"
    ))
}
