//! The system calls of the daemon for which rustix has no safe form. Its only unsafe code.
#![allow(unsafe_code)]

mod datagrams;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use datagrams::{Datagrams, MOST};

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

/// Lets a socket be bound to an address that this host does not have yet (IP_FREEBIND, ip(7)).
pub(super) fn bind_to_any_address(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (level, option) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND)
    } else {
        (libc::IPPROTO_IP, libc::IP_FREEBIND)
    };
    set_option(socket, level, option, &on.to_ne_bytes())
}

/// The index of an interface of the host, if there is one of this name.
pub(super) fn ifindex(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: `name` is a C string that lives through the call, which only reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
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

/// Datagrams received at once, and the room for them.
pub(super) struct Batch {
    room: Vec<[u8; Batch::LONGEST]>,
    /// Length, source, and address it was sent to, of those that came last.
    came: Vec<(usize, Ipv4Addr, Ipv4Addr)>,
}

impl Batch {
    /// Datagrams at once.
    const MANY: usize = 32;
    /// Bytes of one; the rest is cut off. DHCP messages have at most 1,500 on most links.
    const LONGEST: usize = 2048;

    pub(super) fn new() -> Self {
        Self {
            room: vec![[0; Self::LONGEST]; Self::MANY],
            came: Vec::with_capacity(Self::MANY),
        }
    }

    /// What came last: each datagram, where it came from, and to which address it was sent.
    pub(super) fn messages(&self) -> impl Iterator<Item = (&[u8], Ipv4Addr, Ipv4Addr)> {
        let pairs = self.room.iter().zip(&self.came);
        pairs.map(|(bytes, (length, from, to))| (&bytes[..*length], *from, *to))
    }

    /// Receives what is there, at least one datagram (recvmmsg(2)).
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        #[repr(align(8))]
        #[derive(Clone, Copy)]
        struct Control([u8; 64]);
        self.came.clear();
        let mut controls = [Control([0; 64]); Self::MANY];
        // SAFETY: all are plain C structures of integers and pointers; zero is valid for each field.
        let (mut sources, mut parts, mut headers) = unsafe {
            (
                std::mem::zeroed::<[libc::sockaddr_in; Self::MANY]>(),
                std::mem::zeroed::<[libc::iovec; Self::MANY]>(),
                std::mem::zeroed::<[libc::mmsghdr; Self::MANY]>(),
            )
        };
        for (i, buffer) in self.room.iter_mut().enumerate() {
            parts[i].iov_base = buffer.as_mut_ptr().cast();
            parts[i].iov_len = buffer.len();
            let header = &mut headers[i].msg_hdr;
            header.msg_name = (&raw mut sources[i]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut parts[i];
            header.msg_iovlen = 1;
            header.msg_control = controls[i].0.as_mut_ptr().cast();
            header.msg_controllen = controls[i].0.len();
        }
        // SAFETY: every pointer in `headers` is to a local or to `room`, which has `MANY` buffers, valid and writable
        // for the length beside it during the call; nothing of it is moved before it is read below.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                Self::MANY as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (i, header) in headers.iter().enumerate().take(count) {
            let to = destination(&header.msg_hdr);
            let from = Ipv4Addr::from(u32::from_be(sources[i].sin_addr.s_addr));
            let length = (header.msg_len as usize).min(Self::LONGEST);
            self.came.push((length, from, to));
        }
        Ok(())
    }
}

/// The address a received datagram was sent to, which [`tell_destination`] asked for.
fn destination(message: &libc::msghdr) -> Ipv4Addr {
    let mut to = Ipv4Addr::UNSPECIFIED;
    // SAFETY: the CMSG_* macros walk the control buffer that the kernel filled, within msg_controllen;
    // an IP_PKTINFO message carries an in_pktinfo, read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::IPPROTO_IP && (*header).cmsg_type == libc::IP_PKTINFO {
                let info: libc::in_pktinfo = libc::CMSG_DATA(header)
                    .cast::<libc::in_pktinfo>()
                    .read_unaligned();
                to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    to
}

/// The address of an interface for packet sockets. `protocol`: one of `ETH_P_*`.
fn link_address(ifindex: u32, protocol: libc::c_int) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: all fields of sockaddr_ll are integers or arrays of them; zero is valid for each.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    Ok(address)
}

/// Lets a packet socket of protocol 0 hear the IPv6 packets that come in by an interface and that a filter
/// passes. The filter (of classic BPF: operation, jump if true, if false, operand) is there first, so
/// that nothing else is ever heard.
pub(super) fn hear_ipv6(
    socket: BorrowedFd<'_>,
    ifindex: u32,
    filter: &[(u16, u8, u8, u32)],
) -> io::Result<()> {
    hear(socket, ifindex, libc::ETH_P_IPV6, filter)
}

/// The same for frames of every protocol. On a port of a bridge they are heard before the bridge has them.
pub(super) fn hear_frames(
    socket: BorrowedFd<'_>,
    ifindex: u32,
    filter: &[(u16, u8, u8, u32)],
) -> io::Result<()> {
    hear(socket, ifindex, libc::ETH_P_ALL, filter)
}

fn hear(
    socket: BorrowedFd<'_>,
    ifindex: u32,
    protocol: libc::c_int,
    filter: &[(u16, u8, u8, u32)],
) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> = filter
        .iter()
        .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(code.len()).map_err(io::Error::other)?,
        filter: code.as_mut_ptr(),
    };
    let address = link_address(ifindex, protocol)?;
    // SAFETY: `program` and the code it points to live through the call, which copies and checks them.
    let filtered = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if filtered != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `address` is valid for its length during the call, and only read.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A packet socket for frames out of any interface, with the mark that the bridges' gates ask for. Of protocol
/// 0: it hears nothing.
pub(super) fn frame_sender() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    set_mark(socket.as_fd(), firewall::skeleton::JUDGED)?;
    Ok(socket)
}

/// Sends an Ethernet frame with an IPv6 packet out of an interface (packet(7)).
pub(super) fn send_frame6(socket: BorrowedFd<'_>, ifindex: u32, frame: &[u8]) -> io::Result<()> {
    let to = link_address(ifindex, libc::ETH_P_IPV6)?;
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

/// Sends Ethernet frames out of an interface (packet(7), sendmmsg(2)). One that cannot be sent does not keep back
/// those behind it; the first error is told.
pub(super) fn send_frames(
    socket: BorrowedFd<'_>,
    ifindex: u32,
    frames: &[Vec<u8>],
) -> io::Result<()> {
    const MANY: usize = 64;
    let mut to = link_address(ifindex, libc::ETH_P_IP)?;
    let mut outcome = Ok(());
    let mut rest = frames;
    while !rest.is_empty() {
        let many = rest.len().min(MANY);
        // SAFETY: plain C structures of integers and pointers; zero is valid for each field.
        let (mut parts, mut headers) = unsafe {
            (
                std::mem::zeroed::<[libc::iovec; MANY]>(),
                std::mem::zeroed::<[libc::mmsghdr; MANY]>(),
            )
        };
        for (i, frame) in rest.iter().take(many).enumerate() {
            parts[i].iov_base = frame.as_ptr().cast_mut().cast();
            parts[i].iov_len = frame.len();
            let header = &mut headers[i].msg_hdr;
            header.msg_name = (&raw mut to).cast();
            header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            header.msg_iov = &raw mut parts[i];
            header.msg_iovlen = 1;
        }
        // SAFETY: the first `many` headers point to `to`, to `parts` and by them to `rest`, all valid during the call;
        // sending reads them only.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                many as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        let sent = match usize::try_from(sent) {
            Ok(sent) => sent,
            Err(_) => {
                outcome = outcome.and(Err(io::Error::last_os_error()));
                1
            }
        };
        rest = &rest[sent.clamp(1, many)..];
    }
    outcome
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
impl Owner for OwnedFd {}
impl Owner for super::dns::ResolvWatch {}

/// Tells when the daemon has had nothing to do for a while after it had.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Processor time of the process when it was asked last.
    used: Duration,
    /// Whether it has worked since it was told to rest.
    worked: bool,
}

impl Rest {
    /// What a daemon uses that only looks after things, from one asking to the next.
    const IDLE: Duration = Duration::from_millis(2);

    /// Whether it begins to rest now. To be asked every few seconds.
    pub(super) fn begins(&mut self) -> bool {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        self.begins_at(used.try_into().unwrap_or_default())
    }

    fn begins_at(&mut self, used: Duration) -> bool {
        let idle = used.saturating_sub(self.used) < Self::IDLE;
        self.used = used;
        self.worked |= !idle;
        idle && std::mem::take(&mut self.worked)
    }
}

/// Gives back memory that work needed and a daemon at rest does not: pages of code that ran once, which the kernel maps
/// in pieces of up to some MiB around what is touched, and what the allocator holds and nobody uses. The next call takes
/// some tenths of a millisecond longer.
pub(super) fn give_back() {
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

/// Start and length of the program's mappings of code and of constants (those before the code), of those that
/// `/proc/self/maps` lists.
fn code_of(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let code = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
        // Private, and never written to. What is behind the code and only readable now was written to by the loader.
        let clean = rights == "r-xp" || (rights == "r--p" && offset.bytes().all(|b| b == b'0'));
        if !clean || !line.ends_with(program) {
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
        assert_eq!(
            code_of(maps, "/usr/bin/netd"),
            [(0x559b_47ad_9000, 0x2a_a000), (0x559b_47d8_3000, 0x1000)]
        );
    }

    #[test]
    fn rest_begins_once_after_work() {
        let mut rest = Rest::default();
        let mut begins = |used| rest.begins_at(Duration::from_millis(used));
        let told: Vec<bool> = [50, 51, 52, 80, 90, 91, 92]
            .into_iter()
            .map(&mut begins)
            .collect();
        assert_eq!(told, [false, true, false, false, false, true, false]);
    }

    #[test]
    fn the_program_goes_on_without_its_code_in_memory() {
        give_back();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        assert!(!code_of(&maps, &program.to_string_lossy()).is_empty());
    }
}
