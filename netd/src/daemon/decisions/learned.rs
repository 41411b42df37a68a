//! What containers were seen doing, kept in a file each.
//!
//! It outlives the daemon and the rotation of the log. A file is read when its container is first seen or
//! asked for, and written soon after it changed; a daemon that is killed forgets the last second.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use firewall::learn::{Kind, Learned};
use zone::ContainerName;

use crate::lesson;

/// How many containers are kept in memory while nothing is seen of them.
const IDLE: usize = 16;

/// Everything learned.
pub(super) struct Lessons {
    dir: PathBuf,
    known: BTreeMap<ContainerName, Learned>,
    changed: BTreeSet<ContainerName>,
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
            .or_insert_with(|| {
                lesson::read(&path).unwrap_or_else(|e| {
                    tracing::error!(file = %path.display(), error = %e, "what was learned cannot be read");
                    Learned::default()
                })
            })
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

    /// Sees to it that the file has what was learned of a container. Whether there is something.
    pub(super) fn save(&mut self, container: &ContainerName) -> io::Result<bool> {
        if self.changed.contains(container) {
            lesson::write(&self.path(container), self.known(container))?;
            self.changed.remove(container);
        }
        let there = !self.known(container).kinds.is_empty();
        self.leave_idle();
        Ok(there)
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
            if let Err(e) = lesson::write(&self.path(&container), learned) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use firewall::learn::Peer;
    use firewall::model::Traffic;
    use firewall::sets::{Action, Direction};

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
        let before = lessons.known(&web()).clone();
        assert_eq!((before.kinds.len(), before.lost), (6, 15));
        assert!(lessons.waits());
        lessons.flush().unwrap();
        assert!(!lessons.waits());
        let file = folder.join("web.json");
        assert_eq!(lesson::read(&file).unwrap(), before);
        // whoever asks gets what was not written yet, too
        let mut after = Lessons::new(folder);
        after.note(&web(), kinds()[0].clone(), UNIX_EPOCH, 1);
        assert!(after.save(&web()).unwrap() && !after.waits());
        assert_eq!(lesson::read(&file).unwrap().lost, 16);
        assert!(after.forget(&web()).unwrap());
        assert!(!after.forget(&web()).unwrap());
        assert_eq!(lesson::read(&file).unwrap(), Learned::default());
        assert!(!after.save(&web()).unwrap());
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none_and_a_row_of_another_version_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        std::fs::write(&path, "{\"more\":").unwrap();
        let mut lessons = Lessons::new(dir.path().to_owned());
        assert!(!lessons.save(&web()).unwrap());
        lessons.note(&web(), kinds()[0].clone(), UNIX_EPOCH, 0);
        lessons.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("tcp/80", "tcp/eighty")).unwrap();
        assert!(lesson::read(&path).unwrap().kinds.is_empty());
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
        assert_eq!(lessons.known(&"c5".parse().unwrap()).kinds.len(), 1);
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
