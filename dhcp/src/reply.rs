//! Replies: fields and options by RFC 2131 table 3, destination by §4.1.

use std::net::Ipv4Addr;

use crate::config::ServerConfig;
use crate::error::Error;
use crate::fqdn::Fqdn;
use crate::frame::{Endpoint, udp_frame};
use crate::lease::Mac;
use crate::options::OptionTable;
use crate::request::Query;
use crate::silence::Silence;
use crate::wire::{self, BROADCAST, Header, code};
use crate::{CLIENT_PORT, SERVER_PORT};

/// What a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// DHCPOFFER
    Offer,
    /// DHCPACK
    Ack,
    /// DHCPNAK
    Nak,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Offer => 2,
            Self::Ack => 5,
            Self::Nak => 6,
        }
    }
}

/// A message ready to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it is, for logs and counters.
    pub kind: Kind,
    /// The UDP payload, at least 300 bytes: old clients and relays drop what is shorter than BOOTP.
    pub bytes: Vec<u8>,
    /// The server's address, to be the IP source.
    pub from: Ipv4Addr,
    /// Where it goes.
    pub to: Destination,
}

/// Where a reply goes (RFC 2131 §4.1). The source port is 67 in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Port 68 of an address the client does not answer ARP for yet, so in a frame of our making.
    Unicast {
        /// The address being given (`yiaddr`).
        ip: Ipv4Addr,
        /// The client.
        mac: Mac,
    },
    /// Port 68 of 255.255.255.255, since the client cannot receive anything else yet. It is meant
    /// for one machine, and a frame to all ports would tell everybody of its lease, so the frame
    /// goes to `mac` alone: clients look at the IP destination.
    Broadcast {
        /// The client.
        mac: Mac,
    },
    /// Port 67 of a relay agent (`giaddr`).
    Relay {
        /// The agent's address.
        ip: Ipv4Addr,
        /// The agent itself, where it is an attached machine; else only routing knows.
        mac: Option<Mac>,
    },
    /// Port 68 of an address the client uses already (`ciaddr`): by routing, or in a frame to `mac`.
    Client {
        /// The client's address.
        ip: Ipv4Addr,
        /// The client.
        mac: Mac,
    },
}

impl Destination {
    fn of(header: &Header, kind: Kind, yiaddr: Ipv4Addr) -> Self {
        let mac = header.chaddr;
        if header.is_relayed() {
            Self::Relay {
                ip: header.giaddr,
                mac: None,
            }
        } else if kind == Kind::Nak {
            // §4.1: in all cases, when giaddr is zero, a DHCPNAK is broadcast
            Self::Broadcast { mac }
        } else if !header.ciaddr.is_unspecified() {
            let ip = header.ciaddr;
            Self::Client { ip, mac }
        } else if header.flags & BROADCAST != 0 || yiaddr.is_unspecified() {
            Self::Broadcast { mac }
        } else {
            Self::Unicast { ip: yiaddr, mac }
        }
    }

    /// The IP address and port.
    pub fn udp(&self) -> (Ipv4Addr, u16) {
        match *self {
            Self::Unicast { ip, .. } | Self::Client { ip, .. } => (ip, CLIENT_PORT),
            Self::Broadcast { .. } => (Ipv4Addr::BROADCAST, CLIENT_PORT),
            Self::Relay { ip, .. } => (ip, SERVER_PORT),
        }
    }

    /// The hardware address the frame goes to; `None` where only routing knows.
    pub fn mac(&self) -> Option<Mac> {
        match *self {
            Self::Unicast { mac, .. } | Self::Client { mac, .. } | Self::Broadcast { mac } => {
                Some(mac)
            }
            Self::Relay { mac, .. } => mac,
        }
    }
}

impl Reply {
    /// The whole Ethernet frame, from the hardware address `server` of the zone's own interface.
    /// `None` for a reply that must be routed, to a relay agent that is not attached.
    ///
    /// # Errors
    /// None for replies that this crate made: they fit.
    pub fn frame(&self, server: Mac) -> Result<Option<Vec<u8>>, Error> {
        let Some(mac) = self.to.mac() else {
            return Ok(None);
        };
        let (ip, port) = self.to.udp();
        let from = Endpoint {
            mac: server,
            ip: self.from,
            port: SERVER_PORT,
        };
        udp_frame(from, Endpoint { mac, ip, port }, &self.bytes).map(Some)
    }
}

/// What a reply says.
#[derive(Debug, Default)]
pub(crate) struct Content<'a> {
    pub(crate) yiaddr: Option<Ipv4Addr>,
    /// Lease time in seconds.
    pub(crate) lease: Option<u32>,
    /// The client's host name.
    pub(crate) hostname: Option<&'a str>,
    /// Why not.
    pub(crate) message: Option<&'a str>,
    /// Answers a DISCOVER that allowed for it (RFC 4039).
    pub(crate) rapid: bool,
    /// Whether the zone's resolver answers for `hostname`: it is the server's word, not the client's.
    pub(crate) served: bool,
}

/// Every client takes IP datagrams of 576 bytes (RFC 2131 §2).
const LEAST_DATAGRAM: usize = 576;
/// An IPv4 header without options, and a UDP header.
const IP_AND_UDP: usize = 28;
/// What BOOTP messages are long (RFC 951), so what old software insists on.
const BOOTP: usize = 300;

/// Writes a reply.
pub(crate) fn build(
    config: &ServerConfig,
    options: &OptionTable,
    query: &Query,
    kind: Kind,
    content: &Content<'_>,
) -> Result<Reply, Silence> {
    let asked = &query.header;
    let yiaddr = content.yiaddr.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let mut header = Header {
        op: 2,
        secs: 0,
        yiaddr,
        ..*asked
    };
    match kind {
        Kind::Ack => {}
        // table 3: ciaddr is zero in an OFFER and in a NAK
        Kind::Offer | Kind::Nak => header.ciaddr = Ipv4Addr::UNSPECIFIED,
    }
    if kind == Kind::Nak && asked.is_relayed() {
        // §4.3.2: so that the relay agent broadcasts it: the client's address may be wrong
        header.flags |= BROADCAST;
    }

    // RFC 3046 §2.2: relay information goes last, and back as it came
    let mut tail = Vec::new();
    if let Some(info) = octets(&query.options.relay_info) {
        wire::push_option(&mut tail, code::RELAY_INFO, info);
    }
    tail.push(code::END);
    let mut writer = Writer::new(&header, largest(config, query), tail.len());

    writer.must(code::MESSAGE_TYPE, &[kind.number()])?;
    writer.must(code::SERVER_ID, &config.server.octets())?;
    if let Some(seconds) = content.lease {
        writer.must(code::LEASE_TIME, &seconds.to_be_bytes())?;
        // §4.4.5: T1 is half the lease time, T2 seven eighths of it
        let (t1, t2) = (seconds / 2, seconds - seconds / 8);
        writer.must(code::T1, &t1.to_be_bytes())?;
        writer.must(code::T2, &t2.to_be_bytes())?;
    }
    // RFC 6842 §3: in every reply, if it was in the request
    if let Some(id) = octets(&query.options.client_id) {
        writer.must(code::CLIENT_ID, id)?;
    }
    if content.rapid {
        writer.must(code::RAPID_COMMIT, &[])?;
    }
    if let Some(message) = content.message {
        writer.must(code::MESSAGE, message.as_bytes())?;
    }
    if kind != Kind::Nak {
        // RFC 4702 §4: to those that sent it
        if let Some(fqdn) = octets(&query.options.fqdn).and_then(Fqdn::read) {
            let name = full_name(config, content.hostname.unwrap_or(&fqdn.name));
            writer.may(&fqdn.answer(&name, content.served));
        }
        let mut own = Vec::new();
        if let Some(hostname) = content.hostname {
            wire::push_option(&mut own, code::HOST_NAME, hostname.as_bytes());
        }
        let own = Some((code::HOST_NAME, &own[..])).filter(|(_, encoded)| !encoded.is_empty());
        options.walk(octets(&query.options.parameters), own, |encoded| {
            writer.may(encoded);
        });
    }
    Ok(Reply {
        kind,
        bytes: writer.finish(&tail),
        from: config.server,
        to: Destination::of(asked, kind, yiaddr),
    })
}

/// The whole domain name of a machine that is called so.
fn full_name(config: &ServerConfig, name: &str) -> String {
    match &config.domain {
        Some(domain) if !name.is_empty() && !name.contains('.') => format!("{name}.{domain}"),
        _ => name.to_owned(),
    }
}

fn octets(field: &Option<wire::Octets<255>>) -> Option<&[u8]> {
    field.as_ref()?.as_slice()
}

/// The longest message the client takes, in bytes. Option 57 counts the IP datagram, as dhclient
/// and networkd have it, which is the careful reading of RFC 2132 §9.10. Nor does a reply exceed
/// the zone's MTU, since clients without an address do not put fragments together.
fn largest(config: &ServerConfig, query: &Query) -> usize {
    let told = query.options.max_size.map_or(0, usize::from);
    let mtu = usize::from(config.mtu).max(LEAST_DATAGRAM);
    told.clamp(LEAST_DATAGRAM, mtu) - IP_AND_UDP
}

/// A message being written, never longer than its limit.
struct Writer {
    bytes: Vec<u8>,
    limit: usize,
}

impl Writer {
    /// `tail` bytes are kept free for what comes last.
    fn new(header: &Header, limit: usize, tail: usize) -> Self {
        let mut bytes = Vec::with_capacity(limit.clamp(BOOTP, LEAST_DATAGRAM));
        bytes.extend_from_slice(&header.emit());
        Self {
            bytes,
            limit: limit.saturating_sub(tail),
        }
    }

    /// Adds an option without which there is nothing to say.
    fn must(&mut self, code: u8, value: &[u8]) -> Result<(), Silence> {
        let len = value.len() + 2 * value.len().div_ceil(255).max(1);
        if self.bytes.len() + len > self.limit {
            return Err(Silence::ReplyTooLarge);
        }
        wire::push_option(&mut self.bytes, code, value);
        Ok(())
    }

    /// Adds an encoded option if there is room. What the client listed first has the best chance.
    fn may(&mut self, encoded: &[u8]) {
        if self.bytes.len() + encoded.len() <= self.limit {
            self.bytes.extend_from_slice(encoded);
        }
    }

    fn finish(mut self, tail: &[u8]) -> Vec<u8> {
        self.bytes.extend_from_slice(tail);
        if self.bytes.len() < BOOTP {
            self.bytes.resize(BOOTP, 0);
        }
        self.bytes
    }
}
