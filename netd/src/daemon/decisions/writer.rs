//! The thread: limits, writes, learns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firewall::learn::Kind;
use zone::ContainerName;

use super::file::{LARGEST, LogFile};
use super::journal::Journal;
use super::learned::Lessons;
use super::limit::Bucket;
use super::{Batch, Message};
use crate::decision::Decision;

/// How long a line waits for others before it is written. The kernel collects for 50 ms as well.
const LINES: Duration = Duration::from_millis(40);

/// How long what was learned waits before it is written: a file is written whole each time.
const LESSONS: Duration = Duration::from_secs(1);

/// Records a second, and at once, of one container.
const RATE: (u32, u32) = (100, 1_000);

/// Containers whose limits are remembered; those of more begin anew.
const LIMITS: usize = 4_096;

/// How often a container may be recorded, and what was not since it was last.
struct Gate {
    bucket: Bucket,
    lost: u64,
}

pub(super) struct Writer {
    path: PathBuf,
    file: LogFile,
    journal: Journal,
    lessons: Lessons,
    gates: HashMap<ContainerName, Gate>,
    /// Lost before the next record, of whichever container.
    lost: u64,
    /// The same, before the next lesson.
    unlearned: u64,
    failure: Arc<Mutex<Option<String>>>,
    lines_due: Option<Instant>,
    lessons_due: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        log: &Path,
        learned: &Path,
        journal: &Path,
        failure: Arc<Mutex<Option<String>>>,
    ) -> Self {
        Self {
            path: log.to_owned(),
            file: LogFile::new(log.to_owned(), LARGEST),
            journal: Journal::new(journal),
            lessons: Lessons::new(learned.to_owned()),
            gates: HashMap::new(),
            lost: 0,
            unlearned: 0,
            failure,
            lines_due: None,
            lessons_due: None,
        }
    }

    /// Until nobody can send any more; then everything is written.
    pub(super) fn serve(&mut self, incoming: &Receiver<Message>) {
        loop {
            let due = [self.lines_due, self.lessons_due]
                .into_iter()
                .flatten()
                .min();
            let message = match due {
                None => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => incoming.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            let now = Instant::now();
            match message {
                Ok(message) => self.handle(message, now),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.write_what_is_due(now);
        }
        self.write_lines();
        self.write_lessons();
    }

    fn handle(&mut self, message: Message, now: Instant) {
        match message {
            Message::Batch(batch) => self.record(batch, now),
            // Whoever asked may have gone.
            Message::Save(container, reply) => {
                let _ = reply.send(self.lessons.save(&container));
            }
            Message::Forget(container, reply) => {
                let _ = reply.send(self.lessons.forget(&container));
            }
        }
        let waits = |due: &mut Option<Instant>, waits: bool, patience| {
            *due = waits.then(|| due.unwrap_or(now + patience));
        };
        waits(&mut self.lines_due, self.file.waits(), LINES);
        waits(&mut self.lessons_due, self.lessons.waits(), LESSONS);
    }

    fn record(&mut self, batch: Batch, now: Instant) {
        self.lost += batch.lost;
        self.unlearned += batch.lost;
        for (time, record) in batch.records {
            // What is learned is bounded already: it is not what a flood could fill.
            let unlearned = std::mem::take(&mut self.unlearned);
            self.lessons
                .note(&record.container, Kind::of(&record), time, unlearned);
            if self.gates.len() >= LIMITS && !self.gates.contains_key(&record.container) {
                self.gates.clear();
            }
            let gate = self
                .gates
                .entry(record.container.clone())
                .or_insert_with(|| Gate {
                    bucket: Bucket::new(RATE.0, RATE.1, now),
                    lost: 0,
                });
            if !gate.bucket.take(now) {
                gate.lost += 1;
                continue;
            }
            let lost = std::mem::take(&mut gate.lost) + std::mem::take(&mut self.lost);
            let decision = Decision::new(&record, time, lost);
            self.journal.send(&decision, now);
            match serde_json::to_vec(&decision) {
                Ok(line) => {
                    if self.file.add(&line, 1 + lost) {
                        self.write_lines();
                    }
                }
                Err(e) => tracing::error!(error = %e, "a decision cannot be written as JSON"),
            }
        }
    }

    fn write_what_is_due(&mut self, now: Instant) {
        if self.lines_due.is_some_and(|due| due <= now) {
            self.write_lines();
        }
        if self.lessons_due.is_some_and(|due| due <= now) {
            self.write_lessons();
        }
    }

    fn write_lines(&mut self) {
        self.lines_due = None;
        let result = self.file.flush().map_err(|(lost, e)| {
            self.lost += lost;
            format!("write {}: {e}; decisions are lost", self.path.display())
        });
        self.tell(result.err());
    }

    fn write_lessons(&mut self) {
        self.lessons_due = None;
        if let Err(e) = self.lessons.flush() {
            tracing::debug!(error = %e, "what was learned cannot be written; tried again with the next");
        }
    }

    /// Says a failure once, and that it is over once.
    fn tell(&self, failed: Option<String>) {
        let Ok(mut failure) = self.failure.lock() else {
            return;
        };
        match (&failed, failure.is_some()) {
            (Some(message), false) => tracing::error!("{message}"),
            (None, true) => tracing::info!("decisions are written again"),
            _ => {}
        }
        *failure = failed;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use firewall::model::Traffic;
    use firewall::sets::Action;

    use super::*;
    use crate::decision::tests::record;

    fn writer(dir: &Path) -> Writer {
        let log = dir.join("decisions.jsonl");
        Writer::new(
            &log,
            &dir.join("learned"),
            &dir.join("journal"),
            Arc::default(),
        )
    }

    fn batch(count: usize, lost: u64) -> Batch {
        let one = || record(Traffic::Port(6, 80), Action::Allow);
        Batch {
            records: (0..count).map(|_| (SystemTime::now(), one())).collect(),
            lost,
        }
    }

    fn lines(dir: &Path) -> Vec<Decision> {
        let text = std::fs::read_to_string(dir.join("decisions.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let start = Instant::now();
        writer.record(batch(10_000, 5), start);
        writer.record(batch(1, 0), start + Duration::from_secs(1));
        writer.write_lines();
        let lines = lines(dir.path());
        assert_eq!(lines.len(), 1001);
        let lost: Vec<u64> = lines.iter().map(|line| line.lost).collect();
        assert_eq!((lost[0], lost[1000]), (5, 9000));
        assert!(lost[1..1000].iter().all(|lost| *lost == 0));
        // all of them were learned
        writer.lessons.flush().unwrap();
        let learned = crate::lesson::read(&dir.path().join("learned/web.json")).unwrap();
        assert_eq!(learned.kinds.values().next().unwrap().count, 10_001);
        assert_eq!(learned.lost, 5);
    }

    #[test]
    fn lines_are_written_soon_and_everything_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let now = Instant::now();
        writer.handle(Message::Batch(batch(1, 0)), now);
        assert_eq!(writer.lines_due, Some(now + LINES));
        assert_eq!(writer.lessons_due, Some(now + LESSONS));
        // the second does not put off the first
        writer.handle(Message::Batch(batch(1, 0)), now + LINES / 2);
        writer.write_what_is_due(now + LINES);
        assert_eq!((writer.lines_due, lines(dir.path()).len()), (None, 2));
        let (queue, incoming) = std::sync::mpsc::sync_channel(4);
        queue.send(Message::Batch(batch(1, 0))).unwrap();
        drop(queue);
        writer.serve(&incoming);
        assert_eq!(lines(dir.path()).len(), 3);
        assert!(dir.path().join("learned/web.json").exists());
    }

    #[test]
    fn a_full_disk_is_told_once_and_costs_records_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        writer.file = LogFile::new("/dev/full".into(), LARGEST);
        for _ in 0..3 {
            writer.record(batch(2, 0), Instant::now());
            writer.write_lines();
        }
        let failure = writer.failure.lock().unwrap().clone().unwrap();
        assert!(failure.contains("decisions.jsonl"), "{failure}");
        writer.file = LogFile::new(dir.path().join("decisions.jsonl"), LARGEST);
        writer.record(batch(1, 0), Instant::now());
        writer.write_lines();
        assert_eq!(writer.failure.lock().unwrap().clone(), None);
        assert_eq!(lines(dir.path())[0].lost, 6);
    }
}
