#![allow(clippy::unwrap_used)]

use super::*;

fn error(text: &str) -> String {
    ZoneFile::parse("zones/a.toml", text)
        .unwrap_err()
        .to_string()
}

#[test]
fn an_empty_file_is_a_zone_of_defaults() {
    assert_eq!(
        ZoneFile::parse("a.toml", "# nothing\n"),
        Ok(ZoneFile::default())
    );
    assert_eq!(ZoneFile::default().to_toml(), "");
}

#[test]
fn every_key_is_read() {
    let text = r#"
subnet4 = "10.89.3.0/24"
subnet6 = "fd12:3456::/64"
internal = true
uplink = "eth0"
default = "allow"
mtu = 9000
domain = "dmz.example"
pool = "10.89.3.100 - 10.89.3.199"
dns = ["192.0.2.53", "2001:db8::53"]
upstream = ["192.0.2.53", "[2001:db8::53]:5353"]

[upstream-domains]
"Corp.example" = ["127.0.0.1:5300"]
"168.192.in-addr.arpa" = ["192.168.0.53"]
"#;
    let zone = ZoneFile::parse("a.toml", text).unwrap();
    assert_eq!(zone.subnet4, "10.89.3.0/24".parse().ok());
    assert_eq!(
        zone.subnet6,
        Subnet6::Net("fd12:3456::/64".parse().unwrap())
    );
    assert!(zone.internal);
    assert_eq!(zone.uplink, "eth0".parse().ok());
    assert_eq!(zone.default, DefaultPolicy::Allow);
    assert_eq!(zone.mtu, Some(9000));
    assert_eq!(zone.domain.as_deref(), Some("dmz.example"));
    assert_eq!(
        zone.pool,
        Some(([10, 89, 3, 100].into(), [10, 89, 3, 199].into()))
    );
    assert_eq!(zone.dns.len(), 2);
    let server = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(
        zone.upstream,
        [server("192.0.2.53:53"), server("[2001:db8::53]:5353")]
    );
    assert_eq!(zone.upstream_domains.len(), 2);
    assert_eq!(
        zone.upstream_domains["corp.example"],
        [server("127.0.0.1:5300")]
    );
    assert_eq!(ZoneFile::parse("a.toml", &zone.to_toml()), Ok(zone));
}

#[test]
fn errors_name_the_place_the_value_and_the_remedy() {
    let cases = [
        // the text, and how the message begins
        ("subnet = 1", "1:1: unknown key \"subnet\"; the keys are"),
        ("\n  ünknown = 1", "2:3: "),
        ("mtu = 1500\nmtu = 1400", "2:1: not TOML: duplicate key"),
        ("mtu = [", "1:8: not TOML"),
        ("[mtu]", "1:1: mtu is of type table"),
        ("subnet4 = 10", "1:11: subnet4 is of type integer"),
        (
            "subnet6 = \"none\"\nsubnet4 = \"none\"",
            "2:11: subnet4 and subnet6 are both \"none\"",
        ),
        (
            "subnet4 = \"none\"\npool = \"10.0.0.1-10.0.0.9\"",
            "2:8: pool is of IPv4 addresses, and subnet4 is \"none\"",
        ),
        ("internal = \"yes\"", "1:12: internal is of type string"),
        (
            "\nsubnet4 = \"10.89.0.1/24\"",
            "2:11: subnet4 \"10.89.0.1/24\" has bits set",
        ),
        (
            "subnet4 = \"10.89.0.0/31\"",
            "1:11: subnet4 \"10.89.0.0/31\" is /31",
        ),
        (
            "subnet4 = \"0.0.0.0/0\"",
            "1:11: subnet4 \"0.0.0.0/0\" is /0",
        ),
        (
            "subnet4 = \"127.1.0.0/16\"",
            "1:11: subnet4 \"127.1.0.0/16\" holds reserved",
        ),
        (
            "subnet4 = \"banana\"",
            "1:11: subnet4 \"banana\" is not an IPv4 subnet",
        ),
        (
            "subnet6 = \"fe80::/64\"",
            "1:11: subnet6 \"fe80::/64\" is neither",
        ),
        (
            "subnet6 = \"fd00::/127\"",
            "1:11: subnet6 \"fd00::/127\" is /127",
        ),
        (
            "subnet6 = \"fd00::1/64\"",
            "1:11: subnet6 \"fd00::1/64\" has bits set",
        ),
        ("uplink = \"a b\"", "1:10: interface name \"a b\""),
        (
            "default = \"open\"",
            "1:11: default \"open\" is not a policy",
        ),
        ("mtu = 70000", "1:7: mtu 70000 is out of range"),
        ("mtu = -1", "1:7: mtu -1 is out of range"),
        ("mtu = 1000", "1:7: mtu 1000 is too small for IPv6"),
        ("domain = \"-x\"", "1:10: domain \"-x\" is not"),
        (
            "upstream = [\"192.0.2.53:0\"]",
            "1:13: upstream \"192.0.2.53:0\" is not an address, nor ADDR:PORT",
        ),
        (
            "upstream = [\"fe80::1\"]",
            "1:13: upstream \"fe80::1\" is link-local",
        ),
        ("upstream = \"::1\"", "1:12: upstream is of type string"),
        (
            "[upstream-domains]\n\"a..b\" = [\"::1\"]",
            "2:1: upstream-domains \"a..b\" is not a DNS domain",
        ),
        (
            "upstream-domains = { a = [1] }",
            "1:27: upstream-domains holds a integer",
        ),
        (
            "upstream-domains = { a = [] }",
            "1:26: upstream-domains \"a\" has no resolvers",
        ),
        (
            "pool = \"10.0.0.9\"",
            "1:8: pool \"10.0.0.9\" is not a range",
        ),
        (
            "pool = \"10.0.0.9-10.0.0.2\"",
            "1:8: pool \"10.0.0.9-10.0.0.2\" ends before",
        ),
        (
            "pool = \"10.0.0.2-10.0.1.2\"\nsubnet4 = \"10.0.0.0/24\"",
            "1:8: pool address 10.0.1.2 is outside",
        ),
        ("dns = \"192.0.2.1\"", "1:7: dns is of type string"),
        ("dns = [1]", "1:8: dns holds a integer"),
        ("dns = [\"ns1\"]", "1:8: dns \"ns1\" is not an IP address"),
        (
            "dns = [\"192.0.2.1\", \"0.0.0.0\"]",
            "1:21: dns \"0.0.0.0\" is no address",
        ),
    ];
    for (text, begins) in cases {
        let message = error(text);
        assert!(
            message.starts_with(&format!("zones/a.toml:{begins}")),
            "{text:?} gave {message:?}"
        );
        assert!(message.contains("; "), "no remedy in {message:?}");
    }
}

#[test]
fn a_small_mtu_needs_a_zone_without_ipv6() {
    let text = "mtu = 576\nsubnet6 = \"none\"";
    let zone = ZoneFile::parse("a.toml", text).unwrap();
    assert_eq!((zone.mtu, zone.subnet6), (Some(576), Subnet6::None));
}

#[test]
fn settings_of_a_command_line_are_checked_the_same() {
    let mut zone = ZoneFile::default();
    for (key, words) in [
        ("subnet4", "10.1.0.0/24"),
        ("subnet6", "none"),
        ("internal", "true"),
        ("mtu", "1000"),
        ("dns", "192.0.2.1, 192.0.2.2"),
        ("pool", "10.1.0.9-10.1.0.10"),
        ("default", "deny"),
    ] {
        zone.set(key, words).unwrap();
    }
    assert_eq!(zone.dns.len(), 2);
    let before = zone.clone();
    for (key, words, part) in [
        ("subnet4", "10.2.0.0/24", "pool address 10.1.0.9 is outside"),
        ("subnet6", "fd00::/64", "mtu 1000 is too small"),
        ("internal", "maybe", "internal is of type string"),
        ("mtu", "big", "mtu is of type string"),
        ("color", "red", "unknown key \"color\""),
        ("dns", "192.0.2.1,ns1", "dns \"ns1\""),
    ] {
        let message = zone.set(key, words).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert_eq!(zone, before, "a refusal changes nothing");
    }
}
