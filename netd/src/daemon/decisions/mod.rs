//! Where decisions go: the file, the journal, and what is learned of them.
//!
//! ```text
//! nflog ─► engine (who, which rule) ─► queue ─► this thread ─┬─► STATE/decisions.jsonl
//!                                        └ full: counted     ├─► journal
//!                                                            └─► STATE/learned/NAME.json
//! ```
//!
//! The engine never waits for a disk: a queue that is full loses records, and the next one says how many.

mod file;
mod journal;
mod learned;
mod limit;
mod writer;

use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use firewall::trial::Record;
use tokio::sync::oneshot;
use zone::ContainerName;

pub(crate) use file::old;
pub(crate) use journal::message;
pub(crate) use limit::Bucket;
use writer::Writer;

/// Batches that may wait for the thread.
const QUEUE: usize = 64;

/// Records that came together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// What was decided, and when.
    pub(crate) records: Vec<(SystemTime, Record)>,
    /// How many decisions before these are not known.
    pub(crate) lost: u64,
}

enum Message {
    Batch(Batch),
    Save(ContainerName, oneshot::Sender<io::Result<bool>>),
    Forget(ContainerName, oneshot::Sender<io::Result<bool>>),
}

/// The way to the thread. Dropping it ends the thread after everything is written.
pub(crate) struct Decisions {
    queue: Option<SyncSender<Message>>,
    thread: Option<thread::JoinHandle<()>>,
    failure: Arc<Mutex<Option<String>>>,
    /// Lost because the queue was full.
    lost: u64,
}

impl Decisions {
    /// Starts the thread, with its files in the state dir.
    pub(crate) fn start(log: &Path, learned: &Path) -> io::Result<Self> {
        let (queue, incoming) = sync_channel(QUEUE);
        let failure = Arc::new(Mutex::new(None));
        let mut writer = Writer::new(log, learned, Path::new(journal::SOCKET), failure.clone());
        let thread = thread::Builder::new()
            .name("decisions".into())
            .stack_size(256 * 1024)
            .spawn(move || writer.serve(&incoming))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            failure,
            lost: 0,
        })
    }

    /// Hands records over; never waits.
    pub(crate) fn send(&mut self, mut batch: Batch) {
        batch.lost += std::mem::take(&mut self.lost);
        if batch.records.is_empty() && batch.lost == 0 {
            return;
        }
        let Some(queue) = &self.queue else { return };
        if let Err(
            TrySendError::Full(Message::Batch(batch))
            | TrySendError::Disconnected(Message::Batch(batch)),
        ) = queue.try_send(Message::Batch(batch))
        {
            self.lost += batch.lost + batch.records.len() as u64;
        }
    }

    /// Sees to it that the file has what was learned of a container, with everything that was handed over
    /// before. Tells whether there is something.
    pub(crate) fn save(&self, container: ContainerName) -> oneshot::Receiver<io::Result<bool>> {
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Save(container, reply));
        answer
    }

    /// Forgets what was learned of a container. Tells whether there was something.
    pub(crate) fn forget(&self, container: ContainerName) -> oneshot::Receiver<io::Result<bool>> {
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Forget(container, reply));
        answer
    }

    /// A question that finds the queue full is dropped, and so is its answer's sender.
    fn ask(&self, message: Message) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(message);
        }
    }

    /// Why decisions cannot be written, while they cannot.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().ok().and_then(|failure| failure.clone())
    }
}

impl Drop for Decisions {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
