//! Visitors of running containers: `netd exec` and `shell`, files that go in and out, mounts, signals, and what is told of a
//! container that runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::run::root;
use crate::net::netns::{Ran, run};
use crate::world::World;

/// A container that sleeps until it is dropped.
pub(super) struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn start(world: &World, root: &Path, line: &str, command: &str) -> Sleeper {
    let mut netd = world.command();
    netd.arg("run")
        .arg("-q")
        .arg("-D")
        .arg(root)
        .args(line.split_whitespace());
    netd.args(["--", "/bin/sh", "-c", command])
        .stdin(Stdio::null());
    let child = world.netns.enter(|| netd.spawn()).unwrap();
    let sleeper = Sleeper(child);
    let name = line
        .split_whitespace()
        .skip_while(|word| *word != "-M")
        .nth(1)
        .unwrap();
    let started = Instant::now();
    while netd_in(world, &["exec", name, "--", "/bin/true"], None).code != 0 {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{name} does not run"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    sleeper
}

/// A netd command whose arguments may hold blanks.
pub(super) fn netd_in(world: &World, args: &[&str], input: Option<&Path>) -> Ran {
    let mut netd = world.command();
    let Some(input) = input else {
        return world.netns.enter(|| run(netd.args(args)));
    };
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$@\" <\"$0\""])
        .arg(input)
        .arg(netd.get_program())
        .args(args);
    for (key, value) in netd.get_envs() {
        shell.env(key, value.unwrap_or_default());
    }
    world.netns.enter(|| run(&mut shell))
}

pub(super) fn exec(world: &World, name: &str, script: &str) -> Ran {
    netd_in(world, &["exec", name, "--", "/bin/sh", "-c", script], None)
}

pub(super) const FOREVER: &str = "while :; do sleep 1; done";
/// What a process may: a line each, the same for two that may the same.
const RIGHTS: &str = "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Seccomp_filters)' /proc/self/status; \
    cat /proc/self/uid_map; for n in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; ulimit -n; cat /proc/self/cgroup";

pub fn a_visitor_may_what_the_container_may() {
    let world = World::new("visit");
    let root = root(&world.dir);
    for tool in [
        "grep", "readlink", "mkfifo", "tty", "head", "stty", "printf", "dd",
    ] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    world.zone("web").create();
    for (name, line) in [
        ("own", "-U"),
        ("plain", ""),
        ("zoned", "--network-zone=web"),
    ] {
        let note =
            format!("ulimit -n 77; ({RIGHTS}) >/tmp/rights-{name}; : >/tmp/told-{name}; {FOREVER}");
        let _container = start(&world, &root, &format!("-M {name} {line}"), &note);
        let told = root.join(format!("tmp/told-{name}"));
        let started = Instant::now();
        while !told.exists() {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(10));
        }
        let its = fs::read_to_string(root.join(format!("tmp/rights-{name}"))).unwrap();
        let visitors = exec(&world, name, RIGHTS).ok();
        assert_eq!(visitors, its, "{name}");
        assert!(
            visitors.contains("Seccomp:\t2\n") && visitors.contains("\n77\n"),
            "{visitors}"
        );
        // another user has no capability at all, and is under the same filter
        let web = netd_in(
            &world,
            &["exec", "-u", "web", name, "--", "/bin/sh", "-c", RIGHTS],
            None,
        )
        .ok();
        assert!(
            web.contains("CapEff:\t0000000000000000") && web.contains("CapPrm:\t0000000000000000"),
            "{web}"
        );
        assert!(web.contains("Seccomp_filters:\t1"), "{web}");
        // nothing of the host is open inside, and the host's program is nowhere
        let open = exec(&world, name, "ls -l /proc/self/fd /proc/*/exe 2>/dev/null").ok();
        assert!(
            !open.contains("netd") && !open.contains("/work") && !open.contains("memfd"),
            "{open}"
        );
    }
}

pub fn words_codes_and_streams_pass_through() {
    let world = World::new("visit-exec");
    let root = root(&world.dir);
    for tool in ["tty", "stty", "printf", "head", "readlink"] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    let _container = start(&world, &root, "-M c1 -E FROM=run", FOREVER);
    assert_eq!(exec(&world, "c1", "exit 7").code, 7);
    assert_eq!(exec(&world, "c1", "kill -KILL $$").code, 128 + 9);
    assert_eq!(
        netd_in(&world, &["exec", "c1", "--", "nothing"], None).code,
        127
    );
    assert_eq!(
        netd_in(&world, &["exec", "c1", "--", "/etc/passwd"], None).code,
        126
    );
    assert_eq!(netd_in(&world, &["exec", "c2", "--", "true"], None).code, 3);
    let words = [
        "exec",
        "-u",
        "web",
        "-E",
        "A=b c",
        "--chdir=/srv",
        "c1",
        "--",
        "/bin/sh",
        "-c",
        "echo $A $FROM $HOME; id -u; pwd",
    ];
    assert_eq!(
        netd_in(&world, &words, None).ok(),
        "b c run /srv\n33\n/srv\n"
    );
    assert_eq!(
        netd_in(&world, &["shell", "web@c1", "/bin/id", "-u"], None).ok(),
        "33\n"
    );
    let unknown = netd_in(
        &world,
        &["exec", "-u", "nobody-here", "c1", "--", "true"],
        None,
    );
    assert!(
        unknown.code == 1 && unknown.stderr.contains("/etc/passwd"),
        "{unknown}"
    );
    // standard input, to its end
    let input = world.dir.join("input");
    fs::write(&input, "x".repeat(200_000)).unwrap();
    let back = netd_in(&world, &["exec", "c1", "--", "cat"], Some(&input)).ok();
    assert_eq!(back.len(), 200_000);
    // a terminal: of the container's own, with a name inside, and the size of the caller's
    let binary = crate::world::netd_binary();
    let line = format!(
        "stty cols 91 rows 17; {} exec c1 -- /bin/sh -c 'tty; stty size; readlink /proc/self/fd/0; exit 5'",
        binary.display()
    );
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null());
    for (key, value) in world.command().get_envs() {
        script.env(key, value.unwrap_or_default());
    }
    let told = world.netns.enter(|| run(&mut script));
    assert!(
        told.stdout.contains("/dev/pts/") && told.stdout.contains("17 91"),
        "{told}"
    );
    assert_eq!(told.code, 5, "{told}");
    // a signal to the caller reaches the command
    let mut netd = world.command();
    netd.args([
        "exec",
        "c1",
        "--",
        "/bin/sh",
        "-c",
        "trap 'exit 9' TERM; touch /tmp/ready; while :; do sleep 0.05; done",
    ]);
    let mut caller = world
        .netns
        .enter(|| netd.stdin(Stdio::null()).spawn())
        .unwrap();
    wait_until("the command runs", || root.join("tmp/ready").exists());
    crate::world::signal(caller.id(), rustix::process::Signal::TERM);
    assert_eq!(caller.wait().unwrap().code(), Some(9));
    // a caller that is killed takes its command along
    let mut netd = world.command();
    netd.args([
        "exec",
        "c1",
        "--",
        "/bin/sh",
        "-c",
        "touch /tmp/again; exec sleep 4711",
    ]);
    let mut caller = world
        .netns
        .enter(|| netd.stdin(Stdio::null()).spawn())
        .unwrap();
    wait_until("the command runs", || root.join("tmp/again").exists());
    caller.kill().unwrap();
    caller.wait().unwrap();
    let sleeping =
        || crate::machine::pids().any(|pid| crate::machine::command_line(pid) == "sleep 4711");
    wait_until("the command is gone", || !sleeping());
}

pub(super) fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "not yet: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn a_container_that_lies_catches_no_visitor() {
    let world = World::new("visit-lies");
    let root = root(&world.dir);
    for tool in ["mkfifo", "rm", "ln"] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    let _container = start(&world, &root, "-M c1", FOREVER);
    // CVE-2019-5736: what is run is the visitor's own program, by its name in /proc, directly and as an interpreter
    symlink("/proc/self/exe", root.join("bin/door")).unwrap();
    fs::write(root.join("bin/script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(
        root.join("bin/script"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let before = fs::read(crate::world::netd_binary()).unwrap();
    for bait in ["door", "script"] {
        // whatever that program says there, its file cannot be written: it lies on a read-only mount
        let mut netd = world.command();
        netd.args(["exec", "c1", "--", bait, "daemon"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut caller = world.netns.enter(|| netd.spawn()).unwrap();
        let overwrite =
            "for exe in /proc/[0-9]*/exe; do echo overwritten 2>/dev/null >$exe; done; true";
        for _ in 0..5 {
            exec(&world, "c1", overwrite).ok();
        }
        let _ = caller.kill();
        let _ = caller.wait();
    }
    assert!(
        fs::read(crate::world::netd_binary()).unwrap() == before,
        "netd was overwritten"
    );
    // CVE-2024-21626: a working directory that leads to a descriptor of the host's
    for number in 3..12 {
        let dir = format!("--chdir=/proc/self/fd/{number}");
        let ran = netd_in(&world, &["exec", &dir, "c1", "--", "/bin/ls"], None);
        assert_ne!(ran.code, 0, "{ran}");
    }
    // a FIFO for a password file holds nobody up, and a link of the host's is the container's
    fs::remove_file(root.join("etc/passwd")).unwrap();
    exec(&world, "c1", "mkfifo /etc/passwd").ok();
    assert_eq!(
        netd_in(&world, &["exec", "-u", "root", "c1", "--", "true"], None).code,
        1
    );
    exec(
        &world,
        "c1",
        "rm /etc/passwd; ln -s /proc/1/root/../../etc/passwd /etc/passwd",
    )
    .ok();
    assert_eq!(
        netd_in(&world, &["exec", "-u", "daemon", "c1", "--", "true"], None).code,
        1
    );
}

pub fn files_go_in_and_out_and_links_lead_nowhere() {
    let world = World::new("visit-copy");
    let root = root(&world.dir);
    for tool in ["ln", "rm", "mkdir", "stat", "mkfifo"] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    let precious = world.dir.join("precious");
    fs::write(&precious, "mine").unwrap();
    let tree = world.dir.join("tree");
    fs::create_dir_all(tree.join("deep")).unwrap();
    fs::write(tree.join("deep/file"), "words").unwrap();
    symlink("deep/file", tree.join("link")).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for (name, line) in [("plain", ""), ("mapped", "-U")] {
        let _container = start(&world, &root, &format!("-M {name} {line}"), FOREVER);
        let go = |verb: &str, from: &str, to: &str, force: bool| {
            let mut args = vec![verb, name, from, to];
            if force {
                args.push("--force");
            }
            netd_in(&world, &args, None)
        };
        let inside = format!("/srv/{name}");
        go("copy-to", &text(&tree), &inside, false).ok();
        assert_eq!(
            exec(
                &world,
                name,
                &format!("cat {inside}/link; stat -c %u {inside}/deep/file")
            )
            .ok(),
            "words0\n"
        );
        assert_eq!(
            go("copy-to", &text(&tree), &inside, false).code,
            1,
            "it was replaced without --force"
        );
        go("copy-to", &text(&tree), &inside, true).ok();
        let back = world.dir.join(format!("back-{name}"));
        go("copy-from", &inside, &text(&back), false).ok();
        assert_eq!(fs::read_to_string(back.join("deep/file")).unwrap(), "words");
        assert!(
            fs::symlink_metadata(back.join("link"))
                .unwrap()
                .is_symlink()
        );
        assert_eq!(fs::metadata(back.join("deep/file")).unwrap().uid(), 0);
        // A link inside that names a folder of the host's: it leads to the container's own, where there is one.
        let host = text(&world.dir);
        exec(
            &world,
            name,
            &format!(
                "rm -rf /tmp/door; ln -s {host} /tmp/door; ln -s /tmp/door/precious /tmp/file; true"
            ),
        )
        .ok();
        let lost = go("copy-to", &text(&tree), "/tmp/door/evil", false);
        assert!(lost.code != 0 && !world.dir.join("evil").exists(), "{lost}");
        let secret = go(
            "copy-from",
            "/tmp/door/precious",
            &text(&world.dir.join("stolen")),
            false,
        );
        assert!(
            secret.code != 0 && !world.dir.join("stolen").exists(),
            "{secret}"
        );
        // copied as the link that it is
        go(
            "copy-from",
            "/tmp/file",
            &text(&world.dir.join(format!("linked-{name}"))),
            false,
        )
        .ok();
        assert!(
            fs::symlink_metadata(world.dir.join(format!("linked-{name}")))
                .unwrap()
                .is_symlink()
        );
        // over a link: the link is replaced, not what it leads to
        go("copy-to", &text(&tree.join("deep/file")), "/tmp/file", true).ok();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
        let left = exec(&world, name, "ls -a /srv /tmp").ok();
        assert!(!left.contains(".#"), "{left}");
        exec(
            &world,
            name,
            "rm -rf /tmp/door /tmp/file /srv/plain /srv/mapped",
        )
        .ok();
    }
}

pub fn a_folder_of_the_host_is_shown_in_a_running_container() {
    let world = World::new("visit-bind");
    let root = root(&world.dir);
    symlink("busybox", root.join("bin/ln")).unwrap();
    let shown = world.dir.join("shown");
    fs::create_dir(&shown).unwrap();
    fs::write(shown.join("file"), "words\n").unwrap();
    for (name, line) in [("plain", ""), ("mapped", "-U")] {
        let _container = start(&world, &root, &format!("-M {name} {line}"), FOREVER);
        let source = shown.to_str().unwrap();
        let bind = |args: &[&str]| netd_in(&world, &[&["bind", name, source], args].concat(), None);
        assert_eq!(bind(&["/mnt/none"]).code, 1);
        bind(&["/mnt/ro", "--mkdir", "--read-only"]).ok();
        let tried = exec(
            &world,
            name,
            "cat /mnt/ro/file; touch /mnt/ro/new 2>&1; true",
        )
        .ok();
        assert!(
            tried.starts_with("words\n") && tried.contains("Read-only"),
            "{tried}"
        );
        bind(&["/mnt/rw", "--mkdir", "--idmap"]).ok();
        exec(&world, name, &format!("touch /mnt/rw/{name}")).ok();
        assert_eq!(
            fs::metadata(shown.join(name)).unwrap().uid(),
            0,
            "root inside is root of these files"
        );
        // A link that names a folder of the host's is the container's.
        exec(
            &world,
            name,
            &format!("ln -s {} /tmp/link-{name}", world.dir.display()),
        )
        .ok();
        let lost = bind(&[&format!("/tmp/link-{name}")]);
        assert_ne!(lost.code, 0, "{lost}");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains("/mnt/r"), "the host sees it: {mounts}");
        let _ = fs::remove_dir_all(root.join("mnt"));
    }
}

pub fn what_runs_is_told_and_ends_in_order() {
    let world = World::new("visit-told");
    let root = root(&world.dir);
    fs::write(
        root.join("etc/os-release"),
        "ID=box\nVERSION_ID=7\nPRETTY_NAME=\"Box 7\"\n",
    )
    .unwrap();
    world.zone("web").create();
    world.policy("c1", "ingress = []\n");
    let zoned = start(
        &world,
        &root,
        "-M c1 --network-zone=web",
        "sleep 4712 & exec sleep 4713",
    );
    let _apart = start(&world, &root, "-M c2 --private-network", FOREVER);
    let table = world.netd("list").ok();
    let head: Vec<&str> = table
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .take(6)
        .collect();
    assert_eq!(
        head,
        ["MACHINE", "CLASS", "SERVICE", "OS", "VERSION", "ADDRESSES"]
    );
    let line = table.lines().find(|line| line.starts_with("c1")).unwrap();
    let words: Vec<&str> = line.split_whitespace().take(5).collect();
    assert_eq!(words, ["c1", "container", "netd", "box", "7"]);
    let list = world.netd("list --json").json();
    let of = |name: &str| {
        list.as_array()
            .unwrap()
            .iter()
            .find(|c| c["container"] == name)
            .unwrap()
            .clone()
    };
    assert!(of("c1")["zone"] == "web" && of("c1")["os"] == "box" && of("c1")["leader"].is_i64());
    assert!(
        of("c2")["zone"].is_null()
            && of("c2")["state"] == "running"
            && of("c2")["service"] == "netd"
    );
    let status = world.netd("status c1").ok();
    for word in [
        "Since: ",
        "Leader: ",
        "OS: Box 7",
        "Zone: web",
        "Root: ",
        "policies/c1.toml",
        "sleep 4712",
        "─",
    ] {
        assert!(status.contains(word), "{word}: {status}");
    }
    let processes = world.netd("status c1 --json").json()["processes"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(processes, 2);
    assert!(
        world
            .netd("show c2 -p service -p state")
            .ok()
            .contains("service=netd")
    );
    world.netd("status c3").fails(3);
    // all of them: the one that only sleeps too
    world.netd("kill -s SIGKILL --kill-whom=all c1").ok();
    let mut zoned = zoned;
    assert_eq!(zoned.0.wait().unwrap().code(), Some(128 + 9));
    world.netd("kill c1").fails(3);
    world.netd("kill -s NONSENSE c2").fails(2);
    world.netd("stop c2").ok();
    world.netd("exec c2 -- true").fails(3);
}
