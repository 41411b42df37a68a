//! The resolver of the zones, without sockets, clock or randomness: time and messages are arguments, answers are return
//! values.
//!
//! ```text
//!  bytes ──query──▶ Query ──local──▶ who is it? (directory) ───────────────▶ Outcome::Answer
//!  (wire)  (one question,    │       special names, private reverse zones
//!           RFC 1035, 6891)  │
//!                            └─▶ may it leave? (egress) ──▶ cache ─────────▶ Outcome::Answer
//!                                                           │
//!          reply ◀── upstream's bytes ◀── forwarder ◀───────┘ Outcome::Ask, Wait
//!            └──▶ Progress::Done: replies to all who waited, and what they open
//! ```
//!
//! One [`Resolver`] serves all zones of a host. What always holds:
//!
//! - Only a container is answered, by its address on its zone's bridge.
//! - A container learns the names of its own zone's containers; others' only where the caller says so ([`Policy::reaches`]).
//! - A query leaves the host only if the container's policy can use an answer ([`Egress`]), and never about names that
//!   mean something here alone: those of the zones, of private address space, `localhost`, `local`, of one label.
//! - What answers open ([`Opens`]) are addresses of the world, for names that the container's own rules are about.
//! - A query that is forwarded is answered within [`Config::patience`], by SERVFAIL if need be.
//! - Memory is bounded: by the budget of the cache, the number of questions under way, and the containers there are.
//! - No zone learns from the cache what another one asked.
//!
//! ```
//! use std::sync::Arc;
//!
//! use dns::{Client, Config, Container, Egress, Outcome, Policy, Resolver, Transport, Zone};
//!
//! struct Closed;
//!
//! impl Policy for Closed {
//!     fn reaches(&mut self, _asker: &str, _other: &str) -> bool {
//!         false
//!     }
//!     fn egress(&mut self, _container: &str) -> Arc<Egress> {
//!         Arc::new(Egress::nothing())
//!     }
//! }
//!
//! let mut resolver: Resolver<u32> = Resolver::new(Config::default(), Box::new(|| 4));
//! resolver.set_zone(Zone {
//!     name: "dmz".into(),
//!     domain: "dmz.internal".parse()?,
//!     gateways: vec!["10.89.0.1".parse()?],
//!     subnets: vec!["10.89.0.0/24".parse()?],
//!     upstream: vec![],
//!     domains: vec![],
//! });
//! resolver.attach(0, Container {
//!     name: "web".into(),
//!     zone: "dmz".into(),
//!     hostnames: vec!["web".into()],
//!     addresses: vec!["10.89.0.2".parse()?],
//! })?;
//!
//! let from = Client { zone: "dmz", address: "10.89.0.2".parse()?, over: Transport::Udp };
//! let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";
//! match resolver.handle(0, from, &7, query, &mut Closed) {
//!     Outcome::Answer(message) => assert!(message.bytes.ends_with(&[10, 89, 0, 2])),
//!     Outcome::Ask(query) => { /* to query.server, from a new socket */ }
//!     Outcome::Wait => {}
//!     Outcome::Ignore(silence) => println!("not answered: {silence}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod cache;
mod config;
mod directory;
mod egress;
mod error;
mod flight;
mod forwarder;
mod frames;
mod limit;
mod local;
mod name;
mod opens;
mod outcome;
mod query;
mod reply;
mod resolver;
mod reverse;
mod servers;
mod silence;
mod special;
mod wire;

pub use config::{Config, Counters};
pub use directory::{Container, Zone};
pub use egress::{Egress, Pattern, Policy};
pub use error::Error;
pub use flight::{Attempt, UpstreamQuery};
pub use frames::Frames;
pub use limit::Limit;
pub use name::Name;
pub use outcome::{Client, Message, Opens, Outcome, Progress, Reply};
pub use resolver::Resolver;
pub use silence::Silence;

/// Milliseconds by some clock that does not go back.
pub type Millis = u64;

/// Seconds that an address of a name is open for at most, and so for which a container is told that such an answer holds.
/// An hour: who keeps a connection open for longer goes on with it, and who opens a new one asks again.
pub const LONGEST_OPEN: u32 = 3600;

/// The port of resolvers.
pub const PORT: u16 = 53;

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Alone, and small.
    Udp,
    /// In a stream, with its length in front ([`Frames`]).
    Tcp,
}
