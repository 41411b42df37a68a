//! DHCP clients as Debian ships them, with their own scripts, each in a mount namespace in which /etc and
//! /var/lib are private copies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::netns::{Netns, run};

/// A DHCP client and how it is spoken to.
pub struct Client {
    /// Its command.
    pub name: &'static str,
    /// Configures `host0` once and ends with its exit code.
    once: &'static str,
    /// Makes its own script write down its environment; TOLD is not in it.
    hook: &'static str,
    /// Its names for address, router, name servers, domain and MTU.
    pub variables: [&'static str; 5],
}

/// The clients that netd is held to.
pub const CLIENTS: [Client; 3] = [
    Client {
        name: "udhcpc",
        once: "udhcpc -i host0 -f -n -q -t 5 -T 1 -O mtu -s /etc/udhcpc/told.script",
        hook: "printf '#!/bin/sh\\nenv >>$TOLD\\nexec /etc/udhcpc/default.script \"$@\"\\n' >/etc/udhcpc/told.script; \
               chmod +x /etc/udhcpc/told.script",
        variables: ["ip", "router", "dns", "domain", "mtu"],
    },
    Client {
        name: "dhclient",
        once: "dhclient -4 -1 -v -lf /var/lib/dhcp/l -pf /run/dhclient-$$.pid host0; code=$?; \
               kill $(cat /run/dhclient-$$.pid); rm /run/dhclient-$$.pid; (exit $code)",
        hook: "echo \"env >>$TOLD\" >/etc/dhcp/dhclient-enter-hooks.d/told",
        variables: [
            "new_ip_address",
            "new_routers",
            "new_domain_name_servers",
            "new_domain_name",
            "new_interface_mtu",
        ],
    },
    Client {
        name: "dhcpcd",
        once: "dhcpcd -4 -1 -B -d -t 20 --noipv4ll host0",
        hook: "echo \"env >>$TOLD\" >/etc/dhcpcd.enter-hook",
        variables: [
            "new_ip_address",
            "new_routers",
            "new_domain_name_servers",
            "new_domain_name",
            "new_interface_mtu",
        ],
    },
];

/// The clients that netd's DHCPv6 is held to. Of the variables only address, name servers and search list
/// are told by all.
pub const CLIENTS6: [Client; 3] = [
    Client {
        name: "dhclient",
        once: "ip link set host0 up; until ip -6 addr show dev host0 scope link -tentative | grep -q fe80; do sleep .1; done; dhclient -6 -1 -v -lf /var/lib/dhcp/l -pf /run/dhclient-$$.pid host0; code=$?; \
               kill $(cat /run/dhclient-$$.pid); rm /run/dhclient-$$.pid; (exit $code)",
        hook: "echo \"env >>$TOLD\" >/etc/dhcp/dhclient-enter-hooks.d/told",
        variables: [
            "new_ip6_address",
            "",
            "new_dhcp6_name_servers",
            "new_dhcp6_domain_search",
            "",
        ],
    },
    Client {
        name: "dhcpcd",
        once: "dhcpcd -6 -1 -B -d -t 20 --waitip=6 host0",
        hook: "echo \"env >>$TOLD\" >/etc/dhcpcd.enter-hook",
        variables: [
            "new_dhcp6_ia_na1_ia_addr1",
            "",
            "new_dhcp6_name_servers",
            "new_dhcp6_domain_search",
            "",
        ],
    },
    // It runs no scripts. A /sys that cannot be written to tells it that there is no udev to wait for; it is
    // killed hard, as it would give the lease back otherwise.
    Client {
        name: "networkd",
        once: "mount -t tmpfs t /run; mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases; \
               chown -R systemd-network /run/systemd/netif; mount -t sysfs -o ro s /sys; \
               printf '[Match]\\nName=host0\\n[Network]\\nDHCP=ipv6\\nLinkLocalAddressing=ipv6\\n' \
               >/run/systemd/network/10-host0.network; /lib/systemd/systemd-networkd & n=0; \
               until ip -6 addr show dev host0 scope global -tentative | grep -q inet6 || [ $n = 200 ]; do \
               n=$((n+1)); sleep .1; done; kill -9 $!; [ $n -lt 200 ]",
        hook: "true",
        variables: [""; 5],
    },
];

/// Prepares the private folders; the client's hook and command follow.
const PRIVATE: &str = "set -e; mount --make-rprivate /; mkdir -p $PLACE/etc; cp -a /etc/. $PLACE/etc; \
    mount --bind $PLACE/etc /etc; rm -f /etc/resolv.conf; : >/etc/resolv.conf; \
    for d in /var/lib/dhcp /var/lib/dhcpcd /run/dhcpcd; do mkdir -p $d; mount -t tmpfs t $d; done";

impl Client {
    /// The command that runs a script in the client's private folders; `dir` is the story's folder.
    pub fn command(&self, dir: &Path, script: &str) -> Command {
        let place = dir.join(format!("dhcp-{}", self.name));
        fs::create_dir_all(&place).unwrap();
        let mut command = Command::new("unshare");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args([
                "--mount",
                "sh",
                "-c",
                &format!("{PRIVATE}; {}; set +e; {script}", self.hook),
            ])
            .env("PLACE", &place)
            .env("TOLD", self.told_path(dir));
        command
    }

    /// Runs it to its end on `host0`; it must get an address.
    #[track_caller]
    pub fn once(&self, dir: &Path, netns: &Netns) {
        let _ = fs::remove_file(self.told_path(dir));
        let resolv = self.resolv_path(dir);
        let script = format!(
            "{{ {}; }}; code=$?; cp /etc/resolv.conf {}; exit $code",
            self.once,
            resolv.display()
        );
        let mut command = self.command(dir, &script);
        let ran = netns.enter(|| run(&mut command));
        assert_eq!(ran.code, 0, "{}: {ran}", self.name);
    }

    /// What its script was told, the last word on each variable.
    pub fn told(&self, dir: &Path) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.told_path(dir)).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// Where its environment is written down.
    pub fn told_path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("told-{}", self.name))
    }

    /// The resolv.conf that it left.
    pub fn resolv_conf(&self, dir: &Path) -> String {
        fs::read_to_string(self.resolv_path(dir)).unwrap()
    }

    fn resolv_path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("resolv-{}", self.name))
    }
}
