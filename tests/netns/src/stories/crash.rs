//! `kill -9` of the daemon again and again while two hundred containers come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::net::frame;
use crate::net::netns::Netns;
use crate::net::steady::Storm;
use crate::net::trap::Trap;
use crate::world::World;

/// How many containers come and go.
const CONTAINERS: usize = 200;
/// How many commands run at one time.
const AT_ONCE: usize = 8;

/// How often the daemon is killed at most, so that a slow machine comes to an end.
const KILLS: usize = 60;

/// A small generator (xorshift64): the seed is printed, so that a failure can be told from luck.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What netd told about a container, and whether it is to be there in the end.
#[derive(Default)]
struct Told {
    addresses: BTreeSet<String>,
    stays: bool,
}

pub fn killed_at_random_moments() {
    let seed = std::env::var("NETD_SEED")
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let seed = seed.unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .subsec_nanos()
            .into()
    });
    eprintln!("measured: NETD_SEED={seed}");
    let world = World::new("crash");
    world
        .zone("web")
        .default("deny")
        .option("--subnet4", "10.89.0.0/22")
        .create();
    let bystander = world.container("bystander").in_zone("web").start();
    let fds_before = netns_handles(&world);
    let trap = Trap::set(&bystander.netns, "host0", |frame| {
        frame::destination(frame).is_some_and(|(_, port)| port == 666)
    });
    let storm = Storm::new()
        .routed(&world.outside, bystander.v4().into(), 666)
        .routed(&world.netns, bystander.v6().into(), 666);
    let empty = elements(&world);

    let namespaces: Vec<Netns> = (0..CONTAINERS)
        .map(|number| Netns::create(&format!("c{number}")))
        .collect();
    let told = Mutex::new(BTreeMap::<String, Told>::new());
    let (next, busy) = (AtomicUsize::new(0), AtomicUsize::new(AT_ONCE));
    let mut kills = 0;
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (world, namespaces, told, next, busy) = (&world, &namespaces, &told, &next, &busy);
            let mut dice = Dice(seed ^ (worker as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            scope.spawn(move || {
                while let Some(netns) = namespaces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    come_and_go(world, netns, told, &mut dice);
                }
                busy.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut dice = Dice(seed | 1);
        while busy.load(Ordering::Relaxed) > 0 && kills < KILLS {
            std::thread::sleep(Duration::from_millis(5 + dice.below(120)));
            world.kill_netd();
            kills += 1;
            world.start_netd();
        }
    });
    world.kill_netd();
    world.start_netd();
    eprintln!("measured: {kills} kills while {CONTAINERS} containers came and went");
    assert!(kills >= 5, "the daemon was hardly killed");

    let told = told.into_inner().unwrap();
    check(&world, &told, &namespaces);
    trap.is_empty("denied while the daemon was killed");
    drop(storm);

    // What was patched and what a fresh start derives are the same.
    let patched = elements(&world);
    world.restart_netd();
    same(
        &patched,
        &elements(&world),
        "a restart changes the elements",
    );
    for name in told
        .iter()
        .filter(|(_, told)| told.stays)
        .map(|(name, _)| name)
    {
        world.netd(&format!("detach {name}")).ok();
    }
    same(
        &empty,
        &elements(&world),
        "elements are left of containers that are gone",
    );
    wait_until("links are left", || world.own_links().len() == 2);
    wait_until("namespaces are held", || {
        netns_handles(&world) <= fds_before
    });
}

/// Attaches one; and then, or not, detaches it. A command that meets a dead daemon is asked again.
fn come_and_go(
    world: &World,
    netns: &Netns,
    told: &Mutex<BTreeMap<String, Told>>,
    dice: &mut Dice,
) {
    let name = netns.name();
    let attach = format!(
        "attach {name} --zone web --netns {} --json",
        netns.path().display()
    );
    let detach = format!("detach {name}");
    let mut stays = false;
    for _ in 0..=dice.below(3) {
        let said = insist(world, &attach);
        let answer: Value = serde_json::from_str(&said).unwrap();
        let addresses = answer["addresses"].as_array().into_iter().flatten();
        let addresses: Vec<String> = addresses
            .filter_map(|text| Some(text.as_str()?.to_owned()))
            .collect();
        told.lock()
            .unwrap()
            .entry(name.to_owned())
            .or_default()
            .addresses
            .extend(addresses);
        stays = dice.below(2) == 0;
        if !stays {
            insist(world, &detach);
        }
    }
    told.lock()
        .unwrap()
        .entry(name.to_owned())
        .or_default()
        .stays = stays;
}

fn insist(world: &World, line: &str) -> String {
    let started = Instant::now();
    loop {
        let ran = world.netd(line);
        if ran.code == 0 {
            return ran.stdout;
        }
        // 4: no daemon; 1: it died while it was asked. Anything else is wrong at any moment.
        assert!(matches!(ran.code, 1 | 4), "{ran}");
        assert!(started.elapsed() < Duration::from_secs(60), "{ran}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Holds list, links and insides to what was told.
fn check(world: &World, told: &BTreeMap<String, Told>, namespaces: &[Netns]) {
    let list = world.netd("list --json").json();
    let listed: BTreeMap<String, BTreeSet<String>> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let addresses = one["addresses"].as_array().into_iter().flatten();
            let addresses = addresses
                .map(|text| text.as_str().unwrap().to_owned())
                .collect();
            (one["container"].as_str().unwrap().to_owned(), addresses)
        })
        .collect();
    let mut expected: BTreeSet<&str> = told
        .iter()
        .filter(|(_, told)| told.stays)
        .map(|(name, _)| name.as_str())
        .collect();
    expected.insert("bystander");
    assert_eq!(
        listed.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        expected,
        "who is attached"
    );

    // No address twice, and every name has kept its own.
    let mut owners = BTreeMap::new();
    for (name, told) in told {
        assert_eq!(
            told.addresses.len(),
            2,
            "{name} was told different addresses: {:?}",
            told.addresses
        );
        for address in &told.addresses {
            let other = owners.insert(address, name);
            assert_eq!(other, None, "{address} was given to {name} too");
        }
    }
    for (name, addresses) in listed.iter().filter(|(name, _)| *name != "bystander") {
        assert_eq!(addresses, &told[name].addresses, "{name}");
    }

    wait_until("links are left", || {
        world.own_links().len() == 1 + expected.len()
    });
    for netns in namespaces {
        let inside = netns.sh("ip -br addr show");
        let has = inside.contains("host0");
        assert_eq!(
            has,
            expected.contains(netns.name()),
            "{}: {inside}",
            netns.name()
        );
        if has {
            for address in &told[netns.name()].addresses {
                let address = address.split('/').next().unwrap();
                assert!(
                    inside.contains(address),
                    "{} has not {address}: {inside}",
                    netns.name()
                );
            }
        }
    }
}

/// Sets by name, elements as text.
type Elements = BTreeMap<String, BTreeSet<String>>;

/// The contents of netd's sets as `nft` shows them, but for the counters of generations.
fn elements(world: &World) -> Elements {
    let list = world.nft("-j list ruleset").json();
    let mut all = BTreeMap::new();
    for set in list["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|thing| thing.get("set").or(thing.get("map")))
    {
        let name = set["name"].as_str().unwrap_or_default();
        // The generation changes with every tightening, and opened interfaces belong to the host.
        // Meters fill and empty by themselves.
        let of_generation = ["generation", "remember", "odd", "changing"].contains(&name);
        let of_host = ["opened4", "opened6"].contains(&name);
        if !of_generation && !of_host && !name.starts_with("rate_") {
            let elements = set["elem"].as_array().into_iter().flatten();
            all.insert(
                format!("{} {name}", set["family"]),
                elements.map(Value::to_string).collect(),
            );
        }
    }
    all
}

/// Fails with what is in one and not in the other.
#[track_caller]
fn same(before: &Elements, after: &Elements, why: &str) {
    let beyond = |one: &Elements, other: &Elements| -> Vec<String> {
        let all = one
            .iter()
            .flat_map(|(set, elements)| elements.iter().map(move |element| (set, element)));
        all.filter(|(set, element)| {
            !other
                .get(*set)
                .is_some_and(|others| others.contains(*element))
        })
        .map(|(set, element)| format!("{set} {element}"))
        .collect()
    };
    let (gone, new) = (beyond(before, after), beyond(after, before));
    assert!(
        gone.is_empty() && new.is_empty(),
        "{why}: gone {gone:#?}, new {new:#?}"
    );
}

/// How many network namespaces the daemon holds by descriptors.
fn netns_handles(world: &World) -> usize {
    let folder = format!("/proc/{}/fd", world.netd_pid());
    let handles = fs::read_dir(folder).unwrap().flatten();
    handles
        .filter(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("net:["))
        })
        .count()
}

#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(5), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
