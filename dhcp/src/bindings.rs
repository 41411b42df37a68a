//! Which machine was attached with which address: one address a machine, one machine an address.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::lease::Mac;
use crate::limit::Bucket;

/// An attached machine.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) address: Ipv4Addr,
    pub(crate) hostname: Option<Box<str>>,
    /// How much it may still say; none before it first speaks.
    pub(crate) bucket: Option<Bucket>,
}

#[derive(Debug, Default)]
pub(crate) struct Bindings {
    by_mac: BTreeMap<Mac, Binding>,
    by_address: BTreeMap<Ipv4Addr, Mac>,
}

impl Bindings {
    pub(crate) fn get(&self, mac: Mac) -> Option<&Binding> {
        self.by_mac.get(&mac)
    }

    pub(crate) fn get_mut(&mut self, mac: Mac) -> Option<&mut Binding> {
        self.by_mac.get_mut(&mac)
    }

    pub(crate) fn owner(&self, address: Ipv4Addr) -> Option<Mac> {
        self.by_address.get(&address).copied()
    }

    /// Binds a machine to an address that no other machine has, in place of the one it had. What it
    /// has used up of its limit stays used up: attaching again is no way around it.
    pub(crate) fn put(&mut self, mac: Mac, address: Ipv4Addr, hostname: Option<Box<str>>) {
        let bucket = self.remove(mac).and_then(|old| old.bucket);
        self.by_address.insert(address, mac);
        let binding = Binding {
            address,
            hostname,
            bucket,
        };
        self.by_mac.insert(mac, binding);
    }

    pub(crate) fn remove(&mut self, mac: Mac) -> Option<Binding> {
        let binding = self.by_mac.remove(&mac)?;
        self.by_address.remove(&binding.address);
        Some(binding)
    }
}
