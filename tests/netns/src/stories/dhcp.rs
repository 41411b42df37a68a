//! Real DHCP clients inside containers: each gets the address that netd told, and all that goes with it.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::clients::{CLIENTS, Client};
use crate::net::netns::Netns;
use crate::world::{World, signal};

/// The control: the clients' own side works, with busybox's server over a plain link.
pub fn clients_work_with_another_server() {
    let world = World::without_daemon("control");
    std::thread::scope(|scope| {
        for client in &CLIENTS {
            let world = &world;
            scope.spawn(move || ask_busybox(world, client));
        }
    });
}

fn ask_busybox(world: &World, client: &Client) {
    let (inside, server) = (
        Netns::create(client.name),
        Netns::create(&format!("{}-server", client.name)),
    );
    server.sh(&format!(
        "ip link add lan0 type veth peer name host0 netns {}; ip addr add 10.5.0.1/24 dev lan0; ip link set lan0 up",
        client.name
    ));
    let config = world.dir.join(format!("udhcpd-{}", client.name));
    let leases = world.dir.join(format!("leases-{}", client.name));
    fs::write(&leases, "").unwrap();
    let text = format!(
        "interface lan0\nstart 10.5.0.9\nend 10.5.0.9\nlease_file {}\npidfile /dev/null\noption subnet 255.255.255.0\n\
         option router 10.5.0.1\noption dns 192.0.2.53\noption domain lan.test\noption mtu 1300\noption lease 600\n",
        leases.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = std::process::Command::new("busybox");
    command
        .args(["udhcpd", "-f"])
        .arg(&config)
        .stdin(Stdio::null());
    let _server = Running(server.enter(|| command.spawn()).unwrap());
    client.once(&world.dir, &inside);
    let told = client.told(&world.dir);
    let expected = ["10.5.0.9", "10.5.0.1", "192.0.2.53", "lan.test", "1300"];
    for (variable, expected) in client.variables.iter().zip(expected) {
        assert_eq!(
            told.get(*variable).map(String::as_str),
            Some(expected),
            "{}: {variable} of {told:#?}",
            client.name
        );
    }
    assert!(inside.sh("ip addr show host0").contains("inet 10.5.0.9/24"));
    assert!(client.resolv_conf(&world.dir).contains("192.0.2.53"));
}

pub fn real_clients_get_what_netd_told() {
    let world = World::new("clients");
    world
        .zone("web")
        .option("--mtu", "1400")
        .option("--domain", "web.example.test")
        .option("--dns", "192.0.2.53")
        .option("--dns", "192.0.2.54")
        .create();
    std::thread::scope(|scope| {
        for client in &CLIENTS {
            let world = &world;
            scope.spawn(move || tell(world, client));
        }
    });
    let leases = world.netd("lease list --json").json();
    for client in &CLIENTS {
        let leases = leases.as_array().unwrap();
        let lease = leases.iter().find(|lease| {
            lease["container"] == client.name && lease["address"].to_string().contains('.')
        });
        let lease = lease.unwrap_or_else(|| panic!("no lease of {}: {leases:?}", client.name));
        assert_eq!(
            (lease["kind"].as_str(), lease["state"].as_str()),
            (Some("dhcp"), Some("bound")),
            "{lease}"
        );
        assert!(lease["expires"].is_number(), "{lease}");
    }
}

fn tell(world: &World, client: &Client) {
    let inside = world.container(client.name).in_zone("web").dhcp().start();
    let links = inside.sh("ip -4 addr show dev host0");
    assert!(
        !links.contains("inet "),
        "the client is to configure it: {links}"
    );
    client.once(&world.dir, &inside.netns);
    let told = client.told(&world.dir);
    let gateway = inside.gateway4().to_string();
    let expected = [
        &inside.v4().to_string(),
        &gateway,
        "192.0.2.53 192.0.2.54",
        "web.example.test",
        "1400",
    ];
    for (variable, expected) in client.variables.iter().zip(expected) {
        assert_eq!(
            told.get(*variable).map(String::as_str),
            Some(expected),
            "{}: {variable} of {told:#?}",
            client.name
        );
    }
    let addresses = inside.sh("ip -4 addr show dev host0; ip link show dev host0");
    assert!(
        addresses.contains(&format!("inet {}/24", inside.v4())),
        "{}: {addresses}",
        client.name
    );
    assert!(
        addresses.contains("mtu 1400"),
        "{}: {addresses}",
        client.name
    );
    let routes = inside.sh("ip -4 route");
    assert!(
        routes.contains(&format!("default via {gateway}")),
        "{}: {routes}",
        client.name
    );
    let resolv = client.resolv_conf(&world.dir);
    for word in ["192.0.2.53", "192.0.2.54", "web.example.test"] {
        assert!(resolv.contains(word), "{}: {resolv}", client.name);
    }
    // The network behind it works, and policy holds.
    let out = inside.tcp("192.0.2.2".parse::<std::net::IpAddr>().unwrap(), 80);
    assert_eq!(out.who(), "world", "{}: {out:?}", client.name);
}

pub fn an_address_survives_restarts_of_daemon_and_container() {
    let world = World::new("keeps");
    world.zone("web").create();
    let client = &CLIENTS[0];
    let inside = world.container("web1").in_zone("web").dhcp().start();
    client.once(&world.dir, &inside.netns);
    let (first, mac) = (inside.v4(), inside.mac());
    let told = |world: &World| client.told(&world.dir).get("ip").cloned();
    assert_eq!(told(&world), Some(first.to_string()));

    world.restart_netd();
    client.once(&world.dir, &inside.netns);
    assert_eq!(
        told(&world),
        Some(first.to_string()),
        "after a restart of the daemon"
    );
    world.kill_netd();
    world.start_netd();
    client.once(&world.dir, &inside.netns);
    assert_eq!(
        told(&world),
        Some(first.to_string()),
        "after kill -9 of the daemon"
    );

    inside.stop();
    let _stranger = world.container("stranger").in_zone("web").start();
    world.restart_netd();
    let again = world.container("web1").in_zone("web").dhcp().start();
    assert_eq!(
        (again.v4(), again.mac()),
        (first, mac),
        "after a restart of the container"
    );
    client.once(&world.dir, &again.netns);
    assert_eq!(told(&world), Some(first.to_string()));
}

/// Ends a process when the story leaves it behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn a_lease_is_renewed_by_a_new_daemon() {
    let world = World::new("renews");
    world.zone("web").create();
    let client = &CLIENTS[0];
    let inside = world.container("web1").in_zone("web").dhcp().start();
    let mut command = client.command(
        &world.dir,
        "exec udhcpc -i host0 -f -R -s /etc/udhcpc/told.script",
    );
    command.stdin(Stdio::null());
    let running = Running(inside.netns.enter(|| command.spawn()).unwrap());
    let leased = |what: &str| {
        let started = Instant::now();
        while !client.told(&world.dir).contains_key("ip") {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "no lease {what}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            client.told(&world.dir)["ip"],
            inside.v4().to_string(),
            "{what}"
        );
        fs::remove_file(client.told_path(&world.dir)).unwrap();
    };
    leased("at the start");
    for what in [
        "renewed",
        "renewed after a restart",
        "renewed after kill -9",
    ] {
        match what {
            "renewed after a restart" => world.restart_netd(),
            "renewed after kill -9" => {
                world.kill_netd();
                world.start_netd();
            }
            _ => {}
        }
        signal(running.0.id(), Signal::USR1);
        leased(what);
    }
    // On SIGTERM it releases the lease (-R), and the address stays the container's all the same.
    signal(running.0.id(), Signal::TERM);
    let started = Instant::now();
    let state = || world.netd("lease list --json").ok();
    while !state().contains("released") && !state().contains("reserved") {
        assert!(started.elapsed() < Duration::from_secs(5), "{}", state());
    }
    assert_eq!(inside.status()["addresses"], inside.attached["addresses"]);
}

pub fn static_containers_need_no_client() {
    let world = World::new("static");
    world.zone("web").option("--mtu", "1300").create();
    let web = world.container("web").in_zone("web").start();
    let inside = web.sh("ip addr show dev host0; ip route; ip -6 route; cat /sys/class/net/host0/mtu 2>/dev/null; ip link show dev lo");
    for part in [
        format!("inet {}/24", web.v4()),
        format!("inet6 {}/128", web.v6()),
        format!("default via {}", web.gateway4()),
        "default via fe80::".to_owned(),
        "mtu 1300".to_owned(),
        "LOOPBACK,UP".to_owned(),
    ] {
        assert!(inside.contains(&part), "{part} is missing:\n{inside}");
    }
    let leases = world.netd("lease list --json").json();
    let kinds: Vec<_> = leases
        .as_array()
        .unwrap()
        .iter()
        .map(|lease| lease["kind"].clone())
        .collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|kind| kind == "static"),
        "{leases}"
    );
}
