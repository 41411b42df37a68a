//! What is answered here, from the directory alone, and what is not.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::Transport;
use crate::answer::Answer;
use crate::directory::{Directory, Member, ZoneState};
use crate::egress::Policy;
use crate::name::{Name, View};
use crate::query::Query;
use crate::reverse::{self, Reverse};
use crate::special::{self, Special};
use crate::wire::{Rcode, number};

/// Seconds that answers about containers may be remembered: attach and detach are to be seen at once.
pub(crate) const TTL: u32 = 1;

/// The gateway's names: systemd's, which no container can have, and the plain one where none has it.
const GATEWAY: [&[u8]; 2] = [b"_gateway", b"gateway"];

/// What a name turned out to be.
#[derive(Debug)]
enum Found<'a> {
    /// Somebody with these addresses.
    Addresses(&'a [IpAddr]),
    /// An address, which leads to this name.
    Pointer(Name),
    /// The top of one of our domains.
    Apex(Name),
    /// It exists and has nothing of its own.
    Nothing(Name),
    /// There is no such name in this domain of ours.
    Missing(Name),
    /// None of ours.
    Outside,
}

const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
];

/// Who asks, and where.
pub(crate) struct Asker<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) state: &'a ZoneState,
    pub(crate) member: &'a Member,
}

impl<'a> Asker<'a> {
    /// The answer, where it is known here.
    pub(crate) fn answer(
        &self,
        query: &Query<'_>,
        over: Transport,
        policy: &mut dyn Policy,
    ) -> Option<Vec<u8>> {
        let name = query.name.view();
        let found = self.find(name, query.kind, policy);
        let rcode = match found {
            Found::Outside => return None,
            Found::Missing(_) => Rcode::NXDOMAIN,
            _ => Rcode::NO_ERROR,
        };
        let mut answer = Answer::new(&query.asked, rcode).authoritative();
        match found {
            Found::Addresses(addresses) => {
                let wanted = |address: &&IpAddr| match query.kind {
                    number::A => address.is_ipv4(),
                    number::AAAA => address.is_ipv6(),
                    number::ANY => true,
                    _ => false,
                };
                let mut some = false;
                for address in addresses.iter().filter(wanted) {
                    answer.address(*address, TTL);
                    some = true;
                }
                if !some {
                    answer.soa(self.apex(name).view(), false, TTL);
                }
            }
            Found::Pointer(to) if matches!(query.kind, number::PTR | number::ANY) => {
                answer.record(number::PTR, TTL, to.view().bytes());
            }
            Found::Pointer(_) => answer.soa(self.apex(name).view(), false, TTL),
            Found::Apex(apex) => {
                let asked_for = matches!(query.kind, number::SOA | number::ANY);
                answer.soa(apex.view(), asked_for, TTL);
            }
            Found::Nothing(apex) | Found::Missing(apex) => answer.soa(apex.view(), false, TTL),
            Found::Outside => {}
        }
        Some(answer.finish(&query.asked, over, rcode, None))
    }

    fn find(&self, name: View<'_>, kind: u16, policy: &mut dyn Policy) -> Found<'a> {
        let Some((first, parent)) = name.split() else {
            return Found::Outside; // the root
        };
        if parent.split().is_none() {
            return self.single(name, first, kind);
        }
        if let Some(found) = self.in_domains(name, first, policy) {
            return found;
        }
        if let Some(reverse) = Reverse::of(name)
            && let Some(found) = self.reverse(reverse, policy)
        {
            return found;
        }
        if self.route(name).is_some() {
            return Found::Outside;
        }
        match special::domain(name) {
            Some((Special::Loopback, _)) => Found::Addresses(&LOOPBACK),
            Some((Special::Empty, domain)) => Found::Missing(domain.to_name()),
            None => Found::Outside,
        }
    }

    /// A name of one label: a container of the asker's own zone, or nobody.
    fn single(&self, name: View<'_>, label: &[u8], kind: u16) -> Found<'a> {
        let id = self.directory.by_label(self.state, name);
        if let Some(member) = id.and_then(|id| self.directory.member(id)) {
            return Found::Addresses(&member.container.addresses);
        }
        if GATEWAY.contains(&label) {
            return Found::Addresses(&self.state.zone.gateways);
        }
        if let Some((Special::Loopback, _)) = special::domain(name) {
            return Found::Addresses(&LOOPBACK);
        }
        // a resolver in the container that validates, or goes step by step, asks these of top-level domains
        let of_domains = matches!(kind, number::NS | number::SOA | number::DS | number::DNSKEY);
        if self.route(name).is_some() || of_domains {
            return Found::Outside;
        }
        // "no such name" would hold for what is beneath it as well (RFC 8020 §2)
        if self.directory.is_above_a_domain(name) {
            return Found::Nothing(Name::root());
        }
        Found::Missing(Name::root())
    }

    /// A name in the domain of some zone.
    fn in_domains(
        &self,
        name: View<'_>,
        first: &[u8],
        policy: &mut dyn Policy,
    ) -> Option<Found<'a>> {
        let own = &self.state.zone.name;
        let members = self.directory.by_full_name(name).iter();
        let mut members = members.filter_map(|id| self.directory.member(*id));
        let mut foreign = None;
        for member in &mut members {
            let container = &member.container;
            if container.zone == *own {
                return Some(Found::Addresses(&container.addresses));
            }
            foreign.get_or_insert(member);
        }
        let asker = &self.member.container.name;
        if let Some(member) = foreign.filter(|m| policy.reaches(asker, &m.container.name)) {
            return Some(Found::Addresses(&member.container.addresses));
        }
        let mut others = None;
        for (domain, zones) in self.directory.domains_of(name) {
            if !zones.contains(own) {
                others.get_or_insert(domain);
                continue;
            }
            if domain == name {
                return Some(Found::Apex(domain.to_name()));
            }
            let parent = name.split().map(|(_, parent)| parent);
            if GATEWAY.contains(&first) && parent == Some(domain) {
                return Some(Found::Addresses(&self.state.zone.gateways));
            }
            return Some(Found::Missing(domain.to_name()));
        }
        // what another zone's domain hides is no business of the world's, unless the domain is one of the world's
        let internal = |domain: &View<'_>| domain.labels().last() == Some(b"internal");
        let hidden = others
            .filter(internal)
            .filter(|_| self.route(name).is_none());
        hidden.map(|domain| Found::Missing(domain.to_name()))
    }

    /// A reverse name: of an address of a zone, or of private space, which is not asked outside.
    fn reverse(&self, reverse: Reverse, policy: &mut dyn Policy) -> Option<Found<'a>> {
        let own = &self.state.zone;
        if let Some(zone) = self.directory.zone_of(reverse.net) {
            let subnet = zone
                .subnets
                .iter()
                .find(|subnet| subnet.contains(&reverse.net));
            let apex = subnet.and_then(|net| reverse::apex(*net))?;
            let Some(address) = reverse.address() else {
                return Some(match (reverse.more, is_at(&apex, reverse.net)) {
                    (true, _) => Found::Missing(apex),
                    (false, true) => Found::Apex(apex),
                    (false, false) => Found::Nothing(apex),
                });
            };
            if own.gateways.contains(&address) {
                let gateway = "_gateway".parse::<Name>().ok()?;
                return gateway.before(own.domain.view()).map(Found::Pointer);
            }
            let asker = &self.member.container;
            let owner = self.directory.owner(address).filter(|owner| {
                let other = &owner.container;
                other.zone == asker.zone || policy.reaches(&asker.name, &other.name)
            });
            let name = owner.and_then(|owner| self.directory.canonical(owner));
            return Some(name.map_or(Found::Missing(apex), Found::Pointer));
        }
        let private = special::private(reverse.net)?;
        let apex = reverse::apex(private)?;
        let routed =
            reverse::apex(reverse.net).is_some_and(|name| self.route(name.view()).is_some());
        if routed {
            return None;
        }
        if special::is_apex(private, reverse.net) && !reverse.more {
            return Some(Found::Apex(apex));
        }
        let above = self.directory.is_above_a_subnet(reverse.net) && !reverse.more;
        Some(if above {
            Found::Nothing(apex)
        } else {
            Found::Missing(apex)
        })
    }

    /// The resolvers that the zone has for a name's domain.
    pub(crate) fn route(&self, name: View<'_>) -> Option<&'a [std::net::SocketAddr]> {
        let routes = &self.state.zone.domains;
        let fits = routes
            .iter()
            .filter(|(domain, _)| name.is_within(domain.view()));
        let longest = fits.max_by_key(|(domain, _)| domain.view().bytes().len());
        longest.map(|(_, servers)| servers.as_slice())
    }

    /// The domain that a name of ours is in.
    fn apex(&self, name: View<'_>) -> Name {
        if let Some(reverse) = Reverse::of(name) {
            let zone = self.directory.zone_of(reverse.net);
            let subnets = zone.into_iter().flat_map(|zone| &zone.subnets);
            let mut fits = subnets.filter(|subnet| subnet.contains(&reverse.net));
            return fits
                .next()
                .and_then(|net| reverse::apex(*net))
                .unwrap_or_else(Name::root);
        }
        let domain = self
            .directory
            .domains_of(name)
            .next()
            .map(|(domain, _)| domain);
        let special = special::domain(name).map(|(_, domain)| domain);
        domain.or(special).map_or_else(Name::root, View::to_name)
    }
}

fn is_at(apex: &Name, net: IpNet) -> bool {
    reverse::apex(net).as_ref() == Some(apex)
}
