//! From a world with a disagreement to the smallest one that still has it: whatever is not needed goes, one thing
//! after the other, and each time the world is made for real.

use std::time::{Duration, Instant};

use firewall::model::Traffic;

use super::Case;
use super::ask::Disagreement;
use super::draw::places;

/// How long it may take.
const LONGEST: Duration = Duration::from_secs(100);

/// Something that may not be needed. Numbers count from the end of its list, so that taking one leaves the
/// others' as they are.
#[derive(Debug, Clone, Copy)]
enum Part {
    Event(usize),
    Container(usize),
    File(usize),
    Zone(usize),
    Publishing(usize),
    Group(usize),
    Labels(usize),
    Section(usize, bool),
    Rule(usize, bool, usize),
    Time(usize, bool, usize),
    Limit(usize, bool, usize),
    Peer(usize, bool, usize, usize),
    Ports(usize, bool, usize, usize),
}

/// The smallest case found with the same disagreement, as `play` tells.
pub fn shrink(
    mut case: Case,
    mut found: Disagreement,
    play: impl Fn(&Case, &Disagreement) -> Option<Disagreement>,
) -> (Case, Disagreement) {
    let began = Instant::now();
    let strangers = without_strangers(&case, &found);
    if let Some(again) = play(&strangers, &found) {
        (case, found) = (strangers, again);
    }
    loop {
        let before = case.clone();
        for part in parts(&case) {
            if began.elapsed() > LONGEST {
                return (case, found);
            }
            let Some(smaller) = without(&case, part) else {
                continue;
            };
            if let Some(again) = play(&smaller, &found) {
                (case, found) = (smaller, again);
            }
        }
        if case == before {
            return (case, found);
        }
    }
}

/// The case with those containers only that the disagreement is about.
fn without_strangers(case: &Case, found: &Disagreement) -> Case {
    let mut smaller = case.clone();
    let question = &found.question;
    let zones = case.plan.zones.clone();
    smaller.plan.containers.retain(|container| {
        let zone = zones.iter().find(|zone| zone.index == container.zone);
        let addresses = zone
            .map(|zone| container.addresses(zone))
            .unwrap_or_default();
        let publishes = |port: u16| {
            container
                .publish
                .iter()
                .any(|one| (one.first..=one.last).contains(&port))
        };
        container.name() == question.from
            || addresses
                .iter()
                .map(|text| places::address(text))
                .any(|own| own == question.to || places::another(own) == Some(question.to))
            || matches!(question.traffic, Traffic::Port(_, port) if publishes(port))
    });
    smaller
}

/// Big parts first, and of each list the last first.
fn parts(case: &Case) -> Vec<Part> {
    let plan = &case.plan;
    let down = |count: usize| (0..count).rev();
    let mut parts: Vec<Part> = Vec::new();
    parts.extend(down(case.events.len()).map(Part::Event));
    parts.extend(down(plan.files.len()).map(Part::File));
    parts.extend(down(plan.containers.len()).map(Part::Container));
    parts.extend(down(plan.zones.len()).map(Part::Zone));
    parts.extend(down(plan.containers.len()).map(Part::Publishing));
    parts.extend(down(plan.containers.len()).map(Part::Labels));
    parts.extend(down(plan.groups.len()).map(Part::Group));
    for (file, text) in plan.files.iter().enumerate() {
        for (ingress, section) in [(true, &text.ingress), (false, &text.egress)] {
            parts.push(Part::Section(file, ingress));
            let rules = section.as_deref().unwrap_or_default();
            parts.extend(down(rules.len()).map(|rule| Part::Rule(file, ingress, rule)));
            for (rule, words) in rules.iter().enumerate() {
                parts.push(Part::Time(file, ingress, rule));
                parts.push(Part::Limit(file, ingress, rule));
                let count = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
                parts.extend(down(count(&words.peers)).map(|n| Part::Peer(file, ingress, rule, n)));
                parts
                    .extend(down(count(&words.ports)).map(|n| Part::Ports(file, ingress, rule, n)));
            }
        }
    }
    parts
}

/// The case without the part; `None` where that is no case, or the same.
fn without(case: &Case, part: Part) -> Option<Case> {
    let mut smaller = case.clone();
    let plan = &mut smaller.plan;
    match part {
        Part::Event(n) => _ = (n < smaller.events.len()).then(|| smaller.events.remove(n))?,
        Part::Container(n) => _ = (n < plan.containers.len()).then(|| plan.containers.remove(n))?,
        Part::File(n) => _ = (n < plan.files.len()).then(|| plan.files.remove(n))?,
        Part::Zone(n) => {
            let index = plan.zones.get(n)?.index;
            let lived_in = plan.containers.iter().any(|one| one.zone == index);
            (!lived_in).then(|| plan.zones.remove(n))?;
        }
        Part::Publishing(n) => plan.containers.get_mut(n)?.publish.pop().map(|_| ())?,
        // One that is named must be there, but may mean fewer.
        Part::Group(n) => plan.groups.get_mut(n)?.pop().map(|_| ())?,
        Part::Labels(n) => plan.containers.get_mut(n)?.labels.pop_last().map(|_| ())?,
        Part::Section(file, ingress) => {
            let file = plan.files.get_mut(file)?;
            let section = if ingress {
                &mut file.ingress
            } else {
                &mut file.egress
            };
            section.take()?;
        }
        Part::Rule(file, ingress, rule) => {
            let rules = rules(&mut smaller, file, ingress)?;
            (rule < rules.len() && rules.len() > 1).then(|| rules.remove(rule))?;
        }
        Part::Time(file, ingress, rule) => {
            rules(&mut smaller, file, ingress)?
                .get_mut(rule)?
                .time
                .take()?;
        }
        Part::Limit(file, ingress, rule) => {
            rules(&mut smaller, file, ingress)?
                .get_mut(rule)?
                .limit
                .take()?;
        }
        Part::Peer(file, ingress, rule, n) => {
            let peers = rules(&mut smaller, file, ingress)?
                .get_mut(rule)?
                .peers
                .as_mut()?;
            (n < peers.len() && peers.len() > 1).then(|| peers.remove(n))?;
        }
        Part::Ports(file, ingress, rule, n) => {
            let ports = rules(&mut smaller, file, ingress)?
                .get_mut(rule)?
                .ports
                .as_mut()?;
            (n < ports.len() && ports.len() > 1).then(|| ports.remove(n))?;
        }
    }
    Some(smaller)
}

fn rules(case: &mut Case, file: usize, ingress: bool) -> Option<&mut Vec<super::draw::plan::Rule>> {
    let file = case.plan.files.get_mut(file)?;
    if ingress {
        file.ingress.as_mut()
    } else {
        file.egress.as_mut()
    }
}
