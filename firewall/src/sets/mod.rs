//! The shared sets and maps that hold every policy, and the elements in them.
//!
//! The skeleton of chains is fixed; an attach, a detach or an edit adds and removes elements of these
//! sets and nothing else. [`SetId`] names each set, [`SetId::spec`] says which fields its key is made
//! of, and an [`Element`] is a key in the kernel's register layout: every field in network byte order
//! (marks, interface indexes and verdicts in host byte order), padded with zeroes to 4 bytes.

mod element;
mod spec;

use std::net::IpAddr;

pub use element::{Changes, Element, Key, Life, Limit};
pub use spec::{Field, SetSpec};

/// Which address family a set is for. v4 and v6 have the same sets with the same meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both, in the order in which sets are made.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// Which side of a connection the owner of a rule is: the one that opens it, or the one that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The owner opens the connection.
    Egress,
    /// The connection is opened to the owner.
    Ingress,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Egress, Direction::Ingress];

    /// The word for it in policy files and in reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        }
    }
}

/// What a matching rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The connection may be opened, unless something denies it.
    Allow,
    /// The connection may not be opened, whatever allows it.
    Deny,
}

impl Action {
    /// The word for it in policy files and in reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Deny => "deny",
        }
    }
}

/// The shape of a policy key. Exact shapes live in hash sets, ranges in interval sets.
///
/// Elements of a container are exact. Ranges stand under numbers that its elements lead to, and are shared by all
/// containers with the same files (`compile/bundles.rs`): a transaction that touches a set of ranges costs the kernel
/// a walk over all of it, and an attach or a detach mostly touches none.
///
/// Interval sets are *lines*: only what stands last in the key is a range, so to the
/// kernel the key is one long number, and the set a tree (nft_set_rbtree.c) in which an element comes or
/// goes without regard to the others. The kind for ranges in several fields (nft_set_pipapo.c) is copied
/// whole by each transaction that changes it, and searched from its beginning for each element that is
/// removed: with 5,000 containers a detach took 50 ms. It is also put in force a moment after all other sets,
/// so that a packet could meet its old elements with the new ones of others. No verdict depends on one.
///
/// `own` is the address of the container whose rule it is, `peer` the other side's address, `group` a
/// mark that stands for a class of peers (see [`group`]), `nets` the number that [`SetId::Nets`] leads to and `list`
/// one that a list leads to. Conditional rules have `own . number` in the place of `own`, and no lists. `port` is the server's port of TCP, UDP,
/// SCTP, DCCP or UDP-Lite after address translation, or the type of an ICMP or ICMPv6 message in the
/// first byte and zero in the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// own . peer: every protocol and port.
    Peer,
    /// own . peer . protocol
    PeerProto,
    /// own . peer . protocol . port
    PeerPort,
    /// own . group: every protocol and port.
    Group,
    /// own . group . protocol
    GroupProto,
    /// own . group . protocol . port
    GroupPort,
    /// Map: own . peer → list of ports.
    PeerList,
    /// Map: own . group → list of ports.
    GroupList,
    /// nets . peer range: every protocol and port (a line).
    Net,
    /// nets . protocol . peer range (a line).
    NetProto,
    /// nets . protocol . port . peer range (a line).
    NetPort,
    /// Map: nets . peer range → list of ports (a line).
    NetList,
    /// list . protocol . port range (a line).
    Ports,
    /// Conditional only: own . group . protocol . port range (a line; disjoint for one owner and group)
    GroupRange,
    /// Conditional only, a map: own . peer range → the part of the owner's networks that the peer is in (a line).
    NetPart,
    /// Conditional only: own . part . protocol . port range (a line).
    NetRange,
}

impl Shape {
    /// Those of rules that count always.
    pub const RULE: [Shape; 13] = [
        Shape::Peer,
        Shape::PeerProto,
        Shape::PeerPort,
        Shape::Group,
        Shape::GroupProto,
        Shape::GroupPort,
        Shape::PeerList,
        Shape::GroupList,
        Shape::Net,
        Shape::NetProto,
        Shape::NetPort,
        Shape::NetList,
        Shape::Ports,
    ];
}

impl Shape {
    /// The shapes of conditional rules. What has no exact key here is a range.
    pub const CONDITIONAL: [Shape; 5] = [
        Shape::PeerPort,
        Shape::GroupPort,
        Shape::NetPart,
        Shape::NetRange,
        Shape::GroupRange,
    ];
}

/// Numbers of limits in [`SetId::Limit`].
pub mod limit {
    /// The rule has hours, and no limit.
    pub const NONE: u32 = 1;
    /// The first number of a limit.
    pub const BASE: u32 = 2;
}

/// Marks that stand for classes of peers in group keys.
pub mod group {
    /// The peer is the host itself.
    pub const HOST: u32 = 1;
    /// The peer is in the world: no container or zone address, not the host, not loopback, multicast
    /// or link-local.
    pub const WORLD: u32 = 2;
    /// Any container, the host or the world. Elements of rules without `from`/`to` and of `any`.
    pub const ANY: u32 = 3;
    /// The peer is a container. Only a step on the way of a packet, never in a key.
    pub const CONTAINER: u32 = 4;
    /// A lookup has matched the packet. Only a step on the way of a packet, never in a key.
    pub const ALLOWED: u32 = 5;
    /// There is no further conditional rule. Only a step on the way of a packet, never in a key.
    pub const LAST: u32 = 6;
    /// The peer is a container, and known by its prefix: see [`crate::model::Zone::key`]. Only a step on the way of a
    /// packet, never in a key.
    pub const PREFIX: u32 = 7;
    /// The first number for zones: zone groups are `ZONE_BASE + n`.
    pub const ZONE_BASE: u32 = 0x0000_0100;
    /// The first number for sets of names that one address was resolved from: far beyond what labels reach.
    pub const NAMES_BASE: u32 = 0x4000_0000;
    /// The first number for label sets: two containers with the same labels share one number.
    pub const LABELS_BASE: u32 = 0x0001_0000;
}

/// Every set and map of netd's two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetId {
    /// Policy: keys of one direction, family, action and shape (one of [`Shape::RULE`]).
    Rule(Direction, Family, Action, Shape),
    /// Map: own → number of the networks that its rules of a direction and action name. None where they name none.
    Nets(Direction, Family, Action),
    /// Conditional rules (rate, connections at one time, hours): keys of one direction, family, action and
    /// shape (one of [`Shape::CONDITIONAL`]), with the number of the rule among the conditional ones of
    /// its owner after the owner's address.
    If(Direction, Family, Action, Shape),
    /// Map: own . number → the rule's mark in [`SetId::Limit`] and [`SetId::Asleep`].
    Condition(Direction, Family, Action),
    /// Map: mark of a conditional rule that counts now → its limit, or [`limit::NONE`]. Elements of rules
    /// with hours live until these end: a daemon that is dead then leaves nothing open.
    Limit,
    /// Marks of conditional deny rules that do not count now; they live until the hours begin.
    Asleep,
    /// Addresses of containers of which connections are told to the log.
    Watched(Family),
    /// Addresses of attached containers. A zone packet whose container side is not here is dropped.
    Own(Family),
    /// Containers whose direction has no deny rule, conditional or not: they skip the deny lookups. (A missing element
    /// costs time and opens nothing.)
    NoDeny(Direction, Family),
    /// Map: container address → number of its zone.
    ZoneOf(Family),
    /// Map: container address → number of its label set (absent when it has no labels).
    LabelsOf(Family),
    /// Map: container address . address of the world → number of the set of `dns:` peers that it was resolved for, by the
    /// gateway's resolver, for this container. Elements live as long as what they open.
    Resolved(Family),
    /// Bridges of zones, by interface name.
    Bridges,
    /// Subnets of zones (interval).
    Subnets(Family),
    /// Subnets of internal zones (interval).
    Internal(Family),
    /// Gateway addresses of zones.
    Gateways(Family),
    /// Subnets that are masqueraded on the way to the world (interval).
    Masquerade(Family),
    /// own . protocol . port: open to `world` and `host` through its published port only.
    PublishedOpen(Family),
    /// own . protocol . port range: the same for ranges (a line; disjoint for one owner).
    PublishedRange(Family),
    /// Map: protocol . host port → container address . port; on every host address.
    Publish(Family),
    /// Map: host address . protocol . host port → container address . port.
    PublishAt(Family),
    /// Map: host addresses . protocol . host port range → container address; the port stays (interval).
    PublishRange(Family),
    /// Map: host addresses . protocol . host port range → container address and the two ends of a span of
    /// ports in which all host ports move by one distance (interval). See `compile/publish.rs`.
    PublishShift(Family),
    /// Holds `::1` where published ports on it are forwarded in user space.
    UserLoopback,
    /// Interfaces on which netd switched forwarding of this family on; what they send elsewhere than
    /// to zones is dropped.
    Opened(Family),
    /// Bridges of zones that reach the world through one interface only.
    Pinned,
    /// bridge . interface: the way that a pinned zone may take.
    Uplink,
    /// The generation of verdicts that connections may remember in their conntrack mark.
    Generation,
    /// Holds [`COUNTED`](crate::skeleton::COUNTED) for a second after each new generation: connections in which a
    /// conditional rule has a part are judged twice. For ever where elements cannot be renewed.
    Changing,
    /// Map: nfproto (2 = v4, 10 = v6) → the generation to remember.
    Remember,
    /// Bridge table: ports of containers, by interface index.
    GuardPorts,
    /// Bridge table: bridges of zones, by interface name: nothing crosses them.
    GuardBridges,
    /// Bridge table: interface index . hardware address.
    GuardMac,
    /// Bridge table: interface index . hardware address . IPv4 address.
    GuardIp4,
    /// Bridge table: interface index . hardware address . IPv6 address (link-local ones too).
    GuardIp6,
    /// Bridge table: IPv4 addresses of relay agents, which speak DHCP for others. Zones do not overlap, so that an
    /// address is one container's.
    GuardRelay,
    /// Holds nfproto 2 and 10 while the generation is odd.
    Odd,
    /// See [`SetId::twin`].
    IfOdd(Direction, Family, Action, Shape),
}

/// The two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `table inet netd`: policy, NAT.
    Inet,
    /// `table bridge netd`: the L2 guard.
    Bridge,
}

impl SetId {
    /// The second of the two sets that hold the same ranges of policies. The kernel puts the elements of
    /// interval sets in force a moment after all others of a transaction. So packets of even generations
    /// look into the one and those of odd generations into the other: the set of the next generation is
    /// changed before it, and the set of the last one after it. Ranges under numbers need none: what stands under a
    /// number never changes ([`SetId::is_numbered`]).
    pub fn twin(self) -> Option<SetId> {
        match self {
            SetId::If(d, f, a, s) if s.is_range() => Some(SetId::IfOdd(d, f, a, s)),
            _ => None,
        }
    }

    /// Ranges under a number that exact elements lead to. They stand before these, and go after them.
    pub fn is_numbered(self) -> bool {
        matches!(self, SetId::Rule(.., shape) if shape.is_range())
    }

    /// The set that packets of even or of odd generations look into.
    pub fn in_generation(self, odd: bool) -> SetId {
        match odd {
            false => self,
            true => self.twin().unwrap_or(self),
        }
    }

    /// Every set there is, in the order in which they are made.
    pub fn all() -> Vec<SetId> {
        let mut all = Vec::new();
        for direction in Direction::ALL {
            for family in Family::ALL {
                for action in [Action::Allow, Action::Deny] {
                    for shape in Shape::RULE {
                        all.push(SetId::Rule(direction, family, action, shape));
                    }
                    all.push(SetId::Nets(direction, family, action));
                }
                for action in [Action::Allow, Action::Deny] {
                    for shape in Shape::CONDITIONAL {
                        all.push(SetId::If(direction, family, action, shape));
                    }
                    all.push(SetId::Condition(direction, family, action));
                }
                all.push(SetId::NoDeny(direction, family));
            }
        }
        for family in Family::ALL {
            all.extend([
                SetId::Own(family),
                SetId::Watched(family),
                SetId::ZoneOf(family),
                SetId::LabelsOf(family),
                SetId::Resolved(family),
                SetId::Subnets(family),
                SetId::Internal(family),
                SetId::Gateways(family),
                SetId::Masquerade(family),
                SetId::PublishedOpen(family),
                SetId::Publish(family),
                SetId::PublishAt(family),
                SetId::PublishedRange(family),
                SetId::PublishRange(family),
                SetId::PublishShift(family),
                SetId::Opened(family),
            ]);
        }
        all.extend([
            SetId::Limit,
            SetId::Asleep,
            SetId::UserLoopback,
            SetId::Bridges,
            SetId::Pinned,
            SetId::Uplink,
            SetId::Generation,
            SetId::Changing,
            SetId::Remember,
            SetId::GuardPorts,
            SetId::GuardBridges,
            SetId::GuardMac,
            SetId::GuardIp4,
            SetId::GuardIp6,
            SetId::GuardRelay,
            SetId::Odd,
        ]);
        let twins: Vec<_> = all.iter().filter_map(|set: &SetId| set.twin()).collect();
        all.extend(twins);
        all
    }
}
