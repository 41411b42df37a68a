//! Rows that differ in one end only become one.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::judge::Verdicts;
use super::{Change, End, TrafficSet, Way};
use crate::sets::Family;

/// A row that is not told yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) from: BTreeSet<End>,
    pub(super) to: BTreeSet<End>,
    pub(super) traffic: TrafficSet,
    pub(super) family: Option<Family>,
    pub(super) way: Option<Way>,
    pub(super) decision: usize,
}

/// As few rows as may be, in the order of their ends.
pub(super) fn merge(rows: Vec<Row>, decisions: &[Verdicts]) -> Vec<Change> {
    let rows = along(rows, |row| &mut row.from);
    let rows = along(rows, |row| &mut row.to);
    let mut rows = along(rows, |row| &mut row.from);
    rows.sort();
    rows.into_iter()
        .map(|row| {
            let [before, after] = decisions[row.decision].outcomes.clone();
            let [because_before, because_after] = decisions[row.decision].because.clone();
            Change {
                from: ends(row.from),
                to: ends(row.to),
                family: row.family,
                way: row.way,
                traffic: row.traffic,
                before,
                after,
                because_before,
                because_after,
            }
        })
        .collect()
}

/// Joins rows that are the same but for one end.
fn along(rows: Vec<Row>, end: impl Fn(&mut Row) -> &mut BTreeSet<End>) -> Vec<Row> {
    let mut joined: BTreeMap<Row, BTreeSet<End>> = BTreeMap::new();
    for mut row in rows {
        let ends = std::mem::take(end(&mut row));
        joined.entry(row).or_default().extend(ends);
    }
    joined
        .into_iter()
        .map(|(mut row, ends)| {
            *end(&mut row) = ends;
            row
        })
        .collect()
}

/// Ends in order, with as few networks as may be.
fn ends(ends: BTreeSet<End>) -> Vec<End> {
    let mut nets: Vec<IpNet> = Vec::new();
    let mut told: Vec<End> = Vec::new();
    for end in ends {
        match end {
            End::Net(net) => nets.push(net),
            other => told.push(other),
        }
    }
    told.extend(IpNet::aggregate(&nets).into_iter().map(End::Net));
    told
}
