//! The pty, driven from the other side of a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("on a terminal the command gets a pty of its own", auto),
    ("window size, at the start and later", window_size),
    ("raw while it runs, and restored", raw_mode),
    ("interrupt keys go to the command", interrupt),
    ("the escape kills", escape),
    (
        "interactive without a terminal: end of input ends the command",
        no_terminal,
    ),
    ("output that comes last is not lost", last_output),
];

/// A terminal with a container on it.
struct Session {
    master: File,
    child: Child,
    seen: String,
    _slave: OwnedFd,
}

impl Session {
    fn start(world: &World, with: serde_json::Value) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        resize(&master, 30, 100);
        let mut with = with;
        with["pipe"] = json!(false);
        let end = || Stdio::from(slave.try_clone().unwrap());
        // a session leader with this as its controlling terminal, so that the kernel sends SIGWINCH
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .args(world.argv(with))
            .env("TERM", "xterm-test")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            master: master.into(),
            child,
            seen: String::new(),
            _slave: slave.into(),
        }
    }

    fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` was written, at most ten seconds.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.seen.contains(text) {
            assert!(
                Instant::now() < end,
                "waited in vain for {text:?}, saw {:?}",
                self.seen
            );
            self.read(Duration::from_millis(50));
        }
        let at = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..at);
    }

    fn read(&mut self, limit: Duration) {
        let limit = Timespec::try_from(limit).unwrap();
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut fds, Some(&limit)).unwrap() > 0 {
            let mut buffer = [0; 4096];
            let n = self.master.read(&mut buffer).unwrap_or(0);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.master)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    }

    fn end(&mut self) -> i32 {
        // keep reading, or its last output could block it
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(Instant::now() < end, "does not end, saw {:?}", self.seen);
            self.read(Duration::from_millis(20));
        }
    }
}

fn resize(master: &impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).unwrap();
}

fn auto() {
    let world = World::new();
    let script =
        "tty; echo $TERM; [ -c /dev/console ] && echo console; read x; echo got $x; exit 5";
    let mut session = Session::start(&world, json!({ "command": ["sh", "-c", script] }));
    session.expect("/dev/pts/0\r\nxterm-test\r\nconsole\r\n");
    session.send("word\r");
    session.expect("got word\r\n");
    assert_eq!(session.end(), 5);
    world.nothing_left();
}

fn window_size() {
    let world = World::new();
    let script =
        "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut session = Session::start(
        &world,
        json!({ "as_pid2": true, "command": ["sh", "-c", script] }),
    );
    session.expect("30 100\r\nready");
    resize(&session.master, 50, 200);
    session.expect("50 200\r\n");
    assert_eq!(session.end(), 0);
}

fn raw_mode() {
    let world = World::new();
    let mut session = Session::start(
        &world,
        json!({ "command": ["sh", "-c", "echo ready; read x"] }),
    );
    assert!(!session.is_raw());
    session.expect("ready");
    assert!(session.is_raw());
    session.send("\r");
    assert_eq!(session.end(), 0);
    assert!(!session.is_raw());
    // also when a signal ends it
    let mut session = Session::start(
        &world,
        json!({ "command": ["sh", "-c", "echo ready; sleep 1000"] }),
    );
    session.expect("ready");
    assert!(session.is_raw());
    spawner::kill(&world.state(), &"web".parse().unwrap(), 15).unwrap();
    assert_eq!(
        session.end(),
        137,
        "killed by somebody else, as this process sees it"
    );
    assert!(!session.is_raw());
}

fn interrupt() {
    let world = World::new();
    for as_pid2 in [false, true] {
        let script = "n=0; trap 'n=$((n+1)); echo int $n' INT; echo ready; while [ $n -lt 2 ]; do sleep 0.05; done; sleep 0.3; exit $n";
        let mut session = Session::start(
            &world,
            json!({ "as_pid2": as_pid2, "command": ["sh", "-c", script] }),
        );
        session.expect("ready");
        session.send("\x03");
        session.expect("int 1");
        session.send("\x03");
        // not twice each, which a stub that passes on what the terminal sent would make of it
        assert_eq!(session.end(), 2);
    }
}

fn escape() {
    let world = World::new();
    let mut session = Session::start(
        &world,
        json!({ "command": ["sh", "-c", "trap '' TERM; echo ready; sleep 1000"] }),
    );
    session.expect("ready");
    session.send("\x1d\x1d\x1d");
    assert_eq!(session.end(), 137);
    world.nothing_left();
}

fn no_terminal() {
    let world = World::new();
    let mut child = world
        .command(json!({ "pipe": false, "interactive": true, "command": ["sh", "-c", "tty; cat; exit 4"] }))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"line\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("/dev/pts/0\r\n") && text.contains("line\r\n"),
        "{text:?}"
    );
}

fn last_output() {
    let world = World::new();
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let output = world
        .command(json!({ "pipe": false, "interactive": true, "command": ["sh", "-c", script] }))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.ends_with("line 2999\r\n"),
        "{:?}",
        &text[text.len().saturating_sub(80)..]
    );
    assert_eq!(text.lines().filter(|l| l.starts_with("line")).count(), 3000);
}
