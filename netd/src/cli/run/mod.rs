//! `netd run`: options with the names and the meaning they have in systemd-nspawn(1).
//!
//! A `.nspawn` file becomes the same structure (`crate::nspawn`), so what goes together only with something else is not said
//! here but found when both are one (`crate::run`).

mod files;
mod integration;
mod links;
mod privileges;
mod refused;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use spawner::{Bind, PrivateUsers, SpawnError, Tmpfs, UserName};
use zone::{ContainerName, ZoneName};

use super::args::Configure;
use super::resolv_conf::ResolvConf;
use crate::values::{Label, ValueError};
pub(crate) use files::FileArgs;
pub(in crate::cli) use integration::signal;
pub(crate) use integration::{IntegrationArgs, LinkJournal, SettingsMode, Timezone};
pub(crate) use links::{LinkArgs, Pair};
pub(crate) use privileges::PrivilegeArgs;
pub(crate) use refused::RefusedArgs;

/// `netd run`
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(args_override_self = true)]
#[command(after_help = "\
Examples:
  netd run --network-zone=dmz -- ip address          the host's root, read-only
  netd run -D /srv/web -M web --network-zone=dmz -p 8080:80 /usr/sbin/httpd -f
  netd run -D /srv/web -U --bind-ro=/etc/ssl --tmpfs=/tmp /bin/sh
  netd run -M tor-browser                            /var/lib/machines/tor-browser, as tor-browser.nspawn says
  netd run --no-root --network-zone=jail --name=fetch -- curl https://example.org

Exit code: that of COMMAND; 128 + N if signal N ended it.")]
pub(crate) struct RunArgs {
    /// Root directory of the container; without it the host's own, read-only, with an empty /tmp
    /// and /run
    #[arg(short = 'D', long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// A disk image as the root: partitions are found by their types, and mounted through loop devices
    #[arg(short = 'i', long, value_name = "PATH", conflicts_with_all = ["directory", "no_root"])]
    pub(crate) image: Option<PathBuf>,
    /// The host's own root, files, users and processes, as they are; only the network is new
    ///
    /// A firewall for a program, and no more: one that runs as root can leave it.
    #[arg(long, conflicts_with_all = ["directory", "pick_users", "private_users", "read_only", "bind", "bind_ro", "tmpfs", "hostname", "as_pid2", "console"])]
    pub(crate) no_root: bool,
    /// Name of the container; without it the directory's name
    #[arg(short = 'M', long, visible_alias = "name", value_name = "NAME")]
    pub(crate) machine: Option<ContainerName>,

    /// Attach it to this zone; made with the defaults where missing; may be repeated: the interfaces are host0,
    /// host1 and so on, and the first zone has the default route and the published ports
    #[arg(long, value_name = "ZONE", help_heading = "Network")]
    pub(crate) network_zone: Vec<ZoneName>,
    /// No network but loopback; without this and --network-zone it shares the host's network
    #[arg(long, help_heading = "Network")]
    pub(crate) private_network: bool,
    /// Who configures the interface inside [default: static]
    #[arg(long, value_name = "HOW", help_heading = "Network")]
    pub(crate) configure: Option<Configure>,
    /// Port of the host that leads to the container; may be repeated
    #[arg(short = 'p', long, value_name = "[tcp:|udp:]HOSTPORT[:PORT]", value_parser = port, help_heading = "Network")]
    pub(crate) port: Vec<String>,
    /// Label that policies may name; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Network")]
    pub(crate) label: Vec<Label>,
    /// How much it may send and receive in each zone: 100mbit, or ingress=100mbit,egress=20mbit,burst=256kb; policies
    /// may set lower limits
    #[arg(long, value_name = "RATE", value_parser = crate::values::bandwidth_text, help_heading = "Network")]
    pub(crate) bandwidth: Option<String>,

    /// What becomes of /etc/resolv.conf inside, as in systemd-nspawn(1); `auto` is the zone's resolvers
    /// in a zone, nothing with --private-network, else what the host has [default: auto]
    #[arg(long, value_name = "MODE", value_enum, help_heading = "Network")]
    pub(crate) resolv_conf: Option<ResolvConf>,

    #[command(flatten)]
    pub(crate) links: LinkArgs,

    /// Users of its own: root inside is nobody outside
    #[arg(short = 'U', overrides_with = "private_users", help_heading = "Users")]
    pub(crate) pick_users: bool,
    /// The same by its long name: `pick` (or `yes`), `no`, `identity`, or the host's first id and how many
    #[arg(long, value_name = "USERS", num_args = 0..=1, require_equals = true, default_missing_value = "pick", help_heading = "Users")]
    pub(crate) private_users: Option<PrivateUsers>,
    /// Run COMMAND as this user of the container: NAME, UID or UID:GID
    #[arg(short = 'u', long, value_name = "USER", help_heading = "Users")]
    pub(crate) user: Option<UserName>,

    /// Mount the root read-only
    #[arg(long, help_heading = "Files")]
    pub(crate) read_only: bool,
    /// Show a path of the host inside; may be repeated
    #[arg(long, value_name = "PATH[:PATH[:OPTIONS]]", value_parser = bind, help_heading = "Files")]
    pub(crate) bind: Vec<Bind>,
    /// The same, read-only
    #[arg(long, value_name = "PATH[:PATH[:OPTIONS]]", value_parser = bind_ro, help_heading = "Files")]
    pub(crate) bind_ro: Vec<Bind>,
    /// An empty file system in memory at this path; may be repeated
    #[arg(long, value_name = "PATH[:OPTIONS]", value_parser = Tmpfs::parse, help_heading = "Files")]
    pub(crate) tmpfs: Vec<Tmpfs>,
    #[command(flatten)]
    pub(crate) files: FileArgs,
    #[command(flatten)]
    pub(crate) privileges: PrivilegeArgs,

    /// Set an environment variable; without a value, as it is here; may be repeated
    #[arg(
        short = 'E',
        long,
        value_name = "NAME[=VALUE]",
        help_heading = "Execution"
    )]
    pub(crate) setenv: Vec<Variable>,
    /// Host name inside; without it the container's name
    #[arg(long, value_name = "NAME", help_heading = "Execution")]
    pub(crate) hostname: Option<String>,
    /// Working directory of COMMAND
    #[arg(long, value_name = "PATH", value_parser = absolute, help_heading = "Execution")]
    pub(crate) chdir: Option<PathBuf>,
    /// Run COMMAND as process 2, under a small init
    #[arg(short = 'a', long, help_heading = "Execution")]
    pub(crate) as_pid2: bool,
    /// How standard input and output are connected; a terminal if both are one, else pipes
    #[arg(long, value_name = "MODE", help_heading = "Execution")]
    pub(crate) console: Option<Console>,
    /// Hand standard input and output through as they are; same as --console=pipe
    #[arg(
        short = 'P',
        long,
        overrides_with = "console",
        help_heading = "Execution"
    )]
    pub(crate) pipe: bool,
    #[command(flatten)]
    pub(crate) integration: IntegrationArgs,
    #[command(flatten)]
    pub(crate) refused: RefusedArgs,
    /// Say nothing beside errors
    #[arg(short = 'q', long, help_heading = "Execution")]
    pub(crate) quiet: bool,

    /// The command; without it a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(crate) command: Vec<String>,
}

fn port(text: &str) -> Result<String, ValueError> {
    crate::publish::parse_nspawn(text).map(|p| crate::publish::text(&p))
}

fn absolute(text: &str) -> Result<PathBuf, ValueError> {
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err(ValueError::new(text, "is not an absolute path"))
    }
}

fn boolean(text: &str) -> Result<bool, ValueError> {
    spawner::boolean(text).ok_or_else(|| ValueError::new(text, "is neither yes nor no"))
}

fn bind(text: &str) -> Result<Bind, SpawnError> {
    Bind::parse(text, false)
}

fn bind_ro(text: &str) -> Result<Bind, SpawnError> {
    Bind::parse(text, true)
}

/// An environment variable; without a value it is taken from netd's own environment, where it may be missing: then it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

impl std::str::FromStr for Variable {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let mut bytes = name.bytes();
        let starts = bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if starts && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            Ok(Variable {
                name: name.to_owned(),
                value,
            })
        } else {
            Err(ValueError::new(text, "is no variable, write NAME[=VALUE]"))
        }
    }
}

/// How the container's standard input and output are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Console {
    /// A terminal of its own
    Interactive,
    /// A terminal of its own, of which only what comes out is shown
    ReadOnly,
    /// A terminal of its own that leads nowhere
    Passive,
    /// Handed through as they are
    Pipe,
    /// A terminal if both are one, else handed through: as without this
    Autopipe,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variables() {
        let variable = |text: &str| text.parse::<Variable>().ok().map(|v| (v.name, v.value));
        assert_eq!(variable("A=b=c"), Some(("A".into(), Some("b=c".into()))));
        assert_eq!(variable("A="), Some(("A".into(), Some(String::new()))));
        assert_eq!(variable("_a1"), Some(("_a1".into(), None)));
        for bad in ["", "=x", "1A=x", "A B=c"] {
            assert_eq!(variable(bad), None, "{bad}");
        }
    }
}
