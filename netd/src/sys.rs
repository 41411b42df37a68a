//! The system calls for which rustix has no safe form. The only unsafe code of the command line.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Moves this thread, and only it, into a new network namespace.
pub(crate) fn new_netns() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET touches neither memory nor descriptors; other threads stay where they are.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?)
}

/// Moves this thread into a mount namespace of its own.
pub(crate) fn new_mounts() -> io::Result<()> {
    // SAFETY: CLONE_NEWNS (with the CLONE_FS that it implies) touches neither memory nor descriptors; other threads
    // stay where they are.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?)
}

/// pidfd_send_signal(2) with any signal number, real-time ones too.
pub(crate) fn pidfd_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks for the one kill(2) would send; the other arguments are plain numbers.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match sent {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

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
