//! Ports of containers against a real kernel, each test on a host of its own.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{container, ip, on_a_host, run, set_sysctl, spec, sysctl, zone};
use zone::{Configure, LinkError, Links, PortState, reap};

const REAPED: u32 = 4711;

fn only_port(links: &mut Links, bridge: &zone::IfName) -> PortState {
    let mut ports = links.ports(bridge).unwrap();
    assert_eq!(ports.len(), 1, "{ports:?}");
    ports.remove(0)
}

#[test]
fn a_port_comes_up_guarded_and_reaches_its_gateway() {
    on_a_host("a_port_comes_up_guarded", || {
        let zone = zone("dmz", "mtu = 1400");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        let (web, spec) = (container(), spec("web", &zone, 2));
        let port = links.create_port(&spec, &web.netns).unwrap();

        let state = only_port(&mut links, &zone.bridge);
        assert!(state.is_guarded() && state.up, "{state:?}");
        assert_eq!(
            (state.ifindex, &state.name),
            (port.ifindex, &port.host_ifname)
        );
        assert_eq!((state.mac, state.group), (spec.host_mac(), 0));
        assert_eq!(sysctl("ipv6/conf/vb-web/disable_ipv6"), "1");
        assert_eq!(sysctl("ipv4/conf/vb-web/rp_filter"), "1");
        assert_eq!(sysctl("ipv4/conf/vb-web/arp_ignore"), "8");
        let fdb = run("bridge", &["fdb", "show", "dev", "vb-web"]);
        assert!(
            fdb.contains(&format!("{} sticky master vz-dmz static", spec.mac)),
            "{fdb}"
        );
        let inside = web.run("ip", &["-d", "link", "show", "host0"]);
        assert!(!inside.contains(",UP"), "up before it is opened: {inside}");
        assert!(inside.contains("numtxqueues 1 numrxqueues 1"), "{inside}");
        assert!(
            inside.contains("mtu 1400") && inside.contains(&spec.mac.to_string()),
            "{inside}"
        );

        links.open_port(&port, &spec, &web.netns).unwrap();
        links.notice_carrier(port.ifindex).unwrap();
        for (family, gateway) in [
            ("-4", zone.gateway4.unwrap().to_string()),
            ("-6", zone.gateway6.unwrap().to_string()),
        ] {
            let said = web.run("ping", &[family, "-c1", "-W5", &gateway]);
            assert!(said.contains(" 1 received"), "{said}");
        }
        let addresses = web.run("ip", &["-br", "address", "show", "host0"]);
        for net in &spec.addresses {
            assert!(
                addresses.contains(&net.to_string()),
                "{net} not in {addresses}"
            );
        }
    });
}

#[test]
fn containers_of_one_zone_meet_at_the_host_only() {
    on_a_host("containers_of_one_zone_meet_at_the_host_only", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        let (a, b) = (container(), container());
        let specs = [spec("a", &zone, 2), spec("b", &zone, 3)];
        for (container, spec) in [&a, &b].into_iter().zip(&specs) {
            let port = links.create_port(spec, &container.netns).unwrap();
            links.open_port(&port, spec, &container.netns).unwrap();
            links.notice_carrier(port.ifindex).unwrap();
        }
        let ping =
            |net: &ipnet::IpNet, wait: &str| a.run("ping", &["-c1", wait, &net.addr().to_string()]);
        let nobody_forwards = ping(&specs[1].addresses[0], "-W1");
        assert!(nobody_forwards.contains(" 0 received"), "{nobody_forwards}");
        links
            .forwarding(std::slice::from_ref(&zone.bridge))
            .unwrap();
        for net in &specs[1].addresses {
            let said = ping(net, "-W5");
            assert!(said.contains(" 1 received"), "{said}");
            // one hop less than it was sent with: it came by way of the host
            assert!(said.contains("ttl=63"), "{said}");
        }
    });
}

#[test]
fn a_client_inside_finds_its_interface_down_and_lo_up() {
    on_a_host("a_client_inside", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        let (web, mut spec) = (container(), spec("web", &zone, 2));
        spec.configure = Configure::Dhcp;
        let port = links.create_port(&spec, &web.netns).unwrap();
        links.open_port(&port, &spec, &web.netns).unwrap();
        links.notice_carrier(port.ifindex).unwrap();
        let inside = web.run("ip", &["-br", "link"]);
        let flags = |name: &str| {
            let line = inside.lines().find(|line| line.starts_with(name)).unwrap();
            line.split('<').nth(1).unwrap().to_owned()
        };
        assert!(flags("lo").contains("UP"), "{inside}");
        assert!(!flags("host0").contains("UP"), "{inside}");
    });
}

#[test]
fn what_fails_leaves_nothing_and_says_why_in_the_kernels_words() {
    on_a_host("what_fails_leaves_nothing", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        let web = container();
        let good = spec("web", &zone, 2);
        let missing = links.create_port(&good, &web.netns).unwrap_err();
        assert!(matches!(missing, LinkError::NoBridge { .. }), "{missing}");
        links.ensure_bridge(&zone).unwrap();

        // at the first step
        let mut huge = good.clone();
        huge.mtu = 70_000;
        let error = links.create_port(&huge, &web.netns).unwrap_err();
        assert!(
            error.to_string().starts_with("add veth vb-web on vz-dmz"),
            "{error}"
        );
        assert_eq!(error.errno(), Some(libc::EINVAL));

        // the name is taken inside
        web.run("ip", &["link", "add", "host0", "type", "bridge"]);
        let error = links.create_port(&good, &web.netns).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
        web.run("ip", &["link", "delete", "host0"]);

        // at the last step on the host: somebody has the full name
        let long = spec("a-name-that-does-not-fit", &zone, 3);
        ip("link add other type bridge");
        ip("link property add dev other altname vb-a-name-that-does-not-fit");
        let error = links.create_port(&long, &web.netns).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("also vb-a-name-that-does-not-fit"),
            "{error}"
        );
        assert_eq!(error.errno(), Some(libc::EEXIST));

        assert_eq!(links.ports(&zone.bridge).unwrap(), []);
        let inside = web.run("ip", &["-br", "link"]);
        assert!(!inside.contains("host0"), "{inside}");

        // at the last step inside
        let mut lost = good.clone();
        lost.gateway6_ll = None;
        lost.gateway4 = Some([192, 0, 2, 1].into());
        let port = links.create_port(&lost, &web.netns).unwrap();
        let error = links.open_port(&port, &lost, &web.netns).unwrap_err();
        let LinkError::Kernel { source, left, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(
            error.to_string().contains("default route via 192.0.2.1"),
            "{error}"
        );
        assert_eq!(source.text.as_deref(), Some("Nexthop has invalid gateway"));
        assert!(left.is_empty(), "{left:?}");
        let inside = web.run("ip", &["address", "show", "host0"]);
        assert!(
            !inside.contains("inet") && !inside.contains(",UP"),
            "{inside}"
        );
        // and once more, as it should be
        links.open_port(&port, &good, &web.netns).unwrap();
        links.notice_carrier(port.ifindex).unwrap();
        let said = web.run("ping", &["-c1", "-W5", &zone.gateway4.unwrap().to_string()]);
        assert!(said.contains(" 1 received"), "{said}");
    });
}

#[test]
fn shortened_names_are_found_by_the_full_one() {
    on_a_host("shortened_names", || {
        let zone = zone("a-zone-with-a-long-name", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        links.ensure_bridge(&zone).unwrap();
        let web = container();
        let spec = spec("0123456789abcdef0123456789abcdef", &zone, 2);
        let port = links.create_port(&spec, &web.netns).unwrap();
        let said = ip("link show vb-0123456789abcdef0123456789abcdef");
        assert!(said.contains(port.host_ifname.as_str()), "{said}");
        assert!(
            said.contains("alias 0123456789abcdef0123456789abcdef"),
            "{said}"
        );
        let said = ip("link show vz-a-zone-with-a-long-name");
        assert!(said.contains(zone.bridge.as_str()), "{said}");
    });
}

#[test]
fn closed_at_once_and_reaped_in_a_group() {
    on_a_host("closed_at_once_and_reaped_in_a_group", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        let containers = [container(), container(), container()];
        let mut ports = Vec::new();
        for (container, number) in containers.iter().zip(2..) {
            let spec = spec(&format!("c{number}"), &zone, number);
            let port = links.create_port(&spec, &container.netns).unwrap();
            links.open_port(&port, &spec, &container.netns).unwrap();
            links.notice_carrier(port.ifindex).unwrap();
            ports.push(port);
        }
        for port in &ports[..2] {
            links.close_port(port.ifindex, REAPED).unwrap();
        }
        let gateway = zone.gateway4.unwrap().to_string();
        let ping = |n: usize| containers[n].run("ping", &["-c1", "-W1", &gateway]);
        assert!(
            !ping(0).contains(" 1 received"),
            "a closed port passes packets"
        );
        assert!(ping(2).contains(" 1 received"));
        let states = links.ports(&zone.bridge).unwrap();
        let closed = states
            .iter()
            .filter(|port| port.group == REAPED && !port.up);
        assert_eq!((states.len(), closed.count()), (3, 2));

        reap(REAPED).unwrap();
        reap(REAPED).unwrap(); // nothing left is as good
        let left = only_port(&mut links, &zone.bridge);
        assert_eq!(left.ifindex, ports[2].ifindex);
        assert!(!containers[0].run("ip", &["-br", "link"]).contains("host0"));
        links.close_port(ports[0].ifindex, REAPED).unwrap(); // gone is closed
        assert!(matches!(reap(0), Err(LinkError::GroupZero)));
        assert!(links.close_port(ports[2].ifindex, 0).is_err());
    });
}

#[test]
fn a_port_is_repaired_when_its_bridge_was_deleted_or_it_was_opened_by_hand() {
    on_a_host("a_port_is_repaired", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        let (web, spec) = (container(), spec("web", &zone, 2));
        let port = links.create_port(&spec, &web.netns).unwrap();
        links.open_port(&port, &spec, &web.netns).unwrap();
        links.notice_carrier(port.ifindex).unwrap();
        let gateway = zone.gateway4.unwrap().to_string();
        let reaches = || {
            let said = web.run("ping", &["-c1", "-W5", &gateway]);
            said.contains(" 1 received")
        };
        assert!(reaches());

        ip("link delete vz-dmz");
        assert!(links.ports(&zone.bridge).unwrap().is_empty());
        assert!(links.repair_port(&spec, port.ifindex).is_err());
        links.ensure_bridge(&zone).unwrap();
        links.repair_port(&spec, port.ifindex).unwrap();
        assert!(only_port(&mut links, &zone.bridge).is_guarded());
        assert!(reaches());

        run(
            "bridge",
            &[
                "link", "set", "dev", "vb-web", "isolated", "off", "locked", "off", "learning",
                "on",
            ],
        );
        run(
            "bridge",
            &[
                "fdb",
                "del",
                &spec.mac.to_string(),
                "dev",
                "vb-web",
                "master",
            ],
        );
        set_sysctl("ipv6/conf/vb-web/disable_ipv6", "0");
        assert!(!only_port(&mut links, &zone.bridge).is_guarded());
        links.repair_port(&spec, port.ifindex).unwrap();
        assert!(only_port(&mut links, &zone.bridge).is_guarded());
        assert_eq!(sysctl("ipv6/conf/vb-web/disable_ipv6"), "1");
        assert!(reaches());

        links.close_port(port.ifindex, REAPED).unwrap();
        reap(REAPED).unwrap();
        let error = links.repair_port(&spec, port.ifindex).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
    });
}

/// Echo requests that the host has taken, of both families.
fn echoes() -> u64 {
    let four = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = four.lines().filter(|line| line.starts_with("Icmp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let column = names
        .split_whitespace()
        .position(|name| name == "InEchos")
        .unwrap();
    let four: u64 = values
        .split_whitespace()
        .nth(column)
        .unwrap()
        .parse()
        .unwrap();
    let six = std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let six = six
        .lines()
        .find_map(|line| line.strip_prefix("Icmp6InEchos"))
        .unwrap();
    four + six.trim().parse::<u64>().unwrap()
}

/// Sends one echo request to each gateway address, in frames to `mac`; tells how many were taken.
fn echoes_taken(web: &common::Container, zone: &zone::Zone, mac: &str) -> u64 {
    let before = echoes();
    let (four, six) = (
        zone.gateway4.unwrap().to_string(),
        zone.gateway6.unwrap().to_string(),
    );
    let next_hop = zone.gateway6_ll().unwrap().to_string();
    for (address, next_hop) in [(&four, &four), (&six, &next_hop)] {
        let neighbour = ["neigh", "replace", next_hop, "lladdr", mac, "dev", "host0"];
        web.run("ip", &[&neighbour[..], &["nud", "permanent"]].concat());
        web.run("ping", &["-c1", "-W1", address]);
    }
    echoes() - before
}

/// A host end as the kernel makes it.
fn loosen(host: &str) {
    set_sysctl(&format!("ipv4/conf/{host}/rp_filter"), "0");
    set_sysctl(
        &format!("ipv4/conf/{host}/drop_unicast_in_l2_multicast"),
        "0",
    );
    set_sysctl(&format!("ipv6/conf/{host}/disable_ipv6"), "0");
}

/// Frames to 01:80:c2:00:00:0x are by default not bridged but handed to the host's stack on the port
/// itself, past the bridge's hooks.
#[test]
fn no_frame_goes_past_the_bridge() {
    on_a_host("no_frame_goes_past_the_bridge", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        let (web, spec) = (container(), spec("web", &zone, 2));
        let port = links.create_port(&spec, &web.netns).unwrap();
        links.open_port(&port, &spec, &web.netns).unwrap();
        links.notice_carrier(port.ifindex).unwrap();
        // Whatever comes by way of the bridge is now dropped, whatever comes by the port is taken.
        set_sysctl("ipv4/conf/vz-dmz/drop_unicast_in_l2_multicast", "1");
        set_sysctl("ipv6/conf/vz-dmz/drop_unicast_in_l2_multicast", "1");
        loosen("vb-web");
        for last in ["00", "03", "0e"] {
            let mac = format!("01:80:c2:00:00:{last}");
            assert_eq!(echoes_taken(&web, &zone, &mac), 0, "{mac}");
        }
        let mask = ["link", "set", "dev", "vb-web", "type", "bridge_slave"];
        run("ip", &[&mask[..], &["group_fwd_mask", "0"]].concat());
        let taken = echoes_taken(&web, &zone, "01:80:c2:00:00:0e");
        assert_eq!(taken, 2, "no positive control");
    });
}

/// A port whose bridge was deleted is an ordinary interface of the host.
#[test]
fn a_port_without_its_bridge_takes_nothing() {
    on_a_host("a_port_without_its_bridge_takes_nothing", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        let (web, spec) = (container(), spec("web", &zone, 2));
        let port = links.create_port(&spec, &web.netns).unwrap();
        links.open_port(&port, &spec, &web.netns).unwrap();
        links.notice_carrier(port.ifindex).unwrap();
        ip("link set vb-web nomaster");
        let mac = spec.host_mac().to_string();
        assert_eq!(echoes_taken(&web, &zone, &mac), 0);
        loosen("vb-web");
        assert_eq!(echoes_taken(&web, &zone, &mac), 2, "no positive control");
    });
}
