//! The rules of one container's address, direction and action → elements.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::owner::{Focus, View};
use super::ranges::{self, EVERYTHING, Interval, Networks, point};
use crate::policy::{self, Peer, Ports, Rule};
use crate::sets::{Action, Direction, Element, Family, Key, SetId, Shape, group};

/// Protocols and ports of one entry in one family.
#[derive(Clone, Copy)]
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
    own: IpAddr,
    direction: Direction,
    action: Action,
    focus: Focus<'a>,
    out: Vec<Element>,
    group_ranges: BTreeMap<(u32, u8), Vec<Interval>>,
    networks: Networks,
    /// Something was collected, whether or not it is asked for.
    any: bool,
}

impl<'a> Collected<'a> {
    pub(super) fn new(own: IpAddr, direction: Direction, action: Action, focus: Focus<'a>) -> Self {
        Self {
            own,
            direction,
            action,
            focus,
            out: Vec::new(),
            group_ranges: BTreeMap::new(),
            networks: Networks::default(),
            any: false,
        }
    }

    fn set(&self, shape: Shape) -> SetId {
        SetId::Rule(self.direction, Family::of(self.own), self.action, shape)
    }

    fn exact(&mut self, shape: Shape, key: Key) {
        let set = self.set(shape);
        self.out.push(Element {
            set,
            key,
            last: None,
            data: None,
        });
    }

    pub(super) fn group(&mut self, number: u32, what: &[Match]) {
        self.any |= !what.is_empty();
        if !self.focus.keeps_group(number) {
            return;
        }
        for &what in what {
            let key = Key::new().ip(self.own).mark(number);
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

    /// A single address: exact keys, but for ranges of ports.
    fn address(&mut self, peer: IpAddr, what: &[Match]) {
        self.any |= !what.is_empty();
        for &what in what {
            let key = || Key::new().ip(self.own).ip(peer);
            let (shape, key) = match what {
                Match::Everything => (Shape::Peer, key()),
                Match::Proto(proto) => (Shape::PeerProto, key().proto(proto)),
                Match::One(proto, port) => (Shape::PeerPort, key().proto(proto).port(port)),
                Match::Range(..) => {
                    let number = number_of(peer);
                    self.networks.add((number, number), what.interval());
                    continue;
                }
            };
            if self.focus.keeps_peer(peer) {
                self.exact(shape, key);
            }
        }
    }

    fn network(&mut self, net: IpNet, what: &[Match]) {
        if net.prefix_len() == net.max_prefix_len() {
            return self.address(net.addr(), what);
        }
        self.any |= !what.is_empty();
        let range = match net {
            IpNet::V4(net) => (
                number_of(net.network().into()),
                number_of(net.broadcast().into()),
            ),
            IpNet::V6(net) => (
                number_of(net.network().into()),
                number_of(net.broadcast().into()),
            ),
        };
        for what in what {
            self.networks.add(range, what.interval());
        }
    }

    pub(super) fn rule(&mut self, view: View<'_>, rule: &Rule) {
        let family = Family::of(self.own);
        let what = Match::all(rule.ports.as_deref(), family);
        let ranges = what.iter().any(|what| matches!(what, Match::Range(..)));
        for peer in &rule.peers {
            // of denies all must be seen, to know whether there is one
            if rule.action == Action::Allow && self.focus.skips(peer, ranges) {
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
                    let container = view.world.containers.get(name);
                    for address in container.into_iter().flat_map(|c| view.world.addresses(c)) {
                        if Family::of(address) == family {
                            self.address(address, &what);
                        }
                    }
                }
                Peer::Net(net) if Family::of(net.addr()) == family => self.network(*net, &what),
                // refused while parsing: names of the world are not resolved yet
                Peer::Net(_) | Peer::Dns(_) => {}
            }
        }
    }

    /// Appends the elements. Tells whether there are any at all, asked for or not.
    pub(super) fn finish(mut self, out: &mut Vec<Element>) -> bool {
        let family = Family::of(self.own);
        for ((number, proto), ranges) in std::mem::take(&mut self.group_ranges) {
            let set = self.set(Shape::GroupRange);
            for (first, last) in ranges::union(ranges) {
                let key = |at: u32| {
                    let port = u16::try_from(at & 0xffff).unwrap_or_default();
                    Key::new().ip(self.own).mark(number).proto(proto).port(port)
                };
                self.out.push(Element {
                    set,
                    key: key(first),
                    last: Some(key(last)),
                    data: None,
                });
            }
        }
        let set = self.set(Shape::PeerRange);
        for cuboid in std::mem::take(&mut self.networks).disjoint() {
            let key = |peer, proto, port| {
                let peer = address_of(family, peer);
                Key::new().ip(self.own).ip(peer).proto(proto).port(port)
            };
            self.out.push(Element {
                set,
                key: key(cuboid.peers.0, cuboid.protos.0, cuboid.ports.0),
                last: Some(key(cuboid.peers.1, cuboid.protos.1, cuboid.ports.1)),
                data: None,
            });
        }
        self.out.sort_unstable();
        self.out.dedup();
        out.append(&mut self.out);
        self.any
    }
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
