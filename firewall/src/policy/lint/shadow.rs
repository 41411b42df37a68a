//! Rules that other rules make superfluous, and directions of denies alone.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::cover::{Extent, target_covers};
use super::{COVERED, DENIES_ONLY, Finding, SHADOWED, Subject, Surroundings};
use crate::policy::{Mode, Peer, Rule};
use crate::sets::{Action, Direction};

/// Rules by their peers: whatever covers a rule has a peer that covers the rule's first one.
struct ByPeer<'a> {
    all: Vec<Extent<'a>>,
    by_peer: BTreeMap<&'a Peer, Vec<usize>>,
}

impl<'a> ByPeer<'a> {
    fn of(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let all: Vec<Extent<'a>> = rules.map(Extent::of).collect();
        let mut by_peer: BTreeMap<&Peer, Vec<usize>> = BTreeMap::new();
        for (place, extent) in all.iter().enumerate() {
            for peer in &extent.rule.peers {
                by_peer.entry(peer).or_default().push(place);
            }
        }
        Self { all, by_peer }
    }

    /// Those that may cover a rule, and a few more.
    fn candidates(&self, rule: &Rule) -> BTreeSet<usize> {
        let Some(first) = rule.peers.first() else {
            return BTreeSet::new();
        };
        let mut peers = vec![first.clone(), Peer::Any, Peer::World];
        if let Peer::Net(net) = first {
            let around = std::iter::successors(net.supernet(), IpNet::supernet);
            peers.extend(around.map(Peer::Net));
        }
        let known = peers.iter().filter_map(|peer| self.by_peer.get(peer));
        known.flatten().copied().collect()
    }
}

/// Looks at the file at `place` among all.
pub(super) fn find(
    all: &[Subject<'_>],
    place: usize,
    around: &Surroundings,
    out: &mut Vec<Finding>,
) {
    let subject = &all[place];
    for direction in Direction::ALL {
        let Some(section) = subject.file.section(direction) else {
            continue;
        };
        let own = ByPeer::of(section.rules.iter());
        let places = subject.places.of(direction);
        let mut shadowed = BTreeSet::new();
        for (at, place) in places.iter().enumerate() {
            let Some(extent) = own.all.get(at) else {
                continue;
            };
            if let Some(by) = shadow(extent, &own, around) {
                shadowed.insert(at);
                let message = format!(
                    "nothing passes by this rule: the deny in line {} covers all of it",
                    by.at.line
                );
                out.push(Finding::new(SHADOWED, &place.span, message, WINS));
            }
        }
        for (at, place) in places.iter().enumerate() {
            if !shadowed.contains(&at)
                && let Some(message) = covered(&own, at, around)
            {
                let help = "remove it, or narrow the other one";
                out.push(Finding::new(COVERED, &place.span, message, help));
            }
        }
        denies_only(all, subject, direction, out);
    }
    other_files(all, place, around, out);
}

const WINS: &str = "a deny always wins, rules have no order: narrow the deny, or remove this rule";

/// The deny that closes all that a rule allows.
fn shadow<'a>(extent: &Extent<'_>, denies: &ByPeer<'a>, around: &Surroundings) -> Option<&'a Rule> {
    if extent.rule.action == Action::Deny {
        return None;
    }
    let candidates = denies.candidates(extent.rule).into_iter();
    candidates
        .filter_map(|at| denies.all.get(at))
        .filter(|other| other.rule.action == Action::Deny)
        .find(|deny| deny.covers(extent, around))
        .map(|deny| deny.rule)
}

/// Why a rule adds nothing to the others of its section.
fn covered(own: &ByPeer<'_>, at: usize, around: &Surroundings) -> Option<String> {
    let extent = own.all.get(at)?;
    let rule = extent.rule;
    let other = own.candidates(rule).into_iter().find_map(|other_at| {
        let other = own.all.get(other_at)?;
        let limited = other.rule.rate.is_some() || other.rule.max_connections.is_some();
        let useless = other_at != at
            && other.rule.action == rule.action
            && !limited
            && (other.rule.log || !rule.log)
            && other.covers(extent, around);
        // of two that say the same, the first stays
        let same = |a: &Rule, b: &Rule| {
            a.rate.is_none() && a.max_connections.is_none() && (a.log || !b.log)
        };
        let first = other_at > at && same(rule, other.rule) && extent.covers(other, around);
        (useless && !first).then_some((other_at, other))
    });
    let (_, by) = other?;
    let line = by.rule.at.line;
    Some(if rule.rate.is_some() || rule.max_connections.is_some() {
        format!(
            "this rule limits nothing: the one in line {line} lets all of it through without a limit"
        )
    } else if extent.covers(by, around) {
        format!("this rule says the same as the one in line {line}")
    } else {
        format!("this rule says nothing that the one in line {line} does not say")
    })
}

/// A section of denies alone, to which no other file adds something that passes.
fn denies_only(
    all: &[Subject<'_>],
    subject: &Subject<'_>,
    direction: Direction,
    out: &mut Vec<Finding>,
) {
    let rules = subject.file.section(direction).map(|s| &s.rules);
    let denies = |rule: &Rule| rule.action == Action::Deny;
    if !rules.is_some_and(|rules| !rules.is_empty() && rules.iter().all(denies)) {
        return;
    }
    let opened = all.iter().any(|other| {
        let rules = other.file.section(direction).map(|s| &s.rules);
        other.file.mode == Mode::Enforce
            && rules.is_some_and(|rules| !rules.iter().all(denies))
            && target_covers(&other.file.applies_to, &subject.file.applies_to)
    });
    if let (false, Some(first)) = (opened, subject.places.of(direction).first()) {
        let word = direction.as_str();
        let message = format!("{word} has deny rules only: nothing passes");
        let help = format!(
            "a direction that a file mentions is closed but for what is allowed; add [[{word}]] rules that allow, here or in another file"
        );
        out.push(Finding::new(DENIES_ONLY, &first.span, message, help));
    }
}

/// Allows that denies in other files close, which apply to all the same containers.
fn other_files(all: &[Subject<'_>], place: usize, around: &Surroundings, out: &mut Vec<Finding>) {
    let subject = &all[place];
    let denying = all.iter().enumerate().filter(|(at, other)| {
        *at != place
            && other.file.mode == Mode::Enforce
            && other.file.rules().any(|rule| rule.action == Action::Deny)
            && target_covers(&other.file.applies_to, &subject.file.applies_to)
    });
    for (_, other) in denying {
        for direction in Direction::ALL {
            let sections = (
                subject.file.section(direction),
                other.file.section(direction),
            );
            let (Some(own), Some(theirs)) = sections else {
                continue;
            };
            let denies = theirs.rules.iter().filter(|r| r.action == Action::Deny);
            let denies = ByPeer::of(denies);
            for (rule, place) in own.rules.iter().zip(subject.places.of(direction)) {
                if let Some(deny) = shadow(&Extent::of(rule), &denies, around) {
                    let message = format!(
                        "nothing passes by this rule: the deny at {}:{}:{} covers all of it",
                        other.file.file, deny.at.line, deny.at.column
                    );
                    let help = "a deny always wins, also that of another file: narrow the deny, or remove this rule";
                    out.push(Finding::new(SHADOWED, &place.span, message, help));
                }
            }
        }
    }
}
