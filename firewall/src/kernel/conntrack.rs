//! Forgets the connections of an address, when it is given to another container.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::nf::{self, flag};
use super::socket::{Socket, SocketError};
use super::wire::{self, NFGEN, Writer};

/// Connections could not be read or deleted.
#[derive(Debug, thiserror::Error)]
#[error("delete connections of a freed address")]
pub struct ConntrackError(#[from] SocketError);

const NEW: u16 = nf::SUBSYS_CTNETLINK << 8;
const GET: u16 = NEW | 1;
const DELETE: u16 = NEW | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const NESTED: u16 = 0x8000;

/// Bytes of deletions sent in one go.
const CHUNK: usize = 64 << 10;

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
    let mut found = Vec::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let mut writer = Writer::default();
        let sequence = socket.next_sequence();
        writer.begin(
            GET,
            flag::REQUEST | flag::DUMP,
            sequence,
            &[family, 0, 0, 0],
        );
        writer.end();
        socket.dump(writer.as_slice(), sequence, |message| {
            let body = message.body.get(NFGEN..).unwrap_or_default();
            if message.kind == NEW && concerns(body, &addresses) {
                found.push((family, body.to_vec()));
            }
        })?;
    }
    let mut writer = Writer::default();
    let mut last = 0;
    for (family, body) in &found {
        last = socket.next_sequence();
        writer.begin(DELETE, flag::REQUEST, last, &[*family, 0, 0, 0]);
        // By tuple and id: the entry that was read, not one that took its place since.
        for (kind, mask) in [(CTA_TUPLE_ORIG, NESTED), (CTA_ID, 0), (CTA_ZONE, 0)] {
            if let Some(value) = wire::attribute(body, kind) {
                writer.bytes(kind | mask, value);
            }
        }
        writer.end();
        if writer.len() > CHUNK {
            delete(&mut socket, &mut writer, last)?;
        }
    }
    if writer.len() > 0 {
        delete(&mut socket, &mut writer, last)?;
    }
    Ok(found.len())
}

fn delete(socket: &mut Socket, writer: &mut Writer, last: u32) -> Result<(), SocketError> {
    writer.add_flags(flag::ACK);
    let result = socket.transact(writer.as_slice(), last);
    writer.clear();
    match result {
        // It ended by itself meanwhile.
        Err(SocketError::Refused { errno, .. }) if errno == rustix::io::Errno::NOENT => Ok(()),
        result => result,
    }
}

fn concerns(body: &[u8], addresses: &HashSet<IpAddr>) -> bool {
    [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY]
        .into_iter()
        .filter_map(|tuple| wire::attribute(body, tuple))
        .filter_map(|tuple| wire::attribute(tuple, CTA_TUPLE_IP))
        .flat_map(wire::attributes)
        .filter_map(|(_, value)| address(value))
        .any(|address| addresses.contains(&address))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}
