//! The real systemd-nspawn: machines that it starts by itself in a zone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::run;
use crate::net::netns::Ran;
use crate::world::World;

/// nspawn keeps notes of its machines in /run/systemd, settings are looked for there and in /etc/systemd: here in
/// folders of the story's own.
pub fn own_folders(world: &World) {
    let etc = world.dir.join("etc-systemd");
    world.sh(&format!(
        "mkdir -p /run/systemd {0}/nspawn; cp -a /etc/systemd/. {0}; mount --bind {0} /etc/systemd; \
         mount -t tmpfs t /run/systemd",
        etc.display()
    ));
}

/// A command that finds netd of this world.
fn command(world: &World, program: &str) -> Command {
    let mut command = Command::new(program);
    for (key, value) in world.command().get_envs() {
        command.env(key, value.unwrap_or_default());
    }
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
    let mut command = command(world, "systemd-nspawn");
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
    own_folders(&world);
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
        let script = format!("{ASK}; while [ ! -e /srv/go ]; do sleep 0.05; done");
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
        std::fs::write(root.join("srv/go"), "").unwrap();
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

/// The commands of the drop-in, `%i` and all, as the service manager runs them.
fn unit(machine: &str, root: &Path) -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(dist("systemd-nspawn@.service.conf")).unwrap();
    let binary = crate::world::netd_binary();
    let binary = binary.to_str().unwrap();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("Exec") && !line.ends_with('='));
    let told = |line: &str| {
        let (key, command) = line.split_once('=').unwrap();
        let command = command
            .replace("@BINDIR@/netd", binary)
            .replace("%i", machine);
        let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        if key == "ExecStart" {
            // No service manager and no image folder here; --boot stays what the settings make of it.
            words.extend([
                "--register=no".to_owned(),
                format!("--directory={}", root.display()),
            ]);
        }
        (key.to_owned(), words)
    };
    lines.map(told).collect()
}

pub fn dist(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../dist")
        .join(file)
}

/// Starts a machine as its unit does: all commands, the last in any case.
fn start_unit(world: &World, machine: &str, root: &Path, settings: &str) -> (Ran, Ran) {
    let folder = Path::new("/etc/systemd/nspawn");
    std::fs::write(folder.join(format!("{machine}.nspawn")), settings).unwrap();
    let run = |(_, words): &(String, Vec<String>)| {
        let mut command = command(world, &words[0]);
        command.args(&words[1..]);
        end(spawn(world, &mut command))
    };
    let unit = unit(machine, root);
    assert_eq!(
        unit.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["ExecStartPre", "ExecStart", "ExecStopPost"]
    );
    let mut ran = run(&unit[0]);
    if ran.code == 0 {
        ran = run(&unit[1]);
    }
    (ran, run(&unit[2]))
}

pub fn the_unit_gets_its_network_from_netd() {
    let world = World::new("nspawn-unit");
    own_folders(&world);
    world.zone("web").create();
    world.policy(
        "one",
        "[[egress]]\nto = [\"192.0.2.2\"]\nports = [\"tcp/80\"]\n",
    );
    let root = root(&world, "one");
    // [Files] and [Exec] count as they do without netd
    let files = "[Files]\nTemporaryFileSystem=/kept\n";
    let script = "ip -4 addr show host0; grep -q ' /kept tmpfs' /proc/mounts && echo files kept; nc -w2 192.0.2.2 80 </dev/null; nc -w1 192.0.2.2 81 </dev/null; exit 7";
    std::fs::write(root.join("bin/story"), format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(
        root.join("bin/story"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let exec = "[Exec]\nBoot=no\nProcessTwo=yes\nPrivateUsers=no\nParameters=/bin/story\n";
    for network in ["Zone=web\nPort=8080:80\n", "Bridge=vz-web\n"] {
        let (ran, removed) = start_unit(
            &world,
            "one",
            &root,
            &format!("{exec}[Network]\n{network}{files}"),
        );
        assert_eq!(ran.code, 7, "{ran}");
        assert!(ran.stdout.contains("files kept"), "{ran}");
        assert!(ran.stdout.contains("inet 10.89.0."), "{ran}");
        assert_eq!(
            ran.stdout.matches("world 192.0.2.1").count(),
            1,
            "one port is open, the other is not: {ran}"
        );
        removed.ok();
        assert_eq!(world.netd("list --json").json(), serde_json::json!([]));
        assert!(!world.folder("runtime/nspawn/one").exists());
    }
    // What is unclear stops the machine, and nothing of it is left.
    for (network, part) in [
        ("Zone=none\n", "no such zone: none"),
        ("Zone=web\nPrivate=no\n", "Private=no and a zone"),
        ("Zone=web\nMACVLAN=up0\n", "MACVLAN= beside a zone"),
        ("Zone=web\nPort=none\n", "Port="),
        ("Bridge=vz-none\n", "no zone has this bridge"),
        ("Zone=web\nZones=web\n", "no key of [Network]"),
    ] {
        let (ran, removed) =
            start_unit(&world, "one", &root, &format!("{exec}[Network]\n{network}"));
        assert_ne!(ran.code, 7, "{network}: {ran}");
        assert!(ran.stderr.contains(part), "{network}: {ran}");
        removed.ok();
    }
    // None of ours: the command line as it is, with an interface of nspawn's own making.
    std::fs::write(root.join("bin/story"), "#!/bin/sh\nip link; exit 4\n").unwrap();
    let (ran, removed) = start_unit(&world, "one", &root, exec);
    assert_eq!(ran.code, 4, "{ran}");
    assert!(ran.stdout.contains("host0"), "{ran}");
    removed.ok();
    assert_eq!(world.own_links(), ["vz-web"]);
}
