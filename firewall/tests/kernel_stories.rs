//! The skeleton with real packets, on private hosts: root only, each story in namespaces of its own.
#![cfg(feature = "kernel")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "kernel/bandwidth.rs"]
mod bandwidth;
#[path = "kernel/conditions.rs"]
mod conditions;
#[path = "kernel/elements.rs"]
mod elements;
#[path = "kernel/gate.rs"]
mod gate;
#[path = "kernel/guard.rs"]
mod guard;
#[path = "kernel/install.rs"]
mod install;
#[path = "kernel/lab.rs"]
mod lab;
#[path = "kernel/lines.rs"]
mod lines;
#[path = "kernel/live.rs"]
mod live;
#[path = "kernel/nflog.rs"]
mod nflog;
#[path = "kernel/owner.rs"]
mod owner;
#[path = "kernel/paths.rs"]
mod paths;
#[path = "kernel/probe.rs"]
mod probe;
#[path = "kernel/raw.rs"]
mod raw;
#[path = "kernel/rules.rs"]
mod rules;
#[path = "kernel/snapshot.rs"]
mod snapshot;
