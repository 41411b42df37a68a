//! Chains of other tables on a connection's way: would they drop what ours accepts?
//!
//! ```text
//! Ruleset (data: kernel::foreign reads it) ─┐
//! Journey (a packet at each hook it passes) ┴─► walk, with three values ─► Obstacle: drop | maybe
//! ```
//!
//! nftables asks every table: one drop is enough. So each base chain on the way is walked by itself.
//! What cannot be known from outside (a packet's mark, a user's id, a module of iptables) is *unknown*, and
//! a chain through which both a drop and an accept are possible *may* drop: nothing is guessed.
//!
//! Three packets are walked: the one that opens the connection, the answer, and the next one. A table that
//! lets the first pass and knows nothing of established connections drops the second.

mod expression;
mod load;
mod lookup;
mod packet;
mod value;
mod walk;
mod xt;

#[cfg(test)]
mod tests;

pub use expression::{Base, Hook};
pub use expression::{
    Data, Element, Expression, Fib, Order, PayloadBase, Ruleset, RulesetChain, RulesetRule,
    RulesetSet, RulesetTable, TableFamily, Target, Verdict,
};
pub use packet::{Addr, Head, Journey, Layer, Link, Packet, Passage, Turn};

use walk::Walk;

/// What a chain of another table does to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Family and name: `inet firewalld`.
    pub table: String,
    /// The chain in which it is decided.
    pub chain: String,
    /// Whether it is certain.
    pub certain: bool,
    /// A sentence for people.
    pub text: String,
}

/// Every chain of other tables that drops, or may drop, one of a connection's packets; certain drops
/// first. At most one for each base chain.
pub fn obstacles(ruleset: &Ruleset, journeys: &[Journey]) -> Vec<Obstacle> {
    let mut found: Vec<Obstacle> = Vec::new();
    for table in &ruleset.tables {
        for chain in &table.chains {
            let Some(base) = &chain.base else { continue };
            let worst = journeys
                .iter()
                .flat_map(|journey| journey.passages.iter().map(move |p| (journey, p)))
                .filter(|(_, passage)| passage.meets(table.family, base))
                .filter_map(|(journey, passage)| {
                    let walk = Walk::of(ruleset, table, chain, base, journey, passage);
                    walk.obstacle(table, chain, journey)
                })
                .reduce(|first, later| {
                    if later.certain && !first.certain {
                        later
                    } else {
                        first
                    }
                });
            found.extend(worst);
        }
    }
    found.sort_by_key(|obstacle| !obstacle.certain);
    found
}
