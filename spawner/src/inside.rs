//! A container's root, looked at from outside: links in it lead nowhere but into it (openat2(2), RESOLVE_IN_ROOT).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens what is at `path` in `root`.
pub(crate) fn open(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let dir = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = match relative.as_os_str().is_empty() {
        true => Path::new("."),
        false => relative,
    };
    // EAGAIN: something in it was renamed meanwhile, so it cannot be told that it is inside
    for _ in 0..16 {
        let flags = flags | OFlags::CLOEXEC;
        match rustix::fs::openat2(&dir, relative, flags, Mode::empty(), IN_ROOT) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// What is at `path`, links followed.
pub(crate) fn stat(root: &Path, path: &Path) -> io::Result<rustix::fs::Stat> {
    Ok(rustix::fs::fstat(open(root, path, OFlags::PATH)?)?)
}

/// Whether a directory is there.
pub(crate) fn is_directory(root: &Path, path: &Path) -> bool {
    stat(root, path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// The text of a file, at most 16 MiB of it.
pub(crate) fn read(root: &Path, path: &Path) -> io::Result<String> {
    // NONBLOCK: a FIFO in that place must not hold us up
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
    let mut text = Vec::new();
    File::from(open(root, path, flags)?)
        .take(16 << 20)
        .read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The first of systemd-nspawn's candidates for an init that is there and may be executed.
pub(crate) fn init(root: &Path) -> Option<PathBuf> {
    const CANDIDATES: [&str; 3] = [
        "/usr/lib/systemd/systemd",
        "/lib/systemd/systemd",
        "/sbin/init",
    ];
    let runs = |path: &str| {
        stat(root, Path::new(path)).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_mode & 0o111 != 0
        })
    };
    CANDIDATES.iter().find(|path| runs(path)).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("real"), "inside").unwrap();
        symlink("/../../real", dir.path().join("etc/passwd")).unwrap();
        symlink("/etc", dir.path().join("conf")).unwrap();
        symlink("/var", dir.path().join("etc/var")).unwrap();
        let at = |path: &str| read(dir.path(), Path::new(path)).ok();
        assert_eq!(at("/etc/passwd").as_deref(), Some("inside"));
        assert_eq!(at("conf/passwd").as_deref(), Some("inside"));
        assert!(is_directory(dir.path(), Path::new("/conf")));
        assert!(is_directory(dir.path(), Path::new("/")));
        // the host has a /var, the root has none
        assert!(!is_directory(dir.path(), Path::new("/etc/var")));
    }

    #[test]
    fn an_init_is_found_where_systemd_nspawn_looks() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(init(dir.path()), None);
        std::fs::create_dir_all(dir.path().join("sbin")).unwrap();
        std::fs::write(dir.path().join("sbin/init"), "").unwrap();
        assert_eq!(init(dir.path()), None, "it cannot be executed");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("sbin/init"), mode).unwrap();
        assert_eq!(init(dir.path()), Some("/sbin/init".into()));
    }
}
