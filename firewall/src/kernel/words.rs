//! Which object of a batch the kernel complained about.

use super::dump::parse_element;
use super::nf::{self, msg};
use super::wire::{self, HEADER, Message, NFGEN};
use crate::sets::{Key, SetId};
use crate::skeleton::element::fields;

/// The object in words: from the message with that sequence number, and the offset of the attribute
/// at fault where the kernel gave one.
pub(super) fn object(batch: &[u8], sequence: u32, offset: Option<usize>) -> String {
    let found = wire::messages(batch).find(|message| message.sequence == sequence);
    found
        .and_then(|message| describe(&message, offset))
        .unwrap_or_else(|| format!("message {sequence} of the transaction"))
}

fn describe(message: &Message<'_>, offset: Option<usize>) -> Option<String> {
    let family = match message.body.first() {
        Some(&nf::NFPROTO_BRIDGE) => "bridge",
        _ => "inet",
    };
    let body = message.body.get(NFGEN..)?;
    if message.kind >> 8 != nf::SUBSYS_NFTABLES {
        return Some("the transaction as a whole".into());
    }
    let verb = match message.kind & 0xff {
        msg::NEWSETELEM => "add element",
        msg::DELSETELEM => "remove element",
        msg::NEWTABLE => return Some(format!("make table {family} netd")),
        msg::DELTABLE => return Some(format!("delete table {family} netd")),
        msg::NEWRULE => {
            let chain = wire::text(body, nf::RULE_CHAIN)?;
            return Some(format!("rule in chain {family} netd {chain}"));
        }
        msg::NEWSET | msg::DELSET => {
            let set = wire::text(body, nf::SET_NAME)?;
            return Some(format!("set {family} netd {set}"));
        }
        msg::NEWCHAIN | msg::DELCHAIN => {
            let chain = wire::text(body, nf::CHAIN_NAME)?;
            return Some(format!("chain {family} netd {chain}"));
        }
        _ => return None,
    };
    let set = wire::text(body, nf::ELEM_LIST_SET)?;
    let key = element_at(message, offset).and_then(|bytes| key(set, bytes));
    let key = key.unwrap_or_else(|| "…".into());
    Some(format!("{verb} {family} netd {set} {{ {key} }}"))
}

/// The element attribute at an offset from the start of the message; the only one if there is one.
fn element_at<'a>(message: &Message<'a>, offset: Option<usize>) -> Option<&'a [u8]> {
    if let Some(offset) = offset
        && let Some(bytes) = message.body.get(offset.checked_sub(HEADER)?..)
        && let Some((nf::LIST_ELEM, element)) = wire::attributes(bytes).next()
        && parse_element(element).is_some()
    {
        return Some(element);
    }
    let list = wire::attribute(message.body.get(NFGEN..)?, nf::ELEM_LIST_ELEMENTS)?;
    let mut elements = wire::attributes(list);
    let first = elements.next()?;
    elements.next().is_none().then_some(first.1)
}

fn key(set: &str, element: &[u8]) -> Option<String> {
    let element = parse_element(element)?;
    let spec = SetId::all()
        .into_iter()
        .map(SetId::spec)
        .find(|spec| spec.name == set)?;
    let last = element.key_end.map(Key);
    Some(fields(&spec.key, &Key(element.key), last.as_ref()))
}
