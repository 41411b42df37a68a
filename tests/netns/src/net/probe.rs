//! Asks one question of the network: does a connection from here get there, and who answers?

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::netns::Netns;

/// How long nobody answers before a probe is called silent.
pub const PATIENCE: Duration = Duration::from_millis(400);

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The server named `who` answered, and saw the probe come from `source` (absent for an echo request).
    Answered {
        /// The server's name.
        who: String,
        /// The prober's address as the server saw it.
        source: Option<IpAddr>,
    },
    /// A reset, or ICMP: port unreachable.
    Refused,
    /// ICMP: administratively prohibited, or no route.
    Prohibited,
    /// Nothing came in time.
    Silent,
}

impl Reach {
    /// Whether the other side was reached.
    pub fn passed(&self) -> bool {
        matches!(self, Self::Answered { .. })
    }

    /// Whether the answer was a clear no.
    pub fn turned_away(&self) -> bool {
        matches!(self, Self::Refused | Self::Prohibited)
    }

    /// The server's name.
    pub fn who(&self) -> &str {
        match self {
            Self::Answered { who, .. } => who,
            _ => "",
        }
    }

    /// The prober's address as the server saw it.
    pub fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Answered { source, .. } => *source,
            _ => None,
        }
    }

    fn of(answer: &[u8]) -> Self {
        let text = String::from_utf8_lossy(answer);
        let first = text.lines().next().unwrap_or_default();
        let (who, source) = first.split_once(' ').unwrap_or((first, ""));
        Self::Answered {
            who: who.to_owned(),
            source: source.parse().ok(),
        }
    }

    /// What an error of a socket says of the network.
    pub fn from_error(error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Self::Refused,
            ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied => Self::Prohibited,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Silent,
            _ => panic!("a probe failed in a way that says nothing about the network: {error}"),
        }
    }
}

/// Opens a connection to `proto/port` (or `icmp/echo-request`) of an address.
pub fn probe(from: &Netns, to: IpAddr, traffic: &str) -> Reach {
    let (proto, port) = traffic.split_once('/').unwrap();
    let port = || port.parse().unwrap();
    match proto {
        "tcp" => from.enter(|| tcp(SocketAddr::new(to, port()))),
        "udp" => from.enter(|| udp(SocketAddr::new(to, port()))),
        "icmp" => ping(from, to),
        other => panic!("no probe for {other}"),
    }
}

fn tcp(to: SocketAddr) -> Reach {
    let asked = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = vec![0; 256];
        let read = stream.read(&mut answer)?;
        answer.truncate(read);
        Ok(answer)
    };
    asked().map_or_else(
        |error| Reach::from_error(&error),
        |answer| Reach::of(&answer),
    )
}

fn udp(to: SocketAddr) -> Reach {
    let asked = || -> std::io::Result<Vec<u8>> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(b"probe")?;
        let mut answer = vec![0; 256];
        let read = socket.recv(&mut answer)?;
        answer.truncate(read);
        Ok(answer)
    };
    asked().map_or_else(
        |error| Reach::from_error(&error),
        |answer| Reach::of(&answer),
    )
}

fn ping(from: &Netns, to: IpAddr) -> Reach {
    let answer = from.run(&format!("ping -n -c 1 -W 0.4 {to} 2>&1"));
    if answer.code == 0 {
        return Reach::Answered {
            who: String::new(),
            source: None,
        };
    }
    // iputils words the codes of an ICMP error so.
    let no = [
        "filtered",
        "prohibited",
        "unreachable",
        "Unreachable",
        "denied",
        "No route",
        "not permitted",
    ];
    if no.iter().any(|word| answer.stdout.contains(word)) {
        Reach::Prohibited
    } else {
        Reach::Silent
    }
}
