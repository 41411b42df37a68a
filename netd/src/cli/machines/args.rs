//! Machines, as the command line has them: the verbs of machinectl(1), with its names.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use spawner::UserName;
use zone::{ContainerName, ZoneName};

use crate::cli::Variable;
use crate::values::ValueError;

/// What is done with machines that run.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum MachineCommand {
    /// Run a command in a running container
    ///
    /// In all of its namespaces, cgroups and limits; the command may do what the container may, and no more.
    Exec(ExecArgs),
    /// Open a shell in a running container, or run a command there on a terminal
    #[command(after_help = "\
Examples:
  netd shell web
  netd shell www-data@web /usr/bin/id")]
    Shell(ShellArgs),
    /// Log in to a running container
    ///
    /// Runs the container's own login(1) on a terminal of the container's, which asks for name and password.
    Login {
        /// Name of the container
        container: ContainerName,
    },
    /// Start a machine in the background
    ///
    /// An image of that name is looked for in the machines folder of the state dir, /etc/netd/machines and
    /// /var/lib/machines, and booted with users of its own
    /// and with its .nspawn settings, which win. What it prints goes to a log in the runtime dir.
    Start {
        /// Names of the machines
        #[arg(required = true, value_name = "NAME")]
        machines: Vec<ContainerName>,
        /// Attach them to this zone, unless their settings name a network; without one they have loopback only; may be repeated
        #[arg(long, value_name = "ZONE")]
        network_zone: Vec<ZoneName>,
    },
    /// Send a signal to a running container
    Kill(KillArgs),
    /// Stop a container in order, and start it again
    ///
    /// For machines with an image of their name, as `netd start` finds them.
    Reboot {
        /// Name of the machine
        machine: ContainerName,
        /// How long it may take to end, before SIGKILL
        #[arg(long, value_name = "SECONDS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(0..=3600))]
        time: u64,
    },
    /// Show all that is known of a running container, one KEY=VALUE a line
    Show {
        /// Name of the container
        container: ContainerName,
        /// Only these keys; may be repeated
        #[arg(short, long, value_name = "KEY")]
        property: Vec<String>,
    },
    /// Copy a file or folder of the host into a running container
    #[command(name = "copy-to")]
    CopyTo {
        /// Name of the container
        container: ContainerName,
        /// A file or folder of the host
        source: PathBuf,
        /// Its path inside; without one, the same
        destination: Option<PathBuf>,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
    /// Copy a file or folder of a running container to the host
    #[command(name = "copy-from")]
    CopyFrom {
        /// Name of the container
        container: ContainerName,
        /// A file or folder inside
        source: PathBuf,
        /// Its path on the host; without one, the same
        destination: Option<PathBuf>,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
    /// Show a file or folder of the host inside a running container
    Bind {
        /// Name of the container
        container: ContainerName,
        /// A file or folder of the host
        source: PathBuf,
        /// Its path inside; without one, the same
        destination: Option<PathBuf>,
        /// Nobody inside may write to it
        #[arg(long)]
        read_only: bool,
        /// Make the file or folder that it is shown over
        #[arg(long)]
        mkdir: bool,
        /// In a container with users of its own: root's files belong to its root
        #[arg(long)]
        idmap: bool,
    },
    /// The way into a container (`netd exec` uses it)
    #[command(hide = true)]
    Door {
        /// An inherited descriptor
        order: i32,
    },
}

/// `netd exec`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  netd exec web -- nginx -s reload
  netd exec -u www-data --chdir=/srv -E LANG=C web -- ls -l

Exit code: that of COMMAND; 128 + N if signal N ended it.")]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) how: VisitArgs,
    /// Name of the container
    pub(crate) container: ContainerName,
    /// The command; without it the user's shell
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

/// How a command is run in a container.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct VisitArgs {
    /// Run COMMAND as this user of the container: NAME, UID or UID:GID
    #[arg(short = 'u', long, visible_alias = "uid", value_name = "USER")]
    pub(crate) user: Option<UserName>,
    /// Set an environment variable; without a value, as it is here
    #[arg(short = 'E', long, value_name = "NAME[=VALUE]")]
    pub(crate) setenv: Vec<Variable>,
    /// Working directory of COMMAND
    #[arg(long, value_name = "PATH", value_parser = crate::cli::machines::args::absolute)]
    pub(crate) chdir: Option<PathBuf>,
    /// Hand standard input and output through as they are, also where both are a terminal
    #[arg(long)]
    pub(crate) pipe: bool,
}

/// `netd shell`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    pub(crate) how: VisitArgs,
    /// The container, and as whom
    #[arg(value_name = "[USER@]NAME")]
    pub(crate) whom: Whom,
    /// The command; without it the user's shell
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

/// `[USER@]NAME`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Whom {
    pub(crate) user: Option<UserName>,
    pub(crate) container: ContainerName,
}

impl std::str::FromStr for Whom {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (user, container) = match text.rsplit_once('@') {
            Some((user, container)) => (Some(user), container),
            None => (None, text),
        };
        let bad =
            |e: &dyn std::fmt::Display| ValueError::new(text, format!("is not [USER@]NAME: {e}"));
        Ok(Self {
            user: user
                .map(str::parse)
                .transpose()
                .map_err(|e: spawner::SpawnError| bad(&e))?,
            container: container.parse().map_err(|e: zone::NameError| bad(&e))?,
        })
    }
}

/// `netd kill`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct KillArgs {
    /// Name of the container
    pub(crate) container: ContainerName,
    /// Which signal: a name or a number, also RTMIN+N
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGTERM", value_parser = crate::cli::run::signal)]
    pub(crate) signal: i32,
    /// To whom
    #[arg(
        long,
        visible_alias = "kill-who",
        value_name = "WHOM",
        default_value = "all"
    )]
    pub(crate) kill_whom: KillWhom,
}

/// Which processes of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KillWhom {
    /// Its first process
    Leader,
    /// Every process in it
    All,
}

/// A path from the root.
pub(crate) fn absolute(text: &str) -> Result<PathBuf, ValueError> {
    match text.starts_with('/') {
        true => Ok(text.into()),
        false => Err(ValueError::new(text, "is not an absolute path")),
    }
}

/// What makes a process of this program a door into a container; the number of a descriptor follows.
pub(crate) fn door() -> Vec<OsString> {
    vec!["door".into()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whom() {
        let whom: Whom = "www-data@web".parse().unwrap();
        assert_eq!(whom.container.as_str(), "web");
        assert!(whom.user.is_some());
        assert!("web".parse::<Whom>().unwrap().user.is_none());
        for bad in ["", "@web", "web@", "a b"] {
            assert!(bad.parse::<Whom>().is_err(), "{bad}");
        }
    }
}
