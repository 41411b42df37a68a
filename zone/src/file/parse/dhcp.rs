//! The `[dhcp]` part of a zone file.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use toml_edit::{Item, TableLike, Value};

use super::dhcp_options::option;
use super::{Span, Wrong, boolean, domain, string, type_error, wrong};
use crate::file::dhcp::{self, Dhcp, Misplaced, Reservation, Who};
use crate::name::MacAddr;

const KEYS: &str =
    "lease, pool, relays, ntp, search, routes, rapid-commit, ipv6-only, options, reservation";

/// Shortest and longest lease, in seconds. Below, clients do little else than renew.
const LEASE: std::ops::RangeInclusive<u32> = 10..=365 * 86400;

/// RFC 8925 §3.4: MIN_V6ONLY_WAIT.
const IPV6_ONLY: std::ops::RangeInclusive<u32> = 300..=365 * 86400;

impl From<Misplaced> for Wrong {
    fn from(misplaced: Misplaced) -> Self {
        let Misplaced {
            what,
            address,
            problem,
            net,
        } = misplaced;
        Self {
            message: format!("{what} {address} is {problem} of {net}"),
            remedy: format!("choose another address of {net}"),
            span: None,
        }
    }
}

/// Puts a place to what is wrong, unless it has a closer one.
fn at(span: Option<Span>) -> impl FnOnce(Wrong) -> Wrong {
    move |problem| Wrong {
        span: problem.span.or(span),
        ..problem
    }
}

fn table<'a>(what: &str, item: &'a Item) -> Result<&'a dyn TableLike, Wrong> {
    match item.as_table_like() {
        Some(table) => Ok(table),
        None => type_error(what, item, &format!("a table, [{what}]")),
    }
}

/// Where an entry of a table stands: its value, else its key.
fn place(table: &dyn TableLike, key: &str, item: &Item) -> Option<Span> {
    item.span().or_else(|| key_span(table, key))
}

fn key_span(table: &dyn TableLike, key: &str) -> Option<Span> {
    table.key(key).and_then(toml_edit::Key::span)
}

/// Reads the table; addresses are checked against the subnet where the file names it.
pub(super) fn dhcp(item: &Item, subnet: Option<Ipv4Net>) -> Result<Dhcp, Wrong> {
    let keys = table("dhcp", item)?;
    let mut dhcp = Dhcp::default();
    for (key, item) in keys.iter() {
        let known = set(&mut dhcp, key, item, subnet).map_err(at(place(keys, key, item)))?;
        if !known {
            return Err(Wrong {
                message: format!("unknown key {key:?} in dhcp"),
                remedy: format!("the keys are {KEYS}"),
                span: key_span(keys, key),
            });
        }
    }
    Ok(dhcp)
}

fn set(dhcp: &mut Dhcp, key: &str, item: &Item, subnet: Option<Ipv4Net>) -> Result<bool, Wrong> {
    match key {
        "lease" => dhcp.lease = Some(seconds(key, item, LEASE, "10s to 365d")?),
        "pool" => {
            let (first, last) = super::pool(string(key, item)?)?;
            for address in [first, last] {
                host("pool address", address, subnet)?;
            }
            dhcp.pool = Some((first, last));
        }
        "relays" => {
            dhcp.relays = addresses(key, item)?;
            for relay in &dhcp.relays {
                host("relay", *relay, subnet)?;
            }
        }
        "ntp" => dhcp.ntp = addresses(key, item)?,
        "search" => {
            dhcp.search = list(key, item, |value| {
                domain(text("search", value)?).map(|name| name.to_ascii_lowercase())
            })?;
        }
        "routes" => dhcp.routes = list(key, item, |value| route(value, subnet))?,
        "rapid-commit" => dhcp.rapid_commit = boolean(key, item)?,
        "ipv6-only" => {
            dhcp.ipv6_only = Some(seconds(key, item, IPV6_ONLY, "300s to 365d (RFC 8925)")?);
        }
        "options" => {
            let options = table("dhcp.options", item)?;
            for (key, item) in options.iter() {
                let option = option(key, item).map_err(at(place(options, key, item)))?;
                if let Some(other) = dhcp.options.iter().find(|o| o.code == option.code) {
                    return Err(Wrong {
                        message: format!("{key} is option {}, as {} is", option.code, other.key),
                        remedy: "keep one of them".into(),
                        span: key_span(options, key),
                    });
                }
                dhcp.options.push(option);
            }
        }
        "reservation" => reservations(dhcp, item, subnet)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn host(what: &'static str, address: Ipv4Addr, subnet: Option<Ipv4Net>) -> Result<(), Wrong> {
    match subnet {
        Some(net) => dhcp::host(what, address, net).map_err(Wrong::from),
        None => Ok(()),
    }
}

/// A time: whole seconds, or `30s`, `10m`, `12h`, `7d`.
fn seconds(
    key: &str,
    item: &Item,
    allowed: std::ops::RangeInclusive<u32>,
    range: &str,
) -> Result<u32, Wrong> {
    let remedy = format!("write {range}, like \"12h\"");
    let parsed = match item.as_str() {
        None => match item.as_integer() {
            Some(number) => u32::try_from(number).ok(),
            None => return type_error(key, item, "a time, like \"12h\""),
        },
        Some(text) => {
            let text = text.trim();
            let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let unit = match &text[digits.len()..] {
                "" | "s" => Some(1),
                "m" => Some(60),
                "h" => Some(3600),
                "d" => Some(86400),
                _ => None,
            };
            let number = digits.parse::<u32>().ok();
            number.zip(unit).and_then(|(n, unit)| n.checked_mul(unit))
        }
    };
    match parsed.filter(|seconds| allowed.contains(seconds)) {
        Some(seconds) => Ok(seconds),
        None => wrong(format!("{key} {} is no time for it", shown(item)), remedy),
    }
}

/// A value as it was written, without what stands around it.
fn shown(item: &Item) -> String {
    item.to_string().trim().to_owned()
}

/// Each value of a list, errors at its place.
fn list<T>(
    key: &str,
    item: &Item,
    read: impl Fn(&Value) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrong> {
    let Some(values) = item.as_array() else {
        return type_error(key, item, "a list, [\u{2026}]");
    };
    let read = |value: &Value| read(value).map_err(at(value.span()));
    values.iter().map(read).collect()
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, Wrong> {
    match value.as_str() {
        Some(text) => Ok(text),
        None => wrong(
            format!("{key} holds a {}", value.type_name()),
            "write strings, in quotes",
        ),
    }
}

fn addresses(key: &str, item: &Item) -> Result<Vec<Ipv4Addr>, Wrong> {
    let address = |value: &Value| {
        let text = text(key, value)?;
        match text.parse::<Ipv4Addr>() {
            Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
            _ => wrong(
                format!("{key} {text:?} is not the IPv4 address of a machine"),
                "write addresses, in quotes",
            ),
        }
    };
    list(key, item, address)
}

/// `{ to = "192.168.7.0/24", via = "10.89.3.9" }`
fn route(value: &Value, subnet: Option<Ipv4Net>) -> Result<(Ipv4Net, Ipv4Addr), Wrong> {
    let remedy = "write { to = \"192.168.7.0/24\", via = \"10.89.3.9\" }";
    let part = |key| value.as_inline_table()?.get(key)?.as_str();
    let (Some(to), Some(via)) = (part("to"), part("via")) else {
        return wrong("a route has to and via", remedy);
    };
    if value.as_inline_table().is_some_and(|table| table.len() > 2) {
        return wrong("a route has to and via, and nothing else", remedy);
    }
    let (Ok(to), Ok(via)) = (to.parse::<Ipv4Net>(), via.parse::<Ipv4Addr>()) else {
        return wrong(
            format!("route to {to:?} via {via:?} is not of IPv4"),
            remedy,
        );
    };
    if let Some(net) = subnet
        && via != Ipv4Addr::from(u32::from(net.network()).saturating_add(1))
    {
        dhcp::host("router", via, net)?;
    }
    Ok((to.trunc(), via))
}

fn reservations(dhcp: &mut Dhcp, item: &Item, subnet: Option<Ipv4Net>) -> Result<(), Wrong> {
    let remedy = "write [[dhcp.reservation]] with address and one of mac, client-id, container";
    let tables: Vec<(Option<Span>, &dyn TableLike)> =
        match (item.as_array_of_tables(), item.as_array()) {
            (Some(tables), _) => tables
                .iter()
                .map(|table| (table.span(), table as &dyn TableLike))
                .collect(),
            (None, Some(values)) => {
                let tables = values.iter().filter_map(|value| {
                    let table = value.as_inline_table()?;
                    Some((value.span(), table as &dyn TableLike))
                });
                let tables: Vec<_> = tables.collect();
                if tables.len() != values.len() {
                    return wrong("reservation holds something else than tables", remedy);
                }
                tables
            }
            (None, None) => return type_error("reservation", item, "tables, [[dhcp.reservation]]"),
        };
    for (span, table) in tables {
        let reservation = reservation(table, subnet).map_err(at(span.clone()))?;
        let clash = dhcp.reservations.iter().find_map(|other| {
            if other.address == reservation.address {
                Some(format!("{} is reserved twice", other.address))
            } else if other.who == reservation.who {
                Some(format!(
                    "one machine has two reservations, {} and {}",
                    other.address, reservation.address
                ))
            } else {
                None
            }
        });
        if let Some(message) = clash {
            return Err(Wrong {
                message,
                remedy: "take one of them out".into(),
                span,
            });
        }
        dhcp.reservations.push(reservation);
    }
    Ok(())
}

fn reservation(table: &dyn TableLike, subnet: Option<Ipv4Net>) -> Result<Reservation, Wrong> {
    let (mut who, mut address, mut hostname) = (None, None, None);
    for (key, item) in table.iter() {
        let mut found = |new: Who| match who.replace(new) {
            None => Ok(()),
            Some(_) => wrong(
                "a reservation is for one machine",
                "give one of mac, client-id and container",
            ),
        };
        let outcome = match key {
            "mac" => mac(string(key, item)?).and_then(|mac| found(Who::Mac(mac))),
            "client-id" => client_id(string(key, item)?).and_then(|id| found(Who::ClientId(id))),
            "container" => match string(key, item)?.parse() {
                Ok(name) => found(Who::Container(name)),
                Err(error) => {
                    let error: crate::NameError = error;
                    wrong(error.to_string(), "name a container")
                }
            },
            "address" => reserved(string(key, item)?, subnet).map(|ip| address = Some(ip)),
            "hostname" => domain(string(key, item)?).map(|name| hostname = Some(name)),
            _ => Err(Wrong {
                message: format!("unknown key {key:?} in a reservation"),
                remedy: "the keys are mac, client-id, container, address, hostname".into(),
                span: key_span(table, key),
            }),
        };
        outcome.map_err(at(place(table, key, item)))?;
    }
    match (who, address) {
        (Some(who), Some(address)) => Ok(Reservation {
            who,
            address,
            hostname,
        }),
        (None, _) => wrong(
            "a reservation does not say for whom it is",
            "add mac, client-id or container",
        ),
        (_, None) => wrong("a reservation has no address", "add address = \"\u{2026}\""),
    }
}

fn mac(text: &str) -> Result<MacAddr, Wrong> {
    match text.parse::<MacAddr>() {
        Ok(mac) if mac.0[0] & 1 == 0 && mac.0 != [0; 6] => Ok(mac),
        _ => wrong(
            format!("{text:?} is not the hardware address of one machine"),
            "write one like \"02:00:5e:10:00:01\"",
        ),
    }
}

/// `hex:` and bytes, else the text itself (RFC 2132 §9.14 leaves both open).
fn client_id(text: &str) -> Result<Vec<u8>, Wrong> {
    let bytes = match text.strip_prefix("hex:") {
        Some(hex) => super::dhcp_options::hex(hex)?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.is_empty() || bytes.len() > 255 {
        return wrong(
            format!("client-id {text:?} has {} bytes", bytes.len()),
            "write 1 to 255 bytes, as text or like \"hex:ff:00:01\"",
        );
    }
    Ok(bytes)
}

fn reserved(text: &str, subnet: Option<Ipv4Net>) -> Result<Ipv4Addr, Wrong> {
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        return wrong(
            format!("address {text:?} is not an IPv4 address"),
            "write one of the zone's subnet",
        );
    };
    host("reserved address", address, subnet)?;
    Ok(address)
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
