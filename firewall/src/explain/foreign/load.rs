//! What an expression loads of a packet. Numbers: `linux/netfilter/nf_tables.h`, `nf_conntrack_common.h`.

use std::net::IpAddr;

use super::expression::{Base, Fib, Hook, PayloadBase};
use super::packet::{Addr, Head, Journey, Layer, Link, Passage, Turn};
use super::value::{Byte, Value};
use crate::sets::Family;

/// Bytes of an interface's name in a register.
const IFNAMSIZ: usize = 16;
/// Priority up to which nothing is known of connections (`NF_IP_PRI_CONNTRACK`).
const CONNTRACK: i32 = -200;

/// The port of who opens a connection is one of many: it is what all of these are
/// (`net.ipv4.ip_local_port_range`), and equal to no port that a rule names.
pub(super) const EPHEMERAL: [u16; 3] = [32_768, 47_001, 60_999];

/// A packet at one point of its way, as one base chain sees it.
pub(super) struct View<'a> {
    pub(super) journey: &'a Journey,
    pub(super) passage: &'a Passage,
    pub(super) base: &'a Base,
    /// Whether some rule of another table changes marks.
    pub(super) marks_change: bool,
}

impl View<'_> {
    fn head(&self) -> &Head {
        self.passage.head(self.base.priority)
    }

    fn family(&self) -> Family {
        self.journey.packet.family
    }

    /// Whether connection tracking has seen the packet.
    fn tracked(&self) -> bool {
        !matches!(self.base.hook, Hook::Prerouting | Hook::Output)
            || self.base.priority > CONNTRACK && self.passage.layer == Layer::Ip
    }

    /// `meta KEY`. `None`: the packet has no such thing, and the rule does not match.
    pub(super) fn meta(&self, key: u32) -> Option<Value> {
        let (iif, oif) = (&self.passage.iif, &self.passage.oif);
        let v4 = self.family() == Family::V4;
        Some(match key {
            1 => {
                let ethertype: u16 = if v4 { 0x0800 } else { 0x86dd };
                Value::known("meta protocol", &ethertype.to_be_bytes())
            }
            3 if self.marks_change => Value::unknown("meta mark", 4),
            3 => {
                let marks: Vec<[u8; 4]> =
                    self.passage.marks.iter().map(|m| m.to_ne_bytes()).collect();
                Value::one_of("meta mark", marks.iter().map(<[u8; 4]>::as_slice))
            }
            4 => index("iif", iif),
            5 => index("oif", oif),
            6 => name("iifname", iif),
            7 => name("oifname", oif),
            12 => Value::known("meta nftrace", &[0]),
            15 => Value::known("meta nfproto", &[if v4 { 2 } else { 10 }]),
            16 => Value::known("meta l4proto", &[self.journey.packet.proto]),
            17 => name("ibrname", &self.bridge(iif)),
            18 => name("obrname", &self.bridge(oif)),
            // PACKET_HOST; of packets to a group nothing is asked here
            19 if self.passage.iif.is_some() => Value::known("meta pkttype", &[0]),
            25 => Value::known("meta secpath", &[0]),
            26 => kind("meta iifkind", iif),
            27 => kind("meta oifkind", oif),
            _ => {
                let (what, len) = meta_words(key);
                Value::unknown(what, len)
            }
        })
    }

    /// The bridge of a port, on the layer of bridges.
    fn bridge(&self, port: &Option<Link>) -> Option<Link> {
        port.as_ref().map(|_| Link::unknown())
    }

    /// `ct KEY`. `None`: there is no connection, and the rule does not match.
    pub(super) fn ct(&self, key: u32, direction: Option<u8>) -> Option<Value> {
        const INVALID: u32 = 1;
        const ESTABLISHED: u32 = 2;
        const NEW: u32 = 8;
        let packet = &self.journey.packet;
        if !self.tracked() {
            return (key == 0).then(|| Value::known("ct state", &INVALID.to_ne_bytes()));
        }
        let opener = packet.turn == Turn::First;
        let tuple = if direction == Some(1) {
            &packet.reply
        } else {
            &packet.original
        };
        let what = |name: &str| format!("ct {name}");
        Some(match key {
            0 => {
                let state = if opener { NEW } else { ESTABLISHED };
                Value::known(what("state"), &state.to_ne_bytes())
            }
            1 => {
                let reply = packet.turn == Turn::Answer;
                Value::known(what("direction"), &[u8::from(reply)])
            }
            2 => self.status(),
            3 => Value::unknown(what("mark"), 4),
            // no helper has been asked for
            7 => Value::known(
                what("l3proto"),
                &[if packet.family == Family::V4 { 2 } else { 10 }],
            ),
            10 => Value::known(what("protocol"), &[packet.proto]),
            8 | 19 | 21 => address(what("saddr"), tuple.src, packet.family)?,
            9 | 20 | 22 => address(what("daddr"), tuple.dst, packet.family)?,
            11 => port(what("proto-src"), tuple.sport),
            12 => port(what("proto-dst"), tuple.dport),
            // zone 0: nobody has put it into another
            17 => Value::known(what("zone"), &[0, 0]),
            _ => {
                let (name, len) = ct_words(key);
                Value::unknown(what(name), len)
            }
        })
    }

    /// `ct status`: which addresses are translated; the rest depends on the moment.
    fn status(&self) -> Value {
        const SNAT: u32 = 0x10;
        const DNAT: u32 = 0x20;
        let packet = &self.journey.packet;
        let translated = match self.base.hook {
            Hook::Prerouting | Hook::Output => self.base.priority > -100,
            _ => true,
        } || packet.turn != Turn::First;
        let dnat = if packet.dnat && translated { DNAT } else { 0 };
        // the source is translated last; before that it is not
        let snat = if packet.snat && packet.turn != Turn::First {
            SNAT
        } else {
            0
        };
        let (bits, known) = (dnat | snat, SNAT | DNAT);
        let bytes = bits.to_ne_bytes().into_iter().zip(known.to_ne_bytes());
        let bytes = bytes.map(|(value, known)| Byte::bits(value, known));
        Value::new("ct status", bytes.collect())
    }

    /// Bytes of a header.
    pub(super) fn payload(&self, base: PayloadBase, offset: u32, len: u32) -> Option<Value> {
        let (offset, len) = (offset as usize, len as usize);
        let end = offset.checked_add(len)?;
        let (what, headers) = match base {
            PayloadBase::Network => ("ip", vec![self.network()]),
            PayloadBase::Transport => ("", EPHEMERAL.map(|port| self.transport(port)).to_vec()),
            PayloadBase::Link => ("ether", vec![self.link()]),
            PayloadBase::Inner => ("payload", vec![Vec::new()]),
        };
        let bytes = |header: &Vec<Byte>| {
            let byte = |at| header.get(at).copied().unwrap_or(Byte::UNKNOWN);
            (offset..end).map(byte).collect()
        };
        let cases = headers.iter().map(bytes).collect();
        let what = match (base, self.family(), offset) {
            (PayloadBase::Network, Family::V4, 12..16) => "ip saddr".to_owned(),
            (PayloadBase::Network, Family::V4, 16..20) => "ip daddr".to_owned(),
            (PayloadBase::Network, Family::V6, 8..24) => "ip6 saddr".to_owned(),
            (PayloadBase::Network, Family::V6, 24..40) => "ip6 daddr".to_owned(),
            (PayloadBase::Transport, _, 0) => "the source port".to_owned(),
            (PayloadBase::Transport, _, 2) => "the destination port".to_owned(),
            _ if what.is_empty() => format!("byte {offset} of the transport header"),
            _ => format!("byte {offset} of the {what} header"),
        };
        Some(Value::of_cases(what, cases))
    }

    fn link(&self) -> Vec<Byte> {
        let mut header = vec![Byte::UNKNOWN; 14];
        let ethertype: u16 = match self.family() {
            Family::V4 => 0x0800,
            Family::V6 => 0x86dd,
        };
        for (n, byte) in ethertype.to_be_bytes().into_iter().enumerate() {
            header[12 + n] = Byte::known(byte);
        }
        header
    }

    fn network(&self) -> Vec<Byte> {
        let head = self.head();
        let proto = Byte::known(self.journey.packet.proto);
        let bytes = |address| address_bytes(address, self.family()).unwrap_or_default();
        let mut header = match self.family() {
            Family::V4 => vec![Byte::UNKNOWN; 12],
            Family::V6 => vec![Byte::UNKNOWN; 8],
        };
        match self.family() {
            Family::V4 => {
                header[0] = Byte::bits(0x40, 0xf0);
                header[9] = proto;
            }
            Family::V6 => {
                header[0] = Byte::bits(0x60, 0xf0);
                header[6] = proto;
            }
        }
        header.extend(bytes(head.src));
        header.extend(bytes(head.dst));
        header
    }

    fn transport(&self, ephemeral: u16) -> Vec<Byte> {
        let packet = &self.journey.packet;
        let head = self.head();
        if let Some(kind) = packet.icmp {
            return vec![Byte::known(kind), Byte::known(0)];
        }
        if !crate::policy::has_ports(packet.proto) {
            return Vec::new();
        }
        let mut header: Vec<Byte> = [head.sport, head.dport]
            .into_iter()
            .flat_map(|port| port.unwrap_or(ephemeral).to_be_bytes())
            .map(Byte::known)
            .collect();
        if packet.proto == 6 {
            header.resize(13, Byte::UNKNOWN);
            // FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32
            header.push(match packet.turn {
                Turn::First => Byte::bits(0x02, 0x3f),
                Turn::Answer => Byte::bits(0x12, 0x3f),
                Turn::Next => Byte::bits(0x10, 0x37),
            });
        }
        header
    }

    /// `fib …`
    pub(super) fn fib(&self, fib: Fib) -> Option<Value> {
        const SADDR: u32 = 1;
        const ADDRTYPE: u32 = 3;
        const PRESENT: u32 = 32;
        let head = self.head();
        let (what, asked) = if fib.flags & SADDR != 0 {
            ("fib saddr", head.src)
        } else {
            ("fib daddr", head.dst)
        };
        let kind = match (fib.result, asked) {
            (ADDRTYPE, Addr::Is(address)) => address_type(self, address),
            (ADDRTYPE, Addr::Unnamed) => UNICAST,
            // that there is a way back is taken for granted: packets would not come otherwise
            (_, Addr::Is(_) | Addr::Unnamed) if fib.flags & PRESENT != 0 => {
                return Some(Value::known(what, &[1]));
            }
            (1, Addr::Is(_) | Addr::Unnamed) => return Some(Value::unnamed(what, 4)),
            (2, Addr::Is(_) | Addr::Unnamed) => return Some(Value::unnamed(what, IFNAMSIZ)),
            (2, Addr::Unknown) => return Some(Value::unknown(what, IFNAMSIZ)),
            _ => return Some(Value::unknown(what, 4)),
        };
        Some(Value::known(what, &kind.to_ne_bytes()))
    }

    /// Kinds of source and destination, as the routing table has them.
    pub(super) fn address_types(&self) -> [Option<u32>; 2] {
        let head = self.head();
        [head.src, head.dst].map(|address| match address {
            Addr::Is(address) => Some(address_type(self, address)),
            Addr::Unnamed => Some(UNICAST),
            Addr::Unknown => None,
        })
    }

    /// Source and destination port.
    pub(super) fn ports(&self) -> [Option<u16>; 2] {
        [self.head().sport, self.head().dport]
    }

    /// The connection's state as iptables' `conntrack` numbers it; nothing where it is not tracked.
    pub(super) fn xt_state(&self) -> u16 {
        const INVALID: u16 = 1;
        const ESTABLISHED: u16 = 2;
        const NEW: u16 = 8;
        match self.journey.packet.turn {
            _ if !self.tracked() => INVALID,
            Turn::First => NEW,
            _ => ESTABLISHED,
        }
    }
}

/// RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST
const UNICAST: u32 = 1;

fn address_type(view: &View<'_>, address: IpAddr) -> u32 {
    if view.journey.packet.is_local(address) {
        2
    } else if address.is_multicast() {
        5
    } else if address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        3
    } else {
        UNICAST
    }
}

fn index(what: &str, link: &Option<Link>) -> Value {
    match link {
        None => Value::known(what, &[0; 4]),
        Some(Link {
            index: Some(index), ..
        }) => Value::known(what, &index.to_ne_bytes()),
        Some(_) => Value::unknown(what, 4),
    }
}

fn name(what: &str, link: &Option<Link>) -> Value {
    let name = match link {
        None => "",
        Some(Link {
            name: Some(name), ..
        }) => name,
        Some(_) => return Value::unknown(what, IFNAMSIZ),
    };
    padded(what, name)
}

fn kind(what: &str, link: &Option<Link>) -> Value {
    match link {
        None => padded(what, ""),
        Some(Link {
            kind: Some(kind), ..
        }) => padded(what, kind),
        Some(_) => Value::unknown(what, IFNAMSIZ),
    }
}

fn padded(what: &str, text: &str) -> Value {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(IFNAMSIZ, 0);
    Value::known(what, &bytes)
}

fn address_bytes(address: Addr, family: Family) -> Option<Vec<Byte>> {
    let len = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    Some(match address {
        Addr::Is(IpAddr::V4(a)) if len == 4 => a.octets().map(Byte::known).to_vec(),
        Addr::Is(IpAddr::V6(a)) if len == 16 => a.octets().map(Byte::known).to_vec(),
        Addr::Is(_) => return None,
        Addr::Unnamed => vec![Byte::UNNAMED; len],
        Addr::Unknown => vec![Byte::UNKNOWN; len],
    })
}

fn address(what: String, address: Addr, family: Family) -> Option<Value> {
    Some(Value::new(what, address_bytes(address, family)?))
}

fn port(what: String, port: Option<u16>) -> Value {
    match port {
        Some(port) => Value::known(what, &port.to_be_bytes()),
        None => {
            let ports = EPHEMERAL.map(u16::to_be_bytes);
            Value::one_of(what, ports.iter().map(<[u8; 2]>::as_slice))
        }
    }
}

/// Name and length of what is not known of a packet.
fn meta_words(key: u32) -> (String, usize) {
    let (name, len) = match key {
        0 => ("length", 4),
        2 => ("priority", 4),
        8 => ("iiftype", 2),
        9 => ("oiftype", 2),
        10 => ("skuid", 4),
        11 => ("skgid", 4),
        13 => ("rtclassid", 4),
        14 => ("secmark", 4),
        19 => ("pkttype", 1),
        20 => ("cpu", 4),
        21 => ("iifgroup", 4),
        22 => ("oifgroup", 4),
        23 => ("cgroup", 4),
        24 => ("random", 4),
        30 => ("time", 8),
        31 => ("day", 1),
        32 => ("hour", 4),
        other => return (format!("meta {other}"), 4),
    };
    (format!("meta {name}"), len)
}

fn ct_words(key: u32) -> (&'static str, usize) {
    match key {
        4 => ("secmark", 4),
        5 => ("expiration", 4),
        6 => ("helper", 16),
        13 => ("label", 16),
        14 => ("packets", 8),
        15 => ("bytes", 8),
        16 => ("avgpkt", 8),
        23 => ("id", 4),
        _ => ("data", 4),
    }
}
