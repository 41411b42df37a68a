//! Hears which packets the ruleset passed and refused (`linux/netfilter/nfnetlink_log.h`).
//!
//! ```text
//! rule `log group 28260` ─► queue in the kernel ─► this socket ─► Judged
//!                                 └─ full: dropped here, never the packet itself
//! ```
//!
//! The kernel numbers what it logs, so what was lost is known to the packet, as soon as the next one
//! comes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, SystemTime};

use rustix::net::sockopt;

use super::nf::{self, flag};
use super::socket::{Received, Socket, SocketError};
use super::wire::{self, NFGEN, Writer};
use crate::packet::{Hook, Judged, Packet};
use crate::sets::Action;
use crate::skeleton::{LOG_BYTES, LOG_DENY, LOG_PASS};

/// Packets that the kernel collects before it sends them …
const COLLECT: u32 = 64;
/// … unless that takes longer; in hundredths of a second.
const WAIT: u32 = 5;
/// Bytes of one such delivery, at most.
const DELIVERY: u32 = 32 << 10;

/// Room for what was not read yet: some ten thousand packets.
const RECEIVE_BUFFER: usize = 4 << 20;

const SUBSYS: u16 = 4 << 8;
const MSG_PACKET: u16 = SUBSYS;
const MSG_CONFIG: u16 = SUBSYS | 1;

const CFG_CMD: u16 = 1;
const CFG_MODE: u16 = 2;
const CFG_NLBUFSIZ: u16 = 3;
const CFG_TIMEOUT: u16 = 4;
const CFG_QTHRESH: u16 = 5;
const CFG_FLAGS: u16 = 6;
const CMD_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const FLAG_SEQ: u16 = 1;

const PACKET_HDR: u16 = 1;
const TIMESTAMP: u16 = 3;
const IFINDEX_INDEV: u16 = 4;
const IFINDEX_OUTDEV: u16 = 5;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
const SEQ: u16 = 12;

/// The group of packets that were judged. One listener at a time has it.
#[derive(Debug)]
pub struct Nflog {
    socket: Socket,
    buffer: Vec<u8>,
    /// The number of the next packet.
    next: u32,
}

/// What one look at the group brought.
#[derive(Debug, Default)]
pub struct Heard {
    /// Packets, in the order in which they were judged.
    pub packets: Vec<Judged>,
    /// How many more there were that the queue had no room for.
    pub lost: u64,
    /// How many could not be read: no IP, cut off, or not from our rules.
    pub unread: u64,
    /// Whether more may wait.
    pub more: bool,
}

impl Nflog {
    /// Begins to listen to a group in the network namespace at hand.
    ///
    /// # Errors
    /// The group has a listener already or there is no CAP_NET_ADMIN (`EPERM` for both), or the kernel has
    /// no nfnetlink_log.
    pub fn open(group: u16) -> Result<Self, SocketError> {
        let mut socket = Socket::netfilter()?;
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER));
        configure(&mut socket, group, |w| w.bytes(CFG_CMD, &[CMD_BIND]))?;
        configure(&mut socket, group, |w| {
            let mut mode = LOG_BYTES.to_be_bytes().to_vec();
            mode.extend([COPY_PACKET, 0]);
            w.bytes(CFG_MODE, &mode);
            w.be32(CFG_NLBUFSIZ, DELIVERY);
            w.be32(CFG_TIMEOUT, WAIT);
            w.be32(CFG_QTHRESH, COLLECT);
            w.bytes(CFG_FLAGS, &FLAG_SEQ.to_be_bytes());
        })?;
        Ok(Self {
            socket,
            buffer: vec![0; 1 << 16],
            next: 0,
        })
    }

    /// Reads what waits, without blocking: until nothing does, or there are `enough` packets.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn drain(&mut self, enough: usize) -> Result<Heard, SocketError> {
        let mut heard = Heard::default();
        while heard.packets.len() < enough {
            match self.socket.receive(&mut self.buffer)? {
                Received::Bytes(len) => {
                    for message in wire::messages(&self.buffer[..len]) {
                        if message.kind == MSG_PACKET {
                            let body = message.body.get(NFGEN..).unwrap_or_default();
                            packet(body, &mut self.next, &mut heard);
                        }
                    }
                }
                // How many they were tells the number of the next one.
                Received::Overrun => {}
                Received::Nothing => return Ok(heard),
            }
        }
        heard.more = true;
        Ok(heard)
    }
}

impl AsFd for Nflog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Nflog {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }
}

fn configure(
    socket: &mut Socket,
    group: u16,
    attributes: impl FnOnce(&mut Writer),
) -> Result<(), SocketError> {
    let [high, low] = group.to_be_bytes();
    let mut writer = Writer::default();
    let sequence = socket.next_sequence();
    let family = libc::AF_UNSPEC as u8;
    writer.begin(
        MSG_CONFIG,
        flag::REQUEST | flag::ACK,
        sequence,
        &[family, nf::NFNETLINK_V0, high, low],
    );
    attributes(&mut writer);
    writer.end();
    socket.transact(writer.as_slice(), sequence)
}

/// Reads the attributes of one packet.
fn packet(body: &[u8], next: &mut u32, heard: &mut Heard) {
    if let Some(number) = wire::be32(body, SEQ) {
        // The kernel's numbers wrap; they never go back.
        heard.lost += u64::from(number.wrapping_sub(*next));
        *next = number.wrapping_add(1);
    }
    match judged(body) {
        Some(judged) => heard.packets.push(judged),
        None => heard.unread += 1,
    }
}

fn judged(body: &[u8]) -> Option<Judged> {
    let verdict = match wire::text(body, PREFIX)? {
        LOG_PASS => Action::Allow,
        LOG_DENY => Action::Deny,
        _ => return None,
    };
    // struct nfulnl_msg_packet_hdr: protocol, hook, padding. The hooks are those of linux/netfilter.h.
    let hook = match wire::attribute(body, PACKET_HDR)?.get(2)? {
        1 => Hook::Input,
        2 => Hook::Forward,
        3 => Hook::Output,
        _ => return None,
    };
    Some(Judged {
        verdict,
        hook,
        iif: wire::be32(body, IFINDEX_INDEV),
        oif: wire::be32(body, IFINDEX_OUTDEV),
        time: wire::attribute(body, TIMESTAMP).and_then(time),
        packet: Packet::parse(wire::attribute(body, PAYLOAD)?).ok()?,
    })
}

/// struct nfulnl_msg_packet_timestamp: seconds since 1970 and microseconds.
fn time(value: &[u8]) -> Option<SystemTime> {
    let number = |at: usize| -> Option<u64> {
        Some(u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?))
    };
    let micros = number(8)?.min(999_999);
    let since = Duration::from_secs(number(0)?).checked_add(Duration::from_micros(micros))?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn logged(number: u32, prefix: &str, hook: u8, payload: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.begin(MSG_PACKET, 0, 0, &[2, 0, 0, 0]);
        writer.bytes(PACKET_HDR, &[8, 0, hook, 0]);
        writer.text(PREFIX, prefix);
        writer.be32(IFINDEX_INDEV, 7);
        writer.bytes(
            TIMESTAMP,
            &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 3, 0xe8],
        );
        writer.bytes(PAYLOAD, payload);
        writer.be32(SEQ, number);
        writer.end();
        let bytes = writer.as_slice();
        wire::messages(bytes).next().unwrap().body[NFGEN..].to_vec()
    }

    const ECHO: [u8; 24] = [
        0x45, 0, 0, 24, 0, 0, 0, 0, 64, 1, 0, 0, 10, 89, 0, 2, 192, 0, 2, 7, 8, 0, 0, 0,
    ];

    #[test]
    fn what_the_kernel_says_of_a_packet() {
        let (mut next, mut heard) = (0, Heard::default());
        packet(&logged(0, "pass", 2, &ECHO), &mut next, &mut heard);
        packet(&logged(1, "deny", 3, &ECHO), &mut next, &mut heard);
        let [passed, denied] = heard.packets[..] else {
            panic!("{heard:?}")
        };
        assert_eq!(
            (passed.verdict, passed.hook),
            (Action::Allow, Hook::Forward)
        );
        assert_eq!((passed.iif, passed.oif), (Some(7), None));
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(2001);
        assert_eq!(passed.time, Some(time));
        assert_eq!(passed.packet.from.to_string(), "10.89.0.2");
        assert_eq!((denied.verdict, denied.hook), (Action::Deny, Hook::Output));
        assert_eq!((heard.lost, heard.unread), (0, 0));
    }

    #[test]
    fn what_was_lost_is_counted_by_the_numbers_between() {
        let (mut next, mut heard) = (u32::MAX - 1, Heard::default());
        // u32::MAX - 1 and u32::MAX came, 0 to 6 did not
        for number in [u32::MAX - 1, u32::MAX, 7, 8, 18] {
            packet(&logged(number, "pass", 2, &ECHO), &mut next, &mut heard);
        }
        assert_eq!((heard.lost, heard.packets.len()), (7 + 9, 5));
        // and what is not ours, or no packet, is neither lost nor read
        packet(&logged(19, "somebody: ", 2, &ECHO), &mut next, &mut heard);
        packet(&logged(20, "pass", 0, &ECHO), &mut next, &mut heard);
        packet(&logged(21, "pass", 2, &ECHO[..20]), &mut next, &mut heard);
        assert_eq!((heard.lost, heard.unread), (16, 3));
    }

    proptest! {
        /// Whatever stands in a message, reading it ends and panics nowhere.
        #[test]
        fn arbitrary_messages(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..120, flip in any::<(u8, u8)>()) {
            let (mut next, mut heard) = (0, Heard::default());
            packet(&bytes, &mut next, &mut heard);
            let mut good = logged(0, "pass", 2, &ECHO);
            let at = usize::from(flip.0) % good.len();
            good[at] ^= flip.1;
            packet(&good, &mut next, &mut heard);
            packet(&good[..cut.min(good.len())], &mut next, &mut heard);
            prop_assert!(heard.packets.len() + heard.unread as usize == 3);
        }
    }
}
