//! Policies: text → Policy → set elements → kernel.
//!
//! ```text
//! policies/*.toml ─► policy ─► compile ─► Changes (set elements) ─► kernel (feature `kernel`)
//!                       ├────► oracle, explain (no kernel needed)
//!                       └────► trial: what to record of a packet that was judged (packet)
//! ```
//!
//! Without the feature `kernel` this crate is pure.

pub mod bandwidth;
pub mod compile;
pub mod diagnostics;
pub mod diff;
pub mod explain;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod learn;
pub mod model;
pub mod oracle;
pub mod outside;
pub mod packet;
pub mod policy;
pub mod rfc3339;
pub mod sets;
pub mod skeleton;
pub mod trial;
