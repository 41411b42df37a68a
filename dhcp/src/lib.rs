//! A DHCPv4 server without sockets, clock or disk: time and packets are arguments, replies are
//! return values.
//!
//! ```text
//!  bytes ──wire──▶ Header + Options ──request──▶ Query { Request, … } ──responder──▶ Outcome
//!                  (checked, RFC 2131 §2)        (RFC 2131 table 4,     │             Send(Reply)
//!                                                 no illegal states)    │             Commit { lease, then }
//!                                     bindings · leases · pool ◀────────┘             Record(lease)
//!                                                                                     Ignore(Silence)
//! ```
//!
//! One [`Responder`] serves one zone. What always holds:
//!
//! - An **attached** machine (see [`Responder::bind`]) has one address, known before it first asks.
//!   It is given that one in every exchange and refused every other.
//! - No message changes, or tells about, the lease of another hardware address. What that rests on
//!   is written at [`Source`].
//! - An acknowledgement leaves only after the lease it speaks of is durable: it comes inside
//!   [`Outcome::Commit`] and the caller sends it once the lease is on disk.
//! - Every message that goes unanswered has a reason, a [`Silence`].
//! - Cost and memory per message do not depend on how many leases there are but by a logarithm, and
//!   memory for machines nobody attached is bounded by the size of the pool.
//!
//! ```
//! use dhcp::{Outcome, Responder, ServerConfig, Source};
//!
//! let config = ServerConfig::new("dmz", [10, 89, 0, 1].into(), "10.89.0.0/24".parse()?);
//! let mut dhcp = Responder::new(config)?;
//! dhcp.bind([2, 0, 0, 0, 0, 1], [10, 89, 0, 2].into(), Some("web".into()))?;
//!
//! # let (now, packet) = (1_000_000, [0u8; 300]);
//! # let source = Source { address: [0; 4].into(), to: [255; 4].into(), zone: Some("dmz"), hardware: None };
//! match dhcp.handle(now, &packet, source) {
//!     Outcome::Send(reply) => { /* to reply.to */ }
//!     Outcome::Commit { lease, then } => { /* lease to disk, then the reply */ }
//!     Outcome::Record(lease) => { /* lease to disk */ }
//!     Outcome::Ignore(silence) => println!("not answered: {silence}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Durable leases are keyed by address: a lease replaces whatever the store has for its address.

mod answer;
mod bindings;
mod config;
mod error;
mod fqdn;
pub mod frame;
mod lease;
mod limit;
mod options;
mod pages;
mod pool;
mod reply;
pub mod request;
mod reserved;
mod responder;
mod silence;
mod table;
mod tally;
pub mod v6;
pub mod wire;

pub use config::{Extra, Reservation, ServerConfig, When, Who};
pub use error::Error;
pub use lease::{HardwareAddress, Lease, Mac, State};
pub use limit::Limit;
pub use reply::{Destination, Kind, Reply};
pub use responder::{Outcome, Responder, Source};
pub use silence::Silence;
pub use tally::{Silent, Tally};

/// The port servers and relay agents listen on.
pub const SERVER_PORT: u16 = dhcproto::v4::SERVER_PORT;
/// The port clients listen on.
pub const CLIENT_PORT: u16 = dhcproto::v4::CLIENT_PORT;
