//! Where the lies of `spoofing` are told: Mallory and her victim on one bridge, guarded by netd, or not at all.
//!
//! Without a guard every frame must arrive, or its absence with the guard would prove nothing.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::net::frame::{self, IPV4, IPV6, Mac};
use crate::net::netns::Netns;
use crate::net::raw::PacketSocket;
use crate::net::trap::Trap;
use crate::world::{Container, World, wait_for_carrier};

/// A frame, what it is, and whether it may arrive at the host or the victim.
pub struct Case {
    what: &'static str,
    frame: Vec<u8>,
    reaches: Reaches,
}

/// How far a frame may get past a guard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reaches {
    Everybody,
    TheHost,
    Nobody,
}

/// What arrives with and without a guard.
pub fn honest(what: &'static str, frame: Vec<u8>) -> Case {
    Case {
        what,
        frame,
        reaches: Reaches::Everybody,
    }
}

/// What arrives only without.
pub fn forged(what: &'static str, frame: Vec<u8>) -> Case {
    Case {
        what,
        frame,
        reaches: Reaches::Nobody,
    }
}

/// What the host itself may see, but never the victim.
pub fn never_forwarded(what: &'static str, frame: Vec<u8>) -> Case {
    Case {
        what,
        frame,
        reaches: Reaches::TheHost,
    }
}

/// Somebody on the bridge.
pub struct Party {
    pub netns: Netns,
    pub mac: Mac,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub link_local: Ipv6Addr,
}

/// Mallory, her victim in the same zone, and what she knows.
pub struct Stage {
    pub world: World,
    pub mallory: Party,
    pub victim: Party,
    pub gateway: Mac,
    pub gateway4: Ipv4Addr,
    guarded: bool,
    _containers: Vec<Container>,
}

impl Stage {
    /// netd's zone whose policy lets everything pass, so that what is dropped is dropped by the guard.
    pub fn guarded(title: &str) -> Self {
        let world = World::new(title);
        world.zone("web").default("allow").create();
        let containers =
            ["mallory", "victim"].map(|name| world.container(name).in_zone("web").start());
        let [mallory, victim] = &containers;
        assert!(mallory.ping(victim.v4()).passed() && mallory.ping(victim.v6()).passed());
        let party = |one: &Container| Party {
            netns: one.netns.clone(),
            mac: one.mac(),
            v4: one.v4(),
            v6: one.v6(),
            link_local: one.link_local(),
        };
        Self {
            mallory: party(mallory),
            victim: party(victim),
            gateway: bridge_mac(&world, "vz-web"),
            gateway4: mallory.gateway4(),
            guarded: true,
            _containers: containers.into(),
            world,
        }
    }

    /// A plain bridge of the same shape.
    pub fn plain(title: &str) -> Self {
        let world = World::without_daemon(title);
        world.sh("ip link add vz-web type bridge; ip addr add 10.89.0.1/24 dev vz-web; ip addr add fd89::1/64 dev vz-web nodad; ip link set vz-web up");
        let party = |name: &str, last: u8| {
            let netns = Netns::create(name);
            world.sh(&format!("ip link add vb-{name} master vz-web type veth peer name host0 netns {name} address 02:00:00:00:00:{last:02x}; ip link set vb-{name} up"));
            netns.sh(&format!("ip addr add 10.89.0.{last}/24 dev host0; ip addr add fd89::{last:x}/64 dev host0 nodad; ip link set host0 up"));
            wait_for_carrier(&world.netns, &format!("vb-{name}"));
            Party {
                netns,
                mac: [2, 0, 0, 0, 0, last],
                v4: Ipv4Addr::new(10, 89, 0, last),
                v6: Ipv6Addr::new(0xfd89, 0, 0, 0, 0, 0, 0, last.into()),
                link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, last.into()),
            }
        };
        let (mallory, victim) = (party("mallory", 2), party("victim", 3));
        wait_for_carrier(&world.netns, "vz-web");
        Self {
            mallory,
            victim,
            gateway: bridge_mac(&world, "vz-web"),
            gateway4: Ipv4Addr::new(10, 89, 0, 1),
            guarded: false,
            _containers: Vec::new(),
            world,
        }
    }

    /// Sends every case and holds what arrives at the bridge's own interface and at the victim to it.
    #[track_caller]
    pub fn play(&self, cases: &[Case]) {
        let frames: Vec<_> = cases.iter().map(|case| case.frame.as_slice()).collect();
        let (at_host, at_victim) = self.send(&frames);
        for case in cases {
            let has = |seen: &[Vec<u8>]| {
                seen.iter()
                    .any(|frame| frame::carries(frame, mark_of(&case.frame)))
            };
            let (host, victim) = (has(&at_host), has(&at_victim));
            let right = match case.reaches {
                Reaches::Everybody => host || victim,
                _ if !self.guarded => host || victim,
                Reaches::TheHost => !victim,
                Reaches::Nobody => !host && !victim,
            };
            assert!(
                right,
                "{}: at the host: {host}, at the victim: {victim}: {:02x?}",
                case.what, case.frame
            );
        }
    }

    /// Sends frames of which none may arrive at the victim.
    #[track_caller]
    pub fn nobody_but_the_host_sees(&self, frames: &[Vec<u8>]) {
        let (_, at_victim) = self.send(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for frame in frames {
            assert!(
                !at_victim
                    .iter()
                    .any(|seen| frame::carries(seen, mark_of(frame))),
                "{frame:02x?}"
            );
        }
    }

    /// Sends frames from Mallory's interface and returns all that the host and that the victim saw meanwhile.
    fn send(&self, frames: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let at_host = Trap::set(&self.world.netns, "vz-web", |_| true);
        let at_victim = Trap::set(&self.victim.netns, "host0", |_| true);
        let socket = self
            .mallory
            .netns
            .enter(|| PacketSocket::open("host0"))
            .unwrap();
        for _ in 0..3 {
            for frame in frames {
                socket.send(frame).unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(150));
        (at_host.frames(), at_victim.frames())
    }

    /// A datagram to the victim, through the gateway.
    pub fn udp4(&self, mac: Mac, from: Ipv4Addr, data: &str) -> Vec<u8> {
        let packet = frame::udp4((from, 4000), (self.victim.v4, 4000), data.as_bytes());
        frame::ethernet(self.gateway, mac, IPV4, &packet)
    }

    /// The same over IPv6.
    pub fn udp6(&self, mac: Mac, from: Ipv6Addr, data: &str) -> Vec<u8> {
        let packet = frame::udp6((from, 4000), (self.victim.v6, 4000), data.as_bytes());
        frame::ethernet(self.gateway, mac, IPV6, &packet)
    }

    /// A frame of Mallory's to everybody.
    pub fn broadcast(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        frame::ethernet(frame::BROADCAST, self.mallory.mac, ethertype, payload)
    }
}

/// The hardware address of a bridge.
pub fn bridge_mac(world: &World, bridge: &str) -> Mac {
    let bridge = world.sh(&format!("ip -o link show dev {bridge}"));
    let mut words = bridge
        .split_whitespace()
        .skip_while(|word| *word != "link/ether");
    frame::mac(words.nth(1).unwrap())
}

/// What of a frame stays the same on its way: routing rewrites the Ethernet header, TTL and checksum.
fn mark_of(frame: &[u8]) -> &[u8] {
    match u16::from_be_bytes([frame[12], frame[13]]) {
        IPV4 if frame.len() > 42 => &frame[34..],
        IPV6 if frame.len() > 62 => &frame[54..],
        0x8100 => &frame[18..],
        _ => &frame[14..],
    }
}
