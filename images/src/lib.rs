//! Root file systems of machines: kept, copied, packed, unpacked, fetched, and taken apart into partitions.
//!
//! ```text
//!   tar, raw, OCI, URL ──archive, codec, pull──▶ staging ──rename──▶ MACHINES/NAME, MACHINES/NAME.raw
//! ```
//! Nothing here knows netd or a running container. What comes from outside is never trusted: archives cannot reach out of
//! their tree, and a half-made image is never seen under its name.

pub mod archive;
mod codec;
mod error;
mod name;
mod staging;
mod store;

pub use codec::{Codec, Writer};
pub use error::ImageError;
pub use name::{ImageName, suggested};
pub use staging::Staging;
pub use store::{Image, Kind, Store};
