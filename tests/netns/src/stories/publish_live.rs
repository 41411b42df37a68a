//! Published ports while things change: flows, restarts, edits, the end.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::net::netns::Netns;
use crate::net::probe::probe;
use crate::net::server::Server;
use crate::net::steady::Steady;
use crate::world::{HOST, World};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A client of UDP that keeps its port.
fn client(from: &Netns, host: &str, port: u16) -> UdpSocket {
    let to = SocketAddr::new(address(host), port);
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.enter(|| UdpSocket::bind(any)).unwrap();
    socket.connect(to).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    socket
}

/// Who answers it, by name.
fn asks(socket: &UdpSocket) -> String {
    let mut buffer = [0; 256];
    // An error is the answer to an earlier question.
    for _ in 0..2 {
        match socket.send(b"?").and_then(|_| socket.recv(&mut buffer)) {
            Ok(read) => {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                return text.split(' ').next().unwrap_or_default().to_owned();
            }
            Err(_) => continue,
        }
    }
    String::new()
}

pub fn a_client_that_keeps_its_port_reaches_who_is_there_now() {
    let world = World::new("publish-stale");
    world.zone("web").default("allow").create();
    let clients = || HOST.map(|host| client(&world.outside, host, 5353));
    let ask = |clients: &[UdpSocket; 2]| [asks(&clients[0]), asks(&clients[1])];
    let both = |name: &str| [name.to_owned(), name.to_owned()];
    // Others: through the host, to the same port, and to the host's own service.
    let beside = world.container("beside").in_zone("web").start();
    let outsider = Server::start(&world.outside, "outsider", &["udp/5353".into()]);
    let others = [
        client(&beside.netns, "192.0.2.2", 5353),
        client(&beside.netns, "2001:db8:1::2", 5353),
    ];
    assert_eq!(ask(&others), both("outsider"));
    let host_service = client(&world.outside, HOST[0], 123);
    assert_eq!(asks(&host_service), "host");
    let entry = |socket: &UdpSocket| format!("sport={} ", socket.local_addr().unwrap().port());
    let told = || world.sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
    let kept = |socket: &UdpSocket| told().contains(&entry(socket));

    // Before anything is published there, a program of the host is spoken to; then a container has the port.
    let old = Server::start(&world.netns, "program", &["udp/5353".into()]);
    let faithful = clients();
    assert_eq!(ask(&faithful), both("program"));
    drop(old);
    let one = world
        .container("one")
        .in_zone("web")
        .publish("5353:53/udp")
        .start();
    assert_eq!(ask(&faithful), both("one"), "at once, from the same port");
    // Then another.
    one.stop();
    let two = world
        .container("two")
        .in_zone("web")
        .publish("5353:53/udp")
        .start();
    assert_eq!(ask(&faithful), both("two"));
    two.stop();
    // As part of a range, on one address.
    let three = world
        .container("three")
        .in_zone("web")
        .publish("192.0.2.1:5300-5399:5300/udp")
        .serves(&["udp/5353"])
        .start();
    assert_eq!(asks(&faithful[0]), "three");
    // Nobody else's connections were touched.
    assert!(kept(&others[0]) && kept(&others[1]) && kept(&host_service));
    assert_eq!(ask(&others), both("outsider"));
    // The last one goes: of its flows nothing is left, and the host answers for itself again.
    three.stop();
    let new = Server::start(&world.netns, "program", &["udp/5353".into()]);
    let begun = Instant::now();
    while asks(&faithful[0]) != "program" {
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "the flow still goes to nobody"
        );
    }
    assert!(kept(&others[0]) && kept(&others[1]));
    drop((new, outsider));
}

/// A TCP connection on which lines are echoed.
fn connection(from: &Netns, host: &str, port: u16) -> TcpStream {
    let to = SocketAddr::new(address(host), port);
    let mut stream = from
        .enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
    stream
}

fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    stream
        .write_all(b"ping")
        .and_then(|()| stream.read_exact(&mut answer))
        .is_ok()
        && &answer == b"ping"
}

pub fn connections_live_through_restarts_and_end_with_the_container() {
    let world = World::new("publish-restart");
    world.zone("web").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .publish("5353:53/udp")
        .publish("8000-8009:80")
        .start();
    let mut streams: Vec<TcpStream> = HOST
        .iter()
        .map(|host| connection(&world.outside, host, 8080))
        .chain([connection(&world.outside, HOST[0], 8000)])
        .chain(["127.0.0.1", "::1"].map(|host| connection(&world.netns, host, 8080)))
        .collect();
    let flows = HOST.map(|host| Steady::start(&world.outside, address(host), 5353));
    assert!(streams.iter_mut().all(echoes));
    // Ranges that only the daemon before knows: those of somebody who came and went.
    world.policy(
        "gone",
        "[[egress]]\nto = [\"192.0.2.0/24\", \"198.51.100.0/24\"]\nports = [\"tcp/1-99\"]\n",
    );
    world.container("gone").in_zone("web").start().stop();
    world.restart_netd();
    assert!(streams.iter_mut().all(echoes));
    world.kill_netd();
    assert!(streams.iter_mut().all(echoes), "with no daemon at all");
    let fresh = [
        (&world.outside, HOST[0]),
        (&world.outside, HOST[1]),
        (&world.netns, "::1"),
    ];
    for (from, host) in fresh {
        assert_eq!(
            probe(from, address(host), "tcp/8080").who(),
            "web",
            "{host}: with no daemon at all"
        );
    }
    world.start_netd();
    assert!(streams.iter_mut().all(echoes));
    // Edits of others, and reloads, are nothing to them.
    for n in 0..5 {
        world.policy(
            "somebody",
            &format!("[[ingress]]\nfrom = [\"192.0.2.{n}\"]\n"),
        );
        world.netd("reload").ok();
    }
    assert!(streams.iter_mut().all(echoes));
    for flow in flows {
        let (sent, lost) = flow.finish();
        assert_eq!(
            lost, 0,
            "of {sent}, through a restart, a kill and ten reloads"
        );
    }
    // The end is at once, for what is established as well.
    web.stop();
    assert!(!streams.iter_mut().any(echoes));
    for (from, host) in fresh {
        assert!(!probe(from, address(host), "tcp/8080").passed(), "{host}");
    }
}

/// Sends much both ways at once, closes its own half first, and still reads all that comes.
fn carries_much(from: &Netns, host: &str, port: u16) -> usize {
    const MUCH: usize = 8 << 20;
    let mut stream = connection(from, host, port);
    let mut sender = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let chunk: Vec<u8> = (0..65_536u32).map(|n| (n % 251) as u8).collect();
        for _ in 0..MUCH / chunk.len() {
            sender.write_all(&chunk).unwrap();
        }
        sender.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(
        got.iter()
            .enumerate()
            .all(|(n, byte)| *byte == ((n % 65_536) % 251) as u8)
    );
    got.len() - MUCH
}

pub fn the_loopback_of_v6_carries_whatever_the_host_is_like() {
    let world = World::new("publish-loopback6");
    let switch = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";
    world.netns.run("modprobe br_netfilter");
    world.zone("web").create();
    world.zone("old").option("--subnet6", "none").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .publish("[::1]:8081:80")
        .publish("5353:53/udp")
        .start();
    let four = world
        .container("four")
        .in_zone("old")
        .publish("8090:80")
        .publish("[::1]:8091:80")
        .start();
    for bridged in [0, 1, 0] {
        world.sh(&format!("[ ! -e {switch} ] || echo {bridged} >{switch}"));
        // The daemon looks when something changes, and every few seconds.
        let nudge = world
            .container("nudge")
            .in_zone("web")
            .publish("9999:80")
            .start();
        // A client's port that comes again within the kernel's 30 s would belong to a flow of the way before.
        world.sh("conntrack -F 2>/dev/null");
        for port in [8080, 8081, 8090, 8091] {
            assert_eq!(
                carries_much(&world.netns, "::1", port),
                0,
                "{port}, bridged: {bridged}"
            );
        }
        let mut many: Vec<TcpStream> = (0..100)
            .map(|_| connection(&world.netns, "::1", 8080))
            .collect();
        assert!(many.iter_mut().all(echoes), "bridged: {bridged}");
        let peers: Vec<UdpSocket> = (0..100)
            .map(|_| client(&world.netns, "::1", 5353))
            .collect();
        assert!(
            peers.iter().all(|peer| asks(peer) == "web"),
            "bridged: {bridged}"
        );
        // Nobody answers at tcp/82: the client is told.
        assert!(!probe(&world.netns, address("::1"), "tcp/82").passed());
        nudge.stop();
    }
    // A door ends with its container, and what it carries with it.
    world.sh(&format!("[ ! -e {switch} ] || echo 1 >{switch}"));
    let nudge = world
        .container("nudge")
        .in_zone("web")
        .publish("9999:80")
        .start();
    let mut carried = [
        connection(&world.netns, "::1", 8080),
        connection(&world.netns, "::1", 8090),
    ];
    assert!(carried.iter_mut().all(echoes));
    web.stop();
    four.stop();
    assert!(!carried.iter_mut().any(echoes));
    for port in ["tcp/8080", "tcp/8081", "tcp/8090", "tcp/8091"] {
        assert!(
            !probe(&world.netns, address("::1"), port).passed(),
            "{port}"
        );
    }
    drop(nudge);
}
