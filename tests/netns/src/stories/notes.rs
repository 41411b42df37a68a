//! A self-hoster's notes, command by command, as docs/from-nspawn.md has them with netd's counterparts.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::boot::{netd, until};
use super::run::root;
use crate::net::netns::Ran;
use crate::world::World;

pub fn a_self_hosters_notes_command_by_command() {
    let world = World::new("notes");
    let path = |name: &str| world.dir.join(name).to_str().unwrap().to_owned();
    let machines = world.folder("state").join("machines");
    // build a root: what Alpine has as minirootfs, unpacked (`tar -xf`), and debootstrap's are stories of their own (debian::)
    root(&world.dir);
    let packed = Command::new("tar")
        .args([
            "-C",
            &path("root"),
            "-czf",
            &path("alpine-minirootfs-3.20.tar.gz"),
            ".",
        ])
        .status();
    assert!(packed.unwrap().success());
    netd(
        &world,
        &["import-tar", &path("alpine-minirootfs-3.20.tar.gz"), "web"],
    )
    .ok();
    // one command in the tree, quietly: what is installed stays
    let quiet = |script: &str| {
        netd(
            &world,
            &[
                "run",
                "-q",
                "-M",
                "web",
                "--as-pid2",
                "--pipe",
                "/bin/sh",
                "-c",
                script,
            ],
        )
    };
    let ran: Ran = quiet("echo installed >/srv/package");
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "", ""),
        "{ran}"
    );
    assert!(machines.join("web/srv/package").exists());
    // with users of its own, read-only, a user's home bound, in a zone
    let home = world.dir.join("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(4711), Some(4711)).unwrap();
    let bind = format!("--bind={}:/srv:rootidmap", home.display());
    let script = "ip link set dev host0 up; udhcpc -i host0 -q -n -s /bin/told >/dev/null 2>&1 && cat /tmp/told >/srv/told; \
        touch /etc/x 2>/dev/null || echo fixed >/srv/fixed; exec sleep 1000";
    let mut running = world.command();
    running
        .args([
            "run",
            "-q",
            "-M",
            "web",
            "-U",
            "--read-only",
            "--network-zone=dmz",
            "--configure=dhcp",
            &bind,
            "--",
            "/bin/sh",
            "-c",
            script,
        ])
        .stdin(Stdio::null());
    let mut running = world.netns.enter(|| running.spawn()).unwrap();
    until("it has written", || home.join("fixed").exists());
    let told = fs::read_to_string(home.join("told")).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(home.join("fixed")).unwrap());
    assert_eq!(
        owner, 4711,
        "what root writes inside belongs to the user outside"
    );
    // list, status
    let list = netd(&world, &["list"]).ok();
    assert!(
        list.lines()
            .any(|line| line.starts_with("web ") && line.contains("dmz")),
        "{list}"
    );
    let status = netd(&world, &["status", "web", "--json"]).json();
    let address = status["addresses"][0].as_str().unwrap();
    assert!(
        address.starts_with(told.split(' ').next().unwrap()),
        "{told} {address}"
    );
    let refused = netd(&world, &["remove", "web"]);
    assert!(refused.code != 0, "{refused}");
    netd(&world, &["stop", "web"]).ok();
    running.wait().unwrap();
    // export, and pull it from the web under another name
    netd(&world, &["export-tar", "web", &path("web.tar.zst")]).ok();
    let body = fs::read(path("web.tar.zst")).unwrap();
    let listener = world
        .outside
        .enter(|| TcpListener::bind(("192.0.2.2", 8000)).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&body));
        }
    });
    netd(
        &world,
        &[
            "pull-tar",
            "--verify=no",
            "http://192.0.2.2:8000/web.tar.zst",
            "shop",
        ],
    )
    .ok();
    let ran = netd(
        &world,
        &[
            "run",
            "-q",
            "-M",
            "shop",
            "-x",
            "--private-network",
            "-P",
            "/bin/cat",
            "/srv/package",
        ],
    );
    assert_eq!(ran.ok(), "installed\n");
    // remove
    let names = || -> Vec<String> {
        let images = netd(&world, &["images", "--json"]).json();
        let here = |image: &serde_json::Value| {
            image["path"]
                .as_str()
                .unwrap()
                .starts_with(machines.to_str().unwrap())
        };
        images
            .as_array()
            .unwrap()
            .iter()
            .filter(|i| here(i))
            .map(|i| i["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(), ["shop", "web"]);
    netd(&world, &["remove", "web", "shop"]).ok();
    assert!(names().is_empty());
    assert_eq!(
        netd(&world, &["list", "--json"]).json(),
        serde_json::json!([])
    );
}
