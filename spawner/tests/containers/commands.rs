//! The command: exit codes, environment, user, directory, standard input and output.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("exit codes are the command's", exit_codes),
    (
        "a command that cannot be run is 127 or 126 and named",
        missing_commands,
    ),
    ("environment", environment),
    (
        "the host's environment stays outside, whatever is in it",
        host_environment,
    ),
    (
        "sockets that were passed to us are the command's",
        listen_fds,
    ),
    ("hostname", hostname),
    ("user names, numbers and groups", user),
    ("chdir", chdir),
    ("a missing directory to change to is named", chdir_missing),
    ("pipe passes standard input and output on", pipe),
    ("no descriptor but the standard ones gets in", descriptors),
    ("a stub is pid 1 with as-pid2", as_pid2),
    ("the stub reaps orphans", as_pid2_reaps),
    ("the stub shows nothing of the host", as_pid2_hides),
    ("one name runs once", running_twice),
    ("no new privileges when asked", no_new_privileges),
    ("system calls and capabilities are filtered", filtered),
    (
        "capabilities are exactly those that were meant",
        exact_capabilities,
    ),
    ("bad settings are refused before anything happens", refused),
];

fn exit_codes() {
    let world = World::new();
    for code in [0, 1, 7, 255] {
        assert_eq!(world.sh(&format!("exit {code}")).status, code);
    }
    assert_eq!(
        world.sh("kill -9 $$; sleep 1").status,
        0,
        "pid 1 cannot kill itself"
    );
    let stub = world.run(json!({ "as_pid2": true, "command": ["sh", "-c", "kill -9 $$"] }));
    assert_eq!(stub.status, 128 + 9);
}

fn missing_commands() {
    let world = World::new();
    let ended = world.run(json!({ "command": ["no-such"] }));
    assert_eq!(ended.status, 127);
    assert!(
        ended.err.starts_with("spawn: no-such: no such command"),
        "{ended:?}"
    );
    // nothing of libcontainer's own follows
    assert!(ended.err.ends_with(":/bin)\n"), "{ended:?}");
    let ended = world.run(json!({ "command": ["/etc/passwd"] }));
    assert_eq!(ended.status, 126);
    let detach = format!("touch {}", world.path("detached").display());
    let ended =
        world.run(json!({ "command": ["no-such"], "private_network": true, "detach": detach }));
    assert_eq!(ended.status, 127);
    assert!(
        world.path("detached").exists(),
        "poststop hooks run also when the start failed"
    );
}

fn environment() {
    let world = World::new();
    let out = world
        .run(json!({ "setenv": [["A", "b c"], ["HOME", "/srv"]], "command": ["env"] }))
        .good();
    let mut env: Vec<_> = out.lines().collect();
    env.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        env,
        [
            "A=b c",
            "HOME=/srv",
            "LOGNAME=root",
            path,
            "USER=root",
            "container=netd"
        ]
    );
}

fn host_environment() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let output = world
        .command(json!({ "command": ["sh", "-c", "env | grep -c HOSTS"] }))
        .env("HOSTS_OWN", std::ffi::OsStr::from_bytes(b"\xff\xfe"))
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0\n", "{output:?}");
}

fn listen_fds() {
    let world = World::new();
    for (as_pid2, pid) in [(false, 1), (true, 2)] {
        let script = "echo $LISTEN_FDS $LISTEN_PID $$; cat <&3; ls /proc/self/fd | wc -l";
        let output = std::process::Command::new("sh")
            .args([
                "-c",
                "exec 3< /proc/version; LISTEN_FDS=1 exec \"$@\"",
                "sh",
            ])
            .args(world.argv(json!({ "as_pid2": as_pid2, "command": ["sh", "-c", script] })))
            .output()
            .unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[0], format!("1 {pid} {pid}"));
        assert!(lines[1].starts_with("Linux version"), "{out}");
        assert_eq!(lines[2], "5", "0 to 3, and the directory that is listed");
    }
}

fn hostname() {
    let world = World::new();
    assert_eq!(world.sh("hostname").good(), "web\n");
    let out = world
        .run(json!({ "hostname": "www.example", "command": ["hostname"] }))
        .good();
    assert_eq!(out, "www.example\n");
}

fn user() {
    let world = World::new();
    let id = |user: &str| {
        let script = "id -u; id -g; id -G; echo $HOME; umask; grep CapEff /proc/self/status";
        world
            .run(json!({ "user": user, "command": ["sh", "-c", script] }))
            .good()
    };
    let none = "CapEff:\t0000000000000000\n";
    assert_eq!(id("web"), format!("33\n34\n34 4\n/srv\n0022\n{none}"));
    assert_eq!(id("33:7"), format!("33\n7\n7\n/srv\n0022\n{none}"));
    assert_eq!(id("77"), format!("77\n0\n0\n/\n0022\n{none}"));
    let ended = world.run(json!({ "user": "nobody-here", "command": ["id"] }));
    assert_eq!(ended.status, 1);
    let text = "spawn: user \"nobody-here\": no \"nobody-here\" in the container's /etc/passwd\n";
    assert_eq!(ended.err, text);
}

fn chdir() {
    let world = World::new();
    assert_eq!(world.sh("pwd").good(), "/\n");
    assert_eq!(
        world
            .run(json!({ "chdir": "/srv", "command": ["pwd"] }))
            .good(),
        "/srv\n"
    );
}

fn chdir_missing() {
    let world = World::new();
    let ended = world.run(json!({ "chdir": "/none", "command": ["pwd"] }));
    assert_eq!(ended.status, 1);
    assert_eq!(ended.err, "spawn: container web: failed to chdir: ENOENT\n");
}

fn pipe() {
    let world = World::new();
    let mut child = world
        .command(json!({ "command": ["sh", "-c", "cat; echo err >&2"] }))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = "x".repeat(1 << 20);
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.stdout.len(), 1 << 20);
    assert_eq!(output.stderr, b"err\n");
    world.nothing_left();
}

fn descriptors() {
    let world = World::new();
    for as_pid2 in [false, true] {
        // 3 is the directory that ls itself has open
        let script = "exec ls /proc/self/fd";
        let out = world
            .run(json!({ "as_pid2": as_pid2, "command": ["sh", "-c", script] }))
            .good();
        assert_eq!(out, "0\n1\n2\n3\n");
    }
}

fn as_pid2() {
    let world = World::new();
    let out = world.run(json!({ "as_pid2": true, "command": ["sh", "-c", "echo $$; exit 3"] }));
    assert_eq!((out.status, out.out.as_str()), (3, "2\n"));
    assert_eq!(world.sh("echo $$").good(), "1\n");
}

fn as_pid2_reaps() {
    let world = World::new();
    // the orphan's parent ends at once; a second later no zombie may be there
    let script = "(sleep 0.2 &) ; sleep 1; grep -l 'State:.Z' /proc/[0-9]*/status; true";
    assert_eq!(
        world
            .run(json!({ "as_pid2": true, "command": ["sh", "-c", script] }))
            .good(),
        ""
    );
}

fn as_pid2_hides() {
    let world = World::new();
    let script = "tr '\\0' ' ' < /proc/1/cmdline; cat /proc/1/comm; \
        readlink /proc/1/exe || echo no exe; readlink /proc/1/fd/0 || echo no fd; cat /proc/1/environ";
    let out = world.run(json!({ "as_pid2": true, "command": ["sh", "-c", script] }));
    assert!(out.out.trim_start().starts_with("(netd-stub)"), "{out:?}");
    assert!(out.out.ends_with("netd-stub\nno exe\nno fd\n"), "{out:?}");
    assert!(out.err.contains("/proc/1/environ"), "{out:?}");
}

fn running_twice() {
    let world = World::new();
    let (mut child, running) = world.start(json!({ "command": ["sleep", "1000"] }));
    assert_eq!(running.name, "web");
    assert_eq!(running.command, ["sleep", "1000"]);
    let second = world
        .command(json!({ "command": ["true"] }))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(
        text.starts_with("spawn: container web runs already"),
        "{text}"
    );
    let other = world
        .command(json!({ "machine": "db", "command": ["true"] }))
        .status()
        .unwrap();
    assert!(other.success());
    spawner::kill(&world.state(), &"web".parse().unwrap(), 9).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(137));
    world.nothing_left();
}

fn no_new_privileges() {
    let world = World::new();
    let script = "grep NoNewPrivs /proc/self/status | tr -d '\\t'";
    assert_eq!(world.sh(script).good(), "NoNewPrivs:0\n");
    let out = world
        .run(json!({ "no_new_privileges": true, "command": ["sh", "-c", script] }))
        .good();
    assert_eq!(out, "NoNewPrivs:1\n");
}

fn filtered() {
    let world = World::new();
    for with in [
        json!({}),
        json!({ "private_users": true, "private_network": true }),
    ] {
        let script = "grep Seccomp: /proc/self/status | tr -d '\\t'; exec 2> /dev/null; \
            unshare -m true && echo unshare; mount -t tmpfs x /tmp && echo mount; mknod /dev/disk b 8 0 && echo mknod; \
            cat /proc/kcore | head -c 1; (echo h > /proc/sysrq-trigger) && echo sysrq; \
            (echo 1 > /proc/sys/kernel/panic) && echo sysctl; dmesg && echo dmesg; hostname other && echo hostname; \
            nsenter -t 1 -m true && echo nsenter; chroot / true && echo chroot; kill -0 1 && echo kill";
        let mut with = with;
        with["command"] = json!(["sh", "-c", script]);
        // the last two are what it may
        assert_eq!(world.run(with).good(), "Seccomp:2\nchroot\nkill\n");
    }
}

fn exact_capabilities() {
    let world = World::new();
    // bits by linux/capability.h: CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7, SETPCAP 8,
    // NET_BIND_SERVICE 10, SYS_CHROOT 18, AUDIT_WRITE 29, SETFCAP 31; NET_ADMIN 12, NET_RAW 13
    let host = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31]
        .map(|bit| 1u64 << bit)
        .iter()
        .sum::<u64>();
    let own = host | 1 << 12 | 1 << 13;
    let lines = |inh: u64, prm: u64, eff: u64, bnd: u64, amb: u64| {
        format!(
            "CapInh:{inh:016x}\nCapPrm:{prm:016x}\nCapEff:{eff:016x}\nCapBnd:{bnd:016x}\nCapAmb:{amb:016x}\n"
        )
    };
    for as_pid2 in [false, true] {
        for nnp in [false, true] {
            for private in [false, true] {
                // of pid 1 too, which with as_pid2 is the stub
                let script = "for p in self 1; do grep ^Cap /proc/$p/status | tr -d '\\t'; done";
                let run = |user: &str| {
                    let with = json!({
                        "as_pid2": as_pid2, "no_new_privileges": nnp, "user": user,
                        "private_network": private, "private_users": private, "command": ["sh", "-c", script],
                    });
                    world.run(with).good()
                };
                let all = if private { own } else { host };
                let root = lines(0, all, all, all, 0);
                assert_eq!(
                    run("root"),
                    format!("{root}{root}"),
                    "{as_pid2} {nnp} {private}"
                );
                let web = lines(0, 0, 0, all, 0);
                assert!(run("web").starts_with(&web), "{as_pid2} {nnp} {private}");
            }
        }
    }
}

fn refused() {
    let world = World::new();
    let refused = |with, text: &str| {
        let ended = world.run(with);
        assert_eq!(ended.status, 1, "{ended:?}");
        assert!(ended.err.contains(text), "{ended:?}");
    };
    refused(
        json!({ "machine": "../x", "command": ["true"] }),
        "--machine=",
    );
    refused(json!({ "command": [] }), "the command");
    refused(
        json!({ "directory": "/", "command": ["true"] }),
        "--directory=",
    );
    refused(
        json!({ "directory": "/none", "command": ["true"] }),
        "root directory /none",
    );
    refused(
        json!({ "bind": ["/none"], "command": ["true"] }),
        "--bind= \"/none\" cannot be bound",
    );
}
