//! `[dhcp.options]`: the names of DHCP options (as Kea and the IANA registry have them), the type of each, and
//! values → bytes as they go over the wire (RFC 2132 and the RFCs of the later ones).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use toml_edit::{Item, Value};

use super::{Wrong, domain, wrong};
use crate::file::dhcp::DhcpOption;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    /// Bytes, `hex:01:02`.
    Hex,
    Text,
    Flag,
    U8,
    U16,
    U32,
    I32,
    /// One address.
    Ip,
    /// Addresses.
    Ips,
    /// Two addresses each.
    Pairs,
    U16s,
    /// One domain name (RFC 1035 §3.1).
    Name,
    /// Domain names, without compression, which all readers take (RFC 3397).
    Names,
    /// Destinations and routers (RFC 3442), `"10.0.0.0/8 10.89.0.9"`.
    Routes,
}

/// Options that have a name. `value` alone is read as this type.
const NAMED: &[(u8, &str, Type)] = &[
    (1, "subnet-mask", Type::Ip),
    (2, "time-offset", Type::I32),
    (3, "routers", Type::Ips),
    (4, "time-servers", Type::Ips),
    (5, "name-servers", Type::Ips),
    (6, "domain-name-servers", Type::Ips),
    (7, "log-servers", Type::Ips),
    (8, "cookie-servers", Type::Ips),
    (9, "lpr-servers", Type::Ips),
    (10, "impress-servers", Type::Ips),
    (11, "resource-location-servers", Type::Ips),
    (12, "host-name", Type::Text),
    (13, "boot-size", Type::U16),
    (14, "merit-dump", Type::Text),
    (15, "domain-name", Type::Text),
    (16, "swap-server", Type::Ip),
    (17, "root-path", Type::Text),
    (18, "extensions-path", Type::Text),
    (19, "ip-forwarding", Type::Flag),
    (20, "non-local-source-routing", Type::Flag),
    (21, "policy-filter", Type::Pairs),
    (22, "max-dgram-reassembly", Type::U16),
    (23, "default-ip-ttl", Type::U8),
    (24, "path-mtu-aging-timeout", Type::U32),
    (25, "path-mtu-plateau-table", Type::U16s),
    (26, "interface-mtu", Type::U16),
    (27, "all-subnets-local", Type::Flag),
    (28, "broadcast-address", Type::Ip),
    (29, "perform-mask-discovery", Type::Flag),
    (30, "mask-supplier", Type::Flag),
    (31, "router-discovery", Type::Flag),
    (32, "router-solicitation-address", Type::Ip),
    (33, "static-routes", Type::Pairs),
    (34, "trailer-encapsulation", Type::Flag),
    (35, "arp-cache-timeout", Type::U32),
    (36, "ieee802-3-encapsulation", Type::Flag),
    (37, "default-tcp-ttl", Type::U8),
    (38, "tcp-keepalive-interval", Type::U32),
    (39, "tcp-keepalive-garbage", Type::Flag),
    (40, "nis-domain", Type::Text),
    (41, "nis-servers", Type::Ips),
    (42, "ntp-servers", Type::Ips),
    (43, "vendor-encapsulated-options", Type::Hex),
    (44, "netbios-name-servers", Type::Ips),
    (45, "netbios-dd-server", Type::Ips),
    (46, "netbios-node-type", Type::U8),
    (47, "netbios-scope", Type::Text),
    (48, "font-servers", Type::Ips),
    (49, "x-display-manager", Type::Ips),
    (60, "vendor-class-identifier", Type::Text),
    (62, "nwip-domain-name", Type::Text),
    (64, "nisplus-domain-name", Type::Text),
    (65, "nisplus-servers", Type::Ips),
    (66, "tftp-server-name", Type::Text),
    (67, "boot-file-name", Type::Text),
    (68, "mobile-ip-home-agent", Type::Ips),
    (69, "smtp-server", Type::Ips),
    (70, "pop-server", Type::Ips),
    (71, "nntp-server", Type::Ips),
    (72, "www-server", Type::Ips),
    (73, "finger-server", Type::Ips),
    (74, "irc-server", Type::Ips),
    (75, "streettalk-server", Type::Ips),
    (76, "streettalk-directory-assistance-server", Type::Ips),
    (85, "nds-servers", Type::Ips),
    (86, "nds-tree-name", Type::Text),
    (87, "nds-context", Type::Text),
    (100, "pcode", Type::Text),
    (101, "tcode", Type::Text),
    (108, "v6-only-preferred", Type::U32),
    (112, "netinfo-server-address", Type::Ips),
    (113, "netinfo-server-tag", Type::Text),
    (114, "v4-captive-portal", Type::Text),
    (116, "auto-config", Type::U8),
    (119, "domain-search", Type::Names),
    (121, "classless-static-route", Type::Routes),
    (124, "vivco-suboptions", Type::Hex),
    (125, "vivso-suboptions", Type::Hex),
    (137, "v4-lost", Type::Name),
    (138, "capwap-ac-v4", Type::Ips),
    (141, "sip-ua-cs-domains", Type::Names),
    (146, "rdnss-selection", Type::Hex),
    (150, "tftp-server-address", Type::Ips),
    (209, "config-file", Type::Text),
    (210, "path-prefix", Type::Text),
    (211, "reboot-time", Type::U32),
    (213, "v4-access-domain", Type::Name),
    (249, "ms-classless-static-route", Type::Routes),
    (252, "wpad-url", Type::Text),
];

/// Words for types, `{ u16 = 7 }`.
const WORDS: &[(&str, Type)] = &[
    ("hex", Type::Hex),
    ("text", Type::Text),
    ("flag", Type::Flag),
    ("u8", Type::U8),
    ("u16", Type::U16),
    ("u32", Type::U32),
    ("i32", Type::I32),
    ("address", Type::Ip),
    ("addresses", Type::Ips),
    ("name", Type::Name),
    ("names", Type::Names),
    ("routes", Type::Routes),
];

/// What the protocol itself says, and no file: RFC 2131 table 3 leaves no choice, nor do RFC 3046, 4039,
/// 4702 and 3011.
fn is_protocols(code: u8) -> bool {
    matches!(code, 0 | 50..=59 | 61 | 80..=82 | 118 | 255)
}

/// One option of the table.
pub(super) fn option(key: &str, item: &Item) -> Result<DhcpOption, Wrong> {
    let (code, kind) = code_of(key)?;
    if is_protocols(code) {
        return wrong(
            format!("option {code} belongs to the protocol itself"),
            "take it out; the lease time is the key lease of [dhcp]",
        );
    }
    let Some(value) = item.as_value() else {
        return wrong(
            format!("option {key} is of type {}", item.type_name()),
            "write a value, like \"text\", [\"10.0.0.1\"] or { u16 = 7 }",
        );
    };
    let (always, bytes) = typed(key, kind, value)?;
    // What a datagram of 1,500 bytes leaves beside all else, as the server has it.
    if bytes.len() > 1000 {
        return wrong(
            format!("option {key} is {} bytes long", bytes.len()),
            "write at most 1000 bytes: it must fit a message",
        );
    }
    let mut plain = value.clone();
    plain.decor_mut().clear();
    Ok(DhcpOption {
        key: key.to_owned(),
        text: plain.to_string(),
        code,
        value: bytes,
        always,
    })
}

fn code_of(key: &str) -> Result<(u8, Option<Type>), Wrong> {
    if let Some((code, _, kind)) = NAMED.iter().find(|(_, name, _)| *name == key) {
        return Ok((*code, Some(*kind)));
    }
    match key.parse::<u8>() {
        Ok(code) => {
            let known = NAMED.iter().find(|(other, _, _)| *other == code);
            Ok((code, known.map(|(_, _, kind)| *kind)))
        }
        Err(_) => wrong(
            format!("{key:?} is no DHCP option"),
            match likely(key) {
                Some(name) => format!("did you mean {name}? Or give its number, 1 to 254"),
                None => "give its number, 1 to 254, or its name in the IANA registry of options, \
                         like ntp-servers"
                    .to_owned(),
            },
        ),
    }
}

/// A name that begins or ends like this one.
fn likely(key: &str) -> Option<&'static str> {
    let stem = key
        .trim_end_matches('s')
        .replace('_', "-")
        .to_ascii_lowercase();
    let stem = if stem == "mtu" {
        "interface-mtu".into()
    } else {
        stem
    };
    let mut names = NAMED.iter().map(|(_, name, _)| *name);
    names.find(|name| stem.len() > 2 && (name.starts_with(&stem) || stem.starts_with(name)))
}

/// Whether everybody gets it, and its bytes. `{ u16 = 7 }` names its type, `{ value = …, always = true }` does not.
fn typed(key: &str, kind: Option<Type>, value: &Value) -> Result<(bool, Vec<u8>), Wrong> {
    let Some(table) = value.as_inline_table() else {
        return encode(key, kind, value).map(|bytes| (false, bytes));
    };
    let (mut always, mut found) = (false, None);
    for (word, part) in table.iter() {
        let kind = WORDS
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, kind)| Some(*kind));
        let kind = match word {
            "always" => {
                match part.as_bool() {
                    Some(flag) => always = flag,
                    None => return wrong("always is a flag", "write true or false"),
                }
                continue;
            }
            "value" => Some(kind_of(key)),
            _ => kind,
        };
        let Some(kind) = kind else {
            let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
            return wrong(
                format!("{word:?} is no type of option {key}"),
                format!("the types are {}; or value, and always", words.join(", ")),
            );
        };
        if found.replace(encode(key, kind, part)?).is_some() {
            return wrong(format!("option {key} has two values"), "keep one of them");
        }
    }
    match found {
        Some(bytes) => Ok((always, bytes)),
        None => wrong(
            format!("option {key} has no value"),
            "write one, like { u16 = 7 }",
        ),
    }
}

fn kind_of(key: &str) -> Option<Type> {
    code_of(key).ok().and_then(|(_, kind)| kind)
}

/// What a value most likely is, where neither name nor type tells.
fn guess(value: &Value) -> Option<Type> {
    let is_address = |value: &Value| {
        value
            .as_str()
            .is_some_and(|t| t.parse::<Ipv4Addr>().is_ok())
    };
    match value {
        Value::Boolean(_) => Some(Type::Flag),
        Value::String(_) if is_address(value) => Some(Type::Ip),
        Value::String(_) => Some(Type::Text),
        Value::Array(list) if list.iter().all(is_address) => Some(Type::Ips),
        _ => None,
    }
}

fn encode(key: &str, kind: Option<Type>, value: &Value) -> Result<Vec<u8>, Wrong> {
    // bytes are bytes, whatever the option
    if let Some(digits) = value.as_str().and_then(|text| text.strip_prefix("hex:")) {
        return hex(digits);
    }
    let Some(kind) = kind.or_else(|| guess(value)) else {
        return wrong(
            format!("option {key} has no type of its own"),
            "say it, like { u16 = 7 }, { addresses = [\"10.0.0.1\"] } or \"hex:01:02\"",
        );
    };
    let each = |read: &dyn Fn(&Value) -> Option<Vec<u8>>| -> Option<Vec<u8>> {
        match value.as_array() {
            Some(list) if list.is_empty() => None,
            Some(list) => list
                .iter()
                .map(read)
                .collect::<Option<Vec<_>>>()
                .map(|l| l.concat()),
            None => read(value),
        }
    };
    let number = || value.as_integer();
    let (bytes, wanted) = match kind {
        Type::Hex => (None, "bytes, like \"hex:01:02\""),
        Type::Text => {
            let text = value.as_str().filter(|text| !text.is_empty());
            (
                text.map(|text| text.as_bytes().to_vec()),
                "a text, in quotes",
            )
        }
        Type::Flag => (
            value.as_bool().map(|flag| vec![u8::from(flag)]),
            "true or false",
        ),
        Type::U8 => (
            number().and_then(|n| Some(vec![u8::try_from(n).ok()?])),
            "0 to 255",
        ),
        Type::U16 => (
            number().and_then(|n| Some(u16::try_from(n).ok()?.to_be_bytes().to_vec())),
            "0 to 65535",
        ),
        Type::U32 => (
            number().and_then(|n| Some(u32::try_from(n).ok()?.to_be_bytes().to_vec())),
            "0 to 4294967295",
        ),
        Type::I32 => (
            number().and_then(|n| Some(i32::try_from(n).ok()?.to_be_bytes().to_vec())),
            "a number of 32 bits",
        ),
        Type::U16s => (
            each(&|v| Some(u16::try_from(v.as_integer()?).ok()?.to_be_bytes().to_vec())),
            "numbers of 0 to 65535",
        ),
        Type::Ip => (address(value), "one IPv4 address, in quotes"),
        Type::Ips => (each(&address), "a list of IPv4 addresses, in quotes"),
        Type::Pairs => (
            each(&|v| {
                let (a, b) = v.as_str()?.split_once(' ')?;
                let pair = [a, b].map(|t| t.trim().parse::<Ipv4Addr>().ok());
                Some([pair[0]?.octets(), pair[1]?.octets()].concat())
            }),
            "a list of two addresses each, like \"192.0.2.0 10.89.0.9\"",
        ),
        Type::Name => (value.as_str().and_then(name), "a domain name"),
        Type::Names => (each(&|v| name(v.as_str()?)), "a list of domain names"),
        Type::Routes => (
            each(&|v| route(v.as_str()?)),
            "a list of destination and router each, like \"192.168.7.0/24 10.89.0.9\"",
        ),
    };
    match bytes {
        Some(bytes) => Ok(bytes),
        None => wrong(
            format!("{} is no value for option {key}", value.to_string().trim()),
            format!("write {wanted}"),
        ),
    }
}

fn address(value: &Value) -> Option<Vec<u8>> {
    let address = value.as_str()?.parse::<Ipv4Addr>().ok()?;
    Some(address.octets().to_vec())
}

/// Labels with their lengths, and an empty one.
fn name(text: &str) -> Option<Vec<u8>> {
    let text = domain(text.trim_end_matches('.')).ok()?;
    let mut bytes = Vec::with_capacity(text.len() + 2);
    for label in text.split('.') {
        bytes.push(u8::try_from(label.len()).ok()?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    Some(bytes)
}

/// RFC 3442: the length of the prefix, its significant octets, the router.
fn route(text: &str) -> Option<Vec<u8>> {
    let (to, via) = text.split_once(' ')?;
    let to: Ipv4Net = to.parse().ok()?;
    let via: Ipv4Addr = via.trim().parse().ok()?;
    let octets = usize::from(to.prefix_len().div_ceil(8));
    let mut bytes = vec![to.prefix_len()];
    bytes.extend_from_slice(&to.network().octets()[..octets]);
    bytes.extend(via.octets());
    Some(bytes)
}

/// Pairs of hexadecimal digits, with or without colons between them.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, Wrong> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !b": ".contains(byte)).collect();
    let nibble = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some((nibble(high)? << 4 | nibble(low)?) as u8), // two nibbles
        _ => None,
    };
    match digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>() {
        Some(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => wrong(
            format!("{text:?} is not a row of bytes"),
            "write pairs of hexadecimal digits, like \"hex:01:ff\"",
        ),
    }
}
