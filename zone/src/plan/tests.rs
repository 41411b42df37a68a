//! What becomes of ports.

#![allow(clippy::unwrap_used)]

use super::*;

fn spec(container: &str, configure: Configure) -> PortSpec {
    let container: crate::ContainerName = container.parse().unwrap();
    PortSpec {
        mac: container.mac(),
        container,
        zone: "dmz".parse().unwrap(),
        bridge: "vz-dmz".parse().unwrap(),
        ifname: "host0".parse().unwrap(),
        addresses: vec![
            "10.89.0.2/24".parse().unwrap(),
            "fd00::2/128".parse().unwrap(),
        ],
        prefixes: Vec::new(),
        gateway4: Some([10, 89, 0, 1].into()),
        gateway6_ll: Some("fe80::1".parse().unwrap()),
        mtu: 1500,
        configure,
        place: 0,
        several: false,
        subnet6: None,
    }
}

fn words(steps: &[Step]) -> Vec<String> {
    steps.iter().map(Step::to_string).collect()
}

#[test]
fn a_port_is_guarded_before_anything_inside_is_up() {
    let spec = spec("web", Configure::Static);
    assert_eq!(
        words(&host(&spec)),
        [
            "add veth vb-web on vz-dmz with host0 inside",
            "disable IPv6 on vb-web",
            "isolate and lock port vb-web",
            &format!("add {} to the FDB for vb-web", spec.mac),
            "silence IPv4 on vb-web and set it up",
        ]
    );
    assert_eq!(
        host(&spec).len(),
        5,
        "no altname where nothing was shortened"
    );
    assert_eq!(
        words(&inside(&spec)),
        [
            "set lo up inside",
            "set host0 up inside",
            "add address 10.89.0.2/24 to host0 inside",
            "add address fd00::2/128 to host0 inside",
            "add default route via 10.89.0.1 on host0 inside",
            "add default route via fe80::1 on host0 inside",
        ]
    );
}

#[test]
fn prefixes_of_its_own_lead_to_it_and_go_with_it() {
    let mut spec = spec("web", Configure::Static);
    spec.prefixes = vec!["fd00:0:0:1::/64".parse().unwrap()];
    let steps = host(&spec);
    let hop = spec.mac.link_local();
    assert_eq!(
        words(&steps)[5..],
        [
            format!("add neighbour {hop} on vz-dmz"),
            format!("add route to fd00:0:0:1::/64 via {hop} on vz-dmz"),
        ]
    );
    let back: Vec<Step> = steps.iter().rev().filter_map(Step::undo).collect();
    assert_eq!(
        words(&back),
        [
            "delete route to fd00:0:0:1::/64 on vz-dmz",
            &format!("delete neighbour {hop} on vz-dmz"),
            "delete link vb-web",
        ]
    );
}

#[test]
fn of_several_networks_each_answers_by_its_own_port() {
    let mut spec = spec("web", Configure::Static);
    (spec.place, spec.several) = (1, true);
    spec.ifname = "host1".parse().unwrap();
    spec.subnet6 = Some("fd00::/64".parse().unwrap());
    let steps = inside(&spec);
    assert_eq!(
        words(&steps)[4..],
        [
            "add default route via 10.89.0.1 on host1 inside",
            "add default route via fe80::1 on host1 inside",
            "add route to fd00::/64 on host1 inside",
            "add route to 10.89.0.0/24 on host1 inside, table 11001",
            "add route to 0.0.0.0/0 on host1 inside, table 11001",
            "add route to ::/0 on host1 inside, table 11001",
            "send what is from 10.89.0.2/32 by table 11001 inside",
            "send what is from fd00::2/128 by table 11001 inside",
        ]
    );
    let back: Vec<Step> = steps.iter().rev().filter_map(Step::undo).collect();
    assert_eq!(
        words(&back)[..2],
        [
            "delete the rule from fd00::2/128 to table 11001 inside",
            "delete the rule from 10.89.0.2/32 to table 11001 inside",
        ]
    );
    // all of a prefix is its own
    spec.prefixes = vec!["fd00::/64".parse().unwrap()];
    assert_eq!(
        words(&sources(&spec))[3..],
        [
            "send what is from fd00::/64 by table 11001 inside",
            "send what is from 10.89.0.2/32 by table 11001 inside",
        ]
    );
    let Step::AddVeth { host: link, .. } = &host(&spec)[0] else {
        panic!("no link first");
    };
    assert_eq!(*link, spec.name().host_ifname());
    assert!(matches!(&host(&spec)[5], Step::AddAltname { altname, .. } if altname == "vb-web@dmz"));
}

#[test]
fn a_client_inside_finds_its_interface_down() {
    for configure in [Configure::Dhcp, Configure::None] {
        let steps = inside(&spec("web", configure));
        assert_eq!(words(&steps), ["set lo up inside"]);
    }
}

#[test]
fn a_route_needs_an_address_of_its_family() {
    let mut spec = spec("web", Configure::Static);
    spec.addresses.truncate(1);
    assert_eq!(
        words(&inside(&spec)).last().unwrap(),
        "add default route via 10.89.0.1 on host0 inside"
    );
}

#[test]
fn shortened_names_keep_the_full_one_beside_them() {
    let long = "a-name-that-does-not-fit";
    let steps = host(&spec(long, Configure::Static));
    let Some(Step::AddAltname { altname, .. }) = steps.last() else {
        panic!("no altname in {steps:?}");
    };
    assert_eq!(altname, &format!("vb-{long}"));
    assert!(matches!(&steps[4], Step::RaiseHostEnd { alias: Some(a), .. } if a == long));
    // 128 bytes are a container's name, but no altname: the alias alone tells
    let steps = host(&spec(&"x".repeat(128), Configure::Static));
    assert!(matches!(steps.last(), Some(Step::RaiseHostEnd { .. })));
}

#[test]
fn undo_closes_first_and_leaves_nothing() {
    let spec = spec("web", Configure::Static);
    let undo = |steps: Vec<Step>| {
        let back: Vec<Step> = steps.iter().rev().filter_map(Step::undo).collect();
        words(&back)
    };
    assert_eq!(undo(host(&spec)), ["delete link vb-web"]);
    assert_eq!(
        undo(inside(&spec)),
        [
            "delete address fd00::2/128 from host0 inside",
            "delete address 10.89.0.2/24 from host0 inside",
            "set host0 down inside",
        ]
    );
}
