//! createRuntime and poststop hooks.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("hooks get the OCI state", state),
    (
        "createRuntime runs outside, when the namespaces are there, before the command",
        time_and_place,
    ),
    ("a failing hook stops the start, and says why", failing),
    ("a hook that hangs is killed and stops the start", hanging),
    ("what a good hook says is shown", talking),
    ("a failing poststop hook is a warning", failing_poststop),
];

fn state() {
    let world = World::new();
    let (created, stopped) = (world.path("created"), world.path("stopped"));
    world
        .run(json!({
            "attach": format!("cat > {}", created.display()),
            "detach": format!("cat > {}", stopped.display()),
            "labels": { "tier": "front", "app": "shop" },
            "annotations": { "io.netd.zone": "dmz", "io.netd.publish": "8080:80" },
            "command": ["true"],
        }))
        .good();
    let read =
        |path| -> Value { serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    let (created, stopped) = (read(created), read(stopped));
    assert_eq!(created["status"], "creating");
    assert_eq!(stopped["status"], "stopped");
    assert!(created["pid"].as_i64().unwrap() > 1);
    assert!(
        stopped.get("pid").is_none(),
        "nobody is to use the number any more"
    );
    for state in [created, stopped] {
        assert_eq!(state["id"], "web");
        assert!(
            state["bundle"]
                .as_str()
                .unwrap()
                .ends_with("/state/containers/web/bundle")
        );
        let annotations = json!({
            "io.netd.name": "web", "io.netd.labels": "app=shop,tier=front",
            "io.netd.zone": "dmz", "io.netd.publish": "8080:80",
        });
        assert_eq!(state["annotations"], annotations);
    }
}

fn time_and_place() {
    let world = World::new();
    let seen = world.path("seen");
    let here = fs::read_link("/proc/self/ns/net").unwrap();
    let attach = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
         for x in /proc/self/ns/net /proc/$pid/ns/net /proc/self/ns/pid /proc/$pid/ns/pid; do readlink $x; done > {0}; \
         [ -e /proc/$pid/root/bin/netd-is-not-here ] || [ -e /proc/$pid/root{1} ] && echo before pivot_root >> {0}; \
         [ -e {1}/ran ] || echo before the command >> {0}",
        seen.display(),
        world.root().display()
    );
    world
        .run(json!({ "attach": attach, "command": ["touch", "/ran"] }))
        .good();
    assert!(world.root().join("ran").exists());
    let text = fs::read_to_string(seen).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        here.to_str().unwrap(),
        "the hook is in the host's network"
    );
    assert_ne!(lines[1], lines[0], "the container is not");
    assert_ne!(lines[2], lines[3]);
    assert_eq!(lines[4..], ["before pivot_root", "before the command"]);
}

fn failing() {
    let world = World::new();
    let ended = world.run(json!({
        "attach": "echo 'netd: zone dmz does not exist' >&2; exit 3",
        "detach": format!("touch {}", world.path("detached").display()),
        "command": ["touch", "/ran"],
    }));
    assert_eq!(ended.status, 1);
    assert_eq!(
        ended.err,
        "spawn: a createRuntime hook failed, so the command was not run: \
         hook command exited with non-zero exit code: 3: netd: zone dmz does not exist\n"
    );
    assert!(!world.root().join("ran").exists());
    assert!(
        world.path("detached").exists(),
        "poststop hooks run all the same"
    );
}

fn hanging() {
    let world = World::new();
    let start = Instant::now();
    let ended = world
        .run(json!({ "attach": "exec sleep 60", "timeout": 0.5, "command": ["touch", "/ran"] }));
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("due to a timeout"), "{ended:?}");
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(!world.root().join("ran").exists());
}

fn talking() {
    let world = World::new();
    let ended = world.run(json!({
        "attach": "echo zone made >&2", "detach": "echo zone left >&2", "command": ["sh", "-c", "echo ran >&2"],
    }));
    assert_eq!(
        (ended.status, ended.err.as_str()),
        (0, "zone made\nran\nzone left\n")
    );
}

fn failing_poststop() {
    let world = World::new();
    let ended = world.run(
        json!({ "private_network": true, "detach": "exit 4", "command": ["sh", "-c", "exit 5"] }),
    );
    assert_eq!(ended.status, 5);
    assert_eq!(ended.err, "spawn: poststop hook /bin/sh: exit status: 4\n");
}
