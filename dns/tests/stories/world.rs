//! Zones `dmz` (web, db) and `lab` (probe) on a virtual clock. Messages are written and read by another implementation,
//! hickory-proto.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

use dns::{
    Attempt, Client, Config, Container, Egress, Message as Out, Millis, Opens, Outcome, Policy,
    Progress, Resolver, Silence, Transport, UpstreamQuery, Zone,
};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

pub(crate) const FIRST: &str = "192.0.2.1:53";
pub(crate) const SECOND: &str = "192.0.2.2:53";

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn server(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) struct World {
    pub(crate) dns: Resolver<u32>,
    pub(crate) now: Millis,
    pub(crate) policy: Policies,
    tickets: u32,
}

#[derive(Default)]
pub(crate) struct Policies {
    /// Who may learn of whom in another zone.
    pub(crate) reach: Vec<(&'static str, &'static str)>,
    /// What `web` may ask; everybody else may ask everything.
    web: Option<Egress>,
}

impl Policy for Policies {
    fn reaches(&mut self, asker: &str, other: &str) -> bool {
        self.reach.contains(&(asker, other))
    }

    fn egress(&mut self, container: &str) -> Arc<Egress> {
        let web = self.web.clone().filter(|_| container == "web");
        Arc::new(web.unwrap_or_else(Egress::everything))
    }
}

pub(crate) fn zone(name: &str, third: u8) -> Zone {
    Zone {
        name: name.into(),
        domain: format!("{name}.internal").parse().unwrap(),
        gateways: vec![
            ip(&format!("10.89.{third}.1")),
            ip(&format!("fd00:{third}::1")),
        ],
        subnets: vec![
            format!("10.89.{third}.0/24").parse().unwrap(),
            format!("fd00:{third}::/64").parse().unwrap(),
        ],
        upstream: vec![],
        domains: vec![],
    }
}

pub(crate) fn container(name: &str, zone: &str, third: u8, n: u8) -> Container {
    Container {
        name: name.into(),
        zone: zone.into(),
        hostnames: vec![name.into()],
        addresses: vec![
            ip(&format!("10.89.{third}.{n}")),
            ip(&format!("fd00:{third}::{n}")),
        ],
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        // numbers as random as a test needs, and the same each time
        let state = Rc::new(Cell::new(0x9e37_79b9_7f4a_7c15_u64));
        let random = move || {
            let mut x = state.get();
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            state.set(x);
            x
        };
        let mut dns = Resolver::new(config, Box::new(random));
        dns.set_upstream(vec![server(FIRST), server(SECOND)]);
        dns.set_zone(zone("dmz", 0));
        dns.set_zone(zone("lab", 1));
        let mut world = Self {
            dns,
            now: 1_000_000,
            policy: Policies::default(),
            tickets: 0,
        };
        world.attach(container("web", "dmz", 0, 2));
        world.attach(container("db", "dmz", 0, 3));
        world.attach(container("probe", "lab", 1, 2));
        world
    }

    pub(crate) fn attach(&mut self, container: Container) {
        self.dns.attach(self.now, container).unwrap();
    }

    /// `web` of the dmz gets another policy.
    pub(crate) fn egress(&mut self, egress: Egress) {
        self.policy.web = Some(egress);
    }

    pub(crate) fn send(&mut self, from: Client<'_>, bytes: &[u8]) -> (u32, Outcome) {
        self.tickets += 1;
        let outcome = self
            .dns
            .handle(self.now, from, &self.tickets, bytes, &mut self.policy);
        (self.tickets, outcome)
    }

    /// `web` asks.
    pub(crate) fn ask(&mut self, name: &str, kind: RecordType) -> Asked {
        self.ask_as(WEB, question(name, kind))
    }

    pub(crate) fn ask_as(&mut self, from: Client<'_>, message: Message) -> Asked {
        let (ticket, outcome) = self.send(from, &message.to_vec().unwrap());
        Asked {
            ticket,
            message,
            over: from.over,
            outcome,
        }
    }

    /// The answer to what `web` asks, which must come at once.
    pub(crate) fn answer(&mut self, name: &str, kind: RecordType) -> Told {
        self.ask(name, kind).told()
    }

    /// The time passes, and the caller wakes the resolver whenever it asked for it.
    pub(crate) fn pass(&mut self, millis: Millis) -> Vec<(Millis, Progress<u32>)> {
        let end = self.now + millis;
        let mut happened = Vec::new();
        while let Some(at) = self.dns.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let due = self.dns.expire(self.now, &mut self.policy);
            happened.extend(due.into_iter().map(|progress| (self.now, progress)));
        }
        self.now = end;
        assert_eq!(
            self.dns.expire(self.now, &mut self.policy),
            [],
            "an early call does nothing"
        );
        happened
    }

    /// An upstream server answers.
    pub(crate) fn says(&mut self, query: &UpstreamQuery, answer: &Message) -> Progress<u32> {
        self.says_bytes(query.attempt, &answer.to_vec().unwrap())
    }

    pub(crate) fn says_bytes(&mut self, attempt: Attempt, bytes: &[u8]) -> Progress<u32> {
        self.dns
            .upstream(self.now, attempt, bytes, &mut self.policy)
    }

    /// An upstream server cannot be reached.
    pub(crate) fn fails(&mut self, query: &UpstreamQuery) -> Progress<u32> {
        self.dns
            .upstream_failed(self.now, query.attempt, &mut self.policy)
    }
}

pub(crate) const WEB: Client<'static> = Client {
    zone: "dmz",
    address: IpAddr::V4(std::net::Ipv4Addr::new(10, 89, 0, 2)),
    over: Transport::Udp,
};

pub(crate) const DB: Client<'static> = Client {
    zone: "dmz",
    address: IpAddr::V4(std::net::Ipv4Addr::new(10, 89, 0, 3)),
    over: Transport::Udp,
};

pub(crate) const PROBE: Client<'static> = Client {
    zone: "lab",
    address: IpAddr::V4(std::net::Ipv4Addr::new(10, 89, 1, 2)),
    over: Transport::Udp,
};

/// A query of a plain client.
pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

/// The same with EDNS.
pub(crate) fn with_edns(mut message: Message, size: u16, dnssec: bool) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size).set_dnssec_ok(dnssec);
    message.set_edns(edns);
    message
}

/// `www.example.org 300 A 192.0.2.7`
pub(crate) fn record(text: &str) -> Record {
    let mut words = text.splitn(4, ' ');
    let mut next = || words.next().unwrap();
    let mut name = Name::from_ascii(next()).unwrap();
    name.set_fqdn(true);
    let ttl = next().parse().unwrap();
    let kind = RecordType::from_str(next()).unwrap();
    let data = RData::try_from_str(kind, next()).unwrap();
    Record::from_rdata(name, ttl, data)
}

/// What an upstream server answers: its records, and an SOA in the authority section where that begins with `!`.
pub(crate) fn answer_to(query: &UpstreamQuery, code: ResponseCode, records: &[&str]) -> Message {
    let asked = Message::from_vec(&query.bytes).unwrap();
    let mut message = Message::response(asked.metadata.id, OpCode::Query);
    message.metadata.response_code = code;
    message.metadata.recursion_available = true;
    message.add_queries(asked.queries.clone());
    for text in records {
        match text.strip_prefix('!') {
            None => message.add_answer(record(text)),
            Some(text) => message.add_authority(record(text)),
        };
    }
    if asked.edns.is_some() {
        message.set_edns(Edns::new());
    }
    message
}

/// A query and what became of it.
pub(crate) struct Asked {
    pub(crate) ticket: u32,
    message: Message,
    over: Transport,
    pub(crate) outcome: Outcome,
}

impl Asked {
    pub(crate) fn told(&self) -> Told {
        match &self.outcome {
            Outcome::Answer(out) => self.read(out),
            other => panic!("{:?}: {other:?}", self.message.queries),
        }
    }

    /// Reads a message as who asked, with the checks that a client makes.
    pub(crate) fn read(&self, out: &Out) -> Told {
        let message = Message::from_vec(&out.bytes).unwrap();
        assert_eq!(message.metadata.id, self.message.metadata.id);
        assert_eq!(message.metadata.message_type, MessageType::Response);
        assert!(message.metadata.recursion_available);
        if !message.queries.is_empty() {
            let (asked, told) = (&self.message.queries[0], &message.queries[0]);
            assert!(asked.name().eq_case(told.name()), "{asked:?} {told:?}");
            assert_eq!(asked.query_type(), told.query_type());
        }
        assert_eq!(message.edns.is_some(), self.message.edns.is_some());
        let room = match (self.over, &self.message.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => 512,
            (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().clamp(512, 1232)),
        };
        assert!(out.bytes.len() <= room, "{} bytes", out.bytes.len());
        Told {
            message,
            opens: out.opens.clone(),
        }
    }

    pub(crate) fn upstream(&self) -> &UpstreamQuery {
        match &self.outcome {
            Outcome::Ask(query) => query,
            other => panic!("{:?}: {other:?}", self.message.queries),
        }
    }

    pub(crate) fn silence(&self) -> Silence {
        match self.outcome {
            Outcome::Ignore(silence) => silence,
            ref other => panic!("{:?}: {other:?}", self.message.queries),
        }
    }

    /// What this client gets of what happened.
    pub(crate) fn in_reply(&self, progress: &Progress<u32>) -> Told {
        let Progress::Done { replies, .. } = progress else {
            panic!("{:?}: {progress:?}", self.message.queries);
        };
        let reply = replies.iter().find(|reply| reply.to == self.ticket);
        self.read(&reply.unwrap().message)
    }
}

/// An answer as the client reads it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) message: Message,
    pub(crate) opens: Option<Opens>,
}

impl Told {
    pub(crate) fn code(&self) -> ResponseCode {
        self.message.metadata.response_code
    }

    /// `A 10.89.0.2`, sorted.
    pub(crate) fn answers(&self) -> Vec<String> {
        let show = |r: &Record| format!("{} {}", r.record_type(), r.data);
        let mut all: Vec<String> = self.message.answers.iter().map(show).collect();
        all.sort();
        all
    }

    /// The owner of the SOA of a "no".
    pub(crate) fn soa(&self) -> Option<String> {
        let mut all = self.message.authorities.iter();
        let soa = all.find(|r| r.record_type() == RecordType::SOA)?;
        assert_eq!(soa.dns_class, DNSClass::IN);
        Some(soa.name.to_ascii())
    }

    pub(crate) fn ttls(&self) -> Vec<u32> {
        let all = self.message.answers.iter().chain(&self.message.authorities);
        all.map(|r| r.ttl).collect()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        let opened = self.opens.iter().flat_map(|opens| &opens.addresses);
        opened.map(|(ip, ttl)| format!("{ip} {ttl}")).collect()
    }
}
