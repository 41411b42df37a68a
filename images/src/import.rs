//! Files → images, and images → files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::archive::{self, Cancel, Owners, Unpacked};
use crate::codec::{self, Codec, Writer};
use crate::error::ImageError;
use crate::name::ImageName;
use crate::store::{Image, Kind, Store};

/// Begins a disk in QEMU's form, which would have to be converted.
const QCOW: &[u8] = b"QFI\xfb";

/// How an image is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Making {
    /// Replace the one that has the name.
    pub force: bool,
    /// Mark it read-only.
    pub read_only: bool,
}

/// A tar archive, compressed or not, becomes a tree.
///
/// # Errors
/// [`ImageError::Exists`], or what is wrong with the archive; then nothing is left of it.
pub fn import_tar(
    store: &Store,
    source: impl Read,
    name: &ImageName,
    making: Making,
    cancel: &Cancel,
) -> Result<(Image, Unpacked), ImageError> {
    let staging = store.stage(name, Kind::Directory, making.force)?;
    let owners = match rustix::process::geteuid().is_root() {
        true => Owners::Kept,
        false => Owners::Mine,
    };
    let unpacked = archive::unpack(source, staging.file().as_fd(), owners, cancel)?;
    lift(staging.path())?;
    staging.finish()?;
    Ok((store.mark(name, making.read_only)?, unpacked))
}

/// Where all of an archive lies in one folder, and that is a system's root, the tree is that folder.
fn lift(tree: &Path) -> Result<(), ImageError> {
    let fail = || ImageError::file::<io::Error>("move up", tree);
    let entries: Vec<_> = fs::read_dir(tree).map_err(fail())?.flatten().collect();
    let [only] = entries.as_slice() else {
        return Ok(());
    };
    let is_root = |dir: &Path| {
        let there = |name: &str| fs::symlink_metadata(dir.join(name)).is_ok();
        there("usr") || (there("bin") && there("etc"))
    };
    let inner = only.path();
    if !only.file_type().is_ok_and(|kind| kind.is_dir())
        || only.file_name() == "usr"
        || !is_root(&inner)
    {
        return Ok(());
    }
    let meta = fs::metadata(&inner).map_err(fail())?;
    for entry in fs::read_dir(&inner).map_err(fail())?.flatten() {
        let mut name = entry.file_name();
        if name == only.file_name() {
            // it would meet the folder that it leaves
            name.push(".");
        }
        fs::rename(entry.path(), tree.join(name)).map_err(fail())?;
    }
    fs::remove_dir(&inner).map_err(fail())?;
    let mut doubled = only.file_name();
    doubled.push(".");
    if fs::symlink_metadata(tree.join(&doubled)).is_ok() {
        fs::rename(tree.join(&doubled), &inner).map_err(fail())?;
    }
    fs::set_permissions(tree, meta.permissions()).map_err(fail())
}

/// A disk, compressed or not, becomes one with its holes.
///
/// # Errors
/// As [`import_tar`]; [`ImageError::Kind`] for what is no raw disk.
pub fn import_raw(
    store: &Store,
    source: impl Read,
    name: &ImageName,
    making: Making,
    cancel: &Cancel,
) -> Result<Image, ImageError> {
    let staging = store.stage(name, Kind::Raw, making.force)?;
    let wrong = |e: io::Error| match cancel.is_cancelled() {
        true => ImageError::Cancelled,
        false => ImageError::Archive(e),
    };
    let mut source = codec::reader(cancel.reader(source)).map_err(wrong)?;
    let mut start = Vec::new();
    source
        .by_ref()
        .take(4096)
        .read_to_end(&mut start)
        .map_err(wrong)?;
    let refuse = |reason: &str| ImageError::Kind {
        what: name.to_string(),
        reason: reason.into(),
    };
    if start.starts_with(QCOW) {
        return Err(refuse(
            "a disk of QEMU's, not a raw one: `qemu-img convert -O raw` makes one of it",
        ));
    }
    if start.len() < 512 {
        return Err(refuse("too short for a disk"));
    }
    let write = || ImageError::file::<io::Error>("write", staging.path());
    let mut disk = OpenOptions::new()
        .write(true)
        .open(staging.path())
        .map_err(write())?;
    let copied = archive::copy_with_holes(&mut start.as_slice().chain(source), &mut disk);
    copied.map_err(wrong)?;
    disk.set_permissions(fs::Permissions::from_mode(0o644))
        .map_err(write())?;
    drop(disk);
    staging.finish()?;
    store.mark(name, making.read_only)
}

/// Writes a tree as an archive.
///
/// # Errors
/// [`ImageError::Kind`] for a disk, or what could not be read or written.
pub fn export_tar<W: Write>(
    image: &Image,
    sink: W,
    codec: Codec,
    cancel: &Cancel,
) -> Result<W, ImageError> {
    if image.kind != Kind::Directory {
        return Err(ImageError::Kind {
            what: image.name.clone(),
            reason: "a disk, which `netd export-raw` exports".into(),
        });
    }
    let tree = File::open(&image.path).map_err(ImageError::file("open", &image.path))?;
    let writer = Writer::new(codec, sink).map_err(ImageError::Write)?;
    let writer = archive::pack(tree.as_fd(), writer, cancel)?;
    finish(writer)
}

/// Writes a disk.
///
/// # Errors
/// [`ImageError::Kind`] for a tree, or what could not be read or written.
pub fn export_raw<W: Write>(
    image: &Image,
    sink: W,
    codec: Codec,
    cancel: &Cancel,
) -> Result<W, ImageError> {
    if image.kind != Kind::Raw {
        return Err(ImageError::Kind {
            what: image.name.clone(),
            reason: "a tree of files, which `netd export-tar` exports".into(),
        });
    }
    let disk = File::open(&image.path).map_err(ImageError::file("open", &image.path))?;
    let mut writer = Writer::new(codec, sink).map_err(ImageError::Write)?;
    io::copy(&mut cancel.reader(disk), &mut writer).map_err(|e| match cancel.is_cancelled() {
        true => ImageError::Cancelled,
        false => ImageError::Write(e),
    })?;
    finish(writer)
}

fn finish<W: Write>(writer: Writer<W>) -> Result<W, ImageError> {
    let mut sink = writer.finish().map_err(ImageError::Write)?;
    sink.flush().map_err(ImageError::Write)?;
    Ok(sink)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("machines");
        (dir, Store::new(vec![home.clone()], home))
    }

    fn left(store: &Store) -> Vec<std::ffi::OsString> {
        fs::read_dir(store.home())
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect()
    }

    #[test]
    fn a_tree_goes_out_and_comes_in_whatever_the_suffix() {
        let (dir, store) = place();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("etc/os-release"), "ID=x\n").unwrap();
        let cancel = Cancel::default();
        let name: ImageName = "web".parse().unwrap();
        let tree = File::open(&root).unwrap();
        let tar = archive::pack(tree.as_fd(), Vec::new(), &cancel).unwrap();
        let (image, done) =
            import_tar(&store, tar.as_slice(), &name, Making::default(), &cancel).unwrap();
        assert!(image.kind == Kind::Directory && done.entries == 4);
        for codec in [
            Codec::None,
            Codec::Gzip,
            Codec::Xz,
            Codec::Zstd,
            Codec::Bzip2,
        ] {
            let out = export_tar(&image, Vec::new(), codec, &cancel).unwrap();
            let again = import_tar(&store, out.as_slice(), &name, Making::default(), &cancel);
            assert!(matches!(again, Err(ImageError::Exists { .. })));
            let making = Making {
                force: true,
                ..Making::default()
            };
            import_tar(&store, out.as_slice(), &name, making, &cancel).unwrap();
            assert_eq!(
                fs::read_to_string(store.home().join("web/etc/os-release")).unwrap(),
                "ID=x\n"
            );
        }
        assert!(export_raw(&image, Vec::new(), Codec::None, &cancel).is_err());
        // cut off: what was there stays, and nothing else
        let making = Making {
            force: true,
            ..Making::default()
        };
        assert!(import_tar(&store, &tar[..700], &name, making, &cancel).is_err());
        assert_eq!(left(&store), ["web"]);
        assert!(store.home().join("web/etc/os-release").exists());
    }

    #[test]
    fn a_root_in_a_folder_of_the_archive_is_the_root() {
        let (dir, store) = place();
        let top = dir.path().join("top");
        for sub in ["rootfs/usr", "rootfs/etc", "rootfs/rootfs"] {
            fs::create_dir_all(top.join(sub)).unwrap();
        }
        let cancel = Cancel::default();
        let tar = archive::pack(File::open(&top).unwrap().as_fd(), Vec::new(), &cancel).unwrap();
        import_tar(
            &store,
            tar.as_slice(),
            &"a".parse().unwrap(),
            Making::default(),
            &cancel,
        )
        .unwrap();
        let mut names: Vec<_> = fs::read_dir(store.home().join("a"))
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["etc", "rootfs", "usr"]);
    }

    #[test]
    fn disks_keep_their_holes_and_others_are_refused() {
        let (_dir, store) = place();
        let cancel = Cancel::default();
        let mut disk = vec![0; 8 << 20];
        disk[1_000_000] = 7;
        let name: ImageName = "disk".parse().unwrap();
        let making = Making {
            read_only: true,
            ..Making::default()
        };
        let image = import_raw(&store, disk.as_slice(), &name, making, &cancel).unwrap();
        assert!(
            image.read_only && image.usage.unwrap() < 64 << 10,
            "{image:?}"
        );
        let packed = export_raw(&image, Vec::new(), Codec::Zstd, &cancel).unwrap();
        let copy: ImageName = "copy".parse().unwrap();
        import_raw(&store, packed.as_slice(), &copy, Making::default(), &cancel).unwrap();
        assert!(fs::read(store.home().join("copy.raw")).unwrap() == disk);
        let bad: ImageName = "bad".parse().unwrap();
        for (bytes, word) in [
            (b"QFI\xfb".repeat(400), "qemu-img"),
            (vec![1; 100], "short"),
        ] {
            let refused =
                import_raw(&store, bytes.as_slice(), &bad, Making::default(), &cancel).unwrap_err();
            assert!(refused.to_string().contains(word), "{refused}");
        }
        assert_eq!(left(&store).len(), 2);
    }
}
