//! Everything that can go wrong on the near side of the control socket, and the exit code it means.

use std::io;
use std::path::PathBuf;

use spawner::SpawnError;
use zone::ContainerName;

/// Exit codes of the command line (`netd explain` adds `DENIED`).
pub(crate) mod exit {
    /// Done.
    pub(crate) const DONE: u8 = 0;
    /// Refused or failed.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 2;
    /// No such zone or container.
    pub(crate) const ABSENT: u8 = 3;
    /// The daemon cannot be reached.
    pub(crate) const UNREACHABLE: u8 = 4;
    /// `netd explain`: denied.
    pub(crate) const DENIED: u8 = 10;
}

/// What a command failed of. One sentence a level; the cause is in `source()`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    // The way to the daemon.
    #[error("cannot reach the daemon at {}", .socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error(
        "no daemon answers at {} and NETD_AUTOSTART=0 forbids to start one: \
         run `netd daemon` or `systemctl start netd`", .socket.display()
    )]
    NoDaemon { socket: PathBuf },
    #[error("cannot start a daemon in the background: {what}")]
    Autostart { what: String, source: io::Error },
    #[error("the daemon ended before it answered; last words in {}: {words}", .log.display())]
    DaemonDied { log: PathBuf, words: String },
    #[error(
        "the daemon that was started does not answer at {} within {seconds} s, see {}",
        .socket.display(), .log.display()
    )]
    DaemonSlow {
        socket: PathBuf,
        log: PathBuf,
        seconds: u64,
    },
    #[error("the daemon at {} closed the connection before it answered", .socket.display())]
    HungUp { socket: PathBuf },
    #[error("the conversation with the daemon at {} broke off", .socket.display())]
    BrokeOff { socket: PathBuf, source: io::Error },
    #[error("the daemon at {} did not answer within {seconds} s", .socket.display())]
    TimedOut { socket: PathBuf, seconds: u64 },

    // What came back.
    #[error("what answers at {} does not speak varlink: {what}", .socket.display())]
    Garbage { socket: PathBuf, what: String },
    #[error("the daemon's answer to {method} cannot be understood (is it of another version?)")]
    Mismatch {
        method: &'static str,
        source: serde_json::Error,
    },
    #[error("{0}")]
    NoSuchZone(String),
    #[error("{0}")]
    NoSuchContainer(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Settings(#[from] crate::nspawn::FileError),
    #[error("the container's interfaces")]
    Links(#[from] zone::LinkError),
    #[error("the daemon does not know {0}: it is of another version, restart it")]
    NotImplemented(String),
    #[error("the daemon answered with the error {name} {parameters}")]
    UnknownReply { name: String, parameters: String },

    // Network namespaces.
    #[error("attach {container}")]
    Attach {
        container: String,
        source: Box<Error>,
    },
    #[error("cannot open the network namespace {}", .path.display())]
    Netns { path: PathBuf, source: io::Error },
    #[error("{} is not a network namespace", .path.display())]
    NotNetns { path: PathBuf },
    #[error(
        "{} is the host's own network namespace: the container has to have one of its own",
        .path.display()
    )]
    HostNetns { path: PathBuf },

    // The OCI hook.
    #[error("cannot read the container's state from standard input")]
    ReadState(#[source] io::Error),
    #[error("the container's state on standard input is larger than 1 MiB")]
    StateTooBig,
    #[error("standard input does not hold a container's state as the OCI runtime spec has it")]
    NotState(#[source] serde_json::Error),
    #[error(
        "container {id}: the state does not tell a process: the hook attaches at createRuntime or prestart"
    )]
    NoPid { id: String },
    #[error(
        "container {id}: its status {status:?} tells neither attach nor detach: \
         call `netd hook oci attach` or `netd hook oci detach`"
    )]
    Status { id: String, status: String },
    #[error(
        "container {id} has no annotation io.netd.zone: \
         set it to the zone the container belongs to, or take the hook away"
    )]
    NoZone { id: String },
    #[error("container {id}: annotation {key}: {source}")]
    Annotation {
        id: String,
        key: &'static str,
        source: crate::values::ValueError,
    },
    #[error("container id {id:?} cannot be its name, set the annotation io.netd.name")]
    IdAsName { id: String, source: zone::NameError },

    // The plugin of netavark.
    #[error("cannot read the network's configuration from standard input")]
    ReadConfig(#[source] io::Error),
    #[error("the network's configuration on standard input is larger than 1 MiB")]
    ConfigTooBig,
    #[error("standard input does not hold what netavark tells its plugins")]
    NotNetavark(#[source] serde_json::Error),
    #[error("network {network}: {reason}")]
    Network { network: String, reason: String },
    #[error("machine {machine}")]
    Nspawn {
        machine: String,
        source: crate::hook::nspawn::NspawnError,
    },

    // Containers of `netd run`.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("stop {container}: it is still there {seconds} s after SIGKILL")]
    StillRunning {
        container: ContainerName,
        seconds: u64,
    },

    #[error(transparent)]
    Image(#[from] images::ImageError),

    #[error("policy learn {container}: nothing was recorded of it since {since}")]
    NothingLearned {
        container: ContainerName,
        since: String,
    },

    // Files and streams.
    #[error("{}: there are no *.toml files in this folder", .path.display())]
    NoPolicies { path: PathBuf },
    #[error("{}: policy files are named NAME.toml", .path.display())]
    NotAPolicy { path: PathBuf },
    #[error("two groups files are given: {one} and {}", .other.display())]
    TwoGroups { one: String, other: PathBuf },
    #[error("{0}")]
    BadPolicy(String),
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("cannot tell the working directory")]
    WorkingDirectory(#[source] io::Error),
    /// Nothing that takes time can be done.
    #[error("make a runtime")]
    Runtime(#[source] io::Error),
    /// systemd-machined does not take a machine.
    #[error("register {name} with systemd-machined")]
    Machined {
        /// The machine.
        name: String,
        /// What was said on the bus.
        source: Box<zbus::Error>,
    },
}

impl Error {
    /// The exit code that stands for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::Attach { source, .. } => source.exit_code(),
            Error::Unreachable { .. }
            | Error::NoDaemon { .. }
            | Error::Autostart { .. }
            | Error::DaemonDied { .. }
            | Error::DaemonSlow { .. }
            | Error::HungUp { .. }
            | Error::BrokeOff { .. }
            | Error::TimedOut { .. } => exit::UNREACHABLE,
            Error::NoSuchZone(_)
            | Error::NoSuchContainer(_)
            | Error::Image(images::ImageError::Absent { .. })
            | Error::Spawn(SpawnError::NoSuchContainer(_)) => exit::ABSENT,
            Error::Invalid(_)
            | Error::Image(images::ImageError::Name(_))
            | Error::Spawn(SpawnError::Setting { .. }) => exit::USAGE,
            // As a shell has it: 127 not found, 126 not executable.
            Error::Spawn(SpawnError::Command { status, .. }) => *status,
            _ => exit::FAILED,
        }
    }

    /// For `map_err`: what went wrong before the daemon was asked to attach, told of the container.
    pub(crate) fn attaching(container: &str) -> impl FnOnce(Error) -> Error {
        let container = container.to_owned();
        move |source| Error::Attach {
            container,
            source: Box::new(source),
        }
    }
}

/// Also where no daemon is asked: the same words, the same exit code.
impl From<crate::api::Error> for Error {
    fn from(error: crate::api::Error) -> Self {
        match error {
            crate::api::Error::NoSuchZone { message } => Self::NoSuchZone(message),
            crate::api::Error::NoSuchContainer { message } => Self::NoSuchContainer(message),
            crate::api::Error::Invalid { message } => Self::Invalid(message),
            crate::api::Error::Refused { message } => Self::Refused(message),
        }
    }
}

/// The error and its causes in one line: `attach web: open …: permission denied`.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Transparent wrappers repeat their cause.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
