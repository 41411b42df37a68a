//! Why a message was not answered.

use std::fmt;

/// The reason for an answer that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// Shorter than a header: there is not even a number to answer to.
    Short,
    /// An answer, not a query: answering those makes loops.
    NotAQuery,
    /// Nobody of this zone has the address it came from.
    Stranger,
    /// It came to a zone that is served no more.
    NoZone,
    /// The container asks too much while others ask too.
    RateLimited,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "it is shorter than a header",
            Self::NotAQuery => "it is an answer, not a query",
            Self::Stranger => "nobody of this zone has the address it came from",
            Self::NoZone => "the zone is not served any more",
            Self::RateLimited => "its container asks too much while others ask too",
        })
    }
}
