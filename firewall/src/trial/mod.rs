//! What there is to record of a packet that was judged: by rules that log, and by files on trial.
//!
//! ```text
//! packet and verdict (nflog) ─┐
//! world ──────────────────────┼─► records ─► decision log, `netd policy learn`
//! policies, those on trial ───┘
//! ```
//!
//! The kernel knows nothing of log rules and audit files: it tells of packets of which one side is
//! watched. Here they are judged again by the same sentences as in the [oracle], once by
//! the files in force and once as if those on trial were in force too.
//!
//! - A rule with `log = true` is recorded when it takes part in the verdict: an allow rule when the
//!   packet passed, a deny rule when it was refused by it. In a direction in which some rule logs, what is
//!   refused because nothing allows it is recorded as well, at the place where that rule's file mentions
//!   the direction first.
//! - A file with `mode = "audit"` is recorded when the verdict would be another with it; once for each
//!   side that would say otherwise.

mod side;
mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;

use zone::{ContainerName, ZoneName};

use crate::diagnostics::Position;
use crate::model::{Container, Endpoint, Flow, Traffic, World};
use crate::oracle::{self, Party, Who};
use crate::packet::Judged;
use crate::policy::{Mode, PolicyFile, PolicySet, Rule};
use crate::sets::{Action, Direction, Family};
use side::Side;

/// One decision, as a rule or a file on trial has it recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The container whose rule it is.
    pub container: ContainerName,
    /// Its zone.
    pub zone: ZoneName,
    /// Whether the container opens the connection or is asked.
    pub direction: Direction,
    /// What became of the packet.
    pub verdict: Action,
    /// What would have become of it, were the files on trial in force. `None`: it is the rule's record,
    /// not that of a trial.
    pub would: Option<Action>,
    /// The file that decides, or would decide; absent where none does.
    pub file: Option<String>,
    /// Where in it.
    pub at: Option<Position>,
    /// A sentence for people.
    pub text: String,
    /// Who opens the connection.
    pub from: End,
    /// To whom.
    pub to: End,
    /// With what: the port is that of the server, after address translation.
    pub traffic: Traffic,
    /// In which family.
    pub family: Family,
    /// Whether it came through a published port, as far as the packet tells: it is from outside, to a
    /// port that the container publishes.
    pub published: bool,
}

impl Record {
    /// The end that is not the record's container.
    pub fn peer(&self) -> &End {
        match self.direction {
            Direction::Egress => &self.to,
            Direction::Ingress => &self.from,
        }
    }
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Who has the address.
    pub who: Whose,
    /// The address.
    pub address: IpAddr,
}

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// A container, in its zone.
    Container(ContainerName, ZoneName),
    /// The host.
    Host,
    /// Somebody in the world.
    World,
    /// Nobody: multicast, link-local, an address of a zone that is not given out.
    Other,
}

/// Why a verdict is as it is, in a record's words.
struct Reason<'a> {
    at: Option<(&'a PolicyFile, Position)>,
    text: String,
}

impl<'a> Reason<'a> {
    fn rule(file: &'a PolicyFile, rule: &Rule, text: String) -> Self {
        Self {
            at: Some((file, rule.at)),
            text,
        }
    }
}

/// What there is to record of a packet that was judged, with the policies in force and on trial.
pub fn records(world: &World, policies: &PolicySet, judged: &Judged) -> Vec<Record> {
    Case::new(world, policies, judged).map_or_else(Vec::new, |case| {
        let mut records = case.logged();
        records.extend(case.tried());
        records
    })
}

/// A packet, its ends, and the files that are about one of them.
struct Case<'a> {
    world: &'a World,
    policies: PolicySet,
    verdict: Action,
    flow: Flow,
    from: Party<'a>,
    to: Party<'a>,
    ends: (End, End),
    /// What the rules in force say now.
    allowed: bool,
}

impl<'a> Case<'a> {
    /// Nothing where there is nothing to record.
    fn new(world: &'a World, policies: &PolicySet, judged: &Judged) -> Option<Self> {
        let packet = &judged.packet;
        // An error is part of the connection that it is about.
        let traffic = packet.traffic().filter(|_| !packet.is_error())?;
        let mut flow = Flow {
            from: Endpoint::Address(packet.from),
            to: Endpoint::Address(packet.to),
            traffic,
            family: packet.family(),
            published: false,
        };
        let party =
            |this: &Endpoint, other: &Endpoint| oracle::party(world, this, other, flow.family).ok();
        let (from, to) = (party(&flow.from, &flow.to)?, party(&flow.to, &flow.from)?);
        let sides = [container(from), container(to)];
        let policies = policies.about(sides.into_iter().flatten());
        if policies.0.is_empty() {
            return None;
        }
        let allows = |flow: &Flow| oracle::allows(world, &policies, flow);
        let mut allowed = allows(&flow);
        if container(to).is_some_and(|server| oracle::may_be_published(world, server, from, &flow))
        {
            // Who came through the published port and who asked the container itself look alike. Only
            // what is open by its publication tells them apart, and there the verdict does.
            flow.published = true;
            let open = allows(&flow);
            if open && !allowed && judged.verdict == Action::Deny {
                flow.published = false;
            } else {
                allowed = open;
            }
        }
        Some(Self {
            ends: (end(from, packet.from), end(to, packet.to)),
            world,
            policies,
            verdict: judged.verdict,
            flow,
            from,
            to,
            allowed,
        })
    }

    /// The sides whose word is asked: of a container that opens the connection, of one that is asked.
    fn sides<'p>(&'p self, policies: &'p PolicySet) -> Vec<Side<'p>> {
        let side = |owner: &'p Container, direction, peer| {
            Side::new(self.world, policies, owner, direction, peer, &self.flow)
        };
        let client = container(self.from).map(|c| side(c, Direction::Egress, self.to));
        let server = container(self.to).map(|c| side(c, Direction::Ingress, self.from));
        client.into_iter().chain(server).collect()
    }

    /// What rules that log have to say.
    fn logged(&self) -> Vec<Record> {
        let sides = self.sides(&self.policies);
        let agreed = sides.iter().all(|side| side.allowed);
        let mut records = Vec::new();
        for side in &sides {
            match (self.verdict, self.allowed) {
                // what is open whatever policy says is nobody's decision
                (Action::Allow, true) if agreed => {
                    records.extend(side.rules_that_log().map(|r| self.record(side, None, r)));
                }
                (Action::Allow, true) => {}
                // the side that allows it took no part in its refusal
                (Action::Deny, false) if !agreed && side.allowed => {}
                (Action::Deny, false) if !agreed => {
                    let refusals = side.refusals_that_log(&self.flow);
                    records.extend(refusals.into_iter().map(|r| self.record(side, None, r)));
                }
                (Action::Deny, true) if side.is_limited() => {
                    records.extend(side.limits_that_log().map(|r| self.record(side, None, r)));
                }
                (verdict, _) if side.logs() => {
                    let other = sides.iter().any(Side::is_limited);
                    // somebody else's limit is told by the one whose it is
                    if !(verdict == Action::Deny && self.allowed && other) {
                        let text = words::no_rule(verdict, self.allowed).to_owned();
                        let reason = Reason { at: None, text };
                        records.push(self.record(side, None, reason));
                    }
                }
                _ => {}
            }
        }
        records
    }

    /// What the files on trial have to say.
    fn tried(&self) -> Vec<Record> {
        let on_trial: BTreeSet<&str> = self
            .policies
            .0
            .values()
            .filter(|file| file.mode == Mode::Audit)
            .map(|file| file.file.as_str())
            .collect();
        // Where the kernel said otherwise than the rules in force, it was not them that decided.
        if on_trial.is_empty() || self.allowed != (self.verdict == Action::Allow) {
            return Vec::new();
        }
        let trial = self.policies.on_trial();
        let would = oracle::allows(self.world, &trial, &self.flow);
        if would == self.allowed {
            return Vec::new();
        }
        let now = self.sides(&self.policies);
        let then = self.sides(&trial);
        let changed = now
            .iter()
            .zip(&then)
            .filter(|(now, then)| then.allowed == would && now.allowed != then.allowed);
        let would = if would { Action::Allow } else { Action::Deny };
        changed
            .map(|(_, side)| {
                let reason =
                    side.decisive(&self.flow, |file| on_trial.contains(file.file.as_str()));
                self.record(side, Some(would), reason)
            })
            .collect()
    }

    fn record(&self, side: &Side<'_>, would: Option<Action>, reason: Reason<'_>) -> Record {
        Record {
            container: side.owner.name.container_name(),
            zone: side.owner.zone.clone(),
            direction: side.direction,
            verdict: self.verdict,
            would,
            file: reason.at.map(|(file, _)| file.file.clone()),
            at: reason.at.map(|(_, at)| at),
            text: reason.text,
            from: self.ends.0.clone(),
            to: self.ends.1.clone(),
            traffic: self.flow.traffic,
            family: self.flow.family,
            published: self.flow.published,
        }
    }
}

fn container(party: Party<'_>) -> Option<&Container> {
    match party.who {
        Who::Container(container) => Some(container),
        _ => None,
    }
}

fn end(party: Party<'_>, address: IpAddr) -> End {
    let who = match party.who {
        Who::Container(c) => Whose::Container(c.name.container_name(), c.zone.clone()),
        Who::Host => Whose::Host,
        _ if address.is_loopback() => Whose::Host,
        Who::World => Whose::World,
        Who::Unused(_) | Who::Special => Whose::Other,
    };
    End { who, address }
}
