//! Why libcontainer failed. Its processes tell each other only the outermost sentence of an error; the cause is in the error events
//! they log. Those are kept, in a file in memory that all of them share, and the first is the one nearest to the cause.

use std::fmt::{self, Write};
use std::io;
use std::os::fd::OwnedFd;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{NoSubscriber, Subscriber};
use tracing::{Event, Level, Metadata};

/// Error events, a line each.
pub(crate) struct Notes(OwnedFd);

impl Notes {
    pub(crate) fn new() -> io::Result<Self> {
        let file = rustix::fs::memfd_create("notes", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::APPEND)?;
        Ok(Self(file))
    }

    /// Keeps what is logged as an error while `work` runs, here and in processes forked meanwhile. Nothing of it
    /// reaches the program's own log: what it means for the user is in the error that is returned.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.0.try_clone() {
            Ok(file) => tracing::subscriber::with_default(Keeper(file), work),
            Err(_) => silently(work),
        }
    }

    /// All notes, the first is nearest to the cause.
    pub(crate) fn read(&self) -> String {
        self.0
            .try_clone()
            .map(crate::monitor::read_all)
            .unwrap_or_default()
    }
}

/// Runs `work` without any of its logging.
pub(crate) fn silently<T>(work: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(NoSubscriber::default(), work)
}

struct Keeper(OwnedFd);

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}\n", line.message, line.fields).replace("\\n", " ");
        // appended in one call, so that lines of several processes do not mix
        let _ = rustix::io::write(&self.0, text.as_bytes());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // what the system said
            "e" | "err" | "error" | "ret" => write!(self.fields, ": {value:?}"),
            name => write!(self.fields, ", {name} {value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_error_is_kept_with_its_fields() {
        let notes = Notes::new().unwrap();
        notes.during(|| {
            tracing::warn!("not this");
            tracing::error!(path = "/x", err = ?io::ErrorKind::NotFound, "failed to mount");
            tracing::error!("failed altogether");
        });
        tracing::error!("outside");
        let all = notes.read();
        assert_eq!(
            all,
            "failed to mount, path \"/x\": NotFound\nfailed altogether\n"
        );
    }
}
