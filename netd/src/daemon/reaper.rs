//! Deletes links that were closed already, and connections that were led to closed containers.
//!
//! Deleting one link waits some 35 ms in the kernel (`rcu_barrier`), and deleting a whole group waits
//! as long as deleting one. So detach only closes a link and puts it in a group; a thread deletes the
//! group, while the next detaches gather in another one. Connections are found by a walk over the kernel's
//! whole table, which is nothing to wait for either.

use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;

use tokio::sync::mpsc as tokio_mpsc;
use zone::PortName;

/// Link groups that gather closed links: out of the way of what people use (0 is the default group).
const GROUPS: [u32; 2] = [0x6e65_7464, 0x6e65_7465];

/// Containers that were closed, with their links in one group.
#[derive(Default)]
struct Job {
    group: u32,
    names: Vec<PortName>,
    /// Whether there are links of nobody in particular.
    links: bool,
    /// Addresses to which published ports led.
    led_to: Vec<IpAddr>,
}

/// The thread and what waits for it.
pub(crate) struct Reaper {
    jobs: mpsc::Sender<Job>,
    gathering: Job,
    group: usize,
    busy: bool,
}

impl Reaper {
    /// Starts the thread; names of deleted links arrive on the returned channel.
    pub(crate) fn start() -> std::io::Result<(Self, tokio_mpsc::UnboundedReceiver<Vec<PortName>>)> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (done, reaped) = tokio_mpsc::unbounded_channel();
        thread::Builder::new()
            .name("reaper".into())
            .stack_size(256 * 1024)
            .spawn(move || {
                for job in work {
                    if let Err(e) = zone::reap(job.group) {
                        tracing::error!(error = %crate::daemon::chain(&e), "delete closed links");
                    }
                    if let Err(e) = firewall::kernel::conntrack::delete_led_to(&job.led_to) {
                        tracing::warn!(error = %crate::daemon::chain(&e), "forget connections to closed containers");
                    }
                    if done.send(job.names).is_err() {
                        return;
                    }
                }
            })?;
        let reaper = Self {
            jobs,
            gathering: Job::default(),
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

    /// Tells that the container's link is closed and in [`Reaper::group`], and to which of its addresses
    /// published ports led.
    pub(crate) fn gather(&mut self, port: PortName, led_to: Vec<IpAddr>) {
        self.gathering.names.push(port);
        self.gathering.led_to.extend(led_to);
        self.kick();
    }

    /// Tells that a link is closed and in [`Reaper::group`], whose name nobody waits for.
    pub(crate) fn gather_link(&mut self) {
        self.gathering.links = true;
        self.kick();
    }

    /// Tells that a batch arrived on the channel.
    pub(crate) fn done(&mut self) {
        self.busy = false;
        self.kick();
    }

    /// Whether there is something whose end has not been told yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    fn kick(&mut self) {
        if self.busy || (self.gathering.names.is_empty() && !self.gathering.links) {
            return;
        }
        let job = Job {
            group: GROUPS[self.group],
            ..std::mem::take(&mut self.gathering)
        };
        self.busy = self.jobs.send(job).is_ok();
        self.group = 1 - self.group;
    }
}
