//! Settings, and what was found out about the machine and the root: all that the OCI spec is made from.

use std::path::PathBuf;

use crate::settings::Settings;
use crate::user::User;

/// A range of user and group ids that a container's 0 to 65,535 are mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    /// The host's id of the container's root.
    pub base: u32,
    /// Whether files are mapped on the way in (they belong to the host's 0 and up on disk). Not so where the
    /// directory belongs to `base` already.
    pub idmap: bool,
}

impl UidRange {
    /// How many ids a range has.
    pub const SIZE: u32 = 65536;
}

/// Everything the spec depends on. Making a spec from it does no IO.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// Where the monitor mounts the container's root.
    pub root: PathBuf,
    /// Who the command runs as.
    pub user: User,
    /// With `--private-users`.
    pub range: Option<UidRange>,
    /// Whether the command gets a pty.
    pub pty: bool,
    /// `$TERM` for it.
    pub term: Option<String>,
    /// Whether the host is on cgroup2 alone, so that /sys/fs/cgroup can be shown.
    pub cgroup2: bool,
    /// The sources of `settings.binds`, in order: the host's paths, or where the monitor mounts them id-mapped.
    pub bind_sources: Vec<PathBuf>,
}
