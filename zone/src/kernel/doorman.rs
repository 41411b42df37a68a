//! Opens netlink sockets inside other network namespaces.
//!
//! A socket belongs for good to the namespace its creator was in. So somebody has to go there, and
//! that is a thread of its own: no other code ever runs in a foreign namespace, and should it fail to come
//! back, nothing but this thread is lost. It goes while the caller creates the veth, so that its
//! time is not the caller's.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::error::KernelError;
use super::netns::Netns;
use super::socket::Netlink;

/// What came of a visit.
type Outcome = Result<Netlink, KernelError>;

#[derive(Debug)]
pub(super) struct Doorman {
    visits: Sender<OwnedFd>,
    sockets: Receiver<Outcome>,
    /// The namespace whose socket was ordered and not fetched yet.
    ordered: Option<(u64, u64)>,
}

impl Doorman {
    /// Starts the thread, at home in the calling thread's namespace.
    pub(super) fn start(home: OwnedFd) -> io::Result<Self> {
        let (visits, orders) = channel();
        let (done, sockets) = channel();
        thread::Builder::new()
            .name("netd-doorman".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || serve(&home, &orders, &done))?;
        Ok(Self {
            visits,
            sockets,
            ordered: None,
        })
    }

    /// Orders a socket in `netns`, to be fetched later.
    pub(super) fn order(&mut self, netns: &Netns) -> Result<(), KernelError> {
        self.cancel();
        let fd = rustix::io::fcntl_dupfd_cloexec(netns, 3)?;
        self.visits.send(fd).map_err(|_| lost())?;
        self.ordered = Some(netns.id());
        Ok(())
    }

    /// Forgets an order. Nobody keeps a socket that was not fetched: it would keep the namespace,
    /// and the container's links with it, alive.
    pub(super) fn cancel(&mut self) {
        if self.ordered.take().is_some() {
            drop(self.sockets.recv());
        }
    }

    /// The socket that was ordered, or a new one.
    pub(super) fn fetch(&mut self, netns: &Netns) -> Outcome {
        if self.ordered != Some(netns.id()) {
            self.order(netns)?;
        }
        self.ordered = None;
        self.sockets.recv().map_err(|_| lost())?
    }
}

/// The thread is gone: it could not come back from a namespace.
fn lost() -> KernelError {
    rustix::io::Errno::SRCH.into()
}

fn serve(home: &OwnedFd, orders: &Receiver<OwnedFd>, done: &Sender<Outcome>) {
    let network = Some(LinkNameSpaceType::Network);
    for netns in orders {
        let outcome = move_into_link_name_space(std::os::fd::AsFd::as_fd(&netns), network)
            .map_err(KernelError::from)
            .and_then(|()| Netlink::open_small().map_err(KernelError::from));
        drop(netns);
        if done.send(outcome).is_err() {
            return;
        }
        // Back home after the answer, not before: the caller need not wait for it. To stay would
        // keep the namespace alive when its container ends.
        if move_into_link_name_space(std::os::fd::AsFd::as_fd(home), network).is_err() {
            return;
        }
    }
}
