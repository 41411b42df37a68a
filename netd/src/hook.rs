//! Doors for container runtimes: what a runtime says on standard input becomes an attach or a detach.
//!
//! A hook that fails stops the container from starting, so everything that is unclear is an error.

pub(crate) mod cni;
pub(crate) mod nspawn;
pub(crate) mod oci;
