//! One change of elements → the transactions that put it in force, in their order.
//!
//! The kernel switches hash sets at one moment. Interval sets follow, one after the other, before the
//! transaction is acknowledged. A packet in between meets the new hash sets with the old ranges. So what
//! has ranges takes up to three transactions, of which the middle one decides:
//!
//! 1. the ranges, in the set that no packet looks into before the new generation ([`SetId::twin`]);
//! 2. everything else, with the new generation;
//! 3. the ranges again, in the set that no packet looks into any more.
//!
//! Ranges under numbers ([`SetId::is_numbered`]) have no second set: new ones come with the first, and old ones go
//! with the third.
//!
//! A change that forgets nothing keeps the generation, and both sets change. It only opens, or says
//! something about newcomers: denied ranges come first, all else after them.

use std::collections::BTreeSet;

use crate::sets::{Action, Changes, Element, SetId};

/// What one transaction removes and adds. Removed first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) remove: Vec<Element>,
    pub(super) add: Vec<Element>,
}

impl Step {
    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// In this order a message holds as many elements as it can.
    fn sorted(mut self) -> Self {
        self.remove.sort_by_key(|element| element.set);
        self.add.sort_by_key(|element| element.set);
        self
    }
}

/// The transactions of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// Changes no verdict of the generation in force.
    pub(super) before: Option<Step>,
    /// Decides; with the new generation, where there is one.
    pub(super) decisive: Step,
    /// Changes no verdict of the generation in force by then.
    pub(super) after: Option<Step>,
}

/// An element in the set that packets of even or of odd generations look into.
pub(super) fn of_generation(element: &Element, odd: bool) -> Element {
    Element {
        set: element.set.in_generation(odd),
        ..element.clone()
    }
}

/// An element in every set that should hold it.
pub(super) fn everywhere(element: &Element) -> impl Iterator<Item = Element> {
    let twin = element.set.twin().map(|_| of_generation(element, true));
    [element.clone()].into_iter().chain(twin)
}

/// Ranges of zones and of what is published: they have no twin. What closes comes before the generation,
/// what opens with it.
fn closes(element: &Element, is_added: bool) -> bool {
    match element.set {
        SetId::Subnets(_) | SetId::Internal(_) => is_added,
        SetId::PublishedRange(_) => !is_added,
        _ => false,
    }
}

/// Plans a change. `next_odd`: whether the generation after it is odd, where it replaces the generation.
pub(super) fn plan(changes: &Changes, next_odd: bool) -> Steps {
    let (before, decisive, after) = match changes.forget {
        true => replacing(changes, next_odd),
        false => keeping(changes),
    };
    Steps {
        before: Some(before.sorted()).filter(|step| !step.is_empty()),
        decisive: decisive.sorted(),
        after: Some(after.sorted()).filter(|step| !step.is_empty()),
    }
}

fn replacing(changes: &Changes, next_odd: bool) -> (Step, Step, Step) {
    let (mut before, mut decisive, mut after) = (Step::default(), Step::default(), Step::default());
    let mut sort = |element: &Element, is_added: bool| {
        let list = |step: &mut Step, element| match is_added {
            true => step.add.push(element),
            false => step.remove.push(element),
        };
        if element.set.twin().is_some() {
            list(&mut before, of_generation(element, next_odd));
            list(&mut after, of_generation(element, !next_odd));
        } else if element.set.is_numbered() {
            let step = match is_added {
                true => &mut before,
                false => &mut after,
            };
            list(step, element.clone());
        } else if closes(element, is_added) {
            list(&mut before, element.clone());
        } else {
            list(&mut decisive, element.clone());
        }
    };
    for element in &changes.remove {
        sort(element, false);
    }
    for element in &changes.add {
        sort(element, true);
    }
    (before, decisive, after)
}

fn keeping(changes: &Changes) -> (Step, Step, Step) {
    let denies = |element: &&Element| match element.set {
        SetId::Rule(_, _, Action::Deny, shape) | SetId::If(_, _, Action::Deny, shape) => {
            shape.is_range()
        }
        _ => false,
    };
    // with what makes room for them in the same set
    let first: BTreeSet<SetId> = changes
        .add
        .iter()
        .filter(denies)
        .map(|element| element.set)
        .collect();
    let mut before = Step::default();
    let mut decisive = Step::default();
    for element in &changes.remove {
        let step = match first.contains(&element.set) {
            true => &mut before,
            false => &mut decisive,
        };
        step.remove.extend(everywhere(element));
    }
    for element in &changes.add {
        let step = match first.contains(&element.set) {
            true => &mut before,
            false => &mut decisive,
        };
        step.add.extend(everywhere(element));
    }
    (before, decisive, Step::default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sets::{Direction, Family, Key, Shape};

    fn element(action: Action, shape: Shape, number: u32) -> Element {
        let set = SetId::Rule(Direction::Ingress, Family::V4, action, shape);
        Element::new(set, Key::new().mark(number))
    }

    fn conditional(action: Action, shape: Shape, number: u32) -> Element {
        let set = SetId::If(Direction::Ingress, Family::V4, action, shape);
        Element::new(set, Key::new().mark(number))
    }

    fn odd(element: &Element) -> Element {
        of_generation(element, true)
    }

    #[test]
    fn without_ranges_there_is_one_transaction() {
        let exact = element(Action::Deny, Shape::Peer, 1);
        for forget in [false, true] {
            let steps = plan(
                &Changes {
                    add: vec![exact.clone()],
                    forget,
                    ..Changes::default()
                },
                true,
            );
            assert_eq!((steps.before, steps.after), (None, None));
            assert_eq!(steps.decisive.add, std::slice::from_ref(&exact));
        }
    }

    #[test]
    fn ranges_of_the_next_generation_stand_before_it() {
        let range = conditional(Action::Deny, Shape::NetPart, 1);
        let old = conditional(Action::Allow, Shape::GroupRange, 2);
        let exact = element(Action::Allow, Shape::Group, 3);
        let changes = Changes {
            remove: vec![old.clone()],
            add: vec![range.clone(), exact.clone()],
            forget: true,
            ..Changes::default()
        };
        let steps = plan(&changes, true);
        let before = steps.before.unwrap();
        assert_eq!(
            (before.remove, before.add),
            (vec![odd(&old)], vec![odd(&range)])
        );
        assert_eq!(
            (steps.decisive.remove, steps.decisive.add),
            (vec![], vec![exact])
        );
        let after = steps.after.unwrap();
        assert_eq!(
            (after.remove, after.add),
            (vec![old.clone()], vec![range.clone()])
        );
        let steps = plan(&changes, false);
        assert_eq!(steps.before.unwrap().add, std::slice::from_ref(&range));
        assert_eq!(steps.after.unwrap().add, [odd(&range)]);
    }

    #[test]
    fn ranges_under_numbers_stand_before_and_go_after() {
        let (new, old) = (
            element(Action::Allow, Shape::Net, 1),
            element(Action::Deny, Shape::Ports, 2),
        );
        let leads = element(Action::Deny, Shape::GroupList, 3);
        let changes = Changes {
            remove: vec![old.clone()],
            add: vec![new.clone(), leads.clone()],
            forget: true,
            ..Changes::default()
        };
        let steps = plan(&changes, true);
        let (before, after) = (steps.before.unwrap(), steps.after.unwrap());
        assert_eq!((before.remove, before.add), (vec![], vec![new]));
        assert_eq!(steps.decisive.add, [leads]);
        assert_eq!((after.remove, after.add), (vec![old], vec![]));
    }

    #[test]
    fn what_a_newcomer_is_denied_comes_first() {
        let deny = conditional(Action::Deny, Shape::NetPart, 1);
        let allow = conditional(Action::Allow, Shape::NetPart, 2);
        let steps = plan(
            &Changes {
                add: vec![allow.clone(), deny.clone()],
                ..Changes::default()
            },
            true,
        );
        assert_eq!(steps.before.unwrap().add, [deny.clone(), odd(&deny)]);
        assert_eq!(steps.decisive.add, [allow.clone(), odd(&allow)]);
        assert_eq!(steps.after, None);
    }

    #[test]
    fn zones_close_first_and_open_last() {
        let subnet = Element::new(SetId::Subnets(Family::V4), Key::new());
        let internal = Element::new(SetId::Internal(Family::V4), Key::new());
        let steps = plan(
            &Changes {
                remove: vec![internal.clone()],
                add: vec![subnet.clone()],
                forget: true,
                ..Changes::default()
            },
            true,
        );
        let before = steps.before.unwrap();
        assert_eq!((before.remove, before.add), (vec![], vec![subnet]));
        assert_eq!((steps.decisive.remove, steps.after), (vec![internal], None));
    }
}
