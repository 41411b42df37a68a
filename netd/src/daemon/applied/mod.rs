//! Sets of policy files that were applied in one step: which set is the truth, and how to get back.
//!
//! ```text
//! STATE/apply/journal.json      what was applied last, and which set is being put in place
//! STATE/apply/before-TIME/      the files before the last apply: what a rollback puts back
//! STATE/apply/undone-TIME/      the files that a rollback replaced, for people: can be applied again
//! STATE/apply/next-TIME/        the files being put in place
//! ```
//!
//! The journal is the truth while a set is being put in place: it is replaced by one rename, and names a
//! folder that is durable already. So whenever the daemon is killed, the files become one set or the other,
//! at the latest when the next one starts ([`Applied::open`]) and before it reads any of them.

mod folder;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dirs::Dirs;
pub(crate) use folder::Content;
use folder::{Places, remove_if_there, sync_dir, write_whole};

/// How many sets that were undone are kept.
const MOST_UNDONE: usize = 5;

/// What can go wrong with sets on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppliedError {
    /// The set cannot be read, kept or put in place.
    #[error("{what} {path}")]
    Files {
        /// `keep the files of`, `put in place the files of`, …
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What became of the last apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Its files are the policies.
    InForce,
    /// They are, and the ones before come back unless somebody confirms.
    Waiting {
        /// Seconds since 1970.
        until: u64,
        /// How long it was to wait.
        seconds: u64,
    },
    /// The ones before are in force again.
    Undone {
        /// Seconds since 1970.
        at: u64,
        /// Nobody confirmed in time; else somebody asked for it.
        timed_out: bool,
        /// Where the files are that were undone, if they could be kept.
        kept: Option<PathBuf>,
    },
}

/// The last apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// What became of it.
    pub(crate) state: State,
    /// Name of the folder with the files before it.
    before: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    /// Name of the folder whose files are being put in place.
    placing: Option<String>,
    last: Option<Last>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Applied {
    dir: PathBuf,
    places: Places,
    journal: Journal,
    /// The journal before an apply that is not in force yet.
    previous: Option<Journal>,
}

impl Applied {
    /// Reads the journal; finishes what was cut off, and undoes what was to be confirmed by now (`now` in
    /// seconds since 1970).
    pub(crate) fn open(dirs: &Dirs, now: u64) -> Result<Self, AppliedError> {
        let dir = dirs.state.join("apply");
        let mut applied = Self {
            places: Places {
                good_groups: dirs.good().join("groups.toml"),
                policies: dirs.policies(),
                groups: dirs.groups(),
                good: dirs.good().join("policies"),
            },
            journal: Journal::default(),
            previous: None,
            dir,
        };
        std::fs::create_dir_all(&applied.dir).map_err(applied.failed("use"))?;
        applied.journal = applied.read()?;
        if let Some(folder) = &applied.journal.placing {
            tracing::info!(
                folder,
                "a set of policies was being put in place; finishing"
            );
            applied.finish()?;
            applied.settle()?;
        }
        if let Some(Last {
            state: State::Waiting { until, seconds },
            ..
        }) = &mut applied.journal.last
        {
            // a clock that was set back must not keep an unconfirmed set for days
            *until = (*until).min(now.saturating_add(*seconds));
        }
        if applied.is_due(now) {
            tracing::warn!(
                "the last apply was not confirmed in time; the files before it come back"
            );
            applied.undo(now, true)?;
            applied.settle()?;
        }
        applied.places.clean();
        applied.sweep();
        Ok(applied)
    }

    /// The last apply, and what became of it.
    pub(crate) fn last(&self) -> Option<&Last> {
        self.journal.last.as_ref()
    }

    /// Until when somebody has to confirm, in seconds since 1970.
    pub(crate) fn waits_until(&self) -> Option<u64> {
        match self.last()?.state {
            State::Waiting { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Whether it had to be confirmed by now.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.waits_until().is_some_and(|until| now >= until)
    }

    /// The text of each policy file as it is on disk, by stem; none for one that cannot be read.
    pub(crate) fn on_disk(&self) -> io::Result<Vec<(String, Option<String>)>> {
        self.places.on_disk()
    }

    /// The groups file's text as it is on disk.
    pub(crate) fn groups_on_disk(&self) -> Option<String> {
        std::fs::read_to_string(&self.places.groups).ok()
    }

    /// Makes `next` the files, so that a crash at any moment leaves the old or the new ones; `confirm` is
    /// how many seconds may pass until somebody confirms. To be [settled](Self::settle) once they are in force.
    ///
    /// # Errors
    /// Then the old files are the files still.
    pub(crate) fn apply(
        &mut self,
        next: &Content,
        now: u64,
        confirm: Option<u64>,
    ) -> Result<(), AppliedError> {
        let before = self.fresh("before", now);
        self.keep(&before)?;
        let folder = self.fresh("next", now);
        self.places
            .write(&self.dir.join(&folder), next)
            .map_err(self.failed("write the files to"))?;
        let state = match confirm {
            None => State::InForce,
            Some(seconds) => State::Waiting {
                until: now.saturating_add(seconds),
                seconds,
            },
        };
        self.places
            .prepare(&self.dir.join(&folder))
            .inspect_err(|_| self.places.clean())
            .map_err(self.failed("put in place the files of"))?;
        let old = self.journal.clone();
        self.write(Journal {
            placing: Some(folder.clone()),
            last: Some(Last {
                at: now,
                state,
                before: before.clone(),
            }),
        })?;
        self.previous = Some(old);
        let finished = self
            .places
            .finish(&self.dir.join(&folder))
            .map_err(self.failed("put in place the files of"));
        if finished.is_err() {
            self.give_up();
        }
        finished
    }

    /// The files that were just applied cannot be put in force: the ones before are the files again, and the
    /// apply is as if it had not been. To be settled, too.
    pub(crate) fn give_up(&mut self) {
        let (Some(last), Some(mut old)) = (self.journal.last.clone(), self.previous.take()) else {
            return;
        };
        old.placing = Some(last.before.clone());
        let outcome = self.write(old).and_then(|()| self.place(&last.before));
        if let Err(error) = outcome {
            tracing::error!(error = %super::chain(&error), "the files before cannot be put back; the next start tries again");
        }
    }

    /// The last apply stays.
    pub(crate) fn confirm(&mut self) -> Result<(), AppliedError> {
        let mut journal = self.journal.clone();
        if let Some(last) = &mut journal.last {
            last.state = State::InForce;
        }
        self.write(journal)
    }

    /// Makes the files before the last apply the files again, and keeps those that are there now. To be
    /// settled once they are in force.
    ///
    /// # Errors
    /// Then it is half done, and to be [finished](Self::finish), unless not even that could be written.
    pub(crate) fn undo(&mut self, now: u64, timed_out: bool) -> Result<(), AppliedError> {
        let Some(last) = self.journal.last.clone() else {
            return Ok(());
        };
        let kept = self.fresh("undone", now);
        // What was in force before comes back, even where what is replaced cannot be kept.
        let kept = match self.keep(&kept) {
            Ok(()) => Some(self.dir.join(kept)),
            Err(error) => {
                tracing::error!(error = %super::chain(&error), "the files that are undone cannot be kept");
                None
            }
        };
        self.write(Journal {
            placing: Some(last.before.clone()),
            last: Some(Last {
                state: State::Undone {
                    at: now,
                    timed_out,
                    kept,
                },
                ..last.clone()
            }),
        })?;
        self.place(&last.before)
    }

    /// Whether files are not, or may not be, what the journal says.
    pub(crate) fn is_half_done(&self) -> bool {
        self.journal.placing.is_some()
    }

    /// Tries again to put in place what could not be. To be settled once it is in force.
    pub(crate) fn finish(&mut self) -> Result<(), AppliedError> {
        match self.journal.placing.clone() {
            Some(folder) => self.place(&folder),
            None => Ok(()),
        }
    }

    /// What was put in place is in force: nothing is half done any more.
    pub(crate) fn settle(&mut self) -> Result<(), AppliedError> {
        let mut journal = self.journal.clone();
        journal.placing = None;
        self.write(journal)?;
        self.previous = None;
        self.sweep();
        Ok(())
    }

    fn keep(&self, folder: &str) -> Result<(), AppliedError> {
        self.places
            .keep(&self.dir.join(folder))
            .map_err(self.failed("keep the files of"))
    }

    fn place(&self, folder: &str) -> Result<(), AppliedError> {
        let folder = self.dir.join(folder);
        self.places
            .prepare(&folder)
            .and_then(|()| self.places.finish(&folder))
            .inspect_err(|_| self.places.clean())
            .map_err(self.failed("put in place the files of"))
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> AppliedError + use<> {
        let path = match what {
            "use" | "write the files to" | "write the journal of" => self.dir.clone(),
            _ => self.places.policies.clone(),
        };
        move |source| AppliedError::Files {
            what,
            path: path.clone(),
            source,
        }
    }

    fn journal_path(&self) -> PathBuf {
        self.dir.join("journal.json")
    }

    fn read(&self) -> Result<Journal, AppliedError> {
        let path = self.journal_path();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Journal::default()),
            Err(e) => return Err(self.failed("use")(e)),
        };
        // It is replaced whole, so this is somebody's doing; which set is meant nobody can tell.
        serde_json::from_slice(&bytes).map_err(|e| {
            let source = io::Error::new(io::ErrorKind::InvalidData, e);
            AppliedError::Files {
                what: "understand the journal of applied policies (remove it once the policies are as they should be)",
                path,
                source,
            }
        })
    }

    fn write(&mut self, journal: Journal) -> Result<(), AppliedError> {
        if journal != self.journal {
            let text = serde_json::to_vec_pretty(&journal).unwrap_or_default();
            let write = || {
                write_whole(&self.journal_path(), &text)?;
                sync_dir(&self.dir)
            };
            write().map_err(self.failed("write the journal of"))?;
            self.journal = journal;
        }
        Ok(())
    }

    /// A name nobody has.
    fn fresh(&self, kind: &str, now: u64) -> String {
        (0u32..)
            .map(|n| match n {
                0 => format!("{kind}-{now}"),
                n => format!("{kind}-{now}-{n}"),
            })
            .find(|name| !self.dir.join(name).exists())
            .unwrap_or_else(|| kind.to_owned())
    }

    /// Removes the folders that nothing needs any more.
    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let last = self.journal.last.as_ref();
        let before = last
            .filter(|last| !matches!(last.state, State::Undone { .. }))
            .map(|last| last.before.as_str());
        let needed = [before, self.journal.placing.as_deref()];
        let mut undone: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ours = |kind: &str| name.starts_with(kind);
            if needed.contains(&Some(&*name)) {
                continue;
            }
            if ours("before-") || ours("next-") {
                remove_folder(&entry.path());
            } else if ours("undone-")
                && let Ok(modified) = entry.metadata().and_then(|meta| meta.modified())
            {
                undone.push((modified, entry.path()));
            }
        }
        undone.sort();
        for (_, path) in undone.iter().rev().skip(MOST_UNDONE) {
            remove_folder(path);
        }
        let _ = remove_if_there(&self.dir.join(".journal.json.tmp"));
    }
}

fn remove_folder(path: &Path) {
    if let Err(e) = std::fs::remove_dir_all(path) {
        tracing::warn!(folder = %path.display(), error = %e, "cannot remove a set of policies that nothing needs");
    }
}

#[cfg(test)]
mod tests;
