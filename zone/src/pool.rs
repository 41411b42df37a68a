//! Addresses of one zone: who has which, and which is next.
//!
//! Unique by construction: an address is either in `free` or in `owners`, never in both, and every
//! change moves it from the one to the other. `free` holds ranges, so that taking one of 65,000 (or
//! of 2⁶⁴) addresses is a search in a small ordered map.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::alloc::{AllocError, Zone};
use crate::name::{ContainerName, ZoneName};

mod ranges;
use ranges::Ranges;

/// Addresses of a zone.
///
/// A container has at most one address of each family. New ones are given in order, behind the one
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

/// Addresses of one family, as numbers.
#[derive(Debug, Clone)]
struct Family {
    /// The subnet's addresses, the ends included.
    first: u128,
    last: u128,
    gateway: u128,
    /// What is given out unasked.
    pool: (u128, u128),
    free: Ranges,
    /// Where the search for the next one begins.
    cursor: u128,
    v6: bool,
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
            free,
            cursor: from,
            v6,
        }
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
            n if n == self.first && self.v6 => Some("subnet-router anycast address"),
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
        self.withhold(address, address);
        self.promised.insert(name.clone(), address);
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
        match self.owners.get(&address) {
            Some(owner) if owner != name => Err(AllocError::Owned {
                address,
                owner: owner.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether `name` may be assigned `address`: it may not take what is kept for others.
    fn check_wanted(&self, name: &ContainerName, address: IpAddr) -> Result<(), AllocError> {
        self.check(name, address)?;
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
            family.free.put(number(address));
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
            family.free.take(number(address));
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
        let of = |v4: bool| -> Vec<(u128, u128)> {
            let own = ranges.iter().filter(|(first, _)| first.is_ipv4() == v4);
            own.map(|&(first, last)| (number(first), number(last)))
                .collect()
        };
        let within = |list: &[(u128, u128)], address: IpAddr| {
            let mut list = list.iter();
            list.len() == 0 || list.any(|(a, b)| (*a..=*b).contains(&number(address)))
        };
        let ranges = [of(true), of(false)];
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
            && within(&ranges[0], promised)
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
            let ranges = &ranges[cursor];
            *chosen = chosen.or(had.filter(|had| within(ranges, *had)));
            if chosen.is_none() {
                let pool = std::slice::from_ref(&family.pool);
                let (next, ranges) = match ranges.is_empty() {
                    true => (family.next(), pool),
                    false => (family.next_in(ranges), &ranges[..]),
                };
                let words = |(first, last): &(u128, u128)| {
                    format!("{}-{}", family.address(*first), family.address(*last))
                };
                let next = next.ok_or_else(|| AllocError::Exhausted {
                    zone: self.zone.clone(),
                    range: ranges.iter().map(words).collect::<Vec<_>>().join(", "),
                })?;
                *chosen = Some(family.address(next));
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
