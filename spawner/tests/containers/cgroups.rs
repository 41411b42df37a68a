//! Limits, where cgroups are as they may be: v1 and hybrid, cgroup2 alone, none at all.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("no limits, no cgroup", none_asked),
    ("limits hold, as far as this machine can", limits),
    ("cgroup2 alone", unified),
    ("hierarchies below another /sys are left alone", hidden),
    ("no cgroups at all: a warning, and no limits", absent),
];

fn none_asked() {
    let world = World::new();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let (mut child, web) = world.start(json!({ "command": ["sleep", "1000"] }));
    let its = fs::read_to_string(format!("/proc/{}/cgroup", web.pid)).unwrap();
    assert_eq!(its, own);
    spawner::kill(&world.state(), &"web".parse().unwrap(), 9).unwrap();
    child.wait().unwrap();
}

/// Whether this machine has the pids controller, in v1 or v2.
fn has_pids() -> bool {
    Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists()
        || fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|c| c.contains("pids"))
}

fn limits() {
    let world = World::new();
    let script =
        "grep -c netd /proc/self/cgroup; for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait";
    let ended = world
        .run(json!({ "machine": world.tag(), "tasks_max": 5, "command": ["sh", "-c", script] }));
    if has_pids() {
        // its own cgroup is the root of its cgroup namespace, so its name is not seen inside
        assert!(ended.out.starts_with("0\n"), "{ended:?}");
        assert!(ended.err.contains("can't fork"), "{ended:?}");
    } else {
        assert!(
            ended.err.starts_with("spawn: no limits are in force"),
            "{ended:?}"
        );
    }
}

fn unified() {
    let world = World::new();
    let alone = "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup;";
    let script =
        "grep ' /sys/fs/cgroup cgroup2 ro,' /proc/mounts | wc -l; ls /sys/fs/cgroup/cgroup.procs";
    for private_users in [false, true] {
        let with = json!({
            "private_network": true, "private_users": private_users, "command": ["sh", "-c", script],
        });
        assert_eq!(
            world.run_after(alone, with).good(),
            "1\n/sys/fs/cgroup/cgroup.procs\n"
        );
    }
    // on a hybrid machine the controllers belong to v1, so that limits are not to be had here
    let with = json!({ "machine": world.tag(), "tasks_max": 5, "command": ["true"] });
    let ended = world.run_after(alone, with);
    assert_eq!(ended.status, 0);
    if Path::new("/sys/fs/cgroup/pids").exists() {
        assert!(
            ended.err.starts_with("spawn: no limits are in force"),
            "{ended:?}"
        );
    } else {
        assert_eq!(ended.err, "");
    }
}

fn hidden() {
    let world = World::new();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let seen = world.path("seen");
    // from outside: inside, a cgroup namespace begins wherever the container is
    let attach = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); cat /proc/$pid/cgroup > {}",
        seen.display()
    );
    for private_users in [false, true] {
        let with = json!({
            "attach": attach, "private_users": private_users, "command": ["ls", "/sys/class/net"],
        });
        assert_eq!(
            world.run_after("mount -t sysfs sysfs /sys;", with).good(),
            "lo\n"
        );
        assert_eq!(fs::read_to_string(&seen).unwrap(), own);
    }
    let with = json!({ "private_users": true, "command": ["ls", "/sys/class/net"] });
    assert_eq!(
        world.run_after("mount -t sysfs sysfs /sys;", with).good(),
        "lo\n"
    );
}

fn absent() {
    let world = World::new();
    let none = "umount -R /sys/fs/cgroup;";
    assert_eq!(
        world
            .run_after(none, json!({ "command": ["echo", "ran"] }))
            .good(),
        "ran\n"
    );
    let with = json!({ "memory_max": 1 << 30, "tasks_max": 5, "command": ["echo", "ran"] });
    let ended = world.run_after(none, with);
    assert_eq!((ended.status, ended.out.as_str()), (0, "ran\n"));
    let warning =
        "spawn: no limits are in force, because cgroups cannot be used: open /sys/fs/cgroup/memory";
    assert!(ended.err.starts_with(warning), "{ended:?}");
}
