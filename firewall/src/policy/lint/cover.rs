//! Whether all that one rule is about, another one is about as well.
//!
//! The answer errs to no: what depends on who is where counts as not covered.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Surroundings;
use crate::policy::{AppliesTo, Peer, Ports, Rule};

/// A rule, made ready to be compared with many.
pub(super) struct Extent<'a> {
    pub(super) rule: &'a Rule,
    /// Protocols and ports as one number, `protocol << 16 | port`; sorted, disjoint. `None`: all.
    ports: Option<Vec<(u32, u32)>>,
}

impl<'a> Extent<'a> {
    pub(super) fn of(rule: &'a Rule) -> Self {
        let ports = rule.ports.as_ref().map(|ports| {
            let mut all: Vec<(u32, u32)> = ports.iter().map(|entry| interval(*entry)).collect();
            all.sort_unstable();
            all.dedup_by(|next, last| {
                let touches = next.0 <= last.1.saturating_add(1);
                if touches {
                    last.1 = last.1.max(next.1);
                }
                touches
            });
            all
        });
        Self { rule, ports }
    }

    /// Whether this rule is about everybody, every port and all the time that `other` is about.
    /// Says nothing of rates and numbers of connections.
    pub(super) fn covers(&self, other: &Extent<'_>, around: &Surroundings) -> bool {
        self.covers_ports(other)
            && self.covers_time(other)
            && other.rule.peers.iter().all(|peer| {
                let mut own = self.rule.peers.iter();
                own.any(|wide| peer_covers(wide, peer, around))
            })
    }

    fn covers_ports(&self, other: &Extent<'_>) -> bool {
        match (&self.ports, &other.ports) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => narrow.iter().all(|&(first, last)| {
                let place = wide.partition_point(|w| w.1 < first);
                wide.get(place).is_some_and(|w| w.0 <= first && last <= w.1)
            }),
        }
    }

    fn covers_time(&self, other: &Extent<'_>) -> bool {
        match (&self.rule.time, &other.rule.time) {
            (None, _) => true,
            (Some(wide), None) => wide.is_always(),
            (Some(wide), Some(narrow)) => wide.covers(narrow),
        }
    }
}

fn interval(entry: Ports) -> (u32, u32) {
    let point = |proto: u8, port: u16| u32::from(proto) << 16 | u32::from(port);
    match entry {
        Ports::Range { proto, first, last } => (point(proto, first), point(proto, last)),
        Ports::Proto(proto) => (point(proto, 0), point(proto, u16::MAX)),
        Ports::Icmp(kind) => (point(1, u16::from(kind)), point(1, u16::from(kind))),
        Ports::EveryIcmp => (point(1, 0), point(1, u16::MAX)),
    }
}

/// Whether everybody that `narrow` means is meant by `wide`.
pub(super) fn peer_covers(wide: &Peer, narrow: &Peer, around: &Surroundings) -> bool {
    if wide == narrow {
        return true;
    }
    match (wide, narrow) {
        (Peer::Any, Peer::Net(net)) => !meets_special(*net),
        (Peer::Any, _) | (Peer::World, Peer::Dns(_)) => true,
        (Peer::World, Peer::Net(net)) => is_world(*net, around),
        (Peer::Net(wide), Peer::Net(narrow)) => contains(*wide, *narrow),
        _ => false,
    }
}

/// Whether files that apply like `wide` apply to all to whom those apply that do like `narrow`.
pub(super) fn target_covers(wide: &AppliesTo, narrow: &AppliesTo) -> bool {
    let same = |wide: Option<&str>, narrow: Option<&str>| wide.is_none() || wide == narrow;
    let name = |target: &AppliesTo| target.container.as_ref().map(|n| n.as_str().to_owned());
    let zone = |target: &AppliesTo| target.zone.as_ref().map(|n| n.as_str().to_owned());
    same(name(wide).as_deref(), name(narrow).as_deref())
        && same(zone(wide).as_deref(), zone(narrow).as_deref())
        && wide
            .labels
            .iter()
            .all(|(key, value)| narrow.labels.get(key) == Some(value))
}

/// Whether every address of `narrow` is one of `wide`.
pub(super) fn contains(wide: IpNet, narrow: IpNet) -> bool {
    match (wide, narrow) {
        (IpNet::V4(wide), IpNet::V4(narrow)) => wide.contains(&narrow),
        (IpNet::V6(wide), IpNet::V6(narrow)) => wide.contains(&narrow),
        _ => false,
    }
}

fn meets(net: IpNet, other: IpNet) -> bool {
    contains(net, other) || contains(other, net)
}

fn v4(a: u8, b: u8, length: u8) -> IpNet {
    Ipv4Net::new_assert([a, b, 0, 0].into(), length).into()
}

fn v6(first: u16, length: u8) -> IpNet {
    Ipv6Net::new_assert([first, 0, 0, 0, 0, 0, 0, 0].into(), length).into()
}

/// Whether it has addresses that `any` does not mean: loopback, link-local, multicast.
fn meets_special(net: IpNet) -> bool {
    let special = [
        v4(0, 0, 8),
        v4(127, 0, 8),
        v4(169, 254, 16),
        v4(224, 0, 3),
        v6(0, 8),
        v6(0xfe80, 10),
        v6(0xff00, 8),
    ];
    special.into_iter().any(|other| meets(net, other))
}

/// Whether all its addresses are the world's: none that networks of one's own usually have, and none of
/// a zone.
fn is_world(net: IpNet, around: &Surroundings) -> bool {
    let private = [
        v4(10, 0, 8),
        v4(172, 16, 12),
        v4(192, 168, 16),
        v4(100, 64, 10),
        v6(0xfc00, 7),
    ];
    let zones = around.all_zones().flat_map(|(_, zone)| &zone.subnets);
    let host = around.host.iter().map(|address| IpNet::from(*address));
    !meets_special(net)
        && !private.into_iter().any(|other| meets(net, other))
        && !zones.copied().chain(host).any(|other| meets(net, other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::PolicyFile;

    fn rule(body: &str) -> Rule {
        let text = format!("[[egress]]\n{body}\n");
        let file = PolicyFile::parse("web.toml", &text).unwrap();
        file.egress.unwrap().rules.remove(0)
    }

    #[test]
    fn what_covers_what() {
        let table = [
            (true, "", "to = ['container:a']\nports = ['tcp/80']"),
            (false, "ports = ['tcp/*']", ""),
            (true, "ports = ['tcp/*']", "ports = ['tcp/1-5', 'tcp/9']"),
            (
                true,
                "ports = ['tcp/1-5', 'tcp/6-9']",
                "ports = ['tcp/4-7']",
            ),
            (
                false,
                "ports = ['tcp/1-5', 'tcp/7-9']",
                "ports = ['tcp/4-7']",
            ),
            (true, "ports = ['icmp/*']", "ports = ['icmp/echo-request']"),
            (false, "ports = ['icmp/8']", "ports = ['icmp/*']"),
            (true, "to = ['10.0.0.0/8']", "to = ['10.1.0.0/16']"),
            (false, "to = ['10.1.0.0/16']", "to = ['10.0.0.0/8']"),
            (true, "to = ['world']", "to = ['198.51.100.7']"),
            (true, "to = ['world']", "to = ['2001:db8::/32']"),
            (false, "to = ['world']", "to = ['10.1.0.0/16']"),
            (false, "to = ['world']", "to = ['169.254.169.254']"),
            (false, "to = ['any']", "to = ['169.254.169.254']"),
            (false, "to = ['any']", "to = ['0.0.0.0/0']"),
            (
                true,
                "to = ['any']",
                "to = ['10.0.0.0/8', 'host', 'zone:a', 'label:x=y']",
            ),
            (false, "to = ['zone:a']", "to = ['container:b']"),
            (false, "to = ['world']", "to = ['host']"),
            (true, "", "time = 'Mon'"),
            (false, "time = 'Mon'", ""),
            (true, "time = 'Mon-Fri'", "time = 'Mon 10:00-12:00, Tue'"),
            (false, "time = 'Mon-Fri'", "time = '10:00-12:00'"),
            (true, "time = 'Mon-Sun'", ""),
        ];
        for (wanted, wide, narrow) in table {
            let (a, b) = (rule(wide), rule(narrow));
            let covers = Extent::of(&a).covers(&Extent::of(&b), &Surroundings::default());
            assert_eq!(covers, wanted, "{wide} covers {narrow}");
        }
    }

    #[test]
    fn what_is_a_zones_is_not_the_worlds() {
        let mut around = Surroundings::default();
        let net = "198.51.100.0/25".parse().unwrap();
        assert!(peer_covers(&Peer::World, &Peer::Net(net), &around));
        let facts = super::super::ZoneFacts {
            subnets: vec!["198.51.100.0/24".parse().unwrap()],
            ..Default::default()
        };
        around.zones = Some([("dmz".parse().unwrap(), facts)].into());
        assert!(!peer_covers(&Peer::World, &Peer::Net(net), &around));
    }
}
