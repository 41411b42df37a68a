//! How much a container may send and receive in a second.
//!
//! ```text
//! files in force that apply ─┐
//! what a runtime asked for ──┴─► the lowest of each direction ─► kernel::bandwidth, on the container's port
//! ```
//!
//! As with rules, files add up: each of them holds, so the lowest rate of a direction is the one that is felt.

use std::fmt;

use serde::{Deserialize, Serialize};
use zone::PortName;

use crate::diagnostics::Position;
use crate::model::World;
use crate::policy::{PolicyFile, PolicySet};
use crate::sets::Direction;

/// The lowest rate, in bits a second.
pub const LEAST: u64 = 1_000;
/// The highest rate, in bits a second.
pub const MOST: u64 = 1_000_000_000_000;
/// The smallest bucket, in bytes: a packet of any network fits.
pub const LEAST_BURST: u64 = 2_048;
/// The largest bucket, in bytes.
pub const MOST_BURST: u64 = 1 << 30;

/// A rate of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Bits a second, from [`LEAST`] to [`MOST`]. Frames count whole, with their Ethernet header.
    pub rate: u64,
    /// Bytes that may go at once after a rest, from [`LEAST_BURST`] to [`MOST_BURST`]. `None`: what suits the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

impl Shape {
    /// The one that lets less through.
    fn lower(self, other: Self) -> Self {
        let key = |shape: &Self| (shape.rate, shape.bucket());
        if key(&other) < key(&self) {
            other
        } else {
            self
        }
    }

    /// The size of the bucket in bytes: what was asked for; else ten milliseconds of the rate, so that timers
    /// cost nothing of it, and a few packets at least.
    pub fn bucket(&self) -> u64 {
        const FEW_PACKETS: u64 = 16 << 10;
        self.burst
            .unwrap_or_else(|| (self.rate / 8 / 100).clamp(FEW_PACKETS, MOST_BURST))
    }
}

impl fmt::Display for Shape {
    /// As policy files write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (1_000_000_000, "gbit"),
            (1_000_000, "mbit"),
            (1_000, "kbit"),
        ];
        let unit = units
            .into_iter()
            .find(|(size, _)| self.rate.is_multiple_of(*size));
        let (size, word) = unit.unwrap_or((1, "bit"));
        write!(f, "{}{word}", self.rate / size)?;
        match self.burst {
            None => Ok(()),
            Some(bytes) if bytes.is_multiple_of(1 << 20) => write!(f, " burst {}mb", bytes >> 20),
            Some(bytes) if bytes.is_multiple_of(1 << 10) => write!(f, " burst {}kb", bytes >> 10),
            Some(bytes) => write!(f, " burst {bytes}b"),
        }
    }
}

/// What holds for a container. `ingress` is what comes to it, `egress` what it sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// To the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Shape>,
    /// From the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Shape>,
}

impl Bandwidth {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// One direction.
    pub fn of(&self, direction: Direction) -> Option<Shape> {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }

    /// Both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = |a: Option<Shape>, b: Option<Shape>| match (a, b) {
            (Some(a), Some(b)) => Some(a.lower(b)),
            (a, b) => a.or(b),
        };
        Self {
            ingress: both(self.ingress, other.ingress),
            egress: both(self.egress, other.egress),
        }
    }
}

impl fmt::Display for Bandwidth {
    /// `ingress 100mbit, egress 20mbit burst 256kb`, or `unlimited`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways = Direction::ALL.map(|direction| Some((direction, self.of(direction)?)));
        let mut ways = ways.into_iter().flatten().peekable();
        if ways.peek().is_none() {
            return write!(f, "unlimited");
        }
        while let Some((direction, shape)) = ways.next() {
            let more = if ways.peek().is_some() { ", " } else { "" };
            write!(f, "{} {shape}{more}", direction.as_str())?;
        }
        Ok(())
    }
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Of what comes to the containers, and where it says so.
    pub ingress: Option<(Shape, Position)>,
    /// Of what they send, and where it says so.
    pub egress: Option<(Shape, Position)>,
}

impl Limits {
    /// One direction.
    pub fn of(&self, direction: Direction) -> Option<(Shape, Position)> {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }

    fn bandwidth(&self) -> Bandwidth {
        Bandwidth {
            ingress: self.ingress.map(|(shape, _)| shape),
            egress: self.egress.map(|(shape, _)| shape),
        }
    }
}

/// What these files, all of which apply, come to.
pub fn of_files<'a>(files: impl IntoIterator<Item = &'a PolicyFile>) -> Bandwidth {
    let limits = files.into_iter().filter_map(|file| file.bandwidth.as_ref());
    limits.fold(Bandwidth::default(), |all, limits| {
        all.and(limits.bandwidth())
    })
}

/// A limit that is felt, and the file that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Felt<'a> {
    /// Which way.
    pub direction: Direction,
    /// How much.
    pub shape: Shape,
    /// The file.
    pub file: &'a PolicyFile,
    /// Where in it.
    pub at: Position,
}

/// Of each direction the lowest limit of these files, all of which apply; the first of equal ones.
pub fn felt<'a>(files: impl IntoIterator<Item = &'a PolicyFile>) -> Vec<Felt<'a>> {
    let files: Vec<_> = files.into_iter().collect();
    let of = |direction: Direction| {
        let limits = files.iter().filter_map(move |file| {
            let (shape, at) = file.bandwidth.as_ref()?.of(direction)?;
            Some(Felt {
                direction,
                shape,
                file,
                at,
            })
        });
        limits.min_by_key(|felt| (felt.shape.rate, felt.shape.bucket()))
    };
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .filter_map(of)
        .collect()
}

/// What becomes of one direction of a container under other policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The container, by its port.
    pub container: PortName,
    /// Which way.
    pub direction: Direction,
    /// Now; `None`: as much as there is.
    pub before: Option<Shape>,
    /// Under the other policies.
    pub after: Option<Shape>,
}

/// Limits that would change with other policies, in the order of names.
pub fn difference(world: &World, old: &PolicySet, new: &PolicySet) -> Vec<Change> {
    let limiting = |set: &PolicySet| {
        let files = set.0.iter().filter(|(_, file)| file.bandwidth.is_some());
        PolicySet(files.map(|(k, f)| (k.clone(), f.clone())).collect())
    };
    let (old, new) = (limiting(old), limiting(new));
    let mut changes = Vec::new();
    for container in world.containers.values() {
        let before = of_files(old.applying(container));
        let after = of_files(new.applying(container));
        for direction in [Direction::Ingress, Direction::Egress] {
            if before.of(direction) != after.of(direction) {
                changes.push(Change {
                    container: container.name.clone(),
                    direction,
                    before: before.of(direction),
                    after: after.of(direction),
                });
            }
        }
    }
    changes
}
