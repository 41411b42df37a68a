//! Sets of capabilities, capabilities(7), by their names.

use std::str::FromStr;

use crate::error::SpawnError;

/// In the order of their numbers, linux/capability.h.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// Every one there is.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// Those of these names; a name that is none is left out.
    pub(crate) fn of(names: &[&str]) -> Self {
        let bit = |name: &&str| NAMES.iter().position(|known| known == name);
        Self(
            names
                .iter()
                .filter_map(bit)
                .fold(0, |bits, at| bits | 1 << at),
        )
    }

    /// Those of a mask as the kernel has it.
    pub(crate) fn of_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether one of this name (`CAP_…`) is in it.
    pub fn has(self, name: &str) -> bool {
        !self.is_empty()
            && NAMES
                .iter()
                .position(|known| *known == name)
                .is_some_and(|at| self.0 & (1 << at) != 0)
    }

    /// Their names, `CAP_…`, in alphabetical order.
    pub fn names(self) -> Vec<&'static str> {
        let mut names: Vec<_> = NAMES
            .iter()
            .enumerate()
            .filter(|(at, _)| self.0 & (1 << at) != 0)
            .map(|(_, name)| *name)
            .collect();
        names.sort_unstable();
        names
    }
}

impl FromStr for CapabilitySet {
    type Err = SpawnError;

    /// Names with commas or blanks in between, in either case, with or without `CAP_`; or `all`.
    fn from_str(text: &str) -> Result<Self, SpawnError> {
        let mut set = Self::default();
        let words = text.split(|c: char| c == ',' || c.is_whitespace());
        for word in words.filter(|word| !word.is_empty()) {
            if word == "all" {
                set = Self::ALL;
                continue;
            }
            let upper = word.to_ascii_uppercase();
            let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
            let at = NAMES.iter().position(|name| &name[4..] == short);
            let at = at.ok_or_else(|| {
                let reason = match word {
                    "help" => format!("stands for one of: {}", NAMES.join(" ")),
                    _ => format!("has {word:?}, which is no capability (capabilities(7))"),
                };
                SpawnError::setting("the list of capabilities", text, reason)
            })?;
            set.0 |= 1 << at;
        }
        Ok(set)
    }
}

/// What a container's processes may do, in comparison with the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privileges {
    /// In the place of the default: an OCI bundle says it all.
    pub base: Option<CapabilitySet>,
    /// `--capability=`
    pub add: CapabilitySet,
    /// `--drop-capability=`; wins over `add`.
    pub drop: CapabilitySet,
    /// `--ambient-capability=`: kept by the command whoever runs it.
    pub ambient: CapabilitySet,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_as_systemd_reads_them_or_more_kindly() {
        let set: CapabilitySet = "CAP_NET_ADMIN,cap_chown sys_time".parse().unwrap();
        assert_eq!(set.names(), ["CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_TIME"]);
        assert!(set.has("CAP_CHOWN") && !set.has("CAP_KILL"));
        assert_eq!("all".parse::<CapabilitySet>().unwrap(), CapabilitySet::ALL);
        assert_eq!(CapabilitySet::ALL.names().len(), NAMES.len());
        assert!("".parse::<CapabilitySet>().unwrap().is_empty());
        let told = "CAP_FLY".parse::<CapabilitySet>().unwrap_err().to_string();
        assert!(told.contains("\"CAP_FLY\""), "{told}");
        let left = CapabilitySet::ALL
            .without(set)
            .and(CapabilitySet::of(&["CAP_CHOWN"]));
        assert!(left.has("CAP_CHOWN") && !left.has("CAP_SYS_TIME"));
    }

    #[test]
    fn numbers_are_the_kernels() {
        // linux/capability.h
        for (name, number) in [
            ("CAP_SYS_ADMIN", 21),
            ("CAP_SYSLOG", 34),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(CapabilitySet::of(&[name]), CapabilitySet(1 << number));
        }
    }
}
