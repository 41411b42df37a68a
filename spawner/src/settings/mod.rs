//! What a container shall be, in the words of systemd-nspawn's options. Plain data: parsing and checking touch nothing.

mod mounts;
mod names;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::SpawnError;

pub use mounts::{Bind, Tmpfs};
pub use names::{MachineName, UserName};

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
    /// `--private-users=pick`: a user namespace with 65,536 users, that owns the network namespace too.
    pub private_users: bool,
    /// `--read-only`: the root, not what is mounted over it.
    pub read_only: bool,
    /// `--bind=` and `--bind-ro=`, in order.
    pub binds: Vec<Bind>,
    /// `--tmpfs=`, mounted before the binds.
    pub tmpfs: Vec<Tmpfs>,
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
    /// `--no-new-privileges=`: set-user-id programs gain nothing.
    pub no_new_privileges: bool,
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
    /// The command and its arguments; not empty.
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
            private_users: false,
            read_only: false,
            binds: Vec::new(),
            tmpfs: Vec::new(),
            env: Vec::new(),
            hostname: None,
            user: None,
            chdir: None,
            as_pid2: false,
            no_new_privileges: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            hooks: Hooks::default(),
            limits: Limits::default(),
            terminal: Terminal::Auto,
            command: command.into_iter().map(Into::into).collect(),
        }
    }

    /// Finds what cannot be meant, before anything is touched.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] names the option, its value and what is wrong with it.
    pub fn check(&self) -> Result<(), SpawnError> {
        let nul = |what, text: &str| match text.contains('\0') {
            true => Err(SpawnError::setting(what, text, "contains a NUL byte")),
            false => Ok(()),
        };
        match self.command.first() {
            None => return Err(SpawnError::setting("the command", "", "is missing")),
            Some(word) if word.is_empty() => {
                return Err(SpawnError::setting("the command", "", "is empty"));
            }
            Some(_) => {}
        }
        for word in &self.command {
            nul("the command", word)?;
        }
        for (key, value) in &self.env {
            nul("--setenv=", key)?;
            nul("--setenv=", value)?;
            if key.is_empty() || key.contains('=') {
                return Err(SpawnError::setting(
                    "--setenv=",
                    key,
                    "is not the name of a variable",
                ));
            }
        }
        if let Some(name) = &self.hostname
            && !names::is_hostname(name)
        {
            return Err(SpawnError::setting(
                "--hostname=",
                name,
                "is not a host name: up to 64 letters, digits, '-' and '.'",
            ));
        }
        if let Some(dir) = &self.chdir {
            mounts::absolute("--chdir=", &dir.to_string_lossy(), dir)?;
        }
        if self.no_root {
            crate::bare::check(self)?;
        }
        for (key, value) in &self.labels {
            if key.is_empty() || key.contains(['=', ',']) || value.contains(',') {
                return Err(SpawnError::setting(
                    "--label=",
                    &format!("{key}={value}"),
                    "is not KEY=VALUE without commas",
                ));
            }
        }
        Ok(())
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
    /// Its own, set up by a hook before the command runs.
    Hook {
        /// A createRuntime hook. When it fails, the command is never run.
        attach: Hook,
        /// A poststop hook; also run when the start failed.
        detach: Option<Hook>,
    },
}

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

/// Limits of the whole container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `MemoryMax=`, bytes.
    pub memory_max: Option<u64>,
    /// `CPUQuota=`, percent of one CPU.
    pub cpu_percent: Option<u32>,
    /// `TasksMax=`, processes and threads.
    pub tasks_max: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_found_before_anything_is_touched() {
        let name: MachineName = "web".parse().unwrap();
        let good = Settings::new(name, "/run/x", ["true"]);
        assert!(good.check().is_ok());
        let bad = |change: fn(&mut Settings)| {
            let mut settings = good.clone();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(bad(|s| s.command.clear()).contains("command"));
        assert!(bad(|s| s.command.push("a\0b".into())).contains("NUL"));
        assert!(bad(|s| s.env.push(("A=B".into(), String::new()))).contains("--setenv="));
        assert!(bad(|s| s.hostname = Some("a b".into())).contains("--hostname="));
        assert!(bad(|s| s.chdir = Some("tmp".into())).contains("--chdir="));
        assert!(
            bad(|s| {
                s.labels.insert("a".into(), "b,c".into());
            })
            .contains("--label=")
        );
    }
}
