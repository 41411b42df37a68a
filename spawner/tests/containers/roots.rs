//! Roots of which nothing, or not all, is kept, what is laid over them, and whose they are.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::json;

use crate::world::{Test, World, entries};

pub(crate) const TESTS: &[Test] = &[
    ("ephemeral: the root is a copy that goes", ephemeral),
    ("volatile: state, overlay and /usr alone", volatile),
    ("a root that is read-only has a /run and a /tmp", scratch),
    ("overlays over the root and over the host's trees", overlays),
    ("binds of the root's own places, and of none", binds),
    ("inaccessible paths cannot be opened", inaccessible),
    (
        "private users: a range that was given, and files that are given to it",
        ownership,
    ),
    ("boot: the root's own init is process 1", boot),
];

fn ephemeral() {
    let world = World::new();
    let before = entries(world.root().parent().unwrap());
    for users in [false, true] {
        let out = world
            .run(json!({
                "ephemeral": true, "private_users": users,
                "command": ["sh", "-c", "echo x > /written && cat /written && stat -c %u /etc/passwd"],
            }))
            .good();
        assert_eq!(out, "x\n0\n");
        assert!(!world.root().join("written").exists());
    }
    let mut after = entries(world.root().parent().unwrap());
    after.retain(|name| name != "state");
    assert_eq!(after, before, "something is left beside the root");
}

fn volatile() {
    let world = World::new();
    fs::create_dir_all(world.root().join("var/lib")).unwrap();
    fs::create_dir_all(world.root().join("run")).unwrap();
    fs::create_dir(world.root().join("usr")).unwrap();
    let run = |mode: &str, users: bool, script: &str| {
        world.run(json!({ "volatile": mode, "private_users": users, "command": ["/bin/sh", "-c", script] }))
    };
    for users in [false, true] {
        let out = run(
            "overlay",
            users,
            "touch /etc/x /bin/y && echo z > /etc/passwd && cat /etc/passwd; stat -c %u / /etc/group",
        );
        assert_eq!(out.good(), "z\n0\n0\n");
        let out = run(
            "state",
            users,
            "touch /var/x /run/y /tmp/z; ls /var; touch /etc/x",
        );
        assert_eq!(out.out, "x\n");
        assert!(out.err.contains("Read-only file system"), "{out:?}");
        let told = run("yes", users, "true");
        assert!(told.status == 1 && told.err.contains("bin"), "{told:?}");
    }
    // UsrMerge
    fs::rename(world.root().join("bin"), world.root().join("usr/bin")).unwrap();
    symlink("usr/bin", world.root().join("bin")).unwrap();
    for users in [false, true] {
        let out = run(
            "yes",
            users,
            "cd /; echo *; ls /etc; touch /etc/x; stat -c %u / /usr; touch /usr/x",
        );
        assert_eq!(
            out.out, "bin dev etc proc root run sys tmp usr var\n0\n0\n",
            "{out:?}"
        );
        assert!(out.err.contains("Read-only file system"), "{out:?}");
    }
    for left in ["etc/x", "bin/y", "var/x"] {
        assert!(!world.root().join(left).exists(), "{left}");
    }
}

fn scratch() {
    let world = World::new();
    fs::create_dir(world.root().join("run")).unwrap();
    let script = "touch /run/x /tmp/y && stat -c %a /run /tmp; touch /srv/z";
    let out = world.run(json!({ "read_only": true, "command": ["sh", "-c", script] }));
    assert_eq!(out.out, "755\n1777\n");
    assert!(out.err.contains("Read-only file system"), "{out:?}");
    assert!(!world.root().join("run/x").exists());
}

fn overlays() {
    let world = World::new();
    for (tree, file) in [("low", "a"), ("mid", "b"), ("up", "c")] {
        fs::create_dir(world.path(tree)).unwrap();
        fs::write(world.path(tree).join(file), tree).unwrap();
    }
    fs::write(world.root().join("srv/own"), "root").unwrap();
    let path = |tree: &str| world.path(tree).display().to_string();
    let over = format!("{}:{}:{}:/data", path("low"), path("mid"), path("up"));
    for users in [false, true] {
        let out = world.run(json!({
            "machine": world.tag(), "overlay": ["+/srv::/srv"], "private_users": users,
            "command": ["sh", "-c", "cat /srv/own; echo x > /srv/own && echo y > /srv/new && cat /srv/own /srv/new; stat -c %u /srv/own"],
        }));
        assert_eq!(out.good(), "rootx\ny\n0\n");
        assert_eq!(
            fs::read_to_string(world.root().join("srv/own")).unwrap(),
            "root"
        );
        assert!(!world.root().join("srv/new").exists());
    }
    let out = world.run(json!({ "overlay": [over], "command": ["sh", "-c", "cat /data/*; rm /data/a; echo z > /data/d"] }));
    assert_eq!(out.good(), "lowmidup");
    assert_eq!(
        fs::read_to_string(world.path("up").join("d")).unwrap(),
        "z\n"
    );
    assert!(world.path("low").join("a").exists());
    // other worlds make theirs at the same time
    let mine = format!("netd-{}-", world.tag());
    let left: Vec<_> = entries(std::path::Path::new("/var/tmp"))
        .into_iter()
        .filter(|n| n.starts_with(&mine))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let beside: Vec<_> = entries(world.path("up").parent().unwrap())
        .into_iter()
        .filter(|n| n.starts_with(".#"))
        .collect();
    assert!(beside.is_empty(), "{beside:?}");
}

fn binds() {
    let world = World::new();
    fs::write(world.root().join("srv/file"), "there").unwrap();
    // a link that would lead to the host's /etc stays inside
    symlink("/etc", world.root().join("conf")).unwrap();
    let data = world.path("data");
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(1234), Some(99)).unwrap();
    let owned = format!("{}:/owned:rootidmap", data.display());
    for users in [false, true] {
        let out = world.run(json!({
            "private_users": users, "bind": ["+/srv:/mnt", ":/scratch"], "bind_ro": ["+/conf:/shown"],
            "command": ["sh", "-c", "cat /mnt/file; grep -c web /shown/passwd; stat -c %u /mnt/file /scratch; touch /scratch/x; ls /scratch; touch /shown/x"],
        }));
        assert_eq!(out.out, "there1\n0\n0\nx\n", "{out:?}");
        assert!(out.err.contains("Read-only file system"), "{out:?}");
    }
    let out = world.run(json!({
        "private_users": true, "bind": [owned], "command": ["sh", "-c", "stat -c %u /owned; touch /owned/x; stat -c %u /owned/x"],
    }));
    assert_eq!(out.good(), "0\n0\n");
    assert_eq!(fs::metadata(data.join("x")).unwrap().uid(), 1234);
}

fn inaccessible() {
    let world = World::new();
    fs::write(world.root().join("srv/secret"), "s").unwrap();
    for users in [false, true] {
        let out = world.run(json!({
            "private_users": users, "inaccessible": ["/srv/secret", "/root", "/proc/meminfo"], "user": "web",
            "command": ["sh", "-c", "stat -c '%a %s' /srv/secret; cat /srv/secret; ls /root; cat /proc/meminfo"],
        }));
        assert_eq!(out.out, "0 0\n");
        assert_eq!(out.err.matches("Permission denied").count(), 3, "{out:?}");
    }
    let told = world.run(json!({ "inaccessible": ["/nowhere"], "command": ["true"] }));
    assert!(
        told.status == 1 && told.err.contains("/nowhere"),
        "{told:?}"
    );
}

fn ownership() {
    let world = World::new();
    let owner = |file: &str| fs::symlink_metadata(world.root().join(file)).unwrap().uid();
    let run = |users: &str, how: &str| {
        world.run(json!({
            "private_users": users, "ownership": how,
            "command": ["sh", "-c", "cat /proc/self/uid_map; stat -c %u /etc/passwd"],
        }))
    };
    let words = |text: String| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words(run("1000000:1000", "auto").good()),
        ["0", "1000000", "1000", "0"]
    );
    assert_eq!(
        words(run("identity", "auto").good()),
        ["0", "0", "65536", "0"]
    );
    assert_eq!(
        words(run("524288", "off").good()),
        ["0", "524288", "65536", "65534"]
    );
    assert_eq!(owner("etc/passwd"), 0);
    assert_eq!(
        words(run("524288", "chown").good()),
        ["0", "524288", "65536", "0"]
    );
    assert_eq!(owner("etc/passwd"), 524_288);
    // a range that the files belong to needs no mapping, and the way back is the first id of the host
    assert_eq!(
        words(run("pick", "auto").good()),
        ["0", "524288", "65536", "0"]
    );
    run("0", "chown").good();
    assert_eq!((owner("etc/passwd"), owner("bin/sh")), (0, 0));
}

fn boot() {
    let world = World::new();
    let told = world.run(json!({ "boot": true, "command": [] }));
    assert!(
        told.status == 127 && told.err.contains("no init"),
        "{told:?}"
    );
    fs::create_dir_all(world.root().join("sbin")).unwrap();
    let init = world.root().join("sbin/init");
    fs::write(&init, "#!/bin/sh\necho $$ \"$@\"\n").unwrap();
    fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let out = world.run(json!({ "boot": true, "command": ["single", "a b"] }));
    assert_eq!(out.good(), "1 single a b\n");
}
