//! Frames by hand: to claim to be somebody else, and to see what comes through.
#![allow(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::lab::Ns;

pub(crate) type Mac = [u8; 6];
pub(crate) const BROADCAST: Mac = [0xff; 6];

/// A packet socket on one interface of this thread's namespace.
pub(crate) struct Tap(OwnedFd);

impl Tap {
    pub(crate) fn open(ns: &Ns, interface: &str) -> Self {
        ns.run(|| Self::here(interface))
    }

    pub(crate) fn here(interface: &str) -> Self {
        let all = u16::to_be(libc::ETH_P_ALL as u16);
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: plain system calls with valid pointers that live through them; the descriptor is
        // new and owned by the result.
        unsafe {
            let fd = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(all),
            );
            assert!(fd >= 0);
            let fd = OwnedFd::from_raw_fd(fd);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = all;
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let len = size_of::<libc::sockaddr_ll>() as u32;
            assert_eq!(
                libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len),
                0
            );
            Self(fd)
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        rustix::net::send(&self.0, frame, rustix::net::SendFlags::empty()).unwrap();
    }

    /// Waits for a frame that contains the needle.
    pub(crate) fn sees(&self, needle: &[u8], patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut buffer = [0; 2048];
        loop {
            match rustix::net::recv(&self.0, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    if buffer[..len].windows(needle.len()).any(|w| w == needle) {
                        return true;
                    }
                }
                Err(_) if Instant::now() > end => return false,
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Forgets what came so far.
    pub(crate) fn drain(&self) {
        let mut buffer = [0; 2048];
        while rustix::net::recv(&self.0, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT).is_ok()
        {
        }
    }
}

pub(crate) fn frame(to: Mac, from: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes(), payload].concat()
}

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 or IPv6 packet, its transport checksum (at that offset) filled in.
pub(crate) fn ip(
    from: IpAddr,
    to: IpAddr,
    proto: u8,
    mut body: Vec<u8>,
    checksum: usize,
) -> Vec<u8> {
    let len = body.len() as u16;
    match (from, to) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let (a, b) = (a.octets(), b.octets());
            let pseudo = match proto {
                1 => vec![],
                _ => [&a[..], &b, &[0, proto], &len.to_be_bytes()].concat(),
            };
            let value = sum(&[&pseudo, &body]).to_be_bytes();
            body[checksum..checksum + 2].copy_from_slice(&value);
            let mut head = vec![0x45, 0];
            head.extend((len + 20).to_be_bytes());
            head.extend([0, 1, 0, 0, 64, proto, 0, 0]);
            head.extend([a, b].concat());
            let value = sum(&[&head]).to_be_bytes();
            head[10..12].copy_from_slice(&value);
            [head, body].concat()
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let (a, b) = (a.octets(), b.octets());
            let pseudo = [&a[..], &b, &[0, 0], &len.to_be_bytes(), &[0, 0, 0, proto]].concat();
            let value = sum(&[&pseudo, &body]).to_be_bytes();
            body[checksum..checksum + 2].copy_from_slice(&value);
            let mut head = vec![0x60, 0, 0, 0];
            head.extend(len.to_be_bytes());
            head.extend([proto, 255]);
            head.extend(a);
            head.extend(b);
            [head, body].concat()
        }
        _ => panic!("two families"),
    }
}

pub(crate) fn udp(from: IpAddr, sport: u16, to: IpAddr, dport: u16, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for word in [sport, dport, data.len() as u16 + 8, 0] {
        body.extend(word.to_be_bytes());
    }
    body.extend(data);
    ip(from, to, 17, body, 6)
}

pub(crate) fn tcp_syn(from: IpAddr, sport: u16, to: IpAddr, dport: u16) -> Vec<u8> {
    let mut body = Vec::new();
    for word in [sport, dport, 0, 1, 0, 0, 0x5002u16, 1024, 0, 0] {
        body.extend(word.to_be_bytes());
    }
    ip(from, to, 6, body, 16)
}

pub(crate) fn icmp4(from: IpAddr, to: IpAddr, kind: u8, id: u16) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0];
    body.extend(id.to_be_bytes());
    body.extend([0; 14]);
    ip(from, to, 1, body, 2)
}

pub(crate) fn icmp6(from: IpAddr, to: IpAddr, kind: u8, rest: &[u8]) -> Vec<u8> {
    ip(from, to, 58, [&[kind, 0, 0, 0], rest].concat(), 2)
}

pub(crate) fn arp(op: u16, mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(op.to_be_bytes());
    body.extend(mac);
    body.extend(sender.octets());
    body.extend([0; 6]);
    body.extend(target.octets());
    body
}

/// The Ethernet group of an IPv6 group.
pub(crate) fn group6(to: Ipv6Addr) -> Mac {
    let o = to.octets();
    [0x33, 0x33, o[12], o[13], o[14], o[15]]
}
