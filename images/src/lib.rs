//! Root file systems of machines: kept, copied, packed, unpacked, fetched, and taken apart into partitions.
//!
//! ```text
//!   tar, raw, OCI, URL ──archive, codec, pull──▶ staging ──rename──▶ MACHINES/NAME, MACHINES/NAME.raw
//! ```
//! Nothing here knows netd or a running container. What comes from outside is never trusted: archives cannot reach out of
//! their tree, and a half-made image is never seen under its name.

pub mod archive;
mod codec;
pub mod disk;
mod error;
mod import;
mod name;
mod oci;
mod pull;
mod staging;
mod store;
mod sys;

pub use codec::Codec;
pub use error::ImageError;
pub use import::{Making, export_raw, export_tar, import_raw, import_tar};
pub use name::{ImageName, suggested};
pub use oci::import_oci;
pub use pull::{Fetched, KEYRINGS, Pull, Verify, Watch};
pub use staging::Staging;
pub use store::{Image, Kind, Store, is_immutable};
