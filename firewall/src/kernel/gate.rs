//! The gate in front of and behind a zone's bridge, for when there is no ruleset at all.
//!
//! When daemon and keeper are dead, somebody's `nft flush ruleset` leaves no rule. Two eBPF programs
//! on the bridge then still stand: what enters the host from the bridge must carry the guard's mark,
//! and what leaves the host by the bridge (ARP apart) the judgement's. Without rules nothing does. What goes
//! on gets a mark of its own, by which the guard's output chain knows that it comes from a zone's bridge.
//!
//! The programs are a handful of hand-written instructions (linux/bpf.h, `struct __sk_buff`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::socket::{Socket, SocketError};
use super::sys;
use super::wire::{self, Writer};
use crate::skeleton::{FROM_BRIDGE, GUARDED, JUDGED};

/// The gate could not be put up.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The kernel refused one of the programs.
    #[error("load program {name} into the kernel")]
    Load {
        /// Its name
        name: &'static str,
        /// Why
        source: io::Error,
    },
    /// The programs could not be attached to the bridge.
    #[error("attach the gate to interface {ifindex}")]
    Attach {
        /// Index of the bridge
        ifindex: u32,
        /// Why
        source: SocketError,
    },
}

const IN: &str = "netd_gate_in";
const OUT: &str = "netd_gate_out";

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const ACT_DIRECT: u32 = 1;
const ETH_P_ALL: u16 = 3;
const ETH_P_ARP: u16 = 0x0806;

/// Puts the gate up on a bridge, or in place of one that is there. Harmless to repeat.
///
/// # Errors
/// eBPF or traffic control is not there, or not permitted.
pub fn install(bridge_ifindex: u32) -> Result<(), GateError> {
    let programs = [
        (INGRESS, IN, load(IN, &ingress())?),
        (EGRESS, OUT, load(OUT, &egress())?),
    ];
    attach(bridge_ifindex, &programs).map_err(|source| GateError::Attach {
        ifindex: bridge_ifindex,
        source,
    })
}

/// Whether both programs are on the interface.
pub fn present(ifindex: u32) -> bool {
    let attached =
        |parent, name| filters(ifindex, parent).is_ok_and(|names| names.iter().any(|n| n == name));
    attached(INGRESS, IN) && attached(EGRESS, OUT)
}

fn load(name: &'static str, instructions: &[u64]) -> Result<OwnedFd, GateError> {
    sys::load_classifier(name, instructions).map_err(|source| GateError::Load { name, source })
}

/// One `struct bpf_insn`: opcode, destination and source register, offset, immediate.
const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: u32) -> u64 {
    #[cfg(target_endian = "little")]
    let registers = src << 4 | dst;
    #[cfg(target_endian = "big")]
    let registers = dst << 4 | src;
    let [o0, o1] = off.to_ne_bytes();
    let [i0, i1, i2, i3] = imm.to_ne_bytes();
    u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
}

const LOAD_WORD: u8 = 0x61;
const STORE_WORD: u8 = 0x63;
const OR: u8 = 0x47;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const MOVE: u8 = 0xb7;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const JUMP_IF_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;
const SKB_MARK: i16 = 8;
const SKB_PROTOCOL: i16 = 16;
/// TC_ACT_UNSPEC: whatever else hangs here may decide.
const GO_ON: u32 = u32::MAX;
/// TC_ACT_SHOT
const DROP: u32 = 2;

fn ingress() -> Vec<u64> {
    vec![
        insn(LOAD_WORD, 2, 1, SKB_MARK, 0),
        insn(AND, 2, 0, 0, GUARDED),
        insn(MOVE, 0, 0, 0, GO_ON),
        insn(JUMP_IF_NOT_EQUAL, 2, 0, 1, 0),
        insn(MOVE, 0, 0, 0, DROP),
        insn(EXIT, 0, 0, 0, 0),
    ]
}

fn egress() -> Vec<u64> {
    vec![
        insn(LOAD_WORD, 2, 1, SKB_PROTOCOL, 0),
        insn(LOAD_WORD, 3, 1, SKB_MARK, 0),
        insn(MOVE, 0, 0, 0, GO_ON),
        // ARP (in network byte order): past the next four
        insn(JUMP_IF_EQUAL, 2, 0, 4, u32::from(ETH_P_ARP.to_be())),
        insn(MOVE_REGISTER, 2, 3, 0, 0),
        insn(AND, 2, 0, 0, JUDGED),
        insn(MOVE, 0, 0, 0, DROP),
        insn(JUMP_IF_EQUAL, 2, 0, 3, 0),
        insn(MOVE, 0, 0, 0, GO_ON),
        insn(OR, 3, 0, 0, FROM_BRIDGE),
        insn(STORE_WORD, 1, 3, SKB_MARK, 0),
        insn(EXIT, 0, 0, 0, 0),
    ]
}

fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut message = [0; 20];
    for (at, word) in [(4, ifindex), (8, handle), (12, parent), (16, info)] {
        message[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    message
}

fn attach(ifindex: u32, programs: &[(u32, &str, OwnedFd)]) -> Result<(), SocketError> {
    use super::nf::flag::{ACK, CREATE, EXCL, REPLACE, REQUEST};
    let mut socket = Socket::open(None)?;
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    let qdisc = tcmsg(ifindex, CLSACT, TC_H_CLSACT, 0);
    writer.begin(
        RTM_NEWQDISC,
        REQUEST | ACK | CREATE | EXCL,
        sequence,
        &qdisc,
    );
    writer.text(TCA_KIND, "clsact");
    writer.end();
    match socket.transact(writer.as_slice(), sequence) {
        // Somebody put a clsact there already; it may hold other filters, which stay.
        Err(SocketError::Refused { errno, .. }) if errno == rustix::io::Errno::EXIST => {}
        result => result?,
    }
    for (parent, name, fd) in programs {
        let info = 1 << 16 | u32::from(ETH_P_ALL.to_be());
        let sequence = socket.next_sequence();
        writer.clear();
        let filter = tcmsg(ifindex, 1, *parent, info);
        writer.begin(
            RTM_NEWTFILTER,
            REQUEST | ACK | CREATE | REPLACE,
            sequence,
            &filter,
        );
        writer.text(TCA_KIND, "bpf");
        writer.nest(TCA_OPTIONS, |w| {
            w.bytes(TCA_BPF_FD, &fd.as_raw_fd().to_ne_bytes());
            w.text(TCA_BPF_NAME, name);
            w.bytes(TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes());
        });
        writer.end();
        socket.transact(writer.as_slice(), sequence)?;
    }
    Ok(())
}

/// The names of the eBPF filters on one side of an interface.
fn filters(ifindex: u32, parent: u32) -> Result<Vec<String>, SocketError> {
    use super::nf::flag::{DUMP, REQUEST};
    const TCMSG: usize = 20;
    let mut socket = Socket::open(None)?;
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    let filter = tcmsg(ifindex, 0, parent, 0);
    writer.begin(RTM_GETTFILTER, REQUEST | DUMP, sequence, &filter);
    writer.end();
    let mut names = Vec::new();
    socket.dump(writer.as_slice(), sequence, |message| {
        let name = message
            .body
            .get(TCMSG..)
            .filter(|body| wire::text(body, TCA_KIND) == Some("bpf"))
            .and_then(|body| wire::attribute(body, TCA_OPTIONS))
            .and_then(|options| wire::text(options, TCA_BPF_NAME));
        names.extend(name.map(str::to_owned));
    })?;
    Ok(names)
}
