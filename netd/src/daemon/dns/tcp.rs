//! Queries over TCP (RFC 7766): several on one connection, answered in whatever order they are known.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use dns::{Frames, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use zone::ZoneName;

use super::{Back, Context, Heard};

/// Connections of one container at one time.
const OF_ONE: usize = 16;
/// Connections to one gateway at one time.
const IN_ALL: usize = 512;
/// How long a connection may be silent (RFC 7766 §6.2.3: some seconds), or not take what is sent to it.
const IDLE: Duration = Duration::from_secs(10);

/// By container: one that has a prefix has more addresses than anybody could count.
type Counts = Rc<RefCell<HashMap<String, usize>>>;

/// A connection that counts for its container.
struct Counted {
    counts: Counts,
    container: String,
    peer: IpAddr,
}

impl Counted {
    /// None where there are too many.
    fn new(counts: &Counts, container: String, peer: IpAddr) -> Option<Self> {
        let mut map = counts.borrow_mut();
        if map.values().sum::<usize>() >= IN_ALL {
            return None;
        }
        let count = map.entry(container.clone()).or_default();
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        Some(Self {
            counts: counts.clone(),
            container,
            peer,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut map = self.counts.borrow_mut();
        if let Some(count) = map.get_mut(&self.container) {
            *count -= 1;
            if *count == 0 {
                map.remove(&self.container);
            }
        }
    }
}

/// Takes connections, until the zone's sockets are closed; its connections end with it.
pub(super) async fn serve(context: Rc<Context>, zone: ZoneName, listener: TcpListener) {
    let counts = Counts::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Nobody's address, or beyond the bound: it is closed. The client asks again, or another resolver.
                    let asker = context.engine.borrow().asker(&zone, peer.ip());
                    let counted = asker.and_then(|asker| Counted::new(&counts, asker, peer.ip()));
                    if let Some(counted) = counted {
                        connections.spawn_local(converse(context.clone(), zone.clone(), stream, counted));
                    }
                }
                Err(e) => {
                    tracing::warn!(zone = %zone, error = %e, "accept a DNS connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until the client ends it and has all its answers, or is silent for too long.
async fn converse(context: Rc<Context>, zone: ZoneName, mut stream: TcpStream, client: Counted) {
    let (mut read, mut write) = stream.split();
    let (queue, mut answers) = mpsc::unbounded_channel();
    let back = Back::Tcp(queue);
    let mut frames = Frames::default();
    let mut buffer = [0; 2048];
    let (mut waiting, mut open) = (0_usize, true);
    while open || waiting > 0 {
        tokio::select! {
            // Answers first: who sends without reading fills its own connection and not our memory.
            biased;
            Some(answer) = answers.recv() => {
                waiting = waiting.saturating_sub(1);
                let frame = Frames::frame(&answer);
                if !matches!(timeout(IDLE, write.write_all(&frame)).await, Ok(Ok(()))) {
                    return;
                }
            }
            read = timeout(IDLE, read.read(&mut buffer)), if open => {
                let length = match read {
                    Ok(Ok(length)) => length,
                    // Nothing was said for too long. What was asked is answered still.
                    Err(_) => 0,
                    Ok(Err(_)) => return,
                };
                open = length > 0;
                frames.push(&buffer[..length]);
                while let Some(query) = frames.next_message() {
                    match context.query(&zone, client.peer, Transport::Tcp, &back, query) {
                        Heard::Answered(message) => {
                            context.open(message.opens.as_slice());
                            context.send(&back, message);
                        }
                        Heard::Later => {}
                        Heard::Never => return,
                    }
                    waiting += 1;
                }
            }
            // Not even a failure was told: the container is gone.
            () = tokio::time::sleep(IDLE), if !open => return,
        }
    }
}
