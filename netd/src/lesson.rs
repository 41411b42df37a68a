//! What was learned of a container, as it is kept in `STATE/learned/NAME.json`.
//!
//! The daemon writes it (`daemon/decisions/learned.rs`), `netd policy learn` reads it and makes a policy
//! of it: that can be long, and nobody else should have to wait for it.

use std::io;
use std::path::Path;

use firewall::learn::{Kind, Learned, Peer, Times};
use firewall::policy::Ports;
use firewall::rfc3339;
use firewall::sets::{Action, Direction};
use serde::{Deserialize, Serialize};

/// Connections of one kind that a container was seen with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// `egress` or `ingress`.
    pub(crate) direction: String,
    /// `allow` or `deny`: what became of them.
    pub(crate) verdict: String,
    /// Who was at the other end: `container`, `host`, `world`, or `other`.
    pub(crate) who: String,
    pub(crate) container: Option<String>,
    /// The container's.
    pub(crate) zone: Option<String>,
    /// Of what is neither a container nor the host.
    pub(crate) address: Option<String>,
    /// With what: `tcp/5432`.
    pub(crate) traffic: String,
    /// How often, at least.
    pub(crate) count: u64,
    /// RFC 3339.
    pub(crate) first: String,
    pub(crate) last: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    more: bool,
    lost: u64,
    seen: Vec<Seen>,
}

/// Reads a file; nothing was learned where there is none.
pub(crate) fn read(path: &Path) -> io::Result<Learned> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice::<Document>(&bytes)?.into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Learned::default()),
        Err(e) => Err(e),
    }
}

/// Writes a file: whole, or not at all.
pub(crate) fn write(path: &Path, learned: &Learned) -> io::Result<()> {
    let document = Document {
        more: learned.more,
        lost: learned.lost,
        seen: seen(learned),
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let aside = path.with_extension("json.new");
    std::fs::write(&aside, serde_json::to_vec(&document)?)
        .and_then(|()| std::fs::rename(&aside, path))
        .inspect_err(|_| drop(std::fs::remove_file(&aside)))
}

/// Row by row.
pub(crate) fn seen(learned: &Learned) -> Vec<Seen> {
    let row = |(kind, times): (&Kind, &Times)| {
        let (who, container, zone, address) = match &kind.peer {
            Peer::Container(zone, name) => ("container", Some(name), Some(zone), None),
            Peer::Host => ("host", None, None, None),
            Peer::World(address) => ("world", None, None, Some(address)),
            Peer::Address(address) => ("other", None, None, Some(address)),
        };
        Seen {
            direction: kind.direction.as_str().to_owned(),
            verdict: kind.verdict.as_str().to_owned(),
            who: who.to_owned(),
            container: container.map(ToString::to_string),
            zone: zone.map(ToString::to_string),
            address: address.map(ToString::to_string),
            traffic: kind.ports.to_string(),
            count: times.count,
            first: rfc3339::millis(times.first),
            last: rfc3339::millis(times.last),
        }
    };
    learned.kinds.iter().map(row).collect()
}

impl From<Document> for Learned {
    /// A row that cannot be understood is left out.
    fn from(document: Document) -> Self {
        Self {
            kinds: document.seen.iter().filter_map(kind).collect(),
            more: document.more,
            lost: document.lost,
        }
    }
}

fn kind(row: &Seen) -> Option<(Kind, Times)> {
    let peer = match row.who.as_str() {
        "container" => {
            let name = row.container.as_ref()?.parse().ok()?;
            Peer::Container(row.zone.as_ref()?.parse().ok()?, name)
        }
        "host" => Peer::Host,
        "world" => Peer::World(row.address.as_ref()?.parse().ok()?),
        "other" => Peer::Address(row.address.as_ref()?.parse().ok()?),
        _ => return None,
    };
    let mut directions = Direction::ALL.into_iter();
    let mut verdicts = [Action::Allow, Action::Deny].into_iter();
    let kind = Kind {
        direction: directions.find(|d| d.as_str() == row.direction)?,
        verdict: verdicts.find(|v| v.as_str() == row.verdict)?,
        peer,
        ports: Ports::from(firewall::explain::traffic(&row.traffic).ok()?),
    };
    let times = Times {
        count: row.count,
        first: rfc3339::parse(&row.first)?,
        last: rfc3339::parse(&row.last)?,
    };
    Some((kind, times))
}
