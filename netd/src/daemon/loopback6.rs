//! Published ports on `::1`, forwarded in user space: the kernel translates no destination of `::1`.
//!
//! The connection to the container is the host's own, so policy judges it as `host`, and it goes the
//! same way as every other packet. TCP connections are copied both ways; UDP peers get a socket each
//! that is closed when it has been silent for a while.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

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
    loop {
        let (mut client, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!(port = door.port, error = %e, "accept on ::1");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        tokio::task::spawn_local(async move {
            // A refused or broken connection ends both sides; there is nobody else to tell.
            if let Ok(mut server) = TcpStream::connect(door.inside()).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

async fn udp(door: Door) -> std::io::Result<()> {
    let outside = Rc::new(UdpSocket::bind(door.outside()).await?);
    let mut peers: HashMap<SocketAddr, (Rc<UdpSocket>, JoinHandle<()>)> = HashMap::new();
    let mut buffer = vec![0u8; 65_536];
    loop {
        let (length, peer) = outside.recv_from(&mut buffer).await?;
        peers.retain(|_, (_, task)| !task.is_finished());
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
            let answers = tokio::task::spawn_local(answers(outside.clone(), inside.clone(), peer));
            peers.insert(peer, (inside, answers));
        }
        if let Some((inside, _)) = peers.get(&peer) {
            let _ = inside.send(&buffer[..length]).await;
        }
    }
}

/// Carries answers back to one peer until both are silent.
async fn answers(outside: Rc<UdpSocket>, inside: Rc<UdpSocket>, peer: SocketAddr) {
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
}
