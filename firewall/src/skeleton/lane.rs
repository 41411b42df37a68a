//! How the two sides of a connection are looked up: by family, and whole or by prefix. See "Lanes" in [`super::judge`].

use super::ir::*;
use crate::sets::{Direction, Family, SetId};

/// How the owner of the rules that are asked is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// By its IPv4 address.
    V4,
    /// By its IPv6 address.
    V6,
    /// By its IPv6 prefix.
    Prefix,
}

impl Lane {
    pub(super) const ALL: [Lane; 3] = [Lane::V4, Lane::V6, Lane::Prefix];

    /// Those of a family.
    pub(super) fn of(f: Family) -> &'static [Lane] {
        match f {
            Family::V4 => &[Lane::V4],
            Family::V6 => &[Lane::V6, Lane::Prefix],
        }
    }

    pub(super) fn family(self) -> Family {
        match self {
            Lane::V4 => Family::V4,
            Lane::V6 | Lane::Prefix => Family::V6,
        }
    }

    /// In names of chains: `4`, `6`, `6p`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Lane::V4 => "4",
            Lane::V6 => "6",
            Lane::Prefix => "6p",
        }
    }

    /// What this side of the connection is looked up as.
    pub(super) fn load(self, side: Side) -> Load {
        match self {
            Lane::V4 | Lane::V6 => side.whole(self.family()),
            Lane::Prefix => side.prefix(),
        }
    }
}

/// A side of a connection.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) fn whole(self, f: Family) -> Load {
        match self {
            Side::Client => Load::Ct(Ct::Client(f)),
            Side::Server => Load::Ct(Ct::Server(f)),
        }
    }

    pub(super) fn prefix(self) -> Load {
        match self {
            Side::Client => Load::Prefix(Half::Client),
            Side::Server => Load::Prefix(Half::Server),
        }
    }

    /// Whether it is a container that is known in this way.
    pub(super) fn is_own(self, lane: Lane) -> Step {
        Step::In(vec![lane.load(self)], SetId::Own(lane.family()))
    }

    /// Nothing but steps that say that it is no container.
    pub(super) fn is_not_own(self, f: Family) -> impl Iterator<Item = Step> {
        let lanes = Lane::of(f).iter();
        lanes.map(move |lane| Step::NotIn(vec![lane.load(self)], SetId::Own(f)))
    }
}

/// `eg4`, `in6`, `eg6p`, …
pub(super) fn prefix(d: Direction, f: Lane) -> String {
    let way = match d {
        Direction::Egress => "eg",
        Direction::Ingress => "in",
    };
    format!("{way}{}", f.word())
}

/// The side whose rules are asked, and the other one.
pub(super) fn own_side(d: Direction) -> [Side; 2] {
    match d {
        Direction::Egress => [Side::Client, Side::Server],
        Direction::Ingress => [Side::Server, Side::Client],
    }
}

pub(super) fn peer(d: Direction, f: Family) -> Load {
    own_side(d)[1].whole(f)
}

/// The peer's prefix, in lanes where it may be known by that.
pub(super) fn peer_prefix(d: Direction, f: Lane) -> Option<Load> {
    (f.family() == Family::V6).then(|| own_side(d)[1].prefix())
}

/// (own, peer): the container whose rules are asked, and the other side.
pub(super) fn sides(d: Direction, f: Lane) -> (Load, Load) {
    (f.load(own_side(d)[0]), peer(d, f.family()))
}
