//! What containers were seen doing, kept in a file each: `STATE/learned/NAME.json`.
//!
//! It outlives the daemon and the rotation of the log. A file is read when its container is first seen or
//! asked for, and written soon after it changed; a daemon that is killed forgets the last second.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use firewall::learn::{Kind, Learned, Peer, Times};
use firewall::policy::Ports;
use firewall::rfc3339;
use firewall::sets::{Action, Direction};
use serde::{Deserialize, Serialize};
use zone::ContainerName;

use crate::api::Seen;

/// How many containers are kept in memory while nothing is seen of them.
const IDLE: usize = 16;

/// Everything learned.
pub(super) struct Lessons {
    dir: PathBuf,
    known: BTreeMap<ContainerName, Learned>,
    changed: BTreeSet<ContainerName>,
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    more: bool,
    lost: u64,
    seen: Vec<Seen>,
}

impl Lessons {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            known: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    fn path(&self, container: &ContainerName) -> PathBuf {
        self.dir.join(format!("{container}.json"))
    }

    fn known(&mut self, container: &ContainerName) -> &mut Learned {
        let path = self.path(container);
        self.known
            .entry(container.clone())
            .or_insert_with(|| read(&path))
    }

    /// Something was seen, and `lost` decisions before it were not.
    pub(super) fn note(
        &mut self,
        container: &ContainerName,
        kind: Kind,
        time: SystemTime,
        lost: u64,
    ) {
        let learned = self.known(container);
        learned.lost = learned.lost.saturating_add(lost);
        learned.note(kind, time);
        if !self.changed.contains(container) {
            self.changed.insert(container.clone());
        }
    }

    /// What was learned of a container; nothing if nothing was.
    pub(super) fn of(&mut self, container: &ContainerName) -> Learned {
        let learned = self.known(container).clone();
        self.leave_idle();
        learned
    }

    /// Begins anew. Whether there was something to forget.
    pub(super) fn forget(&mut self, container: &ContainerName) -> io::Result<bool> {
        let known = self
            .known
            .remove(container)
            .is_some_and(|l| !l.kinds.is_empty());
        self.changed.remove(container);
        match std::fs::remove_file(self.path(container)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(known),
            Err(e) => Err(e),
        }
    }

    /// Whether something is not written yet.
    pub(super) fn waits(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes what changed; what cannot be written is tried again next time.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut first_error = Ok(());
        for container in std::mem::take(&mut self.changed) {
            let Some(learned) = self.known.get(&container) else {
                continue;
            };
            if let Err(e) = write(&self.path(&container), learned) {
                self.changed.insert(container);
                first_error = first_error.and(Err(e));
            }
        }
        self.leave_idle();
        first_error
    }

    fn leave_idle(&mut self) {
        if self.known.len() > IDLE {
            let changed = &self.changed;
            self.known
                .retain(|container, _| changed.contains(container));
        }
    }
}

fn read(path: &Path) -> Learned {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                tracing::error!(file = %path.display(), error = %e, "what was learned cannot be read");
            }
            return Learned::default();
        }
    };
    match serde_json::from_slice::<Document>(&bytes) {
        Ok(document) => document.into(),
        Err(e) => {
            tracing::error!(file = %path.display(), error = %e, "what was learned cannot be read");
            Learned::default()
        }
    }
}

/// Whole, or not at all.
fn write(path: &Path, learned: &Learned) -> io::Result<()> {
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

/// As the control socket and the file have it.
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
            count: i64::try_from(times.count).unwrap_or(i64::MAX),
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
        count: u64::try_from(row.count).ok()?,
        first: rfc3339::parse(&row.first)?,
        last: rfc3339::parse(&row.last)?,
    };
    Some((kind, times))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use firewall::model::Traffic;

    use super::*;
    use crate::decision::tests::record;

    fn web() -> ContainerName {
        "web".parse().unwrap()
    }

    fn kinds() -> Vec<Kind> {
        let of = |traffic, verdict| Kind::of(&record(traffic, verdict));
        let mut kinds = vec![
            of(Traffic::Port(6, 80), Action::Allow),
            of(Traffic::Icmp(8), Action::Deny),
            of(Traffic::Proto(200), Action::Allow),
        ];
        for peer in [
            Peer::Host,
            Peer::World("2001:db8::7".parse().unwrap()),
            Peer::Address("224.0.0.1".parse().unwrap()),
        ] {
            kinds.push(Kind {
                peer,
                direction: Direction::Ingress,
                ..kinds[0].clone()
            });
        }
        kinds
    }

    #[test]
    fn what_was_learned_outlives_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("learned");
        let mut lessons = Lessons::new(folder.clone());
        for (n, kind) in kinds().into_iter().enumerate() {
            let time = UNIX_EPOCH + Duration::from_millis(1000 * n as u64 + 7);
            lessons.note(&web(), kind.clone(), time, n as u64);
            lessons.note(&web(), kind, time + Duration::from_secs(60), 0);
        }
        let before = lessons.of(&web());
        assert_eq!((before.kinds.len(), before.lost), (6, 15));
        assert!(lessons.waits());
        lessons.flush().unwrap();
        assert!(!lessons.waits());
        let mut after = Lessons::new(folder.clone());
        assert_eq!(after.of(&web()), before);
        assert!(after.forget(&web()).unwrap());
        assert!(!after.forget(&web()).unwrap());
        assert_eq!(Lessons::new(folder).of(&web()), Learned::default());
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none_and_a_row_of_another_version_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        std::fs::write(&path, "{\"more\":").unwrap();
        let mut lessons = Lessons::new(dir.path().to_owned());
        assert_eq!(lessons.of(&web()), Learned::default());
        lessons.note(&web(), kinds()[0].clone(), UNIX_EPOCH, 0);
        lessons.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("tcp/80", "tcp/eighty")).unwrap();
        assert!(
            Lessons::new(dir.path().to_owned())
                .of(&web())
                .kinds
                .is_empty()
        );
    }

    #[test]
    fn those_of_whom_nothing_is_seen_leave_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut lessons = Lessons::new(dir.path().to_owned());
        for n in 0..100 {
            let name = format!("c{n}").parse().unwrap();
            lessons.note(&name, kinds()[0].clone(), UNIX_EPOCH, 0);
        }
        lessons.flush().unwrap();
        assert!(lessons.known.len() <= IDLE);
        assert_eq!(lessons.of(&"c5".parse().unwrap()).kinds.len(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("learned");
        std::fs::write(&folder, "in the way").unwrap();
        let mut lessons = Lessons::new(folder.clone());
        lessons.note(&web(), kinds()[0].clone(), UNIX_EPOCH, 0);
        assert!(lessons.flush().is_err() && lessons.waits());
        std::fs::remove_file(&folder).unwrap();
        lessons.flush().unwrap();
        assert!(folder.join("web.json").exists());
    }
}
