//! What must outlive the kernel: addresses kept for container names, subnets of zones, DHCP leases.
//!
//! One thread owns the redb file. Callers queue writes; the thread takes all that wait and makes them
//! durable in one commit (group commit), then answers every caller. A damaged file is never deleted:
//! it is put aside under a new name, and the daemon says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

const ADDRESSES: TableDefinition<&str, &str> = TableDefinition::new("addresses");
const SUBNETS: TableDefinition<&str, &str> = TableDefinition::new("subnets");
const LEASES6: TableDefinition<&str, &str> = TableDefinition::new("leases6");

/// Which table a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `ZONE/CONTAINER` → JSON list of addresses.
    Address,
    /// `ZONE` → JSON of the subnets chosen for it.
    Subnet,
    /// `ZONE/ADDRESS/LENGTH` → JSON of a DHCPv6 lease.
    Lease6,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Address, Kind::Subnet, Kind::Lease6];

    fn table(self) -> TableDefinition<'static, &'static str, &'static str> {
        match self {
            Kind::Address => ADDRESSES,
            Kind::Subnet => SUBNETS,
            Kind::Lease6 => LEASES6,
        }
    }
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The file cannot be opened or made.
    #[error("open the state file {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: redb::DatabaseError,
    },
    /// The damaged file cannot be put aside.
    #[error("put the damaged state file {path} aside")]
    Aside {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A commit failed; nothing of it is stored.
    #[error("store state in {path}: {reason}")]
    Commit { path: PathBuf, reason: String },
}

struct Write {
    kind: Kind,
    key: String,
    value: Option<String>,
    done: Option<oneshot::Sender<Result<(), StoreError>>>,
}

/// A handle of the storage thread. Dropping it ends the thread after its last commit.
pub(crate) struct Store {
    queue: Option<mpsc::Sender<Write>>,
    thread: Option<thread::JoinHandle<()>>,
    failed: std::sync::Arc<std::sync::Mutex<Option<String>>>,
    /// How many writes were queued.
    queued: std::cell::Cell<u64>,
    /// How many of them are durable.
    durable: std::sync::Arc<AtomicU64>,
}

/// Everything that was stored, as it was read at the start.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    records: BTreeMap<(Kind, String), String>,
    /// Where a damaged file was put, if it was.
    pub(crate) put_aside: Option<PathBuf>,
}

impl Stored {
    /// Every record of a kind, by key.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &str)> {
        self.records
            .iter()
            .filter(move |((k, _), _)| *k == kind)
            .map(|((_, key), value)| (key.as_str(), value.as_str()))
    }
}

impl Store {
    /// Opens or makes `netd.redb` in `dir` and reads it whole.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Stored), StoreError> {
        let path = dir.join("netd.redb");
        let (database, mut stored) = match open_and_read(&path) {
            Ok(opened) => opened,
            Err(Opening::Damaged(reason)) => {
                let aside = free_name(&path);
                tracing::error!(file = %path.display(), aside = %aside.display(), reason,
                    "the state file is damaged; putting it aside and starting a new one");
                std::fs::rename(&path, &aside).map_err(|source| StoreError::Aside {
                    path: path.clone(),
                    source,
                })?;
                let (database, mut stored) =
                    open_and_read(&path).map_err(|e| e.into_error(&path))?;
                stored.put_aside = Some(aside);
                (database, stored)
            }
            Err(other) => return Err(other.into_error(&path)),
        };
        stored.records.retain(|_, value| !value.is_empty());
        let failed = std::sync::Arc::new(std::sync::Mutex::new(None));
        let (queue, incoming) = mpsc::channel::<Write>();
        let seen = failed.clone();
        let durable = std::sync::Arc::new(AtomicU64::new(0));
        let counted = durable.clone();
        let thread = thread::Builder::new()
            .name("store".into())
            .stack_size(256 * 1024)
            .spawn(move || serve(&database, &path, &incoming, &seen, &counted))
            .map_err(|source| StoreError::Aside {
                path: dir.to_owned(),
                source,
            })?;
        Ok((
            Self {
                queue: Some(queue),
                thread: Some(thread),
                failed,
                queued: std::cell::Cell::new(0),
                durable,
            },
            stored,
        ))
    }

    /// Queues a write (`None` deletes) that becomes durable with the next commit. A failure shows in
    /// [`Store::failure`] and is tried again with the next write. Returns the write's number.
    pub(crate) fn put(&self, kind: Kind, key: String, value: Option<String>) -> u64 {
        self.send(Write {
            kind,
            key,
            value,
            done: None,
        });
        self.queued.get()
    }

    /// Whether the write with this number is durable.
    pub(crate) fn is_durable(&self, number: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= number
    }

    /// Queues a write and tells when it is durable.
    pub(crate) fn commit(
        &self,
        kind: Kind,
        key: String,
        value: Option<String>,
    ) -> oneshot::Receiver<Result<(), StoreError>> {
        let (done, wait) = oneshot::channel();
        self.send(Write {
            kind,
            key,
            value,
            done: Some(done),
        });
        wait
    }

    /// Why the last commit failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failed.lock().ok().and_then(|f| f.clone())
    }

    fn send(&self, write: Write) {
        self.queued.set(self.queued.get() + 1);
        if let Some(queue) = &self.queue
            && queue.send(write).is_err()
        {
            tracing::error!("the storage thread is gone; state is no longer stored");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the storage thread panicked");
        }
    }
}

enum Opening {
    Damaged(String),
    Failed(redb::DatabaseError),
}

impl Opening {
    fn into_error(self, path: &Path) -> StoreError {
        match self {
            Opening::Damaged(reason) => StoreError::Commit {
                path: path.to_owned(),
                reason,
            },
            Opening::Failed(source) => StoreError::Open {
                path: path.to_owned(),
                source,
            },
        }
    }
}

fn open_and_read(path: &Path) -> Result<(Database, Stored), Opening> {
    use redb::{DatabaseError, StorageError};
    let damaged = |e: &dyn std::fmt::Display| Opening::Damaged(e.to_string());
    let database = redb::Builder::new()
        .set_cache_size(512 * 1024)
        .create(path)
        .map_err(|e| match e {
            DatabaseError::Storage(StorageError::Corrupted(reason)) => Opening::Damaged(reason),
            DatabaseError::Storage(StorageError::Io(io))
                if io.kind() == std::io::ErrorKind::InvalidData
                    || io.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                Opening::Damaged(io.to_string())
            }
            DatabaseError::UpgradeRequired(version) => {
                Opening::Damaged(format!("file format version {version} is not known"))
            }
            other => Opening::Failed(other),
        })?;
    let mut stored = Stored::default();
    let reading = database.begin_read().map_err(|e| damaged(&e))?;
    for kind in Kind::ALL {
        let table = match reading.open_table(kind.table()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            Err(e) => return Err(damaged(&e)),
        };
        for entry in table.iter().map_err(|e| damaged(&e))? {
            let (key, value) = entry.map_err(|e| damaged(&e))?;
            stored
                .records
                .insert((kind, key.value().to_owned()), value.value().to_owned());
        }
    }
    drop(reading);
    Ok((database, stored))
}

fn free_name(path: &Path) -> PathBuf {
    (1u32..)
        .map(|n| path.with_extension(format!("redb.damaged-{n}")))
        .find(|candidate| !candidate.exists())
        .unwrap_or_else(|| path.with_extension("redb.damaged"))
}

/// The storage thread: one commit for everything that waits.
fn serve(
    database: &Database,
    path: &Path,
    incoming: &mpsc::Receiver<Write>,
    failed: &std::sync::Mutex<Option<String>>,
    durable: &AtomicU64,
) {
    let mut taken = 0;
    // What a failed commit could not store waits for the next one, newest value per key.
    let mut owed: BTreeMap<(Kind, String), Option<String>> = BTreeMap::new();
    while let Ok(first) = incoming.recv() {
        let mut waiting = Vec::new();
        for write in std::iter::once(first).chain(incoming.try_iter()) {
            taken += 1;
            owed.insert((write.kind, write.key), write.value);
            waiting.extend(write.done);
        }
        let outcome = commit(database, &owed);
        if let Ok(mut failed) = failed.lock() {
            *failed = outcome.as_ref().err().cloned();
        }
        match outcome {
            Ok(()) => {
                owed.clear();
                durable.store(taken, Ordering::Release);
                for done in waiting {
                    let _ = done.send(Ok(()));
                }
            }
            Err(reason) => {
                tracing::error!(file = %path.display(), reason, "cannot store state");
                for done in waiting {
                    let _ = done.send(Err(StoreError::Commit {
                        path: path.to_owned(),
                        reason: reason.clone(),
                    }));
                }
            }
        }
    }
}

fn commit(
    database: &Database,
    writes: &BTreeMap<(Kind, String), Option<String>>,
) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let transaction = database.begin_write().map_err(|e| text(&e))?;
    for kind in Kind::ALL {
        if !writes.keys().any(|(k, _)| *k == kind) {
            continue;
        }
        let mut table = transaction.open_table(kind.table()).map_err(|e| text(&e))?;
        for ((_, key), value) in writes.iter().filter(|((k, _), _)| *k == kind) {
            match value {
                Some(value) => table.insert(key.as_str(), value.as_str()).map(drop),
                None => table.remove(key.as_str()).map(drop),
            }
            .map_err(|e| text(&e))?;
        }
    }
    transaction.commit().map_err(|e| text(&e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_committed_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let (store, stored) = Store::open(dir.path()).unwrap();
        assert_eq!(stored.of(Kind::Address).count(), 0);
        store.put(Kind::Address, "z/web".into(), Some("[\"10.0.0.2\"]".into()));
        store
            .commit(Kind::Lease6, "z/02".into(), Some("{}".into()))
            .blocking_recv()
            .unwrap()
            .unwrap();
        store
            .commit(Kind::Lease6, "z/02".into(), None)
            .blocking_recv()
            .unwrap()
            .unwrap();
        drop(store);
        let (_store, stored) = Store::open(dir.path()).unwrap();
        assert_eq!(
            stored.of(Kind::Address).collect::<Vec<_>>(),
            [("z/web", "[\"10.0.0.2\"]")]
        );
        assert_eq!(stored.of(Kind::Lease6).count(), 0);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_kept() {
        for damage in [&b"garbage"[..], &[0u8; 4096][..]] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("netd.redb"), damage).unwrap();
            let (_store, stored) = Store::open(dir.path()).unwrap();
            let aside = stored.put_aside.unwrap();
            assert_eq!(std::fs::read(aside).unwrap(), damage);
        }
    }

    #[test]
    fn a_truncated_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path()).unwrap();
        store
            .commit(Kind::Lease6, "z/02".into(), Some("{}".into()))
            .blocking_recv()
            .unwrap()
            .unwrap();
        drop(store);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(dir.path().join("netd.redb"))
            .unwrap();
        file.set_len(5000).unwrap();
        let (_store, stored) = Store::open(dir.path()).unwrap();
        assert!(stored.put_aside.is_some());
    }
}
