//! Network namespaces with names. Work inside one is done on a thread that then dies, so nothing needs restoring.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::mount::{self, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::raw;

/// A network namespace; the value keeps it alive.
#[derive(Clone, Debug)]
pub struct Netns {
    handle: Arc<File>,
    name: String,
}

/// How a command ended and what it said.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What was run.
    pub what: String,
    /// Exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Netns {
    /// A new one under /run/netns, where `ip netns` finds it too.
    pub fn create(name: &str) -> Self {
        let path = PathBuf::from("/run/netns").join(name);
        File::create(&path).unwrap();
        let handle = std::thread::scope(|scope| {
            let inside = || {
                raw::unshare_net().unwrap();
                mount::mount_bind("/proc/thread-self/ns/net", &path).unwrap();
                File::open("/proc/thread-self/ns/net").unwrap()
            };
            scope.spawn(inside).join().unwrap()
        });
        Self {
            handle: Arc::new(handle),
            name: name.to_owned(),
        }
    }

    /// The one in which the story runs: the private host.
    pub fn host() -> Self {
        let handle = File::open("/proc/thread-self/ns/net").unwrap();
        Self {
            handle: Arc::new(handle),
            name: "host".to_owned(),
        }
    }

    /// Name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// How `ip link … netns` is told of it: the story's own host has no name, but a process.
    pub fn reference(&self) -> String {
        if self.path().exists() {
            self.name.clone()
        } else {
            std::process::id().to_string()
        }
    }

    /// Takes the name away; the namespace goes with its last process.
    pub fn remove(&self) {
        let _ = mount::unmount(self.path(), UnmountFlags::DETACH);
        let _ = fs::remove_file(self.path());
    }

    /// Does something inside; children started there stay inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                self.enter_for_good();
                work()
            };
            match scope.spawn(inside).join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves this thread inside; for threads that end there.
    pub fn enter_for_good(&self) {
        move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// Runs a shell script inside, whatever comes of it.
    pub fn run(&self, script: &str) -> Ran {
        self.enter(|| run(Command::new("sh").args(["-c", script])))
    }

    /// Runs a shell script inside that must succeed; returns its output.
    pub fn sh(&self, script: &str) -> String {
        self.run(script).ok()
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let what = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    Ran {
        what,
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ran {
    /// It must have succeeded; returns its output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout
    }

    /// It must have ended with this code; returns what it said.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "expected exit code {code}: {self}");
        self.stderr
    }

    /// Its output as JSON; it must have succeeded.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let what = self.to_string();
        serde_json::from_str(&self.ok()).unwrap_or_else(|error| panic!("{error}: {what}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            what,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{what}\n  ended with {code}\n  said: {}\n  and: {}",
            stdout.trim_end(),
            stderr.trim_end()
        )
    }
}
