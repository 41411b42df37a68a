//! Real consumers: podman's CNI backend, which is libcni, and containerd, which brings a CNI library of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::run;
use crate::net::netns;
use crate::world::{HOST, World};

/// podman with stores and configuration of its own. It does without cgroups, and crun refuses the hybrid of both
/// versions; everything is in one mount namespace, where podman keeps the containers' network namespaces.
const BEGIN: &str = r#"
[ ! -d /sys/fs/cgroup/unified ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /var/lib/cni && mount -t tmpfs tmpfs /var/lib/cni
export CONTAINERS_CONF=$DIR/containers.conf
p() { podman --root "$DIR/store" --runroot "$DIR/run" --tmpdir "$DIR/tmp" --storage-driver vfs --runtime crun "$@"; }
start() { p run --cgroups=disabled --ulimit=nofile=1024:1024 --ulimit=nproc=1024:1024 "$@"; }
exec 2>&1
"#;

pub fn podman_starts_containers_in_a_zone() {
    let world = World::new("cni-podman");
    world.zone("web").create();
    world.policy(
        "named",
        "[[egress]]\nto = [\"192.0.2.2\"]\nports = [\"tcp/80\"]\n",
    );
    let (dir, binary) = (&world.dir, crate::world::netd_binary());
    for folder in ["bin", "net.d"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    symlink(&binary, dir.join("bin/netd")).unwrap();
    for (file, network, zone) in [("10-good", "good", "web"), ("20-bad", "bad", "none")] {
        // What clears up after a container has not the variables of who started it.
        let conflist = json!({
            "cniVersion": "1.0.0", "name": network,
            "plugins": [{
                "type": "netd", "zone": zone, "labels": { "from": "podman" },
                "capabilities": { "portMappings": true, "ips": true, "mac": true, "aliases": true },
                "configDir": world.folder("config"), "stateDir": world.folder("state"), "runtimeDir": world.folder("runtime"),
            }],
        });
        let path = dir.join(format!("net.d/{file}.conflist"));
        fs::write(path, conflist.to_string()).unwrap();
    }
    let conf = format!(
        "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n[network]\nnetwork_backend = \"cni\"\n\
         cni_plugin_dirs = [\"{0}/bin\"]\nnetwork_config_dir = \"{0}/net.d\"\n",
        dir.display()
    );
    fs::write(dir.join("containers.conf"), conf).unwrap();
    let root = run::root(dir);
    let script = format!(
        "{BEGIN}\
        start --rm --name named --network good --rootfs {root} /bin/sh -c '\
          ip addr show eth0; ip route; nc -w1 192.0.2.2 80 </dev/null; nc -w1 192.0.2.2 22 </dev/null; exit 3'; echo \"ended $?\"\n\
        start --rm --name lost --network bad --rootfs {root} /bin/touch /tmp/ran; echo \"refused $?\"\n\
        start -d --name served --network good --publish 8080:80 --mac-address 02:00:00:00:00:77 --rootfs {root} /bin/httpd -f -h /srv -p 80\n\
        echo up; read go\n\
        p rm -f -t 0 served; echo down; read go\n",
        root = root.display()
    );
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &script])
        .env("DIR", dir)
        .env("NETD_AUTOSTART", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = world.netns.enter(|| command.spawn()).unwrap();
    let mut go = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    let mut until = |word: &str| {
        loop {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("ended before {word}:\n{said}"));
            let line = line.unwrap();
            said += &format!("{line}\n");
            if line == word {
                return std::mem::take(&mut said);
            }
        }
    };
    let first = until("up");
    assert!(
        first.contains("inet 10.89.") && first.contains("default via 10.89."),
        "{first}"
    );
    assert_eq!(
        first.matches("world 192.0.2.1").count(),
        1,
        "one port is open, the other is not: {first}"
    );
    assert!(
        first.contains("ended 3") && first.contains("no such zone: none"),
        "{first}"
    );
    assert!(
        !first.contains("refused 0") && !root.join("tmp/ran").exists(),
        "{first}"
    );
    let list = world.netd("list --json").json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    let served: &Value = &list[0];
    assert_eq!(served["container"], "served", "{list}");
    assert_eq!(served["mac"], "02:00:00:00:00:77");
    assert_eq!(served["labels"], json!({ "from": "podman" }));
    run::wait_for_page(&world.outside, HOST[0].parse().unwrap(), 8080);
    writeln!(go).unwrap();
    until("down");
    assert_eq!(world.netd("list --json").json(), json!([]));
    assert_eq!(world.own_links(), ["vz-web"]);
    writeln!(go).unwrap();
    assert!(child.wait().unwrap().success());
}

/// containerd, with the folders of its CNI library where it expects them, in a mount namespace.
const CONTAINERD: &str = r#"
for folder in /opt/cni /etc/cni /var/lib/cni /run/containerd; do mkdir -p $folder; mount -t tmpfs tmpfs $folder; done
mkdir -p /opt/cni/bin /etc/cni/net.d
cp "$DIR/bin/netd" /usr/lib/cni/loopback /opt/cni/bin/
cp "$DIR/10-netd.conflist" /etc/cni/net.d/
cat >"$DIR/containerd.toml" <<END
version = 2
root = "$DIR/store"
state = "$DIR/shims"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$DIR/sock"
END
containerd -c "$DIR/containerd.toml" >"$DIR/containerd.log" 2>&1 &
server=$!
c() { ctr -a "$DIR/sock" "$@" 2>&1; }
tries=0; until c version >/dev/null || [ $tries = 200 ]; do sleep 0.05; tries=$((tries + 1)); done
c run --cgroup '' --rm --cni --rootfs "$ROOT" named /bin/sh -c 'ip addr show eth0; ip route; nc -w1 192.0.2.2 80 </dev/null; nc -w1 192.0.2.2 22 </dev/null'
sed -i 's/"zone": *"web"/"zone":"none"/' /etc/cni/net.d/10-netd.conflist
c run --cgroup '' --rm --cni --rootfs "$ROOT" lost /bin/touch /tmp/ran; echo "refused $?"
c task delete --force lost >/dev/null; c container delete lost >/dev/null
kill $server; wait $server
"#;

pub fn containerd_starts_containers_in_a_zone() {
    let world = World::new("cni-containerd");
    world.zone("web").create();
    // containerd puts its own namespace before the ids of containers.
    world.policy(
        "default-named",
        "[[egress]]\nto = [\"192.0.2.2\"]\nports = [\"tcp/80\"]\n",
    );
    let (dir, root) = (&world.dir, run::root(&world.dir));
    fs::create_dir_all(dir.join("bin")).unwrap();
    symlink(crate::world::netd_binary(), dir.join("bin/netd")).unwrap();
    let conflist = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [{ "type": "netd", "zone": "web" }] });
    fs::write(dir.join("10-netd.conflist"), conflist.to_string()).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", CONTAINERD]);
    for (key, value) in world.command().get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    command.env("DIR", dir).env("ROOT", &root);
    let said = world.netns.enter(|| netns::run(&mut command)).stdout;
    assert!(
        said.contains("inet 10.89.") && said.contains("default via 10.89."),
        "{said}"
    );
    assert_eq!(
        said.matches("world 192.0.2.1").count(),
        1,
        "one port is open, the other is not: {said}"
    );
    assert!(
        said.contains("no such zone: none") && !said.contains("refused 0"),
        "{said}"
    );
    assert!(!root.join("tmp/ran").exists(), "{said}");
    assert_eq!(world.netd("list --json").json(), json!([]), "{said}");
    assert_eq!(world.own_links(), ["vz-web"]);
}
