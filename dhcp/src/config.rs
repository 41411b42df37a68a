//! What a responder is told: who it is, what it hands out, and how far it trusts whom.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::error::Error;
use crate::lease::Mac;
use crate::limit::Limit;

/// Everything a [`Responder`](crate::Responder) is told. Make one with [`ServerConfig::new`] and
/// change what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The zone it serves, as [`Source::zone`](crate::Source::zone) names it.
    pub zone: String,
    /// The server's own address: server identifier, and source of its replies.
    pub server: Ipv4Addr,
    /// The subnet it serves, at least a /30.
    pub subnet: Ipv4Net,
    /// Default router (option 3).
    pub router: Option<Ipv4Addr>,
    /// Name servers (option 6), best first.
    pub dns: Vec<Ipv4Addr>,
    /// Domain name (option 15).
    pub domain: Option<String>,
    /// Domain search list (option 119, RFC 3397), for clients that ask for it.
    pub search: Vec<String>,
    /// Classless static routes (option 121, RFC 3442), for clients that ask for it. Such clients
    /// ignore the router option, so a default route by `router` is added if there is none.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Time servers (option 42), best first, for clients that ask for them.
    pub ntp: Vec<Ipv4Addr>,
    /// Interface MTU in bytes (option 26). Replies do not exceed it either.
    pub mtu: u16,
    /// The network does without IPv4: how long a client that can should keep it off (option 108,
    /// RFC 8925; at least 300 s). Only clients that ask are told.
    pub ipv6_only: Option<Duration>,
    /// There is no IPv4 here at all. Clients that ask for option 108 are told to keep it off; nobody gets an address, and
    /// nobody else an answer. `server` and `subnet` are stand-ins then: see [`ServerConfig::without_ipv4`].
    pub no_ipv4: bool,
    /// More options, or other values for those above. Data, so that a new option needs no code.
    pub extra: Vec<Extra>,
    /// Lease time, in whole seconds: also the longest a client can ask for.
    pub lease: Duration,
    /// The shortest lease a client can ask for.
    pub min_lease: Duration,
    /// How long an address stays promised to whom it was offered.
    pub offer_hold: Duration,
    /// How long an address of the pool rests after a client found it in use.
    pub decline_hold: Duration,
    /// First and last address for machines nobody attached; without it they get no answer.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Addresses kept for machines nobody attached, and for some that will be. They may lie in the pool.
    pub reservations: Vec<Reservation>,
    /// Most leases of one hardware address under different client identifiers.
    pub leases_per_machine: usize,
    /// Acknowledge a DISCOVER at once where the client takes that (RFC 4039).
    pub rapid_commit: bool,
    /// Where relay agents are: both the UDP source and `giaddr` of what they pass on must be in one
    /// of these. They are believed about other machines' hardware addresses, but never about an
    /// attached one. Empty: nothing relayed is answered.
    pub relays: Vec<Ipv4Net>,
    /// How much one machine may say.
    pub machine_limit: Limit,
    /// How much one relay agent may say.
    pub relay_limit: Limit,
    /// How many machines nobody attached (and how many relay agents) are heard at one time, which
    /// bounds the memory for their limits.
    pub strangers: usize,
}

/// An address kept for one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// For whom.
    pub who: Who,
    /// The address.
    pub address: Ipv4Addr,
    /// The host name it is told, and is known by.
    pub hostname: Option<String>,
}

/// How the machine of a [`Reservation`] is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// By its hardware address.
    Mac(Mac),
    /// By its client identifier (RFC 2132 §9.14). While somebody has the lease, another hardware address with the
    /// same identifier does not get it.
    ClientId(Box<[u8]>),
    /// Not at all: the address is bound when its machine is attached, and nobody else's until then.
    Nobody,
}

/// An option given as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Option code.
    pub code: u8,
    /// The value as it goes over the wire; over 255 bytes it is sent in parts (RFC 3396).
    pub value: Vec<u8>,
    /// Who gets it.
    pub when: When,
}

/// Which clients get an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// All of them.
    Always,
    /// Those that ask for it in their parameter request list, and those that send no list.
    Default,
    /// Only those that ask for it.
    Requested,
}

impl ServerConfig {
    /// A server for one subnet with leases of an hour, no pool, no relay agents, MTU 1500, and
    /// itself as router.
    pub fn new(zone: impl Into<String>, server: Ipv4Addr, subnet: Ipv4Net) -> Self {
        Self {
            zone: zone.into(),
            server,
            subnet,
            router: Some(server),
            dns: Vec::new(),
            domain: None,
            search: Vec::new(),
            routes: Vec::new(),
            ntp: Vec::new(),
            mtu: 1500,
            ipv6_only: None,
            no_ipv4: false,
            extra: Vec::new(),
            lease: Duration::from_secs(3600),
            min_lease: Duration::from_secs(120),
            offer_hold: Duration::from_secs(30),
            decline_hold: Duration::from_secs(3600),
            pool: None,
            reservations: Vec::new(),
            leases_per_machine: 8,
            rapid_commit: false,
            relays: Vec::new(),
            // a whole exchange with retransmissions is 4 messages; a client in a loop is slowed
            // down to what costs nothing
            machine_limit: Limit {
                per_second: 10,
                burst: 20,
            },
            relay_limit: Limit {
                per_second: 100_000,
                burst: 100_000,
            },
            strangers: 1024,
        }
    }

    /// A server for a zone of IPv6 alone, which tells clients that ask how long to keep IPv4 off (RFC 8925). It speaks from
    /// the IPv4 dummy address (RFC 7600 §4.8), which nobody sends to.
    pub fn without_ipv4(zone: impl Into<String>, wait: Duration) -> Self {
        let (dummy, around) = (Ipv4Addr::new(192, 0, 0, 8), Ipv4Addr::new(192, 0, 0, 0));
        let mut config = Self::new(zone, dummy, Ipv4Net::new_assert(around, 28));
        config.router = None;
        config.ipv6_only = Some(wait);
        config.no_ipv4 = true;
        config
    }

    /// The shortest lease time anybody gets: below that, clients do little else than renew.
    const LEAST_LEASE: u64 = 10;
    /// 0xffffffff would mean for ever (RFC 2132 §9.2), and then nothing would ever be reclaimed.
    const MOST_LEASE: u64 = 0xffff_fffe;

    /// Checks what a responder relies on.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), Error> {
        if self.subnet.prefix_len() > 30 {
            return Err(Error::SubnetTooSmall(self.subnet));
        }
        self.check_host("server", self.server)?;
        if let Some(router) = self.router {
            self.check_host("router", router)?;
        }
        if let Some((first, last)) = self.pool {
            self.check_host("pool's first address", first)?;
            self.check_host("pool's last address", last)?;
            if first > last {
                return Err(Error::PoolBackwards { first, last });
            }
        }
        for time in [self.lease, self.min_lease] {
            let seconds = time.as_secs();
            if !(Self::LEAST_LEASE..=Self::MOST_LEASE).contains(&seconds) {
                return Err(Error::LeaseTime {
                    seconds,
                    least: Self::LEAST_LEASE,
                    most: Self::MOST_LEASE,
                });
            }
        }
        if self.mtu < 68 {
            return Err(Error::Mtu(self.mtu));
        }
        Ok(())
    }

    /// Checks that an address can belong to a machine of the subnet.
    pub(crate) fn check_host(&self, what: &'static str, address: Ipv4Addr) -> Result<(), Error> {
        if self.is_host(address) {
            return Ok(());
        }
        Err(Error::Outside {
            what,
            address,
            subnet: self.subnet,
        })
    }

    /// Whether an address is of the subnet, and neither its network nor its broadcast address.
    pub(crate) fn is_host(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address)
            && address != self.subnet.network()
            && address != self.subnet.broadcast()
    }

    /// Whether an address is the server's or the router's.
    pub(crate) fn is_own(&self, address: Ipv4Addr) -> bool {
        address == self.server || self.router == Some(address)
    }

    /// The lease time in seconds for a client that asks for `wanted` (RFC 2131 §4.3.1).
    pub(crate) fn lease_seconds(&self, wanted: Option<u32>) -> u32 {
        let most = self.lease.as_secs().min(Self::MOST_LEASE) as u32; // checked
        let least = (self.min_lease.as_secs() as u32).min(most);
        wanted.map_or(most, |wanted| wanted.clamp(least, most))
    }
}
