//! The gate in front of and behind a zone's bridge, for when there is no ruleset at all.
//!
//! When daemon and keeper are dead, somebody's `nft flush ruleset` leaves no rule. Two eBPF programs
//! on the bridge then still stand: what enters the host from the bridge must carry the guard's mark,
//! and what leaves the host by the bridge (ARP apart) the judgement's. Without rules nothing does. What goes
//! on gets a mark of its own, by which the guard's output chain knows that it comes from a zone's bridge.
//!
//! The programs are a handful of hand-written instructions (linux/bpf.h, `struct __sk_buff`).

use std::io;
use std::os::fd::OwnedFd;

use super::socket::{Socket, SocketError};
use super::sys;
use super::tc::{
    EGRESS, INGRESS, add_clsact, add_program, filters, insn, remove_clsact, remove_program,
};
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

/// Takes the gate off a bridge that goes on without netd; what others put there stays.
///
/// # Errors
/// The kernel refuses.
pub fn remove(bridge_ifindex: u32) -> Result<(), GateError> {
    let failed = |source| GateError::Attach {
        ifindex: bridge_ifindex,
        source,
    };
    let mut socket = Socket::open(None).map_err(failed)?;
    for (parent, name) in [(INGRESS, IN), (EGRESS, OUT)] {
        let there = filters(bridge_ifindex, parent).map_err(failed)?;
        if there.iter().any(|there| there == name) {
            remove_program(&mut socket, bridge_ifindex, parent).map_err(failed)?;
        }
    }
    let bare = |parent| filters(bridge_ifindex, parent).is_ok_and(|names| names.is_empty());
    if bare(INGRESS) && bare(EGRESS) {
        remove_clsact(&mut socket, bridge_ifindex).map_err(failed)?;
    }
    Ok(())
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

const ETH_P_ARP: u16 = 0x0806;
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

fn attach(ifindex: u32, programs: &[(u32, &str, OwnedFd)]) -> Result<(), SocketError> {
    let mut socket = Socket::open(None)?;
    add_clsact(&mut socket, ifindex)?;
    for (parent, name, fd) in programs {
        add_program(&mut socket, ifindex, *parent, name, fd)?;
    }
    Ok(())
}
