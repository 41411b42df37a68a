//! Attacks on whoever visits a container, or shows it something, while it runs: tests/security/attack.c.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::escapes::{compile, netd_run};
use super::run;
use super::visit::{FOREVER, exec, netd_in, start, wait_until};
use crate::net::netns;
use crate::world::{World, netd_binary};

fn attackers_root(world: &World) -> PathBuf {
    let root = run::root(&world.dir);
    compile("attack.c", &["-static"], &root.join("bin/attack"));
    root
}

/// What succeeds is in capital letters.
fn succeeded(told: &str) -> Vec<&str> {
    let capital = |line: &&str| {
        let first = line.split(' ').next().unwrap_or_default();
        first.len() > 2 && first.chars().all(|c| c.is_ascii_uppercase())
    };
    told.lines().filter(capital).collect()
}

pub fn who_enters_is_not_looked_into() {
    let world = World::without_daemon("escape-visitor");
    let root = attackers_root(&world);
    let big = world.dir.join("big");
    fs::write(&big, vec![7; 12 << 20]).unwrap();
    for (name, options) in [
        ("plain", ""),
        ("tracer", "-U --capability=CAP_SYS_PTRACE"),
        ("strong", "-U --capability=all"),
    ] {
        let note = root.join("tmp/caught");
        let command = format!("attack catch 90 >/tmp/caught & {FOREVER}");
        let _container = start(&world, &root, &format!("-M {name} {options}"), &command);
        wait_until("it lies in wait", || note.exists());
        for round in 0..6 {
            exec(&world, name, "true").ok();
            let (source, back) = (big.display().to_string(), world.dir.join("back"));
            netd_in(
                &world,
                &["copy-to", name, &source, "/srv/big", "--force"],
                None,
            )
            .ok();
            let back = back.display().to_string();
            netd_in(
                &world,
                &["copy-from", name, "/srv/big", &back, "--force"],
                None,
            )
            .ok();
            let point = format!("/srv/shown-{round}");
            netd_in(&world, &["bind", name, &source, &point, "--mkdir"], None).ok();
        }
        fs::write(root.join("tmp/enough"), "").unwrap();
        let told = || fs::read_to_string(&note).unwrap_or_default();
        wait_until("it tells", || told().contains("met "));
        // the control: it saw who entered, and looked
        assert!(told().contains("met some"), "{name}: {}", told());
        assert!(succeeded(&told()).is_empty(), "{name}: {}", told());
        fs::remove_file(root.join("tmp/enough")).unwrap();
        fs::remove_file(&note).unwrap();
    }
}

/// A command line, at a terminal of its own.
fn at_a_terminal(world: &World, line: &str) -> netns::Ran {
    let mut script = Command::new("script");
    script
        .args(["-qec", line, "/dev/null"])
        .stdin(Stdio::null());
    for (key, value) in world.command().get_envs() {
        script.env(key, value.unwrap_or_default());
    }
    world.netns.enter(|| netns::run(&mut script))
}

pub fn no_key_is_pushed_into_the_callers_terminal() {
    let world = World::without_daemon("escape-keys");
    let root = attackers_root(&world);
    let netd = netd_binary();
    // a control: without a container the terminal takes it, where the kernel lets anybody
    let attack = root.join("bin/attack");
    let free = at_a_terminal(&world, &format!("{} keys", attack.display()));
    assert!(free.stdout.contains("PUSHED into 0"), "{free}");
    for options in ["", "-U", "-a", "--capability=all", "-U --capability=all"] {
        let line = format!(
            "{} run -q --settings=no -M keys --pipe -D {} {options} -- /bin/attack keys",
            netd.display(),
            root.display()
        );
        let ran = at_a_terminal(&world, &line);
        assert!(ran.stdout.contains("a terminal"), "{options}: {ran}");
        for word in ["PUSHED", "PASTED"] {
            assert!(!ran.stdout.contains(word), "{options}: {ran}");
        }
    }
    for options in ["", "--capability=all"] {
        let _container = start(&world, &root, &format!("-M visited {options}"), FOREVER);
        let line = format!("{} exec --pipe visited -- /bin/attack keys", netd.display());
        let ran = at_a_terminal(&world, &line);
        assert!(ran.stdout.contains("a terminal"), "{options}: {ran}");
        for word in ["PUSHED", "PASTED"] {
            assert!(!ran.stdout.contains(word), "{options}: {ran}");
        }
    }
}

pub fn handles_and_other_calling_conventions_lead_nowhere() {
    let world = World::without_daemon("escape-handles");
    let root = attackers_root(&world);
    for options in ["", "-U", "-a", "-U --capability=CAP_DAC_READ_SEARCH"] {
        let ran = netd_run(
            &world,
            &root,
            options,
            "attack gates; attack handles; echo tried",
        );
        assert!(ran.stdout.ends_with("tried\n"), "{options}: {ran}");
        let found = succeeded(&ran.stdout);
        // who may search everything of its own by a capability of its own may open its own files by handles, too
        let out = found
            .iter()
            .filter(|line| !options.contains("SEARCH") || line.contains("the root"));
        assert_eq!(out.count(), 0, "{options}: {ran}");
    }
    let ran = netd_run(
        &world,
        &root,
        "-U --capability=all",
        "attack handles; echo tried",
    );
    assert!(!ran.stdout.contains("the root"), "{ran}");
    // the control: outside the program opens what it asks for
    let free = netns::run(Command::new(root.join("bin/attack")).arg("handles")).ok();
    let gates = netns::run(Command::new(root.join("bin/attack")).arg("gates")).ok();
    assert!(!succeeded(&(free + &gates)).is_empty(), "{gates}");
}

pub fn places_that_change_meanwhile_lead_nowhere() {
    let world = World::without_daemon("escape-races");
    let root = run::root(&world.dir);
    let outside = world.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "of the host").unwrap();
    let file = world.dir.join("file");
    fs::write(&file, "words").unwrap();
    let (place, link) = (root.join("srv/place"), root.join("srv/link"));
    fs::create_dir(&place).unwrap();
    fs::write(place.join("secret"), "of the container").unwrap();
    symlink(&outside, &link).unwrap();
    for (name, options) in [("plain", ""), ("mapped", "-U")] {
        let _container = start(&world, &root, &format!("-M {name} {options}"), FOREVER);
        let stop = AtomicBool::new(false);
        let text = |path: &Path| path.display().to_string();
        thread::scope(|scope| {
            scope.spawn(|| {
                let cwd = rustix::fs::CWD;
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                while !stop.load(Ordering::Relaxed) {
                    let _ = rustix::fs::renameat_with(cwd, &place, cwd, &link, exchange);
                }
            });
            for round in 0..10 {
                let to = format!("/srv/place/copied-{round}");
                let _ = netd_in(&world, &["copy-to", name, &text(&file), &to], None);
                let back = world.dir.join(format!("back-{name}-{round}"));
                let ran = netd_in(
                    &world,
                    &["copy-from", name, "/srv/place/secret", &text(&back)],
                    None,
                );
                if ran.code == 0 {
                    assert_eq!(fs::read_to_string(&back).unwrap(), "of the container");
                }
                let point = format!("/srv/place/shown-{round}");
                let _ = netd_in(
                    &world,
                    &["bind", name, &text(&file), &point, "--mkdir"],
                    None,
                );
            }
            stop.store(true, Ordering::Relaxed);
        });
        let left: Vec<_> = fs::read_dir(&outside)
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(left, ["secret"], "{name}");
    }
}

pub fn a_container_that_hides_its_proc_is_visited_all_the_same() {
    let world = World::without_daemon("escape-proc");
    let root = attackers_root(&world);
    for tool in ["mkdir", "mkfifo", "ln", "rm", "rmdir", "umount"] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    let file = world.dir.join("file");
    fs::write(&file, "words").unwrap();
    // what a visitor might look up is somebody else's: /proc, /dev and the first process's own directory
    let lies = "mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone; mount -t tmpfs none /proc; mkdir -p /proc/self/fd /proc/1/ns; \
        ln -s / /proc/self/cwd; ln -s /bin/busybox /proc/self/exe; for n in 0 1 2 3 4 5 6 7 8 9; do ln -s /etc/passwd /proc/self/fd/$n; done; \
        for n in user mnt pid net; do ln -s /etc/passwd /proc/1/ns/$n; done; mkfifo /proc/self/oom_score_adj; \
        mount -t tmpfs none /dev/pts; mkfifo /dev/pts/ptmx; echo >/tmp/ready";
    let command = format!("{lies}; {FOREVER}");
    let _container = start(
        &world,
        &root,
        "-M liar -U --capability=CAP_SYS_ADMIN",
        &command,
    );
    wait_until("it has lied", || root.join("tmp/ready").exists());
    assert_eq!(exec(&world, "liar", "id -u; pwd").ok(), "0\n/\n");
    let source = file.display().to_string();
    netd_in(&world, &["copy-to", "liar", &source, "/srv/in"], None).ok();
    let back = world.dir.join("back");
    let to = back.display().to_string();
    netd_in(&world, &["copy-from", "liar", "/srv/in", &to], None).ok();
    assert_eq!(fs::read_to_string(&back).unwrap(), "words");
    netd_in(
        &world,
        &["bind", "liar", &source, "/srv/shown", "--mkdir"],
        None,
    )
    .ok();
    assert_eq!(exec(&world, "liar", "cat /srv/shown").ok(), "words");
    // a terminal cannot be had there, and is not waited for
    let line = format!("{} shell liar /bin/true", netd_binary().display());
    let refused = at_a_terminal(&world, &line);
    assert!(
        refused.code == 1 && refused.stdout.contains("/dev/pts"),
        "{refused}"
    );
    // names with what a terminal acts on are shown without it
    exec(
        &world,
        "liar",
        "mkdir '/srv/\u{1b}]0;title'; mkfifo '/srv/\u{1b}]0;title/x'",
    )
    .ok();
    let told = netd_in(
        &world,
        &["copy-from", "liar", "/srv/\u{1b}]0;none", "/dev/null/x"],
        None,
    );
    assert!(told.code != 0 && !told.stderr.contains('\u{1b}'), "{told}");
}
