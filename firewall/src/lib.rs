//! Policies: text → Policy → set elements → kernel.
//!
//! ```text
//! policies/*.toml ─► policy ─► compile ─► Changes (set elements) ─► kernel (feature `kernel`)
//!                       └────► oracle, explain (no kernel needed)
//! ```
//!
//! Without the feature `kernel` this crate is pure.

pub mod compile;
pub mod diagnostics;
pub mod explain;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod model;
pub mod oracle;
pub mod outside;
pub mod policy;
pub mod sets;
pub mod skeleton;
