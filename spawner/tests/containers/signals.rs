//! Signals to `netd run` are signals to the container.

use std::process::{Child, Command};

use serde_json::json;

use crate::world::{Ended, Test, World, until};

pub(crate) const TESTS: &[Test] = &[
    ("signals reach pid 1", passed_on),
    (
        "a signal that pid 1 would drop ends the container",
        not_dropped,
    ),
    ("a signal that pid 1 ignores is ignored", ignored),
    ("signals reach the command below the stub", to_stub),
    ("kill by name is the same", by_name),
    ("a signal during the start calls it off", early),
    (
        "what the caller ignores or blocks, the command does not",
        dispositions,
    ),
];

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

const TRAPS: &str = "for s in HUP INT QUIT USR1 USR2 ALRM; do trap \"echo $s >> /got\" $s; done; \
    trap 'echo TERM >> /got; exit 9' TERM; touch /ready; while :; do sleep 0.05; done";

fn passed_on() {
    let world = World::new();
    for as_pid2 in [false, true] {
        let (child, _) = world.start(json!({ "as_pid2": as_pid2, "command": ["sh", "-c", TRAPS] }));
        until("traps are set", || world.root().join("ready").exists());
        let got = || std::fs::read_to_string(world.root().join("got")).unwrap_or_default();
        let mut all = String::new();
        for name in ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM"] {
            signal(&child, &format!("-{name}"));
            all = format!("{all}{name}\n");
            until(name, || got() == all);
        }
        signal(&child, "-TERM");
        let ended: Ended = child.wait_with_output().unwrap().into();
        assert_eq!(ended.status, 9, "{ended:?}");
        world.nothing_left();
        for file in ["ready", "got"] {
            std::fs::remove_file(world.root().join(file)).unwrap();
        }
    }
}

fn not_dropped() {
    let world = World::new();
    // several times: now and then the signal comes before the command has begun
    for (name, number) in [("-TERM", 15), ("-INT", 2), ("-36", 36)].repeat(5) {
        let (child, _) = world.start(json!({ "command": ["sleep", "1000"] }));
        signal(&child, name);
        let ended: Ended = child.wait_with_output().unwrap().into();
        assert_eq!(ended.status, 128 + number);
        world.nothing_left();
    }
}

fn ignored() {
    let world = World::new();
    let script = "trap '' TERM; touch /ready; sleep 1; exit 6";
    let (child, _) = world.start(json!({ "command": ["sh", "-c", script] }));
    until("the trap is set", || world.root().join("ready").exists());
    signal(&child, "-TERM");
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.status, 6);
}

fn to_stub() {
    let world = World::new();
    let (child, web) = world.start(json!({ "as_pid2": true, "command": ["sleep", "1000"] }));
    until("the command runs", || {
        let children = format!("/proc/{0}/task/{0}/children", web.pid);
        std::fs::read_to_string(children).is_ok_and(|text| !text.is_empty())
    });
    signal(&child, "-TERM");
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.status, 143);
    world.nothing_left();
}

fn by_name() {
    let world = World::new();
    let name = "web".parse().unwrap();
    let (child, web) = world.start(json!({ "command": ["sh", "-c", TRAPS] }));
    assert_eq!(spawner::list(&world.state()).unwrap(), [web]);
    until("traps are set", || world.root().join("ready").exists());
    spawner::kill(&world.state(), &name, 15).unwrap();
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.status, 9);
    assert!(spawner::list(&world.state()).unwrap().is_empty());
    let gone = spawner::kill(&world.state(), &name, 15)
        .unwrap_err()
        .to_string();
    assert_eq!(gone, "no container web is running");
}

fn early() {
    let world = World::new();
    let attach = format!("touch {}; sleep 1", world.path("attaching").display());
    let child = world
        .command(json!({ "attach": attach, "command": ["touch", "/ran"] }))
        .spawn()
        .unwrap();
    until("the hook runs", || world.path("attaching").exists());
    signal(&child, "-TERM");
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.status, 143);
    assert!(!world.root().join("ran").exists());
    world.nothing_left();
}

/// As a background command of a script, below nohup, or from a program that does not care for its children.
fn dispositions() {
    let world = World::new();
    for as_pid2 in [false, true] {
        let with =
            json!({ "as_pid2": as_pid2, "command": ["grep", "^Sig[BI]", "/proc/self/status"] });
        let ignoring = ["--ignore-signal", "--block-signal=USR1,TERM"];
        let ended: Ended = Command::new("env")
            .args(ignoring)
            .args(world.argv(with))
            .output()
            .unwrap()
            .into();
        assert_eq!(ended.status, 0, "{ended:?}");
        let none = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
        assert_eq!(ended.out, none, "{ended:?}");
        world.nothing_left();
    }
}
