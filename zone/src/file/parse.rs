//! Text → [`ZoneFile`]: TOML with spans, each value checked where it stands.

mod bridge;
mod dhcp;
mod dhcp_options;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use ipnet::{Ipv4Net, Ipv6Net};
use toml_edit::{Document, Item, Value};

use super::{DNS_PORT, DefaultPolicy, FileError, SettingError, Subnet6, ZoneFile};

const KEYS: &str = "bridge, subnet4, subnet6, internal, uplink, default, mtu, domain, pool, dns, upstream, upstream-domains, dhcp";

/// Where in the text something stands.
type Span = Range<usize>;

/// What is wrong with a value and what to write instead. Without a span it is the whole value's.
struct Wrong {
    message: String,
    remedy: String,
    span: Option<Span>,
}

fn wrong<T>(message: impl Into<String>, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong {
        message: message.into(),
        remedy: remedy.into(),
        span: None,
    })
}

pub(super) fn zone_file(file: &str, text: &str) -> Result<ZoneFile, FileError> {
    let at = |span: Option<Span>, problem: Wrong| {
        let span = problem.span.or(span);
        let (line, column) = position(text, span.map_or(0, |s| s.start));
        FileError {
            file: file.to_owned(),
            line,
            column,
            message: problem.message,
            remedy: problem.remedy,
        }
    };
    let document = Document::parse(text).map_err(|error| {
        let message = format!("not TOML: {}", error.message().replace('\n', ", "));
        let remedy = "see https://toml.io".to_owned();
        let span = None;
        at(
            error.span(),
            Wrong {
                message,
                remedy,
                span,
            },
        )
    })?;
    let mut zone = ZoneFile::default();
    let (mut pool_span, mut mtu_span, mut subnet_span, mut bridge_span) = (None, None, None, None);
    // dhcp last: what it says is checked against the rest
    let (dhcp, others): (Vec<_>, Vec<_>) = document
        .as_table()
        .iter()
        .partition(|(key, _)| *key == "dhcp");
    for (key, item) in others.into_iter().chain(dhcp) {
        let key_span = document.as_table().key(key).and_then(toml_edit::Key::span);
        let span = item.span().or_else(|| key_span.clone());
        match key {
            "bridge" => bridge_span = span.clone(),
            "pool" => pool_span = span.clone(),
            "mtu" => mtu_span = span.clone(),
            "subnet4" => subnet_span = span.clone(),
            _ => {}
        }
        match set(&mut zone, key, item) {
            Ok(true) => {}
            Ok(false) => {
                let message = format!("unknown key {key:?}");
                let remedy = format!("the keys are {KEYS}");
                let span = key_span;
                return Err(at(
                    None,
                    Wrong {
                        message,
                        remedy,
                        span,
                    },
                ));
            }
            Err(problem) => return Err(at(span, problem)),
        }
    }
    check_mtu(&zone).map_err(|problem| at(mtu_span, problem))?;
    check_pool(&zone).map_err(|problem| at(pool_span, problem))?;
    check_families(&zone).map_err(|problem| at(subnet_span, problem))?;
    bridge::check(&zone).map_err(|problem| at(bridge_span, problem))?;
    Ok(zone)
}

/// One key, given as on a command line: without quotes, a list with commas.
pub(super) fn setting(zone: &ZoneFile, key: &str, words: &str) -> Result<ZoneFile, SettingError> {
    let value: Value = match key {
        "internal" => words.parse().map_or_else(|_| words.into(), bool::into),
        "mtu" => words.parse().map_or_else(|_| words.into(), i64::into),
        "dns" | "upstream" => {
            let list = words.split(',').map(str::trim);
            list.filter(|word| !word.is_empty())
                .collect::<toml_edit::Array>()
                .into()
        }
        _ => words.into(),
    };
    let mut changed = zone.clone();
    let known = set(&mut changed, key, &Item::Value(value))
        .and_then(|known| check_mtu(&changed).map(|()| known))
        .and_then(|known| check_pool(&changed).map(|()| known))
        .and_then(|known| check_families(&changed).map(|()| known))
        .and_then(|known| check_dhcp(&changed).map(|()| known))
        .and_then(|known| bridge::check(&changed).map(|()| known));
    match known {
        Ok(true) => Ok(changed),
        Ok(false) => Err(SettingError {
            message: format!("unknown key {key:?}"),
            remedy: format!("the keys are {KEYS}"),
        }),
        Err(Wrong {
            message, remedy, ..
        }) => Err(SettingError { message, remedy }),
    }
}

/// Line and column (in characters), both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// Takes one key into the zone; false when there is no such key.
fn set(zone: &mut ZoneFile, key: &str, item: &Item) -> Result<bool, Wrong> {
    match key {
        "bridge" => zone.bridge = Some(bridge::name(string(key, item)?)?),
        "subnet4" => {
            zone.subnet4 = subnet4(string(key, item)?)?;
            zone.without_ipv4 = zone.subnet4.is_none();
        }
        "subnet6" => zone.subnet6 = subnet6(string(key, item)?)?,
        "internal" => zone.internal = boolean(key, item)?,
        "uplink" => {
            zone.uplink = match string(key, item)?.parse() {
                Ok(name) => Some(name),
                Err(error) => {
                    let error: crate::NameError = error;
                    return wrong(error.to_string(), "name an interface of the host");
                }
            };
        }
        "default" => {
            let word = string(key, item)?;
            let Some(policy) = DefaultPolicy::from_word(word) else {
                return wrong(
                    format!("default {word:?} is not a policy"),
                    "write \"egress\", \"deny\" or \"allow\"",
                );
            };
            zone.default = policy;
        }
        "mtu" => zone.mtu = Some(mtu(item)?),
        "domain" => zone.domain = Some(domain(string(key, item)?)?),
        "pool" => zone.pool = Some(pool(string(key, item)?)?),
        "dns" => zone.dns = dns(item)?,
        "dhcp" => zone.dhcp = dhcp::dhcp(item, zone.subnet4)?,
        "upstream" => zone.upstream = servers(key, item)?,
        "upstream-domains" => zone.upstream_domains = upstream_domains(item)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn type_error<T>(key: &str, item: &Item, wanted: &str) -> Result<T, Wrong> {
    let found = item.type_name();
    wrong(
        format!("{key} is of type {found}"),
        format!("write {wanted}"),
    )
}

fn string<'a>(key: &str, item: &'a Item) -> Result<&'a str, Wrong> {
    match item.as_str() {
        Some(text) => Ok(text),
        None => type_error(key, item, "a string, in quotes"),
    }
}

fn boolean(key: &str, item: &Item) -> Result<bool, Wrong> {
    match item.as_bool() {
        Some(value) => Ok(value),
        None => type_error(key, item, "true or false"),
    }
}

/// `none`, or an IPv4 subnet that a zone can be: /8 to /30, no host bits, of unicast addresses.
fn subnet4(text: &str) -> Result<Option<Ipv4Net>, Wrong> {
    if text == "none" {
        return Ok(None);
    }
    let Ok(net) = text.parse::<Ipv4Net>() else {
        return wrong(
            format!("subnet4 {text:?} is not an IPv4 subnet"),
            "write one like \"10.89.0.0/24\", or \"none\"",
        );
    };
    if !(8..=30).contains(&net.prefix_len()) {
        return wrong(
            format!("subnet4 {text:?} is /{}", net.prefix_len()),
            "choose a size from /8 to /30",
        );
    }
    if net.trunc() != net {
        return wrong(
            format!("subnet4 {text:?} has bits set behind its prefix"),
            format!("write \"{}\"", net.trunc()),
        );
    }
    let reserved = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"];
    for range in reserved.iter().filter_map(|r| r.parse::<Ipv4Net>().ok()) {
        if range.contains(&net) || net.contains(&range) {
            return wrong(
                format!("subnet4 {text:?} holds reserved addresses ({range})"),
                "choose one of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16",
            );
        }
    }
    Ok(Some(net))
}

/// `none`, or an IPv6 subnet that a zone can be: /48 to /120, no host bits, global or unique local.
fn subnet6(text: &str) -> Result<Subnet6, Wrong> {
    if text == "none" {
        return Ok(Subnet6::None);
    }
    let Ok(net) = text.parse::<Ipv6Net>() else {
        return wrong(
            format!("subnet6 {text:?} is not an IPv6 subnet"),
            "write one like \"fd12:3456:789a::/64\", or \"none\"",
        );
    };
    if !(48..=120).contains(&net.prefix_len()) {
        return wrong(
            format!("subnet6 {text:?} is /{}", net.prefix_len()),
            "choose a size from /48 to /120; /64 suits most",
        );
    }
    if net.trunc() != net {
        return wrong(
            format!("subnet6 {text:?} has bits set behind its prefix"),
            format!("write \"{}\"", net.trunc()),
        );
    }
    // RFC 4291 §2.4 and RFC 4193: what is neither global unicast nor unique local has a meaning of its own
    let first = net.network().segments()[0];
    if !(0x2000..0x4000).contains(&first) && first & 0xfe00 != 0xfc00 {
        return wrong(
            format!("subnet6 {text:?} is neither global unicast nor unique local"),
            "choose one of fd00::/8, or one that was assigned to you",
        );
    }
    Ok(Subnet6::Net(net))
}

fn mtu(item: &Item) -> Result<u32, Wrong> {
    let Some(value) = item.as_integer() else {
        return type_error("mtu", item, "a number of bytes");
    };
    match u32::try_from(value) {
        // RFC 791: every IPv4 host takes datagrams of 576 bytes. Links carry at most 65535.
        Ok(bytes @ 576..=65535) => Ok(bytes),
        _ => wrong(
            format!("mtu {value} is out of range"),
            "choose 1280 to 65535 (from 576 with subnet6 = \"none\")",
        ),
    }
}

fn check_mtu(zone: &ZoneFile) -> Result<(), Wrong> {
    match zone.mtu {
        // RFC 8200 §5: IPv6 needs links of at least 1280 bytes
        Some(bytes @ ..1280) if zone.subnet6 != Subnet6::None => wrong(
            format!("mtu {bytes} is too small for IPv6"),
            "choose 1280 or more, or subnet6 = \"none\"",
        ),
        _ => Ok(()),
    }
}

/// A DNS domain of hostname labels (RFC 1123 §2.1), without the dot at its end.
fn domain(text: &str) -> Result<String, Wrong> {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label_ok) {
        return Ok(text.to_owned());
    }
    wrong(
        format!("domain {text:?} is not a DNS domain"),
        "write labels of letters, digits and '-' with dots between them, like \"dmz.internal\"",
    )
}

/// `FIRST-LAST`
fn pool(text: &str) -> Result<(Ipv4Addr, Ipv4Addr), Wrong> {
    let parsed = text.split_once('-').and_then(|(first, last)| {
        let first: Ipv4Addr = first.trim().parse().ok()?;
        let last: Ipv4Addr = last.trim().parse().ok()?;
        Some((first, last))
    });
    let Some((first, last)) = parsed else {
        return wrong(
            format!("pool {text:?} is not a range of IPv4 addresses"),
            "write FIRST-LAST, like \"10.89.0.100-10.89.0.199\"",
        );
    };
    if first > last {
        return wrong(
            format!("pool {text:?} ends before it begins"),
            format!("write \"{last}-{first}\""),
        );
    }
    Ok((first, last))
}

fn check_families(zone: &ZoneFile) -> Result<(), Wrong> {
    if zone.without_ipv4 && zone.subnet6 == Subnet6::None {
        return wrong(
            "subnet4 and subnet6 are both \"none\"",
            "leave one of them out, or give it a subnet",
        );
    }
    Ok(())
}

fn check_pool(zone: &ZoneFile) -> Result<(), Wrong> {
    if zone.pool.is_some() && zone.without_ipv4 {
        return wrong(
            "pool is of IPv4 addresses, and subnet4 is \"none\"",
            "leave pool out, or give subnet4 a subnet",
        );
    }
    let (Some((first, last)), Some(net)) = (zone.pool, zone.subnet4) else {
        return Ok(());
    };
    for address in [first, last] {
        if !net.contains(&address) {
            return wrong(
                format!("pool address {address} is outside subnet4 {net}"),
                format!("choose addresses of {net}"),
            );
        }
    }
    Ok(())
}

fn check_dhcp(zone: &ZoneFile) -> Result<(), Wrong> {
    if zone.without_ipv4 && zone.dhcp != super::Dhcp::default() {
        return wrong(
            "dhcp is about IPv4, and subnet4 is \"none\"",
            "leave dhcp out, or give subnet4 a subnet",
        );
    }
    match zone.subnet4 {
        Some(net) => zone.dhcp.check(net).map_err(Wrong::from),
        None => Ok(()),
    }
}

fn dns(item: &Item) -> Result<Vec<IpAddr>, Wrong> {
    let resolver = |value: &Value| {
        let remedy = "write addresses of resolvers, in quotes";
        let Some(text) = value.as_str() else {
            return wrong(format!("dns holds a {}", value.type_name()), remedy);
        };
        match text.parse() {
            Ok(address) => resolver("dns", text, address, remedy),
            Err(_) => wrong(format!("dns {text:?} is not an IP address"), remedy),
        }
    };
    each("dns", item.as_value(), resolver)
}

/// The values of a list, each read by `read`; what is wrong is wrong where it stands.
fn each<T>(
    key: &str,
    list: Option<&Value>,
    read: impl Fn(&Value) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrong> {
    let Some(list) = list.and_then(Value::as_array) else {
        let found = list.map_or("table", Value::type_name);
        return wrong(
            format!("{key} is of type {found}"),
            "write a list like [\"192.0.2.53\"]",
        );
    };
    let located = |value: &Value| {
        read(value).map_err(|problem| Wrong {
            span: value.span(),
            ..problem
        })
    };
    list.iter().map(located).collect()
}

fn resolver(key: &str, text: &str, address: IpAddr, remedy: &str) -> Result<IpAddr, Wrong> {
    match address {
        IpAddr::V6(address) if is_link_local(address) => wrong(
            format!("{key} {text:?} is link-local, and means nothing without an interface"),
            remedy,
        ),
        address if !address.is_unspecified() && !address.is_multicast() => Ok(address),
        _ => wrong(
            format!("{key} {text:?} is no address of a resolver"),
            remedy,
        ),
    }
}

fn servers(key: &str, item: &Item) -> Result<Vec<SocketAddr>, Wrong> {
    each(key, item.as_value(), |value| server(key, value))
}

/// `ADDR` or `ADDR:PORT`
fn server(key: &str, value: &Value) -> Result<SocketAddr, Wrong> {
    let remedy = "write addresses of resolvers, such as \"192.0.2.53\" or \"[2001:db8::53]:5353\"";
    let Some(text) = value.as_str() else {
        return wrong(format!("{key} holds a {}", value.type_name()), remedy);
    };
    let with_port = || {
        text.parse::<SocketAddr>()
            .ok()
            .filter(|server| server.port() != 0)
    };
    let plain = text.parse::<IpAddr>().ok();
    let server = plain
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .or_else(with_port);
    let Some(server) = server else {
        return wrong(
            format!("{key} {text:?} is not an address, nor ADDR:PORT"),
            remedy,
        );
    };
    resolver(key, text, server.ip(), remedy)?;
    Ok(server)
}

/// `{ "corp.example" = ["192.0.2.53"] }`, or the same as a `[upstream-domains]` table.
fn upstream_domains(item: &Item) -> Result<BTreeMap<String, Vec<SocketAddr>>, Wrong> {
    const KEY: &str = "upstream-domains";
    let Some(table) = item.as_table_like() else {
        return type_error(
            KEY,
            item,
            "a table like { \"corp.example\" = [\"192.0.2.53\"] }",
        );
    };
    let mut domains = BTreeMap::new();
    for (name, list) in table.iter() {
        let span = table.key(name).and_then(toml_edit::Key::span);
        let at = |problem: Wrong| Wrong {
            span: problem.span.or(list.span()).or(span.clone()),
            ..problem
        };
        let domain = domain(name).map_err(|problem| Wrong {
            message: problem.message.replacen("domain", KEY, 1),
            span: span.clone(),
            ..problem
        })?;
        let list = servers(KEY, list).map_err(at)?;
        if list.is_empty() {
            let empty = wrong(
                format!("{KEY} {name:?} has no resolvers"),
                "name one, or leave the domain out",
            );
            return empty.map_err(at);
        }
        domains.insert(domain.to_ascii_lowercase(), list);
    }
    Ok(domains)
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests;
