//! Machines with the inits of real systems: booted, with an address by their own DHCP client, started again when they ask for it,
//! stopped in order.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::boot::{bootable, netd, until};
use crate::debian;
use crate::world::World;

/// A copy of the Debian tree, as the machine `name`.
fn machine(world: &World, name: &str) -> PathBuf {
    let tree = world.folder("state").join("machines").join(name);
    fs::create_dir_all(tree.parent().unwrap()).unwrap();
    let copied = Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .arg(debian::tree())
        .arg(&tree)
        .status();
    assert!(copied.unwrap().success());
    tree
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn log(world: &World, name: &str) -> String {
    let path = world.folder("runtime").join(format!("consoles/{name}.log"));
    fs::read_to_string(path).unwrap_or_default()
}

pub fn systemd_boots_asks_for_its_address_and_stops() {
    let world = World::new("inits-systemd");
    world.zone("web").create();
    let tree = machine(&world, "deb");
    let units = tree.join("etc/systemd/system");
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted).unwrap();
    // its DHCP client, with the file that systemd has for a container's host0
    symlink(
        "/lib/systemd/system/systemd-networkd.service",
        wanted.join("systemd-networkd.service"),
    )
    .unwrap();
    let service = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/touch /srv/booted\nExecStop=/bin/touch /srv/in-order\n";
    fs::write(units.join("last.service"), service).unwrap();
    symlink("../last.service", wanted.join("last.service")).unwrap();
    let started = netd(&world, &["start", "deb", "--network-zone=web"]);
    assert_eq!(started.code, 0, "{started} {}", log(&world, "deb"));
    until("it has booted", || tree.join("srv/booted").exists());
    let inside = |words: &[&str]| netd(&world, &[&["exec", "deb", "--"], words].concat());
    assert_eq!(inside(&["cat", "/proc/1/comm"]).ok().trim(), "systemd");
    let told = world.netd("status deb --json").json();
    let address = told["addresses"][0].as_str().unwrap().to_owned();
    until("its client has its address", || {
        inside(&["ip", "-4", "-o", "address", "show", "dev", "host0"])
            .stdout
            .contains(&address)
    });
    until("all of it runs", || {
        let state = inside(&["systemctl", "is-system-running"]).stdout;
        assert_ne!(state.trim(), "offline");
        matches!(state.trim(), "running" | "degraded")
    });
    let failed = inside(&["systemctl", "--failed", "--plain", "--no-legend"]).ok();
    assert_eq!(failed, "", "units that could not be started");
    // its cgroups are its own, and nobody else's are seen
    let cgroups = inside(&["cat", "/proc/1/cgroup"]).ok();
    assert!(
        cgroups.lines().any(|line| line == "0::/init.scope"),
        "{cgroups}"
    );
    // systemctl reboot: the same place in the network
    let leader = told["leader"].clone();
    fs::remove_file(tree.join("srv/booted")).unwrap();
    inside(&["systemctl", "reboot"]);
    until("it has booted again", || tree.join("srv/booted").exists());
    assert!(tree.join("srv/in-order").exists());
    let again = world.netd("status deb --json").json();
    assert_ne!(again["leader"], leader);
    assert_eq!(
        (again["addresses"][0].as_str(), &again["zone"]),
        (Some(address.as_str()), &told["zone"])
    );
    fs::remove_file(tree.join("srv/in-order")).unwrap();
    let stopped = netd(&world, &["stop", "deb", "--json"]).json();
    assert_eq!(stopped["killed"], false, "{}", log(&world, "deb"));
    assert!(
        tree.join("srv/in-order").exists(),
        "it was not stopped in order"
    );
}

pub fn openrc_boots_and_stops() {
    let world = World::new("inits-openrc");
    world.zone("web").create();
    let tree = machine(&world, "rc");
    fs::remove_file(tree.join("lib/systemd/systemd")).unwrap();
    let _ = fs::remove_file(tree.join("sbin/init"));
    symlink("openrc-init", tree.join("sbin/init")).unwrap();
    // one service of each kind: a client of DHCP, and one that notes beginning and end
    script(
        &tree.join("etc/init.d/client"),
        "#!/sbin/openrc-run\nstart() { ip link set host0 up && udhcpc -i host0 -b -q -t 20 -T 1 -s /sbin/bound; }\n",
    );
    script(
        &tree.join("sbin/bound"),
        "#!/bin/sh\n[ \"$1\" = bound ] && ip addr add $ip/$mask dev host0 && echo $ip >/srv/address\nexit 0\n",
    );
    script(
        &tree.join("etc/init.d/last"),
        "#!/sbin/openrc-run\ndepend() { need client; }\nstart() { touch /srv/booted; }\nstop() { touch /srv/in-order; }\n",
    );
    for entry in fs::read_dir(tree.join("etc/runlevels")).unwrap().flatten() {
        for service in fs::read_dir(entry.path()).unwrap().flatten() {
            fs::remove_file(service.path()).unwrap();
        }
    }
    fs::create_dir_all(tree.join("etc/runlevels/default")).unwrap();
    for service in ["client", "last"] {
        let link = tree.join("etc/runlevels/default").join(service);
        symlink(format!("/etc/init.d/{service}"), link).unwrap();
    }
    let started = netd(&world, &["start", "rc", "--network-zone=web"]);
    assert_eq!(started.code, 0, "{started} {}", log(&world, "rc"));
    until("it has booted", || {
        assert!(
            !log(&world, "rc").contains("ERROR"),
            "{}",
            log(&world, "rc")
        );
        tree.join("srv/booted").exists()
    });
    let told = world.netd("status rc --json").json();
    let address = fs::read_to_string(tree.join("srv/address")).unwrap();
    assert_eq!(told["addresses"][0], format!("{}/24", address.trim()));
    let first = netd(&world, &["exec", "rc", "--", "cat", "/proc/1/comm"]).ok();
    assert_eq!(first.trim(), "init");
    fs::remove_file(tree.join("srv/booted")).unwrap();
    netd(&world, &["reboot", "rc"]).ok();
    assert!(tree.join("srv/in-order").exists(), "{}", log(&world, "rc"));
    until("it has booted again", || tree.join("srv/booted").exists());
    fs::remove_file(tree.join("srv/in-order")).unwrap();
    let stopped = netd(&world, &["stop", "rc", "--json"]).json();
    assert_eq!(stopped["killed"], false, "{}", log(&world, "rc"));
    assert!(tree.join("srv/in-order").exists(), "{}", log(&world, "rc"));
}

pub fn an_init_that_asks_for_it_is_started_again() {
    let world = World::new("inits-again");
    world.zone("web").create();
    world.policy(
        "box",
        "[[egress]]\nto = [\"192.0.2.2\"]\nports = [\"tcp/80\"]\n",
    );
    let tree = bootable(&world, "box");
    script(
        &tree.join("bin/bound"),
        "#!/bin/sh\n[ \"$1\" = bound ] && ip addr add $ip/$mask dev host0 && ip route add default via $router\nexit 0\n",
    );
    // what it was started with by hand is kept: a label, a mount, a limit
    let mut run = world.command();
    run.args([
        "run",
        "-q",
        "-b",
        "-U",
        "-M",
        "box",
        "--network-zone=web",
        "--configure=dhcp",
    ])
    .args([
        "--label=tier=front",
        "--tmpfs=/srv/memory",
        "--console=passive",
    ])
    .stdin(Stdio::null());
    let mut run = world.netns.enter(|| run.spawn()).unwrap();
    let exec = |words: &[&str]| netd(&world, &[&["exec", "box", "--"], words].concat());
    let reach = |port: &str| {
        let ask = format!("nc -w 1 192.0.2.2 {port} </dev/null >/dev/null 2>&1");
        exec(&["/bin/sh", "-c", &ask]).code == 0
    };
    let look = || world.netd("status box --json").json();
    let mut seen = Vec::new();
    for round in ["first", "from inside", "from outside"] {
        until(round, || tree.join("srv/booted").exists());
        fs::remove_file(tree.join("srv/booted")).unwrap();
        let told = look();
        assert_eq!(told["labels"]["tier"], "front", "{round}");
        assert!(
            exec(&["/bin/test", "-d", "/srv/memory"]).code == 0,
            "{round}"
        );
        assert!(
            reach("80") && !reach("22"),
            "{round}: the policy is not in force"
        );
        seen.push((told["leader"].clone(), told["addresses"][0].clone()));
        match round {
            "first" => drop(exec(&["/sbin/reboot"])),
            "from inside" => drop(netd(&world, &["reboot", "box"]).ok()),
            _ => {}
        }
        assert!(run.try_wait().unwrap().is_none(), "{round}: it ended");
    }
    assert!(seen[0].0 != seen[1].0 && seen[1].0 != seen[2].0, "{seen:?}");
    assert!(seen[0].1 == seen[1].1 && seen[1].1 == seen[2].1, "{seen:?}");
    // off is off, and no failure
    exec(&["/sbin/poweroff"]);
    assert!(run.wait().unwrap().success());
    netd(&world, &["stop", "box"]).fails(3);
    assert_eq!(world.netd("list --json").json(), serde_json::json!([]));
}

pub fn a_machine_is_stopped_by_the_signal_it_was_started_with() {
    let world = World::new("inits-signal");
    let tree = super::run::root(&world.dir);
    let script = "trap 'echo usr1 >/srv/told; exit 0' USR1; trap 'echo term >/srv/told; exit 0' TERM; touch /srv/up; while :; do sleep 0.1; done";
    for (option, told) in [
        ("--kill-signal=SIGUSR1", "usr1\n"),
        ("--hostname=box", "term\n"),
    ] {
        let mut run = world.command();
        run.args(["run", "-q", "-M", "box", "--private-network", option, "-D"])
            .arg(&tree)
            .args(["--", "/bin/sh", "-c", script])
            .stdin(Stdio::null());
        let mut run = world.netns.enter(|| run.spawn()).unwrap();
        until("it runs", || tree.join("srv/up").exists());
        netd(&world, &["stop", "box"]).ok();
        run.wait().unwrap();
        assert_eq!(
            fs::read_to_string(tree.join("srv/told")).unwrap(),
            told,
            "{option}"
        );
        fs::remove_file(tree.join("srv/up")).unwrap();
    }
}
