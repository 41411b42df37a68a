//! Cgroups, and only where they are asked for: limits, and those of an init.
//!
//! libcontainer would put every container in a cgroup of each of up to twelve v1 hierarchies, and fails where it cannot. A container
//! without limits needs none of that: moving a process costs the kernel an RCU grace period, which is longer than the rest of a start.
//! So the monitor blinds libcontainer ([`blind`]), and this module does the little that limits need, on cgroup2 and on v1 hierarchies
//! (also of a hybrid host, where cgroup2 has no controllers). Where it cannot, it says so and the container runs without limits.
//! An init (`--boot`) gets a part of cgroup2 for its own, as systemd wants it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, FsWord, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::plan::UidRange;
use crate::settings::{Limits, Settings as ContainerSettings};
use crate::sys::{self, MountAttributes};

/// Where every Linux system has its cgroups.
const ROOT: &str = "/sys/fs/cgroup";
/// CGROUP2_SUPER_MAGIC, linux/magic.h
const CGROUP2: FsWord = 0x6367_7270;
/// Our own level below a hierarchy's root.
const PARENT: &str = "netd";
/// The level below a container's that belongs to its init.
const OWN: &str = "own";
/// How many cgroups an init may make: systemd has one a unit.
const MOST: &str = "4096";
/// Deepest level that is cleaned up: far more than any init makes, and no way to exhaust our stack.
const DEEPEST: usize = 64;

/// Whether the host is on cgroup2 alone.
pub(crate) fn is_unified() -> bool {
    rustix::fs::statfs(ROOT).is_ok_and(|fs| fs.f_type == CGROUP2)
}

/// What libcontainer writes the container's process number to, in the bundle's directory, believing it a cgroup's (cgroupsPath of the
/// spec). It is no text: so nobody takes that number from it, after a start that failed, for a process to kill.
pub(crate) const DECOY: (&str, &[u8]) = ("cgroup.procs", &[0xff; 32]);

/// Where libcontainer finds [`DECOY`] from what it takes for the root of cgroup2.
pub(crate) fn decoy_path(bundle: &Path) -> String {
    format!("/../../..{}", bundle.display())
}

/// Keeps libcontainer from putting the container into cgroups. Where it sees cgroup2 it is content with the [`DECOY`]; else it has to
/// see a host without any hierarchy, and reads the list of all mounts twice for every controller that there may be, 1 ms of a start.
/// For a process in a mount namespace of its own.
pub(crate) fn blind() -> io::Result<()> {
    if is_unified() || show_unified().is_ok() {
        return Ok(());
    }
    // whatever is mounted there, also several times over; what is below goes with it
    while rustix::mount::unmount(ROOT, UnmountFlags::DETACH).is_ok() {}
    // Where somebody mounted another /sys over the first (`ip netns exec` does), the hierarchies below are out of sight
    // and yet in the list that libcontainer reads. The new one shows what the topmost did: the same network's devices.
    if fs::read_to_string("/proc/self/mountinfo")?.contains(" - cgroup ") {
        while rustix::mount::unmount("/sys", UnmountFlags::DETACH).is_ok() {}
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("sysfs", "/sys", "sysfs", flags, None)?;
    }
    // libcontainer takes a tmpfs for "v1", and finds no v1 hierarchy mounted in it
    rustix::mount::mount("tmpfs", ROOT, "tmpfs", MountFlags::RDONLY, Some(c"size=4k"))?;
    Ok(())
}

/// On a hybrid host: shows cgroup2, read-only, where a host on cgroup2 alone has it.
fn show_unified() -> rustix::io::Result<()> {
    let unified = Path::new(ROOT).join("unified");
    if rustix::fs::statfs(&unified)?.f_type != CGROUP2 {
        return Err(rustix::io::Errno::NODEV);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, &unified, flags)?;
    let read_only = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Default::default()
    };
    sys::mount_setattr(mount.as_fd(), &read_only).map_err(|_| rustix::io::Errno::PERM)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&mount, "", CWD, ROOT, empty)
}

/// The cgroups of one container, one or (v1) one for each kind of limit.
pub(crate) struct Cgroups {
    name: String,
    members: Vec<Member>,
    /// The cgroup of cgroup2 that is an init's own, to make others below it.
    delegated: Option<PathBuf>,
}

struct Member {
    /// The hierarchy's root.
    base: OwnedFd,
    /// Whether this is cgroup2.
    unified: bool,
    /// Whether there is a level below the container's that is its init's own.
    delegated: bool,
    /// Where this process was before.
    home: OwnedFd,
}

/// One file to write.
struct Setting {
    controller: &'static str,
    file: &'static str,
    value: String,
}

impl Cgroups {
    /// Those that a container needs: for its limits, and for an init that wants cgroups of its own. What cannot be made is told as
    /// a warning, and the container runs without.
    pub(crate) fn of(wanted: &ContainerSettings, range: Option<UidRange>) -> Option<Self> {
        let name = wanted.name.as_str();
        let mut all = match wanted.limits.is_empty() {
            true => None,
            false => Self::create(name, &wanted.limits)
                .inspect_err(|warning| tracing::warn!("{warning}"))
                .ok(),
        };
        if wanted.boot && !wanted.no_root {
            let mut cgroups = all.take().unwrap_or_else(|| Self::none(name));
            let owner = range.map_or(0, |range| range.base);
            if let Err(warning) = cgroups.delegate(owner) {
                tracing::warn!("{warning}");
            }
            all = (!cgroups.members.is_empty()).then_some(cgroups);
        }
        all
    }

    fn none(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            members: Vec::new(),
            delegated: None,
        }
    }

    /// The cgroup that an init may have for its own.
    pub(crate) fn delegated(&self) -> Option<&Path> {
        self.delegated.as_deref()
    }

    /// A cgroup of cgroup2 (also of a hybrid host's, where it has no controllers) that belongs to `owner`: what is to be shown at
    /// /sys/fs/cgroup. Limits are set one level above, where nobody inside can change them.
    fn delegate(&mut self, owner: u32) -> Result<(), String> {
        let base = match is_unified() {
            true => PathBuf::from(ROOT),
            false => Path::new(ROOT).join("unified"),
        };
        if !rustix::fs::statfs(&base).is_ok_and(|fs| fs.f_type == CGROUP2) {
            return Err("the init has no cgroups of its own: this machine has no cgroup2".into());
        }
        let base = base.join(handed_on(&base));
        let cannot = |e: String| format!("the init has no cgroups of its own: {e}");
        if !self.members.iter().any(|member| member.unified) {
            self.add(&base, "", &[], true).map_err(cannot)?;
        }
        let Some(member) = self.members.iter_mut().find(|member| member.unified) else {
            return Ok(());
        };
        let leaf = format!("{PARENT}/{}", self.name);
        let own = format!("{leaf}/{OWN}");
        // what an init left that was killed with all of netd; its name is ours, so nobody is in it
        let _ = remove_below(&member.base, &leaf, 0);
        let make = || -> rustix::io::Result<()> {
            match rustix::fs::mkdirat(&member.base, own.as_str(), Mode::from_raw_mode(0o755)) {
                Err(rustix::io::Errno::EXIST) => {}
                made => made?,
            }
            let ids = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)));
            // what cgroups(7) lists for delegation
            for file in [
                "",
                "/cgroup.procs",
                "/cgroup.threads",
                "/cgroup.subtree_control",
            ] {
                let path = format!("{own}{file}");
                rustix::fs::chownat(&member.base, path, ids.0, ids.1, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Ok(())
        };
        make().map_err(|e| cannot(format!("make {}/{own}: {e}", base.display())))?;
        // each costs the kernel memory that nobody inside is charged for
        let _ = write_at(
            &member.base,
            &format!("{leaf}/cgroup.max.descendants"),
            MOST,
        );
        // controllers that the host hands on, it has too
        let on = fs::read_to_string(base.join("cgroup.subtree_control")).unwrap_or_default();
        for controller in on.split_whitespace() {
            for level in [PARENT, leaf.as_str()] {
                let file = format!("{level}/cgroup.subtree_control");
                let _ = write_at(&member.base, &file, &format!("+{controller}"));
            }
        }
        member.delegated = true;
        self.delegated = Some(base.join(own));
        Ok(())
    }

    /// Makes the cgroups and sets the limits. The error is a sentence for the user: the container runs without.
    fn create(name: &str, limits: &Limits) -> Result<Self, String> {
        let unified = is_unified();
        let settings = settings(limits, unified);
        let mut all = Self::none(name);
        let made = if unified {
            let refs: Vec<_> = settings.iter().collect();
            all.add(Path::new(ROOT), "", &refs, true)
        } else {
            settings.iter().try_for_each(|setting| {
                let base = hierarchy(setting.controller);
                all.add(&base, setting.controller, &[setting], false)
            })
        };
        made.map_err(|e| {
            all.remove();
            format!("no limits are in force, because cgroups cannot be used: {e}")
        })?;
        Ok(all)
    }

    fn add(
        &mut self,
        base: &Path,
        controller: &str,
        settings: &[&Setting],
        unified: bool,
    ) -> Result<(), String> {
        let fail =
            |what: String| move |e: rustix::io::Errno| format!("{what}: {}", io::Error::from(e));
        let dir = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let open = |path: &Path| {
            rustix::fs::open(path, dir, Mode::empty())
                .map_err(fail(format!("open {}", path.display())))
        };
        let home = match unified && base.join("cgroup.events").exists() {
            // a unit's own, below which ours go
            true => open(base)?,
            false => open(&base.join(own_path(controller).trim_start_matches('/')))?,
        };
        let base_fd = open(base)?;
        // a path below the hierarchy that is a v1 controller's only where that is really mounted
        if !unified {
            let marker = format!("{}/cgroup.procs", base.display());
            fs::metadata(&marker).map_err(|e| format!("{controller}: {marker}: {e}"))?;
        }
        self.members.push(Member {
            base: base_fd,
            unified,
            delegated: false,
            home,
        });
        let base_fd = &self.members[self.members.len() - 1].base;
        let mode = Mode::from_raw_mode(0o755);
        let leaf = format!("{PARENT}/{}", self.name);
        // another container's end may remove the common level in between
        let mut made = Err(rustix::io::Errno::NOENT);
        for _ in 0..8 {
            let _ = rustix::fs::mkdirat(base_fd, PARENT, mode);
            made = rustix::fs::mkdirat(base_fd, leaf.as_str(), mode);
            if made != Err(rustix::io::Errno::NOENT) {
                break;
            }
        }
        match made {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(fail(format!("create {}/{leaf}", base.display()))(e)),
        }
        if unified {
            for setting in settings {
                for level in ["cgroup.subtree_control", "netd/cgroup.subtree_control"] {
                    let order = format!("+{}", setting.controller);
                    write_at(base_fd, level, &order)
                        .map_err(fail(format!("switch {} on in {level}", setting.controller)))?;
                }
            }
        }
        for setting in settings {
            write_at(base_fd, &format!("{leaf}/{}", setting.file), &setting.value).map_err(
                fail(format!(
                    "write {} to {leaf}/{}",
                    setting.value.trim(),
                    setting.file
                )),
            )?;
        }
        Ok(())
    }

    /// Moves the calling process, and what it forks from now on, into the cgroups.
    pub(crate) fn join(&self) -> io::Result<()> {
        for member in &self.members {
            let own = if member.delegated { OWN } else { "." };
            write_at(
                &member.base,
                &format!("{PARENT}/{}/{own}/cgroup.procs", self.name),
                "0",
            )?;
        }
        Ok(())
    }

    /// Moves the calling process back to where it was.
    pub(crate) fn leave(&self) {
        for member in &self.members {
            let _ = write_at(&member.home, "cgroup.procs", "0");
        }
    }

    /// Removes the cgroups. All processes in them must be dead; the last may still be on their way out.
    pub(crate) fn remove(&self) {
        for member in &self.members {
            let leaf = format!("{PARENT}/{}", self.name);
            for wait in [0, 1, 5, 20, 100, 500] {
                std::thread::sleep(Duration::from_millis(wait));
                if member.delegated {
                    let _ = remove_below(&member.base, &leaf, 0);
                }
                match rustix::fs::unlinkat(&member.base, leaf.as_str(), AtFlags::REMOVEDIR) {
                    Err(rustix::io::Errno::BUSY) => {}
                    _ => break,
                }
            }
            // the common level too, unless another container is in it
            let _ = rustix::fs::unlinkat(&member.base, PARENT, AtFlags::REMOVEDIR);
        }
    }
}

/// Where below a cgroup2 hierarchy this process is, if that is a unit's that systemd has handed on (Delegate=, systemd's
/// docs/CGROUP_DELEGATION.md): then ours belong there. Else nothing.
fn handed_on(base: &Path) -> PathBuf {
    let own = own_path("");
    let own = PathBuf::from(own.trim_start_matches('/'));
    let mut value = [0; 8];
    let told = rustix::fs::getxattr(base.join(&own), "trusted.delegate", &mut value);
    match told {
        Ok(length) if value.get(..length) == Some(b"1") => own,
        _ => PathBuf::new(),
    }
}

/// Cgroups that an init left behind, the innermost first. Nobody is in them any more, so nobody makes new ones.
fn remove_below(dir: &OwnedFd, name: &str, depth: usize) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let entries: Vec<_> = rustix::fs::Dir::read_from(&dir)?.flatten().collect();
    for entry in entries {
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        let below = entry.file_type() == FileType::Directory && !matches!(name, "." | "..");
        if below && depth < DEEPEST {
            let _ = remove_below(&dir, name, depth + 1);
            let _ = rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}

fn settings(limits: &Limits, unified: bool) -> Vec<Setting> {
    // microseconds, the kernel's default period
    const PERIOD: u64 = 100_000;
    let mut all = Vec::new();
    let mut set = |controller, file, value: String| {
        all.push(Setting {
            controller,
            file,
            value,
        });
    };
    if let Some(bytes) = limits.memory_max {
        let file = if unified {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        set("memory", file, bytes.to_string());
    }
    if let Some(percent) = limits.cpu_percent {
        let quota = u64::from(percent) * PERIOD / 100;
        if unified {
            set("cpu", "cpu.max", format!("{quota} {PERIOD}"));
        } else {
            set("cpu", "cpu.cfs_quota_us", quota.to_string());
        }
    }
    if let Some(tasks) = limits.tasks_max {
        set("pids", "pids.max", tasks.to_string());
    }
    all
}

/// Where a v1 controller is mounted: under its own name, or together with another (`cpu,cpuacct`).
fn hierarchy(controller: &str) -> std::path::PathBuf {
    let root = Path::new(ROOT);
    let named = root.join(controller);
    if named.is_dir() {
        return named;
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name())
        .find(|name| {
            name.to_string_lossy()
                .split(',')
                .any(|part| part == controller)
        })
        .map_or(named, |name| root.join(name))
}

/// This process's cgroup in the hierarchy of `controller` ("" for cgroup2), cgroups(7).
fn own_path(controller: &str) -> String {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    find_path(&text, controller).unwrap_or("/").to_owned()
}

fn find_path<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers
            .split(',')
            .any(|c| c == controller)
            .then_some(path)
    })
}

fn write_at(dir: &OwnedFd, file: &str, value: &str) -> Result<(), rustix::io::Errno> {
    let fd = rustix::fs::openat(dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(fd, value.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_other_files_in_v1() {
        let limits = Limits {
            memory_max: Some(1 << 20),
            cpu_percent: Some(150),
            tasks_max: Some(9),
        };
        let text = |unified| {
            let all = settings(&limits, unified);
            all.iter()
                .map(|s| format!("{}={}", s.file, s.value))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            text(true),
            ["memory.max=1048576", "cpu.max=150000 100000", "pids.max=9"]
        );
        assert_eq!(
            text(false),
            [
                "memory.limit_in_bytes=1048576",
                "cpu.cfs_quota_us=150000",
                "pids.max=9"
            ]
        );
        assert!(settings(&Limits::default(), true).is_empty());
    }

    #[test]
    fn own_cgroups_are_found_in_each_hierarchy() {
        let text = "4:memory:/a:b\n2:cpu,cpuacct:/c\n1:name=systemd:/\n0::/d\n";
        assert_eq!(find_path(text, "memory"), Some("/a:b"));
        assert_eq!(find_path(text, "cpu"), Some("/c"));
        assert_eq!(find_path(text, ""), Some("/d"));
        assert_eq!(find_path(text, "pids"), None);
    }
}
