//! Names that have a meaning of their own, and so are never forwarded: asking the world about them is useless, and tells it
//! about us.

use ipnet::IpNet;

use crate::name::View;
use crate::reverse;

/// Address space whose reverse names stand for something here or nowhere (RFC 6303 §4, RFC 7793 §2).
const PRIVATE: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
    "2001:db8::/32",
    "ff00::/8",
];

/// What a special name is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    /// The loopback addresses (RFC 6761 §6.3).
    Loopback,
    /// There is no such name; with the domain that is empty.
    Empty,
}

/// What is special about a name, and the domain that makes it so. No look at reverse names.
pub(crate) fn domain(name: View<'_>) -> Option<(Special, View<'_>)> {
    const LAST: [(&str, Special); 5] = [
        ("localhost", Special::Loopback), // RFC 6761 §6.3
        ("local", Special::Empty),        // RFC 6762 §22.1: multicast DNS alone
        ("invalid", Special::Empty),      // RFC 6761 §6.4
        ("test", Special::Empty),         // RFC 6761 §6.2
        ("onion", Special::Empty),        // RFC 7686 §2
    ];
    for domain in name.ancestors() {
        if let Some((_, special)) = LAST.iter().find(|(label, _)| domain.is(&[label])) {
            return Some((*special, domain));
        }
        // RFC 9462 §6.1: what the resolver says of itself, and we say nothing
        if domain.is(&["resolver", "arpa"]) {
            return Some((Special::Empty, domain));
        }
    }
    None
}

/// The private network that a reverse name's lies in.
pub(crate) fn private(net: IpNet) -> Option<IpNet> {
    let mut nets = PRIVATE.iter().filter_map(|text| text.parse().ok());
    nets.find(|private: &IpNet| private.contains(&net))
}

/// Whether a zone of reverse names begins exactly at this network.
pub(crate) fn is_apex(private: IpNet, net: IpNet) -> bool {
    reverse::apex(private) == reverse::apex(net)
}
