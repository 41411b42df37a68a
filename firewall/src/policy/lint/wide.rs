//! What means more than it looks.

use std::fmt::Write;

use ipnet::IpNet;

use super::cover::contains;
use super::{Finding, ONE_FAMILY, Subject, Surroundings, WIDE};
use crate::policy::place::RulePlace;
use crate::policy::{Peer, Rule};
use crate::sets::{Action, Direction};

pub(super) fn find(subject: &Subject<'_>, around: &Surroundings, out: &mut Vec<Finding>) {
    for direction in Direction::ALL {
        let rules = subject.file.section(direction).map(|s| &s.rules);
        for (rule, place) in rules
            .into_iter()
            .flatten()
            .zip(subject.places.of(direction))
        {
            everything(rule, place, out);
            if rule.action == Action::Allow {
                anybody(rule, place, direction, out);
                networks(place, around, out);
            }
        }
    }
}

/// `0.0.0.0/0` and `::/0`.
fn everything(rule: &Rule, place: &RulePlace, out: &mut Vec<Finding>) {
    let half = |v4: bool| {
        rule.peers.iter().any(|peer| {
            matches!(peer, Peer::Net(net) if net.prefix_len() == 0 && net.addr().is_ipv4() == v4)
        })
    };
    let both = half(true) && half(false);
    for (peers, span) in &place.peers {
        for peer in peers {
            let Peer::Net(net) = peer else { continue };
            if net.prefix_len() != 0 {
                continue;
            }
            let (family, other, rest) = match net.addr().is_ipv4() {
                true => ("IPv4", "IPv6", "::/0"),
                false => ("IPv6", "IPv4", "0.0.0.0/0"),
            };
            if rule.action == Action::Deny {
                if !both {
                    let message = format!("this denies all of {family}, and nothing of {other}");
                    let help = format!("add {rest}, or write `any` or `world`");
                    out.push(Finding::new(ONE_FAMILY, span, message, help));
                }
                continue;
            }
            let link_local = match net.addr().is_ipv4() {
                true => ", link-local ones such as 169.254.169.254 too",
                false => "",
            };
            let mut message = format!(
                "{peer} is every address of {family}: containers of all zones and the host as well as the world{link_local}"
            );
            if !both {
                let _ = write!(message, "; and nobody in {other}");
            }
            let help = "write `world` for whatever is outside, in both families, or `any` for containers and the host too";
            out.push(Finding::new(WIDE, span, message, help));
        }
    }
}

/// `any` where something narrower is meant, as it seems.
fn anybody(rule: &Rule, place: &RulePlace, direction: Direction, out: &mut Vec<Finding>) {
    let key = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    for (peers, span) in &place.peers {
        if !peers.contains(&Peer::Any) {
            continue;
        }
        if rule.peers.len() > 1 {
            let message = "`any` means everybody: the other entries add nothing";
            let help = "remove `any`, or write `world` if that is meant; else remove the others";
            out.push(Finding::new(WIDE, span, message, help));
        } else if rule.ports.is_none() {
            let message = "`any` is the host and the containers of all zones, not only the world";
            let help =
                format!("write `world` if that is meant; leave `{key}` out where everybody is");
            out.push(Finding::new(WIDE, span, message, help));
        }
    }
}

/// Networks with addresses of zones or of the host in them.
fn networks(place: &RulePlace, around: &Surroundings, out: &mut Vec<Finding>) {
    for (peers, span) in &place.peers {
        for peer in peers {
            let Peer::Net(net) = peer else { continue };
            if net.prefix_len() == 0 {
                continue;
            }
            if let Some((message, help)) = network(*net, around) {
                out.push(Finding::new(WIDE, span, message, help));
            }
        }
    }
}

/// Names shown in one message.
const SHOWN: usize = 3;

fn network(net: IpNet, around: &Surroundings) -> Option<(String, String)> {
    let single = net.prefix_len() == net.max_prefix_len();
    let shown = Peer::Net(net);
    let whole: Vec<&str> = around
        .all_zones()
        .filter(|(_, zone)| zone.subnets.iter().any(|subnet| contains(net, *subnet)))
        .map(|(name, _)| name.as_str())
        .collect();
    if !whole.is_empty() && !single {
        let more = if whole.len() > SHOWN {
            " and others"
        } else {
            ""
        };
        let (zones, names) = (
            if whole.len() == 1 { "zone" } else { "zones" },
            whole[..whole.len().min(SHOWN)].join(", "),
        );
        let message = format!(
            "{shown} has the addresses of {zones} {names}{more} in it: it means their containers and gateways too"
        );
        let help = "a network matches by address, whatever stands behind it: name those that are meant, or add a deny for the zone";
        return Some((message, help.into()));
    }
    for (name, zone) in around.all_zones() {
        if let Some(gateway) = zone.gateways.iter().find(|g| net.contains(*g)) {
            let message = match single {
                true => format!("{shown} is the gateway of zone {name}, which is the host"),
                false => format!(
                    "{shown} has the gateway of zone {name} ({gateway}) in it, which is the host"
                ),
            };
            let help = "write `host` where the host is meant; whatever listens there on every address is reached by this";
            return Some((message, help.into()));
        }
        let inside = |subnet: &IpNet| contains(*subnet, net);
        if single && !zone.gateways.is_empty() && zone.subnets.iter().any(inside) {
            let message = format!(
                "{shown} is an address of zone {name}: whichever container gets it is meant"
            );
            let help = "write container:NAME, which holds for the name and not for the address";
            return Some((message, help.into()));
        }
    }
    let host = around.host.iter().find(|address| net.contains(*address))?;
    let message = match single {
        true => format!("{shown} is an address of this host"),
        false => format!("{shown} has an address of this host in it ({host})"),
    };
    let help = "the host is meant with it: write `host` if only that is meant, or add a deny for `host` if it is not";
    Some((message, help.into()))
}
