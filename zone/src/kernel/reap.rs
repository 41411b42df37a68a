//! Deletes closed links, in groups.

use rustix::io::Errno;

use super::encode;
use super::error::LinkError;
use super::socket::Netlink;

/// Deletes every link of a group, at once: some 35 ms, almost all of it waiting in the kernel's
/// `rcu_barrier`, for one link or for five hundred. On a socket of its own, so that a thread of its own can call
/// it. An empty group is reaped.
///
/// # Errors
/// The kernel refuses; or the group is 0, in which every link is that was never put in another.
pub fn reap(group: u32) -> Result<(), LinkError> {
    if group == 0 {
        return Err(LinkError::GroupZero);
    }
    let action = || format!("delete the links of group {group}");
    let mut socket = Netlink::open_small().map_err(|e| LinkError::kernel(action(), e))?;
    let request = encode::delete_group(group);
    match socket.call(request.message, request.flags) {
        Err(error) if !error.is(Errno::NODEV) => Err(LinkError::kernel(action(), error)),
        _ => Ok(()),
    }
}
