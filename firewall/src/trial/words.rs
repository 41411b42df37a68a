//! Records in words.

use crate::model::{Container, Traffic, World};
use crate::oracle::{Party, Who};
use crate::policy::{self, Ports, Rule};
use crate::sets::{Action, Direction};

fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    }
}

/// Whom and what a rule is about: `to container:db on tcp/5432`.
fn about(rule: &Rule, direction: Direction) -> String {
    let ports = match &rule.ports {
        None => "every protocol and port".to_owned(),
        Some(ports) => policy::list(ports),
    };
    let peers = policy::list(&rule.peers);
    format!("{} {peers} on {ports}", preposition(direction))
}

/// What a rule says.
pub(super) fn rule(rule: &Rule, direction: Direction) -> String {
    let does = match rule.action {
        Action::Allow => "allows",
        Action::Deny => "denies",
    };
    format!("{does} {}", about(rule, direction))
}

/// What a rule allows no more of.
pub(super) fn limit(rule: &Rule, direction: Direction) -> String {
    let rate = rule.rate.map(|rate| format!("rate {rate}"));
    let most = rule.max_connections.map(|n| format!("{n} connections"));
    let limits: Vec<String> = rate.into_iter().chain(most).collect();
    format!(
        "allows {}, up to {} of each source: this is over it",
        about(rule, direction),
        limits.join(" and ")
    )
}

/// That no rule allows something.
pub(super) fn closed(direction: Direction, peer: Party<'_>, traffic: Traffic) -> String {
    let who = match (peer.who, peer.address) {
        (Who::Container(container), _) => format!("container:{}", container.name),
        (Who::Host, _) => "host".to_owned(),
        (_, Some(address)) => address.to_string(),
        (_, None) => "world".to_owned(),
    };
    format!(
        "{} is closed but for what is allowed, and no rule allows {} {who} on {}",
        direction.as_str(),
        preposition(direction),
        Ports::from(traffic)
    )
}

/// That no file mentions a direction.
pub(super) fn default(world: &World, owner: &Container, direction: Direction) -> String {
    let default = world.zones.get(&owner.zone).map(|zone| zone.default);
    format!(
        "no file mentions {}: by the default of zone {}, `{}`",
        direction.as_str(),
        owner.zone,
        default.map_or("deny", |default| default.as_str())
    )
}

/// That the kernel said something for which no rule is the reason.
pub(super) fn no_rule(verdict: Action, allowed: bool) -> &'static str {
    match (verdict, allowed) {
        (Action::Deny, false) => {
            "no rule: internal zones and addresses of nobody are closed, whatever policies say"
        }
        (Action::Deny, true) => {
            "no rule in force refuses this: it was judged before an edit, or it is the zone's uplink"
        }
        (Action::Allow, _) => {
            "no rule in force allows this: it was judged before an edit, or over the limit of a deny"
        }
    }
}
