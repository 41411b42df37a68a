//! News of links: bridges and ports that appear, change and go.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::error::LinkError;
use super::ways;
use super::wire::{self, AF_BRIDGE, Link, PortFlags, u32_at};
use crate::name::MacAddr;

// linux/rtnetlink.h
const RTMGRP_LINK: u32 = 1;
const RTMGRP_NEIGH: u32 = 4;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
const RTMGRP_IPV6_ROUTE: u32 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_DELROUTE: u16 = 25;
const RTM_DELNEIGH: u16 = 29;

/// Room for the news of some thousand changes; what does not fit becomes [`LinkEvent::Overrun`].
const BUFFER: usize = 4 << 20;

/// A change of a link. Repeated news of one state are normal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A bridge.
    Bridge {
        /// Its name.
        name: String,
        /// Its index.
        ifindex: u32,
        /// Whether it is up.
        up: bool,
        /// Whether it is gone.
        gone: bool,
    },
    /// A link got an address or lost one.
    Address {
        /// Index of the link.
        ifindex: u32,
        /// Whether it lost it.
        gone: bool,
    },
    /// A port lost an address of its FDB.
    Forgotten {
        /// Index of the port.
        ifindex: u32,
    },
    /// Something that led to a container's prefixes is gone.
    Way {
        /// Index of the bridge.
        ifindex: u32,
        /// The container's hardware address.
        mac: MacAddr,
    },
    /// A port of a bridge.
    Port {
        /// Its index.
        ifindex: u32,
        /// Its name.
        name: String,
        /// Index of the bridge it is on, or was.
        master: u32,
        /// Whether it left the bridge, also when the link itself lives on.
        gone: bool,
        /// Its flags now, where the news tell.
        flags: Option<PortFlags>,
        /// Whether it is up.
        up: bool,
    },
    /// Some other link: an uplink may have come or gone.
    Other,
    /// News were lost: look at everything anew.
    Overrun,
}

/// A non-blocking listener in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Starts to listen.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn open() -> Result<Self, LinkError> {
        Self::to(
            RTMGRP_LINK
                | RTMGRP_NEIGH
                | RTMGRP_IPV4_IFADDR
                | RTMGRP_IPV6_IFADDR
                | RTMGRP_IPV6_ROUTE,
        )
    }

    /// Starts to listen to news of links alone.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub(super) fn of_links() -> Result<Self, LinkError> {
        Self::to(RTMGRP_LINK)
    }

    fn to(groups: u32) -> Result<Self, LinkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            // Larger than the host's limit where we may, up to the limit where not.
            if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
                rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
            }
            socket.bind(&SocketAddr::new(0, groups))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|e| LinkError::kernel("listen to news of links", e))?;
        Ok(Self {
            socket,
            buffer: vec![0; 32 * 1024],
        })
    }

    /// Everything that has come since the last call; does not block.
    ///
    /// # Errors
    /// The socket fails for good.
    pub fn drain(&mut self) -> Result<Vec<LinkEvent>, LinkError> {
        let mut events = Vec::new();
        loop {
            match self.socket.recv(&mut &mut self.buffer[..], 0) {
                Ok(length) => {
                    let messages = wire::messages(&self.buffer[..length]);
                    events.extend(messages.filter_map(|m| event(m.kind, m.payload)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    events.push(LinkEvent::Overrun);
                }
                Err(error) => return Err(LinkError::kernel("read news of links", error)),
            }
        }
    }
}

fn event(kind: u16, payload: &[u8]) -> Option<LinkEvent> {
    if kind == RTM_NEWADDR || kind == RTM_DELADDR {
        // the index is at the same place in `struct ifaddrmsg` as in `struct ifinfomsg`
        let ifindex = u32_at(payload, 4)?;
        let gone = kind == RTM_DELADDR;
        return Some(LinkEvent::Address { ifindex, gone });
    }
    if kind == RTM_DELNEIGH && payload.first() == Some(&AF_BRIDGE) {
        let ifindex = u32_at(payload, 4)?;
        return Some(LinkEvent::Forgotten { ifindex });
    }
    if kind == RTM_DELNEIGH || kind == RTM_DELROUTE {
        let (ifindex, mac) = ways::lost(payload, kind == RTM_DELROUTE)?;
        return Some(LinkEvent::Way { ifindex, mac });
    }
    if kind != RTM_NEWLINK && kind != RTM_DELLINK {
        return None;
    }
    let link = Link::parse(payload)?;
    let gone = kind == RTM_DELLINK;
    Some(match link.master {
        Some(master) if link.family == AF_BRIDGE || link.port.is_some() => LinkEvent::Port {
            ifindex: link.index,
            name: link.name,
            master,
            gone,
            flags: link.port,
            up: link.up,
        },
        _ if link.kind == "bridge" => LinkEvent::Bridge {
            name: link.name,
            ifindex: link.index,
            up: link.up,
            gone,
        },
        _ => LinkEvent::Other,
    })
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
