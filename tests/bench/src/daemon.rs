//! netd's daemon on a private host, and a warm client of its control socket.
//!
//! The daemon is started as a service manager would start it, with folders of its own under the private /run; the
//! client speaks varlink: one JSON object and a NUL each way, one call at a time over one connection.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::container::{Container, SUBNET4, SUBNET6};
use crate::error::{During, Error, Result};
use crate::ns::Netns;
use crate::sides::empty_folder;

/// The zone that everything is attached to.
pub(crate) const ZONE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon on its own host, with one zone.
pub(crate) struct Daemon {
    host: Netns,
    program: PathBuf,
    folder: PathBuf,
    child: Child,
    client: Client,
}

impl Daemon {
    /// Starts one on host `name` and makes the zone, v4 only unless `dual_stack`.
    pub(crate) fn start(program: &Path, name: &str, dual_stack: bool) -> Result<Self> {
        let mut daemon = Self::launch(program, name, None, None)?;
        let subnet6 = if dual_stack { SUBNET6 } else { "none" };
        let settings = json!({ "subnet4": SUBNET4, "subnet6": subnet6 });
        daemon.call("ZoneCreate", json!({ "name": ZONE, "settings": settings }))?;
        Ok(daemon)
    }

    /// Starts one that finds the zone's file, and keeps its state in a folder of the machine's disk.
    pub(crate) fn start_with(program: &Path, name: &str, zone: &str, state: &Path) -> Result<Self> {
        Self::launch(program, name, Some(zone), Some(state))
    }

    fn launch(
        program: &Path,
        name: &str,
        zone: Option<&str>,
        state: Option<&Path>,
    ) -> Result<Self> {
        if !program.is_file() {
            return Err(Error::Missing {
                what: program.display().to_string(),
                remedy: "build it (cargo build --release), or name it with --netd",
            });
        }
        let host = Netns::create(&format!("host-{name}"))?;
        let folder = PathBuf::from(format!("/run/bench-{name}"));
        empty_folder(&folder)?;
        let policies = folder.join("etc/policies");
        fs::create_dir_all(&policies).during(|| format!("create {}", policies.display()))?;
        if let Some(zone) = zone {
            let zones = folder.join("etc/zones");
            fs::create_dir_all(&zones).during(|| format!("create {}", zones.display()))?;
            let file = zones.join(format!("{ZONE}.toml"));
            fs::write(&file, zone).during(|| format!("write {}", file.display()))?;
        }
        let log =
            fs::File::create(folder.join("log")).during(|| "create the daemon's log".into())?;
        let mut command = Command::new(program);
        environment(&mut command, &folder);
        if let Some(state) = state {
            command.env("NETD_STATE_DIR", state);
        }
        command
            .arg("daemon")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = host.on(|| {
            command
                .spawn()
                .during(|| format!("start {}", program.display()))
        })?;
        let client = match Client::connect(&folder.join("run/netd.sock"), &mut child) {
            Ok(client) => client,
            Err(error) => {
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                if !log.is_empty() {
                    eprintln!("the daemon's log:\n{log}");
                }
                stop(child);
                return Err(error);
            }
        };
        Ok(Self {
            host,
            program: program.to_owned(),
            folder,
            child,
            client,
        })
    }

    /// Its host.
    pub(crate) fn host(&self) -> &Netns {
        &self.host
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// netd's command line with this daemon's folders; to be run on its host.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        environment(&mut command, &self.folder);
        command
    }

    /// Calls a method of the control interface.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.client.call(method, parameters)
    }

    /// Writes a policy file; it comes into force with the next [`reload`](Self::reload) at the latest.
    pub(crate) fn write_policy(&self, name: &str, text: &str) -> Result<()> {
        // Written under a name that does not count and renamed: never half a file in force.
        let policies = self.folder.join("etc/policies");
        let draft = policies.join(format!(".{name}.draft"));
        let path = policies.join(format!("{name}.toml"));
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .during(|| format!("write {}", path.display()))
    }

    /// Removes a policy file; its rules are out of force with the next [`reload`](Self::reload).
    pub(crate) fn remove_policy(&self, name: &str) -> Result<()> {
        let path = self
            .folder
            .join("etc/policies")
            .join(format!("{name}.toml"));
        fs::remove_file(&path).during(|| format!("remove {}", path.display()))
    }

    /// Puts all files in force; an error if netd refuses one.
    pub(crate) fn reload(&mut self) -> Result<()> {
        let reply = self.call("Reload", json!({}))?;
        match reply["refused"].as_array() {
            Some(refused) if refused.is_empty() => Ok(()),
            _ => Err(Error::Refused {
                method: "Reload".into(),
                message: reply.to_string(),
            }),
        }
    }

    /// Makes another zone, v4 only.
    pub(crate) fn make_zone(&mut self, name: &str, subnet4: &str) -> Result<()> {
        let settings = json!({ "subnet4": subnet4, "subnet6": "none" });
        self.call("ZoneCreate", json!({ "name": name, "settings": settings }))
            .map(|_| ())
    }

    /// Attaches to the zone with a label that policies can name, and returns the address given.
    pub(crate) fn attach(&mut self, container: &Container, role: &str) -> Result<String> {
        self.attach_to(ZONE, container, json!({ "role": role }))
    }

    /// Attaches to a zone with labels, and returns the address given.
    pub(crate) fn attach_to(
        &mut self,
        zone: &str,
        container: &Container,
        labels: Value,
    ) -> Result<String> {
        let request = json!({
            "container": container.name,
            "zone": zone,
            "netns": container.netns.path(),
            "labels": labels,
        });
        let reply = self.call("Attach", json!({ "request": request }))?;
        let address = reply["container"]["addresses"][0].as_str().unwrap_or("");
        match address.split_once('/') {
            Some((address, _)) => Ok(address.to_owned()),
            None => Err(Error::Garbled {
                who: "netd",
                answer: reply.to_string(),
            }),
        }
    }

    /// Detaches.
    pub(crate) fn detach(&mut self, name: &str) -> Result<()> {
        self.call("Detach", json!({ "container": name }))
            .map(|_| ())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                _ => break,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its keeper ends with the folder, and the host's network with the keeper.
        let _ = fs::remove_dir_all(self.folder.join("run"));
    }
}

fn stop(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn environment(command: &mut Command, folder: &Path) {
    command
        .env("NETD_CONFIG_DIR", folder.join("etc"))
        .env("NETD_STATE_DIR", folder.join("lib"))
        .env("NETD_RUNTIME_DIR", folder.join("run"))
        .env("NETD_AUTOSTART", "0")
        .env_remove("NOTIFY_SOCKET");
}

/// One connection to the control socket.
struct Client {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects as soon as the daemon listens; gives up when it has ended.
    fn connect(socket: &Path, daemon: &mut Child) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = daemon.try_wait().during(|| "watch the daemon".into())?;
            if let Some(status) = ended {
                return Err(Error::void(format!("netd daemon ended at once ({status})")));
            }
            match UnixStream::connect(socket) {
                Ok(stream) => {
                    stream
                        .set_read_timeout(Some(PATIENCE))
                        .during(|| "set a time-out".into())?;
                    return Ok(Self {
                        stream,
                        received: Vec::new(),
                    });
                }
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => {
                    return Err(Error::os(format!("connect to {}", socket.display()), error));
                }
            }
        }
    }

    fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        let message =
            json!({ "method": format!("io.netd.Control.{method}"), "parameters": parameters });
        let mut message = message.to_string().into_bytes();
        message.push(0);
        self.stream
            .write_all(&message)
            .during(|| format!("call {method}"))?;
        let reply = self.receive(method)?;
        let mut reply: Value = serde_json::from_slice(&reply).map_err(|_| Error::Garbled {
            who: "netd",
            answer: String::from_utf8_lossy(&reply).into_owned(),
        })?;
        if reply.get("error").is_some() {
            let message = reply["parameters"]["message"].as_str();
            return Err(Error::Refused {
                method: method.to_owned(),
                message: message.map_or_else(|| reply.to_string(), str::to_owned),
            });
        }
        Ok(reply["parameters"].take())
    }

    fn receive(&mut self, method: &str) -> Result<Vec<u8>> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == 0) {
                let rest = self.received.split_off(end + 1);
                let mut message = std::mem::replace(&mut self.received, rest);
                message.pop();
                return Ok(message);
            }
            let length = self
                .stream
                .read(&mut chunk)
                .during(|| format!("wait for the answer to {method}"))?;
            if length == 0 {
                return Err(Error::void(format!("netd hung up during {method}")));
            }
            self.received.extend_from_slice(&chunk[..length]);
        }
    }
}
