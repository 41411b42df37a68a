//! ICMP message types: names, and which ICMPv6 type is the counterpart of which ICMP type.
//!
//! Numbers: <https://www.iana.org/assignments/icmp-parameters> and `…/icmpv6-parameters`. A policy
//! names types as IPv4 numbers them; in IPv6 the counterpart is meant.

/// Name, type in IPv4, type in IPv6.
const TYPES: &[(&str, u8, Option<u8>)] = &[
    ("echo-reply", 0, Some(129)),
    ("destination-unreachable", 3, Some(1)),
    ("source-quench", 4, None),
    ("redirect", 5, Some(137)),
    ("echo-request", 8, Some(128)),
    ("router-advertisement", 9, Some(134)),
    ("router-solicitation", 10, Some(133)),
    ("time-exceeded", 11, Some(3)),
    ("parameter-problem", 12, Some(4)),
    ("timestamp-request", 13, None),
    ("timestamp-reply", 14, None),
    ("info-request", 15, None),
    ("info-reply", 16, None),
    ("address-mask-request", 17, None),
    ("address-mask-reply", 18, None),
    // RFC 8335
    ("extended-echo-request", 42, Some(160)),
    ("extended-echo-reply", 43, Some(161)),
];

/// The ICMPv6 type that means the same as an ICMP type, if there is one.
pub fn counterpart(icmp: u8) -> Option<u8> {
    TYPES.iter().find(|t| t.1 == icmp).and_then(|t| t.2)
}

/// The ICMP type of a name; some names are known by a shorter form too.
pub(super) fn by_name(name: &str) -> Option<u8> {
    let name = match name {
        "ping" | "echo" => "echo-request",
        "unreachable" => "destination-unreachable",
        other => other,
    };
    TYPES.iter().find(|t| t.0 == name).map(|t| t.1)
}

/// The name of an ICMP type.
pub(super) fn name(icmp: u8) -> Option<&'static str> {
    TYPES.iter().find(|t| t.1 == icmp).map(|t| t.0)
}

/// The ICMP type of which an ICMPv6 number is the counterpart, for people who write the latter.
pub(super) fn by_counterpart(icmpv6: u8) -> Option<&'static str> {
    TYPES.iter().find(|t| t.2 == Some(icmpv6)).map(|t| t.0)
}

/// Every name, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|t| t.0)
}
