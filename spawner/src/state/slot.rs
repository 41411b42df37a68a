//! One container's directory: claimed under a lock, and removed by whoever lives longest.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags};

use super::{Running, read_record, start_ticks};
use crate::error::SpawnError;
use crate::plan::UidRange;
use crate::settings::MachineName;
use crate::signals;

/// Where it is noted what is on disk elsewhere.
const TEMPORARY: &str = "temporary";

/// The directory of one container, claimed.
pub(crate) struct Slot {
    root: PathBuf,
    dir: PathBuf,
    name: String,
    /// Its lock is shared with the monitor by fork, and gone when both are.
    lock: OwnedFd,
}

impl Slot {
    /// Claims `name`, clearing away what a container that was killed with its monitor left behind. `pick` may choose
    /// a user range, given the bases of all that are in use; no other claim is under way meanwhile.
    pub(crate) fn claim(
        root: &Path,
        name: &MachineName,
        pick: impl FnOnce(&[u32]) -> Result<Option<UidRange>, SpawnError>,
    ) -> Result<(Self, Option<UidRange>), SpawnError> {
        make_dir(root, true)?;
        let guard = lock_file(&root.join(".lock"), FlockOperation::LockExclusive)?;
        let dir = root.join(name.as_str());
        make_dir(&dir, false)?;
        let lock = match lock_file(&dir.join("lock"), FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => lock,
            Err(SpawnError::State { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                return Err(SpawnError::Running(name.to_string()));
            }
            Err(e) => return Err(e),
        };
        let slot = Self {
            root: root.to_owned(),
            dir,
            name: name.to_string(),
            lock,
        };
        slot.end_remains();
        slot.empty();
        let filled = slot.fill(pick);
        drop(guard);
        match filled {
            Ok(range) => Ok((slot, range)),
            Err(e) => {
                slot.release();
                Err(e)
            }
        }
    }

    fn fill(
        &self,
        pick: impl FnOnce(&[u32]) -> Result<Option<UidRange>, SpawnError>,
    ) -> Result<Option<UidRange>, SpawnError> {
        let range = pick(&bases_in_use(&self.root))?;
        if let Some(range) = range {
            self.write("range", range.base.to_string().as_bytes())?;
        }
        for sub in ["bundle", "binds", "root", "run"] {
            make_dir(&self.dir.join(sub), false)?;
        }
        Ok(range)
    }

    /// The container's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a mount point for the `index`th bind, a directory or a file as its source is.
    pub(crate) fn bind_point(&self, index: usize, directory: bool) -> Result<PathBuf, SpawnError> {
        let path = self.dir.join("binds").join(index.to_string());
        if directory {
            make_dir(&path, false)?;
        } else {
            File::create(&path).map_err(SpawnError::state("create", &path))?;
        }
        Ok(path)
    }

    /// An empty file or directory that nobody may open, to cover others with.
    pub(crate) fn inaccessible(&self, directory: bool) -> Result<PathBuf, SpawnError> {
        let name = if directory { "none" } else { "none-file" };
        let path = self.dir.join("binds").join(name);
        match directory {
            true => make_dir(&path, false)?,
            false => drop(File::create(&path).map_err(SpawnError::state("create", &path))?),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o0))
            .map_err(SpawnError::state("close", &path))?;
        Ok(path)
    }

    /// A file that everybody inside may read.
    pub(crate) fn shown_file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, SpawnError> {
        let path = self.dir.join("binds").join(name);
        let write = || {
            fs::write(&path, bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        };
        write().map_err(SpawnError::state("write", &path))?;
        Ok(path)
    }

    /// A path for something on disk that goes with the container, its name made unique. It is noted before it is there, so
    /// that the next of this name removes what a power cut left.
    pub(crate) fn temporary(&self, like: &Path) -> Result<PathBuf, SpawnError> {
        let mut noted = self.noted();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let unique = now.map_or(0, |now| now.as_nanos()) as u64;
        let mut path = like.as_os_str().to_owned();
        path.push(format!(".{:x}{}", unique, noted.len()));
        noted.push(path.clone().into());
        let text = serde_json::to_vec(&noted).unwrap_or_default();
        self.write(TEMPORARY, &text)?;
        Ok(path.into())
    }

    fn noted(&self) -> Vec<PathBuf> {
        let text = fs::read(self.dir.join(TEMPORARY)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes a file of the container's directory, whole or not at all.
    pub(crate) fn write(&self, file: &str, bytes: &[u8]) -> Result<(), SpawnError> {
        let path = self.dir.join(file);
        let new = path.with_extension("new");
        let write = || {
            let mut f = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            f.write_all(bytes)?;
            fs::rename(&new, &path)
        };
        write().map_err(SpawnError::state("write", &path))
    }

    /// Puts the container on the list.
    pub(crate) fn record(&self, running: &Running) -> Result<(), SpawnError> {
        let text = serde_json::to_vec(running).unwrap_or_default();
        self.write("record.json", &text)
    }

    /// Kills what the record names, if it outlived its monitor.
    fn end_remains(&self) {
        let Some(record) = read_record(&self.dir) else {
            return;
        };
        let Some(pid) = Pid::from_raw(record.pid) else {
            return;
        };
        if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            && start_ticks(record.pid) == Some(record.start_ticks)
        {
            let _ = signals::kill_and_wait(pidfd.as_fd());
        }
    }

    /// Removes all but the directory and its lock. Never follows into `root` and `binds`: should something still be
    /// mounted there, it is not ours to delete.
    pub(crate) fn empty(&self) {
        for path in self.noted() {
            // never follows a link, and whoever could put one there is root
            let _ = fs::remove_dir_all(path);
        }
        for file in [
            "record.json",
            "record.new",
            "range",
            "range.new",
            "console.sock",
            "init.pid",
            TEMPORARY,
            "temporary.new",
        ] {
            let _ = fs::remove_file(self.dir.join(file));
        }
        for plain in ["bundle", "run"] {
            let _ = fs::remove_dir_all(self.dir.join(plain));
        }
        let binds = self.dir.join("binds");
        for entry in fs::read_dir(&binds).into_iter().flatten().flatten() {
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir(entry.path()),
                _ => fs::remove_file(entry.path()),
            };
        }
        let _ = fs::remove_dir(binds);
        let _ = fs::remove_dir(self.dir.join("root"));
    }

    /// Removes the directory. Called by whoever lives longest, front or monitor; twice does no harm.
    pub(crate) fn release(&self) {
        let guard = lock_file(&self.root.join(".lock"), FlockOperation::LockExclusive);
        if guard.is_err() || !self.is_ours() {
            return;
        }
        self.empty();
        let _ = fs::remove_file(self.dir.join("lock"));
        let _ = fs::remove_dir(&self.dir);
    }

    /// Whether the directory is still the one that was claimed, and not its successor.
    fn is_ours(&self) -> bool {
        let (Ok(held), Ok(there)) = (
            rustix::fs::fstat(&self.lock),
            rustix::fs::stat(self.dir.join("lock")),
        ) else {
            return false;
        };
        (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
    }

    /// The machine name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Where the user ranges of all containers begin, also of those that are only being made.
fn bases_in_use(root: &Path) -> Vec<u32> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            fs::read_to_string(entry.path().join("range"))
                .ok()?
                .parse()
                .ok()
        })
        .collect()
}

/// Makes a directory that others may pass through (the users of a container must reach its root) but not read.
fn make_dir(path: &Path, parents: bool) -> Result<(), SpawnError> {
    let fail = |e| SpawnError::state("create", path)(e);
    match DirBuilder::new()
        .mode(0o711)
        .recursive(parents)
        .create(path)
    {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        done => done.map_err(fail)?,
    }
    if !parents {
        // whatever the umask is
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).map_err(fail)?;
    }
    Ok(())
}

fn lock_file(path: &Path, how: FlockOperation) -> Result<OwnedFd, SpawnError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(SpawnError::state("open", path))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, how))
        .map_err(SpawnError::state("lock", path))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RANGE: UidRange = UidRange {
        base: 1 << 20,
        size: UidRange::SIZE,
        idmap: true,
    };

    fn claim(root: &Path, name: &str) -> Result<Slot, SpawnError> {
        Slot::claim(root, &name.parse().unwrap(), |_| Ok(Some(RANGE))).map(|(slot, _)| slot)
    }

    #[test]
    fn a_name_is_claimed_once_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("containers");
        let slot = claim(&root, "web").unwrap();
        assert!(matches!(claim(&root, "web"), Err(SpawnError::Running(_))));
        claim(&root, "db").unwrap().release();
        slot.release();
        let left: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(left, [".lock"]);
        claim(&root, "web").unwrap();
    }

    #[test]
    fn a_claim_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let failed = Slot::claim(dir.path(), &"web".parse().unwrap(), |_| {
            Err(SpawnError::NoUidRange)
        });
        assert!(matches!(failed, Err(SpawnError::NoUidRange)));
        assert!(!dir.path().join("web").exists());
    }

    #[test]
    fn what_the_dead_left_is_cleared_but_never_what_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let slot = claim(dir.path(), "web").unwrap();
        slot.write("bundle/config.json", b"old").unwrap();
        // as if a mount were there: something in what must be empty
        fs::write(slot.dir().join("root/precious"), "x").unwrap();
        drop(slot);
        let slot = claim(dir.path(), "web").unwrap();
        assert!(!slot.dir().join("bundle/config.json").exists());
        assert!(slot.dir().join("root/precious").exists());
    }

    #[test]
    fn others_ranges_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let _web = claim(dir.path(), "web").unwrap();
        Slot::claim(dir.path(), &"db".parse().unwrap(), |others| {
            assert_eq!(others, [1 << 20]);
            Ok(None)
        })
        .unwrap();
    }
}
