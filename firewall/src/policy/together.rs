//! What the files that apply to one container may ask for together.
//!
//! Each file has its own ceilings ([`super::limits`]); without these, a hundred files at all of theirs would make one
//! container as large as a hundred.

use std::fmt;
use std::sync::Arc;

use super::limits::most_pieces;
use super::{Peer, PolicyFile, Rule};
use crate::sets::{Action, Family};

/// Elements of all files that apply to one container: for each rule its peers times its ports.
pub const MAX_ELEMENTS_TOGETHER: usize = 40_000;
/// Pieces of networks of all files that apply to one container, as [`most_pieces`] counts them.
pub const MAX_PIECES_TOGETHER: usize = 20_000;
/// Files that are named when they are too much.
const NAMED: usize = 8;

/// What a file asks for, counted when it was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// For each rule its peers times its ports, summed up.
    pub elements: usize,
    /// Peers that are addresses.
    addresses: usize,
    /// Ports of those.
    intervals: usize,
}

impl Weight {
    /// Counts what rules ask for.
    pub(super) fn of<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut weight = Self::default();
        for rule in rules {
            let ports = rule.ports.as_ref().map_or(1, Vec::len);
            let address = |peer: &&Peer| matches!(peer, Peer::Net(_) | Peer::Container(_));
            let addresses = rule.peers.iter().filter(address).count();
            weight.elements += rule.peers.len() * ports;
            weight.addresses += addresses;
            weight.intervals += addresses * ports;
        }
        weight
    }
}

/// Files that apply to one container and ask for too much together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooMuch {
    /// `elements` or `pieces`.
    what: &'static str,
    count: usize,
    most: usize,
    /// The files with what each asks for, the largest first.
    files: Vec<(String, usize)>,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what, count, most, ..
        } = self;
        write!(
            f,
            "the {} files that apply to it become {count} {what} together, and at most {most} are allowed: ",
            self.files.len()
        )?;
        for (place, (file, count)) in self.files.iter().take(NAMED).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{file} ({count})")?;
        }
        match self.files.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Whether files that apply to one container ask for too much together. One file alone does not.
pub fn too_much(files: &[Arc<PolicyFile>]) -> Option<TooMuch> {
    if files.len() < 2 {
        return None;
    }
    let each = |weight: fn(&Weight) -> usize| files.iter().map(move |file| weight(&file.weight));
    let elements = each(|w| w.elements).sum();
    if elements > MAX_ELEMENTS_TOGETHER {
        let files = largest(files, |file| file.weight.elements);
        return Some(TooMuch {
            what: "elements",
            count: elements,
            most: MAX_ELEMENTS_TOGETHER,
            files,
        });
    }
    // a network is cut by the intervals of those around it, and those are not more than all
    let intervals: usize = each(|w| w.intervals).sum();
    let addresses: usize = each(|w| w.addresses).sum();
    if intervals + addresses * intervals * 3 <= MAX_PIECES_TOGETHER {
        return None;
    }
    let count = pieces(files.iter().map(|file| &**file));
    (count > MAX_PIECES_TOGETHER).then(|| TooMuch {
        what: "pieces of networks",
        count,
        most: MAX_PIECES_TOGETHER,
        files: largest(files, |file| pieces([file].into_iter())),
    })
}

fn largest(
    files: &[Arc<PolicyFile>],
    count: impl Fn(&PolicyFile) -> usize,
) -> Vec<(String, usize)> {
    let mut all: Vec<_> = files
        .iter()
        .map(|file| (file.file.clone(), count(file)))
        .collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all
}

/// Pieces of all files in the family in which there are more.
fn pieces<'a>(files: impl Iterator<Item = &'a PolicyFile> + Clone) -> usize {
    let of = |family| -> usize {
        let sections = [
            |f: &'a PolicyFile| f.ingress.as_ref(),
            |f: &'a PolicyFile| f.egress.as_ref(),
        ];
        let counts = sections.into_iter().flat_map(|section| {
            let rules = files.clone().filter_map(section).flat_map(|s| &s.rules);
            [Action::Allow, Action::Deny].map(|action| most_pieces(rules.clone(), action, family))
        });
        counts.sum()
    };
    of(Family::V4).max(of(Family::V6))
}
