//! The sockets of DHCP: one pair for each zone.
//!
//! Requests arrive on a UDP socket bound to the bridge. Replies leave by a packet socket, because their
//! receiver may have no address yet to be found at; it carries the packet mark that the bridge's gate
//! asks for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use zone::{IfName, ZoneName};

use super::engine::{Engine, ZoneEvent};
use super::sys::Batch;

/// Acknowledgements that may wait for the disk at one time.
const WAITING: usize = 4096;

/// Bytes of requests that the kernel keeps while we are busy.
const BACKLOG: usize = 1024 * 1024;

/// Follows the zones: a task for each that serves its bridge.
pub(super) async fn serve_zones(
    engine: Rc<RefCell<Engine>>,
    mut changes: mpsc::UnboundedReceiver<ZoneEvent>,
) {
    let mut tasks: HashMap<ZoneName, (u32, JoinHandle<()>)> = HashMap::new();
    let mut six = super::six::Listeners::default();
    while let Some(change) = changes.recv().await {
        six.follow(&engine, &change);
        match change {
            ZoneEvent::Up {
                zone,
                bridge,
                ifindex,
            } => {
                if let Some((served, task)) = tasks.get(&zone) {
                    if *served == ifindex && !task.is_finished() {
                        continue;
                    }
                    task.abort();
                }
                let task =
                    tokio::task::spawn_local(serve(engine.clone(), zone.clone(), bridge, ifindex));
                tasks.insert(zone, (ifindex, task));
            }
            ZoneEvent::Down { zone } => {
                if let Some((_, task)) = tasks.remove(&zone) {
                    task.abort();
                }
            }
        }
    }
}

async fn serve(engine: Rc<RefCell<Engine>>, zone: ZoneName, bridge: IfName, ifindex: u32) {
    let subject = format!("DHCP in zone {zone}");
    let sockets = requests(&bridge).and_then(|r| Ok((r, super::sys::frame_sender()?)));
    let (requests, replies) = match sockets {
        Ok(sockets) => sockets,
        Err(e) => {
            let message = format!(
                "{subject}: {e} (is another DHCP server bound to port 67 of every interface?)"
            );
            tracing::error!("{message}");
            engine.borrow_mut().problem(subject, Some(message));
            return;
        }
    };
    engine.borrow_mut().problem(subject, None);
    let replies = Rc::new(replies);
    // More acknowledgements are not kept waiting for the disk: who is not heard asks again.
    let waiting = Arc::new(Semaphore::new(WAITING));
    let mut batch = Batch::new();
    loop {
        let received = requests
            .async_io(Interest::READABLE, || batch.receive(requests.as_fd()))
            .await;
        if let Err(e) = received {
            tracing::warn!(zone = %zone, error = %e, "receive DHCP messages");
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let Some(answers) = engine.borrow_mut().dhcp(&zone, batch.messages()) else {
            return;
        };
        send(&zone, &replies, ifindex, &answers.now);
        if answers.committed.is_empty() {
            continue;
        }
        let many = u32::try_from(answers.then.len()).unwrap_or(u32::MAX);
        let Ok(permit) = waiting.clone().acquire_many_owned(many).await else {
            return;
        };
        // Not waited for here: all requests in hand share a commit.
        let durable = engine.borrow().commit_leases(answers.committed);
        let (zone, replies) = (zone.clone(), replies.clone());
        tokio::task::spawn_local(async move {
            match durable.await {
                Ok(Ok(())) => send(&zone, &replies, ifindex, &answers.then),
                // The client asks again; an acknowledgement that is not stored must not leave.
                Ok(Err(e)) => {
                    tracing::error!(zone = %zone, "leases not acknowledged: {}", super::chain(&e));
                }
                Err(_) => {}
            }
            drop(permit);
        });
    }
}

fn send(zone: &ZoneName, replies: &OwnedFd, ifindex: u32, frames: &[Vec<u8>]) {
    if frames.is_empty() {
        return;
    }
    if let Err(e) = super::sys::send_frames(replies.as_fd(), ifindex, frames) {
        tracing::warn!(zone = %zone, error = %e, "send DHCP replies");
    }
}

/// Tells the journal everything there is, some at a time, so that it can drop what is old.
pub(super) async fn fold_leases(engine: Rc<RefCell<Engine>>) {
    engine.borrow().journal.begin();
    let mut place = None;
    loop {
        let (entries, next) = engine.borrow().told_leases(place.as_ref());
        if !entries.is_empty() {
            let durable = engine.borrow().commit_leases(entries);
            if !matches!(durable.await, Ok(Ok(()))) {
                // It wants to be folded again, and is, once there is room.
                return;
            }
        }
        match next {
            Some(next) => place = Some(next),
            None => break,
        }
    }
    engine.borrow().journal.end();
}

/// The socket on which requests of one bridge arrive.
fn requests(bridge: &IfName) -> std::io::Result<UdpSocket> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_broadcast(&socket, true)?;
    super::sys::tell_destination(socket.as_fd())?;
    // A whole crowd may come at once, as after a power failure. The kernel may allow less.
    if sockopt::set_socket_recv_buffer_size_force(&socket, BACKLOG).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, BACKLOG)?;
    }
    super::sys::bind_to_device(socket.as_fd(), bridge.as_str())?;
    let any = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67);
    rustix::net::bind(&socket, &any)?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}
