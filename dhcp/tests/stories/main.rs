//! Stories on a virtual clock: what a client says, when, and what it is told. Messages are made and
//! read with dhcproto's owned types, which the crate itself does not use, so that a mistake in its
//! own reading and writing shows.
#![allow(clippy::unwrap_used)]

mod attached;
mod config;
mod fqdn;
mod garbage;
mod guests;
mod options;
mod relay;
mod reservations;
mod rfc_tables;
mod spoofing;
mod table_3;
mod tally;
mod world;
