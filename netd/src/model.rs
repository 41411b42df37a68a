//! Zones as the firewall sees them.

use zone::Zone;

/// The zone as the firewall sees it.
pub(crate) fn zone(zone: &Zone) -> firewall::model::Zone {
    let is_ula = |net: ipnet::Ipv6Net| net.addr().octets()[0] & 0xfe == 0xfc;
    firewall::model::Zone {
        name: zone.name.clone(),
        bridge: zone.bridge.clone(),
        subnet4: zone.subnet4,
        subnet6: zone.subnet6,
        gateway4: zone.gateway4,
        gateway6: zone.gateway6,
        internal: zone.internal,
        default: zone.default,
        masquerade6: !zone.internal && zone.subnet6.is_some_and(is_ula),
        uplink: zone.uplink.clone(),
        relays: zone.dhcp.relays.clone(),
    }
}
