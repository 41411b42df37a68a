//! Real DHCPv6 clients through a whole life on a short lease: bound, renewed, rebound, run out, bound again, renewed by
//! another daemon, given back.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::net::clients::CLIENTS6;
use crate::net::frame;
use crate::net::life::{Life, Running, expires, lease};
use crate::net::raw::PacketSocket;
use crate::world::{Container, World};

const ZONE: &str = "subnet4 = \"none\"\nsubnet6 = \"fd66:1:2:3::/64\"\n[dhcp]\nlease = \"10s\"\n";
/// Waits for the link-local address that a client speaks from.
const READY: &str = "ip link set host0 up; until ip -6 addr show dev host0 scope link -tentative | grep -q fe80; do sleep .1; done; ";
/// Where .ci/setup puts busybox's client: Debian's busybox is built without it.
const UDHCPC6: &str = "/usr/local/bin/udhcpc6";

const LIVES: [Life; 4] = [
    Life {
        name: "dhclient",
        start: "exec dhclient -6 -d -lf /var/lib/dhcp/life -pf /run/dhclient6-life.pid host0",
        release: "dhclient -6 -r -lf /var/lib/dhcp/life -pf /run/dhclient6-life.pid host0",
    },
    Life {
        name: "dhcpcd",
        start: "exec dhcpcd -6 -B -d host0",
        release: "dhcpcd -6 -k host0",
    },
    Life {
        name: "networkd",
        start: "mount -t tmpfs t /run; mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases; \
                chown -R systemd-network /run/systemd/netif; mount -t sysfs -o ro s /sys; \
                printf '[Match]\\nName=host0\\n[Network]\\nDHCP=ipv6\\nLinkLocalAddressing=ipv6\\n[DHCPv6]\\nSendRelease=yes\\n' \
                >/run/systemd/network/10-host0.network; exec env SYSTEMD_LOG_LEVEL=debug /lib/systemd/systemd-networkd",
        release: "",
    },
    Life {
        name: "udhcpc6",
        start: "printf '#!/bin/sh\\ncase $1 in bound|renew) ip -6 addr replace $ipv6 dev $interface;; \
                deconfig) ip -6 addr flush dev $interface scope global;; esac\\n' >/etc/told6; chmod +x /etc/told6; \
                exec /usr/local/bin/udhcpc6 -i host0 -f -t 5 -T 1 -A 1 -s /etc/told6",
        release: "",
    },
];

/// A client at its life.
struct Living {
    life: &'static Life,
    inside: Container,
    running: Running,
}

impl Living {
    fn start(world: &World, life: &'static Life) -> Self {
        let inside = world.container(life.name).in_zone("lab").dhcp().start();
        let known = CLIENTS6.iter().find(|client| client.name == life.name);
        let script = format!("{READY}{}", life.start);
        let known = known.unwrap_or(&CLIENTS6[0]);
        let running = Running::start(world, &inside, known, life.name, &script);
        Self {
            life,
            inside,
            running,
        }
    }

    fn lease(&self, world: &World) -> Value {
        lease(world, self.life.name)
    }

    fn expires(&self, world: &World) -> i64 {
        expires(world, self.life.name)
    }

    fn has_its_address(&self) -> bool {
        let own = format!("inet6 {}/", self.inside.v6());
        self.inside
            .sh("ip -6 -o addr show dev host0 -tentative")
            .contains(&own)
    }

    #[track_caller]
    fn until(&self, world: &World, what: &str, seconds: u64, holds: impl Fn() -> bool) {
        self.running.until(world, what, seconds, holds);
    }

    #[track_caller]
    fn is_bound(&self, world: &World, what: &str) {
        let bound = || self.lease(world)["state"] == "bound" && self.has_its_address();
        self.until(world, what, 60, bound);
    }

    #[track_caller]
    fn goes_on(&self, world: &World, what: &str, from: i64) {
        self.until(world, what, 60, || self.expires(world) > from);
        self.until(world, "with its address", 20, || self.has_its_address());
    }
}

pub fn a_whole_life_of_each_client() {
    let world = World::new("six-life");
    fs::write(world.dir.join("config/zones/lab.toml"), ZONE).unwrap();
    world.netd("reload").ok();
    let there = |life: &&Life| life.name != "udhcpc6" || Path::new(UDHCPC6).exists();
    let all: Vec<Living> = LIVES
        .iter()
        .filter(there)
        .map(|life| Living::start(&world, life))
        .collect();
    for one in &all {
        one.is_bound(&world, "bound");
    }
    let expires = || -> Vec<i64> { all.iter().map(|one| one.expires(&world)).collect() };
    // T1 is at 5 s
    let first = expires();
    for (one, first) in all.iter().zip(first) {
        one.goes_on(&world, "renewed", first);
    }
    // T2 is at 8 s: whoever is not answered asks any server (§18.2.5); Renew is message 5. The server
    // hears what the bridge lets through.
    world.sh(
        "nft 'add table bridge story; add chain bridge story in { type filter hook prerouting priority -400; }; \
         add rule bridge story in ip6 nexthdr udp udp dport 547 @th,64,8 5 counter drop'",
    );
    std::thread::sleep(Duration::from_secs(1));
    let second = expires();
    for (one, second) in all.iter().zip(second) {
        one.goes_on(&world, "rebound", second);
    }
    // nothing is heard at all: the lease runs out, on both sides
    world.sh("nft 'add rule bridge story in ip6 nexthdr udp udp dport 547 drop'");
    for one in &all {
        one.until(&world, "run out", 60, || {
            one.lease(&world)["state"] == "reserved" && !one.has_its_address()
        });
    }
    world.sh("nft delete table bridge story");
    for one in &all {
        one.is_bound(&world, "bound again");
    }
    // a server that was away for a moment, killed, is none that anybody notices
    world.kill_netd();
    world.start_netd();
    for one in &all {
        let third = one.expires(&world);
        one.goes_on(&world, "renewed by a new daemon", third);
    }
    // given back; who does not say so loses it when it runs out
    for one in &all {
        one.running.release(one.life, &one.inside);
        one.until(&world, "released", 30, || {
            one.lease(&world)["state"] == "reserved"
        });
    }
}

/// A DISCOVER that asks for these options, and the answer to it: the DHCP message alone.
fn discover(inside: &Container, asked: &[u8]) -> Option<Vec<u8>> {
    let mac = inside.mac();
    let mut message = vec![0u8; 240];
    message[..8].copy_from_slice(&[1, 1, 6, 0, 9, 9, 9, 9]);
    message[28..34].copy_from_slice(&mac);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend([53, 1, 1, 55, u8::try_from(asked.len()).unwrap()]);
    message.extend(asked);
    message.push(255);
    let (nobody, all) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let packet = frame::udp4((nobody, 68), (all, 67), &message);
    inside.netns.enter(|| {
        let socket = PacketSocket::open("host0").unwrap();
        socket
            .send(&frame::ethernet([0xff; 6], mac, 0x0800, &packet))
            .unwrap();
        let mut buffer = [0; 2048];
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let Ok(Some(length)) = socket.receive(&mut buffer, Duration::from_millis(200)) else {
                continue;
            };
            // Ethernet, IPv4 and UDP before it; our transaction in it
            let told = buffer[..length].get(14 + 20 + 8..).unwrap_or_default();
            if told.len() > 240 && told[0] == 2 && told[4..8] == [9; 4] {
                return Some(told.to_vec());
            }
        }
        None
    })
}

/// RFC 8925 in a zone of IPv6 alone.
pub fn who_can_do_without_ipv4_is_told_to() {
    let world = World::new("six-preferred");
    world.zone("six").option("--subnet4", "none").create();
    let inside = world.container("one").in_zone("six").dhcp().start();
    inside.sh("ip link set host0 up");
    let told = discover(&inside, &[1, 3, 108]).expect("an offer");
    assert_eq!(told[16..20], [0; 4], "no address");
    let wait = [108, 4, 0, 0, 7, 8];
    assert!(told.windows(6).any(|w| w == wait), "half an hour: {told:?}");
    // Who does not ask is not answered, and why is told.
    assert_eq!(discover(&inside, &[1, 3]), None);
    let status = world.netd("status").ok();
    assert!(status.contains("no-ipv4"), "{status}");
    // As the zone says.
    let file = world.dir.join("config/zones/six.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n[dhcp]\nipv6-only = \"10m\"\n")).unwrap();
    world.netd("reload").ok();
    let told = discover(&inside, &[108]).expect("an offer");
    assert!(
        told.windows(6).any(|w| w == [108, 4, 0, 0, 2, 88]),
        "{told:?}"
    );
    assert_eq!(
        world
            .netd("lease list --json")
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
