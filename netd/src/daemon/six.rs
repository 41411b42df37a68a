//! The socket on which a zone's machines ask for IPv6: router solicitations and DHCPv6, as frames.
//!
//! A packet socket hears what the guard and the gate have let in, with the hardware address that it came
//! from. (The socket is of the protocol IPv6, so its copy is made behind the gate; net/core/dev.c,
//! `__netif_receive_skb_core`.) The input hook then drops the packets: nothing on the host but this hears them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use tokio::task::JoinHandle;
use zone::ZoneName;

use super::engine::{Engine, ZoneEvent};

/// The tasks that listen, one a zone.
#[derive(Default)]
pub(super) struct Listeners(HashMap<ZoneName, (u32, JoinHandle<()>)>);

impl Listeners {
    /// A zone came, changed or went.
    pub(super) fn follow(&mut self, engine: &Rc<RefCell<Engine>>, change: &ZoneEvent) {
        match change {
            ZoneEvent::Up { zone, ifindex, .. } => {
                if let Some((served, task)) = self.0.get(zone) {
                    if served == ifindex && !task.is_finished() {
                        return;
                    }
                    task.abort();
                }
                let task = tokio::task::spawn_local(serve(engine.clone(), zone.clone(), *ifindex));
                self.0.insert(zone.clone(), (*ifindex, task));
            }
            ZoneEvent::Down { zone } => {
                if let Some((_, task)) = self.0.remove(zone) {
                    task.abort();
                }
            }
        }
    }
}

async fn serve(engine: Rc<RefCell<Engine>>, zone: ZoneName, ifindex: u32) {
    if !engine.borrow().speaks6(&zone) {
        return;
    }
    let subject = format!("IPv6 in zone {zone}");
    let opened = listener(ifindex).and_then(|(socket, groups)| {
        let socket = super::sys::readable(socket)?;
        Ok((socket, groups))
    });
    let (socket, _groups) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            let message = format!("{subject}: listen for router solicitations and DHCPv6: {e}");
            tracing::error!("{message}");
            engine.borrow_mut().problem(subject, Some(message));
            return;
        }
    };
    engine.borrow_mut().problem(subject, None);
    let mut buffer = vec![0u8; 2048];
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        let length = match rustix::net::recv(ready.get_inner(), &mut *buffer, RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::AGAIN) => {
                ready.clear_ready();
                continue;
            }
            Err(e) => {
                tracing::warn!(zone = %zone, error = %e, "receive a frame");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let heard = engine.borrow_mut().heard6(&zone, &buffer[..length]);
        let Some((durable, frame)) = heard else {
            continue;
        };
        // Not waited for here: all requests in hand share a commit.
        let (engine, zone) = (engine.clone(), zone.clone());
        tokio::task::spawn_local(async move {
            for durable in durable {
                match durable.await {
                    Ok(Ok(())) => {}
                    // The client asks again; a reply that is not stored must not leave.
                    Ok(Err(e)) => {
                        tracing::error!(zone = %zone, "lease not granted: {}", super::chain(&e));
                        return;
                    }
                    Err(_) => return,
                }
            }
            engine.borrow().send6(&zone, &frame);
        });
    }
}

/// A socket that hears solicitations and DHCPv6 on a bridge, and one that keeps the bridge in the groups they
/// are sent to (else one that somebody made a multicast querier would not pass them up).
fn listener(ifindex: u32) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let socket = super::sys::frame_sender()?;
    super::sys::hear_ipv6(socket.as_fd(), ifindex, &FILTER)?;
    let groups = rustix::net::socket_with(
        AddressFamily::INET6,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let all: [Ipv6Addr; 2] = [dhcp::v6::ALL_ROUTERS, dhcp::v6::ALL_SERVERS];
    for group in all {
        sockopt::set_ipv6_add_membership(&groups, &group, ifindex)?;
    }
    Ok((socket, groups))
}

/// Frames with ICMPv6 of type 133, and with UDP to port 547; nothing behind extension headers.
const FILTER: [(u16, u8, u8, u32); 9] = {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
    const EQUALS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    [
        (LOAD_BYTE, 0, 0, 14 + 6), // next header
        (EQUALS, 0, 2, 58),
        (LOAD_BYTE, 0, 0, 14 + 40), // ICMPv6 type
        (EQUALS, 3, 4, 133),
        (EQUALS, 0, 3, 17),
        (LOAD_HALF, 0, 0, 14 + 40 + 2), // destination port
        (EQUALS, 0, 1, 547),
        (RETURN, 0, 0, 0xffff),
        (RETURN, 0, 0, 0),
    ]
};
