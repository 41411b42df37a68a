//! What a container's processes may do, use up and know: capabilities, system calls, limits, credentials.

use serde_json::json;

use crate::world::{Test, World, until};

pub(crate) const TESTS: &[Test] = &[
    ("capabilities are added, dropped and kept", capabilities),
    (
        "without capabilities there is none, whoever runs",
        none_at_all,
    ),
    (
        "system calls are opened and closed by name and group",
        calls,
    ),
    ("limits, processors, score, uuid and credentials", limits),
    (
        "a sync that is suppressed does nothing and says it did",
        no_sync,
    ),
    (
        "users of the host appear inside with name, ids and home",
        guests,
    ),
    ("a network namespace that was there before", namespace),
    ("SIGTERM becomes the signal that was asked for", kill_signal),
    ("a console that is only read", console),
];

fn sets(status: &str) -> Vec<(String, u64)> {
    let lines = status.lines().filter(|line| line.starts_with("Cap"));
    lines
        .map(|line| {
            let (name, set) = line.split_once(":\t").unwrap();
            (name.to_owned(), u64::from_str_radix(set, 16).unwrap())
        })
        .collect()
}

const SYS_NICE: u64 = 1 << 23;
const KILL: u64 = 1 << 5;
const CHOWN: u64 = 1;
const NET_BIND_SERVICE: u64 = 1 << 10;
const SYS_ADMIN: u64 = 1 << 21;

fn capabilities() {
    let world = World::new();
    let status = world
        .run(json!({
            "capability": "CAP_SYS_NICE", "drop_capability": "cap_kill", "ambient_capability": "CAP_NET_BIND_SERVICE",
            "user": "web", "command": ["cat", "/proc/self/status"],
        }))
        .good();
    let bounding = SYS_NICE | CHOWN;
    for (name, set) in sets(&status) {
        match name.as_str() {
            "CapBnd" => assert_eq!(set & (bounding | KILL | SYS_ADMIN), bounding, "{status}"),
            // of another user than root nothing is left but what was asked for
            _ => assert_eq!(set, NET_BIND_SERVICE, "{name}: {status}"),
        }
    }
    // all of them, CAP_SYS_ADMIN too: then its calls are there
    let out = world.run(json!({
        "capability": "all", "command": ["sh", "-c", "mount -t tmpfs x /srv && grep -c ' /srv ' /proc/mounts"],
    }));
    assert_eq!(out.good(), "1\n");
}

fn none_at_all() {
    let world = World::new();
    for nnp in [false, true] {
        let status = world
            .run(json!({
                "drop_capability": "all", "no_new_privileges": nnp, "command": ["cat", "/proc/self/status"],
            }))
            .good();
        for (name, set) in sets(&status) {
            assert_eq!(set, 0, "{name}: {status}");
        }
        let told = format!("NoNewPrivs:\t{}\n", u8::from(nnp));
        assert!(status.contains(&told), "{status}");
    }
}

fn calls() {
    let world = World::new();
    let chmod = |refused: &[&str]| {
        world.run(json!({
            "calls_refused": refused, "command": ["sh", "-c", "echo > /tmp/x; chmod 600 /tmp/x && echo done"],
        }))
    };
    assert_eq!(chmod(&[]).good(), "done\n");
    let ended = chmod(&["chmod", "fchmodat", "fchmodat2"]);
    assert!(ended.err.contains("Operation not permitted"), "{ended:?}");
    // unshare is refused by default
    let unshare = |allowed: &[&str], capability: &str| {
        world.run(json!({
            "calls_allowed": allowed, "capability": capability, "command": ["unshare", "-u", "echo", "apart"],
        }))
    };
    assert_ne!(unshare(&[], "").status, 0);
    assert_ne!(
        unshare(&["unshare"], "").status,
        0,
        "it takes the capability, too"
    );
    assert_eq!(unshare(&[], "CAP_SYS_ADMIN").good(), "apart\n");
    let ended = world.run(json!({ "calls_allowed": ["@fly"], "command": ["true"] }));
    assert!(
        ended.status == 1 && ended.err.contains("--system-call-filter="),
        "{ended:?}"
    );
}

fn limits() {
    let world = World::new();
    let script = "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status; \
        echo $container_uuid; ls -la $CREDENTIALS_DIRECTORY | awk 'NR>3 {print $1, $3, $9}'; \
        cat $CREDENTIALS_DIRECTORY/key; touch $CREDENTIALS_DIRECTORY/x 2>&1 | grep -c Read-only";
    for users in [json!(false), json!("pick")] {
        let out = world.run(json!({
            "rlimit": ["RLIMIT_NOFILE=77:99", "CORE=0"], "oom_score_adjust": 321, "cpus": "0",
            "uuid": "11111111-2222-3333-4444-555555555555", "set_credential": ["key:sec\\x72et\\n"],
            "private_users": users, "command": ["sh", "-c", script],
        }));
        assert_eq!(
            out.good(),
            "77\n99\n321\nCpus_allowed_list:\t0\n11111111-2222-3333-4444-555555555555\n-r-------- root key\nsecret\n1\n"
        );
    }
    // another user does not read what is root's
    let ended = world.run(json!({
        "set_credential": ["key:secret"], "user": "web", "command": ["cat", "/run/host/credentials/key"],
    }));
    assert!(ended.err.contains("Permission denied"), "{ended:?}");
}

fn no_sync() {
    let world = World::new();
    // a pipe cannot be synced, so who is told that it was is told so by the filter
    let script = "echo | busybox sync -d /dev/stdin && echo synced";
    let run = |suppress: bool| {
        world.run(json!({ "suppress_sync": suppress, "command": ["sh", "-c", script] }))
    };
    assert_ne!(run(false).out, "synced\n");
    assert_eq!(run(true).out, "synced\n");
}

fn guests() {
    let world = World::new();
    // Debian's base system has this user, with a home that is there
    let host = std::fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<_> = host
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == "games")
        .unwrap();
    let home = fields[5].to_owned();
    std::fs::create_dir_all(&home).unwrap();
    let before = std::fs::read_to_string(world.root().join("etc/passwd")).unwrap();
    let out = world
        .run(json!({
            "private_users": true, "bind_user": ["games"], "user": "games",
            "command": ["sh", "-c", "id -un; id -u; echo $HOME; cd && pwd; tail -n 1 /etc/passwd; cat /proc/self/uid_map"],
        }))
        .good();
    let line = "games:x:60514:60514:games:/run/host/home/games:";
    assert!(
        out.starts_with("games\n60514\n/run/host/home/games\n/run/host/home/games\n"),
        "{out}"
    );
    assert!(out.contains(line), "{out}");
    // the id inside is the user's own outside
    let map: Vec<Vec<&str>> = out
        .lines()
        .rev()
        .take(3)
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(map[1], ["60514", fields[2], "1"], "{out}");
    assert_eq!(
        std::fs::read_to_string(world.root().join("etc/passwd")).unwrap(),
        before
    );
    let ended = world.run(json!({ "bind_user": ["games"], "command": ["true"] }));
    assert!(ended.err.contains("-U"), "{ended:?}");
}

fn namespace() {
    let world = World::new();
    let path = world.path("net");
    std::fs::write(&path, "").unwrap();
    let make = format!(
        "unshare --net={} ip addr add 192.0.2.7/32 dev lo;",
        path.display()
    );
    for users in [false, true] {
        let out = world.run_after(
            &make,
            json!({ "namespace": path, "private_users": users, "command": ["ip", "-o", "addr"] }),
        );
        assert!(out.status == 0 && out.out.contains("192.0.2.7"), "{out:?}");
    }
    let ended = world.run(json!({ "namespace": "/proc/self/ns/net", "command": ["true"] }));
    assert!(
        ended.status == 1 && ended.err.contains("the host's own"),
        "{ended:?}"
    );
}

fn kill_signal() {
    let world = World::new();
    let script = "trap 'exit 7' USR1; touch /tmp/up; while :; do sleep 0.05; done";
    let (mut child, _) = world.start(json!({
        "kill_signal": 10, "command": ["sh", "-c", script],
    }));
    until("the trap is set", || world.root().join("tmp/up").exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    world.nothing_left();
}

fn console() {
    let world = World::new();
    let out = world
        .run(json!({ "pipe": false, "read_only_console": true, "command": ["sh", "-c", "tty; [ -t 0 ] && echo terminal"] }))
        .good();
    assert_eq!(out, "/dev/pts/0\r\nterminal\r\n");
}
