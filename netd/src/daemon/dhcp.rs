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
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use zone::{IfName, ZoneName};

use super::engine::{Engine, ZoneEvent};
use super::store::StoreError;

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
    let sockets = requests(&bridge).and_then(|r| Ok((r, replies()?)));
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
    let (requests, replies) = (Rc::new(requests), Rc::new(replies));
    let mut buffer = vec![0u8; 2048];
    loop {
        let received = requests
            .async_io(Interest::READABLE, || {
                super::sys::receive(requests.as_fd(), &mut buffer)
            })
            .await;
        let (length, source, to) = match received {
            Ok(received) => received,
            Err(e) => {
                tracing::warn!(zone = %zone, error = %e, "receive a DHCP message");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let outcome = engine
            .borrow_mut()
            .dhcp(&zone, &buffer[..length], source, to);
        match outcome {
            None => return,
            Some(dhcp::Outcome::Ignore(silence)) => {
                tracing::debug!(zone = %zone, reason = %silence, "DHCP message not answered");
            }
            Some(dhcp::Outcome::Record(lease)) => engine.borrow().record_lease(&zone, &lease),
            Some(dhcp::Outcome::Send(reply)) => {
                send(&engine, &zone, &requests, &replies, ifindex, &reply).await
            }
            Some(dhcp::Outcome::Commit { lease, then }) => {
                // Not waited for here: all requests in hand share a commit.
                let durable = engine.borrow().store_lease(&zone, &lease);
                let acknowledge = acknowledge(
                    engine.clone(),
                    zone.clone(),
                    requests.clone(),
                    replies.clone(),
                    ifindex,
                    then,
                    durable,
                );
                tokio::task::spawn_local(acknowledge);
            }
        }
    }
}

/// Sends an acknowledgement once what it says is stored.
async fn acknowledge(
    engine: Rc<RefCell<Engine>>,
    zone: ZoneName,
    requests: Rc<UdpSocket>,
    replies: Rc<OwnedFd>,
    ifindex: u32,
    reply: dhcp::Reply,
    durable: oneshot::Receiver<Result<(), StoreError>>,
) {
    match durable.await {
        Ok(Ok(())) => send(&engine, &zone, &requests, &replies, ifindex, &reply).await,
        // The client asks again; an acknowledgement that is not stored must not leave.
        Ok(Err(e)) => tracing::error!(zone = %zone, "lease not acknowledged: {}", super::chain(&e)),
        Err(_) => {}
    }
}

async fn send(
    engine: &RefCell<Engine>,
    zone: &ZoneName,
    requests: &UdpSocket,
    replies: &OwnedFd,
    ifindex: u32,
    reply: &dhcp::Reply,
) {
    let Some(mac) = engine.borrow().gateway_mac(zone) else {
        return;
    };
    let sent = match reply.frame(mac.0) {
        Ok(Some(frame)) => super::sys::send_frame(replies.as_fd(), ifindex, &frame),
        Ok(None) => requests
            .send_to(&reply.bytes, reply.to.udp())
            .await
            .map(drop),
        Err(e) => Err(std::io::Error::other(e)),
    };
    if let Err(e) = sent {
        tracing::warn!(zone = %zone, error = %e, "send a DHCP reply");
    }
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
    super::sys::bind_to_device(socket.as_fd(), bridge.as_str())?;
    let any = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67);
    rustix::net::bind(&socket, &any)?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

/// The packet socket for replies. Protocol 0: it receives nothing.
fn replies() -> std::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    super::sys::set_mark(socket.as_fd(), firewall::skeleton::JUDGED)?;
    Ok(socket)
}
