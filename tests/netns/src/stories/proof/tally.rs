//! What was asked how often, and whether that says anything: a path on which everything passes, or nothing,
//! would prove little.

use std::collections::BTreeMap;
use std::fmt::Write;

use firewall::model::Traffic;
use firewall::sets::Family;

use super::ask::{Asked, family};
use super::draw::{Kind, Plan};
use crate::net::probe::Reach;

/// What is counted in files, and how it is written there.
const WORDS: [(&str, &str); 8] = [
    ("rules that allow or deny", "[["),
    ("rules that deny", "action = \"deny\""),
    ("rules with hours", "\ntime = "),
    ("rules with a rate", "\nrate = "),
    ("rules with a number of connections", "\nmax-connections = "),
    ("rules that log", "\nlog = "),
    ("files on trial", "mode = \"audit\""),
    ("uses of groups", "\"@g"),
];

/// Counts of a whole run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Worlds made.
    pub worlds: usize,
    /// Events that happened in them.
    pub events: BTreeMap<&'static str, usize>,
    /// What stood in their files.
    words: BTreeMap<&'static str, usize>,
    /// Probes by path, family and verdict.
    paths: BTreeMap<(Kind, bool, bool), usize>,
    /// Probes by protocol and verdict.
    protocols: BTreeMap<(&'static str, bool), usize>,
    /// Refused connections of containers and the host: told at once.
    told: usize,
    /// Refused, over the rate at which one is told.
    untold: usize,
    /// Probes sent again because an answer was late.
    pub again: usize,
    /// Living flows that an event had to end, and did.
    pub ended: usize,
    /// Living flows that an event had to spare, and did.
    pub spared: usize,
}

impl Tally {
    /// Counts a question.
    pub fn count(&mut self, asked: &Asked, reach: &Reach) {
        let v6 = family(&asked.question) == Family::V6;
        *self
            .paths
            .entry((asked.judged.kind, v6, asked.allowed))
            .or_default() += 1;
        let protocol = match asked.question.traffic {
            Traffic::Port(6, _) => "TCP",
            Traffic::Port(..) => "UDP",
            Traffic::Icmp(_) => "ICMP",
            Traffic::Proto(_) => "protocol 253",
        };
        *self.protocols.entry((protocol, asked.allowed)).or_default() += 1;
        if !asked.allowed && asked.question.from != "world" {
            if reach.turned_away() {
                self.told += 1;
            } else {
                self.untold += 1;
            }
        }
    }

    /// Counts a world.
    pub fn made(&mut self, plan: &Plan) {
        self.worlds += 1;
        for file in &plan.files {
            let text = file.text();
            for (what, written) in WORDS {
                *self.words.entry(what).or_default() += text.matches(written).count();
            }
        }
        *self.words.entry("containers").or_default() += plan.containers.len();
        let published = plan.containers.iter().map(|one| one.publish.len());
        *self.words.entry("published ports and ranges").or_default() += published.sum::<usize>();
    }

    /// Counts an event.
    pub fn happened(&mut self, what: &'static str) {
        *self.events.entry(what).or_default() += 1;
    }

    /// All probes.
    pub fn probes(&self) -> usize {
        self.paths.values().sum()
    }

    fn path(&self, kind: Kind, v6: bool, allowed: bool) -> usize {
        self.paths.get(&(kind, v6, allowed)).copied().unwrap_or(0)
    }

    /// Paths on which everything passed, or nothing: there nothing was proven.
    pub fn vacuous(&self) -> Vec<String> {
        let mut empty = Vec::new();
        for kind in Kind::ALL {
            for (v6, family) in [(false, "IPv4"), (true, "IPv6")] {
                for (allowed, verdict) in [(true, "allowed"), (false, "denied")] {
                    if self.path(kind, v6, allowed) == 0 {
                        empty.push(format!("{} in {family}: none {verdict}", kind.name()));
                    }
                }
            }
        }
        for (protocol, allowed) in ["TCP", "UDP", "ICMP", "protocol 253"]
            .into_iter()
            .flat_map(|protocol| [(protocol, true), (protocol, false)])
        {
            if !self.protocols.contains_key(&(protocol, allowed)) {
                empty.push(format!(
                    "{protocol}: none {}",
                    if allowed { "allowed" } else { "denied" }
                ));
            }
        }
        for (what, count) in &self.words {
            if *count == 0 {
                empty.push(format!("no {what}"));
            }
        }
        for (what, count) in [("ended", self.ended), ("spared", self.spared)] {
            if count == 0 {
                empty.push(format!("no living flow was {what} by an event"));
            }
        }
        empty
    }

    /// The figures as Markdown.
    pub fn tables(&self) -> String {
        let mut text = String::from(
            "| path | IPv4 allowed | IPv4 denied | IPv6 allowed | IPv6 denied |\n| --- | --- | --- | --- | --- |\n",
        );
        for kind in Kind::ALL {
            let figures = [(false, true), (false, false), (true, true), (true, false)];
            let figures = figures.map(|(v6, allowed)| self.path(kind, v6, allowed).to_string());
            let _ = writeln!(text, "| {} | {} |", kind.name(), figures.join(" | "));
        }
        text += "\n| protocol | allowed | denied |\n| --- | --- | --- |\n";
        for protocol in ["TCP", "UDP", "ICMP", "protocol 253"] {
            let count = |allowed| {
                self.protocols
                    .get(&(protocol, allowed))
                    .copied()
                    .unwrap_or(0)
            };
            let _ = writeln!(text, "| {protocol} | {} | {} |", count(true), count(false));
        }
        let words: Vec<String> = self
            .words
            .iter()
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        let _ = writeln!(text, "\nIn these worlds: {}.", words.join(", "));
        let _ = writeln!(
            text,
            "\nOf the denied probes that containers and the host sent, {} were refused at once, {} in silence (over the rate at \
             which one sender is told). {} probes were sent again because an answer was late.",
            self.told, self.untold, self.again
        );
        if !self.events.is_empty() {
            let events: Vec<String> = self
                .events
                .iter()
                .map(|(what, count)| format!("{what} {count}"))
                .collect();
            let _ = writeln!(
                text,
                "\nEvents: {}. Running connections and flows that the policy after an event denied: {}, all dead in both \
                 directions; that it allowed before and after: {}, all alive.",
                events.join(", "),
                self.ended,
                self.spared
            );
        }
        text
    }
}
