//! What every side of a comparison attaches: an empty network namespace with a name and a number.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::Result;
use crate::ns::Netns;

/// Length of the subnet that all sides use, 10.88.0.0/16: one bridge holds at most 1,023 ports anyway.
pub(crate) const PREFIX4: u8 = 16;
/// The subnet.
pub(crate) const SUBNET4: &str = "10.88.0.0/16";
/// The bridge's address in it.
pub(crate) const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// The v6 subnet, for dual-stack sides.
pub(crate) const SUBNET6: &str = "fd88::/64";
/// The bridge's address in it.
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1);

/// An empty network namespace about to be attached.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its name, which is also its namespace's.
    pub(crate) name: String,
    /// Counted from 0 on each side.
    pub(crate) number: u32,
    /// Its namespace.
    pub(crate) netns: Netns,
}

impl Container {
    /// Makes container `number` of a side.
    pub(crate) fn create(side: &str, number: u32) -> Result<Self> {
        let name = format!("{side}{number}");
        let netns = Netns::create(&name)?;
        Ok(Self {
            name,
            number,
            netns,
        })
    }

    /// Makes several, with numbers from `first` on.
    pub(crate) fn several(side: &str, first: u32, count: u32) -> Result<Vec<Self>> {
        (first..first + count)
            .map(|number| Self::create(side, number))
            .collect()
    }

    /// Its address, where the side lets the bench choose: 10.88.0.10 and on.
    pub(crate) fn address4(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(GATEWAY4) + 9 + self.number)
    }

    /// Its v6 address.
    pub(crate) fn address6(&self) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(GATEWAY6) + 9 + u128::from(self.number))
    }

    /// Its hardware address.
    pub(crate) fn mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.address4().octets();
        [2, 0, a, b, c, d]
    }
}
