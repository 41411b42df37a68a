//! Opens netlink sockets inside containers' namespaces.
//!
//! A socket belongs for good to the namespace its creator was in, so somebody has to go there. The
//! calling thread goes itself and comes straight back: 8 µs. A thread of its own that waits for
//! such orders cost 30 to 60 µs an attach (two wake-ups, more on a busy machine), one that is started for each
//! and dies, more still. Nothing but `socket` runs in between, and no other code of this thread can.

use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::error::KernelError;
use super::netns::Netns;
use super::socket::Netlink;

/// A socket in `netns` for short answers, opened by a thread that is at home in `home`.
pub(super) fn socket(home: &OwnedFd, netns: &Netns) -> Result<Netlink, KernelError> {
    opened(home, netns, Netlink::open_small)
}

/// The same with room for lists.
pub(super) fn socket_for_dumps(home: &OwnedFd, netns: &Netns) -> Result<Netlink, KernelError> {
    opened(home, netns, Netlink::open)
}

fn opened(
    home: &OwnedFd,
    netns: &Netns,
    open: fn() -> std::io::Result<Netlink>,
) -> Result<Netlink, KernelError> {
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(netns.as_fd(), network)?;
    let socket = open();
    if let Err(error) = move_into_link_name_space(home.as_fd(), network) {
        // A daemon that went on here would act on the container instead of the host. Started again, it
        // takes over what is there; the kernel keeps it closed meanwhile. (It came from `home`, with
        // the privileges it still has: this needs a kernel without memory.)
        eprintln!("netd: cannot come back from a container's network namespace: {error}");
        std::process::abort();
    }
    Ok(socket?)
}
