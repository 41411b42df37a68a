//! Names: what containers are told by their zone's gateway, and what leaves the host for it.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};

use hickory_proto::op::ResponseCode::{NXDomain, NoError, Refused, ServFail};

use crate::net::clients::CLIENTS;
use crate::net::dns::{Over, Server, Told, ask, ask_together, is_deaf};
use crate::world::{Container, ELSEWHERE, HOST, OUTSIDE, World};

/// Addresses that a container would ask by itself.
fn gateways(container: &Container) -> Vec<IpAddr> {
    let dns = &container.told()["dns"];
    let list = dns.as_array().unwrap().iter();
    list.map(|text| text.as_str().unwrap().parse().unwrap())
        .collect()
}

/// Asks in all four ways, which must agree.
#[track_caller]
fn told(container: &Container, name: &str, kind: &str) -> Told {
    let mut all = Vec::new();
    for gateway in gateways(container) {
        for over in [Over::Udp, Over::Tcp] {
            all.push(ask(&container.netns, gateway, over, name, kind));
        }
    }
    assert_eq!(all.len(), 4, "two families, two transports");
    assert!(
        all.iter().all(|told| *told == all[0]),
        "{name} {kind}: {all:?}"
    );
    all.remove(0)
}

#[track_caller]
fn one(container: &Container, name: &str, kind: &str) -> Told {
    ask(
        &container.netns,
        container.gateway4(),
        Over::Udp,
        name,
        kind,
    )
}

/// `2.0.89.10.in-addr.arpa`
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(a) => {
            let digits = format!("{:032x}", u128::from(a));
            let digits: Vec<String> = digits.chars().rev().map(String::from).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}

/// The host's resolv.conf, of this story only.
pub fn resolv_conf(world: &World, text: &str) {
    let path = world.dir.join("resolv.conf");
    let fresh = !path.exists();
    fs::write(&path, text).unwrap();
    if fresh {
        world.sh(&format!("mount --bind {} /etc/resolv.conf", path.display()));
    }
}

/// A world with a resolver outside that the host uses, and a zone of defaults.
fn with_resolver(title: &str) -> (World, Server) {
    let world = World::without_daemon(title);
    let records = [
        "www.example.org A 198.51.100.7",
        "www.example.org AAAA 2001:db8:7::7",
        "other.example.org A 198.51.100.8",
        "big.example.org A 198.51.100.9",
    ];
    let server = Server::start(&world.outside, "192.0.2.2:53", &records);
    resolv_conf(&world, "nameserver 192.0.2.2\n");
    world.start_netd();
    world.zone("dmz").create();
    (world, server)
}

pub fn a_zones_names_are_known_to_its_containers() {
    let world = World::new("names");
    world.zone("dmz").create();
    world.zone("lab").option("--domain", "Lab.example").create();
    let web = world.container("web").in_zone("dmz").start();
    let db = world.container("db").in_zone("dmz").start();
    let probe = world.container("probe").in_zone("lab").start();
    let odd = world.container("my_app.1").in_zone("dmz").start();
    for name in ["db", "DB", "db.dmz.internal", "Db.Dmz.Internal"] {
        assert_eq!(
            told(&web, name, "A").answers,
            [db.v4().to_string()],
            "{name}"
        );
        assert_eq!(
            told(&web, name, "AAAA").answers,
            [db.v6().to_string()],
            "{name}"
        );
    }
    for address in db.addresses() {
        let back = told(&web, &reverse(address), "PTR");
        assert_eq!(back.answers, ["db.dmz.internal."], "{address}");
    }
    let gateway = told(&web, "_gateway", "A");
    assert_eq!(gateway.answers, [web.gateway4().to_string()]);
    let no_data = told(&web, "db", "TXT");
    assert_eq!((no_data.code, no_data.answers.len()), (NoError, 0));
    for name in ["nobody", "nobody.dmz.internal", "a.local"] {
        assert_eq!(told(&web, name, "A").code, NXDomain, "{name}");
    }
    // What is no hostname has no name.
    assert_eq!(told(&web, &reverse(odd.v4().into()), "PTR").code, NXDomain);
    // Another zone's names, only where the container is within reach.
    for name in ["probe.lab.example", "probe.lab.lab.example"] {
        assert_ne!(told(&web, name, "A").code, NoError, "{name}");
    }
    assert_eq!(
        told(&probe, "probe.LAB.example", "A").answers,
        [probe.v4().to_string()]
    );
    world.policy(
        "web",
        "[[egress]]\nto = [\"zone:lab\"]\nports = [\"tcp/80-90\"]\n",
    );
    world.policy(
        "probe",
        "[[ingress]]\nfrom = [\"container:web\"]\nports = [\"tcp/89-95\"]\n",
    );
    assert_eq!(
        told(&web, "probe.lab.example", "A").answers,
        [probe.v4().to_string()]
    );
    let back = told(&web, &reverse(probe.v6().into()), "PTR");
    assert_eq!(back.answers, ["probe.lab.example."]);
    assert_ne!(one(&db, "probe.lab.example", "A").code, NoError);
    assert_eq!(one(&probe, "web.dmz.internal", "A").code, NXDomain);

    // As programs ask: the C library with a search domain, and busybox.
    let conf = world.dir.join("inside");
    let lines = format!("search dmz.internal\nnameserver {}\n", web.gateway4());
    fs::write(&conf, lines).unwrap();
    let own = format!("mount --bind {} /etc/resolv.conf", conf.display());
    let as_programs = |command: &str| web.sh(&format!("unshare -m sh -ec '{own}; {command}'"));
    let hosts = as_programs("getent ahosts db");
    for address in db.addresses() {
        assert!(hosts.contains(&address.to_string()), "{hosts}");
    }
    let back = as_programs(&format!("getent hosts {}", db.v4()));
    assert!(back.contains("db.dmz.internal"), "{back}");
    let looked = as_programs("busybox nslookup db.dmz.internal");
    assert!(looked.contains(&db.v4().to_string()), "{looked}");

    // A DHCP client is told the gateway, and asks it.
    let guest = world.container("udhcpc").in_zone("dmz").dhcp().start();
    CLIENTS[0].once(&world.dir, &guest.netns);
    let dns = CLIENTS[0].told(&world.dir)["dns"].clone();
    assert_eq!(dns, guest.gateway4().to_string());
    assert_eq!(one(&guest, "udhcpc", "A").answers, [guest.v4().to_string()]);
}

pub fn attach_and_detach_change_names_at_once() {
    let world = World::new("names-at-once");
    world.zone("dmz").create();
    world.zone("lab").create();
    let web = world.container("web").in_zone("dmz").start();
    for round in 0..3 {
        assert_eq!(told(&web, "db", "A").code, NXDomain, "round {round}");
        let db = world.container("db").in_zone("dmz").start();
        assert_eq!(told(&web, "db", "A").answers, [db.v4().to_string()]);
        let address = reverse(db.v4().into());
        db.detach();
        assert_eq!(told(&web, "db", "A").code, NXDomain);
        assert_eq!(told(&web, &address, "PTR").code, NXDomain);
        db.stop();
    }
    // A link that somebody deletes takes the name along.
    let gone = world.container("gone").in_zone("dmz").start();
    assert_eq!(one(&web, "gone", "A").code, NoError);
    world.sh(&format!("ip link del {}", gone.host_ifname()));
    while one(&web, "gone", "A").code == NoError {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // Another domain.
    world.netd("zone set dmz --domain corp.example").ok();
    let own = [web.v4().to_string()];
    assert_eq!(told(&web, "web.corp.example", "A").answers, own);
    assert_eq!(told(&web, "web.dmz.corp.example", "A").answers, own);
    let back = told(&web, &reverse(web.v4().into()), "PTR");
    assert_eq!(back.answers, ["web.corp.example."]);
}

pub fn what_is_not_known_is_asked_upstream() {
    let (world, server) = with_resolver("upstream");
    let web = world.container("web").in_zone("dmz").start();
    assert_eq!(told(&web, "www.example.org", "A").answers, ["198.51.100.7"]);
    assert_eq!(
        told(&web, "www.example.org", "AAAA").answers,
        ["2001:db8:7::7"]
    );
    assert_eq!(told(&web, "nobody.example.org", "A").code, NXDomain);
    let asked = |line: &str| server.seen().iter().filter(|seen| *seen == line).count();
    assert_eq!(
        asked("udp www.example.org. A"),
        1,
        "kept: {:?}",
        server.seen()
    );
    // Cut off upstream: asked again over TCP, and told whole.
    assert_eq!(told(&web, "big.example.org", "A").answers, ["198.51.100.9"]);
    assert_eq!(asked("tcp big.example.org. A"), 1, "{:?}", server.seen());
    // Several in one connection, known here and there.
    let names = ["web", "other.example.org", "nobody", "www.example.org"];
    let mut together = ask_together(&web.netns, web.gateway4(), &names);
    together.sort_by_key(|told| told.answers.clone());
    let answers: Vec<_> = together.iter().map(|told| told.answers.join(" ")).collect();
    let own = web.v4().to_string();
    let expected = ["", own.as_str(), "198.51.100.7", "198.51.100.8"];
    assert_eq!(answers, expected);
    // What is of nobody's concern outside does not get there.
    for name in [
        "nobody",
        "nobody.dmz.internal",
        "a.local",
        "localhost",
        "1.1.168.192.in-addr.arpa",
    ] {
        told(&web, name, "A");
        told(&web, name, "PTR");
    }
    let outside: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|seen| !seen.contains("example.org"))
        .collect();
    assert_eq!(outside, [""; 0]);
    let status = world.netd("status --json").json();
    let resolver = &status["resolver"];
    assert_eq!(resolver["upstream"][0], "192.0.2.2", "{resolver}");
    let zone = &resolver["zones"][0];
    for counter in ["queries", "local", "cached", "forwarded"] {
        assert!(zone[counter].as_i64() > Some(0), "{counter}: {zone}");
    }
    server.end();
}

pub fn the_resolver_is_no_way_out() {
    let (world, server) = with_resolver("no-way-out");
    world.zone("vault").internal().create();
    let web = world.container("web").in_zone("dmz").start();
    let closed = world.container("closed").in_zone("dmz").start();
    let vault = world.container("vault").in_zone("vault").start();
    world.policy("closed", "[[egress]]\nto = [\"container:web\"]\n");
    told(&web, "www.example.org", "A");
    let before = server.seen();
    for name in ["www.example.org", "secret.tunnel.example.org"] {
        for container in [&closed, &vault] {
            assert_eq!(told(container, name, "A").code, Refused, "{name}");
        }
    }
    assert_eq!(server.seen(), before, "nothing left the host");
    assert_eq!(told(&closed, "web", "A").answers, [web.v4().to_string()]);
    assert_eq!(told(&vault, "vault", "A").answers, [vault.v4().to_string()]);
    // An edit counts at once, both ways.
    world.policy("closed", "[[egress]]\nto = [\"198.51.100.0/24\"]\n");
    assert_eq!(
        told(&closed, "www.example.org", "A").answers,
        ["198.51.100.7"]
    );
    world.policy("closed", "egress = []\n");
    assert_eq!(told(&closed, "www.example.org", "A").code, Refused);
    world.netd("zone set dmz --default deny").ok();
    assert_eq!(told(&web, "www.example.org", "A").code, Refused);
    server.end();
}

pub fn upstream_that_does_not_answer_is_told_in_time() {
    let (world, server) = with_resolver("mute");
    let web = world.container("web").in_zone("dmz").start();
    // Clients give up after five seconds at the earliest, and this one waits longer: it is told before.
    server.mute(true);
    let started = std::time::Instant::now();
    assert_eq!(one(&web, "other.example.org", "A").code, ServFail);
    assert!(started.elapsed().as_secs() < 15, "SERVFAIL came late");
    let tries = server.seen();
    assert!(tries.len() > 1, "it was asked again: {tries:?}");
    // What is known here is answered meanwhile.
    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| one(&web, "www.example.org", "A"));
        for _ in 0..20 {
            assert_eq!(one(&web, "web", "A").answers, [web.v4().to_string()]);
        }
        slow.join().unwrap()
    });
    assert_eq!(slow.code, ServFail);
    server.mute(false);
    while one(&web, "www.example.org", "A").code != NoError {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // Nobody there at all.
    server.end();
    assert_eq!(one(&web, "more.example.org", "A").code, ServFail);
    resolv_conf(&world, "");
    while !world.netd("status --json").json()["resolver"]["upstream"]
        .as_array()
        .is_some_and(Vec::is_empty)
    {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(one(&web, "more.example.org", "A").code, ServFail);
}

pub fn the_hosts_resolvers_are_followed() {
    let (world, first) = with_resolver("followed");
    let web = world.container("web").in_zone("dmz").start();
    assert_eq!(one(&web, "www.example.org", "A").answers, ["198.51.100.7"]);
    let at = format!("[{}]:53", OUTSIDE[1]);
    let second = Server::start(&world.outside, &at, &["www.example.org A 203.0.113.7"]);
    resolv_conf(
        &world,
        &format!("search example.org\nnameserver {}\n", OUTSIDE[1]),
    );
    // What the first one said is forgotten with it.
    while one(&web, "www.example.org", "A").answers != ["203.0.113.7"] {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let before = first.seen();
    one(&web, "new.example.org", "A");
    assert_eq!(first.seen(), before);
    // A resolver on the host's own loopback serves too, as this daemon is on the host.
    let third = Server::start(
        &world.netns,
        "127.0.0.53:53",
        &["www.example.org A 203.0.113.53"],
    );
    resolv_conf(&world, "nameserver 127.0.0.53\n");
    while one(&web, "www.example.org", "A").answers != ["203.0.113.53"] {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for server in [first, second, third] {
        server.end();
    }
}

pub fn domains_and_zones_have_resolvers_of_their_own() {
    let (world, hosts) = with_resolver("split");
    let at = format!("{}:5353", ELSEWHERE[0]);
    let corp = Server::start(
        &world.outside,
        &at,
        &[
            "git.corp.example A 203.0.113.9",
            "www.example.org A 203.0.113.7",
        ],
    );
    world
        .netd(&format!("zone set dmz --upstream-domain Corp.example={at}"))
        .ok();
    world.zone("own").option("--upstream", &at).create();
    let web = world.container("web").in_zone("dmz").start();
    let own = world.container("own").in_zone("own").start();
    assert_eq!(told(&web, "git.corp.example", "A").answers, ["203.0.113.9"]);
    assert_eq!(told(&web, "www.example.org", "A").answers, ["198.51.100.7"]);
    assert_eq!(told(&own, "www.example.org", "A").answers, ["203.0.113.7"]);
    assert!(
        !hosts
            .seen()
            .iter()
            .any(|seen| seen.contains("corp.example"))
    );
    let shown = world.netd("zone show dmz --json").json();
    assert_eq!(shown["upstream_domains"]["corp.example"][0], at.as_str());
    assert_eq!(
        world.netd("zone show own --json").json()["upstream"][0],
        at.as_str()
    );
    // The file says the same, and an edit of it counts.
    let path = world.folder("config/zones").join("dmz.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("upstream-domains"), "{text}");
    fs::write(&path, text.replace("corp.example", "other.example")).unwrap();
    world.netd("reload").ok();
    told(&web, "git.corp.example", "A");
    assert!(
        hosts
            .seen()
            .iter()
            .any(|seen| seen.contains("git.corp.example"))
    );
    hosts.end();
    corp.end();
}

/// A connection to the resolver from this address of a container, if one comes about.
fn connected(container: &Container, from: Ipv6Addr, to: IpAddr) -> Option<TcpStream> {
    container.netns.enter(|| {
        let socket = rustix::net::socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::new(from.into(), 0)).unwrap();
        rustix::net::connect(&socket, &SocketAddr::new(to, 53)).ok()?;
        let stream = TcpStream::from(socket);
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        Some(stream)
    })
}

/// Whether somebody answers in a connection: asked for `web`, A.
fn answers(stream: &mut TcpStream) -> bool {
    let query = b"\0\x15\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";
    let mut length = [0; 2];
    stream.write_all(query).is_ok() && stream.read_exact(&mut length).is_ok()
}

pub fn connections_are_counted_by_container() {
    let world = World::new("dns-connections");
    world.zone("dmz").create();
    let [web, mallory] =
        ["web", "mallory"].map(|name| world.container(name).in_zone("dmz").start());
    let six = |container: &Container| {
        gateways(container)
            .into_iter()
            .find(IpAddr::is_ipv6)
            .unwrap()
    };
    let gateway = six(&mallory);
    // Each from another address of its prefix, all at once.
    let prefix = u128::from(mallory.v6()) & !0xffff;
    let others: Vec<Ipv6Addr> = (0x100..0x128).map(|n| Ipv6Addr::from(prefix | n)).collect();
    for address in &others {
        mallory.sh(&format!("ip addr add {address}/128 dev host0 nodad"));
    }
    let mut open: Vec<TcpStream> = others
        .iter()
        .filter_map(|from| connected(&mallory, *from, gateway))
        .collect();
    let served = open
        .iter_mut()
        .filter_map(|one| answers(one).then_some(()))
        .count();
    assert_eq!(served, 16, "as many as of one container, of {}", open.len());
    // It has taken nobody else's.
    let mut others: Vec<TcpStream> = (0..16)
        .filter_map(|_| connected(&web, web.v6(), six(&web)))
        .collect();
    assert!(others.iter_mut().all(answers) && others.len() == 16);
    // When they end it has its own again.
    drop(open);
    let started = Instant::now();
    while !connected(&mallory, mallory.v6(), gateway).is_some_and(|mut one| answers(&mut one)) {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn nobody_outside_is_answered() {
    let world = World::new("outsiders");
    world.zone("dmz").create();
    world.zone("lab").default("allow").create();
    let web = world.container("web").in_zone("dmz").start();
    let probe = world.container("probe").in_zone("lab").start();
    for gateway in gateways(&web) {
        assert!(!is_deaf(&web.netns, gateway, "web"), "{gateway}");
        // The world routes the zones' addresses to the host.
        assert!(is_deaf(&world.outside, gateway, "web"), "{gateway}");
        assert!(is_deaf(&probe.netns, gateway, "web"), "{gateway}");
    }
    for address in HOST {
        let address: IpAddr = address.parse().unwrap();
        assert!(is_deaf(&world.outside, address, "web"), "{address}");
        assert!(is_deaf(&web.netns, address, "web"), "{address}");
    }
}

pub fn the_resolver_outlives_bridges_and_daemons() {
    let (world, server) = with_resolver("outlives");
    let web = world.container("web").in_zone("dmz").start();
    let db = world.container("db").in_zone("dmz").start();
    let works = |what: &str| {
        assert_eq!(
            told(&web, "db", "A").answers,
            [db.v4().to_string()],
            "{what}"
        );
        assert_eq!(
            told(&web, "www.example.org", "A").answers,
            ["198.51.100.7"],
            "{what}"
        );
    };
    works("at first");
    world.restart_netd();
    works("after a restart");
    world.kill_netd();
    world.start_netd();
    works("after a kill");
    world.sh("ip link del vz-dmz");
    while is_deaf(&web.netns, web.gateway4(), "db") || is_deaf(&web.netns, gateways(&web)[1], "db")
    {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    works("on a new bridge");
    server.end();
}
