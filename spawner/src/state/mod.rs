//! Which containers run: a directory each below the state root, locked while its front or monitor lives.
//!
//! ```text
//! STATE_ROOT/.lock           held while names and user ranges are given out
//! STATE_ROOT/NAME/lock       held by front and monitor: who can take it has found a dead container
//!                 record.json  who it is; there from the moment its pid is known
//!                 bundle/config.json, run/NAME/…   libcontainer's
//!                 temporary    what is on disk elsewhere and goes with it
//!                 root/, binds/N                   mount points, always empty on the host
//! ```

mod slot;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::error::SpawnError;
use crate::settings::MachineName;
use crate::signals;

pub(crate) use slot::Slot;

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
    /// Whether its pid 1 is an init, which is started again when it asks for that.
    #[serde(default)]
    pub boots: bool,
    /// How its pid 1 wants to be asked to end, where that was said.
    #[serde(default)]
    pub kill_signal: Option<i32>,
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

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_process_that_was_recorded_counts() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id() as i32;
        let (slot, _) = Slot::claim(dir.path(), &"web".parse().unwrap(), |_| Ok(None)).unwrap();
        let mut record = Running {
            name: "web".into(),
            pid: me,
            start_ticks: start_ticks(me).unwrap(),
            since: now(),
            directory: None,
            command: vec!["true".into()],
            uid_base: None,
            boots: false,
            kill_signal: None,
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
