//! What the journal says: bytes ⇄ [`Entry`].
//!
//! ```text
//! entry:  length u16 │ kind u8 │ zone (length u8, text) │ body
//! put:    address 4 │ state u8 │ expires u64 │ mac 6 │ client id (length + 1 u16, bytes) │ host name (the same)
//! gone:   address 4
//! ```
//!
//! Numbers are big-endian. An absent field of variable length has length 0, an empty one 1.

use std::net::Ipv4Addr;

use dhcp::{Lease, State};

const PUT: u8 = 1;
const GONE: u8 = 2;
const ZONE_GONE: u8 = 3;
const WHOLE: u8 = 4;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A lease of a zone is this from now on, in place of what its address had.
    Put {
        /// The zone.
        zone: String,
        /// The lease.
        lease: Lease,
    },
    /// An address of a zone has no lease any more.
    Gone {
        /// The zone.
        zone: String,
        /// The address.
        address: Ipv4Addr,
    },
    /// A zone was deleted, and all its leases.
    ZoneGone {
        /// The zone.
        zone: String,
    },
    /// The file has told everything that older files tell.
    Whole,
}

fn state_number(state: State) -> u8 {
    match state {
        State::Offered => 0,
        State::Bound => 1,
        State::Released => 2,
        State::Declined => 3,
        State::Expired => 4,
    }
}

fn state_of(number: u8) -> Option<State> {
    Some(match number {
        0 => State::Offered,
        1 => State::Bound,
        2 => State::Released,
        3 => State::Declined,
        4 => State::Expired,
        _ => return None,
    })
}

/// Appends an entry that tells of a lease, without a copy of it.
pub(crate) fn put(out: &mut Vec<u8>, zone: &str, lease: &Lease) {
    framed(out, PUT, zone, |out| {
        out.extend(lease.address.octets());
        out.push(state_number(lease.state));
        out.extend(lease.expires.to_be_bytes());
        out.extend(lease.mac);
        variable(out, lease.client_id.as_deref());
        variable(out, lease.hostname.as_deref().map(str::as_bytes));
    });
}

/// Appends any other entry.
pub(crate) fn push(out: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Put { zone, lease } => put(out, zone, lease),
        Entry::Gone { zone, address } => {
            framed(out, GONE, zone, |out| out.extend(address.octets()));
        }
        Entry::ZoneGone { zone } => framed(out, ZONE_GONE, zone, |_| {}),
        Entry::Whole => framed(out, WHOLE, "", |_| {}),
    }
}

fn framed(out: &mut Vec<u8>, kind: u8, zone: &str, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0, 0, kind, zone.len() as u8]); // a zone's name has 32 bytes at most
    out.extend(zone.as_bytes());
    body(out);
    // under 1,000: names and identifiers have at most 255 bytes
    let length = (out.len() - start - 2) as u16;
    out[start..start + 2].copy_from_slice(&length.to_be_bytes());
}

fn variable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => out.extend([0, 0]),
        Some(bytes) => {
            // more than 255 do not come out of a DHCP option
            let bytes = &bytes[..bytes.len().min(255)];
            out.extend((bytes.len() as u16 + 1).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// Takes entries off the front of some bytes; `None` at their end, or where they make no sense.
pub(crate) struct Entries<'a>(pub(crate) &'a [u8]);

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (body, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        self.0 = rest;
        read(body)
    }
}

fn read(body: &[u8]) -> Option<Entry> {
    let mut rest = body;
    let [kind, length] = take(&mut rest)?;
    let (zone, mut rest) = rest.split_at_checked(length.into())?;
    let zone = String::from_utf8(zone.to_vec()).ok()?;
    let rest = &mut rest;
    Some(match kind {
        PUT => {
            let address = Ipv4Addr::from(take::<4>(rest)?);
            let [state] = take(rest)?;
            let expires = u64::from_be_bytes(take(rest)?);
            let lease = Lease {
                mac: take(rest)?,
                client_id: taken(rest)?.map(Box::from),
                address,
                hostname: match taken(rest)? {
                    None => None,
                    Some(bytes) => Some(std::str::from_utf8(bytes).ok()?.into()),
                },
                state: state_of(state)?,
                expires,
            };
            Entry::Put { zone, lease }
        }
        GONE => Entry::Gone {
            zone,
            address: Ipv4Addr::from(take::<4>(rest)?),
        },
        ZONE_GONE => Entry::ZoneGone { zone },
        WHOLE => Entry::Whole,
        _ => return None,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// A field of variable length.
fn taken<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Some(length) = u16::from_be_bytes(take(rest)?).checked_sub(1) else {
        return Some(None);
    };
    let (field, tail) = rest.split_at_checked(length.into())?;
    *rest = tail;
    Some(Some(field))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn any_entry() -> impl Strategy<Value = Entry> {
        let field = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..=255));
        let name = proptest::option::of("[a-z0-9.-]{0,60}");
        let lease = (
            any::<[u8; 6]>(),
            field(),
            any::<u32>(),
            name,
            0u8..5,
            any::<u64>(),
        );
        let lease = lease.prop_map(|(mac, id, address, hostname, state, expires)| Lease {
            mac,
            client_id: id.map(Box::from),
            address: address.into(),
            hostname: hostname.map(Box::from),
            state: state_of(state).unwrap(),
            expires,
        });
        let zone = || "[a-z0-9-]{1,32}";
        prop_oneof![
            (zone(), lease).prop_map(|(zone, lease)| Entry::Put { zone, lease }),
            (zone(), any::<u32>()).prop_map(|(zone, a)| Entry::Gone {
                zone,
                address: a.into()
            }),
            zone().prop_map(|zone| Entry::ZoneGone { zone }),
            Just(Entry::Whole),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entries in proptest::collection::vec(any_entry(), 0..5)) {
            let mut bytes = Vec::new();
            entries.iter().for_each(|entry| push(&mut bytes, entry));
            prop_assert_eq!(Entries(&bytes).collect::<Vec<_>>(), entries);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Entries(&bytes).count();
        }
    }
}
