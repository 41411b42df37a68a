//! The same words for `systemd-nspawn` and for `netd run`: what the command inside sees is the same.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{nspawn, run};
use crate::net::netns::{self, Ran};
use crate::world::World;

/// A root of each, so that what one leaves the other does not find.
fn roots(world: &World) -> [PathBuf; 2] {
    ["theirs", "ours"].map(|name| {
        let folder = world.dir.join(name);
        fs::create_dir(&folder).unwrap();
        let root = run::root(&folder);
        for tool in [
            "stat", "readlink", "uname", "grep", "chown", "md5sum", "cut",
        ] {
            symlink("busybox", root.join("bin").join(tool)).unwrap();
        }
        fs::create_dir(root.join("mnt")).unwrap();
        // systemd-nspawn asks it who a user is
        let getent = "#!/bin/sh\n[ $1 = initgroups ] && echo \"$2\" && exit\nexec /bin/grep \"^$2:\" /etc/$1\n";
        fs::write(root.join("bin/getent"), getent).unwrap();
        fs::set_permissions(root.join("bin/getent"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("etc/os-release"), "ID=story\n").unwrap();
        root
    })
}

/// What a command says with either.
fn both(world: &World, [theirs, ours]: &[PathBuf; 2], options: &str, script: &str) -> [Ran; 2] {
    let words = |root: &Path| -> Vec<String> {
        let line = options.replace("DIR", &world.dir.display().to_string());
        let mut words = vec![
            "-q".to_owned(),
            "-M".into(),
            "same".into(),
            "--settings=no".into(),
            "-D".into(),
        ];
        words.push(root.display().to_string());
        words.extend(line.split_whitespace().map(str::to_owned));
        words.extend(["/bin/sh", "-c", script].map(str::to_owned));
        words
    };
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn
        .args(["--register=no", "--keep-unit", "--console=pipe"])
        .args(words(theirs));
    nspawn.env("PASSED", "on").env_remove("UNSET");
    let mut netd = world.command();
    netd.args(["run", "--pipe"]).args(words(ours));
    netd.env("PASSED", "on").env_remove("UNSET");
    [nspawn, netd].map(|mut command| world.netns.enter(|| netns::run(&mut command)))
}

const CASES: &[(&str, &str)] = &[
    (
        "--user=web --chdir=/srv",
        "id -u; id -g; pwd; echo $HOME $USER $LOGNAME",
    ),
    ("-u web -u root", "id -u"),
    (
        "-E A=1 --setenv=B=two -E A=3 -E PASSED -E UNSET",
        "echo $A $B $PASSED; env | grep UNSET",
    ),
    ("--hostname=other", "hostname"),
    (
        "--uuid=11111111222233334444555555555555",
        "echo $container_uuid",
    ),
    (
        "--rlimit=RLIMIT_NOFILE=70:90 --rlimit=CORE=5",
        "ulimit -n; ulimit -Hn; ulimit -c",
    ),
    (
        "--rlimit=RLIMIT_NICE=-5 --rlimit=RTTIME=3ms --rlimit=CPU=2min",
        "grep -E 'nice|realtime timeout|cpu' /proc/self/limits",
    ),
    (
        "--rlimit=FSIZE=1G --rlimit=AS=infinity --rlimit=LOCKS=7:9",
        "grep -E 'file size|address|locks' /proc/self/limits",
    ),
    (
        "--oom-score-adjust=300 --cpu-affinity=0",
        "cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status",
    ),
    ("--personality=x86", "uname -m"),
    ("--as-pid2", "echo $$; cat /proc/1/stat | cut -d' ' -f1,4"),
    ("", "echo $$"),
    (
        "--no-new-privileges=yes",
        "grep NoNewPrivs /proc/self/status",
    ),
    (
        "--system-call-filter=~@chown",
        "chown 33 /srv/index.html 2>&1",
    ),
    (
        "--capability=CAP_SYS_TIME --drop-capability=all",
        "grep CapBnd /proc/self/status",
    ),
    (
        "--drop-capability=all --capability=all",
        "grep CapEff /proc/self/status",
    ),
    (
        "--user=web --ambient-capability=CAP_NET_BIND_SERVICE",
        "grep CapAmb /proc/self/status",
    ),
    (
        "--bind=DIR/data:/mnt",
        "cat /mnt/file; touch /mnt/new && echo written",
    ),
    (
        "--bind-ro=DIR/data:/mnt",
        "cat /mnt/file; touch /mnt/no || echo refused",
    ),
    ("--bind=DIR/a\\:b:/mnt", "ls /mnt"),
    ("--bind=+/srv:/mnt", "ls /mnt"),
    (
        "--bind=DIR/data:/made/for/it --bind=DIR/data/file:/etc/shown",
        "ls /made/for/it; cat /etc/shown",
    ),
    ("--bind=DIR/data:/mnt:norbind", "ls /mnt/below"),
    ("--bind=DIR/data:/mnt:rbind", "ls /mnt/below"),
    (
        "--tmpfs=/mnt:mode=700,size=1M",
        "stat -c '%a %T' -f /mnt | cut -d' ' -f2; stat -c %a /mnt",
    ),
    (
        "--overlay=+/srv:DIR/upper:/mnt",
        "ls /mnt | grep index; echo x >/mnt/made; cat /mnt/made",
    ),
    ("--overlay=+/srv::/srv", "echo x >/srv/gone; ls /srv"),
    (
        "--overlay-ro=DIR/data:+/srv:/mnt",
        "ls /mnt; touch /mnt/no || echo refused",
    ),
    (
        "--read-only",
        "touch /etc/no || echo refused; touch /tmp/yes && echo written",
    ),
    (
        "--volatile=state",
        "touch /etc/no || echo refused; ls /var | grep left; touch /var/yes && echo written",
    ),
    (
        "--volatile=overlay",
        "touch /etc/new && ls /etc/new; cat /srv/index.html",
    ),
    ("--private-network", "ip -o link | cut -d: -f2"),
    ("--network-veth", "ip -o link | cut -d: -f2 | cut -d@ -f1"),
    (
        "--network-veth-extra=x0:y0",
        "ip -o link | cut -d: -f2 | cut -d@ -f1",
    ),
    (
        "--private-users=524288:65536",
        "cat /proc/self/uid_map; id -u",
    ),
    ("--private-users=identity", "cat /proc/self/uid_map; id -u"),
    (
        "--set-credential=a:one\\x20word --load-credential=b:DIR/data/file",
        "cat $CREDENTIALS_DIRECTORY/a $CREDENTIALS_DIRECTORY/b",
    ),
    (
        "--resolv-conf=copy-host",
        "md5sum /etc/resolv.conf; readlink /etc/resolv.conf",
    ),
    (
        "--resolv-conf=replace-host",
        "md5sum /etc/resolv.conf; readlink /etc/resolv.conf",
    ),
    (
        "--resolv-conf=bind-host",
        "md5sum /etc/resolv.conf; echo x >>/etc/resolv.conf || echo refused",
    ),
    ("--resolv-conf=off", "cat /etc/resolv.conf"),
    ("--resolv-conf=delete", "ls /etc/resolv.conf || echo gone"),
    (
        "--timezone=copy",
        "md5sum /etc/localtime; readlink /etc/localtime",
    ),
    ("--timezone=bind", "md5sum /etc/localtime"),
    (
        "--timezone=off",
        "readlink /etc/localtime; ls /etc/localtime",
    ),
    ("--timezone=delete", "ls /etc/localtime || echo gone"),
];

pub fn words_mean_what_they_mean_for_systemd_nspawn() {
    let world = World::without_daemon("run-same");
    nspawn::own_folders(&world);
    let roots = roots(&world);
    let dir = &world.dir;
    for folder in ["data/below", "a:b", "upper"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    fs::write(dir.join("a:b/colon"), "").unwrap();
    fs::write(dir.join("data/file"), "of the host\n").unwrap();
    world.sh(&format!(
        "mount -t tmpfs t {0}/data/below; touch {0}/data/below/deep",
        dir.display()
    ));
    for root in &roots {
        fs::write(root.join("var/left"), "").unwrap();
    }
    let mut different = Vec::new();
    for (options, script) in CASES {
        // what an option leaves behind is each root's own
        for root in &roots {
            fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.99\n").unwrap_or_default();
            let zone = root.join("etc/localtime");
            let _ = fs::remove_file(&zone);
            symlink("../usr/share/zoneinfo/Nowhere", &zone).unwrap();
            fs::write(root.join("srv/index.html"), "page\n").unwrap();
        }
        let [theirs, ours] = both(&world, &roots, options, script);
        if (&theirs.stdout, theirs.code) != (&ours.stdout, ours.code) {
            different.push(format!(
                "{options}\n  systemd-nspawn: {theirs}\n  netd run: {ours}"
            ));
        }
    }
    world.sh(&format!("umount {}/data/below", dir.display()));
    assert!(different.is_empty(), "{}", different.join("\n"));
}

pub fn what_is_not_done_is_refused_by_name() {
    let world = World::without_daemon("run-refused-options");
    let root = run::root(&world.dir);
    let told = |line: &str| {
        let line = format!("run -D {} {line} -- /bin/true", root.display());
        world.netd(&line).fails(2)
    };
    for (option, reason) in [
        ("--share-system", "namespaces of its own"),
        ("--background=44", "colours"),
        ("--image-policy=*", "by their types"),
        ("--cleanup", "left behind"),
        ("--private-users-delegate=1", "one range"),
        ("--restrict-address-families=AF_UNIX", "policies"),
        ("--root-hash=00", "dm-verity"),
        ("--root-hash-sig=/x", "dm-verity"),
        ("--verity-data=/x", "dm-verity"),
        ("--pivot-root=/x", "--directory="),
        ("--selinux-context=x", "SELinux"),
        ("--selinux-apifs-context=x", "SELinux"),
        ("--link-journal=host", "journal"),
        ("--notify-ready=yes", "sd_notify"),
        ("--console=some", "--console"),
        ("--frobnicate", "--frobnicate"),
        ("--bind=/a:/b:sideways", "sideways"),
        ("--capability=CAP_FLY", "CAP_FLY"),
        ("--system-call-filter=fly", "fly"),
        ("--rlimit=FLY=1", "--rlimit"),
        ("--personality=pdp11", "pdp11"),
        ("--resolv-conf=perhaps", "perhaps"),
        ("--timezone=mars", "mars"),
        ("--network-interface=a:b:c", "--network-interface"),
    ] {
        let told = told(option);
        let name = option.split('=').next().unwrap();
        assert!(
            told.contains(name) && told.contains(reason),
            "{option}: {told}"
        );
    }
    // what systemd-nspawn takes and what asks for nothing is taken
    for option in [
        "--background=",
        "--private-users-chown -U",
        "-j",
        "--no-pager --quiet --quiet",
        "--pipe --console=pipe",
        "--user=web --user=root",
    ] {
        let line = format!("run -q --pipe -D {} {option} -- /bin/true", root.display());
        world.netd(&line).ok();
    }
    // an image that is marked read-only is not written to, and a copy of it is
    let script = ["run", "-q", "-D", root.to_str().unwrap()];
    let touch = ["--", "/bin/touch", "/srv/new"];
    world.sh(&format!("chattr +i {}", root.display()));
    let refused = world.netd_args([&script[..], &touch].concat());
    let copied = world.netd_args([&script[..], &["-x"], &touch].concat());
    world.sh(&format!("chattr -i {}", root.display()));
    assert!(
        refused.code == 1 && refused.stderr.contains("Read-only"),
        "{refused}"
    );
    copied.ok();
}
