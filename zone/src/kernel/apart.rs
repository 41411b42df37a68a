//! Ports that are plugged in while no daemon runs: kept apart from each other, and nothing more.
//!
//! What the host and guarded ports have to do with an unknown port, the rules refuse. Two unknown ports of one bridge
//! are no rule's business where the kernel does not tell rules of bridges (`CONFIG_NFT_BRIDGE_META`): there this is what
//! stands between them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use super::encode;
use super::error::LinkError;
use super::links::Links;
use super::monitor::{LinkEvent, Monitor};
use super::wire::{Link, PortFlags};

/// Guards every port of some bridges as soon as the kernel tells of it, and again when somebody changes that.
#[derive(Debug)]
pub struct Apart {
    links: Links,
    news: Monitor,
    bridges: BTreeSet<String>,
}

impl Apart {
    /// Begins: what is on bridges of these names is guarded before this returns. Bridges need not be there yet.
    ///
    /// # Errors
    /// Sockets cannot be had.
    pub fn begin(bridges: BTreeSet<String>) -> Result<Self, LinkError> {
        // News first: what is plugged in while the ports are listed must not be missed.
        let news = Monitor::of_links()?;
        let links = Links::open()?;
        let mut apart = Self {
            links,
            news,
            bridges,
        };
        apart.sweep();
        Ok(apart)
    }

    /// Acts on what has come since the last call; does not block for more. A port that cannot be guarded is gone, or
    /// is tried again with the next news of it.
    ///
    /// # Errors
    /// The socket fails for good.
    pub fn follow(&mut self) -> Result<(), LinkError> {
        for event in self.news.drain()? {
            match event {
                LinkEvent::Port {
                    ifindex,
                    master,
                    gone: false,
                    flags: Some(flags),
                    ..
                } if flags != PortFlags::GUARDED && self.is_ours(master) => self.guard(ifindex),
                LinkEvent::Overrun => self.sweep(),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_ours(&self, bridge: u32) -> bool {
        let name = self.links.ifname(bridge);
        name.is_some_and(|name| self.bridges.contains(&name))
    }

    fn sweep(&mut self) {
        let bridges = self.bridges.clone();
        for bridge in bridges {
            let Ok(bridge) = self.links.host.index_of(&bridge) else {
                continue;
            };
            let ports = self.links.host.dump(encode::get_ports(bridge), Link::parse);
            for port in ports.unwrap_or_default() {
                if port.master == Some(bridge) && port.port != Some(PortFlags::GUARDED) {
                    self.guard(port.index);
                }
            }
        }
    }

    fn guard(&mut self, ifindex: u32) {
        let _ = self.links.host.batch(vec![encode::guard_port(ifindex)]);
    }
}

impl AsFd for Apart {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}
