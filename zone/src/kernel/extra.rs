//! Interfaces of a container beside zones: whoever asks for them judges what passes there.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Route;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, IpVlanMode, LinkMessage, MacVlanMode,
};
use rtnetlink::{LinkIpVlan, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::encode;
use super::error::LinkError;
use super::inside;
use super::links::Links;
use super::netns::Netns;
use super::socket::Request;
use crate::name::IfName;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// A veth; its host end is a port of the bridge, and up, where one is named.
    Veth {
        /// Its end here.
        host: IfName,
        /// Its end in the container.
        inside: IfName,
        /// Whose port the host end becomes.
        bridge: Option<IfName>,
    },
    /// An interface that is here goes inside.
    Moved {
        /// Which one.
        ifname: IfName,
        /// Its name in the container.
        inside: IfName,
    },
    /// A macvlan of an interface, in bridge mode.
    MacVlan {
        /// The interface here.
        of: IfName,
        /// Its name in the container.
        inside: IfName,
    },
    /// An ipvlan of an interface, in L2 mode.
    IpVlan {
        /// The interface here.
        of: IfName,
        /// Its name in the container.
        inside: IfName,
    },
}

impl Links {
    /// Makes one, down inside.
    ///
    /// # Errors
    /// An interface or bridge is missing, a name is taken, or the kernel refuses.
    pub fn add_extra(&mut self, extra: &Extra, netns: &Netns) -> Result<(), LinkError> {
        let fd = netns.as_fd().as_raw_fd();
        let (what, request) = match extra {
            Extra::Veth {
                host,
                inside,
                bridge,
            } => {
                let bridge = bridge.as_ref().map(|b| self.find(b)).transpose()?;
                (host, new(veth(host, inside, bridge, fd)))
            }
            Extra::Moved { ifname, inside } => {
                let index = self.find(ifname)?;
                (ifname, change(moved(index, fd, ifname, inside)))
            }
            Extra::MacVlan { of, inside } => {
                let link = LinkMacVlan::new(inside.as_str(), self.find(of)?, MacVlanMode::Bridge);
                (of, new(link.setns_by_fd(fd).build()))
            }
            Extra::IpVlan { of, inside } => {
                let link = LinkIpVlan::new(inside.as_str(), self.find(of)?, IpVlanMode::L2);
                (of, new(link.setns_by_fd(fd).build()))
            }
        };
        self.host.batch(vec![request]).map_err(|refused| {
            let action = format!("give the container an interface by {what}");
            refused_as(action, refused)
        })
    }

    /// Takes an interface that was moved inside, and is called `inside` there, back.
    ///
    /// # Errors
    /// It is not there any more, or the kernel refuses.
    pub fn take_back(
        &mut self,
        ifname: &IfName,
        inside: &IfName,
        netns: &Netns,
    ) -> Result<(), LinkError> {
        let failed = |e| LinkError::kernel(format!("take {ifname} back"), e);
        let mut socket = inside::socket(&self.home, netns).map_err(failed)?;
        let index = socket.index_of(inside.as_str()).map_err(failed)?;
        let back = moved(index, self.home.as_raw_fd(), inside, ifname);
        socket
            .batch(vec![change(back)])
            .map_err(|refused| refused_as(format!("take {ifname} back"), refused))
    }

    /// Sets an interface inside down: its other end carries nothing then.
    ///
    /// # Errors
    /// It is not there, or the kernel refuses.
    pub fn shut_inside(&mut self, ifname: &IfName, netns: &Netns) -> Result<(), LinkError> {
        let action = || format!("set {ifname} inside down");
        let failed = |e| LinkError::kernel(action(), e);
        let mut socket = inside::socket(&self.home, netns).map_err(failed)?;
        let index = socket.index_of(ifname.as_str()).map_err(failed)?;
        socket
            .batch(vec![encode::down(index)])
            .map_err(|refused| refused_as(action(), refused))
    }

    fn find(&mut self, ifname: &IfName) -> Result<u32, LinkError> {
        self.host
            .index_of(ifname.as_str())
            .map_err(|e| LinkError::kernel(format!("find interface {ifname}"), e))
    }
}

fn refused_as(action: String, refused: super::socket::Refused) -> LinkError {
    match refused.0.into_iter().next() {
        Some((_, source)) => LinkError::kernel(action, source),
        None => LinkError::Malformed { action },
    }
}

/// Into another namespace, there under the name `to`.
fn moved(index: u32, netns: RawFd, from: &IfName, to: &IfName) -> LinkMessage {
    let message = LinkUnspec::new_with_index(index).setns_by_fd(netns);
    match from == to {
        true => message.build(),
        false => message.name(to.as_str()).build(),
    }
}

fn veth(host: &IfName, inside: &IfName, bridge: Option<u32>, netns: RawFd) -> LinkMessage {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(inside.as_str())
        .setns_by_fd(netns);
    let mut veth = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(host.as_str())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
    if let Some(bridge) = bridge {
        veth = veth.controller(bridge).up();
    }
    veth.build()
}

fn new(message: LinkMessage) -> Request {
    Request {
        message: Route::NewLink(message),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

fn change(message: LinkMessage) -> Request {
    Request {
        message: Route::SetLink(message),
        flags: 0,
    }
}
