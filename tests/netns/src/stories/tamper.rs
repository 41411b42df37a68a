//! Somebody takes the rules away while flows run: not one denied packet passes, and with the daemon alive
//! the allowed flow is back at once.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::net::frame::{self, IPV4, IPV6};
use crate::net::netns::Netns;
use crate::net::steady::{Steady, Storm};
use crate::net::trap::Trap;
use crate::world::{Container, World};

/// The port that nobody may reach; every denied packet goes there.
const CLOSED: u16 = 666;
/// What the design asks for; a loaded machine gets more, and the figure is printed.
const AIM: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(3);

/// Two zones: `one` may ask `two` on udp/53, and nobody may do anything else.
struct Scene {
    world: World,
    one: Container,
    two: Container,
    foreign: Container,
}

const ONE: &str = "[[egress]]\nto = [\"container:two\"]\nports = [\"udp/53\"]\n";
const TWO: &str = "[[ingress]]\nfrom = [\"container:one\"]\nports = [\"udp/53\"]\n";

fn scene(title: &str) -> Scene {
    let world = World::new(title);
    world.zone("web").default("deny").create();
    world.zone("dmz").default("deny").create();
    world.write_policy("one", ONE);
    world.policy("two", TWO);
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    let foreign = world.container("foreign").in_zone("dmz").start();
    Scene {
        world,
        one,
        two,
        foreign,
    }
}

fn is_closed(frame: &[u8]) -> bool {
    frame::destination(frame).is_some_and(|(_, port)| port == CLOSED)
}

impl Scene {
    /// Everything that must not arrive: routed from a neighbour, another zone, the host and the world, and
    /// raw frames past the host, honest and with forged sources.
    fn storm(&self) -> Storm {
        let (one, two) = (&self.one, &self.two);
        let mut storm = Storm::new();
        for to in two.addresses() {
            for from in [
                &one.netns,
                &self.foreign.netns,
                &self.world.netns,
                &self.world.outside,
            ] {
                storm = storm.routed(from, to, CLOSED);
            }
        }
        let v4 = frame::udp4((one.v4(), CLOSED), (two.v4(), CLOSED), b"straight");
        let v6 = frame::udp6((one.v6(), CLOSED), (two.v6(), CLOSED), b"straight");
        let forged = frame::udp4((self.foreign.v4(), CLOSED), (two.v4(), CLOSED), b"forged");
        storm.frames(
            &one.netns,
            "host0",
            vec![
                frame::ethernet(two.mac(), one.mac(), IPV4, &v4),
                frame::ethernet(two.mac(), one.mac(), IPV6, &v6),
                frame::ethernet(two.mac(), two.mac(), IPV4, &forged),
                frame::ethernet(frame::BROADCAST, one.mac(), IPV4, &v4),
            ],
        )
    }

    fn trap(&self) -> Trap {
        Trap::set(&self.two.netns, "host0", is_closed)
    }

    fn flow(&self) -> Steady {
        Steady::start(&self.one.netns, self.two.v4().into(), 53)
    }

    /// The control at the end: the same storm arrives once policy lets it.
    fn control(&self) {
        let trap = self.trap();
        self.world
            .write_policy("one", "[[egress]]\nto = [\"any\"]\n");
        self.world.policy("two", "[[ingress]]\nfrom = [\"any\"]\n");
        trap.has_caught("the same storm, allowed");
    }
}

/// What is done to the rules and links, each as a shell script on the host.
fn tamperings(world: &World) -> Vec<String> {
    let mut all: Vec<String> = [
        "nft flush ruleset",
        "nft delete table inet netd",
        "nft delete table bridge netd",
        "nft flush table inet netd; nft flush table bridge netd",
        "ip link delete vz-web",
        "ip link set vz-web down",
        "bridge link set dev vb-one isolated off; bridge link set dev vb-two isolated off",
        "bridge link set dev vb-one locked off learning on flood on; bridge link set dev vb-two locked off learning on flood on isolated off",
        "bridge fdb del $(bridge fdb show dev vb-two | awk '/static|permanent/ {print $1; exit}') dev vb-two master",
        "tc qdisc del dev vz-web clsact",
        "ip link set vb-two nomaster",
        "ip addr flush dev vz-web",
        "conntrack -F",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    all.push(emptied_sets(world));
    all
}

/// Every set emptied, one after the other.
fn emptied_sets(world: &World) -> String {
    let list = world.nft("-j -t list ruleset").json();
    let mut script = String::from("code=0; ");
    for thing in list["nftables"].as_array().into_iter().flatten() {
        for kind in ["set", "map"] {
            let Some(set) = thing.get(kind).filter(|set| set["table"] == "netd") else {
                continue;
            };
            let text = |key: &str| set[key].as_str().unwrap_or_default().to_owned();
            script += &format!(
                "nft flush {kind} {} netd {} || code=1; ",
                text("family"),
                text("name")
            );
        }
    }
    script + "exit $code # every set emptied"
}

/// How a tampering is told.
fn told(script: &str) -> &str {
    script.rsplit("# ").next().unwrap_or(script)
}

pub fn with_the_daemon_alive() {
    let scene = scene("tamper-alive");
    let (trap, flow, storm) = (scene.trap(), scene.flow(), scene.storm());
    let (mut worst, mut stuck) = (Duration::ZERO, Vec::new());
    for script in tamperings(&scene.world) {
        let what = told(&script);
        let tampered = Instant::now();
        let ran = scene.world.netns.run(&script);
        // It must come back and stay, not only let one packet through.
        std::thread::sleep(Duration::from_millis(200));
        let back = flow.answer_within(Instant::now(), PATIENCE);
        let gap = flow.longest_gap(tampered);
        let word = if gap < AIM { "well" } else { "SLOW" };
        eprintln!(
            "measured: {word} after `{what}`{}: longest gap {gap:?}",
            refused(ran.code)
        );
        trap.is_empty(&format!("after `{what}`"));
        if back.is_none() {
            // Every tampering is to be seen, so this one is told at the end.
            stuck.push(what.to_owned());
            scene.world.restart_netd();
            flow.wait_for_answer(Instant::now(), PATIENCE);
        }
        worst = worst.max(gap);
    }
    eprintln!(
        "measured: longest gap of all {worst:?}, {} rounds of denied packets",
        storm.rounds()
    );
    assert!(
        stuck.is_empty(),
        "the allowed flow did not come back within {PATIENCE:?} after {stuck:#?}"
    );
    assert_eq!(scene.two.status()["state"], "attached");
    scene.control();
    drop((flow, storm));
}

fn refused(code: i32) -> &'static str {
    if code == 0 {
        ""
    } else {
        " (the kernel refused it)"
    }
}

pub fn with_the_daemon_dead() {
    let scene = scene("tamper-dead");
    let trap = scene.trap();
    let storm = scene.storm();
    for script in tamperings(&scene.world) {
        let what = told(&script);
        scene.world.kill_netd();
        let ran = scene.world.netns.run(&script);
        std::thread::sleep(Duration::from_millis(100));
        trap.is_empty(&format!("daemon dead, after `{what}`{}", refused(ran.code)));
        scene.world.start_netd();
        let flow = scene.flow();
        flow.wait_for_answer(Instant::now(), PATIENCE);
        trap.is_empty(&format!("daemon back, after `{what}`"));
    }
    scene.control();
    drop(storm);
}

pub fn with_every_process_of_netd_dead() {
    let scene = scene("tamper-all-dead");
    let trap = scene.trap();
    let storm = scene.storm();
    let emptied = emptied_sets(&scene.world);
    for script in [
        "true",
        &emptied,
        "nft flush ruleset",
        "nft delete table inet netd",
        "nft delete table bridge netd",
        "bridge link set dev vb-one isolated off; bridge link set dev vb-two isolated off",
        "nft flush ruleset; ip link delete vz-web",
    ] {
        scene.world.kill_netd();
        scene.world.kill_keepers();
        let ran = scene.world.netns.run(script);
        std::thread::sleep(Duration::from_millis(200));
        let what = told(script);
        trap.is_empty(&format!("all dead, after `{what}`{}", refused(ran.code)));
        scene.world.start_netd();
        let flow = scene.flow();
        flow.wait_for_answer(Instant::now(), PATIENCE);
        trap.is_empty(&format!("daemon back, after `{what}`"));
    }
    scene.control();
    drop(storm);
}

pub fn one_element_after_the_other() {
    let scene = scene("tamper-elements");
    let (trap, flow, storm) = (scene.trap(), scene.flow(), scene.storm());
    let mut deleted = 0;
    let mut tried = 0;
    for (family, set, element) in listed_elements(&scene.world.netns) {
        tried += 1;
        let ran = scene.world.netns.run(&format!(
            "nft delete element {family} netd {set} '{{ {element} }}'"
        ));
        deleted += usize::from(ran.code == 0);
        flow.wait_for_answer(Instant::now(), PATIENCE);
        trap.is_empty(&format!("after {element} was deleted from {set}"));
    }
    eprintln!(
        "measured: {deleted} of {tried} elements could be deleted; the others are protected by the kernel"
    );
    assert!(tried > 5, "no elements to delete: {tried}");
    scene.control();
    drop(storm);
}

/// Every element that `nft` can name: family, set, element.
fn listed_elements(netns: &Netns) -> Vec<(String, String, String)> {
    let list: Value = serde_json::from_str(&netns.sh("nft -j list ruleset")).unwrap();
    let mut all = Vec::new();
    for set in list["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|thing| thing.get("set").or(thing.get("map")))
    {
        let (Some(family), Some(name)) = (set["family"].as_str(), set["name"].as_str()) else {
            continue;
        };
        for element in set["elem"].as_array().into_iter().flatten() {
            // A map's element is a pair; its key is enough.
            let key = element.as_array().map_or(element, |pair| &pair[0]);
            let key = key.get("elem").map_or(key, |elem| &elem["val"]);
            if let Some(text) = spelled(key) {
                all.push((family.to_owned(), name.to_owned(), text));
            }
        }
    }
    all
}

/// An element of `nft`'s JSON as its text syntax has it.
fn spelled(element: &Value) -> Option<String> {
    match element {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(object) => match object.iter().next()? {
            (key, Value::Array(parts)) if key == "concat" => {
                let parts: Option<Vec<String>> = parts.iter().map(spelled).collect();
                Some(parts?.join(" . "))
            }
            (key, Value::Array(ends)) if key == "range" => Some(format!(
                "{}-{}",
                spelled(ends.first()?)?,
                spelled(ends.get(1)?)?
            )),
            (key, prefix) if key == "prefix" => {
                Some(format!("{}/{}", spelled(&prefix["addr"])?, prefix["len"]))
            }
            _ => None,
        },
        _ => None,
    }
}
