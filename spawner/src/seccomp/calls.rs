//! Which system calls a container may use: the default lists, what its capabilities take, and `--system-call-filter=`.

use std::collections::BTreeSet;

use super::groups::GROUPS;
use super::lists::{ALLOWED, REFUSED};
use super::numbers;
use crate::error::SpawnError;
use crate::settings::{CapabilitySet, Settings};
use crate::spec;

/// Calls that are refused by default, and are of use to who has a capability: as systemd-nspawn opens them with
/// `--capability=` (src/nspawn/nspawn-seccomp.c).
const WITH: &[(&str, &[&str])] = &[
    (
        "CAP_SYS_ADMIN",
        &[
            "@mount",
            "bpf",
            "lookup_dcookie",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "unshare",
            "fanotify_init",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "swapon",
            "swapoff",
        ],
    ),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    ("CAP_SYS_BOOT", &["reboot", "kexec_load", "kexec_file_load"]),
    ("CAP_SYS_MODULE", &["@module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    (
        "CAP_SYS_TIME",
        &["settimeofday", "stime", "clock_settime", "clock_settime64"],
    ),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_SYS_NICE", &["move_pages", "migrate_pages"]),
    (
        "CAP_DAC_READ_SEARCH",
        &["open_by_handle_at", "name_to_handle_at"],
    ),
];

/// What makes a write durable: with `--suppress-sync=` it says so and does nothing.
const SYNC: &[&str] = &[
    "fdatasync",
    "fsync",
    "msync",
    "sync",
    "sync_file_range",
    "syncfs",
];

/// The calls of one container by what is done about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(super) allowed: BTreeSet<&'static str>,
    pub(super) refused: BTreeSet<&'static str>,
    /// Answered with success, and not done.
    pub(super) skipped: BTreeSet<&'static str>,
    /// New namespaces by clone(2), any socket: what looks at arguments is left out.
    pub(super) unlooked: BTreeSet<&'static str>,
}

/// Calls of which arguments decide.
pub(super) const LOOKED_AT: [&str; 4] = ["clone", "ioctl", "personality", "socket"];

impl Calls {
    /// # Errors
    /// [`SpawnError::Setting`] names a call or group that is none.
    pub(crate) fn of(settings: &Settings) -> Result<Self, SpawnError> {
        let capabilities = match settings.no_root {
            true => CapabilitySet::default(),
            false => spec::capabilities(settings),
        };
        let privileges = &settings.privileges;
        let asked_for = privileges.base.unwrap_or_default().and(privileges.add);
        let mut allowed = settings.calls_allowed.clone();
        let mut capabilities = capabilities;
        if settings.boot && !asked_for.has("CAP_SYS_BOOT") {
            // an init may end, and load no kernel
            if capabilities.has("CAP_SYS_BOOT") {
                allowed.push("reboot".to_owned());
            }
            capabilities = capabilities.without(CapabilitySet::of(&["CAP_SYS_BOOT"]));
        }
        Self::new(
            capabilities,
            &allowed,
            &settings.calls_refused,
            settings.suppress_sync,
        )
    }

    pub(super) fn new(
        capabilities: CapabilitySet,
        allow: &[String],
        refuse: &[String],
        suppress_sync: bool,
    ) -> Result<Self, SpawnError> {
        let mut calls = Self {
            allowed: ALLOWED.iter().copied().collect(),
            refused: REFUSED.iter().copied().collect(),
            skipped: BTreeSet::new(),
            unlooked: BTreeSet::new(),
        };
        for (_, names) in WITH.iter().filter(|(name, _)| capabilities.has(name)) {
            names.iter().for_each(|name| calls.allow(&expand(name)));
        }
        if capabilities.has("CAP_SYS_ADMIN") {
            calls.unlooked.insert("clone");
        }
        for name in allow {
            calls.allow(&named(name)?);
        }
        if suppress_sync {
            calls.skipped = SYNC.iter().copied().collect();
        }
        for name in refuse {
            for call in named(name)? {
                calls.allowed.remove(call);
                calls.skipped.remove(call);
                calls.unlooked.remove(call);
                calls.refused.insert(call);
            }
        }
        Ok(calls)
    }

    fn allow(&mut self, names: &[&'static str]) {
        for name in names {
            self.refused.remove(name);
            match LOOKED_AT.contains(name) {
                true => self.unlooked.insert(name),
                false => self.allowed.insert(name),
            };
        }
    }
}

/// A name as a user gives it.
fn named(name: &str) -> Result<Vec<&'static str>, SpawnError> {
    let calls = expand(name);
    match calls.is_empty() {
        false => Ok(calls),
        true => Err(SpawnError::setting(
            "--system-call-filter=",
            name,
            "is neither a system call nor a group of them (systemd-analyze syscall-filter)",
        )),
    }
}

/// A call, or all of a group.
fn expand(name: &str) -> Vec<&'static str> {
    let tables = [numbers::X86_64, numbers::I386, numbers::GENERIC];
    let known = || {
        tables
            .iter()
            .flat_map(|table| table.iter())
            .map(|(known, _)| *known)
    };
    if name == "@known" {
        return known().collect();
    }
    match GROUPS.iter().find(|(group, _)| *group == name) {
        Some((_, members)) => members.iter().flat_map(|member| expand(member)).collect(),
        None => known().find(|known| *known == name).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn calls(capabilities: &str, allow: &[&str], refuse: &[&str]) -> Calls {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        Calls::new(
            capabilities.parse().unwrap(),
            &owned(allow),
            &owned(refuse),
            false,
        )
        .unwrap()
    }

    #[test]
    fn the_default_is_the_lists() {
        let plain = calls("", &[], &[]);
        assert!(
            plain
                .allowed
                .iter()
                .eq(ALLOWED.iter().copied().collect::<BTreeSet<_>>().iter())
        );
        assert!(plain.refused.contains("mount") && plain.refused.contains("keyctl"));
        assert!(plain.unlooked.is_empty() && plain.skipped.is_empty());
    }

    #[test]
    fn names_and_groups_are_added_and_the_negative_list_wins() {
        let more = calls("", &["@keyring", "kcmp"], &["add_key", "@chown"]);
        assert!(more.allowed.contains("keyctl") && more.allowed.contains("kcmp"));
        assert!(!more.allowed.contains("add_key") && more.refused.contains("add_key"));
        for call in ["chown", "fchownat", "lchown"] {
            assert!(
                more.refused.contains(call) && !more.allowed.contains(call),
                "{call}"
            );
        }
        assert!(calls("", &[], &["socket"]).refused.contains("socket"));
        assert!(calls("", &["socket"], &[]).unlooked.contains("socket"));
    }

    #[test]
    fn a_capability_brings_the_calls_that_it_is_for() {
        let admin = calls("CAP_SYS_ADMIN", &[], &[]);
        assert!(admin.allowed.contains("mount") && admin.unlooked.contains("clone"));
        assert!(!admin.allowed.contains("init_module") && !admin.allowed.contains("keyctl"));
        assert!(
            calls("CAP_SYS_TIME", &[], &[])
                .allowed
                .contains("clock_settime")
        );
    }

    #[test]
    fn every_name_of_the_tables_here_is_known() {
        for (_, names) in WITH {
            for name in *names {
                assert!(!expand(name).is_empty(), "{name}");
            }
        }
        for (group, members) in GROUPS {
            for member in *members {
                assert!(!expand(member).is_empty(), "{group} {member}");
            }
        }
        for name in ["fly", "@fly", ""] {
            assert!(named(name).is_err(), "{name}");
        }
    }
}
