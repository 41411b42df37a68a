//! Neighbours of a zone's bridge that the kernel could not find, or not yet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;

use super::encode;
use super::error::LinkError;
use super::links::Links;
use super::wire::{attributes, u16_at, u32_at};

// linux/neighbour.h
const NDA_DST: u16 = 1;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;

impl Links {
    /// Forgets the neighbours on a link that were asked for and did not answer, so that the next packet
    /// asks again at once. While a bridge is made anew, the host asks before the port is back that the
    /// answer would come by; left alone, it waits a second before it repeats the question.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn ask_neighbours_again(&mut self, ifindex: u32) -> Result<(), LinkError> {
        let action = "forget neighbours that did not answer";
        let listed = self
            .host
            .dump(
                RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
                unanswered,
            )
            .map_err(|error| error.of(action))?;
        let here = listed.into_iter().filter(|(index, _)| *index == ifindex);
        self.forget_neighbours(ifindex, here.map(|(_, address)| address));
        Ok(())
    }

    /// Drops what waits on a link for these addresses to be found: packets that were let through to nobody wait for
    /// up to three seconds, and whoever answers to the address gets them. Addresses that nobody asked for are fine.
    pub fn forget_neighbours(&mut self, ifindex: u32, addresses: impl IntoIterator<Item = IpAddr>) {
        let requests: Vec<_> = addresses
            .into_iter()
            .map(|address| encode::delete_neighbour(ifindex, address))
            .collect();
        // Hardly any is there, and one that is not is what is wanted.
        let _ = self.host.batch(requests);
    }
}

/// Link and address of a `struct ndmsg` and its attributes that waits for an answer in vain.
fn unanswered(payload: &[u8]) -> Option<(u32, IpAddr)> {
    let (family, index) = (i32::from(*payload.first()?), u32_at(payload, 4)?);
    if u16_at(payload, 8)? & (NUD_INCOMPLETE | NUD_FAILED) == 0 {
        return None;
    }
    let (_, bytes) = attributes(payload.get(12..)?).find(|(kind, _)| *kind == NDA_DST)?;
    let address = match family {
        libc::AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    Some((index, address))
}
