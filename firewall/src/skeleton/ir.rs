//! What rules are made of: loads, values, steps, chains. Pure data; see [`super`].

use std::net::IpAddr;

use ipnet::IpNet;

use crate::sets::{Family, Field, SetId, Table};

/// The start of a payload load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Link layer header
    Link,
    /// Network header
    Network,
    /// Transport header
    Transport,
}

/// Packet metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// Packet mark
    Mark,
    /// Packet priority; here the generation travels in it from the start of a judgement to its end
    Priority,
    /// Index of the interface it came in by; 0 when the host made it
    Iif,
    /// Index of the interface it leaves by; 0 when it is for the host
    Oif,
    /// Name of the interface it came in by
    Iifname,
    /// Name of the interface it leaves by
    Oifname,
    /// Name of the bridge whose port it came in by. Not every kernel has it: see [`super::without_bridge_names`]
    Ibrname,
    /// 2 = IPv4, 10 = IPv6
    Nfproto,
    /// Protocol of the transport header
    L4proto,
}

/// A field of the packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ct {
    /// Bits: invalid 1, established 2, related 4, new 8, untracked 64
    State,
    /// Bits: 0x20 when the destination was translated
    Status,
    /// 0 = original, 1 = reply
    Direction,
    /// Mark
    Mark,
    /// Protocol
    Protocol,
    /// Source address of the first packet: the client
    Client(Family),
    /// Source address of replies: the server after destination translation
    Server(Family),
    /// Source port of replies: the server's port after destination translation
    ServerPort,
    /// Type of the first packet's ICMP message, in the place of a port (the code is masked away)
    IcmpType,
}

/// An IPv6 address of which the first half alone is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Of the connection: see [`Ct::Client`]
    Client,
    /// Of the connection: see [`Ct::Server`]
    Server,
    /// Source of the packet
    Source,
    /// Target of a message of neighbour discovery
    Target,
    /// Destination of the packet that an ICMPv6 error is about
    Quoted,
}

impl Half {
    /// The whole address.
    pub fn whole(self) -> Load {
        match self {
            Half::Client => Load::Ct(Ct::Client(Family::V6)),
            Half::Server => Load::Ct(Ct::Server(Family::V6)),
            Half::Source => IP6_SADDR,
            Half::Target => ND_TARGET,
            Half::Quoted => QUOTED_IP6_DADDR,
        }
    }
}

/// Keeps the first half of an IPv6 address.
pub const FIRST_HALF: [u8; 16] = [
    255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Something a rule can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Metadata
    Meta(Meta),
    /// Of the connection
    Ct(Ct),
    /// Of the packet: `offset` and `len` in bytes; `name` as nft writes it
    Payload {
        /// Where `offset` counts from
        base: Base,
        /// In bytes
        offset: u8,
        /// In bytes
        len: u8,
        /// As nft writes it
        name: &'static str,
    },
    /// Type of an address
    FibType(FibOf),
    /// An IPv6 address with zeroes in the place of its second half: the prefix of the container that it is of
    Prefix(Half),
}

/// Of which address the type is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FibOf {
    /// The destination
    Daddr,
    /// The destination, as seen by the interface it came in by
    DaddrOnIif,
    /// The source, as seen by the interface it goes out by
    SaddrOnOif,
}

impl Load {
    /// Its size in bytes, without padding.
    pub fn size(self) -> usize {
        match self {
            Load::Meta(Meta::Iifname | Meta::Oifname | Meta::Ibrname) => 16,
            Load::Meta(Meta::Nfproto | Meta::L4proto) => 1,
            Load::Ct(Ct::Direction | Ct::Protocol) => 1,
            Load::Ct(Ct::ServerPort | Ct::IcmpType) => 2,
            Load::Ct(Ct::Client(Family::V6) | Ct::Server(Family::V6)) => 16,
            Load::Meta(_) | Load::Ct(_) | Load::FibType(_) => 4,
            Load::Payload { len, .. } => usize::from(len),
            Load::Prefix(_) => 16,
        }
    }
}

macro_rules! payloads {
    ($($ident:ident = $base:ident $offset:literal $len:literal $name:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub const $ident: Load = Load::Payload {
                base: Base::$base, offset: $offset, len: $len, name: $name,
            };
        )*
    };
}

payloads! {
    ETHER_SADDR = Link 6 6 "ether saddr";
    ETHER_TYPE = Link 12 2 "ether type";
    ARP_HTYPE = Network 0 2 "arp htype";
    ARP_PTYPE = Network 2 2 "arp ptype";
    ARP_HLEN = Network 4 1 "arp hlen";
    ARP_PLEN = Network 5 1 "arp plen";
    ARP_OP = Network 6 2 "arp operation";
    ARP_SENDER_MAC = Network 8 6 "arp saddr ether";
    ARP_SENDER_IP = Network 14 4 "arp saddr ip";
    IP_SADDR = Network 12 4 "ip saddr";
    IP_DADDR = Network 16 4 "ip daddr";
    IP6_LENGTH = Network 4 2 "ip6 length";
    IP6_SADDR = Network 8 16 "ip6 saddr";
    IP6_DADDR = Network 24 16 "ip6 daddr";
    SPORT = Transport 0 2 "th sport";
    DPORT = Transport 2 2 "th dport";
    TCP_FLAGS = Transport 13 1 "tcp flags";
    ICMP_TYPE = Transport 0 1 "icmp type";
    ICMPV6_TYPE = Transport 0 1 "icmpv6 type";
    IP6_SADDR_MIDDLE = Network 19 2 "@nh,152,16";
    QUOTED_IP_DADDR = Transport 24 4 "@th,192,32";
    QUOTED_IP6_DADDR = Transport 32 16 "@th,256,128";
    ND_TARGET = Transport 8 16 "@th,64,128";
    ND_TARGET_MIDDLE = Transport 19 2 "@th,152,16";
    RS_OPTION = Transport 8 2 "@th,64,16";
    RS_OPTION_MAC = Transport 10 6 "@th,80,48";
    ND_OPTION = Transport 24 2 "@th,192,16";
    ND_OPTION_MAC = Transport 26 6 "@th,208,48";
    DHCP_CHADDR = Transport 36 6 "@th,288,48";
}

/// The source address of the packet.
pub const fn saddr(family: Family) -> Load {
    match family {
        Family::V4 => IP_SADDR,
        Family::V6 => IP6_SADDR,
    }
}

/// The destination address of the packet.
pub const fn daddr(family: Family) -> Load {
    match family {
        Family::V4 => IP_DADDR,
        Family::V6 => IP6_DADDR,
    }
}

/// What a load is compared with: the bytes as they stand in the register, and as nft writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// As they stand in the register
    pub bytes: Vec<u8>,
    /// As nft writes it
    pub text: String,
}

impl Value {
    /// One byte that has a name.
    pub fn byte(byte: u8, name: &str) -> Self {
        Self::named(&[byte], name)
    }

    /// Bytes that have a name.
    pub fn named(bytes: &[u8], name: &str) -> Self {
        Self {
            bytes: bytes.to_vec(),
            text: name.to_owned(),
        }
    }

    /// A port or another number of two bytes in network byte order.
    pub fn be16(number: u16) -> Self {
        Self::named(&number.to_be_bytes(), &number.to_string())
    }

    /// A number of four bytes in host byte order.
    pub fn host32(number: u32) -> Self {
        Self::named(&number.to_ne_bytes(), &hex(number))
    }

    /// A bit of four bytes in host byte order, with its name.
    pub fn bit32(bit: u32, name: &str) -> Self {
        Self::named(&bit.to_ne_bytes(), name)
    }

    /// An address.
    pub fn ip(address: IpAddr) -> Self {
        let bytes = match address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        Self::named(&bytes, &address.to_string())
    }
}

/// Small numbers in decimal, marks in hexadecimal.
pub fn hex(number: u32) -> String {
    if number < 0x100 {
        number.to_string()
    } else {
        format!("{number:#010x}")
    }
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// TCP reset
    TcpReset,
    /// ICMP or ICMPv6 "administratively prohibited"
    AdminProhibited,
}

/// One step of a rule. Steps are taken in order until one does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Goes on if the load begins with the value.
    Is(Load, Value),
    /// Goes on if it does not.
    IsNot(Load, Value),
    /// Goes on if any of the bits is set.
    Any(Load, Value),
    /// Goes on if the load, masked, is the value (both in host byte order).
    Masked(Load, u32, u32),
    /// Goes on if the address is in the network.
    InNet(Load, IpNet),
    /// Goes on if the key is in the set.
    In(Vec<Load>, SetId),
    /// Goes on if it is not.
    NotIn(Vec<Load>, SetId),
    /// Sets mark or priority.
    Set(Meta, u32),
    /// Sets mark or priority from a map; does not go on, and sets nothing, if the key is not in it.
    SetFrom(Meta, Vec<Load>, SetId),
    /// Sets the conntrack mark to the packet's priority.
    CtMarkFromPriority,
    /// Goes on while the bucket of this key has tokens.
    Meter {
        /// Name of the meter's set
        name: &'static str,
        /// Whose bucket
        key: Vec<Load>,
        /// How much it holds, and how fast it fills
        bucket: Bucket,
    },
    /// Goes on while this key has no more than `most` connections, the packet's own among them.
    Connections {
        /// Name of the set that counts
        name: &'static str,
        /// Whose
        key: Vec<Load>,
        /// At one time
        most: u32,
    },
    /// Tells the packet to whoever listens to [`super::LOG_GROUP`], and goes on.
    Log {
        /// What is said beside it
        prefix: &'static str,
    },
    /// Counts packets and bytes.
    Count,
    /// Answers and drops.
    Reject(Refusal),
    /// Translates the source to the address of the interface it leaves by.
    Masquerade,
    /// Translates the destination to what a map says: an address, an address and a port, or an address
    /// and a span of ports. Goes on if the key is not in it.
    Dnat(Family, Vec<Load>, SetId),
    /// Accepts in this hook.
    Accept,
    /// Drops.
    Drop,
    /// Goes back to the calling chain.
    Return,
    /// Calls a chain.
    Jump(String),
    /// Goes to a chain for good; a return there goes back to the caller of this one.
    Goto(String),
}

/// A rule: steps, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// In order
    pub steps: Vec<Step>,
    /// Shown by nft beside the rule
    pub comment: Option<&'static str>,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before routing
    Prerouting,
    /// For the host
    Input,
    /// Through the host
    Forward,
    /// From the host
    Output,
    /// After routing
    Postrouting,
}

/// The hook of a base chain. Its policy is always accept: what is not zone traffic is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// Whether it translates addresses
    pub nat: bool,
    /// Where
    pub point: Point,
    /// In the kernel's order
    pub priority: i32,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name in the kernel
    pub name: String,
    /// For base chains
    pub hook: Option<Hook>,
    /// In order
    pub rules: Vec<Rule>,
}

/// A token bucket: `count` in `seconds`, `burst` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Tokens that come …
    pub count: u32,
    /// … in so many seconds
    pub seconds: u32,
    /// How many it holds
    pub burst: u32,
}

impl Bucket {
    /// So many a second.
    pub const fn a_second(count: u32, burst: u32) -> Self {
        Self {
            count,
            seconds: 1,
            burst,
        }
    }

    /// How long an idle bucket is kept, in seconds: longer than it needs to fill up again.
    pub fn keep(self) -> u64 {
        let fill = u64::from(self.seconds) * u64::from(self.burst);
        fill.div_ceil(u64::from(self.count.max(1))).max(59) + 1
    }
}

/// A set that packets fill themselves, with a token bucket or a count of connections for each key,
/// forgotten when idle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterSpec {
    /// Its name in the kernel
    pub name: &'static str,
    /// Its key
    pub key: Vec<Field>,
    /// Whether it counts connections
    pub connections: bool,
}

/// How many keys a meter has room for. When they are used up, further ones find no room and are
/// treated as if over their rate.
pub const METER_SIZE: u32 = 65_535;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// Which
    pub table: Table,
    /// In the order in which they are made
    pub chains: Vec<Chain>,
    /// Token buckets
    pub meters: Vec<MeterSpec>,
}

/// A rule without a comment.
pub fn rule<const N: usize>(steps: [Step; N]) -> Rule {
    Rule {
        steps: steps.into(),
        comment: None,
    }
}

impl Rule {
    /// The same with a comment.
    pub fn because(mut self, comment: &'static str) -> Self {
        self.comment = Some(comment);
        self
    }
}

/// A regular chain.
pub fn chain(name: impl Into<String>, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.into(),
        hook: None,
        rules,
    }
}

/// A base chain for filtering.
pub fn filter(name: &str, point: Point, priority: i32, rules: Vec<Rule>) -> Chain {
    let nat = false;
    let hook = Some(Hook {
        nat,
        point,
        priority,
    });
    Chain {
        name: name.to_owned(),
        hook,
        rules,
    }
}

/// A base chain for address translation.
pub fn nat(name: &str, point: Point, priority: i32, rules: Vec<Rule>) -> Chain {
    let nat = true;
    let hook = Some(Hook {
        nat,
        point,
        priority,
    });
    Chain {
        name: name.to_owned(),
        hook,
        rules,
    }
}

/// Calls a chain.
pub fn jump(name: impl Into<String>) -> Step {
    Step::Jump(name.into())
}

/// Goes to a chain for good.
pub fn goto(name: impl Into<String>) -> Step {
    Step::Goto(name.into())
}

/// Matches the family of the packet.
pub fn family(family: Family) -> Step {
    let value = match family {
        Family::V4 => Value::byte(2, "ipv4"),
        Family::V6 => Value::byte(10, "ipv6"),
    };
    Step::Is(Load::Meta(Meta::Nfproto), value)
}

/// Matches the transport protocol of the packet.
pub fn l4proto(number: u8) -> Step {
    Step::Is(Load::Meta(Meta::L4proto), protocol(number))
}

/// A protocol number with its name.
pub fn protocol(number: u8) -> Value {
    let name = match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "ipv6-icmp",
        other => return Value::byte(other, &other.to_string()),
    };
    Value::byte(number, name)
}

/// `4` or `6`, for names.
pub fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

/// The number of ICMP for the family.
pub fn icmp(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 58,
    }
}
