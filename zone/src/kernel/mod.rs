//! The kernel's side of zones: namespaces, links, routes, forwarding, and news of links.
//!
//! ```text
//! plan::Step ──encode──► netlink messages ──socket──► one send, one ack
//!                                              └─ wire ◄── dumps, news, extended acks
//! ```
//!
//! All calls block, on sockets that stay open; an attach is well under a millisecond. Everything
//! acts in the network namespace of the thread that called [`Links::open`].

mod apart;
mod bridge;
mod check;
mod encode;
mod error;
mod extra;
mod foreign;
mod forwarding;
mod inside;
mod links;
mod look;
mod monitor;
mod neighbours;
mod netns;
mod reap;
mod socket;
mod stranger;
mod survey;
mod sys;
mod sysctl;
mod ways;
mod wire;

pub use apart::Apart;
pub use check::Flaw;
pub use error::{KernelError, LinkError};
pub use extra::Extra;
pub use foreign::Inside;
pub use forwarding::{Forwarding, SysctlChange};
pub use links::{Links, Port};
pub use look::PortLook;
pub use monitor::{LinkEvent, Monitor};
pub use netns::Netns;
pub use reap::reap;
pub use stranger::{Peer, Stranger};
pub use survey::PortState;
pub use ways::Ways;
pub use wire::PortFlags;
