//! Traffic control over rtnetlink: queueing disciplines, and eBPF programs on interfaces.
//!
//! Numbers and layouts are those of linux/rtnetlink.h, pkt_sched.h, pkt_cls.h and bpf.h.

use std::os::fd::{AsRawFd, OwnedFd};

use super::nf::flag::{ACK, CREATE, DUMP, EXCL, REPLACE, REQUEST};
use super::socket::{Socket, SocketError};
use super::wire::{self, Writer};

pub(super) const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT: u32 = 0xffff_0000;
pub(super) const INGRESS: u32 = 0xffff_fff2;
pub(super) const EGRESS: u32 = 0xffff_fff3;
pub(super) const TCA_KIND: u16 = 1;
pub(super) const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const ACT_DIRECT: u32 = 1;
const ETH_P_ALL: u16 = 3;
pub(super) const RTM_DELQDISC: u16 = 37;
pub(super) const RTM_GETQDISC: u16 = 38;
const RTM_DELTFILTER: u16 = 45;
pub(super) const ROOT: u32 = 0xffff_ffff;
/// Length of `struct tcmsg`, in bytes.
pub(super) const TCMSG: usize = 20;
/// The one priority and handle of our programs, for every protocol.
const FIRST: u32 = 1;

/// One `struct bpf_insn`: opcode, destination and source register, offset, immediate.
pub(super) const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: u32) -> u64 {
    #[cfg(target_endian = "little")]
    let registers = src << 4 | dst;
    #[cfg(target_endian = "big")]
    let registers = dst << 4 | src;
    let [o0, o1] = off.to_ne_bytes();
    let [i0, i1, i2, i3] = imm.to_ne_bytes();
    u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
}

/// `struct tcmsg`: `info` is a filter's priority and protocol.
pub(super) fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut message = [0; 20];
    for (at, word) in [(4, ifindex), (8, handle), (12, parent), (16, info)] {
        message[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    message
}

/// Puts a clsact on an interface. Somebody else's stays, with what it holds.
pub(super) fn add_clsact(socket: &mut Socket, ifindex: u32) -> Result<(), SocketError> {
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    let qdisc = tcmsg(ifindex, CLSACT, TC_H_CLSACT, 0);
    let flags = REQUEST | ACK | CREATE | EXCL;
    writer.begin(RTM_NEWQDISC, flags, sequence, &qdisc);
    writer.text(TCA_KIND, "clsact");
    writer.end();
    match socket.transact(writer.as_slice(), sequence) {
        Err(SocketError::Refused { errno, .. }) if errno == rustix::io::Errno::EXIST => Ok(()),
        result => result,
    }
}

/// Takes the clsact off an interface, and all that it holds.
pub(super) fn remove_clsact(socket: &mut Socket, ifindex: u32) -> Result<(), SocketError> {
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    let qdisc = tcmsg(ifindex, CLSACT, TC_H_CLSACT, 0);
    writer.begin(RTM_DELQDISC, REQUEST | ACK, sequence, &qdisc);
    writer.end();
    socket.transact(writer.as_slice(), sequence)
}

/// Puts a program on one side of an interface that has a clsact, or in the place of the one that is there.
pub(super) fn add_program(
    socket: &mut Socket,
    ifindex: u32,
    parent: u32,
    name: &str,
    program: &OwnedFd,
) -> Result<(), SocketError> {
    let info = FIRST << 16 | u32::from(ETH_P_ALL.to_be());
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    let filter = tcmsg(ifindex, FIRST, parent, info);
    let flags = REQUEST | ACK | CREATE | REPLACE;
    writer.begin(RTM_NEWTFILTER, flags, sequence, &filter);
    writer.text(TCA_KIND, "bpf");
    writer.nest(TCA_OPTIONS, |w| {
        w.bytes(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
        w.text(TCA_BPF_NAME, name);
        w.bytes(TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes());
    });
    writer.end();
    socket.transact(writer.as_slice(), sequence)
}

/// Takes our program off one side of an interface.
pub(super) fn remove_program(
    socket: &mut Socket,
    ifindex: u32,
    parent: u32,
) -> Result<(), SocketError> {
    let info = FIRST << 16 | u32::from(ETH_P_ALL.to_be());
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    let filter = tcmsg(ifindex, FIRST, parent, info);
    writer.begin(RTM_DELTFILTER, REQUEST | ACK, sequence, &filter);
    writer.text(TCA_KIND, "bpf");
    writer.end();
    socket.transact(writer.as_slice(), sequence)
}

/// The names of the eBPF filters on one side of an interface.
pub(super) fn filters(ifindex: u32, parent: u32) -> Result<Vec<String>, SocketError> {
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
