//! Signals on their way into a container, and what becomes of them there.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sys;

/// What the front passes on: everything that is sent to a process on purpose.
pub(crate) fn passed_on() -> impl Iterator<Item = i32> {
    let named = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGPWR,
    ];
    // systemd as pid 1 takes its orders by real-time signals (systemd(1))
    named.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

/// Whether the signal ends a process that does nothing about it (signal(7)).
pub(crate) fn ends_by_default(signal: i32) -> bool {
    const NOT: [i32; 8] = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGURG,
        libc::SIGWINCH,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    signal != 0 && !NOT.contains(&signal)
}

/// What [`deliver`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The signal was sent.
    Sent,
    /// pid 1 does nothing about the signal, so the kernel would drop it: the container was killed instead.
    Killed,
}

/// Sends `signal` to a container's pid 1, as if that were an ordinary process.
pub(crate) fn deliver(pidfd: BorrowedFd<'_>, pid: i32, signal: i32) -> io::Result<Delivery> {
    if ends_by_default(signal) && signal != libc::SIGKILL && would_be_dropped(&threads(pid), signal)
    {
        sys::pidfd_signal(pidfd, libc::SIGKILL)?;
        return Ok(Delivery::Killed);
    }
    sys::pidfd_signal(pidfd, signal)?;
    Ok(Delivery::Sent)
}

/// What /proc says about one thread: `status`, and the first word of `syscall`.
struct Thread {
    status: String,
    syscall: String,
}

fn threads(pid: i32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .map(|task| {
            let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            Thread {
                status: read("status"),
                syscall: read("syscall")
                    .split(' ')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            }
        })
        .collect()
}

/// Whether this process is pid 1 of its namespace and neither catches, blocks, ignores nor waits for the signal: then
/// the kernel drops it (pid_namespaces(7)). In doubt it is not: better to send a signal in vain than to kill.
fn would_be_dropped(threads: &[Thread], signal: i32) -> bool {
    // a thread in sigwait(3) shows what it waits for as not blocked; native, i386, and i386 with 64-bit time
    let waits = [
        libc::SYS_rt_sigtimedwait.to_string(),
        "177".into(),
        "421".into(),
    ];
    let bit = 1u64 << (signal - 1).clamp(0, 63);
    !threads.is_empty()
        && threads.iter().all(|thread| {
            let field = |name: &str| {
                let line = thread
                    .status
                    .lines()
                    .find_map(|line| line.strip_prefix(name));
                line.map(|value| value.trim_start_matches(':').trim())
            };
            let set = |mask| field(mask).and_then(|hex| u64::from_str_radix(hex, 16).ok());
            let default = ["SigCgt", "SigBlk", "SigIgn"]
                .into_iter()
                .all(|mask| set(mask).is_some_and(|set| set & bit == 0));
            let known = !thread.syscall.is_empty() && !waits.contains(&thread.syscall);
            // for a thread that is not the first, NSpid is its own number: NStgid is the process's
            let first = field("NStgid").and_then(|pids| pids.split_whitespace().last());
            default && known && first == Some("1")
        })
}

/// Whether the process has ended.
pub(crate) fn is_over(pidfd: BorrowedFd<'_>) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now))).is_ok_and(|n| n > 0)
}

/// Kills a container and waits, at most ten seconds, until its pid 1 and with it everything in it is gone.
pub(crate) fn kill_and_wait(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    match sys::pidfd_signal(pidfd, libc::SIGKILL) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        sent => sent?,
    }
    let limit = Timespec::try_from(Duration::from_secs(10)).ok();
    poll(
        &mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)],
        limit.as_ref(),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tgids: &str, caught: u64, syscall: &str) -> Thread {
        Thread {
            status: format!(
                "Name:\tx\nNStgid:\t{tgids}\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\n\
                 SigCgt:\t{caught:016x}\n"
            ),
            syscall: syscall.to_owned(),
        }
    }

    #[test]
    fn only_a_pid_1_that_does_nothing_about_it_drops_a_signal() {
        let term = |thread| would_be_dropped(&[thread], libc::SIGTERM);
        assert!(term(thread("4711\t1", 0, "35")));
        assert!(!term(thread("4711\t1", 1 << 14, "35")), "caught");
        assert!(
            !term(thread("4711\t1", 0, &libc::SYS_rt_sigtimedwait.to_string())),
            "waited for"
        );
        assert!(!term(thread("4711\t1", 0, "")), "unknown");
        assert!(!term(thread("4711\t2", 0, "35")), "not pid 1");
        assert!(!term(thread("4711", 0, "35")), "not in a namespace");
        assert!(
            !would_be_dropped(&[thread("4711\t1", 0, "35")], libc::SIGPIPE),
            "ignored"
        );
        assert!(!would_be_dropped(&[], libc::SIGTERM), "gone");
        let waiter = thread("4711\t1", 0, &libc::SYS_rt_sigtimedwait.to_string());
        assert!(!would_be_dropped(
            &[thread("4711\t1", 0, "35"), waiter],
            libc::SIGTERM
        ));
    }

    #[test]
    fn real_time_signals_are_passed_on_and_window_changes_are_not() {
        let all: Vec<_> = passed_on().collect();
        assert!(all.contains(&libc::SIGTERM) && all.contains(&(libc::SIGRTMIN() + 3)));
        assert!(!all.contains(&libc::SIGWINCH) && !all.contains(&libc::SIGCHLD));
        assert!(all.iter().all(|s| ends_by_default(*s)));
    }
}
