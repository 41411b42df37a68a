//! What one container's files say of a connection, and which of their rules log.

use super::{Reason, words};
use crate::model::{Container, Flow, World};
use crate::oracle::{self, Party};
use crate::policy::{PolicyFile, PolicySet, Rule, Section, number};
use crate::sets::{Action, Direction};

/// One side of a connection: the container whose word is asked, and whom about.
pub(super) struct Side<'a> {
    pub(super) owner: &'a Container,
    pub(super) direction: Direction,
    /// What it says, but for limits: rates and numbers of connections are the kernel's to count.
    pub(super) allowed: bool,
    world: &'a World,
    peer: Party<'a>,
    /// What files say of the direction.
    sections: Vec<(&'a PolicyFile, &'a Section)>,
    /// The rules that decide: the denies that match, or else the allows.
    rules: Vec<(&'a PolicyFile, &'a Rule)>,
}

impl<'a> Side<'a> {
    pub(super) fn new(
        world: &'a World,
        policies: &'a PolicySet,
        owner: &'a Container,
        direction: Direction,
        peer: Party<'a>,
        flow: &Flow,
    ) -> Self {
        let sections: Vec<_> = policies
            .applying(owner)
            .filter_map(|file| Some((file, file.section(direction)?)))
            .collect();
        let all = sections
            .iter()
            .flat_map(|(file, section)| section.rules.iter().map(|rule| (*file, rule)));
        let mut rules: Vec<_> = number(all)
            .filter(|(_, rule, counts)| counts.at(rule, world.clock))
            .map(|(file, rule, _)| (file, rule))
            .filter(|(_, rule)| oracle::rule_matches(rule, peer, flow))
            .collect();
        if rules.iter().any(|(_, rule)| rule.action == Action::Deny) {
            rules.retain(|(_, rule)| rule.action == Action::Deny);
        }
        let allowed = match rules.first() {
            Some((_, rule)) => rule.action == Action::Allow,
            None => {
                sections.is_empty() && {
                    let by_default = oracle::default_allows(world, owner, direction, peer);
                    by_default || (direction == Direction::Ingress && flow.published)
                }
            }
        };
        Self {
            owner,
            direction,
            allowed,
            world,
            peer,
            sections,
            rules,
        }
    }

    /// Whether a rule of this direction logs.
    pub(super) fn logs(&self) -> bool {
        self.section_that_logs().is_some()
    }

    fn section_that_logs(&self) -> Option<(&'a PolicyFile, &'a Section)> {
        let logs = |(_, section): &&(_, &Section)| section.rules.iter().any(|rule| rule.log);
        self.sections.iter().find(logs).copied()
    }

    fn of_rule(&self, (file, rule): (&'a PolicyFile, &'a Rule)) -> Reason<'a> {
        Reason::rule(file, rule, words::rule(rule, self.direction))
    }

    /// The deciding rules that log.
    pub(super) fn rules_that_log(&self) -> impl Iterator<Item = Reason<'a>> {
        let logging = self.rules.iter().filter(|(_, rule)| rule.log);
        logging.map(|rule| self.of_rule(*rule))
    }

    /// Why this side refuses: each rule that denies and logs, or that nothing allows it.
    pub(super) fn refusals_that_log(&self, flow: &Flow) -> Vec<Reason<'a>> {
        if !self.rules.is_empty() {
            return self.rules_that_log().collect();
        }
        let closed = self.section_that_logs().map(|s| self.closed(s, flow));
        closed.into_iter().collect()
    }

    fn closed(&self, (file, section): (&'a PolicyFile, &'a Section), flow: &Flow) -> Reason<'a> {
        Reason {
            at: Some((file, section.at)),
            text: words::closed(self.direction, self.peer, flow.traffic),
        }
    }

    /// Whether all that allows it does so up to a limit only.
    pub(super) fn is_limited(&self) -> bool {
        let limited = |rule: &Rule| rule.rate.is_some() || rule.max_connections.is_some();
        self.allowed && !self.rules.is_empty() && self.rules.iter().all(|(_, rule)| limited(rule))
    }

    /// The limits that were reached, where the rule or the direction logs.
    pub(super) fn limits_that_log(&self) -> impl Iterator<Item = Reason<'a>> {
        let direction_logs = self.logs();
        let logging = self
            .rules
            .iter()
            .filter(move |(_, rule)| rule.log || direction_logs);
        logging.map(|(file, rule)| Reason::rule(file, rule, words::limit(rule, self.direction)))
    }

    /// The one reason why this side says what it says; of the files that are `preferred`, if any of
    /// them decides.
    pub(super) fn decisive(
        &self,
        flow: &Flow,
        preferred: impl Fn(&PolicyFile) -> bool,
    ) -> Reason<'a> {
        let rule = self.rules.iter().find(|(file, _)| preferred(file));
        if let Some(rule) = rule.or(self.rules.first()) {
            return self.of_rule(*rule);
        }
        let section = self.sections.iter().find(|(file, _)| preferred(file));
        match section.or(self.sections.first()) {
            Some(section) => self.closed(*section, flow),
            None => Reason {
                at: None,
                text: words::default(self.world, self.owner, self.direction),
            },
        }
    }
}
