//! Real clients through a whole life on a short lease: bound, renewed, rebound, run out, bound again, given back; an
//! address that is in use; an address remembered from before.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::dhcp_zone::{dhcp_status, zone_file};
use crate::net::clients::{CLIENTS, Client};
use crate::world::{Container, World};

const ZONE: &str = "subnet4 = \"10.77.0.0/24\"\nsubnet6 = \"none\"\n[dhcp]\nlease = \"10s\"\n";

/// A client that goes on until it is told to stop.
struct Life {
    name: &'static str,
    /// Runs in the foreground.
    start: &'static str,
    /// Gives the lease back; run beside it, PID being its process.
    release: &'static str,
}

const LIVES: [Life; 5] = [
    Life {
        name: "udhcpc",
        start: "exec udhcpc -i host0 -f -R -a -t 5 -T 1 -A 1 -s /etc/udhcpc/default.script -p /run/udhcpc-life.pid",
        release: "kill -USR2 PID",
    },
    Life {
        name: "udhcpc-id",
        start: "exec udhcpc -i host0 -f -R -C -x 0x3d:ff00000001000102 -x hostname:other -t 5 -T 1 -A 1 -s /etc/udhcpc/default.script -p /run/udhcpc-id.pid",
        release: "kill -USR2 PID",
    },
    Life {
        name: "dhclient",
        start: "echo 'timeout 5; retry 1; initial-interval 1; backoff-cutoff 1;' >/etc/dhcp/life.conf; cat /etc/dhcp/dhclient.conf >>/etc/dhcp/life.conf; \
                exec dhclient -4 -d -cf /etc/dhcp/life.conf -lf /var/lib/dhcp/life -pf /run/dhclient-life.pid host0",
        release: "dhclient -4 -r -lf /var/lib/dhcp/life -pf /run/dhclient-life.pid host0",
    },
    Life {
        name: "dhcpcd",
        start: "exec dhcpcd -4 -B -d --noipv4ll host0",
        release: "dhcpcd -4 -k host0",
    },
    Life {
        name: "networkd",
        start: "for d in /etc/systemd/network /run/systemd; do mkdir -p $d; mount -t tmpfs t $d; done; \
                mount -t sysfs -o ro s /sys; mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp; \
                chown -R systemd-network:systemd-network /run/systemd/netif; \
                printf '[Match]\\nName=host0\\n[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\nIPv6AcceptRA=no\\n[DHCPv4]\\nSendRelease=yes\\nSendDecline=yes\\n' \
                  >/run/systemd/network/10-host0.network; \
                exec env SYSTEMD_LOG_LEVEL=debug /lib/systemd/systemd-networkd",
        // It gives the lease back when it is told to stop. With a /sys that can be written it would wait for udev.
        release: "true",
    },
];

/// A running client: a process group that ends with this value.
struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    fn stop(&mut self, how: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(pid, how);
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Starts a client's script in folders of its own.
fn start(world: &World, inside: &Container, name: &str, script: &str) -> Running {
    // Its folders are those of the client whose name begins alike; networkd needs none of them.
    let known = CLIENTS.iter().find(|client| name.starts_with(client.name));
    let own = world.dir.join(format!("life-{name}"));
    fs::create_dir_all(&own).unwrap();
    let mut command: Command = known.unwrap_or(&CLIENTS[0]).command(&own, script);
    let log = own.join("log");
    let file = fs::File::create(&log).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .process_group(0);
    let child = inside.netns.enter(|| command.spawn()).unwrap();
    Running { child, log }
}

fn lease(world: &World, name: &str) -> Value {
    let leases = world.netd("lease list --json").json();
    let found = leases
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["container"] == name);
    found.cloned().unwrap_or_default()
}

/// Releases and declines so far.
fn heeded(world: &World) -> i64 {
    dhcp_status(world, "lab")["heeded"]
        .as_i64()
        .unwrap_or_default()
}

fn expires(world: &World, name: &str) -> i64 {
    lease(world, name)["expires"].as_i64().unwrap_or_default()
}

fn has(inside: &Container, address: &str) -> bool {
    inside
        .sh("ip -4 -o addr show dev host0")
        .contains(&format!("inet {address}/"))
}

/// Waits until something holds; says what did not, and what the client said.
#[track_caller]
fn until(
    world: &World,
    running: &Running,
    name: &str,
    what: &str,
    seconds: u64,
    holds: impl Fn() -> bool,
) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(seconds),
            "{name}: not {what} within {seconds} s; {}\n{}",
            lease(world, name),
            running.said()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub fn a_whole_life_of_each_client() {
    let world = World::new("dhcp-life");
    zone_file(&world, "lab", ZONE).ok();
    let inside: Vec<_> = LIVES
        .iter()
        .map(|life| {
            world
                .container(life.name)
                .in_zone("lab")
                .dhcp()
                .bare()
                .start()
        })
        .collect();
    let mut running: Vec<_> = LIVES
        .iter()
        .zip(&inside)
        .map(|(life, inside)| start(&world, inside, life.name, life.start))
        .collect();
    let each = || {
        LIVES
            .iter()
            .zip(&inside)
            .map(|(life, inside)| (life.name, inside))
    };
    for ((name, inside), running) in each().zip(&running) {
        let bound =
            || lease(&world, name)["state"] == "bound" && has(inside, &inside.v4().to_string());
        until(&world, running, name, "bound", 20, bound);
    }
    // T1 is at 5 s: by unicast
    let first: Vec<i64> = each().map(|(name, _)| expires(&world, name)).collect();
    for (((name, inside), running), first) in each().zip(&running).zip(&first) {
        until(&world, running, name, "renewed", 15, || {
            expires(&world, name) > *first
        });
        // dhclient's script takes it off and puts it on again.
        until(&world, running, name, "with its address", 10, || {
            has(inside, &inside.v4().to_string())
        });
    }
    // T2 is at 8.75 s: by broadcast, since unicast is lost
    world.sh(
        "nft 'add table inet story; add chain inet story in { type filter hook prerouting priority -400; }; \
         add rule inet story in ip daddr 10.77.0.1 udp dport 67 drop'",
    );
    std::thread::sleep(Duration::from_secs(1));
    let second: Vec<i64> = each().map(|(name, _)| expires(&world, name)).collect();
    for (((name, inside), running), second) in each().zip(&running).zip(&second) {
        until(&world, running, name, "rebound", 25, || {
            expires(&world, name) > *second
        });
        // dhclient's script takes it off and puts it on again.
        until(&world, running, name, "with its address", 10, || {
            has(inside, &inside.v4().to_string())
        });
    }
    // nothing is heard at all: the lease runs out, on both sides
    world.sh("nft 'add rule inet story in udp dport 67 drop'");
    for ((name, inside), running) in each().zip(&running) {
        let over =
            || lease(&world, name)["state"] == "expired" && !has(inside, &inside.v4().to_string());
        until(&world, running, name, "run out", 40, over);
    }
    world.sh("nft delete table inet story");
    for ((name, inside), running) in each().zip(&running) {
        let bound =
            || lease(&world, name)["state"] == "bound" && has(inside, &inside.v4().to_string());
        until(&world, running, name, "bound again", 40, bound);
    }
    // a server that was away for a moment, killed, is none that anybody notices
    world.kill_netd();
    world.start_netd();
    let third: Vec<i64> = each().map(|(name, _)| expires(&world, name)).collect();
    for (((name, inside), running), third) in each().zip(&running).zip(&third) {
        assert!(*third > 0, "{name}: its lease was forgotten");
        until(&world, running, name, "renewed by a new daemon", 25, || {
            expires(&world, name) > *third
        });
        // dhclient's script takes it off and puts it on again.
        until(&world, running, name, "with its address", 10, || {
            has(inside, &inside.v4().to_string())
        });
    }
    // given back
    for ((life, inside), running) in LIVES.iter().zip(&inside).zip(&mut running) {
        let pid = running.child.id();
        if life.release == "true" {
            running.stop(Signal::TERM);
        } else {
            // in the folders of the running one, whose process is the script's own
            let release = life.release.replace("PID", &pid.to_string());
            let script = format!("nsenter --mount=/proc/{pid}/ns/mnt sh -c '{release}'");
            inside.netns.run(&script);
            // on a busy machine a client may be asked twice: a second word changes nothing
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(8)
                && lease(&world, life.name)["state"] == "bound"
            {
                std::thread::sleep(Duration::from_millis(100));
            }
            if lease(&world, life.name)["state"] == "bound" {
                inside.netns.run(&script);
            }
        }
        let name = life.name;
        // networkd 252 keeps what it has when it is ended: its lease runs out.
        let last = match name {
            "networkd" => ["released", "expired"],
            _ => ["released"; 2],
        };
        until(&world, running, name, "released", 15, || {
            last.iter()
                .any(|state| lease(&world, name)["state"] == *state)
        });
    }
}

pub fn an_address_in_use_is_declined() {
    let world = World::new("dhcp-decline");
    // dhcpcd 9.4.1 forgets what it declines when it was acknowledged at once: no server, no address.
    zone_file(&world, "lab", &format!("{ZONE}rapid-commit = false\n")).ok();
    // udhcpc asks by ARP with -a, dhcpcd always; networkd 252 does too, with SendDecline=, and then finds no way to say so
    // without the address; dhclient does not ask
    for (name, script) in [
        (
            "udhcpc",
            "exec udhcpc -i host0 -f -a -t 5 -T 1 -A 1 -s /etc/udhcpc/default.script",
        ),
        ("dhcpcd", "exec dhcpcd -4 -B -d --noipv4ll host0"),
    ] {
        let inside = world.container(name).in_zone("lab").dhcp().bare().start();
        let address = inside.v4().to_string();
        // Somebody gave the host this address: it answers for it.
        world.sh(&format!("ip addr add {address}/32 dev lo"));
        // The client may ask anew in the same breath: what is counted tells more than the lease's state.
        let before = heeded(&world);
        let running = start(&world, &inside, name, script);
        until(&world, &running, name, "declined", 20, || {
            heeded(&world) > before
        });
        world.sh(&format!("ip addr del {address}/32 dev lo"));
        let bound = || lease(&world, name)["state"] == "bound" && has(&inside, &address);
        until(&world, &running, name, "bound once it was free", 40, bound);
    }
}

pub fn a_remembered_address_is_confirmed_or_refused() {
    let world = World::new("dhcp-reboot");
    zone_file(&world, "lab", &ZONE.replace("10s", "600s")).ok();
    let inside = world
        .container("dhclient")
        .in_zone("lab")
        .dhcp()
        .bare()
        .start();
    let client: &Client = &CLIENTS[1];
    let address = inside.v4().to_string();
    let ask = |remembered: &str| {
        // A lease file from before, as after a reboot: INIT-REBOOT asks for what it says.
        let lease = format!(
            "lease {{\\n interface \"host0\";\\n fixed-address {remembered};\\n option subnet-mask 255.255.255.0;\\n \
             option dhcp-lease-time 600;\\n renew 5 2099/01/01 00:00:00;\\n rebind 5 2099/01/01 00:00:00;\\n expire 5 2099/01/01 00:00:00;\\n}}\\n"
        );
        let script = format!(
            "printf '{lease}' >/var/lib/dhcp/l; dhclient -4 -1 -v -lf /var/lib/dhcp/l -pf /run/dhclient-$$.pid host0; code=$?; \
             kill $(cat /run/dhclient-$$.pid); rm -f /run/dhclient-$$.pid; ip addr flush dev host0; exit $code"
        );
        let mut command = client.command(&world.dir, &script);
        let ran = inside.netns.enter(|| crate::net::netns::run(&mut command));
        assert_eq!(ran.code, 0, "{ran}");
        ran.stderr
    };
    let confirmed = ask(&address);
    assert!(
        confirmed.contains("DHCPREQUEST") && !confirmed.contains("DHCPDISCOVER"),
        "{confirmed}"
    );
    assert!(
        confirmed.contains(&format!("DHCPACK of {address}")),
        "{confirmed}"
    );
    // another's address, and one of another network: refused, and the own one given
    let other = world
        .container("other")
        .in_zone("lab")
        .bare()
        .start()
        .v4()
        .to_string();
    for wrong in [&other, "192.168.1.7"] {
        let refused = ask(wrong);
        assert!(refused.contains("DHCPNAK"), "{wrong}: {refused}");
        assert!(
            refused.contains(&format!("DHCPACK of {address}")),
            "{wrong}: {refused}"
        );
    }
    dhcpcd_remembers(&world);
}

/// The same with dhcpcd and a lease of its own making.
fn dhcpcd_remembers(world: &World) {
    let (client, name): (&Client, _) = (&CLIENTS[2], "dhcpcd");
    let inside = world.container(name).in_zone("lab").dhcp().bare().start();
    let address = inside.v4().to_string();
    let run = |before: &str| {
        let script = format!(
            "{before}; dhcpcd -4 -1 -B -d -t 20 --noipv4ll host0; code=$?; cp /var/lib/dhcpcd/host0.lease $PLACE/lease; exit $code"
        );
        let mut command = client.command(&world.dir, &script);
        let ran = inside.netns.enter(|| crate::net::netns::run(&mut command));
        assert_eq!(ran.code, 0, "{ran}");
        ran.stderr
    };
    let first = run("true");
    assert!(first.contains("soliciting a DHCP lease"), "{first}");
    let remembers = "ip addr flush dev host0; cp $PLACE/lease /var/lib/dhcpcd/host0.lease";
    let confirmed = run(remembers);
    assert!(
        confirmed.contains(&format!("rebinding lease of {address}"))
            && !confirmed.contains("soliciting a DHCP lease")
            && has(&inside, &address),
        "{confirmed}"
    );
    // It is another's now, and this one has another: refused, and the new one given.
    world.netd(&format!("detach {name}")).ok();
    let netns = inside.netns.path();
    let attach = format!(
        "attach {name} --zone lab --netns {} --configure dhcp --ip 10.77.0.99",
        netns.display()
    );
    world.netd(&attach).ok();
    let refused = run(remembers);
    assert!(refused.contains("NAK"), "{refused}");
    assert!(has(&inside, "10.77.0.99"), "{refused}");
}
