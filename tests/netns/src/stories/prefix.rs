//! A prefix for each container (RFC 8273): the kernel's own addresses in it, privacy addresses among them, are the
//! container; and nobody else's are.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::net::clients::CLIENTS6;
use crate::net::frame::{self, IPV6};
use crate::net::netns::{Netns, run};
use crate::net::probe;
use crate::net::raw::PacketSocket;
use crate::net::server::Server;
use crate::world::{Container, World};

/// Waits until a script prints something that is wanted.
#[track_caller]
fn until(run: impl Fn() -> String, wanted: impl Fn(&str) -> bool) -> String {
    let started = Instant::now();
    loop {
        let said = run();
        if wanted(&said) {
            return said;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A zone with prefixes, and one that is too narrow for them.
fn zones(world: &World, default: &str) {
    for (name, subnet) in [("wide", "fd66:1:2::/48"), ("narrow", "fd66:9:9:9::/64")] {
        let zone = world.zone(name).option("--subnet6", subnet);
        zone.default(default).create();
    }
}

/// The kernel's client inside makes addresses; the one that it speaks from is returned.
#[track_caller]
fn autoconfigured(inside: &Container) -> Ipv6Addr {
    inside.sh(
        "cd /proc/sys/net/ipv6/conf/host0; echo 1 >accept_ra; echo 1 >autoconf; echo 2 >use_tempaddr; \
         ip link set host0 up",
    );
    let list = || inside.sh("ip -6 -o addr show dev host0 temporary -tentative");
    let said = until(list, |said| said.contains("temporary"));
    until(
        || inside.sh("ip -6 route"),
        |routes| routes.contains("default via fe80::"),
    );
    let word = said.split_whitespace().nth(3).unwrap();
    word.split('/').next().unwrap().parse().unwrap()
}

fn prefix(address: Ipv6Addr) -> u64 {
    (u128::from(address) >> 64) as u64
}

/// An address in the prefix of another one.
fn beside(address: Ipv6Addr, number: u64) -> Ipv6Addr {
    (u128::from(prefix(address)) << 64 | u128::from(number)).into()
}

#[track_caller]
fn passes(from: &Container, to: Ipv6Addr, who: &str, source: Ipv6Addr) {
    let started = Instant::now();
    loop {
        let out = from.tcp(to, 80);
        if out.who() == who {
            assert_eq!(out.source(), Some(source.into()), "{out:?}");
            return;
        }
        // link-local addresses that are seconds old are still looked at for duplicates
        let late = started.elapsed() > Duration::from_secs(10);
        assert!(!late, "{} to {to}: {out:?}", from.name);
    }
}

pub fn privacy_addresses_are_the_container() {
    let world = World::new("prefix-slaac");
    zones(&world, "deny");
    let one = world.container("one").in_zone("wide").dhcp();
    let one = one.label("tier", "front").start();
    let web = world.container("web").in_zone("wide").start();
    let far = world.container("far").in_zone("narrow").start();
    let other = world.container("other").in_zone("wide").start();
    let private = autoconfigured(&one);
    assert_eq!(prefix(private), prefix(one.v6()));
    assert_ne!(private, one.v6());
    assert_ne!(prefix(web.v6()), prefix(one.v6()));
    assert_ne!(prefix(web.v6()), prefix(far.v6()));
    // nothing is on-link, and the main address is not taken for one of its own making
    let routes = one.sh("ip -6 route");
    assert!(
        !routes.contains("/64 dev host0 proto kernel metric 256 expires"),
        "{routes}"
    );
    assert!(!one.tcp(web.v6(), 80).passed());
    // by name, by label, by zone: as source and as destination, in both kinds of zones
    world.policy(
        "one",
        "[[egress]]\nto = [\"container:web\", \"zone:narrow\", \"world\"]\nports = [\"tcp/80\"]\n\
         [[ingress]]\nfrom = [\"zone:wide\", \"container:far\"]\nports = [\"tcp/80-81\"]\n\
         [[ingress]]\naction = \"deny\"\nfrom = [\"container:other\"]\n",
    );
    world.policy(
        "web",
        "[[ingress]]\nfrom = [\"container:one\"]\nports = [\"tcp/1-80\"]\n[[egress]]\n",
    );
    world.policy("far", "[[ingress]]\nfrom = [\"label:tier=front\"]\nrate = \"500/second\"\n[[egress]]\nto = [\"container:one\"]\n");
    world.policy("other", "[[egress]]\n");
    world.netd("reload").ok();
    let check = || {
        passes(&one, web.v6(), "web", private);
        passes(&one, far.v6(), "far", private);
        assert!(one.tcp(far.v6(), 81).turned_away(), "port 81");
        assert!(one.tcp(other.v6(), 80).turned_away(), "nobody said other");
        for to in [private, one.v6(), beside(one.v6(), 0x77)] {
            // the last one is nobody's inside: the packets arrive there all the same
            if to == beside(one.v6(), 0x77) {
                one.sh(&format!("ip addr replace {to}/128 dev host0 nodad"));
            }
            if to == one.v6() {
                one.sh(&format!("ip addr replace {to}/128 dev host0 nodad"));
            }
            passes(&web, to, "one", web.v6());
            passes(&far, to, "one", far.v6());
            assert!(other.tcp(to, 80).turned_away(), "{to}: a deny wins");
        }
        one.sh(&format!(
            "ip addr del {}/128 dev host0",
            beside(one.v6(), 0x77)
        ));
        one.sh(&format!("ip addr del {}/128 dev host0", one.v6()));
    };
    check();
    // the host and the world see it, behind the host's address as before
    let out = one.tcp("2001:db8:1::2".parse::<IpAddr>().unwrap(), 80);
    assert_eq!(
        out.source(),
        Some("2001:db8:1::1".parse().unwrap()),
        "{out:?}"
    );
    // what explains itself knows who that is
    let said = world
        .netd(&format!("explain {private} web tcp/80 --json"))
        .json();
    assert_eq!(said["verdict"], "allow", "{said}");
    let said = world.netd(&format!("explain other {private} tcp/80 --json"));
    assert_eq!(said.code, 10, "{said}");
    // its resolver knows who asks, and whose address it is
    let gateway = world.netd("zone show wide --json").json()["gateway6"].clone();
    let asked = format!(
        "dig +short +tries=3 @{} -x {private}",
        gateway.as_str().unwrap()
    );
    assert_eq!(one.sh(&asked).trim(), "one.wide.internal.");
    world.restart_netd();
    check();
    let listed = world.sh("nft list ruleset");
    assert!(listed.contains("ffff:ffff:ffff:ffff::"), "nft lists it");
    // an address by network stays what it is
    world.policy(
        "web",
        &format!("[[ingress]]\nfrom = [\"{private}\"]\n[[egress]]\n"),
    );
    world.netd("reload").ok();
    passes(&one, web.v6(), "web", private);
    world.policy(
        "web",
        &format!("[[ingress]]\nfrom = [\"{}\"]\n[[egress]]\n", one.v6()),
    );
    world.netd("reload").ok();
    assert!(one.tcp(web.v6(), 80).turned_away());
}

pub fn nobody_uses_anothers_prefix() {
    let world = World::new("prefix-spoof");
    zones(&world, "allow");
    let victim = world.container("victim").in_zone("wide").start();
    let mallory = world.container("mallory").in_zone("wide").start();
    let own = beside(mallory.v6(), 0x1234);
    let theirs = [
        beside(victim.v6(), 0x1234),
        victim.v6(),
        "fd66:1:2::1".parse().unwrap(),
        "fd66:1:2::77".parse().unwrap(),
        // nobody's yet, and what is kept for delegation
        "fd66:1:2:99::1".parse().unwrap(),
        "fd66:1:2:c000::1".parse().unwrap(),
        "fd66:9:9:9::77".parse().unwrap(),
    ];
    let speaks_from = |address: Ipv6Addr| {
        mallory.sh(&format!(
            "ip addr add {address}/128 dev host0 nodad; \
             ip -6 route replace fd66:1:2:2::/62 via $(ip -6 route show default | cut -d' ' -f3) dev host0 src {address}; \
             ip -6 route replace {}/128 via $(ip -6 route show default | cut -d' ' -f3) dev host0 src {address}",
            victim.v6()
        ));
        let out = mallory.tcp(victim.v6(), 80);
        mallory.sh(&format!("ip addr del {address}/128 dev host0"));
        out
    };
    let out = speaks_from(own);
    assert_eq!(out.source(), Some(own.into()), "{out:?}");
    for address in theirs.into_iter().filter(|a| *a != victim.v6()) {
        let out = speaks_from(address);
        assert!(!out.passed(), "{address}: {out:?}");
    }
    // neighbour discovery: the host notes whoever solicits it, and is told no lies
    let gateway: Ipv6Addr = "fd66:1:2::1".parse().unwrap();
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let me = mallory.mac();
    let ask = |source: Ipv6Addr| {
        let asks = frame::solicitation(source, all, gateway, me);
        frame::ethernet(frame::group_mac(all), me, IPV6, &asks)
    };
    let neighbours = || world.sh("ip -6 neigh show dev vz-wide");
    let send = |frames: Vec<Vec<u8>>| {
        let send = || {
            let socket = PacketSocket::open("host0").unwrap();
            frames.iter().for_each(|frame| socket.send(frame).unwrap());
        };
        mallory.netns.enter(send);
    };
    send(theirs.map(ask).to_vec());
    send(vec![ask(own)]);
    let said = until(neighbours, |said| said.contains(&own.to_string()));
    let mine = mallory.sh("cat /sys/class/net/host0/address 2>/dev/null || ip -o link show host0");
    let words: Vec<&str> = mine.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "link/ether");
    let mine = at.map_or(words[0], |at| words[at + 1]);
    for line in said.lines().filter(|line| line.contains(mine)) {
        let noted: Ipv6Addr = line.split(' ').next().unwrap().parse().unwrap();
        let known = [own, mallory.v6(), mallory.link_local()];
        assert!(known.contains(&noted), "{line}\n{said}");
    }
    // thousands of addresses of its own, and made-up link-local ones: few are noted, and the resolver, the
    // gateway's echo and refusals are limited for all of them together
    let mac = frame::mac(world.sh("cat /sys/class/net/vz-wide/address").trim());
    let many = |number: u64| {
        let private = beside(own, 0x1_0000 + number);
        let made_up = Ipv6Addr::from(0xfe80u128 << 112 | u128::from(0x7777_0000_0000 + number));
        let echo = |from| {
            let echo = frame::icmp6(from, gateway, 128, 0, &[0, 1, 0, 1]);
            frame::ethernet(mac, me, IPV6, &echo)
        };
        vec![ask(private), ask(made_up), echo(private), echo(made_up)]
    };
    let frames: Vec<_> = (0..300).flat_map(many).collect();
    for _ in 0..3 {
        send(frames.clone());
    }
    let noted = neighbours().lines().count();
    assert!(noted < 200, "{noted} neighbours");
    let metered = world.sh("nft list set inet netd rate_echo6");
    assert!(metered.matches("limit rate").count() <= 2, "{metered}");
    // nobody else is the worse for it
    let out = victim.tcp(beside(mallory.v6(), 1), 80);
    assert_eq!(out.who(), "mallory", "{out:?}");
}

/// What leads to a prefix is there while the container is, and no longer.
pub fn ways_come_and_go() {
    let world = World::new("prefix-ways");
    zones(&world, "allow");
    let ways = || {
        // the bridge may just be gone
        let routes = world.sh("ip -6 route show dev vz-wide proto 110 2>/dev/null || true");
        let neighbours = world.sh("ip -6 neigh show dev vz-wide nud permanent 2>/dev/null || true");
        routes.lines().count() + neighbours.lines().filter(|l| l.contains("lladdr")).count()
    };
    let before = ways();
    let one = world.container("one").in_zone("wide").start();
    let two = world.container("two").in_zone("wide").start();
    assert_eq!(ways(), before + 4, "a route and a neighbour each");
    let reaches = |address: Ipv6Addr| {
        let started = Instant::now();
        while two.tcp(address, 80).who() != "one" {
            assert!(started.elapsed() < Duration::from_secs(10), "{address}");
        }
    };
    let other = beside(one.v6(), 0x99);
    one.sh(&format!("ip addr add {other}/128 dev host0 nodad"));
    reaches(other);
    for harm in [
        "ip -6 route flush proto 110",
        "ip -6 neigh flush dev vz-wide nud permanent",
        "ip link set vz-wide down",
        "ip link del vz-wide",
    ] {
        world.sh(harm);
        let started = Instant::now();
        while ways() != before + 4 {
            let late = started.elapsed() > Duration::from_secs(10);
            assert!(
                !late,
                "{harm}: {}",
                world.sh("ip -6 route; ip -6 neigh show nud permanent")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        reaches(other);
    }
    // while no daemon runs, one goes, and what led to another is taken away
    world.kill_netd();
    let name = one.netns.clone();
    two.sh("true");
    world.sh(&format!("ip -6 route del {}/64", beside(two.v6(), 0)));
    name.remove();
    world.sh("ip link del vb-one 2>/dev/null || true");
    world.start_netd();
    assert_eq!(ways(), before + 2, "two's alone");
    two.detach();
    assert_eq!(ways(), before, "none");
    let neighbours = world.sh("ip -6 neigh show dev vz-wide nud permanent");
    assert!(!neighbours.contains("lladdr"), "{neighbours}");
}

/// Runs a DHCPv6 client inside, in private folders, that asks for prefixes.
#[track_caller]
fn dhclient(world: &World, inside: &Container, script: &str) -> String {
    let client = &CLIENTS6[0];
    let script = format!(
        "mount --bind {} /var/lib/dhcp; {script}",
        world.folder("leases").display()
    );
    let mut command = client.command(&world.dir, &script);
    inside.netns.enter(|| run(&mut command)).ok()
}

/// What `netd lease list` says of the prefixes of a container.
fn delegated(world: &World, name: &str) -> Vec<String> {
    let leases = world.netd("lease list --json").json();
    let leases = leases.as_array().unwrap().iter();
    let own = leases.filter(|l| l["kind"] == "delegated" && l["container"] == name);
    own.map(|l| l["address"].as_str().unwrap().to_owned())
        .collect()
}

/// A container that routes for others is delegated a prefix: what is in it is the container.
pub fn a_nested_zone_has_a_delegated_prefix() {
    let world = World::new("prefix-pd");
    zones(&world, "egress");
    std::fs::create_dir_all(world.folder("leases")).unwrap();
    let router = world.container("router").in_zone("wide").start();
    let web = world.container("web").in_zone("wide").start();
    let mallory = world.container("mallory").in_zone("wide").start();
    let poor = world.container("poor").in_zone("narrow").start();
    world.policy(
        "web",
        "[[ingress]]\nfrom = [\"container:router\"]\n[[egress]]\nto = [\"container:router\"]\n",
    );
    world.policy("router", "[[egress]]\nto = [\"container:web\", \"world\"]\n[[ingress]]\nfrom = [\"container:web\"]\nports = [\"tcp/80\"]\n");
    world.policy("mallory", "[[egress]]\n");
    world.netd("reload").ok();
    let wait =
        "until ip -6 addr show dev host0 scope link -tentative | grep -q fe80; do sleep .1; done";
    let ask = format!(
        "{wait}; dhclient -6 -P -1 -v -lf /var/lib/dhcp/l -pf /var/lib/dhcp/pid host0 && \
         until [ -s /var/lib/dhcp/pid ]; do sleep .1; done; kill $(cat /var/lib/dhcp/pid)"
    );
    dhclient(&world, &router, &ask);
    let prefixes = delegated(&world, "router");
    assert_eq!(prefixes.len(), 1, "{prefixes:?}");
    assert!(
        prefixes[0].starts_with("fd66:1:2:c") && prefixes[0].ends_with("/64"),
        "{prefixes:?}"
    );
    let first: Ipv6Addr = prefixes[0].trim_end_matches("/64").parse().unwrap();
    let (inner, leaf) = (beside(first, 1), beside(first, 0x1eaf));
    // a zone of its own, as another netd would make it
    let nested = Netns::create("leaf");
    router.sh(&format!(
        "ip link add in0 type veth peer name host0 netns {}; ip addr add {inner}/64 dev in0 nodad; \
         ip link set in0 up; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
        nested.path().display()
    ));
    nested.sh(&format!(
        "ip link set lo up; ip link set host0 up; ip addr add {leaf}/64 dev host0 nodad; \
         ip -6 route add default via {inner}"
    ));
    let _server = Server::start(&nested, "leaf", &["tcp/80".to_owned(), "tcp/81".to_owned()]);
    let from_leaf = |to: IpAddr| {
        let started = Instant::now();
        loop {
            let out = probe::probe(&nested, to, "tcp/80");
            if out.passed() || started.elapsed() > Duration::from_secs(5) {
                return out;
            }
        }
    };
    let check = || {
        let out = from_leaf(web.v6().into());
        assert_eq!(
            (out.who(), out.source()),
            ("web", Some(leaf.into())),
            "{out:?}"
        );
        // judged as the container: nobody else let it in, and it is let in where the container is
        assert!(!probe::probe(&nested, mallory.v6().into(), "tcp/80").passed());
        let out = web.tcp(leaf, 80);
        assert_eq!(
            (out.who(), out.source()),
            ("leaf", Some(web.v6().into())),
            "{out:?}"
        );
        assert!(!web.tcp(leaf, 81).passed());
        assert!(!mallory.tcp(leaf, 80).passed());
        // private, so translated on the way out
        let out = from_leaf("2001:db8:1::2".parse().unwrap());
        assert_eq!(
            out.source(),
            Some("2001:db8:1::1".parse().unwrap()),
            "{out:?}"
        );
        let said = world
            .netd(&format!("explain {leaf} web tcp/80 --json"))
            .json();
        assert_eq!(said["verdict"], "allow", "{said}");
    };
    check();
    // nobody else's
    mallory.sh(&format!(
        "ip addr add {}/128 dev host0 nodad",
        beside(first, 0xbad)
    ));
    let from = format!(
        "ip -6 route replace {}/128 via $(ip -6 route show default | cut -d' ' -f3) dev host0 src {}",
        web.v6(),
        beside(first, 0xbad)
    );
    mallory.sh(&from);
    let out = mallory.tcp(web.v6(), 80);
    assert!(
        !out.passed() && !out.turned_away(),
        "the guard drops it: {out:?}"
    );
    world.restart_netd();
    assert_eq!(delegated(&world, "router"), prefixes);
    check();
    world.kill_netd();
    world.start_netd();
    check();
    // a narrow zone has none to delegate
    let said = dhclient(
        &world,
        &poor,
        "until ip -6 addr show dev host0 scope link -tentative | grep -q fe80; do sleep .1; done; timeout 4 dhclient -6 -P -1 -v -d -lf /var/lib/dhcp/poor -pf /var/lib/dhcp/poor.pid host0 2>&1; true",
    );
    assert!(delegated(&world, "poor").is_empty(), "{said}");
    // given back, it leads nowhere
    dhclient(
        &world,
        &router,
        "dhclient -6 -P -r -v -lf /var/lib/dhcp/l -pf /var/lib/dhcp/pid host0",
    );
    assert!(delegated(&world, "router").is_empty());
    let routes = world.sh("ip -6 route show dev vz-wide proto 110");
    assert!(!routes.contains("fd66:1:2:c"), "{routes}");
    assert!(!probe::probe(&nested, web.v6().into(), "tcp/80").passed());
    // the others have theirs
    assert_eq!(routes.lines().count(), 3, "{routes}");
    nested.remove();
}
