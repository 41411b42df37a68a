//! A layer of an OCI image → what it changes in a tree (image-spec, layer.md).
//!
//! A layer is an archive in which `.wh.NAME` takes NAME of the layers below away, and `.wh..wh..opq` all that they have in its
//! folder. Both count for what is below only, wherever in the archive they stand: so they are looked for first.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags};

use super::unpack::{self, WHITEOUT, components, empty, find, remove_at};
use super::{Cancel, Owners, Unpacked};
use crate::error::ImageError;

/// The whole folder it stands in is this layer's.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Marks of the file system that invented whiteouts, which mean nothing to others.
const MARKS: &[u8] = b".wh..wh.";

/// Applies a layer to `tree`; `open` begins to read it, and is asked twice. It may be compressed.
///
/// # Errors
/// As [`super::unpack()`], and what `open` says.
pub(crate) fn apply<R: Read>(
    mut open: impl FnMut() -> Result<R, ImageError>,
    tree: BorrowedFd<'_>,
    owners: Owners,
    cancel: &Cancel,
) -> Result<Unpacked, ImageError> {
    take_away(open()?, tree, cancel)?;
    unpack::unpack_layer(open()?, tree, owners, cancel)
}

fn take_away(source: impl Read, tree: BorrowedFd<'_>, cancel: &Cancel) -> Result<(), ImageError> {
    let wrong = |e: io::Error| match cancel.is_cancelled() {
        true => ImageError::Cancelled,
        false => ImageError::Archive(e),
    };
    let source = crate::codec::reader(cancel.reader(source)).map_err(wrong)?;
    let mut archive = tar::Archive::new(source);
    for entry in archive.entries().map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let raw = entry.path_bytes().into_owned();
        let label = || String::from_utf8_lossy(&raw).into_owned();
        let path = components(&raw).map_err(|reason| ImageError::Entry {
            entry: label(),
            reason,
        })?;
        let Some((name, parents)) = path.split_last() else {
            continue;
        };
        let Some(target) = name.as_bytes().strip_prefix(WHITEOUT) else {
            continue;
        };
        if matches!(target, b"" | b"." | b"..") {
            return Err(ImageError::Entry {
                entry: label(),
                reason: "takes away what has no name",
            });
        }
        let done = match name.as_bytes() {
            OPAQUE => readable(tree, parents).and_then(|dir| empty(dir.as_fd())),
            mark if mark.starts_with(MARKS) => Ok(()),
            _ => find(tree, parents)
                .and_then(|dir| remove_at(dir.as_fd(), OsStr::from_bytes(target))),
        };
        match done {
            // below there is no such folder
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            done => done.map_err(|source| ImageError::Make {
                entry: label(),
                source,
            })?,
        }
    }
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(wrong)?;
    Ok(())
}

fn readable(tree: BorrowedFd<'_>, path: &[OsString]) -> io::Result<OwnedFd> {
    let found = find(tree, path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&found, ".", flags, Mode::empty())?)
}
