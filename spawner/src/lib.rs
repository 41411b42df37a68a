//! A container in its own namespaces, by libcontainer; its network comes from hooks alone.
//!
//! ```text
//!             settings ──plan──▶ Plan ──spec──▶ config.json
//!                                  │
//!   front (the caller) ──fork──▶ monitor ──libcontainer──▶ the container's pid 1
//!   terminal, signals,           its own session and mount namespace,
//!   exit code                    hooks, waiting, cleaning up
//! ```
//!
//! - The **front** is the process that calls [`run`]. It keeps the terminal, passes signals on and returns the exit code. It stays in
//!   the host's namespaces and is not changed in any way that outlives the call.
//! - The **monitor** is forked from it. Everything that must not be seen by the host happens there: the bound (with private users:
//!   id-mapped) root, and the blind spot where libcontainer would look for cgroups. So no mount can be left behind.
//! - Each watches the other. When the front dies, however it dies, the monitor kills the container, runs the poststop hooks and
//!   cleans up; when the monitor dies, the kernel kills the container (`PR_SET_PDEATHSIG`) and the front cleans up.
//!
//! libcontainer forks without exec and must not be called from a process with threads; [`run`] refuses there.
//! Nothing here knows netd: a network is a pair of hooks, which the caller names, or a piece of the caller's own code.

mod bare;
mod cgroup;
mod diagnosis;
mod error;
mod executor;
mod front;
mod hook;
mod inside;
pub mod join;
mod limits;
mod making;
mod monitor;
mod plan;
mod prepare;
mod range;
mod root;
mod seccomp;
mod settings;
mod signals;
pub mod spec;
mod state;
mod sys;
mod terminal;
mod tree;
mod user;
mod volatile;
mod wire;

pub use error::SpawnError;
pub use front::run;
pub use plan::{Guest, IdRange, Making, Plan, Shown, UidRange, What};
pub use settings::{
    Attach, Bind, CapabilitySet, Cpus, Credential, Hook, Hooks, IdMap, Limits, MachineName,
    Network, Overlay, Ownership, Pending, Personality, PrivateUsers, Privileges, Rlimit, Settings,
    Source, Terminal, Tmpfs, UserName, Volatile, boolean,
};
pub use state::{Running, kill, list};
pub use user::User;
pub use wire::Exit;

/// Copies a tree to a path where nothing is yet: owners, modes, times, extended attributes, links and devices as they are; what
/// is mounted below it is left out.
///
/// # Errors
/// [`SpawnError::State`] names the first file that could not be copied; what was copied by then is gone again.
pub fn copy_tree(from: &std::path::Path, to: &std::path::Path) -> Result<(), SpawnError> {
    if to.symlink_metadata().is_ok() {
        let there = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(SpawnError::state("create", to)(there));
    }
    tree::copy(from, to).map_err(|failed| {
        let _ = std::fs::remove_dir_all(to);
        SpawnError::State {
            action: "copy",
            path: failed.path,
            source: failed.source,
        }
    })
}
