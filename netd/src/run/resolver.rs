//! The container's /etc/resolv.conf: the zone's resolvers and domain, as one file for each zone, shown
//! read-only over the container's own.
//!
//! Only over a plain file that is there already: nothing is made in somebody's root directory, and what
//! lies behind a symbolic link is known inside only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use spawner::{Bind, Settings};

use crate::api::Zone;
use crate::dirs::Dirs;

const FILE: &str = "/etc/resolv.conf";

/// Adds the bind to the settings where it belongs there. `Ok(false)`: it does not.
pub(super) fn provide(dirs: &Dirs, zone: &Zone, settings: &mut Settings) -> io::Result<bool> {
    if zone.dns.is_empty() || taken(settings) || !is_plain(settings.directory.as_deref()) {
        return Ok(false);
    }
    let source = write(dirs, zone)?;
    // First, so that it stands even where somebody binds a directory of its own below /etc.
    settings.binds.insert(
        0,
        Bind {
            source,
            destination: FILE.into(),
            read_only: true,
            recursive: false,
            idmap: false,
        },
    );
    Ok(true)
}

/// Whether something else is mounted over the file.
fn taken(settings: &Settings) -> bool {
    let binds = settings.binds.iter().map(|b| &b.destination);
    let tmpfs = settings.tmpfs.iter().map(|t| &t.destination);
    binds
        .chain(tmpfs)
        .any(|destination| Path::new(FILE).starts_with(destination))
}

fn is_plain(directory: Option<&Path>) -> bool {
    let path = directory.unwrap_or(Path::new("/")).join(&FILE[1..]);
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Writes the zone's file: whole under its name, so that containers that start see one or the other.
fn write(dirs: &Dirs, zone: &Zone) -> io::Result<PathBuf> {
    let folder = dirs.runtime.join("resolv");
    let path = folder.join(format!("{}.conf", zone.name));
    let wanted = text(zone);
    if fs::read_to_string(&path).is_ok_and(|there| there == wanted) {
        return Ok(path);
    }
    fs::create_dir_all(&folder)?;
    let temporary = folder.join(format!(".{}.{}", zone.name, std::process::id()));
    fs::write(&temporary, wanted)?;
    fs::rename(&temporary, &path)?;
    Ok(path)
}

/// resolv.conf(5).
fn text(zone: &Zone) -> String {
    let mut text = format!("# zone {}, by netd\n", zone.name);
    if !zone.domain.is_empty() {
        text.push_str(&format!("search {}\n", zone.domain));
    }
    for server in &zone.dns {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn zone(dns: &[&str]) -> Zone {
        serde_json::from_value(serde_json::json!({
            "name": "dmz", "bridge": "vz-dmz", "internal": false, "default": "egress", "mtu": 1500,
            "domain": "dmz.test", "dns": dns, "containers": []
        }))
        .unwrap()
    }

    struct Root {
        _dir: tempfile::TempDir,
        dirs: Dirs,
        settings: Settings,
        file: PathBuf,
    }

    fn root() -> Root {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        let mut settings = Settings::new("web".parse().unwrap(), "/run/x", ["true"]);
        settings.directory = Some(root.clone());
        Root {
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

    #[test]
    fn the_zones_resolvers_are_shown_over_a_plain_file() {
        let mut root = root();
        fs::write(&root.file, "nameserver 127.0.0.53\n").unwrap();
        assert!(
            provide(
                &root.dirs,
                &zone(&["9.9.9.9", "fd00::1"]),
                &mut root.settings
            )
            .unwrap()
        );
        let bind = &root.settings.binds[0];
        assert_eq!(bind.destination, Path::new("/etc/resolv.conf"));
        assert!(bind.read_only);
        assert_eq!(
            fs::read_to_string(&bind.source).unwrap(),
            "# zone dmz, by netd\nsearch dmz.test\nnameserver 9.9.9.9\nnameserver fd00::1\n"
        );
    }

    #[test]
    fn and_over_nothing_else() {
        let mut root = root();
        let mut offered = |dns: &[&str]| {
            let done = provide(&root.dirs, &zone(dns), &mut root.settings).unwrap();
            assert_eq!(done, !root.settings.binds.is_empty());
            done
        };
        assert!(!offered(&["9.9.9.9"]), "there is no file");
        std::os::unix::fs::symlink("/run/x", &root.file).unwrap();
        assert!(!offered(&["9.9.9.9"]), "a symbolic link");
        fs::remove_file(&root.file).unwrap();
        fs::write(&root.file, "").unwrap();
        assert!(!offered(&[]), "no resolvers");
        for own in ["/etc/resolv.conf", "/etc"] {
            root.settings.binds = vec![Bind::parse(&format!("/x:{own}"), false).unwrap()];
            assert!(!provide(&root.dirs, &zone(&["9.9.9.9"]), &mut root.settings).unwrap());
            assert_eq!(root.settings.binds.len(), 1, "{own} is given by the user");
        }
    }
}
