//! One side of a connection: what a container's files and defaults say of it.

use zone::DefaultPolicy;

use super::words::{carries, conditions, rule_words, who};
use super::{Reason, is_host, zone_of};
use crate::model::{Container, Endpoint, Flow, Traffic, World, Zone};
use crate::oracle::{self, Party, Who};
use crate::policy::{Counts, MAX_CONDITIONAL, Peer, PolicyFile, PolicySet, Rule, Section, number};
use crate::sets::{Action, Direction, Family};

/// One side of a connection: the container whose word is asked, and whom about.
pub(super) struct Side<'a> {
    world: &'a World,
    owner: &'a Container,
    direction: Direction,
    peer: Party<'a>,
    flow: &'a Flow,
    sections: Vec<(&'a PolicyFile, &'a Section)>,
}

impl<'a> Side<'a> {
    pub(super) fn new(
        world: &'a World,
        policies: &'a PolicySet,
        owner: &'a Container,
        direction: Direction,
        peer: Party<'a>,
        flow: &'a Flow,
    ) -> Self {
        let sections = policies
            .applying(owner)
            .filter_map(|file| Some((file, file.section(direction)?)))
            .collect();
        Self {
            world,
            owner,
            direction,
            peer,
            flow,
            sections,
        }
    }

    /// What this side says, and why.
    pub(super) fn judge(&self) -> (bool, Vec<Reason>) {
        if self.sections.is_empty() {
            return self.default();
        }
        let clock = self.world.clock;
        let rules = self
            .sections
            .iter()
            .flat_map(|(file, section)| section.rules.iter().map(|rule| (*file, rule)));
        let (matching, resting): (Vec<_>, Vec<_>) = number(rules)
            .filter(|(_, rule, _)| oracle::rule_matches(rule, self.peer, self.flow))
            .partition(|(_, rule, counts)| counts.at(rule, clock));
        let denied = matching
            .iter()
            .any(|(_, rule, _)| rule.action == Action::Deny);
        let decisive = if denied { Action::Deny } else { Action::Allow };
        let mut reasons: Vec<Reason> = matching
            .into_iter()
            .filter(|(_, rule, _)| rule.action == decisive)
            .map(|(file, rule, _)| self.rule(file, rule))
            .collect();
        let allowed = !denied && !reasons.is_empty();
        if reasons.is_empty() {
            reasons = self.closed();
        }
        if let (Some(last), true) = (reasons.last_mut(), self.leaves_networks_out()) {
            last.text.push_str(
                " (rules about networks of the world are not counted: ask about an address)",
            );
        }
        // what would have changed the verdict at another hour
        let verdict = if allowed { Action::Allow } else { Action::Deny };
        let other_hours = resting
            .into_iter()
            .filter(|(_, rule, _)| rule.action != verdict && !denied);
        reasons.extend(
            other_hours.map(|(file, rule, counts)| self.resting(file, rule, counts, verdict)),
        );
        (allowed, reasons)
    }

    fn rule(&self, file: &PolicyFile, rule: &Rule) -> Reason {
        let words = rule_words(rule, self.direction);
        let conditions = conditions(rule, self.world.clock);
        let text = match rule.action {
            Action::Allow => format!(
                "{} of {} allows {words}{conditions}",
                self.direction.as_str(),
                self.owner.name
            ),
            Action::Deny => format!(
                "{} of {} denies {words}{conditions}: a deny always wins, so only changing this rule can open it",
                self.direction.as_str(),
                self.owner.name
            ),
        };
        Reason::in_file(file, rule.at, self.direction, rule.action, text)
    }

    /// A rule that matches, at other hours.
    fn resting(&self, file: &PolicyFile, rule: &Rule, counts: Counts, verdict: Action) -> Reason {
        let does = match rule.action {
            Action::Allow => "would allow",
            Action::Deny => "would deny",
        };
        let left_out = match counts {
            Counts::LeftOut => format!(
                "; it is left out, as only {MAX_CONDITIONAL} rules with rate, max-connections or time count for a container"
            ),
            _ => String::new(),
        };
        let text = format!(
            "{} of {} {does} {}{}{left_out}",
            self.direction.as_str(),
            self.owner.name,
            rule_words(rule, self.direction),
            conditions(rule, self.world.clock)
        );
        Reason::in_file(file, rule.at, self.direction, verdict, text)
    }

    /// No rule matches.
    fn closed(&self) -> Vec<Reason> {
        let closed = |(file, section): &(&PolicyFile, &Section)| {
            let text = format!(
                "{} of {} is closed but for what is allowed, and no rule here allows {} {}",
                self.direction.as_str(),
                self.owner.name,
                self.preposition(),
                self.asked()
            );
            Reason::in_file(file, section.at, self.direction, Action::Deny, text)
        };
        self.sections.iter().map(closed).collect()
    }

    /// No file mentions the direction.
    fn default(&self) -> (bool, Vec<Reason>) {
        let allowed = oracle::default_allows(self.world, self.owner, self.direction, self.peer);
        let action = if allowed { Action::Allow } else { Action::Deny };
        let mut text = format!(
            "no file mentions {} of {}, and {}",
            self.direction.as_str(),
            self.owner.name,
            default_words(zone_of(self.world, self.owner), self.owner, self.direction)
        );
        if !allowed && self.direction == Direction::Ingress && self.publishes() {
            text.push_str(
                "; connections through its published port are open to world and host only",
            );
        }
        let reason = Reason::built_in(Some(self.direction), action, text);
        (allowed, vec![reason])
    }

    /// A container that no file says anything of is open through its published ports.
    pub(super) fn published(&self) -> Option<(bool, Vec<Reason>)> {
        let outside = is_host(self.peer) || self.peer.who == Who::World;
        if !self.flow.published || !self.sections.is_empty() || !outside || !self.publishes() {
            return None;
        }
        let text = format!(
            "came through a published port, and no file mentions ingress of {}: open to world and host",
            self.owner.name
        );
        let reason = Reason::built_in(Some(self.direction), Action::Allow, text);
        Some((true, vec![reason]))
    }

    /// Whether the port that is asked about is published.
    fn publishes(&self) -> bool {
        let Traffic::Port(proto, port) = self.flow.traffic else {
            return false;
        };
        let family = self.flow.family;
        let mut own = self.world.addresses(self.owner);
        let target = own.find(|address| Family::of(*address) == family);
        let meant = match self.flow.to {
            Endpoint::Address(address) => Some(address),
            _ => target,
        };
        meant == target
            && zone_of(self.world, self.owner).is_some_and(|zone| !zone.internal)
            && self.owner.publish.iter().any(|publish| {
                let last = publish
                    .port
                    .saturating_add(publish.last.saturating_sub(publish.first));
                publish.proto == proto
                    && (publish.port..=last).contains(&port)
                    && publish.address.is_none_or(|a| Family::of(a) == family)
            })
    }

    /// Whether the answer is about the world in general while rules name parts of it.
    fn leaves_networks_out(&self) -> bool {
        let family = self.flow.family;
        let rules = self.sections.iter().flat_map(|(_, section)| &section.rules);
        self.peer.address.is_none()
            && rules.flat_map(|rule| &rule.peers).any(
                |peer| matches!(peer, Peer::Net(net) if Family::of(net.addr()) == family && net.prefix_len() > 0),
            )
    }

    fn preposition(&self) -> &'static str {
        match self.direction {
            Direction::Egress => "to",
            Direction::Ingress => "from",
        }
    }

    fn asked(&self) -> String {
        format!("{} on {}", who(self.peer), carries(self.flow.traffic))
    }
}

/// What a zone's default says of a direction.
pub(super) fn default_words(
    zone: Option<&Zone>,
    owner: &Container,
    direction: Direction,
) -> String {
    let Some(zone) = zone else {
        return format!("its zone {} does not exist, so nothing passes", owner.zone);
    };
    let what = match (zone.default, direction) {
        (DefaultPolicy::Egress, Direction::Egress) => "lets it out to world only",
        (DefaultPolicy::Egress, Direction::Ingress) => "lets nothing in",
        (DefaultPolicy::Deny, Direction::Egress) => "lets nothing out",
        (DefaultPolicy::Deny, Direction::Ingress) => "lets nothing in",
        (DefaultPolicy::Allow, Direction::Egress) => {
            "lets it out to its own zone, host and world, but not to other zones"
        }
        (DefaultPolicy::Allow, Direction::Ingress) => {
            "lets in its own zone, host and world, but not other zones"
        }
    };
    format!(
        "the default of zone {}, `{}`, {what}",
        zone.name,
        zone.default.as_str()
    )
}
