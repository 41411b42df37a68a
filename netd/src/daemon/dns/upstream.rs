//! Questions to upstream resolvers: each try from a socket of its own, with a port that the kernel chose at random.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use dns::{Frames, Transport, UpstreamQuery};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::Context;

/// Sends a query; what comes back finds its way by itself.
pub(super) fn ask(context: &Rc<Context>, query: UpstreamQuery) {
    let flight = query.attempt.flight;
    let task = tokio::task::spawn_local(exchange(context.clone(), query));
    let mut asking = context.asking.borrow_mut();
    asking.entry(flight).or_default().push(task.abort_handle());
    context.asked.notify_one();
}

async fn exchange(context: Rc<Context>, query: UpstreamQuery) {
    let outcome = match query.over {
        Transport::Udp => over_udp(&context, &query).await,
        Transport::Tcp => over_tcp(&context, &query).await,
    };
    if let Err(e) = outcome {
        tracing::debug!(server = %query.server, error = %e, "ask a resolver");
        let progress = context.engine.borrow_mut().upstream_failed(query.attempt);
        context.progress(progress);
    }
}

/// Until the question is answered, by whatever server. Connected, so that only the server's answers arrive.
async fn over_udp(context: &Rc<Context>, query: &UpstreamQuery) -> io::Result<()> {
    let any = match query.server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(query.server).await?;
    socket.send(&query.bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answered(context, query, &buffer[..length]) {
            return Ok(());
        }
    }
}

async fn over_tcp(context: &Rc<Context>, query: &UpstreamQuery) -> io::Result<()> {
    let mut stream = TcpStream::connect(query.server).await?;
    stream.write_all(&Frames::frame(&query.bytes)).await?;
    let mut frames = Frames::default();
    let mut buffer = vec![0; 4096];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        frames.push(&buffer[..length]);
        while let Some(message) = frames.next_message() {
            if answered(context, query, message) {
                return Ok(());
            }
        }
    }
}

fn answered(context: &Rc<Context>, query: &UpstreamQuery, message: &[u8]) -> bool {
    let progress = context.engine.borrow_mut().upstream(query.attempt, message);
    context.progress(progress)
}

/// Wakes the resolver whenever it asked for it.
pub(super) async fn keep_time(context: Rc<Context>) {
    loop {
        let due = context.engine.borrow().names_due();
        let wait = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = context.asked.notified() => {}
            () = wait => {
                let happened = context.engine.borrow_mut().expire_names();
                for progress in happened {
                    context.progress(progress);
                }
            }
        }
    }
}
