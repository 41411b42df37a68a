//! Whole directory trees: a copy of one (`--ephemeral`, `--template=`), and its files' owners moved to another range of
//! ids (`--private-users-ownership=chown`). Neither follows a link, nor leaves the file system that the tree begins on, also where a
//! container that runs on the tree changes it meanwhile.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};

/// What could not be done, and where.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Failed {
    let path = path.to_owned();
    move |source| Failed { path, source }
}

/// A place in a tree that somebody else, a container perhaps, may be changing meanwhile: held by descriptor, so that what is looked at,
/// read and changed is one and the same, and a link that is put in its place leads nobody out of the tree.
struct Place {
    /// Of the file itself (O_PATH), also where that is a link.
    fd: OwnedFd,
    /// For messages.
    path: PathBuf,
    meta: Metadata,
}

impl Place {
    /// The top of a tree: the one path that is looked up.
    fn top(path: &Path) -> Result<Self, Failed> {
        Self::open(CWD, path, path.to_owned())
    }

    fn open(dir: BorrowedFd<'_>, name: &Path, path: PathBuf) -> Result<Self, Failed> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || -> io::Result<_> {
            let file = fs::File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
            let meta = file.metadata()?;
            Ok((OwnedFd::from(file), meta))
        };
        match open() {
            Ok((fd, meta)) => Ok(Self { fd, path, meta }),
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// A path to just this, for calls that take no descriptor of this kind.
    fn itself(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }

    /// What is in a directory, one after the other.
    fn each(&self, mut act: impl FnMut(Place) -> Result<(), Failed>) -> Result<(), Failed> {
        let fail = |e: rustix::io::Errno| at(&self.path)(e.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(fail)?;
        for entry in rustix::fs::Dir::read_from(&dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
            if name != "." && name != ".." {
                act(Place::open(self.fd.as_fd(), name, self.path.join(name))?)?;
            }
        }
        Ok(())
    }
}

/// Copies the tree at `from` to `to`, which is made: owners, modes, times, extended attributes, links and devices as they
/// are, blocks shared where the file system can (FICLONE).
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    let top = Place::top(from)?;
    let mut copier = Copier {
        device: top.meta.dev(),
        linked: HashMap::new(),
    };
    copier.entry(&top, to)
}

struct Copier {
    device: u64,
    /// Where files with several names were copied to, by inode.
    linked: HashMap<u64, PathBuf>,
}

impl Copier {
    fn entry(&mut self, from: &Place, to: &Path) -> Result<(), Failed> {
        let meta = &from.meta;
        let kind = meta.file_type();
        if !kind.is_dir() && meta.nlink() > 1 {
            if let Some(first) = self.linked.get(&meta.ino()) {
                return fs::hard_link(first, to).map_err(at(to));
            }
            self.linked.insert(meta.ino(), to.to_owned());
        }
        if kind.is_dir() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(to)
                .map_err(at(to))?;
            // what is mounted below is not of this tree
            if meta.dev() == self.device {
                from.each(|place| {
                    let name = place.path.file_name().unwrap_or_default();
                    self.entry(&place, &to.join(name))
                })?;
            }
        } else if kind.is_symlink() {
            let target = rustix::fs::readlinkat(&from.fd, "", Vec::new());
            let target = target.map_err(|e| at(&from.path)(e.into()))?;
            symlink(OsStr::from_bytes(target.as_bytes()), to).map_err(at(to))?;
        } else if kind.is_file() {
            content(from, to).map_err(at(&from.path))?;
        } else {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(
                CWD,
                to,
                FileType::from_raw_mode(meta.mode()),
                mode,
                meta.rdev(),
            )
            .map_err(|e| at(to)(e.into()))?;
        }
        attributes(from, to).map_err(at(to))
    }
}

fn content(from: &Place, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from.itself())?;
    let mut copy = fs::File::create_new(to)?;
    if rustix::fs::ioctl_ficlone(copy.as_fd(), source.as_fd()).is_ok() {
        return Ok(());
    }
    // copy_file_range(2) where it can
    io::copy(&mut source, &mut copy).map(drop)
}

/// Owner first, because changing that takes set-user-id bits and capabilities away.
fn attributes(from: &Place, to: &Path) -> io::Result<()> {
    let meta = &from.meta;
    lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    if !meta.file_type().is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    let itself = from.itself();
    for name in xattrs(&itself)? {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::getxattr(&itself, name.as_str(), &mut value)?;
        rustix::fs::lsetxattr(to, name.as_str(), &value[..length], XattrFlags::empty())?;
    }
    let time = |tv_sec, nanoseconds| Timespec {
        tv_sec,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Names of the extended attributes of what [`Place::itself`] leads to; none where the file system has none.
fn xattrs(itself: &Path) -> io::Result<Vec<String>> {
    let mut names = vec![0u8; 64 << 10];
    match rustix::fs::listxattr(itself, &mut names) {
        Ok(length) => Ok(names[..length]
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()),
        Err(rustix::io::Errno::NOTSUP) => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}

/// Moves the owners of all files of a tree into the range of 65,536 ids that begins at `base`, from whichever such range
/// they belong to. A tree whose root is there already is left alone.
pub(crate) fn shift(root: &Path, base: u32) -> Result<(), Failed> {
    let top = Place::top(root)?;
    if top.meta.uid() & !0xffff == base && top.meta.gid() & !0xffff == base {
        return Ok(());
    }
    // the root last: should this be interrupted, the next start begins anew
    shift_below(&top, base)?;
    shift_one(&top, base).map_err(at(root))
}

fn shift_below(dir: &Place, base: u32) -> Result<(), Failed> {
    dir.each(|place| {
        // what is mounted below is not of this tree
        if place.meta.dev() != dir.meta.dev() {
            return Ok(());
        }
        if place.meta.is_dir() {
            shift_below(&place, base)?;
        }
        shift_one(&place, base).map_err(at(&place.path))
    })
}

fn shift_one(place: &Place, base: u32) -> io::Result<()> {
    let meta = &place.meta;
    let moved = |id: u32| base | (id & 0xffff);
    let (uid, gid) = (moved(meta.uid()), moved(meta.gid()));
    if (uid, gid) == (meta.uid(), meta.gid()) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(&place.fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    if meta.file_type().is_symlink() {
        return Ok(());
    }
    // changing the owner takes set-user-id bits away
    let itself = place.itself();
    fs::set_permissions(&itself, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        let mut value = vec![0; 64 << 10];
        if let Ok(length) = rustix::fs::getxattr(&itself, name, &mut value) {
            value.truncate(length);
            shift_acl(&mut value, moved);
            rustix::fs::setxattr(&itself, name, &value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Entries of an access control list, linux/posix_acl_xattr.h: four bytes of version, then tag, permissions and id each.
fn shift_acl(value: &mut [u8], moved: impl Fn(u32) -> u32) {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if tag == USER || tag == GROUP {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            entry[4..].copy_from_slice(&moved(id).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_copy_is_what_it_is_a_copy_of() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/file"), "text").unwrap();
        fs::set_permissions(from.join("a/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::hard_link(from.join("a/file"), from.join("a/b/same")).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        rustix::fs::mknodat(
            CWD,
            from.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o640),
            0,
        )
        .unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/same")).unwrap(), "text");
        let meta = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(meta("a/file").mode() & 0o7777, 0o4711);
        assert_eq!(meta("a/file").ino(), meta("a/b/same").ino());
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert_eq!(
            meta("pipe").mode(),
            fs::symlink_metadata(from.join("pipe")).unwrap().mode()
        );
        let mtime = |path: &Path| fs::symlink_metadata(path).unwrap().mtime_nsec();
        assert_eq!(mtime(&to.join("a/b")), mtime(&from.join("a/b")));
        assert!(
            copy(&from, &to).is_err(),
            "what is there is not written over"
        );
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, secret) = (dir.path().join("tree"), dir.path().join("secret"));
        fs::create_dir_all(tree.join("a")).unwrap();
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("key"), "text").unwrap();
        // looked at as a directory, and then there is a link instead
        let top = Place::top(&tree).unwrap();
        let place = Place::open(top.fd.as_fd(), Path::new("a"), tree.join("a")).unwrap();
        fs::rename(tree.join("a"), tree.join("b")).unwrap();
        symlink(&secret, tree.join("a")).unwrap();
        let walked = place.each(|inside| panic!("{}", inside.path.display()));
        assert!(walked.is_ok() && place.meta.is_dir());
        // and what is a link by now is copied as one
        copy(&tree, &dir.path().join("copy")).unwrap();
        let target = fs::read_link(dir.path().join("copy/a")).unwrap();
        assert_eq!(target, secret);
    }

    #[test]
    fn entries_of_access_lists_are_moved_and_no_others() {
        let entry = |tag: u16, id: u32| {
            let mut bytes = tag.to_le_bytes().to_vec();
            bytes.extend([6, 0]);
            bytes.extend(id.to_le_bytes());
            bytes
        };
        let list = |ids: [u32; 3]| {
            let mut list = vec![2, 0, 0, 0];
            for (tag, id) in [0x01, 0x02, 0x08].into_iter().zip(ids) {
                list.extend(entry(tag, id));
            }
            list
        };
        let mut value = list([u32::MAX, 33, 65536 + 34]);
        shift_acl(&mut value, |id| 0x000b_0000 | (id & 0xffff));
        assert_eq!(value, list([u32::MAX, 0x000b_0021, 0x000b_0022]));
    }
}
