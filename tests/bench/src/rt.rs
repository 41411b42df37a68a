//! The routing messages of an attach, and of what it stands on. Layouts: `linux/rtnetlink.h`, `linux/if_link.h`.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{
    AF_INET, AF_INET6, IFF_UP, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_NET_NS_FD, IFLA_NUM_RX_QUEUES,
    IFLA_NUM_TX_QUEUES, NLM_F_CREATE, NLM_F_EXCL, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK,
    RTM_NEWROUTE,
};

use crate::wire::{Batch, Body};

/// `VETH_INFO_PEER` of `linux/veth.h`.
const VETH_INFO_PEER: u16 = 1;
/// `IFA_F_NODAD`: no duplicate address detection, which netd's allocator makes needless.
const NODAD: u8 = 0x02;
/// `IFLA_BRPORT_UNICAST_FLOOD` and its kin of `linux/if_link.h`.
const UNICAST_FLOOD: u16 = 9;
const MCAST_FLOOD: u16 = 27;
const BCAST_FLOOD: u16 = 30;
/// lo is always the first interface of a network namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// A pair of interfaces to be made.
pub(crate) struct Veth<'a> {
    /// The host end's name.
    pub(crate) name: &'a str,
    /// The host end's interface index; must be free.
    pub(crate) index: u32,
    /// Index of the bridge it is put on.
    pub(crate) bridge: u32,
    /// The other end's name.
    pub(crate) peer: &'a str,
    /// The other end's interface index; must be free there.
    pub(crate) peer_index: u32,
    /// The other end's hardware address.
    pub(crate) mac: [u8; 6],
    /// Where the other end is made.
    pub(crate) netns: BorrowedFd<'a>,
}

/// Makes a pair: host end on its bridge and up, one queue each way, the other end in its network namespace under its
/// final name and address. (The kernel cannot bring the other end up in the same message.)
pub(crate) fn new_veth(batch: Batch, veth: &Veth<'_>) -> Batch {
    batch.message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, |b| {
        b.raw(&link_header(veth.index, IFF_UP));
        b.text(IFLA_IFNAME, veth.name);
        b.number(IFLA_MASTER, veth.bridge);
        one_queue(b);
        b.nest(IFLA_LINKINFO, |b| {
            b.text(IFLA_INFO_KIND, "veth");
            b.nest(IFLA_INFO_DATA, |b| {
                b.nest(VETH_INFO_PEER, |b| {
                    b.raw(&link_header(veth.peer_index, 0));
                    b.text(IFLA_IFNAME, veth.peer);
                    b.attr(IFLA_ADDRESS, &veth.mac);
                    b.number(IFLA_NET_NS_FD, veth.netns.as_raw_fd() as u32);
                    one_queue(b);
                });
            });
        });
    })
}

/// Makes a bridge without spanning tree.
pub(crate) fn new_bridge(batch: Batch, name: &str, index: u32, mac: [u8; 6]) -> Batch {
    batch.message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, |b| {
        b.raw(&link_header(index, IFF_UP));
        b.text(IFLA_IFNAME, name);
        b.attr(IFLA_ADDRESS, &mac);
        b.nest(IFLA_LINKINFO, |b| b.text(IFLA_INFO_KIND, "bridge"));
    })
}

/// Brings an interface up.
pub(crate) fn up(batch: Batch, index: u32) -> Batch {
    batch.message(RTM_NEWLINK, 0, |b| b.raw(&link_header(index, IFF_UP)))
}

/// Lets nothing be flooded to a port of a bridge: what its neighbours announce in broadcasts and multicasts stops there.
pub(crate) fn quiet(batch: Batch, index: u32) -> Batch {
    batch.message(libc::RTM_SETLINK, 0, |b| {
        let mut header = link_header(index, 0);
        header[0] = libc::AF_BRIDGE as u8;
        b.raw(&header);
        b.nest(libc::IFLA_PROTINFO, |b| {
            for flood in [UNICAST_FLOOD, MCAST_FLOOD, BCAST_FLOOD] {
                b.attr(flood, &[0]);
            }
        });
    })
}

/// Takes an interface down and puts it into a group, to be deleted with it.
pub(crate) fn condemn(batch: Batch, index: u32, group: u32) -> Batch {
    batch.message(RTM_NEWLINK, 0, |b| {
        let mut header = link_header(index, 0);
        header[12..16].copy_from_slice(&(IFF_UP as u32).to_ne_bytes());
        b.raw(&header);
        b.number(IFLA_GROUP, group);
    })
}

/// Deletes an interface (and with one end of a pair the other).
pub(crate) fn delete(batch: Batch, index: u32) -> Batch {
    batch.message(RTM_DELLINK, 0, |b| b.raw(&link_header(index, 0)))
}

/// Deletes all interfaces of a group at once.
pub(crate) fn delete_group(batch: Batch, group: u32) -> Batch {
    batch.message(RTM_DELLINK, 0, |b| {
        b.raw(&link_header(0, 0));
        b.number(IFLA_GROUP, group);
    })
}

/// Gives an interface an address.
pub(crate) fn address(batch: Batch, index: u32, address: IpAddr, prefix: u8) -> Batch {
    batch.message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, |b| {
        let (family, bytes) = family(address);
        // struct ifaddrmsg: family, prefix length, flags, scope, index
        b.raw(&[family, prefix, NODAD, 0]);
        b.raw(&index.to_ne_bytes());
        b.attr(libc::IFA_LOCAL, &bytes);
        b.attr(libc::IFA_ADDRESS, &bytes);
    })
}

/// Adds a default route by a gateway on an interface.
pub(crate) fn default_route(batch: Batch, index: u32, gateway: IpAddr) -> Batch {
    batch.message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, |b| {
        let (family, bytes) = family(gateway);
        // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags
        let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC);
        b.raw(&[family, 0, 0, 0, table, protocol, 0, libc::RTN_UNICAST]);
        b.raw(&[0; 4]);
        b.attr(libc::RTA_GATEWAY, &bytes);
        b.number(libc::RTA_OIF, index);
    })
}

fn one_queue(b: &mut Body) {
    b.number(IFLA_NUM_TX_QUEUES, 1);
    b.number(IFLA_NUM_RX_QUEUES, 1);
}

/// struct ifinfomsg: family, pad, type, index, flags, change mask.
fn link_header(index: u32, flags: i32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn family(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(a) => (AF_INET as u8, a.octets().to_vec()),
        IpAddr::V6(a) => (AF_INET6 as u8, a.octets().to_vec()),
    }
}
