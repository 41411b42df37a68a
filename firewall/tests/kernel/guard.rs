//! Nobody may claim to be somebody else; each lie has a truth beside it that passes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use firewall::sets::{Action, group};

use crate::elements::{EGRESS, INGRESS, zone};
use crate::lab::{GATEWAY4, Lab, WORLD4, sh};
use crate::raw::{self, BROADCAST, Mac, Tap, arp, frame, icmp4, icmp6};

const IP4: u16 = 0x0800;
const IP6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const BRIDGE: Mac = [2, 0, 0, 0, 0xff, 0];
const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_millis(1500);

/// The host's side of the bridge sees exactly the frames that the guard lets in.
struct Watch {
    bridge: Tap,
    port: Tap,
}

impl Watch {
    fn new(lab: &Lab) -> Self {
        // The story is about frames from hand-made sources: the gate is not up, rp_filter is off.
        sh("ip link set vz-a promisc on");
        Self {
            bridge: Tap::here("vz-a"),
            port: Tap::open(&lab.c(1).ns, "host0"),
        }
    }

    /// Sends a frame with a tag at its end from container 1; tells whether the bridge passed it up.
    fn passes(&self, mut bytes: Vec<u8>, patience: Duration) -> bool {
        self.bridge.drain();
        let tag = format!("tag{:p}", bytes.as_ptr());
        bytes.extend(tag.as_bytes());
        self.port.send(&bytes);
        self.bridge.sees(tag.as_bytes(), patience)
    }

    fn truth(&self, what: &str, bytes: Vec<u8>) {
        assert!(self.passes(bytes, LONG), "dropped: {what}");
    }

    fn lie(&self, what: &str, bytes: Vec<u8>) {
        assert!(!self.passes(bytes, SHORT), "let in: {what}");
    }
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn hardware_and_ipv4_addresses() {
    let Some(lab) = Lab::new() else { return };
    let watch = Watch::new(&lab);
    let me = lab.c(1);
    let udp = |from, to| raw::udp(from, 9, to, 9, b"x");
    let world = addr(WORLD4);
    watch.truth("its own", frame(BRIDGE, me.mac, IP4, &udp(me.ip4, world)));
    watch.lie(
        "another's MAC",
        frame(BRIDGE, lab.c(2).mac, IP4, &udp(me.ip4, world)),
    );
    watch.lie(
        "another's address",
        frame(BRIDGE, me.mac, IP4, &udp(lab.c(2).ip4, world)),
    );
    watch.lie(
        "the gateway's",
        frame(BRIDGE, me.mac, IP4, &udp(addr(GATEWAY4[0]), world)),
    );
    watch.lie(
        "the world's",
        frame(BRIDGE, me.mac, IP4, &udp(world, me.ip4)),
    );
    watch.lie(
        "loopback",
        frame(
            BRIDGE,
            me.mac,
            IP4,
            &udp(addr("127.0.0.1"), addr("127.0.0.1")),
        ),
    );
    watch.lie(
        "nobody",
        frame(BRIDGE, me.mac, IP4, &udp(addr("0.0.0.0"), world)),
    );
    // Other frames.
    watch.lie("another ethertype", frame(BRIDGE, me.mac, 0x88cc, &[0; 46]));
    watch.lie(
        "spanning tree",
        frame([1, 0x80, 0xc2, 0, 0, 0], me.mac, 38, &[0x42, 0x42, 3, 0]),
    );
    let tagged = [&[0, 1][..], &IP4.to_be_bytes(), &udp(me.ip4, world)].concat();
    watch.lie("a VLAN tag", frame(BRIDGE, me.mac, 0x8100, &tagged));
}

#[test]
fn arp_sender_fields() {
    let Some(lab) = Lab::new() else { return };
    let watch = Watch::new(&lab);
    let me = lab.c(1);
    let (mine, theirs, gateway) = (v4("10.99.0.11"), v4("10.99.0.12"), v4(GATEWAY4[0]));
    let other = lab.c(2).mac;
    let send = |body: Vec<u8>| frame(BROADCAST, me.mac, ARP, &body);
    for op in [1, 2] {
        watch.truth("its own", send(arp(op, me.mac, mine, gateway)));
        watch.lie("another's address", send(arp(op, me.mac, theirs, gateway)));
        watch.lie(
            "the gateway's address",
            send(arp(op, me.mac, gateway, theirs)),
        );
        watch.lie("another's MAC", send(arp(op, other, mine, gateway)));
        watch.lie(
            "a foreign frame",
            frame(BROADCAST, other, ARP, &arp(op, me.mac, mine, gateway)),
        );
    }
    watch.truth("a probe", send(arp(1, me.mac, v4("0.0.0.0"), mine)));
    watch.lie(
        "a probe for another MAC",
        send(arp(1, other, v4("0.0.0.0"), mine)),
    );
    watch.lie(
        "an answer of nobody",
        send(arp(2, me.mac, v4("0.0.0.0"), mine)),
    );
    watch.lie("another operation", send(arp(3, me.mac, mine, gateway)));
}

#[test]
fn ipv6_sources_and_neighbour_discovery() {
    let Some(lab) = Lab::new() else { return };
    let watch = Watch::new(&lab);
    let me = lab.c(1);
    let local: IpAddr = zone::MacAddr(me.mac).link_local().into();
    let other: IpAddr = zone::MacAddr(lab.c(2).mac).link_local().into();
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let to = group6(all);
    fn group6(a: Ipv6Addr) -> Mac {
        raw::group6(a)
    }
    let all = IpAddr::V6(all);
    let send = |packet: Vec<u8>| frame(to, me.mac, IP6, &packet);
    let octets = |a: IpAddr| match a {
        IpAddr::V6(a) => a.octets(),
        IpAddr::V4(_) => [0; 16],
    };
    // Type 135 (solicitation) or 136 (advertisement) with a target and an option.
    let nd = |from, kind, target, option: Option<(u8, Mac)>| {
        let mut rest = vec![0; 4];
        rest.extend(octets(target));
        if let Some((kind, mac)) = option {
            rest.extend([kind, 1]);
            rest.extend(mac);
        }
        icmp6(from, all, kind, &rest)
    };
    let udp = |from| raw::udp(from, 9, all, 9, b"x");
    watch.truth("its own", send(udp(me.ip6)));
    watch.truth("its link-local", send(udp(local)));
    watch.lie("another's", send(udp(lab.c(2).ip6)));
    watch.lie("another's link-local", send(udp(other)));
    watch.lie(
        "the gateway's link-local",
        send(udp(addr("fe80::ff:fe00:ff00"))),
    );
    watch.lie("nobody", send(udp(addr("::"))));
    watch.lie(
        "a foreign frame",
        frame(to, lab.c(2).mac, IP6, &udp(me.ip6)),
    );

    let (gateway, theirs) = (addr("fd99::1"), lab.c(2).ip6);
    watch.truth("solicits", send(nd(local, 135, gateway, Some((1, me.mac)))));
    watch.truth("solicits bare", send(nd(me.ip6, 135, gateway, None)));
    watch.lie(
        "solicits for another",
        send(nd(theirs, 135, gateway, Some((1, me.mac)))),
    );
    watch.lie(
        "with another's MAC",
        send(nd(local, 135, gateway, Some((1, lab.c(2).mac)))),
    );
    watch.lie(
        "with another option",
        send(nd(local, 135, gateway, Some((5, me.mac)))),
    );
    watch.truth("looks for itself", send(nd(addr("::"), 135, me.ip6, None)));
    watch.lie("looks for another", send(nd(addr("::"), 135, theirs, None)));
    watch.truth(
        "advertises",
        send(nd(me.ip6, 136, me.ip6, Some((2, me.mac)))),
    );
    watch.lie(
        "advertises another",
        send(nd(me.ip6, 136, theirs, Some((2, me.mac)))),
    );
    watch.lie(
        "advertises the gateway",
        send(nd(local, 136, gateway, None)),
    );
    watch.lie(
        "another's MAC",
        send(nd(me.ip6, 136, me.ip6, Some((2, lab.c(2).mac)))),
    );

    watch.truth("asks for routers", send(icmp6(local, all, 133, &[0; 4])));
    watch.lie("is a router", send(icmp6(local, all, 134, &[0; 12])));
    watch.lie("redirects", send(icmp6(local, all, 137, &[0; 36])));
    watch.lie("queries groups", send(icmp6(local, all, 130, &[0; 20])));
    watch.truth("reports groups", send(icmp6(local, all, 143, &[0; 4])));
    watch.truth(
        "reports as nobody",
        send(icmp6(addr("::"), all, 143, &[0; 4])),
    );
}

#[test]
fn dhcp_clients_only_and_for_themselves() {
    let Some(lab) = Lab::new() else { return };
    let watch = Watch::new(&lab);
    let me = lab.c(1);
    let message = |mac: Mac| {
        let mut body = vec![0; 240];
        body[..4].copy_from_slice(&[1, 1, 6, 0]);
        body[28..34].copy_from_slice(&mac);
        body
    };
    let (nobody, everybody) = (addr("0.0.0.0"), addr("255.255.255.255"));
    let discover = |mac| raw::udp(nobody, 68, everybody, 67, &message(mac));
    watch.truth(
        "discovers",
        frame(BROADCAST, me.mac, IP4, &discover(me.mac)),
    );
    watch.lie(
        "for another",
        frame(BROADCAST, me.mac, IP4, &discover(lab.c(2).mac)),
    );
    watch.lie(
        "by another",
        frame(BROADCAST, lab.c(2).mac, IP4, &discover(me.mac)),
    );
    let gateway = addr(GATEWAY4[0]);
    let renew = |mac| raw::udp(me.ip4, 68, gateway, 67, &message(mac));
    watch.truth("renews", frame(BRIDGE, me.mac, IP4, &renew(me.mac)));
    watch.lie(
        "renews for another",
        frame(BRIDGE, me.mac, IP4, &renew(lab.c(2).mac)),
    );
    // Too short to tell: the check must not be passed over.
    let short = raw::udp(me.ip4, 68, gateway, 67, b"");
    let short = frame(BRIDGE, me.mac, IP4, &short);
    watch.bridge.drain();
    watch.port.send(&short);
    assert!(!watch.bridge.sees(&short[14..42], SHORT));
    let serves = raw::udp(me.ip4, 67, everybody, 68, &message(lab.c(2).mac));
    watch.lie("serves", frame(BROADCAST, me.mac, IP4, &serves));
    let six = raw::udp(me.ip6, 547, addr("ff02::1"), 546, b"x");
    watch.lie(
        "serves v6",
        frame(raw::group6("ff02::1".parse().unwrap()), me.mac, IP6, &six),
    );
    // A flood is cut off.
    let mut passed = 0;
    for _ in 0..400 {
        watch
            .port
            .send(&frame(BROADCAST, me.mac, IP4, &discover(me.mac)));
    }
    while watch.bridge.sees(&me.mac, SHORT) {
        passed += 1;
    }
    assert!((50..=200).contains(&passed), "{passed}");
}

#[test]
fn no_bridge_shortcut_even_for_ports_that_are_not_isolated() {
    let Some(mut lab) = Lab::new() else { return };
    sh("bridge link set dev vb-c1 isolated off; bridge link set dev vb-c2 isolated off");
    let c2 = Tap::open(&lab.c(2).ns, "host0");
    let c1 = Tap::open(&lab.c(1).ns, "host0");
    let (from, to) = (lab.c(1), lab.c(2));
    let packet = raw::udp(from.ip4, 9, to.ip4, 9, b"across");
    let direct = frame(to.mac, from.mac, IP4, &packet);
    c1.send(&direct);
    c1.send(&frame(
        BROADCAST,
        from.mac,
        ARP,
        &arp(1, from.mac, v4("10.99.0.11"), v4("10.99.0.12")),
    ));
    assert!(!c2.sees(b"across", SHORT) && !c2.sees(&from.mac, SHORT));
    // Without the tables it goes straight across: the test can fail.
    lab.tables.remove().unwrap();
    c1.send(&direct);
    assert!(c2.sees(b"across", LONG));
}

#[test]
fn frames_that_the_bridge_hands_up_on_the_port_reach_nobody() {
    let Some(mut lab) = Lab::new() else { return };
    sh(
        "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/vb-c1/rp_filter",
    );
    let me = lab.c(1);
    let listener = std::net::UdpSocket::bind("0.0.0.0:9999").unwrap();
    listener
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let tap = Tap::open(&me.ns, "host0");
    // A source of its own, of another, and of nowhere, to a host address, around the guard.
    let send = || {
        for source in ["10.99.0.11", "10.99.0.12", "203.0.113.7"] {
            let packet = raw::udp(addr(source), 9, addr("192.0.2.1"), 9999, b"hello");
            tap.send(&frame([1, 0x80, 0xc2, 0, 0, 0x0e], me.mac, IP4, &packet));
        }
    };
    let mut buffer = [0; 16];
    send();
    assert!(listener.recv(&mut buffer).is_err());
    lab.tables.remove().unwrap();
    let tap = Tap::open(&lab.c(1).ns, "host0");
    let packet = raw::udp(addr("203.0.113.7"), 9, addr("192.0.2.1"), 9999, b"hello");
    tap.send(&frame(
        [1, 0x80, 0xc2, 0, 0, 0x0e],
        lab.c(1).mac,
        IP4,
        &packet,
    ));
    assert!(listener.recv(&mut buffer).is_ok(), "the way around exists");
}

#[test]
fn a_zones_address_from_outside_is_dropped() {
    let Some(mut lab) = Lab::new() else { return };
    sh(
        "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/up0/rp_filter",
    );
    let mut rules = lab.c(1).group(INGRESS, Action::Allow, group::ANY, None);
    rules.extend(lab.c(2).group(EGRESS, Action::Allow, zone(0), None));
    lab.add(rules);
    let inside = Tap::open(&lab.c(1).ns, "host0");
    let outside = Tap::open(&lab.world, "out0");
    let up: String = sh("ip -o link show up0 | sed 's/.*ether //;s/ .*//'");
    let mac: zone::MacAddr = up.trim().parse().unwrap();
    let send = |from: IpAddr, to: IpAddr, data: &[u8]| {
        let kind = if from.is_ipv4() { IP4 } else { IP6 };
        outside.send(&frame(
            mac.0,
            [2, 9, 9, 9, 9, 9],
            kind,
            &raw::udp(from, 9, to, 9, data),
        ));
    };
    send(lab.c(2).ip4, lab.c(1).ip4, b"lie-four");
    send(lab.c(2).ip6, lab.c(1).ip6, b"lie-six!");
    assert!(!inside.sees(b"lie-four", SHORT) && !inside.sees(b"lie-six!", SHORT));
    send(addr(WORLD4), lab.c(1).ip4, b"truth-four");
    send(addr("2001:db8:1::2"), lab.c(1).ip6, b"truth-six!");
    assert!(inside.sees(b"truth-four", LONG));
    send(addr("2001:db8:1::2"), lab.c(1).ip6, b"truth-six!");
    assert!(inside.sees(b"truth-six!", LONG));
}

#[test]
fn an_icmp_id_does_not_pass_for_a_type() {
    let Some(mut lab) = Lab::new() else { return };
    let mut rules = Vec::new();
    for (n, d) in [(1, EGRESS), (2, INGRESS)] {
        // Echo requests only: type 8 in the place of a port.
        rules.extend(lab.c(n).group(d, Action::Allow, zone(0), Some((1, 8 << 8))));
    }
    lab.add(rules);
    let (from, to) = (lab.c(1), lab.c(2));
    let tap = Tap::open(&from.ns, "host0");
    let inside = Tap::open(&to.ns, "host0");
    let send = |kind, id| {
        inside.drain();
        let packet = icmp4(from.ip4, to.ip4, kind, id);
        tap.send(&frame(BRIDGE, from.mac, IP4, &packet));
        // Type, code, checksum and id are unchanged on the way.
        inside.sees(&packet[20..28], SHORT)
    };
    assert!(send(8, 77) && send(8, 0x0800));
    assert!(!send(13, 77) && !send(13, 0x0800) && !send(13, 0x0008));
}

#[test]
fn zones_do_not_reach_the_hosts_loopback() {
    let Some(mut lab) = Lab::new() else { return };
    let me = lab.c(1);
    let mut rules = me.open();
    rules.extend(me.publish(Some("127.0.0.1"), 9998, 80));
    rules.extend(me.range(EGRESS, Action::Allow, "127.0.0.0/8", 17, (0, 65535)));
    lab.add(rules);
    let listener = std::net::UdpSocket::bind("0.0.0.0:9999").unwrap();
    listener
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let tap = Tap::open(&lab.c(1).ns, "host0");
    let send = |to, data: &[u8]| {
        let packet = raw::udp(lab.c(1).ip4, 9, addr(to), 9999, data);
        tap.send(&frame(BRIDGE, lab.c(1).mac, IP4, &packet));
    };
    let mut buffer = [0; 16];
    send("127.0.0.1", b"lie");
    assert!(listener.recv(&mut buffer).is_err());
    send("192.0.2.1", b"truth");
    assert_eq!(listener.recv(&mut buffer).unwrap(), 5);
    // Nor what is published there.
    let target = Tap::open(&lab.c(1).ns, "host0");
    let packet = raw::tcp_syn(lab.c(1).ip4, 7, addr("127.0.0.1"), 9998);
    tap.send(&frame(BRIDGE, lab.c(1).mac, IP4, &packet));
    assert!(!target.sees(&[0, 7, 0, 80], SHORT));
}
