//! Settings, and what was found out about the machine and the root: all that the OCI spec is made from.

use std::path::PathBuf;

use crate::settings::{IdMap, Network, Settings, Source};
use crate::user::User;

/// A range of user and group ids that a container's 0 and up are mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    /// The host's id of the container's root.
    pub base: u32,
    /// How many ids there are.
    pub size: u32,
    /// Whether files are mapped on the way in (they belong to the host's 0 and up on disk). Not so where the
    /// directory belongs to `base` already.
    pub idmap: bool,
}

impl UidRange {
    /// How many ids a range has that is picked.
    pub const SIZE: u32 = 65536;
}

/// A part of a map of ids: the first inside, the first outside, how many.
pub type IdRange = (u32, u32, u32);

/// A user of the host that appears inside (`--bind-user=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The same on both sides.
    pub name: String,
    /// What passwd(5) tells of the person.
    pub gecos: String,
    /// The login shell.
    pub shell: String,
    /// The host's user id.
    pub host_uid: u32,
    /// The host's group id.
    pub host_gid: u32,
    /// User and group id inside.
    pub id: u32,
    /// The home on the host.
    pub home: PathBuf,
}

/// One of the mounts over the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// In the container.
    pub destination: PathBuf,
    /// What is there.
    pub what: What,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file system in memory, with mount options.
    Tmpfs(Vec<String>),
    /// A file or directory that is there already: of the host, or made by the monitor ([`Making`]).
    Bind {
        /// Where it is, outside.
        source: PathBuf,
        /// Not to be written.
        read_only: bool,
        /// With what is mounted below it.
        recursive: bool,
    },
}

/// A mount that the monitor makes in its own mount namespace, so that the container can be shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Making {
    /// A copy of a mount with attributes that libcontainer cannot set, or of a place in the root.
    Clone {
        /// What is copied.
        source: Source,
        /// Where it goes.
        point: PathBuf,
        /// Not to be written.
        read_only: bool,
        /// With what is mounted below it.
        recursive: bool,
        /// Whose files are whose.
        idmap: IdMap,
        /// With [`IdMap::Root`] and [`IdMap::Owner`]: the host's user and group ids of whom the source's owner is inside.
        owner: (u32, u32),
    },
    /// An overlay file system.
    Overlay {
        /// The lowest first.
        lower: Vec<Source>,
        /// What is written to, and a scratch directory on the same file system.
        upper: Option<(Source, PathBuf)>,
        /// Where it goes.
        point: PathBuf,
    },
    /// Files in memory, which only the container's root may read.
    Files {
        /// Name and content of each.
        files: Vec<(String, Vec<u8>)>,
        /// Where the directory goes.
        point: PathBuf,
        /// Mode of the files.
        mode: u32,
    },
}

impl Making {
    /// Where it is mounted.
    pub fn point(&self) -> &PathBuf {
        match self {
            Self::Clone { point, .. } | Self::Overlay { point, .. } | Self::Files { point, .. } => {
                point
            }
        }
    }
}

/// Everything the spec depends on. Making a spec from it does no IO.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// The tree that is shown as the root: the directory, or its copy. `None`: the host's.
    pub directory: Option<PathBuf>,
    /// Where the monitor mounts the container's root.
    pub root: PathBuf,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Who the command runs as.
    pub user: User,
    /// With `--private-users`.
    pub range: Option<UidRange>,
    /// Users of the host that appear inside.
    pub guests: Vec<Guest>,
    /// Where the monitor puts a user namespace that it makes: libcontainer writes maps of one part only, those of
    /// several it leaves to other programs.
    pub userns: Option<PathBuf>,
    /// Whether the command gets a pty.
    pub pty: bool,
    /// `$TERM` for it.
    pub term: Option<String>,
    /// Whether the host is on cgroup2 alone, so that /sys/fs/cgroup can be shown.
    pub cgroup2: bool,
    /// Whether /run and /tmp are file systems in memory: each where the root has the directory.
    pub scratch: Vec<PathBuf>,
    /// What is mounted over the root, outer before inner.
    pub shown: Vec<Shown>,
    /// What the monitor makes for that, in order.
    pub makings: Vec<Making>,
}

impl Plan<'_> {
    /// Whether the monitor makes the network namespace, so that the caller's own code can set the network up while libcontainer makes
    /// the rest. One that belongs to a user namespace comes with that; and createRuntime hooks run in the host's network, as
    /// libcontainer runs them in the monitor's.
    pub fn network_ahead(&self) -> bool {
        matches!(self.settings.network, Network::Caller(_))
            && self.range.is_none()
            && self.settings.hooks.create_runtime.is_empty()
            && !self.settings.no_root
    }

    /// The map of user ids; empty without private users.
    pub fn uid_map(&self) -> Vec<IdRange> {
        self.map(|guest| guest.host_uid)
    }

    /// The map of group ids.
    pub fn gid_map(&self) -> Vec<IdRange> {
        self.map(|guest| guest.host_gid)
    }

    /// The range, with the ids of guests cut out of it and mapped to their own.
    fn map(&self, of: impl Fn(&Guest) -> u32) -> Vec<IdRange> {
        let Some(range) = self.range else {
            return Vec::new();
        };
        let mut all = Vec::new();
        let mut next = 0;
        for guest in &self.guests {
            all.push((next, range.base + next, guest.id - next));
            all.push((guest.id, of(guest), 1));
            next = guest.id + 1;
        }
        all.push((next, range.base + next, range.size.saturating_sub(next)));
        all.retain(|(_, _, size)| *size > 0);
        all
    }
}
