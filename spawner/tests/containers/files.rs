//! The root and what is mounted over it.

use std::fs;

use serde_json::json;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "the root can be written, and read-only it cannot",
        read_only,
    ),
    ("binds", binds),
    (
        "binds take along what is mounted below, read-only too",
        recursive_binds,
    ),
    ("tmpfs", tmpfs),
    (
        "without a directory: the host's root, read-only, with /tmp and /run",
        host_root,
    ),
    ("the usual devices, and no others", devices),
    ("devices in the root do not open", no_devices_in_root),
    ("/sys is read-only", sysfs),
];

fn read_only() {
    let world = World::new();
    world.sh("echo x > /file").good();
    assert_eq!(
        fs::read_to_string(world.root().join("file")).unwrap(),
        "x\n"
    );
    let ended = world.run(json!({ "read_only": true, "command": ["sh", "-c", "echo y > /file"] }));
    assert_ne!(ended.status, 0);
    assert!(ended.err.contains("Read-only file system"), "{ended:?}");
    assert_eq!(
        fs::read_to_string(world.root().join("file")).unwrap(),
        "x\n"
    );
    world
        .run(json!({ "read_only": true, "command": ["sh", "-c", "echo > /dev/shm/x"] }))
        .good();
}

fn binds() {
    let world = World::new();
    let data = world.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "hello").unwrap();
    let data = data.to_str().unwrap();
    let out = world
        .run(json!({
            "bind": [format!("{data}:/new/deep")],
            "bind_ro": [format!("{data}:/ro"), format!("{data}/file:/etc/single")],
            "command": ["sh", "-c", "cat /new/deep/file /ro/file /etc/single; echo x > /new/deep/written"],
        }))
        .good();
    assert_eq!(out, "hellohellohello");
    assert_eq!(
        fs::read_to_string(format!("{data}/written")).unwrap(),
        "x\n"
    );
    for file in ["/ro/x", "/etc/single"] {
        let ended = world.run(json!({
            "bind_ro": [format!("{data}:/ro"), format!("{data}/file:/etc/single")],
            "command": ["sh", "-c", format!("echo x > {file}")],
        }));
        assert!(ended.err.contains("Read-only file system"), "{ended:?}");
    }
    assert_eq!(fs::read_to_string(format!("{data}/file")).unwrap(), "hello");
}

fn recursive_binds() {
    let world = World::new();
    let data = world.path("data");
    fs::create_dir_all(data.join("below")).unwrap();
    let data = data.to_str().unwrap();
    let mounts = format!("mount -t tmpfs x {data}/below; printf deep > {data}/below/file;");
    let run = |key: &str, options: &str, script: &str| {
        let bind = format!("{data}:/data:{options}");
        world.run_after(
            &mounts,
            json!({ key: [bind], "command": ["sh", "-c", script] }),
        )
    };
    assert_eq!(run("bind", "rbind", "cat /data/below/file").good(), "deep");
    assert_eq!(run("bind", "norbind", "ls /data/below").good(), "");
    let ended = run("bind_ro", "rbind", "echo x > /data/below/file");
    assert!(ended.err.contains("Read-only file system"), "{ended:?}");
}

fn tmpfs() {
    let world = World::new();
    let out = world
        .run(json!({
            "tmpfs": ["/srv:size=1M,mode=700", "/cache"],
            "command": ["sh", "-c", "stat -c %a /srv /cache; df -k /srv | tail -1 | awk '{print $2}'; touch /srv/x"],
        }))
        .good();
    assert_eq!(out, "700\n755\n1024\n");
    assert!(!world.root().join("srv/x").exists());
}

fn host_root() {
    let world = World::new();
    // in this test program's own mount namespace, so that something is mounted below the root
    let marker = world.path("marker");
    fs::write(&marker, "host").unwrap();
    let script = format!(
        "cat /etc/hostname > /dev/null; ls -d /tmp/* /run/* 2>/dev/null; touch /tmp/x /run/y; \
         for f in / /etc /var/tmp /usr {}; do touch $f/x 2>&1 | grep -c Read-only; done",
        world.path("").display()
    );
    let out = world.run(json!({ "directory": null, "command": ["sh", "-c", script] }));
    // the last one is below /tmp, which is the container's own: there is no such directory
    assert_eq!(out.out, "1\n1\n1\n1\n0\n", "{out:?}");
    let out = world.run(json!({
        "directory": null, "private_users": true, "private_network": true,
        "command": ["sh", "-c", "stat -c %u /etc/passwd /tmp; touch /etc/x 2>&1 | grep -c Read-only"],
    }));
    assert_eq!(out.out, "0\n0\n1\n", "{out:?}");
}

fn devices() {
    let world = World::new();
    let out = world
        .sh("cd /dev; ls; echo x > null; head -c 4 zero | wc -c; echo x > shm/y; ls -l ptmx")
        .good();
    let names: Vec<_> = out.lines().take_while(|l| *l != "4").collect();
    // and core, where the host has a /proc/kcore to point to
    let names: Vec<_> = names.into_iter().filter(|name| *name != "core").collect();
    let known = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    assert_eq!(names, known);
    assert!(out.trim_end().ends_with("ptmx -> pts/ptmx"), "{out}");
}

fn no_devices_in_root() {
    let world = World::new();
    let node = world.root().join("zero");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &node,
        kind,
        mode,
        rustix::fs::makedev(1, 5),
    )
    .unwrap();
    let ended = world.sh("head -c 1 /zero");
    assert!(ended.err.contains("Permission denied"), "{ended:?}");
}

fn sysfs() {
    let world = World::new();
    for with in [
        json!({}),
        json!({ "private_users": true }),
        json!({ "private_network": true }),
    ] {
        let mut with = with;
        let script = "[ -d /sys/class/net/lo ] && touch /sys/x 2>&1 | grep -o Read-only; \
            awk '$2 ~ \"^/sys\" && $4 !~ /(^|,)ro(,|$)/' /proc/mounts";
        with["command"] = json!(["sh", "-c", script]);
        // /dev/null hides single files and is no way to write anything
        assert_eq!(world.run(with).good(), "Read-only\n");
    }
}
