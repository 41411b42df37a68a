//! A zone's resolvers and domain, as one file for each zone, shown read-only over the container's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Left;
use crate::api::Zone;
use crate::dirs::Dirs;

/// Writes the zone's file: whole under its name, so that containers that start see one or the other.
pub(super) fn write(dirs: &Dirs, zone: &Zone) -> Result<PathBuf, Left> {
    let folder = dirs.runtime.join("resolv");
    let path = folder.join(format!("{}.conf", zone.name));
    let text = crate::resolv::text(&format!("zone {}", zone.name), &zone.domain, &zone.dns);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(path);
    }
    let temporary = folder.join(format!(".{}.{}", zone.name, std::process::id()));
    put(&folder, &temporary, &path, &text).map_err(|source| Left::ZoneFile {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

fn put(folder: &Path, temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(temporary, text)?;
    fs::rename(temporary, path)
}
