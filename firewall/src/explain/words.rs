//! Parties, rules and traffic in words.

use std::net::IpAddr;

use super::moment::words as moment_words;
use crate::model::{Clock, Traffic};
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

/// A party as a policy file names it, in quotes: who, not by which address, where it has a name.
pub(super) fn peer(party: Party<'_>) -> String {
    let named = match (party.who, party.address) {
        (Who::Container(container), _) => {
            Peer::Container(container.name.container_name()).to_string()
        }
        (Who::Host, _) => Peer::Host.to_string(),
        (_, Some(address)) if address.is_loopback() => Peer::Host.to_string(),
        (_, Some(address)) => address.to_string(),
        (_, None) => Peer::World.to_string(),
    };
    format!("\"{named}\"")
}

/// `192.0.2.1:8080`, `[2001:db8::1]:8080`
pub(super) fn at(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Under which conditions a rule counts besides who and what, and whether its hours are now; empty for
/// most: `, up to 50/second burst 100 from each source, Mon-Fri 08:00-18:00 (now Sat 22:00: outside)`.
pub(super) fn conditions(rule: &Rule, clock: Clock) -> String {
    let mut text = String::new();
    if let Some(rate) = &rule.rate {
        text.push_str(&format!(", up to {rate} from each source"));
    }
    if let Some(most) = rule.max_connections {
        text.push_str(&format!(
            ", at most {most} connections at one time from each source"
        ));
    }
    if let Some(time) = &rule.time {
        let now = if time.contains(clock) {
            "within"
        } else {
            "outside"
        };
        text.push_str(&format!(", {time} (now {}: {now})", moment_words(clock)));
    }
    text
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
