//! Which published ports are reached on `::1` in user space.
//!
//! The kernel translates `::1` as it translates 127.0.0.1, by a route that each zone's bridge has. It cannot
//! where `bridge-nf-call-ip6tables` is on (Docker and Kubernetes set it): there the translation of an answer
//! back to `::1` comes before the kernel looks at the addresses of what arrived, and `::1` may not arrive. Nor
//! can it lead to a container without IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall::model::Publish;

use super::Engine;
use crate::daemon::loopback6::Door;
use crate::daemon::record::Record;

/// Doors of one container; of longer ranges the rest is not reached on `::1` where doors are needed.
const MOST_DOORS: usize = 1024;

impl Engine {
    /// Opens and closes doors on `::1` until they agree with what is published, and tells the kernel who does it.
    pub(super) fn follow_doors(&mut self) {
        let user = bridged_by_netfilter();
        let changes = self.firewall.set_user_loopback(user);
        if let Err(e) = self.apply(&changes) {
            tracing::error!(error = ?e, "say who forwards published ports on ::1");
        }
        let wanted: Vec<Door> = self
            .ports
            .publishing()
            .filter(|record| user || !has_v6(record))
            .filter(|record| {
                !self
                    .zones
                    .get(&record.zone)
                    .is_some_and(|z| z.zone.internal)
            })
            .flat_map(doors)
            .collect();
        self.doors.follow(&wanted);
    }

    /// Follows the host: bridge netfilter may be switched on or off at any time, and no event tells.
    pub(crate) fn check_doors(&mut self) {
        if self.firewall.user_loopback() != bridged_by_netfilter() {
            self.follow_doors();
        }
    }
}

/// Whether bridged IPv6 packets pass the L3 hooks before the kernel looks at them.
fn bridged_by_netfilter() -> bool {
    let switch = std::fs::read("/proc/sys/net/bridge/bridge-nf-call-ip6tables");
    // Without the module there is no switch.
    switch.is_ok_and(|value| value.first() == Some(&b'1'))
}

fn has_v6(record: &Record) -> bool {
    record.addresses.iter().any(|net| net.addr().is_ipv6())
}

/// Where a port that is published on `::1` alone is translated: an address of the IPv4 loopback that
/// nobody uses, so that it is reached from the host only, and by the door only.
pub(super) const ASIDE: Ipv4Addr = Ipv4Addr::new(127, 110, 101, 116);

/// The doors of one container. They lead to its published port on the IPv4 loopback, so that the kernel
/// translates it and judges it as published, like any other.
fn doors(record: &Record) -> Vec<Door> {
    let loopback = IpAddr::V6(Ipv6Addr::LOCALHOST);
    record
        .publish
        .iter()
        .map(|(_, publish)| publish)
        .filter(|publish| publish.address.is_none_or(|address| address == loopback))
        .flat_map(|publish| {
            let to = match publish.address {
                None => Ipv4Addr::LOCALHOST,
                Some(_) => ASIDE,
            };
            (publish.first..=publish.last).map(move |port| Door {
                proto: publish.proto,
                port,
                to: to.into(),
                to_port: port,
            })
        })
        .take(MOST_DOORS)
        .collect()
}

/// As it was asked for.
pub(super) fn shown(publish: &Publish) -> Publish {
    let aside = publish.address == Some(ASIDE.into());
    Publish {
        address: match aside {
            true => Some(Ipv6Addr::LOCALHOST.into()),
            false => publish.address,
        },
        ..publish.clone()
    }
}

/// What is published, and what the doors need besides.
pub(super) fn with_aside(published: impl Iterator<Item = Publish>) -> Vec<Publish> {
    let loopback = Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
    published
        .flat_map(|publish| {
            let aside = (publish.address == loopback).then(|| Publish {
                address: Some(ASIDE.into()),
                ..publish.clone()
            });
            std::iter::once(publish).chain(aside)
        })
        .collect()
}
