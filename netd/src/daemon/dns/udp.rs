//! Queries in datagrams, several at a time.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use dns::Transport;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use zone::ZoneName;

use super::{Back, Context, Heard};
use crate::daemon::sys::MOST;

/// Times that a socket is emptied before others have their turn.
const AT_ONCE: usize = 2;

/// Answers what arrives on one socket, until the zone's sockets are closed.
pub(super) async fn serve(context: Rc<Context>, zone: ZoneName, socket: Rc<UdpSocket>) {
    let mut joins = true;
    loop {
        let turn = match socket.readable().await {
            Ok(()) => take_turn(&context, &zone, &socket, &mut joins),
            Err(e) => Err(e),
        };
        match turn {
            Ok(()) => tokio::task::yield_now().await,
            Err(e) => {
                tracing::warn!(zone = %zone, error = %e, "receive a DNS message");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn take_turn(
    context: &Rc<Context>,
    zone: &ZoneName,
    socket: &Rc<UdpSocket>,
    joins: &mut bool,
) -> io::Result<()> {
    let mut datagrams = context.datagrams.borrow_mut();
    let mut opens = Vec::new();
    for _ in 0..AT_ONCE {
        let mut count = 0;
        let more = socket.try_io(Interest::READABLE, || {
            count = datagrams.receive(socket.as_fd())?;
            // Not all the room was needed, so nothing waits: that is worth a call.
            if count < MOST {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        for n in 0..count {
            let Some((query, peer)) = datagrams.get(n) else {
                break;
            };
            let back = Back::Udp(socket.clone(), peer);
            let heard = context.query(zone, peer.ip(), Transport::Udp, &back, query);
            if let Heard::Answered(message) = heard {
                opens.extend(message.opens);
                datagrams.push(message.bytes, peer);
            }
        }
        // Once what the answers open is in force.
        context.open(&opens);
        opens.clear();
        // A full queue of the link drops what the link would; the client asks again.
        datagrams.send(socket.as_fd(), joins, |to, e| {
            tracing::debug!(to = %to, error = %e, "send a DNS answer");
        });
        match more {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
