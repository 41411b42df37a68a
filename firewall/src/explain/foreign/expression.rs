//! A ruleset as data: tables, chains, rules, sets, and the expressions of rules as the kernel has them
//! (`linux/netfilter/nf_tables.h`).

use std::collections::BTreeMap;

/// The ruleset of a host, without netd's own tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Its tables.
    pub tables: Vec<RulesetTable>,
    /// Tables of the old iptables (`ip_tables`) in use, such as `filter`: they cannot be read here.
    pub legacy: Vec<String>,
}

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableFamily {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames on a bridge.
    Bridge,
    /// ARP.
    Arp,
}

impl TableFamily {
    /// As `nft` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
            Self::Arp => "arp",
        }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesetTable {
    /// Its family.
    pub family: TableFamily,
    /// Its name.
    pub name: String,
    /// Its chains, each with its rules.
    pub chains: Vec<RulesetChain>,
    /// Its sets and maps by name.
    pub sets: BTreeMap<String, RulesetSet>,
}

impl RulesetTable {
    /// `inet firewalld`
    pub fn title(&self) -> String {
        format!("{} {}", self.family.as_str(), self.name)
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesetChain {
    /// Its name.
    pub name: String,
    /// Where the kernel calls it; absent for chains that rules jump to.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<RulesetRule>,
}

/// Where the kernel calls a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// At which point of a packet's way.
    pub hook: Hook,
    /// Whether only packets that open a connection are seen, to translate addresses.
    pub is_nat: bool,
    /// Lower ones come first.
    pub priority: i32,
    /// Whether what no rule decides is dropped.
    pub drops: bool,
}

/// A point of a packet's way. The numbers are the kernel's (`linux/netfilter.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Came in.
    Prerouting,
    /// Came in for the host.
    Input,
    /// Goes through.
    Forward,
    /// Made by the host.
    Output,
    /// Goes out.
    Postrouting,
}

impl Hook {
    /// The hook of a number, in families other than ARP.
    pub fn from_number(number: u32) -> Option<Self> {
        let hooks = [
            Self::Prerouting,
            Self::Input,
            Self::Forward,
            Self::Output,
            Self::Postrouting,
        ];
        hooks.get(number as usize).copied()
    }

    /// As `nft` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RulesetRule {
    /// Its number in the table (`nft -a`).
    pub handle: u64,
    /// What its author says of it.
    pub comment: Option<String>,
    /// What it does.
    pub expressions: Vec<Expression>,
}

/// A set or map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RulesetSet {
    /// Whether elements of one field stand for ranges: begin and end are elements of their own.
    pub intervals: bool,
    /// Its elements.
    pub elements: Vec<Element>,
    /// Whether it has more elements than are read: what is not found is unknown.
    pub cut: bool,
}

/// An element of a set or map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Its key; fields are padded to four bytes. Empty for the one that stands for all others (`*`).
    pub key: Vec<u8>,
    /// The last key of its range, in sets of several fields.
    pub last: Option<Vec<u8>>,
    /// It is the end of the range before it, not part of it.
    pub ends: bool,
    /// It stands for every key that is not there.
    pub catchall: bool,
    /// What a map leads to.
    pub data: Option<Data>,
}

/// A value or a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Bytes.
    Value(Vec<u8>),
    /// What happens.
    Verdict(Verdict),
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This base chain is done with it.
    Accept,
    /// It is dropped, or refused with an answer.
    Drop,
    /// The next rule is asked.
    Continue,
    /// Back to where this chain was called.
    Return,
    /// On in that chain, then back here.
    Jump(String),
    /// On in that chain, not back.
    Goto(String),
    /// A program decides.
    Queue,
    /// A module that is not known here decides.
    Module(String),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `==`
    Is,
    /// `!=`
    IsNot,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

/// Which header a payload is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    /// Ethernet.
    Link,
    /// IP.
    Network,
    /// TCP, UDP, ICMP …
    Transport,
    /// What they carry.
    Inner,
}

/// What is asked of the routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fib {
    /// Index of the interface (1), its name (2), or kind of address (3).
    pub result: u32,
    /// `NFTA_FIB_F_*`: source 1, destination 2, mark 4, iif 8, oif 16, present 32.
    pub flags: u32,
}

/// A step of a rule. Registers are numbered in words of four bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Something about the packet.
    Meta {
        /// `NFT_META_*`
        key: u32,
        /// Where to.
        to: usize,
    },
    /// Something about its connection.
    Ct {
        /// `NFT_CT_*`
        key: u32,
        /// Original (0) or reply (1), where that makes a difference.
        direction: Option<u8>,
        /// Where to.
        to: usize,
    },
    /// Some of its bytes.
    Payload {
        /// From which header.
        base: PayloadBase,
        /// Bytes.
        offset: u32,
        /// Bytes.
        len: u32,
        /// Where to.
        to: usize,
    },
    /// What the routing table says of it.
    Fib {
        /// What is asked.
        fib: Fib,
        /// Where to.
        to: usize,
    },
    /// Something that cannot be known here.
    Unknown {
        /// What, in words.
        what: String,
        /// Where to.
        to: usize,
    },
    /// Compares.
    Cmp {
        /// Of which register.
        of: usize,
        /// How.
        order: Order,
        /// With what.
        with: Vec<u8>,
    },
    /// Compares with a range, both ends inclusive.
    Range {
        /// Of which register.
        of: usize,
        /// Whether it has to be outside.
        not: bool,
        /// First.
        first: Vec<u8>,
        /// Last.
        last: Vec<u8>,
    },
    /// `(x & mask) ^ xor`
    Bitwise {
        /// Of which register.
        of: usize,
        /// Where to.
        to: usize,
        /// Bits that stay.
        mask: Vec<u8>,
        /// Bits that are turned.
        xor: Vec<u8>,
    },
    /// Between host and network order, in units of so many bytes.
    Byteorder {
        /// Of which register.
        of: usize,
        /// Where to.
        to: usize,
        /// Bytes of a unit.
        size: usize,
        /// Bytes in all.
        len: usize,
    },
    /// Looks a key up in a set or map.
    Lookup {
        /// Its name.
        set: String,
        /// Where the key begins.
        of: usize,
        /// Whether it must not be there.
        not: bool,
        /// Where what a map leads to goes; absent for sets.
        to: Option<Target>,
    },
    /// A verdict, or a value for a register.
    Immediate {
        /// Where to.
        to: Target,
        /// What.
        data: Data,
    },
    /// A module of iptables that compares.
    Match {
        /// Its name.
        name: String,
        /// Its revision.
        revision: u32,
        /// Its settings, as the kernel has them.
        info: Vec<u8>,
    },
    /// A module of iptables that decides or changes.
    Module {
        /// Its name.
        name: String,
        /// Its settings, as the kernel has them.
        info: Vec<u8>,
    },
    /// A condition that holds, or does not, in the ordinary course of things: limits and quotas.
    Ordinarily(bool),
    /// The packet is refused with an answer.
    Reject,
    /// Its address is translated; this base chain is done with it.
    Nat,
    /// A program decides.
    Queue,
    /// Something is counted, recorded or changed that does not matter here.
    Nothing,
    /// The packet's mark is changed.
    SetsMark,
    /// An expression that is not known here.
    Other(String),
}

/// Where a value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The verdict.
    Verdict,
    /// A register.
    Register(usize),
}
