//! What an attach makes, what it tells, and that both agree.

use serde_json::{Value, json};

use crate::net::netns::Netns;
use crate::net::server::Server;
use crate::world::{World, container_part};

/// One link of the host as `ip -d -j link` has it.
fn link(world: &World, name: &str) -> Value {
    let all: Value =
        serde_json::from_str(&world.sh(&format!("ip -d -j link show dev {name}"))).unwrap();
    all[0].clone()
}

pub fn what_attach_tells_and_makes() {
    let world = World::new("attach");
    let zone = world
        .zone("web")
        .option("--mtu", "1450")
        .option("--domain", "web.test")
        .create();
    let fields = [
        "name",
        "bridge",
        "subnet4",
        "subnet6",
        "gateway4",
        "gateway6",
        "internal",
        "default",
        "mtu",
        "domain",
        "dns",
        "containers",
    ];
    for field in fields {
        assert!(!zone[field].is_null(), "{field} is missing: {zone}");
    }
    assert_eq!(
        (&zone["bridge"], &zone["subnet4"], &zone["gateway4"]),
        (
            &json!("vz-web"),
            &json!("10.89.0.0/24"),
            &json!("10.89.0.1")
        )
    );
    let subnet6 = zone["subnet6"].as_str().unwrap();
    assert!(
        subnet6.starts_with("fd") && subnet6.ends_with("/48"),
        "{zone}"
    );

    let one = world
        .container("one")
        .in_zone("web")
        .label("tier", "front")
        .publish("8080:80")
        .start();
    let told = &one.attached;
    assert_eq!(
        (&told["container"], &told["zone"], &told["ifname"]),
        (&json!("one"), &json!("web"), &json!("host0"))
    );
    assert_eq!(
        (&told["host_ifname"], &told["mtu"], &told["domain"]),
        (&json!("vb-one"), &json!(1450), &json!("web.test"))
    );
    assert_eq!(
        (&told["labels"], &told["published"], &told["state"]),
        (
            &json!({"tier": "front"}),
            &json!(["8080:80"]),
            &json!("attached")
        )
    );
    assert_eq!(one.addresses().len(), 2, "{told}");
    for address in told["addresses"].as_array().unwrap() {
        assert!(
            address.as_str().unwrap().contains('/'),
            "no prefix length: {told}"
        );
    }
    assert_eq!(one.status(), one.told(), "status and attach say the same");
    let listed = world.netd("list --json").json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(container_part(&listed[0]), one.told());
    assert_eq!(
        world.netd("zone show web --json").json()["containers"],
        json!(["one"])
    );

    let port = link(&world, "vb-one");
    let data = &port["linkinfo"]["info_slave_data"];
    assert_eq!(
        (&port["master"], &port["mtu"]),
        (&json!("vz-web"), &json!(1450)),
        "{port}"
    );
    assert_eq!(
        (&data["isolated"], &data["locked"], &data["learning"]),
        (&json!(true), &json!(true), &json!(false)),
        "{port}"
    );
    assert_eq!(
        (&port["num_tx_queues"], &port["num_rx_queues"]),
        (&json!(1), &json!(1)),
        "{port}"
    );
    assert_eq!(
        world
            .sh("cat /proc/sys/net/ipv6/conf/vb-one/disable_ipv6")
            .trim(),
        "1"
    );
    let fdb = world.sh("bridge fdb show dev vb-one");
    let mac = told["mac"].as_str().unwrap();
    assert!(
        fdb.lines()
            .any(|line| line.starts_with(mac) && line.contains("static")),
        "no static entry for {mac}: {fdb}"
    );
    for (switch, value) in [
        ("ipv4/conf/vz-web/proxy_arp_pvlan", "1"),
        ("ipv4/conf/vz-web/send_redirects", "0"),
        ("ipv4/neigh/vz-web/proxy_delay", "0"),
        ("ipv6/conf/vz-web/accept_ra", "0"),
        ("ipv6/conf/vz-web/accept_redirects", "0"),
    ] {
        assert_eq!(
            world.sh(&format!("cat /proc/sys/net/{switch}")).trim(),
            value,
            "{switch}"
        );
    }
    one.detach();
    assert_eq!(
        one.netns.sh("ip -br link").lines().count(),
        1,
        "host0 is still there"
    );
    world.netd("zone delete web").ok();
    assert_eq!(world.own_links(), Vec::<String>::new());
    assert!(!world.folder("config/zones").join("web.toml").exists());
}

pub fn long_names_are_shortened() {
    let world = World::new("long-names");
    world.zone("a-zone-with-a-long-name").create();
    let zone = world
        .netd("zone show a-zone-with-a-long-name --json")
        .json();
    let bridge = zone["bridge"].as_str().unwrap();
    let long =
        "a-container.with_a-name-of-many-letters-0123456789abcdef0123456789abcdef0123456789abcdef";
    let one = world
        .container(long)
        .in_zone("a-zone-with-a-long-name")
        .start();
    let port = one.host_ifname().to_owned();
    for (short, full) in [
        (bridge, "vz-a-zone-with-a-long-name".to_owned()),
        (&port, format!("vb-{long}")),
    ] {
        assert!(short.len() <= 15, "{short}");
        assert_eq!(link(&world, short)["altnames"], json!([full]), "{short}");
    }
    // Another with the same beginning is another.
    let two = world
        .container(&format!("{long}-2"))
        .in_zone("a-zone-with-a-long-name")
        .start();
    assert_ne!(two.host_ifname(), port);
}

pub fn by_process_and_with_wishes() {
    let world = World::new("wishes");
    world
        .zone("web")
        .option("--subnet4", "10.50.0.0/24")
        .option("--subnet6", "fd50::/64")
        .option("--pool", "10.50.0.100-10.50.0.101")
        .create();
    let netns = Netns::create("elsewhere");
    let server = Server::start(&netns, "wish", &["tcp/80".to_owned()]);
    let line = format!(
        "attach wish --zone web --pid {} --ifname eth7 --ip 10.50.0.9 --ip fd50::9 --mac 02:00:00:00:00:99 --json",
        server.pid()
    );
    let told = world.netd(&line).json();
    assert_eq!(
        told["addresses"],
        json!(["10.50.0.9/24", "fd50::9/128"]),
        "{told}"
    );
    let inside = netns.sh("ip addr show dev eth7");
    for part in ["02:00:00:00:00:99", "10.50.0.9/24", "fd50::9/128"] {
        assert!(inside.contains(part), "{part}: {inside}");
    }
    // The pool has two addresses, and the third has none.
    let held = ["a", "b"].map(|name| world.container(name).in_zone("web").start());
    let given: Vec<String> = held.iter().map(|one| one.v4().to_string()).collect();
    assert_eq!(given, ["10.50.0.100", "10.50.0.101"]);
    let said = world
        .container("c")
        .in_zone("web")
        .try_start()
        .err()
        .expect("the pool is empty")
        .fails(1);
    assert!(
        said.contains("web") && said.contains("10.50.0.100"),
        "{said}"
    );
    world.netd("detach wish").ok();
}

pub fn nobody_is_attached_twice() {
    let world = World::new("twice");
    world.zone("web").create();
    world.zone("dmz").create();
    let mut one = world.container("one").in_zone("web").start();
    let before = one.told();
    assert_eq!(one.attached["created"], json!(true));
    one.try_attach().unwrap();
    assert_eq!(one.attached["created"], json!(false));
    assert_eq!(
        one.told(),
        before,
        "the same request is a success and changes nothing"
    );
    let other = world
        .container("other")
        .option("--zone", "dmz")
        .option("--ip", "10.89.1.200")
        .start();
    other.detach();
    let said = world
        .netd("attach one --zone dmz --netns /run/netns/one")
        .fails(1);
    assert!(
        said.contains("dmz") && said.contains("web"),
        "the difference is not named: {said}"
    );
    one.detach();
    one.detach();
    one.try_attach().unwrap();
    assert_eq!(one.told(), before, "a name keeps its address");
    // Another name in the same namespace, at once: what the first one had there is gone by then.
    one.detach();
    world
        .netd("attach heir --zone dmz --netns /run/netns/one")
        .ok();
    let inside = world.sh("ip netns exec one ip -br address show dev host0");
    assert!(inside.contains("10.89.1."), "{inside}");
    world.netd("detach heir").ok();
}

pub fn many_at_once() {
    let world = World::new("at-once");
    world.zone("web").default("allow").create();
    let containers = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (world, containers) = (&world, &containers);
            scope.spawn(move || {
                let one = world
                    .container(&format!("c{number}"))
                    .in_zone("web")
                    .start();
                containers.lock().unwrap().push(one);
            });
        }
    });
    let containers = containers.into_inner().unwrap();
    let mut addresses: Vec<_> = containers.iter().flat_map(|one| one.addresses()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 24);
    for pair in containers.windows(2) {
        for reach in pair[0].tcp_to(&pair[1], 80) {
            assert_eq!(reach.who(), pair[1].name);
        }
    }
}
