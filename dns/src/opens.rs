//! Which addresses an answer may open to a container.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::directory::Directory;

/// Whether an address is one of the world: what an answer from there may open. No zone's, none of the host's, nothing that
/// is never routed. Private addresses only where the zone file itself says which servers know the name: else a name of the
/// world could lead a container to machines beside the host.
pub(crate) fn may_open(
    directory: &Directory,
    host: &[IpAddr],
    address: IpAddr,
    routed: bool,
) -> bool {
    let kind = match address {
        IpAddr::V4(a) => kind4(a),
        IpAddr::V6(a) => {
            let segments = a.segments();
            match segments {
                // an IPv4 address in other clothes (RFC 4291 §2.5.5, RFC 6052 §2.1, RFC 8215)
                [0, 0, 0, 0, 0, _, ..] | [0x64, 0xff9b, 1, ..] => Kind::Special,
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                    kind4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
                }
                [first, ..] => match first {
                    0xfc00..=0xfdff => Kind::Private,
                    0xfe80..=0xffff => Kind::Special,
                    _ => Kind::World,
                },
            }
        }
    };
    let ours = host.contains(&address)
        || directory.zone_of(IpNet::from(address)).is_some()
        || directory.is_gateway(address);
    match kind {
        Kind::World => !ours,
        Kind::Private => !ours && routed,
        Kind::Special => false,
    }
}

enum Kind {
    World,
    Private,
    Special,
}

fn kind4(a: Ipv4Addr) -> Kind {
    let [first, second, ..] = a.octets();
    match (first, second) {
        (0 | 127 | 224.., _) | (169, 254) => Kind::Special,
        (100, 64..=127) => Kind::Private, // RFC 6598
        _ if a.is_private() => Kind::Private,
        _ => Kind::World,
    }
}
