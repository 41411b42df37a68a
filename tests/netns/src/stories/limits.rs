//! Rules that count: rates, connections at one time, hours.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::world::Verdict::{Allow, Deny};
use crate::world::{Container, World};

/// How many of so many connections get in, one after the other.
fn get_in(from: &Container, to: &Container, tries: usize) -> usize {
    let reached = |_: &usize| from.tcp(to.v4(), 80).passed();
    (0..tries).filter(reached).count()
}

pub fn a_rate_is_each_sources_and_outlives_edits_and_daemons() {
    let world = World::new("rate");
    world.zone("web").default("allow").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    let three = world.container("three").in_zone("web").start();
    world.policy(
        "two",
        "[[ingress]]\nfrom = [\"zone:web\"]\nports = [\"tcp/80\"]\nrate = \"3/hour\"\n",
    );
    assert_eq!(get_in(&one, &two, 5), 3);
    assert_eq!(get_in(&three, &two, 5), 3, "each source has its own");
    world.policy(
        "three",
        "[[egress]]\nto = [\"any\"]\nrate = \"50/second\"\n",
    );
    assert_eq!(
        get_in(&one, &two, 1),
        0,
        "an edit elsewhere filled the bucket"
    );
    world.kill_netd();
    assert_eq!(get_in(&one, &two, 1), 0, "a dead daemon filled the bucket");
    world.start_netd();
    assert_eq!(get_in(&one, &two, 1), 0, "a new daemon filled the bucket");
    world.policy("two", "[[ingress]]\nfrom = [\"zone:web\"]\n");
    assert_eq!(get_in(&one, &two, 3), 3);
}

pub fn connections_are_counted_while_they_last() {
    let world = World::new("max-connections");
    world.zone("web").default("allow").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    world.policy(
        "two",
        "[[ingress]]\nfrom = [\"zone:web\"]\nmax-connections = 2\n",
    );
    let listener = two
        .netns
        .enter(|| TcpListener::bind(("0.0.0.0", 1000)))
        .unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut read, mut write) = (&stream, &stream);
                let _ = std::io::copy(&mut read, &mut write);
            });
        }
    });
    let open = || {
        let to = (two.v4(), 1000).into();
        let patience = Duration::from_millis(400);
        let stream = one
            .netns
            .enter(|| TcpStream::connect_timeout(&to, patience))
            .ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        Some(stream)
    };
    let alive = |stream: &mut TcpStream| {
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
    };
    let mut first = open().unwrap();
    let mut second = open().unwrap();
    assert!(open().is_none(), "a third");
    world.kill_netd();
    world.start_netd();
    assert!(alive(&mut first) && alive(&mut second));
    assert!(open().is_none(), "a new daemon forgot those that are there");
    drop(second);
    let mut third = None;
    for _ in 0..100 {
        third = open();
        if third.is_some() {
            break;
        }
        // the kernel counts anew once a tick at most, and those it refused meanwhile
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(
        alive(&mut third.unwrap()),
        "the place of one that ended stays taken"
    );
}

pub fn hours_are_those_of_the_host() {
    let world = World::new("hours");
    world.zone("web").default("allow").create();
    let _one = world.container("one").in_zone("web").start();
    let _two = world.container("two").in_zone("web").start();
    // the story may run at midnight
    let day = |from_now: i32| {
        let day = world.sh(&format!("LC_ALL=C date -d '{from_now} day' +%a"));
        day.trim().to_owned()
    };
    let now = format!("{}-{}", day(-1), day(1));
    let not_now = format!("{}-{}", day(2), day(4));
    for (time, verdict) in [(&now, Allow), (&not_now, Deny)] {
        world.policy("two", &format!("[[ingress]]\ntime = \"{time}\"\n"));
        world.verdicts(&[(verdict, "one", "two", "tcp/80")]);
        world.kill_netd();
        world.start_netd();
        world.verdicts(&[(verdict, "one", "two", "tcp/80")]);
    }
    for (time, verdict) in [(&now, Deny), (&not_now, Allow)] {
        let text = format!(
            "[[ingress]]\n[[ingress]]\naction = \"deny\"\nports = [\"tcp/80\"]\ntime = \"{time}\"\n"
        );
        world.policy("two", &text);
        world.verdicts(&[
            (verdict, "one", "two", "tcp/80"),
            (Allow, "one", "two", "tcp/81"),
        ]);
    }
    let wrong = "[[ingress]]\ntime = \"Mon-Fri 8-18\"\n";
    world.write_policy("two", wrong);
    let said = world.netd("reload").fails(1);
    assert!(said.contains("two.toml:2:8"), "{said}");
}
