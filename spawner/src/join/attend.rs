//! The front's part while a visitor is inside: terminal, signals, and how it ended.

use std::os::fd::AsFd;
use std::process::Child;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags};

use super::Word;
use super::subject::Subject;
use crate::error::SpawnError;
use crate::signals;
use crate::sys::{self, SignalFd};
use crate::terminal::Console;
use crate::wire::{Exit, Wire};

/// Passes everything on until the door has ended.
pub(super) fn attend(
    subject: &Subject,
    mut door: Child,
    wire: &Wire,
    mut console: Option<Console>,
    command: &[String],
) -> Result<Exit, SpawnError> {
    let all = signals::passed_on().chain([libc::SIGWINCH]);
    let signals = SignalFd::open(all).map_err(SpawnError::system("open a signal descriptor"))?;
    let inside = match wire.receive() {
        Some(Word::Inside(pid)) => {
            let visitor = Pid::from_raw(pid)
                .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
            wire.send(&());
            visitor
        }
        Some(Word::Refused(status, reason)) => {
            // it was faster than the one that tells of it, who still waits for an answer
            wire.send(&());
            return Err(refused(subject, &mut door, status, reason, command));
        }
        None => None,
    };
    // the door closes its end by exec: then the command runs
    if let Some(Word::Refused(status, reason)) = wire.receive() {
        return Err(refused(subject, &mut door, status, reason, command));
    }
    let end = Pid::from_child(&door);
    let end = rustix::process::pidfd_open(end, PidfdFlags::empty())
        .map_err(SpawnError::system("watch the command"))?;
    loop {
        let stdin = rustix::stdio::stdin();
        let mut fds = vec![
            PollFd::new(&end, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        let output = console.as_ref().map(|c| (c.master(), c.wants()));
        let at_output =
            output
                .as_ref()
                .filter(|(_, wants)| !wants.is_empty())
                .map(|(master, wants)| {
                    fds.push(PollFd::new(master, *wants));
                    fds.len() - 1
                });
        let input = console.as_ref().is_some_and(Console::takes_input);
        let at_input = input.then(|| {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            fds.len() - 1
        });
        rustix::io::retry_on_intr(|| poll(&mut fds, None))
            .map_err(SpawnError::system("wait for the command"))?;
        let is =
            |at: Option<usize>, flags| at.is_some_and(|at| fds[at].revents().intersects(flags));
        let any = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let (over, signalled) = (is(Some(0), any), is(Some(1), any));
        let (readable, writable, typed) = (
            is(at_output, any),
            is(at_output, PollFlags::OUT),
            is(at_input, any),
        );
        drop(fds);
        drop(output);
        while signalled && let Some((signal, _)) = signals.next() {
            match (&console, &inside) {
                (Some(console), _) if signal == libc::SIGWINCH => console.resize(),
                (_, Some(visitor)) if signal != libc::SIGWINCH => {
                    let _ = sys::pidfd_signal(visitor.as_fd(), signal);
                }
                _ => {}
            }
        }
        if let Some(console) = &mut console {
            if readable || over {
                console.read_output();
            }
            if writable {
                console.write_input();
            }
            // the escape hangs the terminal up, which ends the command as a closed window does
            if typed
                && console.read_input(Instant::now())
                && let Some(visitor) = &inside
            {
                let _ = sys::pidfd_signal(visitor.as_fd(), libc::SIGHUP);
                let _ = sys::pidfd_signal(visitor.as_fd(), libc::SIGKILL);
            }
        }
        if over {
            break;
        }
    }
    let status = door
        .wait()
        .map_err(SpawnError::system("wait for the command"))?;
    Ok(status
        .code()
        .map_or(Exit::Signal(libc::SIGKILL), |code| Exit::Code(code as u8)))
}

fn refused(
    subject: &Subject,
    door: &mut Child,
    status: u8,
    reason: String,
    command: &[String],
) -> SpawnError {
    let _ = door.wait();
    match status {
        126 | 127 => SpawnError::Command {
            command: command.first().cloned().unwrap_or_default(),
            reason,
            status,
        },
        _ => subject.fail(
            "the command was not run there",
            std::io::Error::other(reason),
        ),
    }
}
