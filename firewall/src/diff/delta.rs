//! Which rules a container has in one of the two sets only. What none of them is about cannot change.

use std::collections::BTreeMap;

use super::groups::Group;
use super::traffic;
use crate::diagnostics::Position;
use crate::model::World;
use crate::oracle::{self, Party, Who};
use crate::policy::{Counts, Rule, number};
use crate::sets::{Direction, Family};

/// What a container's rules of one direction say otherwise than before.
#[derive(Debug)]
pub(super) struct Delta<'a> {
    /// The direction begins or ceases to be mentioned: anything may change.
    every: bool,
    /// Rules that are in one of the two sets only.
    rules: Vec<&'a Rule>,
}

/// What differs for a group in a direction, if anything does.
pub(super) fn of<'a>(group: &Group<'a>, direction: Direction) -> Option<Delta<'a>> {
    let [old, new] = &group.lanes;
    let mentioned = |trial| [old, new].map(|lane| lane.sections(direction, trial).next().is_some());
    let every = [false, true].into_iter().any(|trial| {
        let [before, after] = mentioned(trial);
        before != after
    });
    // how often each rule is there, less how often it was; a rule is what it says and how it counts, wherever
    // it stands
    let mut counts: BTreeMap<(bool, String), (&'a Rule, i32)> = BTreeMap::new();
    for (lane, step) in [(old, -1), (new, 1)] {
        for trial in [false, true] {
            let sections = lane.sections(direction, trial);
            let rules =
                sections.flat_map(|(_, section)| section.rules.iter().map(|rule| ((), rule)));
            for ((), rule, how) in number(rules) {
                let how = match how {
                    Counts::Always => "",
                    Counts::Conditionally(_) => "conditionally ",
                    Counts::LeftOut => "not ",
                };
                let said = (trial, format!("{how}{}", meaning(rule)));
                counts.entry(said).or_insert((rule, 0)).1 += step;
            }
        }
    }
    let rules: Vec<&Rule> = counts
        .into_values()
        .filter(|(_, count)| *count != 0)
        .map(|(rule, _)| rule)
        .collect();
    (every || !rules.is_empty()).then_some(Delta { every, rules })
}

/// A rule without its place.
pub(super) fn meaning(rule: &Rule) -> String {
    let at = Position::default();
    format!("{:?}", Rule { at, ..rule.clone() })
}

impl Delta<'_> {
    /// Whether what differs is about the containers of a group.
    pub(super) fn is_about_group(&self, world: &World, peer: &Group<'_>) -> bool {
        self.every
            || peer.addresses(world).any(|address| {
                let party = Party {
                    who: Who::Container(peer.one),
                    address: Some(address),
                    names: None,
                };
                self.is_about(party, Family::of(address))
            })
    }

    /// Whether what differs is about somebody.
    pub(super) fn is_about(&self, party: Party<'_>, family: Family) -> bool {
        let mut peers = self.rules.iter().flat_map(|rule| &rule.peers);
        self.every || peers.any(|peer| oracle::peer_matches(peer, party, family))
    }

    /// Whether what differs is about any of an interval of traffic.
    pub(super) fn touches(&self, interval: traffic::Interval) -> bool {
        let about = |rule: &&Rule| match &rule.ports {
            None => true,
            Some(ports) => ports
                .iter()
                .any(|ports| traffic::overlap(traffic::interval(*ports), interval)),
        };
        self.every || self.rules.iter().any(about)
    }
}
