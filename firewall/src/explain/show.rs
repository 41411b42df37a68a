//! The policy in force for one container, and where each part comes from.

use super::Reason;
use super::side::default_words;
use super::words::rule_words;
use crate::model::{Container, Publish, World};
use crate::policy::PolicySet;
use crate::sets::{Action, Direction};
use zone::PortName;

/// Everything that holds for a container: rule by rule, default by default, published ports, built-in
/// rules. Empty when no such container is attached.
pub fn policy_of(world: &World, policies: &PolicySet, container: &PortName) -> Vec<Reason> {
    let Some(container) = world.containers.get(container) else {
        return Vec::new();
    };
    let mut reasons = Vec::new();
    for direction in Direction::ALL {
        of_direction(world, policies, container, direction, &mut reasons);
    }
    reasons.extend(published(world, policies, container));
    let text = "built in: its zone's DHCP server, the gateway's resolver (port 53) and the gateway by ICMP echo, rate-limited";
    reasons.push(Reason::built_in(
        Some(Direction::Egress),
        Action::Allow,
        text.to_owned(),
    ));
    let internal = world
        .zones
        .get(&container.zone)
        .is_some_and(|zone| zone.internal);
    if internal {
        let text = format!(
            "zone {} is internal: no path to or from world, whatever policies say",
            container.zone
        );
        reasons.push(Reason::built_in(None, Action::Deny, text));
    }
    reasons
}

fn of_direction(
    world: &World,
    policies: &PolicySet,
    container: &Container,
    direction: Direction,
    reasons: &mut Vec<Reason>,
) {
    let mut mentioned = false;
    for file in policies.applying(container) {
        let Some(section) = file.section(direction) else {
            continue;
        };
        mentioned = true;
        for rule in &section.rules {
            let conditions = super::words::conditions(rule, world.clock);
            let text = rule_words(rule, direction) + &conditions;
            reasons.push(Reason::in_file(file, rule.at, direction, rule.action, text));
        }
        if section.rules.is_empty() {
            let text = format!("{} is empty here: it opens nothing", direction.as_str());
            reasons.push(Reason::in_file(
                file,
                section.at,
                direction,
                Action::Deny,
                text,
            ));
        }
    }
    let zone = world.zones.get(&container.zone);
    let reason = if mentioned {
        let text = format!(
            "all other {} is closed, because files mention it",
            direction.as_str()
        );
        Reason::built_in(Some(direction), Action::Deny, text)
    } else {
        let opens = zone.is_some_and(|zone| match (zone.default, direction) {
            (zone::DefaultPolicy::Deny, _) => false,
            (zone::DefaultPolicy::Egress, direction) => direction == Direction::Egress,
            (zone::DefaultPolicy::Allow, _) => true,
        });
        let action = if opens { Action::Allow } else { Action::Deny };
        let text = format!(
            "no file mentions {}, and {}",
            direction.as_str(),
            default_words(zone, container, direction)
        );
        Reason::built_in(Some(direction), action, text)
    };
    reasons.push(reason);
}

fn published(world: &World, policies: &PolicySet, container: &Container) -> Vec<Reason> {
    let internal = world
        .zones
        .get(&container.zone)
        .is_none_or(|zone| zone.internal);
    let mentioned = policies
        .applying(container)
        .any(|file| file.ingress.is_some());
    let reason = |publish: &Publish| {
        let way = publish_words(publish);
        let (action, text) = if internal {
            let text = format!("{way} is not in force: nothing of an internal zone is published");
            (Action::Deny, text)
        } else if mentioned {
            let text = format!("{way}: files mention ingress, so they decide who may come through");
            (Action::Allow, text)
        } else {
            let text = format!("{way}: open to world and host, because no file mentions ingress");
            (Action::Allow, text)
        };
        Reason::built_in(Some(Direction::Ingress), action, text)
    };
    container.publish.iter().map(reason).collect()
}

/// `published port 8080 to tcp/80`
fn publish_words(publish: &Publish) -> String {
    let at = match publish.address {
        Some(std::net::IpAddr::V6(a)) => format!("[{a}]:"),
        Some(a) => format!("{a}:"),
        None => String::new(),
    };
    let end = if publish.last > publish.first {
        format!("-{}", publish.last)
    } else {
        String::new()
    };
    let port = super::carries(crate::model::Traffic::Port(publish.proto, publish.port));
    format!("published port {at}{}{end} to {port}", publish.first)
}
