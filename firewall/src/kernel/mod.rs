//! The skeleton and its elements in the kernel, over netlink.
//!
//! ```text
//! skeleton ─► encode ─► Batch ─► Socket (owns the tables) ─► nf_tables
//!                                   └─ a duplicate lies with the keeper while the daemon is dead
//! Dump (second socket) ─► Tables::verify        TableMonitor (third) ─► "somebody changed them"
//! Nflog (fourth) ─► what was passed and refused
//! gate: eBPF in front of and behind each bridge, for when there is no ruleset at all
//! ```
//!
//! Everything here blocks: a batch is done when `sendmsg` returns. No `nft` is ever run.

pub mod bandwidth;
pub mod conntrack;
mod dump;
mod encode;
mod expr;
pub mod foreign;
mod foreign_rules;
pub mod gate;
mod install;
pub mod keeper;
mod monitor;
mod nf;
pub mod nflog;
mod socket;
mod standing;
mod steps;
mod sys;
mod tables;
mod tc;
mod verify;
mod wire;
mod words;

pub use bandwidth::BandwidthError;
pub use conntrack::ConntrackError;
pub use gate::GateError;
pub use keeper::KeeperError;
pub use monitor::TableMonitor;
pub use nflog::Nflog;
pub use socket::SocketError;
pub use tables::{Tables, TablesError};

/// A random number from the operating system (by way of the keys of std's hasher).
fn random() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() as u32
}
