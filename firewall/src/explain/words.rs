//! Parties, rules and traffic in words.

use crate::model::Traffic;
use crate::oracle::{Party, Who};
use crate::policy::{self, Peer, Ports, Rule};
use crate::sets::Direction;

/// A text that is no traffic, with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not PROTO/PORT: {reason}")]
pub struct NotTraffic {
    text: String,
    reason: String,
}

/// What `tcp/80`, `icmp/echo-request` or `gre` on a command line stands for: one kind of traffic.
///
/// # Errors
/// When the text is none, or stands for more than one: `tcp/*`, `tcp/80-90`.
pub fn traffic(text: &str) -> Result<Traffic, NotTraffic> {
    let wrong = |reason: String| NotTraffic {
        text: text.to_owned(),
        reason,
    };
    match policy::parse_ports(text) {
        Ok(Ports::Range { proto, first, last }) if first == last => Ok(Traffic::Port(proto, first)),
        Ok(Ports::Proto(proto)) if !policy::has_ports(proto) => Ok(Traffic::Proto(proto)),
        Ok(Ports::Icmp(kind)) => Ok(Traffic::Icmp(kind)),
        Ok(_) => Err(wrong("it stands for more than one; ask about one".into())),
        Err((message, None)) => Err(wrong(message)),
        Err((message, Some(help))) => Err(wrong(format!("{message}; {help}"))),
    }
}

/// Traffic as a policy file writes it.
pub(super) fn carries(traffic: Traffic) -> String {
    let ports = match traffic {
        Traffic::Port(proto, port) => Ports::Range {
            proto,
            first: port,
            last: port,
        },
        Traffic::Icmp(kind) => Ports::Icmp(kind),
        Traffic::Proto(proto) => Ports::Proto(proto),
    };
    ports.to_string()
}

/// A party as a person would name it.
pub(super) fn who(party: Party<'_>) -> String {
    match (party.who, party.address) {
        (Who::Container(container), _) => format!("container {}", container.name),
        (Who::Host, Some(address)) => format!("host ({address})"),
        (Who::Host, None) => "host".into(),
        (Who::World, Some(address)) => format!("world ({address})"),
        (Who::World, None) => "world".into(),
        (Who::Unused(zone), Some(address)) => {
            format!("{address} (nobody's address in zone {})", zone.name)
        }
        (Who::Special, Some(address)) if address.is_loopback() => {
            format!("{address} (the host's loopback)")
        }
        (Who::Special, Some(address)) => {
            format!("{address} (which only a rule with its address means)")
        }
        (Who::Unused(_) | Who::Special, None) => "nobody".into(),
    }
}

/// The rule that would allow something, as one would write it.
pub(super) fn addition(direction: Direction, peer: Party<'_>, traffic: Traffic) -> String {
    let key = match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    };
    let named = match (peer.who, peer.address) {
        (Who::Container(container), _) => Peer::Container(container.name.clone()).to_string(),
        (Who::Host, _) => Peer::Host.to_string(),
        (_, Some(address)) if address.is_loopback() => Peer::Host.to_string(),
        (_, Some(address)) => address.to_string(),
        (_, None) => Peer::World.to_string(),
    };
    format!(
        "[[{}]] {key} = [\"{named}\"] ports = [\"{}\"]",
        direction.as_str(),
        carries(traffic)
    )
}

/// A rule without its action: `to container:db, zone:dmz on tcp/80`.
pub(super) fn rule_words(rule: &Rule, direction: Direction) -> String {
    let preposition = match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    };
    let ports = match &rule.ports {
        None => "every protocol and port".into(),
        Some(ports) => policy::list(ports),
    };
    format!("{preposition} {} on {ports}", rule.who())
}
