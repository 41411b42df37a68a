//! The system call filters of a process, copied out of the kernel (`PTRACE_SECCOMP_GET_FILTER`, ptrace(2)).
//!
//! So a visitor is under the very filters that the container is under, whatever made them.

use std::io;
use std::time::{Duration, Instant};

use crate::sys::join;

/// How long the process may take to stop; one that waits for a disk that does not answer never does.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than anybody has; each may have 4,096 instructions.
const MOST: u64 = 256;

/// The filters of process `pid`, oldest first. It is stopped for a moment, as by a debugger.
///
/// # Errors
/// Somebody else debugs the process, the kernel cannot tell filters (no `CONFIG_CHECKPOINT_RESTORE`), or we are under a
/// filter ourselves.
pub(super) fn of(pid: i32) -> io::Result<Vec<Vec<u64>>> {
    join::trace(pid)?;
    let copied = stopped(pid).and_then(|()| copy(pid));
    join::untrace(pid);
    let filters = copied?;
    match filters.is_empty() {
        true => Err(io::ErrorKind::NotFound.into()),
        false => Ok(filters),
    }
}

fn stopped(pid: i32) -> io::Result<()> {
    let begun = Instant::now();
    while !join::has_stopped(pid)? {
        if begun.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn copy(pid: i32) -> io::Result<Vec<Vec<u64>>> {
    let mut all = Vec::new();
    for index in 0..MOST {
        match join::filter_of(pid, index) {
            Ok(filter) => all.push(filter),
            // there are no more
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(all),
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}
