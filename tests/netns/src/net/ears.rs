//! What many namespaces hear: servers on many ports, and sockets that see every packet that is delivered, also
//! of connections that never come to be. One thread for all.
//!
//! Who asks is known by a number, its *key*: the port that a client asks from, the identifier of an echo
//! request, or the words of a datagram. A raw socket gets its copy of a packet behind the input hook (ip(7),
//! raw(7)), so what is heard has passed every hook on its way.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, sockopt};

use super::netns::Netns;
use super::packet::{self, Heard};

/// How much a socket keeps until it is read: a volley of thousands at once.
const ROOM: usize = 16 << 20;

/// IP protocols that are listened to besides TCP (6), UDP (17) and ICMP (1, 58).
pub const BARE: u8 = 253;

/// Who listens, and where.
pub struct Place {
    /// Its name; servers tell it.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// Ports of TCP on which it answers.
    pub tcp: Vec<u16>,
    /// Ports of UDP on which it answers.
    pub udp: Vec<u16>,
    /// Its addresses, where an answer must come from the one that was asked; else it has one of each family.
    pub addresses: Vec<IpAddr>,
}

/// A packet that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// At whose place.
    pub at: String,
    /// From where, as it was seen there.
    pub source: IpAddr,
}

/// The thread that hears; dropping it closes every socket.
pub struct Ears {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: OwnedFd,
    stop: AtomicBool,
    sources: Mutex<Sources>,
    arrivals: Mutex<HashMap<u16, Vec<Arrival>>>,
    /// Beats of living flows: which flow said which number.
    beats: Mutex<Vec<(u16, u32)>>,
}

#[derive(Default)]
struct Sources {
    next: u64,
    all: HashMap<u64, Source>,
    /// Where datagrams of living flows came from.
    peers: HashMap<u16, (u64, SocketAddr)>,
}

struct Source {
    name: Arc<str>,
    socket: Socket,
}

enum Socket {
    Raw { fd: OwnedFd, proto: u8, v6: bool },
    Listener(TcpListener),
    Connection { stream: TcpStream, key: u16 },
    Datagrams(UdpSocket),
}

impl Ears {
    /// Begins to hear nothing.
    pub fn open() -> Self {
        let shared = Arc::new(Shared {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
            stop: AtomicBool::new(false),
            sources: Mutex::default(),
            arrivals: Mutex::default(),
            beats: Mutex::default(),
        });
        let ears = shared.clone();
        let thread = std::thread::spawn(move || ears.listen());
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Opens the sockets of a place; returns ports on which somebody else listens already.
    pub fn add(&self, place: &Place) -> Vec<String> {
        let (sockets, taken) = place.netns.enter(|| sockets(place));
        let name: Arc<str> = place.name.as_str().into();
        for socket in sockets {
            self.shared.add(Source {
                name: name.clone(),
                socket,
            });
        }
        taken
    }

    /// What arrived of a key, wherever.
    pub fn arrivals(&self, key: u16) -> Vec<Arrival> {
        let arrivals = self.shared.arrivals.lock().unwrap();
        arrivals.get(&key).cloned().unwrap_or_default()
    }

    /// Sends a number from the server's side of every living flow.
    pub fn push(&self, number: u32) {
        let text = packet::push(number);
        let mut sources = self.shared.sources.lock().unwrap();
        for source in sources.all.values_mut() {
            if let Socket::Connection { stream, .. } = &mut source.socket {
                // A connection that was cut says so here, which is what its flow is asked about elsewhere.
                let _ = stream.write_all(&text);
            }
        }
        for (token, peer) in sources.peers.values() {
            if let Some(Socket::Datagrams(socket)) = sources.all.get(token).map(|s| &s.socket) {
                let _ = socket.send_to(&text, peer);
            }
        }
    }

    /// Which living flows brought a number to their server.
    pub fn beats(&self, number: u32) -> Vec<u16> {
        let beats = self.shared.beats.lock().unwrap();
        let those = beats.iter().filter(|(_, beat)| *beat == number);
        those.map(|(key, _)| *key).collect()
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Packets that the raw sockets of a namespace had no room for; none, or what they did not hear proves nothing.
pub fn lost(netns: &Netns) -> u64 {
    netns.enter(|| {
        let tables = ["raw", "raw6"].map(|name| format!("/proc/thread-self/net/{name}"));
        let rows = tables.map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let drops = rows
            .iter()
            .flat_map(|text| text.lines().skip(1))
            .map(|row| {
                row.split_whitespace()
                    .last()
                    .and_then(|drops| drops.parse::<u64>().ok())
                    .unwrap_or(0)
            });
        drops.sum()
    })
}

/// Every socket of a place; for a thread inside of it.
fn sockets(place: &Place) -> (Vec<Socket>, Vec<String>) {
    let mut sockets = Vec::new();
    for (v6, proto) in [(false, 1), (true, 58)].into_iter().chain(
        [6, 17, BARE]
            .into_iter()
            .flat_map(|p| [(false, p), (true, p)]),
    ) {
        let fd = raw(v6, proto).unwrap();
        sockopt::set_socket_recv_buffer_size_force(&fd, ROOM).unwrap();
        sockets.push(Socket::Raw { fd, proto, v6 });
    }
    let mut taken = Vec::new();
    // Linux makes a socket on [::] take IPv4 too.
    let every = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    for port in &place.tcp {
        match TcpListener::bind((every, *port)) {
            Ok(listener) => {
                listener.set_nonblocking(true).unwrap();
                rustix::net::listen(&listener, 4096).unwrap();
                sockets.push(Socket::Listener(listener));
            }
            Err(_) => taken.push(format!("tcp/{port}")),
        }
    }
    let addresses = if place.addresses.is_empty() {
        &[every][..]
    } else {
        &place.addresses
    };
    for port in &place.udp {
        for address in addresses {
            match UdpSocket::bind((*address, *port)) {
                Ok(socket) => {
                    socket.set_nonblocking(true).unwrap();
                    sockopt::set_socket_recv_buffer_size_force(&socket, ROOM).unwrap();
                    sockets.push(Socket::Datagrams(socket));
                }
                Err(_) => taken.push(format!("udp/{port}")),
            }
        }
    }
    (sockets, taken)
}

/// A raw socket of a protocol.
pub fn raw(v6: bool, proto: u8) -> rustix::io::Result<OwnedFd> {
    let family = if v6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let proto = std::num::NonZeroU32::new(proto.into()).map(Protocol::from_raw);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::RAW, flags, proto)
}

impl Shared {
    fn add(&self, source: Source) {
        let mut sources = self.sources.lock().unwrap();
        sources.next += 1;
        let token = sources.next;
        epoll::add(
            &self.epoll,
            source.socket.fd(),
            epoll::EventData::new_u64(token),
            epoll::EventFlags::IN,
        )
        .unwrap();
        sources.all.insert(token, source);
    }

    fn listen(&self) {
        let mut buffer = vec![0; 65_536];
        let mut events = Vec::with_capacity(256);
        let beat = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        while !self.stop.load(Ordering::Relaxed) {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            if epoll::wait(&self.epoll, spare, Some(&beat)).is_err() {
                continue;
            }
            for event in &events {
                self.ready(event.data.u64(), &mut buffer);
            }
        }
    }

    fn ready(&self, token: u64, buffer: &mut [u8]) {
        let mut sources = self.sources.lock().unwrap();
        let Some(source) = sources.all.get_mut(&token) else {
            return;
        };
        let name = source.name.clone();
        match &mut source.socket {
            Socket::Raw { fd, proto, v6 } => {
                while let Ok((length, _, Some(from))) =
                    rustix::net::recvfrom(&*fd, &mut *buffer, RecvFlags::DONTWAIT)
                {
                    let Ok(from) = SocketAddr::try_from(from) else {
                        continue;
                    };
                    if let Some(key) = packet::opens(&buffer[..length], *proto, *v6) {
                        self.arrived(key, &name, from.ip());
                    }
                }
            }
            Socket::Listener(listener) => {
                let mut fresh = Vec::new();
                while let Ok((stream, peer)) = listener.accept() {
                    fresh.push((stream, peer));
                }
                drop(sources);
                for (mut stream, peer) in fresh {
                    let _ = stream.set_nonblocking(true);
                    let _ = stream.set_nodelay(true);
                    let _ = stream.write_all(&packet::banner(&name, peer.ip()));
                    let socket = Socket::Connection {
                        stream,
                        key: peer.port(),
                    };
                    self.add(Source {
                        name: name.clone(),
                        socket,
                    });
                }
            }
            Socket::Connection { stream, key } => match stream.read(buffer) {
                Ok(length) if length > 0 => {
                    for heard in packet::said(&buffer[..length]) {
                        if let Heard::Beat { number, .. } = heard {
                            self.beats.lock().unwrap().push((*key, number));
                            let _ = stream.write_all(&packet::echo(number));
                        }
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => _ = sources.all.remove(&token),
            },
            Socket::Datagrams(socket) => {
                let mut peers = Vec::new();
                while let Ok((length, peer)) = socket.recv_from(buffer) {
                    for heard in packet::said(&buffer[..length]) {
                        let answer = match heard {
                            Heard::Probe { .. } => packet::banner(&name, peer.ip()),
                            Heard::Beat { key, number } => {
                                peers.push((key, (token, peer)));
                                self.beats.lock().unwrap().push((key, number));
                                packet::echo(number)
                            }
                            _ => continue,
                        };
                        let _ = socket.send_to(&answer, peer);
                    }
                }
                sources.peers.extend(peers);
            }
        }
    }

    fn arrived(&self, key: u16, at: &str, source: IpAddr) {
        let arrival = Arrival {
            at: at.to_owned(),
            source: source.to_canonical(),
        };
        let mut arrivals = self.arrivals.lock().unwrap();
        let those = arrivals.entry(key).or_default();
        if !those.contains(&arrival) {
            those.push(arrival);
        }
    }
}

impl Socket {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Raw { fd, .. } => fd.as_fd(),
            Self::Listener(listener) => listener.as_fd(),
            Self::Connection { stream, .. } => stream.as_fd(),
            Self::Datagrams(socket) => socket.as_fd(),
        }
    }
}
