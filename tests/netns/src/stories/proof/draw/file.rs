//! Policy files of chance, about the containers, zones and labels of a plan and some that nobody has.

use std::collections::BTreeMap;

use super::Dice;
use super::places::{self, PORTS};
use super::plan::{File, Plan, Rule};

/// Networks of the world, the host, and what is neither.
const NETS: [&str; 20] = [
    "0.0.0.0/0",
    "::/0",
    "198.51.100.0/24",
    "2001:db8:7::/64",
    "198.51.100.7",
    "2001:db8:7::7",
    "198.51.100.6/31",
    "2001:db8:7::6/127",
    "192.0.2.0/24",
    "2001:db8:1::/64",
    places::HOST[0],
    places::HOST[1],
    places::METADATA,
    "10.89.0.0/16",
    "fd00::/16",
    "2001:db8:a::/48",
    "127.0.0.0/8",
    "::1",
    "224.0.0.0/4",
    "fe80::/10",
];

/// Limits that nothing here reaches: a rule that counts has another way through the kernel.
const LIMITS: [&str; 3] = [
    "rate = \"100000/second burst 100000\"\n",
    "max-connections = 60000\n",
    "log = true\n",
];

/// Days of the week as files name them.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Hours around today, or on other days; midnight changes nothing.
fn hours(dice: &mut Dice, today: usize) -> String {
    let day = |after: usize| DAYS[(today + after) % 7];
    match dice.below(4) {
        0 => "Mon-Sun".to_owned(),
        1 => format!("{}-{}", day(6), day(1)),
        2 => day(3).to_owned(),
        _ => format!("{} 08:00-18:00, {} 22:00-06:00", day(3), day(4)),
    }
}

/// Labels of chance.
pub fn labels(dice: &mut Dice) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, values) in [("tier", ["a", "b"]), ("app", ["x", "y"])] {
        if dice.chance(60) {
            labels.insert(key.to_owned(), (*dice.pick(&values)).to_owned());
        }
    }
    labels
}

/// A file; `number` makes its name.
pub fn file(dice: &mut Dice, plan: &Plan, number: usize) -> File {
    let (name, applies) = applies(dice, plan, number);
    File {
        name,
        applies,
        audit: dice.chance(12),
        ingress: section(dice, plan),
        egress: section(dice, plan),
    }
}

/// Two files, of those who ask and of those who are asked, that were written for each other: by luck alone
/// both sides seldom agree, and two zones never meet.
pub fn meeting(dice: &mut Dice, plan: &Plan, number: usize) -> [File; 2] {
    let mut side = || {
        let zone = dice.pick(&plan.zones).index;
        let label = *dice.pick(&["a", "b"]);
        match dice.below(3) {
            0 => (
                format!("labels = {{ tier = {label:?} }}"),
                format!("label:tier={label}"),
            ),
            _ => (format!("zone = \"z{zone}\""), format!("zone:z{zone}")),
        }
    };
    let (client, server) = (side(), side());
    let mut rule = |peer: &str| Rule {
        deny: false,
        peers: (!dice.chance(20)).then(|| vec![peer.to_owned()]),
        ports: dice
            .chance(60)
            .then(|| vec![(*dice.pick(&PORTS[..6])).to_owned(), "icmp/*".to_owned()]),
        time: None,
        limit: None,
    };
    let (egress, ingress) = (rule(&server.1), rule(&client.1));
    let file = |name: &str, applies: String| File {
        name: format!("{name}{number}"),
        applies: vec![applies],
        audit: false,
        ingress: None,
        egress: None,
    };
    [
        File {
            egress: Some(vec![egress]),
            ..file("asks", client.0)
        },
        File {
            ingress: Some(vec![ingress]),
            ..file("asked", server.0)
        },
    ]
}

fn applies(dice: &mut Dice, plan: &Plan, number: usize) -> (String, Vec<String>) {
    let name = format!("f{number}");
    let container = some_container(dice, plan);
    let zone = format!("zone = \"z{}\"", dice.pick(&plan.zones).index);
    let (key, value) = dice.pick(&[("tier", "a"), ("tier", "b"), ("app", "x"), ("app", "y")]);
    let label = format!("labels = {{ {key} = {value:?} }}");
    match dice.below(8) {
        0 => (container, Vec::new()),
        1 => (name, vec![format!("container = {container:?}")]),
        2 | 3 => (name, vec![label]),
        4 => (name, vec![zone, label]),
        5 => (
            name,
            vec!["labels = { tier = \"a\", app = \"x\" }".to_owned()],
        ),
        _ => (name, vec![zone]),
    }
}

fn some_container(dice: &mut Dice, plan: &Plan) -> String {
    // One that is there, or that may come by an event.
    format!("c{}", dice.below(plan.containers.len() + 1))
}

fn section(dice: &mut Dice, plan: &Plan) -> Option<Vec<Rule>> {
    match dice.below(10) {
        0..3 => None,
        3 => Some(Vec::new()),
        _ => Some((0..dice.between(1, 4)).map(|_| rule(dice, plan)).collect()),
    }
}

fn rule(dice: &mut Dice, plan: &Plan) -> Rule {
    let deny = dice.chance(25);
    // A deny of everybody leaves little to find out.
    let peers = (!dice.chance(if deny { 3 } else { 20 }))
        .then(|| (0..dice.between(1, 3)).map(|_| peer(dice, plan)).collect());
    let ports = dice.chance(if deny { 90 } else { 65 }).then(|| {
        (0..dice.between(1, 3))
            .map(|_| (*dice.pick(&PORTS)).to_owned())
            .collect()
    });
    let limit = (!deny && dice.chance(15)).then(|| *dice.pick(&LIMITS));
    Rule {
        deny,
        peers,
        ports,
        time: dice.chance(15).then(|| hours(dice, plan.today)),
        limit,
    }
}

/// The peers of a group; seldom none, and those before it may be among them.
pub fn group(dice: &mut Dice, plan: &Plan) -> Vec<String> {
    let count = if dice.chance(8) {
        0
    } else {
        dice.between(1, 3)
    };
    (0..count).map(|_| peer(dice, plan)).collect()
}

fn peer(dice: &mut Dice, plan: &Plan) -> String {
    if !plan.groups.is_empty() && dice.chance(10) {
        return format!("@g{}", dice.below(plan.groups.len()));
    }
    match dice.below(16) {
        0..3 => format!("container:{}", some_container(dice, plan)),
        3..6 => format!("zone:z{}", dice.below(plan.zones.len() + 1)),
        6 | 7 => format!("label:tier={}", dice.pick(&["a", "b"])),
        8 => format!("label:app={}", dice.pick(&["x", "y"])),
        9 => "any".to_owned(),
        10 => "host".to_owned(),
        11 => "world".to_owned(),
        12 | 13 => (*dice.pick(&NETS)).to_owned(),
        14 => address(dice, plan),
        _ => network(dice, plan),
    }
}

/// An address of a container, or of a gateway.
fn address(dice: &mut Dice, plan: &Plan) -> String {
    let zone = dice.pick(&plan.zones);
    let inside = plan.containers.iter().filter(|c| c.zone == zone.index);
    let mut addresses = zone.gateways();
    let parsed = |text: &String| text.parse().ok();
    for container in inside {
        let own = container.addresses(zone);
        let more = own.iter().filter_map(parsed).filter(|_| zone.wide);
        addresses.extend(more.filter_map(places::another).map(|ip| ip.to_string()));
        addresses.extend(own);
    }
    dice.pick(&addresses).clone()
}

/// A network of some containers' addresses, or of a zone.
fn network(dice: &mut Dice, plan: &Plan) -> String {
    let zone = dice.pick(&plan.zones);
    let v4 = format!("10.89.{}", zone.index);
    let mut networks = vec![
        zone.subnet4(),
        format!("{v4}.2/31"),
        format!("{v4}.4/30"),
        format!("{v4}.0/30"),
    ];
    if let (Some(prefix), false) = (zone.prefix6(), zone.wide) {
        networks.extend(["/64", "2/127", "4/126", "/126"].map(|end| format!("{prefix}{end}")));
    }
    if let (Some(first), true) = (zone.address6(2), zone.wide) {
        // of one container, of half of what it has, of some of them, of all
        let start = first.trim_end_matches('1');
        networks.extend(["/64", "/65", "/127", "/63"].map(|end| format!("{start}{end}")));
        networks.extend(zone.subnet6());
    }
    dice.pick(&networks).clone()
}
