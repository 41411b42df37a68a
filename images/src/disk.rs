//! A disk image as a tree: its partitions found by their types, mounted through loop devices.
//!
//! As the Discoverable Partitions Specification has it (systemd-dissect(1)): the root of this machine's architecture, and /usr, /home,
//! /srv, /var where there are partitions of their own. Without a partition table the whole disk is one file system; with a table that
//! has no root but one generic Linux partition, that is the root.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::MountFlags;

use crate::error::ImageError;
use crate::sys;

/// Types of partitions, in capitals, and where they are mounted. The first is the root.
const TYPES: [(&str, &str); 5] = [
    (ROOT, ""),
    (USR, "usr"),
    ("933AC7E1-2EB4-4F13-B844-0E14E2AEF915", "home"),
    ("3B8F8425-20E0-4F3B-907F-1A25A76F98E8", "srv"),
    ("4D21B016-B534-45C2-A9FB-5C16E091FD2D", "var"),
];
/// "Linux filesystem data".
const GENERIC: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";

#[cfg(target_arch = "aarch64")]
const ROOT: &str = "B921B045-1DF0-41C3-AF44-4C6F280D3FAE";
#[cfg(target_arch = "aarch64")]
const USR: &str = "B0E01050-EE5F-4390-949A-9101B17104E9";
#[cfg(not(target_arch = "aarch64"))]
const ROOT: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
#[cfg(not(target_arch = "aarch64"))]
const USR: &str = "8484680C-9521-48C6-9C11-B0720656F69E";

/// A part of a disk, in bytes, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    place: &'static str,
    start: u64,
    length: u64,
}

/// What keeps a mounted disk there. It stays mounted until its mount namespace ends, or it is unmounted.
#[derive(Debug)]
pub struct Mounted(#[expect(dead_code, reason = "held open, not used")] Vec<OwnedFd>);

/// Mounts the disk `path` at `target`, in this process's mount namespace. Devices on it do nothing.
///
/// # Errors
/// [`ImageError::Kind`] for a disk without a root, or of a file system that is not known; [`ImageError::File`] where the machine has
/// no loop devices, or the kernel does not know the file system.
pub fn mount(path: &Path, target: &Path, read_only: bool) -> Result<Mounted, ImageError> {
    let fail = |action| ImageError::file::<io::Error>(action, path);
    let mut disk = fs::OpenOptions::new()
        .read(true)
        .write(!read_only)
        .open(path)
        .map_err(fail("open"))?;
    let parts = parts(&mut disk, path)?;
    let mut held = Vec::new();
    for part in parts {
        let kind = file_system(&mut disk, &part)
            .map_err(fail("read"))?
            .ok_or_else(|| ImageError::Kind {
                what: path.display().to_string(),
                reason: format!(
                    "what is to be /{} is of no file system that is known",
                    part.place
                ),
            })?;
        // these cannot be written
        let read_only = read_only || matches!(kind, "squashfs" | "erofs");
        let at = target.join(part.place);
        let (device, held_open) = sys::loop_device(&disk, part.start, part.length, read_only).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => ImageError::Kind {
                what: path.display().to_string(),
                reason: format!("this machine has no loop devices to mount a disk with (/dev/loop-control: {e}); unpack it into a folder instead"),
            },
            _ => fail("make a loop device of")(e),
        })?;
        let mut flags = MountFlags::NODEV;
        flags.set(MountFlags::RDONLY, read_only);
        rustix::mount::mount(&device, &at, kind, flags, None).map_err(|e| {
            fail("mount")(io::Error::new(
                io::Error::from(e).kind(),
                format!("as {kind}: {e}"),
            ))
        })?;
        held.push(held_open);
    }
    Ok(Mounted(held))
}

/// The parts that are mounted, the root first.
fn parts(disk: &mut File, path: &Path) -> Result<Vec<Part>, ImageError> {
    let length = disk
        .seek(SeekFrom::End(0))
        .map_err(ImageError::file("read", path))?;
    let whole = Part {
        place: "",
        start: 0,
        length,
    };
    let Ok(table) = gpt::GptConfig::new()
        .writable(false)
        .open_from_device(&mut *disk)
    else {
        return Ok(vec![whole]);
    };
    let block = u64::from(*table.logical_block_size());
    let mut found: Vec<Part> = Vec::new();
    let mut generic: Vec<Part> = Vec::new();
    for partition in table.partitions().values() {
        let guid = partition.part_type_guid.guid.to_string().to_uppercase();
        let extent = || {
            let (first, last) = (
                partition.first_lba.checked_mul(block)?,
                partition.last_lba.checked_add(1)?.checked_mul(block)?,
            );
            (first < last && last <= length).then_some((first, last - first))
        };
        let Some((start, size)) = extent() else {
            continue;
        };
        let part = |place| Part {
            place,
            start,
            length: size,
        };
        // the first of a type counts
        if let Some((_, place)) = TYPES.iter().find(|(known, _)| *known == guid)
            && !found.iter().any(|known| known.place == *place)
        {
            found.push(part(place));
        } else if guid == GENERIC {
            generic.push(part(""));
        }
    }
    found.sort_by_key(|part| part.place);
    if found.first().is_none_or(|part| !part.place.is_empty()) {
        match generic.as_slice() {
            [only] => found.insert(0, only.clone()),
            _ => {
                return Err(ImageError::Kind {
                    what: path.display().to_string(),
                    reason: "a disk without a root partition for this machine's architecture"
                        .into(),
                });
            }
        }
    }
    Ok(found)
}

/// By the numbers that file systems begin with.
fn file_system(disk: &mut File, part: &Part) -> io::Result<Option<&'static str>> {
    let mut at = |offset: u64, magic: &[u8]| -> io::Result<bool> {
        if offset + magic.len() as u64 > part.length {
            return Ok(false);
        }
        let mut bytes = vec![0; magic.len()];
        disk.seek(SeekFrom::Start(part.start + offset))?;
        disk.read_exact(&mut bytes)?;
        Ok(bytes == magic)
    };
    let known: [(&str, u64, &[u8]); 5] = [
        ("ext4", 0x438, b"\x53\xef"),
        ("squashfs", 0, b"hsqs"),
        ("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
        ("btrfs", 0x1_0040, b"_BHRfS_M"),
        ("xfs", 0, b"XFSB"),
    ];
    for (name, offset, magic) in known {
        if at(offset, magic)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use gpt::partition_types::Type;

    fn disk(types: &[&str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        let file = File::create_new(&path).unwrap();
        file.set_len(32 << 20).unwrap();
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let mut table = gpt::GptConfig::new()
            .writable(true)
            .create_from_device(file, None)
            .unwrap();
        for guid in types {
            let kind = Type {
                guid: (*guid).parse().unwrap(),
                os: gpt::partition_types::OperatingSystem::Linux,
            };
            table.add_partition("x", 4 << 20, kind, 0, None).unwrap();
        }
        table.write().unwrap();
        (dir, path)
    }

    fn places(types: &[&str]) -> Result<Vec<&'static str>, ImageError> {
        let (_dir, path) = disk(types);
        let parts = parts(&mut File::open(&path).unwrap(), &path)?;
        assert!(
            parts
                .iter()
                .all(|part| part.start > 0 && part.length == 4 << 20)
        );
        Ok(parts.iter().map(|part| part.place).collect())
    }

    #[test]
    fn partitions_are_found_by_their_types() {
        let home = "933AC7E1-2EB4-4F13-B844-0E14E2AEF915";
        assert_eq!(places(&[home, ROOT, USR]).unwrap(), ["", "home", "usr"]);
        assert_eq!(places(&[GENERIC]).unwrap(), [""]);
        assert!(places(&[home]).is_err());
        assert!(places(&[GENERIC, GENERIC]).is_err());
    }

    #[test]
    fn without_a_table_it_is_one_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain");
        fs::write(&path, vec![0; 1 << 20]).unwrap();
        let mut file = File::open(&path).unwrap();
        let parts = parts(&mut file, &path).unwrap();
        assert!(parts.len() == 1 && parts[0].length == 1 << 20);
        assert_eq!(file_system(&mut file, &parts[0]).unwrap(), None);
        let mut bytes = vec![0; 4096];
        bytes[0x438..0x43a].copy_from_slice(b"\x53\xef");
        fs::write(&path, &bytes).unwrap();
        let whole = Part {
            place: "",
            start: 0,
            length: 4096,
        };
        assert_eq!(
            file_system(&mut File::open(&path).unwrap(), &whole).unwrap(),
            Some("ext4")
        );
    }
}
