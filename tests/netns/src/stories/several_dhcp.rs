//! One container in two zones whose interfaces are configured by clients inside, a different one on each.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::world::{OUTSIDE, World};

fn address(network: &Value) -> IpAddr {
    let texts = network["addresses"].as_array().unwrap().iter();
    let mut bare = texts.filter_map(|text| text.as_str()?.split('/').next()?.parse().ok());
    bare.find(IpAddr::is_ipv4).unwrap()
}

pub fn clients_of_two_networks_get_their_addresses() {
    let world = World::new("several-dhcp");
    // The clients' scripts write /etc/resolv.conf: a copy of /etc, so that the machine's stays as it is.
    let copy = world.dir.join("etc-copy");
    world.sh(&format!(
        "cp -a /etc {0} && mount --bind {0} /etc",
        copy.display()
    ));
    for zone in ["a", "b"] {
        world.zone(zone).default("allow").create();
    }
    let peers = ["a", "b"].map(|zone| {
        let name = format!("peer-{zone}");
        world.container(&name).in_zone(zone).start()
    });
    let web = world.container("web").in_zone("a").in_zone("b");
    let web = web.dhcp().start();
    let own: Vec<IpAddr> = web.attached["networks"]
        .as_array()
        .unwrap()
        .iter()
        .map(address)
        .collect();
    assert_eq!(web.sh("ip -4 -o addr show scope global"), "");
    let ask = || {
        web.sh("ip link set host0 up; ip link set host1 up; \
             udhcpc -i host0 -f -q -n -t 10 -T 1 -s /etc/udhcpc/default.script 2>&1; \
             dhclient -4 -1 -lf /run/several.leases -pf /run/several.pid host1 2>&1");
    };
    let configured = || {
        for (ifname, own) in ["host0", "host1"].iter().zip(&own) {
            let has = web.sh(&format!("ip -4 -o addr show dev {ifname}"));
            assert!(has.contains(&format!("inet {own}/")), "{ifname}: {has}");
        }
        for (peer, own) in peers.iter().zip(&own) {
            let to = peer.addresses()[0];
            let reach = web.tcp(to, 80);
            assert_eq!(
                (reach.who(), reach.source()),
                (peer.name.as_str(), Some(*own))
            );
            assert_eq!(peer.tcp(*own, 80).who(), "web");
        }
    };
    ask();
    configured();
    assert_eq!(
        web.tcp(OUTSIDE[0].parse::<IpAddr>().unwrap(), 80).who(),
        "world"
    );
    let leases = world.netd("lease list --json").json();
    let mut of_web: Vec<(Value, Value)> = leases
        .as_array()
        .unwrap()
        .iter()
        .filter(|lease| {
            lease["container"] == "web" && lease["address"].as_str().unwrap().contains('.')
        })
        .map(|lease| (lease["zone"].clone(), lease["address"].clone()))
        .collect();
    of_web.sort_by_key(|(zone, _)| zone.to_string());
    let expected = ["a", "b"].iter().zip(&own);
    let expected: Vec<_> = expected
        .map(|(zone, own)| (json!(zone), json!(own.to_string())))
        .collect();
    assert_eq!(of_web, expected, "{leases}");
    // The same addresses from the next daemon, to clients that begin anew.
    world.restart_netd();
    web.sh(
        "dhclient -4 -x -pf /run/several.pid host1 2>/dev/null; rm -f /run/several.leases; \
            ip -4 addr flush dev host0; ip -4 addr flush dev host1",
    );
    ask();
    configured();
    web.sh("dhclient -4 -x -pf /run/several.pid host1 2>/dev/null; true");
}
