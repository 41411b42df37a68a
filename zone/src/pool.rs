//! Addresses of one zone: who has which, and which is next.
//!
//! Unique by construction: an address is either in `free` or in `owners`, never in both, and every
//! change moves it from the one to the other. `free` holds ranges, so that taking one of 65,000 (or
//! of 2⁶⁴) addresses is a search in a small ordered map.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use crate::alloc::{AllocError, Zone};
use crate::name::{ContainerName, ZoneName};
use crate::prefix;

mod ranges;
use ranges::Ranges;

/// Addresses of a zone.
///
/// A container has at most one address of each family; in a zone with prefixes ([`crate::prefix`]) it is the first of
/// a prefix that nobody else has. New ones are given in order, behind the one
/// that was given last, and from the beginning when the end is reached: an address that was just
/// released is not given to somebody else at once while caches still point at its old owner.
#[derive(Debug, Clone)]
pub struct Pool {
    zone: ZoneName,
    four: Option<Family>,
    six: Option<Family>,
    owners: BTreeMap<IpAddr, ContainerName>,
    names: BTreeMap<ContainerName, Pair>,
    /// Ranges that the DHCP server gives to machines nobody attached, and addresses reserved there.
    withheld: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Those of them that a container is to have.
    promised: BTreeMap<ContainerName, Ipv4Addr>,
}

/// What one container has.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    four: Option<IpAddr>,
    six: Option<IpAddr>,
}

impl Pair {
    fn slot(&mut self, address: IpAddr) -> &mut Option<IpAddr> {
        match address {
            IpAddr::V4(_) => &mut self.four,
            IpAddr::V6(_) => &mut self.six,
        }
    }
}

/// Addresses of one family, as numbers. What is given out is counted in pieces: addresses, or prefixes.
#[derive(Debug, Clone)]
struct Family {
    /// The subnet's addresses, the ends included.
    first: u128,
    last: u128,
    gateway: u128,
    /// Pieces that are given out unasked.
    pool: (u128, u128),
    /// Pieces that can be given out.
    usable: (u128, u128),
    free: Ranges,
    /// Where the search for the next piece begins.
    cursor: u128,
    v6: bool,
    /// A piece is 2 to the power of this many addresses: 64 where containers have prefixes.
    shift: u32,
    /// Addresses that are kept for delegation.
    delegated: Option<(u128, u128)>,
}

impl Family {
    fn new(first: u128, last: u128, gateway: u128, pool: Option<(u128, u128)>, v6: bool) -> Self {
        // The first address is the network's (v4) or the subnet-router anycast address (v6, RFC 4291
        // §2.6.1). The last is the broadcast address of v4; v6 has none.
        let usable = (first + 1, if v6 { last } else { last - 1 });
        let mut free = Ranges::default();
        free.insert(usable.0, usable.1);
        free.take(gateway);
        let (from, to) = pool.unwrap_or(usable);
        Self {
            first,
            last,
            gateway,
            pool: (from, to),
            usable,
            free,
            cursor: from,
            v6,
            shift: 0,
            delegated: None,
        }
    }

    /// A prefix for each container: all but the gateway's and what is delegated.
    fn of_prefixes(subnet: Ipv6Net, gateway: u128) -> Self {
        let (first, last) = (subnet.network().into(), subnet.broadcast().into());
        let delegated = prefix::delegated(subnet)
            .map(|net| (u128::from(net.network()), u128::from(net.broadcast())));
        let shift = 128 - u32::from(prefix::LENGTH);
        let end = delegated.map_or(last, |(from, _)| from - 1);
        let usable = ((first >> shift) + 1, end >> shift);
        let mut free = Ranges::default();
        free.insert(usable.0, usable.1);
        Self {
            first,
            last,
            gateway,
            pool: usable,
            usable,
            free,
            cursor: usable.0,
            v6: true,
            shift,
            delegated,
        }
    }

    /// The piece that an address is of.
    fn piece(&self, number: u128) -> u128 {
        number >> self.shift
    }

    /// The address that whoever gets a piece has: it, or the first in it that is nobody's by its nature.
    fn main(&self, piece: u128) -> IpAddr {
        self.address((piece << self.shift) + u128::from(self.shift > 0))
    }

    /// The addresses of a piece.
    fn addresses(&self, piece: u128) -> (IpAddr, IpAddr) {
        let first = piece << self.shift;
        let last = first + ((1 << self.shift) - 1);
        (self.address(first), self.address(last))
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.v6 {
            Ipv6Addr::from(number).into()
        } else {
            // numbers of this family come from 32-bit addresses only
            Ipv4Addr::from(number as u32).into()
        }
    }

    /// What `number` is for, when it is not for containers.
    fn purpose(&self, number: u128) -> Option<&'static str> {
        match number {
            n if n == self.gateway => Some("gateway"),
            // of the subnet, and of each /64 in it: policy takes it for the whole /64
            n if self.v6 && (n == self.first || n << 64 == 0) => {
                Some("subnet-router anycast address")
            }
            n if self.delegated.is_some_and(|(a, b)| (a..=b).contains(&n)) => {
                Some("part for delegated prefixes")
            }
            n if n == self.first => Some("network address"),
            n if n == self.last && !self.v6 => Some("broadcast address"),
            _ => None,
        }
    }

    /// The next free one of the pool, from the cursor on and then from the beginning.
    fn next(&self) -> Option<u128> {
        let (from, to) = self.pool;
        let ahead = self.free.first_in(self.cursor.max(from), to);
        ahead.or_else(|| self.free.first_in(from, to))
    }

    /// The pieces whose main addresses are in a range of addresses.
    fn pieces(&self, range: (IpAddr, IpAddr)) -> Option<(u128, u128)> {
        let (mut from, mut to) = (self.piece(number(range.0)), self.piece(number(range.1)));
        from += u128::from(self.main(from) < range.0);
        to = match self.main(to) > range.1 {
            true => to.checked_sub(1)?,
            false => to,
        };
        (from <= to).then_some((from, to))
    }

    /// The next free one, and where it was looked for: in those of these ranges that are of the family, else in the
    /// pool.
    fn next_of(&self, ranges: &[(IpAddr, IpAddr)]) -> (Option<u128>, Vec<(u128, u128)>) {
        let mut own = ranges
            .iter()
            .filter(|(a, _)| a.is_ipv6() == self.v6)
            .peekable();
        if own.peek().is_none() {
            return (self.next(), vec![self.pool]);
        }
        let pieces: Vec<_> = own.filter_map(|range| self.pieces(*range)).collect();
        (self.next_in(&pieces), pieces)
    }

    /// The same in the first of these ranges that has one.
    fn next_in(&self, ranges: &[(u128, u128)]) -> Option<u128> {
        let cursor = |from: u128, to: u128| self.cursor.clamp(from, to);
        let free = |from, to| self.free.first_in(cursor(from, to), to);
        let mut ahead = ranges.iter().filter_map(|&(from, to)| free(from, to));
        let ahead = ahead.next();
        ahead.or_else(|| {
            let mut all = ranges.iter();
            all.find_map(|&(from, to)| self.free.first_in(from, to))
        })
    }
}

/// Whether an address is in one of these ranges; where none is of its family, it is.
fn is_within(ranges: &[(IpAddr, IpAddr)], address: IpAddr) -> bool {
    let of_family = |(first, _): &&(IpAddr, IpAddr)| first.is_ipv4() == address.is_ipv4();
    let mut own = ranges.iter().filter(of_family).peekable();
    own.peek().is_none() || own.any(|(first, last)| (*first..=*last).contains(&address))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl Pool {
    /// All addresses of the zone, none given.
    pub fn new(zone: &Zone) -> Self {
        let four = zone.subnet4.map(|net| {
            let first = u32::from(net.network()).into();
            let last = u32::from(net.broadcast()).into();
            let gateway = zone.gateway4.map_or(first + 1, |g| u32::from(g).into());
            let pool = zone
                .pool
                .map(|(a, b)| (u32::from(a).into(), u32::from(b).into()));
            Family::new(first, last, gateway, pool, false)
        });
        let six = zone.subnet6.map(|net| {
            let (first, last) = (net.network().into(), net.broadcast().into());
            let gateway = zone.gateway6.map_or(first + 1, u128::from);
            if prefix::is_wide(net) {
                return Family::of_prefixes(net, gateway);
            }
            Family::new(first, last, gateway, None, true)
        });
        Self {
            zone: zone.name.clone(),
            four,
            six,
            owners: BTreeMap::new(),
            names: BTreeMap::new(),
            withheld: Vec::new(),
            promised: BTreeMap::new(),
        }
    }

    /// Keeps an address for a container, which gets it when next assigned, unless it wants another.
    pub fn promise(&mut self, name: &ContainerName, address: Ipv4Addr) {
        if !self.is_withheld(address.into()) {
            self.withhold(address, address);
        }
        self.promised.insert(name.clone(), address);
    }

    /// Takes a promise back. What the container has by it stays its own.
    pub fn withdraw(&mut self, name: &ContainerName) {
        self.promised.remove(name);
    }

    /// The address promised to a container.
    pub fn promised(&self, name: &ContainerName) -> Option<Ipv4Addr> {
        self.promised.get(name).copied()
    }

    /// Keeps addresses back: nobody gets one of them from now on but by [`Pool::reserve`]. Who has one keeps it
    /// until it is forgotten or assigned anew.
    pub fn withhold(&mut self, first: Ipv4Addr, last: Ipv4Addr) {
        self.withheld.push((first, last));
        if let Some(four) = &mut self.four {
            four.free
                .take_range(u32::from(first).into(), u32::from(last).into());
        }
    }

    /// Whether an address is kept back.
    pub fn is_withheld(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self
                .withheld
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&a)),
            IpAddr::V6(_) => false,
        }
    }

    fn family(&mut self, address: IpAddr) -> Option<&mut Family> {
        match address {
            IpAddr::V4(_) => self.four.as_mut(),
            IpAddr::V6(_) => self.six.as_mut(),
        }
    }

    fn subnets(&self) -> String {
        let range = |f: &Family| {
            let (first, bits) = (
                f.address(f.first),
                if f.first >> 32 == 0 { 32 } else { 128 },
            );
            // A subnet is as large as a power of two, so the length of its prefix follows from it.
            let length = bits - (f.last - f.first + 1).ilog2();
            format!("{first}/{length}")
        };
        let families = self.four.iter().chain(&self.six);
        families.map(range).collect::<Vec<_>>().join(", ")
    }

    /// The family of an address of the zone.
    fn inside(&self, address: IpAddr) -> Result<&Family, AllocError> {
        let family = match address {
            IpAddr::V4(_) => &self.four,
            IpAddr::V6(_) => &self.six,
        };
        let holds = |family: &&Family| (family.first..=family.last).contains(&number(address));
        family
            .as_ref()
            .filter(holds)
            .ok_or_else(|| AllocError::Outside {
                zone: self.zone.clone(),
                address,
                subnets: self.subnets(),
            })
    }

    /// Whether a container without an address could be given one of each family.
    pub fn has_room(&self) -> bool {
        let families = self.four.iter().chain(&self.six);
        families.into_iter().all(|family| family.next().is_some())
    }

    /// Whether `name` may have `address`.
    fn check(&self, name: &ContainerName, address: IpAddr) -> Result<(), AllocError> {
        let family = self.inside(address)?;
        if let Some(purpose) = family.purpose(number(address)) {
            return Err(AllocError::Reserved {
                zone: self.zone.clone(),
                address,
                purpose,
            });
        }
        let piece = family.piece(number(address));
        let beside_gateway = family.shift > 0 && piece == family.piece(family.gateway);
        let (first, last) = match beside_gateway {
            // given one by one before there were prefixes
            true => (address, address),
            false => family.addresses(piece),
        };
        let mut others = self.owners.range(first..=last);
        match others.find(|(_, owner)| *owner != name) {
            Some((address, owner)) => Err(AllocError::Owned {
                address: *address,
                owner: owner.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Whether an address is in the gateway's prefix, where each container has one of its own.
    fn beside_gateway(&self, address: IpAddr) -> bool {
        let family = self.six.as_ref().filter(|six| six.shift > 0);
        address.is_ipv6()
            && family.is_some_and(|six| six.piece(number(address)) == six.piece(six.gateway))
    }

    /// Whether `name` may be assigned `address`: it may not take what is kept for others.
    fn check_wanted(&self, name: &ContainerName, address: IpAddr) -> Result<(), AllocError> {
        self.check(name, address)?;
        if self.beside_gateway(address) && self.owners.get(&address) != Some(name) {
            return Err(AllocError::Reserved {
                zone: self.zone.clone(),
                address,
                purpose: "gateway's prefix",
            });
        }
        let promised = self.promised.get(name).copied().map(IpAddr::V4);
        if self.is_withheld(address) && promised != Some(address) {
            return Err(AllocError::Reserved {
                zone: self.zone.clone(),
                address,
                purpose: "address that its [dhcp] part keeps for others",
            });
        }
        Ok(())
    }

    /// The address is nobody's any more.
    fn release(&mut self, address: IpAddr) {
        self.owners.remove(&address);
        let withheld = self.is_withheld(address);
        if let Some(family) = self.family(address)
            && !withheld
        {
            let piece = family.piece(number(address));
            // what was given beside the gateway is not given again
            if (family.usable.0..=family.usable.1).contains(&piece) {
                family.free.put(piece);
            }
        }
    }

    /// Gives `address`, which was checked, to `name`, instead of the one it had in that family.
    fn give(&mut self, name: &ContainerName, address: IpAddr) {
        let pair = self.names.entry(name.clone()).or_default();
        let before = pair.slot(address).replace(address);
        if before == Some(address) {
            return;
        }
        if let Some(before) = before {
            self.release(before);
        }
        self.owners.insert(address, name.clone());
        if let Some(family) = self.family(address) {
            family.free.take(family.piece(number(address)));
        }
    }

    /// Notes that `name` has `address`, as stored state says.
    ///
    /// # Errors
    /// The address is not of the zone, has another purpose, or is another container's.
    pub fn reserve(&mut self, name: &ContainerName, address: IpAddr) -> Result<(), AllocError> {
        self.check(name, address)?;
        self.give(name, address);
        Ok(())
    }

    /// One address of each family of the zone for `name`: the wanted one; else the one promised to it;
    /// else the one it has already; else the next free one of the pool. A wanted address may be outside the pool, and
    /// replaces another of its family.
    ///
    /// # Errors
    /// A wanted address cannot be had, two of one family are wanted, or the pool is used up. Then
    /// nothing has changed.
    pub fn assign(
        &mut self,
        name: &ContainerName,
        wanted: &[IpAddr],
    ) -> Result<Vec<IpAddr>, AllocError> {
        self.assign_within(name, wanted, &[])
    }

    /// As [`Pool::assign`], from these ranges (first and last address) instead of the pool, in each family that they
    /// mention. An address that the name has, or was promised, counts only if it is in one of them.
    ///
    /// # Errors
    /// As for [`Pool::assign`]; or a range is not of the zone, or is none.
    pub fn assign_within(
        &mut self,
        name: &ContainerName,
        wanted: &[IpAddr],
        ranges: &[(IpAddr, IpAddr)],
    ) -> Result<Vec<IpAddr>, AllocError> {
        for &(first, last) in ranges {
            for address in [first, last] {
                self.inside(address)?;
            }
            if first.is_ipv4() != last.is_ipv4() || last < first {
                return Err(AllocError::NoRange { first, last });
            }
        }
        let within = |address: IpAddr| is_within(ranges, address);
        let mut pair = Pair::default();
        for &address in wanted {
            self.check_wanted(name, address)?;
            if let Some(first) = pair.slot(address).replace(address) {
                return Err(AllocError::TwoOfAFamily {
                    first,
                    second: address,
                });
            }
        }
        if pair.four.is_none()
            && let Some(promised) = self.promised.get(name).copied().map(IpAddr::V4)
            && within(promised)
        {
            self.check(name, promised)?;
            pair.four = Some(promised);
        }
        let mut has = self.names.get(name).copied().unwrap_or_default();
        has.four = has.four.filter(|address| !self.is_withheld(*address));
        let mut cursors = [None, None];
        for (family, chosen, had, cursor) in [
            (&self.four, &mut pair.four, has.four, 0),
            (&self.six, &mut pair.six, has.six, 1),
        ] {
            let Some(family) = family else { continue };
            *chosen = chosen.or(had.filter(|had| within(*had)));
            if chosen.is_none() {
                let (next, ranges) = family.next_of(ranges);
                let words = |(first, last): &(u128, u128)| {
                    format!("{}-{}", family.main(*first), family.main(*last))
                };
                let next = next.ok_or_else(|| AllocError::Exhausted {
                    zone: self.zone.clone(),
                    range: ranges.iter().map(words).collect::<Vec<_>>().join(", "),
                })?;
                *chosen = Some(family.main(next));
                cursors[cursor] = Some(next.saturating_add(1));
            }
        }
        // nothing can fail from here on
        for (family, cursor) in [&mut self.four, &mut self.six].into_iter().zip(cursors) {
            if let (Some(family), Some(cursor)) = (family, cursor) {
                family.cursor = cursor;
            }
        }
        let given: Vec<IpAddr> = pair.four.into_iter().chain(pair.six).collect();
        for &address in &given {
            self.give(name, address);
        }
        Ok(given)
    }

    /// A name that is not in use and keeps an address of the pool, or of `ranges`, in a family in which none is free:
    /// of those the one whose address comes next in order, which was given longest ago. What is kept for names is
    /// worth less than a container that cannot start.
    pub fn idle(
        &self,
        ranges: &[(IpAddr, IpAddr)],
        in_use: impl Fn(&ContainerName) -> bool,
    ) -> Option<&ContainerName> {
        let families = self.four.iter().chain(&self.six);
        families.into_iter().find_map(|family| {
            let (next, ranges) = family.next_of(ranges);
            if next.is_some() {
                return None;
            }
            let inside = |address: IpAddr| {
                let piece = family.piece(number(address));
                ranges.iter().any(|(a, b)| (*a..=*b).contains(&piece))
            };
            let cursor = (family.cursor << family.shift).clamp(family.first, family.last);
            let cursor = family.address(cursor);
            let (first, last) = (family.address(family.first), family.address(family.last));
            let ahead = self.owners.range(cursor..=last);
            let behind = self.owners.range(first..cursor);
            ahead
                .chain(behind)
                .filter(|(address, _)| inside(**address) && !self.is_withheld(**address))
                .map(|(_, name)| name)
                .find(|name| !in_use(name))
        })
    }

    /// Whose an address is.
    pub fn owner(&self, address: IpAddr) -> Option<&ContainerName> {
        self.owners.get(&address)
    }

    /// What a container has, IPv4 first.
    pub fn of(&self, name: &ContainerName) -> Vec<IpAddr> {
        let pair = self.names.get(name).copied().unwrap_or_default();
        pair.four.into_iter().chain(pair.six).collect()
    }

    /// Everybody who has addresses, with them, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ContainerName, Vec<IpAddr>)> {
        let list = |pair: &Pair| pair.four.into_iter().chain(pair.six).collect();
        self.names
            .iter()
            .map(move |(name, pair)| (name, list(pair)))
    }

    /// Takes back what a container has.
    pub fn forget(&mut self, name: &ContainerName) {
        let Some(pair) = self.names.remove(name) else {
            return;
        };
        for address in pair.four.into_iter().chain(pair.six) {
            self.release(address);
        }
    }
}

#[cfg(test)]
mod tests;
