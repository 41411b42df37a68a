//! A container that lies about who it is reaches nobody. Every lie stands beside a truth that gets through,
//! and is told over a bridge without a guard too, where it arrives.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::stage::{Stage, forged, honest, never_forwarded};
use crate::net::frame::{self, ARP, IPV4, IPV6, Mac};
use crate::net::probe::probe;

const FORGED_MAC: Mac = [2, 0, 0, 0x66, 0x66, 0x66];

pub fn without_a_guard_every_lie_arrives() {
    let stage = Stage::plain("spoof-plain");
    tell_past_the_host(&stage);
    tell_addresses(&stage);
    tell_neighbours(&stage);
    tell_rogues(&stage);
}

pub fn hardware_and_ip_addresses() {
    tell_addresses(&Stage::guarded("spoof-ip"));
}

fn tell_addresses(stage: &Stage) {
    let (me, mine4, mine6) = (stage.mallory.mac, stage.mallory.v4, stage.mallory.v6);
    let (gateway4, victim) = (stage.gateway4, &stage.victim);
    let free4 = Ipv4Addr::from(u32::from(gateway4) + 99);
    // of a prefix that is nobody's, and of the victim's; one of its own prefix is its own
    let free6 = Ipv6Addr::from(u128::from(mine6) ^ 0x7700 << 64);
    let theirs6 = Ipv6Addr::from(u128::from(victim.v6) ^ 0xffff_0000);
    let own6 = Ipv6Addr::from(u128::from(mine6) ^ 0xffff_0000);
    let world6 = "2001:db8:1::2".parse().unwrap();
    let v4 = |mac, from, data| stage.udp4(mac, from, data);
    let v6 = |mac, from, data| stage.udp6(mac, from, data);
    stage.play(&[
        honest("own addresses, v4", v4(me, mine4, "honest-v4")),
        honest("own addresses, v6", v6(me, mine6, "honest-v6")),
        honest("own prefix", v6(me, own6, "honest-prefix-v6")),
        forged(
            "unknown hardware address, v4",
            v4(FORGED_MAC, mine4, "forged-mac-v4"),
        ),
        forged(
            "unknown hardware address, v6",
            v6(FORGED_MAC, mine6, "forged-mac-v6"),
        ),
        forged(
            "all of the victim's",
            v4(victim.mac, victim.v4, "forged-victim-mac"),
        ),
        forged(
            "the victim's IPv4 address",
            v4(me, victim.v4, "forged-victim-v4"),
        ),
        forged(
            "the gateway's IPv4 address",
            v4(me, gateway4, "forged-gateway-v4"),
        ),
        forged(
            "a free IPv4 address of the zone",
            v4(me, free4, "forged-free-v4"),
        ),
        forged(
            "an IPv4 address of the world",
            v4(me, Ipv4Addr::new(192, 0, 2, 2), "forged-world-v4"),
        ),
        forged(
            "the unspecified IPv4 address",
            v4(me, Ipv4Addr::UNSPECIFIED, "forged-zero-v4"),
        ),
        forged(
            "loopback, v4",
            v4(me, Ipv4Addr::LOCALHOST, "forged-loop-v4"),
        ),
        forged(
            "the victim's IPv6 address",
            v6(me, victim.v6, "forged-victim-v6"),
        ),
        forged(
            "an address of the victim's prefix",
            v6(me, theirs6, "forged-prefix-v6"),
        ),
        forged(
            "a free IPv6 address of the zone",
            v6(me, free6, "forged-free-v6"),
        ),
        forged(
            "an IPv6 address of the world",
            v6(me, world6, "forged-world-v6"),
        ),
        forged(
            "the victim's link-local address",
            v6(me, victim.link_local, "forged-ll-v6"),
        ),
        forged(
            "loopback, v6",
            v6(me, Ipv6Addr::LOCALHOST, "forged-loop-v6"),
        ),
    ]);
}

pub fn frames_past_the_host() {
    let stage = Stage::guarded("spoof-l2");
    tell_past_the_host(&stage);
    // Whether a broadcast reaches the host is policy's business; another container it must not reach.
    let (me, mine4) = (stage.mallory.mac, stage.mallory.v4);
    let to_group = frame::udp4(
        (mine4, 1),
        (Ipv4Addr::new(224, 0, 0, 251), 5353),
        b"to-the-group",
    );
    let to_all = frame::udp4((mine4, 1), (Ipv4Addr::BROADCAST, 9), b"to-everybody");
    stage.nobody_but_the_host_sees(&[
        frame::ethernet([1, 0, 0x5e, 0, 0, 0xfb], me, IPV4, &to_group),
        stage.broadcast(IPV4, &to_all),
    ]);
}

fn tell_past_the_host(stage: &Stage) {
    let (me, mine4) = (stage.mallory.mac, stage.mallory.v4);
    let to_victim =
        |data: &str| frame::udp4((mine4, 4000), (stage.victim.v4, 4000), data.as_bytes());
    let bpdu = [&b"\x42\x42\x03"[..], &[7; 35]].concat();
    stage.play(&[
        honest(
            "through the gateway",
            frame::ethernet(stage.gateway, me, IPV4, &to_victim("routed")),
        ),
        forged(
            "straight to the victim",
            frame::ethernet(stage.victim.mac, me, IPV4, &to_victim("straight")),
        ),
        forged(
            "a VLAN tag",
            frame::tagged(stage.gateway, me, 7, IPV4, &to_victim("tagged")),
        ),
        forged("LLDP", stage.broadcast(0x88cc, b"lldp frame of mallory")),
        forged(
            "PPPoE discovery",
            stage.broadcast(0x8863, b"pppoe frame of mallory"),
        ),
        forged(
            "802.3 with LLC: spanning tree",
            frame::ethernet([1, 0x80, 0xc2, 0, 0, 0], me, 38, &bpdu),
        ),
    ]);
}

pub fn arp_and_neighbour_discovery() {
    let stage = Stage::guarded("spoof-nd");
    tell_neighbours(&stage);
    // The host believes none of it, and both still reach each other.
    let own = [
        stage.mallory.v4.to_string(),
        stage.mallory.v6.to_string(),
        stage.mallory.link_local.to_string(),
    ];
    let mine: String = stage
        .mallory
        .mac
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    for line in stage
        .world
        .sh("ip neigh show dev vz-web")
        .lines()
        .filter(|line| line.contains(&mine))
    {
        assert!(
            own.iter().any(|own| line.starts_with(&format!("{own} "))),
            "poisoned: {line}"
        );
    }
    for to in [stage.victim.v4.into(), stage.victim.v6.into()] {
        assert_eq!(probe(&stage.mallory.netns, to, "tcp/80").who(), "victim");
    }
}

fn tell_neighbours(stage: &Stage) {
    let (me, mine4, mine6) = (stage.mallory.mac, stage.mallory.v4, stage.mallory.v6);
    let (gateway4, victim4, victim6) = (stage.gateway4, stage.victim.v4, stage.victim.v6);
    let arp =
        |operation, sender, target| stage.broadcast(ARP, &frame::arp(operation, sender, target));
    let (none, all): (Mac, Mac) = ([0; 6], frame::BROADCAST);
    stage.play(&[
        honest("who has the gateway", arp(1, (me, mine4), (none, gateway4))),
        honest(
            "gratuitous, for the own address",
            arp(2, (me, mine4), (all, mine4)),
        ),
        forged(
            "the victim's address is mine",
            arp(2, (me, victim4), (all, victim4)),
        ),
        forged(
            "the gateway's address is mine",
            arp(2, (me, gateway4), (all, gateway4)),
        ),
        forged(
            "asked in the victim's name",
            arp(1, (me, victim4), (none, gateway4)),
        ),
        forged(
            "mine is at another hardware address",
            arp(2, (FORGED_MAC, mine4), (all, gateway4)),
        ),
        forged(
            "an unknown operation",
            arp(9, (me, mine4), (none, gateway4)),
        ),
    ]);
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let group = frame::group_mac(all);
    let says = |from, target, mac| {
        frame::ethernet(
            group,
            me,
            IPV6,
            &frame::advertisement(from, all, target, mac),
        )
    };
    let asks = |from, target, mac| {
        frame::ethernet(
            group,
            me,
            IPV6,
            &frame::solicitation(from, all, target, mac),
        )
    };
    stage.play(&[
        honest("the own address", says(mine6, mine6, me)),
        honest("a solicitation", asks(mine6, victim6, me)),
        forged("the victim's address is mine", says(mine6, victim6, me)),
        forged("in the victim's name", says(victim6, victim6, me)),
        forged(
            "mine is at another hardware address",
            says(mine6, mine6, FORGED_MAC),
        ),
        forged(
            "a solicitation with another's link-layer address",
            asks(mine6, victim6, FORGED_MAC),
        ),
        forged(
            "a solicitation in the victim's name",
            asks(victim6, mine6, me),
        ),
    ]);
    // A link-local address may be made up, but not be one that follows from somebody's hardware address.
    let made_up: Ipv6Addr = "fe80::1234:5678:9abc:def0".parse().unwrap();
    let elsewhere: Ipv6Addr = "fe80:0:0:1::1234".parse().unwrap();
    let [_, _, c, d, e, f] = stage.gateway.map(u16::from);
    let [a, b] = [stage.gateway[0] ^ 2, stage.gateway[1]];
    let (high, low) = (u16::from_be_bytes([a, b]), (0xfe00 | d, e << 8 | f));
    let gateway = Ipv6Addr::new(0xfe80, 0, 0, 0, high, c << 8 | 0xff, low.0, low.1);
    let theirs = stage.victim.link_local;
    stage.play(&[
        honest("a made-up one", says(made_up, made_up, me)),
        honest("asked from a made-up one", asks(made_up, victim6, me)),
        forged("the gateway's is mine", says(made_up, gateway, me)),
        forged("in the gateway's name", says(gateway, gateway, me)),
        forged("the victim's is mine", says(made_up, theirs, me)),
        forged("in the name of the victim's", says(theirs, theirs, me)),
        forged(
            "the victim's global one is mine, says a made-up one",
            says(made_up, victim6, me),
        ),
        forged(
            "a made-up one at another hardware address",
            says(made_up, made_up, FORGED_MAC),
        ),
        forged("of another link-local subnet", asks(elsewhere, victim6, me)),
    ]);
}

pub fn rogue_dhcp_servers_and_routers() {
    let stage = Stage::guarded("spoof-rogue");
    tell_rogues(&stage);
    // The victim has learnt no router but its gateway.
    let routes = stage.victim.netns.sh("ip -6 route; ip -6 addr");
    assert!(!routes.contains("2001:db8:bad"), "{routes}");
    assert_eq!(routes.matches("default via").count(), 1, "{routes}");
}

fn tell_rogues(stage: &Stage) {
    let (me, mine4, mine6) = (stage.mallory.mac, stage.mallory.v4, stage.mallory.v6);
    let (ll, victim) = (stage.mallory.link_local, &stage.victim);
    let (nobody, everyone) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let routers: Ipv6Addr = "ff02::2".parse().unwrap();
    let group =
        |to: Ipv6Addr, packet: Vec<u8>| frame::ethernet(frame::group_mac(to), me, IPV6, &packet);
    let v4 = |packet: Vec<u8>| stage.broadcast(IPV4, &packet);
    let to4 = |kind, code, body: &[u8]| {
        frame::ethernet(
            stage.gateway,
            me,
            IPV4,
            &frame::icmp4(mine4, victim.v4, kind, code, body),
        )
    };
    let to6 = |from, kind, body: &[u8]| {
        frame::ethernet(
            stage.gateway,
            me,
            IPV6,
            &frame::icmp6(from, victim.v6, kind, 0, body),
        )
    };
    let solicit = frame::icmp6(
        ll,
        routers,
        133,
        0,
        &[&[0, 0, 0, 0, 1, 1][..], &me].concat(),
    );
    let dhcp6 = frame::udp6((ll, 547), (all, 546), b"dhcp6-server");
    let servers: Ipv6Addr = "ff02::1:2".parse().unwrap();
    let asks6 = |from, data: &[u8]| group(servers, frame::udp6((from, 546), (servers, 547), data));
    let made_up: Ipv6Addr = "fe80::1234:5678:9abc:def0".parse().unwrap();
    // A redirect carries the packet that it is about.
    let about4 = frame::udp4((victim.v4, 1), (mine4, 2), b"about-four");
    let about6 = frame::udp6((victim.v6, 1), (mine6, 2), b"about-six");
    let redirect4 = [&mine4.octets()[..], &about4].concat();
    let redirect6 = [&[0; 4][..], &ll.octets(), &victim.v6.octets(), &about6].concat();
    stage.play(&[
        honest(
            "a DHCP client asks",
            v4(dhcp(1, (nobody, 68), (everyone, 67), me)),
        ),
        forged(
            "… in another's name",
            v4(dhcp(1, (nobody, 68), (everyone, 67), FORGED_MAC)),
        ),
        forged(
            "a DHCP server offers",
            v4(dhcp(2, (mine4, 67), (everyone, 68), victim.mac)),
        ),
        forged(
            "… from nowhere",
            v4(dhcp(2, (nobody, 67), (everyone, 68), [9; 6])),
        ),
        forged("a DHCPv6 server advertises", group(all, dhcp6)),
        honest("a DHCPv6 client asks", asks6(ll, b"dhcp6-own")),
        honest("… from a made-up address", asks6(made_up, b"dhcp6-made")),
        forged(
            "… in the victim's name",
            asks6(victim.link_local, b"dhcp6-theirs"),
        ),
        honest("a host solicits routers", group(routers, solicit)),
        forged(
            "a router advertises itself",
            group(all, frame::router_advertisement(ll, me)),
        ),
        forged(
            "… from its global address",
            group(all, frame::router_advertisement(mine6, me)),
        ),
        forged(
            "… from a made-up address",
            group(all, frame::router_advertisement(made_up, me)),
        ),
        honest("an echo request", to4(8, 0, b"....echo-request-v4")),
        never_forwarded("an ICMP redirect", to4(5, 1, &redirect4)),
        honest(
            "an echo request, v6",
            to6(mine6, 128, b"....echo-request-v6"),
        ),
        forged("an ICMPv6 redirect", to6(ll, 137, &redirect6)),
    ]);
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
