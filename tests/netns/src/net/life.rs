//! Clients of DHCP that go on until they are told to stop, and their leases.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::net::clients::Client;
use crate::world::{Container, World};

/// What a client does in its life.
pub struct Life {
    pub name: &'static str,
    /// Runs in the foreground.
    pub start: &'static str,
    /// Gives the lease back; run beside it, PID being its process. Empty: by ending.
    pub release: &'static str,
}

/// A running client: a process group that ends with this value.
pub struct Running {
    name: &'static str,
    pub child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a client's script in folders of its own, which are like those of `known`.
    pub fn start(
        world: &World,
        inside: &Container,
        known: &Client,
        name: &'static str,
        script: &str,
    ) -> Self {
        let own = world.dir.join(format!("life-{name}"));
        fs::create_dir_all(&own).unwrap();
        let log = own.join("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = known.command(&own, script);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .process_group(0);
        let child = inside.netns.enter(|| command.spawn()).unwrap();
        Self { name, child, log }
    }

    /// Tells it, and what it started, this signal.
    pub fn stop(&self, how: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(pid, how);
        }
    }

    /// Runs a life's release in the folders of the running client.
    pub fn release(&self, life: &Life, inside: &Container) {
        let pid = self.child.id();
        match life.release {
            "" => self.stop(Signal::TERM),
            release => {
                let release = release.replace("PID", &pid.to_string());
                let inner = format!("nsenter --mount=/proc/{pid}/ns/mnt sh -c '{release}'");
                inside.netns.run(&inner);
            }
        }
    }

    /// Waits until something holds; says what did not, and what the client said.
    #[track_caller]
    pub fn until(&self, world: &World, what: &str, seconds: u64, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(
                started.elapsed() < Duration::from_secs(seconds),
                "{}: not {what} within {seconds} s; {}\n{}",
                self.name,
                lease(world, self.name),
                fs::read_to_string(&self.log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The first lease of a container's, or null.
pub fn lease(world: &World, name: &str) -> Value {
    let leases = world.netd("lease list --json").json();
    let own = |lease: &&Value| lease["container"] == name;
    let found = leases.as_array().unwrap().iter().find(own);
    found.cloned().unwrap_or_default()
}

/// When that one runs out, in seconds since 1970; 0 without one.
pub fn expires(world: &World, name: &str) -> i64 {
    lease(world, name)["expires"].as_i64().unwrap_or_default()
}
