//! Published ports as text: `[ADDR:]HOSTPORT[-END]:PORT[/udp]`, and as systemd-nspawn writes them:
//! `[tcp:|udp:]HOSTPORT[:PORT]`.

use std::net::IpAddr;

use firewall::model::Publish;

use crate::values::ValueError;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The word for a protocol that can be published.
pub(crate) fn proto(number: u8) -> &'static str {
    if number == UDP { "udp" } else { "tcp" }
}

/// Parses the form of `--publish`.
pub(crate) fn parse(text: &str) -> Result<Publish, ValueError> {
    let wrong = |why: &str| {
        let form = "write [ADDR:]HOSTPORT[-END]:PORT[/udp], such as 127.0.0.1:8080:80";
        ValueError::new(text, format!("{why}, {form}"))
    };
    let (rest, proto) = match text.split_once('/') {
        None => (text, TCP),
        Some((rest, "tcp")) => (rest, TCP),
        Some((rest, "udp")) => (rest, UDP),
        Some((_, "sctp")) => {
            return Err(wrong(
                "names sctp, whose connections have many addresses: only tcp and udp can be published",
            ));
        }
        Some(_) => return Err(wrong("has a protocol that is neither tcp nor udp")),
    };
    let (address, rest) = split_address(rest).ok_or_else(|| wrong("has no valid address"))?;
    if let Some(why) = address.and_then(unfit) {
        return Err(wrong(why));
    }
    let (host, port) = rest
        .split_once(':')
        .filter(|(host, _)| host.parse::<IpAddr>().is_err())
        .ok_or_else(|| wrong("does not name the container's port"))?;
    if port.contains('-') {
        return Err(wrong(
            "names a range of the container's ports, of which only the first is written",
        ));
    }
    let number = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(wrong("has a port that is not a number from 1 to 65535")),
    };
    let (first, last) = match host.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(host)?, number(host)?),
    };
    let port = number(port)?;
    if last < first {
        return Err(wrong("has a range that ends before it begins"));
    }
    if port.checked_add(last - first).is_none() {
        return Err(wrong("leads to ports above 65535"));
    }
    Ok(Publish {
        address,
        proto,
        first,
        last,
        port,
    })
}

/// Why nothing can be published on an address, if so.
fn unfit(address: IpAddr) -> Option<&'static str> {
    let link_local = |a: IpAddr| matches!(a, IpAddr::V6(a) if a.is_unicast_link_local());
    let broadcast = |a: IpAddr| matches!(a, IpAddr::V4(a) if a.is_broadcast());
    if address.is_unspecified() {
        Some("listens on every address without naming one")
    } else if address.is_multicast() || broadcast(address) {
        Some("names an address of many hosts")
    } else if link_local(address) {
        Some("names a link-local address, which is another host on every link")
    } else if address.to_canonical() != address {
        Some("names an IPv4 address as IPv6")
    } else {
        None
    }
}

/// `ADDR:REST` → the address if there is one, and the rest. None: there is something else in its place.
fn split_address(text: &str) -> Option<(Option<IpAddr>, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once("]:")?;
        return Some((Some(IpAddr::V6(address.parse().ok()?)), rest));
    }
    match text.split(':').count() {
        0..=2 => Some((None, text)),
        _ => {
            let (address, rest) = text.split_once(':')?;
            Some((Some(IpAddr::V4(address.parse().ok()?)), rest))
        }
    }
}

/// Parses the form of systemd-nspawn's `--port`, and that of `--publish`.
pub(crate) fn parse_nspawn(text: &str) -> Result<Publish, ValueError> {
    let (proto, ports) = match text.split_once(':') {
        Some(("tcp", ports)) => (Some("tcp"), ports),
        Some(("udp", ports)) => (Some("udp"), ports),
        _ => (None, text),
    };
    // A single port is the same on both sides.
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let own = match (proto, is_port(ports)) {
        (Some(proto), true) => format!("{ports}:{ports}/{proto}"),
        (Some(_), false) if ports.contains('/') => {
            return Err(ValueError::new(text, "names the protocol twice"));
        }
        (Some(proto), false) => format!("{ports}/{proto}"),
        (None, true) => format!("{ports}:{ports}"),
        (None, false) => text.to_owned(),
    };
    // The error quotes what was typed, not what it was turned into.
    parse(&own).map_err(|e| {
        if own == text {
            e
        } else {
            ValueError::new(
                text,
                "is no published port, write [tcp:|udp:]HOSTPORT[:PORT]",
            )
        }
    })
}

/// The text that means `publish`, in the form of `--publish`; always the same for the same ports.
pub(crate) fn text(publish: &Publish) -> String {
    let address = match publish.address {
        Some(IpAddr::V4(a)) => format!("{a}:"),
        Some(IpAddr::V6(a)) => format!("[{a}]:"),
        None => String::new(),
    };
    let range = if publish.last == publish.first {
        publish.first.to_string()
    } else {
        format!("{}-{}", publish.first, publish.last)
    };
    let proto = match publish.proto {
        UDP => "/udp",
        _ => "",
    };
    format!("{address}{range}:{}{proto}", publish.port)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_parsed_is_written_the_same() {
        for good in [
            "8080:80",
            "53:5353/udp",
            "127.0.0.1:8080:80",
            "[::1]:8080:80",
            "[2001:db8::1]:53:53/udp",
            "8000-8099:9000",
            "10.0.0.1:8000-8001:80/udp",
            "65535:65535",
        ] {
            assert_eq!(text(&parse(good).unwrap()), good);
        }
        assert_eq!(text(&parse("80:80/tcp").unwrap()), "80:80");
    }

    #[test]
    fn what_cannot_be_says_why() {
        for (bad, why) in [
            ("80", "container's port"),
            ("", "container's port"),
            ("0:80", "from 1 to 65535"),
            ("80:0", "from 1 to 65535"),
            ("80:65536", "from 1 to 65535"),
            ("+80:80", "from 1 to 65535"),
            ("80:80/sctp", "only tcp and udp"),
            ("80:80/icmp", "neither tcp nor udp"),
            ("80:80/", "neither tcp nor udp"),
            ("8000-8010:8000-8010", "only the first"),
            ("224.0.0.1:80:80", "many hosts"),
            ("[ff02::1]:80:80", "many hosts"),
            ("255.255.255.255:80:80", "many hosts"),
            ("[fe80::1]:80:80", "link-local"),
            ("[fe80::1%eth0]:80:80", "valid address"),
            ("[::ffff:192.0.2.1]:80:80", "IPv4 address as IPv6"),
            ("192.0.2.1:80", "container's port"),
            ("90-80:80", "ends before it begins"),
            ("1-65535:2", "above 65535"),
            ("localhost:80:80", "valid address"),
            ("::1:80:80", "valid address"),
            ("[::1:80:80", "valid address"),
            ("[127.0.0.1]:80:80", "valid address"),
            ("0.0.0.0:80:80", "every address"),
            ("[::]:80:80", "every address"),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
            assert!(error.contains(&format!("{bad:?}")), "{bad}: {error}");
        }
    }

    fn any_publish() -> impl Strategy<Value = Publish> {
        let v4 = prop::num::u32::ANY.prop_map(|bits| IpAddr::V4(bits.into()));
        let v6 = prop::num::u128::ANY.prop_map(|bits| IpAddr::V6(bits.into()));
        let address = prop::option::of(prop_oneof![v4, v6]);
        let ports = (1u16.., 1u16.., prop_oneof![Just(0), 0u16..]);
        (address, any::<bool>(), ports)
            .prop_filter("can be published on", |(address, ..)| {
                address.is_none_or(|a| unfit(a).is_none())
            })
            .prop_map(|(address, udp, (first, port, more))| Publish {
                address,
                proto: if udp { UDP } else { TCP },
                first,
                last: first + more.min(u16::MAX - first).min(u16::MAX - port),
                port,
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed_the_same(publish in any_publish()) {
            let text = text(&publish);
            prop_assert_eq!(parse(&text).unwrap(), publish.clone());
            prop_assert_eq!(parse_nspawn(&text).unwrap(), publish);
        }

        #[test]
        fn any_text_is_parsed_or_refused_with_itself_quoted(
            text in prop_oneof![".*", "[0-9a-f:.\\[\\]/-]{0,30}", "([0-9]{1,3}\\.){3}[0-9]{1,3}:[0-9]{1,5}(-[0-9]{1,5})?:[0-9]{1,5}(/(tcp|udp))?"],
        ) {
            match parse(&text) {
                Ok(publish) => {
                    prop_assert!(publish.first > 0 && publish.first <= publish.last && publish.port > 0);
                    prop_assert_eq!(parse(&super::text(&publish)).unwrap(), publish);
                }
                Err(e) => {
                    let quoted = format!("{text:?}");
                    prop_assert!(e.to_string().contains(&quoted));
                }
            }
        }
    }

    #[test]
    fn systemd_nspawns_form() {
        for (nspawn, own) in [
            ("8080", "8080:8080"),
            ("8080:80", "8080:80"),
            ("tcp:8080", "8080:8080"),
            ("tcp:8080:80", "8080:80"),
            ("udp:53", "53:53/udp"),
            ("udp:53:5353", "53:5353/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80"),
            ("53:53/udp", "53:53/udp"),
        ] {
            assert_eq!(text(&parse_nspawn(nspawn).unwrap()), own, "{nspawn}");
        }
        for bad in ["", "tcp:", "sctp:80", "udp:53:53/tcp", "udp:0", "http"] {
            let error = parse_nspawn(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{bad}: {error}");
        }
    }
}
