//! Real DHCP clients inside containers: each gets the address that netd told, and all that goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::netns::run;
use crate::world::{Container, World, signal};

/// A client as Debian ships it, run in a mount namespace of its own, in which /etc and /var/lib are copies.
struct Client {
    name: &'static str,
    /// Configures `host0` once and ends.
    once: &'static str,
    /// Where its environment is written down: a hook of its own script.
    hook: &'static str,
    /// Its names for address, router, name servers, domain, MTU.
    variables: [&'static str; 5],
}

const CLIENTS: [Client; 3] = [
    Client {
        name: "udhcpc",
        once: "udhcpc -i host0 -f -n -q -t 5 -T 1 -s /etc/udhcpc/told.script",
        hook: "printf '#!/bin/sh\\nenv >>$TOLD\\nexec /etc/udhcpc/default.script \"$@\"\\n' >/etc/udhcpc/told.script; chmod +x /etc/udhcpc/told.script",
        variables: ["ip", "router", "dns", "domain", "mtu"],
    },
    Client {
        name: "dhclient",
        once: "dhclient -4 -1 -v -lf /var/lib/dhcp/l -pf /run/dhclient.pid host0; code=$?; kill $(cat /run/dhclient.pid); exit $code",
        hook: "echo 'env >>$TOLD' >/etc/dhcp/dhclient-enter-hooks.d/told",
        variables: [
            "new_ip_address",
            "new_routers",
            "new_domain_name_servers",
            "new_domain_name",
            "new_interface_mtu",
        ],
    },
    Client {
        name: "dhcpcd",
        once: "dhcpcd -4 -1 -B -d -t 20 --noipv4ll host0",
        hook: "echo 'env >>$TOLD' >/etc/dhcpcd.enter-hook",
        variables: [
            "new_ip_address",
            "new_routers",
            "new_domain_name_servers",
            "new_domain_name",
            "new_interface_mtu",
        ],
    },
];

/// Prepares the private folders of a client; its own command follows.
const PRIVATE: &str = "set -e; mount --make-rprivate /; mkdir -p $PLACE/etc; cp -a /etc/. $PLACE/etc; mount --bind $PLACE/etc /etc; \
    rm -f /etc/resolv.conf; : >/etc/resolv.conf; for d in /var/lib/dhcp /var/lib/dhcpcd /run/dhcpcd; do mkdir -p $d; mount -t tmpfs t $d; done; ";

impl Client {
    fn command(&self, world: &World, script: &str) -> Command {
        let place = world.dir.join(format!("dhcp-{}", self.name));
        fs::create_dir_all(&place).unwrap();
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "sh",
                "-c",
                &format!("{PRIVATE}{}; set +e; {script}", self.hook),
            ])
            .env("PLACE", &place)
            .env("TOLD", self.told_path(world));
        command
    }

    fn told_path(&self, world: &World) -> PathBuf {
        world.dir.join(format!("told-{}", self.name))
    }

    /// Runs it to its end; it must get an address.
    #[track_caller]
    fn once(&self, world: &World, inside: &Container) {
        let _ = fs::remove_file(self.told_path(world));
        let resolv = world.dir.join(format!("resolv-{}", self.name));
        let script = format!(
            "{{ {}; }}; code=$?; cp /etc/resolv.conf {}; exit $code",
            self.once.replace("exit", "(exit"),
            resolv.display()
        );
        let script = script.replace("(exit $code;", "(exit $code);");
        let mut command = self.command(world, &script);
        let ran = inside.netns.enter(|| run(&mut command));
        assert_eq!(ran.code, 0, "{}: {ran}", self.name);
    }

    /// What its script was told, the last word on each variable.
    fn told(&self, world: &World) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.told_path(world)).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
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
    client.once(world, &inside);
    let told = client.told(world);
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
    let resolv = fs::read_to_string(world.dir.join(format!("resolv-{}", client.name))).unwrap();
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
    client.once(&world, &inside);
    let (first, mac) = (inside.v4(), inside.mac());
    let told = |world: &World| client.told(world).get("ip").cloned();
    assert_eq!(told(&world), Some(first.to_string()));

    world.restart_netd();
    client.once(&world, &inside);
    assert_eq!(
        told(&world),
        Some(first.to_string()),
        "after a restart of the daemon"
    );
    world.kill_netd();
    world.start_netd();
    client.once(&world, &inside);
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
    client.once(&world, &again);
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
        &world,
        "exec udhcpc -i host0 -f -R -s /etc/udhcpc/told.script",
    );
    command.stdin(Stdio::null());
    let running = Running(inside.netns.enter(|| command.spawn()).unwrap());
    let leased = |what: &str| {
        let started = Instant::now();
        while !client.told(&world).contains_key("ip") {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "no lease {what}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(client.told(&world)["ip"], inside.v4().to_string(), "{what}");
        fs::remove_file(client.told_path(&world)).unwrap();
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
