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
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    if ends_by_default(signal) && signal != libc::SIGKILL && would_be_dropped(&status, signal) {
        sys::pidfd_signal(pidfd, libc::SIGKILL)?;
        return Ok(Delivery::Killed);
    }
    sys::pidfd_signal(pidfd, signal)?;
    Ok(Delivery::Sent)
}

/// Whether this process, by its /proc/PID/status, is pid 1 of its namespace and neither catches, blocks nor ignores
/// the signal (pid_namespaces(7): only signals with a handler reach pid 1).
fn would_be_dropped(status: &str, signal: i32) -> bool {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_start_matches(':').trim())
    };
    let is_init = field("NSpid").is_some_and(|pids| pids.split_whitespace().last() == Some("1"));
    let bit = 1u64 << (signal - 1).clamp(0, 63);
    let handled = ["SigCgt", "SigBlk", "SigIgn"].iter().any(|mask| {
        // an unreadable mask counts as handled: better to send the signal than to kill
        field(mask).and_then(|hex| u64::from_str_radix(hex, 16).ok()).is_none_or(|set| set & bit != 0)
    });
    is_init && !handled
}

/// Kills a container and waits, at most ten seconds, until its pid 1 and with it everything in it is gone.
pub(crate) fn kill_and_wait(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    match sys::pidfd_signal(pidfd, libc::SIGKILL) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        sent => sent?,
    }
    let limit = Timespec::try_from(Duration::from_secs(10)).ok();
    poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], limit.as_ref())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(nspid: &str, caught: u64) -> String {
        format!(
            "Name:\tx\nNSpid:\t{nspid}\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\nSigCgt:\t{caught:016x}\n"
        )
    }

    #[test]
    fn only_a_pid_1_without_a_handler_drops_signals() {
        assert!(would_be_dropped(&status("4711\t1", 0), libc::SIGTERM));
        assert!(!would_be_dropped(&status("4711\t1", 1 << 14), libc::SIGTERM));
        assert!(!would_be_dropped(&status("4711\t2", 0), libc::SIGTERM));
        assert!(!would_be_dropped(&status("4711", 0), libc::SIGTERM));
        assert!(!would_be_dropped(&status("4711\t1", 0), libc::SIGPIPE), "ignored");
        assert!(!would_be_dropped("", libc::SIGTERM), "gone");
    }

    #[test]
    fn real_time_signals_are_passed_on_and_window_changes_are_not() {
        let all: Vec<_> = passed_on().collect();
        assert!(all.contains(&libc::SIGTERM) && all.contains(&(libc::SIGRTMIN() + 3)));
        assert!(!all.contains(&libc::SIGWINCH) && !all.contains(&libc::SIGCHLD));
        assert!(all.iter().all(|s| ends_by_default(*s)));
    }
}
