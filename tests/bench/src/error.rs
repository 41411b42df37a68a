//! The one error enum of the crate.

use std::io;

/// What went wrong, on which object, and where known what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A system call, or a message the kernel refused.
    #[error("{what}")]
    Os {
        /// What was tried, on which object.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program that ended with a failure.
    #[error("{command}: {status}: {stderr}")]
    Command {
        /// Its command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it said, trimmed.
        stderr: String,
    },
    /// A program or file that a comparison needs and that is not there.
    #[error("no {what}: {remedy}")]
    Missing {
        /// What is not there.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The daemon refused a call.
    #[error("netd refused {method}: {message}")]
    Refused {
        /// The method of the control interface.
        method: String,
        /// netd's own message, or its whole answer.
        message: String,
    },
    /// Somebody answered what cannot be read.
    #[error("{who} answered what cannot be read: {answer}")]
    Garbled {
        /// Who answered.
        who: &'static str,
        /// The answer.
        answer: String,
    },
    /// A measurement that measured something else than it should have: a packet passed or was refused against the
    /// policy, or something did not happen in time.
    #[error("the measurement is void: {why}")]
    Void {
        /// What was seen instead.
        why: String,
    },
}

/// Results of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failed system call.
    pub(crate) fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Os {
            what: what.into(),
            source: source.into(),
        }
    }

    /// A void measurement.
    pub(crate) fn void(why: impl Into<String>) -> Self {
        Error::Void { why: why.into() }
    }

    /// The message with its causes, one after the other.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// Adds what was tried to a system error.
pub(crate) trait During<T> {
    /// `what` was tried.
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::os(what(), source))
    }
}
