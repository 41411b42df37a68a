#![allow(clippy::unwrap_used)]

use super::*;

/// From plugin-API.md of netavark 2.1, with a zone.
const EXEC: &str = r#"{
  "container_id": "752947ff91f961eb3cb47ffe9315016979f3ffbec09e4d96a4fae3fb03391697",
  "container_name": "testctr",
  "port_mappings": [{ "container_port": 80, "host_ip": "127.0.0.1", "host_port": 8080, "protocol": "tcp", "range": 1 }],
  "network": {
    "dns_enabled": false, "driver": "netd", "id": "2f25", "internal": false, "ipv6_enabled": false, "name": "podman",
    "network_interface": "vz-web", "options": { "zone": "web" }, "ipam_options": { "driver": "none" },
    "subnets": [{ "gateway": "10.88.0.1", "lease_range": null, "subnet": "10.88.0.0/16" }],
    "network_dns_servers": null
  },
  "network_options": {
    "aliases": ["752947ff91f9", "not_a_label"], "interface_name": "eth0", "static_ips": ["10.88.0.50"],
    "static_mac": "aa:bb:cc:dd:aa:00"
  }
}"#;

fn exec(change: impl FnOnce(&mut Value)) -> Exec {
    let mut value: Value = serde_json::from_str(EXEC).unwrap();
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_container_of_podman_becomes_a_request() {
    let request = request(&exec(|_| {})).unwrap();
    let expected = AttachRequest {
        container: "testctr".into(),
        zone: "web".into(),
        ifname: Some("eth0".into()),
        addresses: vec!["10.88.0.50".into()],
        mac: Some("aa:bb:cc:dd:aa:00".into()),
        publish: vec!["127.0.0.1:8080:80".into()],
        aliases: vec!["752947ff91f9".into()],
        owner: Some(
            "netavark/752947ff91f961eb3cb47ffe9315016979f3ffbec09e4d96a4fae3fb03391697/eth0".into(),
        ),
        ..AttachRequest::default()
    };
    assert_eq!(request, expected);
}

#[test]
fn the_zone_has_the_networks_name_where_none_is_given() {
    let zone = |change: fn(&mut Value)| request(&exec(change)).map(|request| request.zone);
    assert_eq!(
        zone(|e| e["network"]["options"] = Value::Null).unwrap(),
        "podman"
    );
    let error = zone(|e| {
        e["network"]["options"] = Value::Null;
        e["network"]["name"] = "My_Net".into();
    });
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("My_Net") && text.contains("-o zone="),
        "{text}"
    );
}

#[test]
fn names_and_labels() {
    let by_id = request(&exec(|e| e["container_name"] = "a b".into())).unwrap();
    assert_eq!(by_id.container.len(), 64);
    let labelled = request(&exec(|e| {
        e["network"]["options"]["labels"] = "tier=front".into();
        e["network_options"]["options"] = json!({ "labels": "env=prod,a=b" });
    }));
    assert_eq!(labelled.unwrap().labels.len(), 3);
}

#[test]
fn a_containers_own_bandwidth_goes_before_its_networks() {
    let limited = request(&exec(|e| {
        e["network"]["options"]["bandwidth"] = "10mbit".into()
    }));
    assert_eq!(limited.unwrap().bandwidth.len(), 2);
    let own = request(&exec(|e| {
        e["network"]["options"]["bandwidth"] = "10mbit".into();
        e["network_options"]["options"] = json!({ "bandwidth": "egress=1mbit" });
    }));
    let own = own.unwrap().bandwidth;
    assert_eq!((own.len(), own[0].rate), (1, 1_000_000));
    let wrong = request(&exec(|e| {
        e["network"]["options"]["bandwidth"] = "fast".into()
    }));
    let text = wrong.unwrap_err().to_string();
    assert!(
        text.contains("bandwidth") && text.contains("\"fast\""),
        "{text}"
    );
}

#[test]
fn ports() {
    let published = |mapping: Value| {
        request(&exec(|e| e["port_mappings"] = json!([mapping]))).map(|request| request.publish)
    };
    let ports = json!({ "container_port": 53, "host_ip": "", "host_port": 5353, "protocol": "tcp,udp", "range": 1 });
    assert_eq!(published(ports).unwrap(), ["5353:53", "5353:53/udp"]);
    let range = json!({ "container_port": 80, "host_ip": "::1", "host_port": 8000, "protocol": "", "range": 10 });
    assert_eq!(published(range).unwrap(), ["[::1]:8000-8009:80"]);
    let all = json!({ "container_port": 80, "host_ip": "0.0.0.0", "host_port": 80, "protocol": "tcp", "range": 0 });
    assert_eq!(published(all).unwrap(), ["80:80"]);
    for (key, value) in [
        ("protocol", json!("sctp")),
        ("host_ip", json!("nowhere")),
        ("host_port", json!(0)),
        ("range", json!(60000)),
    ] {
        let mut mapping = json!({ "container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 1 });
        mapping[key] = value;
        let text = published(mapping).unwrap_err().to_string();
        assert!(
            text.starts_with("network podman: published port"),
            "{key}: {text}"
        );
    }
}

#[test]
fn what_a_zone_cannot_be_is_refused() {
    for (key, value, words) in [
        ("options", json!({ "vlan": "7" }), "vlan"),
        (
            "routes",
            json!([{ "destination": "10.1.0.0/16", "gateway": "10.88.0.9" }]),
            "routes",
        ),
        (
            "subnets",
            json!([{ "subnet": "10.1.0.0/24", "gateway": "10.1.0.254" }]),
            "10.1.0.254",
        ),
        (
            "subnets",
            json!([{ "subnet": "10.1.0.0/24" }, { "subnet": "10.2.0.0/24" }]),
            "two subnets",
        ),
    ] {
        let network = exec(|e| e["network"][key] = value).network;
        let text = network.settings().unwrap_err().to_string();
        assert!(
            text.contains(words) && text.contains("podman"),
            "{key}: {text}"
        );
    }
    let network = exec(|e| {
        e["network"]["subnets"] = json!([
            { "subnet": "10.1.0.0/24", "gateway": "10.1.0.1",
              "lease_range": { "start_ip": "10.1.0.9", "end_ip": "10.1.0.99" } },
            { "subnet": "fd01::/64", "gateway": "fd01::1" }
        ]);
        e["network"]["options"]["mtu"] = "1400".into();
    });
    let settings = network.network.settings().unwrap();
    assert_eq!(settings.subnet4.as_deref(), Some("10.1.0.0/24"));
    assert_eq!(settings.subnet6.as_deref(), Some("fd01::/64"));
    assert_eq!(settings.pool.as_deref(), Some("10.1.0.9-10.1.0.99"));
    assert_eq!(settings.mtu, Some(1400));
}

#[test]
fn a_network_has_the_families_of_its_subnets() {
    let families = |subnet: &str, ipv6: bool| {
        let network = exec(|e| {
            e["network"]["subnets"] = json!([{ "subnet": subnet }]);
            e["network"]["ipv6_enabled"] = ipv6.into();
        });
        let network = network.network;
        let settings = network.families(network.settings().unwrap());
        (settings.subnet4, settings.subnet6)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        families("10.1.0.0/24", false),
        (some("10.1.0.0/24"), some("none"))
    );
    assert_eq!(families("10.1.0.0/24", true), (some("10.1.0.0/24"), None));
    assert_eq!(
        families("fd01::/64", true),
        (some("none"), some("fd01::/64"))
    );
    let open = Network::default().families(ZoneSettings::default());
    assert_eq!(open, ZoneSettings::default());
}

#[test]
fn garbage_and_floods_are_refused() {
    for garbage in ["", "{", "[]", r#"{"container_id":7}"#] {
        let error = parse::<Exec>(garbage.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::NotNetavark(_)), "{garbage}: {error}");
    }
    let flood = parse::<Exec>(std::io::repeat(b' ')).unwrap_err();
    assert!(matches!(flood, Error::ConfigTooBig));
}

#[test]
fn a_folder_of_plugins_tells_what_is_meant() {
    assert!(called_as_plugin(Path::new("/usr/libexec/netavark/netd")));
    assert!(!called_as_plugin(Path::new("/usr/bin/netd")));
    assert!(!called_as_plugin(Path::new("netd")));
}
