//! What can be wrong with what the resolver is told. Messages from the network are not errors: see
//! [`Silence`](crate::Silence).

/// Something the resolver cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a domain name.
    #[error("{0:?} is not a domain name")]
    Name(String),
    /// Not a pattern of names.
    #[error("{0:?} is not a pattern of names such as www.example.org or *.example.org")]
    Pattern(String),
    /// A container was attached to a zone that nobody told of.
    #[error("container {container} is attached to zone {zone}, which has no resolver")]
    NoZone {
        /// The container.
        container: String,
        /// The zone.
        zone: String,
    },
}
