//! Which files were edited since they were read: told by inotify, so that a reload costs as much as what
//! changed and not as much as what there is.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use super::dirs::Dirs;

/// What was edited in one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edited {
    /// Stems of `*.toml` files.
    pub(crate) stems: BTreeSet<String>,
    /// News were lost: any file may have been.
    pub(crate) any: bool,
}

impl Edited {
    /// Whether there is anything to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.stems.is_empty() && !self.any
    }
}

/// A watch on the folders of zones and policies, and on groups.toml.
pub(crate) struct Edits {
    inotify: Inotify,
    zones_watch: WatchDescriptor,
    config_watch: WatchDescriptor,
    /// Zone files, since they were taken last.
    pub(crate) zones: Edited,
    /// groups.toml, since it was read last.
    pub(crate) groups: bool,
    /// Policy files, since they were taken last.
    pub(crate) policies: Edited,
}

/// Tells when there are news to take from the [`Edits`] it was made of.
pub(crate) struct News(OwnedFd);

impl AsRawFd for News {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Edits {
    /// Watches the folders, which must be there.
    pub(crate) fn watch(dirs: &Dirs) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        // A file that is still open for writing counts for a reload that is asked for, and only then.
        let what = WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE;
        let zones_watch = inotify.watches().add(dirs.zones(), what)?;
        inotify.watches().add(dirs.policies(), what)?;
        let config_watch = inotify.watches().add(&dirs.config, what)?;
        Ok(Self {
            inotify,
            zones_watch,
            config_watch,
            zones: Edited::default(),
            groups: false,
            policies: Edited::default(),
        })
    }

    /// A descriptor of the same queue, to wait on.
    pub(crate) fn news(&self) -> io::Result<News> {
        Ok(News(self.inotify.as_fd().try_clone_to_owned()?))
    }

    /// Takes what happened since the last call. Returns whether a writer was done with a file.
    pub(crate) fn drain(&mut self) -> io::Result<bool> {
        let mut buffer = [0u8; 8192];
        let mut done = false;
        loop {
            let events = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(done),
                Err(e) => return Err(e),
            };
            for event in events {
                let name = event.name.and_then(|name| name.to_str());
                if event.wd == self.config_watch {
                    // nothing else that lies there is read
                    if name == Some("groups.toml") {
                        self.groups = true;
                        done |= event.mask != EventMask::MODIFY;
                    }
                    continue;
                }
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    done = true;
                    self.zones.any = true;
                    self.groups = true;
                    self.policies.any = true;
                    continue;
                }
                let stem = name
                    .filter(|name| !name.starts_with('.'))
                    .and_then(|name| name.strip_suffix(".toml"));
                // drafts of editors come and go
                let Some(stem) = stem else { continue };
                done |= event.mask != EventMask::MODIFY;
                let edited = if event.wd == self.zones_watch {
                    &mut self.zones
                } else {
                    &mut self.policies
                };
                edited.stems.insert(stem.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn edits_are_told_once_and_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs {
            config: dir.path().to_owned(),
            state: dir.path().to_owned(),
            runtime: dir.path().to_owned(),
        };
        std::fs::create_dir(dirs.zones()).unwrap();
        std::fs::create_dir(dirs.policies()).unwrap();
        let mut edits = Edits::watch(&dirs).unwrap();
        assert!(!edits.drain().unwrap());
        for name in ["netd.conf", ".groups.toml.swp", "groups.toml~"] {
            std::fs::write(dirs.config.join(name), "x").unwrap();
        }
        assert!(!edits.drain().unwrap() && !edits.groups);
        std::fs::write(dirs.policies().join(".web.draft"), "x").unwrap();
        assert!(!edits.drain().unwrap() && edits.policies.is_empty());
        std::fs::write(dirs.config.join("groups.toml"), "x").unwrap();
        assert!(edits.drain().unwrap() && std::mem::take(&mut edits.groups));
        for name in ["web.toml", ".web.toml.swp", "notes.txt"] {
            std::fs::write(dirs.policies().join(name), "x").unwrap();
        }
        std::fs::write(dirs.zones().join("dmz.toml"), "x").unwrap();
        assert!(edits.drain().unwrap());
        let policies = std::mem::take(&mut edits.policies);
        assert_eq!(policies.stems, BTreeSet::from(["web".to_owned()]));
        assert_eq!(edits.zones.stems, BTreeSet::from(["dmz".to_owned()]));
        std::fs::remove_file(dirs.policies().join("web.toml")).unwrap();
        assert!(edits.drain().unwrap());
        assert_eq!(edits.policies.stems, BTreeSet::from(["web".to_owned()]));
    }
}
