//! The journal of leases: what DHCP acknowledged, durable before the acknowledgement leaves.
//!
//! ```text
//! engine ── Journal::commit(entries) ──► thread: all that waits → one frame → fdatasync ──► every waiter is told
//!        ── begin, entries of all leases, end ──► the next file; when it is whole, the older ones go
//! ```
//!
//! A lease changes with each renewal, thousands of times a second when a crowd comes at once, and nobody ever asks
//! for one on disk but at a start. So these records do not go to the database with the others: a commit there
//! writes whole pages of a tree several times over, here about fifty bytes a lease, and one wait for the disk is
//! shared by all that wait (group commit). Files are read once, at a start, oldest first; later entries win.

mod entry;
mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

pub(crate) use entry::{Entry, push, put};
use file::Appender;

/// A file is not folded before it has this many bytes; from then on when it is four times what it was when whole.
const FOLD: u64 = 1024 * 1024;

/// What goes wrong with the journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The folder cannot be read, or the thread cannot be started.
    #[error("open the journal of leases in {path}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A commit failed: nothing it said is durable.
    #[error("store leases in {path}: {reason}")]
    Commit {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Tells whoever waits for a commit.
pub(crate) type Done = oneshot::Sender<Result<(), JournalError>>;

enum Command {
    /// Append entries; tell when they are durable.
    Write(Vec<u8>, Option<Done>),
    /// Entries go to the next file from now on.
    Begin,
    /// The file tells everything now: the older ones go.
    End,
}

/// What the thread tells about itself.
#[derive(Default)]
struct Shared {
    failed: Mutex<Option<String>>,
    /// A new file should be begun.
    fold: AtomicBool,
    /// Bytes of the current file.
    size: AtomicU64,
}

/// See the [module](self). Dropping it waits for what was queued.
pub(crate) struct Journal {
    queue: Option<mpsc::Sender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// The files that a daemon before us left.
pub(crate) struct Before(Vec<PathBuf>);

impl Before {
    /// Tells every entry, in order. Returns what is wrong with the files, in words.
    pub(crate) fn tell(&self, mut tell: impl FnMut(Entry)) -> Vec<String> {
        let mut wrong = Vec::new();
        for path in &self.0 {
            match file::read(path, &mut tell) {
                Ok(read) if read.damaged == 0 => {}
                Ok(read) => {
                    let kept = path.with_extension("damaged");
                    let aside = match std::fs::copy(path, &kept) {
                        Ok(_) => format!("kept as {}", kept.display()),
                        Err(e) => format!("and cannot be kept: {e}"),
                    };
                    let message = format!(
                        "{} bytes of {} are damaged ({aside}); leases they told of may be forgotten",
                        read.damaged,
                        path.display()
                    );
                    wrong.push(message);
                }
                Err(e) => wrong.push(format!("read {}: {e}", path.display())),
            }
        }
        wrong
    }
}

impl Journal {
    /// Opens the journal in `dir`. Nothing is written before [`Journal::begin`]: until then the entries of the
    /// daemon before are all there is.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Before), JournalError> {
        let failed = |source| JournalError::Open {
            path: dir.to_owned(),
            source,
        };
        let files = file::list(dir).map_err(failed)?;
        let last = files.last().map_or(0, |(number, _)| *number);
        let shared = Arc::new(Shared::default());
        let (queue, incoming) = mpsc::channel();
        let mut writer = Writer {
            dir: dir.to_owned(),
            number: last,
            file: None,
            whole: 0,
            begin: true,
            shared: shared.clone(),
        };
        let thread = thread::Builder::new()
            .name("leases".into())
            .stack_size(256 * 1024)
            .spawn(move || writer.serve(&incoming))
            .map_err(failed)?;
        let journal = Self {
            queue: Some(queue),
            thread: Some(thread),
            shared,
        };
        let before = Before(files.into_iter().map(|(_, path)| path).collect());
        Ok((journal, before))
    }

    /// Queues entries that become durable with the next commit; nobody waits for them.
    pub(crate) fn write(&self, entries: Vec<u8>) {
        self.send(Command::Write(entries, None));
    }

    /// Queues entries, and tells when they are durable.
    pub(crate) fn commit(&self, entries: Vec<u8>) -> oneshot::Receiver<Result<(), JournalError>> {
        let (done, wait) = oneshot::channel();
        self.send(Command::Write(entries, Some(done)));
        wait
    }

    /// Begins a new file. What is written from now on must come to tell everything; then [`Journal::end`].
    pub(crate) fn begin(&self) {
        self.shared.fold.store(false, Ordering::Relaxed);
        self.send(Command::Begin);
    }

    /// Everything has been told since [`Journal::begin`].
    pub(crate) fn end(&self) {
        self.send(Command::End);
    }

    /// Whether the file has grown so that a new one should be begun.
    pub(crate) fn wants_fold(&self) -> bool {
        self.shared.fold.load(Ordering::Relaxed)
    }

    /// Why the last commit failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.failed.lock().ok().and_then(|f| f.clone())
    }

    fn send(&self, command: Command) {
        if let Some(queue) = &self.queue
            && queue.send(command).is_err()
        {
            tracing::error!("the thread of the journal is gone; leases are no longer stored");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the journal panicked");
        }
    }
}

/// The thread's own.
struct Writer {
    dir: PathBuf,
    /// Of the file being written.
    number: u64,
    file: Option<Appender>,
    /// Bytes of the file when it was whole; 0 before.
    whole: u64,
    /// A new file is to be made before the next write.
    begin: bool,
    shared: Arc<Shared>,
}

impl Writer {
    fn serve(&mut self, incoming: &mpsc::Receiver<Command>) {
        while let Ok(first) = incoming.recv() {
            let (mut entries, mut waiting, mut end) = (Vec::new(), Vec::new(), false);
            let mut outcome = Ok(());
            for command in std::iter::once(first).chain(incoming.try_iter()) {
                match command {
                    Command::Write(bytes, done) => {
                        entries.extend_from_slice(&bytes);
                        waiting.extend(done);
                    }
                    Command::Begin => {
                        outcome = outcome.and_then(|()| self.store(&entries, false));
                        entries.clear();
                        self.begin = true;
                        end = false;
                    }
                    Command::End => {
                        push(&mut entries, &Entry::Whole);
                        end = true;
                    }
                }
            }
            outcome = outcome.and_then(|()| self.store(&entries, end));
            self.tell(outcome, waiting);
        }
    }

    /// Makes entries durable; with `end` the older files go.
    fn store(&mut self, entries: &[u8], end: bool) -> Result<(), String> {
        if entries.is_empty() {
            return Ok(());
        }
        let text = |e: std::io::Error| e.to_string();
        if self.begin || self.file.is_none() {
            let path = file::path(&self.dir, self.number + 1);
            self.file = Some(Appender::create(&path).map_err(text)?);
            self.number += 1;
            self.begin = false;
            self.whole = 0;
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.append(entries).map_err(text)?;
        file.sync().map_err(text)?;
        let length = file.len();
        self.shared.size.store(length, Ordering::Relaxed);
        if end {
            self.whole = length;
            self.remove_older();
        }
        if self.whole > 0 && length > FOLD.max(4 * self.whole) {
            self.shared.fold.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn remove_older(&self) {
        for (number, path) in file::list(&self.dir).unwrap_or_default() {
            if number < self.number
                && let Err(e) = std::fs::remove_file(&path)
            {
                tracing::warn!(file = %path.display(), error = %e, "remove a file of leases that is no longer needed");
            }
        }
    }

    fn tell(&self, outcome: Result<(), String>, waiting: Vec<Done>) {
        if let Ok(mut failed) = self.shared.failed.lock() {
            *failed = outcome.as_ref().err().cloned();
        }
        if let Err(reason) = &outcome {
            tracing::error!(folder = %self.dir.display(), reason, "cannot store leases");
            // What nobody waited for is lost: it is told again with everything else.
            self.shared.fold.store(true, Ordering::Relaxed);
        }
        for done in waiting {
            let _ = done.send(outcome.clone().map_err(|reason| JournalError::Commit {
                path: self.dir.clone(),
                reason,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn gone(n: u8) -> Entry {
        Entry::Gone {
            zone: "dmz".into(),
            address: [10, 0, 0, n].into(),
        }
    }

    fn bytes(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| push(&mut bytes, entry));
        bytes
    }

    fn told(before: &Before) -> Vec<Entry> {
        let mut entries = Vec::new();
        assert_eq!(
            before.tell(|entry| entries.push(entry)),
            Vec::<String>::new()
        );
        entries
    }

    #[test]
    fn what_was_committed_is_told_by_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, before) = Journal::open(dir.path()).unwrap();
        assert_eq!(told(&before), []);
        journal.write(bytes(&[gone(1)]));
        let done = journal.commit(bytes(&[gone(2), gone(3)]));
        done.blocking_recv().unwrap().unwrap();
        // As after kill -9: a copy of what is on disk now.
        let copy = tempfile::tempdir().unwrap();
        for (_, path) in file::list(dir.path()).unwrap() {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let (_second, before) = Journal::open(copy.path()).unwrap();
        assert_eq!(told(&before), [gone(1), gone(2), gone(3)]);
    }

    #[test]
    fn older_files_stay_until_the_new_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal
            .commit(bytes(&[gone(1)]))
            .blocking_recv()
            .unwrap()
            .unwrap();
        journal.begin();
        journal
            .commit(bytes(&[gone(2)]))
            .blocking_recv()
            .unwrap()
            .unwrap();
        let (_, before) = Journal::open(dir.path()).unwrap();
        assert_eq!(told(&before), [gone(1), gone(2)], "cut off while folding");
        journal.end();
        journal
            .commit(bytes(&[gone(3)]))
            .blocking_recv()
            .unwrap()
            .unwrap();
        let (_, before) = Journal::open(dir.path()).unwrap();
        assert_eq!(told(&before), [gone(2), gone(3)]);
        assert_eq!(file::list(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_grows_asks_to_be_folded() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.begin();
        journal.end();
        let durable = journal.commit(bytes(&[gone(1)]));
        durable.blocking_recv().unwrap().unwrap();
        assert!(!journal.wants_fold());
        let much = bytes(&vec![gone(9); 200_000]);
        journal.commit(much).blocking_recv().unwrap().unwrap();
        assert!(journal.wants_fold());
        journal.begin();
        assert!(!journal.wants_fold());
    }

    #[test]
    fn a_commit_that_fails_is_told_to_those_who_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        // Its place is taken by a folder.
        std::fs::create_dir(file::path(dir.path(), 1)).unwrap();
        let failed = journal.commit(bytes(&[gone(1)])).blocking_recv().unwrap();
        assert!(matches!(failed, Err(JournalError::Commit { .. })));
        assert!(journal.failure().is_some() && journal.wants_fold());
        std::fs::remove_dir(file::path(dir.path(), 1)).unwrap();
        journal
            .commit(bytes(&[gone(2)]))
            .blocking_recv()
            .unwrap()
            .unwrap();
        assert_eq!(journal.failure(), None);
    }

    #[test]
    fn damage_is_told_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        for n in 1..4 {
            journal
                .commit(bytes(&[gone(n)]))
                .blocking_recv()
                .unwrap()
                .unwrap();
        }
        drop(journal);
        let path = file::path(dir.path(), 1);
        let mut damaged = std::fs::read(&path).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let (_, before) = Journal::open(dir.path()).unwrap();
        let mut entries = Vec::new();
        let wrong = before.tell(|entry| entries.push(entry));
        assert_eq!(entries, [gone(1), gone(3)]);
        assert_eq!(wrong.len(), 1);
        assert_eq!(
            std::fs::read(path.with_extension("damaged")).unwrap(),
            damaged
        );
    }
}
