//! Asks about a container and what is none: the host, the world, and networks that rules name.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::classes::{self, Class, Kind};
use super::delta::Delta;
use super::groups::Group;
use super::judge::Judge;
use super::pairs::{Answer, Asking, Slot, ends, labelled, pieces, ways};
use super::traffic::Pieces;
use super::{End, Way};
use crate::model::{Endpoint, World};
use crate::oracle;
use crate::policy::Peer;
use crate::sets::{Direction, Family};

/// A container's side of the questions.
struct Side<'a> {
    own: &'a Endpoint,
    names: &'a BTreeSet<End>,
    direction: Direction,
    delta: &'a Delta<'a>,
    pieces: &'a Pieces,
    touched: &'a [bool],
    ways: &'a [Way],
}

impl Asking<'_> {
    /// Asks what becomes of connections between a group and everything that is no container.
    pub(super) fn outside(&mut self, group: &Group<'_>, direction: Direction, delta: &Delta<'_>) {
        if !self.goes_on() {
            return;
        }
        let pieces = pieces(&[(group, direction)], group);
        let touched: Vec<bool> = pieces.iter().map(|piece| delta.touches(piece)).collect();
        let named = networks(group, direction);
        let gateways = gateways(self.world, group);
        let classes = classes::of(self.world, &self.addresses, &gateways, &named);
        let direct = [Way::Direct];
        let ways = match direction {
            Direction::Egress => &direct,
            Direction::Ingress => ways(group),
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut judge = Judge::new(&mut scratch, &[group]);
        for (names, own) in ends(group) {
            let side = Side {
                own: &own,
                names: &names,
                direction,
                delta,
                pieces: &pieces,
                touched: &touched,
                ways,
            };
            let mut answered: Vec<(&Class, Vec<Slot>)> = classes
                .iter()
                .filter(|class| reaches(class.kind, direction))
                .map(|class| {
                    let peer = Endpoint::Address(class.one);
                    (class, self.slots(&mut judge, &side, &peer, &[class.family]))
                })
                .collect();
            for (peer, kinds) in [
                (Endpoint::World, &[Kind::World][..]),
                (Endpoint::Host, &[Kind::Host, Kind::Loopback]),
            ] {
                let slots = self.slots(&mut judge, &side, &peer, &Family::ALL);
                self.general(&side, &peer, &slots, kinds, &mut answered);
                if peer == Endpoint::World && direction == Direction::Egress {
                    self.names(&mut judge, &side, group, &named, &slots);
                }
            }
            for (class, slots) in answered {
                for label in labelled(&slots, pieces.len()) {
                    let end = match class.kind {
                        Kind::Host | Kind::Loopback => End::HostAt,
                        _ => End::Net,
                    };
                    let peers = class.nets().into_iter().map(end).collect();
                    let (from, to) = side.order(names.clone(), peers);
                    self.rows.push(label.row(&slots, &pieces, from, to));
                }
            }
        }
        self.spend(judge.asked);
        self.scratch = scratch;
    }

    /// Rows about names of the world. What happens to all of the world is told of that.
    fn names(
        &mut self,
        judge: &mut Judge<'_>,
        side: &Side<'_>,
        group: &Group<'_>,
        named: &BTreeSet<IpNet>,
        of_world: &[Slot],
    ) {
        let patterns = patterns(group);
        if patterns.is_empty() {
            return;
        }
        let one =
            |family| classes::unnamed(self.world, named, family, &[]).map(|one| (family, one));
        let ones: Vec<(Family, IpAddr)> = Family::ALL.into_iter().filter_map(one).collect();
        let addresses: Vec<IpAddr> = ones.iter().map(|(_, one)| *one).collect();
        for pattern in patterns {
            // `*.example.org` is beneath `example.org` itself, and no file can name it otherwise.
            judge.resolved(&group.one.name, pattern, &addresses);
            let mut slots = Vec::new();
            for (family, one) in &ones {
                let peer = Endpoint::Address(*one);
                slots.extend(self.slots(judge, side, &peer, &[*family]));
            }
            for slot in &mut slots {
                let same = |other: &&Slot| (other.family, other.way) == (slot.family, slot.way);
                let Some(world) = of_world.iter().find(same) else {
                    continue;
                };
                for (answer, world) in slot.answers.iter_mut().zip(&world.answers) {
                    if self.becomes_alike(*answer, *world) {
                        *answer = Answer::Same;
                    }
                }
            }
            for label in labelled(&slots, side.pieces.len()) {
                let end = BTreeSet::from([End::Name(pattern.to_owned())]);
                let (from, to) = side.order(side.names.clone(), end);
                self.rows.push(label.row(&slots, side.pieces, from, to));
            }
        }
        judge.resolved(&group.one.name, "", &[]);
    }

    fn slots(
        &mut self,
        judge: &mut Judge<'_>,
        side: &Side<'_>,
        peer: &Endpoint,
        families: &[Family],
    ) -> Vec<Slot> {
        let mut slots = Vec::new();
        for family in families {
            let party = oracle::party(judge.world(), peer, side.own, *family);
            let about = party.is_ok_and(|party| side.delta.is_about(party, *family));
            let nothing = vec![false; side.pieces.len()];
            let touched = if about { side.touched } else { &nothing };
            let (from, to) = side.order(side.own, peer);
            for way in side.ways {
                let question = (from, to, *family, *way);
                slots.extend(self.ask(judge, question, side.pieces, touched));
            }
        }
        slots
    }

    /// Rows about the world or the host as a whole. Classes to which the same happens are a part of it and
    /// have no rows of their own; the others are excepted.
    fn general(
        &mut self,
        side: &Side<'_>,
        peer: &Endpoint,
        slots: &[Slot],
        kinds: &[Kind],
        answered: &mut [(&Class, Vec<Slot>)],
    ) {
        let reached = |class: &Class| {
            kinds.contains(&class.kind) && slots.iter().any(|s| s.family == class.family)
        };
        for label in labelled(slots, side.pieces.len()) {
            let mut except: Vec<IpNet> = Vec::new();
            for (class, own) in answered.iter_mut() {
                if !reached(class) || label.family.is_some_and(|family| family != class.family) {
                    continue;
                }
                let changed = Answer::Changed(label.decision);
                let pieces = || (0..side.pieces.len()).filter(|piece| label.within[*piece]);
                let as_here = |slot: &Slot| {
                    pieces().all(|piece| matches!(slot.answers[piece], a if a == changed || a == Answer::CannotBe))
                };
                let named = own.iter().filter(|slot| label.names(slot));
                let wanted = slots
                    .iter()
                    .filter(|s| label.names(s) && s.family == class.family);
                if named.clone().count() != wanted.count() || !named.clone().all(as_here) {
                    except.extend(class.wide_nets());
                    continue;
                }
                for slot in own.iter_mut().filter(|slot| label.names(slot)) {
                    for piece in pieces() {
                        slot.answers[piece] = match slot.answers[piece] {
                            Answer::Changed(_) => Answer::Same,
                            other => other,
                        };
                    }
                }
            }
            let except = IpNet::aggregate(&except);
            let end = match peer {
                Endpoint::World => End::World { except },
                _ => End::Host { except },
            };
            let (from, to) = side.order(side.names.clone(), BTreeSet::from([end]));
            self.rows.push(label.row(slots, side.pieces, from, to));
        }
    }
}

impl Side<'_> {
    /// Client and server.
    fn order<T>(&self, own: T, peer: T) -> (T, T) {
        match self.direction {
            Direction::Egress => (own, peer),
            Direction::Ingress => (peer, own),
        }
    }
}

/// Whether something comes from, or goes to, addresses of a kind: nothing goes to loopback, and what comes
/// from an unused address of a zone is forged.
fn reaches(kind: Kind, direction: Direction) -> bool {
    match kind {
        Kind::Loopback => direction == Direction::Ingress,
        Kind::Unused => direction == Direction::Egress,
        Kind::Host | Kind::Special | Kind::World => true,
    }
}

fn gateways(world: &World, group: &Group<'_>) -> Vec<IpAddr> {
    let zone = world.zones.get(&group.one.zone);
    let gateways = zone.map(|z| [z.gateway4.map(IpAddr::V4), z.gateway6.map(IpAddr::V6)]);
    gateways.into_iter().flatten().flatten().collect()
}

/// The names that rules are about.
fn patterns<'a>(group: &Group<'a>) -> BTreeSet<&'a str> {
    let sections = group
        .lanes
        .iter()
        .flat_map(|lane| lane.sections(Direction::Egress, true));
    let peers = sections
        .flat_map(|(_, section)| &section.rules)
        .flat_map(|rule| &rule.peers);
    peers
        .filter_map(|peer| match peer {
            Peer::Dns(pattern) => Some(pattern.as_str()),
            _ => None,
        })
        .collect()
}

/// The networks that rules of a direction name.
fn networks(group: &Group<'_>, direction: Direction) -> BTreeSet<IpNet> {
    let sections = group
        .lanes
        .iter()
        .flat_map(|lane| lane.sections(direction, true));
    let peers = sections
        .flat_map(|(_, section)| &section.rules)
        .flat_map(|rule| &rule.peers);
    peers
        .filter_map(|peer| match peer {
            Peer::Net(net) => Some(*net),
            _ => None,
        })
        .collect()
}
