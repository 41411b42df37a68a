//! Tar archive → tree.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use tar::EntryType;

use super::{Cancel, sparse};
use crate::error::ImageError;

/// Longest path, as the kernel has it (PATH_MAX).
const LONGEST: usize = 4095;
/// Begins the name of an entry of a layer that takes something away (OCI image-spec, layer.md).
pub(super) const WHITEOUT: &[u8] = b".wh.";

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As the archive says, by number.
    Kept,
    /// Everything is root's.
    Root,
    /// Nothing is changed: whoever unpacks.
    Mine,
}

/// What became of an archive.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// How many entries it had.
    pub entries: u64,
    /// Device nodes that were left out: a container has its own /dev, and on the host they would be the host's devices.
    pub devices: u64,
    /// Extended attributes that the file system cannot keep, or that are no business of an image's.
    pub attributes: u64,
}

/// What is set when the rest is there.
struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timespec,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

/// Unpacks an archive below `tree`, which may hold files already. It may be compressed.
///
/// # Errors
/// [`ImageError::Entry`] for one that would leave the tree, [`ImageError::Archive`] for one that cannot be read or is cut off. What
/// was made by then stays: the caller works in a place that it can throw away.
pub fn unpack(
    source: impl Read,
    tree: BorrowedFd<'_>,
    owners: Owners,
    cancel: &Cancel,
) -> Result<Unpacked, ImageError> {
    let done = run(Work::new(tree, owners, false), source, cancel)?;
    if done.entries == 0 {
        return Err(ImageError::Archive(io::Error::new(
            io::ErrorKind::InvalidData,
            "it holds nothing",
        )));
    }
    Ok(done)
}

/// Unpacks a layer over those below it; what it takes away must be gone already. It may be empty.
pub(super) fn unpack_layer(
    source: impl Read,
    tree: BorrowedFd<'_>,
    owners: Owners,
    cancel: &Cancel,
) -> Result<Unpacked, ImageError> {
    run(Work::new(tree, owners, true), source, cancel)
}

fn run(mut work: Work<'_>, source: impl Read, cancel: &Cancel) -> Result<Unpacked, ImageError> {
    let wrong = |e: io::Error| match cancel.is_cancelled() {
        true => ImageError::Cancelled,
        false => ImageError::Archive(e),
    };
    let source = crate::codec::reader(cancel.reader(source)).map_err(wrong)?;
    let mut archive = tar::Archive::new(source);
    archive.set_ignore_zeros(false);
    for entry in archive.entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        work.entry(&mut entry).map_err(|e| match e {
            ImageError::Make { .. } | ImageError::Archive(_) if cancel.is_cancelled() => {
                ImageError::Cancelled
            }
            e => e,
        })?;
        work.done.entries += 1;
    }
    // The end of the compressed stream has its checksum: an archive that was cut off there is none.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(wrong)?;
    work.finish()
}

struct Work<'a> {
    tree: BorrowedFd<'a>,
    owners: Owners,
    /// Whether this is a layer over others (OCI image-spec, layer.md): then it wins over whatever is there.
    layered: bool,
    done: Unpacked,
    /// Set last, the innermost first: files that come later would change their times, and may need to be let in.
    directories: BTreeMap<Vec<OsString>, Meta>,
}

impl<'a> Work<'a> {
    fn new(tree: BorrowedFd<'a>, owners: Owners, layered: bool) -> Self {
        Self {
            tree,
            owners,
            layered,
            done: Unpacked::default(),
            directories: BTreeMap::new(),
        }
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), ImageError> {
        let pax = pax(entry)?;
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let raw = match pax.get("GNU.sparse.name") {
            Some(name) => name.clone(),
            None => entry.path_bytes().into_owned(),
        };
        let label = shown(&raw);
        let refuse = |reason| ImageError::Entry {
            entry: label.clone(),
            reason,
        };
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = components(&raw).map_err(refuse)?;
        let meta = self.meta(entry, &pax).map_err(ImageError::Archive)?;
        let make = |source: io::Error| ImageError::Make {
            entry: label.clone(),
            source,
        };
        let Some((name, parents)) = path.split_last() else {
            // the tree itself
            self.directories.insert(path, meta);
            return Ok(());
        };
        if self.layered && name.as_bytes().starts_with(WHITEOUT) {
            return Ok(());
        }
        let parent = self.walk(parents).map_err(make)?;
        let parent = parent.as_fd();
        if kind == EntryType::Directory {
            self.directory(parent, name).map_err(make)?;
            self.directories.insert(path.clone(), meta);
            return Ok(());
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            self.done.devices += 1;
            return Ok(());
        }
        if kind == EntryType::Link {
            let target = entry
                .link_name_bytes()
                .ok_or_else(|| refuse("is a link to nothing"))?;
            let target = components(&target).map_err(refuse)?;
            let (last, above) = target
                .split_last()
                .ok_or_else(|| refuse("is a link to the tree itself"))?;
            // A link to itself is what some packers make of a file's second mention.
            if target == path {
                return Ok(());
            }
            let above = self.find(above).map_err(make)?;
            self.clear(parent, name).map_err(make)?;
            // without AT_SYMLINK_FOLLOW: a link of a symbolic link is that link, wherever it leads
            return rustix::fs::linkat(&above, last, parent, name, AtFlags::empty())
                .map_err(|e| make(e.into()));
        }
        self.clear(parent, name).map_err(make)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|e| make(e.into()))?;
                let mut file = File::from(fd);
                match pax.get("GNU.sparse.major").map(Vec::as_slice) {
                    Some(b"1") => {
                        let size = pax.get("GNU.sparse.realsize").and_then(|text| number(text));
                        let size = size.ok_or_else(|| refuse("does not tell its size"))?;
                        sparse::copy_mapped(entry, &mut file, size).map_err(make)?;
                    }
                    Some(_) => return Err(refuse("is sparse in a form that is not known")),
                    None => {
                        let size = entry.size();
                        let copied = sparse::copy(entry, &mut file).map_err(make)?;
                        if copied != size {
                            return Err(ImageError::Archive(io::ErrorKind::UnexpectedEof.into()));
                        }
                    }
                }
                self.set(file.as_fd(), &meta).map_err(make)
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name_bytes()
                    .ok_or_else(|| refuse("is a link to nothing"))?;
                if target.is_empty() || target.len() > LONGEST {
                    return Err(refuse("is a link that none can follow"));
                }
                rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, name)
                    .and_then(|()| self.chown_at(parent, name, &meta))
                    .and_then(|()| times(parent, name, &meta))
                    .map_err(|e| make(e.into()))
            }
            EntryType::Fifo => {
                let mode = Mode::from_raw_mode(meta.mode & 0o777);
                rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                    .and_then(|()| self.chown_at(parent, name, &meta))
                    .and_then(|()| rustix::fs::chmodat(parent, name, mode, AtFlags::empty()))
                    .and_then(|()| times(parent, name, &meta))
                    .map_err(|e| make(e.into()))
            }
            _ => Err(refuse("is of a kind that is not known")),
        }
    }

    /// The directory at `path`, made where it is missing.
    fn walk(&self, path: &[OsString]) -> io::Result<OwnedFd> {
        match self.find(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let mut at = self.find(&[])?;
        for end in 1..=path.len() {
            at = match self.find(&path[..end]) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    // a link that leads nowhere is found here, and stays what it is
                    rustix::fs::mkdirat(&at, &path[end - 1], Mode::from_raw_mode(0o755))?;
                    self.find(&path[..end])?
                }
                found => found?,
            };
        }
        Ok(at)
    }

    fn find(&self, path: &[OsString]) -> io::Result<OwnedFd> {
        find(self.tree, path)
    }

    fn clear(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        match self.layered {
            true => remove_at(parent, name),
            false => clear(parent, name),
        }
    }

    fn directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let made = || rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700));
        match made() {
            Err(rustix::io::Errno::EXIST) => {
                let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let kind = FileType::from_raw_mode(there.st_mode);
                // an archive says a directory where the tree has a link to one: that link stays (`/lib` of merged-usr trees);
                // a layer of an image means what it says
                let leads = !self.layered
                    && kind == FileType::Symlink
                    && self.leads_to_directory(parent, name);
                if kind == FileType::Directory || leads {
                    return Ok(());
                }
                self.clear(parent, name)?;
                Ok(made()?)
            }
            done => Ok(done?),
        }
    }

    fn leads_to_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> bool {
        // only links of one step, as merged-usr trees have them; anything else is replaced
        let Ok(target) = rustix::fs::readlinkat(parent, name, Vec::new()) else {
            return false;
        };
        let Ok(path) = components(target.as_bytes()) else {
            return false;
        };
        self.find(&path).is_ok()
    }

    fn meta<R: Read>(
        &self,
        entry: &tar::Entry<'_, R>,
        pax: &BTreeMap<String, Vec<u8>>,
    ) -> io::Result<Meta> {
        let header = entry.header();
        let id = |key: &str, plain: io::Result<u64>| -> io::Result<u32> {
            let value = match pax.get(key).and_then(|text| number(text)) {
                Some(value) => value,
                None => plain?,
            };
            // the last number means "unchanged" to chown(2)
            u32::try_from(value)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("{key} {value} is no id"),
                    )
                })
        };
        let (uid, gid) = (id("uid", header.uid())?, id("gid", header.gid())?);
        let xattrs = pax.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("SCHILY.xattr.")?;
            Some((OsString::from(name), value.clone()))
        });
        let exact = pax.get("mtime").and_then(|text| time(text));
        Ok(Meta {
            mode: header.mode()? & 0o7777,
            uid,
            gid,
            mtime: exact.unwrap_or(Timespec {
                tv_sec: header.mtime().map_or(0, u64::cast_signed),
                tv_nsec: 0,
            }),
            xattrs: xattrs.collect(),
        })
    }

    fn owner(&self, meta: &Meta) -> Option<(Uid, Gid)> {
        match self.owners {
            Owners::Kept => Some((Uid::from_raw(meta.uid), Gid::from_raw(meta.gid))),
            Owners::Root => Some((Uid::ROOT, Gid::ROOT)),
            Owners::Mine => None,
        }
    }

    fn chown_at(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        meta: &Meta,
    ) -> rustix::io::Result<()> {
        match self.owner(meta) {
            Some((uid, gid)) => rustix::fs::chownat(
                parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            ),
            None => Ok(()),
        }
    }

    /// Owner before mode and attributes: changing it takes away set-user-id and file capabilities.
    fn set(&mut self, file: BorrowedFd<'_>, meta: &Meta) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(meta) {
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(meta.mode))?;
        for (name, value) in &meta.xattrs {
            let bytes = name.as_bytes();
            let kept = bytes.starts_with(b"user.")
                || bytes == b"security.capability"
                || bytes.starts_with(b"system.posix_acl_");
            // others mean something to the host: labels of its security modules, marks of its overlays
            if !kept {
                self.done.attributes += 1;
                continue;
            }
            match rustix::fs::fsetxattr(file, name.as_os_str(), value, XattrFlags::empty()) {
                Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => {
                    self.done.attributes += 1
                }
                done => done?,
            }
        }
        Ok(rustix::fs::futimens(file, &stamps(meta))?)
    }

    fn finish(mut self) -> Result<Unpacked, ImageError> {
        for (path, meta) in std::mem::take(&mut self.directories).into_iter().rev() {
            let label = || {
                path.iter()
                    .map(|p| p.to_string_lossy())
                    .collect::<Vec<_>>()
                    .join("/")
            };
            let fail = |source: io::Error| ImageError::Make {
                entry: label(),
                source,
            };
            let found = match self.find(&path) {
                Ok(found) => found,
                // a later entry took its place
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                    continue;
                }
                Err(e) => return Err(fail(e)),
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let again = format!("/proc/self/fd/{}", found.as_raw_fd());
            let open = rustix::fs::openat(&found, ".", flags, Mode::empty())
                .or_else(|_| rustix::fs::open(again, flags, Mode::empty()));
            self.set(open.map_err(|e| fail(e.into()))?.as_fd(), &meta)
                .map_err(fail)?;
        }
        Ok(self.done)
    }
}

fn stamps(meta: &Meta) -> Timestamps {
    Timestamps {
        last_access: meta.mtime,
        last_modification: meta.mtime,
    }
}

fn times(parent: BorrowedFd<'_>, name: &OsStr, meta: &Meta) -> rustix::io::Result<()> {
    rustix::fs::utimensat(parent, name, &stamps(meta), AtFlags::SYMLINK_NOFOLLOW)
}

/// The directory at `path`, through links where the tree has them, and never out of it.
pub(super) fn find(tree: BorrowedFd<'_>, path: &[OsString]) -> io::Result<OwnedFd> {
    let mut joined = OsString::from(".");
    for part in path {
        joined.push("/");
        joined.push(part);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        tree,
        joined,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

/// Takes away what has the name now, and all that is below it; nothing if there is nothing. Links are removed, not followed.
pub(super) fn remove_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::ISDIR) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    empty(dir.as_fd())?;
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Takes away all that is in a directory.
pub(super) fn empty(dir: BorrowedFd<'_>) -> io::Result<()> {
    // all names first: what is removed while somebody lists may move what is still to come
    let entries: Vec<_> = rustix::fs::Dir::read_from(dir)?.collect::<Result<_, _>>()?;
    for entry in entries {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            remove_at(dir, name)?;
        }
    }
    Ok(())
}

/// Takes away what has the name now; a directory only if it is empty.
fn clear(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR) => {
            Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Err(e) => Err(e.into()),
    }
}

/// The parts of a path, from the tree's root on. A leading `/` means that root, as chroot(2) would have it.
pub(super) fn components(path: &[u8]) -> Result<Vec<OsString>, &'static str> {
    if path.len() > LONGEST {
        return Err("has too long a path");
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("leads out of the tree by \"..\""),
            part if part.contains(&0) => return Err("has a NUL byte in its path"),
            part if part.len() > 255 => return Err("has too long a name"),
            part => parts.push(OsString::from_vec(part.to_vec())),
        }
    }
    Ok(parts)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Seconds since 1970 with a fraction, pax(1).
fn time(text: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    Some(Timespec {
        tv_sec: seconds.parse().ok()?,
        tv_nsec: digits.parse().ok()?,
    })
}

/// The extended header of an entry, pax(1).
pub(super) fn pax<R: Read>(
    entry: &mut tar::Entry<'_, R>,
) -> Result<BTreeMap<String, Vec<u8>>, ImageError> {
    let mut all = BTreeMap::new();
    if let Some(records) = entry.pax_extensions().map_err(ImageError::Archive)? {
        for record in records {
            let record = record.map_err(ImageError::Archive)?;
            if let Ok(key) = record.key() {
                all.insert(key.to_owned(), record.value_bytes().to_vec());
            }
        }
    }
    Ok(all)
}
