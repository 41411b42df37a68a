//! Where in the text everything of a file is: for what can be said only once all of it is known.

use std::ops::Range;

use super::{Peer, Ports};
use crate::sets::Direction;

/// Bytes of the text.
type Span = Range<usize>;

/// Where the parts of one rule are.
#[derive(Debug, Clone)]
pub(super) struct RulePlace {
    /// The rule.
    pub(super) span: Span,
    /// The entries of `from` or `to`, each with the peers that it stands for.
    pub(super) peers: Vec<(Vec<Peer>, Span)>,
    /// The entries of `ports`.
    pub(super) ports: Vec<(Ports, Span)>,
    /// `rate` or `max-connections`.
    pub(super) rate: Option<Span>,
    pub(super) max_connections: Option<Span>,
}

impl RulePlace {
    pub(super) fn new(span: Span) -> Self {
        Self {
            span,
            peers: Vec::new(),
            ports: Vec::new(),
            rate: None,
            max_connections: None,
        }
    }
}

/// Where the parts of a file are.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// The value of `applies-to`; the begin of the file where it has none.
    pub(super) target: Span,
    ingress: Vec<RulePlace>,
    egress: Vec<RulePlace>,
}

impl Places {
    /// Those of one direction's rules, in the order of the file.
    pub(super) fn of(&self, direction: Direction) -> &[RulePlace] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    pub(super) fn of_mut(&mut self, direction: Direction) -> &mut Vec<RulePlace> {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// How many rules there are.
    pub(super) fn rules(&self) -> usize {
        self.ingress.len() + self.egress.len()
    }
}
