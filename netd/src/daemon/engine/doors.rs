//! Which published ports are reached on `::1`.

use std::net::{IpAddr, Ipv6Addr};

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

/// The doors of one container: to its IPv6 address where it has one.
fn doors(record: &Record) -> Vec<Door> {
    let ips = record.ips();
    let Some(to) = ips.iter().find(|ip| ip.is_ipv6()).or(ips.first()).copied() else {
        return Vec::new();
    };
    let loopback = IpAddr::V6(Ipv6Addr::LOCALHOST);
    record
        .publish
        .iter()
        .map(|(_, publish)| publish)
        .filter(|publish| publish.address.is_none_or(|address| address == loopback))
        .flat_map(|publish| {
            (publish.first..=publish.last).map(move |port| Door {
                proto: publish.proto,
                port,
                to,
                to_port: publish.port + (port - publish.first),
            })
        })
        .collect()
}
