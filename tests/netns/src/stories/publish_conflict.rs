//! A port that somebody has already is refused, with the name of who has it.

use std::net::{IpAddr, TcpListener, UdpSocket};

use crate::net::probe::probe;
use crate::net::server::Server;
use crate::world::{HOST, World};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Asks to publish; the refusal, of which nothing is left.
#[track_caller]
fn refused(world: &World, publish: &str) -> String {
    let links = world.own_links();
    let asked = world
        .container("late")
        .in_zone("web")
        .publish(publish)
        .try_start();
    let said = asked
        .err()
        .unwrap_or_else(|| panic!("{publish} is published"))
        .fails(1);
    assert_eq!(world.own_links(), links, "{publish}: a link is left");
    let listed = world.netd("list --json").json().to_string();
    assert!(!listed.contains("late"), "{publish}: {listed}");
    assert!(
        !world.nft("list ruleset").stdout.contains("9090"),
        "{publish}: an element is left"
    );
    said
}

#[track_caller]
fn works(world: &World, publish: &str) {
    let asked = world
        .container("late")
        .in_zone("web")
        .publish(publish)
        .try_start();
    asked
        .unwrap_or_else(|said| panic!("{publish}: {said}"))
        .stop();
}

pub fn programs_of_the_host_are_named() {
    let world = World::new("publish-listened");
    world.zone("web").create();
    let both = Server::start(
        &world.netns,
        "both",
        &["tcp/9090".into(), "udp/9091".into()],
    );
    let me = std::process::id();
    let four = world
        .netns
        .enter(|| TcpListener::bind("127.0.0.1:9190"))
        .unwrap();
    let six = world.netns.enter(|| UdpSocket::bind("[::1]:9191")).unwrap();
    let all4 = world
        .netns
        .enter(|| UdpSocket::bind("0.0.0.0:9192"))
        .unwrap();
    // A socket on [::] takes IPv4 as well.
    for (publish, port, of, pid) in [
        ("9090:80", "tcp/9090", "::", both.pid()),
        ("192.0.2.1:9090:80", "tcp/9090", "::", both.pid()),
        ("[::1]:9090:80", "tcp/9090", "::", both.pid()),
        ("9080-9099:80", "tcp/9090", "::", both.pid()),
        ("9091:53/udp", "udp/9091", "::", both.pid()),
        ("9190:80", "tcp/9190", "127.0.0.1", me),
        ("9100-9200:80", "tcp/9190", "127.0.0.1", me),
        ("9191:53/udp", "udp/9191", "::1", me),
        ("9192:53/udp", "udp/9192", "0.0.0.0", me),
        ("192.0.2.1:9192:53/udp", "udp/9192", "0.0.0.0", me),
        ("9180-9199:53/udp", "udp/9191", "::1", me),
    ] {
        let said = refused(&world, publish);
        let wanted = format!("port {port} of {of} is in use by ");
        assert!(said.contains(&wanted), "{publish}: {said}");
        assert!(said.contains(&format!("(pid {pid})")), "{publish}: {said}");
    }
    // Another protocol, another address, another family is another port.
    for publish in [
        "9090:80/udp",
        "9091:80",
        "192.0.2.1:9190:80",
        "[::1]:9190:80",
        "127.0.0.1:9191:53/udp",
        "[2001:db8:1::1]:9192:53/udp",
        "9092-9099:80",
    ] {
        works(&world, publish);
    }
    drop((four, six, all4, both));
    works(&world, "9090-9192:80");
    // The same attach again does not find itself in its way, nor what netd opened for it.
    let mut web = world
        .container("web")
        .in_zone("web")
        .publish("9090:80")
        .publish("[::1]:9093:80")
        .start();
    web.try_attach().unwrap();
    assert_eq!(web.attached["created"], false);
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "tcp/9090").who(),
        "web"
    );
    // Gone and come at once, under another name.
    web.stop();
    let next = world
        .container("next")
        .in_zone("web")
        .publish("9090:80")
        .publish("[::1]:9093:80")
        .start();
    assert_eq!(
        probe(&world.netns, address("::1"), "tcp/9093").who(),
        "next"
    );
    next.stop();
}

pub fn containers_are_named_and_nothing_is_half_made() {
    let world = World::new("publish-taken");
    world.zone("web").create();
    world.zone("dmz").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("192.0.2.1:8000-8999:8000")
        .publish("[::1]:7000:80")
        .publish("6000:53/udp")
        .start();
    for (publish, as_what) in [
        ("8500:80", "192.0.2.1:8000-8999:8000"),
        ("192.0.2.1:8999-9005:80", "192.0.2.1:8000-8999:8000"),
        ("[::1]:7000:81", "[::1]:7000:80"),
        ("7000:81", "[::1]:7000:80"),
        ("127.0.0.1:6000:53/udp", "6000:53/udp"),
        ("[::1]:5990-6010:53/udp", "6000:53/udp"),
    ] {
        let asked = world
            .container("late")
            .in_zone("dmz")
            .publish("9999:80")
            .publish(publish)
            .try_start();
        let said = asked.err().unwrap_or_else(|| panic!("{publish}")).fails(1);
        for part in ["container web", as_what, publish] {
            assert!(said.contains(part), "{part} not in {said}");
        }
        assert!(
            !world
                .nft("list map inet netd publish4")
                .stdout
                .contains("9999")
        );
    }
    for publish in [
        "127.0.0.1:8500:80",
        "[2001:db8:1::1]:8500:80",
        "6000:80",
        "127.0.0.1:7000:80",
        "9000:80",
    ] {
        let late = world
            .container("late")
            .in_zone("dmz")
            .publish(publish)
            .try_start();
        late.unwrap_or_else(|said| panic!("{publish}: {said}"))
            .stop();
    }
    // Two that one asks for itself.
    let asked = world
        .container("late")
        .in_zone("dmz")
        .publish("5000-5009:80")
        .publish("127.0.0.1:5005:80")
        .try_start();
    let said = asked.err().expect("asked twice").fails(1);
    assert!(
        said.contains("5000-5009:80") && said.contains("127.0.0.1:5005:80"),
        "{said}"
    );
    // All the while the first one is served.
    let _again = world
        .container("again")
        .in_zone("dmz")
        .publish("8500:80")
        .try_start();
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "udp/6000").who(),
        "web"
    );
    web.stop();
    let _next = world
        .container("next")
        .in_zone("dmz")
        .publish("8500:80")
        .start();
    assert_eq!(
        probe(&world.outside, address(HOST[0]), "tcp/8500").who(),
        "next"
    );
}
