//! A kernel that has sets and walks the chains, as far as policy goes: the skeleton's chains in a
//! hundred lines, so that what the compiler makes can be tried without privilege.
//!
//! It is as strict as the real one: an element that is there already, one that is not there, one whose
//! key has the wrong length, and intervals that overlap are errors.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use firewall::policy::MAX_CONDITIONAL;

use firewall::sets::{
    Action, Changes, Direction, Element, Family, Field, Key, SetId, Shape, group,
};

/// Where the host sees a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    Forward,
    Input,
    Output,
}

/// What the chains look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packet {
    pub client: IpAddr,
    pub server: IpAddr,
    pub proto: u8,
    /// Port, or ICMP type and zero.
    pub port: u16,
    pub hook: Hook,
    /// It came through a published port.
    pub dnat: bool,
    /// It is sent to the gateway of the zone whose bridge it arrives on.
    pub own_gateway: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Kernel {
    exact: HashMap<SetId, HashMap<Key, Option<Key>>>,
    ranges: HashMap<SetId, BTreeMap<Key, (Key, Option<Key>)>>,
}

fn fields(set: SetId, key: &Key) -> Vec<&[u8]> {
    let mut rest = key.0.as_slice();
    let mut fields = Vec::new();
    for field in set.spec().key {
        let (this, next) = rest.split_at(field.padded());
        fields.push(&this[..field.len()]);
        rest = next;
    }
    assert!(rest.is_empty(), "{set:?}: key too long: {key:?}");
    fields
}

/// The sides of the box that an element is: one for each field, or one of all fields for a line.
fn sides<'a>(set: SetId, first: &'a Key, last: &'a Key) -> Vec<(&'a [u8], &'a [u8])> {
    let parts = fields(set, first).into_iter().zip(fields(set, last));
    match set.spec().line {
        true => vec![(&first.0, &last.0)],
        false => parts.collect(),
    }
}

/// The prefix that an address may be known by.
fn around(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V6(a) => Some(IpAddr::V6((u128::from(a) >> 64 << 64).into())),
        IpAddr::V4(_) => None,
    }
}

/// The address that a key begins with.
fn owner(key: &Key) -> IpAddr {
    match key.0.len() {
        8 => IpAddr::from(<[u8; 4]>::try_from(&key.0[..4]).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(&key.0[..16]).unwrap()),
    }
}

fn data_length(set: SetId) -> usize {
    set.spec()
        .data
        .iter()
        .map(|field: &Field| field.padded())
        .sum()
}

impl Kernel {
    pub fn new(elements: &[Element]) -> Self {
        let mut kernel = Self::default();
        elements.iter().for_each(|element| kernel.add(element));
        kernel
    }

    pub fn apply(&mut self, changes: &Changes) {
        for element in &changes.remove {
            self.remove(element);
        }
        for element in &changes.add {
            self.add(element);
        }
    }

    fn add(&mut self, element: &Element) {
        let set = element.set;
        fields(set, &element.key);
        let data = element.data.as_ref().map_or(0, |data| data.0.len());
        assert_eq!(data, data_length(set), "{element:?}");
        let Some(last) = &element.last else {
            assert!(!set.spec().interval, "{element:?} is no range");
            let old = self.exact.entry(set).or_default();
            let old = old.insert(element.key.clone(), element.data.clone());
            assert_eq!(old, None, "{element:?} is there already");
            return;
        };
        assert!(set.spec().interval, "{element:?} is a range");
        let new = sides(set, &element.key, last);
        assert!(
            new.iter().all(|(a, b)| a <= b),
            "{element:?} ends before it begins"
        );
        let ranges = self.ranges.entry(set).or_default();
        for (first, (last, _)) in ranges.iter() {
            let there = sides(set, first, last);
            let mut pairs = there.iter().zip(&new);
            let apart = pairs.any(|((a, b), (c, d))| b < c || d < a);
            assert!(apart, "{element:?} overlaps {first:?} to {last:?}");
        }
        ranges.insert(element.key.clone(), (last.clone(), element.data.clone()));
    }

    fn remove(&mut self, element: &Element) {
        let found = match &element.last {
            None => {
                let set = self.exact.entry(element.set).or_default();
                set.remove(&element.key) == Some(element.data.clone())
            }
            Some(last) => {
                let set = self.ranges.entry(element.set).or_default();
                set.remove(&element.key) == Some((last.clone(), element.data.clone()))
            }
        };
        assert!(found, "{element:?} is not there");
    }

    /// All elements, for comparisons.
    pub fn dump(&self) -> Vec<Element> {
        let exact = self.exact.iter().flat_map(|(set, elements)| {
            elements.iter().map(|(key, data)| Element {
                set: *set,
                key: key.clone(),
                last: None,
                data: data.clone(),
                timeout: None,
            })
        });
        let ranges = self.ranges.iter().flat_map(|(set, elements)| {
            elements.iter().map(|(key, (last, data))| Element {
                set: *set,
                key: key.clone(),
                last: Some(last.clone()),
                data: data.clone(),
                timeout: None,
            })
        });
        exact.chain(ranges).collect()
    }

    fn has(&self, set: SetId, key: &Key) -> bool {
        self.find(set, key).is_some()
    }

    /// The data of the element that a key hits.
    fn find(&self, set: SetId, key: &Key) -> Option<&Option<Key>> {
        if !set.spec().interval {
            return self.exact.get(&set)?.get(key);
        }
        let wanted = sides(set, key, key);
        let mut ranges = self.ranges.get(&set)?.iter();
        let hit = ranges.find(|(first, (last, _))| {
            let ends = sides(set, first, last);
            let mut pairs = ends.iter().zip(&wanted);
            pairs.all(|((a, b), (x, _))| a <= x && x <= b)
        });
        hit.map(|(_, (_, data))| data)
    }

    fn map(&self, set: SetId, key: &Key) -> Option<u32> {
        let data = self.find(set, key)?.as_ref()?;
        Some(u32::from_ne_bytes(data.0[..4].try_into().unwrap()))
    }

    /// Whether the chains let a packet pass. Buckets are always full here, and nobody has a connection.
    pub fn passes(&self, packet: &Packet) -> bool {
        self.judge(packet, &mut false)
    }

    /// Whether they let it pass and its connection remembers that: no conditional rule had a part in it.
    pub fn passes_and_remembers(&self, packet: &Packet) -> bool {
        let mut counted = false;
        self.judge(packet, &mut counted) && !counted
    }

    fn judge(&self, packet: &Packet, counted: &mut bool) -> bool {
        let family = Family::of(packet.client);
        let at = |set: fn(Family) -> SetId, address| self.has(set(family), &Key::new().ip(address));
        let (client, server) = (self.known(packet.client), self.known(packet.server));
        let (own_client, own_server) = (client.is_some(), server.is_some());
        let forward = packet.hook == Hook::Forward;
        // prerouting and the L2 guard: a zone's address comes from its container only
        if packet.hook != Hook::Output && at(SetId::Subnets, packet.client) && !own_client {
            return false;
        }
        if packet.server.is_loopback() {
            return false;
        }
        if !own_client && !own_server {
            // zones are for containers, and a gateway serves its zone, not the outside
            return packet.hook == Hook::Output && at(SetId::Gateways, packet.server)
                || !at(SetId::Subnets, packet.server);
        }
        let everybody = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
        if own_client && packet.server == everybody && (packet.proto, packet.port) == (17, 67) {
            return true;
        }
        if forward
            && (at(SetId::Internal, packet.client) && !own_server
                || at(SetId::Internal, packet.server) && !own_client)
        {
            return false;
        }
        if packet.hook == Hook::Input && packet.own_gateway && at(SetId::Gateways, packet.server) {
            let dhcp = family == Family::V4 && (packet.proto, packet.port) == (17, 67);
            let dns = matches!((packet.proto, packet.port), (6 | 17, 53));
            let echo = match family {
                Family::V4 => (packet.proto, packet.port) == (1, 8 << 8),
                Family::V6 => (packet.proto, packet.port) == (58, 128 << 8),
            };
            if dhcp || dns || echo {
                return true;
            }
        }
        // a container that is missed in these maps is dropped wherever they are asked
        let numbered = |known: Option<IpAddr>| {
            let maps = [SetId::ZoneOf(family), SetId::LabelsOf(family)];
            known.is_none_or(|known| {
                let key = Key::new().ip(known);
                maps.into_iter().all(|map| self.map(map, &key).is_some())
            })
        };
        assert!(numbered(client) && numbered(server));
        if let Some(own) = client
            && !self.direction(
                Direction::Egress,
                family,
                own,
                packet.server,
                packet,
                counted,
            )
        {
            return false;
        }
        let Some(own) = server else { return true };
        self.published(family, own, packet)
            || self.direction(
                Direction::Ingress,
                family,
                own,
                packet.client,
                packet,
                counted,
            )
    }

    /// What a container's address is looked up as: itself, or the prefix around it.
    fn known(&self, address: IpAddr) -> Option<IpAddr> {
        let own = |a: &IpAddr| self.has(SetId::Own(Family::of(*a)), &Key::new().ip(*a));
        [Some(address), around(address)]
            .into_iter()
            .flatten()
            .find(own)
    }

    fn published(&self, family: Family, own: IpAddr, packet: &Packet) -> bool {
        let key = Key::new()
            .ip(packet.server)
            .proto(packet.proto)
            .port(packet.port);
        let class = self.class(family, own, packet.client, packet.hook);
        packet.dnat
            && (self.has(SetId::PublishedOpen(family), &key)
                || self.has(SetId::PublishedRange(family), &key))
            && matches!(class, group::HOST | group::WORLD)
    }

    fn direction(
        &self,
        direction: Direction,
        family: Family,
        own: IpAddr,
        peer: IpAddr,
        packet: &Packet,
        counted: &mut bool,
    ) -> bool {
        let no_deny = SetId::NoDeny(direction, family);
        let walk = |action| self.walk(direction, family, action, own, peer, packet);
        if !self.has(no_deny, &Key::new().ip(own)) && walk(Action::Deny) {
            return false;
        }
        let conditional = |action| self.conditional(direction, family, action, own, peer, packet);
        let first = Key::new().ip(own).mark(0);
        let condition = SetId::Condition(direction, family, Action::Deny);
        if !self.has(no_deny, &Key::new().ip(own)) && self.map(condition, &first).is_some() {
            *counted = true;
            if conditional(Action::Deny) {
                return false;
            }
        }
        if walk(Action::Allow) {
            return true;
        }
        *counted = true;
        conditional(Action::Allow)
    }

    /// Whether a conditional rule matches and holds now.
    fn conditional(
        &self,
        direction: Direction,
        family: Family,
        action: Action,
        own: IpAddr,
        peer: IpAddr,
        packet: &Packet,
    ) -> bool {
        let set = |shape| SetId::If(direction, family, action, shape);
        let condition = SetId::Condition(direction, family, action);
        for number in 0..MAX_CONDITIONAL {
            let own = || Key::new().ip(own).mark(number);
            let Some(mark) = self.map(condition, &own()) else {
                return false;
            };
            let port = |key: Key| key.proto(packet.proto).port(packet.port);
            let found = |exact, range, key: Key| {
                let key = port(key);
                self.has(set(exact), &key) || self.has(set(range), &key)
            };
            let groups = |mark: u32| found(Shape::GroupPort, Shape::GroupRange, own().mark(mark));
            let part = self.map(set(Shape::NetPart), &own().ip(peer));
            let in_part = |part| self.has(set(Shape::NetRange), &port(own().mark(part)));
            let known = self.known(peer).unwrap_or(peer);
            let matches = self.has(set(Shape::PeerPort), &port(own().ip(peer)))
                || part.is_some_and(in_part)
                || match self.class(family, owner(&own()), peer, packet.hook) {
                    0 => false,
                    group::PREFIX if self.has(set(Shape::PeerPort), &port(own().ip(known))) => true,
                    group::CONTAINER | group::PREFIX => {
                        let peer_key = Key::new().ip(known);
                        let zone = self.map(SetId::ZoneOf(family), &peer_key);
                        let labels = self.map(SetId::LabelsOf(family), &peer_key);
                        zone.is_some_and(groups) || labels.is_some_and(groups) || groups(group::ANY)
                    }
                    class => groups(class) || groups(group::ANY),
                };
            let mark = Key::new().mark(mark);
            let holds = match action {
                Action::Allow => self.map(SetId::Limit, &mark).is_some(),
                Action::Deny => !self.has(SetId::Asleep, &mark),
            };
            if matches && holds {
                return true;
            }
        }
        false
    }

    /// Whether some lookup of the walk over one action's sets hits.
    fn walk(
        &self,
        direction: Direction,
        family: Family,
        action: Action,
        own: IpAddr,
        peer: IpAddr,
        packet: &Packet,
    ) -> bool {
        let set = |shape| SetId::Rule(direction, family, action, shape);
        let key = || Key::new().ip(own).ip(peer);
        let ported = key().proto(packet.proto).port(packet.port);
        let listed = |list: Option<u32>| {
            let ports = |list| Key::new().mark(list).proto(packet.proto).port(packet.port);
            list.is_some_and(|list| self.has(set(Shape::Ports), &ports(list)))
        };
        let in_nets = |nets: u32| {
            let nets = || Key::new().mark(nets);
            let proto = || nets().proto(packet.proto);
            self.has(set(Shape::Net), &nets().ip(peer))
                || self.has(set(Shape::NetProto), &proto().ip(peer))
                || self.has(set(Shape::NetPort), &proto().port(packet.port).ip(peer))
                || listed(self.map(set(Shape::NetList), &nets().ip(peer)))
        };
        let nets = SetId::Nets(direction, family, action);
        if self.has(set(Shape::PeerPort), &ported)
            || self.has(set(Shape::PeerProto), &key().proto(packet.proto))
            || self.has(set(Shape::Peer), &key())
            || listed(self.map(set(Shape::PeerList), &key()))
            || self.map(nets, &Key::new().ip(own)).is_some_and(in_nets)
        {
            return true;
        }
        let groups = |mark: u32| {
            let key = || Key::new().ip(own).mark(mark);
            let ported = key().proto(packet.proto).port(packet.port);
            self.has(set(Shape::GroupPort), &ported)
                || self.has(set(Shape::Group), &key())
                || self.has(set(Shape::GroupProto), &key().proto(packet.proto))
                || listed(self.map(set(Shape::GroupList), &key()))
        };
        let known = self.known(peer).unwrap_or(peer);
        let key = || Key::new().ip(own).ip(known);
        let ported = key().proto(packet.proto).port(packet.port);
        let by_prefix = || {
            self.has(set(Shape::PeerPort), &ported)
                || self.has(set(Shape::PeerProto), &key().proto(packet.proto))
                || self.has(set(Shape::Peer), &key())
                || listed(self.map(set(Shape::PeerList), &key()))
        };
        let peer_key = Key::new().ip(known);
        match self.class(family, own, peer, packet.hook) {
            0 => false,
            group::PREFIX if by_prefix() => true,
            group::CONTAINER | group::PREFIX => {
                let zone = self.map(SetId::ZoneOf(family), &peer_key);
                let labels = self.map(SetId::LabelsOf(family), &peer_key);
                zone.is_some_and(groups) || labels.is_some_and(groups) || groups(group::ANY)
            }
            class => groups(class) || groups(group::ANY),
        }
    }

    fn class(&self, family: Family, own: IpAddr, peer: IpAddr, hook: Hook) -> u32 {
        let peer_key = Key::new().ip(peer);
        let reserved = match peer {
            IpAddr::V4(a) => {
                let o = a.octets();
                o[0] == 0 || o[0] == 127 || o[0] >= 224 || (o[0], o[1]) == (169, 254)
            }
            IpAddr::V6(a) => {
                let s = a.segments();
                a.to_bits() <= 1 || s[0] & 0xffc0 == 0xfe80 || s[0] & 0xff00 == 0xff00
            }
        };
        // a group is not an address of the host, although the host listens to it
        let multicast = match peer {
            IpAddr::V4(a) => a.octets()[0] >= 224,
            IpAddr::V6(a) => a.is_multicast(),
        };
        if self.has(SetId::Own(family), &peer_key) {
            group::CONTAINER
        } else if self.known(peer).is_some() {
            group::PREFIX
        } else if multicast {
            0
        } else if hook != Hook::Forward {
            group::HOST
        } else if self.has(SetId::Subnets(family), &peer_key)
            || reserved
            || self.has(SetId::Internal(family), &Key::new().ip(own))
        {
            0
        } else {
            group::WORLD
        }
    }
}
