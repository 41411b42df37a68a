//! /etc/resolv.conf of containers that somebody else started and netd attaches: theirs to keep, ours where it is empty, and
//! never the host's.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use super::oci::{RUNTIMES, bundle, start};
use super::run::root;
use crate::net::netns::Ran;
use crate::world::World;

const OWN: &str = "nameserver 198.51.100.53\n";
/// A root that is the process's own, as runtimes give it.
const PIVOT: &str = "mount --bind $R $R && cd $R && pivot_root . . && /bin/busybox umount -l . && ";

/// A process in namespaces of its own, which it and its children do not outlive.
struct Process(Child);

impl Process {
    /// `how`: options of unshare(1); `script` goes on as that process, with the root in $R.
    fn start(world: &World, how: &str, root: &Path, script: &str) -> Self {
        let ready = world.dir.join("ready");
        let _ = fs::remove_file(&ready);
        fs::write(&ready, "").unwrap();
        let mut command = Command::new("unshare");
        command
            .args(how.split_whitespace())
            .args(["sh", "-c"])
            .arg(format!("rm $READY; {script} exec /bin/sleep 1000"))
            .env("R", root)
            .env("READY", &ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        let child = world.netns.enter(|| command.spawn()).unwrap();
        if how.contains("--user") {
            map_users(child.id());
        }
        let name = || fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
        let started = Instant::now();
        while ready.exists() || !["sleep", "busybox"].contains(&name().trim()) {
            assert!(started.elapsed() < Duration::from_secs(10), "{}", name());
            std::thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }

    /// Attaches it, detaches it, and tells what the attach said.
    fn attached(&self, world: &World, options: &str) -> Ran {
        let line = format!("attach c1 --zone web --pid {} {options}", self.0.id());
        let ran = world.netd(&line);
        assert_eq!(ran.code, 0, "{ran}");
        world.netd("detach c1").ok();
        ran
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0.id().cast_signed()) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Users of its own: 0 inside is 300000 outside.
fn map_users(pid: u32) {
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    let its = format!("/proc/{pid}/ns/user");
    let started = Instant::now();
    while fs::read_link(&its).unwrap() == own {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    for map in ["gid_map", "uid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), "0 300000 65536\n").unwrap();
    }
}

#[track_caller]
fn has_the_zones(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    assert!(
        text.contains("search web.internal\n") && text.contains("nameserver 10.89.0.1\n"),
        "{text}"
    );
}

#[track_caller]
fn quiet(ran: &Ran) {
    assert!(!ran.stderr.contains("resolv.conf"), "{ran}");
}

pub fn a_process_that_is_attached_finds_its_zones_resolvers() {
    let world = World::new("resolv-pid");
    world.zone("web").create();
    let root = root(&world.dir);
    let file = root.join("etc/resolv.conf");
    let process = Process::start(&world, "--mount --net", &root, PIVOT);
    // Missing: made, for everybody inside to read. It is the container's, and stays.
    quiet(&process.attached(&world, ""));
    has_the_zones(&file);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
    // What it said before is ours to change.
    world.netd("zone set web --domain web.example").ok();
    quiet(&process.attached(&world, ""));
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .contains("search web.example\n")
    );
    world.netd("zone set web --domain web.internal").ok();
    // Edited, or written by somebody: theirs, unless it is asked for.
    for theirs in [
        OWN.to_owned(),
        fs::read_to_string(&file).unwrap() + "options ndots:3\n",
    ] {
        fs::write(&file, &theirs).unwrap();
        quiet(&process.attached(&world, ""));
        assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
        quiet(&process.attached(&world, "--resolv-conf=replace"));
        has_the_zones(&file);
    }
    // Empty: filled; not where it is not wanted, or somebody inside configures.
    for (options, filled) in [
        ("--resolv-conf=off", false),
        ("--configure=dhcp", false),
        ("--configure=none", false),
        ("", true),
    ] {
        fs::write(&file, "").unwrap();
        quiet(&process.attached(&world, options));
        assert_eq!(!fs::read(&file).unwrap().is_empty(), filled, "{options}");
    }
    let pid = process.0.id();
    for wrong in [
        format!("--pid {pid} --configure=dhcp"),
        "--netns c1".to_owned(),
    ] {
        let line = format!("attach c1 --zone web --resolv-conf=replace {wrong}");
        let ran = world.netd(&line);
        assert!(ran.code == 2 && ran.stderr.contains("replace"), "{ran}");
    }
    // All zones that it is in.
    world.zone("db").create();
    quiet(&process.attached(&world, "--zone db"));
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("search web.internal db.internal\n")
            && text.contains("nameserver 10.89.1.1\n"),
        "{text}"
    );
    drop(process);
    // A root that is only looked at by chroot, and users of its own: the file is theirs.
    fs::remove_file(&file).unwrap();
    chown(root.join("etc"), Some(300_000), Some(300_000)).unwrap();
    chown(&root, Some(300_000), Some(300_000)).unwrap();
    let process = Process::start(
        &world,
        "--mount --net --user --keep-caps",
        &root,
        "until grep -q 300000 /proc/self/uid_map; do sleep .02; done; \
         cd $R; exec setpriv --reuid 0 --regid 0 --clear-groups chroot . /bin/sleep 1000;",
    );
    quiet(&process.attached(&world, ""));
    has_the_zones(&file);
    assert_eq!(fs::metadata(&file).unwrap().uid(), 300_000);
    // They do no more than their root may: a folder of the host's root user is not theirs.
    fs::remove_file(&file).unwrap();
    chown(root.join("etc"), Some(0), Some(0)).unwrap();
    let said = process.attached(&world, "").stderr;
    assert!(said.contains("Permission denied"), "{said}");
    assert!(!file.exists());
}

pub fn an_attach_writes_nothing_of_the_hosts() {
    let world = World::new("resolv-attack");
    world.zone("web").create();
    let root = root(&world.dir);
    let (etc, file) = (root.join("etc"), root.join("etc/resolv.conf"));
    // The story's own mounts, so that the machine's files are out of reach: a copy of its /etc, with an empty file, and
    // another mounted over it. Both are the host's, and would be filled.
    let (copy, shown) = (world.dir.join("host-etc"), world.dir.join("hosts.conf"));
    world.sh(&format!(
        "cp -a /etc {0} && mount --bind {0} /etc && rm -f /etc/resolv.conf && : >/etc/resolv.conf",
        copy.display()
    ));
    let covered = copy.join("resolv.conf");
    fs::write(&shown, "").unwrap();
    world.sh(&format!(
        "mount --bind {} /etc/resolv.conf",
        shown.display()
    ));
    let untouched = || {
        assert_eq!(fs::read(&shown).unwrap(), b"");
        assert_eq!(fs::read(&covered).unwrap(), b"");
    };
    // The host's mounts; the host's files in mounts of its own; what is beneath; the host's files in another root.
    for (how, script) in [
        ("--net", ""),
        ("--net --mount", ""),
        ("--net --mount", "umount /etc/resolv.conf &&"),
        (
            "--net --mount",
            "mount --rbind / $R && cd $R && pivot_root . . && /bin/busybox umount -l . &&",
        ),
    ] {
        let process = Process::start(&world, how, &root, script);
        quiet(&process.attached(&world, ""));
        untouched();
        let said = process.attached(&world, "--resolv-conf=replace").stderr;
        assert!(said.contains("shares the host's files"), "{how}: {said}");
        untouched();
    }
    // A folder of the host, or its file, shown in a root of its own.
    for shown in ["/etc $R/etc", "/etc/resolv.conf $R/etc/resolv.conf"] {
        fs::write(&file, "").unwrap();
        let script = format!(
            "mount --rbind {shown} && {}",
            PIVOT.replace("--bind", "--rbind")
        );
        let process = Process::start(&world, "--net --mount", &root, &script);
        process.attached(&world, "");
        process.attached(&world, "--resolv-conf=replace");
        untouched();
    }
    fs::remove_file(&file).unwrap();
    // What a container may have put there. The process runs all the while.
    let outside = world.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let victim = outside.join("resolv.conf");
    fs::write(&victim, "").unwrap();
    let process = Process::start(&world, "--mount --net", &root, PIVOT);
    let each = |what: &str| {
        quiet(&process.attached(&world, ""));
        assert_eq!(fs::read(&victim).unwrap(), b"", "{what}");
        let ran = process.attached(&world, "--resolv-conf=replace");
        assert_eq!(fs::read(&victim).unwrap(), b"", "{what}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{what}");
        untouched();
        ran.stderr
    };
    let pid = process.0.id();
    for target in [
        victim.display().to_string(),
        "../../outside/resolv.conf".to_owned(),
        format!("/proc/{pid}/root/../outside/resolv.conf"),
        "/proc/self/root/etc/resolv.conf".to_owned(),
        "/etc/resolv.conf".to_owned(),
    ] {
        symlink(&target, &file).unwrap();
        each(&target);
        // replaced by a file of its own
        has_the_zones(&file);
        assert!(fs::symlink_metadata(&file).unwrap().is_file());
        fs::remove_file(&file).unwrap();
    }
    world.sh(&format!("mkfifo {}", file.display()));
    assert!(each("a FIFO").contains("no plain file") || each("a FIFO").contains("something else"));
    fs::remove_file(&file).unwrap();
    fs::hard_link(&victim, &file).unwrap();
    each("another name of a file");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    each("a folder");
    fs::remove_dir(&file).unwrap();
    let aside = root.join("aside");
    fs::rename(&etc, &aside).unwrap();
    for target in [
        outside.display().to_string(),
        "../outside".into(),
        "/proc/self/cwd/etc".into(),
    ] {
        symlink(&target, &etc).unwrap();
        let said = each(&target);
        assert!(said.contains("no folder /etc"), "{target}: {said}");
        fs::remove_file(&etc).unwrap();
    }
    fs::rename(&aside, &etc).unwrap();
    drop(process);
    // A root that is read-only is told, and stops nobody.
    let script = PIVOT.replace("&& cd", "&& mount -o remount,bind,ro $R && cd");
    let process = Process::start(&world, "--mount --net", &root, &script);
    let said = process.attached(&world, "").stderr;
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(!file.exists());
}

pub fn a_runtimes_container_finds_its_zones_resolvers() {
    let world = World::new("resolv-oci");
    world.zone("web").create();
    for runtime in RUNTIMES {
        for (wish, before, zones) in [
            (json!(null), None, true),
            (json!("auto"), Some(""), true),
            (json!("auto"), Some(OWN), false),
            (json!("replace"), Some(OWN), true),
            (json!("off"), Some(""), false),
        ] {
            let mut annotations = json!({ "io.netd.zone": "web", "io.netd.name": "c1" });
            if !wish.is_null() {
                annotations["io.netd.resolv-conf"] = wish.clone();
            }
            let bundle = bundle(&world, runtime, "cat /etc/resolv.conf", &annotations);
            let file = bundle.join("root/etc/resolv.conf");
            if let Some(text) = before {
                fs::write(&file, text).unwrap();
            }
            let told = start(&world, runtime, "names", &bundle).ok();
            let what = format!("{runtime}, {wish}, {before:?}: {told}");
            assert_eq!(told.contains("nameserver 10.89.0.1\n"), zones, "{what}");
            if !zones {
                assert_eq!(told, before.unwrap_or_default(), "{what}");
            }
        }
        let wrong = json!({ "io.netd.zone": "web", "io.netd.resolv-conf": "copy-host" });
        let bundle = bundle(&world, runtime, "true", &wrong);
        assert_ne!(start(&world, runtime, "wrong", &bundle).code, 0);
    }
}
