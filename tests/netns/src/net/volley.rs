//! Many probes at once from one namespace, each known by its key.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, sendto,
    socket_with, sockopt,
};

use super::ears;
use super::netns::Netns;
use super::packet::{self, Heard};
use super::probe::Reach;

/// What a probe is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// A connection to a port.
    Tcp(u16),
    /// A datagram to a port.
    Udp(u16),
    /// A query of ICMP: echo request (8) or timestamp request (13); IPv6 has the first only.
    Icmp(u8),
    /// A packet of a protocol without ports, [`ears::BARE`]; nobody answers it.
    Bare,
}

/// One probe.
#[derive(Debug, Clone)]
pub struct Shot {
    /// What it is known by: the port it comes from, or its identifier.
    pub key: u16,
    /// Its source address, if the sender has several.
    pub source: Option<IpAddr>,
    /// Its target.
    pub to: IpAddr,
    /// What it carries.
    pub carried: Carried,
    /// Whether the socket of one that is answered is kept open.
    pub keep: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Hit {
    /// Answered by whom, turned away, or silence.
    pub reach: Reach,
    /// The open socket, if it is to be kept and was answered.
    pub socket: Option<OwnedFd>,
}

struct Open {
    shot: usize,
    fd: OwnedFd,
}

struct Volley<'a> {
    shots: &'a [Shot],
    epoll: OwnedFd,
    open: HashMap<u64, Open>,
    /// Raw sockets for queries of ICMP, by source and family, with their tokens.
    raw: HashMap<(Option<IpAddr>, bool, u8), OwnedFd>,
    keys: HashMap<u16, usize>,
    hits: Vec<Hit>,
    waiting: usize,
}

/// Tokens of raw sockets; those of others are the numbers of their probes.
const PONG4: u64 = u64::MAX;
const PONG6: u64 = u64::MAX - 1;

/// Fires all of them and waits for answers as long as `patience` after the last; the hits are in the order of
/// the shots.
pub fn fire(from: &Netns, shots: &[Shot], patience: Duration) -> Vec<Hit> {
    from.enter(|| {
        let mut volley = Volley::new(shots);
        for shot in 0..shots.len() {
            if let Err(error) = volley.shoot(shot) {
                volley.hit(shot, failed(error));
            }
            if shot % 32 == 31 {
                volley.gather(Duration::ZERO);
            }
        }
        let until = Instant::now() + patience;
        while volley.waiting > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            volley.gather(left);
        }
        volley.hits
    })
}

/// What an error says of the network. A drop in the output hook is told to the sender, too.
fn failed(error: Errno) -> Reach {
    Reach::from_error(&io::Error::from(error))
}

impl<'a> Volley<'a> {
    fn new(shots: &'a [Shot]) -> Self {
        let keys = shots.iter().enumerate().map(|(n, shot)| (shot.key, n));
        let hits = shots.iter().map(|_| Hit {
            reach: Reach::Silent,
            socket: None,
        });
        Self {
            shots,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
            open: HashMap::new(),
            raw: HashMap::new(),
            keys: keys.collect(),
            hits: hits.collect(),
            waiting: shots.len(),
        }
    }

    fn shoot(&mut self, number: usize) -> rustix::io::Result<()> {
        let shot = &self.shots[number];
        match shot.carried {
            Carried::Tcp(port) => self.dial(number, SocketType::STREAM, port),
            Carried::Udp(port) => self.dial(number, SocketType::DGRAM, port),
            Carried::Icmp(kind) => {
                let v6 = shot.to.is_ipv6();
                let packet = packet::ping(kind, v6, shot.key);
                self.throw(shot, if v6 { 58 } else { 1 }, &packet)
            }
            Carried::Bare => {
                self.throw(shot, ears::BARE, &packet::probe(shot.key))?;
                // There is nothing to wait for.
                self.waiting -= 1;
                Ok(())
            }
        }
    }

    /// A socket of its own, connected: so errors about it find it.
    fn dial(&mut self, number: usize, kind: SocketType, port: u16) -> rustix::io::Result<()> {
        let shot = &self.shots[number];
        let (family, any) = match shot.to {
            IpAddr::V4(_) => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
            IpAddr::V6(_) => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(family, kind, flags, None)?;
        if kind == SocketType::STREAM {
            sockopt::set_socket_reuseaddr(&fd, true)?;
            // Closing it says so at once, and leaves nothing behind.
            sockopt::set_socket_linger(&fd, Some(Duration::ZERO))?;
        }
        let source: IpAddr = shot.source.unwrap_or(any);
        // A number that somebody uses already would be nobody's mistake but ours.
        if let Err(error) = bind(&fd, &SocketAddr::new(source, shot.key)) {
            panic!("{shot:?} cannot be sent from there: {error}");
        }
        let mut events = epoll::EventFlags::IN;
        match connect(&fd, &SocketAddr::new(shot.to, port)) {
            Ok(()) => {}
            Err(Errno::INPROGRESS) => events |= epoll::EventFlags::OUT,
            Err(error) => return Err(error),
        }
        if kind == SocketType::DGRAM {
            rustix::net::send(&fd, &packet::probe(shot.key), SendFlags::empty())?;
        }
        let token = number as u64;
        epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(token), events)?;
        self.open.insert(token, Open { shot: number, fd });
        Ok(())
    }

    /// A packet of a raw socket that all probes of this kind share.
    fn throw(&mut self, shot: &Shot, proto: u8, packet: &[u8]) -> rustix::io::Result<()> {
        let v6 = shot.to.is_ipv6();
        let socket = (shot.source, v6, proto);
        if !self.raw.contains_key(&socket) {
            let fd = ears::raw(v6, proto)?;
            sockopt::set_socket_recv_buffer_size_force(&fd, 4 << 20)?;
            if let Some(source) = shot.source {
                bind(&fd, &SocketAddr::new(source, 0))?;
            }
            if proto != ears::BARE {
                let token = if v6 { PONG6 } else { PONG4 };
                let data = epoll::EventData::new_u64(token);
                epoll::add(&self.epoll, &fd, data, epoll::EventFlags::IN)?;
            }
            self.raw.insert(socket, fd);
        }
        sendto(
            &self.raw[&socket],
            packet,
            SendFlags::empty(),
            &SocketAddr::new(shot.to, 0),
        )?;
        Ok(())
    }

    fn hit(&mut self, shot: usize, reach: Reach) {
        self.hits[shot].reach = reach;
        self.waiting -= 1;
    }

    /// Takes what has come, waiting for it for a while.
    fn gather(&mut self, wait: Duration) {
        let mut events = Vec::with_capacity(256);
        let wait = Timespec {
            tv_sec: wait.as_secs().cast_signed(),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let spare = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.epoll, spare, Some(&wait)).is_err() {
            return;
        }
        for event in &events {
            match event.data.u64() {
                PONG4 => self.pongs(false),
                PONG6 => self.pongs(true),
                token => self.answer(token),
            }
        }
    }

    fn pongs(&mut self, v6: bool) {
        let mut buffer = [0; 2048];
        let mut heard = Vec::new();
        for ((_, six, proto), fd) in &self.raw {
            if *six != v6 || *proto == ears::BARE {
                continue;
            }
            while let Ok((length, _, _)) =
                rustix::net::recvfrom(fd, &mut buffer, RecvFlags::DONTWAIT)
            {
                heard.extend(packet::pong(&buffer[..length], v6));
            }
        }
        for (key, answered) in heard {
            let Some(shot) = self.keys.get(&key).copied() else {
                continue;
            };
            let pinged = matches!(self.shots[shot].carried, Carried::Icmp(_));
            if pinged && self.hits[shot].reach == Reach::Silent {
                let reach = if answered {
                    Reach::Answered {
                        who: String::new(),
                        source: None,
                    }
                } else {
                    Reach::Prohibited
                };
                self.hit(shot, reach);
            }
        }
    }

    fn answer(&mut self, token: u64) {
        let Some(open) = self.open.get(&token) else {
            return;
        };
        let mut buffer = [0; 512];
        let number = open.shot;
        let reach = match rustix::net::recv(&open.fd, &mut buffer, RecvFlags::DONTWAIT) {
            // Connected, and nothing said yet.
            Err(Errno::AGAIN) => {
                let data = epoll::EventData::new_u64(token);
                let _ = epoll::modify(&self.epoll, &open.fd, data, epoll::EventFlags::IN);
                return;
            }
            Err(error) => failed(error),
            Ok((length, _)) => match packet::said(&buffer[..length]).into_iter().next() {
                Some(Heard::Banner { who, seen }) => Reach::Answered {
                    who,
                    source: Some(seen),
                },
                // Accepted and closed without a word: by somebody in between who was turned away.
                _ => Reach::Refused,
            },
        };
        let open = self.open.remove(&token);
        if self.shots[number].keep && reach.passed() {
            if let Some(open) = &open {
                let _ = epoll::delete(&self.epoll, &open.fd);
            }
            self.hits[number].socket = open.map(|open| open.fd);
        }
        self.hit(number, reach);
    }
}
