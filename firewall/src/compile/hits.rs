//! Which elements a rule became: what they have matched is what the rule has.

use std::collections::BTreeSet;

use zone::PortName;

use super::Firewall;
use super::bundles::{PortList, Side};
use super::collect::{Collected, Match, rule_id};
use super::nets::Nets;
use super::owner::{Applying, Focus};
use crate::diagnostics::Position;
use crate::policy::{Counts, Rule, number};
use crate::sets::{Direction, Element, Family, SetId, Shape};

/// A rule of a file in force, and the elements that it became for one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleElements {
    /// The file, as the caller named it.
    pub file: String,
    /// Where the rule begins.
    pub at: Position,
    /// Its direction.
    pub direction: Direction,
    /// Its elements in the policy sets, each once. Rules that say the same share elements.
    pub elements: Vec<Element>,
}

impl Firewall {
    /// The elements of each rule that is in force for a container. Ranges of several rules may have
    /// become one box, or several: a rule has each box of the container that it reaches into.
    pub fn elements_by_rule(&self, name: &PortName) -> Vec<RuleElements> {
        let Some(container) = self.world.containers.get(name) else {
            return Vec::new();
        };
        let boxes: Vec<Element> = self
            .elements_of(name)
            .into_iter()
            .filter(|element| element.last.is_some() && (is_policy(element) || is_part(element)))
            .collect();
        let applying = self.files_of(container);
        let lists = self.bundles.lists(&applying.bundle);
        let files = &applying.enforced;
        let mut all = Vec::new();
        for direction in Direction::ALL {
            let rules = files.iter().flat_map(|file| {
                let section = file.section(direction);
                let rules = section.into_iter().flat_map(|section| &section.rules);
                rules
                    .enumerate()
                    .map(move |(place, rule)| ((file, place), rule))
            });
            for ((file, place), rule, counts) in number(rules) {
                let mut alone = Vec::new();
                for own in self.world.keys(container) {
                    let collected =
                        Collected::new(container, own, direction, rule.action, Focus::Everything);
                    let collected = match counts {
                        Counts::LeftOut => continue,
                        Counts::Always => collected,
                        Counts::Conditionally(number) => {
                            let mark = self.conditions.mark(file, direction, place);
                            collected.conditional(number, mark, &mut alone)
                        }
                    };
                    collected.rule_alone(self.view(), rule, &mut alone);
                }
                if counts == Counts::Always {
                    for family in Family::ALL {
                        let side = (direction, family, rule.action);
                        self.under_numbers(&applying, side, rule, &lists, &mut alone);
                    }
                }
                all.push(RuleElements {
                    file: file.file.clone(),
                    at: rule.at,
                    direction,
                    elements: in_force(&alone, &boxes),
                });
            }
        }
        all
    }

    /// What stands under the numbers of a container's files because of one rule: its networks, and lists of ports.
    fn under_numbers(
        &self,
        applying: &Applying,
        side: Side,
        rule: &Rule,
        lists: &[(u32, PortList)],
        out: &mut Vec<Element>,
    ) {
        if let Some(nets) = applying.nets.get(&side) {
            let nets = Nets::of(side, [rule]).elements(
                nets.number,
                &self.bundles,
                &applying.bundle,
                false,
            );
            out.extend(nets);
        }
        let id = rule_id(rule);
        let own = Match::all(rule.ports.as_deref(), side.1);
        for (number, list) in lists {
            if list.side != side || !list.rules.contains(&id) {
                continue;
            }
            let mut elements = Vec::new();
            list.elements(*number, &mut elements);
            let ports = elements.into_iter().zip(&list.ports);
            out.extend(ports.filter_map(|(element, (first, last))| {
                let mut own = own.iter().map(|own| own.interval());
                let meets = own.any(|(a, b)| a <= *last && *first <= b);
                meets.then_some(element)
            }));
        }
    }
}

/// What packets are counted by.
fn is_policy(element: &Element) -> bool {
    matches!(element.set, SetId::Rule(..) | SetId::If(..)) && !is_part(element)
}

/// Which list, or part of its owner's networks, something leads to.
fn is_part(element: &Element) -> bool {
    matches!(element.set, SetId::Rule(.., shape) | SetId::If(.., shape) if shape.is_map())
}

/// What a rule would be by itself, as it is beside the container's others.
fn in_force(alone: &[Element], boxes: &[Element]) -> Vec<Element> {
    let mut elements: BTreeSet<Element> = BTreeSet::new();
    let mut ranges: Vec<Element> = Vec::new();
    for element in alone.iter().filter(|element| is_policy(element)) {
        if element.last.is_none() {
            elements.insert(element.clone());
        } else if matches!(element.set, SetId::If(.., Shape::NetRange)) {
            ranges.extend(in_other_parts(element, alone, boxes));
        } else {
            ranges.push(element.clone());
        }
    }
    for range in &ranges {
        let met = boxes
            .iter()
            .filter(|other| is_policy(other) && meet(range, other));
        elements.extend(met.cloned());
    }
    elements.into_iter().collect()
}

/// Ports of a part of the rule's own networks, as ports of the parts that these are cut into beside others.
fn in_other_parts(range: &Element, alone: &[Element], boxes: &[Element]) -> Vec<Element> {
    let parts = |elements: &[Element]| -> Vec<Element> {
        let parts = elements
            .iter()
            .filter(|element| matches!(element.set, SetId::If(..)));
        let parts = parts.filter(|element| is_part(element));
        parts.cloned().collect()
    };
    let mut moved = BTreeSet::new();
    for own in parts(alone) {
        let Some((own_at, own_number)) = part_of(&own) else {
            continue;
        };
        let here = range.key.0.get(..own_at) == own.key.0.get(..own_at)
            && range.key.0.get(own_at..own_at + 4) == Some(own_number);
        if !here {
            continue;
        }
        for other in parts(boxes).iter().filter(|other| meet(&own, other)) {
            let Some((_, number)) = part_of(other) else {
                continue;
            };
            let mut range = range.clone();
            for key in [Some(&mut range.key), range.last.as_mut()]
                .into_iter()
                .flatten()
            {
                if let Some(field) = key.0.get_mut(own_at..own_at + 4) {
                    field.copy_from_slice(number);
                }
            }
            moved.insert(range);
        }
    }
    moved.into_iter().collect()
}

/// Where in the keys of ports the number of a part stands, in bytes, and the number: what is before the
/// peer in its own key.
fn part_of(part: &Element) -> Option<(usize, &[u8])> {
    let fields = part.set.spec().key;
    let (_, before) = fields.split_last()?;
    let at = before.iter().map(|field| field.padded()).sum();
    Some((at, part.data.as_ref()?.0.get(..4)?))
}

/// Whether two ranges of one set have a key in common.
fn meet(a: &Element, b: &Element) -> bool {
    let (Some(a_last), Some(b_last)) = (&a.last, &b.last) else {
        return false;
    };
    let mut at = 0;
    // Of a field in host byte order first and last are the same: any order tells whether two are.
    a.set == b.set
        && a.set.spec().key.iter().all(|field| {
            let bytes = at..at + field.padded();
            at = bytes.end;
            let part = |key: &crate::sets::Key| key.0.get(bytes.clone()).map(<[u8]>::to_vec);
            part(&a.key) <= part(b_last) && part(&b.key) <= part(a_last)
        })
}
