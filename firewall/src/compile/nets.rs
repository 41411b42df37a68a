//! What files say about networks → the elements under a bundle's number.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::bundles::{Bundles, Files, PortList, Side};
use super::collect::{Match, rule_id};
use super::ranges::{self, Interval, Networks};
use crate::model::second_half_is_zero;
use crate::policy::{Counts, Peer, PolicyFile, Rule, number};
use crate::sets::{Direction, Element, Family, Key, SetId, Shape};

/// Above every protocol and port: which rule says it.
const RULES: u32 = 0x0200_0000;

/// Whether a network is looked up as one, and not as a single address. The key of a single address would be that of
/// somebody's prefix, were its second half zero.
pub(super) fn is_wide(net: IpNet) -> bool {
    net.prefix_len() != net.max_prefix_len() || second_half_is_zero(net.addr())
}

/// First and last address, as numbers.
pub(super) fn span(net: IpNet) -> (u128, u128) {
    (number_of(net.network()), number_of(net.broadcast()))
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

pub(super) fn address_of(family: Family, number: u128) -> IpAddr {
    match family {
        // a network of IPv4 has numbers of 32 bits
        Family::V4 => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        Family::V6 => IpAddr::V6(number.into()),
    }
}

/// The rules of some files that count always, in a direction.
pub(super) fn rules(files: &[Arc<PolicyFile>], direction: Direction) -> Vec<&Rule> {
    let sections = files.iter().filter_map(|file| file.section(direction));
    let rules = sections.flat_map(|section| section.rules.iter().map(|rule| ((), rule)));
    number(rules)
        .filter(|(_, _, counts)| matches!(counts, Counts::Always))
        .map(|(_, rule, _)| rule)
        .collect()
}

/// Puts elements of networks under another number.
pub(super) fn renumber(elements: &mut [Element], number: u32) {
    let Key(number) = Key::new().mark(number);
    for element in elements {
        for key in [Some(&mut element.key), element.last.as_mut()] {
            if let Some(field) = key.and_then(|key| key.0.get_mut(..number.len())) {
                field.copy_from_slice(&number);
            }
        }
    }
}

/// What rules say about networks, for one direction, family and action.
pub(super) struct Nets<'a> {
    side: Side,
    /// With what has no range of ports.
    plain: BTreeMap<Match, Vec<(u128, u128)>>,
    /// With ranges of ports, and with which rules say so.
    ranged: Networks,
    rules: Vec<&'a Rule>,
}

impl<'a> Nets<'a> {
    /// Of those of the rules that are of this action.
    pub(super) fn of(side: Side, rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let (_, family, action) = side;
        let mut nets = Self {
            side,
            plain: BTreeMap::new(),
            ranged: Networks::default(),
            rules: Vec::new(),
        };
        for rule in rules.into_iter().filter(|rule| rule.action == action) {
            let wide = rule.peers.iter().filter_map(|peer| match peer {
                Peer::Net(net) if Family::of(net.addr()) == family && is_wide(*net) => Some(*net),
                _ => None,
            });
            let mut wide = wide.peekable();
            if wide.peek().is_none() {
                continue;
            }
            let place = RULES + u32::try_from(nets.rules.len()).unwrap_or(u32::MAX - RULES);
            nets.rules.push(rule);
            let what = Match::all(rule.ports.as_deref(), family);
            for net in wide.map(span) {
                for &what in &what {
                    if let Match::Range(..) = what {
                        nets.ranged.add(net, what.interval());
                        nets.ranged.add(net, (place, place));
                    } else {
                        nets.plain.entry(what).or_default().push(net);
                    }
                }
            }
        }
        nets
    }

    /// The elements under a number, sorted. `keep`: lists of ports are in use from now on.
    pub(super) fn elements(
        self,
        number: u32,
        bundles: &Bundles,
        files: &Files,
        keep: bool,
    ) -> Vec<Element> {
        let (direction, family, action) = self.side;
        let set = |shape| SetId::Rule(direction, family, action, shape);
        let range = |set, key: Key, (first, last)| {
            let key = |number| key.clone().ip(address_of(family, number));
            Element::range(set, key(first), key(last))
        };
        let own = Key::new().mark(number);
        let mut out = Vec::new();
        for (what, nets) in self.plain {
            let (shape, key) = match what {
                Match::Proto(proto) => (Shape::NetProto, own.clone().proto(proto)),
                Match::One(proto, port) => (Shape::NetPort, own.clone().proto(proto).port(port)),
                Match::Everything | Match::Range(..) => (Shape::Net, own.clone()),
            };
            let nets = ranges::union(nets);
            out.extend(
                nets.into_iter()
                    .map(|net| range(set(shape), key.clone(), net)),
            );
        }
        let ids: Vec<u64> = self.rules.iter().map(|rule| rule_id(rule)).collect();
        for (net, said) in self.ranged.parts() {
            let (ports, who): (Vec<Interval>, Vec<Interval>) =
                said.into_iter().partition(|interval| interval.1 < RULES);
            let places = who.into_iter().flat_map(|(first, last)| first..=last);
            let of = |place: u32| ids.get(usize::try_from(place - RULES).ok()?).copied();
            let mut rules: Vec<u64> = places.filter_map(of).collect();
            rules.sort_unstable();
            rules.dedup();
            let list = PortList {
                side: self.side,
                rules,
                ports,
            };
            let list = bundles.list(files, list, keep);
            out.push(Element {
                data: Some(Key::new().mark(list)),
                ..range(set(Shape::NetList), own.clone(), net)
            });
        }
        out.sort_unstable();
        out
    }
}
