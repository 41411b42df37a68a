//! The client FQDN option (81, RFC 4702).

use dhcp::{Responder, ServerConfig};
use dhcproto::v4::{DhcpOption, UnknownOption};

use crate::world::*;

/// Option 81 by its bytes: flags, two result codes, the name.
fn fqdn(flags: u8, name: &[u8]) -> DhcpOption {
    let mut value = vec![flags, 0, 0];
    value.extend_from_slice(name);
    DhcpOption::Unknown(UnknownOption::new(81.into(), value))
}

/// Flags and name of the answer, from the bytes.
fn answered(told: &Told) -> Option<(u8, Vec<u8>)> {
    let mut rest = &told.bytes[240..];
    while let [code, length, tail @ ..] = rest {
        let (value, tail) = tail.split_at(usize::from(*length));
        if *code == 81 {
            assert_eq!(value[1..3], [255, 255], "RCODE1 and RCODE2, §4");
            return Some((value[0], value[3..].to_vec()));
        }
        if *code == 255 {
            return None;
        }
        rest = tail;
    }
    None
}

fn world() -> World {
    World::with_web_and_db(ServerConfig {
        domain: Some("dmz.internal".into()),
        ..config_with_pool(100, 110)
    })
}

const S: u8 = 1;
const O: u8 = 2;
const E: u8 = 4;
const N: u8 = 8;

// §4: the zone's resolver answers for attached machines under the name they were attached with
#[test]
fn an_attached_machines_name_is_the_servers_word() {
    let mut world = world();
    let name = b"\x03web\x03dmz\x08internal\0".to_vec();
    for (flags, expected) in [(S | E, S | E), (E, S | O | E), (N | E, S | O | E)] {
        let offer = world.told(&discover(1).with(fqdn(flags, b"\x04evil\0")));
        assert_eq!(answered(&offer), Some((expected, name.clone())));
        let (_, ack) = world.granted(&selecting(1, ip(2)).with(fqdn(flags, b"\x04evil\0")));
        assert_eq!(answered(&ack), Some((expected, name.clone())));
    }
    // §2.1: in the encoding that the client used
    let offer = world.told(&discover(1).with(fqdn(S, b"evil")));
    assert_eq!(answered(&offer), Some((S, b"web.dmz.internal".to_vec())));
}

// §4: N, and O where it wanted S
#[test]
fn nobody_tells_the_dns_of_guests() {
    let mut world = world();
    let offer = world.told(&discover(9).with(fqdn(S | E, b"\x05guest\0")));
    let name = b"\x05guest\x03dmz\x08internal\0".to_vec();
    assert_eq!(answered(&offer), Some((N | O | E, name)));
    let offer = world.told(&discover(9).with(fqdn(N, b"guest.example.")));
    assert_eq!(answered(&offer), Some((N, b"guest.example".to_vec())));
}

// §4: only to clients that sent it, in no NAK
#[test]
fn who_does_not_send_it_does_not_get_it() {
    let mut world = world();
    assert_eq!(answered(&world.told(&discover(1))), None);
    assert_eq!(answered(&world.told(&discover(1).asks_for(&[81]))), None);
    let nak = world.told(&init_reboot(1, ip(9)).with(fqdn(S, b"web")));
    assert_eq!(answered(&nak), None);
}

// §3.1: who sends both names means this one
#[test]
fn it_goes_before_the_host_name() {
    let mut world = world();
    let both = |said: Said| {
        said.with(DhcpOption::Hostname("old".into()))
            .with(fqdn(E, b"\x03new\x07example\0"))
    };
    let offer = world.told(&both(discover(9)));
    let (lease, _) = world.granted(&both(selecting(9, offer.yiaddr())));
    assert_eq!(lease.hostname.as_deref(), Some("new.example"));
}

// whatever the bytes: an answer, or none, and no panic; the address does not depend on it
#[test]
fn strange_names_cost_nothing_but_themselves() {
    let mut world = world();
    for value in [
        &b""[..],
        b"\xff",
        b"\x04\0",
        b"\x04\0\0\xff",
        b"\x04\0\0\x3fa",
        b"\0\0\0\xff\xfe",
    ] {
        let option = DhcpOption::Unknown(UnknownOption::new(81.into(), value.to_vec()));
        world.now += 10;
        assert_eq!(world.told(&discover(9).with(option)).yiaddr(), ip(100));
    }
    let long = ServerConfig {
        domain: Some(format!("{0}.{0}.{0}", "d".repeat(63))),
        ..config()
    };
    world.dhcp = Responder::new(long).unwrap();
    world
        .dhcp
        .bind(mac(1), ip(2), Some("w".repeat(63)))
        .unwrap();
    let offer = world.told(&discover(1).with(fqdn(S | E, b"\0")));
    assert_eq!(answered(&offer), Some((S | E, Vec::new())));
}
