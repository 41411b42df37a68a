//! Whole sets of policies in one step: foreseen, applied, confirmed, undone; also when the daemon is killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::world::Verdict::{Allow, Deny};
use crate::world::{Reachable, World};

/// Lets one open tcp/PORT to two, by a file for each side.
fn opens(port: u16) -> [(&'static str, String); 2] {
    let ports = format!("ports = [\"tcp/{port}\"]\n");
    [
        (
            "one",
            format!("[[egress]]\nto = [\"container:two\"]\n{ports}"),
        ),
        (
            "two",
            format!("[[ingress]]\nfrom = [\"container:one\"]\n{ports}"),
        ),
    ]
}

const AT_80: [Reachable<'static>; 2] = [
    (Allow, "one", "two", "tcp/80"),
    (Deny, "one", "two", "tcp/81"),
];
const AT_81: [Reachable<'static>; 2] = [
    (Deny, "one", "two", "tcp/80"),
    (Allow, "one", "two", "tcp/81"),
];

/// A folder with a set of policies.
fn set(world: &World, name: &str, files: &[(&str, String)]) -> PathBuf {
    let folder = world.dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    for (stem, text) in files {
        fs::write(folder.join(format!("{stem}.toml")), text).unwrap();
    }
    folder
}

/// The files in the config dir, by name.
fn files(world: &World) -> BTreeMap<String, String> {
    let entries = fs::read_dir(world.folder("config/policies")).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap_or_default())
        })
        .collect()
}

/// Two containers of a closed zone; one reaches two at tcp/80, by two files, and there is a third file.
fn two_containers(title: &str) -> (World, Vec<crate::world::Container>) {
    let world = World::new(title);
    world.zone("web").default("deny").create();
    let containers = ["one", "two"].map(|name| world.container(name).in_zone("web").start());
    for (stem, text) in opens(80) {
        world.write_policy(stem, &text);
    }
    world.policy("more", "applies-to = { container = \"two\" }\n[[ingress]]\nfrom = [\"host\"]\nports = [\"udp/53\"]\n");
    fs::write(world.folder("config/policies/.hidden.toml"), "x").unwrap();
    fs::write(world.folder("config/policies/notes.txt"), "x").unwrap();
    (world, containers.into_iter().collect())
}

pub fn a_set_opens_and_closes_in_one_step_and_rolls_back() {
    let (world, _containers) = two_containers("apply");
    world.verdicts(&AT_80);
    world.verdicts(&[(Allow, "host", "two", "udp/53")]);
    let said = world.netd("policy rollback").fails(1);
    assert!(
        said.contains("no set of policies was applied yet"),
        "{said}"
    );
    let said = world.netd("policy confirm").fails(1);
    assert!(said.contains("no apply waits"), "{said}");
    let old = files(&world);
    let new = set(&world, "new", &opens(81));
    let step = world
        .netd(&format!("policy apply {} --json", new.display()))
        .json();
    assert_eq!(step["changed"], serde_json::json!(["one", "two"]));
    assert_eq!(step["removed"], serde_json::json!(["more"]));
    assert_eq!(step["added"], serde_json::json!([]));
    assert_eq!(step["confirm_within"], Value::Null);
    world.verdicts(&AT_81);
    world.verdicts(&[(Deny, "host", "two", "udp/53")]);
    let now = files(&world);
    assert_eq!(now.len(), 4, "{now:?}");
    assert_eq!(now["one.toml"], opens(81)[0].1);
    // the same again is no news, and does not cost the way back
    let again = world.netd(&format!("policy apply {}", new.display())).ok();
    assert!(again.contains("no policy file changes"), "{again}");
    // a restart knows the way back, too
    world.restart_netd();
    world.verdicts(&AT_81);
    world.write_policy("two", &opens(82)[1].1);
    world.netd("reload").ok();
    let said = world.netd("policy rollback").ok();
    assert_eq!(files(&world), old);
    world.verdicts(&AT_80);
    world.verdicts(&[(Allow, "host", "two", "udp/53")]);
    // what was edited by hand since is not lost
    let status = world.netd("status --json").json();
    assert_eq!(status["applied"]["state"], "rolled-back");
    let kept = PathBuf::from(status["applied"]["kept"].as_str().unwrap());
    assert!(said.contains(kept.to_str().unwrap()), "{said}");
    assert_eq!(
        fs::read_to_string(kept.join("two.toml")).unwrap(),
        opens(82)[1].1
    );
    let said = world.netd("policy rollback").fails(1);
    assert!(said.contains("undone already"), "{said}");
    world.netd(&format!("policy apply {}", kept.display())).ok();
    world.verdicts(&[
        (Deny, "one", "two", "tcp/80"),
        (Deny, "one", "two", "tcp/81"),
    ]);
    assert_eq!(status["problems"], serde_json::json!([]));
}

pub fn one_bad_file_refuses_all() {
    let (world, _containers) = two_containers("apply-bad");
    let old = files(&world);
    let mut bad = opens(81).to_vec();
    bad.push(("bad", "[[ingress]]\nport = 1\n".to_owned()));
    let folder = set(&world, "bad", &bad);
    for command in ["apply", "diff"] {
        let said = world
            .netd(&format!("policy {command} {}", folder.display()))
            .fails(1);
        let place = format!("{}:2:1: error:", folder.join("bad.toml").display());
        assert!(said.contains(&place), "{said}");
    }
    assert_eq!(files(&world), old);
    world.verdicts(&AT_80);
    // nor is nothing a set, nor the same name twice
    let empty = set(&world, "empty", &[]);
    world
        .netd(&format!("policy apply {}", empty.display()))
        .fails(1);
    let twice = set(&world, "twice", &opens(81));
    let other = set(&world, "other", &opens(82)[..1]);
    let said = world
        .netd(&format!(
            "policy apply {} {}",
            twice.display(),
            other.display()
        ))
        .fails(1);
    assert!(said.contains("would both be policies/one.toml"), "{said}");
    assert_eq!(files(&world), old);
    assert_eq!(world.netd("status --json").json()["applied"], Value::Null);
}

pub fn who_does_not_confirm_in_time_gets_the_old_set_back() {
    let (world, _containers) = two_containers("confirm");
    let old = files(&world);
    let new = set(&world, "new", &opens(81));
    let said = world
        .netd(&format!("policy apply {} --confirm 100", new.display()))
        .ok();
    assert!(said.contains("netd policy confirm"), "{said}");
    world.verdicts(&AT_81);
    let status = world.netd("status --json").json();
    assert_eq!(status["applied"]["state"], "waiting");
    let left = status["applied"]["remaining"].as_i64().unwrap();
    assert!((1..=100).contains(&left), "{left}");
    assert!(
        world
            .netd("status")
            .ok()
            .contains("waits for `netd policy confirm`")
    );
    let said = world
        .netd(&format!("policy apply {}", new.display()))
        .fails(1);
    assert!(
        said.contains("waits for confirmation for another"),
        "{said}"
    );
    world.netd("policy confirm").ok();
    world.netd("policy confirm").fails(1);
    let kept = files(&world);
    assert_eq!(kept["one.toml"], opens(81)[0].1);
    world.netd("policy rollback").ok();
    assert_eq!(files(&world), old);

    // now nobody confirms
    world
        .netd(&format!("policy apply {} --confirm 3", new.display()))
        .ok();
    let applied = Instant::now();
    world.verdicts(&AT_81);
    // what is edited meanwhile counts, and goes with the rest
    world.policy(
        "two",
        "[[ingress]]\nfrom = [\"container:one\"]\nports = [\"tcp/81\", \"udp/53\"]\n",
    );
    wait_for(|| world.netd("status --json").json()["applied"]["state"] == "timed-out");
    assert_eq!(files(&world), old);
    eprintln!(
        "measured: after {:?} of 3 s the files before are back",
        applied.elapsed()
    );
    assert!(applied.elapsed() > Duration::from_secs(2), "too early");
    world.verdicts(&AT_80);
    let status = world.netd("status --json").json();
    assert_eq!(status["applied"]["state"], "timed-out");
    let folder = PathBuf::from(status["applied"]["kept"].as_str().unwrap());
    assert!(
        fs::read_to_string(folder.join("two.toml"))
            .unwrap()
            .contains("udp/53")
    );
    let said = world.netd("policy confirm").fails(1);
    assert!(said.contains("too late"), "{said}");
    world.netd("policy rollback").fails(1);
}

pub fn a_daemon_that_starts_after_the_deadline_brings_the_old_set_back_first() {
    let (world, _containers) = two_containers("deadline");
    let old = files(&world);
    let new = set(&world, "new", &opens(81));
    world
        .netd(&format!("policy apply {} --confirm 2", new.display()))
        .ok();
    let applied = Instant::now();
    world.kill_netd();
    let now = files(&world);
    assert_eq!(now["one.toml"], opens(81)[0].1);
    std::thread::sleep(Duration::from_millis(3100).saturating_sub(applied.elapsed()));
    world.start_netd();
    assert_eq!(files(&world), old);
    world.verdicts(&AT_80);
    assert_eq!(
        world.netd("status --json").json()["applied"]["state"],
        "timed-out"
    );

    // one that starts before it waits for the rest of the time
    world
        .netd(&format!("policy apply {} --confirm 8", new.display()))
        .ok();
    world.kill_netd();
    world.start_netd();
    world.verdicts(&AT_81);
    assert_eq!(
        world.netd("status --json").json()["applied"]["state"],
        "waiting"
    );
    wait_for(|| world.netd("status --json").json()["applied"]["state"] == "timed-out");
    assert_eq!(files(&world), old);
    world.verdicts(&AT_80);
}

pub fn a_file_that_is_bad_stays_as_good_as_it_was() {
    let (world, _containers) = two_containers("apply-good");
    world.write_policy("one", "[[egress]]\nport = 1\n");
    world.netd("reload").fails(1);
    world.verdicts(&AT_80);
    let old = files(&world);
    let new = set(&world, "new", &opens(81));
    world.netd(&format!("policy apply {}", new.display())).ok();
    world.verdicts(&AT_81);
    world.netd("policy rollback").ok();
    assert_eq!(files(&world), old);
    world.verdicts(&AT_80);
    world.restart_netd();
    world.verdicts(&AT_80);
    let problems = world.netd("status --json").json()["problems"].to_string();
    assert!(problems.contains("one.toml:2:1"), "{problems}");
}

pub fn groups_go_with_their_set() {
    let (world, _containers) = two_containers("apply-groups");
    let old = files(&world);
    let [one, (_, two)] = opens(81);
    let mut new = vec![one, ("two", two.replace("container:one", "@clients"))];
    let folder = set(&world, "new", &new);
    let said = world
        .netd(&format!("policy apply {}", folder.display()))
        .fails(1);
    assert!(said.contains("@clients"), "{said}");
    world.verdicts(&AT_80);
    new.push(("groups", "clients = [\"container:one\"]\n".to_owned()));
    let folder = set(&world, "new", &new);
    let row = "one -> two tcp/81 deny -> allow";
    let told = world
        .netd(&format!("policy diff {}", folder.display()))
        .ok();
    assert!(told.contains(row), "{told}");
    let said = world
        .netd(&format!("policy apply {}", folder.display()))
        .ok();
    assert!(said.contains("~ groups.toml"), "{said}");
    world.verdicts(&AT_81);
    world.netd("policy rollback").ok();
    assert_eq!(files(&world), old);
    assert!(!world.folder("config/groups.toml").exists());
    world.verdicts(&AT_80);
}

pub fn killed_while_applying() {
    let (world, containers) = two_containers("apply-killed");
    let sets = [80, 81].map(|port| set(&world, &port.to_string(), &opens(port)));
    let wanted = [80, 81].map(|port| {
        let others = [
            (".hidden.toml", "x".to_owned()),
            ("notes.txt", "x".to_owned()),
        ];
        let names = opens(port).map(|(stem, text)| (format!("{stem}.toml"), text));
        let others = others.map(|(name, text)| (name.to_owned(), text));
        names.into_iter().chain(others).collect::<BTreeMap<_, _>>()
    });
    let started = Instant::now();
    world
        .netd(&format!("policy apply {}", sets[0].display()))
        .ok();
    let takes = u64::try_from(started.elapsed().as_micros()).unwrap();
    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    let mut dice = u64::from(seed) | 1;
    let (mut now, mut switched) = (0, 0);
    for round in 0..30 {
        // a step of xorshift64: when to kill, within the time that an apply takes
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let other = 1 - now;
        let line = format!("policy apply {}", sets[other].display());
        std::thread::scope(|scope| {
            let told = scope.spawn(|| world.netd(&line));
            std::thread::sleep(Duration::from_micros(dice % (takes * 3 / 2)));
            world.kill_netd();
            let told = told.join().unwrap();
            assert!(matches!(told.code, 0 | 1 | 4), "{told}");
        });
        // in the kernel it is one of the two, with no daemon at all
        let reached = [80, 81].map(|port| containers[0].tcp(containers[1].v4(), port).passed());
        assert!(
            reached == [true, false] || reached == [false, true],
            "round {round}: {reached:?}"
        );
        world.start_netd();
        let found = files(&world);
        let at = wanted.iter().position(|wanted| *wanted == found);
        let Some(at) = at else {
            panic!("round {round} (seed {seed}): neither set: {found:#?}");
        };
        world.verdicts(if at == 0 { &AT_80 } else { &AT_81 });
        let status = world.netd("status --json").json();
        assert_eq!(status["problems"], serde_json::json!([]), "round {round}");
        switched += usize::from(at != now);
        now = at;
    }
    eprintln!(
        "measured: 30 kills while sets were applied (which takes {takes} µs), after {switched} of them the new one was in force"
    );
    let left = fs::read_dir(world.folder("state/apply")).unwrap().count();
    assert!(left <= 2, "the journal and one set before: {left}");
}

pub fn a_diff_says_what_explain_says_before_and_after() {
    let (world, _containers) = two_containers("diff");
    let mut next = opens(81).to_vec();
    next.push(("two-more", "applies-to = { container = \"two\" }\n[[egress]]\nto = [\"198.51.100.0/24\", \"2001:db8:7::/48\", \"host\"]\nports = [\"tcp/80\"]\n".to_owned()));
    let new = set(&world, "new", &next);
    let told = world.netd(&format!("policy diff {}", new.display())).ok();
    let row = "one -> two tcp/81 deny -> allow";
    assert!(told.contains(row), "{told}");
    let place = format!("{}:1:1", new.join("two.toml").display());
    assert!(told.contains(&place), "{told}");
    let difference = world
        .netd(&format!("policy diff {} --json", new.display()))
        .json();
    assert_eq!(
        (&difference["more"], &difference["unexamined"]),
        (&0.into(), &0.into())
    );
    // each row asked of explain, and each flow that no row has
    let questions = [
        ("one", "two", "tcp/80"),
        ("one", "two", "tcp/81"),
        ("one", "two", "udp/53"),
        ("host", "two", "udp/53"),
        ("host", "two", "tcp/81"),
        ("two", "host", "tcp/80"),
        ("two", "host", "tcp/22"),
        ("two", "198.51.100.7", "tcp/80"),
        ("two", "world", "tcp/80"),
        ("two", "one", "tcp/80"),
    ];
    let ask = || {
        questions.map(|(from, to, traffic)| {
            world.netd(&format!("explain {from} {to} {traffic}")).code == 0
        })
    };
    let before = ask();
    world
        .netd(&format!("policy diff {} --exit-code", new.display()))
        .fails(1);
    world.netd(&format!("policy apply {}", new.display())).ok();
    let after = ask();
    let rows = difference["changes"].as_array().unwrap();
    let lists = |list: &Value, text: &str| list.as_array().unwrap().iter().any(|one| one == text);
    for (index, (from, to, traffic)) in questions.iter().enumerate() {
        let to = if *to == "198.51.100.7" {
            "198.51.100.0/24"
        } else {
            to
        };
        let row = rows.iter().find(|row| {
            lists(&row["from"], from) && lists(&row["to"], to) && lists(&row["ports"], traffic)
        });
        let word = |allowed: bool| if allowed { "allow" } else { "deny" };
        let expected =
            (before[index] != after[index]).then(|| (word(before[index]), word(after[index])));
        let told = row.map(|row| {
            (
                row["before"].as_str().unwrap(),
                row["after"].as_str().unwrap(),
            )
        });
        assert_eq!(told, expected, "{from} -> {to} {traffic}: {difference:#}");
    }
    // four pairs in all: nothing else was told
    assert_eq!(rows.len(), 4, "{difference:#}");
    world.verdicts(&AT_81);
    world.verdicts(&[
        (Allow, "two", "elsewhere", "tcp/80"),
        (Allow, "two", "host", "tcp/80"),
    ]);
    let same = world
        .netd(&format!("policy diff {} --exit-code", new.display()))
        .ok();
    assert_eq!(same, "nothing changes\n");
}

#[track_caller]
fn wait_for(holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the files before did not come back"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
