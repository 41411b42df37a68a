//! Ports that nobody attached: plugged in by a person or for a virtual machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::net::frame;
use crate::net::netns::Netns;
use crate::net::raw::{PacketSocket, Tap};
use crate::net::server::Server;
use crate::net::trap::Trap;
use crate::world::Verdict::{Allow, Deny};
use crate::world::{World, signal};

/// How long netd may take to see something.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for an address by DHCP, and takes what it gets.
#[track_caller]
fn ask(world: &World, inside: &Netns) {
    let script = world.dir.join("take.sh");
    let take = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr replace $ip/$mask dev $interface\n\
                ip route replace default via $router\n";
    std::fs::write(&script, take).unwrap();
    world.sh(&format!("chmod +x {}", script.display()));
    inside.sh(&format!(
        "udhcpc -i host0 -f -n -q -t 20 -T 1 -s {}",
        script.display()
    ));
}

/// A veth that somebody plugs in by hand: `host0` in a new namespace, the other end on the zone's bridge.
fn plug(world: &World, port: &str, name: &str) -> Netns {
    let inside = Netns::create(name);
    world.sh(&format!(
        "ip link add {port} type veth peer name host0 netns {name}; ip link set {port} master vz-web; ip link set {port} up"
    ));
    inside.sh("ip link set lo up; ip link set host0 up");
    inside
}

/// Waits for a container's state; none while it is not known.
#[track_caller]
fn state(world: &World, name: &str, wanted: Option<&str>) {
    let started = Instant::now();
    loop {
        let all = world.netd("list --json").json();
        let of = |c: &&Value| c["container"] == name;
        let found = all.as_array().unwrap().iter().find(of);
        let is = found.and_then(|c| c["state"].as_str());
        if is == wanted {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{name} should be {wanted:?} and is {is:?}: {}",
            world.netd("status").stdout
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the status tells something.
#[track_caller]
fn status_says(world: &World, part: &str) {
    let started = Instant::now();
    loop {
        let status = world.netd("status").ok();
        if status.contains(part) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "no {part:?} in:\n{status}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Flags of a port, as words of `bridge -d link`.
fn flags(world: &World, port: &str) -> String {
    world.sh(&format!("bridge -d link show dev {port}"))
}

pub fn nothing_passes_before_a_port_is_adopted() {
    let world = World::new("adopt-nothing-before");
    // With it the kernel skips some hooks of bridged ARP.
    world.sh("f=/proc/sys/net/bridge/bridge-nf-call-arptables; [ ! -e $f ] || echo 1 >$f");
    world.zone("web").default("allow").create();
    let db = world.container("db").in_zone("web").start();
    let (gateway, address) = (db.gateway4(), db.v4());
    // The daemon sees nothing for a while: what holds now needs nobody.
    signal(world.netd_pid(), Signal::STOP);
    let stranger = plug(&world, "vb-stranger", "stranger");
    let hardware = |link: String| frame::mac(link.trim());
    let show = |name| format!("ip -o link show {name} | grep -o 'ether [^ ]*' | cut -d' ' -f2");
    let mac = hardware(stranger.sh(&show("host0")));
    // What whoever made the pair says by its other end, as every interface does that comes up, is not the zone's.
    let other_end = hardware(world.sh(&show("vb-stranger")));
    let heard = Trap::set(&stranger, "host0", move |f| {
        f.get(6..12) != Some(&other_end)
    });
    let at_db = Trap::set(&db.netns, "host0", move |f| f.get(6..12) == Some(&mac));
    let at_world = Trap::set(&world.outside, "eth0", |f| {
        frame::carries(f, b"from the stranger")
    });
    // It takes an address of the zone, and another container's, and speaks in every way.
    for own in ["10.89.0.77", &address.to_string()] {
        stranger.run(&format!(
            "ip addr flush dev host0; ip addr add {own}/24 dev host0; ip route replace default via {gateway}"
        ));
        for to in [
            gateway.to_string(),
            address.to_string(),
            "192.0.2.2".to_owned(),
        ] {
            stranger.run(&format!("ping -c1 -W1 -p 66 {to}"));
        }
    }
    stranger.run("ip route add 192.0.2.2 dev host0; ip neigh replace 192.0.2.2 lladdr $(ip neigh show 10.89.0.1 | grep -o '..:..:..:..:..:..' || echo 02:00:00:00:00:01) dev host0; \
                  echo from the stranger | nc -u -w1 192.0.2.2 9");
    // The host asks for addresses that nobody has, by broadcast, and what it says to the zone goes nowhere.
    world.netns.run(
        "ping -c1 -W1 10.89.0.78; ping -6 -c1 -W1 ff02::1%vz-web; ping -b -c1 -W1 10.89.0.255",
    );
    db.netns
        .run("ping -c1 -W1 10.89.0.77; ping -b -c1 -W1 10.89.0.255");
    heard.is_empty("to a port that is not adopted");
    at_db.is_empty("from a port that is not adopted, to a container");
    at_world.is_empty("from a port that is not adopted, to the world");
    // The control: the same port, adopted, is heard and hears.
    signal(world.netd_pid(), Signal::CONT);
    state(&world, "stranger", Some("adopted"));
    stranger.sh("ip addr flush dev host0");
    ask(&world, &stranger);
    stranger.sh(&format!("ping -c1 -W5 {gateway}"));
    heard.has_caught("to an adopted port");
}

/// What systemd-nspawn does to its bridge when the last machine ends, and when the next one begins at once: all of it
/// before netd looks again.
pub fn a_bridge_that_goes_and_comes_back_brings_the_next_port_of_that_name() {
    let world = World::new("adopt-again");
    world.zone("web").create();
    let first = plug(&world, "vb-guest", "first");
    state(&world, "guest", Some("adopted"));
    let address = |world: &World| world.netd("list --json").json()[0]["addresses"].clone();
    let before = address(&world);
    signal(world.netd_pid(), Signal::STOP);
    drop(first);
    world.sh("ip link del vb-guest; ip link del vz-web; ip link add vz-web type bridge; ip link set vz-web up");
    let again = plug(&world, "vb-guest", "again");
    signal(world.netd_pid(), Signal::CONT);
    ask(&world, &again);
    state(&world, "guest", Some("adopted"));
    assert_eq!(address(&world), before, "one name, one address");
    again.sh("ping -c1 -W5 10.89.0.1");
    let status = world.netd("status --json").json();
    assert_eq!(status["problems"], json!([]), "{status}");
}

pub fn an_adopted_port_is_a_container_like_any_other() {
    let world = World::new("adopt-container");
    world.zone("web").create();
    world.policy(
        "guest",
        "[[ingress]]\nfrom = [\"container:db\"]\nports = [\"tcp/80\"]\n",
    );
    world.policy("db", "[[egress]]\nto = [\"container:guest\"]\n");
    let _db = world.container("db").in_zone("web").start();
    let mut guest = plug(&world, "vb-guest", "guest");
    state(&world, "guest", Some("adopted"));
    ask(&world, &guest);
    let _server = Server::start(&guest, "guest", &["tcp/80".to_owned(), "tcp/81".to_owned()]);
    let told = world.know("guest", &guest);
    assert_eq!(told["host_ifname"], "vb-guest");
    let v4 = told["addresses"][0].as_str().unwrap().to_owned();
    assert!(guest.sh("ip -4 addr show host0").contains(&v4), "{told}");
    guest.sh("for i in $(seq 100); do ip -6 route show default | grep -q via && exit; sleep .1; done; exit 1");
    // One that is given by DHCPv6 or by hand: it is the one that the guard knows.
    let v6 = told["addresses"][1].as_str().unwrap();
    guest.sh(&format!("ip -6 addr add {v6} dev host0 nodad"));
    world.verdicts(&[
        (Allow, "db", "guest", "tcp/80"),
        (Deny, "db", "guest", "tcp/81"),
        (Deny, "host", "guest", "tcp/80"),
        (Allow, "guest", "world", "tcp/80"),
        (Deny, "guest", "db", "tcp/80"),
    ]);
    let port = flags(&world, "vb-guest");
    for flag in ["isolated on", "locked on", "learning off", "flood off"] {
        assert!(port.contains(flag), "{flag}: {port}");
    }
    assert_eq!(
        world
            .sh("cat /proc/sys/net/ipv6/conf/vb-guest/disable_ipv6")
            .trim(),
        "1"
    );
    assert_eq!(
        world
            .sh("ip -j addr show dev vb-guest | grep -c '\"local\"' || true")
            .trim(),
        "0"
    );

    // A name is one container: an attach under it is another one, and is refused with the reason.
    let refused = world.netd("attach guest --zone web --netns guest").fails(1);
    assert!(
        refused.contains("vb-guest, which somebody plugged in"),
        "{refused}"
    );

    // Detached, it is off the bridge and closed, and still whoever's it was; plugged in again it is who it was.
    world.netd("detach guest").ok();
    assert_eq!(
        world.netd("detach guest --json").json()["detached"],
        json!(false)
    );
    let link = world.sh("ip link show vb-guest");
    assert!(!link.contains("master") && !link.contains(",UP"), "{link}");
    state(&world, "guest", None);
    world.sh("ip link set vb-guest master vz-web");
    state(&world, "guest", Some("adopted"));
    assert_eq!(world.know("guest", &guest)["addresses"], told["addresses"]);
    // Its owner may take it off, and delete it: then it is over.
    world.sh("ip link set vb-guest nomaster");
    state(&world, "guest", None);
    world.sh("ip link set vb-guest master vz-web");
    state(&world, "guest", Some("adopted"));
    world.sh("ip link del vb-guest");
    state(&world, "guest", None);
    let leases = world.netd("lease list").stdout;
    assert!(!leases.contains("guest"), "{leases}");
    guest.remove();
    // Another port under the name has the name's address: that is what a container keeps.
    guest = plug(&world, "vb-guest", "guest2");
    state(&world, "guest", Some("adopted"));
    assert_eq!(world.know("guest", &guest)["addresses"], told["addresses"]);

    // `[dhcp] pool` is where machines that nobody attached get their addresses.
    let file = world.folder("config/zones/web.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("[dhcp]\npool = \"10.89.0.200-10.89.0.209\"\n");
    std::fs::write(&file, text).unwrap();
    world.netd("reload").ok();
    let pooled = plug(&world, "vb-pooled", "pooled");
    state(&world, "pooled", Some("adopted"));
    ask(&world, &pooled);
    assert!(
        pooled
            .sh("ip -4 addr show host0")
            .contains("inet 10.89.0.200/24")
    );
}

pub fn what_stands_in_the_way_is_told_and_nothing_passes() {
    let world = World::new("adopt-refused");
    world.zone("web").default("allow").create();
    world.zone("lan").create();
    let taken = world.container("taken").in_zone("lan").start();
    world.write_policy("bad", "[[egress]\n");
    world.netd("reload").fails(1);
    let mut traps = Vec::new();
    for (port, name) in [
        ("taken", "same-name"),
        ("vb-_x", "no-name"),
        ("vb-bad", "bad-policy"),
    ] {
        let inside = plug(&world, port, name);
        inside.sh("ip addr add 10.89.0.99/24 dev host0");
        let heard = Trap::set(&inside, "host0", |_| true);
        traps.push((port, inside, heard));
    }
    // Somebody else's hardware address, too.
    let mac = taken.attached["mac"].as_str().unwrap();
    let db = world
        .container("db")
        .in_zone("web")
        .option("--mac", "02:00:00:00:00:42")
        .start();
    world.sh("ip netns add twin; ip link add vb-twin type veth peer name host0 address 02:00:00:00:00:42 netns twin; \
              ip link set vb-twin master vz-web; ip link set vb-twin up");
    assert_ne!(mac, "02:00:00:00:00:42");
    for part in [
        "port taken: plugged into zone web and not adopted, everything from and to it is dropped: its name stands for container taken, which is in zone lan already",
        "port vb-_x: ",
        "must begin with a letter or a digit",
        "port vb-bad: ",
        "its policy cannot be read, and there is no last good one",
        "port vb-twin: ",
        "its hardware address 02:00:00:00:00:42 belongs to container db",
    ] {
        status_says(&world, part);
    }
    let gateway = db.gateway4();
    for (port, inside, _) in &traps {
        let ran = inside.run(&format!(
            "ping -c2 -i.2 -W1 {gateway}; udhcpc -i host0 -n -q -t 2 -T 1 -s /bin/true"
        ));
        assert_ne!(ran.code, 0, "{port}: {ran}");
        let flags = flags(&world, port);
        assert!(
            flags.contains("isolated on") && flags.contains("locked on"),
            "{flags}"
        );
    }
    world.netns.run("ping -c1 -W1 10.89.0.99");
    for (port, _, heard) in &traps {
        heard.is_empty(port);
    }
    assert_eq!(
        world.netd("list --json").json().as_array().unwrap().len(),
        2
    );
    // What stood in the way goes: the port is adopted at once.
    taken.detach();
    state(&world, "taken", Some("adopted"));
    world.policy("bad", "ingress = []\n");
    state(&world, "bad", Some("adopted"));
    world.sh("ip link set vb-_x down; ip link set vb-_x name vb-x; ip link set vb-x up");
    state(&world, "x", Some("adopted"));
    db.detach();
    state(&world, "twin", Some("adopted"));
    assert!(!world.netd("status").ok().contains("not adopted"));
}

/// A virtual machine: its tap on the host, a wire of user space, and its inside in a namespace.
struct Machine {
    inside: Netns,
    stop: Arc<AtomicBool>,
    wires: Vec<JoinHandle<()>>,
}

impl Machine {
    fn start(world: &World, tap: &str, name: &str) -> Self {
        let (inside, wire) = (Netns::create(name), Netns::create(&format!("{name}-wire")));
        wire.sh(&format!(
            "ip link add wire type veth peer name host0 netns {name}; ip link set wire up"
        ));
        // The kernel's router solicitations would tell as well.
        inside.sh("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up; ip link set host0 up");
        crate::world::wait_for_carrier(&wire, "wire");
        let end = Arc::new(wire.enter(|| PacketSocket::open("wire")).unwrap());
        let tap_end = Arc::new(world.netns.enter(|| Tap::open(tap)).unwrap());
        world.sh(&format!(
            "ip link set {tap} master vz-web; ip link set {tap} up"
        ));
        let stop = Arc::new(AtomicBool::new(false));
        let out = {
            let (end, tap, stop) = (end.clone(), tap_end.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut buffer = vec![0; 4096];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(Some(n)) = end.receive(&mut buffer, Duration::from_millis(50)) {
                        let _ = tap.write(&buffer[..n]);
                    }
                }
            })
        };
        let back = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 4096];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(Some(n)) = tap_end.read(&mut buffer, Duration::from_millis(50)) {
                        let _ = end.send(&buffer[..n]);
                    }
                }
            })
        };
        Self {
            inside,
            stop,
            wires: vec![out, back],
        }
    }

    /// Switches it off: its tap is gone.
    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for wire in self.wires.drain(..) {
            let _ = wire.join();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn a_virtual_machine_is_known_by_what_it_asks() {
    let world = World::new("adopt-tap");
    world.zone("web").create();
    let mut machine = Machine::start(&world, "tap7", "vm");
    status_says(
        &world,
        "port tap7 was plugged into zone web: it is adopted when its machine asks",
    );
    // Other talk tells nothing, and nothing comes of it.
    machine.inside.sh("ip addr add 10.89.0.50/24 dev host0");
    assert_ne!(machine.inside.run("ping -c1 -W1 10.89.0.1").code, 0);
    state(&world, "tap7", None);
    machine.inside.sh("ip addr flush dev host0");
    ask(&world, &machine.inside);
    state(&world, "tap7", Some("adopted"));
    machine.inside.sh("ping -c1 -W5 10.89.0.1");
    // Bound for the port's life: another address behind it is dropped.
    machine.inside.sh("ip link set host0 down; ip link set host0 address 02:00:00:00:00:77; ip link set host0 up; \
                       ip addr replace 10.89.0.2/24 dev host0");
    assert_ne!(machine.inside.run("ping -c1 -W1 10.89.0.1").code, 0);
    machine.stop();
    state(&world, "tap7", None);
    assert!(!world.netd("status").ok().contains("tap7"));
}

pub fn adopted_ports_outlive_daemons_and_tampering() {
    let world = World::new("adopt-restart");
    world.zone("web").create();
    let guest = plug(&world, "vb-guest", "guest");
    state(&world, "guest", Some("adopted"));
    ask(&world, &guest);
    let before = world.know("guest", &guest);
    let works = || guest.sh("ping -c1 -W5 10.89.0.1");
    works();
    world.restart_netd();
    assert_eq!(world.know("guest", &guest), before);
    works();
    // Plugged in while no daemon runs, and left half adopted by one that is killed.
    world.kill_netd();
    let late = plug(&world, "vb-late", "late");
    world.start_netd();
    state(&world, "late", Some("adopted"));
    ask(&world, &late);
    for n in 0..4 {
        let name = format!("many{n}");
        let _inside = plug(&world, &format!("vb-{name}"), &name);
        std::thread::sleep(Duration::from_millis(3 * n));
        world.kill_netd();
        world.start_netd();
        state(&world, &name, Some("adopted"));
    }
    assert_eq!(world.know("guest", &guest), before);
    works();
    // Changed by hand, and put right.
    world.sh("bridge link set dev vb-guest isolated off locked off learning on flood on");
    let started = Instant::now();
    while !flags(&world, "vb-guest").contains("isolated on") {
        assert!(
            started.elapsed() < PATIENCE,
            "{}",
            flags(&world, "vb-guest")
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    world.sh("ip link del vz-web");
    let started = Instant::now();
    while guest.run("ping -c1 -W1 10.89.0.1").code != 0 {
        assert!(
            started.elapsed() < PATIENCE,
            "the bridge does not come back"
        );
    }
    state(&world, "guest", Some("adopted"));
    state(&world, "late", Some("adopted"));
    // A zone does not go while somebody is in it; what is forced leaves the ports to those who made them.
    world.netd("zone delete web").fails(1);
    world.netd("zone delete web --force").ok();
    assert_eq!(world.netd("list --json").json(), json!([]));
    let link = world.sh("ip link show vb-guest");
    assert!(!link.contains("master") && !link.contains(",UP"), "{link}");
    world.sh("for p in guest late many0 many1 many2 many3; do ip link del vb-$p; done");
}
