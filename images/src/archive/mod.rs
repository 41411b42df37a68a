//! Trees as tar archives: unpacked without trusting a word of them, and packed.
//!
//! ```text
//!   bytes ──codec──▶ tar entries ──checked──▶ files below one directory, reached by descriptors alone
//! ```
//! Every path is walked from the tree's own descriptor by openat2(2) with `RESOLVE_IN_ROOT`: whatever links the archive has
//! brought before, nothing outside the tree is ever reached.

mod layer;
mod pack;
mod sparse;
mod unpack;

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use layer::apply as apply_layer;
pub use pack::{pack, pack_one};
pub(crate) use sparse::copy as copy_with_holes;
pub use unpack::{Owners, Unpacked, unpack};

/// Asks work under way to stop.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// From now on reads fail.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What reads through this stops when somebody asks.
    pub fn reader<R: Read>(&self, inner: R) -> Stoppable<R> {
        Stoppable {
            inner,
            cancel: self.clone(),
        }
    }
}

/// See [`Cancel::reader`].
pub struct Stoppable<R> {
    inner: R,
    cancel: Cancel,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.cancel.is_cancelled() {
            // not Interrupted, which would be tried again
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "called off",
            )),
            false => self.inner.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests;
