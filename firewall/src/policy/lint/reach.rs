//! What can never match.

use std::net::IpAddr;

use super::{Finding, ONE_FAMILY, Subject, Surroundings, UNREACHABLE};
use crate::policy::place::RulePlace;
use crate::policy::{Peer, Ports, Rule, icmp_counterpart};
use crate::sets::{Action, Direction};

pub(super) fn find(subject: &Subject<'_>, around: &Surroundings, out: &mut Vec<Finding>) {
    let zone = around.zone_of(subject.file);
    for direction in Direction::ALL {
        let rules = subject.file.section(direction).map(|s| &s.rules);
        for (rule, place) in rules
            .into_iter()
            .flatten()
            .zip(subject.places.of(direction))
        {
            nobody(rule, place, out);
            icmp(rule, place, out);
            if direction == Direction::Egress {
                loopback(rule, place, out);
            }
            if let Some((name, zone)) = zone {
                if zone.internal && rule.action == Action::Allow {
                    internal(name.as_str(), place, out);
                }
                families(name.as_str(), zone.has_v6, rule, place, out);
            }
        }
    }
}

/// Rules about empty groups only.
fn nobody(rule: &Rule, place: &RulePlace, out: &mut Vec<Finding>) {
    if rule.peers.is_empty() {
        let message = format!("this rule is about nobody: {} is empty", rule.who());
        let help = "put somebody into the group, or remove the rule";
        out.push(Finding::new(UNREACHABLE, &place.span, message, help));
    }
}

fn all_nets(rule: &Rule, wanted: fn(IpAddr) -> bool) -> bool {
    let net = |peer: &Peer| matches!(peer, Peer::Net(net) if wanted(net.addr()));
    !rule.peers.is_empty() && rule.peers.iter().all(net)
}

/// Types of ICMP that IPv6 does not have, for peers that have nothing else.
fn icmp(rule: &Rule, place: &RulePlace, out: &mut Vec<Finding>) {
    if !all_nets(rule, |a| a.is_ipv6()) {
        return;
    }
    for (entry, span) in &place.ports {
        if let Ports::Icmp(kind) = entry
            && icmp_counterpart(*kind).is_none()
        {
            let message = format!("nobody in an IPv6 network can send `{entry}`");
            out.push(Finding::new(UNREACHABLE, span, message, "remove it"));
        }
    }
}

/// What a container sends to its loopback never leaves it.
fn loopback(rule: &Rule, place: &RulePlace, out: &mut Vec<Finding>) {
    if rule.action == Action::Deny {
        return;
    }
    for (peers, span) in &place.peers {
        for peer in peers {
            if let Peer::Net(net) = peer
                && net.network().is_loopback()
                && net.prefix_len() >= 8
            {
                let message = format!(
                    "{peer} is the container itself when it connects there: no rule is needed, and none is asked"
                );
                let help = "write `host` if a service of the host is meant";
                out.push(Finding::new(UNREACHABLE, span, message, help));
            }
        }
    }
}

/// The world, seen from an internal zone.
fn internal(zone: &str, place: &RulePlace, out: &mut Vec<Finding>) {
    for (peers, span) in &place.peers {
        let world = |peer: &&Peer| matches!(peer, Peer::World | Peer::Dns(_));
        if let Some(peer) = peers.iter().find(world) {
            let message = format!(
                "zone {zone} is internal: nothing passes between its containers and {peer}, whatever rules say"
            );
            let help = "remove it, or make the zone one with a way out (internal = false)";
            out.push(Finding::new(UNREACHABLE, span, message, help));
        }
    }
}

/// Lists of networks of one family.
fn families(zone: &str, has_v6: bool, rule: &Rule, place: &RulePlace, out: &mut Vec<Finding>) {
    let first = place.peers.first().map_or(&place.span, |(_, span)| span);
    if !has_v6 && all_nets(rule, |a| a.is_ipv6()) {
        let message = format!("zone {zone} has no IPv6: this rule never matches");
        let help = "name IPv4 networks, or give the zone IPv6 (subnet6)";
        out.push(Finding::new(UNREACHABLE, first, message, help));
    }
    // all of IPv4 is told of elsewhere
    let whole = |peer: &Peer| matches!(peer, Peer::Net(net) if net.prefix_len() == 0);
    if has_v6 && all_nets(rule, |a| a.is_ipv4()) && !rule.peers.iter().any(whole) {
        let what = match rule.action {
            Action::Allow => "it lets nobody through there",
            Action::Deny => "it closes nothing there",
        };
        let message = format!("zone {zone} has IPv6, and this rule is about IPv4 only: {what}");
        let help = "add the IPv6 networks of the same peers, or name them by container:, zone:, label:, host or world";
        out.push(Finding::new(ONE_FAMILY, first, message, help));
    }
}
