//! The smallest policy that reads well and allows what was seen.
//!
//! It says more than was seen in two ways only, both told in docs/decisions.md: [`ENOUGH`] addresses of
//! the world on one port become `world`, [`ENOUGH`] containers of one zone on one port become that zone.
//! Rules are then made of what has the same peers or the same ports, so that no rule joins a peer and a
//! port that were not seen together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use ipnet::IpNet;
use zone::{ContainerName, ZoneName};

use super::{Kind, Learned, Peer, Times};
use crate::policy::{self, Ports, limits, parse_ports};
use crate::rfc3339;
use crate::sets::{Action, Direction};

/// As many peers of one class on one port stand for the class.
pub const ENOUGH: usize = 4;

/// As many ports in a row become a range.
const ROW: u16 = 3;

/// Columns of a line before a list is broken into one entry a line.
const WIDTH: usize = 100;

/// A policy file that allows what was seen and passed. `closes` tells which directions are closed even
/// where nothing was seen in them, because they were on trial; of another one that was not seen the
/// file says nothing. `in_force` are files that applied meanwhile and were not on trial.
pub fn policy(
    container: &ContainerName,
    learned: &Learned,
    closes: impl Fn(Direction) -> bool,
    in_force: &[String],
) -> String {
    let mut text = header(container, learned, in_force);
    let _ = writeln!(text, "applies-to = {{ container = \"{container}\" }}");
    let mut tables = String::new();
    for direction in Direction::ALL {
        let seen: Vec<(&Kind, Times)> = learned
            .kinds
            .iter()
            .filter(|(kind, _)| kind.direction == direction && kind.verdict == Action::Allow)
            .filter(|(kind, _)| can_be_written(kind))
            .map(|(kind, times)| (kind, *times))
            .collect();
        let word = direction.as_str();
        if seen.is_empty() && closes(direction) {
            let _ = writeln!(text, "{word} = []  # nothing was seen");
        } else if seen.is_empty() {
            let _ = writeln!(
                text,
                "# {word} was not on trial, and nothing of it was seen: it stays as it is"
            );
        }
        for rule in rules(&seen) {
            rule.write(direction, &mut tables);
        }
    }
    text + &tables
}

fn header(container: &ContainerName, learned: &Learned, in_force: &[String]) -> String {
    let mut text = format!("# What {container} was seen doing");
    if let Some(all) = learned.kinds.values().copied().reduce(Times::and) {
        let _ = write!(text, ", {}", span(all));
    }
    text.push_str(". Read it before it is put in force.\n");
    let mut note = |note: String| {
        let _ = writeln!(text, "# {note}");
    };
    if !in_force.is_empty() {
        let files = in_force.join(", ");
        note(format!(
            "What {files} allows in force is not told here: this is to stand beside it."
        ));
    }
    if learned.lost > 0 {
        note(format!(
            "{} decisions were not recorded: something may be missing.",
            learned.lost
        ));
    }
    if learned.more {
        note(format!(
            "There were more than {} kinds of connections: some are missing.",
            super::MAX_KINDS
        ));
    }
    let of = |verdict| learned.kinds.keys().filter(move |k| k.verdict == verdict);
    match of(Action::Deny).count() {
        0 => {}
        refused => note(format!(
            "{refused} kinds of connections were refused, and are not allowed here; `netd policy log {container}` shows them."
        )),
    }
    for kind in of(Action::Allow).filter(|kind| !can_be_written(kind)) {
        note(format!(
            "No rule can name {}, which was seen too.",
            kind.ports
        ));
    }
    text
}

/// Whether a rule can name it: there is none about port 0, for one.
fn can_be_written(kind: &Kind) -> bool {
    parse_ports(&kind.ports.to_string()).ok() == Some(kind.ports)
}

/// Peers and ports, each of which was seen with each, but for what peers stand for.
struct Learnt {
    peers: BTreeSet<policy::Peer>,
    ports: BTreeSet<Ports>,
    times: Times,
}

/// The fewest rules that are made of equal peers or of equal ports.
fn rules(seen: &[(&Kind, Times)]) -> Vec<Learnt> {
    let mut pairs: BTreeMap<(policy::Peer, Ports), Times> = BTreeMap::new();
    for (ports, peer, times) in generalised(seen) {
        pairs
            .entry((peer, ports))
            .and_modify(|all| *all = all.and(times))
            .or_insert(times);
    }
    let triples = || {
        pairs
            .iter()
            .map(|((peer, ports), times)| (peer, ports, *times))
    };
    let of_peers = alike(triples());
    let of_ports = alike(triples().map(|(peer, ports, times)| (ports, peer, times)));
    let mut rules: Vec<Learnt> = if of_peers.len() <= of_ports.len() {
        let rules = of_peers.into_iter();
        rules
            .map(|(ports, (peers, times))| Learnt {
                peers,
                ports,
                times,
            })
            .collect()
    } else {
        let rules = of_ports.into_iter();
        rules
            .map(|(peers, (ports, times))| Learnt {
                peers,
                ports,
                times,
            })
            .collect()
    };
    rules.sort_by(|a, b| a.peers.cmp(&b.peers));
    rules
}

/// Those that were seen with exactly the same others, by these others.
fn alike<'a, A, B>(
    seen: impl Iterator<Item = (&'a A, &'a B, Times)>,
) -> BTreeMap<BTreeSet<B>, (BTreeSet<A>, Times)>
where
    A: Ord + Clone + 'a,
    B: Ord + Clone + 'a,
{
    let mut with: BTreeMap<&A, (BTreeSet<B>, Times)> = BTreeMap::new();
    for (this, other, times) in seen {
        let (others, all) = with
            .entry(this)
            .or_insert((BTreeSet::new(), Times { count: 0, ..times }));
        others.insert(other.clone());
        *all = all.and(times);
    }
    let mut alike: BTreeMap<BTreeSet<B>, (BTreeSet<A>, Times)> = BTreeMap::new();
    for (this, (others, times)) in with {
        let (these, all) = alike
            .entry(others)
            .or_insert((BTreeSet::new(), Times { count: 0, ..times }));
        these.insert(this.clone());
        *all = all.and(times);
    }
    alike
}

/// Each kind with the peer that stands for it in the file.
fn generalised(seen: &[(&Kind, Times)]) -> Vec<(Ports, policy::Peer, Times)> {
    let mut worlds: BTreeMap<Ports, usize> = BTreeMap::new();
    let mut members: BTreeMap<(Ports, &ZoneName), usize> = BTreeMap::new();
    for (kind, _) in seen {
        match &kind.peer {
            Peer::World(_) => *worlds.entry(kind.ports).or_default() += 1,
            Peer::Container(zone, _) => *members.entry((kind.ports, zone)).or_default() += 1,
            Peer::Host | Peer::Address(_) => {}
        }
    }
    let peer = |kind: &Kind| match &kind.peer {
        Peer::World(_) if worlds[&kind.ports] >= ENOUGH => policy::Peer::World,
        Peer::Container(zone, _) if members[&(kind.ports, zone)] >= ENOUGH => {
            policy::Peer::Zone(zone.clone())
        }
        Peer::World(address) | Peer::Address(address) => policy::Peer::Net(IpNet::from(*address)),
        Peer::Container(_, name) => policy::Peer::Container(name.clone()),
        Peer::Host => policy::Peer::Host,
    };
    seen.iter()
        .map(|(kind, times)| (kind.ports, peer(kind), *times))
        .collect()
}

impl Learnt {
    fn write(&self, direction: Direction, text: &mut String) {
        let who = match direction {
            Direction::Egress => "to",
            Direction::Ingress => "from",
        };
        let times = match self.times.count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        let _ = writeln!(text, "\n# {times}, {}", span(self.times));
        let peers: Vec<String> = self.peers().iter().map(ToString::to_string).collect();
        let ports: Vec<String> = self.ports().iter().map(ToString::to_string).collect();
        // as many rules as the ceilings of one rule make of it
        for peers in peers.chunks(limits::MAX_PEERS) {
            for ports in ports.chunks(limits::MAX_PORTS) {
                let _ = writeln!(text, "[[{}]]", direction.as_str());
                list(&format!("{who:<5}"), peers, text);
                list("ports", ports, text);
            }
        }
    }

    /// Networks joined where they are all of a larger one.
    fn peers(&self) -> Vec<policy::Peer> {
        let mut peers = Vec::new();
        let mut nets = Vec::new();
        for peer in &self.peers {
            match peer {
                policy::Peer::Net(net) => nets.push(*net),
                other => peers.push(other.clone()),
            }
        }
        peers.extend(IpNet::aggregate(&nets).into_iter().map(policy::Peer::Net));
        peers
    }

    /// Ports in a row as a range.
    fn ports(&self) -> Vec<Ports> {
        let mut joined: Vec<Ports> = Vec::new();
        let mut flush = |row: &mut Option<(u8, u16, u16)>| {
            if let Some((proto, first, last)) = row.take() {
                if last - first + 1 >= ROW {
                    joined.push(Ports::Range { proto, first, last });
                } else {
                    let single = |port| Ports::Range {
                        proto,
                        first: port,
                        last: port,
                    };
                    joined.extend((first..=last).map(single));
                }
            }
        };
        let mut row: Option<(u8, u16, u16)> = None;
        let mut others = Vec::new();
        for ports in &self.ports {
            match *ports {
                Ports::Range { proto, first, last } => match &mut row {
                    Some((p, _, end)) if *p == proto && end.checked_add(1) == Some(first) => {
                        *end = last;
                    }
                    row => {
                        flush(row);
                        *row = Some((proto, first, last));
                    }
                },
                other => others.push(other),
            }
        }
        flush(&mut row);
        joined.extend(others);
        joined
    }
}

/// `key = ["…", "…"]`, one entry a line where they are many.
fn list(key: &str, entries: &[String], text: &mut String) {
    let line = entries
        .iter()
        .map(|entry| format!("\"{entry}\""))
        .collect::<Vec<_>>();
    let whole = format!("{key} = [{}]", line.join(", "));
    if whole.len() <= WIDTH {
        let _ = writeln!(text, "{whole}");
        return;
    }
    let _ = writeln!(text, "{key} = [");
    for entry in line {
        let _ = writeln!(text, "    {entry},");
    }
    let _ = writeln!(text, "]");
}

fn span(times: Times) -> String {
    let (first, last) = (rfc3339::seconds(times.first), rfc3339::seconds(times.last));
    if first == last {
        return format!("at {first}");
    }
    format!("from {first} to {last}")
}
