//! Names that stand for addresses (RFC 1035 §3.5, RFC 3596 §2.5).

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::name::{Name, View};

/// What a name beneath `in-addr.arpa` or `ip6.arpa` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reverse {
    /// The address, or the network where the name has fewer labels.
    pub(crate) net: IpNet,
    /// There are further labels in front, which are no part of an address.
    pub(crate) more: bool,
}

impl Reverse {
    /// `None` for a name that stands elsewhere, and for the two roots of reverse names.
    pub(crate) fn of(name: View<'_>) -> Option<Self> {
        if !name.bytes().ends_with(b"\x04arpa\0") {
            return None; // most names, so without a look at each label
        }
        let labels: Vec<&[u8]> = name.labels().collect();
        let (rest, v4) = match labels.as_slice() {
            [rest @ .., b"in-addr", b"arpa"] => (rest, true),
            [rest @ .., b"ip6", b"arpa"] => (rest, false),
            _ => return None,
        };
        let mut bits = 0u128;
        let mut used = 0u8;
        let (width, most) = if v4 { (8, 32) } else { (4, 128) };
        for label in rest.iter().rev() {
            let value = if v4 { octet(label) } else { nibble(label) };
            let Some(value) = value.filter(|_| used < most) else {
                break;
            };
            used += width;
            bits |= u128::from(value) << (128 - u32::from(used));
        }
        let net = if v4 {
            IpNet::V4(Ipv4Net::new(((bits >> 96) as u32).into(), used).ok()?) // the top 32 bits
        } else {
            IpNet::V6(Ipv6Net::new(bits.into(), used).ok()?)
        };
        (used > 0).then_some(Self {
            net,
            more: rest.len() > usize::from(used / width),
        })
    }

    /// The address that the whole name stands for.
    pub(crate) fn address(self) -> Option<IpAddr> {
        let whole = self.net.prefix_len() == self.net.max_prefix_len();
        (whole && !self.more).then(|| self.net.addr())
    }
}

fn octet(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    // `+1` and `01` are read by parse, and stand for no octet
    text.parse::<u8>().ok().filter(|n| n.to_string() == text)
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit @ (b'0'..=b'9')] => Some(digit - b'0'),
        [letter @ (b'a'..=b'f')] => Some(letter - b'a' + 10),
        _ => None,
    }
}

/// The reverse name of a network, cut at a label: the apex of a zone of reverse names that holds it.
pub(crate) fn apex(net: IpNet) -> Option<Name> {
    let mut text = String::new();
    match net {
        IpNet::V4(net) => {
            let octets = net.network().octets();
            for octet in octets[..usize::from(net.prefix_len() / 8)].iter().rev() {
                write!(text, "{octet}.").ok()?;
            }
            text.push_str("in-addr.arpa");
        }
        IpNet::V6(net) => {
            let bits = u128::from(net.network());
            for n in (1..=u32::from(net.prefix_len() / 4)).rev() {
                write!(text, "{:x}.", bits >> (128 - 4 * n) & 0xf).ok()?;
            }
            text.push_str("ip6.arpa");
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Option<(String, bool)> {
        let name: Name = text.parse().unwrap();
        Reverse::of(name.view()).map(|r| (r.net.to_string(), r.more))
    }

    #[test]
    fn names_stand_for_addresses_and_networks() {
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        for (name, net, more) in [
            ("5.0.89.10.in-addr.arpa", "10.89.0.5/32", false),
            ("89.10.IN-ADDR.ARPA", "10.89.0.0/16", false),
            ("10.in-addr.arpa", "10.0.0.0/8", false),
            ("x.5.0.89.10.in-addr.arpa", "10.89.0.5/32", true),
            ("4.5.0.89.10.in-addr.arpa", "10.89.0.5/32", true),
            ("05.89.10.in-addr.arpa", "10.89.0.0/16", true),
            ("256.10.in-addr.arpa", "10.0.0.0/8", true),
            (v6, "2001:db8::1/128", false),
            ("8.b.d.0.1.0.0.2.ip6.arpa", "2001:db8::/32", false),
        ] {
            assert_eq!(of(name), Some((net.to_owned(), more)), "{name}");
        }
        for name in [
            "in-addr.arpa",
            "ip6.arpa",
            "x.in-addr.arpa",
            "example.org",
            ".",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn networks_have_names() {
        for (net, name) in [
            ("10.89.3.0/24", "3.89.10.in-addr.arpa"),
            ("10.0.0.0/12", "10.in-addr.arpa"),
            ("fd12:3456::/64", "0.0.0.0.0.0.0.0.6.5.4.3.2.1.d.f.ip6.arpa"),
            ("fc00::/7", "f.ip6.arpa"),
        ] {
            let net: IpNet = net.parse().unwrap();
            assert_eq!(apex(net).unwrap().to_string(), name);
        }
    }
}
