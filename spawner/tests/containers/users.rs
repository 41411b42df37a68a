//! Private users.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use serde_json::json;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "private users: a range of their own, files mapped both ways",
        mapped,
    ),
    ("private users: two containers have two ranges", two_ranges),
    (
        "private users: a root that was shifted on disk keeps its range",
        shifted,
    ),
    (
        "private users: binds are mapped only when asked",
        mapped_binds,
    ),
    ("private users: other users of the container", other_user),
    (
        "private users: a way that cannot be searched is named",
        unsearchable,
    ),
    (
        "private users: what is mounted below the root is mapped too",
        below,
    ),
];

fn base_of(map: &str) -> u32 {
    let fields: Vec<u32> = map.split_whitespace().map(|f| f.parse().unwrap()).collect();
    assert_eq!((fields[0], fields[2]), (0, 65536), "{map}");
    fields[1]
}

fn mapped() {
    let world = World::new();
    let script = "cat /proc/self/uid_map; stat -c %u:%g / /etc/passwd /bin/busybox; echo x > /made; chown 33:34 /made";
    let out = world
        .run(json!({ "private_users": true, "command": ["sh", "-c", script] }))
        .good();
    let (map, owners) = out.split_once('\n').unwrap();
    let base = base_of(map);
    assert!(base >= 0x80000 && base.is_multiple_of(65536), "{base}");
    assert_eq!(owners, "0:0\n0:0\n0:0\n");
    let meta = fs::metadata(world.root().join("made")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (33, 34), "on disk as inside");
    // the same name gets the same range again
    let out = world.run(json!({ "private_users": true, "command": ["cat", "/proc/self/gid_map"] }));
    assert_eq!(base_of(&out.good()), base);
}

fn two_ranges() {
    let world = World::new();
    let (mut child, web) =
        world.start(json!({ "private_users": true, "command": ["sleep", "1000"] }));
    let base = web.uid_base.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", web.pid)).unwrap();
    assert!(status.contains(&format!("Uid:\t{base}\t")), "{status}");
    // a name that would be given the same range by its hash cannot be forced; any other must differ
    let other =
        json!({ "machine": "db", "private_users": true, "command": ["cat", "/proc/self/uid_map"] });
    let other = world.command(other).output().unwrap();
    assert_ne!(base_of(&String::from_utf8(other.stdout).unwrap()), base);
    spawner::kill(&world.state(), &"web".parse().unwrap(), 15).unwrap();
    // the front learns no more than that it was killed
    assert_eq!(child.wait().unwrap().code(), Some(137));
    world.nothing_left();
}

fn shift(path: &Path, base: u32) {
    std::os::unix::fs::lchown(path, Some(base), Some(base)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            shift(&entry.unwrap().path(), base);
        }
    }
}

fn shifted() {
    let world = World::new();
    let base = 0x000b_0000;
    shift(&world.root(), base);
    let script = "cat /proc/self/uid_map; stat -c %u /; touch /made";
    let out = world
        .run(json!({ "private_users": true, "command": ["sh", "-c", script] }))
        .good();
    let (map, owner) = out.split_once('\n').unwrap();
    assert_eq!((base_of(map), owner), (base, "0\n"));
    assert_eq!(fs::metadata(world.root().join("made")).unwrap().uid(), base);
}

fn mapped_binds() {
    let world = World::new();
    let data = world.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "x").unwrap();
    chown(data.join("file"), Some(33), Some(34)).unwrap();
    let data = data.to_str().unwrap();
    let out = world
        .run(json!({
            "private_users": true,
            "bind": [format!("{data}:/plain"), format!("{data}:/mapped:idmap"), format!("{data}/file:/one:idmap")],
            "command": ["sh", "-c", "stat -c %u:%g /plain/file /mapped/file /one; echo y > /mapped/new"],
        }))
        .good();
    assert_eq!(out, "65534:65534\n33:34\n33:34\n");
    assert_eq!(fs::metadata(format!("{data}/new")).unwrap().uid(), 0);
}

fn other_user() {
    let world = World::new();
    let with =
        json!({ "private_users": true, "user": "web", "command": ["sh", "-c", "id -u; id -G"] });
    assert_eq!(world.run(with).good(), "33\n34 4\n");
}

fn unsearchable() {
    let world = World::new();
    fs::create_dir(world.path("state")).unwrap();
    fs::set_permissions(world.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    let ended = world.run(json!({ "private_users": true, "command": ["true"] }));
    assert_eq!(ended.status, 1);
    let text = format!(
        "--private-users: {} cannot be searched",
        world.path("state").display()
    );
    assert!(ended.err.contains(&text), "{ended:?}");
}

fn below() {
    let world = World::new();
    let mounts = format!(
        "mount -t tmpfs x {0}/srv; touch {0}/srv/x; chown 7 {0}/srv/x;",
        world.root().display()
    );
    let with = json!({ "private_users": true, "command": ["stat", "-c", "%u", "/srv", "/srv/x"] });
    assert_eq!(world.run_after(&mounts, with).good(), "0\n7\n");
}
