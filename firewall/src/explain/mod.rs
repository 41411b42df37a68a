//! Verdicts with their reasons.
//!
//! ```text
//! Question ─► steps (published ports) ─► explain (policy) ─► uplink ─► foreign (other tables) ─► Answer
//!                                                └─ denied ─► fix (what would allow it)
//! ```
//!
//! [`explain`] walks the same steps as the [oracle] and names at each the rule, default or built-in rule that
//! decided. [`answer()`] is about the whole way of a connection, from whom somebody writes to, to the chain of
//! another table that would drop it.

mod answer;
mod fix;
pub mod foreign;
mod journey;
mod moment;
mod name;
mod remedy;
mod show;
mod side;
mod steps;
mod words;

use zone::ZoneName;

use crate::diagnostics::Position;
use crate::model::{Container, Flow, Traffic, World, Zone};
use crate::oracle::{self, Party, Who};
use crate::policy::{PolicyFile, PolicySet};
use crate::sets::{Action, Direction, Family};

pub use answer::{Answer, Question, Surroundings, Way, answer};
pub use fix::Fix;
pub use moment::{NotMoment, moment};
pub use name::stand_in;
pub use show::policy_of;
use side::Side;
pub use steps::{Step, StepKind};
pub use words::{NotTraffic, traffic};
use words::{carries, who};

/// One rule or default that took part in a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The policy file; absent for a default or a built-in rule.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// From 1, in characters.
    pub column: Option<u32>,
    /// Whose word it was: of the one who opens the connection, or of the one it is opened to.
    pub direction: Option<Direction>,
    /// What it did.
    pub action: Action,
    /// A sentence for people.
    pub text: String,
}

impl Reason {
    fn built_in(direction: Option<Direction>, action: Action, text: String) -> Self {
        Self {
            file: None,
            line: None,
            column: None,
            direction,
            action,
            text,
        }
    }

    fn in_file(
        file: &PolicyFile,
        at: Position,
        direction: Direction,
        action: Action,
        text: String,
    ) -> Self {
        Self {
            file: Some(file.file.clone()),
            line: Some(at.line),
            column: Some(at.column),
            direction: Some(direction),
            action,
            text,
        }
    }
}

/// Whether a connection may be opened, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Action,
    /// In the order in which they took part; never empty.
    pub reasons: Vec<Reason>,
}

impl Explanation {
    fn one(action: Action, text: String) -> Self {
        Self {
            verdict: action,
            reasons: vec![Reason::built_in(None, action, text)],
        }
    }
}

/// Whether a connection may be opened, and why. Agrees with [`oracle::allows`] always.
pub fn explain(world: &World, policies: &PolicySet, flow: &Flow) -> Explanation {
    let (from, to) = match (
        oracle::party(world, &flow.from, &flow.to, flow.family),
        oracle::party(world, &flow.to, &flow.from, flow.family),
    ) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(nobody), _) | (_, Err(nobody)) => {
            let text = format!("{nobody}: no packet comes from it or goes to it");
            return Explanation::one(Action::Deny, text);
        }
    };
    if let Some(text) = impossible(from, to, flow) {
        return Explanation::one(Action::Deny, text);
    }
    let (client, server) = match (from.who, to.who) {
        (Who::Container(client), Who::Container(server)) => (Some(client), Some(server)),
        (Who::Container(client), _) => (Some(client), None),
        (_, Who::Container(server)) => (None, Some(server)),
        (_, Who::Unused(zone)) => {
            let text = format!(
                "{} belongs to zone {} and to no container: what is sent to it is dropped",
                who(to),
                zone.name
            );
            return Explanation::one(Action::Deny, text);
        }
        (Who::World | Who::Special, Who::Host)
            if !is_host(from) && oracle::at_gateway(world, to) =>
        {
            let text = format!(
                "{} is a gateway: it serves its zone, not the outside",
                who(to)
            );
            return Explanation::one(Action::Deny, text);
        }
        _ => {
            let text = "netd rules over containers only: neither end is one".to_owned();
            return Explanation::one(Action::Allow, text);
        }
    };
    if let Some(text) = client.and_then(|client| gateway_service(world, client, to, flow)) {
        return Explanation::one(Action::Allow, text);
    }
    for (container, other) in client
        .filter(|_| !oracle::is_group(to))
        .map(|c| (c, to))
        .into_iter()
        .chain(server.map(|c| (c, from)))
    {
        if let Some(zone) = cut_off(world, container, other) {
            let text = format!(
                "zone {zone} of {} is internal: it has no path to or from {}, whatever policies say",
                container.name,
                who(other)
            );
            return Explanation::one(Action::Deny, text);
        }
    }
    let mut sides = Vec::new();
    if let Some(client) = client {
        sides.push(Side::new(world, policies, client, Direction::Egress, to, flow).judge());
    }
    if let Some(server) = server {
        let side = Side::new(world, policies, server, Direction::Ingress, from, flow);
        sides.push(side.published().unwrap_or_else(|| side.judge()));
    }
    let allowed = sides.iter().all(|(allowed, _)| *allowed);
    Explanation {
        verdict: if allowed { Action::Allow } else { Action::Deny },
        reasons: sides.into_iter().flat_map(|(_, reasons)| reasons).collect(),
    }
}

/// Why there is no such flow at all.
fn impossible(from: Party<'_>, to: Party<'_>, flow: &Flow) -> Option<String> {
    let known = match flow.traffic {
        Traffic::Icmp(kind) if flow.family == Family::V6 => {
            if crate::policy::icmp_counterpart(kind).is_none() {
                return Some(format!(
                    "{} has no counterpart in ICMPv6",
                    carries(flow.traffic)
                ));
            }
            true
        }
        Traffic::Icmp(_) => true,
        Traffic::Port(proto, _) => crate::policy::has_ports(proto),
        Traffic::Proto(proto) => !crate::policy::has_ports(proto) && !matches!(proto, 1 | 58),
    };
    if !known {
        return Some(format!(
            "{} says too little or too much: protocols with ports need one, others have none",
            carries(flow.traffic)
        ));
    }
    if let Who::Unused(zone) = from.who {
        return Some(format!(
            "{} belongs to zone {} and to no container: what comes from it is forged, and dropped",
            who(from),
            zone.name
        ));
    }
    if to.address.is_some_and(|address| address.is_loopback()) {
        let text =
            "loopback never leaves a container: what is sent to it from elsewhere is dropped";
        return Some(text.to_owned());
    }
    None
}

fn is_host(party: Party<'_>) -> bool {
    party.who == Who::Host || party.address.is_some_and(|address| address.is_loopback())
}

fn zone_of<'a>(world: &'a World, container: &Container) -> Option<&'a Zone> {
    world.zones.get(&container.zone)
}

fn cut_off<'a>(world: &'a World, container: &Container, other: Party<'_>) -> Option<&'a ZoneName> {
    let zone = zone_of(world, container).filter(|zone| zone.internal)?;
    let inside = is_host(other) || matches!(other.who, Who::Container(_));
    (!inside).then_some(&zone.name)
}

fn gateway_service(
    world: &World,
    client: &Container,
    to: Party<'_>,
    flow: &Flow,
) -> Option<String> {
    let zone = zone_of(world, client)?;
    let gateway = match flow.family {
        Family::V4 => zone.gateway4.map(std::net::IpAddr::V4),
        Family::V6 => zone.gateway6.map(std::net::IpAddr::V6),
    };
    let dhcp = matches!(
        (flow.traffic, flow.family),
        (Traffic::Port(17, 67), Family::V4)
    );
    let broadcast = to.address == Some(std::net::Ipv4Addr::BROADCAST.into());
    if to.address != Some(gateway?) && !(dhcp && broadcast) {
        return None;
    }
    let what = match (flow.traffic, flow.family) {
        (Traffic::Port(6 | 17, 53), _) => "the gateway's resolver",
        (Traffic::Port(17, 67), Family::V4) => "its zone's DHCP server",
        (Traffic::Icmp(8), _) => "its gateway by ICMP echo",
        _ => return None,
    };
    Some(format!(
        "built in: a container can always reach {what} (rate-limited)"
    ))
}
