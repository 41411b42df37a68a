//! Addresses of both families behind other plugins.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Chain, Pod, names, pings, world};
use crate::net::frame;
use crate::net::probe::probe;
use crate::net::raw::PacketSocket;
use crate::world::OUTSIDE;

pub fn both_families_of_a_foreign_bridge_are_under_policy() {
    let world = world("chain-dual");
    let chain = Chain::dual(&world);
    // The zone has IPv4 only: what is not judged is not let in.
    let mut early = Pod::new("early");
    let refused = chain.try_add(&mut early, &json!({})).unwrap_err();
    assert!(
        refused.stdout.contains("has no IPv6") && refused.stdout.contains("--subnet6"),
        "{refused}"
    );
    chain.del(&early);
    world.netd("zone set pods --subnet6 fd00:22::/64").ok();
    let web = chain.add("web", &json!({}));
    let shop = chain.add("shop", &json!({}));
    let other = chain.add("other", &json!({}));
    let listed = world.netd("list --json").json();
    let of_web = |c: &&Value| c["container"] == "web";
    let of_web = listed.as_array().unwrap().iter().find(of_web).unwrap();
    assert_eq!(
        of_web["addresses"][1],
        format!("{}/128", web.six()),
        "{of_web}"
    );
    let judged = || {
        for (from, to, traffic, passes) in [
            (&shop, &web, "tcp/80", true),
            (&other, &web, "tcp/80", false),
            (&shop, &web, "tcp/81", false),
            (&shop, &other, "tcp/80", false),
            (&web, &shop, "tcp/80", false),
        ] {
            for address in [to.address(), to.six()] {
                let reach = probe(&from.netns, address, traffic);
                let what = format!("{} to {address} {traffic}", from.id);
                assert_eq!(reach.passed(), passes, "{what}");
            }
        }
        // The world is what a rule names, in both families.
        let out = probe(&web.netns, OUTSIDE[1].parse().unwrap(), "tcp/80");
        assert!(!out.passed(), "web may not open connections");
    };
    // The kernel first asks whether somebody has the address that the plugin has just given the bridge.
    let gateway6 = "fd00:22::1";
    let settled = "ip -6 -o addr show dev cni0 tentative";
    while !world.sh(settled).is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    judged();
    for pod in [&web, &shop, &other] {
        assert!(pings(pod, gateway6), "{}", pod.id);
        chain.check(pod).ok();
        // what the plugins before made is as it was, so that they find it when they check
        let routes = pod.netns.sh("ip -6 route show dev eth0");
        assert!(routes.contains("fd00:22::/64 proto kernel"), "{routes}");
    }
    // Nobody is somebody else, and nobody answers for somebody else.
    let (victim, mac) = (web.six(), other.netns.sh("cat /sys/class/net/eth0/address 2>/dev/null || ip -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'"));
    other.netns.sh(&format!(
        "sysctl -qw net.ipv6.conf.eth0.accept_dad=0; ip addr add {victim}/128 dev eth0"
    ));
    let lie = format!("ping -nqc 1 -W 1 -I {victim} {gateway6}");
    assert_ne!(other.netns.run(&lie).code, 0, "an address of another");
    let mac = frame::mac(mac.lines().last().unwrap().trim());
    let IpAddr::V6(target) = victim else {
        panic!("{victim}")
    };
    let all = "ff02::1".parse().unwrap();
    let advert = frame::ethernet(
        frame::group_mac(all),
        mac,
        0x86dd,
        &frame::advertisement(target, all, target, mac),
    );
    other.netns.enter(|| {
        let socket = PacketSocket::open("eth0").unwrap();
        (0..5).for_each(|_| socket.send(&advert).unwrap());
    });
    assert_eq!(probe(&shop.netns, victim, "tcp/80").who(), "web");
    other
        .netns
        .sh(&format!("ip addr del {victim}/128 dev eth0"));
    // A new daemon takes them over, a port that is changed is put right.
    world.sh(&format!("bridge link set dev {} isolated off", web.port()));
    world.restart_netd();
    judged();
    let web_addresses = (web.address(), web.six());
    for pod in [&web, &shop, &other] {
        chain.del(pod);
    }
    assert_eq!(names(&world), [] as [&str; 0]);
    // The addresses are whose IPAM says they are.
    let again = chain.add("again", &json!({}));
    assert_ne!((again.address(), again.six()), web_addresses);
    let mut lie = again.result.clone();
    lie["ips"][1]["address"] = json!("fd00:23::5/64");
    let lone = Chain::bare(&world);
    let third = lone.add("third", &json!({}));
    let mut result = third.result.clone();
    let ips = result["ips"].as_array_mut().unwrap();
    ips.push(lie["ips"][1].clone());
    let policy = chain.plugins.last().unwrap();
    let refused = chain.call(
        "ADD",
        policy,
        Some(&third),
        &json!({ "prevResult": result }),
    );
    assert!(
        refused.code == 1 && refused.stdout.contains("is not in zone pods"),
        "{refused}"
    );
}
