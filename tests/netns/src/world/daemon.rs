//! The daemon of a world: started until it says READY, ended politely or not.

use std::fs::{self, OpenOptions};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Host;
use crate::machine;
use crate::net::netns::Ran;

/// How long a start may take on a loaded machine.
const READY: Duration = Duration::from_secs(20);

/// A running daemon.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a service manager does; it must end well.
    pub fn terminate(mut self) {
        signal(self.pid(), Signal::TERM);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    assert!(
                        status.success(),
                        "the daemon ended with {status} after SIGTERM"
                    );
                    return;
                }
                // The first process of the private host never reaps our children: this one is ours.
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => panic!("wait for the daemon: {error}"),
            }
        }
        panic!("the daemon did not end within 10 s of SIGTERM");
    }

    fn kill(mut self) {
        signal(self.pid(), Signal::KILL);
        self.child.wait().unwrap();
    }
}

/// Sends a signal to a process of this story; one that is gone already is fine.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

impl Host {
    /// Starts the daemon and waits for READY.
    #[track_caller]
    pub fn start_netd(&self) {
        if let Err(ended) = self.try_start_netd() {
            panic!("the daemon did not start: {ended}");
        }
    }

    /// Starts the daemon and waits for READY; or tells how it ended instead.
    pub fn try_start_netd(&self) -> Result<(), Ran> {
        let notify = self.dir.join("notify");
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        let path = self.log_path();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        let before = fs::metadata(&path).map_or(0, |meta| meta.len());
        let mut command: Command = self.command();
        command
            .arg("daemon")
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = self.netns.enter(|| command.spawn()).unwrap();
        let started = Instant::now();
        let mut message = [0; 512];
        loop {
            if let Ok(read) = socket.recv(&mut message)
                && String::from_utf8_lossy(&message[..read])
                    .lines()
                    .any(|line| line == "READY=1")
            {
                *self.daemon.lock().unwrap() = Some(Daemon { child });
                return Ok(());
            }
            let status = child.try_wait().unwrap();
            if status.is_some() || started.elapsed() > READY {
                let _ = child.kill();
                let _ = child.wait();
                let log = fs::read(&path).unwrap_or_default();
                let said = log
                    .get(usize::try_from(before).unwrap()..)
                    .unwrap_or_default();
                return Err(Ran {
                    what: "netd daemon".to_owned(),
                    code: status.and_then(|status| status.code()).unwrap_or(-1),
                    stdout: String::new(),
                    stderr: String::from_utf8_lossy(said).into_owned(),
                });
            }
        }
    }

    /// Where the daemon's log goes.
    pub fn log_path(&self) -> std::path::PathBuf {
        self.dir.join("daemon.log")
    }

    /// The daemon's process id.
    pub fn netd_pid(&self) -> u32 {
        self.daemon
            .lock()
            .unwrap()
            .as_ref()
            .expect("no daemon runs")
            .pid()
    }

    /// Ends the daemon politely.
    pub fn stop_netd(&self) {
        let daemon = self.daemon.lock().unwrap().take();
        daemon.expect("no daemon runs").terminate();
    }

    /// `kill -9` of the daemon.
    pub fn kill_netd(&self) {
        let daemon = self.daemon.lock().unwrap().take();
        daemon.expect("no daemon runs").kill();
    }

    /// Ends the daemon politely and starts it again.
    pub fn restart_netd(&self) {
        self.stop_netd();
        self.start_netd();
    }

    /// `kill -9` of netd's other processes: those that keep the tables while the daemon is away.
    pub fn kill_keepers(&self) -> usize {
        let keepers = self.netd_processes();
        for pid in &keepers {
            signal(*pid, Signal::KILL);
        }
        let gone = || keepers.iter().all(|pid| !machine::alive(*pid));
        while !gone() {
            std::thread::sleep(Duration::from_millis(1));
        }
        keepers.len()
    }

    /// Processes of netd on this private host, but for the daemon that the story started itself.
    pub fn netd_processes(&self) -> Vec<u32> {
        let binary = super::netd_binary().canonicalize().unwrap();
        let daemon = self.daemon.lock().unwrap().as_ref().map(Daemon::pid);
        machine::pids()
            .filter(|pid| Some(*pid) != daemon)
            .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary))
            .collect()
    }
}
