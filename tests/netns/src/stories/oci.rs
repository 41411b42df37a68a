//! Other runtimes get their network from netd: crun and runc run `netd hook oci` as a hook of the bundle.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::run;
use crate::net::netns::{self, Ran};
use crate::world::World;

/// Those that every story here is told with.
pub const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// Makes a bundle whose container runs a script, with netd as its hook where it has annotations.
pub fn bundle(world: &World, runtime: &str, script: &str, annotations: &Value) -> PathBuf {
    let bundle = world.dir.join(format!("bundle-{runtime}"));
    let _ = fs::remove_dir_all(&bundle);
    fs::create_dir_all(&bundle).unwrap();
    let root = run::root(&bundle);
    let mut command = Command::new(runtime);
    netns::run(command.arg("spec").current_dir(&bundle)).ok();
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config["root"] = json!({ "path": root, "readonly": false });
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    if !annotations.is_null() {
        let netd = crate::world::netd_binary();
        let variables: Vec<String> = world
            .command()
            .get_envs()
            .map(|(key, value)| {
                format!("{}={}", key.display(), value.unwrap_or_default().display())
            })
            .collect();
        let hook = json!([{ "path": netd, "args": ["netd", "hook", "oci"], "env": variables }]);
        config["annotations"] = annotations.clone();
        config["hooks"] = json!({ "createRuntime": hook, "poststop": hook });
    }
    // No limits are asked for; the runtimes need no cgroup then.
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("resources");
        linux.remove("cgroupsPath");
    }
    fs::write(&path, config.to_string()).unwrap();
    bundle
}

/// How a bundle is run. crun refuses the hybrid of both cgroup versions, so there it gets the newer one for itself.
pub fn command(world: &World, runtime: &str, id: &str, bundle: &Path) -> Command {
    let cgroup =
        "[ ! -d /sys/fs/cgroup/unified ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", cgroup, "sh", runtime, "--root"]);
    command.arg(world.dir.join(format!("state-{runtime}")));
    if runtime == "crun" {
        command.arg("--cgroup-manager=disabled");
    }
    command.arg("run").arg("--bundle").arg(bundle).arg(id);
    command
}

/// Runs a bundle to its end.
pub fn start(world: &World, runtime: &str, id: &str, bundle: &Path) -> Ran {
    let mut command = command(world, runtime, id, bundle);
    world.netns.enter(|| netns::run(&mut command))
}

/// The control: both run a bundle without hooks here, and what they run does what the stories ask of it.
pub fn runtimes_work_at_all() {
    let world = World::without_daemon("oci-control");
    let script = "ip -o link; ip link set lo up; echo page >/srv/index.html; httpd -h /srv -p 80; \
                  nc -w1 127.0.0.1 81 </dev/null; wget -qO- http://127.0.0.1/; touch /tmp/ran; exit 3";
    for runtime in RUNTIMES {
        let bundle = bundle(&world, runtime, script, &Value::Null);
        let ran = start(&world, runtime, "control", &bundle);
        assert_eq!(ran.code, 3, "{ran}");
        assert!(
            ran.stdout.contains("lo:") && ran.stdout.ends_with("page\n"),
            "{ran}"
        );
        assert!(bundle.join("root/tmp/ran").exists(), "{ran}");
    }
}

pub fn crun_and_runc_get_their_network_by_hook() {
    let world = World::new("oci");
    world.zone("web").create();
    world.policy(
        "named",
        "[[egress]]\nto = [\"192.0.2.2\"]\nports = [\"tcp/80\"]\n",
    );
    for runtime in RUNTIMES {
        let script = "ip addr show host0; ip route; nc -w1 192.0.2.2 80 </dev/null; nc -w1 192.0.2.2 22 </dev/null; exit 3";
        let annotations = json!({ "io.netd.zone": "web", "io.netd.name": "named", "io.netd.labels": "tier=front" });
        let ran = start(
            &world,
            runtime,
            &format!("{runtime}-one"),
            &bundle(&world, runtime, script, &annotations),
        );
        assert_eq!(ran.code, 3, "{ran}");
        assert!(
            ran.stdout.contains("inet 10.89.") && ran.stdout.contains("default via 10.89."),
            "{ran}"
        );
        assert_eq!(
            ran.stdout.matches("world 192.0.2.1").count(),
            1,
            "one port is open, the other is not: {ran}"
        );
        // poststop has detached it.
        assert_eq!(world.netd("list --json").json(), json!([]), "{runtime}");
    }
}

pub fn a_refused_hook_stops_the_container() {
    let world = World::new("oci-refused");
    world.zone("web").create();
    world.write_policy("bad", "[[egress]\n");
    world.netd("reload").fails(1);
    for runtime in RUNTIMES {
        for (what, annotations) in [
            ("no zone", json!({})),
            (
                "a zone that is not there",
                json!({ "io.netd.zone": "none" }),
            ),
            (
                "a bad policy",
                json!({ "io.netd.zone": "web", "io.netd.name": "bad" }),
            ),
        ] {
            let bundle = bundle(&world, runtime, "touch /tmp/ran", &annotations);
            let ran = start(&world, runtime, "refused", &bundle);
            assert_ne!(ran.code, 0, "{runtime}, {what}: {ran}");
            assert!(
                !bundle.join("root/tmp/ran").exists(),
                "{runtime}, {what}: the container ran"
            );
            assert_eq!(
                world.netd("list --json").json(),
                json!([]),
                "{runtime}, {what}"
            );
            let mut delete = Command::new(runtime);
            delete
                .arg("--root")
                .arg(world.dir.join(format!("state-{runtime}")));
            netns::run(delete.args(["delete", "--force", "refused"]));
        }
    }
    assert_eq!(world.own_links(), ["vz-web"]);
}
