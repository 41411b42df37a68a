//! `netd run`: a container from a root file system, its network by hook, its policy before its first packet.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::frame;
use crate::net::netns::{Netns, Ran, run};
use crate::net::probe::probe;
use crate::net::trap::Trap;
use crate::world::{HOST, World, signal};

/// A root file system of busybox alone, with a DHCP script that notes what it is told.
pub fn root(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    for folder in [
        "bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "run", "var", "srv", "root", "usr",
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for tool in [
        "sh", "cat", "echo", "ip", "id", "sleep", "kill", "wget", "nc", "true", "false", "udhcpc",
        "httpd", "mount", "touch", "hostname", "ls", "env", "test", "ifconfig",
    ] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nweb:x:33:\n").unwrap();
    fs::write(root.join("srv/index.html"), PAGE).unwrap();
    let script = "#!/bin/sh\n[ \"$1\" = bound ] && echo \"$ip $router $mtu\" >/tmp/told\nexit 0\n";
    fs::write(root.join("bin/told"), script).unwrap();
    fs::set_permissions(root.join("bin/told"), fs::Permissions::from_mode(0o755)).unwrap();
    root
}

fn netd_run(world: &World, root: &Path, line: &str, script: &str) -> Command {
    let mut command = world.command();
    command
        .arg("run")
        .arg("-D")
        .arg(root)
        .args(line.split_whitespace());
    command
        .args(["--", "/bin/sh", "-c", script])
        .stdin(Stdio::null());
    command
}

fn once(world: &World, root: &Path, line: &str, script: &str) -> Ran {
    let mut command = netd_run(world, root, line, script);
    world.netns.enter(|| run(&mut command))
}

/// A container that keeps running.
struct Running(Child);

impl Running {
    fn start(world: &World, root: &Path, line: &str, script: &str) -> Self {
        let mut command = netd_run(world, root, line, script);
        Self(
            world
                .netns
                .enter(|| command.stdout(Stdio::null()).spawn())
                .unwrap(),
        )
    }

    /// Sends a signal to `netd run` and returns the exit code.
    fn end(&mut self, with: Signal) -> Option<i32> {
        signal(self.0.id(), with);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("netd run did not end within 10 s of {with:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(world: &World, name: &str) -> serde_json::Value {
    let started = Instant::now();
    loop {
        let ran = world.netd(&format!("status {name} --json"));
        if ran.code == 0 {
            return ran.json();
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{ran}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const PAGE: &str = "served from inside\n";

/// What an HTTP server has at `/`.
fn page(from: &Netns, address: IpAddr, port: u16) -> Option<String> {
    let asked = || -> std::io::Result<String> {
        let patience = Duration::from_millis(500);
        let mut stream = TcpStream::connect_timeout(&(address, port).into(), patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = from.enter(asked).ok()?;
    answer
        .split_once("\r\n\r\n")
        .map(|(_, page)| page.to_owned())
}

/// Waits until an HTTP server has the page of [`root`].
pub fn wait_for_page(from: &Netns, address: IpAddr, port: u16) {
    let started = Instant::now();
    while page(from, address, port).as_deref() != Some(PAGE) {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "no page at {address}:{port}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn v4_of(container: &serde_json::Value) -> Ipv4Addr {
    let addresses = container["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|text| text.as_str());
    addresses
        .filter_map(|text| text.split('/').next()?.parse().ok())
        .next()
        .unwrap()
}

fn nothing_is_left(world: &World) {
    let started = Instant::now();
    while world.own_links().iter().any(|name| name.starts_with("vb-")) {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            world.own_links()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(world.netd("list --json").json(), serde_json::json!([]));
}

pub fn the_network_is_there_before_the_command() {
    let world = World::new("run");
    let root = root(&world.dir);
    world.zone("web").create();
    let ran = once(
        &world,
        &root,
        "-M c1 --network-zone=web",
        "ip addr show host0; ip route; nc -w1 192.0.2.2 22 </dev/null",
    );
    assert!(
        ran.stdout.contains("inet 10.89.") && ran.stdout.contains("default via 10.89."),
        "{ran}"
    );
    assert!(
        ran.stdout.contains("world 192.0.2.1"),
        "it did not reach the world: {ran}"
    );
    nothing_is_left(&world);
    // The name keeps its address.
    let again = once(
        &world,
        &root,
        "-M c1 --network-zone=web",
        "ip addr show host0",
    );
    let address = |text: &str| {
        text.split_whitespace()
            .skip_while(|word| *word != "inet")
            .nth(1)
            .map(str::to_owned)
    };
    assert_eq!(address(&again.stdout), address(&ran.stdout));
    // Without a zone there is loopback and nothing else.
    let alone = once(&world, &root, "-M c2 --private-network", "ip -o link").ok();
    assert!(
        alone.contains("lo:") && alone.lines().count() == 1,
        "{alone}"
    );
    // A missing zone is made with the defaults, and that is said.
    let new = once(
        &world,
        &root,
        "-M c3 --network-zone=fresh",
        "ip addr show host0",
    );
    assert!(new.code == 0 && new.stderr.contains("fresh"), "{new}");
    assert_eq!(
        world.netd("zone show fresh --json").json()["default"],
        "egress"
    );
}

pub fn exit_codes_and_signals_pass_through() {
    let world = World::new("run-exit");
    let root = root(&world.dir);
    world.zone("web").create();
    assert_eq!(
        once(&world, &root, "-M c1 --network-zone=web", "exit 7").code,
        7
    );
    assert_eq!(
        once(
            &world,
            &root,
            "-M c1 --network-zone=web --as-pid2",
            "kill -KILL $$"
        )
        .code,
        128 + 9
    );
    let input = once(
        &world,
        &root,
        "-M c1 --network-zone=web --hostname=inside --setenv=A=b --user=web --chdir=/srv",
        "hostname; echo $A; id -u; pwd",
    )
    .ok();
    assert_eq!(input, "inside\nb\n33\n/srv\n");
    let mut running = Running::start(
        &world,
        &root,
        "-M c1 --network-zone=web",
        "trap 'exit 5' TERM; touch /tmp/up; while :; do sleep 0.1; done",
    );
    wait_for(&world, "c1");
    let started = Instant::now();
    while !root.join("tmp/up").exists() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "it does not run"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(running.end(Signal::TERM), Some(5));
    nothing_is_left(&world);
}

pub fn policy_holds_before_the_first_packet() {
    let world = World::new("run-first");
    let root = root(&world.dir);
    world.zone("web").default("allow").create();
    world.policy(
        "c1",
        "[[egress]]\nto = [\"world\"]\nports = [\"tcp/667\"]\n",
    );
    let at = |port: u16| {
        Trap::set(&world.outside, "eth0", move |frame| {
            frame::destination(frame) == Some((6, port))
        })
    };
    let (closed, open) = (at(666), at(667));
    let script = "for i in 1 2 3; do nc -w1 192.0.2.2 666 </dev/null & nc -w1 192.0.2.2 667 </dev/null & done; sleep 0.5";
    once(&world, &root, "-M c1 --network-zone=web", script);
    open.has_caught("what policy allows");
    closed.is_empty("what policy forbids");
}

pub fn a_hook_that_fails_stops_the_start() {
    let world = World::new("run-refused");
    let root = root(&world.dir);
    world.zone("web").create();
    world.write_policy("c1", "[[egress]\n");
    world.netd("reload").fails(1);
    let refused = once(&world, &root, "-M c1 --network-zone=web", "touch /tmp/ran");
    assert_eq!(refused.code, 1, "{refused}");
    assert!(
        refused.stderr.contains("c1.toml:1:"),
        "it does not say why: {refused}"
    );
    assert!(
        !root.join("tmp/ran").exists(),
        "the command ran all the same"
    );
    nothing_is_left(&world);
    world.stop_netd();
    let refused = once(&world, &root, "-M c2 --network-zone=web", "touch /tmp/ran");
    assert_ne!(refused.code, 0, "{refused}");
    assert!(
        !root.join("tmp/ran").exists(),
        "the command ran without a daemon"
    );
    world.start_netd();
}

pub fn users_of_its_own_and_a_dhcp_client_inside() {
    let world = World::new("run-users");
    let root = root(&world.dir);
    world.zone("web").option("--mtu", "1400").create();
    let script = "ip addr flush dev host0; udhcpc -i host0 -f -n -q -t 5 -T 1 -s /bin/told >&2 && cat /tmp/told; id -u; cat /proc/self/uid_map";
    let ran = once(
        &world,
        &root,
        "-M c1 -U --network-zone=web --tmpfs=/tmp",
        script,
    );
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.len() >= 3, "{ran}");
    let told: Vec<&str> = lines[0].split_whitespace().collect();
    assert!(
        told[0].starts_with("10.89.") && told[1].starts_with("10.89.") && told[2] == "1400",
        "{ran}"
    );
    assert_eq!(lines[1], "0", "{ran}");
    assert_ne!(
        lines[2].split_whitespace().nth(1),
        Some("0"),
        "root inside is root outside: {ran}"
    );
    nothing_is_left(&world);
}

/// The body of a page. (Debian's static busybox dies of its own wget.)
fn fetch_command(host: IpAddr, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 1 {host} {port} | tail -n 1")
}

pub fn published_ports_and_labels() {
    let world = World::new("run-port");
    let root = root(&world.dir);
    world.zone("web").default("deny").create();
    world.policy("fronts", "applies-to = { labels = { tier = \"front\" } }\n[[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/80\"]\n");
    let mut running = Running::start(
        &world,
        &root,
        "-M c1 --network-zone=web --port=tcp:8080:80 --label=tier=front",
        "exec httpd -f -h /srv -p 80",
    );
    let container = wait_for(&world, "c1");
    assert_eq!(container["labels"]["tier"], "front", "{container}");
    let host: IpAddr = HOST[0].parse().unwrap();
    let fetch = || world.outside.run(&fetch_command(host, 8080));
    let started = Instant::now();
    while fetch().stdout != "served from inside\n" {
        assert!(started.elapsed() < Duration::from_secs(10), "{}", fetch());
    }
    // The label's file says world, and only that.
    assert!(!probe(&world.netns, v4_of(&container).into(), "tcp/80").passed());
    world.netd("stop c1").ok();
    running.0.wait().unwrap();
    nothing_is_left(&world);
    assert_eq!(fetch().stdout, "");
}

pub fn the_network_outlives_the_daemon() {
    let world = World::new("run-outlives");
    let root = root(&world.dir);
    world.zone("web").default("allow").create();
    let script = "httpd -h /srv -p 80; while [ ! -e /tmp/end ]; do sleep 0.1; done";
    let mut running = Running::start(&world, &root, "-M c1 --network-zone=web", script);
    let address = v4_of(&wait_for(&world, "c1")).into();
    wait_for_page(&world.netns, address, 80);
    world.kill_netd();
    assert_eq!(page(&world.netns, address, 80).as_deref(), Some(PAGE));
    // It ends while no daemon runs; the next one cleans up.
    fs::write(root.join("tmp/end"), "").unwrap();
    running.0.wait().unwrap();
    world.start_netd();
    nothing_is_left(&world);
}
