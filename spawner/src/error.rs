//! What can go wrong, one sentence a level.

use std::io;
use std::path::PathBuf;

/// Why a container could not be run, or be reached. Display says what was tried and on what; `source()` says why.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A setting that cannot be meant, found before anything was touched.
    #[error("{what} {value:?} {reason}")]
    Setting {
        /// Which setting, as systemd-nspawn names it.
        what: &'static str,
        /// What was given.
        value: String,
        /// Why that is wrong.
        reason: String,
    },
    /// The process has threads: libcontainer forks without exec, which is undefined there.
    #[error("a container can be run from a process with one thread only, this one has {0}")]
    Threads(usize),
    /// A container of that name runs already.
    #[error(
        "container {0} runs already (another name by --machine=, or end it first with `netd stop {0}`)"
    )]
    Running(String),
    /// There is no running container of that name.
    #[error("no container {0} is running")]
    NoSuchContainer(String),
    /// A running container could not be entered: the command was not run there.
    #[error("container {name}: {what}")]
    Join {
        /// The container.
        name: String,
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The root directory is missing, or is no directory.
    #[error("root directory {path}")]
    Directory {
        /// As given by `--directory=`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No such user or group in the container's /etc/passwd or /etc/group.
    #[error("user {user:?}: {reason}")]
    User {
        /// As given by `--user=`.
        user: String,
        /// Which part was not found, and where.
        reason: String,
    },
    /// The state directory could not be used.
    #[error("{action} {path}")]
    State {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A private user range needs search permission on the way to the container's root.
    #[error(
        "--private-users: {0} cannot be searched by the container's users (chmod o+x, or use another --runtime-dir)"
    )]
    Unsearchable(PathBuf),
    /// All ranges that were looked at are taken.
    #[error("--private-users: no free range of 65,536 user ids was found")]
    NoUidRange,
    /// A mount that makes up the container's root failed.
    #[error("{action} {path}: {reason}")]
    Root {
        /// What was tried.
        action: String,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said, and what to do.
        reason: String,
    },
    /// A createRuntime hook failed: the command was never run.
    #[error("{reason}{}{}", if stderr.is_empty() { "" } else { ": " }, stderr.trim_end())]
    Hook {
        /// How it ended.
        reason: String,
        /// What the hooks wrote on their standard error.
        stderr: String,
    },
    /// The command does not exist in the container, or may not be executed.
    #[error("{command}: {reason}")]
    Command {
        /// The first word of the command.
        command: String,
        /// Why it cannot be run.
        reason: String,
        /// What a shell would return: 127 not found, 126 not executable.
        status: u8,
    },
    /// libcontainer could not make or start the container.
    #[error("container {name}: {reason}{}{}", if stderr.is_empty() { "" } else { ": " }, stderr.trim_end())]
    Runtime {
        /// The container.
        name: String,
        /// The chain of errors, outermost first.
        reason: String,
        /// What hooks had written by then.
        stderr: String,
    },
    /// The monitor died before it could report.
    #[error("the monitor of container {0} died; the container was killed")]
    MonitorDied(String),
    /// A system call that does not fail in a working system.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
}

impl SpawnError {
    pub(crate) fn setting(what: &'static str, value: &str, reason: impl Into<String>) -> Self {
        Self::Setting {
            what,
            value: value.to_owned(),
            reason: reason.into(),
        }
    }

    /// For `map_err`: a failed system call, named.
    pub(crate) fn system<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System(call, source.into())
    }

    /// For `map_err`: a failed action on a file of the state directory.
    pub(crate) fn state<E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::State {
            action,
            path: path.into(),
            source: source.into(),
        }
    }
}
