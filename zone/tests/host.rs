//! What netd does to the host itself, against a real kernel, each test on a host of its own.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{container, ip, on_a_host, run, set_sysctl, spec, sysctl, zone};
use zone::{Forwarding, LinkError, LinkEvent, Links, Monitor, Netns};

#[test]
fn a_bridge_is_made_and_made_right_again() {
    on_a_host("a_bridge_is_made", || {
        let dmz = zone("dmz", "");
        let mut links = Links::open().unwrap();
        let index = links.ensure_bridge(&dmz).unwrap();
        let expected = [
            ("ipv4/conf/vz-dmz/proxy_arp_pvlan", "1"),
            ("ipv4/conf/vz-dmz/send_redirects", "0"),
            ("ipv4/conf/vz-dmz/accept_redirects", "0"),
            ("ipv4/conf/vz-dmz/route_localnet", "1"),
            ("ipv4/neigh/vz-dmz/proxy_delay", "0"),
            ("ipv6/conf/vz-dmz/disable_ipv6", "0"),
            ("ipv6/conf/vz-dmz/accept_ra", "0"),
            ("ipv6/conf/vz-dmz/accept_dad", "0"),
            ("ipv6/conf/vz-dmz/accept_redirects", "0"),
        ];
        let rp_filter = sysctl("ipv4/conf/default/rp_filter");
        let check = || {
            for (path, value) in expected {
                assert_eq!(sysctl(path), value, "{path}");
            }
            assert_eq!(
                sysctl("ipv4/conf/vz-dmz/rp_filter"),
                rp_filter,
                "not ours to change"
            );
            let said = ip("-d link show vz-dmz");
            let mac = dmz.mac.to_string();
            for part in [
                "stp_state 0",
                "mcast_snooping 0",
                "forward_delay 0",
                ",UP",
                &mac,
            ] {
                assert!(said.contains(part), "{part} not in {said}");
            }
            let said = ip("-br address show vz-dmz");
            let mut addresses: Vec<&str> = said.split_whitespace().skip(2).collect();
            addresses.sort();
            let mut expected = [
                format!("{}/24", dmz.gateway4.unwrap()),
                format!("{}/48", dmz.gateway6.unwrap()),
                format!("{}/64", dmz.gateway6_ll().unwrap()),
            ];
            expected.sort();
            assert_eq!(addresses, expected);
            assert!(!ip("-6 address show vz-dmz").contains("tentative"));
            // once, and beside the one of the loopback interface
            let said = ip("-6 route show table local dev vz-dmz");
            assert_eq!(said.matches("local ::1").count(), 1, "{said}");
            assert!(ip("-6 route get ::1").contains("dev lo"));
        };
        check();
        for damage in [
            "address flush dev vz-dmz",
            "-6 route del local ::1 dev vz-dmz table local",
            "address add 192.0.2.1/24 dev vz-dmz",
            "link set vz-dmz address 02:00:00:00:00:01",
            "link set vz-dmz type bridge stp_state 1 mcast_snooping 1",
            "link set vz-dmz down",
        ] {
            assert_eq!(ip(damage), "", "{damage}");
        }
        set_sysctl("ipv4/conf/vz-dmz/proxy_arp_pvlan", "0");
        set_sysctl("ipv6/conf/vz-dmz/accept_ra", "2");
        assert_eq!(links.ensure_bridge(&dmz).unwrap(), index);
        check();

        let moved = zone("dmz", "subnet4 = \"10.99.0.0/24\"\nsubnet6 = \"none\"");
        links.ensure_bridge(&moved).unwrap();
        let said = ip("-br address show vz-dmz");
        assert_eq!(
            said.split_whitespace().skip(2).collect::<Vec<_>>(),
            ["10.99.0.1/24"]
        );

        links.delete_bridge(&dmz.bridge).unwrap();
        links.delete_bridge(&dmz.bridge).unwrap();
        assert!(ip("link show vz-dmz").contains("does not exist"));
    });
}

#[test]
fn a_link_that_is_no_bridge_is_not_touched() {
    on_a_host("a_link_that_is_no_bridge", || {
        ip("link add vz-dmz type veth peer name other");
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        for error in [
            links.ensure_bridge(&zone).unwrap_err(),
            links.delete_bridge(&zone.bridge).unwrap_err(),
        ] {
            assert!(matches!(&error, LinkError::NotABridge { kind, .. } if kind == "veth"));
        }
        assert!(ip("link show vz-dmz").contains("vz-dmz"));
    });
}

#[test]
fn a_bridge_that_cannot_be_finished_is_gone_again() {
    on_a_host("a_bridge_that_cannot_be_finished", || {
        let zone = zone("a-zone-with-a-long-name", "");
        ip("link add other type bridge");
        ip("link property add dev other altname vz-a-zone-with-a-long-name");
        let mut links = Links::open().unwrap();
        let error = links.ensure_bridge(&zone).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
        assert!(ip(&format!("link show {}", zone.bridge)).contains("does not exist"));
    });
}

#[test]
fn namespaces_by_path_pid_and_descriptor() {
    on_a_host("namespaces_by_path_pid_and_descriptor", || {
        let web = container();
        let path = format!("/proc/{}/ns/net", web.tid);
        let by_path = Netns::from_path(Path::new(&path)).unwrap();
        let by_pid = Netns::from_pid(web.tid).unwrap();
        let by_fd = Netns::from_fd(File::open(&path).unwrap().into()).unwrap();
        assert!(
            [by_path.id(), by_pid.id(), by_fd.id()]
                .iter()
                .all(|id| *id == web.netns.id())
        );
        let own = Netns::current().unwrap();
        assert_ne!(own.id(), web.netns.id());

        let own = "/proc/thread-self/ns/net";
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        for error in [
            Netns::from_path(Path::new(own)).unwrap_err(),
            Netns::from_pid(tid).unwrap_err(),
            Netns::from_fd(File::open(own).unwrap().into()).unwrap_err(),
        ] {
            assert!(matches!(error, LinkError::OwnNetns { .. }), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        // to open it would block for ever
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        for path in [
            fifo.as_path(),
            Path::new("/proc/self/ns/mnt"),
            Path::new("/"),
        ] {
            let error = Netns::from_path(path).unwrap_err();
            assert!(
                matches!(error, LinkError::NotANetns { .. }),
                "{path:?}: {error}"
            );
        }
        let file = File::open("/dev/null").unwrap();
        assert!(matches!(
            Netns::from_fd(file.into()),
            Err(LinkError::NotANetns { .. })
        ));
        for pid in [0, -1, i32::MAX] {
            let error = Netns::from_pid(pid).unwrap_err();
            assert!(
                matches!(error, LinkError::NoProcess { .. }),
                "{pid}: {error}"
            );
        }
        let error = Netns::from_path(&directory.path().join("no")).unwrap_err();
        assert!(matches!(error, LinkError::OpenNetns { .. }), "{error}");
    });
}

#[test]
fn routes_of_the_host_without_those_of_zones() {
    on_a_host("routes_of_the_host", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        for words in [
            "link set lo up",
            "link add up0 type veth peer name far0",
            "link set up0 up",
            "address add 192.0.2.1/24 dev up0",
            "-6 address add 2001:db8::1/64 dev up0 nodad",
            "route add default via 192.0.2.2",
            "route add 10.7.0.0/16 via 192.0.2.2",
            "route add 10.8.0.0/16 via 192.0.2.2 table 100",
            "-6 route add 2001:db8:7::/48 via 2001:db8::2",
            "route add unreachable 10.9.0.0/16",
        ] {
            assert_eq!(ip(words), "", "{words}");
        }
        let words =
            |nets: Vec<ipnet::IpNet>| nets.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let besides = words(
            links
                .routes_besides(std::slice::from_ref(&zone.bridge))
                .unwrap(),
        );
        assert_eq!(
            besides,
            [
                "10.7.0.0/16",
                "192.0.2.0/24",
                "2001:db8::/64",
                "2001:db8:7::/48"
            ]
        );
        let all = words(links.routes().unwrap());
        for net in zone.subnets() {
            assert!(all.contains(&net.to_string()), "{net} not in {all:?}");
        }
    });
}

#[test]
fn forwarding_leaves_no_trace() {
    on_a_host("forwarding_leaves_no_trace", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        for words in [
            "link add up0 type veth peer name far0",
            "link set up0 up",
            "address add 192.0.2.1/24 dev up0",
            "-6 address add 2001:db8::1/64 dev up0 nodad",
            "link add idle0 type veth peer name far1",
        ] {
            assert_eq!(ip(words), "", "{words}");
        }
        let all = || {
            let text = run("sysctl", &["-a", "-r", "net.ipv[46].conf"]);
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.retain(|line| !line.contains("stable_secret"));
            lines
        };
        set_sysctl("ipv4/conf/all/send_redirects", "1");
        let before = all();
        let bridges = std::slice::from_ref(&zone.bridge);
        let plan = links.plan_forwarding(bridges).unwrap();
        assert_eq!(all(), before, "a plan changes nothing");
        let mut done = links.forwarding(bridges).unwrap();
        assert_eq!(plan, done);
        let up0: zone::IfName = "up0".parse().unwrap();
        assert!(done.opened4.iter().eq([&up0]), "{done:?}");
        assert_eq!(sysctl("ipv4/conf/up0/forwarding"), "1");
        assert_eq!(sysctl("ipv4/conf/vz-dmz/forwarding"), "1");
        assert_eq!(sysctl("ipv6/conf/vz-dmz/forwarding"), "1");
        assert_eq!(sysctl("ipv4/conf/idle0/forwarding"), "0");
        assert_eq!(sysctl("ipv4/ip_forward"), "0");
        assert_eq!(sysctl("ipv4/conf/all/send_redirects"), "0");
        if Path::new("/proc/sys/net/ipv6/conf/all/force_forwarding").exists() {
            assert!(done.opened6.iter().eq([&up0]), "{done:?}");
            assert_eq!(sysctl("ipv6/conf/up0/force_forwarding"), "1");
            assert_eq!(
                sysctl("ipv6/conf/up0/forwarding"),
                "0",
                "up0 still accepts RAs"
            );
            assert_eq!(sysctl("ipv6/conf/all/forwarding"), "0");
        }

        // an uplink that comes later adds to the record
        assert!(links.forwarding(bridges).unwrap().is_empty());
        for words in [
            "link add up1 type veth peer name far2",
            "address add 198.51.100.1/24 dev up1",
        ] {
            assert_eq!(ip(words), "", "{words}");
        }
        let later = links.forwarding(bridges).unwrap();
        done.merge(later);
        assert_eq!(done.opened4.len(), 2);
        assert_eq!(ip("link delete up1"), "");
        assert!(done.undo().is_empty());
        assert_eq!(all(), before);
    });
}

#[test]
fn forwarding_that_somebody_else_wanted_stays() {
    on_a_host("forwarding_that_somebody_else_wanted", || {
        let zone = zone("dmz", "");
        let mut links = Links::open().unwrap();
        links.ensure_bridge(&zone).unwrap();
        for words in [
            "link add up0 type veth peer name far0",
            "address add 192.0.2.1/24 dev up0",
        ] {
            assert_eq!(ip(words), "", "{words}");
        }
        let bridges = std::slice::from_ref(&zone.bridge);
        let done = links.forwarding(bridges).unwrap();
        assert_eq!(done.opened4.len(), 1);
        set_sysctl("ipv4/ip_forward", "1");
        assert!(done.undo().is_empty());
        assert_eq!(
            sysctl("ipv4/conf/up0/forwarding"),
            "1",
            "it is another's wish by now"
        );
        // and where all of it was on before, nothing is opened
        let again = links.forwarding(bridges).unwrap();
        assert!(again.opened4.is_empty(), "{again:?}");
        assert_eq!(Forwarding::default().undo().len(), 0);
    });
}

#[test]
fn news_of_bridges_and_ports() {
    on_a_host("news_of_bridges_and_ports", || {
        let zone = zone("dmz", "");
        let mut monitor = Monitor::open().unwrap();
        assert_eq!(monitor.drain().unwrap(), [], "and it does not block");
        let mut links = Links::open().unwrap();
        let bridge = links.ensure_bridge(&zone).unwrap();
        let mut wait = |wanted: &dyn Fn(&LinkEvent) -> bool| {
            let end = Instant::now() + Duration::from_secs(5);
            loop {
                let events = monitor.drain().unwrap();
                if events.iter().any(wanted) {
                    return;
                }
                assert!(Instant::now() < end, "no such news");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait(
            &|event| matches!(event, LinkEvent::Bridge { name, ifindex, gone: false, .. } if name == "vz-dmz" && *ifindex == bridge),
        );
        let (web, spec) = (container(), spec("web", &zone, 2));
        let port = links.create_port(&spec, &web.netns).unwrap();
        let ours = |event: &LinkEvent, left: bool, guarded: bool| {
            matches!(event, LinkEvent::Port { ifindex, name, master, gone, flags, .. }
                if *ifindex == port.ifindex && name == "vb-web" && *master == bridge && *gone == left
                    && (left || flags.is_some_and(|f| (f == zone::kernel::PortFlags::GUARDED) == guarded)))
        };
        wait(&|event| ours(event, false, true));
        run(
            "bridge",
            &["link", "set", "dev", "vb-web", "isolated", "off"],
        );
        wait(&|event| ours(event, false, false));
        ip("link set vb-web nomaster");
        wait(&|event| ours(event, true, false));
        ip("link delete vz-dmz");
        wait(
            &|event| matches!(event, LinkEvent::Bridge { name, gone: true, .. } if name == "vz-dmz"),
        );
    });
}

#[test]
fn what_leads_to_a_prefix_is_looked_up() {
    on_a_host("what_leads_to_a_prefix", || {
        let dmz = zone("dmz", "");
        let mut links = Links::open().unwrap();
        let index = links.ensure_bridge(&dmz).unwrap();
        let subnet = dmz.subnet6.unwrap();
        let prefixes: Vec<_> = subnet.subnets(64).unwrap().skip(1).take(3).collect();
        let [mine, other] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].map(zone::MacAddr);
        let (own, theirs) = (&prefixes[..2], &prefixes[2..]);
        links.add_ways(&dmz.bridge, mine, own).unwrap();
        links.add_ways(&dmz.bridge, other, theirs).unwrap();
        assert_eq!(links.missing_ways(index, mine, own).unwrap(), []);
        assert_eq!(links.missing_ways(index, other, theirs).unwrap(), []);
        // another's way is none, nor is one by another link
        assert_eq!(links.missing_ways(index, mine, theirs).unwrap(), theirs);
        assert_eq!(links.missing_ways(1, mine, own).unwrap(), own);
        // without it the subnet's own route is what the kernel finds, or nothing
        ip(&format!("-6 route del {}", own[1]));
        assert_eq!(links.missing_ways(index, mine, own).unwrap(), own[1..]);
        ip("link del vz-dmz");
        assert_eq!(links.missing_ways(index, mine, own).unwrap(), own);
    });
}
