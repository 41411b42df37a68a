//! Sets of policy files: what would change, and one step from one set to another.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

use super::Reason;

/// A policy file that is not (yet) one of those in the config dir.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyText {
    /// Its name without `.toml`.
    pub(crate) name: String,
    /// How messages name it.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

/// A whole set of policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyTexts {
    /// The policy files.
    pub(crate) files: Vec<PolicyText>,
    /// The groups file; without one the groups stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<PolicyText>,
}

/// What became of files in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyStep {
    /// Names of files that were not there before.
    pub(crate) added: Vec<String>,
    /// Names of files that say something else now.
    pub(crate) changed: Vec<String>,
    /// Names of files that are gone.
    pub(crate) removed: Vec<String>,
    /// What the files probably do not mean as they stand.
    pub(crate) warnings: Vec<String>,
    /// Seconds in which the step has to be confirmed; absent where it need not be.
    pub(crate) confirm_within: Option<i64>,
    /// Where the files are that were replaced by a rollback.
    pub(crate) kept: Option<String>,
}

/// The last apply, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct AppliedState {
    /// `in-force`; `waiting` for confirmation; `timed-out` or `rolled-back`: the files before it are back.
    pub(crate) state: String,
    /// When it was applied, in seconds since 1970.
    pub(crate) at: i64,
    /// Seconds that are left to confirm it; absent where it does not wait.
    pub(crate) remaining: Option<i64>,
    /// Where the files are that were undone.
    pub(crate) kept: Option<String>,
}

/// Flows of which the same would become otherwise: each of `from` to each of `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyChange {
    /// Who opens the connection: containers, `host`, `host at ADDRESS`, `world`, networks; after `but` what is
    /// left out of host or world.
    pub(crate) from: Vec<String>,
    /// To whom.
    pub(crate) to: Vec<String>,
    /// Protocols and ports as policy files write them; absent: every one but those of `except`.
    pub(crate) ports: Option<Vec<String>>,
    /// What is left out of every protocol and port.
    pub(crate) except: Vec<String>,
    /// 4 or 6; absent: each that both ends have.
    pub(crate) family: Option<i64>,
    /// `direct` or `published`: to the container's own address or through its published port; absent: both.
    pub(crate) way: Option<String>,
    /// `allow` or `deny`.
    pub(crate) before: String,
    /// `allow` or `deny`.
    pub(crate) after: String,
    /// Rates, numbers of connections, hours, log and audit before.
    pub(crate) limits_before: Vec<String>,
    /// Rates, numbers of connections, hours, log and audit after.
    pub(crate) limits_after: Vec<String>,
    /// What decided before and does not any more.
    pub(crate) because_before: Vec<Reason>,
    /// What decides and did not before.
    pub(crate) because_after: Vec<Reason>,
}

/// What would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyDifference {
    /// Row by row.
    pub(crate) changes: Vec<PolicyChange>,
    /// How many more rows there are.
    pub(crate) more: i64,
    /// How many pairs were not looked at, because there are too many.
    pub(crate) unexamined: i64,
}
