//! The system calls of the daemon for which rustix has no safe form. Its only unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: `value` is valid for `length` bytes during the call, and the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
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
    set_option(
        socket,
        libc::SOL_SOCKET,
        libc::SO_BINDTODEVICE,
        interface.as_bytes(),
    )
}

/// Sets the mark of the packets a socket sends (SO_MARK).
pub(super) fn set_mark(socket: BorrowedFd<'_>, mark: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_MARK, &mark.to_ne_bytes())
}

/// Makes the kernel tell with each datagram to which address it was sent (IP_PKTINFO, ip(7)).
pub(super) fn tell_destination(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    set_option(
        socket,
        libc::IPPROTO_IP,
        libc::IP_PKTINFO,
        &on.to_ne_bytes(),
    )
}

/// Receives a datagram: its length, where it came from, and to which address it was sent.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Ipv4Addr, Ipv4Addr)> {
    #[repr(align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    // SAFETY: both are plain C structures of integers and pointers; zero is valid for each field.
    let (mut from, mut message) = unsafe {
        (
            std::mem::zeroed::<libc::sockaddr_in>(),
            std::mem::zeroed::<libc::msghdr>(),
        )
    };
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: every pointer in `message` is to a local or to `buffer`, valid and writable for the
    // length beside it during the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut to = Ipv4Addr::UNSPECIFIED;
    // SAFETY: the CMSG_* macros walk the control buffer that recvmsg filled, within msg_controllen;
    // an IP_PKTINFO message carries an in_pktinfo, read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::IPPROTO_IP && (*header).cmsg_type == libc::IP_PKTINFO {
                let info: libc::in_pktinfo = libc::CMSG_DATA(header)
                    .cast::<libc::in_pktinfo>()
                    .read_unaligned();
                to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok((
        length,
        Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)),
        to,
    ))
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

/// Watches a descriptor's owner for input.
pub(super) fn readable<T: Owner>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: an `Owner` has one descriptor, the same and open until it is dropped, and AsyncFd
    // deregisters it before it drops the owner.
    unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) }.map_err(Into::into)
}

/// Owns the one descriptor it shows, which stays the same and open until it is dropped.
pub(super) trait Owner: AsRawFd {}
impl Owner for zone::Monitor {}
impl Owner for firewall::kernel::TableMonitor {}
impl Owner for firewall::kernel::Nflog {}
impl Owner for super::edits::News {}

/// Gives back memory that the start needed and the daemon does not: pages of code that ran once, which the kernel maps
/// in pieces of up to some MiB around what is touched, and what the allocator holds and nobody uses.
pub(super) fn after_start() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; the allocator locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
    let (Ok(maps), Ok(program)) = (
        std::fs::read_to_string("/proc/self/maps"),
        std::fs::read_link("/proc/self/exe"),
    ) else {
        return;
    };
    for (start, length) in code_of(&maps, &program.to_string_lossy()) {
        // SAFETY: the pages are a private mapping of the program's file that was never writable, so each is as the file
        // has it, and is mapped again from there when it is touched. Nothing is unmapped: the addresses stay valid.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Start and length of the program's executable mappings, of those that `/proc/self/maps` lists.
fn code_of(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let code = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        // readable and executable, private; never written to
        if rights != "r-xp" || !line.ends_with(program) {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        Some((start, end.checked_sub(start)?))
    };
    maps.lines().filter_map(code).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_code_of_the_program_is_given_back() {
        let maps = "\
559b47ad9000-559b47d83000 r--p 00000000 fe:00 10231847                   /usr/bin/netd
559b47d83000-559b47d84000 r-xp 002a9000 fe:00 10231847                   /usr/bin/netd
559b4882a000-559b488b4000 r--p 00d4f000 fe:00 10231847                   /usr/bin/netd
559b488b4000-559b488b8000 rw-p 00dd8000 fe:00 10231847                   /usr/bin/netd
7f0000000000-7f0000001000 r-xp 00000000 fe:00 1                          /usr/lib/libc.so.6
7f0000002000-7f0000003000 r-xp 00000000 00:00 0                          [vdso]
";
        assert_eq!(code_of(maps, "/usr/bin/netd"), [(0x559b_47d8_3000, 0x1000)]);
    }

    #[test]
    fn the_program_goes_on_without_its_code_in_memory() {
        after_start();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        assert!(!code_of(&maps, &program.to_string_lossy()).is_empty());
    }
}
