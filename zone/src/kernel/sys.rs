//! The one system call that no safe wrapper has.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// `_IO(0xb7, 0x3)`, linux/nsfs.h
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// The CLONE_NEW* constant of the namespace behind a descriptor (ioctl_nsfs(2)).
///
/// # Errors
/// ENOTTY when the descriptor is of something else.
pub(super) fn namespace_type(fd: impl AsFd) -> Result<i32, Errno> {
    // SAFETY: the descriptor is borrowed for the whole call; NS_GET_NSTYPE takes no argument, so no
    // memory of ours is read or written. On a descriptor of anything but a namespace the caller has
    // made sure beforehand (fstatfs: nsfs) that no other driver sees this number.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(result)
}
