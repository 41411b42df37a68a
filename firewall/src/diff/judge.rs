//! What becomes of one flow, before and after: the oracle's verdict, limits in words, and whose word it was.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use zone::PortName;

use super::Outcome;
use super::delta::meaning;
use super::groups::{Group, Lane};
use crate::diagnostics::Position;
use crate::explain::{self, Reason};
use crate::model::{Clock, Flow, World};
use crate::oracle::{self, Who};
use crate::policy::{AppliesTo, Counts, Mode, PolicyFile, PolicySet, Rule, Section, number};
use crate::sets::{Action, Direction};

/// The most times of a week at which is looked; more windows than that nobody keeps apart.
const MOST_CLOCKS: usize = 64;
/// In minutes.
const WEEK: u32 = 7 * 24 * 60;

/// A small world with the containers in question, and the files about them, before and after.
pub(super) struct Judge<'w> {
    world: &'w mut World,
    now: Clock,
    sets: [PolicySet; 2],
    /// As if what is on trial were in force; only where something is.
    trials: Option<[PolicySet; 2]>,
    /// Nothing is allowed but what no file decides; only where rules are more than allow and deny.
    closed: Option<PolicySet>,
    /// When rules begin and cease to count.
    clocks: Vec<Clock>,
    /// How often the oracle was asked.
    pub(super) asked: usize,
}

/// What becomes of a flow, where that is not the same before and after.
pub(super) struct Verdicts {
    pub(super) outcomes: [Outcome; 2],
    pub(super) because: [Vec<Reason>; 2],
}

impl<'w> Judge<'w> {
    /// Puts the containers of the groups into the scratch world and takes the files about them.
    pub(super) fn new(world: &'w mut World, groups: &[&Group<'_>]) -> Self {
        world.containers = groups
            .iter()
            .map(|group| (group.one.name.clone(), group.one.clone()))
            .collect();
        let lanes = |when: usize| groups.iter().map(move |group| &group.lanes[when]);
        let sets = [0, 1].map(|when| set(lanes(when), |file| file.clone()));
        let files = || sets.iter().flat_map(|set| set.0.values());
        let on_trial = files().any(|file| file.mode == Mode::Audit);
        let trials = on_trial.then(|| [0, 1].map(|when| set(lanes(when), enforced)));
        let rules = || files().flat_map(|file| file.rules());
        let closed =
            (on_trial || rules().any(|rule| rule.is_conditional() || rule.log)).then(|| {
                let files = groups
                    .iter()
                    .map(|group| (group.one.name.to_string(), closed(group)));
                PolicySet(files.collect())
            });
        let now = world.clock;
        let clocks = clocks(now, rules());
        Self {
            world,
            now,
            sets,
            trials,
            closed,
            clocks,
            asked: 0,
        }
    }

    /// The scratch world.
    pub(super) fn world(&self) -> &World {
        self.world
    }

    /// From now on the resolver gave these addresses to a container for this name, and none for another.
    pub(super) fn resolved(&mut self, container: &PortName, name: &str, to: &[IpAddr]) {
        let names = || BTreeMap::from([(name.into(), u64::MAX)]);
        let resolved = to.iter().map(|address| (*address, names())).collect();
        self.world.resolved.insert(container.clone(), resolved);
    }

    /// What becomes of a flow, unless that is the same before and after.
    pub(super) fn verdicts(&mut self, flow: &Flow) -> Option<Verdicts> {
        let outcomes = [self.outcome(0, flow), self.outcome(1, flow)];
        (outcomes[0] != outcomes[1]).then(|| Verdicts {
            because: self.because(flow),
            outcomes,
        })
    }

    fn outcome(&mut self, when: usize, flow: &Flow) -> Outcome {
        let set = &self.sets[when];
        let mut hours = Vec::with_capacity(self.clocks.len());
        for clock in &self.clocks {
            self.world.clock = *clock;
            hours.push(oracle::allows(self.world, set, flow));
        }
        self.world.clock = self.now;
        let allowed = oracle::allows(self.world, set, flow);
        self.asked += 1 + self.clocks.len();
        let verdict = if allowed { Action::Allow } else { Action::Deny };
        let mut limits = Vec::new();
        if let Some(closed) = &self.closed
            && !oracle::allows(self.world, closed, flow)
        {
            let sometimes = allowed || hours.contains(&true);
            limits = self.limits(when, flow, sometimes);
            if let Some(trials) = &self.trials {
                let trial = oracle::allows(self.world, &trials[when], flow);
                if trial != allowed {
                    limits.push(format!(
                        "audit: would {}",
                        if trial { "allow" } else { "deny" }
                    ));
                }
            }
        }
        // the same all week is no hours at all
        if hours.iter().all(|hour| *hour == allowed) {
            hours.clear();
        }
        Outcome {
            verdict,
            limits,
            hours,
        }
    }

    /// How rules limit and record a flow.
    fn limits(&self, when: usize, flow: &Flow, sometimes: bool) -> Vec<String> {
        let mut limits = BTreeSet::new();
        for (direction, rules) in self.matching(&self.sets[when], flow) {
            let word = direction.as_str();
            let mut add = |what: &str| limits.insert(format!("{word} {what}"));
            let open = |(_, rule, counts): &Matching<'_>| {
                rule.action == Action::Allow && *counts == Counts::Always
            };
            let open = rules.iter().any(open);
            for (_, rule, counts) in &rules {
                if rule.log {
                    add("log");
                }
                match (rule.action, counts) {
                    (Action::Allow, Counts::Conditionally(_)) if sometimes && !open => {
                        add(&conditions(rule));
                    }
                    (Action::Deny, Counts::Conditionally(_)) if sometimes => {
                        add(&format!("deny {}", conditions(rule)));
                    }
                    _ => {}
                }
            }
        }
        limits.into_iter().collect()
    }

    /// The rules of a set about a flow, whenever they count, by the side whose they are.
    fn matching<'s>(
        &'s self,
        set: &'s PolicySet,
        flow: &Flow,
    ) -> Vec<(Direction, Vec<Matching<'s>>)> {
        let world = &*self.world;
        let (Ok(from), Ok(to)) = (
            oracle::party(world, &flow.from, &flow.to, flow.family),
            oracle::party(world, &flow.to, &flow.from, flow.family),
        ) else {
            return Vec::new();
        };
        let mut sides = Vec::new();
        for (owner, peer, direction) in [
            (from, to, Direction::Egress),
            (to, from, Direction::Ingress),
        ] {
            let Who::Container(owner) = owner.who else {
                continue;
            };
            let rules = set
                .applying(owner)
                .filter_map(|file| Some((file, file.section(direction)?)))
                .flat_map(|(file, section)| section.rules.iter().map(move |rule| (file, rule)));
            let rules = number(rules)
                .filter(|(_, rule, counts)| {
                    *counts != Counts::LeftOut && oracle::rule_matches(rule, peer, flow)
                })
                .collect();
            sides.push((direction, rules));
        }
        sides
    }

    /// What decided before and does not after, and the other way round.
    fn because(&self, flow: &Flow) -> [Vec<Reason>; 2] {
        let told =
            [0, 1].map(|when: usize| explain::explain(self.world, &self.sets[when], flow).reasons);
        let same = |one: &Reason, other: &Reason| {
            let stem = |reason: &Reason| reason.file.as_deref().map(stem).map(str::to_owned);
            (one.direction, one.action, &one.text) == (other.direction, other.action, &other.text)
                && stem(one) == stem(other)
        };
        let own = |when: usize| -> Vec<Reason> {
            let others = &told[1 - when];
            let reasons = told[when].iter();
            reasons
                .filter(|reason| !others.iter().any(|other| same(reason, other)))
                .cloned()
                .collect()
        };
        let reasons = [own(0), own(1)];
        if reasons.iter().any(|reasons| !reasons.is_empty()) {
            return reasons;
        }
        [self.rules_of_one(0, flow), self.rules_of_one(1, flow)]
    }

    /// Rules about a flow, also on trial, that the other set does not have.
    fn rules_of_one(&self, when: usize, flow: &Flow) -> Vec<Reason> {
        let sets = self.trials.as_ref().unwrap_or(&self.sets);
        let others: Vec<String> = self
            .matching(&sets[1 - when], flow)
            .into_iter()
            .flat_map(|(_, rules)| rules)
            .map(|(_, rule, _)| meaning(rule))
            .collect();
        let mut reasons = Vec::new();
        for (direction, rules) in self.matching(&sets[when], flow) {
            for (file, rule, _) in rules {
                if !others.contains(&meaning(rule)) {
                    reasons.push(Reason {
                        file: Some(file.file.clone()),
                        line: Some(rule.at.line),
                        column: Some(rule.at.column),
                        direction: Some(direction),
                        action: rule.action,
                        text: conditions(rule),
                    });
                }
            }
        }
        reasons
    }
}

/// A rule about a flow, and how it counts.
type Matching<'a> = (&'a PolicyFile, &'a Rule, Counts);

/// A file's name without folder.
fn stem(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// `rate 50/second burst 100, at most 200 connections, only Mon-Fri 08:00-18:00`
fn conditions(rule: &Rule) -> String {
    let mut words = Vec::new();
    words.extend(rule.rate.map(|rate| format!("rate {rate}")));
    words.extend(
        rule.max_connections
            .map(|most| format!("at most {most} connections")),
    );
    words.extend(rule.time.as_ref().map(|time| format!("only {time}")));
    if words.is_empty() {
        words.push("always".to_owned());
    }
    words.join(", ")
}

fn set<'a>(
    lanes: impl Iterator<Item = &'a Lane<'a>>,
    file: impl Fn(&Arc<PolicyFile>) -> Arc<PolicyFile>,
) -> PolicySet {
    let files = lanes.flat_map(|lane| &lane.0);
    PolicySet(
        files
            .map(|(key, own)| ((*key).to_owned(), file(own)))
            .collect(),
    )
}

fn enforced(file: &Arc<PolicyFile>) -> Arc<PolicyFile> {
    if file.mode == Mode::Enforce {
        return file.clone();
    }
    Arc::new(PolicyFile {
        mode: Mode::Enforce,
        ..PolicyFile::clone(file)
    })
}

/// A file that closes both directions of a container.
fn closed(group: &Group<'_>) -> Arc<PolicyFile> {
    let section = Section {
        at: Position::default(),
        rules: Vec::new(),
    };
    Arc::new(PolicyFile {
        name: group.one.name.to_string(),
        file: String::new(),
        applies_to: AppliesTo {
            container: Some(group.one.name.container_name()),
            zone: Some(group.one.zone.clone()),
            ..AppliesTo::default()
        },
        mode: Mode::Enforce,
        bandwidth: None,
        ingress: Some(section.clone()),
        egress: Some(section),
        groups: BTreeSet::new(),
        warnings: crate::diagnostics::Diagnostics::default(),
        weight: Default::default(),
    })
}

/// The times of a week at which one of the rules begins or ceases to count.
fn clocks<'a>(now: Clock, rules: impl Iterator<Item = &'a Rule>) -> Vec<Clock> {
    let mut clocks = BTreeSet::new();
    for window in rules.filter_map(|rule| rule.time.as_ref()) {
        let mut clock = now;
        let mut passed = 0;
        while let Some(minutes) = window.changes_in(clock) {
            passed += u32::from(minutes);
            if passed > WEEK || clocks.len() >= MOST_CLOCKS {
                break;
            }
            clock = Clock::at_minute(clock.minute + minutes);
            clocks.insert(clock);
        }
    }
    clocks.into_iter().collect()
}
