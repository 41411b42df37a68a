//! Real clients through a whole life on a short lease: bound, renewed, rebound, run out, bound again, given back; an
//! address that is in use; an address remembered from before.

use std::time::{Duration, Instant};

use super::dhcp_zone::{dhcp_status, zone_file};
use crate::net::clients::{CLIENTS, Client};
use crate::net::life::{Life, Running, expires, lease};
use crate::world::{Container, World};

const ZONE: &str = "subnet4 = \"10.77.0.0/24\"\nsubnet6 = \"none\"\n[dhcp]\nlease = \"10s\"\n";

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
        release: "",
    },
];

/// Its folders are those of the client whose name begins alike; networkd needs none of them.
fn start(world: &World, inside: &Container, name: &'static str, script: &str) -> Running {
    let known = CLIENTS.iter().find(|client| name.starts_with(client.name));
    Running::start(world, inside, known.unwrap_or(&CLIENTS[0]), name, script)
}

/// Releases and declines so far.
fn heeded(world: &World) -> i64 {
    dhcp_status(world, "lab")["heeded"]
        .as_i64()
        .unwrap_or_default()
}

fn has(inside: &Container, address: &str) -> bool {
    inside
        .sh("ip -4 -o addr show dev host0")
        .contains(&format!("inet {address}/"))
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
    let running: Vec<_> = LIVES
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
        running.until(&world, "bound", 20, bound);
    }
    // T1 is at 5 s: by unicast
    let first: Vec<i64> = each().map(|(name, _)| expires(&world, name)).collect();
    for (((name, inside), running), first) in each().zip(&running).zip(&first) {
        running.until(&world, "renewed", 15, || expires(&world, name) > *first);
        // dhclient's script takes it off and puts it on again.
        running.until(&world, "with its address", 10, || {
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
        running.until(&world, "rebound", 25, || expires(&world, name) > *second);
        // dhclient's script takes it off and puts it on again.
        running.until(&world, "with its address", 10, || {
            has(inside, &inside.v4().to_string())
        });
    }
    // nothing is heard at all: the lease runs out, on both sides
    world.sh("nft 'add rule inet story in udp dport 67 drop'");
    for ((name, inside), running) in each().zip(&running) {
        let over =
            || lease(&world, name)["state"] == "expired" && !has(inside, &inside.v4().to_string());
        running.until(&world, "run out", 40, over);
    }
    world.sh("nft delete table inet story");
    for ((name, inside), running) in each().zip(&running) {
        let bound =
            || lease(&world, name)["state"] == "bound" && has(inside, &inside.v4().to_string());
        running.until(&world, "bound again", 40, bound);
    }
    // a server that was away for a moment, killed, is none that anybody notices
    world.kill_netd();
    world.start_netd();
    let third: Vec<i64> = each().map(|(name, _)| expires(&world, name)).collect();
    for (((name, inside), running), third) in each().zip(&running).zip(&third) {
        assert!(*third > 0, "{name}: its lease was forgotten");
        running.until(&world, "renewed by a new daemon", 25, || {
            expires(&world, name) > *third
        });
        // dhclient's script takes it off and puts it on again.
        running.until(&world, "with its address", 10, || {
            has(inside, &inside.v4().to_string())
        });
    }
    // given back
    for ((life, inside), running) in LIVES.iter().zip(&inside).zip(&running) {
        running.release(life, inside);
        // on a busy machine a client may be asked twice: a second word changes nothing
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(8)
            && lease(&world, life.name)["state"] == "bound"
        {
            std::thread::sleep(Duration::from_millis(100));
        }
        if !life.release.is_empty() && lease(&world, life.name)["state"] == "bound" {
            running.release(life, inside);
        }
        let name = life.name;
        // networkd 252 keeps what it has when it is ended: its lease runs out.
        let last = match name {
            "networkd" => ["released", "expired"],
            _ => ["released"; 2],
        };
        running.until(&world, "released", 15, || {
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
        running.until(&world, "declined", 20, || heeded(&world) > before);
        world.sh(&format!("ip addr del {address}/32 dev lo"));
        let bound = || lease(&world, name)["state"] == "bound" && has(&inside, &address);
        running.until(&world, "bound once it was free", 40, bound);
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
