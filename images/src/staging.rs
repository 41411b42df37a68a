//! Half-made images: under a name that none can have, renamed when they are whole, removed when they are not.
//!
//! A folder or file `.#image.NAME.…` is locked (flock(2)) while somebody makes it. One that is not was left by a process that was killed, and
//! is swept away by whoever comes next.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};

use crate::archive::{self, Cancel, Owners};
use crate::error::ImageError;
use crate::store::Kind;

/// Begins the name of everything that is not whole, and of nothing else: a tree that runs for a while only is `.#machine.…`.
const MARK: &str = ".#image.";

/// An image that is being made. Dropping it removes it.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    target: PathBuf,
    replace: bool,
    /// Its lock.
    file: File,
    done: bool,
}

impl Staging {
    pub(crate) fn begin(
        folder: &Path,
        name: &str,
        kind: Kind,
        replace: bool,
    ) -> Result<Self, ImageError> {
        sweep(folder);
        let path = hidden(folder, name);
        let fail = || ImageError::file::<io::Error>("make", &path);
        if kind == Kind::Directory {
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(fail())?;
        } else {
            let new = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            new.map_err(fail())?;
        }
        let file = File::open(&path).map_err(fail())?;
        let staging = Self {
            target: folder.join(name),
            path,
            replace,
            file,
            done: false,
        };
        let lock = rustix::fs::flock(&staging.file, FlockOperation::NonBlockingLockExclusive);
        lock.map_err(ImageError::file("lock", &staging.path))?;
        Ok(staging)
    }

    /// Where it is being made.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder or file, open for reading.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// It is whole: from now on it has its name. Everything is on disk before that.
    ///
    /// # Errors
    /// The name was taken meanwhile; then nothing is left of it.
    pub fn finish(mut self) -> Result<PathBuf, ImageError> {
        let fail = |action| ImageError::file::<rustix::io::Errno>(action, &self.target);
        rustix::fs::syncfs(&self.file).map_err(fail("write"))?;
        let rename = |flags| rustix::fs::renameat_with(CWD, &self.path, CWD, &self.target, flags);
        match rename(RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) if self.replace => {
                rename(RenameFlags::EXCHANGE).map_err(fail("replace"))?;
                // what was there before has our name now
                remove(&self.path).map_err(ImageError::file("remove", &self.path))?;
            }
            Err(rustix::io::Errno::EXIST) => {
                return Err(ImageError::Exists {
                    name: self
                        .target
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                    path: self.target.clone(),
                });
            }
            done => done.map_err(fail("make"))?,
        }
        self.done = true;
        Ok(self.target.clone())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.done {
            let _ = remove(&self.path);
        }
    }
}

/// A name that no image can have, and nobody else has.
pub(crate) fn hidden(folder: &Path, name: &str) -> PathBuf {
    let mut random = [0; 8];
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    folder.join(format!("{MARK}{name}.{:016x}", u64::from_ne_bytes(random)))
}

/// Removes a tree or file; links are removed, not followed. Folders without rights for us are made to have them.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    if !meta.is_dir() {
        return fs::remove_file(path);
    }
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    fs::remove_dir_all(path)
}

/// Removes what was left by those who were killed.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(MARK) {
            continue;
        }
        // NOFOLLOW and NONBLOCK by way of the kind: only folders and files are made here
        let plain = entry
            .file_type()
            .is_ok_and(|kind| kind.is_dir() || kind.is_file());
        if let Some(file) = plain.then(|| File::open(entry.path()).ok()).flatten()
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = remove(&entry.path());
        }
    }
}

/// Copies a tree with all that an archive keeps.
pub(crate) fn copy_tree(from: &Path, to: &Path, cancel: &Cancel) -> Result<(), ImageError> {
    let source = File::open(from).map_err(ImageError::file("open", from))?;
    let target = File::open(to).map_err(ImageError::file("open", to))?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(ImageError::file("copy", from))?;
    let owners = match rustix::process::geteuid().is_root() {
        true => Owners::Kept,
        false => Owners::Mine,
    };
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| {
            archive::pack(
                source.as_fd(),
                io::BufWriter::new(File::from(write)),
                cancel,
            )
            .map(drop)
        });
        let unpacked = archive::unpack(File::from(read), target.as_fd(), owners, cancel);
        let packed = packing.join().unwrap_or(Err(ImageError::Cancelled));
        match (packed, unpacked) {
            // a reader that stopped is why the writer had to
            (Err(ImageError::Write(_)), Err(e)) => Err(e),
            (Err(e), _) | (_, Err(e)) => Err(e),
            (Ok(()), Ok(_)) => Ok(()),
        }
    })
}

/// Copies a disk: by reference where the file system can, else with its holes.
pub(crate) fn copy_disk(from: &Path, to: &Path, cancel: &Cancel) -> Result<(), ImageError> {
    let source = File::open(from).map_err(ImageError::file("open", from))?;
    let fail = || ImageError::file::<io::Error>("write", to);
    let mut target = OpenOptions::new().write(true).open(to).map_err(fail())?;
    if cancel.is_cancelled() {
        return Err(ImageError::Cancelled);
    }
    let (read, write): (OwnedFd, OwnedFd) = (
        source.try_clone().map_err(fail())?.into(),
        target.try_clone().map_err(fail())?.into(),
    );
    if rustix::fs::ioctl_ficlone(&write, &read).is_err() {
        let copied = archive::copy_with_holes(&mut cancel.reader(source), &mut target);
        copied.map_err(|e| match cancel.is_cancelled() {
            true => ImageError::Cancelled,
            false => fail()(e),
        })?;
    }
    target
        .set_permissions(fs::Permissions::from_mode(0o644))
        .map_err(fail())
}
