//! Elements before and after an event → what to remove, what to add.

use std::cmp::Ordering;

use crate::sets::{Action, Changes, Element, SetId};

/// Appends what makes `after` of `before`.
pub(super) fn between(mut before: Vec<Element>, mut after: Vec<Element>, changes: &mut Changes) {
    before.sort_unstable();
    after.sort_unstable();
    let mut before = before.into_iter().peekable();
    let mut after = after.into_iter().peekable();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(new),
        };
        match order {
            Ordering::Less => changes.remove.extend(before.next()),
            Ordering::Greater => changes.add.extend(after.next()),
            Ordering::Equal => {
                before.next();
                after.next();
            }
        }
    }
}

/// Whether somebody's connection that was allowed may be denied after these changes. Errs on the side
/// of yes: an interval that is only cut differently counts too.
pub(super) fn tightens(changes: &Changes) -> bool {
    let opened = |element: &Element| {
        matches!(
            element.set,
            SetId::Rule(_, _, Action::Allow, _)
                | SetId::Nets(_, _, Action::Allow)
                | SetId::PublishedOpen(_)
                | SetId::PublishedRange(_)
                | SetId::Uplink
        )
    };
    let denies = |element: &Element| {
        matches!(
            element.set,
            SetId::Rule(_, _, Action::Deny, _)
                | SetId::Nets(_, _, Action::Deny)
                | SetId::If(_, _, Action::Deny, _)
                | SetId::Internal(_)
                | SetId::Pinned
        )
    };
    changes.remove.iter().any(opened) || changes.add.iter().any(denies)
}
