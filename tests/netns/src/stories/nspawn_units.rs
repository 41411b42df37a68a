//! Files of systemd's that netd installs, read by the programs that they are for.

use std::path::Path;

use super::nspawn::dist;
use crate::world::World;

/// networkd's own file for nspawn's bridges comes after ours, which matches first.
pub fn networkd_leaves_our_bridges_alone() {
    let shipped = Path::new("/lib/systemd/network/80-container-vz.network");
    assert!(
        shipped.exists(),
        "systemd ships no {} any more",
        shipped.display()
    );
    let ours = dist("70-netd.network");
    assert!(ours.file_name() < shipped.file_name());
    let text = std::fs::read_to_string(&ours).unwrap();
    assert!(
        text.contains("Name=vz-* vb-*") && text.contains("Unmanaged=yes"),
        "{text}"
    );
    // The real one, with both files: a zone's bridge and ports are none of its business. With its own file alone they are.
    let world = World::new("nspawn-networkd");
    world.zone("web").create();
    world.container("shop").in_zone("web").start();
    let states = |files: &[&Path]| -> Vec<String> {
        let copies: Vec<String> = files
            .iter()
            .map(|file| format!("cp {} /etc/systemd/network;", file.display()))
            .collect();
        let script = format!(
            "for d in /etc/systemd/network /run/systemd; do mkdir -p $d; mount -t tmpfs t $d; done; {} \
             mount -t tmpfs t /lib/systemd/network; mount --rbind /sys /sys; mount -o remount,bind,ro /sys; cd /run/systemd; \
             mkdir -p netif/links netif/leases netif/lldp; chown -R systemd-network:systemd-network netif; \
             /lib/systemd/systemd-networkd >/run/systemd/said 2>&1 & n=0; \
             for link in vz-web vb-shop; do index=$(ip -o link show $link | cut -d: -f1); \
             until grep -qs ADMIN_STATE=[^p] netif/links/$index || [ $n = 200 ]; do n=$((n+1)); sleep .1; done; \
             grep -s ADMIN_STATE netif/links/$index || cat said; done; kill -9 $!",
            copies.concat()
        );
        let ran = world
            .netns
            .run(&format!("unshare --mount sh -c '{script}'"));
        ran.stdout.lines().map(str::to_owned).collect()
    };
    assert_eq!(states(&[&ours, shipped]), ["ADMIN_STATE=unmanaged"; 2]);
    assert_ne!(states(&[shipped])[0], "ADMIN_STATE=unmanaged");
}

/// The drop-in is one that systemd takes.
pub fn the_drop_in_is_a_unit() {
    let world = World::without_daemon("nspawn-units");
    let folder = world.dir.join("units");
    std::fs::create_dir_all(folder.join("systemd-nspawn@.service.d")).unwrap();
    let text = std::fs::read_to_string(dist("systemd-nspawn@.service.conf")).unwrap();
    let binary = crate::world::netd_binary();
    let text = text.replace("@BINDIR@/netd", binary.to_str().unwrap());
    std::fs::write(folder.join("systemd-nspawn@.service.d/50-netd.conf"), text).unwrap();
    std::fs::copy(
        "/lib/systemd/system/systemd-nspawn@.service",
        folder.join("systemd-nspawn@story.service"),
    )
    .unwrap();
    std::os::unix::fs::symlink(
        "systemd-nspawn@.service.d",
        folder.join("systemd-nspawn@story.service.d"),
    )
    .unwrap();
    let verified = world.netns.run(&format!(
        "cd {}; systemd-analyze verify --man=no --recursive-errors=no ./systemd-nspawn@story.service",
        folder.display()
    ));
    assert_eq!(verified.code, 0, "{verified}");
    assert!(!verified.stderr.contains("50-netd.conf"), "{verified}");
}
