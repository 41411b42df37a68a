//! The resolvers and domains of zones, as one file for each choice of them, shown read-only over the container's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Left;
use crate::api::Zone;
use crate::dirs::Dirs;
use crate::resolv::Part;

/// Writes the zones' file: whole under its name, so that containers that start see one or the other.
pub(super) fn write(dirs: &Dirs, zones: &[Zone]) -> Result<PathBuf, Left> {
    let folder = dirs.runtime.join("resolv");
    let names: Vec<&str> = zones.iter().map(|zone| zone.name.as_str()).collect();
    let name = file_name(&names);
    let path = folder.join(format!("{name}.conf"));
    let parts: Vec<Part<'_, String>> = zones
        .iter()
        .map(|zone| Part {
            domain: &zone.domain,
            servers: &zone.dns,
        })
        .collect();
    let text = crate::resolv::text(&format!("zone {}", names.join(", ")), &parts);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(path);
    }
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    put(&folder, &temporary, &path, &text).map_err(|source| Left::ZoneFile {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// Sixteen names of zones are longer than a file's name may be (NAME_MAX), so that many go by their hash.
fn file_name(zones: &[&str]) -> String {
    use sha2::Digest;
    let name = zones.join("+");
    if name.len() <= 128 {
        return name;
    }
    let hash = sha2::Sha256::digest(name.as_bytes());
    hash.iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn put(folder: &Path, temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(temporary, text)?;
    fs::rename(temporary, path)
}
