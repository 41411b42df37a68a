//! The shared sets and maps that hold every policy, and the elements in them.
//!
//! The skeleton of chains is fixed; an attach, a detach or an edit adds and removes elements of these
//! sets and nothing else. [`SetId`] names each set, [`SetId::spec`] says which fields its key is made
//! of, and an [`Element`] is a key in the kernel's register layout: every field in network byte order
//! (marks, interface indexes and verdicts in host byte order), padded with zeroes to 4 bytes.

use std::net::IpAddr;

use zone::{IfName, MacAddr};

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
/// `own` is the address of the container whose rule it is, `peer` the other side's address, `group` a
/// mark that stands for a class of peers (see [`group`]). `port` is the server's port of TCP, UDP,
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
    /// own . peer range . protocol range . port range (interval set; disjoint for one owner)
    PeerRange,
    /// own . group . protocol . port range (interval set; disjoint for one owner and group)
    GroupRange,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 8] = [
        Shape::Peer,
        Shape::PeerProto,
        Shape::PeerPort,
        Shape::Group,
        Shape::GroupProto,
        Shape::GroupPort,
        Shape::PeerRange,
        Shape::GroupRange,
    ];
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
    /// A lookup has allowed the packet. Only a step on the way of a packet, never in a key.
    pub const ALLOWED: u32 = 5;
    /// The first number for zones: zone groups are `ZONE_BASE + n`.
    pub const ZONE_BASE: u32 = 0x0000_0100;
    /// The first number for label sets: two containers with the same labels share one number.
    pub const LABELS_BASE: u32 = 0x0001_0000;
}

/// Every set and map of netd's two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetId {
    /// Policy: keys of one direction, family, action and shape.
    Rule(Direction, Family, Action, Shape),
    /// Addresses of attached containers. A zone packet whose container side is not here is dropped.
    Own(Family),
    /// Containers whose direction has no deny rule: they skip the deny lookups. (A missing element
    /// costs time and opens nothing.)
    NoDeny(Direction, Family),
    /// Map: container address → number of its zone.
    ZoneOf(Family),
    /// Map: container address → number of its label set (absent when it has no labels).
    LabelsOf(Family),
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
    /// own . protocol . port range: the same for ranges (interval; disjoint for one owner).
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
    /// Map: nfproto (2 = v4, 10 = v6) → the generation to remember.
    Remember,
    /// Bridge table: ports of containers, by interface index.
    GuardPorts,
    /// Bridge table: interface index . hardware address.
    GuardMac,
    /// Bridge table: interface index . hardware address . IPv4 address.
    GuardIp4,
    /// Bridge table: interface index . hardware address . IPv6 address (link-local ones too).
    GuardIp6,
}

/// The two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `table inet netd`: policy, NAT.
    Inet,
    /// `table bridge netd`: the L2 guard.
    Bridge,
}

/// One field of a key or of a map's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// IPv4 address, 4 bytes
    Ip4,
    /// IPv6 address, 16 bytes
    Ip6,
    /// hardware address, 6 bytes
    Mac,
    /// IP protocol number, 1 byte
    Proto,
    /// port, or ICMP type and zero; 2 bytes
    Port,
    /// mark, 4 bytes, host byte order
    Mark,
    /// interface index, 4 bytes, host byte order
    IfIndex,
    /// interface name, 16 bytes with trailing NULs
    IfName,
    /// nfproto, 1 byte
    NfProto,
}

impl Field {
    /// Its length in bytes, without padding.
    #[allow(clippy::len_without_is_empty)] // no field is empty
    pub fn len(self) -> usize {
        match self {
            Field::Ip4 | Field::Mark | Field::IfIndex => 4,
            Field::Ip6 | Field::IfName => 16,
            Field::Mac => 6,
            Field::Proto | Field::NfProto => 1,
            Field::Port => 2,
        }
    }

    /// Its length in registers, in bytes: a multiple of 4.
    pub fn padded(self) -> usize {
        self.len().next_multiple_of(4)
    }
}

/// What a set is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// The table it lives in.
    pub table: Table,
    /// Its name in the kernel, at most 31 bytes.
    pub name: String,
    /// The fields of its key.
    pub key: Vec<Field>,
    /// The fields of its data, for maps.
    pub data: Vec<Field>,
    /// Whether keys are ranges.
    pub interval: bool,
}

impl SetId {
    /// Every set there is, in the order in which they are made.
    pub fn all() -> Vec<SetId> {
        let mut all = Vec::new();
        for direction in Direction::ALL {
            for family in Family::ALL {
                for action in [Action::Allow, Action::Deny] {
                    for shape in Shape::ALL {
                        all.push(SetId::Rule(direction, family, action, shape));
                    }
                }
                all.push(SetId::NoDeny(direction, family));
            }
        }
        for family in Family::ALL {
            all.extend([
                SetId::Own(family),
                SetId::ZoneOf(family),
                SetId::LabelsOf(family),
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
            SetId::UserLoopback,
            SetId::Bridges,
            SetId::Pinned,
            SetId::Uplink,
            SetId::Generation,
            SetId::Remember,
            SetId::GuardPorts,
            SetId::GuardMac,
            SetId::GuardIp4,
            SetId::GuardIp6,
        ]);
        all
    }

    /// What the set is made of, and its name: `eg4_allow_peer_port`, `own6`, `guard_mac`.
    pub fn spec(self) -> SetSpec {
        use Field::*;
        let ip = |family| match family {
            Family::V4 => Ip4,
            Family::V6 => Ip6,
        };
        let digit = |family| match family {
            Family::V4 => '4',
            Family::V6 => '6',
        };
        let way = |direction| match direction {
            Direction::Egress => "eg",
            Direction::Ingress => "in",
        };
        let (table, name, key, data, interval) = match self {
            SetId::Rule(d, f, a, s) => {
                let (shape, key) = match s {
                    Shape::Peer => ("peer", vec![ip(f), ip(f)]),
                    Shape::PeerProto => ("peer_proto", vec![ip(f), ip(f), Proto]),
                    Shape::PeerPort => ("peer_port", vec![ip(f), ip(f), Proto, Port]),
                    Shape::Group => ("group", vec![ip(f), Mark]),
                    Shape::GroupProto => ("group_proto", vec![ip(f), Mark, Proto]),
                    Shape::GroupPort => ("group_port", vec![ip(f), Mark, Proto, Port]),
                    Shape::PeerRange => ("peer_range", vec![ip(f), ip(f), Proto, Port]),
                    Shape::GroupRange => ("group_range", vec![ip(f), Mark, Proto, Port]),
                };
                let action = match a {
                    Action::Allow => "allow",
                    Action::Deny => "deny",
                };
                let name = format!("{}{}_{action}_{shape}", way(d), digit(f));
                let interval = matches!(s, Shape::PeerRange | Shape::GroupRange);
                (Table::Inet, name, key, vec![], interval)
            }
            SetId::Own(f) => (
                Table::Inet,
                format!("own{}", digit(f)),
                vec![ip(f)],
                vec![],
                false,
            ),
            SetId::NoDeny(d, f) => {
                let name = format!("{}{}_nodeny", way(d), digit(f));
                (Table::Inet, name, vec![ip(f)], vec![], false)
            }
            SetId::ZoneOf(f) => (
                Table::Inet,
                format!("zone_of{}", digit(f)),
                vec![ip(f)],
                vec![Mark],
                false,
            ),
            SetId::LabelsOf(f) => (
                Table::Inet,
                format!("labels_of{}", digit(f)),
                vec![ip(f)],
                vec![Mark],
                false,
            ),
            SetId::Subnets(f) => (
                Table::Inet,
                format!("subnets{}", digit(f)),
                vec![ip(f)],
                vec![],
                true,
            ),
            SetId::Internal(f) => (
                Table::Inet,
                format!("internal{}", digit(f)),
                vec![ip(f)],
                vec![],
                true,
            ),
            SetId::Gateways(f) => (
                Table::Inet,
                format!("gateways{}", digit(f)),
                vec![ip(f)],
                vec![],
                false,
            ),
            SetId::Masquerade(f) => (
                Table::Inet,
                format!("masquerade{}", digit(f)),
                vec![ip(f)],
                vec![],
                true,
            ),
            SetId::PublishedOpen(f) => {
                let name = format!("published_open{}", digit(f));
                (Table::Inet, name, vec![ip(f), Proto, Port], vec![], false)
            }
            SetId::Publish(f) => {
                let name = format!("publish{}", digit(f));
                (
                    Table::Inet,
                    name,
                    vec![Proto, Port],
                    vec![ip(f), Port],
                    false,
                )
            }
            SetId::PublishAt(f) => {
                let name = format!("publish_at{}", digit(f));
                (
                    Table::Inet,
                    name,
                    vec![ip(f), Proto, Port],
                    vec![ip(f), Port],
                    false,
                )
            }
            SetId::PublishedRange(f) => {
                let name = format!("published_range{}", digit(f));
                (Table::Inet, name, vec![ip(f), Proto, Port], vec![], true)
            }
            SetId::PublishRange(f) => {
                let name = format!("publish_range{}", digit(f));
                (
                    Table::Inet,
                    name,
                    vec![ip(f), Proto, Port],
                    vec![ip(f)],
                    true,
                )
            }
            SetId::PublishShift(f) => {
                let name = format!("publish_shift{}", digit(f));
                let to = vec![ip(f), Port, Port];
                (Table::Inet, name, vec![ip(f), Proto, Port], to, true)
            }
            SetId::UserLoopback => (
                Table::Inet,
                "user_loopback".into(),
                vec![Ip6],
                vec![],
                false,
            ),
            SetId::Bridges => (Table::Inet, "bridges".into(), vec![IfName], vec![], false),
            SetId::Opened(f) => (
                Table::Inet,
                format!("opened{}", digit(f)),
                vec![IfName],
                vec![],
                false,
            ),
            SetId::Pinned => (Table::Inet, "pinned".into(), vec![IfName], vec![], false),
            SetId::Uplink => (
                Table::Inet,
                "uplink".into(),
                vec![IfName, IfName],
                vec![],
                false,
            ),
            SetId::Generation => (Table::Inet, "generation".into(), vec![Mark], vec![], false),
            SetId::Remember => (
                Table::Inet,
                "remember".into(),
                vec![NfProto],
                vec![Mark],
                false,
            ),
            SetId::GuardPorts => (Table::Bridge, "ports".into(), vec![IfIndex], vec![], false),
            SetId::GuardMac => (
                Table::Bridge,
                "mac".into(),
                vec![IfIndex, Mac],
                vec![],
                false,
            ),
            SetId::GuardIp4 => (
                Table::Bridge,
                "ip4".into(),
                vec![IfIndex, Mac, Ip4],
                vec![],
                false,
            ),
            SetId::GuardIp6 => (
                Table::Bridge,
                "ip6".into(),
                vec![IfIndex, Mac, Ip6],
                vec![],
                false,
            ),
        };
        SetSpec {
            table,
            name,
            key,
            data,
            interval,
        }
    }
}

/// A key or data in register layout. See the [module](self).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<u8>);

impl Key {
    /// No fields yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Appends an address of either family.
    pub fn ip(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => self.field(&a.octets()),
            IpAddr::V6(a) => self.field(&a.octets()),
        }
    }

    /// Appends a hardware address.
    pub fn mac(self, mac: MacAddr) -> Self {
        self.field(&mac.0)
    }

    /// Appends an IP protocol number.
    pub fn proto(self, proto: u8) -> Self {
        self.field(&[proto])
    }

    /// Appends a port.
    pub fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// Appends an ICMP or ICMPv6 message type in the place of a port.
    pub fn icmp_type(self, icmp_type: u8) -> Self {
        self.field(&[icmp_type, 0])
    }

    /// Appends a mark or a group number.
    pub fn mark(self, mark: u32) -> Self {
        self.field(&mark.to_ne_bytes())
    }

    /// Appends an interface index.
    pub fn ifindex(self, index: u32) -> Self {
        self.field(&index.to_ne_bytes())
    }

    /// Appends an interface name.
    pub fn ifname(self, name: &IfName) -> Self {
        let mut bytes = [0u8; 16];
        bytes[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        self.field(&bytes)
    }

    /// Appends an nfproto: 2 for IPv4, 10 for IPv6.
    pub fn nfproto(self, nfproto: u8) -> Self {
        self.field(&[nfproto])
    }
}

/// One element of one set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The set it belongs to.
    pub set: SetId,
    /// Its key; the first one of the range in an interval set.
    pub key: Key,
    /// The last key of the range, inclusive, field by field; interval sets only.
    pub last: Option<Key>,
    /// Its data; maps only.
    pub data: Option<Key>,
}

/// What an event changes in the kernel: one atomic batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Elements to remove. Removed first.
    pub remove: Vec<Element>,
    /// Elements to add.
    pub add: Vec<Element>,
    /// Some connection that was allowed may now be denied: remembered verdicts must be forgotten in
    /// the same batch.
    pub forget: bool,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty() && !self.forget
    }
}
