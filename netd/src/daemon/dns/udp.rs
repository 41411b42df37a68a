//! Queries in datagrams.

use std::rc::Rc;
use std::time::Duration;

use dns::Transport;
use tokio::net::UdpSocket;
use zone::ZoneName;

use super::{Back, Context};

/// Queries that are answered before others have their turn.
const AT_ONCE: usize = 64;
/// The longest query that is read whole; what is longer does not parse.
const LONGEST: usize = 4096;

/// Answers what arrives on one socket, until the zone's sockets are closed.
pub(super) async fn serve(context: Rc<Context>, zone: ZoneName, socket: Rc<UdpSocket>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let mut failed = socket.readable().await.err();
        for _ in 0..AT_ONCE {
            if failed.is_some() {
                break;
            }
            match socket.try_recv_from(&mut buffer) {
                Ok((length, peer)) => {
                    let back = Back::Udp(socket.clone(), peer);
                    let query = &buffer[..length];
                    context.query(&zone, peer.ip(), Transport::Udp, &back, query);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(e) => failed = Some(e),
            }
        }
        match failed {
            None => tokio::task::yield_now().await,
            Some(e) => {
                tracing::warn!(zone = %zone, error = %e, "receive a DNS message");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
