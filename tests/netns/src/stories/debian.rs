//! A root that debootstrap(8) made from Debian's packages.

use std::process::Command;

use super::boot::netd;
use crate::debian;
use crate::world::World;

pub fn what_debootstrap_makes_is_a_root() {
    let world = World::new("debian");
    world.zone("web").create();
    let tree = debian::tree();
    let tree = tree.to_str().unwrap();
    let run = |options: &[&str], script: &str| {
        let words = [
            &["run", "-q", "-D", tree, "-M", "deb"],
            options,
            &["--", "/bin/sh", "-c", script],
        ];
        netd(&world, &words.concat())
    };
    // read-only, in a zone, with users of its own: nothing in it is changed
    let told = run(
        &["-U", "--read-only", "--network-zone=web"],
        ". /etc/os-release; echo $ID; id -u; ip -4 -o address show dev host0 | wc -l; \
         touch /etc/x 2>/dev/null || echo fixed; dpkg --version | head -n 1 | cut -d ' ' -f 1",
    );
    let lines = told.ok();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(["debian", "ubuntu"].contains(&lines[0]), "{lines:?}");
    assert_eq!(&lines[1..4], ["0", "1", "fixed"]);
    assert_eq!(lines[4], "Debian");
    // a copy for one start: dpkg may write, with owners and modes of its own
    let script = "set -e; cd /root; mkdir -p p/DEBIAN p/srv; echo hello >p/srv/hello; chown 33:33 p/srv/hello; \
        printf 'Package: hello-netd\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\nDescription: x\\n' >p/DEBIAN/control; \
        dpkg-deb -b p h.deb >/dev/null; dpkg -i h.deb >/dev/null; stat -c '%U %a' /srv/hello; cat /srv/hello; \
        dpkg-query -W -f '${Status}' hello-netd";
    let told = run(&["-x", "--private-network"], script).ok();
    assert_eq!(told, "www-data 644\nhello\ninstall ok installed");
    let there = Command::new("test")
        .args(["-e", &format!("{tree}/srv/hello")])
        .status();
    assert!(!there.unwrap().success(), "the original was written to");
}
