//! What `explain` tells besides the verdict: translations, uplinks, hours, and where a rule belongs.

#![allow(clippy::unwrap_used, missing_docs)]

use std::net::IpAddr;
use std::sync::Arc;

use firewall::explain::{Answer, Question, StepKind, Surroundings, Way, answer, moment};
use firewall::model::{Container, DefaultPolicy, Endpoint, Publish, Traffic, World, Zone};
use firewall::policy::{PolicyFile, PolicySet};
use firewall::sets::{Action, Family};
use zone::{PortName, ZoneName};

fn publish(text: &str) -> Publish {
    let mut parts: Vec<&str> = text.rsplitn(3, ':').collect();
    parts.reverse();
    let address = (parts.len() == 3).then(|| parts[0].parse().unwrap());
    let host: u16 = parts[parts.len() - 2].parse().unwrap();
    Publish {
        address,
        proto: 6,
        first: host,
        last: host + 1,
        port: parts[parts.len() - 1].parse().unwrap(),
    }
}

fn world() -> World {
    let mut world = World {
        host: ["127.0.0.1", "::1", "192.0.2.1", "2001:db8:1::1"]
            .map(|a| a.parse().unwrap())
            .into(),
        ..World::default()
    };
    let zones = [
        ("web", DefaultPolicy::Egress),
        ("lab", DefaultPolicy::Allow),
    ];
    for (n, (name, default)) in (0..).zip(zones) {
        let name: ZoneName = name.parse().unwrap();
        let zone = Zone {
            bridge: name.bridge(),
            subnet4: Some(format!("10.89.{n}.0/24").parse().unwrap()),
            subnet6: Some(format!("fd00:0:0:{n}::/64").parse().unwrap()),
            gateway4: Some(format!("10.89.{n}.1").parse().unwrap()),
            gateway6: Some(format!("fd00:0:0:{n}::1").parse().unwrap()),
            internal: false,
            default,
            masquerade6: true,
            relays: Vec::new(),
            uplink: None,
            name: name.clone(),
        };
        world.zones.insert(name, zone);
    }
    let containers: [(&str, usize, &[&str]); 3] = [
        (
            "a",
            0,
            &["8080:80", "192.0.2.1:9090:90", "127.0.0.1:7070:70"],
        ),
        ("b", 0, &[]),
        ("c", 1, &[]),
    ];
    for (n, (name, zone, ports)) in (2..).zip(containers) {
        let name: PortName = name.parse().unwrap();
        let container = Container {
            zone: zones[zone].0.parse().unwrap(),
            ifindex: n,
            mac: name.mac(),
            addresses: vec![
                format!("10.89.{zone}.{n}").parse().unwrap(),
                format!("fd00:0:0:{zone}::{n}").parse().unwrap(),
            ],
            labels: Default::default(),
            publish: ports.iter().map(|p| publish(p)).collect(),
            name: name.clone(),
        };
        world.containers.insert(name, container);
    }
    world
}

fn policies(files: &[(&str, &str)]) -> PolicySet {
    let parse = |(name, text): &(&str, &str)| {
        let path = format!("/p/{name}.toml");
        let file = PolicyFile::parse(&path, text).unwrap();
        (path, Arc::new(file))
    };
    PolicySet(files.iter().map(parse).collect())
}

fn end(text: &str) -> Endpoint {
    match text {
        "host" => Endpoint::Host,
        "world" => Endpoint::World,
        _ => match text.parse::<IpAddr>() {
            Ok(address) => Endpoint::Address(address),
            Err(_) => Endpoint::Container(text.parse().unwrap()),
        },
    }
}

fn ask(world: &World, files: &[(&str, &str)], words: &str, way: Option<Way>) -> Answer {
    let mut words = words.split_whitespace();
    let (from, to) = (end(words.next().unwrap()), end(words.next().unwrap()));
    let port = words.next().unwrap().parse().unwrap();
    let v6 = words.next() == Some("-6");
    let question = Question {
        from,
        to,
        traffic: Traffic::Port(6, port),
        family: if v6 { Family::V6 } else { Family::V4 },
    };
    let surroundings = Surroundings {
        way,
        folder: "/p".into(),
        ..Surroundings::default()
    };
    answer(world, &policies(files), &question, &surroundings)
}

fn by(interface: &str) -> Option<Way> {
    Some(Way {
        interface: interface.into(),
        index: None,
        source: "192.0.2.1".parse().ok(),
    })
}

#[test]
fn published_ports_are_followed() {
    use StepKind::{Dnat, Hairpin, Masquerade};
    let meet = [
        ("a", "[[ingress]]\nfrom = [\"any\"]\n[[egress]]\n"),
        ("b", "[[egress]]\n"),
    ];
    let world = world();
    // (question, verdict without files, steps with files that let everybody in, where it leads)
    type Row = (&'static str, Action, &'static [StepKind], &'static str);
    let table: &[Row] = &[
        ("world host 8080", Action::Allow, &[Dnat], "10.89.0.2:80"),
        ("world host 8080 -6", Action::Allow, &[Dnat], "[fd00::2]:80"),
        (
            "world 192.0.2.1 8081",
            Action::Allow,
            &[Dnat],
            "10.89.0.2:81",
        ),
        // a gateway is an address of the host, too
        (
            "world 10.89.1.1 8080",
            Action::Allow,
            &[Dnat],
            "10.89.0.2:80",
        ),
        ("world host 9090", Action::Allow, &[Dnat], "10.89.0.2:90"),
        (
            "host 192.0.2.1 8080",
            Action::Allow,
            &[Dnat],
            "10.89.0.2:80",
        ),
        (
            "host 127.0.0.1 8080",
            Action::Allow,
            &[Dnat, Masquerade],
            "10.89.0.2:80",
        ),
        (
            "host 127.0.0.1 7070",
            Action::Allow,
            &[Dnat, Masquerade],
            "10.89.0.2:70",
        ),
        (
            "host ::1 8080 -6",
            Action::Allow,
            &[Dnat, Masquerade],
            "[fd00::2]:80",
        ),
        // other containers need rules, also where it is published
        (
            "b host 8080",
            Action::Deny,
            &[Dnat, Hairpin],
            "10.89.0.2:80",
        ),
        (
            "b 192.0.2.1 9090",
            Action::Deny,
            &[Dnat, Hairpin],
            "10.89.0.2:90",
        ),
        (
            "a host 8080",
            Action::Deny,
            &[Dnat, Hairpin],
            "10.89.0.2:80",
        ),
        (
            "a host 8080 -6",
            Action::Deny,
            &[Dnat, Hairpin],
            "[fd00::2]:80",
        ),
    ];
    for (words, verdict, steps, to) in table {
        let plain = ask(&world, &[], words, None);
        assert_eq!(plain.verdict, *verdict, "{words}: {plain:#?}");
        let open = ask(&world, &meet, words, None);
        assert_eq!(open.verdict, Action::Allow, "{words}: {open:#?}");
        let kinds: Vec<StepKind> = open.steps.iter().map(|s| s.kind).collect();
        assert_eq!(kinds, *steps, "{words}");
        assert_eq!(open.steps[0].to, *to, "{words}");
    }
    // where the kernel cannot, it is passed on in user space, over IPv4
    let asked = Question {
        from: Endpoint::Host,
        to: end("::1"),
        traffic: Traffic::Port(6, 8080),
        family: Family::V6,
    };
    let user = Surroundings {
        user_loopback: true,
        ..Surroundings::default()
    };
    let passed_on = answer(&world, &policies(&[]), &asked, &user);
    assert_eq!(passed_on.verdict, Action::Allow);
    assert_eq!(passed_on.steps[0].to, "10.89.0.2:80");
    assert_eq!(passed_on.steps[1].to, "10.89.0.1");
    // published, but not there
    for words in [
        "world 192.0.2.1 7070",
        "b host 9090",
        "world 127.0.0.1 8080",
    ] {
        let answer = ask(&world, &[], words, None);
        assert!(answer.steps.is_empty(), "{words}: {answer:#?}");
    }
    let answer = ask(&world, &[], "b host 9090", None);
    assert!(
        answer.reasons[0]
            .text
            .contains("a publishes it on 192.0.2.1:9090 only"),
        "{answer:#?}"
    );
}

#[test]
fn the_way_out_is_masqueraded() {
    let mut world = world();
    let out = ask(&world, &[], "a world 80", by("eth0"));
    let step = &out.steps[0];
    assert_eq!(
        (step.kind, step.from.as_str(), step.to.as_str()),
        (StepKind::Masquerade, "10.89.0.2", "192.0.2.1")
    );
    assert!(step.text.contains("eth0"));
    // nothing is translated where nothing passes, nor within the zones
    assert!(ask(&world, &[], "a b 80", None).steps.is_empty());
    let closed = [("a", "egress = []\n")];
    assert!(
        ask(&world, &closed, "a world 80", by("eth0"))
            .steps
            .is_empty()
    );
    for zone in world.zones.values_mut() {
        zone.masquerade6 = false;
    }
    assert!(
        ask(&world, &[], "a world 80 -6", by("eth0"))
            .steps
            .is_empty()
    );
}

#[test]
fn a_pinned_zone_meets_the_world_on_its_uplink_only() {
    let mut world = world();
    for zone in world.zones.values_mut() {
        zone.uplink = Some("eth0".parse().unwrap());
    }
    let table = [
        ("a world 80", "eth0", Action::Allow),
        ("a world 80", "eth1", Action::Deny),
        ("world host 8080", "eth0", Action::Allow),
        ("world host 8080", "eth1", Action::Deny),
        // not the world
        ("host 127.0.0.1 8080", "eth1", Action::Allow),
    ];
    for (words, interface, verdict) in table {
        let answer = ask(&world, &[], words, by(interface));
        assert_eq!(
            answer.verdict, verdict,
            "{words} by {interface}: {answer:#?}"
        );
        assert!(answer.fix.is_empty(), "no rule opens it");
    }
    let unknown = ask(&world, &[], "a world 80", None);
    assert_eq!(unknown.verdict, Action::Allow);
    assert!(unknown.reasons[1].text.contains("is not known here"));
}

#[test]
fn conditions_are_said_and_hours_are_told() {
    let mut world = world();
    let files = [(
        "a",
        "[[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/80\"]\nrate = \"50/second burst 100\"\n\
         max-connections = 7\ntime = \"Mon-Fri 08:00-18:00\"\n",
    )];
    world.clock = moment("Mon 08:00").unwrap();
    let open = ask(&world, &files, "world a 80", None);
    assert_eq!(open.verdict, Action::Allow);
    let text = &open.reasons[0].text;
    for part in [
        "up to 50/second burst 100 from each source",
        "at most 7 connections",
        "Mon-Fri 08:00-18:00 (now Mon 08:00: within)",
    ] {
        assert!(text.contains(part), "{text}");
    }
    world.clock = moment("Sat 22:00").unwrap();
    let closed = ask(&world, &files, "world a 80", None);
    assert_eq!(closed.verdict, Action::Deny);
    let last = closed.reasons.last().unwrap();
    assert_eq!((last.line, last.action), (Some(1), Action::Deny));
    assert!(
        last.text.contains("would allow") && last.text.contains("now Sat 22:00: outside"),
        "{closed:#?}"
    );
    // a deny that rests
    let denies = [(
        "a",
        "[[ingress]]\n[[ingress]]\naction = \"deny\"\ntime = \"Sun\"\n",
    )];
    let open = ask(&world, &denies, "world a 80", None);
    assert_eq!(open.verdict, Action::Allow);
    assert!(open.reasons.last().unwrap().text.contains("would deny"));
}

/// (files, question, [(file, new, text)])
#[test]
fn rules_go_where_they_belong() {
    type Row = (
        &'static [(&'static str, &'static str)],
        &'static str,
        &'static [(&'static str, bool, &'static str)],
    );
    let table: &[Row] = &[
        // both sides; what the default opened stays open
        (
            &[],
            "a b 80",
            &[
                (
                    "/p/a.toml",
                    true,
                    "[[egress]]\nto = [\"container:b\"]\nports = [\"tcp/80\"]\n\n\
                     # what the default of zone web opens, as long as no file mentions egress\n\
                     [[egress]]\nto = [\"world\"]\n",
                ),
                (
                    "/p/b.toml",
                    true,
                    "[[ingress]]\nfrom = [\"container:a\"]\nports = [\"tcp/80\"]\n",
                ),
            ],
        ),
        // into the file that is there
        (
            &[("a", "[[ingress]]\nfrom = [\"host\"]\n")],
            "198.51.100.7 a 80",
            &[(
                "/p/a.toml",
                false,
                "[[ingress]]\nfrom = [\"198.51.100.7\"]\nports = [\"tcp/80\"]\n",
            )],
        ),
        // not into one that closes the direction, nor into one that others share
        (
            &[("a", "ingress = []\n")],
            "world a 80",
            &[(
                "/p/a-2.toml",
                true,
                "applies-to = { container = \"a\" }\n\n\
                 [[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/80\"]\n",
            )],
        ),
        (
            &[(
                "all",
                "applies-to = { zone = \"web\" }\n[[ingress]]\nfrom = [\"host\"]\n",
            )],
            "world b 80",
            &[(
                "/p/b.toml",
                true,
                "[[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/80\"]\n",
            )],
        ),
        // a deny is not outvoted
        (
            &[(
                "a",
                "[[ingress]]\n[[ingress]]\naction = \"deny\"\nfrom = [\"world\"]\n",
            )],
            "world a 80",
            &[],
        ),
        // the container itself: one file for both sides
        (
            &[(
                "b",
                "[[ingress]]\nfrom = [\"host\"]\n[[egress]]\nto = [\"host\"]\n",
            )],
            "b b 80",
            &[(
                "/p/b.toml",
                false,
                "[[egress]]\nto = [\"container:b\"]\nports = [\"tcp/80\"]\n\n\
                 [[ingress]]\nfrom = [\"container:b\"]\nports = [\"tcp/80\"]\n",
            )],
        ),
        // published ports stay as open as they were, and the rule names the container's port
        (
            &[("b", "[[egress]]\n")],
            "b host 8080",
            &[(
                "/p/a.toml",
                true,
                "[[ingress]]\nfrom = [\"container:b\"]\nports = [\"tcp/80\"]\n\n\
                 # its published ports, which are open as long as no file mentions ingress\n\
                 [[ingress]]\nfrom = [\"world\", \"host\"]\nports = [\"tcp/70-71\", \"tcp/80-81\", \"tcp/90-91\"]\n",
            )],
        ),
    ];
    for (files, words, wanted) in table {
        let answer = ask(&world(), files, words, None);
        let got: Vec<_> = answer
            .fix
            .iter()
            .map(|fix| (fix.file.as_str(), fix.create, fix.text.as_str()))
            .collect();
        assert_eq!(got, *wanted, "{words}");
        assert_eq!(answer.verdict, Action::Deny, "{words}");
    }
}
