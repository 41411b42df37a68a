//! Elements in words: for errors, for differences, and for `policy show --nft`.

use std::net::{Ipv4Addr, Ipv6Addr};

use zone::MacAddr;

use super::ir::hex;
use super::text::family_of;
use crate::sets::{Element, Field, Key};

/// An element as nft writes it: `inet netd eg4_allow_peer_port { 10.89.0.2 . 10.89.0.3 . tcp . 80 }`.
pub fn element(element: &Element) -> String {
    let spec = element.set.spec();
    let mut text = fields(&spec.key, &element.key, element.last.as_ref());
    if let Some(data) = &element.data {
        text = format!("{text} : {}", fields(&spec.data, data, None));
    }
    let family = family_of(spec.table);
    format!("{family} {} {} {{ {text} }}", super::TABLE, spec.name)
}

/// A key field by field; with `last`, as ranges where the two differ.
pub(crate) fn fields(fields: &[Field], key: &Key, last: Option<&Key>) -> String {
    let mut at = 0;
    let mut words = Vec::new();
    for field in fields {
        let part = |key: &Key| match key.0.get(at..at + field.len()) {
            Some(bytes) => word(*field, bytes),
            None => "?".to_owned(),
        };
        let first = part(key);
        words.push(match last.map(part) {
            Some(last) if last != first => format!("{first}-{last}"),
            _ => first,
        });
        at += field.padded();
    }
    words.join(" . ")
}

fn word(field: Field, bytes: &[u8]) -> String {
    match (field, bytes) {
        (Field::Ip4, &[a, b, c, d]) => Ipv4Addr::new(a, b, c, d).to_string(),
        (Field::Ip6, bytes) => match <[u8; 16]>::try_from(bytes) {
            Ok(octets) => Ipv6Addr::from(octets).to_string(),
            Err(_) => "?".into(),
        },
        (Field::Mac, &[a, b, c, d, e, f]) => MacAddr([a, b, c, d, e, f]).to_string(),
        (Field::Port, &[a, b]) => u16::from_be_bytes([a, b]).to_string(),
        (Field::Mark | Field::IfIndex, &[a, b, c, d]) => hex(u32::from_ne_bytes([a, b, c, d])),
        (Field::IfName, bytes) => {
            let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
            format!("\"{}\"", String::from_utf8_lossy(name))
        }
        (Field::Proto, &[number]) => super::ir::protocol(number).text,
        (Field::NfProto, &[2]) => "ipv4".into(),
        (Field::NfProto, &[10]) => "ipv6".into(),
        (_, bytes) => format!("{bytes:02x?}"),
    }
}
