//! When to advertise the gateway, and to whom (RFC 4861 §6.2).
//!
//! Every machine gets advertisements of its own, in frames to it alone: they name its prefix (RFC 8273
//! §4). Two things differ from the letter of §6.2.6: an answer to a solicitation is not delayed by up to
//! half a second (there is no other router here that could answer at the same time, and a container
//! should not wait), and how often a machine is answered is limited for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::ALL_NODES;
use super::router::{MAX_INTERVAL, MIN_INTERVAL, RouterConfig, Template, check_solicitation};
use super::silence::Silence;
use crate::error::Error;
use crate::lease::Mac;
use crate::limit::{Bucket, Limit};

/// How many advertisements follow closely on a machine's coming (MAX_INITIAL_RTR_ADVERTISEMENTS), and
/// the longest time between them in seconds (MAX_INITIAL_RTR_ADVERT_INTERVAL); RFC 4861 §10.
const INITIAL: u8 = 3;
const INITIAL_INTERVAL: u64 = 16;

/// Solicitations of one machine that are answered. A host sends three (RFC 4861 §6.3.7).
const SOLICITATIONS: Limit = Limit {
    per_second: 1,
    burst: 10,
};

/// An advertisement to be sent from the gateway's link-local address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// The machine.
    pub mac: Mac,
    /// The machine's address, or all nodes; in a frame to the machine either way (RFC 6085).
    pub to: Ipv6Addr,
    /// An ICMPv6 message, its checksum left out.
    pub message: Vec<u8>,
}

#[derive(Debug)]
struct Listener {
    prefix: Option<Ipv6Net>,
    /// When the next unsolicited one is due.
    next: u64,
    sent: u8,
    bucket: Bucket,
}

/// The router advertisements of one zone.
#[derive(Debug)]
pub struct Advertiser {
    template: Template,
    listeners: BTreeMap<Mac, Listener>,
    due: BTreeSet<(u64, Mac)>,
    /// State of the random intervals: they only keep routers out of step, so that anything does.
    random: u64,
}

impl Advertiser {
    /// For nobody yet. `seed`: anything that differs.
    ///
    /// # Errors
    /// A search domain is none.
    pub fn new(config: RouterConfig, seed: u64) -> Result<Self, Error> {
        Ok(Self {
            template: Template::new(config)?,
            listeners: BTreeMap::new(),
            due: BTreeSet::new(),
            random: seed,
        })
    }

    /// Advertises to a machine from now on: at once, twice more soon, and then every few minutes. Again for a
    /// known machine: begins anew.
    pub fn add(&mut self, now: u64, mac: Mac, prefix: Option<Ipv6Net>) {
        let bucket = match self.take(mac) {
            Some(old) => old.bucket,
            None => Bucket::full(now, SOLICITATIONS),
        };
        let listener = Listener {
            prefix,
            next: now,
            sent: 0,
            bucket,
        };
        self.due.insert((now, mac));
        self.listeners.insert(mac, listener);
    }

    fn take(&mut self, mac: Mac) -> Option<Listener> {
        let listener = self.listeners.remove(&mac)?;
        self.due.remove(&(listener.next, mac));
        Some(listener)
    }

    /// The machine is gone, or no longer to be told.
    pub fn remove(&mut self, mac: Mac) {
        self.take(mac);
    }

    /// A solicitation came. `source`: IPv6 source; `hops`: its hop limit; `message`: from the ICMPv6 type
    /// on, its checksum checked.
    ///
    /// # Errors
    /// Why it is not answered.
    pub fn solicited(
        &mut self,
        now: u64,
        mac: Mac,
        source: Ipv6Addr,
        hops: u8,
        message: &[u8],
    ) -> Result<Advertisement, Silence> {
        let Some(listener) = self.listeners.get_mut(&mac) else {
            return Err(Silence::Configured(mac));
        };
        if !listener.bucket.take(now, SOLICITATIONS) {
            return Err(Silence::RateLimited(mac));
        }
        check_solicitation(message, hops, source)?;
        let to = match source.is_unspecified() {
            true => ALL_NODES,
            false => source,
        };
        Ok(Advertisement {
            mac,
            to,
            message: self.template.advertisement(listener.prefix, false),
        })
    }

    /// When [`Advertiser::poll`] has something to say, in seconds since the epoch.
    pub fn next_deadline(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is due by `now`, at most `most` of them: the rest is due at once. A call that comes early does
    /// nothing.
    pub fn poll(&mut self, now: u64, most: usize) -> Vec<Advertisement> {
        let mut out = Vec::new();
        while out.len() < most
            && let Some((at, mac)) = self.first_due(now)
        {
            self.due.remove(&(at, mac));
            let interval = self.interval();
            let Some(listener) = self.listeners.get_mut(&mac) else {
                continue;
            };
            listener.sent = listener.sent.saturating_add(1);
            // §6.2.4: "for the first few advertisements … if the randomly chosen interval is greater"
            let interval = match listener.sent < INITIAL {
                true => interval.min(INITIAL_INTERVAL),
                false => interval,
            };
            listener.next = now + interval;
            self.due.insert((listener.next, mac));
            out.push(Advertisement {
                mac,
                to: ALL_NODES,
                message: self.template.advertisement(listener.prefix, false),
            });
        }
        out
    }

    fn first_due(&self, now: u64) -> Option<(u64, Mac)> {
        // a time that far ahead was noted by a clock that has been set back since
        let astray = self.due.last().filter(|(at, _)| *at > now + MAX_INTERVAL);
        let due = || self.due.first().filter(|(at, _)| *at <= now);
        astray.or_else(due).copied()
    }

    /// The zone goes (RFC 4861 §6.2.5): to everybody, that this is no router and nothing is good any longer.
    pub fn farewell(&self) -> Vec<Advertisement> {
        let to = ALL_NODES;
        let listeners = self.listeners.iter();
        listeners
            .map(|(mac, listener)| Advertisement {
                mac: *mac,
                to,
                message: self.template.advertisement(listener.prefix, true),
            })
            .collect()
    }

    /// Evenly between the two intervals (§6.2.4). SplitMix64.
    fn interval(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.random;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        MIN_INTERVAL + x % (MAX_INTERVAL - MIN_INTERVAL + 1)
    }
}
