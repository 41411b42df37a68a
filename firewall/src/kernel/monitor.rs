//! Notices when somebody else changes our tables.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::nf::{self, msg};
use super::socket::{Received, Socket, SocketError};
use super::sys;
use super::tables::{Tables, TablesError};
use super::wire::{self, NFGEN};
use crate::skeleton::TABLE;

/// Hears every change of nf_tables but those of our own [`Tables`], which a filter in the kernel
/// throws away: an install of 100,000 elements must not overrun it.
#[derive(Debug)]
pub struct TableMonitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl TableMonitor {
    /// Begins to listen. What happens from now on is heard.
    ///
    /// # Errors
    /// No netlink.
    pub fn open(tables: &Tables) -> Result<Self, TablesError> {
        let socket = Socket::netfilter()?;
        sys::attach_filter(socket.as_fd(), &mut not_from(tables.portid())).map_err(|source| {
            SocketError::Io {
                doing: "attach a filter to",
                source,
            }
        })?;
        socket.join(nf::GROUP_NFTABLES)?;
        Ok(Self {
            socket,
            buffer: vec![0; 1 << 16],
        })
    }

    /// Reads what waits, without blocking. True when somebody else changed our tables, or may have:
    /// when messages were lost, that cannot be known.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn drain(&mut self) -> Result<bool, TablesError> {
        let mut changed = false;
        loop {
            match self.socket.receive(&mut self.buffer)? {
                Received::Bytes(len) => {
                    changed |= wire::messages(&self.buffer[..len]).any(|m| concerns_us(&m));
                }
                Received::Overrun => changed = true,
                Received::Nothing => return Ok(changed),
            }
        }
    }
}

impl AsFd for TableMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TableMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }
}

/// Every notification but NEWGEN begins with the name of its table (attribute 1 of each kind).
fn concerns_us(message: &wire::Message<'_>) -> bool {
    let ours = message
        .body
        .get(NFGEN..)
        .and_then(|body| wire::text(body, 1))
        == Some(TABLE);
    let family = message.body.first();
    ours && message.kind != nf::SUBSYS_NFTABLES << 8 | msg::NEWGEN
        && matches!(family, Some(&nf::NFPROTO_INET | &nf::NFPROTO_BRIDGE))
}

/// A classic BPF program: pass unless `nlmsg_pid` (bytes 12 to 15) of the first message is `portid`.
/// Notifications of one transaction come with one port.
fn not_from(portid: u32) -> [libc::sock_filter; 4] {
    let op = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 12),
        // Loads are in network byte order, the port is not.
        op(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            portid.to_be(),
        ),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ]
}
