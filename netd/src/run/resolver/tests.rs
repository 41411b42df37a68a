#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::cli::ResolvConf::{Auto, Delete, Off, Put};
use HostFile::{Host as Own, Static, Stub, Uplink};
use How::{Bind as Show, Copy, Replace};

const STUB_LISTENS: &str = "  sl  local_address rem_address\n  1: 3500007F:0035 00000000:0000 07\n";

fn zone(dns: &[&str]) -> Zone {
    serde_json::from_value(serde_json::json!({
        "name": "dmz", "bridge": "vz-dmz", "internal": false, "default": "egress", "mtu": 1500,
        "domain": "dmz.test", "dns": dns, "containers": []
    }))
    .unwrap()
}

/// A host with all its files, and a container's root with an empty /etc.
struct Place {
    _dir: tempfile::TempDir,
    host: PathBuf,
    dirs: Dirs,
    settings: Settings,
    /// The container's /etc/resolv.conf.
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (host, root) = (dir.path().join("host"), dir.path().join("root"));
        for (path, text) in [
            ("etc/resolv.conf", "of the host"),
            ("usr/lib/systemd/resolv.conf", "fixed"),
            ("run/systemd/resolve/resolv.conf", "of the uplinks"),
            ("run/systemd/resolve/stub-resolv.conf", "of the stub"),
            ("proc/net/udp", STUB_LISTENS),
        ] {
            let path = host.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(root.join("etc")).unwrap();
        let mut settings = Settings::new("web".parse().unwrap(), "/run/x", ["true"]);
        settings.directory = Some(root.clone());
        Self {
            host,
            dirs: Dirs {
                config: dir.path().into(),
                state: dir.path().into(),
                runtime: dir.path().join("run"),
            },
            settings,
            file: root.join("etc/resolv.conf"),
            _dir: dir,
        }
    }

    fn with(text: &str) -> Self {
        let place = Self::new();
        fs::write(&place.file, text).unwrap();
        place
    }

    /// With a link in the place of the file.
    fn linked(to: &str) -> Self {
        let place = Self::new();
        symlink(to, &place.file).unwrap();
        place
    }

    fn provide(&mut self, mode: ResolvConf, names: Names<'_>) -> Result<(), Left> {
        let host = Host::new(&self.host);
        provide_from(&host, &self.dirs, mode, names, &mut self.settings)
    }

    /// What the container has then, without what is shown over it.
    fn text(&self) -> Option<String> {
        fs::read_to_string(&self.file).ok()
    }

    /// The only bind: where, and the text that is shown there.
    fn shown(&self) -> Option<(PathBuf, String)> {
        let [bind] = self.settings.binds.as_slice() else {
            assert!(self.settings.binds.is_empty());
            return None;
        };
        assert!(bind.read_only);
        let Source::Host(source) = &bind.source else {
            panic!("{bind:?}");
        };
        let text = fs::read_to_string(source).unwrap();
        Some((bind.destination.clone(), text))
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).unwrap().is_symlink()
}

#[test]
fn each_file_of_the_host_is_copied_written_anew_or_shown() {
    for (file, text) in [
        (Own, "of the host"),
        (Static, "fixed"),
        (Uplink, "of the uplinks"),
        (Stub, "of the stub"),
    ] {
        for names in [
            Names::Hosts,
            Names::Own,
            Names::Zones(&[zone(&["9.9.9.9"])]),
        ] {
            for mut place in [Place::new(), Place::with("a longer text of its own")] {
                place.provide(Put(Copy, file), names).unwrap();
                assert_eq!(place.text().as_deref(), Some(text));
                assert_eq!(place.shown(), None);
            }
            let mut place = Place::linked("../run/nowhere");
            place.provide(Put(Replace, file), names).unwrap();
            assert_eq!(place.text().as_deref(), Some(text));
            assert!(!is_link(&place.file));
            let mut place = Place::with("its own");
            place.provide(Put(Show, file), names).unwrap();
            assert_eq!(place.shown(), Some((FILE.into(), text.to_owned())));
            assert_eq!(place.text().as_deref(), Some("its own"));
        }
    }
}

#[test]
fn a_link_is_not_copied_through() {
    let mut place = Place::linked("target");
    let target = place.file.with_file_name("target");
    fs::write(&target, "its own").unwrap();
    let left = place.provide(Put(Copy, Own), Names::Hosts);
    assert!(matches!(left, Err(Left::NotPlain)));
    assert_eq!(fs::read_to_string(target).unwrap(), "its own");
    // Shown is where it leads.
    place.provide(Put(Show, Own), Names::Hosts).unwrap();
    assert_eq!(place.shown().unwrap().0, Path::new("/etc/target"));
}

#[test]
fn what_is_shown_over_a_link_without_a_target_gets_one() {
    let mut place = Place::linked("../run/resolved/conf");
    let root = place.settings.directory.clone().unwrap();
    let left = place.provide(Put(Show, Own), Names::Hosts);
    assert!(
        matches!(left, Err(Left::Inside { .. })),
        "there is no folder for it"
    );
    fs::create_dir_all(root.join("run/resolved")).unwrap();
    place.provide(Put(Show, Own), Names::Hosts).unwrap();
    assert_eq!(place.shown().unwrap().0, Path::new("/run/resolved/conf"));
    assert!(root.join("run/resolved/conf").exists());
    // Where nothing is there at all the runtime makes it.
    let mut place = Place::new();
    place.provide(Put(Show, Own), Names::Hosts).unwrap();
    assert_eq!(place.shown().unwrap().0, Path::new(FILE));
}

#[test]
fn no_link_leads_out_of_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("resolv.conf");
    let absolute = victim.to_str().unwrap();
    let modes = [
        Put(Copy, Own),
        Put(Replace, Own),
        Put(Show, Own),
        Delete,
        Auto,
    ];
    for mode in modes {
        // The file is a link, and so may /etc itself be.
        let file = Place::linked(absolute);
        let folder = Place::new();
        let etc = folder.file.parent().unwrap();
        fs::remove_dir(etc).unwrap();
        symlink(outside.path(), etc).unwrap();
        let dots = Place::linked(&format!("../../../../../../../../../..{absolute}"));
        for mut place in [file, folder, dots] {
            fs::write(&victim, "not yours").unwrap();
            let done = place.provide(mode, Names::Hosts);
            assert_eq!(
                fs::read_to_string(&victim).unwrap(),
                "not yours",
                "{mode:?} {done:?}"
            );
            for bind in &place.settings.binds {
                assert!(!bind.destination.starts_with(&place.host));
            }
        }
    }
    // Nor by a process's own.
    let mut place = Place::linked("/proc/self/root/etc/hostname");
    symlink(
        "/proc",
        place.settings.directory.clone().unwrap().join("proc"),
    )
    .unwrap();
    assert!(place.provide(Put(Show, Own), Names::Hosts).is_err());
}

#[test]
fn what_is_there_may_be_anything() {
    for mode in [Put(Copy, Own), Put(Show, Own)] {
        let mut place = Place::new();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &place.file, fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(
            place.provide(mode, Names::Hosts),
            Err(Left::NotPlain)
        ));
        let mut place = Place::new();
        fs::create_dir(&place.file).unwrap();
        assert!(matches!(
            place.provide(mode, Names::Hosts),
            Err(Left::NotPlain)
        ));
        let mut place = Place::linked("resolv.conf");
        assert!(matches!(
            place.provide(mode, Names::Hosts),
            Err(Left::NotPlain)
        ));
    }
}

#[test]
fn deleted_and_left_alone() {
    let mut place = Place::with("its own");
    place.provide(Off, Names::Hosts).unwrap();
    assert_eq!(place.text().as_deref(), Some("its own"));
    place.provide(Delete, Names::Hosts).unwrap();
    assert_eq!(place.text(), None);
    place.provide(Delete, Names::Hosts).unwrap();
    let mut place = Place::linked("nowhere");
    place.provide(Delete, Names::Hosts).unwrap();
    assert!(fs::symlink_metadata(&place.file).is_err());
}

#[test]
fn a_read_only_root_is_not_written() {
    for mode in [Put(Copy, Own), Put(Replace, Own), Delete] {
        let mut place = Place::with("its own");
        place.settings.read_only = true;
        assert!(matches!(
            place.provide(mode, Names::Hosts),
            Err(Left::ReadOnly)
        ));
        assert_eq!(place.text().as_deref(), Some("its own"));
        // Nor is the host's own root.
        let mut place = Place::new();
        place.settings.directory = None;
        assert!(matches!(
            place.provide(mode, Names::Hosts),
            Err(Left::ReadOnly)
        ));
    }
    let mut place = Place::with("its own");
    place.settings.read_only = true;
    place.provide(Put(Show, Own), Names::Hosts).unwrap();
    assert_eq!(place.shown().unwrap().1, "of the host");
}

#[test]
fn auto_with_the_hosts_network() {
    // systemd-resolved runs: its stub; copied into a root that can be written, else shown.
    let mut place = Place::with("its own");
    place.provide(Auto, Names::Hosts).unwrap();
    assert_eq!(place.text().as_deref(), Some("of the stub"));
    let mut place = Place::with("its own");
    place.settings.read_only = true;
    place.provide(Auto, Names::Hosts).unwrap();
    assert_eq!(place.text().as_deref(), Some("its own"));
    assert_eq!(place.shown().unwrap().1, "of the stub");
    // It does not, though its file is left over.
    let mut place = Place::with("its own");
    fs::write(place.host.join("proc/net/udp"), "1: 3500007F:0036 0:0\n").unwrap();
    place.provide(Auto, Names::Hosts).unwrap();
    assert_eq!(place.text().as_deref(), Some("of the host"));
    // A link is somebody's choice, and so is what is mounted.
    let mut place = Place::linked("target");
    place.provide(Auto, Names::Hosts).unwrap();
    assert!(is_link(&place.file));
    // The host has none.
    let mut place = Place::with("its own");
    fs::remove_dir_all(place.host.join("run")).unwrap();
    fs::remove_file(place.host.join("etc/resolv.conf")).unwrap();
    place.settings.read_only = true;
    place.provide(Auto, Names::Hosts).unwrap();
    assert_eq!(
        (place.text().as_deref(), place.shown()),
        (Some("its own"), None)
    );
    place.settings.read_only = false;
    place.provide(Auto, Names::Hosts).unwrap();
    assert_eq!(place.text(), None);
}

#[test]
fn auto_with_a_network_of_its_own_leaves_it_alone() {
    let mut place = Place::with("its own");
    place.provide(Auto, Names::Own).unwrap();
    assert_eq!(
        (place.text().as_deref(), place.shown()),
        (Some("its own"), None)
    );
}

#[test]
fn auto_in_a_zone_shows_its_resolvers_over_a_plain_file() {
    let mut place = Place::with("its own");
    let dmz = [zone(&["9.9.9.9", "fd00::1"])];
    place.provide(Auto, Names::Zones(&dmz)).unwrap();
    let text = "# zone dmz, by netd\nsearch dmz.test\nnameserver 9.9.9.9\nnameserver fd00::1\n";
    assert_eq!(place.shown(), Some((FILE.into(), text.to_owned())));
}

#[test]
fn auto_in_several_zones_shows_the_resolvers_of_all() {
    let mut place = Place::with("its own");
    let lan = Zone {
        name: "lan".into(),
        domain: "lan.test".into(),
        ..zone(&["9.9.9.10"])
    };
    let both = [zone(&["9.9.9.9"]), lan];
    place.provide(Auto, Names::Zones(&both)).unwrap();
    let text = "# zone dmz, lan, by netd\nsearch dmz.test lan.test\nnameserver 9.9.9.9\nnameserver 9.9.9.10\n";
    assert_eq!(place.shown(), Some((FILE.into(), text.to_owned())));
}

#[test]
fn and_over_nothing_else() {
    let dmz = [zone(&["9.9.9.9"])];
    let mut missing = Place::new();
    missing.provide(Auto, Names::Zones(&dmz)).unwrap();
    assert_eq!((missing.shown(), missing.text()), (None, None));
    let mut link = Place::linked("/run/x");
    link.provide(Auto, Names::Zones(&dmz)).unwrap();
    assert_eq!(link.shown(), None);
    let mut without = Place::with("");
    without.provide(Auto, Names::Zones(&[zone(&[])])).unwrap();
    assert_eq!(without.shown(), None);
    for own in ["/etc/resolv.conf", "/etc"] {
        let mut place = Place::with("");
        place.settings.binds = vec![Bind::parse(&format!("/x:{own}"), false).unwrap()];
        place.provide(Auto, Names::Zones(&dmz)).unwrap();
        assert_eq!(place.settings.binds.len(), 1, "{own} is given by the user");
        let left = place.provide(Put(Show, Own), Names::Hosts);
        assert!(matches!(left, Err(Left::Covered(_))));
        let left = place.provide(Put(Copy, Own), Names::Hosts);
        assert!(matches!(left, Err(Left::Covered(_))));
    }
}
