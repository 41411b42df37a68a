//! Asks about pairs: every piece of traffic, in each family and way, before and after.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::delta::Delta;
use super::groups::Group;
use super::judge::{Judge, Verdicts};
use super::merge::Row;
use super::traffic::{self, Pieces};
use super::{End, Outcome, Way};
use crate::explain::Reason;
use crate::model::{Endpoint, Flow, World};
use crate::sets::{Action, Direction, Family};

/// What becomes of a piece of traffic in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is no such flow.
    CannotBe,
    /// What became of it before.
    Same,
    /// This decision.
    Changed(usize),
}

/// A family, a way, and what becomes of each piece.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) family: Family,
    pub(super) way: Way,
    pub(super) answers: Vec<Answer>,
}

/// Pieces that change alike, in all slots that the labels name.
#[derive(Debug)]
pub(super) struct Labelled {
    pub(super) family: Option<Family>,
    pub(super) way: Option<Way>,
    pub(super) decision: usize,
    /// By piece.
    pub(super) within: Vec<bool>,
}

impl Labelled {
    /// Whether a slot is one of those that are named.
    pub(super) fn names(&self, slot: &Slot) -> bool {
        named(self.family, self.way, slot)
    }

    /// The row for two ends.
    pub(super) fn row(
        &self,
        slots: &[Slot],
        pieces: &Pieces,
        from: BTreeSet<End>,
        to: BTreeSet<End>,
    ) -> Row {
        let real = |piece: usize| {
            let mut slots = slots.iter().filter(|slot| self.names(slot));
            slots.any(|slot| slot.answers[piece] != Answer::CannotBe)
        };
        let within: Vec<Option<bool>> = self
            .within
            .iter()
            .enumerate()
            .map(|(piece, within)| real(piece).then_some(*within))
            .collect();
        Row {
            from,
            to,
            family: self.family,
            way: self.way,
            traffic: pieces.set(&within),
            decision: self.decision,
        }
    }
}

fn named(family: Option<Family>, way: Option<Way>, slot: &Slot) -> bool {
    family.is_none_or(|family| family == slot.family) && way.is_none_or(|way| way == slot.way)
}

/// The fewest labels that tell what changes in which slots.
pub(super) fn labelled(slots: &[Slot], pieces: usize) -> Vec<Labelled> {
    let families = [Some(Family::V4), Some(Family::V6)];
    let ways = [Some(Way::Direct), Some(Way::Published)];
    let labels = [(None, None)]
        .into_iter()
        .chain(families.map(|family| (family, None)))
        .chain(ways.map(|way| (None, way)))
        .chain(
            families
                .into_iter()
                .flat_map(|family| ways.map(|way| (family, way))),
        );
    let mut left: Vec<Slot> = slots.to_vec();
    let mut found: BTreeMap<(Option<Family>, Option<Way>, usize), Vec<bool>> = BTreeMap::new();
    for (family, way) in labels {
        for piece in 0..pieces {
            // of the slots that are named, all in which there is such a flow
            let asked = slots.iter().filter(|slot| named(family, way, slot));
            let mut real = asked
                .map(|slot| slot.answers[piece])
                .filter(|a| *a != Answer::CannotBe);
            let Some(Answer::Changed(decision)) = real.next() else {
                continue;
            };
            if real.any(|answer| answer != Answer::Changed(decision)) {
                continue;
            }
            // what was told by other labels is not told again; the last labels name one slot each
            let told = slots.iter().zip(&left).any(|(slot, left)| {
                named(family, way, slot) && slot.answers[piece] != left.answers[piece]
            });
            if told {
                continue;
            }
            for slot in left.iter_mut().filter(|slot| named(family, way, slot)) {
                slot.answers[piece] = Answer::CannotBe;
            }
            let within = found.entry((family, way, decision));
            within.or_insert_with(|| vec![false; pieces])[piece] = true;
        }
    }
    found
        .into_iter()
        .map(|((family, way, decision), within)| Labelled {
            family,
            way,
            decision,
            within,
        })
        .collect()
}

/// Where a reason stands.
type Place = (
    Option<String>,
    Option<u32>,
    Option<u32>,
    Option<Direction>,
    Action,
);
/// What makes two decisions the same.
type Key = ([Outcome; 2], [Vec<Place>; 2]);

/// Questions and what came of them so far.
pub(super) struct Asking<'a> {
    pub(super) world: &'a World,
    /// Of all containers, with their prefixes.
    pub(super) addresses: BTreeSet<IpNet>,
    /// Zones and host of the world, and the containers in question.
    pub(super) scratch: World,
    left: usize,
    unasked: usize,
    pub(super) rows: Vec<Row>,
    known: BTreeMap<Key, usize>,
    decisions: Vec<Verdicts>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(world: &'a World, most: usize) -> Self {
        let scratch = World {
            zones: world.zones.clone(),
            host: world.host.clone(),
            clock: world.clock,
            ..World::default()
        };
        Self {
            world,
            addresses: world
                .containers
                .values()
                .flat_map(|c| world.networks(c))
                .collect(),
            scratch,
            left: most,
            unasked: 0,
            rows: Vec::new(),
            known: BTreeMap::new(),
            decisions: Vec::new(),
        }
    }

    /// The rows, the decisions they are about, and how many pairs were not asked about.
    pub(super) fn done(self) -> (Vec<Row>, Vec<Verdicts>, usize) {
        (self.rows, self.decisions, self.unasked)
    }

    /// Whether there may be more questions; if not, one more pair is not asked about.
    pub(super) fn goes_on(&mut self) -> bool {
        if self.left == 0 {
            self.unasked += 1;
        }
        self.left > 0
    }

    /// Whether the same becomes of two pieces, for whatever reason.
    pub(super) fn becomes_alike(&self, one: Answer, other: Answer) -> bool {
        match (one, other) {
            (Answer::Changed(one), Answer::Changed(other)) => {
                self.decisions[one].outcomes == self.decisions[other].outcomes
            }
            _ => false,
        }
    }

    /// Asks what becomes of connections from one group to another.
    pub(super) fn containers(
        &mut self,
        from: &Group<'_>,
        to: &Group<'_>,
        deltas: [Option<&Delta<'_>>; 2],
    ) {
        if !self.goes_on() {
            return;
        }
        let rules = [(from, Direction::Egress), (to, Direction::Ingress)];
        let pieces = pieces(&rules, to);
        let touched: Vec<bool> = pieces
            .iter()
            .map(|piece| deltas.iter().flatten().any(|delta| delta.touches(piece)))
            .collect();
        let ways = ways(to);
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut judge = Judge::new(&mut scratch, &[from, to]);
        for (sources, source) in ends(from) {
            for (targets, target) in ends(to) {
                let mut slots = Vec::new();
                for family in Family::ALL {
                    for way in ways {
                        let question = (&source, &target, family, *way);
                        slots.extend(self.ask(&mut judge, question, &pieces, &touched));
                    }
                }
                for label in labelled(&slots, pieces.len()) {
                    let row = label.row(&slots, &pieces, sources.clone(), targets.clone());
                    self.rows.push(row);
                }
            }
        }
        self.spend(judge.asked);
        self.scratch = scratch;
    }

    /// So many questions were asked.
    pub(super) fn spend(&mut self, asked: usize) {
        self.left = self.left.saturating_sub(asked);
    }

    /// What becomes of each piece; nothing when there is no flow at all between the two in this family.
    pub(super) fn ask(
        &mut self,
        judge: &mut Judge<'_>,
        (from, to, family, way): (&Endpoint, &Endpoint, Family, Way),
        pieces: &Pieces,
        touched: &[bool],
    ) -> Option<Slot> {
        let party = |one, other| crate::oracle::party(judge.world(), one, other, family).is_ok();
        if !party(from, to) || !party(to, from) {
            return None;
        }
        let mut answers = Vec::with_capacity(pieces.len());
        for ((first, _), touched) in pieces.iter().zip(touched) {
            let Some(traffic) = traffic::traffic(first, family) else {
                answers.push(Answer::CannotBe);
                continue;
            };
            let flow = || Flow {
                from: from.clone(),
                to: to.clone(),
                traffic,
                family,
                published: way == Way::Published,
            };
            let verdicts = touched.then(|| judge.verdicts(&flow())).flatten();
            answers.push(match verdicts {
                Some(verdicts) => Answer::Changed(self.decision(verdicts)),
                None => Answer::Same,
            });
        }
        Some(Slot {
            family,
            way,
            answers,
        })
    }

    fn decision(&mut self, verdicts: Verdicts) -> usize {
        let place = |reason: &Reason| {
            let file = reason.file.clone();
            (
                file,
                reason.line,
                reason.column,
                reason.direction,
                reason.action,
            )
        };
        let places = |reasons: &Vec<Reason>| reasons.iter().map(place).collect();
        let [before, after] = &verdicts.because;
        let key = (verdicts.outcomes.clone(), [places(before), places(after)]);
        let decisions = &mut self.decisions;
        *self.known.entry(key).or_insert_with(|| {
            decisions.push(verdicts);
            decisions.len() - 1
        })
    }
}

/// Traffic, cut where the rules of these groups and directions cut it, and what the server publishes.
pub(super) fn pieces(rules: &[(&Group<'_>, Direction)], server: &Group<'_>) -> Pieces {
    let ports = rules.iter().flat_map(|(group, direction)| {
        let sections = group
            .lanes
            .iter()
            .flat_map(|lane| lane.sections(*direction, true));
        let rules = sections.flat_map(|(_, section)| &section.rules);
        rules.filter_map(|rule| rule.ports.as_ref()).flatten()
    });
    let published = server.one.publish.iter().map(|publish| {
        let port = |port: u16| u32::from(publish.proto) << 16 | u32::from(port);
        let more = publish.last.saturating_sub(publish.first);
        (port(publish.port), port(publish.port.saturating_add(more)))
    });
    Pieces::cut(
        ports
            .map(|ports| traffic::interval(*ports))
            .chain(published),
    )
}

/// The ways that lead to a server.
pub(super) fn ways(server: &Group<'_>) -> &'static [Way] {
    if server.one.publish.is_empty() {
        &[Way::Direct]
    } else {
        &[Way::Direct, Way::Published]
    }
}

/// The containers of a group as ends: by their first addresses, and by whatever else they have.
pub(super) fn ends(group: &Group<'_>) -> Vec<(BTreeSet<End>, Endpoint)> {
    let names = group
        .names
        .iter()
        .map(|name| End::Container((*name).clone()));
    let mut ends = vec![(names.collect(), Endpoint::Container(group.one.name.clone()))];
    for part in &group.parts {
        let nets = part.nets.iter().copied().map(End::Net);
        ends.push((nets.collect(), Endpoint::Address(part.one)));
    }
    ends
}
