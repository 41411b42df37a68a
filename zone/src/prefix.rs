//! A prefix for each container (RFC 8273), in zones that are wide enough.
//!
//! ```text
//! zone      fd12:3456:789a::/48
//! gateway   fd12:3456:789a:0::/64        the first one: nobody else's
//! container fd12:3456:789a:1::/64 …      its main address is the first in it, ::1
//! delegated fd12:3456:789a:c000::/50     the upper quarter, /64 by /64 (IA_PD)
//! ```

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

/// Length of a container's prefix, in bits: what stateless autoconfiguration needs (RFC 4862 §5.5.3).
pub const LENGTH: u8 = 64;

/// Longest prefix of a zone that has prefixes for containers, in bits.
pub const WIDE: u8 = 56;

/// Whether containers of a zone with this subnet have a prefix each.
pub fn is_wide(subnet: Ipv6Net) -> bool {
    subnet.prefix_len() <= WIDE
}

/// The /64 that an address is in.
pub fn around(address: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::new(address, LENGTH).map_or_else(|_| address.into(), |net| net.trunc())
}

/// The prefix of whoever has `address` in a zone with this subnet. None where addresses are given one by one: in
/// zones that are not wide, and beside the gateway (which is where containers of a zone have been that was wide
/// before there were prefixes).
pub fn of(subnet: Ipv6Net, address: Ipv6Addr) -> Option<Ipv6Net> {
    let prefix = around(address);
    let whole = is_wide(subnet) && subnet.contains(&address);
    (whole && prefix != around(subnet.network())).then_some(prefix)
}

/// What is kept for delegation to machines that route for others: the upper quarter of a wide zone.
pub fn delegated(subnet: Ipv6Net) -> Option<Ipv6Net> {
    let length = subnet.prefix_len() + 2;
    let quarter = 1u128.checked_shl(128 - u32::from(length))?;
    let first = u128::from(subnet.network()) + 3 * quarter;
    let net = Ipv6Net::new(first.into(), length).ok();
    net.filter(|_| is_wide(subnet))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn net(text: &str) -> Ipv6Net {
        text.parse().unwrap()
    }

    fn prefix(subnet: &str, address: &str) -> Option<String> {
        of(net(subnet), address.parse().unwrap()).map(|net| net.to_string())
    }

    #[test]
    fn each_container_has_a_prefix_where_there_is_room() {
        let found = prefix("fd00:1:2::/48", "fd00:1:2:7::99");
        assert_eq!(found.unwrap(), "fd00:1:2:7::/64");
        assert_eq!(
            prefix("fd00:1:2::/56", "fd00:1:2:ff::1").unwrap(),
            "fd00:1:2:ff::/64"
        );
        // beside the gateway, elsewhere, and in a zone that is too small
        assert_eq!(prefix("fd00:1:2::/48", "fd00:1:2::5"), None);
        assert_eq!(prefix("fd00:1:2::/48", "fd00:1:3:7::5"), None);
        assert_eq!(prefix("fd00:1:2::/57", "fd00:1:2:7::5"), None);
    }

    #[test]
    fn the_upper_quarter_is_for_delegation() {
        let delegated = |text: &str| delegated(net(text)).map(|net| net.to_string());
        assert_eq!(delegated("fd00:1:2::/48").unwrap(), "fd00:1:2:c000::/50");
        assert_eq!(delegated("fd00:1:2::/56").unwrap(), "fd00:1:2:c0::/58");
        assert_eq!(delegated("fd00:1:2::/64"), None);
        assert_eq!(delegated("::/0").unwrap(), "c000::/2");
    }
}
