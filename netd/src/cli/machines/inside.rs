//! Files of a container, looked at from outside: symbolic links lead nowhere but into its own root.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Whether there is something at `path` below `root`.
pub(super) fn exists(root: &Path, path: &str) -> bool {
    open(root, path, OFlags::PATH).is_ok()
}

/// At most 64 KiB of a file's text.
pub(super) fn read(root: &Path, path: &str) -> Option<String> {
    // NONBLOCK: a FIFO in that place must not hold us up
    let fd = open(
        root,
        path,
        OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK,
    )
    .ok()?;
    let mut bytes = Vec::new();
    File::from(fd).take(64 << 10).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn open(root: &Path, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let dir = rustix::fs::open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// What os-release(5) says below `root`: ID (or NAME), and VERSION_ID.
pub(super) fn os_release(root: &Path) -> (Option<String>, Option<String>) {
    let text = read(root, "/etc/os-release").or_else(|| read(root, "/usr/lib/os-release"));
    let text = text.unwrap_or_default();
    (value(&text, "ID"), value(&text, "VERSION_ID"))
}

/// The name a person knows it by.
pub(super) fn pretty_name(root: &Path) -> Option<String> {
    let text = read(root, "/etc/os-release").or_else(|| read(root, "/usr/lib/os-release"))?;
    value(&text, "PRETTY_NAME")
}

fn value(text: &str, key: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let bare = line.trim().trim_matches(['"', '\'']);
    // it is printed on a terminal
    let clean: String = bare.chars().filter(|c| !c.is_control()).take(80).collect();
    (!clean.is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn os_release_is_read_inside_and_cannot_write_to_the_terminal() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        let text =
            "NAME=\"x\"\nID=alpine\nVERSION_ID='3.20\x1b[31m'\nPRETTY_NAME=\"Alpine Linux\"\n";
        std::fs::write(dir.path().join("usr/lib/os-release"), text).unwrap();
        std::os::unix::fs::symlink(
            "/../../usr/lib/os-release",
            dir.path().join("etc/os-release"),
        )
        .unwrap();
        let (os, version) = os_release(dir.path());
        assert_eq!(os.unwrap(), "alpine");
        assert_eq!(version.unwrap(), "3.20[31m");
        assert_eq!(pretty_name(dir.path()).unwrap(), "Alpine Linux");
        assert!(!exists(dir.path(), "/etc/shadow"));
    }
}
