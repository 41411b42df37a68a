//! What a container was seen doing, and the policy that would allow it.
//!
//! ```text
//! records ─► Learned (each kind once, with count and times) ─► policy() ─► a file for people to read
//! ```
//!
//! What is kept is bounded: [`MAX_KINDS`] kinds of connections for each container. Ports that were asked
//! in vain are not what a container needs: what was refused is kept apart and never becomes a rule.

mod write;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use zone::{ContainerName, ZoneName};

use crate::policy::Ports;
use crate::sets::{Action, Direction};
use crate::trial::{Record, Whose};

pub use write::{ENOUGH, policy};

/// How many kinds of connections are kept of one container.
pub const MAX_KINDS: usize = 4096;

/// The other side of a connection, as a policy can name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// A container, in its zone.
    Container(ZoneName, ContainerName),
    /// The host.
    Host,
    /// An address of the world.
    World(IpAddr),
    /// Another address, which only a rule that has it means.
    Address(IpAddr),
}

/// Connections that policies cannot tell apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Whether the container opened them or was asked.
    pub direction: Direction,
    /// What became of them.
    pub verdict: Action,
    /// The other side.
    pub peer: Peer,
    /// With what.
    pub ports: Ports,
}

impl Kind {
    /// Of which kind a recorded connection is.
    pub fn of(record: &Record) -> Self {
        let end = record.peer();
        let peer = match &end.who {
            Whose::Container(name, zone) => Peer::Container(zone.clone(), name.clone()),
            Whose::Host => Peer::Host,
            Whose::World => Peer::World(end.address),
            Whose::Other => Peer::Address(end.address),
        };
        Self {
            direction: record.direction,
            verdict: record.verdict,
            peer,
            ports: record.traffic.into(),
        }
    }
}

/// How often something was seen, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How often at least: not every packet of a burst is recorded.
    pub count: u64,
    /// When first.
    pub first: SystemTime,
    /// When last.
    pub last: SystemTime,
}

impl Times {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

/// What one container was seen doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// Each kind of connection, at most [`MAX_KINDS`].
    pub kinds: BTreeMap<Kind, Times>,
    /// Whether there were more kinds than that.
    pub more: bool,
    /// How many decisions were not recorded, of this container or of any.
    pub lost: u64,
}

impl Learned {
    /// Something was seen.
    pub fn note(&mut self, kind: Kind, time: SystemTime) {
        let once = Times {
            count: 1,
            first: time,
            last: time,
        };
        if let Some(times) = self.kinds.get_mut(&kind) {
            *times = times.and(once);
        } else if self.kinds.len() < MAX_KINDS {
            self.kinds.insert(kind, once);
        } else {
            self.more = true;
        }
    }

    /// Only what was seen last at a time or after it.
    pub fn since(mut self, time: SystemTime) -> Self {
        self.kinds.retain(|_, times| times.last >= time);
        self
    }

    /// Whether a direction was seen.
    pub fn saw(&self, direction: Direction) -> bool {
        self.kinds.keys().any(|kind| kind.direction == direction)
    }
}
