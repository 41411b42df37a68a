//! A zone with its responder, the people in it, and answers in words.

use std::net::Ipv6Addr;

use dhcp::v6::wire::{kind, option};
use dhcp::v6::{ALL_SERVERS, Binding, Config, Lease, Outcome, Responder, Silence, Source};
use dhcp::{Mac, State};
use dhcproto::v6::{DhcpOption, DhcpOptions, Message, MessageType, Status};
use dhcproto::{Decodable, Decoder};
use ipnet::Ipv6Net;

/// When every story begins, in seconds since the epoch.
pub(crate) const START: u64 = 1_000_000;
pub(crate) const SERVER: [u8; 6] = [0, 4, 1, 2, 3, 4];

/// An address of the zone.
pub(crate) fn ip(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host)
}

/// The hardware address of machine number `n`.
pub(crate) const fn mac(n: u8) -> Mac {
    [2, 0, 0, 0, 0, n]
}

pub(crate) fn link_local(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, n.into())
}

/// Zone "dmz", fd00::/64, without a pool.
pub(crate) fn config() -> Config {
    Config {
        dns: vec!["fd00::1".parse().unwrap()],
        search: vec!["dmz.internal".into()],
        ..Config::new("dmz", SERVER, "fd00::/64".parse().unwrap())
    }
}

pub(crate) fn attached(config: Config, machines: &[u8]) -> Responder {
    let mut responder = Responder::new(config).unwrap();
    for n in machines {
        responder.bind(mac(*n), binding(*n)).unwrap();
    }
    responder
}

/// Machine n has fd00::n.
pub(crate) fn binding(n: u8) -> Binding {
    Binding {
        address: ip(n.into()),
        prefix: None,
    }
}

/// A message being written.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) n: u8,
    pub(crate) bytes: Vec<u8>,
    pub(crate) to: Ipv6Addr,
    pub(crate) from: Ipv6Addr,
}

fn raw(code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = code.to_be_bytes().to_vec();
    bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// A message of a kind from machine `n`, without options.
pub(crate) fn bare(n: u8, kind: u8) -> Said {
    Said {
        n,
        bytes: vec![kind, 0xab, 0xcd, n],
        to: ALL_SERVERS,
        from: link_local(n),
    }
}

/// The same with the client's identifier and, where that kind must have it, the server's.
pub(crate) fn says(n: u8, what: u8) -> Said {
    let said = bare(n, what).option(option::CLIENT_ID, &duid(n));
    match what {
        kind::REQUEST | kind::RENEW | kind::RELEASE | kind::DECLINE => {
            said.option(option::SERVER_ID, &SERVER)
        }
        _ => said,
    }
}

pub(crate) fn duid(n: u8) -> [u8; 10] {
    [0, 3, 0, 1, 2, 0, 0, 0, 0, n]
}

impl Said {
    pub(crate) fn option(mut self, code: u16, value: &[u8]) -> Self {
        self.bytes.extend(raw(code, value));
        self
    }

    /// An IA_NA with addresses.
    pub(crate) fn na(self, iaid: u32, addresses: &[Ipv6Addr]) -> Self {
        let mut value = iaid.to_be_bytes().to_vec();
        value.extend_from_slice(&[0; 8]);
        for address in addresses {
            let mut inner = address.octets().to_vec();
            inner.extend_from_slice(&[0; 8]);
            value.extend(raw(option::IA_ADDR, &inner));
        }
        self.option(option::IA_NA, &value)
    }

    /// An IA_PD with prefixes.
    pub(crate) fn pd(self, iaid: u32, prefixes: &[&str]) -> Self {
        let mut value = iaid.to_be_bytes().to_vec();
        value.extend_from_slice(&[0; 8]);
        for prefix in prefixes {
            let net: Ipv6Net = prefix.parse().unwrap();
            let mut inner = vec![0; 8];
            inner.push(net.prefix_len());
            inner.extend_from_slice(&net.addr().octets());
            value.extend(raw(option::IA_PREFIX, &inner));
        }
        self.option(option::IA_PD, &value)
    }

    pub(crate) fn asks(self, codes: &[u16]) -> Self {
        let value: Vec<u8> = codes.iter().flat_map(|c| c.to_be_bytes()).collect();
        self.option(option::ORO, &value)
    }

    pub(crate) fn rapid(self) -> Self {
        self.option(option::RAPID_COMMIT, &[])
    }

    pub(crate) fn unicast(mut self) -> Self {
        self.to = ip(1);
        self
    }

    /// Through a relay agent, with its address of the client's link.
    pub(crate) fn relayed(mut self, link: Ipv6Addr, hops: u8, interface: Option<&[u8]>) -> Self {
        let mut outer = vec![kind::RELAY_FORW, hops];
        outer.extend_from_slice(&link.octets());
        outer.extend_from_slice(&self.from.octets());
        if let Some(interface) = interface {
            outer.extend(raw(option::INTERFACE_ID, interface));
        }
        outer.extend(raw(option::RELAY_MSG, &self.bytes));
        self.bytes = outer;
        self.from = "fd00::99".parse().unwrap();
        self
    }

    pub(crate) fn source(&self) -> Source<'static> {
        Source {
            address: self.from,
            to: self.to,
            mac: mac(self.n),
            zone: Some("dmz"),
        }
    }

    pub(crate) fn to(&self, responder: &mut Responder, after: u64) -> Outcome {
        responder.handle(START + after, &self.bytes, self.source())
    }

    /// What it is answered with, in words.
    #[track_caller]
    pub(crate) fn told(&self, responder: &mut Responder, after: u64) -> String {
        match self.to(responder, after) {
            Outcome::Send(reply) => words(&reply.bytes),
            Outcome::Commit { leases, then } => {
                let leases: Vec<String> = leases.iter().map(lease_words).collect();
                format!("{} | {}", words(&then.bytes), leases.join(", "))
            }
            Outcome::Ignore(silence) => panic!("not answered: {silence}"),
        }
    }

    #[track_caller]
    pub(crate) fn silence(&self, responder: &mut Responder) -> Silence {
        match self.to(responder, 0) {
            Outcome::Ignore(silence) => silence,
            other => panic!("answered: {other:?}"),
        }
    }
}

pub(crate) fn lease_words(lease: &Lease) -> String {
    let state = match lease.state {
        State::Bound => "bound",
        State::Released => "released",
        State::Declined => "declined",
        State::Expired => "expired",
        State::Offered => "offered",
    };
    format!("{} {state} until +{}", lease.net, lease.expires - START)
}

/// `reply(NA 7: fd00::2 2700/3600) dns search`
pub(crate) fn words(bytes: &[u8]) -> String {
    let message = Message::decode(&mut Decoder::new(bytes)).unwrap();
    let kind = match message.msg_type() {
        MessageType::Advertise => "advertise",
        MessageType::Reply => "reply",
        other => panic!("{other:?}"),
    };
    let said = option_words(message.opts());
    format!("{kind} {said}").trim_end().to_owned()
}

fn option_words(options: &DhcpOptions) -> String {
    let words = options.iter().filter_map(|option| {
        Some(match option {
            DhcpOption::ClientId(_) => return None,
            DhcpOption::ServerId(duid) => {
                assert_eq!(duid, &SERVER);
                return None;
            }
            DhcpOption::Preference(n) => format!("preference {n}"),
            DhcpOption::RapidCommit => "rapid".into(),
            DhcpOption::StatusCode(status) => format!("{:?}", status.status),
            DhcpOption::IANA(ia) => {
                let times = times(ia.t1, ia.t2);
                format!("NA {}{times}({})", ia.id, option_words(&ia.opts))
            }
            DhcpOption::IATA(ia) => format!("TA {}({})", ia.id, option_words(&ia.opts)),
            DhcpOption::IAPD(ia) => {
                let times = times(ia.t1, ia.t2);
                format!("PD {}{times}({})", ia.id, option_words(&ia.opts))
            }
            DhcpOption::IAAddr(a) => {
                format!("{} {}/{}", a.addr, a.preferred_life, a.valid_life)
            }
            DhcpOption::IAPrefix(p) => format!(
                "{}/{} {}/{}",
                p.prefix_ip, p.prefix_len, p.preferred_lifetime, p.valid_lifetime
            ),
            DhcpOption::DomainNameServers(list) => format!("dns {list:?}"),
            DhcpOption::DomainSearchList(list) => format!("search {}", list[0]),
            DhcpOption::Unknown(option) if u16::from(option.code()) == 32 => {
                let seconds = u32::from_be_bytes(option.data().try_into().unwrap());
                format!("refresh {seconds}")
            }
            other => format!("{other:?}"),
        })
    });
    words.collect::<Vec<_>>().join(", ")
}

fn times(t1: u32, t2: u32) -> String {
    match (t1, t2) {
        (0, 0) => String::new(),
        times => format!(" T{times:?}"),
    }
}

/// The status within the only identity association of an answer.
pub(crate) fn has(words: &str, status: Status) -> bool {
    words.contains(&format!("{status:?}"))
}
