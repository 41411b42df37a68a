//! The container's /etc/resolv.conf, as `--resolv-conf=` says, with the meaning it has in systemd-nspawn(1).
//!
//! ```text
//! mode, network, root ─► what is done (auto decides here) ─► written into the root, or a bind in the settings
//! ```
//!
//! The root belongs to the container, so no link in it leads out of it ([`inside`]). In a zone, `auto` shows the zone's
//! own resolvers ([`zone_file`]). Nothing of this stops a container: what could not be done is told.

mod host;
pub(super) mod inside;
mod zone_file;

use std::io;
use std::path::{Path, PathBuf};

use spawner::{Bind, IdMap, Settings, Source};

use crate::api::Zone;
use crate::cli::{HostFile, How, ResolvConf};
use crate::dirs::Dirs;
use host::Host;
use inside::{Root, Target};

/// The container's file.
const FILE: &str = "/etc/resolv.conf";

/// Why the container's file is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Left {
    #[error("the container's root is read-only")]
    ReadOnly,
    #[error("something else is mounted over {}", .0.display())]
    Covered(PathBuf),
    #[error("the container's {FILE} is no plain file")]
    NotPlain,
    #[error("read {}", .path.display())]
    Source {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{action} the container's {FILE}")]
    Inside {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("write the zone's resolvers into {}", .path.display())]
    ZoneFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The network of a container, as far as names are concerned.
#[derive(Debug, Clone, Copy)]
pub(super) enum Names<'a> {
    /// It shares the host's.
    Hosts,
    /// It has one of its own, and finds out itself.
    Own,
    /// These zones', configured from outside.
    Zones(&'a [Zone]),
}

/// Does what the mode says, adding to the settings where something is to be shown.
pub(super) fn provide(
    dirs: &Dirs,
    mode: ResolvConf,
    names: Names<'_>,
    settings: &mut Settings,
) -> Result<(), Left> {
    provide_from(&Host::new("/"), dirs, mode, names, settings)
}

fn provide_from(
    host: &Host,
    dirs: &Dirs,
    mode: ResolvConf,
    names: Names<'_>,
    settings: &mut Settings,
) -> Result<(), Left> {
    let writable = super::is_kept(settings);
    let done = match (mode, names) {
        (ResolvConf::Off, _) | (ResolvConf::Auto, Names::Own) => Ok(()),
        (ResolvConf::Auto, Names::Zones(zones)) => show_zones(dirs, zones, settings),
        (ResolvConf::Auto, Names::Hosts) => match (host.auto(), writable) {
            (Some(file), true) => put(host, How::Copy, file, settings),
            (Some(file), false) => put(host, How::Bind, file, settings),
            (None, true) => delete(settings),
            (None, false) => Ok(()),
        },
        (ResolvConf::Delete, _) => delete(settings),
        (ResolvConf::Put(how, file), _) => put(host, how, file, settings),
    };
    match done {
        // What is there was chosen by somebody: nobody asked for something else.
        Err(Left::NotPlain | Left::Covered(_)) if mode == ResolvConf::Auto => Ok(()),
        done => done,
    }
}

/// The zones' resolvers, over a file that is there: nothing is made in somebody's root.
fn show_zones(dirs: &Dirs, zones: &[Zone], settings: &mut Settings) -> Result<(), Left> {
    if zones.iter().all(|zone| zone.dns.is_empty()) {
        return Ok(());
    }
    let Target::File(target) = root(settings)?.target().map_err(look)? else {
        return Ok(());
    };
    uncovered(settings, &target)?;
    let source = zone_file::write(dirs, zones)?;
    show(settings, source, target);
    Ok(())
}

/// A file of the host in the container's place.
fn put(host: &Host, how: How, file: HostFile, settings: &mut Settings) -> Result<(), Left> {
    let source = host.path(file);
    // Before anything is changed.
    let text = std::fs::read(&source).map_err(|e| Left::Source {
        path: source.clone(),
        source: e,
    })?;
    match how {
        How::Bind => {
            let target = mount_point(settings)?;
            uncovered(settings, &target)?;
            show(settings, source, target);
            Ok(())
        }
        // what is written into a root that is not kept would be written into the one that it is made from
        How::Copy | How::Replace
            if settings.directory.is_some() && !settings.read_only && !super::is_kept(settings) =>
        {
            put(host, How::Bind, file, settings)
        }
        How::Copy => writable(settings)?
            .copy(&text)
            .map_err(inside_of("write"))?
            .then_some(())
            .ok_or(Left::NotPlain),
        How::Replace => writable(settings)?
            .replace(&text)
            .map_err(inside_of("replace")),
    }
}

fn delete(settings: &Settings) -> Result<(), Left> {
    writable(settings)?.delete().map_err(inside_of("delete"))
}

/// Where a file is shown; made where it is missing.
fn mount_point(settings: &Settings) -> Result<PathBuf, Left> {
    let root = root(settings)?;
    let target = match root.target().map_err(look)? {
        // The runtime makes it, as for any bind.
        Target::Missing if settings.directory.is_some() => return Ok(FILE.into()),
        Target::Missing => return Err(Left::ReadOnly),
        Target::Dangling if super::is_kept(settings) => {
            root.touch().map_err(inside_of("make"))?;
            root.target().map_err(look)?
        }
        target => target,
    };
    match target {
        Target::File(path) => Ok(path),
        _ => Err(Left::NotPlain),
    }
}

/// The root, to be written into.
fn writable(settings: &Settings) -> Result<Root, Left> {
    if !super::is_kept(settings) {
        return Err(Left::ReadOnly);
    }
    uncovered(settings, Path::new(FILE))?;
    root(settings)
}

fn root(settings: &Settings) -> Result<Root, Left> {
    let directory = settings.directory.as_deref().unwrap_or(Path::new("/"));
    Root::open(directory, "resolv.conf").map_err(look)
}

fn show(settings: &mut Settings, source: PathBuf, destination: PathBuf) {
    settings.binds.insert(
        0,
        Bind {
            source: Source::Host(source),
            destination,
            read_only: true,
            recursive: false,
            idmap: IdMap::None,
        },
    );
}

/// Refuses where something else is mounted over the path, by the user's wish.
fn uncovered(settings: &Settings, path: &Path) -> Result<(), Left> {
    let binds = settings.binds.iter().map(|b| &b.destination);
    let tmpfs = settings.tmpfs.iter().map(|t| &t.destination);
    let overlays = settings.overlays.iter().map(|o| &o.destination);
    let mut all = binds.chain(tmpfs).chain(overlays);
    match all.find(|mount| path.starts_with(mount) || Path::new(FILE).starts_with(mount)) {
        Some(mount) => Err(Left::Covered(mount.clone())),
        None => Ok(()),
    }
}

fn inside_of(action: &'static str) -> impl FnOnce(io::Error) -> Left {
    move |source| Left::Inside { action, source }
}

fn look(source: io::Error) -> Left {
    inside_of("look at")(source)
}

#[cfg(test)]
mod tests;
