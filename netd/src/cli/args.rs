//! The command line as a plain structure. Parsing looks at words and at `NETD_*` variables, and
//! touches nothing else; the documentation comments here are the help texts.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use zone::{ContainerName, IfName, MacAddr, ZoneName};

use super::explain::Located;
pub(crate) use super::hook_args::{HookAction, HookCommand, NetavarkCall, NspawnCommand};
use super::machines::{ImageCommand, MachineCommand};
pub(crate) use super::run::RunArgs;
use crate::dirs::Dirs;
use crate::since::Since;
use crate::values::{self, Label};

/// Networks and firewall for containers: zones, addresses, NAT, and policies in force before the
/// first packet
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(
    name = "netd",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "\
Examples:
  netd zone create dmz                              a zone with addresses of its own
  netd run -D /srv/web --network-zone=dmz /bin/sh   a container in it
  netd attach web --zone dmz --pid 4711             … or one that something else started
  netd explain web db tcp/5432                      may web talk to db, and why

Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 no such zone or container;
4 the daemon cannot be reached; `netd explain`: 0 allow, 10 deny.
A command that needs the daemon starts it in the background, unless NETD_AUTOSTART=0."
)]
pub(crate) struct Invocation {
    #[command(flatten)]
    pub(crate) dirs: Dirs,

    /// Print one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Run the service, in the foreground
    ///
    /// It says READY by sd_notify once every zone and policy is in force. SIGHUP reads the files
    /// again, SIGTERM ends it; the network of attached containers stays as it is meanwhile.
    Daemon(DaemonOptions),
    /// Create, list, show, change and delete zones
    #[command(subcommand)]
    Zone(ZoneCommand),
    /// Give a container its port on a zone
    ///
    /// The container's network namespace is given by path or by process. When the command returns,
    /// the address is there and the policy is in force; it was before the first packet. The same
    /// request twice is a success.
    Attach(AttachArgs),
    /// Take a container's port away
    ///
    /// The port is closed when the command returns. Detaching what is not attached is a success.
    Detach(DetachArgs),
    /// Run a command in a container of its own
    Run(Box<RunArgs>),
    /// List containers that are attached or run
    List,
    /// Show the state of the daemon, or of a container
    Status {
        /// The container; without one, the daemon's own state
        container: Option<ContainerName>,
    },
    /// Stop a container that `netd run` started, in order
    ///
    /// An init is asked in its own words (systemd by SIGRTMIN+3, busybox by SIGUSR2), everybody else by SIGTERM. What has not ended in
    /// time is killed.
    Stop(StopArgs),
    #[command(flatten)]
    Machine(MachineCommand),
    #[command(flatten)]
    Image(ImageCommand),
    /// Read zones and policies again
    ///
    /// Returns once they are in force. Exit code 1 if a file was refused; the last good one of that
    /// file then stays in force.
    Reload,
    /// Check policy files, show the policy in force, what was decided, and what may be learned of it
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Tell whether a connection would be allowed, and why
    Explain(ExplainArgs),
    /// List addresses and who has them
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// Doors for container runtimes
    #[command(subcommand)]
    Hook(HookCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    ///
    /// In roff: `netd man | man -l -` shows it.
    Man,
    /// Hold the tables while no daemon runs (the daemon starts it)
    #[command(hide = true)]
    Keep,
    /// Write /etc/resolv.conf below the root that is standard input (attach starts it)
    #[command(hide = true)]
    FillResolvConf(crate::resolv::FillArgs),
}

/// `netd daemon`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct DaemonOptions {
    /// Start it in a session of its own and return (autostart does this)
    #[arg(long, hide = true)]
    pub(crate) background: bool,
    /// Write the log as JSON, one object a line
    #[arg(long)]
    pub(crate) json_logs: bool,
}

/// `netd zone …`
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum ZoneCommand {
    /// Create a zone
    ///
    /// Writes zones/NAME.toml in the config dir. The same request twice is a success, a different
    /// one under the same name is refused.
    #[command(after_help = "\
Examples:
  netd zone create dmz
  netd zone create db --internal --default deny
  netd zone create lab --subnet4 10.1.2.0/24 --subnet6 none --dns 9.9.9.9")]
    Create {
        /// Name of the zone: a-z, 0-9 and '-', 32 at most
        name: ZoneName,
        #[command(flatten)]
        options: ZoneOptions,
    },
    /// List zones
    List,
    /// Show a zone
    Show {
        /// Name of the zone
        name: ZoneName,
    },
    /// Change settings of a zone; what is not given stays
    Set {
        /// Name of the zone
        name: ZoneName,
        #[command(flatten)]
        options: ZoneOptions,
    },
    /// Delete a zone
    ///
    /// Refused while containers are attached, unless --force detaches them first. Deleting what is
    /// not there is a success.
    Delete {
        /// Name of the zone
        name: ZoneName,
        /// Detach its containers first
        #[arg(long)]
        force: bool,
    },
}

/// Settings of a zone.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct ZoneOptions {
    /// Stand on somebody else's bridge, with their subnet: for the CNI plugin netd-policy
    #[arg(long, value_name = "NAME")]
    pub(crate) bridge: Option<zone::IfName>,
    /// IPv4 subnet, or `none`; without it the next free /24 of 10.89.0.0/16
    #[arg(long, value_name = "CIDR|none", value_parser = values::subnet4)]
    pub(crate) subnet4: Option<String>,
    /// IPv6 subnet, or `none`; without it a private /48 of its own
    #[arg(long, value_name = "CIDR|none", value_parser = values::subnet6)]
    pub(crate) subnet6: Option<String>,
    /// No NAT, no path to or from the world, nothing published
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) internal: Option<bool>,
    /// The only interface through which it reaches the world
    #[arg(long, value_name = "IFNAME")]
    pub(crate) uplink: Option<IfName>,
    /// What a container may do where no policy file speaks
    #[arg(long, value_name = "DEFAULT")]
    pub(crate) default: Option<ZoneDefault>,
    /// Largest packet, in bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(68..=65535))]
    pub(crate) mtu: Option<u32>,
    /// DNS domain of its containers
    #[arg(long, value_name = "NAME")]
    pub(crate) domain: Option<String>,
    /// IPv4 addresses to give out
    #[arg(long, value_name = "FIRST-LAST", value_parser = values::pool)]
    pub(crate) pool: Option<String>,
    /// Resolver handed to its containers; may be repeated
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    pub(crate) dns: Vec<IpAddr>,
    /// Resolver that the gateway asks, instead of the host's; may be repeated
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = values::server)]
    pub(crate) upstream: Vec<String>,
    /// The same for names of one domain; may be repeated
    #[arg(long = "upstream-domain", value_name = "DOMAIN=ADDR[:PORT],…")]
    pub(crate) upstream_domains: Vec<values::UpstreamDomain>,
}

/// What holds in a direction that no policy file mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ZoneDefault {
    /// Out to the world, nothing else, nothing in
    Egress,
    /// Nothing
    Deny,
    /// Everything but other zones
    Allow,
}

/// `netd attach`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    group = clap::ArgGroup::new("namespace").required(true),
    after_help = "\
Examples:
  netd attach web --zone dmz --netns web
  netd attach web --zone dmz --pid 4711 --publish 8080:80 --label tier=front
  netd attach dns --zone dmz --netns /proc/4711/ns/net --publish 127.0.0.1:53:53/udp"
)]
pub(crate) struct AttachArgs {
    /// Name of the container, which policies and later commands use
    pub(crate) container: ContainerName,
    /// The zone; may be repeated: the first one has the default route, and the published ports
    #[arg(long, required = true)]
    pub(crate) zone: Vec<ZoneName>,
    /// Its network namespace: a path, or a name under /run/netns
    #[arg(long, value_name = "PATH", group = "namespace")]
    pub(crate) netns: Option<PathBuf>,
    /// A process in its network namespace
    #[arg(long, value_name = "PID", group = "namespace", value_parser = values::pid)]
    pub(crate) pid: Option<i32>,
    /// Name of the interface inside; of several zones, one after the other [default: host0, host1, …]
    #[arg(long)]
    pub(crate) ifname: Vec<IfName>,
    /// Who configures the interface inside [default: static]
    #[arg(long, value_name = "HOW")]
    pub(crate) configure: Option<Configure>,
    /// Address it has to get, at most one of each family in each zone; without it the one it had before
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    pub(crate) ip: Vec<IpAddr>,
    /// Hardware address; without it one derived from the name
    #[arg(long)]
    pub(crate) mac: Option<MacAddr>,
    /// Label that policies may name; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<Label>,
    /// Port of the host that leads to the container; may be repeated
    #[arg(long, value_name = "[ADDR:]HOSTPORT[-END]:PORT[/udp]", value_parser = published)]
    pub(crate) publish: Vec<String>,
    /// How much it may send and receive, at each of its ports: 100mbit, or ingress=100mbit,egress=20mbit,burst=256kb;
    /// policies may set lower limits
    #[arg(long, value_name = "RATE", value_parser = values::bandwidth_text)]
    pub(crate) bandwidth: Option<String>,
    /// What becomes of /etc/resolv.conf inside, where the process has files of its own and the interface is
    /// configured by netd [default: auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) resolv_conf: Option<crate::resolv::Wish>,
}

fn published(text: &str) -> Result<String, values::ValueError> {
    crate::publish::parse(text).map(|p| crate::publish::text(&p))
}

/// Who gives the interface inside its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Configure {
    /// netd, from outside
    Static,
    /// A DHCP client inside; it gets the same address
    Dhcp,
    /// Somebody else
    None,
}

impl Configure {
    /// As the control socket has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Configure::Static => "static",
            Configure::Dhcp => "dhcp",
            Configure::None => "none",
        }
    }
}

/// `netd detach`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct DetachArgs {
    /// Name of the container
    pub(crate) container: ContainerName,
    /// Only from this zone; without it from all that it is in
    #[arg(long)]
    pub(crate) zone: Option<ZoneName>,
}

/// `netd stop`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct StopArgs {
    /// Name of the container
    pub(crate) container: ContainerName,
    /// How long it may take to end, before SIGKILL [default: 10, 90 for what runs an init]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) time: Option<u64>,
}

/// `netd policy …`
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check policy files; needs no daemon
    ///
    /// Errors and warnings point at file, line and column. Exit code 1 if there is an error. Zones and
    /// groups are those of the config dir; where a daemon answers, it is asked which zones and
    /// containers there are.
    Check {
        /// Files, or folders of *.toml files; without any, the whole config dir: groups.toml, zones and
        /// policies
        files: Vec<PathBuf>,
        /// Groups, instead of groups.toml in the config dir
        #[arg(long, value_name = "FILE")]
        groups: Option<PathBuf>,
    },
    /// Show the policy in force for a container, and where each part comes from
    Show {
        /// Name of the container
        container: ContainerName,
        /// Show the rules it became
        #[arg(long)]
        nft: bool,
    },
    /// Show what would change if these files were the policies
    ///
    /// Not text but meaning: who could open which connections, and could not before, or the other way
    /// round; with whose word it is. The files given stand for the whole set, as for `netd policy apply`:
    /// those in force that are not among them count as removed. Changes nothing.
    #[command(after_help = "\
Rows read: FROM -> TO PORTS BEFORE -> AFTER (WHY BEFORE -> WHY AFTER). Limits (rates, numbers of
connections, hours, log, audit) stand in [brackets].

Examples:
  netd policy diff new/
  netd policy diff --exit-code /etc/netd/policies/*.toml web.toml")]
    Diff {
        /// Policy files, or folders of *.toml files
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Exit with 1 if something would change
        #[arg(long)]
        exit_code: bool,
    },
    /// Make these files the policies, in one step
    ///
    /// They replace the whole set in the config dir: policy files there that are not given are removed.
    /// All are checked first; an error in any, and nothing changes. Dotfiles and other files there are not
    /// touched. What was there before is kept: `netd policy rollback` brings it back.
    #[command(after_help = "\
A groups.toml among them, or in a folder that is given, becomes the groups file; without one the
groups stay as they are.

While an apply waits to be confirmed, another one is refused. Files that are edited meanwhile count
as usual; when the ones before come back, the replaced ones are kept in the state dir under apply/.

Examples:
  netd policy diff new/                   first see what it would change
  netd policy apply new/ --confirm 60     the old ones come back after a minute …
  netd policy confirm                     … unless confirmed")]
    Apply {
        /// Policy files, or folders of *.toml files
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Bring the files before back unless `netd policy confirm` follows in this time
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=604_800))]
        confirm: Option<u32>,
    },
    /// Keep the policies that were applied with --confirm
    Confirm,
    /// Bring back the policy files before the last apply, in one step
    ///
    /// Those that are replaced are kept in a folder that is told, and can be applied again. Refused when
    /// the last apply is undone already.
    Rollback,
    /// Show what rules with `log = true` and files with `mode = "audit"` recorded
    ///
    /// Reads the decision log in the state dir; needs no daemon. With --json it prints a JSON object a
    /// line, as they are in the log.
    Log(LogArgs),
    /// Print a policy file that allows what a container was seen doing
    ///
    /// Made of what a file with `mode = "audit"`, or rules with `log = true`, recorded of it. Read it
    /// before it is put in force.
    Learn {
        /// Name of the container
        container: ContainerName,
        /// Only what was seen since a time (2026-11-22T09:30:00Z), or in the last 90min, 12h, 7d
        #[arg(long, value_name = "WHEN", conflicts_with = "forget")]
        since: Option<Since>,
        /// Forget what was recorded, to begin anew
        #[arg(long)]
        forget: bool,
    },
}

/// `netd policy log`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct LogArgs {
    /// Only decisions of this container's rules
    pub(crate) container: Option<ContainerName>,
    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what files on trial have to say
    #[arg(long)]
    pub(crate) audit: bool,
    /// Only the last so many
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) lines: Option<usize>,
}

/// `netd explain`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  netd explain web db tcp/5432
  netd explain world web tcp/80
  netd explain world host tcp/8080            a published port: may the world use it?
  netd explain web 192.0.2.7 icmp/echo-request
  netd explain web db tcp/5432 --at \"Sat 22:00\"
  netd explain --files ./config --in web=dmz,tier=front world web tcp/80

Without -4 or -6 both families are asked about that both ends have; where one is denied, that is
the verdict. The ports of FROM are not asked about: any will do.

Exit code: 0 allow, 10 deny.")]
pub(crate) struct ExplainArgs {
    /// Who opens the connection: a container, `host`, `world`, or an address
    ///
    /// Of a container in several zones NAME@ZONE is its port in one of them.
    #[arg(value_parser = values::endpoint)]
    pub(crate) from: String,
    /// To whom: a container, `host`, `world`, an address, or `dns:NAME`
    ///
    /// A published port of the host stands for the container behind it, and dns:www.example.org for what the zone's
    /// resolver tells the container FROM.
    #[arg(value_parser = values::target)]
    pub(crate) to: String,
    /// With what: tcp/80 (if nothing is said), udp/53, icmp/echo-request, …
    #[arg(value_name = "PROTO/PORT")]
    pub(crate) traffic: Option<String>,
    /// Over IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,
    /// Over IPv6
    #[arg(short = '6')]
    pub(crate) ipv6: bool,
    /// At that time instead of now, for rules with hours: a day and a time, such as "Sat 22:00"
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) at: Option<String>,
    /// Answer from the files in this config dir alone, without a daemon and without privilege
    ///
    /// Containers are those that FROM, TO and --in name. Published ports, addresses of the host and other
    /// programs' tables are not known then.
    #[arg(long, value_name = "DIR")]
    pub(crate) files: Option<PathBuf>,
    /// With --files: in which zone a container is, and its labels; may be repeated
    ///
    /// Not needed where there is one zone only, or where a policy applies to the container in that zone.
    #[arg(long = "in", value_name = "NAME=ZONE[,KEY=VALUE]…", requires = "files")]
    pub(crate) located: Vec<Located>,
}

fn moment(text: &str) -> Result<String, firewall::explain::NotMoment> {
    firewall::explain::moment(text).map(|_| text.to_owned())
}

/// `netd lease …`
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum LeaseCommand {
    /// List addresses, static ones too
    List,
}
