//! Names for programs that `ip netns exec NAME` starts: /etc/netns/NAME/resolv.conf, which it shows them in the place of
//! /etc/resolv.conf (ip-netns(8)).
//!
//! Only what is not there is made, and only what was made here is taken away, if it still says the same: each file has a
//! note, written first and with the file's text, in `STATE/netns/CONTAINER.json`. The files are on disk, so the notes are
//! too: the start after a crash or a reboot takes away what is left over.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zone::ContainerName;

/// Where `ip netns` keeps namespaces.
pub(crate) const NAMESPACES: &str = "/run/netns";
/// Where it looks for files.
const FOLDER: &str = "/etc/netns";
const FILE: &str = "resolv.conf";
/// In the folder of notes: says that [`FOLDER`] was made here.
const MADE: &str = "made";

/// A name that `ip netns` may use: no path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct NetnsName(String);

impl TryFrom<String> for NetnsName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let path = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
        // NAME_MAX of linux/limits.h
        match path || name.len() > 255 {
            true => Err(format!("{name:?} is no name of a network namespace")),
            false => Ok(Self(name)),
        }
    }
}

impl From<NetnsName> for String {
    fn from(name: NetnsName) -> String {
        name.0
    }
}

impl NetnsName {
    /// Whether it names the namespace with this device and inode.
    pub(crate) fn is(&self, id: (u64, u64)) -> bool {
        let meta = fs::metadata(Path::new(NAMESPACES).join(&self.0));
        meta.is_ok_and(|meta| (meta.dev(), meta.ino()) == id)
    }
}

/// What was made for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    netns: NetnsName,
    text: String,
    /// The namespace's folder was made too.
    folder: bool,
}

/// See the [module](self).
pub(crate) struct Named {
    notes: PathBuf,
    folder: PathBuf,
}

impl Named {
    /// Keeps its notes in the state dir; touches nothing.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            notes: state_dir.join("netns"),
            folder: FOLDER.into(),
        }
    }

    fn note(&self, container: &ContainerName) -> PathBuf {
        self.notes.join(format!("{container}.json"))
    }

    /// Makes the file for a container in this namespace, unless there is one. Whatever was made for it before goes.
    pub(crate) fn write(
        &self,
        container: &ContainerName,
        netns: &NetnsName,
        text: &str,
    ) -> io::Result<()> {
        self.remove(container)?;
        let folder = self.folder.join(&netns.0);
        let path = folder.join(FILE);
        if fs::symlink_metadata(&path).is_ok() {
            return Ok(());
        }
        fs::create_dir_all(&self.notes)?;
        let absent = |path: &Path| {
            fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound)
        };
        if absent(&self.folder) {
            fs::write(self.notes.join(MADE), "")?;
        }
        let note = Note {
            netns: netns.clone(),
            text: text.to_owned(),
            folder: absent(&folder),
        };
        let bytes = serde_json::to_vec(&note)?;
        let temporary = self.notes.join(format!(".{container}.tmp"));
        fs::write(&temporary, bytes)?;
        fs::rename(&temporary, self.note(container))?;
        let made = fs::create_dir_all(&folder).and_then(|()| create(&path, text));
        if let Err(e) = made {
            // Somebody was faster: it is theirs, which the note must not claim.
            let theirs = e.kind() == ErrorKind::AlreadyExists;
            if theirs {
                fs::remove_file(self.note(container))?;
                return Ok(());
            }
            let _ = self.remove(container);
            return Err(e);
        }
        Ok(())
    }

    /// The namespace that a file was made for, of a container that has one.
    pub(crate) fn made_for(&self, container: &ContainerName) -> Option<NetnsName> {
        let bytes = fs::read(self.note(container)).ok()?;
        let note = serde_json::from_slice::<Note>(&bytes).ok()?;
        Some(note.netns)
    }

    /// Takes away what was made for a container, unless it was changed.
    pub(crate) fn remove(&self, container: &ContainerName) -> io::Result<()> {
        let path = self.note(container);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            bytes => bytes?,
        };
        if let Ok(note) = serde_json::from_slice::<Note>(&bytes) {
            self.undo(&note)?;
        }
        fs::remove_file(path)
    }

    fn undo(&self, note: &Note) -> io::Result<()> {
        let folder = self.folder.join(&note.netns.0);
        let path = folder.join(FILE);
        // A file cut short is ours as well: the daemon was killed while it wrote.
        let ours = |path: &Path| {
            fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
                && fs::read(path).is_ok_and(|there| note.text.as_bytes().starts_with(&there))
        };
        if ours(&path) {
            fs::remove_file(&path)?;
        }
        // Not while somebody else has files in them.
        if note.folder {
            let _ = fs::remove_dir(&folder);
        }
        let made = self.notes.join(MADE);
        if made.exists() && fs::remove_dir(&self.folder).is_ok() {
            fs::remove_file(made)?;
        }
        Ok(())
    }

    /// Takes away what was made for containers that are not attached any more.
    pub(crate) fn sweep(&self, attached: impl Fn(&ContainerName) -> bool) -> io::Result<()> {
        let entries = match fs::read_dir(&self.notes) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(Ok(container)) = name.map(str::parse::<ContainerName>) else {
                continue;
            };
            if !attached(&container) {
                self.remove(&container)?;
            }
        }
        Ok(())
    }
}

/// A new file, readable by everybody. Nothing that is there is followed or changed.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        named: Named,
        web: ContainerName,
        db: ContainerName,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let mut named = Named::new(&dir.path().join("state"));
        named.folder = dir.path().join("etc/netns");
        fs::create_dir(dir.path().join("etc")).unwrap();
        Place {
            dir,
            named,
            web: "web".parse().unwrap(),
            db: "db".parse().unwrap(),
        }
    }

    fn netns(name: &str) -> NetnsName {
        NetnsName::try_from(name.to_owned()).unwrap()
    }

    impl Place {
        fn file(&self, name: &str) -> PathBuf {
            self.named.folder.join(name).join(FILE)
        }
    }

    #[test]
    fn what_was_made_goes_without_a_trace() {
        let place = place();
        let (named, web, db) = (&place.named, &place.web, &place.db);
        named.write(web, &netns("w"), "one").unwrap();
        named.write(db, &netns("d"), "two").unwrap();
        assert_eq!(fs::read_to_string(place.file("w")).unwrap(), "one");
        // Another namespace, or other words: what was there for it is no more.
        named.write(web, &netns("w2"), "three").unwrap();
        assert!(!place.file("w").parent().unwrap().exists());
        named.remove(web).unwrap();
        assert_eq!(fs::read_to_string(place.file("d")).unwrap(), "two");
        named.remove(db).unwrap();
        assert!(!named.folder.exists(), "the folder above was made too");
        let notes: Vec<_> = fs::read_dir(&named.notes).unwrap().collect();
        assert!(notes.is_empty(), "{notes:?}");
        named.remove(db).unwrap();
        assert!(place.dir.path().join("etc").exists());
    }

    #[test]
    fn what_somebody_else_made_stays() {
        let place = place();
        let (named, web) = (&place.named, &place.web);
        let file = place.file("w");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "a person's").unwrap();
        named.write(web, &netns("w"), "one").unwrap();
        named.remove(web).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "a person's");
        // A link to nowhere is somebody's too, and is not written through.
        fs::remove_file(&file).unwrap();
        let target = place.dir.path().join("target");
        std::os::unix::fs::symlink(&target, &file).unwrap();
        named.write(web, &netns("w"), "one").unwrap();
        assert!(!target.exists());
        named.remove(web).unwrap();
        fs::remove_file(&file).unwrap();
        // Ours, edited: it is theirs by now.
        named.write(web, &netns("w"), "one").unwrap();
        fs::write(&file, "edited").unwrap();
        named.remove(web).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "edited");
    }

    #[test]
    fn the_next_start_takes_away_what_is_left() {
        let place = place();
        let (named, web, db) = (&place.named, &place.web, &place.db);
        named.write(web, &netns("w"), "a whole text").unwrap();
        named.write(db, &netns("d"), "two").unwrap();
        fs::write(place.file("w"), "a whole").unwrap();
        named.sweep(|name| name == db).unwrap();
        assert!(!place.file("w").exists(), "it was cut short by a kill");
        assert!(place.file("d").exists());
    }

    #[test]
    fn names_are_no_paths() {
        for bad in ["", ".", "..", "a/b", "/", "../x", "a\0b", &"x".repeat(256)] {
            assert!(NetnsName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        for good in ["web", "a.b", "..a", "x y"] {
            assert!(NetnsName::try_from(good.to_owned()).is_ok(), "{good:?}");
        }
        assert!(!netns("no-such-namespace").is((0, 0)));
    }
}
