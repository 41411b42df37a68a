//! The calls that no safe crate offers: a new network namespace for this thread, and packet sockets.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Moves this thread, and only it, into a new network namespace.
pub fn unshare_net() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET touches neither memory nor descriptors; other threads stay where they are.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?)
}

/// A packet socket on one interface of the namespace in which it was opened: whole Ethernet frames.
pub struct PacketSocket {
    fd: OwnedFd,
    ifindex: i32,
}

impl PacketSocket {
    /// Opens it on an interface of the thread's namespace; it sees every frame that arrives there.
    pub fn open(ifname: &str) -> io::Result<Self> {
        let name = CString::new(ifname)?;
        // SAFETY: `name` is a NUL-terminated string that lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let ifindex = i32::try_from(index).map_err(io::Error::other)?;
        if ifindex == 0 {
            return Err(io::Error::last_os_error());
        }
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: no pointers; the result is checked below.
        let raw = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(protocol),
            )
        };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let address = Self::address(ifindex, protocol);
        // SAFETY: the pointer and length describe `address`, which lives through the call.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd, ifindex })
    }

    fn address(ifindex: i32, protocol: u16) -> libc::sockaddr_ll {
        // SAFETY: sockaddr_ll consists of integers, for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = ifindex;
        address
    }

    /// Sends a frame as it stands.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let address = Self::address(self.ifindex, 0);
        // SAFETY: the pointers and lengths describe `frame` and `address`, which live through the call.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Next frame that came in from the wire; `None` when none came in time. What this host sent itself
    /// is passed over.
    pub fn receive(&self, buffer: &mut [u8], wait: Duration) -> io::Result<Option<usize>> {
        let mut poll = [rustix::event::PollFd::new(
            &self.fd,
            rustix::event::PollFlags::IN,
        )];
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(wait.as_secs()).map_err(io::Error::other)?,
            tv_nsec: wait.subsec_nanos().into(),
        };
        if rustix::event::poll(&mut poll, Some(&timeout))? == 0 {
            return Ok(None);
        }
        let mut from = Self::address(0, 0);
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointers and lengths describe `buffer`, `from` and `length`, all exclusively borrowed.
        let read = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        match usize::try_from(read) {
            Ok(_) if from.sll_pkttype == libc::PACKET_OUTGOING => Ok(Some(0)),
            Ok(read) => Ok(Some(read)),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
                error => Err(error),
            },
        }
    }
}

/// A tap, as a virtual machine has it: frames that are written come out of the interface, and the other way.
pub struct Tap {
    fd: OwnedFd,
}

impl Tap {
    /// Makes an interface in the thread's namespace. It is gone with this value.
    pub fn open(name: &str) -> io::Result<Self> {
        const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
        let fd = rustix::fs::open(
            "/dev/net/tun",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        // SAFETY: all fields of ifreq are integers, arrays of them or unions of such; zero is valid for each.
        let mut request: libc::ifreq = unsafe { zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: `request` lives through the call, which reads and writes within it.
        let made = unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &raw mut request) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd })
    }

    /// Sends a frame out of the interface.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.fd, frame)?;
        Ok(())
    }

    /// The next frame for the machine, if one comes in time.
    pub fn read(&self, buffer: &mut [u8], wait: Duration) -> io::Result<Option<usize>> {
        let mut ready = [rustix::event::PollFd::new(
            &self.fd,
            rustix::event::PollFlags::IN,
        )];
        let wait = rustix::event::Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        if rustix::event::poll(&mut ready, Some(&wait))? == 0 {
            return Ok(None);
        }
        Ok(Some(rustix::io::read(&self.fd, buffer)?))
    }
}
