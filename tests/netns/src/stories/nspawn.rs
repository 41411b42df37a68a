//! The real systemd-nspawn: machines that it starts by itself in a zone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::run;
use crate::net::netns::Ran;
use crate::world::World;

/// nspawn keeps notes of its machines in /run/systemd, settings are looked for there and in /etc/systemd: here in
/// empty folders of the story's own.
const PRIVATE: &str = "mount --make-rprivate /; mkdir -p /run/systemd; mount -t tmpfs t /run/systemd; \
    mkdir -p $ETC/nspawn; cp -a /etc/systemd/. $ETC; mount --bind $ETC /etc/systemd; exec \"$@\"";

/// A command in those folders.
pub fn private(world: &World, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = world.command();
    let mut private = Command::new("unshare");
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            private.env(key, value);
        }
    }
    private.env("ETC", world.dir.join("etc-systemd"));
    private
        .args(["--mount", "sh", "-c", PRIVATE, "sh"])
        .arg(program);
    command = private;
    command.stdin(Stdio::null());
    command
}

/// A root file system that nspawn takes for one.
pub fn root(world: &World, name: &str) -> PathBuf {
    let root = run::root(&world.dir.join(name));
    std::fs::write(root.join("etc/os-release"), "ID=story\n").unwrap();
    root
}

fn nspawn(world: &World, root: &Path, machine: &str, network: &str, script: &str) -> Command {
    let mut command = private(world, "systemd-nspawn");
    command
        .args(["-q", "--register=no", "--keep-unit", "--as-pid2", network])
        .args(["-M", machine, "-D"])
        .arg(root)
        .args(["/bin/sh", "-c", script]);
    command
}

fn spawn(world: &World, command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    world.netns.enter(|| command.spawn()).unwrap()
}

#[track_caller]
fn end(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        what: "systemd-nspawn".to_owned(),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asks for an address, then says what it got and reaches for the world.
const ASK: &str = "ip link set host0 up; udhcpc -i host0 -f -n -q -t 20 -T 1 -s /bin/told; cat /tmp/told; \
    read a b c </tmp/told; ip addr add $a/24 dev host0; ip route add default via $b; \
    nc -w2 192.0.2.2 80 </dev/null; nc -w1 192.0.2.2 81 </dev/null";

pub fn machines_find_the_zone_and_the_zone_stays() {
    let world = World::new("nspawn-adopt");
    world.zone("web").create();
    let long = "a-machine-with-a-long-name";
    for name in ["first", long] {
        world.policy(
            name,
            "[[egress]]\nto = [\"192.0.2.2\"]\nports = [\"tcp/80\"]\n",
        );
    }
    for (machine, network) in [
        ("first", "--network-zone=web"),
        (long, "--network-bridge=vz-web"),
    ] {
        let root = root(&world, machine);
        let script = format!("{ASK}; while [ ! -e /tmp/go ]; do sleep 0.05; done");
        let child = spawn(
            &world,
            &mut nspawn(&world, &root, machine, network, &script),
        );
        let started = Instant::now();
        let attached = loop {
            let all = world.netd("list --json").json();
            if let Some(found) = all.as_array().unwrap().first() {
                break found.clone();
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{machine} is not adopted"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(
            (&attached["container"], &attached["state"]),
            (&Value::from(machine), &Value::from("adopted"))
        );
        std::fs::write(root.join("tmp/go"), "").unwrap();
        let ran = end(child);
        let address = attached["addresses"][0]
            .as_str()
            .unwrap()
            .trim_end_matches("/24");
        assert!(ran.stdout.contains(address), "{ran}");
        assert_eq!(
            ran.stdout.matches("world 192.0.2.1").count(),
            1,
            "one port is open, the other is not: {ran}"
        );
        gone(&world);
    }
    // nspawn takes the bridge along with its last machine; the next finds the zone all the same.
    let root = root(&world, "again");
    let mut addresses = Vec::new();
    for _ in 0..5 {
        let script =
            "ip link set host0 up; udhcpc -i host0 -f -n -q -t 20 -T 1 -s /bin/told; cat /tmp/told";
        let ran = end(spawn(
            &world,
            &mut nspawn(&world, &root, "again", "--network-zone=web", script),
        ));
        assert!(ran.stdout.contains("10.89.0."), "{ran}");
        addresses.push(ran.stdout.lines().last().unwrap_or_default().to_owned());
    }
    addresses.dedup();
    assert_eq!(addresses.len(), 1, "one name, one address: {addresses:?}");
    gone(&world);
    // A container of netd's own on the bridge: nspawn leaves it, and netd's container is not disturbed.
    let db = world.container("db").in_zone("web").start();
    let bridge = world.sh("ip -o link show vz-web | cut -d: -f1");
    let ran = end(spawn(
        &world,
        &mut nspawn(&world, &root, "again", "--network-zone=web", "true"),
    ));
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(world.sh("ip -o link show vz-web | cut -d: -f1"), bridge);
    assert!(db.ping(db.gateway4()).passed());
}

/// Waits until nobody is attached and the zone is as it was.
#[track_caller]
fn gone(world: &World) {
    let started = Instant::now();
    loop {
        let list = world.netd("list --json").json();
        let bridge = world
            .netns
            .run("ip -4 addr show vz-web | grep 10.89.0.1/24");
        if list.as_array().unwrap().is_empty() && bridge.code == 0 {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{list} {bridge}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
