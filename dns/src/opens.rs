//! Which addresses an answer may open to a container.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::directory::Directory;

/// Whether an address is one of the world: what an answer may open. No zone's, none of the host's, nothing that is never
/// routed. Machines beside the host are of the world, with private addresses too.
pub(crate) fn may_open(directory: &Directory, host: &[IpAddr], address: IpAddr) -> bool {
    let ours = |address: IpAddr| {
        host.contains(&address)
            || directory.zone_of(IpNet::from(address)).is_some()
            || directory.is_gateway(address)
    };
    match address {
        IpAddr::V4(a) => !is_special(a) && !ours(address),
        IpAddr::V6(a) => match a.segments() {
            // an IPv4 address in other clothes (RFC 4291 §2.5.5, RFC 8215), and loopback
            [0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => false,
            // behind NAT64, which may lead back here (RFC 6052 §2.1)
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let behind = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
                !is_special(behind) && !ours(behind.into()) && !ours(address)
            }
            [0xfe80..=0xffff, ..] => false,
            _ => !ours(address),
        },
    }
}

/// This network, loopback, link-local, multicast, reserved, broadcast.
fn is_special(a: Ipv4Addr) -> bool {
    matches!(a.octets(), [0 | 127 | 224.., ..] | [169, 254, ..])
}
