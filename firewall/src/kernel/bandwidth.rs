//! Limits on a container's port: shaped, not policed, so that a TCP connection finds its rate without losses.
//!
//! ```text
//! to it     bridge ─► vb-NAME: tbf at the root ─► host0
//! from it   host0 ─► vb-NAME: clsact, eBPF ─► vi-INDEX: tbf at the root ─► vb-NAME, as if just received ─► bridge
//! ```
//!
//! What comes in by an interface cannot be queued there; the kernel's way is to redirect it through an `ifb`, which has a
//! queue and hands it back. It stands before the guard, so that what a container sends is limited whether or
//! not it is allowed. Nothing of this is on ports without a limit, and changing a rate touches the bucket alone.
//! When somebody deletes the `ifb`, the container sends nothing until it is back.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;

use super::nf::flag::{ACK, CREATE, DUMP, REPLACE, REQUEST};
use super::socket::{Socket, SocketError};
use super::sys;
use super::tc::{
    EGRESS, INGRESS, ROOT, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWQDISC, TCA_KIND, TCA_OPTIONS, TCMSG,
    add_clsact, add_program, filters, insn, remove_clsact, remove_program, tcmsg,
};
use super::wire::{self, Writer};
use crate::bandwidth::{Bandwidth, Shape};

/// A limit could not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum BandwidthError {
    /// The kernel was built without a part, or cannot load it.
    #[error(
        "limit the bandwidth of interface {ifindex}: this kernel has no `{module}` (load the module, or take a kernel that has it; without `bandwidth` it is not needed)"
    )]
    Missing {
        /// Index of the port
        ifindex: u32,
        /// Name of the part
        module: &'static str,
        /// What the kernel said
        source: SocketError,
    },
    /// The kernel refused something else.
    #[error("limit the bandwidth of interface {ifindex}: {action}")]
    Kernel {
        /// Index of the port
        ifindex: u32,
        /// What was tried
        action: &'static str,
        /// Why not
        source: SocketError,
    },
    /// The kernel refused the program that redirects.
    #[error("limit the bandwidth of interface {ifindex}: load program {NAME} into the kernel")]
    Load {
        /// Index of the port
        ifindex: u32,
        /// Why not
        source: io::Error,
    },
}

/// Of the program.
const NAME: &str = "netd_limit";
/// Our queueing disciplines have this number ("ne").
const HANDLE: u32 = 0x6e65_0000;
/// What the alternative name of our `ifb`s begins with.
const ALIAS: &str = "netd: what is sent by port ";

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INFO_KIND: u16 = 1;
const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFF_UP: u32 = 1;
/// Length of `struct ifinfomsg`, in bytes.
const IFINFOMSG: usize = 16;

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const LINKLAYER_ETHERNET: u8 = 1;

/// Puts these limits on a port, or other rates on those that are there; a direction without one stays as it is.
/// Harmless to repeat; connections live on. `mtu` is that of the port, in bytes. Gives the index of the `ifb`, if
/// there has to be one.
///
/// # Errors
/// The kernel lacks a part or refuses; the port may be limited in one direction then.
pub fn set(ifindex: u32, mtu: u32, limits: Bandwidth) -> Result<Option<u32>, BandwidthError> {
    let mut port = Port::open(ifindex)?;
    if let Some(shape) = limits.ingress {
        port.shape(ifindex, shape, mtu)?;
    }
    let aside = limits.egress.map(|shape| port.queue_aside(shape, mtu));
    aside.transpose()
}

/// Takes limits off these directions of a port that goes on. The `ifb` stays, and is to be deleted by whoever has the
/// time.
///
/// # Errors
/// The kernel refuses; what can be taken off is off.
pub fn clear(ifindex: u32, ingress: bool, egress: bool) -> Result<(), BandwidthError> {
    let mut port = Port::open(ifindex)?;
    let from_it = match egress {
        true => port.straight_on(),
        false => Ok(()),
    };
    let to_it = match ingress {
        true => port.unshape(ifindex),
        false => Ok(()),
    };
    from_it.and(to_it)
}

fn aside_name(ifindex: u32) -> String {
    format!("vi-{ifindex}")
}

/// An `ifb` of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Its index.
    pub ifindex: u32,
    /// Its name: `vi-` and the index of the port.
    name: String,
    /// Index of the port that it belongs to.
    pub port: u32,
    up: bool,
}

/// Every `ifb` that netd made.
///
/// # Errors
/// The links cannot be listed.
pub fn asides() -> Result<Vec<Aside>, SocketError> {
    let mut socket = Socket::open(None)?;
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    writer.begin(RTM_GETLINK, REQUEST | DUMP, sequence, &[0; IFINFOMSG]);
    // the kernel leaves out what is of another kind
    writer.nest(IFLA_LINKINFO, |w| w.text(IFLA_INFO_KIND, "ifb"));
    writer.end();
    let mut found = Vec::new();
    socket.dump(writer.as_slice(), sequence, |message| {
        found.extend(read_aside(message.body));
    })?;
    Ok(found)
}

fn read_aside(body: &[u8]) -> Option<Aside> {
    let attributes = body.get(IFINFOMSG..)?;
    let kind = wire::attribute(attributes, IFLA_LINKINFO)?;
    (wire::text(kind, IFLA_INFO_KIND)? == "ifb").then_some(())?;
    let port = wire::text(attributes, IFLA_IFALIAS)?.strip_prefix(ALIAS)?;
    Some(Aside {
        ifindex: wire::u32_at(body, 4)?,
        name: wire::text(attributes, IFLA_IFNAME)?.to_owned(),
        port: port.parse().ok()?,
        up: wire::u32_at(body, 8)? & IFF_UP != 0,
    })
}

/// What stands in the kernel, read at once.
#[derive(Debug)]
pub struct Standing {
    /// The `ifb` of each port.
    asides: BTreeMap<u32, Aside>,
    /// Bytes a second of our bucket at the root of an interface.
    rates: BTreeMap<u32, u64>,
}

impl Standing {
    /// Reads it.
    ///
    /// # Errors
    /// Links or queueing disciplines cannot be listed.
    pub fn read() -> Result<Self, SocketError> {
        let asides = asides()?.into_iter().map(|aside| (aside.port, aside));
        let asides = asides.collect();
        let mut socket = Socket::open(None)?;
        let mut writer = Writer::default();
        let sequence = socket.next_sequence();
        let all = tcmsg(0, 0, 0, 0);
        writer.begin(RTM_GETQDISC, REQUEST | DUMP, sequence, &all);
        writer.end();
        let mut rates = BTreeMap::new();
        socket.dump(writer.as_slice(), sequence, |message| {
            rates.extend(read_rate(message.body));
        })?;
        Ok(Self { asides, rates })
    }

    /// Ports that have something of ours on them, or beside them though they are gone.
    pub fn ports(&self) -> impl Iterator<Item = u32> {
        let beside: Vec<u32> = self.asides.values().map(|aside| aside.ifindex).collect();
        let shaped = self.rates.keys().copied();
        let shaped = shaped.filter(move |ifindex| !beside.contains(ifindex));
        shaped.chain(self.asides.keys().copied())
    }

    /// Index of the `ifb` of a port.
    pub fn aside(&self, port: u32) -> Option<u32> {
        self.asides.get(&port).map(|aside| aside.ifindex)
    }

    /// Whether a port is limited as said.
    pub fn agrees(&self, ifindex: u32, bandwidth: Bandwidth) -> bool {
        let shaped = |ifindex: u32, shape: Option<Shape>| {
            self.rates.get(&ifindex).copied() == shape.map(|shape| shape.rate / 8)
        };
        shaped(ifindex, bandwidth.ingress)
            && match (self.asides.get(&ifindex), bandwidth.egress) {
                (aside, None) => aside.is_none(),
                (None, Some(_)) => false,
                (Some(aside), limit) => {
                    aside.up
                        && shaped(aside.ifindex, limit)
                        && filters(ifindex, INGRESS)
                            .is_ok_and(|names| names.contains(&program_name(aside.ifindex)))
                }
            }
    }
}

/// The interface and the rate of a bucket of ours.
fn read_rate(body: &[u8]) -> Option<(u32, u64)> {
    let ours = wire::u32_at(body, 8)? == HANDLE && wire::u32_at(body, 12)? == ROOT;
    let attributes = body.get(TCMSG..)?;
    (ours && wire::text(attributes, TCA_KIND)? == "tbf").then_some(())?;
    let options = wire::attribute(attributes, TCA_OPTIONS)?;
    let rate = match wire::attribute(options, TCA_TBF_RATE64) {
        Some(rate) => u64::from_ne_bytes(rate.try_into().ok()?),
        None => wire::u32_at(wire::attribute(options, TCA_TBF_PARMS)?, 8)?.into(),
    };
    Some((wire::u32_at(body, 4)?, rate))
}

fn program_name(aside: u32) -> String {
    format!("{NAME}_{aside}")
}

/// A port that is being limited.
struct Port {
    ifindex: u32,
    socket: Socket,
}

impl Port {
    fn open(ifindex: u32) -> Result<Self, BandwidthError> {
        let socket = Socket::open(None).map_err(|source| BandwidthError::Kernel {
            ifindex,
            action: "open a socket",
            source,
        })?;
        Ok(Self { ifindex, socket })
    }

    fn refused(
        &self,
        action: &'static str,
        module: &'static str,
    ) -> impl Fn(SocketError) -> BandwidthError + use<> {
        let ifindex = self.ifindex;
        move |source| match &source {
            // an unknown kind of queueing discipline or filter is one, an unknown kind of link the other
            SocketError::Refused {
                errno: Errno::NOENT | Errno::OPNOTSUPP,
                ..
            } => BandwidthError::Missing {
                ifindex,
                module,
                source,
            },
            _ => BandwidthError::Kernel {
                ifindex,
                action,
                source,
            },
        }
    }

    fn queue_aside(&mut self, shape: Shape, mtu: u32) -> Result<u32, BandwidthError> {
        let aside = self.put_aside()?;
        self.shape(aside, shape, mtu)?;
        add_clsact(&mut self.socket, self.ifindex)
            .map_err(self.refused("prepare its port", "sch_ingress"))?;
        let ifindex = self.ifindex;
        let program = sys::load_classifier(NAME, &redirect(aside))
            .map_err(|source| BandwidthError::Load { ifindex, source })?;
        let name = program_name(aside);
        add_program(&mut self.socket, ifindex, INGRESS, &name, &program)
            .map_err(self.refused("redirect what it sends", "cls_bpf"))?;
        Ok(aside)
    }

    /// The `ifb`, made where it is missing, and up.
    fn put_aside(&mut self) -> Result<u32, BandwidthError> {
        let name = aside_name(self.ifindex);
        let alias = format!("{ALIAS}{}", self.ifindex);
        let make = |w: &mut Writer| w.nest(IFLA_LINKINFO, |w| w.text(IFLA_INFO_KIND, "ifb"));
        self.link(&name, CREATE, 0, make)
            .map_err(self.refused("make the interface that queues what it sends", "ifb"))?;
        // What cannot be said when it is made: whose it is; and no addresses of its own, which a kernel without IPv6 does
        // not understand.
        let no_addresses = |w: &mut Writer| {
            w.text(IFLA_IFALIAS, &alias);
            w.nest(IFLA_AF_SPEC, |w| {
                w.nest(AF_INET6, |w| {
                    w.bytes(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
                });
            });
        };
        let alone = |w: &mut Writer| w.text(IFLA_IFALIAS, &alias);
        self.link(&name, 0, IFF_UP, no_addresses)
            .or_else(|_| self.link(&name, 0, IFF_UP, alone))
            .map_err(self.refused("open the interface that queues what it sends", "ifb"))?;
        self.index_of(&name)
    }

    /// Makes or changes a link.
    fn link(
        &mut self,
        name: &str,
        how: u16,
        flags: u32,
        write: impl FnOnce(&mut Writer),
    ) -> Result<(), SocketError> {
        let mut writer = Writer::default();
        let sequence = self.socket.next_sequence();
        writer.begin(RTM_NEWLINK, REQUEST | ACK | how, sequence, &ifinfo(flags));
        writer.text(IFLA_IFNAME, name);
        write(&mut writer);
        writer.end();
        self.socket.transact(writer.as_slice(), sequence)
    }

    fn index_of(&mut self, name: &str) -> Result<u32, BandwidthError> {
        let mut writer = Writer::default();
        let sequence = self.socket.next_sequence();
        writer.begin(RTM_GETLINK, REQUEST | ACK, sequence, &[0; IFINFOMSG]);
        writer.text(IFLA_IFNAME, name);
        writer.end();
        let mut index = None;
        let answered = self.socket.dump(writer.as_slice(), sequence, |message| {
            index = wire::u32_at(message.body, 4);
        });
        let action = "find the interface that queues what it sends";
        answered.map_err(self.refused(action, "ifb"))?;
        index.ok_or_else(|| BandwidthError::Kernel {
            ifindex: self.ifindex,
            action,
            source: SocketError::Io {
                doing: "read from",
                source: Errno::NODEV.into(),
            },
        })
    }

    /// A bucket at the root of an interface, or another rate for the one that is there.
    fn shape(&mut self, on: u32, shape: Shape, mtu: u32) -> Result<(), BandwidthError> {
        let parameters = Bucket::of(shape, mtu);
        let mut writer = Writer::default();
        let sequence = self.socket.next_sequence();
        let flags = REQUEST | ACK | CREATE | REPLACE;
        writer.begin(RTM_NEWQDISC, flags, sequence, &tcmsg(on, HANDLE, ROOT, 0));
        writer.text(TCA_KIND, "tbf");
        writer.nest(TCA_OPTIONS, |w| parameters.write(w));
        writer.end();
        self.socket
            .transact(writer.as_slice(), sequence)
            .map_err(self.refused("put a token bucket on it", "sch_tbf"))
    }

    /// Takes our bucket off the root of an interface; somebody else's stays.
    fn unshape(&mut self, on: u32) -> Result<(), BandwidthError> {
        let mut writer = Writer::default();
        let sequence = self.socket.next_sequence();
        writer.begin(
            RTM_DELQDISC,
            REQUEST | ACK,
            sequence,
            &tcmsg(on, HANDLE, ROOT, 0),
        );
        writer.end();
        match self.socket.transact(writer.as_slice(), sequence) {
            // none there, or another one
            Err(SocketError::Refused {
                errno: Errno::NOENT | Errno::INVAL,
                ..
            }) => Ok(()),
            result => result.map_err(self.refused("take the token bucket off it", "sch_tbf")),
        }
    }

    /// What it sends takes the straight way again.
    fn straight_on(&mut self) -> Result<(), BandwidthError> {
        let ifindex = self.ifindex;
        let names = |parent| filters(ifindex, parent).unwrap_or_default();
        if !names(INGRESS).iter().any(|name| name.starts_with(NAME)) {
            return Ok(());
        }
        let action = "take the redirection off it";
        remove_program(&mut self.socket, ifindex, INGRESS)
            .map_err(self.refused(action, "cls_bpf"))?;
        if names(INGRESS).is_empty() && names(EGRESS).is_empty() {
            remove_clsact(&mut self.socket, ifindex)
                .map_err(self.refused(action, "sch_ingress"))?;
        }
        Ok(())
    }
}

/// `struct ifinfomsg` with these flags set, and no others touched.
fn ifinfo(flags: u32) -> [u8; IFINFOMSG] {
    let mut message = [0; IFINFOMSG];
    message[8..12].copy_from_slice(&flags.to_ne_bytes());
    message[12..16].copy_from_slice(&flags.to_ne_bytes());
    message
}

/// `bpf_redirect(aside, 0)`
fn redirect(aside: u32) -> [u64; 4] {
    const MOVE: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const BPF_FUNC_REDIRECT: u32 = 23;
    [
        insn(MOVE, 1, 0, 0, aside),
        insn(MOVE, 2, 0, 0, 0),
        insn(CALL, 0, 0, 0, BPF_FUNC_REDIRECT),
        insn(EXIT, 0, 0, 0, 0),
    ]
}

/// What a token bucket filter is told (tc-tbf(8)).
struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// Bytes. The kernel cuts larger offloaded packets up; whatever else is larger it drops.
    burst: u32,
    /// Bytes that may wait.
    limit: u32,
}

impl Bucket {
    fn of(shape: Shape, mtu: u32) -> Self {
        // Ethernet, and two VLAN tags
        const HEADERS: u64 = 22;
        // fifty milliseconds: long enough for TCP, short enough for those who wait behind
        let queue = (shape.rate / 8 / 20).clamp(128 << 10, 2 << 20);
        let burst = shape.bucket().max(u64::from(mtu) + HEADERS);
        let fits = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            rate: shape.rate / 8,
            burst: fits(burst),
            limit: fits(queue),
        }
    }

    fn write(&self, writer: &mut Writer) {
        // struct tc_tbf_qopt: rate and peak rate (struct tc_ratespec), limit, buffer, mtu
        let mut parameters = [0u8; 36];
        parameters[1] = LINKLAYER_ETHERNET;
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        parameters[8..12].copy_from_slice(&rate.to_ne_bytes());
        parameters[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        writer.bytes(TCA_TBF_PARMS, &parameters);
        writer.bytes(TCA_TBF_BURST, &self.burst.to_ne_bytes());
        if self.rate > u64::from(u32::MAX) {
            writer.bytes(TCA_TBF_RATE64, &self.rate.to_ne_bytes());
        }
    }
}
