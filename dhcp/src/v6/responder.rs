//! The responder: what it knows (bindings, leases, limits) and how a message finds its way in.
//!
//! ```text
//! handle: zone? → relay agents → trusted? → limit → options → request → answer.rs → Outcome
//! ```

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::answer::Who;
use super::config::Config;
use super::lease::Lease;
use super::reply::{self, Asked, Reply};
use super::request::{Query, Request};
use super::silence::Silence;
use super::table::Table;
use super::wire::{Message, Relay, unwrap_relays};
use crate::error::Error;
use crate::lease::{Mac, State};
use crate::limit::{Bucket, Meter};

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// UDP source address.
    pub address: Ipv6Addr,
    /// UDP destination address: [`super::ALL_SERVERS`] or one of the server's own.
    pub to: Ipv6Addr,
    /// The Ethernet source. The zone's L2 guard lets no other than the port's own in.
    pub mac: Mac,
    /// The zone whose bridge it arrived on; `None` for an interface outside the zones.
    pub zone: Option<&'a str>,
}

/// An attached machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Its one address.
    pub address: Ipv6Addr,
    /// The prefix of its own that it may make more addresses in (RFC 8273).
    pub prefix: Option<Ipv6Net>,
}

impl Binding {
    /// Whether an address is the machine's.
    pub(super) fn has(&self, address: Ipv6Addr) -> bool {
        self.address == address || self.prefix.is_some_and(|net| net.contains(&address))
    }
}

#[derive(Debug)]
pub(super) struct Attached {
    pub(super) binding: Binding,
    bucket: Option<Bucket>,
}

/// What is to be done about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Send the reply.
    Send(Reply),
    /// Make the leases durable, and only then send the reply.
    Commit {
        /// As they are now.
        leases: Vec<Lease>,
        /// The answer.
        then: Reply,
    },
    /// Do nothing.
    Ignore(Silence),
}

/// The DHCPv6 server of one zone.
#[derive(Debug)]
pub struct Responder {
    pub(super) config: Config,
    pub(super) asked: Asked,
    pub(super) attached: BTreeMap<Mac, Attached>,
    pub(super) owners: BTreeMap<Ipv6Addr, Mac>,
    pub(super) table: Table,
    strangers: Meter<Mac>,
    relays: Meter<Ipv6Addr>,
}

impl Responder {
    /// A responder without bindings and leases.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            asked: Asked::new(&config)?,
            attached: BTreeMap::new(),
            owners: BTreeMap::new(),
            table: Table::default(),
            strangers: Meter::new(config.strangers),
            relays: Meter::new(config.strangers),
            config,
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A machine was attached: from now on it has this address and no other, and nobody else has it. The
    /// same call twice is the same as once; another binding replaces the first. Returns leases that
    /// ended by this, for the caller to take out of the store.
    ///
    /// # Errors
    /// The address cannot be the machine's, or another machine has it; then nothing changed.
    pub fn bind(&mut self, mac: Mac, binding: Binding) -> Result<Vec<Lease>, Error> {
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return Err(Error::NotUnicast(mac));
        }
        let (address, subnet) = (binding.address, self.config.subnet);
        if !subnet.contains(&address) {
            return Err(Error::Outside6 { address, subnet });
        }
        if let Some(&mac) = self.owners.get(&address).filter(|owner| **owner != mac) {
            return Err(Error::Bound6 { address, mac });
        }
        let net = Ipv6Net::from(address);
        let mut over: Vec<Ipv6Net> = self
            .table
            .of_mac(mac)
            .filter(|lease| !lease.is_prefix() && lease.net != net)
            .map(|lease| lease.net)
            .collect();
        // a guest's lease of what is now somebody's own
        over.extend(self.table.get(net).filter(|l| l.mac != mac).map(|l| l.net));
        let ended = over.into_iter().filter_map(|net| self.table.remove(net));
        let ended = ended.collect();
        let bucket = self.take_binding(mac).and_then(|old| old.bucket);
        self.owners.insert(address, mac);
        self.attached.insert(mac, Attached { binding, bucket });
        Ok(ended)
    }

    fn take_binding(&mut self, mac: Mac) -> Option<Attached> {
        let old = self.attached.remove(&mac)?;
        self.owners.remove(&old.binding.address);
        Some(old)
    }

    /// A machine was detached. Returns its leases, for the caller to take out of the store.
    pub fn unbind(&mut self, mac: Mac) -> Vec<Lease> {
        if self.take_binding(mac).is_none() {
            return Vec::new();
        }
        let nets: Vec<Ipv6Net> = self.table.of_mac(mac).map(|lease| lease.net).collect();
        nets.into_iter()
            .filter_map(|net| self.table.remove(net))
            .collect()
    }

    /// Takes a lease back from the store; false where nobody can have it any more. Attached machines are
    /// to be bound first.
    pub fn restore(&mut self, lease: Lease) -> bool {
        let fits = if lease.is_prefix() {
            self.attached.contains_key(&lease.mac)
                && self.config.delegation.is_some_and(|d| {
                    d.range.contains(&lease.net) && d.length == lease.net.prefix_len()
                })
        } else {
            match self.owners.get(&lease.net.addr()) {
                Some(owner) => *owner == lease.mac,
                None => self.config.in_pool(lease.net.addr()),
            }
        };
        if fits {
            self.table.put(lease);
        }
        fits
    }

    /// Answers a message that arrived at `now` (seconds since the epoch).
    pub fn handle(&mut self, now: u64, packet: &[u8], from: Source<'_>) -> Outcome {
        match self.receive(now, packet, from) {
            Ok(outcome) => outcome,
            Err(silence) => Outcome::Ignore(silence),
        }
    }

    fn receive(&mut self, now: u64, packet: &[u8], from: Source<'_>) -> Result<Outcome, Silence> {
        if from.zone != Some(&self.config.zone) {
            return Err(Silence::OtherZone);
        }
        let (relays, packet) = unwrap_relays(packet)?;
        let who = match relays.as_slice() {
            [] => self.direct(now, &from)?,
            relays => self.relayed(now, &from, relays)?,
        };
        let query = Query::new(Message::parse(packet)?, &self.config.duid)?;
        if relays.is_empty() && !from.to.is_multicast() {
            if query.only_to_group() {
                return Err(Silence::Unicast);
            }
            let refused = reply::use_multicast(&query, &self.config);
            return Ok(Outcome::Send(reply::address(refused, &relays, &from)));
        }
        if query.request == Request::Inform {
            let told = reply::inform(&query, &self.config, &self.asked);
            return Ok(Outcome::Send(reply::address(told, &relays, &from)));
        }
        let (w, leases) = self.answer(now, &query, &who)?;
        let then = reply::address(w, &relays, &from);
        Ok(match leases.is_empty() {
            true => Outcome::Send(then),
            false => Outcome::Commit { leases, then },
        })
    }

    /// A message from the client itself.
    fn direct(&mut self, now: u64, from: &Source<'_>) -> Result<Who, Silence> {
        let mac = from.mac;
        let limit = self.config.machine_limit;
        let (who, heard) = match self.attached.get_mut(&mac) {
            Some(attached) => {
                let bucket = &mut attached.bucket;
                let bucket = bucket.get_or_insert_with(|| Bucket::full(now, limit));
                let who = Who::Attached(mac, attached.binding);
                (who, bucket.take(now, limit))
            }
            None if self.config.pool.is_none() => return Err(Silence::Unattached(mac)),
            None => (Who::Guest(mac), self.strangers.take(now, mac, limit)),
        };
        if !heard {
            return Err(Silence::RateLimited(mac));
        }
        // clients send from their link-local address (RFC 8415 §13.1); some that have another and
        // were told to use the group use that
        let own = |address: Ipv6Addr| match &who {
            Who::Attached(_, binding) => binding.has(address),
            Who::Guest(_) | Who::Relayed(_) => self
                .table
                .get(address.into())
                .is_some_and(|lease| lease.mac == mac),
        };
        match from.address {
            address if address.is_unicast_link_local() || own(address) => Ok(who),
            address => Err(Silence::ForeignSource(address)),
        }
    }

    /// A message through relay agents. They are believed about links, and their clients are guests: an
    /// attached machine is on the zone's own link.
    fn relayed(
        &mut self,
        now: u64,
        from: &Source<'_>,
        relays: &[Relay<'_>],
    ) -> Result<Who, Silence> {
        let agent = from.address;
        if !self.config.relays.iter().any(|net| net.contains(&agent)) {
            return Err(Silence::UnknownRelay(agent));
        }
        let limit = self.config.relay_limit;
        if !self.relays.take(now, agent, limit) {
            return Err(Silence::RateLimited(from.mac));
        }
        // the one nearest to the client that knows (RFC 8415 §13.1)
        let known = relays.iter().rev().map(|relay| relay.link);
        let link = known.into_iter().find(|link| !link.is_unspecified());
        match link {
            Some(link) if !self.config.subnet.contains(&link) => Err(Silence::OtherLink(link)),
            _ => Ok(Who::Relayed(from.mac)),
        }
    }

    /// When to call [`Responder::expire`] next, in seconds since the epoch. `None`: not before another
    /// message was handled.
    pub fn next_deadline(&self) -> Option<u64> {
        self.table.next_deadline()
    }

    /// Ends what has run out by `now`, and returns the leases that are to be recorded as
    /// [`State::Expired`]. A call that comes early does nothing.
    pub fn expire(&mut self, now: u64) -> Vec<Lease> {
        let mut ended = Vec::new();
        while let Some(net) = self.table.due(now) {
            let Some(mut lease) = self.table.remove(net) else {
                break;
            };
            lease.state = State::Expired;
            ended.push(lease);
        }
        ended
    }

    /// All leases in the order of their networks.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.table.iter()
    }

    /// The lease of an address (a /128) or a delegated prefix.
    pub fn lease(&self, net: Ipv6Net) -> Option<&Lease> {
        self.table.get(net)
    }

    /// The running leases of a machine.
    pub fn leases_of(&self, mac: Mac) -> impl Iterator<Item = &Lease> {
        let bound = |lease: &&Lease| lease.state == State::Bound;
        self.table.of_mac(mac).filter(bound)
    }
}
