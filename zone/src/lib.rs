//! Zones: validated names, zone files, address allocation, and the links that make a zone.
//!
//! ```text
//! names, zone file ──► resolve, Pool ──► plan (pure) ──► kernel::Links performs it (feature `kernel`)
//! ```
//!
//! Without the feature `kernel` this crate is pure: no IO, no clock, no netlink.

pub mod alloc;
pub mod file;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod name;
pub mod plan;
pub mod pool;
pub mod port;
pub mod prefix;

pub use alloc::{AllocError, Owner, Taken, Zone, resolve};
pub use file::dhcp;
pub use file::{DefaultPolicy, FileError, SettingError, Subnet6, ZoneFile, server_text};
#[cfg(feature = "kernel")]
pub use kernel::{
    Apart, Extra, Flaw, Forwarding, LinkError, LinkEvent, Links, Monitor, Netns, Peer, Port,
    PortFlags, PortState, Stranger, Ways, reap,
};
pub use name::{ContainerName, IfName, MacAddr, NameError, PortName, ZoneName};
pub use pool::Pool;
pub use port::{Configure, ConfigureError, PortSpec};
