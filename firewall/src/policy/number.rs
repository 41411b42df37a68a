//! Which rules count, and the numbers of the conditional ones.

use super::{MAX_CONDITIONAL, Rule};
use crate::sets::Action;

/// How a rule counts for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// At all times.
    Always,
    /// When its condition holds; the number is from 0 among the owner's of its direction and action.
    Conditionally(u32),
    /// Not at all: an allow beyond [`MAX_CONDITIONAL`].
    LeftOut,
}

/// How each rule of one direction counts for a container: those of all its files, in the order of their
/// keys and in that of the file. The callers' `T` is whatever goes with the rule.
pub fn number<'a, T>(
    rules: impl Iterator<Item = (T, &'a Rule)>,
) -> impl Iterator<Item = (T, &'a Rule, Counts)> {
    let (mut allows, mut denies) = (0, 0);
    rules.map(move |(with, rule)| {
        if !rule.is_conditional() {
            return (with, rule, Counts::Always);
        }
        let number = match rule.action {
            Action::Allow => &mut allows,
            Action::Deny => &mut denies,
        };
        let counts = match (*number < MAX_CONDITIONAL, rule.action) {
            (true, _) => Counts::Conditionally(*number),
            // what cannot be told apart is closed
            (false, Action::Allow) => Counts::LeftOut,
            (false, Action::Deny) => Counts::Always,
        };
        *number += 1;
        (with, rule, counts)
    })
}

impl Counts {
    /// Whether the rule counts at a time.
    pub fn at(self, rule: &Rule, clock: crate::model::Clock) -> bool {
        match self {
            Counts::Always => true,
            Counts::Conditionally(_) => rule.counts_at(clock),
            Counts::LeftOut => false,
        }
    }
}
