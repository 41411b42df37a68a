//! /etc/resolv.conf of containers: what `netd run --resolv-conf=` puts there, and what `ip netns exec` shows.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use super::run::root;
use crate::net::netns::{Ran, run};
use crate::world::World;

const HOSTS: &str = "nameserver 192.0.2.53\n";
const OWN: &str = "nameserver 198.51.100.53\n";

/// Runs a container that tells its resolv.conf.
fn told(world: &World, root: Option<&Path>, line: &str) -> Ran {
    let mut command = world.command();
    command.args(["run", "-M", "c1"]);
    if let Some(root) = root {
        command.arg("-D").arg(root);
    }
    command.args(line.split_whitespace());
    command.args(["--", "/bin/cat", "/etc/resolv.conf"]);
    command.stdin(Stdio::null());
    world.netns.enter(|| run(&mut command))
}

pub fn a_container_that_is_run_has_the_file_that_is_asked_for() {
    let world = World::new("resolv-run");
    world.zone("web").create();
    let root = root(&world.dir);
    let (file, hosts) = (root.join("etc/resolv.conf"), world.dir.join("hosts.conf"));
    fs::write(&hosts, HOSTS).unwrap();
    // The story's own mounts: the machine's file stays as it is.
    world.sh(&format!(
        "mount --bind {} /etc/resolv.conf",
        hosts.display()
    ));
    let zones = |ran: Ran| {
        let text = ran.ok();
        assert!(
            text.contains("search web.internal\n") && text.contains("nameserver 10.89.0.1\n"),
            "{text}"
        );
    };
    // In a zone: the zone's, over the root's own, also over the host's own root.
    fs::write(&file, OWN).unwrap();
    zones(told(&world, Some(&root), "--network-zone=web"));
    zones(told(
        &world,
        Some(&root),
        "--network-zone=web -U --read-only",
    ));
    zones(told(&world, None, "--network-zone=web"));
    assert_eq!(fs::read_to_string(&file).unwrap(), OWN);
    let own = |line: &str| assert_eq!(told(&world, Some(&root), line).ok(), OWN, "{line}");
    own("--network-zone=web --resolv-conf=off");
    own("--network-zone=web --configure=none");
    own("--private-network");
    // The host's, shown.
    let of_host = |line: &str| assert_eq!(told(&world, Some(&root), line).ok(), HOSTS, "{line}");
    of_host("--network-zone=web --resolv-conf=bind-host");
    of_host("--private-network --read-only --resolv-conf=bind-host");
    assert_eq!(fs::read_to_string(&file).unwrap(), OWN);
    // A root that is read-only is not written, which is said.
    let refused = told(
        &world,
        Some(&root),
        "--private-network --read-only --resolv-conf=copy-host",
    );
    assert!(
        refused
            .stderr
            .contains("--resolv-conf=copy-host: the container's root is read-only"),
        "{refused}"
    );
    assert_eq!(refused.ok(), OWN);
    // Copied, which lasts.
    of_host("--private-network -U --resolv-conf=copy-host");
    assert_eq!(fs::read_to_string(&file).unwrap(), HOSTS);
    // A link that leads out of the root is not followed, but replaced where that is asked for.
    let outside = world.dir.join("outside.conf");
    fs::write(&outside, OWN).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&outside, &file).unwrap();
    told(
        &world,
        Some(&root),
        "--private-network --resolv-conf=copy-host",
    )
    .fails(1);
    of_host("--private-network --resolv-conf=replace-host");
    assert_eq!(fs::read_to_string(&outside).unwrap(), OWN);
    // Where there is none it is made.
    told(
        &world,
        Some(&root),
        "--private-network --resolv-conf=delete",
    )
    .fails(1);
    assert!(!file.exists());
    of_host("--private-network --resolv-conf=bind-host");
    // The host's network: the host's file.
    fs::remove_file(&file).unwrap();
    of_host("");
    assert_eq!(told(&world, None, "").ok(), HOSTS);
}

pub fn what_ip_netns_starts_finds_names() {
    let world = World::new("resolv-named");
    world.zone("dmz").default("allow").create();
    let inside = |name: &str, command: &[&str]| {
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", name]).args(command);
        run(&mut ip)
    };
    let (folder, file) = (
        Path::new("/etc/netns/web"),
        Path::new("/etc/netns/web/resolv.conf"),
    );
    let web = world.container("web").in_zone("dmz").start();
    let db = world.container("db").in_zone("dmz").start();
    let text = inside("web", &["cat", "/etc/resolv.conf"]).ok();
    let gateway = format!("nameserver {}\n", web.gateway4());
    assert!(
        text.contains("search dmz.internal\n") && text.contains(&gateway),
        "{text}"
    );
    let found = inside("web", &["getent", "ahostsv4", "db"]).ok();
    assert!(found.starts_with(&db.v4().to_string()), "{found}");
    // It survives the daemon, and goes with the container.
    world.kill_netd();
    world.start_netd();
    assert!(file.exists());
    world.netd("detach web").ok();
    assert!(!folder.exists());
    // Where it ends while no daemon runs, the next one cleans up.
    assert!(Path::new("/etc/netns/db/resolv.conf").exists());
    world.kill_netd();
    world.sh(&format!("ip link delete {}", db.host_ifname()));
    world.start_netd();
    assert!(!Path::new("/etc/netns/db").exists());
    // What a person wrote stays, also when the container goes.
    fs::create_dir(folder).unwrap();
    fs::write(file, OWN).unwrap();
    let attach = format!(
        "attach web --zone dmz --netns {}",
        web.netns.path().display()
    );
    world.netd(&attach).ok();
    world.netd("detach web").ok();
    assert_eq!(fs::read_to_string(file).unwrap(), OWN);
    fs::remove_dir_all(folder).unwrap();
    // Who has a client inside is told by that.
    world.netd(&format!("{attach} --configure dhcp")).ok();
    assert!(!file.exists());
}
