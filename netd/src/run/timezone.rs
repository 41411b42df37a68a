//! The container's /etc/localtime, as `--timezone=` says, with the meaning it has in systemd-nspawn(1).

use std::io;
use std::path::{Path, PathBuf};

use spawner::{Bind, IdMap, Settings, Source, Volatile};

use super::resolver::inside::{Root, Target};
use crate::cli::Timezone;

const NAME: &str = "localtime";
/// Where zones are, seen from /etc.
const ZONES: &str = "../usr/share/zoneinfo/";

/// Why the container's file is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Left {
    #[error("the host's {} is no link to a zone of /usr/share/zoneinfo", .0.display())]
    NoZone(PathBuf),
    #[error("the container has no zone {0}")]
    Unknown(String),
    #[error("the container's root is read-only")]
    ReadOnly,
    #[error("the container's /etc/{NAME} is no plain file")]
    NotPlain,
    #[error("read {}", .path.display())]
    Host {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{action} the container's /etc/{NAME}")]
    Inside {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Does what the mode says, adding to the settings where something is to be shown.
pub(super) fn provide(mode: Timezone, settings: &mut Settings) -> Result<(), Left> {
    provide_from(Path::new("/"), mode, settings)
}

fn provide_from(host: &Path, mode: Timezone, settings: &mut Settings) -> Result<(), Left> {
    // the host's own root has the host's own zone
    if mode == Timezone::Off || settings.directory.is_none() || settings.volatile == Volatile::Yes {
        return Ok(());
    }
    let file = host.join("etc").join(NAME);
    let link = std::fs::read_link(&file);
    let kept = super::is_kept(settings);
    let shown = match kept {
        true => Timezone::Copy,
        false => Timezone::Bind,
    };
    let done = match (mode, &link) {
        (Timezone::Auto, Err(e)) if e.kind() == io::ErrorKind::NotFound => delete(settings),
        (Timezone::Auto, Ok(_)) if kept => symlink(&file, link.as_deref(), settings),
        (Timezone::Auto, _) => put(shown, &file, settings),
        (Timezone::Symlink, Ok(_)) => symlink(&file, link.as_deref(), settings),
        // a host without a link has nothing to point to: as systemd-nspawn does
        (Timezone::Symlink, Err(_)) => put(shown, &file, settings),
        (Timezone::Delete, _) => delete(settings),
        (mode, _) => put(mode, &file, settings),
    };
    match done {
        // nobody asked for something else than what the root has
        Err(_) if mode == Timezone::Auto => Ok(()),
        done => done,
    }
}

fn symlink(file: &Path, link: Result<&Path, &io::Error>, settings: &Settings) -> Result<(), Left> {
    let none = || Left::NoZone(file.to_owned());
    let target = link.map_err(|_| none())?.to_string_lossy().into_owned();
    let zone = target
        .strip_prefix(ZONES)
        .or_else(|| target.strip_prefix(ZONES.trim_start_matches("..")))
        .filter(|zone| !zone.split('/').any(|part| part == ".."))
        .ok_or_else(none)?;
    let root = writable(settings)?;
    if !root.has(&format!("usr/share/zoneinfo/{zone}")) {
        return Err(Left::Unknown(zone.to_owned()));
    }
    root.link(&format!("{ZONES}{zone}"))
        .map_err(inside("replace"))
}

fn delete(settings: &Settings) -> Result<(), Left> {
    writable(settings)?.delete().map_err(inside("delete"))
}

fn put(mode: Timezone, file: &Path, settings: &mut Settings) -> Result<(), Left> {
    let fail = |source| Left::Host {
        path: file.to_owned(),
        source,
    };
    if mode == Timezone::Bind || !super::is_kept(settings) && !settings.read_only {
        let source = file.canonicalize().map_err(fail)?;
        let target = match root(settings)?.target().map_err(inside("look at"))? {
            Target::File(path) => path,
            // the runtime makes it
            Target::Missing if !settings.read_only => Path::new("/etc").join(NAME),
            Target::Missing => return Err(Left::ReadOnly),
            // nothing to show it at: as systemd-nspawn does
            Target::Dangling if super::is_kept(settings) => {
                return put(Timezone::Copy, file, settings);
            }
            Target::Dangling | Target::Other => return Err(Left::NotPlain),
        };
        settings.binds.push(Bind {
            source: Source::Host(source),
            destination: target,
            read_only: true,
            recursive: false,
            idmap: IdMap::None,
        });
        return Ok(());
    }
    let text = std::fs::read(file).map_err(fail)?;
    writable(settings)?.replace(&text).map_err(inside("write"))
}

fn writable(settings: &Settings) -> Result<Root, Left> {
    match super::is_kept(settings) {
        true => root(settings),
        false => Err(Left::ReadOnly),
    }
}

fn root(settings: &Settings) -> Result<Root, Left> {
    let directory = settings.directory.as_deref().unwrap_or(Path::new("/"));
    Root::open(directory, NAME).map_err(inside("look at"))
}

fn inside(action: &'static str) -> impl FnOnce(io::Error) -> Left {
    move |source| Left::Inside { action, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink as link;

    use super::*;

    struct World {
        dir: tempfile::TempDir,
    }

    impl World {
        /// A host with a zone, and a root that knows the zone; `plain`: the host's file is no link.
        fn new(plain: bool) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for tree in ["host", "root"] {
                fs::create_dir_all(dir.path().join(tree).join("etc")).unwrap();
                let zones = dir.path().join(tree).join("usr/share/zoneinfo/Europe");
                fs::create_dir_all(&zones).unwrap();
                fs::write(zones.join("Vienna"), tree).unwrap();
            }
            let file = dir.path().join("host/etc/localtime");
            match plain {
                true => fs::write(file, "plain").unwrap(),
                false => link("../usr/share/zoneinfo/Europe/Vienna", file).unwrap(),
            }
            Self { dir }
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("root/etc/localtime")
        }

        fn with(&self, mode: Timezone, read_only: bool) -> (Result<(), String>, Settings) {
            let mut settings = Settings::new("web".parse().unwrap(), "/run", ["true"]);
            settings.directory = Some(self.dir.path().join("root"));
            settings.read_only = read_only;
            let done = provide_from(&self.dir.path().join("host"), mode, &mut settings);
            (done.map_err(|e| e.to_string()), settings)
        }
    }

    #[test]
    fn every_mode() {
        let world = World::new(false);
        let text = || fs::read_to_string(world.file()).unwrap();
        assert_eq!(world.with(Timezone::Off, false).0, Ok(()));
        assert!(!world.file().exists());
        assert_eq!(world.with(Timezone::Copy, false).0, Ok(()));
        assert_eq!(text(), "host");
        assert!(world.file().symlink_metadata().unwrap().is_file());
        for mode in [Timezone::Auto, Timezone::Symlink] {
            assert_eq!(world.with(mode, false).0, Ok(()));
            let target = fs::read_link(world.file()).unwrap();
            assert_eq!(target, Path::new("../usr/share/zoneinfo/Europe/Vienna"));
        }
        let (done, settings) = world.with(Timezone::Bind, false);
        assert_eq!(done, Ok(()));
        assert_eq!(
            settings.binds[0].destination,
            Path::new("/usr/share/zoneinfo/Europe/Vienna")
        );
        assert_eq!(world.with(Timezone::Delete, false).0, Ok(()));
        assert!(world.file().symlink_metadata().is_err());
    }

    #[test]
    fn a_host_without_a_link_is_copied() {
        let world = World::new(true);
        assert_eq!(world.with(Timezone::Auto, false).0, Ok(()));
        assert_eq!(fs::read_to_string(world.file()).unwrap(), "plain");
    }

    #[test]
    fn a_root_that_cannot_be_written_is_shown_it() {
        let world = World::new(false);
        fs::write(world.file(), "own").unwrap();
        let (done, settings) = world.with(Timezone::Auto, true);
        assert_eq!((done, settings.binds.len()), (Ok(()), 1));
        assert_eq!(fs::read_to_string(world.file()).unwrap(), "own");
        let told = world.with(Timezone::Copy, true).0.unwrap_err();
        assert!(told.contains("read-only"), "{told}");
    }

    #[test]
    fn no_link_leads_out_and_what_is_unknown_is_named() {
        let world = World::new(false);
        let outside = world.dir.path().join("precious");
        fs::write(&outside, "precious").unwrap();
        link(&outside, world.file()).unwrap();
        assert_eq!(world.with(Timezone::Copy, false).0, Ok(()));
        assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
        fs::remove_dir_all(world.dir.path().join("root/usr")).unwrap();
        let told = world.with(Timezone::Symlink, false).0.unwrap_err();
        assert!(told.contains("Europe/Vienna"), "{told}");
        assert_eq!(world.with(Timezone::Auto, false).0, Ok(()), "nobody asked");
    }
}
