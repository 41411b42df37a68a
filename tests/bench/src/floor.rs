//! The floor: the kernel messages that an attach cannot do without, sent from one warm process that does nothing else.
//!
//! An attach is three steps: one RTM_NEWLINK makes the pair (one queue each way, on its bridge and up, the other end in
//! its network namespace under its final name and hardware address); a socket opened in that namespace sends one batch
//! (lo up, peer up, address, default route); one transaction adds an element to an nft set.

use std::time::Duration;

use crate::container::{Container, GATEWAY4, GATEWAY6, PREFIX4};
use crate::crowd;
use crate::error::{During, Result};
use crate::nft::Set;
use crate::ns::Netns;
use crate::rt::{self, LOOPBACK, Veth};
use crate::stats::timed;
use crate::wire::{Batch, Socket};

/// Index of the floor's bridge; host ends count on from here.
const BRIDGE: u32 = 100;
/// Index of the bridge before a crowd's second one: beyond the host ends of all.
const FURTHER_BRIDGES: u32 = 100_000;
/// Containers with this number and higher ones are a crowd, spread over as many bridges as they need.
pub(crate) const FIRST_OF_CROWD: u32 = 10_000;
/// Index of every container's interface inside.
const INSIDE: u32 = 2;
/// Group of links that are about to be deleted.
const CONDEMNED: u32 = 0x6e00_0001;

/// A host with one bridge, and warm sockets.
pub(crate) struct Floor {
    host: Netns,
    route: Socket,
    set: Set,
    dual_stack: bool,
    /// Bridges beside the first.
    further: u32,
}

/// How long each step of one attach took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    /// The pair of interfaces.
    pub(crate) link: Duration,
    /// Entering the namespace, its socket, and the batch inside.
    pub(crate) inside: Duration,
    /// The nft element.
    pub(crate) element: Duration,
}

impl Steps {
    /// The whole attach.
    pub(crate) fn total(&self) -> Duration {
        self.link + self.inside + self.element
    }
}

impl Floor {
    /// Makes the host and its bridge. With `dual_stack`, containers get a v6 address and route too.
    pub(crate) fn create(name: &str, dual_stack: bool) -> Result<Self> {
        let host = Netns::create(name)?;
        let (route, set) = host.on(|| {
            no_bridge_netfilter()?;
            let mut route = Socket::route()?;
            let mac = [2, 0, 0, 0, 0xff, 1];
            let batch = rt::up(Batch::default(), LOOPBACK);
            let batch = rt::new_bridge(batch, "vz-floor", BRIDGE, mac);
            let mut batch = rt::address(batch, BRIDGE, GATEWAY4.into(), PREFIX4);
            if dual_stack {
                batch = rt::address(batch, BRIDGE, GATEWAY6.into(), 64);
            }
            route.send("make the floor's bridge", batch)?;
            Ok((route, Set::create()?))
        })?;
        Ok(Self {
            host,
            route,
            set,
            dual_stack,
            further: 0,
        })
    }

    /// The host it attaches on.
    pub(crate) fn host(&self) -> &Netns {
        &self.host
    }

    /// The bridge a container belongs on, made when it is the first there.
    fn bridge(&mut self, container: &Container) -> Result<u32> {
        let bridge = container
            .number
            .checked_sub(FIRST_OF_CROWD)
            .map_or(0, crowd::bridge_of);
        while self.further < bridge {
            self.further += 1;
            let number = self.further;
            let mac = [2, 0, 0, 0, 0xfe, number as u8];
            let name = format!("vz-floor{number}");
            let batch = Batch::default();
            let batch = rt::new_bridge(batch, &name, FURTHER_BRIDGES + number, mac);
            self.route.send("make another bridge", batch)?;
        }
        Ok(match bridge {
            0 => BRIDGE,
            further => FURTHER_BRIDGES + further,
        })
    }

    fn index(container: &Container) -> u32 {
        BRIDGE + 1 + container.number
    }

    /// Attaches, and tells how long each step took. The calling thread is on the host afterwards.
    pub(crate) fn attach(&mut self, container: &Container) -> Result<Steps> {
        let host_end = format!("vb-{}", container.name);
        let bridge = self.bridge(container)?;
        let (result, link) = timed(|| {
            let veth = Veth {
                name: &host_end,
                index: Self::index(container),
                bridge,
                peer: "host0",
                peer_index: INSIDE,
                mac: container.mac(),
                netns: container.netns.fd(),
            };
            self.route
                .send("make a veth", rt::new_veth(Batch::default(), &veth))
        });
        result?;
        let (result, inside) = timed(|| self.configure(container));
        result?;
        let (result, element) = timed(|| self.set.add(container.address4()));
        result?;
        Ok(Steps {
            link,
            inside,
            element,
        })
    }

    /// Attaches one of a crowd, and keeps it from making noise: nothing is flooded to it, and its host end has no IPv6.
    /// Otherwise the neighbour discovery of each container would be copied to a thousand others for seconds, and that is
    /// what would be measured. netd's ports are isolated and have no IPv6 on the host end either.
    pub(crate) fn attach_quietly(&mut self, container: &Container) -> Result<()> {
        self.attach(container)?;
        let file = format!("/proc/sys/net/ipv6/conf/vb-{}/disable_ipv6", container.name);
        std::fs::write(&file, "1").during(|| format!("write {file}"))?;
        let batch = rt::quiet(Batch::default(), Self::index(container));
        self.route.send("shield a port", batch)
    }

    fn configure(&self, container: &Container) -> Result<()> {
        container.netns.enter()?;
        let socket = Socket::route();
        self.host.enter()?;
        let batch = rt::up(Batch::default(), LOOPBACK);
        let batch = rt::up(batch, INSIDE);
        let batch = rt::address(batch, INSIDE, container.address4().into(), PREFIX4);
        let mut batch = rt::default_route(batch, INSIDE, GATEWAY4.into());
        if self.dual_stack {
            batch = rt::address(batch, INSIDE, container.address6().into(), 64);
            batch = rt::default_route(batch, INSIDE, GATEWAY6.into());
        }
        socket?.send("configure the inside", batch)
    }

    /// Detaches with one RTM_DELLINK, which waits for the link's last user (tens of milliseconds).
    pub(crate) fn detach(&mut self, container: &Container) -> Result<()> {
        self.set.remove(container.address4())?;
        let batch = rt::delete(Batch::default(), Self::index(container));
        self.route.send("delete a veth", batch)
    }

    /// Detaches several with one RTM_DELLINK for all: each is taken down and put into a group first.
    pub(crate) fn detach_group(&mut self, containers: &[Container]) -> Result<()> {
        for container in containers {
            self.set.remove(container.address4())?;
            let batch = rt::condemn(Batch::default(), Self::index(container), CONDEMNED);
            self.route.send("condemn a veth", batch)?;
        }
        let batch = rt::delete_group(Batch::default(), CONDEMNED);
        self.route.send("delete a group of veths", batch)
    }
}

/// Switches br_netfilter off on this host, where it is loaded or built in: a plain bridge does not have it, and netd
/// switches it off for itself.
fn no_bridge_netfilter() -> Result<()> {
    for family in ["iptables", "ip6tables", "arptables"] {
        let file = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        if std::path::Path::new(&file).exists() {
            std::fs::write(&file, "0").during(|| format!("write {file}"))?;
        }
    }
    Ok(())
}
