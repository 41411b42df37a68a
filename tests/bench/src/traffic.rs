//! Real traffic between two containers: one byte there and back over TCP.
//!
//! Both ends run on one core: on two, the figures jump by several times with the cores' sleep and wake-up.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::{During, Error, Result};
use crate::ns::Netns;
use crate::policy::PORT;
use crate::stats::Samples;

/// How long anything may take before a measurement counts as failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pins the calling thread to the first core.
pub(crate) fn pin() -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(0);
    sched_setaffinity(None, &cores).during(|| "pin to core 0".into())
}

/// Answers every byte with a byte, on [`PORT`] of a container, one connection at a time, until the process ends.
pub(crate) fn serve(server: &Netns) -> Result<()> {
    let listener = server.on(|| {
        TcpListener::bind(("0.0.0.0", PORT)).during(|| format!("listen in {}", server.name()))
    })?;
    std::thread::spawn(move || {
        if pin().is_err() {
            return;
        }
        for stream in listener.incoming().flatten() {
            echo(stream);
        }
    });
    Ok(())
}

fn echo(mut stream: TcpStream) {
    let mut byte = [0];
    if stream.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(1) = stream.read(&mut byte) {
        if stream.write_all(&byte).is_err() {
            return;
        }
    }
}

/// An open connection to a [`serve`]d container.
pub(crate) struct Line(TcpStream);

impl Line {
    /// Opens one from `client`. An error of kind `ConnectionRefused` or `TimedOut` is a verdict of the policy.
    pub(crate) fn open(client: &Netns, server: IpAddr) -> Result<Self> {
        client.on(|| connect(server).map(Self))
    }

    /// Sends a byte and waits for its answer, `count` times.
    pub(crate) fn round_trips(&mut self, count: usize) -> Result<Samples> {
        let mut samples = Samples::default();
        let mut byte = [1];
        for _ in 0..count {
            let start = Instant::now();
            self.0
                .write_all(&byte)
                .and_then(|()| self.0.read_exact(&mut byte))
                .during(|| "send a byte there and back".into())?;
            samples.push(start.elapsed());
        }
        Ok(samples)
    }
}

/// Opens `count` connections from `client`, one after the other, with one byte there and back on each; the time of each.
pub(crate) fn connections(client: &Netns, server: IpAddr, count: usize) -> Result<Samples> {
    client.on(|| {
        pin()?;
        let mut samples = Samples::default();
        for _ in 0..count {
            let start = Instant::now();
            let stream = connect(server)?;
            let mut line = Line(stream);
            line.round_trips(1)?;
            samples.push(start.elapsed());
            // Closed by a reset: no port is kept waiting, and the next connection finds the same state.
            set_socket_linger(&line.0, Some(Duration::ZERO)).during(|| "set linger".into())?;
        }
        Ok(samples)
    })
}

fn connect(server: IpAddr) -> Result<TcpStream> {
    let address = SocketAddr::new(server, PORT);
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .during(|| format!("connect to {address}"))?;
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
        .during(|| "set up a connection".into())?;
    Ok(stream)
}

/// Whether a new connection is let through. Called on a thread that is inside the client already.
pub(crate) fn passes(server: IpAddr) -> Result<bool> {
    match connect(server) {
        Ok(stream) => {
            set_socket_linger(&stream, Some(Duration::ZERO)).during(|| "set linger".into())?;
            Ok(true)
        }
        Err(Error::Os { source, .. })
            if matches!(
                source.kind(),
                std::io::ErrorKind::ConnectionRefused
                    | std::io::ErrorKind::TimedOut
                    | std::io::ErrorKind::HostUnreachable
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
