//! What a plan will be, without making it: for tests without a kernel, and to hold the daemon to what it was told.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use firewall::model::{self, Clock, World};
use firewall::policy::{Groups, PolicyFile, PolicySet};
use zone::{DefaultPolicy, PortName, ZoneName};

use super::places::{self, address};
use super::plan::{Container, Plan, Publish, Zone};
use super::scene::Scene;

/// What a plan will be.
pub fn scene(plan: &Plan) -> Scene {
    let mut world = World {
        host: places::HOST.map(address).to_vec(),
        clock: noon(plan.today),
        ..World::default()
    };
    for zone in &plan.zones {
        let zone = model_zone(zone);
        world.zones.insert(zone.name.clone(), zone);
    }
    for container in &plan.containers {
        if let Some(zone) = plan.zone(container.zone) {
            let container = model_container(container, zone);
            world.containers.insert(container.name.clone(), container);
        }
    }
    Scene {
        world,
        policies: policies(plan),
    }
}

/// The middle of a day of the week.
fn noon(day: usize) -> Clock {
    Clock::at_minute((day * 24 * 60 + 12 * 60) as u16)
}

/// The files, read.
pub fn policies(plan: &Plan) -> PolicySet {
    let groups = match plan.groups.is_empty() {
        true => Groups::default(),
        false => Groups::parse("groups.toml", &plan.groups_text())
            .unwrap_or_else(|wrong| panic!("groups were drawn that do not parse: {wrong}")),
    };
    let read = plan.files.iter().map(|file| {
        let name = format!("policies/{}.toml", file.name);
        let text = file.text();
        match PolicyFile::parse_with(&name, &text, &groups) {
            Ok(file) => (name, Arc::new(file)),
            Err(wrong) => panic!("a file was drawn that does not parse: {wrong}\n{text}"),
        }
    });
    PolicySet(read.collect())
}

/// Where the daemon translates what is published on `::1` alone; nobody asks there.
const ASIDE: Ipv4Addr = Ipv4Addr::new(127, 110, 101, 116);

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn model_zone(zone: &Zone) -> model::Zone {
    let name: ZoneName = parsed(&zone.name());
    let gateways: Vec<IpAddr> = zone.gateways().iter().map(|text| address(text)).collect();
    let v4 = |a: &IpAddr| match a {
        IpAddr::V4(a) => Some(*a),
        IpAddr::V6(_) => None,
    };
    let v6 = |a: &IpAddr| match a {
        IpAddr::V4(_) => None,
        IpAddr::V6(a) => Some(*a),
    };
    model::Zone {
        bridge: name.bridge(),
        subnet4: Some(parsed(&zone.subnet4())),
        subnet6: zone.subnet6().map(|subnet| parsed(&subnet)),
        gateway4: gateways.iter().find_map(v4),
        gateway6: gateways.iter().find_map(v6),
        internal: zone.internal,
        default: match zone.default.as_str() {
            "allow" => DefaultPolicy::Allow,
            "deny" => DefaultPolicy::Deny,
            _ => DefaultPolicy::Egress,
        },
        masquerade6: zone.v6 == super::plan::V6::Private,
        relays: Vec::new(),
        uplink: None,
        name,
    }
}

fn model_container(container: &Container, zone: &Zone) -> model::Container {
    let name: PortName = parsed(&container.name());
    let addresses = container.addresses(zone);
    model::Container {
        zone: parsed(&zone.name()),
        ifindex: 100 + container.index as u32,
        mac: name.mac(),
        addresses: addresses.iter().map(|text| address(text)).collect(),
        labels: container.labels.clone(),
        publish: container.publish.iter().flat_map(publish).collect(),
        name,
    }
}

/// What a published port is to the model. One on `::1` is judged as one on IPv4's loopback, too: that is how it is
/// reached where the container has no IPv6, forwarded in user space.
pub fn publish(publish: &Publish) -> Vec<model::Publish> {
    let one = |address: Option<IpAddr>| model::Publish {
        address,
        proto: if publish.udp { 17 } else { 6 },
        first: publish.first,
        last: publish.last,
        port: publish.port,
    };
    let at = publish.address.as_deref().map(address);
    let aside = at
        .filter(|at| at.is_ipv6() && at.is_loopback())
        .map(|_| one(Some(ASIDE.into())));
    std::iter::once(one(at)).chain(aside).collect()
}
