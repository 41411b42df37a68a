//! Tree → tar archive, in the pax form, entries sorted so that equal trees make equal archives.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use super::Cancel;
use crate::error::ImageError;

/// Packs all below `tree`, the tree itself as `./`. Sockets are left out, and what other file systems are mounted below.
///
/// # Errors
/// [`ImageError::Make`] names what could not be read, [`ImageError::Write`] is the sink's.
pub fn pack<W: Write>(tree: BorrowedFd<'_>, sink: W, cancel: &Cancel) -> Result<W, ImageError> {
    let mut work = Work::new(sink, cancel);
    let stat = rustix::fs::fstat(tree).map_err(|e| reading(b".", e))?;
    work.device = Some(stat.st_dev);
    work.directory(tree, b".", &stat)?;
    work.builder.into_inner().map_err(ImageError::Write)
}

/// Packs one file or folder, as `name`.
///
/// # Errors
/// As [`pack`].
pub fn pack_one<W: Write>(
    parent: BorrowedFd<'_>,
    file: &OsStr,
    name: &OsStr,
    sink: W,
    cancel: &Cancel,
) -> Result<W, ImageError> {
    let mut work = Work::new(sink, cancel);
    work.one(parent, file, name.as_bytes())?;
    work.builder.into_inner().map_err(ImageError::Write)
}

struct Work<'a, W: Write> {
    builder: Builder<W>,
    cancel: &'a Cancel,
    /// Only this file system is packed.
    device: Option<u64>,
    /// Files of several names: the first of each.
    seen: BTreeMap<(u64, u64), Vec<u8>>,
}

fn reading(path: &[u8], e: impl Into<io::Error>) -> ImageError {
    ImageError::Make {
        entry: String::from_utf8_lossy(path).into_owned(),
        source: e.into(),
    }
}

impl<'a, W: Write> Work<'a, W> {
    fn new(sink: W, cancel: &'a Cancel) -> Self {
        Self {
            builder: Builder::new(sink),
            cancel,
            device: None,
            seen: BTreeMap::new(),
        }
    }

    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        stat: &Stat,
    ) -> Result<(), ImageError> {
        let fail = |e: rustix::io::Errno| reading(path, e);
        // a descriptor of its own, so that reading it moves nobody else's place
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::openat(dir, ".", flags, Mode::empty()).map_err(fail)?;
        let mut slashed = path.to_vec();
        slashed.push(b'/');
        self.header(
            EntryType::Directory,
            &slashed,
            stat,
            0,
            None,
            Some(own.as_fd()),
        )?;
        if self.device.is_some_and(|device| device != stat.st_dev) {
            return Ok(());
        }
        let mut names: Vec<OsString> = Vec::new();
        for entry in Dir::read_from(&own).map_err(fail)? {
            let name = entry.map_err(fail)?;
            let name = OsStr::from_bytes(name.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        for name in names {
            let mut below = slashed.clone();
            below.extend_from_slice(name.as_bytes());
            self.one(own.as_fd(), &name, &below)?;
        }
        Ok(())
    }

    fn one(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> Result<(), ImageError> {
        if self.cancel.is_cancelled() {
            return Err(ImageError::Cancelled);
        }
        let fail = |e: rustix::io::Errno| reading(path, e);
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        let open = |flags| -> Result<OwnedFd, ImageError> {
            let flags =
                flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
            let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(fail)?;
            let now = rustix::fs::fstat(&fd).map_err(fail)?;
            match (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino) {
                true => Ok(fd),
                false => Err(reading(path, io::Error::other("it was replaced meanwhile"))),
            }
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let dir = open(OFlags::RDONLY | OFlags::DIRECTORY)?;
                self.directory(dir.as_fd(), path, &stat)
            }
            FileType::RegularFile => {
                let id = (stat.st_dev, stat.st_ino);
                if stat.st_nlink > 1 {
                    if let Some(first) = self.seen.get(&id).cloned() {
                        return self.header(EntryType::Link, path, &stat, 0, Some(&first), None);
                    }
                    self.seen.insert(id, path.to_vec());
                }
                let file = File::from(open(OFlags::RDONLY)?);
                let size = stat.st_size.cast_unsigned();
                self.header(
                    EntryType::Regular,
                    path,
                    &stat,
                    size,
                    None,
                    Some(file.as_fd()),
                )?;
                self.content(file, path, size)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(fail)?;
                self.header(
                    EntryType::Symlink,
                    path,
                    &stat,
                    0,
                    Some(target.as_bytes()),
                    None,
                )
            }
            FileType::Fifo => self.header(EntryType::Fifo, path, &stat, 0, None, None),
            FileType::CharacterDevice => self.header(EntryType::Char, path, &stat, 0, None, None),
            FileType::BlockDevice => self.header(EntryType::Block, path, &stat, 0, None, None),
            _ => Ok(()),
        }
    }

    /// Exactly `size` bytes, whatever becomes of the file meanwhile.
    fn content(&mut self, file: File, path: &[u8], size: u64) -> Result<(), ImageError> {
        let mut source = file.take(size);
        let sink = self.builder.get_mut();
        let mut buffer = vec![0; 64 << 10];
        let mut written = 0;
        while written < size {
            if self.cancel.is_cancelled() {
                return Err(ImageError::Cancelled);
            }
            let n = source.read(&mut buffer).map_err(|e| reading(path, e))?;
            if n == 0 {
                return Err(reading(
                    path,
                    io::Error::other("it became shorter meanwhile"),
                ));
            }
            sink.write_all(&buffer[..n]).map_err(ImageError::Write)?;
            written += n as u64;
        }
        let padding = (size.next_multiple_of(512) - size) as usize;
        sink.write_all(&[0; 512][..padding])
            .map_err(ImageError::Write)
    }

    fn header(
        &mut self,
        kind: EntryType,
        path: &[u8],
        stat: &Stat,
        size: u64,
        link: Option<&[u8]>,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), ImageError> {
        let mut extended: Vec<(String, Vec<u8>)> = Vec::new();
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(size);
        for (key, id) in [("uid", stat.st_uid), ("gid", stat.st_gid)] {
            // seven octal digits
            let fits = id < 1 << 21;
            match (key, fits) {
                ("uid", true) => header.set_uid(id.into()),
                (_, true) => header.set_gid(id.into()),
                _ => extended.push((key.into(), id.to_string().into_bytes())),
            }
        }
        if stat.st_mtime_nsec != 0 || stat.st_mtime < 0 {
            let text = format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
            extended.push(("mtime".into(), text.into_bytes()));
        }
        if size >= 1 << 33 {
            extended.push(("size".into(), size.to_string().into_bytes()));
            header.set_size(0);
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let set = header
                .set_device_major(rustix::fs::major(stat.st_rdev))
                .and_then(|()| header.set_device_minor(rustix::fs::minor(stat.st_rdev)));
            set.map_err(ImageError::Write)?;
        }
        let ustar = header
            .as_ustar_mut()
            .ok_or_else(|| ImageError::Write(io::ErrorKind::Other.into()))?;
        put(&mut ustar.name, path, "path", &mut extended);
        if let Some(link) = link {
            put(&mut ustar.linkname, link, "linkpath", &mut extended);
        }
        for (name, value) in file.map(attributes).unwrap_or_default() {
            extended.push((format!("SCHILY.xattr.{name}"), value));
        }
        if !extended.is_empty() {
            let records = extended
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_slice()));
            self.builder
                .append_pax_extensions(records)
                .map_err(ImageError::Write)?;
        }
        header.set_cksum();
        self.builder
            .get_mut()
            .write_all(header.as_bytes())
            .map_err(ImageError::Write)
    }
}

/// A name in its field of a hundred bytes; one that does not fit, or is no text, goes into the extended header.
fn put(field: &mut [u8; 100], bytes: &[u8], key: &str, extended: &mut Vec<(String, Vec<u8>)>) {
    let fits = bytes.len() <= field.len();
    if !fits {
        extended.push((key.to_owned(), bytes.to_vec()));
    }
    let n = bytes.len().min(field.len());
    field[..n].copy_from_slice(&bytes[..n]);
}

fn attributes(file: BorrowedFd<'_>) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0u8; 64 << 10];
    let Ok(n) = rustix::fs::flistxattr(file, names.as_mut_slice()) else {
        return Vec::new();
    };
    let names = String::from_utf8_lossy(&names[..n]).into_owned();
    let wanted = names.split('\0').filter(|name| {
        name.starts_with("user.")
            || *name == "security.capability"
            || name.starts_with("system.posix_acl_")
    });
    wanted
        .filter_map(|name| {
            let mut value = vec![0u8; 64 << 10];
            let n = rustix::fs::fgetxattr(file, name, value.as_mut_slice()).ok()?;
            value.truncate(n);
            Some((name.to_owned(), value))
        })
        .collect()
}
