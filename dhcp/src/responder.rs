//! The responder: what it knows (bindings, leases, limits) and how a message finds its way in.
//!
//! ```text
//! handle: header → trusted path? → limit → options → request → answer.rs → Outcome
//! ```

use std::net::Ipv4Addr;

use crate::bindings::Bindings;
use crate::config::ServerConfig;
use crate::error::Error;
use crate::lease::{Lease, Mac, State};
use crate::limit::{Bucket, Meter};
use crate::options::OptionTable;
use crate::pool::Pool;
use crate::reply::{self, Content, Reply};
use crate::request::{Query, Request};
use crate::reserved::Reserved;
use crate::silence::Silence;
use crate::table::Table;
use crate::tally::Tally;
use crate::wire::{Header, Options, code};

/// How a message came.
///
/// A message says itself whom it speaks for (`chaddr`), and that decides which lease it is about.
/// For what arrives on the zone's own link this is as true as the link makes it: the zone's L2 guard
/// drops a frame whose `chaddr` is not the port's address. `hardware` lets the responder check
/// that once more where the caller sees frames. For what comes through a relay agent it is true if
/// the agent can be trusted, so agents must be configured, and even they cannot speak for an
/// attached machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// UDP source address.
    pub address: Ipv4Addr,
    /// UDP destination address: the server's own, or a broadcast address.
    pub to: Ipv4Addr,
    /// The zone whose bridge it arrived on; `None` for an interface outside the zones.
    pub zone: Option<&'a str>,
    /// The Ethernet source, if known.
    pub hardware: Option<Mac>,
}

/// What is to be done about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Send the reply.
    Send(Reply),
    /// Make the lease durable, and only then send the reply.
    Commit {
        /// The lease as it is now.
        lease: Lease,
        /// The acknowledgement.
        then: Reply,
    },
    /// Make the lease durable some time soon; nobody waits for an answer.
    Record(Lease),
    /// Do nothing.
    Ignore(Silence),
}

/// The DHCPv4 server of one zone.
#[derive(Debug)]
pub struct Responder {
    pub(crate) config: ServerConfig,
    pub(crate) options: OptionTable,
    pub(crate) bindings: Bindings,
    pub(crate) table: Table,
    pub(crate) reserved: Reserved,
    tally: Tally,
    strangers: Meter<Mac>,
    relays: Meter<Ipv4Addr>,
}

impl Responder {
    /// A responder without bindings and leases.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: ServerConfig) -> Result<Self, Error> {
        config.check()?;
        let options = OptionTable::new(&config)?;
        let reserved = Reserved::new(&config)?;
        let mut table = Table::default();
        table.set_pool(config.pool.map(|(first, last)| Pool::new(first, last)));
        let (strangers, relays) = (Meter::new(config.strangers), Meter::new(config.strangers));
        Ok(Self {
            options,
            bindings: Bindings::default(),
            table,
            reserved,
            tally: Tally::default(),
            strangers,
            relays,
            config,
        })
    }

    /// Takes another configuration. Bindings and leases stay: those that no longer fit the subnet or
    /// the pool are refused when next renewed.
    ///
    /// # Errors
    /// What is wrong with it; then the old one stays.
    pub fn reconfigure(&mut self, config: ServerConfig) -> Result<(), Error> {
        config.check()?;
        let reserved = Reserved::new(&config)?;
        self.options = OptionTable::new(&config)?;
        self.reserved = reserved;
        if config.pool != self.config.pool {
            self.table
                .set_pool(config.pool.map(|(first, last)| Pool::new(first, last)));
        }
        if config.strangers != self.config.strangers {
            self.strangers = Meter::new(config.strangers);
            self.relays = Meter::new(config.strangers);
        }
        self.config = config;
        Ok(())
    }

    /// The configuration in force.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// A machine was attached: from now on `mac` has `address` and no other, and nobody else has it.
    /// The same call twice is the same as once; another address replaces the first.
    ///
    /// Returns the leases that ended by this (of the machine on other addresses, and memories of
    /// others on this one), for the caller to take out of the store.
    ///
    /// # Errors
    /// The address cannot be the machine's, or another machine has it; then nothing changed.
    pub fn bind(
        &mut self,
        mac: Mac,
        address: Ipv4Addr,
        hostname: Option<String>,
    ) -> Result<Vec<Lease>, Error> {
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return Err(Error::NotUnicast(mac));
        }
        self.config.check_host("address", address)?;
        if self.config.is_own(address) {
            return Err(Error::Own(address));
        }
        if let Some(owner) = self.bindings.owner(address).filter(|owner| *owner != mac) {
            let mac = owner;
            return Err(Error::Bound { address, mac });
        }
        let theirs = self.table.get(address).filter(|lease| lease.mac != mac);
        if let Some(lease) = theirs.filter(|lease| lease.state == State::Bound) {
            return Err(Error::Leased {
                address,
                mac: lease.mac,
                expires: lease.expires,
            });
        }

        let mut over: Vec<Ipv4Addr> = theirs.map(|lease| lease.address).into_iter().collect();
        let others = self.table.of(mac).map(|lease| lease.address);
        over.extend(others.filter(|other| *other != address));
        let mut ended = Vec::with_capacity(over.len());
        for address in over {
            ended.extend(self.table.remove(address));
        }

        let hostname = hostname.map(String::into_boxed_str);
        self.bindings.put(mac, address, hostname);
        Ok(ended)
    }

    /// A machine was detached. Returns its lease, for the caller to take out of the store; no
    /// machine need have been bound.
    pub fn unbind(&mut self, mac: Mac) -> Option<Lease> {
        let binding = self.bindings.remove(mac)?;
        self.table.remove(binding.address)
    }

    /// Takes a lease back from the store, before or after its machine is bound. Of two leases for
    /// one address the running one stays, then the one that ends later.
    ///
    /// # Errors
    /// The address cannot be leased any more, or is another machine's.
    pub fn restore(&mut self, lease: Lease) -> Result<(), Error> {
        let address = lease.address;
        self.config.check_host("leased address", address)?;
        if self.config.is_own(address) {
            return Err(Error::Own(address));
        }
        if let Some(mac) = self.bindings.owner(address).filter(|mac| *mac != lease.mac) {
            return Err(Error::Bound { address, mac });
        }
        if let Some(binding) = self
            .bindings
            .get(lease.mac)
            .filter(|b| b.address != address)
        {
            let (mac, address) = (lease.mac, binding.address);
            return Err(Error::Bound { address, mac });
        }
        if let Some(other) = self.table.get(address) {
            let rank = |lease: &Lease| (lease.state == State::Bound, lease.expires);
            if other.mac != lease.mac && rank(other) >= rank(&lease) {
                return Err(Error::Leased {
                    address,
                    mac: other.mac,
                    expires: other.expires,
                });
            }
        }
        self.table.put(lease);
        Ok(())
    }

    /// Forgets the lease of an address, as if it had never been given. For what is told by a store entry by entry;
    /// a machine that has it would lose it.
    pub fn forget(&mut self, address: Ipv4Addr) -> Option<Lease> {
        self.table.remove(address)
    }

    /// Answers a message that arrived at `now` (seconds since the epoch).
    ///
    /// A lease whose time has come but that [`Responder::expire`] has not seen yet still counts as
    /// running, so a late call can only make an address free too late, never too early.
    pub fn handle(&mut self, now: u64, packet: &[u8], from: Source<'_>) -> Outcome {
        let outcome = match self.receive(now, packet, from) {
            Ok(outcome) => outcome,
            Err(silence) => Outcome::Ignore(silence),
        };
        self.tally.count(now, &outcome);
        outcome
    }

    /// What came of all messages so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many addresses the pool has and how many of them somebody has, if there is one. Looks at every lease.
    pub fn pool_use(&self) -> Option<(u64, u64)> {
        let (first, last) = self.config.pool?;
        let all = u64::from(u32::from(last)) - u64::from(u32::from(first)) + 1; // checked: not backwards
        let inside = |lease: &&Lease| (first..=last).contains(&lease.address);
        let used = self
            .table
            .iter()
            .filter(inside)
            .filter(|lease| !lease.is_over());
        Some((all, used.count() as u64))
    }

    fn receive(&mut self, now: u64, packet: &[u8], from: Source<'_>) -> Result<Outcome, Silence> {
        let header = Header::parse(packet)?;
        if self.config.no_ipv4 {
            return self.without_ipv4(now, header, packet, from);
        }
        self.check_path(&header, from)?;
        self.check_known(header.chaddr)?;
        self.check_limit(now, &header, from)?;
        let options = Options::parse(packet)?;
        if header.is_relayed() {
            // the client's subnet is the agent's, or what the agent says it is (RFC 3527)
            let link = options.link.unwrap_or(header.giaddr);
            if !self.config.subnet.contains(&link) {
                return Err(Silence::OtherSubnet(link));
            }
        }
        let query = Query::new(header, options, from.to == self.config.server)?;
        let client = self.client(&query)?;
        self.answer(now, &query, client)
    }

    /// Where there is no IPv4: a client that looks for a server and can do without (it asks for option 108) is told to, by an
    /// offer of no address (RFC 8925 §3.3). Nothing is kept of it.
    fn without_ipv4(
        &mut self,
        now: u64,
        header: Header,
        packet: &[u8],
        from: Source<'_>,
    ) -> Result<Outcome, Silence> {
        if header.is_relayed() || from.zone != Some(&self.config.zone) {
            return Err(Silence::OtherZone);
        }
        if !from.address.is_unspecified() {
            return Err(Silence::ForeignSource(from.address));
        }
        self.check_limit(now, &header, from)?;
        let query = Query::new(header, Options::parse(packet)?, false)?;
        let asked = query.options.parameters.as_ref();
        let asked = asked.and_then(|list| list.as_slice()).unwrap_or_default();
        match query.request {
            Request::Discover { .. } if asked.contains(&code::IPV6_ONLY) => {
                let content = Content {
                    lease: Some(self.config.lease_seconds(None)),
                    ..Content::default()
                };
                let (config, options) = (&self.config, &self.options);
                let offer = reply::build(config, options, &query, reply::Kind::Offer, &content)?;
                Ok(Outcome::Send(offer))
            }
            _ => Err(Silence::NoIpv4),
        }
    }

    /// Whether the message came by a way on which its `chaddr` can be believed.
    fn check_path(&self, header: &Header, from: Source<'_>) -> Result<(), Silence> {
        let mac = header.chaddr;
        let ours = from.zone == Some(&self.config.zone);
        if header.is_relayed() {
            let agent = |ip: Ipv4Addr| self.config.relays.iter().any(|net| net.contains(&ip));
            if !agent(from.address) || !agent(header.giaddr) {
                return Err(Silence::UnknownRelay {
                    source: from.address,
                    giaddr: header.giaddr,
                });
            }
            if from.zone.is_some() && !ours {
                return Err(Silence::OtherZone);
            }
            if self.bindings.get(mac).is_some() {
                return Err(Silence::AttachedBehindRelay(mac));
            }
            return Ok(());
        }
        if !ours {
            return Err(Silence::OtherZone);
        }
        if let Some(hardware) = from.hardware.filter(|hardware| *hardware != mac) {
            return Err(Silence::ForeignHardware(hardware));
        }
        // before it has an address a client sends from 0.0.0.0, later from that address
        let own = |ip| {
            ip == Ipv4Addr::UNSPECIFIED
                || ip == header.ciaddr
                || self.bindings.get(mac).is_some_and(|b| b.address == ip)
                || self.table.get(ip).is_some_and(|lease| lease.mac == mac)
        };
        if !own(from.address) {
            return Err(Silence::ForeignSource(from.address));
        }
        Ok(())
    }

    fn check_limit(&mut self, now: u64, header: &Header, from: Source<'_>) -> Result<(), Silence> {
        let mac = header.chaddr;
        let limit = self.config.machine_limit;
        let heard = if header.is_relayed() {
            let limit = self.config.relay_limit;
            self.relays.take(now, from.address, limit)
        } else if let Some(binding) = self.bindings.get_mut(mac) {
            binding
                .bucket
                .get_or_insert_with(|| Bucket::full(now, limit))
                .take(now, limit)
        } else {
            self.strangers.take(now, mac, limit)
        };
        if heard {
            Ok(())
        } else {
            Err(Silence::RateLimited(mac))
        }
    }

    /// When to call [`Responder::expire`] next, in seconds since the epoch. `None`: not before
    /// another message was handled.
    pub fn next_deadline(&self) -> Option<u64> {
        self.table.next_deadline()
    }

    /// Ends what has run out by `now`, and returns the leases that are to be recorded as
    /// [`State::Expired`]. Unclaimed offers end too but were never durable. A call that comes early
    /// does nothing.
    pub fn expire(&mut self, now: u64) -> Vec<Lease> {
        let mut ended = Vec::new();
        while let Some(lease) = self.table.due(now) {
            let mut lease = lease.clone();
            let was = std::mem::replace(&mut lease.state, State::Expired);
            match was {
                State::Offered => {
                    self.table.remove(lease.address);
                    continue;
                }
                // a quarantine ends without a memory of who was there: it is nobody's address
                State::Declined if !self.is_fixed(lease.address) => {
                    self.table.remove(lease.address);
                }
                _ => self.remember(lease.clone()),
            }
            ended.push(lease);
        }
        ended
    }

    /// Keeps a lease that is over as a memory, where the machine can have the address again.
    pub(crate) fn remember(&mut self, lease: Lease) {
        if self.is_fixed(lease.address) || self.table.in_pool(lease.address) {
            self.table.put(lease);
        } else {
            self.table.remove(lease.address);
        }
    }

    /// Whether an address is one machine's whatever happens.
    fn is_fixed(&self, address: Ipv4Addr) -> bool {
        self.bindings.owner(address).is_some() || self.reserved.contains(address)
    }

    /// All leases by address, offers and memories included.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.table.iter()
    }

    /// The same from an address on, that one included.
    pub fn leases_from(&self, first: Ipv4Addr) -> impl Iterator<Item = &Lease> {
        self.table.iter_from(first)
    }

    /// The lease of an address.
    pub fn lease(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.table.get(address)
    }
}
