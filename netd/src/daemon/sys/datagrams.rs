//! Datagrams received and sent several at a time (recvmmsg(2), sendmmsg(2)): under load, half of what an answer costs is
//! the way into the kernel and back.

use std::cmp::Reverse;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

/// Datagrams of one call.
pub(crate) const MOST: usize = 64;
/// Bytes of a datagram that are read; what is longer is cut off, and does not parse.
const LONGEST: usize = 1280;
/// Bytes that go as one at most; a packet has 65,535 with its headers.
const TOGETHER: usize = 60_000;

/// Room for datagrams that come, and those that are to go.
pub(crate) struct Datagrams {
    room: Box<[[u8; LONGEST]]>,
    received: Vec<(usize, SocketAddr)>,
    answers: Vec<(Vec<u8>, SocketAddr)>,
}

impl Datagrams {
    pub(crate) fn new() -> Self {
        Self {
            room: vec![[0; LONGEST]; MOST].into(),
            received: Vec::with_capacity(MOST),
            answers: Vec::with_capacity(MOST),
        }
    }

    /// Takes what waits on a socket, [`MOST`] at most, in place of what was taken before; returns how many there were.
    /// Fewer than [`MOST`]: nothing waits any more.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received.clear();
        // SAFETY: plain C structures of integers and pointers; zero is valid for each field.
        let (mut names, mut headers) = unsafe {
            (
                std::mem::zeroed::<[libc::sockaddr_in6; MOST]>(),
                std::mem::zeroed::<[libc::mmsghdr; MOST]>(),
            )
        };
        let mut parts = [libc::iovec {
            iov_base: null_mut(),
            iov_len: LONGEST,
        }; MOST];
        let each = headers.iter_mut().zip(&mut parts).zip(&mut names);
        for (room, ((header, part), name)) in self.room.iter_mut().zip(each) {
            part.iov_base = room.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        }
        // SAFETY: each of the MOST headers points to a name and a part, and each part to a buffer, all of them locals or
        // in `self.room`, valid and writable for the lengths beside them during the call. No timeout is given.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                MOST as libc::c_uint,
                libc::MSG_DONTWAIT,
                null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, name) in headers.iter().zip(&names).take(count) {
            let length = (header.msg_len as usize).min(LONGEST);
            self.received.push((length, address(name)));
        }
        Ok(count)
    }

    /// One of those that were taken, and where it came from.
    pub(crate) fn get(&self, n: usize) -> Option<(&[u8], SocketAddr)> {
        let (length, from) = *self.received.get(n)?;
        Some((self.room.get(n)?.get(..length)?, from))
    }

    /// Another one to go.
    pub(crate) fn push(&mut self, bytes: Vec<u8>, to: SocketAddr) {
        self.answers.push((bytes, to));
    }

    /// Sends what is to go. What cannot be sent is told and left out, as a link would drop it.
    ///
    /// Several for one peer go through the kernel as one, which is cut on the other side (UDP_SEGMENT, udp(7)): that is most
    /// of what an answer costs. `joins` becomes false where the interface does not take such.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        joins: &mut bool,
        mut failed: impl FnMut(SocketAddr, io::Error),
    ) {
        // Datagrams have no order; of those that go together only the last may be shorter.
        self.answers
            .sort_by_key(|(bytes, to)| (*to, Reverse(bytes.len())));
        let mut rest = self.answers.as_slice();
        while let Some((_, to)) = rest.first() {
            match send_some(socket, rest, *joins) {
                Ok(count) => rest = rest.get(count.max(1)..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if *joins && run(rest) > 1 => *joins = false,
                // It tells of the first one.
                Err(e) => {
                    failed(*to, e);
                    rest = &rest[1..];
                }
            }
        }
        self.answers.clear();
    }
}

type Answer = (Vec<u8>, SocketAddr);

/// How many of the first answers can go as one: to one peer, of one size but for the last.
fn run(answers: &[Answer]) -> usize {
    let Some((first, to)) = answers.first() else {
        return 0;
    };
    let same = |(bytes, peer): &&Answer| peer == to && bytes.len() == first.len();
    let most = (TOGETHER / first.len().max(1)).max(1);
    let equal = answers.iter().take(most).take_while(same).count();
    let shorter = |(bytes, peer): &Answer| peer == to && !bytes.is_empty() && equal < most;
    equal + usize::from(answers.get(equal).is_some_and(shorter))
}

/// Room for one control message with a number of 16 bits.
#[repr(align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 24]);

/// Sends the first answers in one call; returns how many went.
fn send_some(socket: BorrowedFd<'_>, answers: &[Answer], joins: bool) -> io::Result<usize> {
    // SAFETY: plain C structures of integers and pointers; zero is valid for each field.
    let (mut names, mut headers) = unsafe {
        (
            std::mem::zeroed::<[libc::sockaddr_in6; MOST]>(),
            std::mem::zeroed::<[libc::mmsghdr; MOST]>(),
        )
    };
    let mut controls = [Control([0; 24]); MOST];
    let mut counts = [0; MOST];
    let answers = &answers[..answers.len().min(MOST)];
    // Each answer one part; the kernel reads through the pointers only.
    let mut parts = [libc::iovec {
        iov_base: null_mut(),
        iov_len: 0,
    }; MOST];
    for (part, (bytes, _)) in parts.iter_mut().zip(answers) {
        part.iov_base = bytes.as_ptr().cast_mut().cast();
        part.iov_len = bytes.len();
    }
    let (mut at, mut messages) = (0, 0);
    while at < answers.len() {
        let count = if joins { run(&answers[at..]) } else { 1 };
        let header = &mut headers[messages].msg_hdr;
        header.msg_iov = parts[at..at + count].as_mut_ptr();
        header.msg_iovlen = count;
        header.msg_namelen = write_address(&mut names[messages], answers[at].1);
        header.msg_name = (&raw mut names[messages]).cast();
        if count > 1 {
            header.msg_control = controls[messages].0.as_mut_ptr().cast();
            header.msg_controllen = controls[messages].0.len();
            let size = answers[at].0.len() as u16; // a DNS message
            // SAFETY: the control buffer is aligned for a cmsghdr and has room for one with two bytes (CMSG_SPACE(2) is
            // 24 at most), so the first header and its data lie within it.
            unsafe {
                let control = libc::CMSG_FIRSTHDR(header);
                (*control).cmsg_level = libc::SOL_UDP;
                (*control).cmsg_type = libc::UDP_SEGMENT;
                (*control).cmsg_len = libc::CMSG_LEN(2) as _;
                libc::CMSG_DATA(control).cast::<u16>().write_unaligned(size);
            }
        }
        counts[messages] = count;
        messages += 1;
        at += count;
    }
    // SAFETY: the first `messages` headers point to names, parts and control buffers, and the parts to answers, all of them
    // locals or borrowed here, valid for the lengths beside them during the call, which only reads what they lead to.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            messages as libc::c_uint,
            libc::MSG_DONTWAIT,
        )
    };
    let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
    Ok(counts.iter().take(sent).sum())
}

/// Reads an address of either family; sockaddr_in lies within sockaddr_in6 (ip(7), ipv6(7)).
fn address(name: &libc::sockaddr_in6) -> SocketAddr {
    if i32::from(name.sin6_family) == libc::AF_INET {
        // family, port, then the four bytes of the address: where sockaddr_in6 has its flow information
        let port = u16::from_be(name.sin6_port);
        return SocketAddr::from((name.sin6_flowinfo.to_ne_bytes(), port));
    }
    let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
    SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into()
}

/// Writes an address; returns its length.
fn write_address(name: &mut libc::sockaddr_in6, to: SocketAddr) -> libc::socklen_t {
    name.sin6_port = to.port().to_be();
    match to {
        SocketAddr::V4(to) => {
            name.sin6_family = libc::AF_INET as libc::sa_family_t;
            name.sin6_flowinfo = u32::from_ne_bytes(to.ip().octets());
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(to) => {
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_addr.s6_addr = to.ip().octets();
            name.sin6_scope_id = to.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn echo(at: &str) {
        let server = UdpSocket::bind(at).unwrap();
        let client = UdpSocket::bind(at).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let wait = Some(std::time::Duration::from_secs(20));
        client.set_read_timeout(wait).unwrap();
        let many = MOST + 3;
        for n in 0..many {
            client.send(&vec![n as u8; n]).unwrap();
        }
        let mut batch = Datagrams::new();
        assert_eq!(batch.receive(server.as_fd()).unwrap(), MOST);
        let mut heard = Vec::new();
        let mut hear = |batch: &mut Datagrams, count: usize| {
            for n in 0..count {
                let (bytes, from) = batch.get(n).unwrap();
                assert_eq!(from, client.local_addr().unwrap());
                let bytes = bytes.to_vec();
                heard.push(bytes.clone());
                batch.push(bytes, from);
            }
            batch.send(server.as_fd(), &mut true, |to, e| panic!("{to}: {e}"));
        };
        hear(&mut batch, MOST);
        let rest = batch.receive(server.as_fd()).unwrap();
        assert_eq!(rest, 3);
        hear(&mut batch, rest);
        assert!(batch.get(rest).is_none());
        let nothing = batch.receive(server.as_fd()).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let sent: Vec<Vec<u8>> = (0..many).map(|n| vec![n as u8; n]).collect();
        assert_eq!(heard, sent);
        // they come in the order of their sizes, each one whole
        let mut back: Vec<Vec<u8>> = sent
            .iter()
            .map(|_| {
                let mut buffer = [0; 128];
                let length = client.recv(&mut buffer).unwrap();
                buffer[..length].to_vec()
            })
            .collect();
        back.sort_by_key(Vec::len);
        assert_eq!(back, sent);
    }

    #[test]
    fn datagrams_of_both_families_go_and_come_in_order() {
        echo("127.0.0.1:0");
        echo("[::1]:0");
    }

    #[test]
    fn one_that_cannot_be_sent_keeps_no_other_back() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = client.local_addr().unwrap();
        let mut batch = Datagrams::new();
        batch.push(vec![1], to);
        batch.push(vec![0; 70_000], to);
        batch.push(vec![2], to);
        let (mut failed, mut joins) = (0, true);
        batch.send(server.as_fd(), &mut joins, |_, _| failed += 1);
        assert_eq!(failed, 1);
        let mut buffer = [0; 4];
        for expected in [1, 2] {
            assert_eq!(client.recv(&mut buffer).unwrap(), 1);
            assert_eq!(buffer[0], expected);
        }
        assert!(
            joins,
            "one that is too long by itself does not say that others cannot go together"
        );
    }

    #[test]
    fn runs_are_of_one_peer_and_size() {
        let peers = ["127.0.0.1:1", "127.0.0.1:2"].map(|p| p.parse().unwrap());
        let answer = |size: usize, peer: usize| (vec![0; size], peers[peer]);
        for (answers, expected) in [
            (vec![], 0),
            (vec![answer(9, 0)], 1),
            (vec![answer(9, 0), answer(9, 1)], 1),
            (vec![answer(9, 0), answer(9, 0), answer(9, 1)], 2),
            (
                vec![answer(9, 0), answer(9, 0), answer(8, 0), answer(8, 0)],
                3,
            ),
            (vec![answer(9, 0), answer(8, 0), answer(8, 0)], 2),
        ] {
            assert_eq!(run(&answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client
            .send_to(&[7; 4000], server.local_addr().unwrap())
            .unwrap();
        let mut batch = Datagrams::new();
        assert_eq!(batch.receive(server.as_fd()).unwrap(), 1);
        assert_eq!(batch.get(0).unwrap().0, [7; LONGEST]);
    }
}
