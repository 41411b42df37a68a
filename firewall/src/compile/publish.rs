//! Published ports: destination NAT, and who may come through.
//!
//! ```text
//! 8080:80            one port       publish4         tcp . 8080                      → 10.89.0.2 . 80
//! 127.0.0.1:8080:80  on one address publish_at4      127.0.0.1 . tcp . 8080          → 10.89.0.2 . 80
//! 8000-8999:8000     ports stay     publish_range4   any . tcp . 8000-8999           → 10.89.0.2
//! 8000-8999:9000     all move       publish_shift4   any . tcp . 8000-8999           → 10.89.0.2 . 1000 . 9999
//! ```
//!
//! A range is one element, however long. Where the ports stay what they are, only the address is
//! translated. Where they move, the kernel has no addition, but it has a remainder: it takes `first +
//! port % (last - first + 1)` of a span, and [`spans`] finds spans for which that is the addition. Such a
//! span has one flaw: when a client reaches one port of the container from one port of its own by two host
//! addresses, the second connection finds its place taken and gets the next port, where an exact element
//! would change the client's port instead. So short ranges that move are written out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zone::PortName;

use crate::model::{Container, Publish, World};
use crate::sets::{Element, Family, Key, SetId};

/// How many ports of a range that moves are written out, one by one.
pub(crate) const WRITTEN_OUT: u16 = 256;

/// Whether a container's ports are published at all: never in internal zones.
fn published<'a>(world: &World, container: &'a Container) -> &'a [Publish] {
    match world.zones.get(&container.zone) {
        Some(zone) if !zone.internal => &container.publish,
        _ => &[],
    }
}

/// Host port and container port, one by one.
fn ports(publish: &Publish) -> impl Iterator<Item = (u16, u16)> {
    (publish.first..=publish.last).zip(publish.port..=u16::MAX)
}

/// The last port of the container.
fn last_port(publish: &Publish) -> u16 {
    let more = publish.last.saturating_sub(publish.first);
    publish.port.saturating_add(more)
}

/// Families in which a port is published.
fn families(publish: &Publish) -> impl Iterator<Item = Family> {
    let family = publish.address.map(Family::of);
    Family::ALL
        .into_iter()
        .filter(move |f| family.is_none_or(|only| only == *f))
}

/// The address of a container that a published port leads to.
fn target(world: &World, container: &Container, family: Family) -> Option<IpAddr> {
    let mut addresses = world.addresses(container);
    addresses.find(|address| Family::of(*address) == family)
}

/// The host addresses of a family on which a port is published, as a range.
fn host_addresses(at: Option<IpAddr>, family: Family) -> (IpAddr, IpAddr) {
    match (at, family) {
        (Some(at), _) => (at, at),
        (None, Family::V4) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()),
        (None, Family::V6) => (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::from_bits(u128::MAX).into(),
        ),
    }
}

/// The translations, appended to `out`.
pub(super) fn translations(world: &World, container: &Container, out: &mut Vec<Element>) {
    let mut taken: BTreeSet<(SetId, Key)> = BTreeSet::new();
    let mut ranges: Vec<&Publish> = Vec::new();
    for publish in published(world, container) {
        let moves = publish.port != publish.first;
        let many = publish.last.saturating_sub(publish.first);
        let as_range = many > 0 && (!moves || many >= WRITTEN_OUT);
        if as_range {
            // of two that one container wants for the same port, the first
            if ranges.iter().any(|other| meet(other, publish)) {
                continue;
            }
            ranges.push(publish);
        }
        for family in families(publish) {
            let Some(to) = target(world, container, family) else {
                continue;
            };
            let at = publish.address.filter(|address| !address.is_unspecified());
            if as_range {
                let hosts = host_addresses(at, family);
                range(publish, family, hosts, to, out);
                continue;
            }
            for (host_port, port) in ports(publish) {
                let (set, key) = match at {
                    None => (SetId::Publish(family), Key::new()),
                    Some(address) => (SetId::PublishAt(family), Key::new().ip(address)),
                };
                let key = key.proto(publish.proto).port(host_port);
                if taken.insert((set, key.clone())) {
                    let data = Key::new().ip(to).port(port);
                    out.push(Element::entry(set, key, data));
                }
            }
        }
    }
}

/// The elements of a range that is not written out.
fn range(
    publish: &Publish,
    family: Family,
    (low, high): (IpAddr, IpAddr),
    to: IpAddr,
    out: &mut Vec<Element>,
) {
    let mut push = |set, first, last, data| {
        let key = |address, port| Key::new().ip(address).proto(publish.proto).port(port);
        out.push(Element {
            data: Some(data),
            ..Element::range(set, key(low, first), key(high, last))
        });
    };
    if publish.port == publish.first {
        let data = Key::new().ip(to);
        push(
            SetId::PublishRange(family),
            publish.first,
            publish.last,
            data,
        );
        return;
    }
    for span in spans(publish) {
        let data = Key::new().ip(to).port(span.low).port(span.high);
        push(SetId::PublishShift(family), span.first, span.last, data);
    }
}

/// Host ports `first` to `last`, and the span of ports for which the kernel's remainder leads each of them
/// to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u16,
    last: u16,
    low: u16,
    high: u16,
}

/// One span for a range that moves up; a few, each at most twice as far as the one before, for one that
/// moves down.
///
/// With `n` the length of a span, `port % n` is `port` while `n > last`, and `port - n` while `n <= first`
/// and `last < 2 n`.
fn spans(publish: &Publish) -> Vec<Span> {
    if publish.port >= publish.first {
        return vec![Span {
            first: publish.first,
            last: publish.last,
            low: publish.port - publish.first,
            high: last_port(publish),
        }];
    }
    let down = publish.first - publish.port;
    let mut spans = Vec::new();
    let mut first = publish.first;
    loop {
        // 2 first - 1, without going round
        let last = publish.last.min(first.saturating_add(first - 1));
        // long enough for the last port, and for a lower end that is not negative
        let length = down.max(last / 2 + 1);
        let low = length - down;
        spans.push(Span {
            first,
            last,
            low,
            high: low + (length - 1),
        });
        if last == publish.last {
            return spans;
        }
        first = last + 1;
    }
}

/// What is open through published ports of a container whose ingress no file mentions.
pub(super) fn open(world: &World, container: &Container, out: &mut Vec<Element>) {
    let begin = out.len();
    for family in Family::ALL {
        let Some(own) = target(world, container, family) else {
            continue;
        };
        let key = |proto, port| Key::new().ip(own).proto(proto).port(port);
        let mut ranges: BTreeMap<u8, Vec<(u16, u16)>> = BTreeMap::new();
        for publish in published(world, container) {
            if !families(publish).any(|f| f == family) {
                continue;
            }
            if publish.first < publish.last {
                let list = ranges.entry(publish.proto).or_default();
                list.push((publish.port, last_port(publish)));
            } else {
                let key = key(publish.proto, publish.port);
                out.push(Element::new(SetId::PublishedOpen(family), key));
            }
        }
        for (proto, list) in ranges {
            let set = SetId::PublishedRange(family);
            out.extend(
                disjoint(list)
                    .into_iter()
                    .map(|(first, last)| Element::range(set, key(proto, first), key(proto, last))),
            );
        }
    }
    // several host ports may lead to one port
    out[begin..].sort_unstable();
    out.dedup();
}

/// Ranges that overlap become one.
fn disjoint(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut out: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

/// Its presence makes the kernel leave `::1` alone.
pub(super) fn user_loopback() -> Element {
    let key = Key::new().ip(Ipv6Addr::LOCALHOST.into());
    Element::new(SetId::UserLoopback, key)
}

/// Whether some packet could be meant by both.
pub(super) fn meet(a: &Publish, b: &Publish) -> bool {
    let wide = |address: IpAddr| address.is_unspecified();
    let addresses = match (a.address, b.address) {
        (Some(a), Some(b)) => a == b || Family::of(a) == Family::of(b) && (wide(a) || wide(b)),
        _ => true,
    };
    a.proto == b.proto && a.first <= b.last && b.first <= a.last && addresses
}

/// Who listens on which host port: by protocol and block of 256 ports, so that neither a long range nor
/// many containers cost much.
#[derive(Debug, Default, Clone)]
pub(super) struct HostPorts(BTreeMap<(u8, u8), BTreeSet<(Publish, PortName)>>);

fn blocks(publish: &Publish) -> impl Iterator<Item = (u8, u8)> + use<> {
    let block = |port: u16| port.to_be_bytes()[0];
    let proto = publish.proto;
    (block(publish.first)..=block(publish.last)).map(move |block| (proto, block))
}

impl HostPorts {
    pub(super) fn add(&mut self, container: &Container) {
        for publish in &container.publish {
            for block in blocks(publish) {
                let listeners = self.0.entry(block).or_default();
                listeners.insert((publish.clone(), container.name.clone()));
            }
        }
    }

    pub(super) fn remove(&mut self, container: &Container) {
        for publish in &container.publish {
            for block in blocks(publish) {
                if let Some(listeners) = self.0.get_mut(&block) {
                    listeners.remove(&(publish.clone(), container.name.clone()));
                    if listeners.is_empty() {
                        self.0.remove(&block);
                    }
                }
            }
        }
    }

    /// Somebody who listens where `wanted` would, and where; of several, who has the lowest port.
    pub(super) fn conflict(&self, wanted: &Publish) -> Option<(&PortName, &Publish)> {
        blocks(wanted)
            .filter_map(|block| self.0.get(&block))
            .flatten()
            .filter(|(other, _)| meet(other, wanted))
            .min_by_key(|(other, _)| other.first)
            .map(|(other, name)| (name, other))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn moved() -> impl Strategy<Value = Publish> {
        (1u16.., 1u16.., 0u16..).prop_map(|(first, port, more)| Publish {
            address: None,
            proto: 6,
            first,
            last: first + more.min(u16::MAX - first).min(u16::MAX - port),
            port,
        })
    }

    proptest! {
        #[test]
        fn the_remainder_leads_every_port_to_its_place(publish in moved()) {
            prop_assume!(publish.port != publish.first);
            let spans = spans(&publish);
            prop_assert!(spans.len() <= 16);
            let mut next = u32::from(publish.first);
            for span in &spans {
                prop_assert_eq!(u32::from(span.first), next);
                prop_assert!(span.first <= span.last && span.low <= span.high);
                let length = u32::from(span.high) - u32::from(span.low) + 1;
                for port in span.first..=span.last {
                    let to = u32::from(span.low) + u32::from(port) % length;
                    let wanted = u32::from(port - publish.first) + u32::from(publish.port);
                    prop_assert_eq!(to, wanted, "{} in {:?}", port, span);
                }
                next = u32::from(span.last) + 1;
            }
            prop_assert_eq!(next, u32::from(publish.last) + 1);
        }

        #[test]
        fn conflicts_are_those_that_a_comparison_one_by_one_finds(
            listening in prop::collection::vec(moved(), 0..6), wanted in moved(),
        ) {
            let container = |n: usize, publish: &Publish| Container {
                name: format!("c{n}").parse().unwrap(),
                zone: "dmz".parse().unwrap(),
                ifindex: 1,
                mac: zone::MacAddr([2, 0, 0, 0, 0, 1]),
                addresses: Vec::new(),
                labels: BTreeMap::new(),
                publish: vec![publish.clone()],
            };
            let mut ports = HostPorts::default();
            let containers: Vec<_> = listening.iter().enumerate().map(|(n, p)| container(n, p)).collect();
            containers.iter().for_each(|c| ports.add(c));
            let expected = listening.iter().filter(|other| meet(other, &wanted)).map(|p| p.first).min();
            prop_assert_eq!(ports.conflict(&wanted).map(|(_, p)| p.first), expected);
            containers.iter().for_each(|c| ports.remove(c));
            prop_assert!(ports.0.is_empty());
        }
    }

    #[test]
    fn overlapping_ranges_become_one() {
        assert_eq!(
            disjoint(vec![(10, 20), (1, 2), (15, 30), (30, 30), (31, 32)]),
            [(1, 2), (10, 30), (31, 32)]
        );
    }
}
