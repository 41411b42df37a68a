//! What policy files say is what packets get: peers, ports, denies, several files, live edits.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::net::steady::Steady;
use crate::world::Verdict::{Allow, Deny};
use crate::world::{Container, World};

pub fn labels_zones_and_names_as_peers() {
    let world = World::new("peers");
    world.zone("web").default("deny").create();
    world.zone("dmz").default("deny").create();
    let _front = world
        .container("front")
        .in_zone("web")
        .label("tier", "front")
        .start();
    let _back = world
        .container("back")
        .in_zone("web")
        .label("tier", "back")
        .label("os", "any")
        .start();
    let _proxy = world.container("proxy").in_zone("dmz").start();

    world.write_policy(
        "fronts",
        "applies-to = { labels = { tier = \"front\" } }\n\
         [[egress]]\nto = [\"label:tier=back\"]\nports = [\"tcp/80\"]\n\
         [[ingress]]\nfrom = [\"zone:dmz\"]\nports = [\"tcp/80-81\"]\n",
    );
    world.write_policy(
        "backs",
        "applies-to = { labels = { tier = \"back\" }, zone = \"web\" }\n\
         [[ingress]]\nfrom = [\"label:tier=front\"]\nports = [\"tcp/*\"]\n",
    );
    world.policy(
        "proxy",
        "[[egress]]\nto = [\"container:front\", \"container:front2\", \"zone:web\"]\n",
    );
    let rows = [
        (Allow, "front", "back", "tcp/80"),
        (Deny, "front", "back", "tcp/81"),
        (Deny, "front", "back", "udp/53"),
        (Deny, "back", "front", "tcp/80"),
        (Allow, "proxy", "front", "tcp/80"),
        (Allow, "proxy", "front", "tcp/81"),
        (Deny, "proxy", "front", "udp/53"),
        (Deny, "proxy", "back", "tcp/80"),
    ];
    world.verdicts(&rows);

    // One that comes later is meant too, by its label and by a name that nobody had.
    let late = world
        .container("front2")
        .in_zone("web")
        .label("tier", "front")
        .start();
    world.verdicts(&[
        (Allow, "front2", "back", "tcp/80"),
        (Allow, "proxy", "front2", "tcp/80"),
    ]);
    late.stop();
    // One of the same zone that has neither is nobody.
    let other = world.container("other").in_zone("web").start();
    world.verdicts(&[
        (Deny, "other", "back", "tcp/80"),
        (Deny, "proxy", "other", "udp/53"),
    ]);
    other.stop();
    world.verdicts(&rows);
}

pub fn addresses_and_ranges_as_peers() {
    let world = World::new("cidr");
    world.zone("web").default("deny").create();
    let _web = world
        .container("web")
        .in_zone("web")
        .serves(&["tcp/8000", "tcp/8050", "tcp/8100"])
        .start();
    world.policy(
        "web",
        "[[egress]]\nto = [\"198.51.100.0/24\", \"2001:db8:7::/48\"]\nports = [\"tcp/80\"]\n\
         [[ingress]]\nfrom = [\"192.0.2.2\", \"2001:db8:1::/64\"]\nports = [\"tcp/8000-8099\", \"icmp/echo-request\"]\n",
    );
    world.verdicts(&[
        (Allow, "web", "198.51.100.7", "tcp/80"),
        (Allow, "web", "2001:db8:7::7", "tcp/80"),
        (Deny, "web", "198.51.100.7", "udp/123"),
        (Deny, "web", "192.0.2.2", "tcp/80"),
        (Deny, "web", "2001:db8:1::2", "tcp/80"),
    ]);
    // The world asks from 192.0.2.2 and 2001:db8:1::2; explain is asked with these.
    for (name, from) in [("192.0.2.2", "-4"), ("2001:db8:1::2", "-6")] {
        for (traffic, code) in [
            ("tcp/8000", 0),
            ("tcp/8050", 0),
            ("tcp/8100", 10),
            ("udp/53", 10),
        ] {
            let explained = world.netd(&format!("explain {name} web {traffic} {from}"));
            assert_eq!(explained.code, code, "{explained}");
            for to in world.place_addresses("web") {
                let reach = crate::net::probe::probe(&world.outside, to, traffic);
                assert_eq!(reach.passed(), code == 0, "{to} {traffic}: {reach:?}");
            }
        }
    }
}

pub fn a_deny_always_wins() {
    let world = World::new("deny");
    world.zone("web").default("allow").create();
    let _one = world.container("one").in_zone("web").start();
    let _two = world.container("two").in_zone("web").start();
    world.verdicts(&[
        (Allow, "one", "elsewhere", "tcp/80"),
        (Allow, "one", "two", "tcp/80"),
    ]);
    world.policy(
        "one",
        "[[egress]]\nto = [\"any\"]\n\
         [[egress]]\naction = \"deny\"\nto = [\"198.51.100.7\", \"2001:db8:7::7\"]\n\
         [[egress]]\naction = \"deny\"\nto = [\"label:none=such\", \"container:two\"]\nports = [\"tcp/81\"]\n",
    );
    let rows = [
        (Allow, "one", "world", "tcp/80"),
        (Deny, "one", "elsewhere", "tcp/80"),
        (Deny, "one", "elsewhere", "icmp/echo-request"),
        (Allow, "one", "two", "tcp/80"),
        (Deny, "one", "two", "tcp/81"),
    ];
    world.verdicts(&rows);
    // Another file that allows it changes nothing: files add up, and a deny wins over all of them.
    world.policy("more", "applies-to = { container = \"one\" }\n[[egress]]\nto = [\"198.51.100.7\", \"2001:db8:7::7\"]\n");
    world.verdicts(&rows);
    // What means nothing it refuses, rather than put a part of the file in force.
    world.write_policy(
        "trial",
        "applies-to = { container = \"one\" }\n[[egress]]\naction = \"deny\"\nto = [\"dns:example.org\"]\n",
    );
    let said = world.netd("reload").fails(1);
    assert!(said.contains("trial.toml:4:"), "{said}");
    world.verdicts(&rows);
    world.no_policy("trial");
    world.verdicts(&[(Allow, "two", "one", "tcp/80")]);
    world.no_policy("one");
    world.verdicts(&[
        (Allow, "one", "elsewhere", "tcp/80"),
        (Deny, "one", "two", "tcp/81"),
    ]);
}

pub fn files_add_up_and_an_empty_direction_is_closed() {
    let world = World::new("files");
    world.zone("web").default("allow").create();
    let _one = world.container("one").in_zone("web").start();
    let _two = world.container("two").in_zone("web").start();
    world.policy("one", "egress = []\n");
    world.verdicts(&[
        (Deny, "one", "two", "tcp/80"),
        (Deny, "one", "world", "tcp/80"),
        // the other direction follows the zone's default still
        (Allow, "two", "one", "tcp/80"),
    ]);
    world.policy(
        "all",
        "applies-to = { zone = \"web\" }\n[[egress]]\nto = [\"zone:web\"]\nports = [\"tcp/80\"]\n",
    );
    world.verdicts(&[
        (Allow, "one", "two", "tcp/80"),
        (Deny, "one", "two", "tcp/81"),
        (Allow, "two", "one", "tcp/80"),
        (Deny, "two", "world", "tcp/80"),
    ]);
}

/// A TCP connection of which the story holds both ends.
fn connection(from: &Container, to: &Container, port: u16) -> (TcpStream, TcpStream) {
    let listener = to
        .netns
        .enter(|| TcpListener::bind(("0.0.0.0", port)))
        .unwrap();
    let client = from
        .netns
        .enter(|| TcpStream::connect((to.v4(), port)))
        .unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream
            .set_read_timeout(Some(Duration::from_millis(400)))
            .unwrap();
    }
    (client, server)
}

/// Whether a byte written at one end comes out at the other.
fn carries(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    let mut byte = [0];
    from.write_all(b"x").is_ok() && to.read(&mut byte).is_ok_and(|read| read == 1)
}

pub fn tightening_cuts_live_connections_both_ways() {
    let world = World::new("live");
    world.zone("web").default("deny").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    let open = "[[ingress]]\nfrom = [\"container:one\"]\n";
    world.write_policy("one", "[[egress]]\nto = [\"container:two\"]\n");
    world.policy("two", open);
    let (mut asks, mut asked) = connection(&one, &two, 1000);
    let (mut idle, mut talks) = connection(&one, &two, 1001);
    for _ in 0..3 {
        assert!(carries(&mut asks, &mut asked) && carries(&mut asked, &mut asks));
        assert!(carries(&mut talks, &mut idle));
    }
    let flow = Steady::start(&one.netns, two.v4().into(), 53);
    // An edit that does not concern them lets them live.
    world.policy(
        "two",
        "[[ingress]]\nfrom = [\"container:one\"]\n[[ingress]]\nfrom = [\"host\"]\n",
    );
    assert!(carries(&mut asks, &mut asked) && carries(&mut talks, &mut idle));

    let edited = std::time::Instant::now();
    world.policy("two", "ingress = []\n");
    let in_force = std::time::Instant::now();
    eprintln!(
        "measured: an edit is in force {:?} after it was written (command included)",
        in_force - edited
    );
    assert!(!carries(&mut asks, &mut asked), "client to server");
    assert!(!carries(&mut talks, &mut idle), "server to client");
    assert!(
        flow.longest_gap(in_force) > Duration::from_millis(300),
        "a datagram flow goes on"
    );

    world.policy("two", open);
    flow.wait_for_answer(std::time::Instant::now(), Duration::from_secs(2));
    let (mut asks, mut asked) = connection(&one, &two, 1002);
    assert!(carries(&mut asks, &mut asked) && carries(&mut asked, &mut asks));
    // The asking side's file cuts just the same.
    world.policy("one", "egress = []\n");
    assert!(!carries(&mut asked, &mut asks), "server to client");
    assert!(!carries(&mut asks, &mut asked), "client to server");
}

pub fn a_label_that_is_named_later_cuts_nobody_and_lets_nobody_through() {
    let world = World::new("named-later");
    world.zone("web").default("deny").create();
    let start = |name: &str, tier: &str| {
        let container = world.container(name).in_zone("web").label("tier", tier);
        container.label("name", name).start()
    };
    let (one, evil, two) = (start("one", "a"), start("evil", "b"), start("two", "c"));
    for name in ["one", "evil"] {
        world.write_policy(name, "[[egress]]\nto = [\"any\"]\n");
    }
    world.policy(
        "two",
        "[[ingress]]\nfrom = [\"zone:web\"]\n[[ingress]]\naction = \"deny\"\nfrom = [\"label:tier=b\"]\n",
    );
    world.verdicts(&[
        (Allow, "one", "two", "udp/53"),
        (Deny, "evil", "two", "udp/53"),
    ]);
    let flow = Steady::start(&one.netns, two.v4().into(), 53);
    let denied = Steady::begin(&evil.netns, two.v4().into(), 53);
    flow.wait_for_answer(std::time::Instant::now(), Duration::from_secs(2));
    // Each edit names labels that nobody named before, or the last one goes: all three get other numbers.
    for turn in 0..20 {
        world.policy(
            "other",
            "applies-to = { container = \"two\" }\n[[ingress]]\nfrom = [\"label:name=one\", \"label:name=evil\"]\nports = [\"tcp/80\"]\n",
        );
        // that the other is denied is the flow's to tell, which is over the rate of refusals
        world.verdicts(&[(Allow, "one", "two", "tcp/80")]);
        world.no_policy("other");
        if turn % 5 == 0 {
            // time for old numbers to go
            std::thread::sleep(Duration::from_secs(6));
        }
    }
    flow.wait_for_answer(std::time::Instant::now(), Duration::from_secs(2));
    let (sent, lost) = denied.finish();
    assert!(sent > 100 && lost == sent, "{lost} of {sent} denied lost");
    let (sent, lost) = flow.finish();
    assert!(sent > 100 && lost == 0, "{lost} of {sent} allowed lost");
}
