//! Who listens on the host's ports: sockets by sock_diag(7), their owners by `/proc/PID/fd`.
//!
//! Asked when a port is to be published. The kernel would not mind: it translates before it looks for a
//! socket, and the program that listens would lose its clients without a word.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall::model::Publish;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const UDP: u8 = 17;
// linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// Length of `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// Attribute: whether a socket on `::` leaves IPv4 alone.
const INET_DIAG_SKV6ONLY: u16 = 11;
/// Bits of socket states (net/tcp_states.h). UDP sockets that are not connected count as closed.
const LISTEN: u32 = 1 << 10;
const CLOSE: u32 = 1 << 7;

/// A socket that takes what comes to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    proto: u8,
    /// The host address it is bound to; unspecified for all of its family.
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// Index of the only interface it listens on; 0 for all.
    device: u32,
    /// On `::`, and IPv4 as well.
    dual: bool,
    inode: u32,
}

impl Listener {
    /// Whether it would lose connections to a published port. `gateways` are the zones': their resolvers'
    /// ports stay reached by the zones.
    fn meets(&self, publish: &Publish, gateways: &[IpAddr]) -> bool {
        let everywhere = self.address.is_unspecified();
        let address = match publish.address {
            None => !(self.port == 53 && gateways.contains(&self.address)),
            // On one interface only: whose addresses are others, as far as can be seen.
            Some(_) if self.device != 0 && everywhere => false,
            Some(at) if everywhere => at.is_ipv6() == self.address.is_ipv6() || self.dual,
            Some(at) => at == self.address,
        };
        address
            && self.proto == publish.proto
            && (publish.first..=publish.last).contains(&self.port)
    }

    /// The program that has it, with its process id; none when it cannot be seen (another PID namespace).
    pub(crate) fn owner(&self) -> Option<(String, u32)> {
        let wanted = format!("socket:[{}]", self.inode);
        let processes = std::fs::read_dir("/proc").ok()?;
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        for pid in pids.collect::<Vec<u32>>() {
            // A process that ended meanwhile is not the owner.
            let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
                continue;
            };
            let has = |entry: io::Result<std::fs::DirEntry>| {
                let link = entry.ok().and_then(|e| std::fs::read_link(e.path()).ok());
                link.is_some_and(|link| link.as_os_str() == wanted.as_str())
            };
            if descriptors.into_iter().any(has) {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                return Some((name.trim_end().to_owned(), pid));
            }
        }
        None
    }
}

/// The sockets in the way of a port, lowest port first.
///
/// # Errors
/// The kernel tells nothing about sockets.
pub(crate) fn in_the_way(publish: &Publish, gateways: &[IpAddr]) -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let port = (publish.first == publish.last).then_some(publish.first);
        let all = listeners(family, publish.proto, port)?;
        found.extend(all.into_iter().filter(|l| l.meets(publish, gateways)));
    }
    found.sort_by_key(|listener| (listener.port, listener.address));
    Ok(found)
}

/// All listeners of a family and protocol, or those on one port.
fn listeners(family: AddressFamily, proto: u8, port: Option<u16>) -> io::Result<Vec<Listener>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let to = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(
        &socket,
        &question(family, proto, port),
        SendFlags::empty(),
        &to,
    )?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match rustix::net::recv(&socket, &mut *buffer, RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        let mut rest = &buffer[..length.min(buffer.len())];
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => {
                    let code = body.get(..4).and_then(|b| b.try_into().ok());
                    let code = i32::from_ne_bytes(code.unwrap_or_default());
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => found.extend(listener(proto, body)),
            }
            rest = next;
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn question(family: AddressFamily, proto: u8, port: Option<u16>) -> Vec<u8> {
    let states = if proto == UDP { CLOSE } else { LISTEN };
    let mut bytes = Vec::with_capacity(HEADER + 56);
    bytes.extend_from_slice(&72u32.to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    bytes.extend_from_slice(&[family, proto, 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.extend_from_slice(&port.unwrap_or_default().to_be_bytes());
    bytes.resize(HEADER + 56, 0);
    bytes
}

/// Kind and body of the first message, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

/// `struct inet_diag_msg` and its attributes.
fn listener(proto: u8, body: &[u8]) -> Option<Listener> {
    let number = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?))
    };
    let v6 = i32::from(*body.first()?) == i32::from(AddressFamily::INET6.as_raw());
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let address: IpAddr = if v6 {
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(body.get(8..24)?).ok()?);
        // bound to ::ffff:192.0.2.1: an IPv4 socket in all but name
        address.to_canonical()
    } else {
        Ipv4Addr::from(<[u8; 4]>::try_from(body.get(8..12)?).ok()?).into()
    };
    let mut only6 = false;
    let mut rest = body.get(MESSAGE..).unwrap_or_default();
    while let Some(&[a, b, c, d]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        if u16::from_ne_bytes([c, d]) == INET_DIAG_SKV6ONLY {
            only6 = rest.get(4) == Some(&1);
        }
        if length < 4 {
            break;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Listener {
        proto,
        address,
        port,
        device: number(40)?,
        dual: v6 && address.is_unspecified() && !only6,
        inode: number(68)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn published(text: &str) -> Publish {
        crate::publish::parse(text).unwrap()
    }

    fn found(text: &str) -> Vec<(IpAddr, u16)> {
        let all = in_the_way(&published(text), &[]).unwrap();
        all.iter().map(|l| (l.address, l.port)).collect()
    }

    #[test]
    fn own_sockets_are_found_and_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let port = address.port();
        for text in [
            format!("{port}:80"),
            format!("{}-{}:80", port - 1, port),
            format!("127.0.0.1:{port}:80"),
        ] {
            assert_eq!(found(&text), [(address.ip(), port)], "{text}");
        }
        for text in [
            format!("127.0.0.2:{port}:80"),
            format!("[::1]:{port}:80"),
            format!("{port}:80/udp"),
        ] {
            assert_eq!(found(&text), [], "{text}");
        }
        let way = in_the_way(&published(&format!("{port}:80")), &[]).unwrap();
        let (name, pid) = way[0].owner().unwrap();
        assert_eq!(pid, std::process::id());
        assert!(!name.is_empty());
        // A connection to it is no listener.
        let stream = TcpStream::connect(address).unwrap();
        drop(listener);
        assert_eq!(found(&format!("{port}:80")), []);
        drop(stream);
    }

    #[test]
    fn wildcards_stand_for_their_family_or_for_both() {
        let both = UdpSocket::bind("[::]:0").unwrap();
        let port = both.local_addr().unwrap().port();
        let any6: IpAddr = Ipv6Addr::UNSPECIFIED.into();
        for text in [
            format!("127.0.0.1:{port}:53/udp"),
            format!("[::1]:{port}:53/udp"),
            format!("{port}:53/udp"),
        ] {
            assert_eq!(found(&text), [(any6, port)], "{text}");
        }
        // One that is connected is somebody's client.
        both.connect((Ipv6Addr::LOCALHOST, 9)).unwrap();
        assert_eq!(found(&format!("{port}:53/udp")), []);
        drop(both);
        let four = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = four.local_addr().unwrap().port();
        assert_eq!(found(&format!("[::1]:{port}:53/udp")), []);
        assert_eq!(found(&format!("127.0.0.1:{port}:53/udp")).len(), 1);
    }

    #[test]
    fn who_is_in_the_way_of_whom() {
        let socket = |address: &str, device, dual| Listener {
            proto: 17,
            address: address.parse().unwrap(),
            port: 53,
            device,
            dual,
            inode: 0,
        };
        let gateways = ["10.89.0.1".parse().unwrap()];
        for (meets, socket, publish) in [
            (true, socket("0.0.0.0", 0, false), "53:53/udp"),
            (true, socket("0.0.0.0", 0, false), "192.0.2.1:53:53/udp"),
            (
                false,
                socket("0.0.0.0", 0, false),
                "[2001:db8::1]:53:53/udp",
            ),
            (true, socket("::", 0, true), "192.0.2.1:53:53/udp"),
            (false, socket("::", 0, false), "192.0.2.1:53:53/udp"),
            (true, socket("127.0.0.53", 0, false), "53:53/udp"),
            (false, socket("127.0.0.53", 0, false), "192.0.2.1:53:53/udp"),
            // a zone's own resolver stays reached
            (false, socket("10.89.0.1", 0, false), "53:53/udp"),
            (true, socket("10.89.0.1", 0, false), "10.89.0.1:53:53/udp"),
            // on one interface
            (true, socket("0.0.0.0", 7, false), "53:53/udp"),
            (false, socket("0.0.0.0", 7, false), "192.0.2.1:53:53/udp"),
            (false, socket("0.0.0.0", 0, false), "54:53/udp"),
            (false, socket("0.0.0.0", 0, false), "53:53"),
        ] {
            let wanted = published(publish);
            assert_eq!(
                socket.meets(&wanted, &gateways),
                meets,
                "{socket:?} {publish}"
            );
        }
    }
}
