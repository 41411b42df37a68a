//! The system calls for which rustix has no safe form. The only unsafe code of the command line.
#![allow(unsafe_code)]

use std::io;

/// Marks every descriptor from `first` on as closed at the next exec (close_range(2), Linux 5.11).
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes three numbers and touches no memory of ours. It changes descriptor flags only:
    // nothing is closed in this process, so no owner of a descriptor is betrayed.
    let result =
        unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
