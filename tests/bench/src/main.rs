//! `bench`: the floor, and the comparisons of design and documentation, each printing both sides.
//!
//! ```text
//! main ─ ns::privately ─ measures/* ─┬ floor, rt, nft, wire   the kernel messages of an attach, by hand
//!                                    ├ sides/*, daemon        netd and what people use today
//!                                    └ paths, traffic         real packets
//! ```
//!
//! Sides take turns in one run (A B A B …), each on a private host of its own. Ratios carry over to other machines;
//! times do not. Nothing here is a test: no figure ever fails a build.
#![allow(
    clippy::print_stdout,
    reason = "tables are what this program is for, and it prints them on standard output"
)]

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

use crate::error::{During, Error, Result};

mod container;
mod crowd;
mod daemon;
mod error;
mod floor;
mod measures;
mod nft;
mod ns;
mod paths;
mod policy;
mod root;
mod rt;
mod rulesets;
mod sides;
mod stats;
mod traffic;
mod wire;

/// Measures netd against the floor and against what people use today. Needs root.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// The netd to measure; by default the one beside this program, built in release mode for figures that mean
    /// something.
    #[arg(long, env = "NETD", global = true)]
    netd: Option<PathBuf>,
    /// Folder with programs that `bench setup` built.
    #[arg(
        long,
        env = "NETD_BENCH_PEERS",
        default_value = "target/peers",
        global = true
    )]
    peers: PathBuf,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Install what netd is compared with: Debian packages, and netavark from its crate
    Setup,
    /// The kernel messages of an attach from one warm process: steps, growth, deleting
    Floor {
        /// Attaches measured at each number of ports
        #[arg(long, default_value_t = 100)]
        rounds: u32,
    },
    /// Attach one container: netd, the floor, a shell script, netavark, CNI
    Attach {
        /// Turns of each side
        #[arg(long, default_value_t = 40)]
        rounds: u32,
        /// Instead, measure netd and the floor beside this many containers; several sizes with commas
        #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(2..=crowd::MOST))]
        at: Vec<u32>,
        /// Rules of each container beside
        #[arg(long, default_value_t = 50)]
        rules: u32,
    },
    /// Attaches and detaches a second, many in a row
    Sustained {
        /// Containers of one turn
        #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
        /// Turns of each side
        #[arg(long, default_value_t = 2)]
        rounds: u32,
    },
    /// Detach as the caller sees it, against one RTM_DELLINK
    Detach {
        /// Turns of each side
        #[arg(long, default_value_t = 40)]
        rounds: u32,
    },
    /// Round trips in one zone, against a bridge without a firewall
    Rtt {
        /// Turns of 2,000 round trips
        #[arg(long, default_value_t = 25)]
        rounds: u32,
        #[command(flatten)]
        crowd: Crowd,
    },
    /// New connections a second in one zone, against linear rules
    Connect {
        /// Turns of 200 connections
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        /// Linear rules on the other side
        #[arg(long, default_value_t = 10_000)]
        linear: u32,
        #[command(flatten)]
        crowd: Crowd,
    },
    /// A policy edit: from writing the file until a connection meets the new verdict
    Edit {
        /// Edits each way
        #[arg(long, default_value_t = 30)]
        rounds: u32,
        #[command(flatten)]
        crowd: Crowd,
    },
    /// Two groups of containers by labels, each open to the other
    Labels {
        /// Members of each group
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=crowd::MOST / 2))]
        members: u32,
        /// Give each one more label that nobody else has
        #[arg(long)]
        own: bool,
    },
    /// Linear rules, a chain for each container, and netd: round trips, connections, rules of one container more
    Contrast {
        /// Turns of each
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        #[command(flatten)]
        crowd: Crowd,
    },
    /// What must not grow: attach, edit, round trip and connection among crowds, labels, and the contrast
    Flat {
        /// Sizes of the crowds
        #[arg(long, default_value = "1000,5000")]
        crowd: String,
    },
    /// Start /bin/true: netd run with network and policy, systemd-nspawn, runc, podman, crun, bwrap
    Start {
        /// Starts of each
        #[arg(long, default_value_t = 20)]
        rounds: u32,
    },
    /// DHCP exchanges a second by perfdhcp: netd, Kea, systemd-networkd, dnsmasq, dora, ISC dhcpd
    Dhcp {
        /// Seconds of each step
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=60))]
        seconds: u32,
        /// Only servers whose names hold one of these words
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Names of containers, asked by dnsperf: netd, dnsmasq, aardvark-dns
    Dns {
        /// Names
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1000))]
        names: u32,
        /// Turns of each server
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Seconds of each turn
        #[arg(long, default_value_t = 4)]
        seconds: u32,
    },
    /// Memory of the daemon
    Memory {
        /// Containers attached
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
    /// Everything, one after the other; also what it does without a word
    All,
}

/// The others on netd's host.
#[derive(clap::Args, Clone)]
struct Crowd {
    /// Other containers on the crowded side; several sizes with commas
    #[arg(long, default_value = "1000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(2..=crowd::MOST))]
    crowd: Vec<u32>,
    /// Rules of each of them
    #[arg(long, default_value_t = 50)]
    rules: u32,
}

/// Every measure; those of `flat` at 1,000 only.
const ALL: [&[&str]; 13] = [
    &["floor"],
    &["attach"],
    &["attach", "--at", "1000"],
    &["sustained"],
    &["rtt"],
    &["connect"],
    &["edit"],
    &["labels"],
    &["contrast"],
    &["start"],
    &["dhcp"],
    &["dns"],
    &["memory"],
];

/// What all measures need to know.
struct Options {
    netd: PathBuf,
    peers: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let options = Options {
        netd: match arguments.netd {
            Some(netd) => netd,
            None => std::env::current_exe()
                .during(|| "find this program".into())?
                .with_file_name("netd"),
        },
        peers: arguments.peers,
    };
    let what = arguments.what.unwrap_or(What::All);
    if let What::Setup = what {
        return setup(&options);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Missing {
            what: "privilege to make network namespaces".into(),
            remedy: "run it as root",
        });
    }
    about(&options);
    // Each measure of several runs in a process of its own, so that nothing of one is in another's way.
    match &what {
        What::All => return several(&options, &ALL),
        What::Flat { crowd } => {
            return several(
                &options,
                &[
                    &["attach", "--at", crowd],
                    &["edit", "--crowd", crowd],
                    &["rtt", "--crowd", crowd],
                    &["connect", "--crowd", crowd],
                    &["labels"],
                    &["labels", "--own"],
                    &["contrast", "--crowd", crowd],
                ],
            );
        }
        _ => {}
    }
    crowd::room_for_namespaces()?;
    ns::privately()?;
    match what {
        What::Setup | What::All | What::Flat { .. } => Ok(()),
        What::Floor { rounds } => measures::floor::run(rounds),
        What::Attach { rounds, at, .. } if at.is_empty() => measures::attach::run(&options, rounds),
        What::Attach { rounds, at, rules } => {
            measures::attach::run_at(&options, rounds, &at, rules)
        }
        What::Sustained { count, rounds } => measures::sustained::run(&options, count, rounds),
        What::Detach { rounds } => measures::detach::run(&options, rounds),
        What::Rtt { rounds, crowd } => {
            measures::rtt::run(&options, rounds, &crowd.crowd, crowd.rules)
        }
        What::Connect {
            rounds,
            linear,
            crowd,
        } => measures::connect::run(&options, rounds, linear, &crowd.crowd, crowd.rules),
        What::Edit { rounds, crowd } => {
            measures::edit::run(&options, rounds, &crowd.crowd, crowd.rules)
        }
        What::Labels { members, own } => measures::labels::run(&options, members, own),
        What::Contrast { rounds, crowd } => {
            measures::contrast::run(&options, rounds, &crowd.crowd, crowd.rules)
        }
        What::Start { rounds } => measures::start::run(&options, rounds),
        What::Dhcp { seconds, only } => measures::dhcp::run(&options, seconds, &only),
        What::Dns {
            names,
            rounds,
            seconds,
        } => measures::dns::run_all(&options, names, rounds, seconds),
        What::Memory { count } => measures::memory::run(&options, count),
    }
}

/// Says on what it is measured. A busy machine or an unoptimised netd spoil the figures.
fn about(options: &Options) {
    let system = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    eprintln!(
        "bench: Linux {}, {cores} cores, load {load}; {}",
        system.release().to_string_lossy(),
        options.netd.display()
    );
    if options
        .netd
        .components()
        .any(|part| part.as_os_str() == "debug")
    {
        eprintln!(
            "bench: this netd is not optimised; build it with --release for figures that mean something"
        );
    }
}

fn setup(options: &Options) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/setup");
    let mut command = Command::new(script);
    let status = command
        .arg(&options.peers)
        .status()
        .during(|| format!("run {script}"))?;
    succeeded(&command, status)
}

fn several(options: &Options, measures: &[&[&str]]) -> Result<()> {
    let program = std::env::current_exe().during(|| "find this program".into())?;
    let mut failed = Ok(());
    for &words in measures {
        let mut command = Command::new(&program);
        command
            .args(words)
            .env("NETD", &options.netd)
            .env("NETD_BENCH_PEERS", &options.peers);
        let status = command
            .status()
            .during(|| format!("run bench {}", words.join(" ")))?;
        failed = failed.and(succeeded(&command, status));
    }
    failed
}

fn succeeded(command: &Command, status: std::process::ExitStatus) -> Result<()> {
    match status.success() {
        true => Ok(()),
        false => Err(Error::Command {
            command: format!("{command:?}"),
            status: status.to_string(),
            stderr: "see above".into(),
        }),
    }
}
