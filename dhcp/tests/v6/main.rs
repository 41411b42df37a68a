//! IPv6 on a virtual clock: what a machine says, when, and what it is told. Answers are read with
//! dhcproto, which the crate itself does not use for DHCPv6 (it decodes options within options to any
//! depth, and a relayed message as another relay's), so that a mistake in its own writing shows.
#![allow(clippy::unwrap_used)]

mod garbage;
mod guests;
mod relays;
mod rfc8415;
mod router;
mod world;
