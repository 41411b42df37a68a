//! Forgets connections: of an address that is given to another container, and of host ports that begin or
//! cease to be published.
//!
//! A flow of UDP lives as long as its client keeps its port, and goes where it was led when it began. So it
//! is deleted when that is wrong; TCP begins anew by itself.
//!
//! The kernel picks out what it tells (`CTA_FILTER`, Linux 5.8; `CTA_STATUS`, 5.15): what comes here are the
//! flows asked for, however many others there are. Older kernels tell everything; so everything told is
//! looked at again. The kernel's own walk is as long as its table; nothing shorter finds a flow whose client
//! is not known.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustix::io::Errno;

use super::nf::{self, flag};
use super::socket::{Socket, SocketError};
use super::wire::{self, NFGEN, Writer};
use crate::sets::Family;

/// Connections could not be read or deleted.
#[derive(Debug, thiserror::Error)]
#[error("delete connections")]
pub struct ConntrackError(#[from] SocketError);

const NEW: u16 = nf::SUBSYS_CTNETLINK << 8;
const GET: u16 = NEW | 1;
const DELETE: u16 = NEW | 2;

// linux/netfilter/nfnetlink_conntrack.h
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_STATUS_MASK: u16 = 26;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const NESTED: u16 = 0x8000;
/// The destination was translated (linux/netfilter/nf_conntrack_common.h).
const IPS_DST_NAT: u32 = 1 << 5;

// net/netfilter/nf_internals.h: which parts of a tuple a filter compares
const BY_IP_SRC: u32 = 1 << 0;
const BY_IP_DST: u32 = 1 << 1;
const BY_PROTO_NUM: u32 = 1 << 3;
const BY_DST_PORT: u32 = 1 << 5;

/// Bytes of deletions sent in one go.
const CHUNK: usize = 64 << 10;

/// What the kernel is asked to pick out.
#[derive(Debug, Clone, Copy)]
enum Pick {
    /// Everything
    All,
    /// A client's first packet was of this protocol, and to this address and port as far as given
    Towards(u8, Option<IpAddr>, Option<u16>),
    /// The destination was translated, to this address
    LedTo(IpAddr),
}

/// A connection, as far as it matters here. `to` is the server as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flow {
    client: IpAddr,
    to: IpAddr,
    proto: u8,
    port: Option<u16>,
    /// Who answers, and to whom: other than the above where addresses are translated.
    server: IpAddr,
    back: IpAddr,
}

/// Deletes every connection in whose tuples one of the addresses stands, as client, server, or
/// translated address. Returns how many there were.
///
/// # Errors
/// No conntrack, or no CAP_NET_ADMIN.
pub fn delete_for(addresses: &[IpAddr]) -> Result<usize, ConntrackError> {
    if addresses.is_empty() {
        return Ok(0);
    }
    let addresses: HashSet<IpAddr> = addresses.iter().copied().collect();
    let mut socket = Socket::netfilter()?;
    let mut deleted = 0;
    for family in Family::ALL {
        deleted += delete_picked(&mut socket, family, Pick::All, |flow| {
            let ends = [flow.client, flow.to, flow.server, flow.back];
            ends.iter().any(|end| addresses.contains(end))
        })?;
    }
    Ok(deleted)
}

/// Deletes the connections that were led to one of these addresses by destination translation, and no
/// others. Returns how many there were.
///
/// # Errors
/// No conntrack, or no CAP_NET_ADMIN.
pub fn delete_led_to(addresses: &[IpAddr]) -> Result<usize, ConntrackError> {
    let mut deleted = 0;
    if addresses.is_empty() {
        return Ok(deleted);
    }
    let mut socket = Socket::netfilter()?;
    for address in addresses {
        let family = Family::of(*address);
        deleted += delete_picked(&mut socket, family, Pick::LedTo(*address), |flow| {
            flow.server == *address && flow.to != *address
        })?;
    }
    Ok(deleted)
}

/// Ports of the host, in one family, that lead somewhere else from now on.
#[derive(Debug, Clone)]
pub struct HostPorts {
    /// Of which family.
    pub family: Family,
    /// IP protocol number.
    pub proto: u8,
    /// First and last port.
    pub ports: (u16, u16),
    /// The one address it is about; all of the host's when absent.
    pub at: Option<IpAddr>,
    /// The host's addresses. Those of its loopback need not be among them.
    pub host: Arc<[IpAddr]>,
    /// Where the ports lead now: connections that go there already stay.
    pub to: IpAddr,
}

impl HostPorts {
    fn concerns(&self, flow: &Flow) -> bool {
        let here = match self.at {
            Some(at) => flow.to == at,
            None => flow.to.is_loopback() || self.host.contains(&flow.to),
        };
        let (first, last) = self.ports;
        here && flow.proto == self.proto
            && flow.port.is_some_and(|port| first <= port && port <= last)
            && flow.server != self.to
    }

    fn pick(&self) -> Pick {
        let (first, last) = self.ports;
        Pick::Towards(self.proto, self.at, (first == last).then_some(first))
    }
}

/// With more than so many, all connections of the protocol are asked for once: each question is a walk
/// over the kernel's whole table.
const QUESTIONS: usize = 4;

/// Deletes the connections to these ports that do not go where the ports lead now, and no others. Returns
/// how many there were.
///
/// # Errors
/// No conntrack, or no CAP_NET_ADMIN.
pub fn delete_towards(ports: &[HostPorts]) -> Result<usize, ConntrackError> {
    let mut deleted = 0;
    if ports.is_empty() {
        return Ok(deleted);
    }
    let mut socket = Socket::netfilter()?;
    for family in Family::ALL {
        let of_family: Vec<&HostPorts> = ports.iter().filter(|p| p.family == family).collect();
        if of_family.len() <= QUESTIONS {
            for ports in of_family {
                deleted += delete_picked(&mut socket, family, ports.pick(), |flow| {
                    ports.concerns(flow)
                })?;
            }
            continue;
        }
        let protos: HashSet<u8> = of_family.iter().map(|p| p.proto).collect();
        for proto in protos {
            let pick = Pick::Towards(proto, None, None);
            deleted += delete_picked(&mut socket, family, pick, |flow| {
                of_family.iter().any(|ports| ports.concerns(flow))
            })?;
        }
    }
    Ok(deleted)
}

/// Deletes those of the picked connections that are `wanted`.
fn delete_picked(
    socket: &mut Socket,
    family: Family,
    pick: Pick,
    wanted: impl Fn(&Flow) -> bool,
) -> Result<usize, SocketError> {
    let number = match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    };
    let found = match read(socket, number, pick, &wanted) {
        // The kernel has no filters, or not these.
        Err(SocketError::Refused { errno, .. })
            if [Errno::OPNOTSUPP, Errno::INVAL].contains(&errno) =>
        {
            read(socket, number, Pick::All, &wanted)
        }
        outcome => outcome,
    }?;
    let mut writer = Writer::default();
    let mut last = 0;
    for body in &found {
        last = socket.next_sequence();
        writer.begin(DELETE, flag::REQUEST, last, &[number, 0, 0, 0]);
        // By tuple and id: the entry that was read, not one that took its place since.
        for (kind, mask) in [(CTA_TUPLE_ORIG, NESTED), (CTA_ID, 0), (CTA_ZONE, 0)] {
            if let Some(value) = wire::attribute(body, kind) {
                writer.bytes(kind | mask, value);
            }
        }
        writer.end();
        if writer.len() > CHUNK {
            delete(socket, &mut writer, last)?;
        }
    }
    if writer.len() > 0 {
        delete(socket, &mut writer, last)?;
    }
    Ok(found.len())
}

/// The wanted ones of the picked connections, as the kernel tells them.
fn read(
    socket: &mut Socket,
    family: u8,
    pick: Pick,
    wanted: impl Fn(&Flow) -> bool,
) -> Result<Vec<Vec<u8>>, SocketError> {
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    writer.begin(
        GET,
        flag::REQUEST | flag::DUMP,
        sequence,
        &[family, 0, 0, 0],
    );
    filter(&mut writer, pick);
    writer.end();
    let mut found = Vec::new();
    socket.dump(writer.as_slice(), sequence, |message| {
        let body = message.body.get(NFGEN..).unwrap_or_default();
        if message.kind == NEW && flow(body).is_some_and(|flow| wanted(&flow)) {
            found.push(body.to_vec());
        }
    })?;
    Ok(found)
}

/// IPv6 addresses are not compared by the kernel: there it passes over those that are equal, instead of the
/// others (`ctnetlink_filter_match_tuple` takes the result of `ipv6_addr_cmp` for its opposite, seen with
/// Linux 6.18).
fn filter(w: &mut Writer, pick: Pick) {
    match pick {
        Pick::All => {}
        Pick::Towards(proto, to, port) => {
            let mut flags = BY_PROTO_NUM;
            w.nest(CTA_TUPLE_ORIG, |w| {
                if let Some(IpAddr::V4(to)) = to {
                    flags |= BY_IP_DST;
                    w.nest(CTA_TUPLE_IP, |w| w.bytes(CTA_IP_V4_DST, &to.octets()));
                }
                w.nest(CTA_TUPLE_PROTO, |w| {
                    w.bytes(CTA_PROTO_NUM, &[proto]);
                    if let Some(port) = port {
                        flags |= BY_DST_PORT;
                        w.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
                    }
                });
            });
            w.nest(CTA_FILTER, |w| {
                w.bytes(CTA_FILTER_ORIG_FLAGS, &flags.to_ne_bytes());
            });
        }
        Pick::LedTo(server) => {
            w.be32(CTA_STATUS, IPS_DST_NAT);
            w.be32(CTA_STATUS_MASK, IPS_DST_NAT);
            if let IpAddr::V4(server) = server {
                w.nest(CTA_TUPLE_REPLY, |w| {
                    w.nest(CTA_TUPLE_IP, |w| w.bytes(CTA_IP_V4_SRC, &server.octets()));
                });
                w.nest(CTA_FILTER, |w| {
                    w.bytes(CTA_FILTER_REPLY_FLAGS, &BY_IP_SRC.to_ne_bytes());
                });
            }
        }
    }
}

fn delete(socket: &mut Socket, writer: &mut Writer, last: u32) -> Result<(), SocketError> {
    writer.add_flags(flag::ACK);
    let result = socket.transact(writer.as_slice(), last);
    writer.clear();
    match result {
        // It ended by itself meanwhile.
        Err(SocketError::Refused { errno, .. }) if errno == Errno::NOENT => Ok(()),
        result => result,
    }
}

/// What the kernel tells of a connection.
fn flow(body: &[u8]) -> Option<Flow> {
    let [first, back] = [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY].map(|kind| wire::attribute(body, kind));
    let (first, back) = (first?, back?);
    let end = |tuple: &[u8], v4: u16, v6: u16| {
        let ip = wire::attribute(tuple, CTA_TUPLE_IP)?;
        wire::attribute(ip, v4)
            .or_else(|| wire::attribute(ip, v6))
            .and_then(address)
    };
    let proto = wire::attribute(first, CTA_TUPLE_PROTO)?;
    let port = wire::attribute(proto, CTA_PROTO_DST_PORT);
    Some(Flow {
        client: end(first, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        to: end(first, CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        proto: *wire::attribute(proto, CTA_PROTO_NUM)?.first()?,
        port: port.and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?))),
        server: end(back, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        back: end(back, CTA_IP_V4_DST, CTA_IP_V6_DST)?,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_flows_to_the_host_that_go_elsewhere_are_concerned() {
        let host = [ip("192.0.2.1"), ip("10.89.0.1")];
        let ports = |at: Option<&str>| HostPorts {
            family: Family::V4,
            proto: 17,
            ports: (5353, 5360),
            at: at.map(ip),
            host: host.into(),
            to: ip("10.89.0.2"),
        };
        let flow = |to: &str, port, server: &str| Flow {
            client: ip("192.0.2.2"),
            to: ip(to),
            proto: 17,
            port: Some(port),
            server: ip(server),
            back: ip("192.0.2.2"),
        };
        // (concerned when published everywhere, concerned when published on 192.0.2.1, flow)
        for (everywhere, there, flow) in [
            // to the host itself, or to whoever was published before
            (true, true, flow("192.0.2.1", 5353, "192.0.2.1")),
            (true, true, flow("192.0.2.1", 5360, "10.89.0.3")),
            (true, false, flow("127.0.0.1", 5355, "127.0.0.1")),
            (true, false, flow("10.89.0.1", 5355, "10.89.0.1")),
            // already where it leads
            (false, false, flow("192.0.2.1", 5353, "10.89.0.2")),
            // through the host to somebody else, whatever the port
            (false, false, flow("198.51.100.7", 5353, "198.51.100.7")),
            (false, false, flow("192.0.2.1", 5361, "192.0.2.1")),
        ] {
            assert_eq!(ports(None).concerns(&flow), everywhere, "{flow:?}");
            assert_eq!(ports(Some("192.0.2.1")).concerns(&flow), there, "{flow:?}");
        }
    }
}
