//! Bytes ⇄ a checked [`Header`] and the [`Options`] a server reads: the only file that knows offsets.
//!
//! Decoding goes through dhcproto's *borrowed* message. Its owned one stops at the first option it
//! cannot decode (a host name that is not UTF-8 hides every option behind it), asserts on lengths
//! that are the sender's to choose, and indexes out of bounds when `hlen` is over 16.

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::{DhcpOptionIterator, Message};
use dhcproto::v4::{HType, MAGIC, Opcode, OptionCode};

use crate::lease::Mac;
use crate::silence::Silence;

/// Length of the fixed part of a message with its magic cookie, in bytes (RFC 2131 §2).
pub const FIXED: usize = 240;
const HLEN_ETHERNET: u8 = 6;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const COOKIE: std::ops::Range<usize> = 236..240;

/// Option codes as numbers, where dhcproto's names would need a conversion at each use.
pub(crate) mod code {
    pub(crate) const SUBNET_MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const HOST_NAME: u8 = 12;
    pub(crate) const STATIC_ROUTES: u8 = 33;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER_ID: u8 = 54;
    pub(crate) const PARAMETERS: u8 = 55;
    pub(crate) const MESSAGE: u8 = 56;
    pub(crate) const MAX_SIZE: u8 = 57;
    pub(crate) const T1: u8 = 58;
    pub(crate) const T2: u8 = 59;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const RAPID_COMMIT: u8 = 80;
    /// RFC 4702.
    pub(crate) const FQDN: u8 = 81;
    pub(crate) const RELAY_INFO: u8 = 82;
    /// RFC 8925 §3.1. (dhcproto 0.15 has it at 106.)
    pub(crate) const IPV6_ONLY: u8 = 108;
    pub(crate) const CLASSLESS_ROUTES: u8 = 121;
    pub(crate) const END: u8 = 255;
}

/// The fixed part of a message between an Ethernet client and a server (RFC 2131 §2), without the
/// fields this server neither reads nor writes (`hops`, `sname`, `file`, `siaddr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 1 for what clients send, 2 for what servers send.
    pub op: u8,
    /// The client's transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The highest bit asks for broadcast replies.
    pub flags: u16,
    /// The address the client has and answers ARP for, if any.
    pub ciaddr: Ipv4Addr,
    /// The address it is given.
    pub yiaddr: Ipv4Addr,
    /// The relay agent through which it speaks, if any.
    pub giaddr: Ipv4Addr,
    /// Its hardware address.
    pub chaddr: Mac,
}

/// The broadcast bit of [`Header::flags`].
pub const BROADCAST: u16 = 0x8000;

impl Header {
    /// Reads the fixed part of a client's message.
    ///
    /// # Errors
    /// The reason to ignore it: not a DHCP request of one Ethernet machine.
    pub fn parse(bytes: &[u8]) -> Result<Self, Silence> {
        let Ok(message) = Message::new(bytes) else {
            return Err(Silence::Truncated { len: bytes.len() });
        };
        if message.opcode() != Opcode::BootRequest {
            let op = message.opcode().into();
            return Err(Silence::NotARequest { op });
        }
        let (htype, hlen) = (message.htype(), message.hlen());
        if htype != HType::Eth || hlen != HLEN_ETHERNET {
            let htype = htype.into();
            return Err(Silence::NotEthernet { htype, hlen });
        }
        if bytes[COOKIE] != MAGIC {
            return Err(Silence::NoCookie);
        }
        let mut chaddr = [0; 6];
        chaddr.copy_from_slice(message.chaddr()); // hlen is 6
        if chaddr[0] & 1 != 0 || chaddr == [0; 6] {
            return Err(Silence::NotOneMachine(chaddr));
        }
        Ok(Self {
            op: message.opcode().into(),
            xid: message.xid(),
            secs: message.secs(),
            flags: message.flags().into(),
            ciaddr: message.ciaddr(),
            yiaddr: message.yiaddr(),
            giaddr: message.giaddr(),
            chaddr,
        })
    }

    /// Writes the fixed part: the fields that are not kept are zero.
    pub fn emit(&self) -> [u8; FIXED] {
        let mut bytes = [0; FIXED];
        bytes[0] = self.op;
        bytes[1] = HType::Eth.into();
        bytes[2] = HLEN_ETHERNET;
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.secs.to_be_bytes());
        bytes[10..12].copy_from_slice(&self.flags.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.ciaddr.octets());
        bytes[16..20].copy_from_slice(&self.yiaddr.octets());
        bytes[24..28].copy_from_slice(&self.giaddr.octets());
        bytes[28..34].copy_from_slice(&self.chaddr);
        bytes[COOKIE].copy_from_slice(&MAGIC);
        bytes
    }

    /// Whether a relay agent passed the message on.
    pub fn is_relayed(&self) -> bool {
        !self.giaddr.is_unspecified()
    }
}

/// An option's value, gathered from all its parts (RFC 3396), without a heap allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Octets<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

impl<const N: usize> Default for Octets<N> {
    fn default() -> Self {
        Self {
            len: 0,
            bytes: [0; N],
        }
    }
}

impl<const N: usize> std::fmt::Debug for Octets<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(&self.bytes[..self.len.min(N)])
            .finish()
    }
}

impl<const N: usize> Octets<N> {
    fn append(&mut self, part: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + part.len()) {
            room.copy_from_slice(part);
        }
        self.len += part.len(); // past N: as_slice knows
    }

    /// The bytes; `None` if there were more than `N`.
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len)
    }
}

/// An option that is there at most once: `None` when it is not.
type Field<const N: usize> = Option<Octets<N>>;

/// What a server reads of a client's options, lengths checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// 53, DHCP message type.
    pub message_type: Option<u8>,
    /// 50, requested address.
    pub requested: Option<Ipv4Addr>,
    /// 51, lease time wanted, in seconds.
    pub lease_time: Option<u32>,
    /// 54, server identifier.
    pub server: Option<Ipv4Addr>,
    /// 55, parameter request list: option codes in the order wanted.
    pub parameters: Option<Octets<255>>,
    /// 57, the longest IP datagram the client takes, in bytes.
    pub max_size: Option<u16>,
    /// 61, client identifier.
    pub client_id: Option<Octets<255>>,
    /// 12, what the client calls itself.
    pub host_name: Option<Octets<255>>,
    /// 80, rapid commit (RFC 4039).
    pub rapid_commit: bool,
    /// 81, client FQDN (RFC 4702): flags, two bytes of no meaning, the name.
    pub fqdn: Option<Octets<255>>,
    /// 82, relay agent information (RFC 3046), to be given back as it came.
    pub relay_info: Option<Octets<255>>,
    /// The link selection inside 82 (RFC 3527): an address of the client's subnet.
    pub link: Option<Ipv4Addr>,
}

/// The values as they are gathered, lengths unchecked.
#[derive(Default)]
struct Gathered {
    message_type: Field<1>,
    requested: Field<4>,
    lease_time: Field<4>,
    server: Field<4>,
    parameters: Field<255>,
    max_size: Field<2>,
    client_id: Field<255>,
    host_name: Field<255>,
    rapid_commit: Field<0>,
    fqdn: Field<255>,
    relay_info: Field<255>,
    overload: Field<1>,
}

impl Gathered {
    fn read(&mut self, bytes: &[u8]) {
        fn add<const N: usize>(field: &mut Field<N>, part: &[u8]) {
            field.get_or_insert_default().append(part);
        }
        for option in DhcpOptionIterator::new(bytes) {
            let part = option.data();
            match option.code() {
                OptionCode::MessageType => add(&mut self.message_type, part),
                OptionCode::RequestedIpAddress => add(&mut self.requested, part),
                OptionCode::AddressLeaseTime => add(&mut self.lease_time, part),
                OptionCode::ServerIdentifier => add(&mut self.server, part),
                OptionCode::ParameterRequestList => add(&mut self.parameters, part),
                OptionCode::MaxMessageSize => add(&mut self.max_size, part),
                OptionCode::ClientIdentifier => add(&mut self.client_id, part),
                OptionCode::Hostname => add(&mut self.host_name, part),
                OptionCode::RapidCommit => add(&mut self.rapid_commit, part),
                OptionCode::ClientFQDN => add(&mut self.fqdn, part),
                OptionCode::RelayAgentInformation => add(&mut self.relay_info, part),
                OptionCode::OptionOverload => add(&mut self.overload, part),
                _ => {}
            }
        }
    }
}

/// The value of a fixed-length option.
fn exactly<const N: usize>(field: &Field<N>, option: u8) -> Result<Option<[u8; N]>, Silence> {
    match field {
        None => Ok(None),
        Some(octets) if octets.len == N => Ok(Some(octets.bytes)),
        Some(_) => Err(Silence::BadOption { option }),
    }
}

/// The value of an option of any length up to 255 bytes. An empty one counts as none.
fn at_most_255(field: Field<255>, option: u8) -> Result<Field<255>, Silence> {
    match field {
        Some(octets) if octets.len > 255 => Err(Silence::BadOption { option }),
        other => Ok(other.filter(|octets| octets.len > 0)),
    }
}

impl Options {
    /// Reads the options of a message whose [`Header`] was accepted: those of the options field,
    /// then of `file`, then of `sname` if option 52 says they hold options (RFC 2131 §4.1).
    ///
    /// # Errors
    /// The reason to ignore the message: an option that matters has an impossible length.
    pub fn parse(bytes: &[u8]) -> Result<Self, Silence> {
        let mut all = Gathered::default();
        all.read(bytes.get(FIXED..).unwrap_or_default());
        let overload = exactly(&all.overload, code::OVERLOAD)?.map_or(0, |[value]| value);
        if overload & 1 != 0 {
            all.read(bytes.get(FILE).unwrap_or_default());
        }
        if overload & 2 != 0 {
            all.read(bytes.get(SNAME).unwrap_or_default());
        }
        let relay_info = at_most_255(all.relay_info, code::RELAY_INFO)?;
        Ok(Self {
            message_type: exactly(&all.message_type, code::MESSAGE_TYPE)?.map(|[value]| value),
            requested: exactly(&all.requested, code::REQUESTED_ADDRESS)?
                .map(Ipv4Addr::from)
                .filter(|address| !address.is_unspecified()),
            lease_time: exactly(&all.lease_time, code::LEASE_TIME)?.map(u32::from_be_bytes),
            server: exactly(&all.server, code::SERVER_ID)?.map(Ipv4Addr::from),
            parameters: at_most_255(all.parameters, code::PARAMETERS)?,
            max_size: exactly(&all.max_size, code::MAX_SIZE)?.map(u16::from_be_bytes),
            client_id: at_most_255(all.client_id, code::CLIENT_ID)?,
            // nothing depends on it: a strange one is dropped, not the message
            host_name: at_most_255(all.host_name, code::HOST_NAME).unwrap_or_default(),
            rapid_commit: all.rapid_commit.is_some(),
            fqdn: at_most_255(all.fqdn, code::FQDN).unwrap_or_default(),
            link: relay_info.as_ref().and_then(link_selection),
            relay_info,
        })
    }

    /// Writes them as a client would, with the end mark. The inverse of [`Options::parse`].
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |code: u8, value: Option<&[u8]>| {
            if let Some(value) = value {
                push_option(&mut out, code, value);
            }
        };
        let octets = |field: &Field<255>| field.as_ref().and_then(|o| o.as_slice().map(Vec::from));
        put(
            code::MESSAGE_TYPE,
            self.message_type.map(|v| [v]).as_ref().map(|v| &v[..]),
        );
        put(
            code::REQUESTED_ADDRESS,
            self.requested.map(|v| v.octets()).as_ref().map(|v| &v[..]),
        );
        put(
            code::LEASE_TIME,
            self.lease_time
                .map(u32::to_be_bytes)
                .as_ref()
                .map(|v| &v[..]),
        );
        put(
            code::SERVER_ID,
            self.server.map(|v| v.octets()).as_ref().map(|v| &v[..]),
        );
        put(
            code::MAX_SIZE,
            self.max_size.map(u16::to_be_bytes).as_ref().map(|v| &v[..]),
        );
        put(code::PARAMETERS, octets(&self.parameters).as_deref());
        put(code::CLIENT_ID, octets(&self.client_id).as_deref());
        put(code::HOST_NAME, octets(&self.host_name).as_deref());
        put(code::RAPID_COMMIT, self.rapid_commit.then_some(&[][..]));
        put(code::FQDN, octets(&self.fqdn).as_deref());
        put(code::RELAY_INFO, octets(&self.relay_info).as_deref());
        out.push(code::END);
        out
    }
}

/// RFC 3527: sub-option 5 of the relay agent information.
fn link_selection(info: &Octets<255>) -> Option<Ipv4Addr> {
    let mut rest = info.as_slice()?;
    while let [sub, len, tail @ ..] = rest {
        let value = tail.get(..usize::from(*len))?;
        if *sub == 5 {
            return <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
        }
        rest = &tail[value.len()..];
    }
    None
}

/// Appends an option, in parts of at most 255 bytes (RFC 3396).
pub(crate) fn push_option(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    if value.is_empty() {
        out.extend([code, 0]);
    }
    for part in value.chunks(255) {
        out.extend([code, part.len() as u8]); // at most 255
        out.extend_from_slice(part);
    }
}

impl<const N: usize> TryFrom<&[u8]> for Octets<N> {
    type Error = usize;

    /// Copies at most `N` bytes; the length if there are more.
    fn try_from(bytes: &[u8]) -> Result<Self, usize> {
        if bytes.len() > N {
            return Err(bytes.len());
        }
        let mut octets = Self::default();
        octets.append(bytes);
        Ok(octets)
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
