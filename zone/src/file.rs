//! The zone file, `zones/NAME.toml`.

use serde::{Deserialize, Serialize};

/// What a container may do in a direction that no applying file mentions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultPolicy {
    /// Out to `world`, nothing else, nothing in.
    #[default]
    Egress,
    /// Nothing.
    Deny,
    /// Everything but other zones: its own zone's containers, host and world, both ways.
    Allow,
}
