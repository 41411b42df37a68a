//! Performs plans: ports of containers, on warm sockets.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ipnet::Ipv6Net;
use rustix::io::Errno;

use super::encode::{self, Target};
use super::error::LinkError;
use super::inside;
use super::netns::Netns;
use super::socket::{Netlink, Refused, Request};
use super::sysctl;
use crate::name::{IfName, MacAddr};
use crate::plan::{self, Step};
use crate::port::PortSpec;

/// A port that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Index of the host end.
    pub ifindex: u32,
    /// Its name.
    pub host_ifname: IfName,
    /// Hardware address inside.
    pub mac: MacAddr,
}

/// Links of one network namespace: the one of the thread that opened it.
///
/// Owned by one thread, which need not be the one that opened it but must be in the same namespace:
/// sysctls are files of the thread that opens them.
#[derive(Debug)]
pub struct Links {
    pub(super) host: Netlink,
    pub(super) home: OwnedFd,
}

impl Links {
    /// Opens the sockets.
    ///
    /// # Errors
    /// No netlink, no `/proc`, or no thread can be had.
    pub fn open() -> Result<Self, LinkError> {
        let failed = |error: std::io::Error| LinkError::kernel("open a netlink socket", error);
        let home = Netns::current()?;
        let home = home.as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(Self {
            host: Netlink::open().map_err(failed)?,
            home,
        })
    }

    /// Makes a container's port: the veth, its host end on the bridge, isolated, locked and with its
    /// static FDB entry, its inside in `netns`, down. No packet passes yet.
    ///
    /// # Errors
    /// The bridge is missing, a name is taken on either side, or the kernel refuses. Then the port is gone
    /// again, or the error says what is left.
    pub fn create_port(&mut self, spec: &PortSpec, netns: &Netns) -> Result<Port, LinkError> {
        let bridge = self.host.index_of(spec.bridge.as_str());
        let bridge = bridge.map_err(|_| LinkError::NoBridge {
            name: spec.bridge.clone(),
        })?;
        let steps = plan::host(spec);
        let host_ifname = spec.host_ifname();
        let mut target = Target {
            index: 0,
            bridge,
            netns: netns.as_fd().as_raw_fd(),
        };
        // The first step alone: the others need the index that the kernel gives the link.
        let (first, rest) = steps.split_at(1);
        perform(&mut self.host, first, target)?;
        let guarded = self.guard(&host_ifname, rest, &mut target);
        if let Err(error) = guarded {
            return Err(undone(&mut self.host, first, target, error));
        }
        Ok(Port {
            ifindex: target.index,
            host_ifname,
            mac: spec.mac,
        })
    }

    /// The steps after the first, on the link that it made.
    fn guard(
        &mut self,
        host: &IfName,
        steps: &[Step],
        target: &mut Target,
    ) -> Result<(), LinkError> {
        let index = self.host.index_of(host.as_str());
        target.index = index.map_err(|e| LinkError::kernel(format!("find link {host}"), e))?;
        // The one step that is no message. The file is absent on a kernel without IPv6.
        sysctl::write(&format!("ipv6/conf/{host}/disable_ipv6"), "1")?;
        perform(&mut self.host, steps, *target)
    }

    /// Opens a port: configures the inside, as far as the spec says that netd does.
    ///
    /// # Errors
    /// The kernel refuses something inside. Then the inside is down again and has none of the
    /// addresses; the port itself stays, for the caller to close.
    pub fn open_port(
        &mut self,
        port: &Port,
        spec: &PortSpec,
        netns: &Netns,
    ) -> Result<(), LinkError> {
        self.inside(spec, &port.host_ifname, &plan::inside(spec), netns)
    }

    /// Has a container that was alone in its zone so far, and is configured by netd, answer by the port that it was
    /// asked at: it got a port in another zone. What is there already stays.
    ///
    /// # Errors
    /// The interface is missing, or the kernel refuses something inside.
    pub fn keep_sources_apart(&mut self, spec: &PortSpec, netns: &Netns) -> Result<(), LinkError> {
        self.inside(spec, &spec.host_ifname(), &plan::sources(spec), netns)
    }

    fn inside(
        &mut self,
        spec: &PortSpec,
        host_ifname: &IfName,
        steps: &[Step],
        netns: &Netns,
    ) -> Result<(), LinkError> {
        let socket = inside::socket(&self.home, netns);
        let mut socket = socket.map_err(|source| LinkError::EnterNetns {
            ifname: spec.ifname.clone(),
            source,
        })?;
        let index = socket.index_of(spec.ifname.as_str()).map_err(|source| {
            let action = format!("find {} inside, peer of {host_ifname}", spec.ifname);
            LinkError::kernel(action, source)
        })?;
        let target = Target {
            index,
            bridge: 0,
            netns: -1,
        };
        let stale = plan::stale_rules(steps);
        let stale = stale.iter().filter_map(|step| encode::step(step, target));
        // Hardly any is there, and one that is not is what is wanted.
        let _ = socket.batch(stale.collect());
        perform(&mut socket, steps, target)
    }

    /// Has the kernel notice the carrier of a port that was opened: it does by itself when it comes to it,
    /// up to a second later, and the bridge drops frames to the port until then. To be asked about the
    /// link makes it notice now. A port that is gone is fine.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn notice_carrier(&mut self, ifindex: u32) -> Result<(), LinkError> {
        let noticed = self.host.link(encode::get_link_at(ifindex));
        noticed.map(drop).map_err(|source| {
            LinkError::kernel(format!("ask for the carrier of port {ifindex}"), source)
        })
    }

    /// Puts a port back in order: on its bridge, guarded, up. For when the bridge was made again or
    /// somebody changed the port by hand. A port that is on its bridge stays up all the while; one that
    /// is not comes up only when it is guarded.
    ///
    /// # Errors
    /// The bridge or the port is missing, or the kernel refuses.
    pub fn repair_port(&mut self, spec: &PortSpec, ifindex: u32) -> Result<(), LinkError> {
        let host = spec.host_ifname();
        let action = format!("repair port {host}");
        let bridge = self.host.index_of(spec.bridge.as_str());
        let bridge = bridge.map_err(|_| LinkError::NoBridge {
            name: spec.bridge.clone(),
        })?;
        let link = self.host.link(encode::get_link_at(ifindex));
        let link = link.map_err(|source| LinkError::kernel(&action, source))?;
        let Some(link) = link else {
            return Err(LinkError::kernel(&action, Errno::NODEV));
        };
        let quiet = format!("ipv6/conf/{}/disable_ipv6", link.name);
        sysctl::ensure(&quiet, "1")?;
        let mut requests = Vec::with_capacity(5);
        if link.master != Some(bridge) {
            requests.push(encode::down(ifindex));
            requests.push(encode::enslave(ifindex, bridge));
        }
        requests.push(encode::quiet_host_end(ifindex));
        requests.push(encode::guard_port(ifindex));
        requests.push(encode::fdb(ifindex, spec.mac));
        requests.push(encode::up(ifindex));
        self.all(&action, requests)?;
        self.lead(&spec.bridge, bridge, spec.mac, &spec.prefixes)
    }

    /// Leads prefixes to a container, on the bridge with this index. Those that do already still do.
    pub(super) fn lead(
        &mut self,
        name: &IfName,
        bridge: u32,
        mac: MacAddr,
        prefixes: &[Ipv6Net],
    ) -> Result<(), LinkError> {
        let steps = plan::ways(name, mac, prefixes);
        if steps.is_empty() {
            return Ok(());
        }
        let target = Target {
            index: 0,
            bridge,
            netns: -1,
        };
        let requests = steps.iter().filter_map(|step| encode::step(step, target));
        let requests = requests.collect();
        self.all(&format!("lead prefixes to {mac} on {name}"), requests)
    }

    /// Closes a port: down, and into `group`, to be deleted by [`super::reap()`]. From here on no packet
    /// passes; the name is free again once it is reaped. A port that is gone is closed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn close_port(&mut self, ifindex: u32, group: u32) -> Result<(), LinkError> {
        self.regroup(ifindex, group, encode::close(ifindex, group))
    }

    /// Puts a port that is closed by rules already into `group`, to be deleted by [`super::reap()`]. To take it down
    /// would make the kernel look at every port of its bridge, twice. A port that is gone is closed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn retire_port(&mut self, ifindex: u32, group: u32) -> Result<(), LinkError> {
        self.regroup(ifindex, group, encode::regroup(ifindex, group))
    }

    fn regroup(&mut self, ifindex: u32, group: u32, request: Request) -> Result<(), LinkError> {
        if group == 0 {
            return Err(LinkError::GroupZero);
        }
        match self.host.batch(vec![request]) {
            Err(Refused(errors)) if !errors[0].1.is(Errno::NODEV) => {
                let action = format!("close the port with index {ifindex}");
                Err(LinkError::kernel(action, errors[0].1.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Sends requests that are one action to the user; the first refusal is its error.
    pub(super) fn all(&mut self, action: &str, requests: Vec<Request>) -> Result<(), LinkError> {
        let outcome = self.host.batch(requests);
        outcome.map_err(|Refused(mut errors)| LinkError::kernel(action, errors.swap_remove(0).1))
    }
}

/// Performs the steps that are netlink messages, in one send. When one fails, those that did not are
/// undone, newest first, and past further errors.
fn perform(socket: &mut Netlink, steps: &[Step], target: Target) -> Result<(), LinkError> {
    let sent: Vec<(&Step, Request)> = steps
        .iter()
        .filter_map(|step| Some((step, encode::step(step, target)?)))
        .collect();
    let (sent, requests): (Vec<&Step>, Vec<Request>) = sent.into_iter().unzip();
    let Err(Refused(mut errors)) = socket.batch(requests) else {
        return Ok(());
    };
    // A rule by source may be left from the last time that the address was attached here.
    let stands = |index: usize| matches!(sent.get(index), Some(Step::AddRule { .. }));
    errors.retain(|(index, error)| !(stands(*index) && error.is(Errno::EXIST)));
    if errors.is_empty() {
        return Ok(());
    }
    let failed: BTreeSet<usize> = errors.iter().map(|(index, _)| *index).collect();
    let done: Vec<Step> = sent
        .iter()
        .enumerate()
        .filter(|(index, _)| !failed.contains(index))
        .map(|(_, step)| (*step).clone())
        .collect();
    let (index, source) = errors.into_iter().next().unwrap_or((0, Errno::IO.into()));
    let error = LinkError::kernel(sent[index].to_string(), source);
    Err(undone(socket, &done, target, error))
}

/// Undoes `done`, newest first, and adds to `error` what could not be undone.
fn undone(socket: &mut Netlink, done: &[Step], target: Target, mut error: LinkError) -> LinkError {
    for step in done.iter().rev().filter_map(Step::undo) {
        let Some(request) = encode::step(&step, target) else {
            continue;
        };
        let refused = socket.batch(vec![request]).err();
        if let Some(Refused(errors)) = refused
            && let LinkError::Kernel { left, .. } = &mut error
        {
            left.push(format!("{step}: {}", errors[0].1));
        }
    }
    error
}
