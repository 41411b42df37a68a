//! Network namespaces.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("the host's network, without power over it", host),
    ("a private network has a loopback and nothing else", private),
    ("a network of its own belongs to its user namespace", owned),
    (
        "with private users, its own DHCP client gets an address",
        dhcp,
    ),
];

fn host() {
    let world = World::new();
    let inode = fs::metadata("/proc/self/ns/net").unwrap().ino();
    let script = "readlink /proc/self/ns/net; ip link set lo up 2>&1 | grep -o 'not permitted'; cat /proc/sys/net/ipv4/ip_forward > /dev/null";
    let out = world.sh(script).good();
    assert_eq!(out, format!("net:[{inode}]\nnot permitted\n"));
}

fn private() {
    let world = World::new();
    for private_users in [false, true] {
        let script = "ls /sys/class/net; ip link set lo up && ping -c 1 -W 1 127.0.0.1 > /dev/null && echo pinged; \
            echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward";
        let with = json!({
            "private_network": true, "private_users": private_users, "command": ["sh", "-c", script],
        });
        assert_eq!(world.run(with).good(), "lo\npinged\n1\n");
    }
}

/// NS_GET_USERNS, ioctl_ns(2), by a program that everybody has: lsns would do, but not from Debian 11.
fn owned() {
    let world = World::new();
    let (mut child, web) = world.start(json!({
        "private_network": true, "private_users": true, "command": ["sleep", "1000"],
    }));
    // whoever enters the user namespace alone has power over the network namespace exactly if it is its own
    let enter = |how: &str| {
        let pid = web.pid.to_string();
        let status = std::process::Command::new("nsenter")
            .args(["-t", &pid, how, "--net", "ip", "link", "set", "lo", "up"])
            .stderr(std::process::Stdio::null())
            .status();
        status.unwrap().success()
    };
    assert!(enter("--user"));
    spawner::kill(&world.state(), &"web".parse().unwrap(), 9).unwrap();
    child.wait().unwrap();
    world.nothing_left();
}

fn dhcp() {
    let world = World::new();
    let link = "vb-dhcptest";
    let path = |name: &str| world.path(name).display().to_string();
    fs::write(
        world.path("udhcpd.conf"),
        format!(
            "start 192.0.2.10\nend 192.0.2.10\ninterface {link}\nlease_file {}\npidfile {}\noption subnet 255.255.255.0\n",
            path("leases"),
            path("udhcpd.pid"),
        ),
    )
    .unwrap();
    fs::write(world.path("leases"), "").unwrap();
    // what netd's hook would do, in shell: the link is made in the namespace of the pid that the state names
    let attach = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/') && \
         ip link add {link} type veth peer name host0 netns $pid && \
         ip addr add 192.0.2.1/24 dev {link} && ip link set {link} up && \
         busybox udhcpd -S {} > /dev/null 2>&1",
        path("udhcpd.conf")
    );
    let detach = format!(
        "kill $(cat {}); ip link delete {link} 2>/dev/null; true",
        path("udhcpd.pid")
    );
    fs::write(
        world.root().join("bin/leased"),
        "#!/bin/sh\n[ \"$1\" = bound ] && ip addr add $ip/24 dev $interface\nexit 0\n",
    )
    .unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(
        world.root().join("bin/leased"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let script = "ip link set host0 up; udhcpc -i host0 -n -q -t 10 -T 1 -s /bin/leased > /dev/null 2>&1; \
        ip -4 addr show host0 | grep -o 'inet [0-9.]*'; ping -c 1 -W 2 192.0.2.1 > /dev/null && echo pinged";
    let with = json!({
        "private_users": true, "attach": attach, "detach": detach, "timeout": 10, "command": ["sh", "-c", script],
    });
    assert_eq!(world.run(with).good(), "inet 192.0.2.10\npinged\n");
}
