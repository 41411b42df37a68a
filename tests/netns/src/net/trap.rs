//! Counts frames at the far end that must never arrive. A packet socket sees them before any filter of
//! the container could hide them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::netns::Netns;
use super::raw::PacketSocket;

/// How many frames a trap keeps to be looked at.
const KEPT: usize = 10_000;

/// Watches one interface until it is dropped.
pub struct Trap {
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    watcher: Option<JoinHandle<()>>,
}

impl Trap {
    /// Counts the frames that come in on `ifname` and for which `matches` holds; it gets whole Ethernet frames.
    pub fn set(
        netns: &Netns,
        ifname: &str,
        matches: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Self {
        let socket = netns.enter(|| PacketSocket::open(ifname)).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let kept: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (counted, stopped, keep) = (count.clone(), stop.clone(), kept.clone());
        let watcher = std::thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                // The interface may go away under the trap; then nothing arrives any more.
                let Ok(read) = socket.receive(&mut buffer, Duration::from_millis(50)) else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let frame = &buffer[..read.unwrap_or(0)];
                if !frame.is_empty() && matches(frame) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let mut kept = keep.lock().unwrap();
                    if kept.len() < KEPT {
                        kept.push(frame.to_vec());
                    }
                }
            }
        });
        Self {
            count,
            stop,
            kept,
            watcher: Some(watcher),
        }
    }

    /// How many frames matched so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The frames that matched, the first of them.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.kept.lock().unwrap().clone()
    }

    /// Fails if a frame got through, and shows the first.
    #[track_caller]
    pub fn is_empty(&self, why: &str) {
        // What is in flight has arrived after this.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(
            self.count(),
            0,
            "{why}: frames got through, the first: {:02x?}",
            self.frames().first()
        );
    }

    /// Fails if nothing got through: the control that the trap and the sender work.
    #[track_caller]
    pub fn has_caught(&self, why: &str) {
        for _ in 0..40 {
            if self.count() > 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{why}: nothing arrived, so the trap proves nothing");
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}
