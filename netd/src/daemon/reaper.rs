//! Deletes links that were closed already.
//!
//! Deleting one link waits some 35 ms in the kernel (`rcu_barrier`), and deleting a whole group waits
//! as long as deleting one. So detach only closes a link and puts it in a group; a thread deletes the
//! group, while the next detaches gather in another one.

use std::sync::mpsc;
use std::thread;

use tokio::sync::mpsc as tokio_mpsc;
use zone::ContainerName;

/// Link groups that gather closed links: out of the way of what people use (0 is the default group).
const GROUPS: [u32; 2] = [0x6e65_7464, 0x6e65_7465];

/// The thread and what waits for it.
pub(crate) struct Reaper {
    jobs: mpsc::Sender<(u32, Vec<ContainerName>)>,
    gathering: Vec<ContainerName>,
    group: usize,
    busy: bool,
}

impl Reaper {
    /// Starts the thread; names of deleted links arrive on the returned channel.
    pub(crate) fn start()
    -> std::io::Result<(Self, tokio_mpsc::UnboundedReceiver<Vec<ContainerName>>)> {
        let (jobs, work) = mpsc::channel::<(u32, Vec<ContainerName>)>();
        let (done, reaped) = tokio_mpsc::unbounded_channel();
        thread::Builder::new()
            .name("reaper".into())
            .stack_size(256 * 1024)
            .spawn(move || {
                for (group, names) in work {
                    if let Err(e) = zone::reap(group) {
                        tracing::error!(error = %crate::daemon::chain(&e), "delete closed links");
                    }
                    if done.send(names).is_err() {
                        return;
                    }
                }
            })?;
        let reaper = Self {
            jobs,
            gathering: Vec::new(),
            group: 0,
            busy: false,
        };
        Ok((reaper, reaped))
    }

    /// The group in which a link that is closed now has to be put.
    pub(crate) fn group(&self) -> u32 {
        GROUPS[self.group]
    }

    /// Both groups: what a killed daemon left in them has to be deleted as well.
    pub(crate) fn groups() -> [u32; 2] {
        GROUPS
    }

    /// Tells that the container's link is closed and in [`Reaper::group`].
    pub(crate) fn gather(&mut self, container: ContainerName) {
        self.gathering.push(container);
        self.kick();
    }

    /// Tells that a batch arrived on the channel.
    pub(crate) fn done(&mut self) {
        self.busy = false;
        self.kick();
    }

    fn kick(&mut self) {
        if self.busy || self.gathering.is_empty() {
            return;
        }
        let names = std::mem::take(&mut self.gathering);
        self.busy = self.jobs.send((GROUPS[self.group], names)).is_ok();
        self.group = 1 - self.group;
    }
}
