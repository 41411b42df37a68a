//! Network namespaces as descriptors, opened by the process that was asked: its own view of paths and
//! process ids counts, not the daemon's.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where `ip netns add` puts names.
const NAMED: &str = "/run/netns";

/// NSFS_MAGIC of linux/magic.h: the file system of namespaces.
const NSFS: u64 = 0x6e73_6673;

/// Opens a path, or a bare name under /run/netns.
pub(crate) fn open_path(path: &Path) -> Result<OwnedFd, Error> {
    let text = path.as_os_str().as_encoded_bytes();
    if text.contains(&b'/') {
        open(path.to_owned())
    } else {
        open(Path::new(NAMED).join(path))
    }
}

/// The name that `ip netns` has for a path, or a bare name, if it has one.
pub(crate) fn name(path: &Path) -> Option<String> {
    let text = path.as_os_str().as_encoded_bytes();
    if !text.contains(&b'/') {
        return path.to_str().map(str::to_owned);
    }
    // /var/run is a link to /run
    let folder = path.parent()?.canonicalize().ok()?;
    let there = folder == Path::new(NAMED);
    there.then(|| path.file_name()?.to_str().map(str::to_owned))?
}

/// Opens the network namespace of a process.
pub(crate) fn open_pid(pid: i32) -> Result<OwnedFd, Error> {
    open(format!("/proc/{pid}/ns/net").into())
}

fn open(path: PathBuf) -> Result<OwnedFd, Error> {
    let failed = |source: io::Error| Error::Netns {
        path: path.clone(),
        source,
    };
    // Non-blocking: a path that is a pipe by mistake must not hang.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .map_err(failed)?;
    let kind = rustix::fs::fstatfs(&file).map_err(|e| failed(e.into()))?;
    if kind.f_type as u64 != NSFS {
        return Err(Error::NotNetns { path });
    }
    // Namespaces are the same when device and inode are (namespaces(7)).
    let meta = file.metadata().map_err(failed)?;
    let own = std::fs::metadata("/proc/self/ns/net").map_err(failed)?;
    if (meta.dev(), meta.ino()) == (own.dev(), own.ino()) {
        return Err(Error::HostNetns { path });
    }
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ones_own_is_refused() {
        let error = open_pid(std::process::id() as i32).unwrap_err();
        assert!(matches!(error, Error::HostNetns { .. }), "{error}");
        let error = open_path(Path::new("/proc/self/ns/net")).unwrap_err();
        assert!(matches!(error, Error::HostNetns { .. }), "{error}");
    }

    #[test]
    fn names_are_those_of_ip_netns() {
        let name = |path: &str| name(Path::new(path));
        assert_eq!(name("web").as_deref(), Some("web"));
        assert_eq!(name("/proc/1/ns/net"), None);
        assert_eq!(name("/no/such/place"), None);
        assert_eq!(name("/"), None);
    }

    #[test]
    fn what_is_none_is_refused() {
        let error = open_path(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(error, Error::NotNetns { .. }), "{error}");
        let error = open_path(Path::new("no-such-name")).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(
            text.contains("/run/netns/no-such-name: No such file"),
            "{text}"
        );
    }

    #[test]
    fn a_pipe_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert!(matches!(open_path(&path), Err(Error::NotNetns { .. })));
    }
}
