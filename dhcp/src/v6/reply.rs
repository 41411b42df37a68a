//! Answers: what is in them, and the wrappings of the relay agents that the question came through.

use std::net::Ipv6Addr;

use super::config::Config;
use super::request::Query;
use super::responder::Source;
use super::wire::{Relay, Writer, kind, option, status};
use super::{CLIENT_PORT, SERVER_PORT};
use crate::error::Error;
use crate::lease::Mac;

/// An answer, as the payload of a UDP datagram from [`SERVER_PORT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The payload.
    pub bytes: Vec<u8>,
    /// Where the question came from.
    pub to: Ipv6Addr,
    /// Its port: a client's, or a relay agent's.
    pub port: u16,
    /// The hardware address that the question came from.
    pub mac: Mac,
}

/// Options that clients ask for, encoded once.
#[derive(Debug, Clone)]
pub(super) struct Asked(Vec<(u16, Vec<u8>)>);

/// How long what is told without an address is good for, in seconds (RFC 8415 §21.23): a tenth of the
/// default, as these networks change with an edit of a file.
const REFRESH: u32 = 8640;

impl Asked {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let mut options = config.extra.clone();
        let has = |options: &[(u16, Vec<u8>)], code| options.iter().any(|(c, _)| *c == code);
        if !config.dns.is_empty() && !has(&options, option::DNS) {
            let octets = config.dns.iter().flat_map(|ip| ip.octets());
            options.push((option::DNS, octets.collect()));
        }
        if !config.search.is_empty() && !has(&options, option::SEARCH) {
            let names = super::domain::encode(config.search.iter().map(String::as_str))?;
            options.push((option::SEARCH, names));
        }
        Ok(Self(options))
    }

    /// The options a client asked for; a client that asks for none gets names and resolvers.
    pub(super) fn write(&self, w: &mut Writer, query: &Query<'_>) {
        for (code, value) in &self.0 {
            let usual = matches!(*code, option::DNS | option::SEARCH);
            if query.asked.contains(code) || (query.asked.is_empty() && usual) {
                w.option(*code, value);
            }
        }
    }
}

/// The beginning of every answer: who asked, and who answers.
pub(super) fn begin(kind: u8, query: &Query<'_>, config: &Config) -> Writer {
    let mut w = Writer::message(kind, query.xid);
    if !query.client.is_empty() {
        w.option(option::CLIENT_ID, query.client);
    }
    w.option(option::SERVER_ID, &config.duid);
    w
}

/// RFC 8415 §18.4: a client that was not told so may not send to the server's address.
pub(super) fn use_multicast(query: &Query<'_>, config: &Config) -> Writer {
    let mut w = begin(kind::REPLY, query, config);
    w.status(status::USE_MULTICAST, "send to ff02::1:2");
    w
}

/// What is told without an address (RFC 8415 §18.3.6).
pub(super) fn inform(query: &Query<'_>, config: &Config, asked: &Asked) -> Writer {
    let mut w = begin(kind::REPLY, query, config);
    asked.write(&mut w, query);
    if query.asked.contains(&option::REFRESH_TIME) {
        w.option(option::REFRESH_TIME, &REFRESH.to_be_bytes());
    }
    w
}

/// Wraps an answer for each relay agent, innermost first (RFC 8415 §19.3).
pub(super) fn address(mut w: Writer, relays: &[Relay<'_>], from: &Source<'_>) -> Reply {
    for relay in relays.iter().rev() {
        let mut outer = Writer(vec![kind::RELAY_REPL, relay.hops]);
        outer.0.extend_from_slice(&relay.link.octets());
        outer.0.extend_from_slice(&relay.peer.octets());
        if let Some(id) = relay.interface_id {
            outer.option(option::INTERFACE_ID, id);
        }
        outer.option(option::RELAY_MSG, &w.0);
        w = outer;
    }
    let port = match relays {
        [] => CLIENT_PORT,
        _ => SERVER_PORT,
    };
    Reply {
        bytes: w.0,
        to: from.address,
        port,
        mac: from.mac,
    }
}
