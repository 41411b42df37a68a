//! Which published ports are reached on `::1`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall::model::Publish;

use super::Engine;
use crate::daemon::loopback6::Door;
use crate::daemon::record::Record;

impl Engine {
    /// Opens and closes doors on `::1` until they agree with what is published.
    pub(super) fn follow_doors(&mut self) {
        let wanted: Vec<Door> = self
            .ports
            .values()
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
        .collect()
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
