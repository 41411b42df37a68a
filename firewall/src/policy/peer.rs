//! The other side of a rule: `container:`, `zone:`, `label:`, `dns:`, an address or network, and the
//! words `world`, `host` and `any`.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use zone::{ContainerName, ZoneName};

use super::suggest::nearest;

/// One entry of `from` or `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// The container of this name, whatever its address is. Matches nothing while nobody has the name.
    Container(ContainerName),
    /// The containers of a zone (its gateway is not one).
    Zone(ZoneName),
    /// The containers with this label.
    Label(String, String),
    /// Everything with an address in this network, whatever stands behind it. Without host bits.
    Net(IpNet),
    /// What is neither a container or zone address, nor the host, loopback, multicast or link-local.
    World,
    /// The host itself, by any of its addresses, gateways included.
    Host,
    /// Containers, host and world together.
    Any,
    /// Addresses of the world that a name resolves to; `*.` in front stands for any labels.
    Dns(String),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Container(name) => write!(f, "container:{name}"),
            Peer::Zone(name) => write!(f, "zone:{name}"),
            Peer::Label(key, value) => write!(f, "label:{key}={value}"),
            Peer::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                write!(f, "{}", net.addr())
            }
            Peer::Net(net) => write!(f, "{net}"),
            Peer::World => f.write_str("world"),
            Peer::Host => f.write_str("host"),
            Peer::Any => f.write_str("any"),
            Peer::Dns(name) => write!(f, "dns:{name}"),
        }
    }
}

pub(super) const WORDS: [&str; 3] = ["world", "host", "any"];
pub(super) const KINDS: [&str; 4] = ["container", "zone", "label", "dns"];

/// What is wrong, and what to do about it.
type Wrong = (String, Option<String>);

/// Reads a peer, or says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Peer, Wrong> {
    match text {
        "world" => return Ok(Peer::World),
        "host" => return Ok(Peer::Host),
        "any" => return Ok(Peer::Any),
        _ => {}
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Peer::Net(IpNet::from(address)));
    }
    if let Some((address, length)) = text.split_once('/') {
        return network(text, address, length);
    }
    let Some((kind, rest)) = text.split_once(':') else {
        return Err(not_a_peer(text));
    };
    let named = |error: zone::NameError| (error.to_string(), None);
    match kind {
        "container" => rest.parse().map(Peer::Container).map_err(named),
        "zone" => rest.parse().map(Peer::Zone).map_err(named),
        "label" => label(rest),
        "dns" => dns(rest),
        _ => Err(unknown_kind(text, kind)),
    }
}

fn network(text: &str, address: &str, length: &str) -> Result<Peer, Wrong> {
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err((
            format!("{text:?} is not a network"),
            Some("write ADDRESS/LENGTH, such as 192.0.2.0/24 or 2001:db8::/32".into()),
        ));
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let net = length
        .parse::<u8>()
        .ok()
        // `+24` and `024` are read by parse, and by nobody else
        .filter(|n| n.to_string() == length)
        .and_then(|length| IpNet::new(address, length).ok())
        .ok_or_else(|| {
            let message =
                format!("network {text:?} has no prefix length from 0 to {longest} after the '/'");
            (message, None)
        })?;
    if net.trunc() != net {
        return Err((
            format!("network {text:?} has host bits set"),
            Some(format!(
                "the network is {}; the single address is {address}",
                net.trunc()
            )),
        ));
    }
    Ok(Peer::Net(net))
}

fn label(text: &str) -> Result<Peer, Wrong> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Peer::Label(key.into(), value.into())),
        Some(_) => Err((
            format!("label {text:?} has no key"),
            Some("write label:KEY=VALUE".into()),
        )),
        None => Err((
            format!("label {text:?} has no value"),
            Some(format!("write label:{text}=VALUE")),
        )),
    }
}

/// A host name of RFC 1123 (§2.1), with `*.` in front if need be.
fn dns(text: &str) -> Result<Peer, Wrong> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let name = name.strip_suffix('.').unwrap_or(name);
    let good = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(good) {
        let help = "write dns:www.example.org or dns:*.example.org";
        return Err((format!("{text:?} is not a DNS name"), Some(help.to_owned())));
    }
    let wildcard = if text.starts_with("*.") { "*." } else { "" };
    Ok(Peer::Dns(format!(
        "{wildcard}{}",
        name.to_ascii_lowercase()
    )))
}

fn unknown_kind(text: &str, kind: &str) -> Wrong {
    let help = match nearest(kind, KINDS) {
        Some(kind) => format!("did you mean `{kind}:`?"),
        None => format!(
            "peers are container:NAME, zone:NAME, label:KEY=VALUE, dns:NAME, an address, a network, {}",
            WORDS.join(", ")
        ),
    };
    // what has more than one colon was probably meant as an IPv6 address
    if text.matches(':').count() > 1 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
        return (
            format!("{text:?} is not an IPv6 address"),
            Some("write it as 2001:db8::1".into()),
        );
    }
    (format!("unknown kind of peer `{kind}:`"), Some(help))
}

fn not_a_peer(text: &str) -> Wrong {
    let help = if let Some(word) = nearest(text, WORDS) {
        format!("did you mean `{word}`?")
    } else if text.contains('=') {
        format!("did you mean `label:{text}`?")
    } else if text.parse::<ContainerName>().is_ok()
        && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        format!("did you mean `container:{text}`?")
    } else {
        format!(
            "write container:NAME, zone:NAME, label:KEY=VALUE, an address, a network, {}",
            WORDS.join(", ")
        )
    };
    (format!("{text:?} is not a peer"), Some(help))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn peers_read_back_as_written() {
        for text in [
            "container:proxy",
            "zone:dmz",
            "label:tier=edge",
            "label:a=b=c",
            "label:a=",
            "192.0.2.0/24",
            "192.0.2.1",
            "2001:db8::/32",
            "::1",
            "0.0.0.0/0",
            "world",
            "host",
            "any",
            "dns:*.example.org",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("192.0.2.1/32").unwrap().to_string(), "192.0.2.1");
    }

    #[test]
    fn errors_name_the_remedy() {
        for (text, message, help) in [
            ("192.0.2.7/24", "host bits set", "192.0.2.0/24"),
            ("2001:db8::1/32", "host bits set", "2001:db8::/32"),
            ("192.0.2.0/33", "0 to 32", ""),
            ("2001:db8::/129", "0 to 128", ""),
            ("192.0.2.0/+24", "0 to 32", ""),
            ("192.0.2/24", "not a network", "192.0.2.0/24"),
            ("192.0.2.256", "not a peer", "container:NAME"),
            (
                "cotainer:web",
                "unknown kind of peer `cotainer:`",
                "`container:`",
            ),
            ("wrold", "not a peer", "`world`"),
            ("web", "not a peer", "`container:web`"),
            ("tier=edge", "not a peer", "`label:tier=edge`"),
            ("label:tier", "no value", "label:tier=VALUE"),
            ("label:=x", "no key", "label:KEY=VALUE"),
            ("zone:DMZ", "lower-case", ""),
            ("container:", "is empty", ""),
            ("2001:db8:::1", "not an IPv6 address", "2001:db8::1"),
            ("dns:-x.org", "not a DNS name", "dns:"),
            ("dns:*.*.org", "not a DNS name", "dns:"),
            ("", "not a peer", "container:NAME"),
        ] {
            let (m, h) = parse(text).unwrap_err();
            assert!(m.contains(message), "{text}: {m}");
            assert!(h.unwrap_or_default().contains(help), "{text}");
        }
    }
}
