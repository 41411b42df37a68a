//! The system calls of the daemon for which rustix has no safe form. Its only unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: `value` is valid for `length` bytes during the call, and the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            value.as_ptr().cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Binds a socket to an interface by name (SO_BINDTODEVICE).
pub(super) fn bind_to_device(socket: BorrowedFd<'_>, interface: &str) -> io::Result<()> {
    set_option(socket, libc::SO_BINDTODEVICE, interface.as_bytes())
}

/// Sets the mark of the packets a socket sends (SO_MARK).
pub(super) fn set_mark(socket: BorrowedFd<'_>, mark: u32) -> io::Result<()> {
    set_option(socket, libc::SO_MARK, &mark.to_ne_bytes())
}

/// Sends an Ethernet frame out of an interface (packet(7)).
pub(super) fn send_frame(socket: BorrowedFd<'_>, ifindex: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: all fields of sockaddr_ll are integers or arrays of them; zero is valid for each.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as libc::c_ushort;
    to.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    to.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    // SAFETY: `frame` and `to` are valid for their lengths during the call, and only read.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes `command` run in a session of its own with `descriptor` as its descriptor `number`.
pub(super) fn own_session_with(command: &mut Command, descriptor: RawFd, number: RawFd) {
    let prepare = move || {
        // SAFETY: setsid and dup2 are async-signal-safe (signal-safety(7)) and touch no memory.
        // `descriptor` is open in the child: the caller borrows it until the child is spawned.
        let result = unsafe {
            libc::setsid();
            if descriptor == number {
                libc::fcntl(number, libc::F_SETFD, 0)
            } else {
                libc::dup2(descriptor, number)
            }
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and only makes the calls above.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// The descriptor that was inherited under `number`, if it is open.
pub(super) fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: asks for flags only.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open, and called once at the start of a process that was handed it: nothing else
    // in this process owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
