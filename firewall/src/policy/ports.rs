//! What a rule lets through: `tcp/80`, `tcp/8000-8099`, `udp/*`, `icmp/echo-request`, `gre`, `proto/47`.

use std::fmt;

use super::icmp;
use super::suggest::nearest;
use crate::model::Traffic;

/// One entry of `ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// Ports of TCP, UDP, SCTP, DCCP or UDP-Lite, both ends inclusive, never 0.
    Range {
        /// IP protocol number; one for which [`has_ports`] holds.
        proto: u8,
        /// First port.
        first: u16,
        /// Last port, at least `first`.
        last: u16,
    },
    /// All of an IP protocol; never 1 or 58.
    Proto(u8),
    /// ICMP messages of this type in IPv4, and of its counterpart in IPv6, if there is one.
    Icmp(u8),
    /// All of ICMP in IPv4, all of ICMPv6 in IPv6.
    EveryIcmp,
}

impl From<Traffic> for Ports {
    fn from(traffic: Traffic) -> Self {
        match traffic {
            Traffic::Port(proto, port) => Ports::Range {
                proto,
                first: port,
                last: port,
            },
            Traffic::Icmp(kind) => Ports::Icmp(kind),
            Traffic::Proto(proto) => Ports::Proto(proto),
        }
    }
}

/// Protocols with ports.
pub(super) const WITH_PORTS: [(&str, u8); 5] = [
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("sctp", 132),
    ("udplite", 136),
];

/// Other protocols by the names of <https://www.iana.org/assignments/protocol-numbers>.
pub(super) const OTHERS: [(&str, u8); 11] = [
    ("igmp", 2),
    ("ipip", 4),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
];

/// Whether a protocol's connections are told apart by port.
pub fn has_ports(proto: u8) -> bool {
    WITH_PORTS.iter().any(|p| p.1 == proto)
}

fn name(proto: u8) -> Option<&'static str> {
    let known = WITH_PORTS.iter().chain(&OTHERS);
    known.into_iter().find(|p| p.1 == proto).map(|p| p.0)
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Ports::Range { proto, first, last } => {
                match name(proto) {
                    Some(name) => write!(f, "{name}/{first}")?,
                    None => write!(f, "proto-{proto}/{first}")?,
                }
                if last != first {
                    write!(f, "-{last}")?;
                }
                Ok(())
            }
            Ports::Proto(proto) => match name(proto) {
                Some(name) if has_ports(proto) => write!(f, "{name}/*"),
                Some(name) => f.write_str(name),
                None => write!(f, "proto/{proto}"),
            },
            Ports::Icmp(kind) => match icmp::name(kind) {
                Some(name) => write!(f, "icmp/{name}"),
                None => write!(f, "icmp/{kind}"),
            },
            Ports::EveryIcmp => f.write_str("icmp/*"),
        }
    }
}

/// What is wrong, and what to do about it.
pub(crate) type Wrong = (String, Option<String>);

/// Reads an entry of `ports`, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Ports, Wrong> {
    let Some((kind, rest)) = text.split_once('/') else {
        return alone(text);
    };
    match kind {
        "icmp" => icmp_type(rest),
        "icmpv6" | "icmp6" | "ipv6-icmp" => Err((
            format!("{text:?}: ICMPv6 has no rules of its own"),
            Some(format!(
                "write icmp/{rest}: it stands for ICMP in IPv4 and for its counterpart in IPv6"
            )),
        )),
        "proto" => protocol(rest),
        _ => match WITH_PORTS.iter().find(|p| p.0 == kind) {
            Some((_, proto)) => range(text, *proto, rest),
            None if OTHERS.iter().any(|p| p.0 == kind) => Err((
                format!("{text:?}: {kind} has no ports"),
                Some(format!("write {kind}")),
            )),
            None => Err(unknown(kind, text)),
        },
    }
}

fn alone(text: &str) -> Result<Ports, Wrong> {
    if let Some((_, proto)) = OTHERS.iter().find(|p| p.0 == text) {
        return Ok(Ports::Proto(*proto));
    }
    if has_name_with_ports(text) || text == "icmp" {
        return Err((
            format!("{text:?} says nothing of ports"),
            Some(format!("write {text}/* for all of {text}")),
        ));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return Err((
            format!("{text:?} says nothing of the protocol"),
            Some(format!("write tcp/{text} or udp/{text}")),
        ));
    }
    Err(unknown(text, text))
}

fn has_name_with_ports(name: &str) -> bool {
    WITH_PORTS.iter().any(|p| p.0 == name)
}

fn unknown(kind: &str, text: &str) -> Wrong {
    let known = WITH_PORTS.iter().chain(&OTHERS).map(|p| p.0);
    let help = match nearest(kind, known.chain(["icmp", "proto"])) {
        Some(near) => format!("did you mean `{}`?", text.replacen(kind, near, 1)),
        None => {
            "write tcp/80, tcp/8000-8099, tcp/*, icmp/echo-request, or proto/NUMBER for another protocol"
                .into()
        }
    };
    (format!("unknown protocol {kind:?}"), Some(help))
}

/// A number as people write it: digits only, no zero in front.
fn number(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|n| n.to_string() == text)
}

fn range(text: &str, proto: u8, ports: &str) -> Result<Ports, Wrong> {
    if ports == "*" {
        return Ok(Ports::Proto(proto));
    }
    let port = |port: &str| match number(port) {
        Some(0) => Err((format!("{text:?}: there is no port 0"), None)),
        Some(n) => {
            u16::try_from(n).map_err(|_| (format!("{text:?}: the last port is 65535"), None))
        }
        None => Err((
            format!("{text:?}: {port:?} is not a port"),
            Some("ports are numbers from 1 to 65535, a range is FIRST-LAST, * is all".into()),
        )),
    };
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(ports)?, port(ports)?),
    };
    if first > last {
        return Err((
            format!("{text:?}: the range ends before it begins"),
            Some(format!(
                "write {}",
                Ports::Range {
                    proto,
                    first: last,
                    last: first
                }
            )),
        ));
    }
    Ok(Ports::Range { proto, first, last })
}

fn icmp_type(text: &str) -> Result<Ports, Wrong> {
    if text == "*" {
        return Ok(Ports::EveryIcmp);
    }
    if let Some(kind) = icmp::by_name(text) {
        return Ok(Ports::Icmp(kind));
    }
    match number(text).map(u8::try_from) {
        Some(Ok(kind)) => match (icmp::name(kind), icmp::by_counterpart(kind)) {
            (None, Some(name)) => Err((
                format!("ICMP type {kind} is ICMPv6's number"),
                Some(format!("write icmp/{name}: it stands for both families")),
            )),
            _ => Ok(Ports::Icmp(kind)),
        },
        Some(Err(_)) => Err((format!("ICMP type {text} is not from 0 to 255"), None)),
        None => {
            let help =
                nearest(text, icmp::names()).map(|near| format!("did you mean `icmp/{near}`?"));
            Err((format!("unknown ICMP type {text:?}"), help))
        }
    }
}

fn protocol(text: &str) -> Result<Ports, Wrong> {
    match number(text).map(u8::try_from) {
        Some(Ok(1 | 58)) => Err((
            format!("protocol {text} is ICMP in one family only"),
            Some("write icmp/*: it stands for ICMP in IPv4 and for ICMPv6 in IPv6".into()),
        )),
        Some(Ok(proto)) => Ok(Ports::Proto(proto)),
        _ => Err((
            format!("protocol {text:?} is not a number from 0 to 255"),
            None,
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entries_read_back_as_written() {
        for text in [
            "tcp/80",
            "tcp/8000-8099",
            "tcp/1-65535",
            "tcp/*",
            "udp/53",
            "sctp/*",
            "dccp/5",
            "icmp/echo-request",
            "icmp/*",
            "icmp/200",
            "gre",
            "esp",
            "proto/253",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for (text, same) in [
            ("icmp/8", "icmp/echo-request"),
            ("proto/47", "gre"),
            ("proto/6", "tcp/*"),
            ("tcp/7-7", "tcp/7"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), same);
        }
    }

    #[test]
    fn errors_name_the_remedy() {
        for (text, message, help) in [
            ("tcp/0", "no port 0", ""),
            ("tcp/0-5", "no port 0", ""),
            ("tcp/65536", "last port is 65535", ""),
            ("tcp/90-80", "ends before it begins", "tcp/80-90"),
            ("tcp/", "not a port", "1 to 65535"),
            ("tcp/-5", "not a port", "1 to 65535"),
            ("tcp/080", "not a port", "1 to 65535"),
            ("tcp/http", "not a port", "1 to 65535"),
            ("tcp", "nothing of ports", "tcp/*"),
            ("80", "nothing of the protocol", "tcp/80"),
            ("tpc/80", "unknown protocol \"tpc\"", "`tcp/80`"),
            ("gre/5", "no ports", "write gre"),
            (
                "icmpv6/echo-request",
                "no rules of its own",
                "icmp/echo-request",
            ),
            ("icmp/128", "ICMPv6's number", "icmp/echo-request"),
            (
                "icmp/echo-requets",
                "unknown ICMP type",
                "icmp/echo-request",
            ),
            ("icmp/256", "not from 0 to 255", ""),
            ("proto/58", "one family only", "icmp/*"),
            ("proto/256", "not a number from 0 to 255", ""),
            ("", "unknown protocol", "tcp/80"),
        ] {
            let (m, h) = parse(text).unwrap_err();
            assert!(m.contains(message), "{text}: {m}");
            assert!(h.unwrap_or_default().contains(help), "{text}");
        }
    }
}
