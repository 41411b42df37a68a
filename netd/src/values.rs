//! Values of options and annotations: text in, checked value out, errors that quote the input and
//! show what would be right.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use firewall::bandwidth::Shape;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::api::Limit;

/// A value that cannot be one, with what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} {expected}")]
pub(crate) struct ValueError {
    input: String,
    expected: String,
}

impl ValueError {
    pub(crate) fn new(input: &str, expected: impl Into<String>) -> Self {
        Self {
            input: input.to_owned(),
            expected: expected.into(),
        }
    }
}

/// `ADDR` or `ADDR:PORT` of a resolver.
pub(crate) fn server(text: &str) -> Result<String, ValueError> {
    let address = text.parse::<IpAddr>().is_ok();
    let with_port = text
        .parse::<std::net::SocketAddr>()
        .is_ok_and(|s| s.port() != 0);
    if address || with_port {
        return Ok(text.to_owned());
    }
    let expected =
        "is no resolver, write ADDR or ADDR:PORT, such as 192.0.2.53 or [2001:db8::53]:5353";
    Err(ValueError::new(text, expected))
}

/// `DOMAIN=ADDR[:PORT],…`: the resolvers of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpstreamDomain {
    pub(crate) domain: String,
    pub(crate) servers: Vec<String>,
}

impl FromStr for UpstreamDomain {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once('=') {
            Some((domain, servers)) if !domain.is_empty() => Ok(Self {
                domain: domain.to_ascii_lowercase(),
                servers: servers.split(',').map(server).collect::<Result<_, _>>()?,
            }),
            _ => Err(ValueError::new(
                text,
                "is no domain with its resolvers, write DOMAIN=ADDR",
            )),
        }
    }
}

/// `KEY=VALUE` of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Label {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let plain = |part: &str| !part.chars().any(|c| c.is_whitespace() || c.is_control());
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && plain(key) && plain(value) => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            Some(("", _)) => Err(ValueError::new(text, "has no key, write KEY=VALUE")),
            Some(_) => Err(ValueError::new(text, "has white space, write KEY=VALUE")),
            None => Err(ValueError::new(text, "is no label, write KEY=VALUE")),
        }
    }
}

/// Several labels as a map; a key given twice with different values is an error.
pub(crate) fn label_map(
    labels: &[Label],
) -> Result<std::collections::HashMap<String, String>, ValueError> {
    let mut map = std::collections::HashMap::new();
    for label in labels {
        let earlier = map.insert(label.key.clone(), label.value.clone());
        if earlier.is_some_and(|value| value != label.value) {
            return Err(ValueError::new(&label.key, "is given as a label twice"));
        }
    }
    Ok(map)
}

/// How much a container may send and receive, in the words of policies: `100mbit`, `egress=20mbit,burst=256kb`.
pub(crate) fn bandwidth(text: &str) -> Result<Vec<Limit>, ValueError> {
    let asked = firewall::policy::bandwidth_asked(text)
        .map_err(|why| ValueError::new(text, format!("is no limit: {why}")))?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let one = |direction: &str, shape: Option<Shape>| {
        shape.map(|shape| Limit {
            direction: direction.to_owned(),
            rate: number(shape.rate),
            burst: shape.burst.map(number),
        })
    };
    let limits = [one("ingress", asked.ingress), one("egress", asked.egress)];
    Ok(limits.into_iter().flatten().collect())
}

/// [`bandwidth`], checked and left as it stands.
pub(crate) fn bandwidth_text(text: &str) -> Result<String, ValueError> {
    bandwidth(text).map(|_| text.to_owned())
}

/// An IPv4 subnet, or `none`.
pub(crate) fn subnet4(text: &str) -> Result<String, ValueError> {
    let wrong = "is no IPv4 subnet, write it like 10.1.2.0/24";
    subnet(
        text,
        |text| text.parse::<Ipv4Net>().ok().map(IpNet::from),
        wrong,
    )
}

/// An IPv6 subnet, or `none`.
pub(crate) fn subnet6(text: &str) -> Result<String, ValueError> {
    let wrong = "is no IPv6 subnet, write it like fd12:3456:789a:1::/64, or `none`";
    subnet(
        text,
        |text| text.parse::<Ipv6Net>().ok().map(IpNet::from),
        wrong,
    )
}

fn subnet(
    text: &str,
    parse: impl Fn(&str) -> Option<IpNet>,
    wrong: &'static str,
) -> Result<String, ValueError> {
    if text == "none" {
        return Ok(text.to_owned());
    }
    match parse(text) {
        Some(net) if net.trunc() == net => Ok(net.to_string()),
        Some(net) => Err(ValueError::new(
            text,
            format!("has host bits set, did you mean {}?", net.trunc()),
        )),
        None => Err(ValueError::new(text, wrong)),
    }
}

/// `FIRST-LAST`, both IPv4.
pub(crate) fn pool(text: &str) -> Result<String, ValueError> {
    let ends = text.split_once('-').and_then(|(first, last)| {
        let first = first.trim().parse::<Ipv4Addr>().ok()?;
        let last = last.trim().parse::<Ipv4Addr>().ok()?;
        Some((first, last))
    });
    match ends {
        Some((first, last)) if first <= last => Ok(format!("{first}-{last}")),
        Some(_) => Err(ValueError::new(text, "ends before it begins")),
        None => Err(ValueError::new(
            text,
            "is no range of addresses, write it like 10.1.2.10-10.1.2.99",
        )),
    }
}

/// An address without prefix length.
pub(crate) fn address(text: &str) -> Result<IpAddr, ValueError> {
    text.parse().map_err(|_| {
        ValueError::new(
            text,
            "is no IPv4 or IPv6 address (without prefix length), such as 10.89.0.7",
        )
    })
}

/// A process id.
pub(crate) fn pid(text: &str) -> Result<i32, ValueError> {
    match text.parse::<i32>() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(ValueError::new(text, "is no process id")),
    }
}

/// Whom a connection is opened to: besides [`endpoint`], a name of the world, `dns:NAME`.
pub(crate) fn target(text: &str) -> Result<String, ValueError> {
    match text.strip_prefix("dns:") {
        None => endpoint(text),
        Some(name) if !name.starts_with("*.") && name.parse::<dns::Pattern>().is_ok() => {
            Ok(text.to_owned())
        }
        Some(_) => Err(ValueError::new(
            text,
            "is no name, write dns:www.example.org",
        )),
    }
}

/// A side of a connection: a container, or its port in one zone (`NAME@ZONE`), `host`, `world`, or an address.
pub(crate) fn endpoint(text: &str) -> Result<String, ValueError> {
    let name = text.strip_prefix("container:").unwrap_or(text);
    if text.parse::<IpAddr>().is_ok() || name.parse::<zone::PortName>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err(ValueError::new(
            text,
            "is neither a container, nor `host`, `world`, or an address",
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels() {
        let label: Label = "tier=front".parse().unwrap();
        assert_eq!(
            (label.key.as_str(), label.value.as_str()),
            ("tier", "front")
        );
        let label: Label = "expr=a=b".parse().unwrap();
        assert_eq!(label.value, "a=b");
        assert_eq!("empty=".parse::<Label>().unwrap().value, "");
        for bad in ["tier", "=front", "a b=c", "a=b c", ""] {
            let error = bad.parse::<Label>().unwrap_err().to_string();
            assert!(error.contains("KEY=VALUE"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_label_given_twice_must_agree() {
        let labels = |texts: &[&str]| {
            let labels: Vec<Label> = texts.iter().map(|t| t.parse().unwrap()).collect();
            label_map(&labels)
        };
        assert_eq!(labels(&["a=1", "b=2", "a=1"]).unwrap().len(), 2);
        assert!(labels(&["a=1", "a=2"]).is_err());
    }

    #[test]
    fn subnets_say_what_would_be_right() {
        assert_eq!(subnet4("10.1.2.0/24").unwrap(), "10.1.2.0/24");
        let error = subnet4("10.1.2.3/24").unwrap_err().to_string();
        assert!(error.contains("did you mean 10.1.2.0/24?"), "{error}");
        assert!(subnet4("10.1.2.0").is_err());
        assert!(subnet4("fd00::/64").is_err());
        assert_eq!(subnet6("none").unwrap(), "none");
        assert_eq!(subnet6("FD00:0::/64").unwrap(), "fd00::/64");
        assert!(subnet6("fd00::1/64").is_err());
    }

    #[test]
    fn pools() {
        assert_eq!(pool("10.0.0.2-10.0.0.9").unwrap(), "10.0.0.2-10.0.0.9");
        for bad in ["10.0.0.9-10.0.0.2", "10.0.0.2", "a-b", "10.0.0.2-"] {
            assert!(pool(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints() {
        for good in [
            "web",
            "host",
            "world",
            "10.0.0.1",
            "fd00::1",
            "container:host",
            "web@dmz",
        ] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "fd00:::1", "10.0.0.0/8", "zone:dmz", "web@"] {
            assert!(endpoint(bad).is_err(), "{bad}");
            assert!(target(bad).is_err(), "{bad}");
        }
        assert!(target("dns:www.example.org").is_ok() && target("web").is_ok());
        assert!(endpoint("dns:www.example.org").is_err());
        assert!(target("dns:*.example.org").is_err() && target("dns:.").is_err());
    }
}
