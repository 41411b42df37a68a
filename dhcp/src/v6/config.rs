//! What a DHCPv6 responder is told.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use crate::error::Error;
use crate::limit::Limit;

/// Prefixes for delegation (RFC 8415 §6.3): pieces of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delegation {
    /// What is delegated from.
    pub range: Ipv6Net,
    /// Length of each piece, in bits: longer than the range's, at most 64.
    pub length: u8,
}

impl Delegation {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        let bits = self.length.saturating_sub(self.range.prefix_len());
        1u64.checked_shl(bits.into()).unwrap_or(u64::MAX)
    }

    /// Number `n`, from 0.
    pub(super) fn nth(&self, n: u64) -> Option<Ipv6Net> {
        let base = u128::from(self.range.network());
        let shift = 128u32.checked_sub(self.length.into())?;
        let address = base.checked_add(u128::from(n).checked_shl(shift)?)?;
        Ipv6Net::new(address.into(), self.length)
            .ok()
            .filter(|net| self.range.contains(net))
    }
}

/// Everything a [`Responder`](super::Responder) is told. Make one with [`Config::new`] and change
/// what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The zone it serves, as [`Source::zone`](super::Source::zone) names it.
    pub zone: String,
    /// The server's identifier (RFC 8415 §11): the same for as long as the server is the same one.
    pub duid: Vec<u8>,
    /// The subnet it serves.
    pub subnet: Ipv6Net,
    /// Name servers (option 23, RFC 3646), best first.
    pub dns: Vec<Ipv6Addr>,
    /// Domain search list (option 24, RFC 3646).
    pub search: Vec<String>,
    /// More options by code, for clients that ask for them.
    pub extra: Vec<(u16, Vec<u8>)>,
    /// Valid lifetime. The preferred one is three quarters of it, T1 half and T2 four fifths of that.
    pub lease: Duration,
    /// How long an address of the pool rests after a client found it in use.
    pub decline_hold: Duration,
    /// First and last address for machines nobody attached; without it they get none.
    pub pool: Option<(Ipv6Addr, Ipv6Addr)>,
    /// Prefixes for attached machines that route for others.
    pub delegation: Option<Delegation>,
    /// Most leases of one hardware address from the pool.
    pub leases_per_machine: usize,
    /// Most delegated prefixes of one hardware address.
    pub prefixes_per_machine: usize,
    /// Grant at once where the client takes that (RFC 8415 §18.3.1, option 14).
    pub rapid_commit: bool,
    /// Where relay agents are: the UDP source of what they pass on must be in one of these. Empty:
    /// nothing relayed is answered.
    pub relays: Vec<Ipv6Net>,
    /// How much one machine may say.
    pub machine_limit: Limit,
    /// How much one relay agent may say.
    pub relay_limit: Limit,
    /// How many machines nobody attached (and how many relay agents) are heard at one time.
    pub strangers: usize,
}

impl Config {
    /// A server for one subnet with leases of an hour, no pool and no relay agents.
    pub fn new(zone: impl Into<String>, duid: impl Into<Vec<u8>>, subnet: Ipv6Net) -> Self {
        Self {
            zone: zone.into(),
            duid: duid.into(),
            subnet,
            dns: Vec::new(),
            search: Vec::new(),
            extra: Vec::new(),
            lease: Duration::from_secs(3600),
            decline_hold: Duration::from_secs(3600),
            pool: None,
            delegation: None,
            leases_per_machine: 8,
            prefixes_per_machine: 1,
            rapid_commit: true,
            relays: Vec::new(),
            // a whole exchange with retransmissions is 4 messages
            machine_limit: Limit {
                per_second: 10,
                burst: 20,
            },
            relay_limit: Limit {
                per_second: 10_000,
                burst: 10_000,
            },
            strangers: 1024,
        }
    }

    /// Largest pool, in addresses: it bounds how many leases guests can make.
    const LARGEST_POOL: u128 = 65_536;

    /// Checks what a responder relies on.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), Error> {
        if !super::wire::DUID_LENGTHS.contains(&self.duid.len()) {
            return Err(Error::Duid(self.duid.len()));
        }
        if let Some((first, last)) = self.pool {
            for address in [first, last] {
                if !self.subnet.contains(&address) {
                    let subnet = self.subnet;
                    return Err(Error::Outside6 { address, subnet });
                }
            }
            let size = u128::from(last).checked_sub(u128::from(first));
            if size.is_none_or(|size| size >= Self::LARGEST_POOL) {
                return Err(Error::Pool6 { first, last });
            }
        }
        if let Some(Delegation { range, length }) = self.delegation
            && (length <= range.prefix_len() || length > 64)
        {
            return Err(Error::Delegation { range, length });
        }
        let seconds = self.lease.as_secs();
        if !(10..=0xffff_fffe).contains(&seconds) {
            // 0xffffffff would mean for ever (RFC 8415 §7.7), and nothing would ever be reclaimed
            return Err(Error::LeaseTime {
                seconds,
                least: 10,
                most: 0xffff_fffe,
            });
        }
        super::domain::encode(self.search.iter().map(String::as_str)).map(drop)
    }

    /// Valid and preferred lifetime, in seconds.
    pub(super) fn lifetimes(&self) -> (u32, u32) {
        let valid = u32::try_from(self.lease.as_secs()).unwrap_or(u32::MAX - 1); // checked
        (valid, valid / 4 * 3)
    }

    pub(super) fn in_pool(&self, address: Ipv6Addr) -> bool {
        self.pool
            .is_some_and(|(first, last)| (first..=last).contains(&address))
    }
}
