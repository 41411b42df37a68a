//! The resolver as clients and upstream servers see it. Each story names the section it is about.
#![allow(clippy::unwrap_used, missing_docs)]

mod bounds;
mod egress;
mod forwarding;
mod garbage;
mod names;
mod protocol;
mod world;
