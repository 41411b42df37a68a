//! The whole answer to a question: translations, policy, uplink, other tables, and what would open it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::fix::{self, Fix};
use super::foreign::{Obstacle, Ruleset, obstacles};
use super::journey::journeys;
use super::remedy::remedy;
use super::steps::{self, Route, Step};
use super::words::who;
use super::{Explanation, Reason, explain, is_host, zone_of};
use crate::model::{Container, Endpoint, Traffic, World};
use crate::oracle::{self, Party, Who};
use crate::policy::PolicySet;
use crate::sets::{Action, Direction, Family};

/// What somebody wants to know: whether `from` may open a connection to `to`. Unlike in a
/// [`Flow`](crate::model::Flow), `to` is whom it writes to, before translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who opens it.
    pub from: Endpoint,
    /// To whom.
    pub to: Endpoint,
    /// With what.
    pub traffic: Traffic,
    /// In which family.
    pub family: Family,
}

/// How the host reaches an address of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The interface.
    pub interface: String,
    /// Its index, where that is known.
    pub index: Option<u32>,
    /// The host's address there.
    pub source: Option<IpAddr>,
}

/// What is known besides world and policies. Nothing of it offline.
#[derive(Debug, Clone, Default)]
pub struct Surroundings<'a> {
    /// How the host reaches the end of the connection that is of the world.
    pub way: Option<Way>,
    /// Other tables.
    pub foreign: Option<&'a Ruleset>,
    /// The folder of policy files, as messages name it.
    pub folder: String,
    /// Files there that are not in force, by name without `.toml`: no new file may be named so.
    pub taken: BTreeSet<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The family that was asked about.
    pub family: Family,
    /// Whether the connection can be opened.
    pub verdict: Action,
    /// Why; in the order in which they took part, never empty.
    pub reasons: Vec<Reason>,
    /// Translations on the way, as far as it goes.
    pub steps: Vec<Step>,
    /// Chains of other tables in the way.
    pub foreign: Vec<Obstacle>,
    /// What would have to be added to allow it. Empty where it is allowed, and where adding does not help.
    pub fix: Vec<Fix>,
}

/// Answers a question. Without translations, uplinks and other tables the verdict is that of [`explain`].
pub fn answer(
    world: &World,
    policies: &PolicySet,
    question: &Question,
    surroundings: &Surroundings<'_>,
) -> Answer {
    let route = steps::route(world, question);
    let Explanation {
        mut verdict,
        mut reasons,
    } = explain(world, policies, &route.flow);
    if let (Some(last), Some(elsewhere)) = (reasons.last_mut(), &route.elsewhere) {
        last.text.push_str(&format!("; {elsewhere}"));
    }
    let mut found = Vec::new();
    let mut after = None;
    let mut fix = Vec::new();
    let parties = parties(world, &route);
    if let Some((from, to)) = parties {
        let way = surroundings.way.as_ref();
        let by_policy = verdict;
        if let Some(uplink) = uplink(world, from, to, way) {
            if uplink.action == Action::Deny {
                verdict = Action::Deny;
            }
            reasons.push(uplink);
        }
        if by_policy == Action::Deny {
            fix = fix::fix(world, policies, &route.flow, surroundings);
        }
        after = steps::after(world, &route.flow, from, to, way);
        if let Some(ruleset) = surroundings.foreign
            && (is_container(from) || is_container(to))
            && !is_nobody(from)
            && !is_nobody(to)
        {
            let seen = after.as_ref().and_then(|step| step.to.parse().ok());
            let journeys = journeys(world, &route, (from, to), seen, way);
            found = obstacles(ruleset, &journeys);
            for obstacle in &found {
                if obstacle.certain {
                    verdict = Action::Deny;
                    let remedy = remedy(world, ruleset, obstacle, (from, to));
                    reasons.push(foreign_reason(obstacle, remedy));
                }
            }
            found.extend(legacy(ruleset, route.flow.family, (from, to)));
        }
    }
    let after = after.filter(|_| verdict == Action::Allow);
    Answer {
        family: question.family,
        verdict,
        reasons,
        steps: route.before.into_iter().chain(after).collect(),
        foreign: found,
        fix,
    }
}

fn parties<'a>(world: &'a World, route: &Route) -> Option<(Party<'a>, Party<'a>)> {
    let flow = &route.flow;
    let from = oracle::party(world, &flow.from, &flow.to, flow.family).ok()?;
    let to = oracle::party(world, &flow.to, &flow.from, flow.family).ok()?;
    Some((from, to))
}

fn is_container(party: Party<'_>) -> bool {
    matches!(party.who, Who::Container(_))
}

/// What comes from or goes to an address that nobody has gets to no other table's chains.
fn is_nobody(party: Party<'_>) -> bool {
    matches!(party.who, Who::Unused(_))
}

fn foreign_reason(obstacle: &Obstacle, remedy: Option<String>) -> Reason {
    let mut text = format!("table {}: {}", obstacle.table, obstacle.text);
    if let Some(remedy) = remedy {
        text.push_str(&format!("; what helps: {remedy}"));
    }
    Reason::built_in(None, Action::Deny, text)
}

/// Tables of the old iptables, which cannot be read: they may drop.
fn legacy(ruleset: &Ruleset, family: Family, (from, to): (Party<'_>, Party<'_>)) -> Vec<Obstacle> {
    let chain = if is_host(to) {
        "INPUT"
    } else if is_host(from) {
        "OUTPUT"
    } else {
        "FORWARD"
    };
    let program = match family {
        Family::V4 => "iptables ",
        Family::V6 => "ip6tables ",
    };
    ruleset
        .legacy
        .iter()
        .filter_map(|name| Some((name, name.strip_prefix(program)?)))
        .filter(|(_, table)| *table != "nat")
        .map(|(name, table)| Obstacle {
            table: format!("{program}(legacy) {table}"),
            chain: chain.to_owned(),
            certain: false,
            text: format!(
                "{name} of the old iptables is in use and cannot be read here: `{}-legacy-save` shows it",
                program.trim()
            ),
        })
        .collect()
}

/// "A pinned zone and the world meet on its uplink only."
fn uplink(world: &World, from: Party<'_>, to: Party<'_>, way: Option<&Way>) -> Option<Reason> {
    let ends = [
        (from, to, Direction::Egress),
        (to, from, Direction::Ingress),
    ];
    ends.into_iter().find_map(|(own, other, direction)| {
        let Who::Container(container) = own.who else {
            return None;
        };
        let container: &Container = container;
        let forwarded = !is_container(other) && !is_host(other) && !oracle::is_group(to);
        let zone = zone_of(world, container).filter(|_| forwarded)?;
        let pinned = zone.uplink.as_ref()?;
        let other = who(other);
        let (action, text) = match way {
            Some(way) if way.interface == pinned.as_str() => (
                Action::Allow,
                format!("zone {} meets the world on {pinned} only, and that is the way to {other}", zone.name),
            ),
            Some(way) => (
                Action::Deny,
                format!(
                    "zone {} meets the world on {pinned} only, and the host's way to {other} is {}: change the route, or the zone's uplink (`netd zone set {} --uplink {}`)",
                    zone.name, way.interface, zone.name, way.interface
                ),
            ),
            None => (
                Action::Allow,
                format!("zone {} meets the world on {pinned} only; whether that is the way to {other} is not known here", zone.name),
            ),
        };
        Some(Reason::built_in(Some(direction), action, text))
    })
}
