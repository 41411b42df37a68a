//! Options of `netd run` about the root and what is laid over it.

use std::path::PathBuf;

use clap::Args;
use spawner::{Credential, Overlay, Ownership, SpawnError, Volatile};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct FileArgs {
    /// Keep nothing of the root: `yes` (/usr alone, the rest in memory), `state` (all read-only, /var in memory),
    /// `overlay` (what is written goes to memory)
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub(crate) volatile: Option<Volatile>,
    /// Run from a copy of the root, which goes with the container
    #[arg(short = 'x', long)]
    pub(crate) ephemeral: bool,
    /// Copy this tree to --directory=, where that is not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) template: Option<PathBuf>,
    /// Lay trees over one another, the lowest first; the last is written to. An empty one is a temporary directory, `+` is the
    /// container's own root
    #[arg(long, value_name = "PATH[:PATH…]:PATH", value_parser = overlay)]
    pub(crate) overlay: Vec<Overlay>,
    /// The same, and none is written to
    #[arg(long, value_name = "PATH[:PATH…]:PATH", value_parser = overlay_ro)]
    pub(crate) overlay_ro: Vec<Overlay>,
    /// Cover a path of the container with something that cannot be opened; may be repeated
    #[arg(long, value_name = "PATH", value_parser = super::absolute)]
    pub(crate) inaccessible: Vec<PathBuf>,
    /// Let a user of the host appear inside, with name, ids and home (needs -U); may be repeated
    #[arg(long, value_name = "USER")]
    pub(crate) bind_user: Vec<String>,
    /// How files come to belong to the container's users: mapped (`auto`, `map`), changed on disk (`chown`), not at all (`off`)
    #[arg(long, value_name = "HOW", help_heading = "Users")]
    pub(crate) private_users_ownership: Option<Ownership>,
    /// What `--private-users-ownership=chown` was called before systemd 249
    #[arg(long, hide = true, overrides_with = "private_users_ownership")]
    pub(crate) private_users_chown: bool,
    /// Give COMMAND a credential (systemd.exec(5)) from a file; may be repeated
    #[arg(long, value_name = "ID:PATH", value_parser = Credential::load, help_heading = "Execution")]
    pub(crate) load_credential: Vec<Credential>,
    /// The same, with its value
    #[arg(long, value_name = "ID:VALUE", value_parser = Credential::set, help_heading = "Execution")]
    pub(crate) set_credential: Vec<Credential>,
}

fn overlay(text: &str) -> Result<Overlay, SpawnError> {
    Overlay::parse(text, false)
}

fn overlay_ro(text: &str) -> Result<Overlay, SpawnError> {
    Overlay::parse(text, true)
}
