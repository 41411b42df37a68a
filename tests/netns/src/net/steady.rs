//! Flows that never pause: one that must go on, and many that must never pass.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::netns::Netns;
use super::raw::PacketSocket;

/// Between two packets of a flow.
const BEAT: Duration = Duration::from_millis(1);

/// An allowed flow: numbered datagrams to an echo server, each as a flow of its own or all as one.
pub struct Steady {
    sent: Arc<Mutex<Vec<Instant>>>,
    answered: Arc<Mutex<Vec<(usize, Instant)>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Steady {
    /// Starts it; an answer must come.
    pub fn start(from: &Netns, to: IpAddr, port: u16) -> Self {
        let flow = Self::begin(from, to, port);
        // how soon it is there is nobody's claim
        flow.wait_for_answer(Instant::now(), Duration::from_secs(10));
        flow
    }

    /// Starts it, whether it is answered or not.
    pub fn begin(from: &Netns, to: IpAddr, port: u16) -> Self {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = from.enter(|| UdpSocket::bind(any)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let mut flow = Self {
            sent: Arc::default(),
            answered: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let (sent, stop, out) = (
            flow.sent.clone(),
            flow.stop.clone(),
            socket.try_clone().unwrap(),
        );
        let sender = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let number = {
                    let mut sent = sent.lock().unwrap();
                    sent.push(Instant::now());
                    sent.len() - 1
                };
                // A refusal is told by an error; the flow goes on all the same.
                let _ = out.send_to(&number.to_be_bytes(), SocketAddr::new(to, port));
                std::thread::sleep(BEAT);
            }
        });
        let (answered, stop) = (flow.answered.clone(), flow.stop.clone());
        let receiver = std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while !stop.load(Ordering::Relaxed) {
                let Ok(read) = socket.recv(&mut buffer) else {
                    continue;
                };
                let number = buffer[..read]
                    .last_chunk::<8>()
                    .map(|bytes| usize::from_be_bytes(*bytes));
                answered
                    .lock()
                    .unwrap()
                    .push((number.unwrap_or(usize::MAX), Instant::now()));
            }
        });
        flow.threads = vec![sender, receiver];
        flow
    }

    /// Waits for an answer to something sent after `since`; returns how long after `since` it was sent.
    ///
    /// # Panics
    /// When none came within `limit`.
    #[track_caller]
    pub fn wait_for_answer(&self, since: Instant, limit: Duration) -> Duration {
        self.answer_within(since, limit)
            .unwrap_or_else(|| panic!("the allowed flow did not come back within {limit:?}"))
    }

    /// The same, or nothing when none came within `limit`.
    pub fn answer_within(&self, since: Instant, limit: Duration) -> Option<Duration> {
        let asked = Instant::now();
        while asked.elapsed() < limit {
            if let Some(after) = self.first_answered_since(since) {
                return Some(after);
            }
            std::thread::sleep(BEAT);
        }
        None
    }

    fn first_answered_since(&self, since: Instant) -> Option<Duration> {
        let sent = self.sent.lock().unwrap();
        let answered = self.answered.lock().unwrap();
        let mut times = answered
            .iter()
            .rev()
            .take(4096)
            .filter_map(|(number, _)| sent.get(*number).copied());
        let mut first = None;
        for at in times.by_ref() {
            if at >= since {
                first = Some(at);
            }
        }
        first.map(|at| at - since)
    }

    /// The longest stretch after `since` in which nothing that was sent got an answer.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let sent = self.sent.lock().unwrap();
        let answered = self.answered.lock().unwrap();
        let mut times: Vec<Instant> = answered
            .iter()
            .filter_map(|(number, _)| sent.get(*number).copied())
            .filter(|at| *at >= since)
            .collect();
        times.sort();
        times.push(Instant::now());
        let mut last = since;
        let mut longest = Duration::ZERO;
        for at in times {
            longest = longest.max(at - last);
            last = at;
        }
        longest
    }

    /// How many datagrams were sent and how many never got an answer, the last 100 ms left out.
    pub fn finish(mut self) -> (usize, usize) {
        let until = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        self.halt();
        let sent = self.sent.lock().unwrap();
        let counted = sent.iter().filter(|at| **at < until).count();
        let answered = self.answered.lock().unwrap();
        let numbers: std::collections::BTreeSet<usize> = answered
            .iter()
            .map(|(number, _)| *number)
            .filter(|number| *number < counted)
            .collect();
        (counted, counted - numbers.len())
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Senders that try without pause to get through: routed datagrams and connections, and raw frames.
#[derive(Default)]
pub struct Storm {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Storm {
    /// A storm without senders.
    pub fn new() -> Self {
        Self::default()
    }

    /// Datagrams and connection attempts to a port, each a new flow and all as one.
    pub fn routed(mut self, from: &Netns, to: IpAddr, port: u16) -> Self {
        let from = from.clone();
        let one = from
            .enter(|| UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }))
            .unwrap();
        let address = SocketAddr::new(to, port);
        self.spawn(move || {
            from.enter_for_good();
            move || {
                let _ = one.send_to(b"storm", address);
                if let Ok(new) = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })
                {
                    let _ = new.send_to(b"storm", address);
                }
                let _ = TcpStream::connect_timeout(&address, BEAT);
            }
        });
        self
    }

    /// Frames sent as they stand from an interface of a namespace.
    pub fn frames(mut self, from: &Netns, ifname: &str, frames: Vec<Vec<u8>>) -> Self {
        let (from, ifname) = (from.clone(), ifname.to_owned());
        self.spawn(move || {
            let socket = from.enter(|| PacketSocket::open(&ifname)).unwrap();
            move || {
                for frame in &frames {
                    let _ = socket.send(frame);
                }
            }
        });
        self
    }

    fn spawn<Beat: FnMut()>(&mut self, prepare: impl FnOnce() -> Beat + Send + 'static) {
        let (stop, sent) = (self.stop.clone(), self.sent.clone());
        self.threads.push(std::thread::spawn(move || {
            let mut beat = prepare();
            while !stop.load(Ordering::Relaxed) {
                beat();
                sent.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(BEAT);
            }
        }));
    }

    /// Rounds sent so far, over all senders.
    pub fn rounds(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
