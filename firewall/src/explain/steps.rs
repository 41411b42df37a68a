//! Translations of addresses on a connection's way: published ports, masquerade, hairpins.
//!
//! ```text
//! Question (whom somebody writes to) ─► Route: the flow that is judged, and the steps on its way
//! ```
//!
//! Who asks for a published port of the host means the container behind it: policy judges by the
//! container's port and the true source. The order in which doors are tried is that of the chain `publish`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::words::at;
use super::{Question, Way};
use crate::compile::publish::WRITTEN_OUT;
use crate::model::{Container, Endpoint, Flow, Publish, Traffic, World};
use crate::oracle::{self, Party, Who};
use crate::sets::Family;

/// What a step translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// The destination: a published port.
    Dnat,
    /// The source, on the way out, or from the host's loopback.
    Masquerade,
    /// The source, where a published port leads back into a zone.
    Hairpin,
}

impl StepKind {
    /// As `--json` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dnat => "dnat",
            Self::Masquerade => "masquerade",
            Self::Hairpin => "hairpin",
        }
    }
}

/// A translation on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub kind: StepKind,
    /// A sentence for people.
    pub text: String,
    /// Address (and port) before.
    pub from: String,
    /// … and after.
    pub to: String,
}

/// What becomes of a question on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// What is judged.
    pub(super) flow: Flow,
    /// What happens before that.
    pub(super) before: Option<Step>,
    /// What the client wrote to, where that is translated.
    pub(super) entrance: Option<(IpAddr, u16)>,
    /// A port of the host that is published, but not at the address that is asked about.
    pub(super) elsewhere: Option<String>,
}

/// Follows a question through published ports. `user_loopback`: netd itself forwards what is published on
/// `::1`.
pub(super) fn route(world: &World, question: &Question, user_loopback: bool) -> Route {
    let plain = Flow {
        from: question.from.clone(),
        to: question.to.clone(),
        traffic: question.traffic,
        family: question.family,
        published: false,
    };
    let mut route = Route {
        flow: plain,
        before: None,
        entrance: None,
        elsewhere: None,
    };
    let Traffic::Port(proto, port) = question.traffic else {
        return route;
    };
    let from_container = from_container(world, question);
    for address in doors(world, question) {
        let Some((container, publish)) = published(world, address, proto, port, from_container)
        else {
            continue;
        };
        let own = |family| {
            let mut own = world.addresses(container);
            own.find(|own| Family::of(*own) == family)
        };
        // where the kernel cannot, netd's own door passes it on to the IPv4 loopback
        let in_user_space = address == IpAddr::V6(Ipv6Addr::LOCALHOST)
            && (user_loopback || own(Family::V6).is_none());
        let family = if in_user_space {
            Family::V4
        } else {
            Family::of(address)
        };
        let own = own(family);
        let Some(own) = own else { continue };
        let inside = publish.port + (port - publish.first);
        let (from, to) = (at(address, port), at(own, inside));
        let by = if in_user_space {
            " (passed on by netd, as the kernel cannot)"
        } else {
            ""
        };
        route.before = Some(Step {
            kind: StepKind::Dnat,
            text: format!("published by {}: {from} -> {to}{by}", container.name),
            from,
            to,
        });
        route.entrance = Some((address, port));
        route.flow = Flow {
            from: source(question, address, in_user_space),
            to: Endpoint::Container(container.name.clone()),
            traffic: Traffic::Port(proto, inside),
            family,
            published: true,
        };
        return route;
    }
    route.elsewhere = elsewhere(world, question, proto, port);
    route
}

/// The host speaks to its own addresses from them.
fn source(question: &Question, to: IpAddr, in_user_space: bool) -> Endpoint {
    match &question.from {
        _ if in_user_space => Endpoint::Address(Ipv4Addr::LOCALHOST.into()),
        Endpoint::Host => Endpoint::Address(to),
        other => other.clone(),
    }
}

fn who<'a>(world: &'a World, endpoint: &Endpoint, question: &Question) -> Option<Who<'a>> {
    let other = match endpoint == &question.from {
        true => &question.to,
        false => &question.from,
    };
    let party = oracle::party(world, endpoint, other, question.family).ok()?;
    Some(party.who)
}

fn from_container(world: &World, question: &Question) -> bool {
    matches!(
        who(world, &question.from, question),
        Some(Who::Container(_))
    )
}

fn from_host(world: &World, question: &Question) -> bool {
    match &question.from {
        Endpoint::Host => true,
        Endpoint::Address(address) => {
            address.is_loopback() || matches!(who(world, &question.from, question), Some(Who::Host))
        }
        _ => false,
    }
}

/// Addresses of the host that a question may mean.
fn doors(world: &World, question: &Question) -> Vec<IpAddr> {
    let family = |address: &IpAddr| Family::of(*address) == question.family;
    match &question.to {
        Endpoint::Address(address) if !family(address) => Vec::new(),
        Endpoint::Address(address) if address.is_loopback() => {
            // nobody else's packets reach it
            let own = from_host(world, question).then_some(*address);
            own.into_iter().collect()
        }
        Endpoint::Address(address) => match who(world, &question.to, question) {
            Some(Who::Host) => vec![*address],
            _ => Vec::new(),
        },
        Endpoint::Host if from_container(world, question) => {
            // a container meets the host at its gateway
            let party = oracle::party(world, &question.to, &question.from, question.family);
            party.ok().and_then(|p| p.address).into_iter().collect()
        }
        Endpoint::Host => {
            let loopback = match question.family {
                Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
                Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            let outside = |a: &IpAddr| match a {
                IpAddr::V4(a) => !a.is_loopback(),
                IpAddr::V6(a) => !a.is_loopback() && !a.is_unicast_link_local(),
            };
            let own = world.host.iter().copied().filter(family);
            let own = own.filter(outside);
            own.chain(from_host(world, question).then_some(loopback))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Who listens on a port of a host's address, as the chain `publish` asks.
fn published(
    world: &World,
    address: IpAddr,
    proto: u8,
    port: u16,
    from_container: bool,
) -> Option<(&Container, &Publish)> {
    let all = || {
        let containers = world.containers.values();
        let open = containers.filter(|container| {
            let zone = world.zones.get(&container.zone);
            zone.is_some_and(|zone| !zone.internal)
        });
        open.flat_map(|container| container.publish.iter().map(move |p| (container, p)))
            .filter(|(_, p)| p.proto == proto && (p.first..=p.last).contains(&port))
    };
    let party = Party {
        who: Who::Host,
        address: Some(address),
        names: None,
    };
    // the gateway's resolver stays reachable, but where exactly this is published
    let resolver = from_container && port == 53 && oracle::at_gateway(world, party);
    // ranges that are one element are asked later (`compile::publish`)
    let is_range = |publish: &Publish| {
        let more = publish.last.saturating_sub(publish.first);
        more > 0 && (publish.port == publish.first || more >= WRITTEN_OUT)
    };
    let here =
        |publish: &Publish| publish.address == Some(address) && !(resolver && is_range(publish));
    if let Some(found) = all().find(|(_, publish)| here(publish)) {
        return Some(found);
    }
    if resolver {
        return None;
    }
    let everywhere = |publish: &Publish| match publish.address {
        None => true,
        Some(listens) => listens.is_unspecified() && Family::of(listens) == Family::of(address),
    };
    all().find(|(_, publish)| everywhere(publish))
}

/// Where a port of the host is published, if not where it was asked about.
fn elsewhere(world: &World, question: &Question, proto: u8, port: u16) -> Option<String> {
    if !matches!(
        who(world, &question.to, question),
        Some(Who::Host | Who::Special)
    ) {
        return None;
    }
    let publishes = |container: &Container, publish: &Publish| {
        let wanted = publish.proto == proto && (publish.first..=publish.last).contains(&port);
        let address = publish.address.filter(|_| wanted)?;
        let internal = world.zones.get(&container.zone).is_none_or(|z| z.internal);
        (!internal && Family::of(address) == question.family).then(|| {
            format!(
                "{} publishes it on {} only",
                container.name,
                at(address, port)
            )
        })
    };
    world
        .containers
        .values()
        .flat_map(|container| container.publish.iter().map(move |p| (container, p)))
        .find_map(|(container, publish)| publishes(container, publish))
}

/// What happens to the source after a connection was allowed.
pub(super) fn after(
    world: &World,
    flow: &Flow,
    from: Party<'_>,
    to: Party<'_>,
    way: Option<&Way>,
) -> Option<Step> {
    let client = match from.who {
        Who::Container(client) => Some(client),
        _ => None,
    };
    match (client, to.who) {
        (client, Who::Container(server)) if flow.published => {
            let loopback = from.address.is_some_and(|a| a.is_loopback());
            if client.is_none() && !loopback {
                return None;
            }
            let zone = world.zones.get(&server.zone)?;
            let gateway = match flow.family {
                Family::V4 => zone.gateway4.map(IpAddr::V4),
                Family::V6 => zone.gateway6.map(IpAddr::V6),
            };
            let (source, seen) = (from.address?.to_string(), gateway?.to_string());
            let (kind, text) = match client {
                Some(client) if client.name == server.name => (
                    StepKind::Hairpin,
                    format!(
                        "{} meets itself through the host: it sees its gateway {seen}, not {source}",
                        server.name
                    ),
                ),
                Some(client) => (
                    StepKind::Hairpin,
                    format!(
                        "back into a zone: {} sees its gateway {seen}, not {} ({source})",
                        server.name, client.name
                    ),
                ),
                None => (
                    StepKind::Masquerade,
                    format!(
                        "from the host's loopback: {} sees its gateway {seen}, not {source}",
                        server.name
                    ),
                ),
            };
            Some(Step {
                kind,
                text,
                from: source,
                to: seen,
            })
        }
        (Some(client), Who::World | Who::Special) if !oracle::is_group(to) => {
            let zone = world.zones.get(&client.zone)?;
            let masquerades = match flow.family {
                Family::V4 => !zone.internal,
                Family::V6 => zone.masquerade6 && !zone.internal,
            };
            if !masquerades {
                return None;
            }
            let source = from.address?.to_string();
            let (seen, text) = match way {
                Some(Way {
                    interface,
                    source: Some(address),
                    ..
                }) => (
                    address.to_string(),
                    format!("out by {interface}: the world sees {address}, not {source}"),
                ),
                Some(Way { interface, .. }) => (
                    interface.clone(),
                    format!("out by {interface}: the world sees its address, not {source}"),
                ),
                None => (
                    "the host".to_owned(),
                    format!("the world sees an address of the host, not {source}"),
                ),
            };
            Some(Step {
                kind: StepKind::Masquerade,
                text,
                from: source,
                to: seen,
            })
        }
        _ => None,
    }
}
