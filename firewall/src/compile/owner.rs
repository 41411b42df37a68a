//! What the files and defaults say about one container → its elements of the policy sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::bundles::{Bundles, Files, Numbered, Side};
use super::collect::{Collected, Match};
use super::condition::Conditions;
use super::identities::Identities;
use super::names::Names;
use super::numbers::ZoneNumbers;
use crate::model::{Container, DefaultPolicy, World};
use crate::policy::{Counts, Peer, PolicyFile, number};
use crate::sets::{Action, Direction, Element, Family, Key, SetId, group};

/// What a container's elements are computed from, beside its own files.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) world: &'a World,
    pub(super) zones: &'a ZoneNumbers,
    pub(super) labels: &'a Identities,
    pub(super) conditions: &'a Conditions,
    pub(super) names: &'a Names,
    pub(super) bundles: &'a Bundles,
    /// Lists of ports that are asked for are in use from now on.
    pub(super) keep: bool,
}

/// The files that have a say about a container.
pub(super) struct Applying {
    /// Those in force, in the order of their keys.
    pub(super) enforced: Vec<Arc<PolicyFile>>,
    /// Whether there are some on trial.
    pub(super) trial: bool,
    /// The keys of those in force.
    pub(super) bundle: Files,
    /// What they say about networks.
    pub(super) nets: BTreeMap<Side, Numbered>,
}

/// Which elements are asked for.
#[derive(Clone, Copy)]
pub(super) enum Focus<'a> {
    /// All of the container's.
    Everything,
    /// At least those that come or go when `peer` does: an attach of somebody whom a thousand others
    /// name must not compute all their rules.
    Peer {
        peer: &'a Container,
        /// What policy knows it by.
        keys: &'a [IpAddr],
        /// The number of its identity, where nobody else has that.
        group: Option<u32>,
    },
    /// At least those with one of these numbers of identities.
    Groups(&'a BTreeSet<u32>),
}

impl Focus<'_> {
    /// Whether what a rule says about somebody may be left out. `boxes`: what it says about addresses is
    /// cut into boxes with what it says about others.
    pub(super) fn skips(&self, peer: &Peer, boxes: bool) -> bool {
        let other = match self {
            Focus::Everything => return false,
            Focus::Groups(_) => return !matches!(peer, Peer::Label(..)),
            Focus::Peer { peer, .. } => *peer,
        };
        match peer {
            Peer::Container(name) => name.as_str() != other.name.container() && !boxes,
            Peer::Label(label, value) => other.labels.get(label) != Some(value),
            // one address may be the peer's
            Peer::Net(net) => net.prefix_len() < net.max_prefix_len() && !boxes,
            _ => true,
        }
    }

    pub(super) fn keeps_peer(&self, address: IpAddr) -> bool {
        match self {
            Focus::Everything => true,
            Focus::Groups(_) => false,
            Focus::Peer { peer, keys, .. } => {
                keys.contains(&address) || peer.addresses.contains(&address)
            }
        }
    }

    pub(super) fn keeps_group(&self, number: u32) -> bool {
        match self {
            Focus::Everything => true,
            Focus::Groups(groups) => groups.contains(&number),
            Focus::Peer { group, .. } => *group == Some(number),
        }
    }
}

/// A container's elements of the policy sets, appended to `out`: rules, `NoDeny`, `PublishedOpen`.
pub(super) fn elements(
    view: View<'_>,
    container: &Container,
    applying: &Applying,
    focus: Focus<'_>,
    out: &mut Vec<Element>,
) {
    let files = &applying.enforced;
    if applying.trial || files.iter().any(|file| file.watches()) {
        for own in view.world.keys(container) {
            let set = SetId::Watched(Family::of(own));
            out.push(Element::new(set, Key::new().ip(own)));
        }
    }
    for direction in Direction::ALL {
        let sections = || {
            let files = files.iter();
            files.filter_map(|file| Some((file, file.section(direction)?)))
        };
        let mentioned = sections().next().is_some();
        for own in view.world.keys(container) {
            let collected = |action| {
                let collected = Collected::new(container, own, direction, action, focus);
                collected.sharing(view, &applying.bundle)
            };
            let mut allow = collected(Action::Allow);
            let mut deny = collected(Action::Deny);
            for action in [Action::Allow, Action::Deny] {
                let side = (direction, Family::of(own), action);
                if let Some(nets) = applying.nets.get(&side) {
                    let set = SetId::Nets(direction, Family::of(own), action);
                    let data = Key::new().mark(nets.number);
                    out.push(Element::entry(set, Key::new().ip(own), data));
                }
            }
            let mut steady = true;
            if mentioned {
                let rules = sections().flat_map(|(file, section)| {
                    let rules = section.rules.iter().enumerate();
                    rules.map(move |(place, rule)| ((file, place), rule))
                });
                for ((file, place), rule, counts) in number(rules) {
                    match (counts, rule.action) {
                        (Counts::Always, Action::Allow) => allow.rule(view, rule),
                        (Counts::Always, Action::Deny) => deny.rule(view, rule),
                        (Counts::LeftOut, _) => {}
                        (Counts::Conditionally(number), action) => {
                            steady &= action == Action::Allow;
                            let mark = view.conditions.mark(file, direction, place);
                            let of = Collected::new(container, own, direction, action, focus);
                            of.conditional(number, mark, out)
                                .rule_alone(view, rule, out);
                        }
                    }
                }
            } else {
                for number in default_groups(view, container, direction) {
                    allow.group(number, &[Match::Everything]);
                }
            }
            allow.finish(out);
            if !deny.finish(out) && steady {
                out.push(Element::new(
                    SetId::NoDeny(direction, Family::of(own)),
                    Key::new().ip(own),
                ));
            }
        }
    }
    if let (Focus::Everything, Some(resolved)) = (focus, view.world.resolved.get(&container.name)) {
        super::resolved::of(view, container, resolved.keys().copied(), out);
    }
    let mentions_ingress = files.iter().any(|file| file.ingress.is_some());
    if !mentions_ingress && matches!(focus, Focus::Everything) {
        super::publish::open(view.world, container, out);
    }
}

/// Whom a zone's default lets through in a direction.
fn default_groups(view: View<'_>, container: &Container, direction: Direction) -> Vec<u32> {
    let Some(zone) = view.world.zones.get(&container.zone) else {
        return Vec::new();
    };
    match (zone.default, direction) {
        (DefaultPolicy::Egress, Direction::Egress) => vec![group::WORLD],
        (DefaultPolicy::Egress, Direction::Ingress) | (DefaultPolicy::Deny, _) => Vec::new(),
        (DefaultPolicy::Allow, _) => {
            let own = view.zones.group(&container.zone);
            own.into_iter().chain([group::HOST, group::WORLD]).collect()
        }
    }
}
