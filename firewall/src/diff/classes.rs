//! Addresses outside the containers, as classes: every address of a class is treated alike.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::model::World;
use crate::sets::Family;

/// An address as a number.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// The address with this number.
pub(super) fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// The last number of a family.
fn last(family: Family) -> u128 {
    match family {
        Family::V4 => u32::MAX.into(),
        Family::V6 => u128::MAX,
    }
}

/// Where a network begins, and where it has ended.
pub(super) fn cuts(net: IpNet) -> impl Iterator<Item = (Family, u128)> {
    let family = Family::of(net.addr());
    let begin = number(net.network());
    let end = number(net.broadcast());
    let end = (end < last(family)).then(|| end + 1);
    [Some(begin), end]
        .into_iter()
        .flatten()
        .map(move |at| (family, at))
}

/// What kind of addresses a class has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The host's, gateways included.
    Host,
    /// Loopback: the host where something comes from, nobody where it goes to.
    Loopback,
    /// A zone's, and no container's: what is sent there reaches nobody, and is judged nevertheless.
    Unused,
    /// Loopback, multicast, link-local and so on.
    Special,
    /// Everybody else's.
    World,
}

/// Some addresses of one kind that the same networks of rules name.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) kind: Kind,
    pub(super) family: Family,
    /// The one that is asked about.
    pub(super) one: IpAddr,
    /// All of them; the gaps between them are the host's.
    ranges: Vec<(u128, u128)>,
    /// All of them; the gaps between them are not the world's.
    wide: Vec<(u128, u128)>,
}

impl Class {
    /// All of them, as few networks as may be. Containers' and the host's addresses may be among them, unless
    /// the class is the host's.
    pub(super) fn nets(&self) -> Vec<IpNet> {
        nets(self.family, &self.ranges)
    }

    /// Networks with all of them, and with nothing else of the world.
    pub(super) fn wide_nets(&self) -> Vec<IpNet> {
        nets(self.family, &self.wide)
    }
}

pub(super) fn nets(family: Family, ranges: &[(u128, u128)]) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (first, last) in ranges {
        match (address(family, *first), address(family, *last)) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                nets.extend(Ipv4Subnets::new(first, last, 0).map(IpNet::V4));
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                nets.extend(Ipv6Subnets::new(first, last, 0).map(IpNet::V6));
            }
            _ => {}
        }
    }
    nets
}

/// What is nobody's address (RFC 6890), and among it what the oracle tells apart.
const SPECIAL: [&str; 10] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
];

/// Addresses between two cuts.
struct Stretch {
    family: Family,
    first: u128,
    last: u128,
    kind: Kind,
}

/// What addresses are told apart by.
struct Ground<'a> {
    special: Vec<IpNet>,
    zones: Vec<IpNet>,
    host: BTreeSet<IpAddr>,
    containers: &'a BTreeSet<IpNet>,
}

impl<'a> Ground<'a> {
    fn new(world: &World, containers: &'a BTreeSet<IpNet>) -> Self {
        let zones = world.zones.values();
        let subnets = zones
            .clone()
            .flat_map(|zone| [zone.subnet4.map(IpNet::V4), zone.subnet6.map(IpNet::V6)]);
        let gateways =
            zones.flat_map(|zone| [zone.gateway4.map(IpAddr::V4), zone.gateway6.map(IpAddr::V6)]);
        Self {
            special: SPECIAL.iter().filter_map(|net| net.parse().ok()).collect(),
            zones: subnets.flatten().collect(),
            host: gateways
                .flatten()
                .chain(world.host.iter().copied())
                .collect(),
            containers,
        }
    }

    /// All addresses, in order.
    fn stretches(&self, named: &BTreeSet<IpNet>) -> Vec<Stretch> {
        let hosts = self.host.iter().copied().map(IpNet::from);
        let nets = self.special.iter().chain(&self.zones).chain(named).copied();
        let begins = Family::ALL.map(|family| (family, 0));
        let cuts: BTreeSet<(Family, u128)> =
            nets.chain(hosts).flat_map(cuts).chain(begins).collect();
        let cuts: Vec<_> = cuts.into_iter().collect();
        let mut stretches = Vec::with_capacity(cuts.len());
        for (index, (family, first)) in cuts.iter().enumerate() {
            let next = cuts.get(index + 1).filter(|next| next.0 == *family);
            stretches.push(Stretch {
                family: *family,
                first: *first,
                last: next.map_or(last(*family), |next| next.1 - 1),
                kind: self.kind(address(*family, *first)),
            });
        }
        stretches
    }

    fn kind(&self, one: IpAddr) -> Kind {
        // the host's addresses may be told with those of its loopback
        if one.is_loopback() {
            Kind::Loopback
        } else if self.host.contains(&one) {
            Kind::Host
        } else if self.zones.iter().any(|net| net.contains(&one)) {
            Kind::Unused
        } else if self.special.iter().any(|net| net.contains(&one)) {
            Kind::Special
        } else {
            Kind::World
        }
    }

    /// An address of a stretch that is no container's.
    fn free(&self, stretch: &Stretch) -> Option<IpAddr> {
        let mut number = stretch.first;
        loop {
            let one = address(stretch.family, number);
            let taken = self.taken(one).filter(|_| stretch.kind == Kind::Unused);
            let Some(end) = taken else { return Some(one) };
            if end >= stretch.last {
                return None;
            }
            number = end + 1;
        }
    }

    /// The last address of whoever has one. What containers have does not overlap.
    fn taken(&self, one: IpAddr) -> Option<u128> {
        let at = IpNet::from(one);
        let mut before = self.containers.range(..=at).rev();
        let mut after = self.containers.range(at..);
        let has = |net: &&IpNet| net.contains(&one);
        let net = before
            .next()
            .filter(has)
            .or_else(|| after.next().filter(has));
        net.map(|net| number(net.broadcast()))
    }
}

/// An address of the world that none of `named` has, but those that have everything; one of the preferred ones, where
/// there is such a one.
pub(crate) fn unnamed(
    world: &World,
    named: &BTreeSet<IpNet>,
    family: Family,
    preferred: &[IpAddr],
) -> Option<IpAddr> {
    let none = BTreeSet::new();
    let ground = Ground::new(world, &none);
    let somehow = |one: &IpAddr| {
        let mut nets = named.iter().filter(|net| net.prefix_len() > 0);
        nets.any(|net| net.contains(one))
    };
    let stretches = ground.stretches(named);
    let firsts = stretches
        .iter()
        .filter(|stretch| stretch.family == family && stretch.kind == Kind::World)
        .map(|stretch| address(family, stretch.first));
    let preferred = preferred.iter().copied();
    preferred
        .filter(|one| Family::of(*one) == family && ground.kind(*one) == Kind::World)
        .chain(firsts)
        .find(|one| !somehow(one))
}

/// Classes of all addresses that are no containers', as seen by a container whose gateways are `own`. The
/// world's that none of `named` has are left out, an endpoint `world` stands for them; and so are a zone's
/// that none of `named` has, which no rule can mean. `containers` are the addresses of all of them, and
/// their prefixes.
pub(super) fn of(
    world: &World,
    containers: &BTreeSet<IpNet>,
    own: &[IpAddr],
    named: &BTreeSet<IpNet>,
) -> Vec<Class> {
    let ground = Ground::new(world, containers);
    let stretches = ground.stretches(named);
    type Key = (Kind, Family, Vec<usize>, Vec<usize>, bool);
    let mut classes: BTreeMap<Key, (IpAddr, Vec<usize>)> = BTreeMap::new();
    for (index, stretch) in stretches.iter().enumerate() {
        let Some(one) = ground.free(stretch) else {
            continue;
        };
        let within = |nets: &mut dyn Iterator<Item = &IpNet>| -> Vec<usize> {
            let nets = nets.enumerate().filter(|(_, net)| net.contains(&one));
            nets.map(|(index, _)| index).collect()
        };
        let naming = within(&mut named.iter());
        let somehow = named
            .iter()
            .any(|net| net.prefix_len() > 0 && net.contains(&one));
        match stretch.kind {
            Kind::World if !somehow => continue,
            Kind::Unused if naming.is_empty() => continue,
            _ => {}
        }
        let specially = within(&mut ground.special.iter());
        let key = (
            stretch.kind,
            stretch.family,
            naming,
            specially,
            own.contains(&one),
        );
        classes
            .entry(key)
            .or_insert((one, Vec::new()))
            .1
            .push(index);
    }
    // how many stretches up to each one may be in no gap
    let count = |barrier: fn(Kind) -> bool| -> Vec<usize> {
        let mut sum = 0;
        let kinds = stretches.iter().map(|stretch| stretch.kind);
        kinds
            .map(|kind| {
                sum += usize::from(barrier(kind));
                sum
            })
            .collect()
    };
    let solid = count(|kind| kind != Kind::Host);
    let wide = count(|kind| kind == Kind::World);
    let join = |indexes: &[usize], barriers: &[usize], kind: Kind| {
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        let mut before: Option<usize> = None;
        for index in indexes {
            let stretch = &stretches[*index];
            let adjacent = before.is_some_and(|before| before + 1 == *index);
            let clear = kind != Kind::Host
                && before.is_some_and(|before| barriers[before] == barriers[*index - 1]);
            match ranges.last_mut() {
                Some(range) if adjacent || clear => range.1 = stretch.last,
                _ => ranges.push((stretch.first, stretch.last)),
            }
            before = Some(*index);
        }
        ranges
    };
    classes
        .into_iter()
        .map(|((kind, family, ..), (one, indexes))| Class {
            kind,
            family,
            one,
            ranges: join(&indexes, &solid, kind),
            wide: join(&indexes, &wide, kind),
        })
        .collect()
}
