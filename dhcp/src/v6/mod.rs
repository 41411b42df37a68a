//! IPv6 without sockets, clock or disk: router advertisements and a DHCPv6 server.
//!
//! ```text
//!  Ethernet frame ──frame──▶ Received { mac, source, to, payload }
//!     router solicitation ──▶ Advertiser ──▶ Advertisement      (RFC 4861, 8106, 8273)
//!     DHCPv6 message ──wire──▶ Relays + Message ──request──▶ Query ──▶ Responder ──▶ Outcome   (RFC 8415)
//! ```
//!
//! Both know their machines by the hardware address that a frame came from, and nothing else: the
//! zone's L2 guard drops frames with another one. Identifiers that a client chooses itself (its DUID,
//! its IAIDs) tell its leases apart and give no right to anybody's address.
//!
//! What always holds:
//!
//! - An **attached** machine has one address, known before it first asks, and in zones that are wide
//!   enough a prefix of its own (RFC 8273). It is never given anything else, nor anybody else those.
//! - Prefixes are never on-link (L=0): all traffic, also within the zone, goes by the gateway.
//! - A reply that grants or takes something leaves only after the leases it speaks of are durable.
//! - Every message that goes unanswered has a reason, a [`Silence`].
//! - What a message can make us keep is bounded: see [`wire`] for its parts and [`Config`] for leases.

mod advertiser;
mod answer;
mod config;
mod domain;
pub mod frame;
mod lease;
mod reply;
pub mod request;
mod responder;
pub mod router;
mod silence;
mod table;
pub mod wire;

pub use advertiser::{Advertisement, Advertiser};
pub use config::{Config, Delegation};
pub use lease::Lease;
pub use reply::Reply;
pub use responder::{Binding, Outcome, Responder, Source};
pub use router::RouterConfig;
pub use silence::Silence;

use std::net::Ipv6Addr;

/// The port servers and relay agents listen on (RFC 8415 §7.2).
pub const SERVER_PORT: u16 = 547;
/// The port clients listen on (RFC 8415 §7.2).
pub const CLIENT_PORT: u16 = 546;
/// All DHCP relay agents and servers on a link (RFC 8415 §7.1).
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// All nodes on a link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on a link (RFC 4291 §2.7.1).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
