//! A private host with two zones, four containers and an outside world.
//!
//! The thread of the test is the host: it leaves for a network namespace of its own, and so do the
//! programs it starts. Containers and the world are namespaces held open by a descriptor.
#![allow(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;

use firewall::kernel::Tables;
use firewall::sets::Element;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network namespace.
pub(crate) struct Ns(OwnedFd);

fn here() -> OwnedFd {
    std::fs::File::open("/proc/thread-self/ns/net")
        .unwrap()
        .into()
}

fn leave() {
    // SAFETY: a new network namespace for this thread; no descriptor table is unshared, which is
    // what can be unsafe about unshare.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
}

impl Ns {
    pub(crate) fn new() -> Self {
        let fd = std::thread::spawn(|| {
            leave();
            here()
        });
        let ns = Self(fd.join().unwrap());
        ns.sh("ip link set lo up; sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv4.ping_group_range='0 2147483647'");
        ns
    }

    /// Runs something on a thread in the namespace.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap();
                f()
            });
            thread.join().unwrap()
        })
    }

    /// Runs something on a thread in the namespace, in the background.
    pub(crate) fn spawn(&self, f: impl FnOnce() + Send + 'static) {
        let fd = self.0.try_clone().unwrap();
        std::thread::spawn(move || {
            move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            f();
        });
    }

    /// Runs a shell script in the namespace; fails with its output.
    pub(crate) fn sh(&self, script: &str) -> String {
        self.run(|| sh(script))
    }

    /// Runs a shell script in the namespace; tells whether it succeeded.
    pub(crate) fn try_sh(&self, script: &str) -> (bool, String) {
        self.run(|| try_sh(script))
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Runs a shell script on this thread's host; fails with its output.
pub(crate) fn sh(script: &str) -> String {
    let (ok, out) = try_sh(script);
    assert!(ok, "{script}\n{out}");
    out
}

pub(crate) fn try_sh(script: &str) -> (bool, String) {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (
        out.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// A container of the lab.
pub(crate) struct Container {
    pub(crate) zone: usize,
    pub(crate) ifindex: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) ip4: IpAddr,
    pub(crate) ip6: IpAddr,
    pub(crate) ns: Ns,
}

pub(crate) struct Lab {
    pub(crate) boxes: Vec<Container>,
    pub(crate) world: Ns,
    pub(crate) tables: Tables,
}

pub(crate) const BRIDGES: [&str; 2] = ["vz-a", "vz-b"];
pub(crate) const WORLD4: &str = "192.0.2.2";
pub(crate) const WORLD6: &str = "2001:db8:1::2";
pub(crate) const HOST4: &str = "192.0.2.1";
pub(crate) const HOST6: &str = "2001:db8:1::1";
pub(crate) const GATEWAY4: [&str; 2] = ["10.99.0.1", "10.98.0.1"];
pub(crate) const GATEWAY6: [&str; 2] = ["fd99::1", "fd98::1"];

/// Whether there is the privilege to build a lab; says so when not.
pub(crate) fn privileged() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "these stories need root");
    println!("SKIPPED: needs root");
    false
}

/// A host with nothing but a loopback interface; the test's thread is on it from now on.
pub(crate) fn bare_host() {
    leave();
    sh("ip link set lo up");
}

impl Lab {
    /// Builds it and installs the skeleton with what every zone and container has; no policies.
    pub(crate) fn new() -> Option<Self> {
        let mut lab = Self::without_tables()?;
        let elements = lab.base();
        lab.tables.install(&elements, &[]).unwrap();
        Some(lab)
    }

    /// Builds it without rules.
    pub(crate) fn without_tables() -> Option<Self> {
        if !privileged() {
            return None;
        }
        bare_host();
        sh("cd /proc/sys/net
            echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding
            echo 0 > bridge/bridge-nf-call-iptables; echo 0 > bridge/bridge-nf-call-ip6tables
            echo 0 > ipv4/conf/all/send_redirects; echo 0 > ipv4/conf/default/send_redirects
            echo 0 > ipv6/conf/default/accept_dad; echo 0 > ipv6/conf/all/accept_dad");
        let world = Ns::new();
        sh(&format!(
            "ip link add up0 type veth peer name out0 netns {}
             ip addr add {HOST4}/24 dev up0; ip -6 addr add {HOST6}/64 dev up0 nodad; ip link set up0 up
             ip route add default via {WORLD4}",
            world.path()
        ));
        world.sh(&format!(
            "ip addr add {WORLD4}/24 dev out0; ip -6 addr add {WORLD6}/64 dev out0 nodad; ip link set out0 up
             ip route add 10.98.0.0/15 via {HOST4}; ip -6 route add fd00::/8 via {HOST6}"
        ));
        for (i, bridge) in BRIDGES.iter().enumerate() {
            sh(&format!(
                "ip link add {bridge} address 02:00:00:00:ff:0{i} type bridge stp_state 0 mcast_snooping 0 forward_delay 0
                 cd /proc/sys/net
                 echo 0 > ipv4/neigh/{bridge}/proxy_delay; echo 1 > ipv4/conf/{bridge}/proxy_arp_pvlan
                 echo 1 > ipv4/conf/{bridge}/route_localnet; echo 0 > ipv6/conf/{bridge}/accept_dad
                 ip addr add {}/24 dev {bridge}; ip -6 addr add {}/64 dev {bridge} nodad; ip link set {bridge} up
                 ip -6 route append local ::1 dev {bridge} table local",
                GATEWAY4[i], GATEWAY6[i]
            ));
        }
        let spec = [("c1", 0, 11), ("c2", 0, 12), ("c3", 0, 13), ("c4", 1, 14)];
        let boxes: Vec<_> = spec.map(|(name, zone, n)| container(name, zone, n)).into();
        // Neighbours are known from here on: no story is about the first packet's delay.
        world.sh(&format!("ping -nqc 1 {HOST4}; ping -nqc 1 {HOST6}"));
        for c in &boxes {
            sh(&format!("ping -nqc 1 {}; ping -nqc 1 {}", c.ip4, c.ip6));
        }
        Some(Self {
            boxes,
            world,
            tables: Tables::open(None).unwrap(),
        })
    }

    pub(crate) fn c(&self, n: usize) -> &Container {
        &self.boxes[n - 1]
    }

    /// Applies elements on top of what there is.
    pub(crate) fn add(&mut self, add: Vec<Element>) {
        self.tables
            .apply(&firewall::sets::Changes {
                add,
                ..Default::default()
            })
            .unwrap();
    }

    /// Removes elements, and has verdicts forgotten.
    pub(crate) fn tighten(&mut self, remove: Vec<Element>) {
        self.tables
            .apply(&firewall::sets::Changes {
                remove,
                forget: true,
                ..Default::default()
            })
            .unwrap();
    }
}

fn container(name: &'static str, zone: usize, n: u8) -> Container {
    let ns = Ns::new();
    let bridge = BRIDGES[zone];
    let mac = [2, 0, 0, 0, 1, n];
    let (net4, net6) = (["10.99.0", "10.98.0"][zone], ["fd99", "fd98"][zone]);
    sh(&format!(
        "ip link add vb-{name} master {bridge} type veth peer name host0 netns {} address 02:00:00:00:01:{n:02x}
         echo 1 > /proc/sys/net/ipv6/conf/vb-{name}/disable_ipv6
         bridge link set dev vb-{name} isolated on
         ip link set vb-{name} up",
        ns.path()
    ));
    ns.sh(&format!(
        "ip link set host0 up; ip addr add {net4}.{n}/24 dev host0; ip route add default via {net4}.1
         ip -6 addr add {net6}::{n}/128 dev host0 nodad
         ip -6 route add default via fe80::ff:fe00:ff0{zone} dev host0"
    ));
    let ifindex = sh(&format!("ip -o link show vb-{name} | cut -d: -f1"))
        .trim()
        .parse()
        .unwrap();
    Container {
        zone,
        ifindex,
        mac,
        ip4: format!("{net4}.{n}").parse().unwrap(),
        ip6: format!("{net6}::{n}").parse().unwrap(),
        ns,
    }
}
