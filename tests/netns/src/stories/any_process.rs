//! Any process: `netd run --no-root`, and `netd attach` for what bubblewrap, unshare and `ip netns` start.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::machine;
use crate::net::frame;
use crate::net::netns::{self, Ran};
use crate::net::trap::Trap;
use crate::world::{World, signal};

/// Longest that something may take that is only waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a program says that asks the world at a port that is open, and at one that is not.
const ASK: &str = "busybox nc -w5 192.0.2.2 80 </dev/null; busybox nc -w5 192.0.2.2 22 </dev/null";

fn no_root(world: &World, options: &str, words: &[&str]) -> Command {
    let mut command = world.command();
    command.args(["run", "--no-root", "--network-zone=jail"]);
    command
        .args(options.split_whitespace())
        .arg("--")
        .args(words);
    command.stdin(Stdio::null());
    command
}

fn sh(world: &World, options: &str, script: &str) -> Ran {
    let mut command = no_root(world, options, &["sh", "-c", script]);
    world.netns.enter(|| netns::run(&mut command))
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn nothing_is_left(world: &World) {
    eventually("something is left", || {
        world.netd("list --json").json() == json!([]) && world.own_links() == ["vz-jail"]
    });
}

/// A host with a zone, and a policy for `fetch` that opens port 80 of the world.
fn world(title: &str) -> World {
    let world = World::new(title);
    world.zone("jail").default("deny").create();
    let rule = "[[egress]]\nto = [\"192.0.2.2\"]\nports = [\"tcp/80\"]\n";
    world.policy("fetch", rule);
    world
}

fn one_port_is_open(ran: &Ran) {
    assert_eq!(ran.stdout.matches("world 192.0.2.1").count(), 1, "{ran}");
}

pub fn only_the_network_is_new() {
    let world = world("no-root");
    one_port_is_open(&sh(&world, "--name=fetch", ASK));
    nothing_is_left(&world);
    // What it was called with: directory, variables, descriptors, standard input, identity; and the host's files.
    let folder = world.dir.join("here");
    fs::create_dir(&folder).unwrap();
    let script = "pwd; echo $OWN; cat; readlink /proc/self/fd/7; id -u; readlink /proc/self/ns/pid; \
                  ip -o link show lo | grep -c UP; echo written >file; exit 7";
    let line = format!(
        "cd {}; echo input | OWN=value exec \"$@\" 7</etc/hostname",
        folder.display()
    );
    let mut command = Command::new("sh");
    let run = no_root(&world, "--name=fetch", &["sh", "-c", script]);
    command
        .args(["-c", &line, "sh"])
        .arg(run.get_program())
        .args(run.get_args());
    command.envs(
        run.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    let ran = world.netns.enter(|| netns::run(&mut command));
    let pids = fs::read_link("/proc/self/ns/pid").unwrap();
    let expected = format!(
        "{}\nvalue\ninput\n/etc/hostname\n0\n{}\n1\n",
        folder.display(),
        pids.display()
    );
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (7, expected.as_str()),
        "{ran}"
    );
    assert_eq!(
        fs::read_to_string(folder.join("file")).unwrap(),
        "written\n"
    );
    // Another user where one is asked for.
    let ran = sh(
        &world,
        "--name=fetch --user=nobody",
        "id -u; id -G; grep CapEff /proc/self/status",
    );
    assert_eq!(
        ran.clone().ok(),
        "65534\n65534\nCapEff:\t0000000000000000\n",
        "{ran}"
    );
    // Exit codes, as a shell has them.
    assert_eq!(sh(&world, "", "kill -USR1 $$").code, 128 + 10);
    let file = world.dir.join("no-program");
    fs::write(&file, "").unwrap();
    for (command, code) in [("no-such-command", 127), (file.to_str().unwrap(), 126)] {
        let mut run = no_root(&world, "", &[command]);
        let ran = world.netns.enter(|| netns::run(&mut run));
        assert_eq!(ran.code, code, "{ran}");
    }
    // It has a network or it is refused.
    world.netd("run --no-root -- true").fails(2);
    nothing_is_left(&world);
}

pub fn names_are_asked_of_the_zone() {
    let world = world("no-root-dns");
    let gateway = world.netd("zone show jail --json").json()["gateway4"].clone();
    let gateway = gateway.as_str().unwrap();
    // The story's own /etc and /run, with what systemd-resolved, nscd and avahi have there.
    let script = "\
mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/resolve /run/nscd /run/avahi-daemon
echo 'nameserver 127.0.0.53' >/run/plain
[ -e /etc/resolv.conf ] || exit 9
mount --bind /run/plain \"$(readlink -f /etc/resolv.conf)\"
for s in systemd/resolve/io.systemd.Resolve nscd/socket avahi-daemon/socket; do
  touch /run/$s; mount --bind $S /run/$s; [ -S /run/$s ] || exit 8
done
\"$@\"; code=$?
cat /etc/resolv.conf; exit $code";
    let inside = "cat /etc/resolv.conf; for s in systemd/resolve/io.systemd.Resolve nscd/socket avahi-daemon/socket; do \
                  [ ! -S /run/$s ] || echo open $s; done; echo evil >/etc/resolv.conf";
    let run = no_root(&world, "--name=fetch", &["sh", "-c", inside]);
    let mut command = Command::new("unshare");
    let socket = world.dir.join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    command.args(["--mount", "bash", "-c", script, "bash"]);
    command.env("S", &socket);
    command.arg(run.get_program()).args(run.get_args());
    command.envs(
        run.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    let ran = world.netns.enter(|| netns::run(&mut command));
    assert!(
        ran.stdout.contains(&format!("nameserver {gateway}\n")),
        "{ran}"
    );
    assert!(
        !ran.stdout.contains("open "),
        "a way past the zone is open: {ran}"
    );
    assert!(
        ran.stdout.ends_with("\nnameserver 127.0.0.53\n") && !ran.stdout.contains("evil"),
        "the host's file was changed: {ran}"
    );
    nothing_is_left(&world);
}

pub fn policy_holds_before_the_program() {
    let world = world("no-root-first");
    let at = |port: u16| {
        Trap::set(&world.outside, "eth0", move |frame| {
            frame::destination(frame) == Some((6, port))
        })
    };
    let (closed, open) = (at(22), at(80));
    sh(
        &world,
        "--name=fetch",
        "for i in 1 2 3; do busybox nc -w5 192.0.2.2 22 </dev/null & \
        busybox nc -w5 192.0.2.2 80 </dev/null & done; wait",
    );
    open.has_caught("what policy allows");
    closed.is_empty("what policy forbids");
    // A hook that fails: the program is not run.
    let ran = world.dir.join("ran");
    let touch = format!("touch {}", ran.display());
    world.write_policy("bad", "[[egress]\n");
    world.netd("reload").fails(1);
    let said = sh(&world, "--name=bad", &touch).fails(1);
    assert!(said.contains("bad.toml:1:"), "{said}");
    world.stop_netd();
    assert_ne!(sh(&world, "--name=fetch", &touch).code, 0);
    assert!(!ran.exists(), "it ran without a network");
    world.start_netd();
    nothing_is_left(&world);
}

/// `netd run` in the background, and the pid of what it runs.
struct Running {
    child: Child,
    pid: u32,
}

impl Running {
    fn start(world: &World, script: &str) -> Self {
        let pid = world.dir.join("pid");
        let _ = fs::remove_file(&pid);
        let script = format!("echo $$ >{0}.new; mv {0}.new {0}; {script}", pid.display());
        let mut command = no_root(world, "--name=fetch", &["sh", "-c", &script]);
        let child = world.netns.enter(|| command.spawn()).unwrap();
        eventually("it does not run", || pid.exists());
        let pid = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        Self { child, pid }
    }

    fn code(&mut self) -> Option<i32> {
        eventually("it does not end", || !machine::alive(self.child.id()));
        self.child.wait().unwrap().code()
    }
}

pub fn it_ends_with_netd_and_netd_with_it() {
    let world = world("no-root-end");
    const ON: &str = "while :; do sleep 0.05; done";
    let mut running = Running::start(&world, &format!("trap 'exit 5' TERM; {ON}"));
    // A name is taken while it runs.
    assert!(
        sh(&world, "--name=fetch", "true")
            .fails(1)
            .contains("runs already")
    );
    signal(running.child.id(), Signal::TERM);
    assert_eq!(running.code(), Some(5));
    nothing_is_left(&world);
    let mut running = Running::start(&world, ON);
    world.netd("stop fetch").ok();
    assert_eq!(running.code(), Some(128 + 15));
    nothing_is_left(&world);
    // netd is killed: the program ends, and its port goes.
    let mut running = Running::start(&world, ON);
    signal(running.child.id(), Signal::KILL);
    running.code();
    eventually("the program lives on", || !machine::alive(running.pid));
    nothing_is_left(&world);
    // The program is killed.
    let mut running = Running::start(&world, ON);
    signal(running.pid, Signal::KILL);
    assert_eq!(running.code(), Some(128 + 9));
    nothing_is_left(&world);
    // It leaves somebody behind: who stays has no network any more.
    let mut running = Running::start(
        &world,
        &format!("({ON}) & echo $! >{}", world.dir.join("left").display()),
    );
    assert_eq!(running.code(), Some(0));
    nothing_is_left(&world);
    let left: u32 = fs::read_to_string(world.dir.join("left"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let links = world.sh(&format!("nsenter -t {left} -n ip -o link"));
    assert!(!links.contains("host0"), "{links}");
    signal(left, Signal::KILL);
}

/// Runs a script with netd's variables on the host of the world.
fn script(world: &World, text: &str) -> Ran {
    let mut command = Command::new("bash");
    let netd = world.command();
    let path = std::env::var("PATH").unwrap_or_default();
    let bin = world.dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    if !bin.join("netd").exists() {
        std::os::unix::fs::symlink(netd.get_program(), bin.join("netd")).unwrap();
    }
    command
        .args(["-ec", text])
        .env("D", &world.dir)
        .env("ASK", ASK);
    command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin.display()));
    command.envs(
        netd.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    world.netns.enter(|| netns::run(&mut command))
}

/// A piece of the page for people, as it stands there: what it promises is what is tried.
fn of_the_page(name: &str) -> String {
    let page = include_str!("../../../../docs/any-process.md");
    let start = format!("<!-- {name} -->\n```sh\n");
    let (_, rest) = page
        .split_once(&start)
        .unwrap_or_else(|| panic!("no {name}"));
    rest.split_once("```\n").unwrap().0.to_owned()
}

pub fn bubblewrap_waits_for_its_network() {
    let world = world("bwrap");
    fs::write(world.dir.join("fetch-program"), format!("{ASK}; exit 0\n")).unwrap();
    let text =
        of_the_page("bubblewrap").replace("/usr/bin/fetch-program", "/bin/sh $D/fetch-program");
    let ran = script(&world, &text);
    assert_eq!(ran.code, 0, "{ran}");
    one_port_is_open(&ran);
    nothing_is_left(&world);
    // Who is refused does not run.
    let ran = script(
        &world,
        &text
            .replace("--zone jail", "--zone missing")
            .replace("/bin/sh $D/fetch-program", "touch $D/ran"),
    );
    assert_ne!(ran.code, 0, "{ran}");
    assert!(!world.dir.join("ran").exists(), "{ran}");
    nothing_is_left(&world);
}

pub fn unshare_and_ip_netns_are_attached() {
    let world = world("netns");
    fs::write(world.dir.join("fetch-program"), format!("{ASK}; exit 0\n")).unwrap();
    for name in ["unshare", "ip netns"] {
        let text = of_the_page(name)
            .replace("/usr/bin/fetch-program", "/bin/sh $D/fetch-program")
            .replace("/etc/netns", "$D/etc-netns");
        let ran = script(&world, &text);
        assert_eq!(ran.code, 0, "{name}: {ran}");
        one_port_is_open(&ran);
        nothing_is_left(&world);
    }
    // What is none of its own is refused: this process's, by pid and by path; and what is no namespace.
    for what in ["--pid $$", "--netns /proc/self/ns/net"] {
        let ran = script(&world, &format!("netd attach fetch --zone jail {what}"));
        assert!(
            ran.clone()
                .fails(1)
                .contains("host's own network namespace"),
            "{ran}"
        );
    }
    for what in ["--netns /dev/null", "--netns missing", "--pid 4194305"] {
        assert_ne!(
            script(&world, &format!("netd attach fetch --zone jail {what}")).code,
            0
        );
    }
    assert!(Path::new("/run/netns").exists());
    nothing_is_left(&world);
}
