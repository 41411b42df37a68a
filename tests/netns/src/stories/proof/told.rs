//! The world as the daemon tells it: `netd zone list --json` and `netd list --json`, as the oracle's model.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use firewall::model::{self, World};
use serde_json::Value;
use zone::{DefaultPolicy, PortName, ZoneName};

use super::draw::paper;
use super::draw::places::{self, address};
use super::draw::plan;

/// The world of these two documents.
pub fn world(zones: &Value, containers: &Value) -> World {
    let zones = listed(zones).map(zone);
    let containers = listed(containers).map(container);
    World {
        zones: zones.map(|zone| (zone.name.clone(), zone)).collect(),
        containers: containers.map(|one| (one.name.clone(), one)).collect(),
        host: places::HOST.map(address).to_vec(),
        ..World::default()
    }
}

fn listed(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// What stands under a key, if it is a text that says such a thing.
fn parsed<T: FromStr<Err: std::fmt::Display>>(object: &Value, key: &str) -> Option<T> {
    let text = object[key].as_str()?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => panic!("the daemon says {key} is {text:?}: {error}"),
    }
}

fn must<T: FromStr<Err: std::fmt::Display>>(object: &Value, key: &str) -> T {
    parsed(object, key).unwrap_or_else(|| panic!("the daemon does not tell {key}: {object}"))
}

fn zone(told: &Value) -> model::Zone {
    let name: ZoneName = must(told, "name");
    let default: String = must(told, "default");
    model::Zone {
        bridge: must(told, "bridge"),
        subnet4: parsed(told, "subnet4"),
        subnet6: parsed(told, "subnet6"),
        gateway4: parsed(told, "gateway4"),
        gateway6: parsed(told, "gateway6"),
        internal: told["internal"].as_bool().unwrap(),
        default: match default.as_str() {
            "egress" => DefaultPolicy::Egress,
            "deny" => DefaultPolicy::Deny,
            "allow" => DefaultPolicy::Allow,
            other => panic!("the daemon says the default of {name} is {other}"),
        },
        // Of no interest to the oracle.
        masquerade6: false,
        relays: Vec::new(),
        uplink: None,
        name,
    }
}

fn container(told: &Value) -> model::Container {
    let name: PortName = must(told, "container");
    let addresses = listed(&told["addresses"]).map(|text| {
        let text = text.as_str().unwrap();
        address(text.split('/').next().unwrap())
    });
    let labels: BTreeMap<String, String> = told["labels"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    let published = listed(&told["published"]).map(|text| published(text.as_str().unwrap()));
    model::Container {
        zone: must(told, "zone"),
        ifindex: 0,
        mac: must(told, "mac"),
        addresses: addresses.collect(),
        labels,
        publish: published.flat_map(|one| paper::publish(&one)).collect(),
        name,
    }
}

/// `[ADDR:]HOSTPORT[-END]:PORT[/udp]`
fn published(text: &str) -> plan::Publish {
    let read = || {
        let (rest, udp) = match text.strip_suffix("/udp") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (rest, port) = rest.rsplit_once(':')?;
        let (address, ports) = match rest.rsplit_once(':') {
            Some((address, ports)) => (Some(address), ports),
            None => (None, rest),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let address = address.map(|text| text.trim_matches(['[', ']']).to_owned());
        if let Some(address) = &address {
            address.parse::<IpAddr>().ok()?;
        }
        Some(plan::Publish {
            address,
            udp,
            first: first.parse().ok()?,
            last: last.parse().ok()?,
            port: port.parse().ok()?,
        })
    };
    read().unwrap_or_else(|| panic!("the daemon says that this is published: {text}"))
}
