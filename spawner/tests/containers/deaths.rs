//! SIGKILL of what looks after a container: it must not run on, and nothing may be left.

use std::fs;
use std::process::Child;

use serde_json::{Value, json};

use crate::signals::signal;
use crate::world::{Ended, Test, World, until};

pub(crate) const TESTS: &[Test] = &[
    ("the front is killed: the monitor ends and cleans up", front),
    ("the front is killed while a hook runs", front_during_start),
    (
        "the monitor is killed: the front ends and cleans up",
        monitor,
    ),
    (
        "both are killed: the kernel ends it, the next one cleans up",
        both,
    ),
];

fn settings(world: &World) -> Value {
    let detach = format!("touch {}", world.path("detached").display());
    json!({ "private_network": true, "detach": detach, "as_pid2": true, "command": ["sleep", "1000"] })
}

fn monitor_of(child: &Child) -> String {
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    fs::read_to_string(children).unwrap().trim().to_owned()
}

fn kill_hard(pids: &[&str]) {
    let status = std::process::Command::new("kill")
        .arg("-KILL")
        .args(pids)
        .status();
    assert!(status.unwrap().success());
}

fn front() {
    let world = World::new();
    let (mut child, web) = world.start(settings(&world));
    signal(&child, "-KILL");
    child.wait().unwrap();
    until("everything is gone", || {
        world.processes().is_empty() && crate::world::entries(&world.state()) == [".lock"]
    });
    assert!(!fs::exists(format!("/proc/{}", web.pid)).unwrap());
    world.nothing_left();
    assert!(world.path("detached").exists());
}

fn front_during_start() {
    let world = World::new();
    let mut with = settings(&world);
    with["attach"] = json!(format!(
        "touch {}; sleep 1",
        world.path("attaching").display()
    ));
    with["command"] = json!(["touch", "/ran"]);
    let mut child = world.command(with).spawn().unwrap();
    until("the hook runs", || world.path("attaching").exists());
    signal(&child, "-KILL");
    child.wait().unwrap();
    until("everything is gone", || {
        world.processes().is_empty() && crate::world::entries(&world.state()) == [".lock"]
    });
    assert!(!world.root().join("ran").exists());
    assert!(world.path("detached").exists());
}

fn monitor() {
    let world = World::new();
    let (child, _) = world.start(settings(&world));
    kill_hard(&[&monitor_of(&child)]);
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.status, 1);
    assert_eq!(
        ended.err,
        "spawn: the monitor of container web died; the container was killed\n"
    );
    world.nothing_left();
    assert!(world.path("detached").exists());
}

fn both() {
    let world = World::new();
    for as_pid2 in [false, true] {
        let mut with = settings(&world);
        with["as_pid2"] = json!(as_pid2);
        let (mut child, _) = world.start(with);
        let monitor = monitor_of(&child);
        kill_hard(&[&monitor, &child.id().to_string()]);
        child.wait().unwrap();
        // a process that ends has left its mounts a moment before it is a zombie
        until("the container is gone", || {
            world.processes().is_empty() && spawner::list(&world.state()).unwrap().is_empty()
        });
        assert!(
            world.state().join("web").exists(),
            "nobody was there to remove it"
        );
    }
    // the next of that name clears it away
    world.sh("true").good();
    assert!(world.root().join("bin/busybox").exists());
}
