//! Policy text → [`PolicyFile`], with the position of everything in it.
//!
//! ```text
//! text ─► toml (spans) ─► read ─► PolicyFile ─► compile, oracle, explain
//!                          └────► Diagnostics: every error of the file, with line, column, help
//! ```
//!
//! Whatever can be wrong with a policy is found here: what comes out can be compiled without errors.
//! The syntax is that of the design, §2, whole.

mod bandwidth;
mod groups;
mod icmp;
pub mod limits;
pub mod lint;
mod number;
mod peer;
mod place;
mod ports;
mod rate;
mod read;
mod rule;
#[cfg(test)]
mod schema;
mod suggest;
pub mod together;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use zone::{ContainerName, ZoneName};

use crate::bandwidth::Limits;
use crate::diagnostics::{Diagnostics, Position};
use crate::model::Container;
use crate::sets::{Action, Direction};

pub use bandwidth::asked as bandwidth_asked;
pub use groups::{Group, Groups};
pub use icmp::counterpart as icmp_counterpart;
pub use number::{Counts, number};
pub use peer::Peer;
pub(crate) use ports::parse as parse_ports;
pub use ports::{Ports, has_ports};
pub use rate::Rate;
pub use window::Window;

/// The largest policy file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// How many conditional rules (with a rate, a number of connections, or hours) count for one container,
/// direction and action. Of more, allows are left out, and denies count at all times.
pub const MAX_CONDITIONAL: u32 = 8;

/// To whom a file applies. All given keys must match; at least one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliesTo {
    /// The container of this name.
    pub container: Option<ContainerName>,
    /// Containers of this zone.
    pub zone: Option<ZoneName>,
    /// Containers that have all these labels.
    pub labels: BTreeMap<String, String>,
}

impl AppliesTo {
    /// Whether a container is meant.
    pub fn matches(&self, container: &Container) -> bool {
        self.container
            .as_ref()
            .is_none_or(|n| n.as_str() == container.name.container())
            && self.zone.as_ref().is_none_or(|z| *z == container.zone)
            && self
                .labels
                .iter()
                .all(|(key, value)| container.labels.get(key) == Some(value))
    }
}

/// Whether a file is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    #[default]
    Enforce,
    /// It is on trial: verdicts are as if it were not there.
    Audit,
}

/// One `[[ingress]]` or `[[egress]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it begins.
    pub at: Position,
    /// What a match does.
    pub action: Action,
    /// The other side: `from` or `to`, groups expanded, each peer once. [`Peer::Any`] when the file gives
    /// none; empty, and so about nobody, only where it names nothing but empty groups.
    pub peers: Vec<Peer>,
    /// The other side as the file has it, where it names groups: `@office, container:db`.
    pub written: Option<Box<str>>,
    /// Protocols and ports. `None`: every one. Never an empty list.
    pub ports: Option<Vec<Ports>>,
    /// New connections of each source.
    pub rate: Option<Rate>,
    /// Connections of each source at one time.
    pub max_connections: Option<u32>,
    /// Whether decisions are recorded.
    pub log: bool,
    /// When it counts. `None`: always.
    pub time: Option<Window>,
}

impl Rule {
    /// Whether more than who and what decides: how often, how many at one time, or when.
    pub fn is_conditional(&self) -> bool {
        self.rate.is_some() || self.max_connections.is_some() || self.time.is_some()
    }

    /// The other side as the file has it: with its groups, not with what is in them.
    pub fn who(&self) -> String {
        match &self.written {
            Some(written) => written.to_string(),
            None => list(&self.peers),
        }
    }

    /// Whether it counts at a time.
    pub fn counts_at(&self, clock: crate::model::Clock) -> bool {
        self.time.as_ref().is_none_or(|time| time.contains(clock))
    }
}

/// What a file says of one direction that it mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Where the file mentions the direction first.
    pub at: Position,
    /// Its rules, in the order of the file (which means nothing).
    pub rules: Vec<Rule>,
}

/// A policy file that was read without errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its name without folder and `.toml`.
    pub name: String,
    /// As the caller named it; stands in diagnostics and reasons.
    pub file: String,
    /// To whom it applies.
    pub applies_to: AppliesTo,
    /// Whether it is in force or on trial.
    pub mode: Mode,
    /// How much the containers may send and receive. `None`: the file does not mention it.
    pub bandwidth: Option<Limits>,
    /// Who may open connections to the containers. `None`: the file does not mention it.
    pub ingress: Option<Section>,
    /// Whom the containers may open connections to. `None`: the file does not mention it.
    pub egress: Option<Section>,
    /// Names of the groups that it uses: when they change, it is to be read again.
    pub groups: BTreeSet<String>,
    /// What the file probably does not mean as it stands.
    pub warnings: Diagnostics,
    /// What it asks for.
    pub weight: together::Weight,
}

impl PolicyFile {
    /// Reads a policy where there are no groups: see [`PolicyFile::parse_with`].
    ///
    /// # Errors
    /// All that is wrong with the file, each with line and column.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        Self::parse_with(file, text, &Groups::default())
    }

    /// Reads a policy. `file` is how messages name it; its last part without `.toml` is the container
    /// that the file applies to unless it says otherwise.
    ///
    /// # Errors
    /// All that is wrong with the file, each with line and column.
    pub fn parse_with(file: &str, text: &str, groups: &Groups) -> Result<Self, Diagnostics> {
        read::file(file, text, groups)
    }

    /// Reads a policy from bytes that may turn out not to be text.
    ///
    /// # Errors
    /// As [`PolicyFile::parse_with`]; and where the bytes are not UTF-8, the place of the first such byte.
    pub fn parse_bytes(file: &str, bytes: &[u8], groups: &Groups) -> Result<Self, Diagnostics> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse_with(file, text, groups),
            Err(error) => Err(read::not_text(file, bytes, error.valid_up_to())),
        }
    }

    /// To whom a file applies that may be full of other errors: so that the containers it was meant
    /// for, and no others, can be refused until it is mended. `None` when that cannot be told; then it
    /// may be meant for anybody.
    pub fn salvage_applies_to(file: &str, text: &str) -> Option<AppliesTo> {
        read::applies_to(file, text)
    }

    /// What the file says of a direction, if it mentions it.
    pub fn section(&self, direction: Direction) -> Option<&Section> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }

    /// Whether connections of its containers are told to the log: it is on trial, or a rule wants it.
    pub fn watches(&self) -> bool {
        self.mode == Mode::Audit || self.rules().any(|rule| rule.log)
    }

    /// All rules of both directions.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let sections = [self.ingress.as_ref(), self.egress.as_ref()];
        sections.into_iter().flatten().flat_map(|s| &s.rules)
    }
}

/// The policies in force, by file. The key is what the caller tells files apart by, usually the name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySet(pub BTreeMap<String, Arc<PolicyFile>>);

impl PolicySet {
    /// The files in force that apply to a container, in the order of their keys.
    pub fn applying<'a>(
        &'a self,
        container: &'a Container,
    ) -> impl Iterator<Item = &'a PolicyFile> {
        self.0
            .values()
            .map(|file| &**file)
            .filter(|file| file.mode == Mode::Enforce && file.applies_to.matches(container))
    }

    /// As if the files on trial were in force.
    pub fn on_trial(&self) -> Self {
        let enforced = |file: &Arc<PolicyFile>| match file.mode {
            Mode::Enforce => file.clone(),
            Mode::Audit => Arc::new(PolicyFile {
                mode: Mode::Enforce,
                ..(**file).clone()
            }),
        };
        let files = self.0.iter();
        Self(
            files
                .map(|(key, file)| (key.clone(), enforced(file)))
                .collect(),
        )
    }

    /// Only the files, in force and on trial, that apply to one of these containers.
    pub fn about<'a>(&self, containers: impl Iterator<Item = &'a Container> + Clone) -> Self {
        let files = self.0.iter().filter(|(_, file)| {
            containers
                .clone()
                .any(|container| file.applies_to.matches(container))
        });
        Self(
            files
                .map(|(key, file)| (key.clone(), file.clone()))
                .collect(),
        )
    }
}

/// Peers as a file writes them, separated by commas.
pub(crate) fn list<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(", ")
}
