//! What the tests of the pure half share: a kernel of sets, random worlds, and elements in words.

#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

pub mod flows;
pub mod kernel;
pub mod print;
pub mod story;
pub mod worlds;
