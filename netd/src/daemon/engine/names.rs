//! Names: what the resolver knows of zones and containers, and what it asks about policies.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dns::{Attempt, Client, Egress, Millis, Outcome, Policy, Progress, Resolver};
use firewall::compile::Firewall;
use firewall::outside;
use ipnet::IpNet;
use zone::{PortName, ZoneName};

use super::{Engine, ZoneState};
use crate::api;
use crate::daemon::dns::Back;
use crate::daemon::record::Record;

/// Pairs of containers whose verdict is remembered at most.
const PAIRS: usize = 4096;

/// The resolver, and what it was told of policies.
pub(super) struct Names {
    resolver: Resolver<Back>,
    started: Instant,
    verdicts: Verdicts,
}

/// Answers about policies, as long as no policy, container or zone changes.
#[derive(Default)]
struct Verdicts {
    egress: HashMap<String, Arc<Egress>>,
    reaches: HashMap<(String, String), bool>,
}

/// Policies as the resolver asks about them.
struct Judge<'a> {
    firewall: &'a Firewall,
    verdicts: &'a mut Verdicts,
}

impl Policy for Judge<'_> {
    fn reaches(&mut self, asker: &str, other: &str) -> bool {
        let pair = (asker.to_owned(), other.to_owned());
        if let Some(known) = self.verdicts.reaches.get(&pair) {
            return *known;
        }
        let names = (asker.parse::<PortName>(), other.parse());
        let (Ok(from), Ok(to)) = names else {
            return false;
        };
        // One with several networks asks the first resolver it knows, whichever of them the name is in.
        let (world, policies) = (self.firewall.world(), self.firewall.policies());
        let mut ports = world.ports_of(from.container());
        let verdict = ports.any(|port| outside::reaches(world, policies, &port.name, &to));
        if self.verdicts.reaches.len() >= PAIRS {
            self.verdicts.reaches.clear();
        }
        self.verdicts.reaches.insert(pair, verdict);
        verdict
    }

    fn egress(&mut self, container: &str) -> Arc<Egress> {
        if let Some(known) = self.verdicts.egress.get(container) {
            return known.clone();
        }
        let egress = Arc::new(egress(self.firewall, container));
        self.verdicts
            .egress
            .insert(container.to_owned(), egress.clone());
        egress
    }
}

/// What is of use to one of the container's ports: a program does not choose by which one it asks.
fn egress(firewall: &Firewall, asker: &str) -> Egress {
    let world = firewall.world();
    let container = asker.split('@').next().unwrap_or(asker);
    let mut outside = outside::Outside::default();
    for port in world.ports_of(container) {
        let of = outside::outside(world, firewall.policies(), port);
        outside.everything |= of.everything;
        outside.names.extend(of.names);
        outside.tried.extend(of.tried);
    }
    // The parser of policies lets through what the resolver takes.
    let patterns = |names: &BTreeSet<String>| {
        let patterns = names.iter().filter_map(|name| name.parse().ok());
        patterns.collect()
    };
    Egress {
        everything: outside.everything,
        names: patterns(&outside.names),
        noted: patterns(&outside.tried),
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            resolver: Resolver::new(dns::Config::default(), Box::new(random())),
            started: Instant::now(),
            verdicts: Verdicts::default(),
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Policies, containers or zones changed.
    pub(super) fn forget_verdicts(&mut self) {
        self.verdicts.egress.clear();
        self.verdicts.reaches.clear();
    }
}

/// Numbers from the kernel, some at a time.
fn random() -> impl FnMut() -> u64 {
    let mut store = [0; 512];
    let mut left = 0;
    move || {
        if left == 0 {
            let flags = rustix::rand::GetRandomFlags::empty();
            match rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut store[..], flags)) {
                Ok(got) => left = got / 8,
                // Somebody forbids the call: the standard library has another way.
                Err(_) => return RandomState::new().build_hasher().finish(),
            }
        }
        left -= 1;
        let mut number = [0; 8];
        number.copy_from_slice(&store[8 * left..8 * left + 8]);
        u64::from_ne_bytes(number)
    }
}

impl Engine {
    /// The host's addresses in a zone; its resolver listens there.
    pub(crate) fn gateways_of(&self, zone: &ZoneName) -> Vec<IpAddr> {
        self.zones
            .get(zone)
            .map_or_else(Vec::new, |state| gateways(&state.zone))
    }

    /// The resolver serves a zone, as it is now, and the containers in it.
    pub(super) fn name_zone(&mut self, name: &ZoneName) {
        let Some(state) = self.zones.get(name) else {
            return;
        };
        match zone_of(state) {
            Ok(zone) => self.names.resolver.set_zone(zone),
            Err(e) => tracing::error!(zone = %name, error = %e, "serve its names"),
        }
        let attached: Vec<Record> = self
            .ports
            .values()
            .filter(|record| record.zone == *name)
            .cloned()
            .collect();
        for record in &attached {
            self.name_container(record);
        }
    }

    /// The resolver serves a zone no more.
    pub(super) fn unname_zone(&mut self, name: &ZoneName) {
        self.names.resolver.remove_zone(name.as_str());
    }

    /// A container has its name from now on.
    pub(super) fn name_container(&mut self, record: &Record) {
        let container = dns::Container {
            name: record.port().to_string(),
            zone: record.zone.to_string(),
            hostnames: std::iter::once(record.container.to_string())
                .chain(record.aliases.iter().cloned())
                .collect(),
            addresses: record.ips(),
        };
        let now = self.names.now();
        if let Err(e) = self.names.resolver.attach(now, container) {
            tracing::error!(container = %record.container, error = %e, "serve its name");
        }
        self.name_prefixes(record);
    }

    /// Whoever asks from a container's prefixes is it.
    pub(super) fn name_prefixes(&mut self, record: &Record) {
        let subnet = self.zones.get(&record.zone).and_then(|s| s.zone.subnet6);
        let prefixes = record.prefixes(subnet);
        let name = record.port();
        self.names.resolver.set_prefixes(name.as_str(), &prefixes);
    }

    /// A container has no name any more.
    pub(super) fn unname_container(&mut self, name: &PortName) {
        self.names.resolver.detach(name.as_str());
        self.names.resolver.set_prefixes(name.as_str(), &[]);
        self.close_names(name);
    }

    /// Tells the resolver which addresses are the host's own.
    pub(super) fn name_host(&mut self) {
        let addresses = self.host_addresses();
        self.names.resolver.set_host(addresses);
    }

    /// The host's resolvers are these now.
    pub(crate) fn set_upstream(&mut self, servers: Vec<SocketAddr>) {
        // A gateway of ours among them would have the resolver ask itself.
        let ours = |server: &SocketAddr| {
            let mut zones = self.zones.values();
            zones.any(|state| gateways(&state.zone).contains(&server.ip()))
        };
        let servers: Vec<_> = servers.into_iter().filter(|server| !ours(server)).collect();
        if servers != self.names.resolver.upstream_servers() {
            tracing::info!(?servers, "the host's resolvers");
            self.names.resolver.set_upstream(servers);
        }
    }

    /// Which container of a zone an address is, if any.
    pub(crate) fn asker(&self, zone: &ZoneName, address: IpAddr) -> Option<String> {
        let asker = self.names.resolver.asker(zone.as_str(), address);
        asker.map(str::to_owned)
    }

    /// A DNS message arrived in a zone.
    pub(crate) fn query(&mut self, from: Client<'_>, back: &Back, message: &[u8]) -> Outcome {
        let now = self.names.now();
        let (resolver, mut judge) = judged(&mut self.names, &self.firewall);
        resolver.handle(now, from, back, message, &mut judge)
    }

    /// A DNS message arrived from upstream.
    pub(crate) fn upstream(&mut self, attempt: Attempt, message: &[u8]) -> Progress<Back> {
        let now = self.names.now();
        let (resolver, mut judge) = judged(&mut self.names, &self.firewall);
        resolver.upstream(now, attempt, message, &mut judge)
    }

    /// An upstream resolver cannot be asked.
    pub(crate) fn upstream_failed(&mut self, attempt: Attempt) -> Progress<Back> {
        let now = self.names.now();
        let (resolver, mut judge) = judged(&mut self.names, &self.firewall);
        resolver.upstream_failed(now, attempt, &mut judge)
    }

    /// When to call [`Engine::expire_names`] next.
    pub(crate) fn names_due(&self) -> Option<Instant> {
        let answers = self.names.resolver.next_deadline();
        let answers = answers.map(|due| self.names.started + Duration::from_millis(due));
        answers.into_iter().chain(self.lapse_due()).min()
    }

    /// Asks further resolvers, answers those who waited in vain, and ends what names opened.
    pub(crate) fn expire_names(&mut self) -> Vec<Progress<Back>> {
        self.lapse_names();
        let now = self.names.now();
        let (resolver, mut judge) = judged(&mut self.names, &self.firewall);
        resolver.expire(now, &mut judge)
    }

    /// Resolvers that are handed to the zone's containers: its own, else the gateway's.
    pub(super) fn resolvers(&self, zone: &zone::Zone) -> Vec<IpAddr> {
        if zone.dns.is_empty() && !zone.is_foreign() {
            gateways(zone)
        } else {
            zone.dns.clone()
        }
    }

    /// What the resolver did.
    pub(super) fn resolver_view(&self) -> api::Resolver {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let resolver = &self.names.resolver;
        let zones = self.zones.keys().filter_map(|name| {
            let counters = resolver.counters(name.as_str())?;
            Some(api::ResolverZone {
                zone: name.to_string(),
                queries: number(counters.queries),
                local: number(counters.local),
                cached: number(counters.cached),
                forwarded: number(counters.forwarded),
                joined: number(counters.joined),
                refused: number(counters.refused),
                failed: number(counters.failed),
                limited: number(counters.limited),
                wrong: number(counters.wrong),
            })
        });
        api::Resolver {
            upstream: texts(resolver.upstream_servers()),
            cached: size(resolver.cached().0),
            under_way: size(resolver.under_way()),
            zones: zones.collect(),
        }
    }
}

/// Resolvers as they are written in files.
pub(super) fn texts(servers: &[SocketAddr]) -> Vec<String> {
    servers.iter().copied().map(zone::server_text).collect()
}

fn judged<'a>(names: &'a mut Names, firewall: &'a Firewall) -> (&'a mut Resolver<Back>, Judge<'a>) {
    let judge = Judge {
        firewall,
        verdicts: &mut names.verdicts,
    };
    (&mut names.resolver, judge)
}

fn gateways(zone: &zone::Zone) -> Vec<IpAddr> {
    let v4 = zone.gateway4.map(IpAddr::V4);
    let v6 = zone.gateway6.map(IpAddr::V6);
    v4.into_iter().chain(v6).collect()
}

/// The zone as the resolver sees it.
fn zone_of(state: &ZoneState) -> Result<dns::Zone, dns::Error> {
    let zone = &state.zone;
    let v4 = zone.subnet4.map(IpNet::V4);
    let v6 = zone.subnet6.map(IpNet::V6);
    let domains = state.file.upstream_domains.iter();
    Ok(dns::Zone {
        name: zone.name.to_string(),
        domain: zone.domain.parse()?,
        gateways: gateways(zone),
        subnets: v4.into_iter().chain(v6).collect(),
        upstream: state.file.upstream.clone(),
        domains: domains
            .map(|(domain, servers)| Ok((domain.parse()?, servers.clone())))
            .collect::<Result<_, dns::Error>>()?,
    })
}
