//! Small clients and servers: what happens to a packet.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::lab::Ns;

/// What became of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was served; the server saw it come from this address.
    Open(IpAddr),
    /// A reset, or an ICMP error, came at once.
    Refused,
    /// Nothing came.
    Silence,
}

impl Fate {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Fate::Open(_))
    }
}

/// Longer than any answer takes here, a lost first packet (sent again after a second) included.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1400);

/// Serves TCP and UDP on a port, both families: says where the client comes from, then echoes.
pub(crate) fn serve(ns: &Ns, port: u16) {
    let (tcp, udp) = ns.run(|| listeners(port));
    ns.spawn(move || serve_tcp(&tcp));
    ns.spawn(move || serve_udp(&udp));
}

/// The same on the host (this thread).
pub(crate) fn serve_here(port: u16) {
    let (tcp, udp) = listeners(port);
    std::thread::spawn(move || serve_tcp(&tcp));
    std::thread::spawn(move || serve_udp(&udp));
}

fn listeners(port: u16) -> (TcpListener, UdpSocket) {
    let any = SocketAddr::from(([0u16; 8], port));
    (
        TcpListener::bind(any).unwrap(),
        UdpSocket::bind(any).unwrap(),
    )
}

fn serve_tcp(listener: &TcpListener) {
    while let Ok((mut stream, from)) = listener.accept() {
        std::thread::spawn(move || {
            let _ = writeln!(stream, "{}", from.ip().to_canonical());
            let mut buffer = [0; 1024];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..len]).is_err() {
                    break;
                }
            }
        });
    }
}

fn serve_udp(socket: &UdpSocket) {
    let mut buffer = [0; 1024];
    while let Ok((_, from)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(from.ip().to_canonical().to_string().as_bytes(), from);
    }
}

/// Connects by TCP on this thread's host.
pub(crate) fn tcp_here(to: IpAddr, port: u16) -> Fate {
    match connect(to, port) {
        Ok((_, from)) => Fate::Open(from),
        Err(fate) => fate,
    }
}

/// Connects by TCP and keeps the connection.
pub(crate) fn connect(to: IpAddr, port: u16) -> Result<(TcpStream, IpAddr), Fate> {
    let fate = |error: std::io::Error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Fate::Silence,
        _ => Fate::Refused,
    };
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from((to, port)), PATIENCE).map_err(fate)?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while byte[0] != b'\n' {
        if stream.read(&mut byte).map_err(fate)? == 0 {
            return Err(Fate::Refused);
        }
        line.push(byte[0]);
    }
    let from = String::from_utf8(line).unwrap().trim().parse().unwrap();
    Ok((stream, from))
}

/// Connects by TCP from a namespace.
pub(crate) fn tcp(from: &Ns, to: impl Into<IpAddr>, port: u16) -> Fate {
    let to = to.into();
    from.run(move || tcp_here(to, port))
}

/// Asks by UDP on this thread's host.
pub(crate) fn udp_here(to: IpAddr, port: u16) -> Fate {
    let any: IpAddr = if to.is_ipv4() {
        [0u8; 4].into()
    } else {
        [0u16; 8].into()
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect((to, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    let result = socket.send(b"?").and_then(|_| socket.recv(&mut buffer));
    match result {
        Ok(len) => Fate::Open(
            std::str::from_utf8(&buffer[..len])
                .unwrap()
                .parse()
                .unwrap(),
        ),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Fate::Silence,
        Err(_) => Fate::Refused,
    }
}

/// Asks by UDP from a namespace.
pub(crate) fn udp(from: &Ns, to: impl Into<IpAddr>, port: u16) -> Fate {
    let to = to.into();
    from.run(move || udp_here(to, port))
}

/// Whether one echo request is answered.
pub(crate) fn ping(from: &Ns, to: impl Into<IpAddr>) -> bool {
    from.try_sh(&format!("ping -n -c 1 -W 0.5 {}", to.into())).0
}
