//! Writes the last good texts of files while the kernel changes its rules: the disk takes as long as that does.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::files::Unkept;

/// Its thread needs no more, in bytes.
const STACK: usize = 128 << 10;

type Job = (Unkept, Sender<()>);

/// A thread that writes. It begins with the first job, and ends with this.
#[derive(Debug, Default)]
pub(crate) struct Scribe(Option<Sender<Job>>);

/// A job that is being done. [`Kept::wait`] for it before saying that it is.
#[must_use = "it may not be on the disk yet"]
pub(crate) struct Kept(Option<Receiver<()>>);

impl Scribe {
    /// Begins to put texts on the disk.
    pub(crate) fn keep(&mut self, unkept: Unkept) -> Kept {
        if unkept.is_empty() {
            return Kept(None);
        }
        if self.0.is_none() {
            self.0 = begin();
        }
        let (done, wait) = channel();
        let job = (unkept, done);
        let rest = match &self.0 {
            Some(jobs) => jobs.send(job).err().map(|error| error.0),
            None => Some(job),
        };
        // no thread was to be had
        if let Some((unkept, _)) = rest {
            unkept.keep();
            self.0 = None;
            return Kept(None);
        }
        Kept(Some(wait))
    }
}

impl Kept {
    /// Until it is on the disk.
    pub(crate) fn wait(self) {
        // Nobody is there to tell: the thread ended after the job, or died of it and said so.
        let _ = self.0.map(|wait| wait.recv());
    }
}

fn begin() -> Option<Sender<Job>> {
    let (jobs, queue) = channel::<Job>();
    let thread = std::thread::Builder::new()
        .name("scribe".into())
        .stack_size(STACK)
        .spawn(move || {
            for (unkept, done) in queue {
                unkept.keep();
                // nobody may wait any more
                let _ = done.send(());
            }
        });
    thread.ok().map(|_| jobs)
}
