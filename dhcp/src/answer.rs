//! RFC 2131 §4.3: what each message is answered with.
//!
//! Three kinds of machine ask. One that is **attached** has its one address by its hardware address
//! ("manual allocation", §1), whatever client identifier it gives. One with a **reservation** has one by what
//! the configuration says of its hardware address or its client identifier. A **guest** is served from the pool
//! ("dynamic allocation"): it is known by its client identifier (§4.2), but only among those used
//! from the same hardware address. By the letter of the RFC an identifier alone would do; then
//! anybody could get, renew and release the lease of whose identifier he knows.

use std::net::Ipv4Addr;

use crate::bindings::Bindings;
use crate::config::ServerConfig;
use crate::fqdn::Fqdn;
use crate::lease::{Lease, Mac, State};
use crate::reply::{self, Content, Destination, Kind};
use crate::request::{Claim, Query, Request};
use crate::reserved::Reserved;
use crate::responder::{Outcome, Responder};
use crate::silence::Silence;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client {
    /// A machine that was attached, with its address.
    Attached(Ipv4Addr),
    /// One that was not, and for which an address is kept.
    Reserved(Ipv4Addr),
    /// Another.
    Guest,
}

impl Client {
    /// The one address it can have, if there is one.
    fn own(self) -> Option<Ipv4Addr> {
        match self {
            Self::Attached(address) | Self::Reserved(address) => Some(address),
            Self::Guest => None,
        }
    }
}

impl Responder {
    pub(crate) fn answer(
        &mut self,
        now: u64,
        query: &Query,
        client: Client,
    ) -> Result<Outcome, Silence> {
        match query.request {
            Request::Discover { wanted, rapid } => self.discover(now, query, client, wanted, rapid),
            Request::Request(claim) => self.request(now, query, client, claim),
            Request::Decline { server, address } => {
                let lease = self.running(query, client, server, address)?;
                Ok(Outcome::Record(self.decline(now, lease)))
            }
            Request::Release { server, address } => {
                let lease = self.running(query, client, server, address)?;
                self.release(now, lease).map(Outcome::Record)
            }
            Request::Inform { address } => self.inform(query, client, address),
        }
    }

    /// Whether a machine can get an answer at all: the first question, before anything is kept about it.
    pub(crate) fn check_known(&self, mac: Mac) -> Result<(), Silence> {
        let guests = self.table.has_pool() || !self.reserved.is_empty();
        match self.bindings.get(mac) {
            None if !guests => Err(Silence::Unattached(mac)),
            _ => Ok(()),
        }
    }

    pub(crate) fn client(&self, query: &Query) -> Result<Client, Silence> {
        let mac = query.header.chaddr;
        if let Some(binding) = self.bindings.get(mac) {
            return Ok(Client::Attached(binding.address));
        }
        match self.reserved.of(mac, query.client_id()) {
            Some(kept) => {
                // An attached machine may have it, or somebody from before it was reserved, or who gave the same
                // client identifier: until that ends it is theirs.
                let address = kept.address;
                let bound = self.bindings.owner(address).is_some();
                let lease = self.table.get(address).filter(|lease| !lease.is_over());
                if bound || lease.is_some_and(|lease| lease.mac != mac) {
                    return Err(Silence::NotYours(address));
                }
                Ok(Client::Reserved(address))
            }
            None if self.table.has_pool() => Ok(Client::Guest),
            None => Err(Silence::Unattached(mac)),
        }
    }

    /// §4.3.1
    fn discover(
        &mut self,
        now: u64,
        query: &Query,
        client: Client,
        wanted: Option<Ipv4Addr>,
        rapid: bool,
    ) -> Result<Outcome, Silence> {
        let address = match client {
            // whatever it wanted: it has this one
            Client::Attached(address) | Client::Reserved(address) => address,
            Client::Guest => self.choose(query, wanted)?,
        };
        if rapid && self.config.rapid_commit {
            return self.grant(now, query, address, true);
        }
        // a machine's one address is its own without an entry, and a lease that is running does not
        // become an offer
        if let Client::Guest = client
            && self
                .table
                .get(address)
                .is_none_or(|lease| lease.state != State::Bound)
        {
            let until = now.saturating_add(self.config.offer_hold.as_secs());
            self.table
                .put(self.lease_for(query, address, State::Offered, until));
        }
        let content = Content {
            yiaddr: Some(address),
            lease: Some(self.config.lease_seconds(query.options.lease_time)),
            ..self.names_of(query)
        };
        self.reply(query, Kind::Offer, &content).map(Outcome::Send)
    }

    /// §4.3.1: the address a guest has, or had, or wants, or the next one. An address found here is
    /// promised at once: `pick` has taken it out of the pool.
    fn choose(&mut self, query: &Query, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, Silence> {
        if let Some(lease) = self.held_by(query) {
            return Ok(lease.address);
        }
        self.make_room(query.header.chaddr)?;
        if let Some(wanted) = wanted.filter(|wanted| self.is_available(*wanted)) {
            return Ok(wanted);
        }
        let (bindings, reserved, config) = (&self.bindings, &self.reserved, &self.config);
        let found = self
            .table
            .pick(|address| is_taken(bindings, reserved, config, address));
        found.ok_or(Silence::PoolExhausted)
    }

    /// The leases of exactly this client: same hardware address, same identifier. What it declined
    /// is no longer its own.
    fn leases_of<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = &'a Lease> {
        self.table.of(query.header.chaddr).filter(|lease| {
            lease.client_id.as_deref() == query.client_id() && lease.state != State::Declined
        })
    }

    /// The one of them that it can keep. (Another may be left over from before the pool was changed.)
    fn held_by<'a>(&'a self, query: &'a Query) -> Option<&'a Lease> {
        self.leases_of(query).find(|lease| {
            self.table.in_pool(lease.address) && !self.reserved.contains(lease.address)
        })
    }

    /// One hardware address may have several leases under several identifiers (a boot loader, then
    /// a system), but not the whole pool. Memories give way.
    fn make_room(&mut self, mac: Mac) -> Result<(), Silence> {
        while self.table.of(mac).count() >= self.config.leases_per_machine {
            let oldest = self.table.of(mac).filter(|lease| lease.is_over());
            let oldest = oldest.min_by_key(|lease| lease.expires);
            let address = oldest.ok_or(Silence::TooManyLeases(mac))?.address;
            self.table.remove(address);
        }
        Ok(())
    }

    /// Whether a guest can have this address.
    fn is_available(&self, address: Ipv4Addr) -> bool {
        self.table.in_pool(address)
            && self.table.is_free(address)
            && !is_taken(&self.bindings, &self.reserved, &self.config, address)
    }

    /// §4.3.2
    fn request(
        &mut self,
        now: u64,
        query: &Query,
        client: Client,
        claim: Claim,
    ) -> Result<Outcome, Silence> {
        if let Claim::Selecting { server, .. } = claim
            && server != self.config.server
        {
            // §3.1.4: it declined our offer by taking another
            if let Some(offer) = self.held_by(query).filter(|l| l.state == State::Offered) {
                let address = offer.address;
                self.table.remove(address);
            }
            return Err(Silence::OtherServer(server));
        }
        let address = claim.address();
        let granted = match client {
            Client::Attached(own) | Client::Reserved(own) => address == own,
            // "is on the wrong network … SHOULD send a DHCPNAK", also without a record
            Client::Guest if !self.config.subnet.contains(&address) => false,
            Client::Guest => match self.held_by(query) {
                Some(lease) => lease.address == address,
                None if matches!(claim, Claim::InitReboot { .. }) => return Err(Silence::NoRecord),
                // the offer ran out, or we forgot: nobody else has it, so why not
                None => {
                    self.make_room(query.header.chaddr)?;
                    self.is_available(address)
                }
            },
        };
        if granted {
            self.grant(now, query, address, false)
        } else {
            let content = Content {
                // the same words whoever has it, and whether anybody has
                message: Some("this address is not yours to use here"),
                ..Content::default()
            };
            self.reply(query, Kind::Nak, &content).map(Outcome::Send)
        }
    }

    /// Gives or prolongs a lease.
    fn grant(
        &mut self,
        now: u64,
        query: &Query,
        address: Ipv4Addr,
        rapid: bool,
    ) -> Result<Outcome, Silence> {
        let seconds = self.config.lease_seconds(query.options.lease_time);
        let content = Content {
            yiaddr: Some(address),
            lease: Some(seconds),
            rapid,
            ..self.names_of(query)
        };
        let then = self.reply(query, Kind::Ack, &content)?;
        let expires = now.saturating_add(seconds.into());
        let lease = self.lease_for(query, address, State::Bound, expires);
        self.table.put(lease.clone());
        Ok(Outcome::Commit { lease, then })
    }

    /// §4.3.3. An address of the pool then rests. An attached machine's is recorded as declined and
    /// offered again when next asked for: it has no other, the address is unique by construction, so
    /// that who declines it hurts nobody but himself (and not often: he is rate-limited).
    fn decline(&mut self, now: u64, mut lease: Lease) -> Lease {
        lease.state = State::Declined;
        lease.expires = now.saturating_add(self.config.decline_hold.as_secs());
        self.table.put(lease.clone());
        lease
    }

    /// §4.3.4. The address stays the machine's own if it is attached; a guest finds it again if
    /// nobody else needed it.
    fn release(&mut self, now: u64, mut lease: Lease) -> Result<Lease, Silence> {
        if lease.state == State::Offered {
            return Err(Silence::NoRecord); // it was never taken
        }
        lease.state = State::Released;
        lease.expires = now;
        self.remember(lease.clone());
        Ok(lease)
    }

    /// The sender's own lease or offer of `address`, given by `server`.
    fn running(
        &self,
        query: &Query,
        client: Client,
        server: Ipv4Addr,
        address: Ipv4Addr,
    ) -> Result<Lease, Silence> {
        let mac = query.header.chaddr;
        if server != self.config.server {
            return Err(Silence::OtherServer(server));
        }
        let lease = match client.own() {
            Some(own) if own != address => return Err(Silence::NotYours(address)),
            Some(own) => self.table.get(own).filter(|lease| lease.mac == mac),
            None => self.leases_of(query).find(|lease| lease.address == address),
        };
        lease
            .filter(|lease| matches!(lease.state, State::Bound | State::Offered))
            .cloned()
            .ok_or(Silence::NoRecord)
    }

    /// §4.3.5: everything but an address and a lease time. There need be no lease, but the answer
    /// goes to `ciaddr`, so it must not be somebody else's.
    fn inform(&self, query: &Query, client: Client, address: Ipv4Addr) -> Result<Outcome, Silence> {
        let mac = query.header.chaddr;
        if !self.config.is_host(address) {
            return Err(Silence::OtherSubnet(address));
        }
        let running = self.table.get(address).filter(|lease| !lease.is_over());
        let owner = self
            .bindings
            .owner(address)
            .or(running.map(|lease| lease.mac));
        let theirs = match client.own() {
            Some(own) => own == address,
            None => {
                let free = !self.config.is_own(address) && !self.reserved.contains(address);
                free && owner.is_none_or(|owner| owner == mac)
            }
        };
        if !theirs {
            return Err(Silence::NotYours(address));
        }
        self.reply(query, Kind::Ack, &self.names_of(query))
            .map(Outcome::Send)
    }

    fn reply(
        &self,
        query: &Query,
        kind: Kind,
        content: &Content<'_>,
    ) -> Result<reply::Reply, Silence> {
        let mut reply = reply::build(&self.config, &self.options, query, kind, content)?;
        if let Destination::Relay { ip, mac } = &mut reply.to {
            *mac = self.bindings.owner(*ip);
        }
        Ok(reply)
    }

    /// The name a machine is to call itself, if it is not its own to choose.
    fn hostname_of(&self, query: &Query) -> Option<&str> {
        let mac = query.header.chaddr;
        match self.bindings.get(mac) {
            Some(binding) => binding.hostname.as_deref(),
            None => self
                .reserved
                .of(mac, query.client_id())?
                .hostname
                .as_deref(),
        }
    }

    /// A reply that says only that.
    fn names_of(&self, query: &Query) -> Content<'_> {
        Content {
            hostname: self.hostname_of(query),
            // the zone's resolver knows attached machines alone
            served: self.bindings.get(query.header.chaddr).is_some(),
            ..Content::default()
        }
    }

    fn lease_for(&self, query: &Query, address: Ipv4Addr, state: State, expires: u64) -> Lease {
        let mac = query.header.chaddr;
        let hostname = match self.hostname_of(query) {
            Some(name) => Some(name.into()),
            None if self.bindings.get(mac).is_some() => None,
            None => told_hostname(query),
        };
        Lease {
            mac,
            client_id: query.client_id().map(Box::from),
            address,
            hostname,
            state,
            expires,
        }
    }
}

/// Whether an address is not for guests, though it may lie in the pool.
fn is_taken(
    bindings: &Bindings,
    reserved: &Reserved,
    config: &ServerConfig,
    address: Ipv4Addr,
) -> bool {
    bindings.owner(address).is_some()
        || reserved.contains(address)
        || config.is_own(address)
        || !config.is_host(address)
}

/// What a guest calls itself, if that is a host name (RFC 1123 §2.1): it will be shown to people.
fn told_hostname(query: &Query) -> Option<Box<str>> {
    // RFC 4702 §3.1: who sends both means the FQDN
    let fqdn = query
        .options
        .fqdn
        .as_ref()
        .and_then(|octets| octets.as_slice());
    let name = match fqdn.and_then(Fqdn::read) {
        Some(fqdn) => fqdn.name,
        None => {
            let bytes = query.options.host_name.as_ref()?.as_slice()?;
            std::str::from_utf8(bytes)
                .ok()?
                .trim_end_matches('\0')
                .to_owned()
        }
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.into())
}
