//! The proof: worlds of chance, in which real packets, `netd explain` and the oracle are held against each
//! other, for every pair, port and family, before and after whatever happens to them.
//!
//! ```text
//! seed ─► draw::plan ─► Stage (daemon, attached containers) ─► ask: packets │ explain │ oracle ─► Tally
//!                                    ▲                          └─ they differ ─► shrink ─► a minimal world
//!                                 Events
//! ```
//! `NETD_PROOF_SEED=17` begins with that seed, `NETD_PROOF_PROBES=100000` goes on that long, and
//! `NETD_PROOF_REPORT=docs/proof.md` writes down what came of it: that is `make proof`.

mod ask;
mod control;
pub mod draw;
mod events;
mod explained;
mod live;
mod report;
mod shrink;
mod stage;
mod tally;
mod told;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ask::{Disagreement, Lie, ask};
pub use control::*;
use draw::{Dice, Plan, Question, question};
use events::Event;
use live::Flows;
use stage::Stage;
use tally::Tally;

use crate::net::netns;

/// Probes of a run that nobody asked to go on longer.
const PROBES: usize = 5_000;
/// Probes of one world before anything happens to it.
const OF_A_WORLD: usize = 1_250;
/// Probes after each event.
const OF_AN_EVENT: usize = 150;
/// Connections and flows that are open while something happens.
const OPEN: usize = 24;

/// A world and what happens in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Case {
    seed: u64,
    plan: Plan,
    events: Vec<Event>,
    /// What the oracle overlooks: to see that it would be found out.
    lie: Option<Lie>,
}

impl Case {
    /// The case of a seed; things happen in every second.
    fn of(seed: u64) -> Self {
        let plan = draw::plan(seed, today());
        let mut dice = Dice::new(seed).aside(1);
        let events = if seed.is_multiple_of(2) {
            events::some(&mut dice, &plan)
        } else {
            Vec::new()
        };
        Self {
            seed,
            plan,
            events,
            lie: None,
        }
    }

    fn script(&self) -> String {
        let mut text = self.plan.script();
        for event in &self.events {
            text += &format!("--- then\n{}\n", event.script(&self.plan));
        }
        text
    }
}

/// The day of the week, from Monday.
fn today() -> usize {
    let day = netns::run(Command::new("date").arg("+%u")).ok();
    day.trim().parse::<usize>().unwrap() - 1
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub fn worlds_of_chance_agree_three_ways() {
    let wanted = variable("NETD_PROOF_PROBES").map_or(PROBES, |wanted| wanted as usize);
    let first = variable("NETD_PROOF_SEED").unwrap_or(1);
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut seed = first;
    // A little longer, where chance has left out a path.
    while tally.probes() < wanted || tally.probes() < 3 * wanted && !tally.vacuous().is_empty() {
        let case = Case::of(seed);
        if let Some((happened, found)) = play(&case, None, &mut tally) {
            let cut = Case {
                events: case.events[..happened].to_vec(),
                ..case
            };
            panic!("{}", smallest(cut, found));
        }
        seed += 1;
    }
    let seeds = first..seed;
    eprintln!(
        "measured: {} probes in {} worlds (seeds {first} to {}), no disagreement, in {:?}",
        tally.probes(),
        tally.worlds,
        seed - 1,
        began.elapsed()
    );
    for row in tally.tables().lines() {
        eprintln!("measured: {row}");
    }
    let vacuous = tally.vacuous();
    assert!(
        vacuous.is_empty(),
        "this run proves too little: {vacuous:#?}"
    );
    if let Some(path) = std::env::var_os("NETD_PROOF_REPORT") {
        report::write(path.as_ref(), &tally, seeds, began.elapsed());
    }
}

/// Makes the world of a case, asks, lets happen what happens, and asks again; tells the first disagreement, and
/// after how many events it was found. With `only`, that question alone is asked.
fn play(case: &Case, only: Option<&Question>, tally: &mut Tally) -> Option<(usize, Disagreement)> {
    static WORLDS: AtomicUsize = AtomicUsize::new(0);
    let title = format!("w{}", WORLDS.fetch_add(1, Ordering::Relaxed));
    let mut stage = Stage::set(&case.plan, &title);
    stage.lie = case.lie;
    tally.made(&case.plan);
    let found = perform(&mut stage, case, only, tally);
    let lost = stage.lost();
    assert_eq!(
        lost, 0,
        "the ears had no room for {lost} packets, so silence says nothing"
    );
    stage.end();
    found
}

fn perform(
    stage: &mut Stage,
    case: &Case,
    only: Option<&Question>,
    tally: &mut Tally,
) -> Option<(usize, Disagreement)> {
    let mut dice = Dice::new(case.seed).aside(2);
    let mut questions = |stage: &Stage, most: usize| match only {
        Some(only) => vec![only.clone()],
        None => question::some(&stage.scene, &mut dice, most),
    };
    let now = questions(stage, OF_A_WORLD);
    let alone = only.is_none() || case.events.is_empty();
    if alone && let Some(found) = ask(stage, &now, tally).into_iter().next() {
        return Some((0, found));
    }
    if case.events.is_empty() {
        return None;
    }
    let mut flows = Flows::open(stage, &now, OPEN);
    for (happened, event) in (1..).zip(&case.events) {
        event.happen(stage);
        tally.happened(event.kind());
        let unplugged = event.unplugs();
        let wrong = flows.check(stage, unplugged.as_deref(), tally);
        let now = questions(stage, OF_AN_EVENT);
        let wrong = wrong.into_iter().chain(ask(stage, &now, tally)).next();
        if let Some(found) = wrong {
            return Some((happened, found));
        }
        if flows.len() < OPEN / 2 {
            let more = questions(stage, OF_A_WORLD);
            flows.more(Flows::open(stage, &more, OPEN));
        }
    }
    None
}

/// Whether a case has a disagreement of this sort on the same question.
fn play_again(case: &Case, found: &Disagreement) -> Option<Disagreement> {
    let (_, again) = play(case, Some(&found.question), &mut Tally::default())?;
    (again.sort == found.sort).then_some(again)
}

/// What there is to say of a disagreement: the smallest world that has it, and how to have it again.
fn smallest(case: Case, found: Disagreement) -> String {
    let seed = case.seed;
    let (first, whole) = (found.answers.clone(), case.clone());
    let (small, found) = shrink::shrink(case, found, play_again);
    let which = if small == whole {
        "in this world (asked alone, in a smaller one, it does not come back: what else was sent matters)"
    } else {
        "in the smallest world found"
    };
    format!(
        "three answers that do not agree, in a world of seed {seed}\n{first}\n{which}:\n{}\n{}\
         again: make stories STORY=proof::worlds NETD_PROOF_SEED={seed}",
        small.script(),
        found.answers
    )
}
