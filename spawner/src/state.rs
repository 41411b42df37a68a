//! Which containers run: a directory each below the state root, locked while its front or monitor lives.
//!
//! ```text
//! STATE_ROOT/.lock           held while names and user ranges are given out
//! STATE_ROOT/NAME/lock       held by front and monitor: who can take it has found a dead container
//!                 record.json  who it is; there from the moment its pid is known
//!                 bundle/config.json, run/NAME/…   libcontainer's
//!                 root/, binds/N                   mount points, always empty on the host
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::error::SpawnError;
use crate::plan::UidRange;
use crate::settings::MachineName;
use crate::signals;

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The machine name.
    pub name: String,
    /// Its pid 1, as the host counts.
    pub pid: i32,
    /// When that process was started, in clock ticks since boot (field 22 of proc_pid_stat(5)): with the pid it
    /// names a process for good.
    pub start_ticks: u64,
    /// When the container was started, seconds since 1970.
    pub since: u64,
    /// The root, `None` for the host's.
    pub directory: Option<PathBuf>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// With private users: the host's id of its root.
    pub uid_base: Option<u32>,
}

/// The containers that run, by name.
///
/// # Errors
/// [`SpawnError::State`] where the directory exists and cannot be read.
pub fn list(state_root: &Path) -> Result<Vec<Running>, SpawnError> {
    let entries = match fs::read_dir(state_root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(SpawnError::state("read", state_root)(e)),
    };
    let mut all: Vec<_> = entries
        .flatten()
        .filter_map(|entry| read_record(&entry.path()))
        .filter(|running| start_ticks(running.pid) == Some(running.start_ticks))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Sends a signal to the container's pid 1. A signal that ends processes by default ends the container, too, where
/// pid 1 does nothing about it (the kernel would drop it).
///
/// # Errors
/// [`SpawnError::NoSuchContainer`], or what the system said.
pub fn kill(state_root: &Path, name: &MachineName, signal: i32) -> Result<(), SpawnError> {
    let gone = || SpawnError::NoSuchContainer(name.to_string());
    let record = read_record(&state_root.join(name.as_str())).ok_or_else(gone)?;
    let pid = Pid::from_raw(record.pid).ok_or_else(gone)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    // only now: the descriptor stays with whom it was opened for, the number does not
    if start_ticks(record.pid) != Some(record.start_ticks) {
        return Err(gone());
    }
    signals::deliver(pidfd.as_fd(), record.pid, signal)
        .map(drop)
        .map_err(SpawnError::system("send a signal to the container"))
}

fn read_record(dir: &Path) -> Option<Running> {
    serde_json::from_slice(&fs::read(dir.join("record.json")).ok()?).ok()
}

/// When a process was started; `None` when there is none of that number, or only its remains.
pub(crate) fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name, field 2, may hold spaces and parentheses
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.nth(18)?.parse().ok()
}

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
    fn empty(&self) {
        for file in [
            "record.json",
            "record.new",
            "range",
            "range.new",
            "console.sock",
            "init.pid",
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

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
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

    #[test]
    fn only_the_process_that_was_recorded_counts() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id() as i32;
        let slot = claim(dir.path(), "web").unwrap();
        let mut record = Running {
            name: "web".into(),
            pid: me,
            start_ticks: start_ticks(me).unwrap(),
            since: now(),
            directory: None,
            command: vec!["true".into()],
            uid_base: None,
        };
        slot.record(&record).unwrap();
        assert_eq!(list(dir.path()).unwrap(), [record.clone()]);
        record.start_ticks += 1; // the number was used again
        slot.record(&record).unwrap();
        assert_eq!(list(dir.path()).unwrap(), []);
        let killed = kill(dir.path(), &"web".parse().unwrap(), 9);
        assert!(matches!(killed, Err(SpawnError::NoSuchContainer(_))));
        assert!(list(&dir.path().join("none")).unwrap().is_empty());
        // so that the record is not taken for remains by whoever claims next
        slot.release();
    }
}
