//! The machine below the stories: mounts of a private host, its processes, and what must look the same afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{self, MountFlags};
use rustix::process::{self, WaitOptions};

/// Gives the private host its own /run/netns and a /sys that shows its own links. /sys/fs/cgroup stays
/// the machine's: container runtimes need it.
pub fn own_mounts(dir: &Path) -> io::Result<()> {
    mount::mount_change(
        "/",
        mount::MountPropagationFlags::PRIVATE | mount::MountPropagationFlags::REC,
    )?;
    fs::create_dir_all("/run/netns")?;
    mount::mount(
        "netns",
        "/run/netns",
        "tmpfs",
        MountFlags::empty(),
        c"mode=755",
    )?;
    // `ip netns exec` shows what is in here, and netd makes files in it.
    fs::create_dir_all("/etc/netns")?;
    mount::mount(
        "netns",
        "/etc/netns",
        "tmpfs",
        MountFlags::empty(),
        c"mode=755",
    )?;
    let sys = dir.join("sys");
    fs::create_dir(&sys)?;
    mount::mount("sysfs", &sys, "sysfs", MountFlags::empty(), None)?;
    if Path::new("/sys/fs/cgroup").exists() {
        mount::mount_bind_recursive("/sys/fs/cgroup", sys.join("fs/cgroup"))?;
    }
    // The machine's own goes: whoever looks for cgroups among the mounts must find each once.
    mount::unmount("/sys", mount::UnmountFlags::DETACH)?;
    mount::mount_move(&sys, "/sys")?;
    Ok(())
}

/// Identities of the namespaces that make up the private host, one a line.
pub fn own_namespaces() -> String {
    ["net", "mnt", "pid"]
        .iter()
        .filter_map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).ok())
        .map(|id| format!("{}\n", id.display()))
        .collect()
}

/// Processes of the machine that live in one of these namespaces and began before `end` (in ticks since boot):
/// `pid command`. The kernel gives the identity of a namespace that is gone to a later one, so processes of
/// other stories do not count: their command line or environment names another folder than `dir`.
pub fn processes_in(ids: &str, end: u64, dir: &Path) -> Vec<String> {
    let ids: BTreeSet<&str> = ids.lines().collect();
    let (folders, folder) = ("/netd-story-", dir.display().to_string());
    let works_for_another = |pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let words = command_line(*pid) + &String::from_utf8_lossy(&environ);
        words.contains(folders) && !words.contains(&folder)
    };
    pids()
        .filter(|pid| !works_for_another(pid))
        .filter(|pid| began(*pid).is_some_and(|began| began < end))
        .filter(|pid| {
            ["net", "mnt", "pid"].iter().any(|kind| {
                fs::read_link(format!("/proc/{pid}/ns/{kind}"))
                    .is_ok_and(|id| ids.contains(id.to_string_lossy().as_ref()))
            })
        })
        .map(|pid| format!("{pid} {}", command_line(pid)))
        .collect()
}

/// Living processes (not zombies) as far as /proc shows them.
pub fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| alive(*pid))
}

/// Whether the process runs; a zombie does not.
pub fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The command's name stands in parentheses and may hold anything, so count from the last one.
    !matches!(
        stat.rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next()),
        Some('Z' | 'X')
    )
}

/// When the process began, in ticks since boot (proc_pid_stat(5), field 22).
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ")
        .next()?
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// The time in ticks since boot: USER_HZ is 100 on every machine that Linux runs on today.
pub fn ticks() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = uptime
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0);
    (seconds * 100.0) as u64
}

/// Arguments of a process, separated by blanks.
pub fn command_line(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw)
        .replace('\0', " ")
        .trim()
        .to_owned()
}

/// Children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Waits for any child until the one named has ended; returns its exit code (a signal counts as 128 + signal).
pub fn reap_until(pid: u32) -> u8 {
    loop {
        let Ok(Some((who, status))) = process::wait(WaitOptions::empty()) else {
            continue;
        };
        if who.as_raw_nonzero().get().unsigned_abs() == pid {
            let code = status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            return code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255);
        }
    }
}

/// What stories could leave on the machine itself.
#[derive(Debug, Default)]
pub struct Footprint(BTreeSet<String>);

impl Footprint {
    /// Links and namespaces with netd's names, mounts and folders of stories.
    pub fn take() -> Self {
        let mut seen = BTreeSet::new();
        for (folder, prefixes) in [
            ("/sys/class/net", &["vz-", "vb-"][..]),
            ("/run/netns", &["story-"][..]),
            ("/tmp", &["netd-story-"][..]),
        ] {
            let names = fs::read_dir(folder).into_iter().flatten().flatten();
            for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
                if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                    seen.insert(format!("{folder}/{name}"));
                }
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts.lines().filter(|line| line.contains("netd-story-"));
        seen.extend(mounts.map(str::to_owned));
        Self(seen)
    }

    /// What is here and was not there before.
    pub fn beyond(self, before: &Self) -> Vec<String> {
        let kept = std::env::var_os("NETD_KEEP").is_some();
        self.0
            .into_iter()
            .filter(|thing| !before.0.contains(thing) && !kept)
            .collect()
    }
}
