//! Published ports on `::1`, forwarded in user space where the kernel cannot (see `engine/doors.rs`).
//!
//! The connection to the container is the host's own, so policy judges it as `host`, and it goes the
//! same way as every other packet; the container sees the IPv4 address of its gateway. TCP connections are
//! copied both ways, each half until it is closed; UDP peers get a socket each that is closed when it has
//! been silent for a while. What a door carries ends with it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};

/// A port of `::1` and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Door {
    /// IP protocol number: 6 or 17.
    pub(crate) proto: u8,
    /// Port on `::1`.
    pub(crate) port: u16,
    /// Address of the container.
    pub(crate) to: IpAddr,
    /// Port of the container.
    pub(crate) to_port: u16,
}

impl Door {
    fn outside(self) -> SocketAddr {
        SocketAddrV6::new(Ipv6Addr::LOCALHOST, self.port, 0, 0).into()
    }

    fn inside(self) -> SocketAddr {
        SocketAddr::new(self.to, self.to_port)
    }
}

/// How long a UDP peer may be silent.
const UDP_IDLE: Duration = Duration::from_secs(60);
/// UDP peers of one door at a time; more are dropped.
const UDP_PEERS: usize = 1024;

/// The doors that are open, each with its task.
#[derive(Default)]
pub(crate) struct Doors {
    open: BTreeMap<Door, JoinHandle<()>>,
}

impl Doors {
    /// Opens and closes doors until exactly `wanted` are open. A door whose port is taken is reported
    /// and tried again with the next change.
    pub(crate) fn follow(&mut self, wanted: &[Door]) {
        self.open.retain(|door, task| {
            let keep = wanted.contains(door) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for door in wanted {
            if !self.open.contains_key(door) {
                let task = tokio::task::spawn_local(serve(*door));
                self.open.insert(*door, task);
            }
        }
    }
}

async fn serve(door: Door) {
    let outcome = match door.proto {
        17 => udp(door).await,
        _ => tcp(door).await,
    };
    if let Err(e) = outcome {
        tracing::warn!(port = door.port, error = %e, "the published port is not reached on ::1");
    }
}

async fn tcp(door: Door) -> std::io::Result<()> {
    let listener = TcpListener::bind(door.outside()).await?;
    // Dropped with this task: no connection outlives its door.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (mut client, _) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!(port = door.port, error = %e, "accept on ::1");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        connections.spawn_local(async move {
            let outcome = match TcpStream::connect(door.inside()).await {
                Ok(mut server) => tokio::io::copy_bidirectional(&mut client, &mut server).await,
                Err(e) => Err(e),
            };
            if outcome.is_err() {
                reset(&client);
            }
        });
    }
}

/// Closes with a reset, as a connection that the kernel translates would end.
fn reset(client: &TcpStream) {
    // Where it fails the client sees an ordinary end.
    let _ = rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO));
}

async fn udp(door: Door) -> std::io::Result<()> {
    let outside = Rc::new(UdpSocket::bind(door.outside()).await?);
    let mut peers: HashMap<SocketAddr, Rc<UdpSocket>> = HashMap::new();
    let mut carriers: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0u8; 65_536];
    loop {
        let received = tokio::select! {
            received = outside.recv_from(&mut buffer) => received,
            Some(silent) = carriers.join_next() => {
                if let Ok(peer) = silent {
                    peers.remove(&peer);
                }
                continue;
            }
        };
        let Ok((length, peer)) = received else {
            // An ICMP error about an answer: the peer is gone, the others are not.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if !peers.contains_key(&peer) {
            if peers.len() >= UDP_PEERS {
                continue;
            }
            let any: IpAddr = match door.to {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let inside = Rc::new(UdpSocket::bind((any, 0)).await?);
            if inside.connect(door.inside()).await.is_err() {
                continue;
            }
            carriers.spawn_local(answers(outside.clone(), inside.clone(), peer));
            peers.insert(peer, inside);
        }
        if let Some(inside) = peers.get(&peer) {
            let _ = inside.send(&buffer[..length]).await;
        }
    }
}

/// Carries answers back to one peer until the container is silent; then tells whose they were.
async fn answers(outside: Rc<UdpSocket>, inside: Rc<UdpSocket>, peer: SocketAddr) -> SocketAddr {
    let mut buffer = vec![0u8; 65_536];
    while let Ok(received) = tokio::time::timeout(UDP_IDLE, inside.recv(&mut buffer)).await {
        match received {
            Ok(length) => {
                let _ = outside.send_to(&buffer[..length], peer).await;
            }
            // Refused or unreachable: the next datagram may get through.
            Err(_) => tokio::task::yield_now().await,
        }
    }
    peer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn free_port() -> u16 {
        let socket = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        socket.local_addr().unwrap().port()
    }

    fn run(story: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, story);
    }

    #[test]
    fn tcp_passes_both_ways_and_a_closed_door_is_closed() {
        run(async {
            let server = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
            let door = Door {
                proto: 6,
                port: free_port(),
                to: Ipv6Addr::LOCALHOST.into(),
                to_port: server.local_addr().unwrap().port(),
            };
            let mut doors = Doors::default();
            doors.follow(&[door]);
            tokio::task::yield_now().await;
            let mut client = TcpStream::connect(door.outside()).await.unwrap();
            let (mut accepted, _) = server.accept().await.unwrap();
            client.write_all(b"ping").await.unwrap();
            let mut got = [0u8; 4];
            accepted.read_exact(&mut got).await.unwrap();
            accepted.write_all(b"pong").await.unwrap();
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"pong");
            doors.follow(&[]);
            tokio::task::yield_now().await;
            assert!(TcpStream::connect(door.outside()).await.is_err());
        });
    }

    #[test]
    fn udp_answers_find_their_peer() {
        run(async {
            let server = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
            let door = Door {
                proto: 17,
                port: free_port(),
                to: Ipv6Addr::LOCALHOST.into(),
                to_port: server.local_addr().unwrap().port(),
            };
            let mut doors = Doors::default();
            doors.follow(&[door]);
            tokio::task::yield_now().await;
            let client = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
            client.send_to(b"ping", door.outside()).await.unwrap();
            let mut got = [0u8; 16];
            let (_, from) = server.recv_from(&mut got).await.unwrap();
            server.send_to(b"pong", from).await.unwrap();
            let (length, _) = client.recv_from(&mut got).await.unwrap();
            assert_eq!(&got[..length], b"pong");
        });
    }

    #[test]
    fn each_half_of_a_connection_is_closed_for_itself_and_all_ends_with_the_door() {
        run(async {
            let server = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
            let door = Door {
                proto: 6,
                port: free_port(),
                to: Ipv6Addr::LOCALHOST.into(),
                to_port: server.local_addr().unwrap().port(),
            };
            let mut doors = Doors::default();
            doors.follow(&[door]);
            tokio::task::yield_now().await;
            let mut client = TcpStream::connect(door.outside()).await.unwrap();
            let (mut accepted, _) = server.accept().await.unwrap();
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut question = Vec::new();
            accepted.read_to_end(&mut question).await.unwrap();
            accepted.write_all(b"answer").await.unwrap();
            drop(accepted);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(
                (question.as_slice(), answer.as_slice()),
                (&b"question"[..], &b"answer"[..])
            );

            let mut client = TcpStream::connect(door.outside()).await.unwrap();
            let (mut accepted, _) = server.accept().await.unwrap();
            client.write_all(b"?").await.unwrap();
            accepted.read_exact(&mut [0]).await.unwrap();
            doors.follow(&[]);
            assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
            assert!(matches!(accepted.read(&mut [0]).await, Ok(0) | Err(_)));
        });
    }

    #[test]
    fn where_nobody_answers_the_client_is_reset() {
        run(async {
            let door = Door {
                proto: 6,
                port: free_port(),
                to: Ipv6Addr::LOCALHOST.into(),
                to_port: free_port(),
            };
            let mut doors = Doors::default();
            doors.follow(&[door]);
            tokio::task::yield_now().await;
            let mut client = TcpStream::connect(door.outside()).await.unwrap();
            let error = client.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        });
    }
}
