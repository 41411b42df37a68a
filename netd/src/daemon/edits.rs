//! Which files were edited since they were read: told by inotify, so that a reload costs as much as what
//! changed and not as much as what there is.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use super::dirs::Dirs;

/// What was edited in one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edited {
    /// Stems of `*.toml` files with which their writers are done.
    pub(crate) stems: BTreeSet<String>,
    /// Stems of those that somebody still writes: half of a file says less than the file, so they wait
    /// for the end, or for a reload that is asked for.
    pub(crate) unfinished: BTreeSet<String>,
    /// Something else was put there, through which symbolic links may lead.
    pub(crate) links: bool,
    /// News were lost: any file may have been.
    pub(crate) any: bool,
}

impl Edited {
    /// Whether there is a file to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.stems.is_empty() && !self.any
    }

    /// Takes what is to be read; what somebody still writes stays.
    pub(crate) fn take(&mut self) -> Self {
        let unfinished = std::mem::take(&mut self.unfinished);
        let rest = Self {
            unfinished,
            ..Self::default()
        };
        std::mem::replace(self, rest)
    }

    /// A reload was asked for: what is there now counts, whoever is still at it.
    fn settle(&mut self) {
        self.stems.append(&mut self.unfinished);
        self.links = true;
    }
}

/// A watch on the folders of zones and policies, and on groups.toml.
pub(crate) struct Edits {
    inotify: Inotify,
    dirs: Dirs,
    zones_watch: WatchDescriptor,
    policies_watch: WatchDescriptor,
    config_watch: WatchDescriptor,
    /// One of the folders may not be the one that is watched.
    moved: bool,
    /// Zone files, since they were taken last.
    pub(crate) zones: Edited,
    /// groups.toml, since it was read last.
    pub(crate) groups: bool,
    /// Somebody still writes groups.toml: as with [`Edited::unfinished`].
    groups_unfinished: bool,
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
        let zones_watch = inotify.watches().add(dirs.zones(), events())?;
        let policies_watch = inotify.watches().add(dirs.policies(), events())?;
        let config_watch = inotify.watches().add(&dirs.config, events())?;
        Ok(Self {
            inotify,
            dirs: dirs.clone(),
            zones_watch,
            policies_watch,
            config_watch,
            moved: false,
            zones: Edited::default(),
            groups: false,
            groups_unfinished: false,
            policies: Edited::default(),
        })
    }

    /// Everything that is there now is to be read, also what somebody is still writing, what symbolic links
    /// lead to, and folders that took the place of those that were watched.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.drain()?;
        self.zones.settle();
        self.policies.settle();
        self.groups |= std::mem::take(&mut self.groups_unfinished);
        self.follow_folders();
        Ok(())
    }

    /// Watches what is there now under the names of the folders. One that is missing is to be read as well,
    /// which says so.
    fn follow_folders(&mut self) {
        self.moved = false;
        let (zones, policies) = (self.dirs.zones(), self.dirs.policies());
        let watches = &mut self.inotify.watches();
        // The same folder has the same descriptor.
        let mut other = |folder: &Path, watch: &mut WatchDescriptor| {
            let Ok(now) = watches.add(folder, events()) else {
                return true;
            };
            if now == *watch {
                return false;
            }
            // it went by itself where its folder is gone
            let _ = watches.remove(std::mem::replace(watch, now));
            true
        };
        if other(&self.dirs.config, &mut self.config_watch) {
            self.groups = true;
        }
        self.zones.any |= other(&zones, &mut self.zones_watch);
        self.policies.any |= other(&policies, &mut self.policies_watch);
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
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            };
            for event in events {
                let name = event.name.and_then(|name| name.to_str());
                if event.wd == self.config_watch {
                    // nothing else that lies there is read
                    match name {
                        Some(name @ "groups.toml") => {
                            self.groups_unfinished =
                                is_unfinished(event.mask, &self.dirs.config.join(name));
                            if !self.groups_unfinished {
                                self.groups = true;
                                done = true;
                            }
                        }
                        Some("zones" | "policies") => self.moved = true,
                        _ => {}
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
                let (folder, edited) = if event.wd == self.zones_watch {
                    (self.dirs.zones(), &mut self.zones)
                } else if event.wd == self.policies_watch {
                    (self.dirs.policies(), &mut self.policies)
                } else {
                    // a folder that was watched before
                    continue;
                };
                let Some(name) = name else { continue };
                let stem = name
                    .strip_suffix(".toml")
                    .filter(|_| !name.starts_with('.'));
                // drafts of editors come and go
                let Some(stem) = stem else {
                    edited.links |= event.mask.intersects(EventMask::MOVED_TO);
                    continue;
                };
                if is_unfinished(event.mask, &folder.join(name)) {
                    edited.unfinished.insert(stem.to_owned());
                } else {
                    edited.unfinished.remove(stem);
                    edited.stems.insert(stem.to_owned());
                    done = true;
                }
            }
        }
        if self.moved {
            self.follow_folders();
            done |= self.zones.any || self.policies.any;
        }
        Ok(done)
    }
}

/// What is told of a folder.
fn events() -> WatchMask {
    WatchMask::CREATE
        | WatchMask::CLOSE_WRITE
        | WatchMask::MODIFY
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
}

/// Whether somebody is still writing a file, or is going to: its end will be told. Links, and whatever else cannot be
/// written to, are whole from the first moment.
fn is_unfinished(event: EventMask, path: &Path) -> bool {
    let is_begun =
        || std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.nlink() == 1);
    event == EventMask::MODIFY || event == EventMask::CREATE && is_begun()
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

    fn watched() -> (tempfile::TempDir, Dirs, Edits) {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs {
            config: dir.path().join("config"),
            state: dir.path().join("state"),
            runtime: dir.path().join("run"),
        };
        std::fs::create_dir_all(dirs.zones()).unwrap();
        std::fs::create_dir_all(dirs.policies()).unwrap();
        let edits = Edits::watch(&dirs).unwrap();
        (dir, dirs, edits)
    }

    /// What is to be read of the policies, once.
    fn news(edits: &mut Edits) -> (bool, Vec<String>) {
        let done = edits.drain().unwrap();
        (done, edits.policies.take().stems.into_iter().collect())
    }

    #[test]
    fn links_are_edits() {
        let (dir, dirs, mut edits) = watched();
        let target = dir.path().join("text");
        std::fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, dirs.policies().join("web.toml")).unwrap();
        assert_eq!(news(&mut edits), (true, vec!["web".into()]));
        std::fs::hard_link(&target, dirs.policies().join("db.toml")).unwrap();
        assert_eq!(news(&mut edits), (true, vec!["db".into()]));
    }

    #[test]
    fn a_file_that_is_being_written_waits_also_while_another_is_done() {
        use std::io::Write;
        let (_dir, dirs, mut edits) = watched();
        let path = dirs.policies().join("web.toml");
        std::fs::write(&path, "egress = []").unwrap();
        assert_eq!(news(&mut edits), (true, vec!["web".into()]));
        let mut open = std::fs::File::create(&path).unwrap();
        assert_eq!(news(&mut edits), (false, vec![]));
        std::fs::write(dirs.policies().join("db.toml"), "").unwrap();
        assert_eq!(news(&mut edits), (true, vec!["db".into()]));
        open.write_all(b"egress = []").unwrap();
        assert_eq!(news(&mut edits), (false, vec![]));
        drop(open);
        assert_eq!(news(&mut edits), (true, vec!["web".into()]));
        // unless somebody asks
        let open = std::fs::File::create(&path).unwrap();
        edits.settle().unwrap();
        assert_eq!(news(&mut edits), (false, vec!["web".into()]));
        drop(open);
    }

    #[test]
    fn groups_that_are_being_written_wait_as_well() {
        let (_dir, dirs, mut edits) = watched();
        let path = dirs.config.join("groups.toml");
        let read = |edits: &mut Edits| {
            let done = edits.drain().unwrap();
            (done, std::mem::take(&mut edits.groups))
        };
        let open = std::fs::File::create(&path).unwrap();
        assert_eq!(read(&mut edits), (false, false));
        drop(open);
        assert_eq!(read(&mut edits), (true, true));
        let open = std::fs::File::create(&path).unwrap();
        std::fs::write(dirs.policies().join("db.toml"), "").unwrap();
        assert_eq!(read(&mut edits), (true, false));
        edits.settle().unwrap();
        assert!(std::mem::take(&mut edits.groups), "asked for");
        drop(open);
        assert_eq!(read(&mut edits), (true, true));
    }

    #[test]
    fn a_folder_in_the_place_of_another_is_watched_and_read() {
        let (_dir, dirs, mut edits) = watched();
        let other = dirs.config.join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::rename(dirs.policies(), dirs.config.join("old")).unwrap();
        std::fs::rename(&other, dirs.policies()).unwrap();
        assert!(edits.drain().unwrap() && edits.policies.take().any && !edits.zones.any);
        std::fs::write(dirs.config.join("old/web.toml"), "").unwrap();
        assert_eq!(news(&mut edits), (false, vec![]));
        std::fs::write(dirs.policies().join("web.toml"), "").unwrap();
        assert_eq!(news(&mut edits), (true, vec!["web".into()]));
        // also with all that is above it, when somebody asks
        std::fs::rename(&dirs.config, dirs.config.with_file_name("before")).unwrap();
        std::fs::create_dir_all(dirs.zones()).unwrap();
        std::fs::create_dir_all(dirs.policies()).unwrap();
        edits.settle().unwrap();
        assert!(edits.policies.take().any && edits.zones.take().any && edits.groups);
        std::fs::write(dirs.policies().join("web.toml"), "").unwrap();
        assert_eq!(news(&mut edits), (true, vec!["web".into()]));
    }
}
