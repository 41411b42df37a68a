//! A container that lies about who it is reaches nobody. Every lie stands beside the truth that gets through,
//! sent by the same code and seen by the same trap.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::net::frame::{self, ARP, BROADCAST, IPV4, IPV6, Mac};
use crate::net::raw::PacketSocket;
use crate::net::trap::Trap;
use crate::world::{Container, World};

/// A frame, what it is, and whether it may arrive at the host or the victim.
struct Case {
    what: &'static str,
    frame: Vec<u8>,
    honest: bool,
}

fn honest(what: &'static str, frame: Vec<u8>) -> Case {
    Case {
        what,
        frame,
        honest: true,
    }
}

fn forged(what: &'static str, frame: Vec<u8>) -> Case {
    Case {
        what,
        frame,
        honest: false,
    }
}

/// Mallory, her victim in the same zone, and what she knows.
struct Scene {
    world: World,
    mallory: Container,
    victim: Container,
    gateway: Mac,
}

const FORGED_MAC: Mac = [2, 0, 0, 0x66, 0x66, 0x66];

fn scene(title: &str) -> Scene {
    let world = World::new(title);
    // Policy lets everything pass, so what is dropped is dropped by the guard.
    world.zone("web").default("allow").create();
    let mallory = world.container("mallory").in_zone("web").start();
    let victim = world.container("victim").in_zone("web").start();
    assert!(mallory.ping(victim.v4()).passed() && mallory.ping(victim.v6()).passed());
    let bridge = world.sh("ip -o link show dev vz-web");
    let gateway = bridge
        .split_whitespace()
        .skip_while(|word| *word != "link/ether")
        .nth(1)
        .unwrap();
    let gateway = frame::mac(gateway);
    Scene {
        world,
        mallory,
        victim,
        gateway,
    }
}

impl Scene {
    /// Sends every case and holds what arrives at the bridge's own interface and at the victim to it.
    #[track_caller]
    fn play(&self, cases: &[Case]) {
        let at_host = Trap::set(&self.world.netns, "vz-web", |_| true);
        let at_victim = Trap::set(&self.victim.netns, "host0", |_| true);
        let socket = self
            .mallory
            .netns
            .enter(|| PacketSocket::open("host0"))
            .unwrap();
        for _ in 0..3 {
            for case in cases {
                socket.send(&case.frame).unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(150));
        let seen: Vec<Vec<u8>> = at_host
            .frames()
            .into_iter()
            .chain(at_victim.frames())
            .collect();
        for case in cases {
            let mark = mark_of(&case.frame);
            let arrived = seen.iter().any(|frame| frame::carries(frame, mark));
            assert_eq!(arrived, case.honest, "{}: {:02x?}", case.what, case.frame);
        }
    }

    fn udp4(&self, mac: Mac, from: Ipv4Addr, data: &str) -> Vec<u8> {
        let packet = frame::udp4((from, 4000), (self.victim.v4(), 4000), data.as_bytes());
        frame::ethernet(self.gateway, mac, IPV4, &packet)
    }

    fn udp6(&self, mac: Mac, from: Ipv6Addr, data: &str) -> Vec<u8> {
        let packet = frame::udp6((from, 4000), (self.victim.v6(), 4000), data.as_bytes());
        frame::ethernet(self.gateway, mac, IPV6, &packet)
    }

    fn bare(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        frame::ethernet(BROADCAST, self.mallory.mac(), ethertype, payload)
    }
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

pub fn hardware_and_ip_addresses() {
    let scene = scene("spoof-ip");
    let (me, mine4, mine6) = (scene.mallory.mac(), scene.mallory.v4(), scene.mallory.v6());
    let (gateway4, victim) = (scene.mallory.gateway4(), scene.victim.mac());
    scene.play(&[
        honest("own addresses, v4", scene.udp4(me, mine4, "honest-v4")),
        honest("own addresses, v6", scene.udp6(me, mine6, "honest-v6")),
        forged(
            "unknown hardware address, v4",
            scene.udp4(FORGED_MAC, mine4, "forged-mac-v4"),
        ),
        forged(
            "unknown hardware address, v6",
            scene.udp6(FORGED_MAC, mine6, "forged-mac-v6"),
        ),
        forged(
            "the victim's hardware address",
            scene.udp4(victim, scene.victim.v4(), "forged-victim-mac"),
        ),
        forged(
            "the victim's IPv4 address",
            scene.udp4(me, scene.victim.v4(), "forged-victim-v4"),
        ),
        forged(
            "the gateway's IPv4 address",
            scene.udp4(me, gateway4, "forged-gateway-v4"),
        ),
        forged(
            "a free IPv4 address of the zone",
            scene.udp4(
                me,
                Ipv4Addr::from(u32::from(gateway4) + 99),
                "forged-free-v4",
            ),
        ),
        forged(
            "an IPv4 address of the world",
            scene.udp4(me, Ipv4Addr::new(192, 0, 2, 2), "forged-world-v4"),
        ),
        forged(
            "the unspecified IPv4 address",
            scene.udp4(me, Ipv4Addr::UNSPECIFIED, "forged-zero-v4"),
        ),
        forged(
            "loopback, v4",
            scene.udp4(me, Ipv4Addr::LOCALHOST, "forged-loop-v4"),
        ),
        forged(
            "the victim's IPv6 address",
            scene.udp6(me, scene.victim.v6(), "forged-victim-v6"),
        ),
        forged(
            "a free IPv6 address of the zone",
            scene.udp6(
                me,
                Ipv6Addr::from(u128::from(mine6) ^ 0xffff_0000),
                "forged-free-v6",
            ),
        ),
        forged(
            "an IPv6 address of the world",
            scene.udp6(me, "2001:db8:1::2".parse().unwrap(), "forged-world-v6"),
        ),
        forged(
            "the victim's link-local address",
            scene.udp6(me, scene.victim.link_local(), "forged-ll-v6"),
        ),
    ]);
}

pub fn frames_past_the_host() {
    let scene = scene("spoof-l2");
    let (me, mine4) = (scene.mallory.mac(), scene.mallory.v4());
    let to_victim =
        |data: &str| frame::udp4((mine4, 4000), (scene.victim.v4(), 4000), data.as_bytes());
    let to_group = |data: &str| {
        frame::udp4(
            (mine4, 4000),
            (Ipv4Addr::new(224, 0, 0, 251), 5353),
            data.as_bytes(),
        )
    };
    scene.play(&[
        honest(
            "through the gateway",
            frame::ethernet(scene.gateway, me, IPV4, &to_victim("routed")),
        ),
        forged(
            "straight to the victim",
            frame::ethernet(scene.victim.mac(), me, IPV4, &to_victim("straight")),
        ),
        forged(
            "a VLAN tag",
            frame::tagged(scene.gateway, me, 7, IPV4, &to_victim("tagged")),
        ),
        forged("LLDP", scene.bare(0x88cc, b"lldp frame of mallory")),
        forged(
            "PPPoE discovery",
            scene.bare(0x8863, b"pppoe frame of mallory"),
        ),
        forged(
            "802.3 with LLC: spanning tree",
            frame::ethernet(
                [1, 0x80, 0xc2, 0, 0, 0],
                me,
                38,
                &[b"\x42\x42\x03", &[7; 35][..]].concat(),
            ),
        ),
    ]);
    // Whether a broadcast reaches the host is policy's business; another container it must not reach.
    let at_victim = Trap::set(&scene.victim.netns, "host0", |_| true);
    let socket = scene
        .mallory
        .netns
        .enter(|| PacketSocket::open("host0"))
        .unwrap();
    socket
        .send(&frame::ethernet(
            BROADCAST,
            me,
            IPV4,
            &to_victim("broadcast"),
        ))
        .unwrap();
    socket
        .send(&frame::ethernet(
            [1, 0, 0x5e, 0, 0, 0xfb],
            me,
            IPV4,
            &to_group("multicast"),
        ))
        .unwrap();
    std::thread::sleep(Duration::from_millis(150));
    for mark in ["broadcast", "multicast"] {
        assert!(
            !at_victim
                .frames()
                .iter()
                .any(|frame| frame::carries(frame, mark.as_bytes())),
            "{mark} reached the victim"
        );
    }
}

pub fn arp_and_neighbour_discovery() {
    let scene = scene("spoof-nd");
    let (me, mine4, mine6) = (scene.mallory.mac(), scene.mallory.v4(), scene.mallory.v6());
    let (gateway4, victim4, victim6) = (
        scene.mallory.gateway4(),
        scene.victim.v4(),
        scene.victim.v6(),
    );
    let arp = |operation, sender, target| scene.bare(ARP, &frame::arp(operation, sender, target));
    let none: Mac = [0; 6];
    scene.play(&[
        honest("who has the gateway", arp(1, (me, mine4), (none, gateway4))),
        honest(
            "gratuitous, for the own address",
            arp(2, (me, mine4), (BROADCAST, mine4)),
        ),
        forged(
            "the victim's address is mine",
            arp(2, (me, victim4), (BROADCAST, victim4)),
        ),
        forged(
            "the gateway's address is mine",
            arp(2, (me, gateway4), (BROADCAST, gateway4)),
        ),
        forged(
            "asked in the victim's name",
            arp(1, (me, victim4), (none, gateway4)),
        ),
        forged(
            "mine is at another hardware address",
            arp(2, (FORGED_MAC, mine4), (BROADCAST, gateway4)),
        ),
        forged(
            "an unknown operation",
            arp(9, (me, mine4), (none, gateway4)),
        ),
    ]);
    let nd = |packet: Vec<u8>| {
        frame::ethernet(
            frame::group_mac("ff02::1".parse().unwrap()),
            me,
            IPV6,
            &packet,
        )
    };
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let gateway_ll = Ipv6Addr::LOCALHOST;
    scene.play(&[
        honest(
            "the own address",
            nd(frame::advertisement(mine6, all, mine6, me)),
        ),
        honest(
            "solicitation",
            nd(frame::solicitation(mine6, all, victim6, me)),
        ),
        forged(
            "the victim's address is mine",
            nd(frame::advertisement(mine6, all, victim6, me)),
        ),
        forged(
            "in the victim's name",
            nd(frame::advertisement(victim6, all, victim6, me)),
        ),
        forged(
            "mine is at another hardware address",
            nd(frame::advertisement(mine6, all, mine6, FORGED_MAC)),
        ),
        forged(
            "solicitation with another's link-layer address",
            nd(frame::solicitation(mine6, all, victim6, FORGED_MAC)),
        ),
        forged(
            "solicitation in the victim's name",
            nd(frame::solicitation(victim6, all, mine6, me)),
        ),
        forged(
            "in the name of loopback",
            nd(frame::advertisement(gateway_ll, all, gateway_ll, me)),
        ),
    ]);
    // The host believes none of it.
    let neighbours = scene.world.sh("ip neigh show dev vz-web");
    let mine = scene.mallory.attached["mac"].as_str().unwrap();
    for line in neighbours.lines().filter(|line| line.contains(mine)) {
        let address = line.split_whitespace().next().unwrap();
        let own = [
            mine4.to_string(),
            mine6.to_string(),
            scene.mallory.link_local().to_string(),
        ];
        assert!(own.contains(&address.to_owned()), "poisoned: {line}");
    }
    assert!(scene.world.netns.run("ping -c1 -W1 192.0.2.2").code == 0);
    assert_eq!(scene.mallory.tcp(victim4, 80).who(), "victim");
}

pub fn rogue_dhcp_servers_and_routers() {
    let scene = scene("spoof-rogue");
    let (me, mine4, mine6) = (scene.mallory.mac(), scene.mallory.v4(), scene.mallory.v6());
    let ll = scene.mallory.link_local();
    let everyone = Ipv4Addr::BROADCAST;
    let group = |to: &str, packet: Vec<u8>| {
        frame::ethernet(frame::group_mac(to.parse().unwrap()), me, IPV6, &packet)
    };
    let v4 = |packet: Vec<u8>| scene.bare(IPV4, &packet);
    let icmp = |packet: Vec<u8>| frame::ethernet(scene.gateway, me, IPV4, &packet);
    let icmp6 = |packet: Vec<u8>| frame::ethernet(scene.gateway, me, IPV6, &packet);
    let solicit = frame::icmp6(
        ll,
        "ff02::2".parse().unwrap(),
        133,
        0,
        &[0, 0, 0, 0, 1, 1, me[0], me[1], me[2], me[3], me[4], me[5]],
    );
    // A redirect carries the packet that it is about.
    let about4 = frame::udp4((scene.victim.v4(), 1), (mine4, 2), b"about-four");
    let about6 = frame::udp6((scene.victim.v6(), 1), (mine6, 2), b"about-six");
    let redirect4 = frame::icmp4(
        mine4,
        scene.victim.v4(),
        5,
        1,
        &[&mine4.octets()[..], &about4].concat(),
    );
    let redirect6 = [
        &[0; 4][..],
        &ll.octets(),
        &scene.victim.v6().octets(),
        &about6,
    ]
    .concat();
    scene.play(&[
        honest(
            "a DHCP client asks",
            v4(dhcp(1, (Ipv4Addr::UNSPECIFIED, 68), (everyone, 67), me)),
        ),
        forged(
            "… in another's name",
            v4(dhcp(
                1,
                (Ipv4Addr::UNSPECIFIED, 68),
                (everyone, 67),
                FORGED_MAC,
            )),
        ),
        forged(
            "a DHCP server offers",
            v4(dhcp(2, (mine4, 67), (everyone, 68), scene.victim.mac())),
        ),
        forged(
            "a DHCP server offers from nowhere",
            v4(dhcp(2, (Ipv4Addr::UNSPECIFIED, 67), (everyone, 68), [9; 6])),
        ),
        forged(
            "a DHCPv6 server advertises",
            group(
                "ff02::1",
                frame::udp6(
                    (ll, 547),
                    ("ff02::1".parse().unwrap(), 546),
                    b"dhcp6-server",
                ),
            ),
        ),
        honest("a host solicits routers", group("ff02::2", solicit)),
        forged(
            "a router advertises itself",
            group("ff02::1", frame::router_advertisement(ll, me)),
        ),
        forged(
            "… from its global address",
            group("ff02::1", frame::router_advertisement(mine6, me)),
        ),
        honest(
            "an echo request",
            icmp(frame::icmp4(
                mine4,
                scene.victim.v4(),
                8,
                0,
                b"....echo-request-v4",
            )),
        ),
        forged("an ICMP redirect", icmp(redirect4)),
        honest(
            "an echo request, v6",
            icmp6(frame::icmp6(
                mine6,
                scene.victim.v6(),
                128,
                0,
                b"....echo-request-v6",
            )),
        ),
        forged(
            "an ICMPv6 redirect",
            icmp6(frame::icmp6(ll, scene.victim.v6(), 137, 0, &redirect6)),
        ),
    ]);
    // The victim has learnt no router but its gateway.
    let routes = scene.victim.sh("ip -6 route; ip -6 addr");
    assert!(!routes.contains("2001:db8:bad"), "{routes}");
    assert_eq!(routes.matches("default via").count(), 1, "{routes}");
}

/// A BOOTP/DHCP message (RFC 2131 §2) of the least size, with only a message type.
fn dhcp(op: u8, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), chaddr: Mac) -> Vec<u8> {
    let mut message = vec![0; 300];
    message[..4].copy_from_slice(&[op, 1, 6, 0]);
    message[4..8].copy_from_slice(&[0x6e, op, chaddr[5], to.0.octets()[3] ^ from.0.octets()[3]]);
    message[28..34].copy_from_slice(&chaddr);
    message[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message[240..244].copy_from_slice(&[53, 1, if op == 1 { 1 } else { 2 }, 0xff]);
    frame::udp4(from, to, &message)
}
