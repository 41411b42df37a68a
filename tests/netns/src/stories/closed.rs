//! What is plugged into a zone's bridge while no daemon runs: apart from everybody, also from what else is.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::net::frame::{self, BROADCAST, Mac};
use crate::net::netns::Netns;
use crate::net::raw::PacketSocket;
use crate::net::trap::Trap;
use crate::world::World;

/// How long netd may take to see something.
const PATIENCE: Duration = Duration::from_secs(10);

/// An ethertype for experiments (IEEE 802, local experimental 1).
const EXPERIMENT: u16 = 0x88b5;

/// What every frame here carries.
const SECRET: &[u8] = b"from one stranger to another";

/// One end of a veth in a namespace of its own, the other on a bridge: both up.
struct Stranger {
    inside: Netns,
    port: String,
    mac: Mac,
    address: Ipv4Addr,
}

impl Stranger {
    fn plug(world: &World, bridge: &str, name: &str, number: u8) -> Self {
        let (inside, port) = (Netns::create(name), format!("vb-{name}"));
        let address = Ipv4Addr::new(10, 89, 0, number);
        let mac = [2, 0, 0, 0, 1, number];
        world.sh(&format!(
            "ip link add {port} type veth peer name host0 address 02:00:00:00:01:{number:02x} netns {name}; \
             ip link set {port} master {bridge}; ip link set {port} up"
        ));
        inside.sh(&format!(
            "ip link set lo up; ip link set host0 up; ip addr add {address}/24 dev host0"
        ));
        Self {
            inside,
            port,
            mac,
            address,
        }
    }

    /// Waits until somebody has put its port apart.
    #[track_caller]
    fn is_apart(&self, world: &World) {
        let show = format!("bridge -d link show dev {}", self.port);
        let started = Instant::now();
        loop {
            let flags = world.sh(&show);
            let set = ["isolated on", "locked on", "learning off", " flood off"];
            if set.iter().all(|flag| flags.contains(flag)) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{flags}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Speaks to another in every way that a bridge would carry: its own words, ARP and neighbour discovery, raw frames.
    fn speak(&self, to: &Stranger) {
        let payload = [SECRET, &[0; 40]].concat();
        let (here, there) = (self.mac, to.mac);
        let six = |number| format!("fe80::ff:fe00:1{number:02x}").parse().unwrap();
        let [mine, theirs] = [self, to].map(|s| six(s.mac[5]));
        let group = theirs_group(theirs);
        let frames = [
            frame::ethernet(BROADCAST, here, EXPERIMENT, &payload),
            frame::ethernet(there, here, EXPERIMENT, &payload),
            frame::ethernet([0x33, 0x33, 0, 0, 0, 1], here, EXPERIMENT, &payload),
            frame::tagged(BROADCAST, here, 7, EXPERIMENT, &payload),
            frame::ethernet(
                BROADCAST,
                here,
                0x0806,
                &frame::arp(1, (here, self.address), ([0; 6], to.address)),
            ),
            frame::ethernet(
                there,
                here,
                0x0800,
                &frame::udp4((self.address, 7), (to.address, 7), SECRET),
            ),
            frame::ethernet(
                frame::group_mac(group),
                here,
                0x86dd,
                &frame::solicitation(mine, group, theirs, here),
            ),
            frame::ethernet(
                there,
                here,
                0x86dd,
                &frame::udp6((mine, 7), (theirs, 7), SECRET),
            ),
        ];
        self.inside.enter(|| {
            let socket = PacketSocket::open("host0").unwrap();
            frames.iter().for_each(|frame| socket.send(frame).unwrap());
        });
        self.inside.run(&format!("ping -c1 -W0.3 {}", to.address));
    }

    /// Catches what is from another.
    fn trap(&self, other: &Stranger) -> Trap {
        let mac = other.mac;
        Trap::set(&self.inside, "host0", move |f| f.get(6..12) == Some(&mac))
    }
}

fn theirs_group(address: std::net::Ipv6Addr) -> std::net::Ipv6Addr {
    let [.., high, low] = address.segments();
    format!("ff02::1:ff{:02x}:{low:x}", high & 0xff)
        .parse()
        .unwrap()
}

pub fn what_is_plugged_in_without_a_daemon_is_apart() {
    let world = World::new("closed-apart");
    world.zone("web").default("allow").create();
    world.kill_netd();
    let one = Stranger::plug(&world, "vz-web", "one", 51);
    let two = Stranger::plug(&world, "vz-web", "two", 52);
    one.is_apart(&world);
    two.is_apart(&world);
    let (at_one, at_two) = (one.trap(&two), two.trap(&one));
    one.speak(&two);
    two.speak(&one);
    at_one.is_empty("to a port that was plugged in while no daemon ran");
    at_two.is_empty("to a port that was plugged in while no daemon ran");
    // Somebody sets it back, and makes the bridge anew as systemd-nspawn would.
    world.sh("bridge link set dev vb-one isolated off locked off learning on flood on");
    one.is_apart(&world);
    world.sh(
        "ip link del vz-web; ip link add vz-web type bridge; ip link set vz-web up; \
         for p in one two; do ip link set vb-$p master vz-web; done",
    );
    one.is_apart(&world);
    two.is_apart(&world);
    one.speak(&two);
    at_two.is_empty("on a bridge that was made anew");
    // A bridge of somebody else's is none of netd's business.
    world.sh("ip link add other type bridge; ip link set other up");
    let free =
        [("three", 53), ("four", 54)].map(|(name, n)| Stranger::plug(&world, "other", name, n));
    let heard = free[1].trap(&free[0]);
    free[0].speak(&free[1]);
    heard.has_caught("on another bridge");
    // The daemon comes back, and takes them.
    world.start_netd();
    let started = Instant::now();
    while !["one", "two"]
        .iter()
        .all(|name| world.netd("list").ok().contains(name))
    {
        assert!(
            started.elapsed() < PATIENCE,
            "{}",
            world.netd("list").stdout
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    for stranger in [&one, &two] {
        let listed = world.netd("list --json").json();
        let of = |c: &&serde_json::Value| {
            format!("vb-{}", c["container"].as_str().unwrap()) == stranger.port
        };
        let address = listed.as_array().unwrap().iter().find(of).unwrap()["addresses"][0].clone();
        let address = address.as_str().unwrap();
        stranger.inside.sh(&format!(
            "ip addr flush dev host0; ip addr add {address} dev host0; ip route add default via 10.89.0.1; ping -c1 -W5 10.89.0.1"
        ));
    }
    // A zone that is deleted leaves nobody waiting for its bridge.
    world.netd("zone delete web --force").ok();
    world.kill_netd();
    world.sh("ip link add vz-web type bridge; ip link set vz-web up; ip link set vb-one master vz-web; ip link set vb-one up; sleep 0.3");
    let flags = world.sh("bridge -d link show dev vb-one");
    assert!(flags.contains("isolated off"), "{flags}");
    world.sh("for l in vb-one vb-two vb-three vb-four vz-web other; do ip link del $l; done");
    world.start_netd();
}
