//! The rules of one container's address, direction and action → elements.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;

use super::bundles::{self, Files, PortList};
use super::nets::{self, address_of, span};
use super::owner::{Focus, View};
use super::ranges::{self, EVERYTHING, Interval, Networks, point};
use crate::model::Container;
use crate::policy::{self, Peer, Ports, Rule};
use crate::sets::{Action, Direction, Element, Family, Key, SetId, Shape, group};

/// Numbers of parts of conditional rules' networks are above every number of a step on the way of a packet.
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
    pub(super) fn all(ports: Option<&[Ports]>, family: Family) -> Vec<Match> {
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

    pub(super) fn interval(self) -> Interval {
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
    /// Whose lists of ports it has; a conditional rule has none.
    lists: Option<(View<'a>, &'a Files)>,
    /// The rule that is being collected.
    rule: u64,
    group_ranges: BTreeMap<u32, Said>,
    peer_ranges: BTreeMap<IpAddr, Said>,
    /// Of a conditional rule: whatever is not one port.
    group_boxes: BTreeMap<u32, Vec<Interval>>,
    /// Of a conditional rule: networks, and what of an address is not one port.
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
            lists: None,
            rule: 0,
            group_ranges: BTreeMap::new(),
            peer_ranges: BTreeMap::new(),
            group_boxes: BTreeMap::new(),
            networks: Networks::default(),
            any: false,
        }
    }

    /// Lists of ports are those of a bundle.
    pub(super) fn sharing(self, view: View<'a>, files: &'a Files) -> Self {
        Self {
            lists: Some((view, files)),
            ..self
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
                Match::Range(..) => {
                    let said = self.group_ranges.entry(number).or_default();
                    said.add(self.rule, what.interval());
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
                Match::Range(..) => {
                    let said = self.peer_ranges.entry(peer).or_default();
                    said.add(self.rule, what.interval());
                }
            }
        }
    }

    fn network(&mut self, net: IpNet, what: &[Match]) {
        if !nets::is_wide(net) {
            return self.address(net.addr(), span(net), what);
        }
        self.any |= !what.is_empty();
        // others' are those of all containers with the same files
        if self.number.is_some() {
            for what in what {
                self.networks.add(span(net), what.interval());
            }
        }
    }

    pub(super) fn rule(&mut self, view: View<'_>, rule: &Rule) {
        let family = Family::of(self.own);
        let what = Match::all(rule.ports.as_deref(), family);
        self.rule = rule_id(rule);
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

    fn line_of_ports(&mut self, shape: Shape, key: &Key, ranges: Vec<Interval>) {
        let set = self.set(shape);
        let ranges = ranges::union(ranges).into_iter();
        self.out
            .extend(ranges.map(|range| bundles::ports(set, key.clone(), range)));
    }

    /// An entry that leads to a list of ports.
    fn list(&mut self, shape: Shape, key: Key, said: Said) {
        let Some((view, files)) = self.lists else {
            return;
        };
        let list = PortList {
            side: (self.direction, Family::of(self.own), self.action),
            rules: said.rules.into_iter().collect(),
            ports: ranges::union(said.ports),
        };
        let number = view.bundles.list(files, list, view.keep);
        let data = Key::new().mark(number);
        self.out.push(Element::entry(self.set(shape), key, data));
    }

    /// Appends the elements. Tells whether there are any at all, asked for or not.
    pub(super) fn finish(mut self, out: &mut Vec<Element>) -> bool {
        let family = Family::of(self.own);
        for (number, said) in std::mem::take(&mut self.group_ranges) {
            self.list(Shape::GroupList, self.key().mark(number), said);
        }
        for (peer, said) in std::mem::take(&mut self.peer_ranges) {
            self.list(Shape::PeerList, self.key().ip(peer), said);
        }
        for (number, ranges) in std::mem::take(&mut self.group_boxes) {
            self.line_of_ports(Shape::GroupRange, &self.key().mark(number), ranges);
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
                self.line_of_ports(Shape::NetRange, &self.key().mark(number), said);
            }
        }
        self.out.sort_unstable();
        self.out.dedup();
        out.append(&mut self.out);
        self.any
    }
}

/// Ranges of ports, and the rules that say so.
#[derive(Default)]
struct Said {
    rules: BTreeSet<u64>,
    ports: Vec<Interval>,
}

impl Said {
    fn add(&mut self, rule: u64, ports: Interval) {
        self.rules.insert(rule);
        self.ports.push(ports);
    }
}

/// What tells a rule from others, wherever it stands: whom it is about, and which ports.
pub(super) fn rule_id(rule: &Rule) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&rule.peers, &rule.ports, rule.action).hash(&mut hasher);
    hasher.finish()
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
