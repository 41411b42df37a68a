//! Our side of the command's pty: raw mode, copying both ways, window size, the escape `^]^]^]`.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::termios::{self, OptionalActions, Termios};

use crate::settings::Terminal;

/// `^]`, as in telnet and systemd-nspawn.
const ESCAPE: u8 = 0x1d;
/// Input that the command has not taken yet; more is left with the terminal.
const FULL: usize = 16 << 10;

/// Whether the command gets a pty.
pub(crate) fn wants_pty(terminal: Terminal) -> bool {
    match terminal {
        Terminal::Pipe => false,
        Terminal::Interactive | Terminal::ReadOnly | Terminal::Passive => true,
        Terminal::Auto => {
            termios::isatty(rustix::stdio::stdin()) && termios::isatty(rustix::stdio::stdout())
        }
    }
}

/// The socket that libcontainer sends the pty's master to.
pub(crate) struct ConsoleSocket(UnixListener);

impl ConsoleSocket {
    /// Listens at `dir`/console.sock.
    pub(crate) fn listen(dir: &Path) -> io::Result<Self> {
        // by descriptor, because a socket's path is limited to 108 bytes and the directory's is not
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/console.sock", dir.as_raw_fd());
        UnixListener::bind(path).map(Self)
    }

    /// The master. To be called when the container is ready: it was sent before that.
    pub(crate) fn master(self) -> io::Result<OwnedFd> {
        self.0.set_nonblocking(true)?;
        let (stream, _) = self.0.accept()?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 64];
        rustix::net::recvmsg(
            &stream,
            &mut [IoSliceMut::new(&mut name)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let received = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        received.ok_or_else(|| io::Error::other("the pty did not arrive"))
    }
}

/// The terminal we run in, raw, until this is dropped.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Option<Self> {
        let stdin = rustix::stdio::stdin();
        let old = termios::tcgetattr(stdin).ok()?;
        let mut raw = old.clone();
        raw.make_raw();
        termios::tcsetattr(stdin, OptionalActions::Drain, &raw).ok()?;
        Some(Self(old))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// The running connection between our terminal and the command's pty.
pub(crate) struct Console {
    master: OwnedFd,
    input: Vec<u8>,
    input_ended: bool,
    hung_up: bool,
    /// Whether what the command writes is shown.
    shown: bool,
    escape: Escape,
    _raw: Option<RawMode>,
}

impl Console {
    pub(crate) fn start(master: OwnedFd, terminal: Terminal) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        // not to be stuck in a write while the command is stuck in one
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        let typed = !matches!(terminal, Terminal::ReadOnly | Terminal::Passive);
        let console = Self {
            master,
            input: Vec::new(),
            input_ended: !typed,
            hung_up: false,
            shown: terminal != Terminal::Passive,
            escape: Escape::default(),
            _raw: typed.then(RawMode::enter).flatten(),
        };
        console.resize();
        Ok(console)
    }

    /// Gives the pty the size of our own terminal.
    pub(crate) fn resize(&self) {
        let own = termios::tcgetwinsize(rustix::stdio::stdout())
            .or_else(|_| termios::tcgetwinsize(rustix::stdio::stdin()));
        if let Ok(size) = own {
            let _ = termios::tcsetwinsize(&self.master, size);
        }
    }

    /// What to wait for at the master.
    pub(crate) fn wants(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        if !self.hung_up {
            flags |= PollFlags::IN;
            if !self.input.is_empty() {
                flags |= PollFlags::OUT;
            }
        }
        flags
    }

    /// Whether standard input is to be read.
    pub(crate) fn takes_input(&self) -> bool {
        !self.input_ended && !self.hung_up && self.input.len() < FULL
    }

    /// The pty's master, for poll.
    pub(crate) fn master(&self) -> impl AsFd + '_ {
        self.master.as_fd()
    }

    /// Reads our terminal. `true`: the escape was typed.
    pub(crate) fn read_input(&mut self, now: Instant) -> bool {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => {
                self.input_ended = true;
                // an end of input has no other form on a terminal; 4, unless the command changed it
                let end = termios::tcgetattr(&self.master)
                    .map_or(4, |t| t.special_codes[termios::SpecialCodeIndex::VEOF]);
                self.input.push(end);
            }
            Ok(n) => {
                let typed = &buffer[..n];
                if self.escape.typed(typed, now) {
                    return true;
                }
                self.input.extend_from_slice(typed);
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => self.input_ended = true,
        }
        self.write_input();
        false
    }

    /// Hands typed bytes on, as many as fit.
    pub(crate) fn write_input(&mut self) {
        if let Ok(n) = rustix::io::write(&self.master, &self.input) {
            self.input.drain(..n);
        }
    }

    /// Copies what the command wrote. Returns when there is no more for now.
    pub(crate) fn read_output(&mut self) {
        let mut buffer = [0; 16 << 10];
        loop {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(n) if n > 0 && self.shown => write_all(&buffer[..n]),
                Ok(n) if n > 0 => {}
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // EIO: nobody has the other side open, pty(7)
                Ok(_) | Err(_) => {
                    self.hung_up = true;
                    return;
                }
            }
        }
    }
}

fn write_all(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(5)),
            // nobody reads us: the command learns that by SIGHUP when we end
            Err(_) => return,
        }
    }
}

/// Finds `^]` three times within a second.
#[derive(Default)]
struct Escape {
    seen: u8,
    first: Option<Instant>,
}

impl Escape {
    fn typed(&mut self, bytes: &[u8], now: Instant) -> bool {
        for byte in bytes {
            if *byte != ESCAPE {
                self.seen = 0;
                continue;
            }
            let fresh = |first: Instant| now.duration_since(first) < Duration::from_secs(1);
            if self.seen == 0 || !self.first.is_some_and(fresh) {
                self.seen = 0;
                self.first = Some(now);
            }
            self.seen += 1;
            if self.seen == 3 {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_is_typed_fast_and_without_anything_between() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut escape = Escape::default();
        assert!(escape.typed(b"ab\x1d\x1d\x1d", at(0)));
        let mut escape = Escape::default();
        assert!(!escape.typed(b"\x1d\x1d", at(0)));
        assert!(escape.typed(b"\x1d", at(999)));
        let mut escape = Escape::default();
        assert!(!escape.typed(b"\x1d\x1da\x1d", at(0)));
        let mut escape = Escape::default();
        assert!(!escape.typed(b"\x1d\x1d", at(0)));
        assert!(!escape.typed(b"\x1d", at(1000)), "too slow");
        assert!(escape.typed(b"\x1d\x1d", at(1100)));
    }
}
