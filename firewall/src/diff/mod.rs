//! What would change if other policies were in force: by meaning, not by text.
//!
//! ```text
//! containers ─► groups of equals ─► whose rules differ (delta) ─► whom those rules are about
//!                                                                      │
//!            rows ◄─ merged ◄─ verdicts that differ ◄─ oracle, before and after
//! ```
//!
//! Who and what is asked about is cut at every boundary that a rule names: addresses into classes, protocols
//! and ports into intervals, so that one question stands for all flows of a class. The answers are the
//! [oracle](crate::oracle)'s, so that a row is right by construction; what is clever here only decides which
//! questions need not be asked. A property test holds the rows to every flow.

mod classes;
mod delta;
mod groups;
mod judge;
mod merge;
mod outside;
mod pairs;
mod traffic;

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use zone::PortName;

use crate::explain::Reason;
use crate::model::World;
use crate::policy::PolicySet;
use crate::sets::{Action, Direction, Family};

pub(crate) use classes::unnamed;
pub use traffic::TrafficSet;

/// How many questions are asked of the oracle at most: some seconds of work. What is left is counted.
pub const MOST_QUESTIONS: usize = 1_000_000;
/// How many rows are told at most; the others are counted.
pub const MOST_ROWS: usize = 1_000;

/// Who stands at one end of the flows of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A container, in one zone.
    Container(PortName),
    /// The host by all of its addresses, but for these.
    Host {
        /// Addresses of the host for which it is otherwise.
        except: Vec<IpNet>,
    },
    /// All of the world, but for these.
    World {
        /// Networks of the world for which it is otherwise.
        except: Vec<IpNet>,
    },
    /// The host by these of its addresses.
    HostAt(IpNet),
    /// The addresses of a network that are neither a container's nor the host's.
    Net(IpNet),
    /// Addresses of the world that a `dns:` peer means, as the gateway's resolver gave them to the client, and that no
    /// network names.
    Name(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |nets: &[IpNet]| nets.iter().map(net_words).collect::<Vec<_>>().join(", ");
        let (word, except) = match self {
            End::Container(name) => return write!(f, "{name}"),
            End::Net(net) => return f.write_str(&net_words(net)),
            End::Name(pattern) => return write!(f, "dns:{pattern}"),
            End::HostAt(net) => return write!(f, "host at {}", net_words(net)),
            End::Host { except } => ("host", except),
            End::World { except } => ("world", except),
        };
        f.write_str(word)?;
        if !except.is_empty() {
            write!(f, " but {}", plain(except))?;
        }
        Ok(())
    }
}

/// A network, or a single address without its length.
fn net_words(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

/// Which way a connection comes to a container that publishes ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To the container's own address.
    Direct,
    /// Through a published port.
    Published,
}

/// What becomes of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// Whether it may be opened now.
    pub verdict: Action,
    /// How it is limited, and whether it is recorded, in words: `ingress rate 50/second burst 100`.
    pub limits: Vec<String>,
    /// Whether it may be opened at each of the times at which a rule begins or ceases to count; empty where
    /// no rule has hours.
    hours: Vec<bool>,
}

/// Flows of which the same becomes otherwise than before: each of `from` to each of `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who opens the connection.
    pub from: Vec<End>,
    /// To whom.
    pub to: Vec<End>,
    /// In which family; `None`: in each that both ends have.
    pub family: Option<Family>,
    /// Which way; `None`: either.
    pub way: Option<Way>,
    /// With what.
    pub traffic: TrafficSet,
    /// What becomes of it under the old policies.
    pub before: Outcome,
    /// What would become of it under the new ones.
    pub after: Outcome,
    /// What of the old policies decided, and does not any more.
    pub because_before: Vec<Reason>,
    /// What of the new policies decides, and did not before.
    pub because_after: Vec<Reason>,
}

/// Everything that would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Row by row, in the order of names.
    pub rows: Vec<Change>,
    /// How many rows more there are than were told.
    pub more: usize,
    /// How many pairs were not looked at, because there was too much to ask.
    pub unasked: usize,
}

impl Difference {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.unasked == 0
    }
}

/// What would change among the attached containers, the host and the world if `new` were the policies. Both
/// sets use one key for what is one file.
///
/// Verdicts are those of `world.clock`; that a rule counts at other hours shows as a limit.
pub fn diff(world: &World, old: &PolicySet, new: &PolicySet) -> Difference {
    diff_within(world, old, new, MOST_QUESTIONS, MOST_ROWS)
}

/// The same with other ceilings.
pub fn diff_within(
    world: &World,
    old: &PolicySet,
    new: &PolicySet,
    most_questions: usize,
    most_rows: usize,
) -> Difference {
    let groups = groups::of(world, old, new);
    let deltas: Vec<_> = groups
        .iter()
        .map(|group| Direction::ALL.map(|direction| delta::of(group, direction)))
        .collect();
    let [egress, ingress] = [0, 1].map(|side: usize| {
        let deltas = &deltas;
        move |group: usize| deltas[group][side].as_ref()
    });
    let mut asking = pairs::Asking::new(world, most_questions);
    let mut done = BTreeSet::new();
    for (own, group) in groups.iter().enumerate() {
        for (direction, delta) in Direction::ALL.into_iter().zip(&deltas[own]) {
            let Some(delta) = delta else {
                continue;
            };
            for (other, peer) in groups.iter().enumerate() {
                if !delta.is_about_group(world, peer) {
                    continue;
                }
                let (from, to) = match direction {
                    Direction::Egress => (own, other),
                    Direction::Ingress => (other, own),
                };
                if done.insert((from, to)) {
                    let deltas = [egress(from), ingress(to)];
                    asking.containers(&groups[from], &groups[to], deltas);
                }
            }
            asking.outside(group, direction, delta);
        }
    }
    let (rows, decisions, unasked) = asking.done();
    let mut rows = merge::merge(rows, &decisions);
    let more = rows.len().saturating_sub(most_rows);
    rows.truncate(most_rows);
    Difference {
        rows,
        more,
        unasked,
    }
}
