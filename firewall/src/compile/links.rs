//! Elements of a container's link and addresses, and of a zone's bridge and subnets.

use std::net::IpAddr;

use ipnet::IpNet;

use super::owner::View;
use crate::model::{Container, Zone};
use crate::sets::{Element, Family, Key, SetId};

fn element(set: SetId, key: Key) -> Element {
    Element {
        set,
        key,
        last: None,
        data: None,
        timeout: None,
    }
}

fn entry(set: SetId, key: Key, data: Key) -> Element {
    Element {
        set,
        key,
        last: None,
        data: Some(data),
        timeout: None,
    }
}

/// The L2 guard of a container, and what its addresses are, appended to `out`.
pub(super) fn container(view: View<'_>, container: &Container, out: &mut Vec<Element>) {
    // without its zone it has no place: what its port sends is dropped unmarked
    if !view.world.zones.contains_key(&container.zone) {
        return;
    }
    let port = || Key::new().ifindex(container.ifindex);
    out.push(element(SetId::GuardPorts, port()));
    out.push(element(SetId::GuardMac, port().mac(container.mac)));
    let link_local = IpAddr::V6(container.mac.link_local());
    let addresses: Vec<IpAddr> = view.world.addresses(container).collect();
    let keys = view.world.keys(container);
    let mut guarded = addresses;
    for more in keys.iter().copied().chain([link_local]) {
        if !guarded.contains(&more) {
            guarded.push(more);
        }
    }
    for address in guarded {
        let set = match Family::of(address) {
            Family::V4 => SetId::GuardIp4,
            Family::V6 => SetId::GuardIp6,
        };
        out.push(element(set, port().mac(container.mac).ip(address)));
    }
    let zone = view.zones.group(&container.zone);
    let labels = view.labels.group(&container.name);
    for address in keys {
        let family = Family::of(address);
        let own = || Key::new().ip(address);
        out.push(element(SetId::Own(family), own()));
        if let Some(zone) = zone {
            out.push(entry(SetId::ZoneOf(family), own(), Key::new().mark(zone)));
        }
        if let Some(labels) = labels {
            let labels = Key::new().mark(labels);
            out.push(entry(SetId::LabelsOf(family), own(), labels));
        }
    }
}

/// A zone's bridge, subnets and gateways, appended to `out`.
pub(super) fn zone(zone: &Zone, out: &mut Vec<Element>) {
    for set in [SetId::Bridges, SetId::GuardBridges] {
        out.push(element(set, Key::new().ifname(&zone.bridge)));
    }
    if let Some(uplink) = &zone.uplink {
        out.push(element(SetId::Pinned, Key::new().ifname(&zone.bridge)));
        let way = Key::new().ifname(&zone.bridge).ifname(uplink);
        out.push(element(SetId::Uplink, way));
    }
    let subnets = [
        (zone.subnet4.map(IpNet::V4), true),
        (zone.subnet6.map(IpNet::V6), zone.masquerade6),
    ];
    for (subnet, masquerade) in subnets {
        let Some(subnet) = subnet else { continue };
        let family = Family::of(subnet.addr());
        let range = |set| Element {
            set,
            key: Key::new().ip(subnet.network()),
            last: Some(Key::new().ip(subnet.broadcast())),
            data: None,
            timeout: None,
        };
        out.push(range(SetId::Subnets(family)));
        if zone.internal {
            out.push(range(SetId::Internal(family)));
        } else if masquerade {
            out.push(range(SetId::Masquerade(family)));
        }
    }
    let gateways = [zone.gateway4.map(IpAddr::V4), zone.gateway6.map(IpAddr::V6)];
    for gateway in gateways.into_iter().flatten() {
        let family = Family::of(gateway);
        out.push(element(SetId::Gateways(family), Key::new().ip(gateway)));
    }
    for relay in &zone.relays {
        out.push(element(SetId::GuardRelay, Key::new().ip((*relay).into())));
    }
}
