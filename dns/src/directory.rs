//! Who is in which zone, under which names and addresses.
//!
//! Everything is found by a few hash lookups, however many zones and containers there are. A full name may belong to
//! several zones (they can share a domain), a name of one label is looked up in the asker's zone only.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};

use crate::Millis;
use crate::config::Counters;
use crate::error::Error;
use crate::limit::{Bucket, Limit};
use crate::name::{Name, View};

/// A zone, as far as names are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// The domain its containers are in, such as `dmz.internal`.
    pub domain: Name,
    /// The host's addresses in it.
    pub gateways: Vec<IpAddr>,
    /// Its subnets: their reverse names are answered here and nowhere else.
    pub subnets: Vec<IpNet>,
    /// Resolvers for its queries instead of the host's, in order of preference; empty: the host's.
    pub upstream: Vec<SocketAddr>,
    /// Resolvers for names of these domains; the longest domain that fits counts.
    pub domains: Vec<(Name, Vec<SocketAddr>)>,
}

/// An attached container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name, unique on the host.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its names in the zone; those that are no hostname labels are not served. The first is the one that its addresses
    /// resolve back to.
    pub hostnames: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A place in the table of containers.
pub(crate) type MemberId = usize;

/// A container with what is remembered of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) container: Container,
    /// Served names, most telling first.
    labels: Vec<Name>,
    /// What is left to it of queries, and of queries that are forwarded.
    pub(crate) asked: Bucket,
    pub(crate) forwarded: Bucket,
    /// Its queries that wait for upstream.
    pub(crate) waiting: u32,
}

/// A zone with what belongs to it.
#[derive(Debug)]
pub(crate) struct ZoneState {
    pub(crate) zone: Arc<Zone>,
    /// Never used twice, and another one after each change: what was cached under an older one is not found any more.
    pub(crate) generation: u32,
    pub(crate) counters: Counters,
    /// `web.` → who has that name; the first counts.
    labels: HashMap<Name, Vec<MemberId>>,
}

impl ZoneState {
    /// The domains its containers' names are in: its own, and `ZONE.` in front of it where it does not begin so already.
    fn suffixes(zone: &Zone) -> Vec<Name> {
        let mut suffixes = vec![zone.domain.clone()];
        if let Ok(label) = zone.name.parse::<Name>() {
            let first = zone.domain.view().split().map(|(first, _)| first);
            if first != label.view().split().map(|(own, _)| own) {
                suffixes.extend(label.before(zone.domain.view()));
            }
        }
        suffixes
    }
}

/// Zones and containers.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    zones: HashMap<String, ZoneState>,
    members: Vec<Option<Member>>,
    free: Vec<MemberId>,
    by_name: HashMap<String, MemberId>,
    by_address: HashMap<IpAddr, MemberId>,
    /// Prefixes of /64 by their first half, and whose they are.
    by_prefix: HashMap<u64, String>,
    prefixes: HashMap<String, Vec<u64>>,
    /// `web.dmz.internal.` → who has that name, of all zones; in each zone the first counts.
    names: HashMap<Name, Vec<MemberId>>,
    /// `dmz.internal.` → zones.
    suffixes: HashMap<Name, Vec<String>>,
    generations: u32,
}

impl Directory {
    pub(crate) fn zone(&self, name: &str) -> Option<&ZoneState> {
        self.zones.get(name)
    }

    pub(crate) fn zone_mut(&mut self, name: &str) -> Option<&mut ZoneState> {
        self.zones.get_mut(name)
    }

    pub(crate) fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(id)?.as_ref()
    }

    pub(crate) fn member_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.get_mut(id)?.as_mut()
    }

    /// The container of a name.
    pub(crate) fn find(&self, container: &str) -> Option<MemberId> {
        self.by_name.get(container).copied()
    }

    /// Whose this address is: one of its own, or in a prefix of its own.
    fn holder(&self, address: IpAddr) -> Option<MemberId> {
        let exact = self.by_address.get(&address).copied();
        exact.or_else(|| match address {
            IpAddr::V6(address) => self.find(self.by_prefix.get(&half(address))?),
            IpAddr::V4(_) => None,
        })
    }

    /// These prefixes, each a /64, are a container's own, and no others.
    pub(crate) fn set_prefixes(&mut self, container: &str, prefixes: &[Ipv6Net]) {
        for half in self.prefixes.remove(container).unwrap_or_default() {
            if self.by_prefix.get(&half).is_some_and(|of| of == container) {
                self.by_prefix.remove(&half);
            }
        }
        if prefixes.is_empty() {
            return;
        }
        let halves: Vec<u64> = prefixes.iter().map(|net| half(net.network())).collect();
        for half in &halves {
            self.by_prefix.insert(*half, container.to_owned());
        }
        self.prefixes.insert(container.to_owned(), halves);
    }

    /// Who in this zone has this address.
    pub(crate) fn asker(&self, zone: &str, address: IpAddr) -> Option<MemberId> {
        let id = self.holder(address)?;
        (self.member(id)?.container.zone == zone).then_some(id)
    }

    /// Who has this address, in whatever zone.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<&Member> {
        self.member(self.holder(address)?)
    }

    /// The zone in whose subnet an address, or all of a network, lies.
    pub(crate) fn zone_of(&self, net: IpNet) -> Option<&Arc<Zone>> {
        let mut zones = self.zones.values().map(|state| &state.zone);
        zones.find(|zone| zone.subnets.iter().any(|subnet| subnet.contains(&net)))
    }

    /// The container of a name of one label.
    pub(crate) fn by_label(&self, zone: &ZoneState, label: View<'_>) -> Option<MemberId> {
        zone.labels.get(label.bytes())?.first().copied()
    }

    /// The containers of a full name. In each zone the first counts.
    pub(crate) fn by_full_name(&self, name: View<'_>) -> &[MemberId] {
        self.names.get(name.bytes()).map_or(&[], Vec::as_slice)
    }

    /// The domains of zones that a name lies within, longest first, with those zones.
    pub(crate) fn domains_of<'a>(
        &'a self,
        name: View<'a>,
    ) -> impl Iterator<Item = (View<'a>, &'a [String])> {
        name.ancestors().filter_map(|domain| {
            let zones = self.suffixes.get(domain.bytes())?;
            Some((domain, zones.as_slice()))
        })
    }

    /// Whether this is the host's address in a zone.
    pub(crate) fn is_gateway(&self, address: IpAddr) -> bool {
        let mut zones = self.zones.values();
        zones.any(|state| state.zone.gateways.contains(&address))
    }

    /// Whether names exist beneath this one, without it being one itself.
    pub(crate) fn is_above_a_domain(&self, name: View<'_>) -> bool {
        self.suffixes
            .keys()
            .any(|domain| domain.view().is_within(name))
    }

    /// Whether a zone's subnet lies in this network.
    pub(crate) fn is_above_a_subnet(&self, net: IpNet) -> bool {
        let zones = self.zones.values();
        zones
            .flat_map(|state| &state.zone.subnets)
            .any(|subnet| net.contains(subnet))
    }

    /// Takes a zone, or another version of it. Its containers stay.
    pub(crate) fn set_zone(&mut self, zone: Zone) {
        let name = zone.name.clone();
        let ids = self.ids_in(&name);
        for &id in &ids {
            self.unlist(id);
        }
        self.drop_suffixes(&name);
        for suffix in ZoneState::suffixes(&zone) {
            self.suffixes.entry(suffix).or_default().push(name.clone());
        }
        self.generations += 1;
        let counters = self
            .zones
            .get(&name)
            .map(|state| state.counters)
            .unwrap_or_default();
        let state = ZoneState {
            zone: Arc::new(zone),
            generation: self.generations,
            counters,
            labels: HashMap::new(),
        };
        self.zones.insert(name, state);
        for id in ids {
            self.list(id);
        }
    }

    /// Forgets a zone and whoever is in it.
    pub(crate) fn remove_zone(&mut self, name: &str) {
        for id in self.ids_in(name) {
            self.forget(id);
        }
        self.drop_suffixes(name);
        self.zones.remove(name);
    }

    /// What was cached for any zone is not found any more.
    pub(crate) fn new_generation(&mut self) {
        for state in self.zones.values_mut() {
            self.generations += 1;
            state.generation = self.generations;
        }
    }

    /// Takes a container, or another version of it.
    pub(crate) fn attach(
        &mut self,
        now: Millis,
        container: Container,
        limits: [Limit; 2],
    ) -> Result<(), Error> {
        if !self.zones.contains_key(&container.zone) {
            let Container { name, zone, .. } = container;
            return Err(Error::NoZone {
                container: name,
                zone,
            });
        }
        let before = self.by_name.get(&container.name).copied();
        let buckets = before
            .and_then(|id| self.member(id))
            .map(|m| (m.asked, m.forwarded, m.waiting));
        // the same names and addresses keep their place, also before those who came later
        if let Some(member) = before.and_then(|id| self.member_mut(id)) {
            let was = &member.container;
            if (&was.zone, &was.hostnames, &was.addresses)
                == (&container.zone, &container.hostnames, &container.addresses)
            {
                member.container = container;
                return Ok(());
            }
        }
        if let Some(id) = before {
            self.forget(id);
        }
        let full = || {
            (
                Bucket::full(now, limits[0]),
                Bucket::full(now, limits[1]),
                0,
            )
        };
        let (asked, forwarded, waiting) = buckets.unwrap_or_else(full);
        let hostnames = container.hostnames.iter();
        let labels = hostnames
            .filter(|name| Name::is_host_label(name))
            .filter_map(|name| name.parse().ok())
            .collect();
        let name = container.name.clone();
        let member = Some(Member {
            container,
            labels,
            asked,
            forwarded,
            waiting,
        });
        let id = match self.free.pop() {
            Some(id) => {
                self.members[id] = member;
                id
            }
            None => {
                self.members.push(member);
                self.members.len() - 1
            }
        };
        self.by_name.insert(name, id);
        self.list(id);
        Ok(())
    }

    /// Forgets a container. False if there was none.
    pub(crate) fn detach(&mut self, container: &str) -> bool {
        let id = self.by_name.get(container).copied();
        id.map(|id| self.forget(id)).is_some()
    }

    /// The name that a container's addresses resolve back to.
    pub(crate) fn canonical(&self, member: &Member) -> Option<Name> {
        let zone = self.zones.get(&member.container.zone)?;
        member.labels.first()?.before(zone.zone.domain.view())
    }

    fn ids_in(&self, zone: &str) -> Vec<MemberId> {
        let members = self.members.iter().enumerate();
        let of =
            |member: &Option<Member>| member.as_ref().is_some_and(|m| m.container.zone == zone);
        members
            .filter(|(_, member)| of(member))
            .map(|(id, _)| id)
            .collect()
    }

    fn forget(&mut self, id: MemberId) {
        self.unlist(id);
        if let Some(member) = self.members[id].take() {
            self.by_name.remove(&member.container.name);
            self.free.push(id);
        }
    }

    fn drop_suffixes(&mut self, zone: &str) {
        let Some(state) = self.zones.get(zone) else {
            return;
        };
        for suffix in ZoneState::suffixes(&state.zone) {
            if let Some(zones) = self.suffixes.get_mut(&suffix) {
                zones.retain(|name| name != zone);
                if zones.is_empty() {
                    self.suffixes.remove(&suffix);
                }
            }
        }
    }

    /// Makes a container found by its names and addresses. Of two with one name (they differ in case, or one has the
    /// other's as a second name) the one that came first has it until it goes.
    fn list(&mut self, id: MemberId) {
        let Some(member) = self.members[id].as_ref() else {
            return;
        };
        let Some(state) = self.zones.get_mut(&member.container.zone) else {
            return;
        };
        let suffixes = ZoneState::suffixes(&state.zone);
        for label in &member.labels {
            add(&mut state.labels, label.clone(), id);
            for suffix in &suffixes {
                if let Some(full) = label.before(suffix.view()) {
                    add(&mut self.names, full, id);
                }
            }
        }
        for &address in &member.container.addresses {
            self.by_address.insert(address, id);
        }
    }

    fn unlist(&mut self, id: MemberId) {
        let Some(member) = self.members[id].as_ref() else {
            return;
        };
        for address in &member.container.addresses {
            if self.by_address.get(address) == Some(&id) {
                self.by_address.remove(address);
            }
        }
        let Some(state) = self.zones.get_mut(&member.container.zone) else {
            return;
        };
        let suffixes = ZoneState::suffixes(&state.zone);
        for label in &member.labels {
            take(&mut state.labels, label, id);
            for suffix in &suffixes {
                if let Some(full) = label.before(suffix.view()) {
                    take(&mut self.names, &full, id);
                }
            }
        }
    }
}

/// The first half of an address.
fn half(address: std::net::Ipv6Addr) -> u64 {
    (u128::from(address) >> 64) as u64
}

fn add(index: &mut HashMap<Name, Vec<MemberId>>, name: Name, id: MemberId) {
    let ids = index.entry(name).or_default();
    if !ids.contains(&id) {
        ids.push(id);
    }
}

fn take(index: &mut HashMap<Name, Vec<MemberId>>, name: &Name, id: MemberId) {
    if let Some(ids) = index.get_mut(name) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(name);
        }
    }
}
