//! A zone with its responder and its clock, and the people in it.

use std::net::Ipv4Addr;

use dhcp::{
    Destination, HardwareAddress, Lease, Mac, Outcome, Reply, Responder, ServerConfig, Silence,
    Source,
};
use dhcproto::v4::{DhcpOption, Flags, HType, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Encodable};

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// When every story begins, in seconds since the epoch.
pub(crate) const START: u64 = 1_000_000;

/// An address of the zone.
pub(crate) const fn ip(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 89, 0, host)
}

/// The hardware address of machine number `n`.
pub(crate) const fn mac(n: u8) -> Mac {
    [2, 0, 0, 0, 0, n]
}

/// Zone "dmz", 10.89.0.0/24, without a pool.
pub(crate) fn config() -> ServerConfig {
    ServerConfig::new("dmz", SERVER, "10.89.0.0/24".parse().unwrap())
}

/// The same with a pool for guests.
pub(crate) fn config_with_pool(first: u8, last: u8) -> ServerConfig {
    ServerConfig {
        pool: Some((ip(first), ip(last))),
        ..config()
    }
}

/// A client's message being written.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    message: Message,
    source: Option<Ipv4Addr>,
    to: Ipv4Addr,
    zone: Option<&'static str>,
    hardware: Option<Mac>,
}

/// A message of `kind` from machine `n`, as it is sent on the link before it has an address.
pub(crate) fn says(n: u8, kind: MessageType) -> Said {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message =
        Message::new_with_id(0xabcd_0000 + u32::from(n), none, none, none, none, &mac(n));
    message.set_htype(HType::Eth);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    Said {
        message,
        source: None,
        to: Ipv4Addr::BROADCAST,
        zone: Some("dmz"),
        hardware: None,
    }
}

pub(crate) fn discover(n: u8) -> Said {
    says(n, MessageType::Discover)
}

/// Table 4: it chose our offer.
pub(crate) fn selecting(n: u8, address: Ipv4Addr) -> Said {
    says(n, MessageType::Request)
        .server(SERVER)
        .requested(address)
}

/// Table 4: it remembers an address.
pub(crate) fn init_reboot(n: u8, address: Ipv4Addr) -> Said {
    says(n, MessageType::Request).requested(address)
}

/// Table 4: past T1.
pub(crate) fn renewing(n: u8, address: Ipv4Addr) -> Said {
    says(n, MessageType::Request).ciaddr(address).to(SERVER)
}

/// Table 4: past T2.
pub(crate) fn rebinding(n: u8, address: Ipv4Addr) -> Said {
    says(n, MessageType::Request).ciaddr(address)
}

pub(crate) fn decline(n: u8, address: Ipv4Addr) -> Said {
    says(n, MessageType::Decline)
        .server(SERVER)
        .requested(address)
}

pub(crate) fn release(n: u8, address: Ipv4Addr) -> Said {
    says(n, MessageType::Release)
        .server(SERVER)
        .ciaddr(address)
        .to(SERVER)
}

pub(crate) fn inform(n: u8, address: Ipv4Addr) -> Said {
    says(n, MessageType::Inform).ciaddr(address)
}

impl Said {
    pub(crate) fn with(mut self, option: DhcpOption) -> Self {
        self.message.opts_mut().insert(option);
        self
    }
    pub(crate) fn server(self, server: Ipv4Addr) -> Self {
        self.with(DhcpOption::ServerIdentifier(server))
    }
    pub(crate) fn requested(self, address: Ipv4Addr) -> Self {
        self.with(DhcpOption::RequestedIpAddress(address))
    }
    pub(crate) fn client_id(self, id: &[u8]) -> Self {
        self.with(DhcpOption::ClientIdentifier(id.to_vec()))
    }
    pub(crate) fn asks_for(self, codes: &[u8]) -> Self {
        let codes = codes.iter().map(|code| OptionCode::from(*code)).collect();
        self.with(DhcpOption::ParameterRequestList(codes))
    }
    pub(crate) fn ciaddr(mut self, address: Ipv4Addr) -> Self {
        self.message.set_ciaddr(address);
        self
    }
    pub(crate) fn giaddr(mut self, address: Ipv4Addr) -> Self {
        self.message.set_giaddr(address);
        self
    }
    pub(crate) fn broadcast(mut self) -> Self {
        self.message.set_flags(Flags::default().set_broadcast());
        self
    }
    /// UDP destination; broadcast if not said.
    pub(crate) fn to(mut self, address: Ipv4Addr) -> Self {
        self.to = address;
        self
    }
    /// UDP source; `ciaddr` if not said.
    pub(crate) fn source(mut self, address: Ipv4Addr) -> Self {
        self.source = Some(address);
        self
    }
    pub(crate) fn zone(mut self, zone: Option<&'static str>) -> Self {
        self.zone = zone;
        self
    }
    pub(crate) fn hardware(mut self, mac: Mac) -> Self {
        self.hardware = Some(mac);
        self
    }
    /// Through the relay agent at `agent`.
    pub(crate) fn through(self, agent: Ipv4Addr) -> Self {
        self.giaddr(agent).source(agent).to(SERVER)
    }
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.message.to_vec().unwrap()
    }
    pub(crate) fn from(&self) -> Source<'static> {
        Source {
            address: self.source.unwrap_or(self.message.ciaddr()),
            to: self.to,
            zone: self.zone,
            hardware: self.hardware,
        }
    }
}

/// The zone and its clock.
pub(crate) struct World {
    pub(crate) dhcp: Responder,
    pub(crate) now: u64,
}

impl World {
    pub(crate) fn new(config: ServerConfig) -> Self {
        Self {
            dhcp: Responder::new(config).unwrap(),
            now: START,
        }
    }

    /// Two attached machines: 1 is "web" at .2, 2 is "db" at .3.
    pub(crate) fn with_web_and_db(config: ServerConfig) -> Self {
        let mut world = Self::new(config);
        world.dhcp.bind(mac(1), ip(2), Some("web".into())).unwrap();
        world.dhcp.bind(mac(2), ip(3), Some("db".into())).unwrap();
        world
    }

    pub(crate) fn outcome(&mut self, said: &Said) -> Outcome {
        self.dhcp.handle(self.now, &said.bytes(), said.from())
    }

    /// What is sent at once.
    pub(crate) fn told(&mut self, said: &Said) -> Told {
        match self.outcome(said) {
            Outcome::Send(reply) => Told::new(reply, self.dhcp.config().server),
            other => panic!("{said:?} → {other:?}"),
        }
    }

    /// What is sent once the lease is durable, and that lease.
    pub(crate) fn granted(&mut self, said: &Said) -> (Lease, Told) {
        match self.outcome(said) {
            Outcome::Commit { lease, then } => (lease, Told::new(then, self.dhcp.config().server)),
            other => panic!("{said:?} → {other:?}"),
        }
    }

    /// What is only recorded.
    pub(crate) fn recorded(&mut self, said: &Said) -> Lease {
        match self.outcome(said) {
            Outcome::Record(lease) => lease,
            other => panic!("{said:?} → {other:?}"),
        }
    }

    /// Why nothing is sent.
    pub(crate) fn silence(&mut self, said: &Said) -> Silence {
        match self.outcome(said) {
            Outcome::Ignore(silence) => silence,
            other => panic!("{said:?} → {other:?}"),
        }
    }

    /// DISCOVER, OFFER, REQUEST, ACK; the address got.
    pub(crate) fn gets_address(&mut self, n: u8) -> Ipv4Addr {
        let offer = self.told(&discover(n));
        assert_eq!(offer.kind(), MessageType::Offer);
        let (lease, ack) = self.granted(&selecting(n, offer.yiaddr()));
        assert_eq!(ack.kind(), MessageType::Ack);
        assert_eq!(lease.address, ack.yiaddr());
        ack.yiaddr()
    }

    /// The clock moves on, and the caller wakes the responder whenever it asked for it.
    pub(crate) fn pass(&mut self, seconds: u64) -> Vec<Lease> {
        let end = self.now + seconds;
        let mut ended = Vec::new();
        while let Some(at) = self.dhcp.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            ended.extend(self.dhcp.expire(self.now));
        }
        self.now = end;
        ended
    }

    /// `mac address state` of every lease.
    pub(crate) fn leases(&self) -> Vec<String> {
        let show = |lease: &Lease| {
            let mac = HardwareAddress(lease.mac);
            format!("{mac} {} {:?}", lease.address, lease.state)
        };
        self.dhcp.leases().map(show).collect()
    }
}

/// A reply as the client reads it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) message: Message,
    pub(crate) bytes: Vec<u8>,
    pub(crate) to: Destination,
}

impl Told {
    pub(crate) fn new(reply: Reply, server: Ipv4Addr) -> Self {
        assert_eq!(reply.from, server);
        assert!(reply.bytes.len() >= 300, "shorter than BOOTP");
        let message = Message::from_bytes(&reply.bytes).unwrap();
        Self {
            message,
            bytes: reply.bytes,
            to: reply.to,
        }
    }
    pub(crate) fn kind(&self) -> MessageType {
        self.message.opts().msg_type().unwrap()
    }
    pub(crate) fn yiaddr(&self) -> Ipv4Addr {
        self.message.yiaddr()
    }
    pub(crate) fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }
    /// The codes of all options in the order they were sent, read from the bytes.
    pub(crate) fn order(&self) -> Vec<u8> {
        let mut codes = Vec::new();
        let mut rest = &self.bytes[240..];
        while let [code, len, tail @ ..] = rest {
            if *code == 255 {
                break;
            }
            codes.push(*code);
            rest = &tail[usize::from(*len)..];
        }
        codes
    }
}
