//! Addresses that the configuration keeps for machines nobody attached, found by hardware address, by client
//! identifier and by address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::config::{Reservation, ServerConfig, Who};
use crate::error::Error;
use crate::lease::Mac;

/// What is kept for one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) address: Ipv4Addr,
    pub(crate) hostname: Option<Box<str>>,
}

#[derive(Debug, Default)]
pub(crate) struct Reserved {
    by_mac: BTreeMap<Mac, Kept>,
    by_client_id: BTreeMap<Box<[u8]>, Kept>,
    addresses: BTreeSet<Ipv4Addr>,
}

impl Reserved {
    /// # Errors
    /// Two reservations of one address or for one machine, or an address that no machine can have.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, Error> {
        let mut reserved = Self::default();
        for Reservation {
            who,
            address,
            hostname,
        } in &config.reservations
        {
            let address = *address;
            config.check_host("reserved address", address)?;
            if config.is_own(address) {
                return Err(Error::Own(address));
            }
            let kept = Kept {
                address,
                hostname: hostname.as_deref().map(Box::from),
            };
            let before = match who {
                Who::Mac(mac) => reserved.by_mac.insert(*mac, kept),
                Who::ClientId(id) => reserved.by_client_id.insert(id.clone(), kept),
                // It is bound when it is attached.
                Who::Nobody => None,
            };
            if before.is_some() || !reserved.addresses.insert(address) {
                return Err(Error::ReservedTwice(address));
            }
        }
        Ok(reserved)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_mac.is_empty() && self.by_client_id.is_empty()
    }

    /// What is kept for a machine: by its hardware address, which it cannot choose as freely, before its client
    /// identifier.
    pub(crate) fn of(&self, mac: Mac, client_id: Option<&[u8]>) -> Option<&Kept> {
        let by_id = || self.by_client_id.get(client_id?);
        self.by_mac.get(&mac).or_else(by_id)
    }

    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains(&address)
    }
}
