//! What a container shall be, in the words of systemd-nspawn's options. Plain data: parsing and checking touch nothing.

mod capability;
mod check;
mod credentials;
mod mounts;
mod names;
mod resources;
mod users;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

pub use capability::{CapabilitySet, Privileges};
pub use credentials::Credential;
pub use mounts::{Bind, IdMap, Overlay, Source, Tmpfs, Volatile};
pub use names::{MachineName, UserName};
pub use resources::{Cpus, Limits, Personality, Rlimit};
pub use users::{Ownership, PrivateUsers};

/// A boolean as systemd reads one (parse_boolean of src/basic/parse-util.c).
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// Everything [`run`](crate::run) needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--machine=`: the container's name.
    pub name: MachineName,
    /// Where running containers are kept, a directory each; usually `RUNTIME_DIR/containers`. Made when missing.
    pub state_root: PathBuf,
    /// `--directory=`: the root. `None` is the host's own root, read-only, with a tmpfs on /tmp and /run.
    pub directory: Option<PathBuf>,
    /// `--no-root`: the host's own root, users and processes as they are; only the network is new, and what
    /// `binds` and `hidden` cover. Without libcontainer.
    pub no_root: bool,
    /// With `no_root`: files of the host that are covered, where they exist, so that nobody can open or connect to them.
    pub hidden: Vec<PathBuf>,
    /// `--private-network`, `--network-zone=`.
    pub network: Network,
    /// `--private-users=`: a user namespace, that owns the network namespace too.
    pub private_users: PrivateUsers,
    /// `--private-users-ownership=`
    pub ownership: Ownership,
    /// `--read-only`: the root, not what is mounted over it.
    pub read_only: bool,
    /// `--volatile=`
    pub volatile: Volatile,
    /// `--ephemeral`: the root is a copy, which goes with the container.
    pub ephemeral: bool,
    /// `--bind=` and `--bind-ro=`, in order.
    pub binds: Vec<Bind>,
    /// `--tmpfs=`. Of all that is mounted what is outer comes first.
    pub tmpfs: Vec<Tmpfs>,
    /// `--overlay=` and `--overlay-ro=`.
    pub overlays: Vec<Overlay>,
    /// `--inaccessible=`: paths of the container that are covered.
    pub inaccessible: Vec<PathBuf>,
    /// `--bind-user=`: users of the host that appear inside, with name, ids and home.
    pub bind_users: Vec<String>,
    /// `--load-credential=` and `--set-credential=`.
    pub credentials: Vec<Credential>,
    /// `--setenv=`; the last of one name wins.
    pub env: Vec<(String, String)>,
    /// `--hostname=`; the machine name when not given.
    pub hostname: Option<String>,
    /// `--user=`; root when not given.
    pub user: Option<UserName>,
    /// `--chdir=`; `/` when not given.
    pub chdir: Option<PathBuf>,
    /// `--as-pid2`: a stub is pid 1, which reaps and passes signals on.
    pub as_pid2: bool,
    /// `--boot`: the root's own init is pid 1; `command` are its arguments.
    pub boot: bool,
    /// `--kill-signal=`: what pid 1 is sent where we are sent SIGTERM; SIGRTMIN+3 to an init when not given.
    pub kill_signal: Option<i32>,
    /// `--uuid=`: told to pid 1 as `$container_uuid`.
    pub uuid: Option<String>,
    /// `--capability=` and its like.
    pub privileges: Privileges,
    /// `--no-new-privileges=`: set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// `--system-call-filter=`: names and `@groups` that may be called, beside the default ones.
    pub calls_allowed: Vec<String>,
    /// The same with `~`: those that may not, whatever else is said.
    pub calls_refused: Vec<String>,
    /// `--suppress-sync=`: to write to disk at once is a word without effect.
    pub suppress_sync: bool,
    /// `--personality=`
    pub personality: Option<Personality>,
    /// `--rlimit=`; the last of one kind wins.
    pub rlimits: Vec<Rlimit>,
    /// `--oom-score-adjust=`, -1000 to 1000.
    pub oom_score_adjust: Option<i32>,
    /// `--cpu-affinity=`
    pub cpus: Option<Cpus>,
    /// Labels; they become the annotation `io.netd.labels` (`KEY=VALUE`, joined by commas).
    pub labels: BTreeMap<String, String>,
    /// Annotations of the OCI state, which the hooks read. `io.netd.name` is added when absent.
    pub annotations: BTreeMap<String, String>,
    /// Hooks beside those of [`Network::Hook`].
    pub hooks: Hooks,
    /// Limits; they need cgroups. None given: no cgroup is made.
    pub limits: Limits,
    /// `--console=`, `--pipe`.
    pub terminal: Terminal,
    /// The command and its arguments; not empty, unless something boots.
    pub command: Vec<String>,
}

impl Settings {
    /// A container with defaults everywhere: the host's root, the host's network.
    pub fn new(
        name: MachineName,
        state_root: impl Into<PathBuf>,
        command: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            name,
            state_root: state_root.into(),
            directory: None,
            no_root: false,
            hidden: Vec::new(),
            network: Network::Host,
            private_users: PrivateUsers::No,
            ownership: Ownership::Auto,
            read_only: false,
            volatile: Volatile::No,
            ephemeral: false,
            binds: Vec::new(),
            tmpfs: Vec::new(),
            overlays: Vec::new(),
            inaccessible: Vec::new(),
            bind_users: Vec::new(),
            credentials: Vec::new(),
            env: Vec::new(),
            hostname: None,
            user: None,
            chdir: None,
            as_pid2: false,
            boot: false,
            kill_signal: None,
            uuid: None,
            privileges: Privileges::default(),
            no_new_privileges: false,
            calls_allowed: Vec::new(),
            calls_refused: Vec::new(),
            suppress_sync: false,
            personality: None,
            rlimits: Vec::new(),
            oom_score_adjust: None,
            cpus: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            hooks: Hooks::default(),
            limits: Limits::default(),
            terminal: Terminal::Auto,
            command: command.into_iter().map(Into::into).collect(),
        }
    }
}

/// Which network the container sees.
#[derive(Debug, Clone, Default)]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// Its own, with nothing but a loopback interface.
    Private,
    /// `--network-namespace-path=`: one that is there already.
    Namespace(PathBuf),
    /// Its own, set up by a hook before the command runs.
    Hook {
        /// A createRuntime hook. When it fails, the command is never run.
        attach: Hook,
        /// A poststop hook; also run when the start failed.
        detach: Option<Hook>,
    },
    /// Its own, set up by the caller's own code: what a hook would do, without a program that has to be started for it.
    Caller(Rc<dyn Attach>),
}

/// Sets networks up, in the process that watches the container: one thread, in the host's namespaces but for mounts.
///
/// What is asked for may take its time elsewhere while this process goes on; [`Pending`] is what waits for it.
pub trait Attach: fmt::Debug {
    /// Called with the OCI state, as a createRuntime hook is, and the container's network namespace, in which nothing of the container
    /// runs yet. The command is run only after what this returned was called and all was well.
    ///
    /// # Errors
    /// A sentence: then the command is never run.
    fn attach(&self, state: &serde_json::Value, netns: BorrowedFd<'_>) -> Result<Pending, String>;

    /// Called when the container is gone, as a poststop hook is, also when the start failed.
    ///
    /// # Errors
    /// A sentence, which becomes a warning.
    fn detach(&self, state: &serde_json::Value) -> Result<Pending, String>;
}

/// Waits for what is under way, and tells how it went: a sentence where it failed. Whoever has one calls it, whatever happens.
pub type Pending = Box<dyn FnOnce() -> Result<(), String>>;

impl Network {
    /// Whether a network namespace is made.
    pub fn is_private(&self) -> bool {
        !matches!(self, Self::Host)
    }
}

/// A program that is run with the OCI state on its standard input, in the host's namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program.
    pub path: PathBuf,
    /// Its argument vector, the program's own name first (`argv[0]`).
    pub args: Vec<String>,
    /// Its whole environment, `KEY=VALUE`.
    pub env: Vec<String>,
    /// It is killed, and has failed, after this time. Rounded up to whole seconds, as OCI counts them.
    pub timeout: Option<Duration>,
}

/// Hooks beside those of the network.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Run after the namespaces were made and before the root is entered, the network's hook first.
    pub create_runtime: Vec<Hook>,
    /// Run after the container is gone, the network's hook last. A failure is a warning.
    pub poststop: Vec<Hook>,
}

/// What the command's standard input, output and error are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Terminal {
    /// A pty when our own standard input and output are terminals, else as they are.
    #[default]
    Auto,
    /// Our own descriptors, as they are.
    Pipe,
    /// A pty.
    Interactive,
    /// A pty, of which our standard output shows what comes out.
    ReadOnly,
    /// A pty that leads nowhere.
    Passive,
}
