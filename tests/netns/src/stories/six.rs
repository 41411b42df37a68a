//! IPv6 as containers get it: router advertisements to the kernel's own client, DHCPv6 to real ones, and what
//! they are refused.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::net::clients::{CLIENTS6, Client};
use crate::net::frame;
use crate::net::raw::PacketSocket;
use crate::world::{Container, World};

/// Waits until a script inside prints something that has `part` in it.
#[track_caller]
fn until(inside: &Container, script: &str, part: &str) -> String {
    let started = Instant::now();
    loop {
        let said = inside.sh(script);
        if said.contains(part) {
            return said;
        }
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{}: no {part:?} in {script:?}:\n{said}",
            inside.name
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reaches the world's server by IPv6. Tried again for a while: the link-local addresses of a host and a
/// container that are seconds old are still being looked at for duplicates.
#[track_caller]
fn reaches_the_world(inside: &Container) {
    let started = Instant::now();
    loop {
        let out = inside.tcp("2001:db8:1::2".parse::<IpAddr>().unwrap(), 80);
        if out.who() == "world" {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{}: {out:?}",
            inside.name
        );
    }
}

/// What `netd lease list` says of a container's IPv6 address.
#[track_caller]
fn lease(world: &World, inside: &Container) -> Value {
    let leases = world.netd("lease list --json").json();
    let address = inside.v6().to_string();
    let found = leases.as_array().unwrap().iter().find(|lease| {
        lease["container"] == inside.name.as_str() && lease["address"] == address.as_str()
    });
    found
        .unwrap_or_else(|| panic!("no {address} in {leases}"))
        .clone()
}

fn zone(world: &World) {
    world
        .zone("web")
        .option("--subnet6", "fd66:1:2:3::/64")
        .option("--mtu", "1400")
        .option("--domain", "web.example.test")
        .option("--dns", "192.0.2.53")
        .option("--dns", "2001:db8:1::2")
        .create();
}

pub fn the_kernel_follows_advertisements() {
    let world = World::new("six-kernel");
    zone(&world);
    let inside = world.container("one").in_zone("web").dhcp().start();
    inside.sh("echo 1 >/proc/sys/net/ipv6/conf/host0/accept_ra; ip link set host0 up");
    let routes = until(&inside, "ip -6 route", "default via fe80::");
    assert!(routes.contains("proto ra"), "{routes}");
    // never on-link, and no address of its own making in a subnet that all share
    assert!(!routes.contains("fd66:1:2:3::/64"), "{routes}");
    let addresses = inside.sh("ip -6 addr show dev host0");
    assert!(!addresses.contains("fd66:"), "{addresses}");
    let mtu = inside.sh("cat /proc/sys/net/ipv6/conf/host0/mtu");
    assert_eq!(mtu.trim(), "1400");
    // with the address that netd keeps for it, it is on the network
    inside.sh(&format!("ip addr add {}/128 dev host0 nodad", inside.v6()));
    reaches_the_world(&inside);
    // another address of the subnet is nobody's: the guard lets nothing of it out
    let stranger = world.container("two").in_zone("web").dhcp().start();
    stranger.sh("ip link set host0 up; ip addr add fd66:1:2:3::77/128 dev host0 nodad");
    until(&stranger, "ip -6 route", "default via fe80::");
    let out = stranger.tcp("2001:db8:1::2".parse::<IpAddr>().unwrap(), 80);
    assert!(!out.passed(), "{out:?}");
}

pub fn statically_configured_ones_are_told_nothing() {
    let world = World::new("six-static");
    zone(&world);
    let inside = world.container("one").in_zone("web").start();
    inside.sh("for i in 1 2 3; do timeout 1 rdisc6 -1 -r 1 -w 300 host0; done; true");
    let said = inside.sh("ip -6 route; ip -6 addr show dev host0");
    assert!(
        !said.contains("proto ra") && !said.contains("dynamic"),
        "{said}"
    );
    assert!(
        said.contains(&format!("inet6 {}/128", inside.v6())),
        "{said}"
    );
}

pub fn real_clients_get_their_address() {
    let world = World::new("six-clients");
    zone(&world);
    std::thread::scope(|scope| {
        for client in &CLIENTS6 {
            let world = &world;
            scope.spawn(move || tell(world, client));
        }
    });
}

fn tell(world: &World, client: &Client) {
    let inside = world.container(client.name).in_zone("web").dhcp().start();
    assert_eq!(lease(world, &inside)["state"], "reserved");
    client.once(&world.dir, &inside.netns);
    let told = client.told(&world.dir);
    let expected = [
        &inside.v6().to_string(),
        "",
        "2001:db8:1::2",
        "web.example.test",
        "",
    ];
    for (variable, expected) in client.variables.iter().zip(expected) {
        if !variable.is_empty() {
            let told = told.get(*variable).map(|t| t.trim_end_matches('.'));
            assert_eq!(told, Some(expected), "{}: {variable}", client.name);
        }
    }
    let addresses = inside.sh("ip -6 addr show dev host0");
    let own = format!("inet6 {}/128", inside.v6());
    assert!(addresses.contains(&own), "{}: {addresses}", client.name);
    let lease = lease(world, &inside);
    assert_eq!(
        (&lease["state"], &lease["kind"]),
        (&"bound".into(), &"dhcp".into())
    );
    assert!(lease["expires"].is_number(), "{lease}");
    until(&inside, "ip -6 route", "default via fe80::");
    reaches_the_world(&inside);
}

pub fn a_lease_is_renewed_released_and_survives_the_daemon() {
    let world = World::new("six-renews");
    zone(&world);
    let client = &CLIENTS6[0];
    let inside = world.container("one").in_zone("web").dhcp().start();
    client.once(&world.dir, &inside.netns);
    let first = lease(&world, &inside);
    for how in ["restarted", "killed"] {
        match how {
            "restarted" => world.restart_netd(),
            _ => {
                world.kill_netd();
                world.start_netd();
            }
        }
        let kept = lease(&world, &inside);
        assert_eq!(
            (&kept["state"], &kept["expires"]),
            (&first["state"], &first["expires"]),
            "{how}"
        );
    }
    // the client's memory is gone with its folders; what it gets is the same, for longer
    std::thread::sleep(Duration::from_millis(1100));
    client.once(&world.dir, &inside.netns);
    let again = lease(&world, &inside);
    assert_eq!(again["state"], "bound");
    assert!(
        again["expires"].as_i64() > first["expires"].as_i64(),
        "{again}"
    );
    // released: the address stays the container's
    let mut command = client.command(
        &world.dir,
        "dhclient -6 -1 -lf /var/lib/dhcp/l -pf /run/d6.pid host0; dhclient -6 -r -lf /var/lib/dhcp/l -pf /run/d6.pid host0",
    );
    command.stdin(Stdio::null());
    let ran = inside.netns.enter(|| crate::net::netns::run(&mut command));
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(lease(&world, &inside)["state"], "reserved", "released");
    assert_eq!(inside.status()["addresses"], inside.attached["addresses"]);
}

/// A DHCPv6 client made of a socket, which says what it likes.
struct Liar {
    socket: UdpSocket,
    ifindex: u32,
}

const SOLICIT: u8 = 1;
const REQUEST: u8 = 3;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const SHARED_DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0x66];

impl Liar {
    /// Inside a container, whose interface is brought up.
    fn new(inside: &Container) -> Self {
        inside.sh("ip link set host0 up");
        until(
            inside,
            "ip -6 addr show dev host0 scope link -tentative",
            "fe80",
        );
        let index = inside.sh(
            "cat /sys/class/net/host0/ifindex 2>/dev/null || ip -o link show host0 | cut -d: -f1",
        );
        let ifindex = index.trim().parse().unwrap();
        let socket = inside.netns.enter(|| UdpSocket::bind("[::]:546")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        Self { socket, ifindex }
    }

    fn say(&self, kind: u8, server: &[u8], rest: &[u8]) {
        let option = |code: u8, value: &[u8]| {
            let length = u8::try_from(value.len()).unwrap();
            [&[0, code, 0, length], value].concat()
        };
        let mut message = vec![kind, 1, 2, 3];
        message.extend(option(1, &SHARED_DUID));
        if !server.is_empty() {
            message.extend(option(2, server));
        }
        message.extend_from_slice(rest);
        let group = "ff02::1:2".parse().unwrap();
        let to = std::net::SocketAddrV6::new(group, 547, 0, self.ifindex);
        self.socket.send_to(&message, to).unwrap();
    }

    /// The answer, if one comes.
    fn hear(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 1500];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    /// An IA_NA with one address.
    fn ia(address: Ipv6Addr) -> Vec<u8> {
        let mut ia = vec![0, 3, 0, 40, 0, 0, 0, 7];
        ia.extend([0; 8]);
        ia.extend([0, 5, 0, 24]);
        ia.extend(address.octets());
        ia.extend([0; 8]);
        ia
    }
}

fn holds(bytes: &[u8], address: Ipv6Addr) -> bool {
    bytes.windows(16).any(|window| window == address.octets())
}

/// Whose DUID it is does not matter, whose port it is does: nobody gets, gives back or declines another's
/// address, and a flood of one is not felt by another.
pub fn nobody_touches_anothers_lease() {
    let world = World::new("six-liar");
    zone(&world);
    let [victim, mallory] =
        ["victim", "mallory"].map(|name| world.container(name).in_zone("web").dhcp().start());
    let (honest, liar) = (Liar::new(&victim), Liar::new(&mallory));
    let rapid = [0, 14, 0, 0];
    let solicit = |who: &Liar, address| {
        who.say(SOLICIT, &[], &[&rapid[..], &Liar::ia(address)].concat());
        who.hear().expect("no answer")
    };
    let granted = solicit(&honest, victim.v6());
    assert_eq!(granted[0], 7, "a reply, by rapid commit");
    assert!(holds(&granted, victim.v6()));
    assert_eq!(lease(&world, &victim)["state"], "bound");
    // the server's identifier, which every client is told
    let at = granted
        .windows(4)
        .position(|w| w == [0, 2, 0, 18])
        .expect("no server id")
        + 4;
    let server = &granted[at..at + 18];
    let theirs = Liar::ia(victim.v6());
    for kind in [RELEASE, DECLINE] {
        liar.say(kind, server, &theirs);
        assert!(liar.hear().is_some(), "NoBinding");
        assert_eq!(lease(&world, &victim)["state"], "bound");
    }
    liar.say(REQUEST, server, &theirs);
    let told = liar.hear().expect("no answer");
    assert!(holds(&told, mallory.v6()) && !holds(&told, victim.v6()));
    // noise and a flood
    for n in 0..3000u32 {
        let noise = n.to_be_bytes().repeat(20);
        liar.say((n % 14) as u8, server, &noise);
    }
    assert!(holds(&solicit(&honest, victim.v6()), victim.v6()));
    assert_eq!(lease(&world, &victim)["state"], "bound");
    let status = world.netd("status --json").json();
    let zone = &status["ipv6"][0];
    assert!(zone["replies"].as_i64() >= Some(5), "{zone}");
    assert!(
        zone["silent"].to_string().contains("rate-limited"),
        "{zone}"
    );
    // most of it went no further than the guard
    assert!(zone["received"].as_i64() < Some(1500), "{zone}");
}

/// On a shortened lease: it ends when it was said, also while no daemon runs; what was declined is marked, and
/// the address is the container's through all of it.
pub fn leases_end_and_are_declined() {
    let world = World::new("six-ends");
    let file = "subnet6 = \"fd66:1:2:3::/64\"\n[dhcp]\nlease = \"10s\"\n";
    std::fs::write(world.dir.join("config/zones/web.toml"), file).unwrap();
    world.netd("reload").ok();
    let inside = world.container("one").in_zone("web").dhcp().start();
    let client = Liar::new(&inside);
    let own = Liar::ia(inside.v6());
    let solicit = || {
        client.say(SOLICIT, &[], &[&[0, 14, 0, 0][..], &own].concat());
        let told = client.hear().expect("no answer");
        assert!(holds(&told, inside.v6()), "{told:x?}");
        assert_eq!(lease(&world, &inside)["state"], "bound");
        told
    };
    let ends = || {
        let started = Instant::now();
        while lease(&world, &inside)["state"] != "reserved" {
            assert!(
                started.elapsed() < Duration::from_secs(40),
                "it does not end"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let granted = solicit();
    let at = granted
        .windows(4)
        .position(|w| w == [0, 2, 0, 18])
        .expect("no server id")
        + 4;
    ends();
    solicit();
    world.kill_netd();
    world.start_netd();
    assert_eq!(lease(&world, &inside)["state"], "bound");
    ends();
    solicit();
    client.say(DECLINE, &granted[at..at + 18], &own);
    client.hear().expect("no answer");
    assert_eq!(lease(&world, &inside)["state"], "declined");
    solicit();
}

/// NAT66 for private subnets, none for global ones; and a host that learns its own route by advertisements goes
/// on doing so although it forwards now.
pub fn private_subnets_are_translated_and_global_ones_are_not() {
    let world = World::new("six-nat");
    zone(&world);
    world
        .zone("global")
        .option("--subnet6", "2001:db8:77::/64")
        .create();
    let route = "ip -6 route add 2001:db8:77::/64 via 2001:db8:1::1";
    world.outside.sh(route);
    let private = world.container("private").in_zone("web").start();
    let global = world.container("global").in_zone("global").start();
    for inside in [&private, &global] {
        reaches_the_world(inside);
    }
    let seen = |inside: &Container| {
        let outside = "2001:db8:1::2".parse::<IpAddr>().unwrap();
        inside.tcp(outside, 80).source()
    };
    assert_eq!(seen(&private), Some("2001:db8:1::1".parse().unwrap()));
    assert_eq!(seen(&global), Some(global.v6().into()));
    let (router, mac) = ("fe80::7".parse().unwrap(), [2, 0, 0, 0, 0, 7]);
    let all = "ff02::1".parse().unwrap();
    let told = frame::router_advertisement(router, mac);
    let told = frame::ethernet(frame::group_mac(all), mac, frame::IPV6, &told);
    let started = Instant::now();
    while !world.sh("ip -6 route show dev up0").contains("fe80::7") {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "the uplink hears no router"
        );
        let send = || PacketSocket::open("eth0").unwrap().send(&told).unwrap();
        world.outside.enter(send);
        std::thread::sleep(Duration::from_millis(100));
    }
    // nothing from outside comes in by that, but what policy lets in
    let knock = crate::net::probe::probe(&world.outside, global.v6().into(), "tcp/80");
    assert!(!knock.passed(), "{knock:?}");
}

/// IPv6 alone: created, attached to both ways, judged, told to clients; and the other family is nowhere.
pub fn a_zone_of_ipv6_alone() {
    let world = World::new("six-alone");
    let zone = world
        .zone("six")
        .option("--subnet4", "none")
        .default("allow")
        .create();
    assert!(
        zone["subnet4"].is_null() && zone["gateway4"].is_null(),
        "{zone}"
    );
    world
        .zone("six")
        .option("--subnet4", "none")
        .default("allow")
        .create(); // the same again
    let web = world.container("web").in_zone("six").start();
    let client = world.container("dhcpcd").in_zone("six").dhcp().start();
    assert_eq!(web.addresses().len(), 1, "{}", web.attached);
    let inside = web.sh("ip -4 addr show dev host0; ip -4 route");
    assert!(inside.trim().is_empty(), "{inside}");
    assert!(
        !world
            .netns
            .sh("ip -4 addr show dev vz-six")
            .contains("inet ")
    );
    reaches_the_world(&web);
    CLIENTS6[1].once(&world.dir, &client.netns);
    until(&client, "ip -6 route", "default via fe80::");
    reaches_the_world(&client);
    let out = client.tcp(web.v6(), 80);
    assert_eq!(out.who(), "web", "{out:?}");
    // a policy closes it as it would any other
    world.policy("web", "[[ingress]]\nfrom = [\"world\"]\n");
    world.netd("reload").ok();
    assert!(client.tcp(web.v6(), 80).turned_away());
    world.restart_netd();
    assert!(client.tcp(web.v6(), 80).turned_away());
    assert_eq!(
        world.netd("zone show six --json").json()["subnet4"],
        Value::Null
    );
    // one that had IPv4 gives it up when nobody is in it
    world.zone("both").create();
    world.netd("zone set both --subnet4 none").ok();
    assert!(
        !world
            .netns
            .sh("ip -4 addr show dev vz-both")
            .contains("inet ")
    );
    world.netd("zone set both --subnet6 none").fails(2);
}

pub fn a_zone_that_goes_takes_its_routes_along() {
    let world = World::new("six-farewell");
    zone(&world);
    let inside = world.container("one").in_zone("web").dhcp().start();
    inside.sh("ip link set host0 up");
    until(&inside, "ip -6 route", "default via fe80::");
    // A socket of its own, not tcpdump: what arrived before its interface went can still be read from it.
    let ear = inside.netns.enter(|| PacketSocket::open("host0").unwrap());
    world.netd("zone delete web --force").ok();
    let mut frame = [0; 2048];
    let mut heard = Vec::new();
    let mut went = false;
    loop {
        match ear.receive(&mut frame, Duration::from_millis(500)) {
            Ok(Some(length)) => heard.push(frame[..length].to_vec()),
            Ok(None) => break,
            // it says once that the interface went
            Err(error) => assert!(!std::mem::replace(&mut went, true), "{error}"),
        }
    }
    // an advertisement (RFC 4861 section 4.2) with a router lifetime of 0
    let farewell = |frame: &Vec<u8>| {
        frame.get(20) == Some(&58)
            && frame.get(54) == Some(&134)
            && frame.get(60..62) == Some(&[0, 0])
    };
    assert!(went && heard.iter().any(farewell), "{went} {heard:02x?}");
}
