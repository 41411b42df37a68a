//! One TCP connection that carries as much as it can.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::netns::Netns;

/// A connection under full load, until the value goes.
pub struct Flow {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Flow {
    /// Connects and begins to send. `to` is an address of the namespace `into`.
    pub fn start(from: &Netns, into: &Netns, to: impl Into<IpAddr>) -> Self {
        let to = to.into();
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let listener = into.enter(|| TcpListener::bind(any)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let flow = Self {
            received: Arc::default(),
            stop: Arc::default(),
        };
        let received = flow.received.clone();
        std::thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let mut buffer = vec![0; 1 << 18];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                received.fetch_add(n as u64, Ordering::Relaxed);
            }
        });
        let mut stream = from
            .enter(|| TcpStream::connect_timeout(&(to, port).into(), Duration::from_secs(10)))
            .unwrap();
        let stop = flow.stop.clone();
        std::thread::spawn(move || {
            let block = vec![7; 1 << 16];
            while !stop.load(Ordering::Relaxed) && stream.write_all(&block).is_ok() {}
        });
        flow
    }

    /// Megabits a second that arrive now, once what waits in queues is through.
    pub fn mbit(&self) -> f64 {
        std::thread::sleep(Duration::from_millis(300));
        let (begin, before) = (Instant::now(), self.received.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_millis(1000));
        let bytes = self.received.load(Ordering::Relaxed) - before;
        bytes as f64 * 8e-6 / begin.elapsed().as_secs_f64()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
