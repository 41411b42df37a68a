//! A container as seen from outside: its pid 1, and what that may.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};

use super::{Order, filters};
use crate::error::SpawnError;
use crate::settings::MachineName;
use crate::signals;
use crate::state;
use crate::sys;
use crate::wire::Wire;

/// Namespaces by their names in /proc/PID/ns, and their flags for setns(2).
const NAMESPACES: [(&str, i32); 7] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
];

/// Variables of the container's command that mean that one process.
const ITS_OWN: [&str; 9] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "container_uuid",
    "TERM",
    "SHELL",
];

/// A running container.
pub(super) struct Subject {
    name: String,
    dir: PathBuf,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// What joins its cgroups, open until the door has them.
    cgroups: std::cell::RefCell<Vec<OwnedFd>>,
}

impl Subject {
    pub(super) fn find(state_root: &Path, name: &MachineName) -> Result<Self, SpawnError> {
        let gone = || SpawnError::NoSuchContainer(name.to_string());
        let running = state::list(state_root)?;
        let record = running
            .into_iter()
            .find(|r| r.name == name.as_str())
            .ok_or_else(gone)?;
        let pid = Pid::from_raw(record.pid).ok_or_else(gone)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
        // only now: the descriptor stays with whom it was opened for, the number does not
        if state::start_ticks(record.pid) != Some(record.start_ticks) {
            return Err(gone());
        }
        Ok(Self {
            name: name.to_string(),
            dir: state_root.join(name.as_str()),
            pid: record.pid,
            pidfd,
            cgroups: Default::default(),
        })
    }

    /// Its root, as a path of the host for those who resolve what is below with `RESOLVE_IN_ROOT`.
    pub(super) fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.pid).into()
    }

    pub(super) fn fail(
        &self,
        what: impl Into<String>,
        source: impl Into<std::io::Error>,
    ) -> SpawnError {
        SpawnError::Join {
            name: self.name.clone(),
            what: what.into(),
            source: source.into(),
        }
    }

    /// The host's id of a user inside; `None` where it has none.
    pub(super) fn host_id(&self, uid: u32) -> Option<u32> {
        let map = fs::read_to_string(format!("/proc/{}/uid_map", self.pid)).ok()?;
        map.lines().find_map(|line| {
            let mut numbers = line.split_whitespace().map(|n| n.parse::<u32>().ok());
            let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
            let offset = uid.checked_sub(inside)?;
            (offset < count).then(|| outside.checked_add(offset))?
        })
    }

    /// The variables of the container's command, from its specification (not from the process, which may say anything).
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let config = fs::read(self.dir.join("bundle/config.json")).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
        let given = config["process"]["env"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut env: Vec<(String, String)> = given
            .iter()
            .filter_map(|entry| entry.as_str()?.split_once('='))
            .filter(|(key, _)| !ITS_OWN.contains(key))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if !env.iter().any(|(key, _)| key == "PATH") {
            let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            env.push(("PATH".into(), path.into()));
        }
        env
    }

    /// What the door has to do to be no more than pid 1; who and what it runs is left to the caller.
    pub(super) fn order(&self, wire: &Wire) -> Result<Order, SpawnError> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))
            .map_err(|e| self.fail("read what its first process may", e))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim())
        };
        let unknown = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let capabilities = field("CapBnd").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let capabilities =
            capabilities.ok_or_else(|| self.fail("read its capabilities", unknown()))?;
        let filtered = match field("Seccomp") {
            Some("0") => false,
            Some("2") => true,
            _ => return Err(self.fail("read its system call filter", unknown())),
        };
        let filters = match filtered {
            true => {
                // one at a time: a process has one tracer
                let turn = fs::File::open(self.dir.join("record.json"))
                    .map_err(|e| self.fail("wait for other visitors", e))?;
                rustix::io::retry_on_intr(|| {
                    rustix::fs::flock(&turn, rustix::fs::FlockOperation::LockExclusive)
                })
                .map_err(|e| self.fail("wait for other visitors", e))?;
                filters::of(self.pid).map_err(|e| self.fail("copy its system call filter", e))?
            }
            false => Vec::new(),
        };
        let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).ok();
        let its = |kind: &str| fs::read_link(format!("/proc/{}/ns/{kind}", self.pid));
        let mut namespaces = 0;
        for (kind, flag) in NAMESPACES {
            let theirs =
                its(kind).map_err(|e| self.fail(format!("find its {kind} namespace"), e))?;
            if own(kind) != Some(theirs) {
                namespaces |= flag.cast_unsigned();
            }
        }
        let limits =
            sys::join::limits(self.pid).map_err(|e| self.fail("read its resource limits", e))?;
        let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", self.pid));
        let order = Order {
            pidfd: self.pidfd.as_raw_fd(),
            wire: wire.as_fd().as_raw_fd(),
            tty: None,
            namespaces,
            cgroups: self.open_cgroups()?,
            limits,
            oom_score_adj: score.ok().and_then(|text| text.trim().parse().ok()),
            capabilities,
            no_new_privileges: field("NoNewPrivs") == Some("1"),
            filters,
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            chdir: "/".into(),
            arg0: None,
            command: Vec::new(),
            env: Vec::new(),
            task: None,
        };
        // all of that was of this process, if it is still there now
        match signals::is_over(self.pidfd.as_fd()) {
            true => Err(SpawnError::NoSuchContainer(self.name.clone())),
            false => Ok(order),
        }
    }

    /// Opens what joins the cgroups that are not the caller's own.
    fn open_cgroups(&self) -> Result<Vec<i32>, SpawnError> {
        let read = |who: &str| {
            fs::read_to_string(format!("/proc/{who}/cgroup"))
                .map_err(|e| self.fail("find its cgroups", e))
        };
        let (own, its) = (read("self")?, read(&self.pid.to_string())?);
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|e| self.fail("find its cgroups", e))?;
        for line in its.lines().filter(|line| !own.lines().any(|o| o == *line)) {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            let absent = || {
                self.fail(
                    format!("enter its cgroup {line}"),
                    std::io::ErrorKind::NotFound,
                )
            };
            let base = hierarchy(&mounts, controllers).ok_or_else(absent)?;
            let file = base.join(path.trim_start_matches('/')).join("cgroup.procs");
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&file, flags, Mode::empty())
                .map_err(|e| self.fail(format!("enter its cgroup {}", file.display()), e))?;
            self.cgroups.borrow_mut().push(fd);
        }
        Ok(self
            .cgroups
            .borrow()
            .iter()
            .map(AsRawFd::as_raw_fd)
            .collect())
    }
}

/// Where a hierarchy's root is mounted, by what /proc/PID/cgroup calls it ("" is cgroup2), proc_pid_mountinfo(5).
fn hierarchy(mountinfo: &str, controllers: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let (fstype, options) = (kind.next()?, kind.nth(1)?);
        let fits = match controllers {
            "" => fstype == "cgroup2",
            names => {
                fstype == "cgroup"
                    && names
                        .split(',')
                        .all(|name| options.split(',').any(|option| option == name))
            }
        };
        (fits && root == "/").then(|| point.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_by_what_is_mounted() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            31 20 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            32 20 0:28 /sub /elsewhere rw - cgroup2 cgroup rw\n\
            33 20 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw,nsdelegate\n";
        let at = |controllers| hierarchy(mounts, controllers);
        assert_eq!(at("cpu,cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(at("name=systemd"), Some("/sys/fs/cgroup/systemd".into()));
        assert_eq!(at(""), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(at("memory"), None);
    }
}
