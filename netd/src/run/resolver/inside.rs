//! A container's root, seen from outside: links in it lead nowhere but into it (openat2(2), RESOLVE_IN_ROOT), and not
//! into /proc's magic ones.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// What is at /etc/resolv.conf, or whatever file of /etc it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::run) enum Target {
    /// A plain file, perhaps by a link: its path in the container.
    File(PathBuf),
    /// Nothing.
    Missing,
    /// A link to something that is not there.
    Dangling,
    /// Something else.
    Other,
}

/// See the [module](self).
pub(in crate::run) struct Root {
    /// Without links in it.
    path: PathBuf,
    dir: OwnedFd,
    /// The file of /etc that this is about.
    name: &'static str,
}

impl Root {
    /// # Errors
    /// That of looking for the directory.
    pub(in crate::run) fn open(path: &Path, name: &'static str) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, &path, flags, Mode::empty())?;
        Ok(Self { path, dir, name })
    }

    /// What is there now.
    pub(in crate::run) fn target(&self) -> io::Result<Target> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match self.open_at(&format!("etc/{}", self.name), flags, Mode::empty()) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Ok(Target::Other);
                }
                let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
                Ok(match real.strip_prefix(&self.path) {
                    Ok(inside) => Target::File(Path::new("/").join(inside)),
                    // Something is mounted where it is: it has no path in the root.
                    Err(_) => Target::Other,
                })
            }
            Err(Errno::NOENT) => match self.etc() {
                Ok(etc) => match rustix::fs::statat(&etc, self.name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Ok(Target::Dangling),
                    Err(Errno::NOENT) => Ok(Target::Missing),
                    Err(e) => Err(e.into()),
                },
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Target::Missing),
                Err(e) => Err(e),
            },
            // A chain of links without an end, or through what is no directory, or into /proc.
            Err(Errno::LOOP | Errno::NOTDIR) => Ok(Target::Other),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes an empty file where a link leads.
    pub(in crate::run) fn touch(&self) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        self.open_at(&format!("etc/{}", self.name), flags, mode)?;
        Ok(())
    }

    /// Writes the file where there is a plain one or none. `Ok(false)`: there is something else.
    pub(in crate::run) fn copy(&self, text: &[u8]) -> io::Result<bool> {
        let etc = self.etc()?;
        // Not to be held up by a pipe, nor led away by a link.
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&etc, self.name, flags, Mode::empty()) {
            Ok(fd) => {
                let mut file = File::from(fd);
                if !file.metadata()?.is_file() {
                    return Ok(false);
                }
                file.set_len(0)?;
                file.write_all(text)?;
                Ok(true)
            }
            Err(Errno::NOENT) => {
                self.create(&etc, self.name, text)?;
                Ok(true)
            }
            // A link; a pipe without a reader, or a socket; a directory.
            Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Puts a file in the place of whatever is there.
    pub(in crate::run) fn replace(&self, text: &[u8]) -> io::Result<()> {
        let etc = self.etc()?;
        let aside = format!(".{}.{}", self.name, std::process::id());
        self.create(&etc, &aside, text)?;
        rustix::fs::renameat(&etc, &aside, &etc, self.name).map_err(|e| {
            let _ = rustix::fs::unlinkat(&etc, &aside, AtFlags::empty());
            e.into()
        })
    }

    /// Takes it away; what is not there is fine.
    pub(in crate::run) fn delete(&self) -> io::Result<()> {
        let etc = match self.etc() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            etc => etc?,
        };
        match rustix::fs::unlinkat(&etc, self.name, AtFlags::empty()) {
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Puts a link in the place of whatever is there.
    pub(in crate::run) fn link(&self, target: &str) -> io::Result<()> {
        let etc = self.etc()?;
        let aside = format!(".{}.{}", self.name, std::process::id());
        rustix::fs::symlinkat(target, &etc, &aside)?;
        let owner = rustix::fs::fstat(&etc)?;
        let (uid, gid) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let done = rustix::fs::chownat(&etc, &aside, Some(uid), Some(gid), flags)
            .and_then(|()| rustix::fs::renameat(&etc, &aside, &etc, self.name));
        done.map_err(|e| {
            let _ = rustix::fs::unlinkat(&etc, &aside, AtFlags::empty());
            e.into()
        })
    }

    /// Whether something is at a path of the root, links followed.
    pub(in crate::run) fn has(&self, path: &str) -> bool {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        self.open_at(path, flags, Mode::empty()).is_ok()
    }

    /// A new file that everybody may read, of whom /etc belongs to: the root user inside, whatever number that has.
    fn create(&self, etc: &OwnedFd, name: &str, text: &[u8]) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let mut file = File::from(rustix::fs::openat(etc, name, flags, mode)?);
        let owner = rustix::fs::fstat(etc)?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (owner.st_uid, owner.st_gid) {
            std::os::unix::fs::fchown(&file, Some(owner.st_uid), Some(owner.st_gid))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.write_all(text)
    }

    fn etc(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(self.open_at("etc", flags, Mode::empty())?)
    }

    fn open_at(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        // EAGAIN: something in it was renamed meanwhile, so it cannot be told that it is inside.
        for _ in 0..16 {
            match rustix::fs::openat2(self.dir.as_fd(), path, flags, mode, IN_ROOT) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }
}
