#![allow(clippy::unwrap_used)]

use crate::file::ZoneFile;
use crate::file::dhcp::Who;

const FULL: &str = r#"
subnet4 = "10.89.3.0/24"

[dhcp]
lease        = "2h"
pool         = "10.89.3.200-10.89.3.250"
relays       = ["10.89.3.2"]
ntp          = ["192.0.2.123"]
search       = ["dmz.internal", "example.org"]
routes       = [{ to = "192.168.7.0/24", via = "10.89.3.9" }]
rapid-commit = false
ipv6-only    = "30m"

[dhcp.options]
tftp-server-name = "boot.example.org"
ntp-servers = ["192.0.2.1", "192.0.2.2"]   # as data
150 = "10.89.3.4"
224 = { u16 = 7, always = true }
43 = "hex:01:02ff"
domain-search = ["a.example"]
121 = ["10.0.0.0/8 10.89.3.9"]
ip-forwarding = true
time-offset = -3600
static-routes = "192.0.2.1 10.89.3.9"
v4-captive-portal = { value = "https://portal.example", always = false }

[[dhcp.reservation]]
mac = "02:00:00:00:00:07"
address = "10.89.3.50"
hostname = "printer"

[[dhcp.reservation]]
client-id = "hex:ff:00:01"
address = "10.89.3.51"

[[dhcp.reservation]]
container = "web"
address = "10.89.3.52"
"#;

#[test]
fn every_key_is_read_and_written() {
    let zone = ZoneFile::parse("a.toml", FULL).unwrap();
    let dhcp = &zone.dhcp;
    assert_eq!(dhcp.lease, Some(7200));
    assert_eq!(dhcp.ipv6_only, Some(1800));
    assert!(!dhcp.rapid_commit);
    let option = |code: u8| {
        let option = dhcp.options.iter().find(|o| o.code == code).unwrap();
        (option.value.as_slice(), option.always)
    };
    assert_eq!(option(66), (&b"boot.example.org"[..], false));
    assert_eq!(option(42), (&[192, 0, 2, 1, 192, 0, 2, 2][..], false));
    assert_eq!(option(150), (&[10, 89, 3, 4][..], false));
    assert_eq!(option(224), (&[0, 7][..], true));
    assert_eq!(option(43), (&[1, 2, 255][..], false));
    assert_eq!(option(119), (&b"\x01a\x07example\0"[..], false));
    assert_eq!(option(121), (&[8, 10, 10, 89, 3, 9][..], false));
    assert_eq!(option(19), (&[1][..], false));
    assert_eq!(option(2), (&[0xff, 0xff, 0xf1, 0xf0][..], false));
    assert_eq!(option(33), (&[192, 0, 2, 1, 10, 89, 3, 9][..], false));
    assert_eq!(option(114).0, b"https://portal.example");
    let who: Vec<_> = dhcp.reservations.iter().map(|r| r.who.clone()).collect();
    assert_eq!(
        who,
        [
            Who::Mac("02:00:00:00:00:07".parse().unwrap()),
            Who::ClientId(vec![255, 0, 1]),
            Who::Container("web".parse().unwrap()),
        ]
    );
    assert_eq!(ZoneFile::parse("b.toml", &zone.to_toml()), Ok(zone));
}

#[test]
fn a_key_of_the_zone_can_be_set_beside_it() {
    let mut zone = ZoneFile::parse("a.toml", FULL).unwrap();
    zone.set("mtu", "1400").unwrap();
    assert_eq!(ZoneFile::parse("b.toml", &zone.to_toml()), Ok(zone.clone()));
    let wrong = zone.set("subnet4", "10.1.0.0/24").unwrap_err().to_string();
    assert!(
        wrong.starts_with("pool address 10.89.3.200 is outside of 10.1.0.0/24"),
        "{wrong}"
    );
}

#[test]
fn errors_name_the_place_the_value_and_the_remedy() {
    let cases = [
        (
            "dhcp = 1",
            "1:8: dhcp is of type integer; write a table, [dhcp]",
        ),
        (
            "[dhcp]\nlese = 1",
            "2:1: unknown key \"lese\" in dhcp; the keys are lease, ",
        ),
        (
            "[dhcp]\nlease = \"9s\"",
            "2:9: lease \"9s\" is no time for it; write 10s to 365d",
        ),
        (
            "[dhcp]\nlease = \"1w\"",
            "2:9: lease \"1w\" is no time for it",
        ),
        ("[dhcp]\nlease = true", "2:9: lease is of type boolean"),
        (
            "[dhcp]\nipv6-only = 299",
            "2:13: ipv6-only 299 is no time for it; write 300s",
        ),
        (
            "[dhcp]\npool = \"10.0.0.9\"",
            "2:8: pool \"10.0.0.9\" is not a range",
        ),
        (
            "[dhcp]\nrelays = \"10.0.0.9\"",
            "2:10: relays is of type string; write a list",
        ),
        (
            "[dhcp]\nrelays = [\"10.0.0.9\", \"x\"]",
            "2:23: relays \"x\" is not the IPv4 address",
        ),
        (
            "[dhcp]\nsearch = [\"a..b\"]",
            "2:11: domain \"a..b\" is not a DNS domain",
        ),
        (
            "[dhcp]\nroutes = [{ to = \"10.0.0.0/8\" }]",
            "2:11: a route has to and via",
        ),
        (
            "[dhcp.options]\nntp = [\"10.0.0.1\"]",
            "2:7: \"ntp\" is no DHCP option; did you mean ntp-servers?",
        ),
        (
            "[dhcp.options]\nbananas = 1",
            "2:11: \"bananas\" is no DHCP option; give its number",
        ),
        (
            "[dhcp.options]\n300 = \"a\"",
            "2:7: \"300\" is no DHCP option",
        ),
        (
            "[dhcp.options]\n51 = 60",
            "2:6: option 51 belongs to the protocol itself; ",
        ),
        (
            "[dhcp.options]\n42 = \"noon\"",
            "2:6: \"noon\" is no value for option 42; write a list of IPv4 addresses",
        ),
        (
            "[dhcp.options]\ninterface-mtu = 70000",
            "2:17: 70000 is no value for option interface-mtu; write 0 to 65535",
        ),
        (
            "[dhcp.options]\n224 = 7",
            "2:7: option 224 has no type of its own; say it, like { u16 = 7 }",
        ),
        (
            "[dhcp.options]\n224 = { u24 = 7 }",
            "2:7: \"u24\" is no type of option 224; the types are hex, ",
        ),
        (
            "[dhcp.options]\n224 = { u8 = 7, u16 = 7 }",
            "2:7: option 224 has two values",
        ),
        (
            "[dhcp.options]\n43 = \"hex:1\"",
            "2:6: \"1\" is not a row of bytes",
        ),
        (
            "[dhcp.options]\n42 = [\"10.0.0.1\"]\nntp-servers = [\"10.0.0.1\"]",
            "3:1: ntp-servers is option 42, as 42 is; keep one",
        ),
        (
            "[[dhcp.reservation]]\naddress = \"10.0.0.9\"",
            "1:1: a reservation does not say for whom",
        ),
        (
            "[[dhcp.reservation]]\nmac = \"02:00:00:00:00:01\"",
            "1:1: a reservation has no address",
        ),
        (
            "[[dhcp.reservation]]\nmac = \"01:00:00:00:00:01\"",
            "2:7: \"01:00:00:00:00:01\" is not the hardware address of one",
        ),
        (
            "[[dhcp.reservation]]\nip = \"10.0.0.9\"",
            "2:1: unknown key \"ip\" in a reservation",
        ),
        (
            "[[dhcp.reservation]]\nmac = \"02:00:00:00:00:01\"\naddress = \"10.0.0.9\"\n\
             [[dhcp.reservation]]\nmac = \"02:00:00:00:00:02\"\naddress = \"10.0.0.9\"",
            "4:1: 10.0.0.9 is reserved twice; take one",
        ),
        (
            "[[dhcp.reservation]]\nmac = \"02:00:00:00:00:01\"\naddress = \"10.0.0.9\"\n\
             [[dhcp.reservation]]\nmac = \"02:00:00:00:00:01\"\naddress = \"10.0.0.8\"",
            "4:1: one machine has two reservations, 10.0.0.9 and 10.0.0.8",
        ),
        (
            "subnet4 = \"10.0.0.0/24\"\n[[dhcp.reservation]]\nmac = \"02:00:00:00:00:01\"\naddress = \"10.0.1.9\"",
            "4:11: reserved address 10.0.1.9 is outside of 10.0.0.0/24; choose another",
        ),
        (
            "subnet4 = \"10.0.0.0/24\"\n[dhcp]\nrelays = [\"10.0.0.1\"]",
            "3:10: relay 10.0.0.1 is the gateway of 10.0.0.0/24",
        ),
        (
            "subnet4 = \"10.0.0.0/24\"\n[dhcp]\npool = \"10.0.0.9-10.0.0.255\"",
            "3:8: pool address 10.0.0.255 is the broadcast address of",
        ),
    ];
    for (text, begins) in cases {
        let error = ZoneFile::parse("z.toml", text).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("z.toml:{begins}")),
            "{text}\n{error}\n{begins}"
        );
    }
}
