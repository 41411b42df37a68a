//! What each set is made of.

use super::{Direction, Family, SetId, Shape, Table};

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
    /// Whether only what stands last in the key is a range, and the whole key one number to the kernel:
    /// see [`Shape`]. Sets of one field always are.
    pub line: bool,
    /// Whether each element counts the packets that matched it.
    pub counted: bool,
    /// Whether elements may have a time to live.
    pub timed: bool,
}
impl SetSpec {
    fn new(name: String, key: Vec<Field>) -> Self {
        Self {
            table: Table::Inet,
            name,
            key,
            data: Vec::new(),
            interval: false,
            line: false,
            counted: false,
            timed: false,
        }
    }

    fn bridge(name: &str, key: Vec<Field>) -> Self {
        Self {
            table: Table::Bridge,
            ..Self::new(name.to_owned(), key)
        }
    }

    fn to(self, data: Vec<Field>) -> Self {
        Self { data, ..self }
    }

    fn ranges(self, interval: bool) -> Self {
        let line = interval && self.key.len() == 1;
        Self {
            interval,
            line,
            ..self
        }
    }

    fn shaped(self, shape: Shape) -> Self {
        Self {
            interval: shape.is_range(),
            line: shape.is_range(),
            data: match shape.is_map() {
                true => vec![Field::Mark],
                false => Vec::new(),
            },
            counted: !shape.is_map(),
            ..self
        }
    }

    fn line(self) -> Self {
        Self {
            interval: true,
            line: true,
            ..self
        }
    }

    fn odd(self) -> Self {
        Self {
            name: format!("{}_odd", self.name),
            ..self
        }
    }

    fn timed(self) -> Self {
        Self {
            timed: true,
            ..self
        }
    }
}

fn ip(family: Family) -> Field {
    match family {
        Family::V4 => Field::Ip4,
        Family::V6 => Field::Ip6,
    }
}

fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

/// `eg4`, `in6`, …
fn way(direction: Direction, family: Family) -> String {
    let way = match direction {
        Direction::Egress => "eg",
        Direction::Ingress => "in",
    };
    format!("{way}{}", digit(family))
}

impl Shape {
    /// Its name, and what follows the owner, or the number, in its key.
    fn spec(self, f: Family) -> (&'static str, Vec<Field>) {
        use Field::{Mark, Port, Proto};
        match self {
            Shape::Peer => ("peer", vec![ip(f)]),
            Shape::PeerProto => ("peer_proto", vec![ip(f), Proto]),
            Shape::PeerPort => ("peer_port", vec![ip(f), Proto, Port]),
            Shape::Group => ("group", vec![Mark]),
            Shape::GroupProto => ("group_proto", vec![Mark, Proto]),
            Shape::GroupPort => ("group_port", vec![Mark, Proto, Port]),
            Shape::PeerList => ("peer_list", vec![ip(f)]),
            Shape::GroupList => ("group_list", vec![Mark]),
            Shape::NetList => ("net_list", vec![ip(f)]),
            Shape::Ports => ("ports", vec![Proto, Port]),
            Shape::GroupRange => ("group_range", vec![Mark, Proto, Port]),
            Shape::Net => ("net", vec![ip(f)]),
            Shape::NetProto => ("net_proto", vec![Proto, ip(f)]),
            Shape::NetPort => ("net_port", vec![Proto, Port, ip(f)]),
            Shape::NetPart => ("net_part", vec![ip(f)]),
            Shape::NetRange => ("net_range", vec![Mark, Proto, Port]),
        }
    }

    /// Whether its keys are ranges.
    pub fn is_range(self) -> bool {
        match self {
            Shape::Peer | Shape::PeerProto | Shape::PeerPort | Shape::PeerList => false,
            Shape::Group | Shape::GroupProto | Shape::GroupPort | Shape::GroupList => false,
            Shape::Net | Shape::NetProto | Shape::NetPort | Shape::NetList | Shape::Ports => true,
            Shape::GroupRange | Shape::NetPart | Shape::NetRange => true,
        }
    }

    /// Whether its elements lead to a number.
    pub fn is_map(self) -> bool {
        matches!(
            self,
            Shape::PeerList | Shape::GroupList | Shape::NetList | Shape::NetPart
        )
    }
}

impl SetId {
    /// What the set is made of, and its name: `eg4_allow_peer_port`, `own6`, `guard_mac`.
    pub fn spec(self) -> SetSpec {
        use Field::*;
        let of = |name: &str, f, key| SetSpec::new(format!("{name}{}", digit(f)), key);
        let inet = |name: &str, key| SetSpec::new(name.to_owned(), key);
        match self {
            SetId::Rule(d, f, a, s) => {
                let (shape, rest) = s.spec(f);
                let name = format!("{}_{}_{shape}", way(d, f), a.as_str());
                let owner = match s.is_range() {
                    true => Mark,
                    false => ip(f),
                };
                let key = [vec![owner], rest].concat();
                SetSpec::new(name, key).shaped(s)
            }
            SetId::Nets(d, f, a) => {
                let name = format!("{}_{}_nets", way(d, f), a.as_str());
                SetSpec::new(name, vec![ip(f)]).to(vec![Mark])
            }
            SetId::If(d, f, a, s) => {
                let (shape, rest) = s.spec(f);
                let name = format!("{}_if_{}_{shape}", way(d, f), a.as_str());
                let key = [vec![ip(f), Mark], rest].concat();
                SetSpec::new(name, key).shaped(s)
            }
            SetId::Condition(d, f, a) => {
                let name = format!("{}_if_{}", way(d, f), a.as_str());
                SetSpec::new(name, vec![ip(f), Mark]).to(vec![Mark])
            }
            SetId::NoDeny(d, f) => SetSpec::new(format!("{}_nodeny", way(d, f)), vec![ip(f)]),
            SetId::Limit => inet("limit", vec![Mark]).to(vec![Mark]).timed(),
            SetId::Asleep => inet("asleep", vec![Mark]).timed(),
            SetId::Own(f) => of("own", f, vec![ip(f)]),
            SetId::Watched(f) => of("watched", f, vec![ip(f)]),
            SetId::ZoneOf(f) => of("zone_of", f, vec![ip(f)]).to(vec![Mark]),
            SetId::LabelsOf(f) => of("labels_of", f, vec![ip(f)]).to(vec![Mark]),
            SetId::Resolved(f) => of("resolved", f, vec![ip(f), ip(f)]).to(vec![Mark]).timed(),
            SetId::Subnets(f) => of("subnets", f, vec![ip(f)]).ranges(true),
            SetId::Internal(f) => of("internal", f, vec![ip(f)]).ranges(true),
            SetId::Gateways(f) => of("gateways", f, vec![ip(f)]),
            SetId::Masquerade(f) => of("masquerade", f, vec![ip(f)]).ranges(true),
            SetId::PublishedOpen(f) => of("published_open", f, vec![ip(f), Proto, Port]),
            SetId::Publish(f) => of("publish", f, vec![Proto, Port]).to(vec![ip(f), Port]),
            SetId::PublishAt(f) => {
                of("publish_at", f, vec![ip(f), Proto, Port]).to(vec![ip(f), Port])
            }
            SetId::PublishedRange(f) => of("published_range", f, vec![ip(f), Proto, Port]).line(),
            SetId::PublishRange(f) => of("publish_range", f, vec![ip(f), Proto, Port])
                .to(vec![ip(f)])
                .ranges(true),
            SetId::PublishShift(f) => of("publish_shift", f, vec![ip(f), Proto, Port])
                .to(vec![ip(f), Port, Port])
                .ranges(true),
            SetId::UserLoopback => inet("user_loopback", vec![Ip6]),
            SetId::Bridges => inet("bridges", vec![IfName]),
            SetId::Opened(f) => of("opened", f, vec![IfName]),
            SetId::Pinned => inet("pinned", vec![IfName]),
            SetId::Uplink => inet("uplink", vec![IfName, IfName]),
            SetId::Generation => inet("generation", vec![Mark]),
            SetId::Changing => inet("changing", vec![Mark]).timed(),
            SetId::Remember => inet("remember", vec![NfProto]).to(vec![Mark]),
            SetId::Odd => inet("odd", vec![NfProto]),
            SetId::IfOdd(d, f, a, s) => SetId::If(d, f, a, s).spec().odd(),
            SetId::GuardPorts => SetSpec::bridge("ports", vec![IfIndex]),
            SetId::GuardBridges => SetSpec::bridge("bridges", vec![IfName]),
            SetId::GuardMac => SetSpec::bridge("mac", vec![IfIndex, Mac]),
            SetId::GuardIp4 => SetSpec::bridge("ip4", vec![IfIndex, Mac, Ip4]),
            SetId::GuardIp6 => SetSpec::bridge("ip6", vec![IfIndex, Mac, Ip6]),
            SetId::GuardRelay => SetSpec::bridge("relay", vec![Ip4]),
        }
    }
}
