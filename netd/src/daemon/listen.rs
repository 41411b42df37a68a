//! Listens to what the kernel tells of packets, and hands it to the engine.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use firewall::kernel::Nflog;
use firewall::skeleton::LOG_GROUP;

use super::engine::Engine;
use super::{chain, sys};

/// Packets that are handed over in one go; others have their turn in between.
const ENOUGH: usize = 128;

/// How long to wait before listening is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Under which name a failure stands in `netd status`.
const SUBJECT: &str = "decisions";

/// Listens as long as the daemon lives. Where that is not possible it is a problem, and is tried again:
/// what passes and what does not never depends on it.
pub(super) async fn listen(engine: Rc<RefCell<Engine>>) {
    loop {
        let message = match Nflog::open(LOG_GROUP) {
            Err(e) => format!(
                "listen to nflog group {LOG_GROUP}: {}: nothing is recorded of rules that log and of files on trial (does another program listen to that group?)",
                chain(&e)
            ),
            Ok(nflog) => {
                engine.borrow_mut().problem(SUBJECT.into(), None);
                match hear(nflog, &engine).await {
                    Ok(never) => match never {},
                    Err(e) => format!("listen to nflog group {LOG_GROUP}: {}", chain(&*e)),
                }
            }
        };
        tracing::warn!("{message}");
        engine.borrow_mut().problem(SUBJECT.into(), Some(message));
        tokio::time::sleep(AGAIN).await;
    }
}

async fn hear(
    nflog: Nflog,
    engine: &RefCell<Engine>,
) -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    let mut nflog = sys::readable(nflog)?;
    loop {
        let mut guard = nflog.readable_mut().await?;
        let heard = guard.get_inner_mut().drain(ENOUGH)?;
        if !heard.more {
            guard.clear_ready();
        }
        drop(guard);
        engine.borrow_mut().decide(&heard);
        tokio::task::yield_now().await;
    }
}
