//! How much containers may send and receive.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

/// A limit of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct Limit {
    /// `ingress`, to the container, or `egress`, from it.
    pub(crate) direction: String,
    /// Bits a second.
    pub(crate) rate: i64,
    /// Bytes that may go at once after a rest; absent in a request: what suits the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) burst: Option<i64>,
}

/// A limit in force for a container, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyLimit {
    /// The policy file; absent where the runtime asked for it.
    pub(crate) file: Option<String>,
    /// Counted from 1.
    pub(crate) line: Option<i64>,
    /// Counted from 1.
    pub(crate) column: Option<i64>,
    /// `ingress`, to the container, or `egress`, from it.
    pub(crate) direction: String,
    /// Bits a second.
    pub(crate) rate: i64,
    /// Bytes that may go at once after a rest.
    pub(crate) burst: i64,
    /// As policy files write it.
    pub(crate) text: String,
}

/// A limit that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct LimitChange {
    /// The container.
    pub(crate) container: String,
    /// `ingress`, to the container, or `egress`, from it.
    pub(crate) direction: String,
    /// As policy files write it; absent: none.
    pub(crate) before: Option<String>,
    /// As policy files write it; absent: none.
    pub(crate) after: Option<String>,
}
