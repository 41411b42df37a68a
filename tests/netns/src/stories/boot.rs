//! Machines with an init of their own: started in the background, their address by their own DHCP client, stopped in order; and
//! root file systems that are disks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::run::root;
use crate::net::netns::{Ran, run};
use crate::world::World;

pub fn netd(world: &World, args: &[&str]) -> Ran {
    let mut netd = world.command();
    netd.args(args);
    world.netns.enter(|| run(&mut netd))
}

pub fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "not yet: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A tree that busybox's init boots: a DHCP client, a service, and a last word at the end.
pub fn bootable(world: &World, name: &str) -> PathBuf {
    let made = root(&world.dir);
    let tree = world.folder("state").join("machines").join(name);
    fs::create_dir_all(tree.parent().unwrap()).unwrap();
    fs::rename(&made, &tree).unwrap();
    for tool in ["init", "poweroff", "reboot", "umount"] {
        symlink("../bin/busybox", tree.join("sbin").join(tool)).unwrap();
    }
    for tool in ["date", "grep", "sync", "login"] {
        symlink("busybox", tree.join("bin").join(tool)).unwrap();
    }
    let inittab =
        "::sysinit:/etc/start\n::respawn:/bin/sleep 1000\n::shutdown:/bin/touch /srv/in-order\n";
    fs::write(tree.join("etc/inittab"), inittab).unwrap();
    let start = "#!/bin/sh\nip link set host0 up\nudhcpc -i host0 -b -q -t 20 -T 1 -s /bin/bound >/dev/null\ntouch /srv/booted\n";
    fs::write(tree.join("etc/start"), start).unwrap();
    let bound = "#!/bin/sh\n[ \"$1\" = bound ] && ip addr add $ip/$mask dev host0 && echo $ip >/srv/address\nexit 0\n";
    fs::write(tree.join("bin/bound"), bound).unwrap();
    for script in ["etc/start", "bin/bound"] {
        fs::set_permissions(tree.join(script), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(tree.join("etc/os-release"), "ID=box\nVERSION_ID=7\n").unwrap();
    tree
}

pub fn a_machine_boots_and_stops_in_order() {
    let world = World::new("boot");
    world.zone("web").create();
    let tree = bootable(&world, "box");
    netd(&world, &["start", "none"]).fails(3);
    let started = netd(&world, &["start", "box", "--network-zone=web"]);
    let log = world.folder("runtime").join("consoles/box.log");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    assert_eq!(started.code, 0, "{started} {}", said());
    netd(&world, &["start", "box"]).fails(1);
    until("it has booted", || tree.join("srv/booted").exists());
    let told = world.netd("status box --json").json();
    let address =
        fs::read_to_string(tree.join("srv/address")).unwrap_or_else(|e| panic!("{e}: {}", said()));
    assert_eq!(
        told["addresses"][0],
        format!("{}/24", address.trim()),
        "its own client got another address: {told}"
    );
    assert!(told["leader"].is_i64() && told["os"] == "box");
    let first = netd(&world, &["exec", "box", "--", "/bin/cat", "/proc/1/comm"]).ok();
    assert_eq!(first.trim(), "init");
    // it comes back, in the same zone
    fs::remove_file(tree.join("srv/booted")).unwrap();
    netd(&world, &["reboot", "box"]).ok();
    assert!(
        tree.join("srv/in-order").exists(),
        "it was not stopped in order"
    );
    until("it has booted again", || tree.join("srv/booted").exists());
    assert_eq!(world.netd("status box --json").json()["zone"], "web");
    fs::remove_file(tree.join("srv/in-order")).unwrap();
    let stopped = netd(&world, &["stop", "box", "--json"]).json();
    assert_eq!(stopped["killed"], false);
    assert!(
        tree.join("srv/in-order").exists(),
        "it was not stopped in order"
    );
    netd(&world, &["stop", "box"]).fails(3);
    assert_eq!(world.netd("list --json").json(), serde_json::json!([]));
}

/// Whether disks can be mounted here at all.
fn loops() -> bool {
    Path::new("/dev/loop-control").exists()
}

pub fn disks_are_roots_too() {
    let world = World::new("boot-disk");
    let tree = root(&world.dir);
    let disk = world.folder("state").join("machines/disk.raw");
    fs::create_dir_all(disk.parent().unwrap()).unwrap();
    // a partition table as mkosi makes it, with a root of this machine's architecture
    let plain = world.dir.join("plain.ext4");
    let script = "set -e; truncate -s 24M PLAIN; mkfs.ext4 -q -d TREE PLAIN; truncate -s 32M DISK; \
        printf 'label: gpt\\nstart=2048, size=49152, type=KIND\\n' | sfdisk -q DISK; \
        dd if=PLAIN of=DISK bs=1M seek=1 conv=notrunc status=none";
    let kind = if cfg!(target_arch = "aarch64") {
        "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
    } else {
        "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
    };
    let script = script
        .replace("PLAIN", plain.to_str().unwrap())
        .replace("TREE", tree.to_str().unwrap());
    let script = script
        .replace("DISK", disk.to_str().unwrap())
        .replace("KIND", kind);
    let made = Command::new("sh")
        .args(["-c", &script])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let run_in = |args: &[&str], script: &str| {
        netd(
            &world,
            &[&["run", "-q"], args, &["--", "/bin/sh", "-c", script]].concat(),
        )
    };
    let by_name = run_in(&["-M", "disk"], "touch /srv/mark; cat /srv/index.html");
    if !loops() {
        assert!(
            by_name.code != 0 && by_name.stderr.contains("loop"),
            "{by_name}"
        );
        return;
    }
    assert_eq!(by_name.ok(), "served from inside\n");
    let by_path = [
        "-i",
        disk.to_str().unwrap(),
        "-M",
        "other",
        "-U",
        "--read-only",
    ];
    assert_eq!(
        run_in(
            &by_path,
            "test -e /srv/mark && ! touch /srv/new 2>/dev/null && id -u"
        )
        .ok(),
        "0\n"
    );
    // without a table, and what cannot be one
    assert_eq!(
        run_in(
            &["-i", plain.to_str().unwrap(), "-M", "p"],
            "cat /srv/index.html"
        )
        .ok(),
        "served from inside\n"
    );
    let junk = world.dir.join("junk.raw");
    fs::write(&junk, vec![7; 1 << 20]).unwrap();
    let refused = run_in(&["-i", junk.to_str().unwrap(), "-M", "junk"], "true");
    assert!(
        refused.code != 0 && refused.stderr.contains("file system"),
        "{refused}"
    );
    // nobody but the container sees the mount, and nothing is left
    let mut running = world.command();
    running
        .args(["run", "-q", "-M", "disk", "--", "/bin/sleep", "1000"])
        .stdin(Stdio::null());
    let mut running = world.netns.enter(|| running.spawn()).unwrap();
    until("it runs", || {
        netd(&world, &["exec", "disk", "--", "/bin/true"]).code == 0
    });
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("/runtime/disks/"), "{mounts}");
    netd(&world, &["stop", "disk"]).ok();
    running.wait().unwrap();
    let left = fs::read_dir(world.folder("runtime").join("disks"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}
