//! The rules of one container's address, direction and action → elements.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;

use super::owner::{Focus, View};
use super::ranges::{self, EVERYTHING, Interval, Networks, point};
use crate::model::{Container, second_half_is_zero};
use crate::policy::{self, Peer, Ports, Rule};
use crate::sets::{Action, Direction, Element, Family, Key, SetId, Shape, group};

/// Numbers of parts are above every number of a step on the way of a packet.
const PART: u32 = 0x8000_0000;

/// Protocols and ports of one entry in one family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    Everything,
    Proto(u8),
    One(u8, u16),
    Range(u8, u16, u16),
}

impl Match {
    /// Every entry of a rule that means something in a family.
    fn all(ports: Option<&[Ports]>, family: Family) -> Vec<Match> {
        let Some(ports) = ports else {
            return vec![Match::Everything];
        };
        let icmp = |kind: u8| match family {
            Family::V4 => Some(Match::One(1, u16::from_be_bytes([kind, 0]))),
            Family::V6 => policy::icmp_counterpart(kind)
                .map(|kind| Match::One(58, u16::from_be_bytes([kind, 0]))),
        };
        ports
            .iter()
            .filter_map(|entry| match *entry {
                Ports::Range { proto, first, last } if first == last => {
                    Some(Match::One(proto, first))
                }
                Ports::Range { proto, first, last } => Some(Match::Range(proto, first, last)),
                Ports::Proto(proto) => Some(Match::Proto(proto)),
                Ports::Icmp(kind) => icmp(kind),
                Ports::EveryIcmp => Some(Match::Proto(match family {
                    Family::V4 => 1,
                    Family::V6 => 58,
                })),
            })
            .collect()
    }

    fn interval(self) -> Interval {
        match self {
            Match::Everything => EVERYTHING,
            Match::Proto(proto) => (point(proto, 0), point(proto, u16::MAX)),
            Match::One(proto, port) => (point(proto, port), point(proto, port)),
            Match::Range(proto, first, last) => (point(proto, first), point(proto, last)),
        }
    }
}

/// Elements of one owner's address, direction and action, while they are collected.
pub(super) struct Collected<'a> {
    container: &'a Container,
    own: IpAddr,
    direction: Direction,
    action: Action,
    focus: Focus<'a>,
    /// Its number, for a conditional rule.
    number: Option<u32>,
    out: Vec<Element>,
    group_ranges: BTreeMap<(u32, u8), Vec<Interval>>,
    peer_ranges: BTreeMap<(IpAddr, u8), Vec<Interval>>,
    /// Networks, with what has no range of ports.
    nets: BTreeMap<Match, Vec<(u128, u128)>>,
    /// Of a conditional rule: whatever is not one port.
    group_boxes: BTreeMap<u32, Vec<Interval>>,
    /// Networks with ranges of ports; of a conditional rule all, and what of an address is not one port.
    networks: Networks,
    /// Something was collected, whether or not it is asked for.
    any: bool,
}

impl<'a> Collected<'a> {
    pub(super) fn new(
        container: &'a Container,
        own: IpAddr,
        direction: Direction,
        action: Action,
        focus: Focus<'a>,
    ) -> Self {
        Self {
            container,
            own,
            direction,
            action,
            focus,
            number: None,
            out: Vec::new(),
            group_ranges: BTreeMap::new(),
            peer_ranges: BTreeMap::new(),
            nets: BTreeMap::new(),
            group_boxes: BTreeMap::new(),
            networks: Networks::default(),
            any: false,
        }
    }

    /// The elements will be those of one conditional rule: with its number in their keys, and an entry
    /// that leads from the number to the rule's mark.
    pub(super) fn conditional(
        self,
        number: u32,
        mark: Option<u32>,
        out: &mut Vec<Element>,
    ) -> Self {
        if let Some(mark) = mark {
            let set = SetId::Condition(self.direction, Family::of(self.own), self.action);
            let key = Key::new().ip(self.own).mark(number);
            out.push(Element::entry(set, key, Key::new().mark(mark)));
        }
        Self {
            number: Some(number),
            ..self
        }
    }

    /// The elements of one rule and no other.
    pub(super) fn rule_alone(mut self, view: View<'_>, rule: &Rule, out: &mut Vec<Element>) {
        self.rule(view, rule);
        self.finish(out);
    }

    fn set(&self, shape: Shape) -> SetId {
        let (direction, family, action) = (self.direction, Family::of(self.own), self.action);
        match self.number {
            None => SetId::Rule(direction, family, action, shape),
            Some(_) => SetId::If(direction, family, action, shape),
        }
    }

    /// The first fields of its keys.
    fn key(&self) -> Key {
        let key = Key::new().ip(self.own);
        match self.number {
            None => key,
            Some(number) => key.mark(number),
        }
    }

    fn exact(&mut self, shape: Shape, key: Key) {
        self.out.push(Element::new(self.set(shape), key));
    }

    /// Whether something has an exact key; the rest is ranges.
    fn is_exact(&self, what: Match) -> bool {
        match what {
            Match::Range(..) => false,
            Match::One(..) => true,
            Match::Everything | Match::Proto(_) => self.number.is_none(),
        }
    }

    pub(super) fn group(&mut self, number: u32, what: &[Match]) {
        self.any |= !what.is_empty();
        if !self.focus.keeps_group(number) {
            return;
        }
        for &what in what {
            if self.number.is_some() && !self.is_exact(what) {
                let boxes = self.group_boxes.entry(number).or_default();
                boxes.push(what.interval());
                continue;
            }
            let key = self.key().mark(number);
            match what {
                Match::Everything => self.exact(Shape::Group, key),
                Match::Proto(proto) => self.exact(Shape::GroupProto, key.proto(proto)),
                Match::One(proto, port) => {
                    self.exact(Shape::GroupPort, key.proto(proto).port(port));
                }
                Match::Range(proto, ..) => {
                    let ranges = self.group_ranges.entry((number, proto)).or_default();
                    ranges.push(what.interval());
                }
            }
        }
    }

    /// A single address, or what a container is known by that may use all of `span`: exact keys, but for ranges of ports.
    fn address(&mut self, peer: IpAddr, span: (u128, u128), what: &[Match]) {
        self.any |= !what.is_empty();
        let kept = self.focus.keeps_peer(peer);
        for &what in what {
            if self.number.is_some() && !self.is_exact(what) {
                // shares boxes with networks around it, so it counts whoever is asked about
                self.networks.add(span, what.interval());
                continue;
            }
            if !kept {
                continue;
            }
            let key = self.key().ip(peer);
            match what {
                Match::Everything => self.exact(Shape::Peer, key),
                Match::Proto(proto) => self.exact(Shape::PeerProto, key.proto(proto)),
                Match::One(proto, port) => {
                    self.exact(Shape::PeerPort, key.proto(proto).port(port));
                }
                Match::Range(proto, ..) => {
                    let ranges = self.peer_ranges.entry((peer, proto)).or_default();
                    ranges.push(what.interval());
                }
            }
        }
    }

    fn network(&mut self, net: IpNet, what: &[Match]) {
        let range = span(net);
        // the key of a single address would be that of somebody's prefix, were its second half zero
        if net.prefix_len() == net.max_prefix_len() && !second_half_is_zero(net.addr()) {
            return self.address(net.addr(), range, what);
        }
        self.any |= !what.is_empty();
        for &what in what {
            match what {
                Match::Range(..) => self.networks.add(range, what.interval()),
                _ if self.number.is_some() => self.networks.add(range, what.interval()),
                _ => self.nets.entry(what).or_default().push(range),
            }
        }
    }

    pub(super) fn rule(&mut self, view: View<'_>, rule: &Rule) {
        let family = Family::of(self.own);
        let what = Match::all(rule.ports.as_deref(), family);
        let boxes = self.number.is_some() && what.iter().any(|what| !self.is_exact(*what));
        for peer in &rule.peers {
            // of denies all must be seen, to know whether there is one
            if rule.action == Action::Allow && self.focus.skips(peer, boxes) {
                continue;
            }
            match peer {
                Peer::Any => self.group(group::ANY, &what),
                Peer::Host => self.group(group::HOST, &what),
                Peer::World => self.group(group::WORLD, &what),
                Peer::Zone(zone) => {
                    if let Some(number) = view.zones.group(zone) {
                        self.group(number, &what);
                    }
                }
                Peer::Label(label, value) => {
                    for number in view.labels.with(label, value) {
                        self.group(number, &what);
                    }
                }
                Peer::Container(name) => {
                    let ports = view.world.ports_of(name.as_str());
                    for net in ports.flat_map(|port| view.world.networks(port)) {
                        if Family::of(net.addr()) == family {
                            self.address(net.addr(), span(net), &what);
                        }
                    }
                }
                Peer::Net(net) if Family::of(net.addr()) == family => self.network(*net, &what),
                Peer::Net(_) => {}
                // only what is allowed has groups of names
                Peer::Dns(pattern) => {
                    for number in view.names.with(&self.container.name, pattern) {
                        self.group(number, &what);
                    }
                }
            }
        }
    }

    /// Protocols and ports as ranges of a line, behind `key`. A range may begin in one protocol and end in
    /// another: to the kernel both are one number.
    fn line_of_ports(&mut self, shape: Shape, key: Key, ranges: Vec<Interval>) {
        let set = self.set(shape);
        for (first, last) in ranges::union(ranges) {
            let key = |at: u32| {
                let [_, proto, high, low] = at.to_be_bytes();
                key.clone()
                    .proto(proto)
                    .port(u16::from_be_bytes([high, low]))
            };
            self.out.push(Element::range(set, key(first), key(last)));
        }
    }

    /// Appends the elements. Tells whether there are any at all, asked for or not.
    pub(super) fn finish(mut self, out: &mut Vec<Element>) -> bool {
        let family = Family::of(self.own);
        for ((number, _), ranges) in std::mem::take(&mut self.group_ranges) {
            self.line_of_ports(Shape::GroupRange, self.key().mark(number), ranges);
        }
        for (number, ranges) in std::mem::take(&mut self.group_boxes) {
            self.line_of_ports(Shape::GroupRange, self.key().mark(number), ranges);
        }
        for ((peer, _), ranges) in std::mem::take(&mut self.peer_ranges) {
            self.line_of_ports(Shape::PeerRange, self.key().ip(peer), ranges);
        }
        for (what, nets) in std::mem::take(&mut self.nets) {
            let (shape, key) = match what {
                Match::Proto(proto) => (Shape::NetProto, self.key().proto(proto)),
                Match::One(proto, port) => (Shape::NetPort, self.key().proto(proto).port(port)),
                Match::Everything | Match::Range(..) => (Shape::Net, self.key()),
            };
            let set = self.set(shape);
            for (first, last) in ranges::union(nets) {
                let key = |number| key.clone().ip(address_of(family, number));
                self.out.push(Element::range(set, key(first), key(last)));
            }
        }
        let mut numbers = PartNumbers::default();
        for ((first, last), said) in std::mem::take(&mut self.networks).parts() {
            let (number, new) = numbers.of(&said);
            let key = |number| self.key().ip(address_of(family, number));
            self.out.push(Element {
                data: Some(Key::new().mark(number)),
                ..Element::range(self.set(Shape::NetPart), key(first), key(last))
            });
            if new {
                self.line_of_ports(Shape::NetRange, self.key().mark(number), said);
            }
        }
        self.out.sort_unstable();
        self.out.dedup();
        out.append(&mut self.out);
        self.any
    }
}

/// Parts of one owner's networks by what is said there. The number follows from that, so that an edit
/// leaves alone what it does not concern.
#[derive(Default)]
struct PartNumbers(BTreeMap<u32, Vec<Interval>>);

impl PartNumbers {
    /// The number, and whether it is new.
    fn of(&mut self, said: &[Interval]) -> (u32, bool) {
        let mut hasher = DefaultHasher::new();
        said.hash(&mut hasher);
        let bytes = hasher.finish().to_le_bytes();
        let mut number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) | PART;
        loop {
            match self.0.get(&number) {
                None => {
                    self.0.insert(number, said.to_vec());
                    return (number, true);
                }
                Some(same) if same == said => return (number, false),
                Some(_) => number = number.wrapping_add(1) | PART,
            }
        }
    }
}

/// First and last address, as numbers.
fn span(net: IpNet) -> (u128, u128) {
    (number_of(net.network()), number_of(net.broadcast()))
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

fn address_of(family: Family, number: u128) -> IpAddr {
    match family {
        // a network of IPv4 has numbers of 32 bits
        Family::V4 => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        Family::V6 => IpAddr::V6(number.into()),
    }
}
