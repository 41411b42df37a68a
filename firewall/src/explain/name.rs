//! An address that stands for a name which was not resolved yet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::diff::unnamed;
use crate::model::World;
use crate::policy::{Peer, PolicySet};
use crate::sets::Family;

/// For documentation (RFC 5737, RFC 3849): nobody takes them for somebody's.
const PREFERRED: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Some address of the world that no network in the policies has, but those that have everything.
pub fn stand_in(world: &World, policies: &PolicySet, family: Family) -> Option<IpAddr> {
    let rules = policies.0.values().flat_map(|file| file.rules());
    let peers = rules.flat_map(|rule| &rule.peers);
    let named = peers
        .filter_map(|peer| match peer {
            Peer::Net(net) => Some(*net),
            _ => None,
        })
        .collect();
    unnamed(world, &named, family, &PREFERRED)
}
