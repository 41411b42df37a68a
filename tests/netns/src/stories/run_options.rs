//! `netd run` in the words of systemd-nspawn: settings files, options, interfaces beside zones, units, bundles.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{nspawn, run};
use crate::net::netns::{self, Ran};
use crate::world::World;

fn netd(world: &World, line: &str, words: &[&str]) -> Ran {
    let mut command = world.command();
    command.arg("run").args(line.split_whitespace());
    command.arg("--").args(words);
    world.netns.enter(|| netns::run(&mut command))
}

/// A machine in a folder of machines.
fn machine(world: &World, name: &str) -> PathBuf {
    let folder = world.folder("config/machines");
    fs::create_dir_all(&folder).unwrap();
    fs::rename(run::root(&world.dir), folder.join(name)).unwrap();
    folder.join(name)
}

/// As it stands in a self-hoster's notes.
const TOR_BROWSER: &str = "[Exec]\nDropCapability=all\nEnvironment=DISPLAY=:0\nHostname=tor-browser\nNoNewPrivileges=true\n\
    Parameters=/bin/sh -c \"id -u; pwd; hostname; echo $DISPLAY; cat /proc/self/uid_map /etc/resolv.conf; grep -E '^(Cap|NoNew)' /proc/self/status; cat /proc/1/comm\"\n\
    PrivateUsers=yes\nProcessTwo=true\nResolvConf=copy-host\nTimezone=copy\nUser=web\nWorkingDirectory=/srv\n";

pub fn a_settings_file_runs_as_it_stands_and_is_its_command_line() {
    let world = World::without_daemon("run-settings");
    nspawn::own_folders(&world);
    let root = machine(&world, "tor-browser");
    let file = Path::new("/etc/systemd/nspawn/tor-browser.nspawn");
    fs::write(file, TOR_BROWSER.replace("grep", "busybox grep")).unwrap();
    let by_file = netd(&world, "-M tor-browser", &[]).ok();
    assert!(
        by_file.starts_with("33\n/srv\ntor-browser\n:0\n"),
        "{by_file}"
    );
    assert!(
        by_file.contains("CapBnd:\t0000000000000000\n") && by_file.contains("NoNewPrivs:\t1\n"),
        "{by_file}"
    );
    let host = fs::read_to_string("/etc/resolv.conf").unwrap();
    assert!(by_file.contains(&host), "{by_file}");
    assert_eq!(
        fs::read("/etc/localtime").unwrap(),
        fs::read(root.join("etc/localtime")).unwrap()
    );
    let line = "-M tor-browser --settings=no --drop-capability=all -E DISPLAY=:0 --hostname=tor-browser --no-new-privileges=true \
        --private-users=yes --as-pid2 --resolv-conf=copy-host --timezone=copy --user=web --chdir=/srv";
    let words = TOR_BROWSER
        .lines()
        .find_map(|l| l.strip_prefix("Parameters=/bin/sh -c "))
        .unwrap();
    let words = words.trim_matches('"').replace("grep", "busybox grep");
    assert_eq!(netd(&world, line, &["/bin/sh", "-c", &words]).ok(), by_file);
    // options win over a file, a file with --settings=override over options
    let user = |line: &str| {
        netd(
            &world,
            &format!("-M tor-browser {line}"),
            &["/bin/id", "-u"],
        )
    };
    assert_eq!(user("--user=0").ok(), "0\n");
    assert!(
        user("--user=0 --settings=override")
            .ok()
            .starts_with("33\n/srv\n")
    );
    // beside the root it loses what widens, and says so; what it cannot do is told by line
    fs::remove_file(file).unwrap();
    let beside = root.with_extension("nspawn");
    fs::write(
        &beside,
        "[Exec]\nUser=web\nCapability=CAP_SYS_ADMIN\n[Files]\nBind=/etc:/srv\n",
    )
    .unwrap();
    let script = [
        "/bin/sh",
        "-c",
        "id -u; ls /srv; busybox grep CapBnd /proc/self/status",
    ];
    let ran = netd(&world, "-M tor-browser", &script);
    let notices: Vec<String> = [(3, "Capability="), (5, "Bind=")]
        .iter()
        .map(|(line, key)| format!("{}:{line}: {key} is left out", beside.display()))
        .collect();
    assert!(
        notices.iter().all(|notice| ran.stderr.contains(notice)),
        "{ran}"
    );
    assert!(
        ran.stdout.starts_with("33\nindex.html\n") && ran.stdout.contains("CapBnd:\t00000000a004"),
        "{ran}"
    );
    let trusted = netd(&world, "-M tor-browser --settings=trusted", &script).ok();
    assert!(trusted.contains("passwd"), "{trusted}");
    fs::write(&beside, "[Exec]\nUser=web\nTimezone=mars\n").unwrap();
    let told = netd(&world, "-M tor-browser", &script).fails(1);
    assert!(
        told.contains(&format!("{}:3: Timezone=", beside.display())),
        "{told}"
    );
}

pub fn many_options_in_one_start() {
    let world = World::new("run-options");
    world.zone("web").create();
    let root = run::root(&world.dir);
    let copy = world.dir.join("copy");
    fs::write(world.dir.join("secret"), "from a file").unwrap();
    fs::create_dir(world.dir.join("data")).unwrap();
    let line = format!(
        "-D {0} --template={1} -M many -U --network-zone=web --capability=CAP_SYS_NICE --drop-capability=CAP_KILL \
         --rlimit=RLIMIT_NOFILE=70:90 --oom-score-adjust=300 --cpu-affinity=0 --system-call-filter=~@chown \
         --uuid=11111111222233334444555555555555 --load-credential=a:{2}/secret --set-credential=b:text --bind={2}/data:/data:idmap \
         --bind=+/srv:/mnt --bind=:/scratch --overlay=+/srv::/srv --inaccessible=/root --timezone=off --property=TasksMax=50 -q",
        copy.display(),
        root.display(),
        world.dir.display()
    );
    let script = "ulimit -n; cat /proc/self/oom_score_adj; echo $container_uuid; cat $CREDENTIALS_DIRECTORY/a $CREDENTIALS_DIRECTORY/b; \
        echo; touch /data/x /scratch/x /srv/new; cat /mnt/index.html; ls /mnt /srv; busybox chown 0 /srv/new 2>&1; \
        busybox grep -E '^(Cpus_allowed_list|CapBnd)' /proc/self/status; ip addr show host0 | busybox grep -c 10.89";
    let told = netd(&world, &line, &["/bin/sh", "-c", script]).ok();
    let expected = "70\n300\n11111111-2222-3333-4444-555555555555\nfrom a filetext\nserved from inside\n/mnt:\nindex.html\n\n\
        /srv:\nindex.html\nnew\nchown: /srv/new: Operation not permitted\nCapBnd:\t00000000a08435db\nCpus_allowed_list:\t0\n1\n";
    assert_eq!(told, expected);
    assert!(copy.join("bin/busybox").exists() && !copy.join("srv/new").exists());
    assert!(world.dir.join("data/x").exists());
    // nothing of a start that keeps nothing is left
    let line = format!("-D {} -q -x --network-zone=web -M many", root.display());
    netd(&world, &line, &["/bin/sh", "-c", "touch /etc/new"]).ok();
    assert!(!root.join("etc/new").exists());
    let beside = fs::read_dir(&world.dir).unwrap().flatten();
    assert!(
        beside
            .map(|e| e.file_name())
            .all(|name| !name.to_string_lossy().starts_with(".#"))
    );
    // what cannot be is refused by name
    for (line, named) in [
        ("--pivot-root=/x", "--pivot-root"),
        ("--link-journal=guest", "--link-journal"),
        ("--notify-ready=yes", "--notify-ready"),
        ("--register=yes", "--register"),
        ("--slice=a.slice", "--slice"),
        ("--frobnicate", "--frobnicate"),
    ] {
        let told = netd(&world, line, &["true"]).fails(2);
        assert!(told.contains(named), "{told}");
    }
}

pub fn interfaces_beside_zones() {
    let world = World::new("run-links");
    world.zone("web").create();
    let root = run::root(&world.dir);
    world.sh("ip link add br0 type bridge; ip link add here type veth peer name other");
    let links = |options: &str| {
        let line = format!("-q -M c1 -D {} {options}", root.display());
        netd(
            &world,
            &line,
            &[
                "/bin/sh",
                "-c",
                "ip -o link | busybox cut -d: -f2 | busybox cut -d@ -f1",
            ],
        )
    };
    assert_eq!(links("--network-veth").ok(), " lo\n host0\n");
    assert_eq!(
        links("--network-bridge=br0 --network-veth-extra=a0:b0").ok(),
        " lo\n host0\n b0\n"
    );
    assert_eq!(links("--network-macvlan=other").ok(), " lo\n mv-other\n");
    // it goes inside, and comes back
    assert_eq!(links("--network-interface=here -U").ok(), " lo\n here\n");
    assert!(world.links().contains(&"here".to_owned()));
    // a zone's bridge is the zone, and beside a zone there is no other way
    let bridge = world.netd("zone show web --json").json()["bridge"]
        .as_str()
        .unwrap()
        .to_owned();
    let line = format!("-q -M c1 -D {} --network-bridge={bridge}", root.display());
    let address = netd(&world, &line, &["/bin/ip", "addr", "show", "host0"]).ok();
    assert!(address.contains("10.89."), "{address}");
    let told = links("--network-zone=web --network-macvlan=other").fails(2);
    assert!(told.contains("a way around"), "{told}");
    let told = links("--network-interface=missing").fails(1);
    assert!(told.contains("missing"), "{told}");
    // a namespace that is there
    world.sh("touch ns; true");
    let ns = world.dir.join("ns");
    fs::write(&ns, "").unwrap();
    world.sh(&format!("unshare --net={} ip link set lo up", ns.display()));
    assert_eq!(
        links(&format!("--network-namespace-path={}", ns.display())).ok(),
        " lo\n"
    );
    world.sh(&format!("umount {}", ns.display()));
    for left in ["vb-c1", "ve-c1", "a0"] {
        assert!(!world.links().contains(&left.to_owned()), "{left}");
    }
}

pub fn bundles_and_scopes() {
    let world = World::without_daemon("run-bundle");
    nspawn::own_folders(&world);
    let bundle = world.dir.join("bundle");
    fs::create_dir(&bundle).unwrap();
    fs::rename(run::root(&world.dir), bundle.join("rootfs")).unwrap();
    let written = netns::run(
        std::process::Command::new("runc")
            .arg("spec")
            .current_dir(&bundle),
    );
    written.ok();
    let config = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!([
        "/bin/sh",
        "-c",
        "hostname; ulimit -n; touch /x; busybox grep CapBnd /proc/self/status"
    ]);
    fs::write(&config, spec.to_string()).unwrap();
    let line = format!("-q --oci-bundle={}", bundle.display());
    let ran = netd(&world, &line, &[]);
    assert!(
        ran.stdout.starts_with("runc\n1024\n") && ran.stderr.contains("Read-only file system"),
        "{ran}"
    );
    assert!(ran.stdout.contains("CapBnd:\t0000000020000420"), "{ran}");
    // options win
    assert_eq!(
        netd(&world, &format!("{line} --hostname=h"), &["/bin/hostname"]).ok(),
        "h\n"
    );
    spec["linux"]["sysctl"] = serde_json::json!({ "net.core.somaxconn": "5" });
    fs::write(&config, spec.to_string()).unwrap();
    let told = netd(&world, &line, &[]).fails(2);
    assert!(told.contains("config.json: linux.sysctl"), "{told}");
    // where systemd runs, a slice is a scope in it
    fs::create_dir_all("/run/systemd/system").unwrap();
    let bin = world.dir.join("bin");
    fs::create_dir(&bin).unwrap();
    let fake = "#!/bin/sh\necho \"$@\" >$TOLD; while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"\n";
    fs::write(bin.join("systemd-run"), fake).unwrap();
    fs::set_permissions(bin.join("systemd-run"), fs::Permissions::from_mode(0o755)).unwrap();
    let told = world.dir.join("told");
    let mut command = world.command();
    command.env(
        "PATH",
        format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()),
    );
    command.env("TOLD", &told).args([
        "run",
        "-q",
        "--slice=web.slice",
        "--property=IOWeight=5",
        "--",
        "true",
    ]);
    world.netns.enter(|| netns::run(&mut command)).ok();
    let told = fs::read_to_string(told).unwrap();
    assert!(
        told.starts_with("--quiet --scope --collect --slice=web.slice --property=IOWeight=5 -- "),
        "{told}"
    );
}
