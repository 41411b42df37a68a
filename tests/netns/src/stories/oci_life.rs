//! Containers of other runtimes that end badly, or ask for what cannot be; and podman, with the hook file as installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::oci::{RUNTIMES, bundle, start};
use super::run;
use crate::net::netns::{self, Ran};
use crate::world::{World, signal};

/// Longest that something may take that is only waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until nothing is attached, and no host end is left.
fn nothing_is_left(world: &World) {
    let started = Instant::now();
    while world.netd("list --json").json() != json!([]) || world.own_links() != ["vz-web"] {
        assert!(started.elapsed() < PATIENCE, "{:?}", world.own_links());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A container of crun or runc that goes on until it is killed.
struct Long {
    id: String,
    runtime: &'static str,
    child: Child,
}

impl Long {
    /// Starts it, and waits until it is attached.
    fn start(world: &World, runtime: &'static str, id: &str, bundle: &Path) -> Self {
        let mut command = super::oci::command(world, runtime, id, bundle);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = world.netns.enter(|| command.spawn()).unwrap();
        let long = Self {
            id: id.to_owned(),
            runtime,
            child,
        };
        let started = Instant::now();
        while long.state(world)["status"] != "running" {
            assert!(started.elapsed() < PATIENCE, "{runtime} does not run");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(
            world.netd("list --json").json().as_array().unwrap().len(),
            1
        );
        long
    }

    fn runtime(&self, world: &World, words: &[&str]) -> Ran {
        let mut command = Command::new(self.runtime);
        let state = world.dir.join(format!("state-{}", self.runtime));
        command.arg("--root").arg(state).args(words).arg(&self.id);
        world.netns.enter(|| netns::run(&mut command))
    }

    fn state(&self, world: &World) -> Value {
        let ran = self.runtime(world, &["state"]);
        serde_json::from_str(&ran.stdout).unwrap_or_default()
    }

    /// `kill -9` of the runtime and of the container; neither has a chance to run a hook.
    fn crash(mut self, world: &World) -> Self {
        let pid = self.state(world)["pid"].as_u64().unwrap();
        signal(self.child.id(), Signal::KILL);
        self.child.wait().unwrap();
        signal(u32::try_from(pid).unwrap(), Signal::KILL);
        self
    }
}

pub fn the_hosts_own_network_is_refused() {
    let world = World::new("oci-host");
    world.zone("web").create();
    for runtime in RUNTIMES {
        let annotations = json!({ "io.netd.zone": "web" });
        let bundle = bundle(&world, runtime, "touch /tmp/ran", &annotations);
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        fs::write(&path, config.to_string()).unwrap();
        let links = world.links();
        let ran = start(&world, runtime, "hosts", &bundle);
        assert_ne!(ran.code, 0, "{ran}");
        assert!(!bundle.join("root/tmp/ran").exists(), "it ran: {ran}");
        assert_eq!(world.links(), links, "{runtime} changed the host's links");
    }
    // The hook itself says why.
    let state = json!({ "ociVersion": "1.0.2", "id": "c1", "status": "creating", "pid": std::process::id(),
        "bundle": "/", "annotations": { "io.netd.zone": "web" } });
    let said = hook(&world, &state).fails(1);
    assert!(said.contains("host's own network namespace"), "{said}");
    nothing_is_left(&world);
}

/// `netd hook oci` with this state.
fn hook(world: &World, state: &Value) -> Ran {
    let path = world.dir.join("state.json");
    fs::write(&path, state.to_string()).unwrap();
    let mut command = world.command();
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" hook oci <\"$1\""]);
    shell.arg(command.get_program()).arg(&path);
    shell.envs(
        command
            .envs([("NO_COLOR", "1")])
            .get_envs()
            .filter_map(|(k, v)| Some((k, v?))),
    );
    world.netns.enter(|| netns::run(&mut shell))
}

pub fn a_crash_of_either_side_leaves_nothing() {
    let world = World::new("oci-crash");
    world.zone("web").create();
    let script = "while :; do sleep 1; done";
    for runtime in RUNTIMES {
        // An id as long as podman's.
        let id = format!("{:0>64}", "c4a5");
        let annotations = json!({ "io.netd.zone": "web" });
        let bundle = bundle(&world, runtime, script, &annotations);
        // The runtime and the container are killed: the port goes with the namespace. What is left of the
        // container is deleted afterwards, and its poststop hook finds nothing to do.
        let dead = Long::start(&world, runtime, &id, &bundle).crash(&world);
        nothing_is_left(&world);
        dead.runtime(&world, &["delete", "--force"]).ok();
        // The daemon is killed, then the container; the next daemon cleans up.
        let running = Long::start(&world, runtime, &id, &bundle);
        world.kill_netd();
        let dead = running.crash(&world);
        world.start_netd();
        nothing_is_left(&world);
        dead.runtime(&world, &["delete", "--force"]).ok();
        // No daemon is there when the container is deleted: that is no reason to keep it, and nothing of it
        // is left when the daemon is back.
        let running = Long::start(&world, runtime, &id, &bundle);
        world.kill_netd();
        running.runtime(&world, &["delete", "--force"]);
        running.wait();
        world.start_netd();
        nothing_is_left(&world);
    }
}

pub fn a_late_poststop_leaves_the_next_one_alone() {
    let world = World::new("oci-late");
    world.zone("web").create();
    let annotations = json!({ "io.netd.zone": "web", "io.netd.name": "shop" });
    let bundle = bundle(&world, "crun", "while :; do sleep 1; done", &annotations);
    let dead = Long::start(&world, "crun", "first", &bundle).crash(&world);
    nothing_is_left(&world);
    let next = Long::start(&world, "crun", "second", &bundle);
    dead.runtime(&world, &["delete", "--force"]).ok();
    assert_eq!(world.netd("status shop --json").json()["state"], "attached");
    // The crun that ran it deletes it too, when it sees that it ended: one of the two finds nothing.
    next.runtime(&world, &["delete", "--force"]);
    next.wait();
    nothing_is_left(&world);
}

impl Long {
    fn wait(mut self) {
        self.child.wait().unwrap();
    }
}

/// podman with files of its own. With crun, because its runc wants cgroups, which are the machine's.
const PODMAN: &str = "\
export PATH=$PATH:/usr/sbin:/sbin
mount -t tmpfs tmpfs /run
[ ! -d /sys/fs/cgroup/unified ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
podman() { command podman --root \"$D/storage\" --runroot /run/storage --tmpdir /run/tmp --events-backend=none --network-config-dir \"$D/networks\" \
  --runtime crun --hooks-dir \"$D/hooks\" \"$@\"; }
run() { podman run --cgroups=disabled --ulimit=nofile=1024:1024 --ulimit=nproc=1024:1024 \"--network=${N:-none}\" \"$@\"; }
";

/// Runs a script with podman, and the installed hook in its own folder.
fn podman(world: &World, script: &str) -> Ran {
    let hooks = world.dir.join("hooks");
    fs::create_dir_all(&hooks).unwrap();
    let netd = crate::world::netd_binary();
    let text = include_str!("../../../../dist/70-netd.json")
        .replace("@BINDIR@/netd", &netd.display().to_string());
    let mut file: Value = serde_json::from_str(&text).unwrap();
    let command = world.command();
    let variables = command
        .get_envs()
        .map(|(key, value)| format!("{}={}", key.display(), value.unwrap_or_default().display()));
    file["hook"]["env"] = variables.collect();
    fs::write(hooks.join("70-netd.json"), file.to_string()).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{PODMAN}{script}")]);
    command.env("D", &world.dir);
    command.env("ROOT", root(world));
    command.env("NETD", &netd);
    for (key, value) in world.command().get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    world.netns.enter(|| netns::run(&mut command))
}

fn root(world: &World) -> PathBuf {
    let there = world.dir.join("root");
    match there.exists() {
        true => there,
        false => run::root(&world.dir),
    }
}

pub fn podman_runs_the_installed_hook() {
    let world = World::new("podman");
    world.zone("web").create();
    world.policy(
        "fronts",
        "applies-to = { labels = { tier = \"front\" } }\n[[egress]]\nto = [\"192.0.2.2\"]\nports = [\"tcp/80\"]\n",
    );
    // Labels by blanks, and by a comma in the quotes that podman wants for one.
    for labels in [
        "io.netd.labels=tier=front env=prod",
        "\"io.netd.labels=tier=front,env=prod\"",
    ] {
        let script = format!(
            "run --rm --annotation io.netd.zone=web --annotation io.netd.name=named --annotation '{labels}' \
             --rootfs $ROOT /bin/sh -c 'cat /etc/resolv.conf; ip addr show host0; nc -w1 192.0.2.2 80 </dev/null; \
             nc -w1 192.0.2.2 22 </dev/null; exit 3'"
        );
        let ran = podman(&world, &script);
        assert_eq!(ran.code, 3, "{ran}");
        assert!(ran.stdout.contains("inet 10.89."), "{ran}");
        assert!(ran.stdout.contains("nameserver 10.89.0.1\n"), "{ran}");
        assert_eq!(ran.stdout.matches("world 192.0.2.1").count(), 1, "{ran}");
        nothing_is_left(&world);
    }
    // Without the annotation there is no network, and nobody is asked.
    let alone = podman(&world, "run --rm --rootfs $ROOT /bin/sh -c 'ip -o link'").ok();
    assert!(
        alone.contains("lo:") && alone.lines().count() == 1,
        "{alone}"
    );
}

pub fn podman_does_not_start_what_the_hook_refuses() {
    let world = World::new("podman-refused");
    world.zone("web").create();
    for (network, zone) in [("none", "missing"), ("host", "web")] {
        let script = format!(
            "N={network}; run --rm --annotation io.netd.zone={zone} --rootfs $ROOT /bin/sh -c 'touch /tmp/ran'"
        );
        let ran = podman(&world, &script);
        assert_eq!(ran.code, 126, "{network}, {zone}: {ran}");
        assert!(
            !root(&world).join("tmp/ran").exists(),
            "{network}, {zone}: it ran"
        );
    }
    // It is attached under its id of 64 characters while it runs, and a container that is killed is detached.
    let script = "id=$(run -d --annotation io.netd.zone=web --rootfs $ROOT /bin/sh -c 'while :; do sleep 1; done') || exit\n\
                  echo $id; $NETD status $id --json >$D/status\n\
                  kill -9 $(podman inspect -f '{{.State.Pid}}' $id)\n\
                  podman rm -f -t 0 $id >/dev/null";
    let ran = podman(&world, script);
    let id = ran.clone().ok().trim().to_owned();
    let status: Value =
        serde_json::from_slice(&fs::read(world.dir.join("status")).unwrap()).unwrap();
    assert_eq!(id.len(), 64, "{ran}");
    assert_eq!(status["container"], id.as_str());
    nothing_is_left(&world);
}
