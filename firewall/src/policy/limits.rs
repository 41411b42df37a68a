//! Ceilings: what one file may ask for, so that a bad one hurts nobody else.
//!
//! ```text
//! bytes ─► rules, entries ─► elements (peers × ports) ─► pieces of networks that overlap
//! ```
//!
//! Each is counted while the file is read, before anything is computed from it. An element is what a
//! rule costs in the kernel for each address of each container the file applies to.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ipnet::IpNet;

use super::read::{Reader, Span};
use super::{MAX_CONDITIONAL, Peer, Ports, Rule, Section};
use crate::sets::{Action, Direction, Family};

/// Rules in a file.
pub const MAX_RULES: usize = 10_000;
/// Entries of `from` or `to` in one rule, and of one group; groups count with all that is in them.
pub const MAX_PEERS: usize = 2_000;
/// Entries of `ports` in one rule.
pub const MAX_PORTS: usize = 500;
/// Entries of `from`, `to` and `ports` in a file.
pub const MAX_ENTRIES: usize = 50_000;
/// Elements of a file: for each rule its peers times its ports.
pub const MAX_ELEMENTS: usize = 20_000;
/// Pieces into which networks of a file may fall where they overlap, by the bound of [`most_pieces`].
pub const MAX_PIECES: usize = 10_000;
/// The largest `groups.toml`, in bytes.
pub const MAX_GROUP_BYTES: usize = 256 << 10;
/// Groups in a `groups.toml`.
pub const MAX_GROUPS: usize = 1_000;
/// Peers of all groups together, expanded.
pub const MAX_GROUP_PEERS: usize = 50_000;

/// What was counted of a file so far.
#[derive(Debug, Default)]
pub(super) struct Count {
    entries: usize,
    elements: usize,
}

impl Reader<'_> {
    /// Refuses a list that is too long.
    pub(super) fn too_many_entries(&mut self, span: Span, key: &str, count: usize, most: usize) {
        let message = format!("`{key}` has {count} entries; at most {most} are allowed");
        self.error(span, message, None);
    }

    /// Counts a rule that was read. Only the rule that goes beyond a ceiling is told of, once a file.
    pub(super) fn count(&mut self, rule: &Rule, span: Span) {
        let ports = rule.ports.as_ref().map_or(0, Vec::len);
        let before = self.counted.entries;
        self.counted.entries += rule.peers.len() + ports;
        if self.counted.entries > MAX_ENTRIES && before <= MAX_ENTRIES {
            let message = format!(
                "with this rule the file has {} entries of from, to and ports, groups counted with all that is in them; at most {MAX_ENTRIES} are allowed",
                self.counted.entries
            );
            let help = "split it, or write wider networks and ranges of ports";
            self.error(span.clone(), message, Some(help.into()));
        }
        let elements = rule.peers.len() * ports.max(1);
        let before = self.counted.elements;
        self.counted.elements += elements;
        if self.counted.elements > MAX_ELEMENTS && before <= MAX_ELEMENTS {
            let message = format!(
                "with this rule, which has {} peers × {} ports, the file becomes {} elements; at most {MAX_ELEMENTS} are allowed",
                rule.peers.len(),
                ports.max(1),
                self.counted.elements
            );
            let help = "write a wider network, a zone or a label instead of many peers, or a range instead of many ports";
            self.error(span, message, Some(help.into()));
        }
    }

    /// Refuses more conditional rules in one direction than can be told apart.
    pub(super) fn conditional(&mut self, direction: Direction, rules: &[Rule]) {
        for action in [Action::Allow, Action::Deny] {
            let places = rules.iter().zip(self.places.of(direction));
            let mut conditional =
                places.filter(|(rule, _)| rule.action == action && rule.is_conditional());
            let Ok(most) = usize::try_from(MAX_CONDITIONAL) else {
                continue;
            };
            if let Some((_, place)) = conditional.nth(most) {
                let span = place.span.clone();
                let message = format!(
                    "this is one more [[{}]] rule that {} with `rate`, `max-connections` or `time` than the {most} that are allowed",
                    direction.as_str(),
                    match action {
                        Action::Allow => "allows",
                        Action::Deny => "denies",
                    }
                );
                let help = "make one rule of those with the same rate, number and hours: the rules of all files that apply to a container are counted together";
                self.error(span, message, Some(help.into()));
            }
        }
    }

    /// Refuses networks that overlap so much that they would fall into too many pieces. The rule that
    /// has the largest part in it is told of.
    pub(super) fn pieces(&mut self, sections: [Option<&Section>; 2]) {
        let mut worst: Option<(usize, Span)> = None;
        let mut totals = [0usize; 2];
        for (section, direction) in sections
            .into_iter()
            .zip([Direction::Ingress, Direction::Egress])
        {
            let rules = section.map_or(&[][..], |s| &s.rules);
            for (family, total) in Family::ALL.into_iter().zip(&mut totals) {
                for action in [Action::Allow, Action::Deny] {
                    for (rule, count) in pieces(rules, action, family) {
                        *total = total.saturating_add(count);
                        let place = self.places.of(direction).get(rule);
                        let span = place.map_or(0..0, |place| place.span.clone());
                        if worst.as_ref().is_none_or(|(most, _)| *most < count) {
                            worst = Some((count, span));
                        }
                    }
                }
            }
        }
        let total = totals[0].max(totals[1]);
        if let Some((_, span)) = worst
            && total > MAX_PIECES
        {
            let message = format!(
                "networks of the file overlap with different ports: they would fall into up to {total} pieces, most of them by this rule; at most {MAX_PIECES} are allowed"
            );
            let help =
                "give networks that contain one another the same ports, or name fewer of them";
            self.error(span, message, Some(help.into()));
        }
    }
}

/// How many boxes the rules of one action become at most where networks and ranges of ports overlap, for
/// one address of a family.
pub fn most_pieces<'a>(
    rules: impl IntoIterator<Item = &'a Rule>,
    action: Action,
    family: Family,
) -> usize {
    pieces(rules, action, family).values().sum()
}

/// What rules of one action say of one network, together.
#[derive(Default)]
struct Own {
    /// Intervals of protocols and ports.
    intervals: usize,
    /// One of them is more than ports of one protocol: cut in two it may become six rectangles.
    whole: bool,
    /// The first rule with it.
    rule: usize,
}

/// [`most_pieces`], by the rules that have a part in it (`compile/ranges.rs` cuts them).
///
/// Networks are nested or apart, so a network is cut by nothing but the intervals of those around it:
/// it becomes no more pieces than it has intervals itself, and one more for each interval around it;
/// three times as many rectangles where an interval goes over several protocols. Summed up in the order
/// of the networks, outer ones first, that costs a sort and one pass.
fn pieces<'a>(
    rules: impl IntoIterator<Item = &'a Rule>,
    action: Action,
    family: Family,
) -> BTreeMap<usize, usize> {
    let mut networks: BTreeMap<(u128, Reverse<u128>), Own> = BTreeMap::new();
    let mut by_rule: BTreeMap<usize, usize> = BTreeMap::new();
    // single addresses of containers are known to the compiler only: they may be in any network
    let mut unplaced: Vec<Own> = Vec::new();
    for (place, rule) in rules.into_iter().enumerate() {
        if rule.action != action {
            continue;
        }
        let ranges = rule.ports.iter().flatten().filter(|p| is_range(p)).count();
        let all = rule.ports.as_ref().map_or(1, Vec::len);
        let whole = match &rule.ports {
            None => true,
            Some(ports) => ports.iter().any(|p| matches!(p, Ports::Proto(_))),
        };
        for peer in &rule.peers {
            let (range, intervals) = match peer {
                Peer::Net(net) if Family::of(net.addr()) != family => continue,
                Peer::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                    (Some(bounds(*net)), ranges)
                }
                Peer::Net(net) => (Some(bounds(*net)), all),
                Peer::Container(_) => (None, ranges),
                _ => continue,
            };
            // alone in its sets: networks of one rule have the same ports, and cut one another whole
            if rule.is_conditional() {
                *by_rule.entry(place).or_default() += all;
                continue;
            }
            if intervals == 0 {
                continue;
            }
            match range {
                Some((first, last)) => {
                    let own = networks.entry((first, Reverse(last))).or_insert(Own {
                        rule: place,
                        ..Own::default()
                    });
                    own.intervals += intervals;
                    own.whole |= whole;
                }
                None => unplaced.push(Own {
                    intervals,
                    whole: false,
                    rule: place,
                }),
            }
        }
    }
    let mut around: Vec<(u128, usize)> = Vec::new();
    let mut deepest = 0;
    for ((first, Reverse(last)), own) in networks {
        while around.last().is_some_and(|(end, _)| *end < first) {
            around.pop();
        }
        let covered = around.last().map_or(0, |(_, covered)| *covered);
        *by_rule.entry(own.rule).or_default() += own.boxes(covered);
        around.push((last, covered + own.intervals));
        deepest = deepest.max(covered + own.intervals);
    }
    for own in unplaced {
        *by_rule.entry(own.rule).or_default() += own.boxes(deepest);
    }
    by_rule
}

impl Own {
    fn boxes(&self, covered: usize) -> usize {
        self.intervals + covered * if self.whole { 3 } else { 1 }
    }
}

fn is_range(ports: &Ports) -> bool {
    matches!(ports, Ports::Range { first, last, .. } if first != last)
}

fn bounds(net: IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (
            u32::from(net.network()).into(),
            u32::from(net.broadcast()).into(),
        ),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}
