//! Options of `netd run` about what the container's processes may do and use up.

use std::convert::Infallible;
use std::str::FromStr;

use clap::Args;
use spawner::{CapabilitySet, Cpus, Personality, Rlimit};

use super::boolean;

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Security")]
pub(crate) struct PrivilegeArgs {
    /// All that there are, by an OCI bundle, in the place of the default ones.
    #[arg(skip)]
    pub(crate) bounding: Option<CapabilitySet>,
    /// Capabilities beside the default ones, or `all`; may be repeated
    #[arg(long, value_name = "CAP,…")]
    pub(crate) capability: Vec<CapabilitySet>,
    /// Capabilities to do without, or `all`; wins over --capability
    #[arg(long, value_name = "CAP,…")]
    pub(crate) drop_capability: Vec<CapabilitySet>,
    /// Capabilities that COMMAND keeps whoever runs it; may be repeated
    #[arg(long, value_name = "CAP,…")]
    pub(crate) ambient_capability: Vec<CapabilitySet>,
    /// Set-user-id programs gain nothing
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    pub(crate) no_new_privileges: Option<bool>,
    /// System calls and @groups beside the default ones, or with ~ those that are refused; may be repeated
    #[arg(long, value_name = "[~]CALL…")]
    pub(crate) system_call_filter: Vec<CallList>,

    /// Resource limit, such as RLIMIT_NOFILE=1024:4096; may be repeated
    #[arg(long, value_name = "LIMIT=SOFT[:HARD]", help_heading = "Resources")]
    pub(crate) rlimit: Vec<Rlimit>,
    /// -1000 (spared when memory is short) to 1000 (ended first)
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000), help_heading = "Resources")]
    pub(crate) oom_score_adjust: Option<i32>,
    /// Processors that it may run on, such as 0,2-3
    #[arg(long, value_name = "CPUS", help_heading = "Resources")]
    pub(crate) cpu_affinity: Option<Cpus>,
    /// Machine that uname(2) tells of: x86 or x86-64
    #[arg(long, value_name = "ARCH", help_heading = "Resources")]
    pub(crate) personality: Option<Personality>,
    /// MemoryMax=, CPUQuota= and TasksMax= everywhere; where systemd runs, any property of the container's scope; may be
    /// repeated
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Resources")]
    pub(crate) property: Vec<String>,
    /// The scope's slice, where systemd runs
    #[arg(short = 'S', long, value_name = "SLICE", help_heading = "Resources")]
    pub(crate) slice: Option<String>,
    /// Stay in the unit that netd was started in; so it is where systemd-machined is told nothing, and --slice and --property say
    /// nothing else
    #[arg(long, help_heading = "Resources")]
    pub(crate) keep_unit: bool,
    /// Tell systemd-machined of it, so that machinectl lists it [default: yes, where there is one]
    #[arg(long, value_name = "BOOL", value_parser = boolean, help_heading = "Resources")]
    pub(crate) register: Option<bool>,
}

/// `--system-call-filter=`: names and groups, with blanks in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallList {
    /// `~`
    pub(crate) refuse: bool,
    pub(crate) names: Vec<String>,
}

impl FromStr for CallList {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let names = text.strip_prefix('~');
        Ok(Self {
            refuse: names.is_some(),
            names: names
                .unwrap_or(text)
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        })
    }
}
