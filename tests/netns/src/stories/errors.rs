//! What passes by a connection or an address passes for those that it belongs to: ICMP errors, packets that wait.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::stage::bridge_mac;
use crate::net::frame::{self, IPV4, IPV6};
use crate::net::raw::PacketSocket;
use crate::net::trap::Trap;
use crate::world::{Container, World};

/// The victim's port.
const PORT: u16 = 4444;

/// A question and its answer.
fn asks(socket: &UdpSocket) -> std::io::Result<usize> {
    socket.send(b"?")?;
    socket.recv(&mut [0; 64])
}

pub fn nobody_breaks_the_connections_of_others() {
    let world = World::new("errors");
    world.zone("web").default("deny").create();
    world.zone("dmz").default("deny").create();
    world.write_policy("client", "[[egress]]\nto = [\"container:server\"]\n");
    world.policy("server", "[[ingress]]\nfrom = [\"container:client\"]\n");
    let client = world.container("client").in_zone("web").start();
    let server = world.container("server").in_zone("web").start();
    let neighbour = world.container("neighbour").in_zone("web").start();
    let foreign = world.container("foreign").in_zone("dmz").start();
    for (own, other) in client.addresses().into_iter().zip(server.addresses()) {
        assert_eq!(own.is_ipv4(), other.is_ipv4());
        let socket = client.netns.enter(|| {
            let socket = UdpSocket::bind(SocketAddr::new(own, PORT))?;
            socket.connect(SocketAddr::new(other, 53))?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            Ok::<_, std::io::Error>(socket)
        });
        let socket = socket.unwrap();
        asks(&socket).unwrap();
        for (liar, zone) in [(&neighbour, "web"), (&foreign, "dmz")] {
            let kind = if own.is_ipv4() { 3 } else { 1 };
            let caught = Trap::set(&client.netns, "host0", move |seen| {
                frame::transport(seen).is_some_and(|(_, message)| message.first() == Some(&kind))
            });
            let lies = liar.netns.enter(|| PacketSocket::open("host0")).unwrap();
            for _ in 0..3 {
                lies.send(&forged(&world, liar, zone, own, other)).unwrap();
            }
            std::thread::sleep(Duration::from_millis(200));
            let held = asks(&socket);
            assert!(held.is_ok(), "{}: {own} → {other}: {held:?}", liar.name);
            let seen = caught.frames();
            assert!(seen.is_empty(), "{}: {seen:02x?}", liar.name);
        }
        // what the other end says counts
        let nobody = client.netns.enter(|| UdpSocket::bind((own, 0))).unwrap();
        nobody.connect((other, 99)).unwrap();
        nobody
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let refused = asks(&nobody).map_err(|e| e.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    }
}

pub fn what_waits_for_an_address_is_not_for_who_gets_it() {
    let world = World::new("waiting");
    world
        .zone("web")
        .option("--subnet4", "10.77.0.0/24")
        .create();
    world.write_policy("one", "[[egress]]\nto = [\"10.77.0.0/24\", \"fd00::/8\"]\n");
    world.policy("two", "egress = []\ningress = []\n");
    let one = world.container("one").in_zone("web").start();
    let mut two = world.container("two").in_zone("web").bare().start();
    let addresses = two.addresses();
    two.detach();
    // while nobody has the addresses
    for address in &addresses {
        let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
        let socket = one.netns.enter(|| UdpSocket::bind((any, 0))).unwrap();
        for _ in 0..3 {
            // the second may be told already that nobody is there
            let _ = socket.send_to(b"waits", (*address, 666));
        }
    }
    two.try_attach().unwrap();
    assert_eq!(two.addresses(), addresses);
    let caught = Trap::set(&two.netns, "host0", |seen| {
        frame::destination(seen).is_some_and(|(_, port)| port == 666)
    });
    // the host asks for a neighbour once a second, three times
    std::thread::sleep(Duration::from_millis(2500));
    let seen = caught.frames();
    assert!(seen.is_empty(), "{seen:02x?}");
}

/// What a liar says of a datagram from one to another: that its port cannot be reached.
fn forged(world: &World, liar: &Container, zone: &str, from: IpAddr, to: IpAddr) -> Vec<u8> {
    let gateway = bridge_mac(world, &format!("vz-{zone}"));
    let unused = [0; 4].as_slice();
    let (ethertype, packet) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let about = frame::udp4((from, PORT), (to, 53), b"?");
            let body = [unused, &about].concat();
            (IPV4, frame::icmp4(liar.v4(), from, 3, 3, &body))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let about = frame::udp6((from, PORT), (to, 53), b"?");
            let body = [unused, &about].concat();
            (IPV6, frame::icmp6(liar.v6(), from, 1, 4, &body))
        }
        mixed => unreachable!("{mixed:?}"),
    };
    frame::ethernet(gateway, liar.mac(), ethertype, &packet)
}
