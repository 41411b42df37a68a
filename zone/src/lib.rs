//! Zones: validated names, zone files, address allocation, and the links that make a zone.
//!
//! ```text
//! names, zone file ──► allocation ──► plan (pure) ──► perform (rtnetlink, feature `kernel`)
//! ```
//!
//! Without the feature `kernel` this crate is pure: no IO, no clock, no netlink.

pub mod file;
pub mod name;

pub use file::DefaultPolicy;
pub use name::{ContainerName, IfName, MacAddr, NameError, ZoneName};
