#![allow(clippy::unwrap_used)]

use super::*;

fn name(text: &str) -> ZoneName {
    text.parse().unwrap()
}

fn file(text: &str) -> ZoneFile {
    ZoneFile::parse("z.toml", text).unwrap()
}

fn taken(zones: &[(&str, &str)], routes: &[&str]) -> Taken {
    Taken {
        zones: zones
            .iter()
            .map(|(zone, net)| (name(zone), net.parse().unwrap()))
            .collect(),
        routes: routes.iter().map(|net| net.parse().unwrap()).collect(),
    }
}

fn subnet4(taken: &Taken) -> Result<String, AllocError> {
    resolve(&name("a"), &ZoneFile::default(), taken, b"m")
        .map(|zone| zone.subnet4.unwrap().to_string())
}

#[test]
fn a_zone_without_ipv4_has_none() {
    let file: ZoneFile = ZoneFile::parse("z.toml", "subnet4 = \"none\"").unwrap();
    assert_eq!(file.to_toml(), "subnet4 = \"none\"\n");
    let zone = resolve(&"z".parse().unwrap(), &file, &Taken::default(), b"m").unwrap();
    assert_eq!((zone.subnet4, zone.gateway4), (None, None));
    assert!(zone.subnet6.is_some());
}

#[test]
fn the_next_free_subnet_avoids_zones_and_routes() {
    assert_eq!(subnet4(&Taken::default()).unwrap(), "10.89.0.0/24");
    let some = taken(
        &[("b", "10.89.0.0/24")],
        &["10.89.1.128/25", "10.89.2.0/23"],
    );
    assert_eq!(subnet4(&some).unwrap(), "10.89.4.0/24");
    // its own subnet does not stand in its way
    let own = taken(&[("a", "10.89.0.0/24")], &[]);
    assert_eq!(subnet4(&own).unwrap(), "10.89.0.0/24");
}

#[test]
fn a_route_over_the_whole_range_leaves_nothing() {
    let message = subnet4(&taken(&[], &["10.0.0.0/8"]))
        .unwrap_err()
        .to_string();
    assert!(message.contains("10.89.0.0/16"), "{message}");
    assert!(message.contains("route to 10.0.0.0/8"), "{message}");
}

#[test]
fn an_explicit_subnet_that_overlaps_is_refused_and_the_owner_named() {
    let wish = file("subnet4 = \"10.1.0.0/16\"\nsubnet6 = \"fd00:1::/64\"");
    let cases = [
        (
            taken(&[("dmz", "10.1.2.0/24")], &[]),
            "zone dmz (10.1.2.0/24)",
        ),
        (
            taken(&[], &["10.0.0.0/8"]),
            "the host's route to 10.0.0.0/8",
        ),
        (
            taken(&[("six", "fd00:1::/56")], &[]),
            "zone six (fd00:1::/56)",
        ),
    ];
    for (taken, owner) in cases {
        let message = resolve(&name("a"), &wish, &taken, b"m")
            .unwrap_err()
            .to_string();
        assert!(message.contains(owner), "{message}");
    }
    assert!(
        resolve(
            &name("a"),
            &wish,
            &taken(&[("a", "10.1.0.0/16")], &[]),
            b"m"
        )
        .is_ok()
    );
}

#[test]
fn unique_local_prefixes_tell_machines_and_zones_apart() {
    let subnet6 = |zone: &str, machine: &[u8], taken: &Taken| {
        let zone = resolve(&name(zone), &ZoneFile::default(), taken, machine).unwrap();
        zone.subnet6.unwrap()
    };
    let none = Taken::default();
    let a = subnet6("a", b"m", &none);
    assert_eq!(a, subnet6("a", b"m", &none));
    assert_eq!(a.prefix_len(), 48);
    assert_eq!(a.network().octets()[0], 0xfd);
    assert_ne!(a, subnet6("b", b"m", &none));
    assert_ne!(a, subnet6("a", b"n", &none));
    // somebody else may have the same forty bits: count on
    let clash = taken(&[("b", &a.to_string())], &[]);
    let next = u128::from(a.network()) + (1 << 80);
    assert_eq!(u128::from(subnet6("a", b"m", &clash).network()), next);
}

#[test]
fn gateways_domain_mtu_and_bridge() {
    let text = "subnet4 = \"192.168.7.0/24\"\nsubnet6 = \"fd00::/64\"";
    let zone = resolve(&name("dmz-"), &file(text), &Taken::default(), b"m").unwrap();
    assert_eq!(zone.gateway4, "192.168.7.1".parse().ok());
    assert_eq!(zone.gateway6, "fd00::1".parse().ok());
    assert_eq!(zone.domain, "dmz.internal");
    assert_eq!(zone.mtu, 1500);
    assert_eq!(zone.bridge.as_str(), "vz-dmz-");
    assert!(zone.mac.is_unicast());
    assert_eq!(zone.gateway6_ll(), Some(zone.mac.link_local()));
    let four = resolve(
        &name("a"),
        &file("subnet6 = \"none\""),
        &Taken::default(),
        b"m",
    );
    assert_eq!(four.unwrap().gateway6_ll(), None);
}

#[test]
fn a_pool_must_be_in_the_subnet_that_was_found() {
    let wish = file("pool = \"10.89.0.10-10.89.0.20\"");
    assert!(resolve(&name("a"), &wish, &Taken::default(), b"m").is_ok());
    let shifted = taken(&[("b", "10.89.0.0/24")], &[]);
    let message = resolve(&name("a"), &wish, &shifted, b"m")
        .unwrap_err()
        .to_string();
    assert!(message.contains("10.89.0.10-10.89.0.20"), "{message}");
    assert!(message.contains("10.89.1.0/24"), "{message}");
}
