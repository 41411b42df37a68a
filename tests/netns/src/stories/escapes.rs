//! Known ways out of a container, tried, and what a container of `netd run` can see and do, by the probe of docs/security-table.md.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::run;
use crate::net::netns;
use crate::world::{World, netd_binary};

/// tests/security
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../security")
}

pub(super) fn compile(source: &str, options: &[&str], to: &Path) {
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-w"]).args(options).arg("-o").arg(to);
    netns::run(cc.arg(sources().join(source))).ok();
}

pub(super) fn netd_run(world: &World, root: &Path, line: &str, script: &str) -> netns::Ran {
    let mut command = world.command();
    command.args(["run", "--settings=no", "-M", "escape", "-D"]);
    command.arg(root).args(line.split_whitespace());
    command.args(["--", "/bin/sh", "-c", script]);
    world.netns.enter(|| netns::run(&mut command))
}

/// Rows of the table that no kernel's configuration has a part in.
fn is_ours(row: &str) -> bool {
    let kinds = [
        "descriptors",
        "namespace",
        "root outside",
        "capabilities",
        "no new",
        "system call filter",
        "a device node",
        "a cgroup's",
        "call ",
    ];
    kinds.iter().any(|kind| row.starts_with(kind))
}

pub fn the_table_says_what_the_probe_says() {
    let world = World::without_daemon("escape-table");
    let root = run::root(&world.dir);
    compile("probe.c", &["-static"], &root.join("bin/probe"));
    let table = fs::read_to_string(sources().join("../../docs/security-table.md")).unwrap();
    let mut rows = 0;
    for (column, options) in [(2, "--private-network"), (3, "--private-network -U")] {
        let kinds = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];
        let own = kinds.map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
        let own = own
            .map(|name| name.to_str().unwrap().to_owned())
            .join("' '");
        let told = netd_run(&world, &root, options, &format!("exec probe '{own}'")).ok();
        let told: Vec<(&str, &str)> = told
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        for row in table.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            if !is_ours(cells[1]) {
                continue;
            }
            let answer = told.iter().find(|(what, _)| *what == cells[1]);
            let answer = answer
                .unwrap_or_else(|| panic!("the probe says nothing of {}", cells[1]))
                .1;
            assert_eq!(answer, cells[column], "{options}: {}", cells[1]);
            rows += 1;
        }
    }
    assert!(rows > 60, "{rows} rows");
}

pub fn the_program_of_the_host_cannot_be_overwritten() {
    let world = World::without_daemon("escape-exe");
    let root = run::root(&world.dir);
    // a copy, because the attack may succeed
    let program = world.dir.join("netd");
    fs::copy(netd_binary(), &program).unwrap();
    let before = fs::read(&program).unwrap();
    fs::write(root.join("bin/evil"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(root.join("bin/evil"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(root.join("lib64")).unwrap();
    let linker = root.join("lib64/ld-linux-x86-64.so.2");
    compile(
        "interpreter.c",
        &["-nostdlib", "-static", "-fno-stack-protector"],
        &linker,
    );
    let attack = |options: &[&str], words: &[&str]| {
        let mut command = world.command();
        let mut netd = Command::new(&program);
        for (key, value) in command.args(["run"]).get_envs() {
            netd.env(key, value.unwrap_or_default());
        }
        netd.args(["run", "-q", "--settings=no", "-M", "escape", "-D"])
            .arg(&root);
        netd.args(options).arg("--").args(words);
        world.netns.enter(|| netns::run(&mut netd))
    };
    for options in [&[][..], &["-a"], &["-U"], &["--capability=all"]] {
        let ran = attack(options, &["/bin/evil"]);
        assert!(!ran.stdout.contains("WRITTEN"), "{options:?}: {ran}");
        assert!(
            fs::read(&program).unwrap() == before,
            "{options:?}: overwritten: {ran}"
        );
    }
    // the control: the attack runs, and holds the program open
    let ran = attack(&[], &["/bin/evil"]);
    assert!(ran.stdout.contains("ELF tried"), "{ran}");
    // pid 1 below --as-pid2 is that program too: nobody inside looks into it
    let script = "cat /proc/1/exe >/dev/null; echo x >>/proc/1/exe; ls /proc/1/cwd/; cat /proc/1/environ; cat /proc/1/mem";
    let ran = attack(&["-a"], &["/bin/sh", "-c", script]);
    assert_eq!(ran.stdout, "", "{ran}");
    assert!(fs::read(&program).unwrap() == before, "overwritten: {ran}");
}

pub fn no_descriptor_of_the_caller_comes_along() {
    let world = World::without_daemon("escape-fd");
    let root = run::root(&world.dir);
    let binary = netd_binary();
    for options in [
        "",
        "-a",
        "-U",
        "--console=read-only",
        "--no-new-privileges=yes",
    ] {
        let script = format!(
            "exec 7</ 8</etc/shadow 9<>/dev/null; cd /etc; exec {} run -q --settings=no -M escape -D {} {options} -- /bin/sh -c \
             'for f in /proc/self/fd/* /proc/1/fd/*; do case $f in */fd/[012]) ;; *) [ -e $f ] && echo $f; esac; done; pwd'",
            binary.display(),
            root.display()
        );
        let mut command = Command::new("sh");
        for (key, value) in world.command().get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        let ran = world
            .netns
            .enter(|| netns::run(command.args(["-c", &script])));
        let told: Vec<&str> = ran.stdout.lines().map(str::trim).collect();
        assert_eq!(told, ["/"], "{options}: {ran}");
    }
}

pub fn no_mount_is_led_out_of_the_root() {
    let world = World::without_daemon("escape-mount");
    let root = run::root(&world.dir);
    let outside = world.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(world.dir.join("shown"), "shown").unwrap();
    let up = "/../../../../../../../../..";
    for (name, target) in [
        ("abs", outside.display().to_string()),
        ("up", format!("{up}{}", outside.display())),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
    let shown = world.dir.join("shown");
    let options = format!(
        "--bind={0}:/abs/a --bind-ro={0}:/up/b --tmpfs=/abs/c --overlay=+/srv::/up/d --set-credential=k:v",
        shown.display()
    );
    let ran = netd_run(
        &world,
        &root,
        &options,
        "cat /abs/a /up/b; touch /abs/c/x /up/d/y",
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{ran}");
    // the same while somebody swaps a directory and a link for each other
    let (one, other) = (root.join("swap"), root.join("other"));
    fs::create_dir(&one).unwrap();
    symlink(&outside, &other).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                let _ = rustix::fs::renameat_with(cwd, &one, cwd, &other, exchange);
            }
        });
        for _ in 0..12 {
            let options = format!(
                "--bind={}:/swap/a --tmpfs=/swap/b --inaccessible=/swap",
                shown.display()
            );
            let _ = netd_run(&world, &root, &options, "true");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let left: Vec<_> = fs::read_dir(&outside).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

pub fn cgroups_keys_and_the_kernels_files_lead_nowhere() {
    let world = World::without_daemon("escape-kernel");
    let root = run::root(&world.dir);
    compile("probe.c", &["-static"], &root.join("bin/probe"));
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    // each line is a way that has led out of some runtime's containers; every one must fail
    let ways = [
        "mkdir -p /tmp/cg && mount -t cgroup -o rdma cgroup /tmp/cg",
        "mount -t cgroup2 cgroup /tmp",
        "busybox unshare -UrmC true",
        "busybox unshare -m true",
        "echo '|/tmp/evil' >/proc/sys/kernel/core_pattern",
        "echo /tmp/evil >/proc/sys/kernel/modprobe",
        "echo /tmp/evil >/sys/kernel/uevent_helper",
        "echo b >/proc/sysrq-trigger",
        "mount -o remount,rw /proc/sys",
        "mount -o remount,rw /sys",
        "busybox umount /proc/sys",
        "mount --bind / /tmp",
        "mount -t proc proc /tmp",
        "busybox mknod /tmp/disk b 8 0",
        "busybox mknod /tmp/mem c 1 1",
        "busybox chroot /proc/1/root/../../.. /bin/true-of-the-host",
        "probe | grep 'call keyctl.allowed'",
        "probe | grep 'call add_key.allowed'",
        "probe | grep 'call open_by_handle_at.allowed'",
        "probe | grep 'release_agent.written'",
        "for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent; do echo /tmp/evil >$f && exit 0; done; exit 1",
    ];
    let script: String = ways
        .iter()
        .map(|way| {
            format!(
                "( {way} ) >/dev/null 2>&1 && echo {}\n",
                way.replace(['\'', '(', ')', '|', ';', '$', '*', '>', '&'], ".")
            )
        })
        .collect();
    for options in [
        "--private-network",
        "--private-network -U",
        "--private-network -a",
        "",
    ] {
        let ran = netd_run(&world, &root, options, &format!("{script} true"));
        assert_eq!(ran.code, 0, "{options}: {ran}");
        assert_eq!(ran.stdout, "", "{options}: a way leads out: {ran}");
    }
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(),
        pattern
    );
}
