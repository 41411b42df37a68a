//! What can go wrong with images, one sentence a level.

use std::io;
use std::path::PathBuf;

/// Why an image could not be made, changed, fetched or mounted. Display says what was tried and on what; `source()` says why.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be used.
    #[error("{action} {}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive cannot be read.
    #[error("read the archive")]
    Archive(#[source] io::Error),
    /// The archive cannot be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
    /// An entry that would leave the tree, or that cannot be.
    #[error("entry {entry:?} of the archive {reason}: nothing of it was kept")]
    Entry {
        /// Its path as it stands there.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry could not be made.
    #[error("make {entry:?} of the archive")]
    Make {
        /// Its path as it stands there.
        entry: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("called off: nothing of it was kept")]
    Cancelled,
    /// A name that none can have.
    #[error(
        "{0:?} cannot be the name of an image: letters, digits, '.', '_' and '-', not '.' in front, 64 at most"
    )]
    Name(String),
    /// There is no such image.
    #[error("no image {name} in {}", list(.searched))]
    Absent {
        /// What was looked for.
        name: String,
        /// Where.
        searched: Vec<PathBuf>,
    },
    /// The name is taken.
    #[error("there is an image {name} already, at {} (--force replaces it)", .path.display())]
    Exists {
        /// The name.
        name: String,
        /// Which file or folder has it.
        path: PathBuf,
    },
    /// The image is marked read-only.
    #[error("image {0} is read-only (`netd read-only {0} no` changes that)")]
    ReadOnly(String),
    /// Somebody works with the image.
    #[error("image {0} is in use")]
    Busy(String),
    /// It is not of the kind that is needed.
    #[error("{what}: {reason}")]
    Kind {
        /// Which file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An OCI image that is not as its layout says, or that none of its kind can be found in.
    #[error("OCI image {}: {what}: {reason}: nothing of it was kept", .path.display())]
    Oci {
        /// The layout.
        path: PathBuf,
        /// Which of its parts.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address cannot be asked.
    #[error("{url}: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was fetched is not what its maker signed for.
    #[error("{what}: {reason}: nothing of it was kept")]
    Verify {
        /// Which file.
        what: String,
        /// What does not fit.
        reason: String,
    },
}

impl ImageError {
    /// For `map_err`: a failed action on a file.
    pub fn file<E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::File {
            action,
            path: path.into(),
            source: source.into(),
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let texts: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    texts.join(", ")
}
