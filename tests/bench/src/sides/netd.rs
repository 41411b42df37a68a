//! netd as a side: through a warm connection to its control socket, or by a process of its command line.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::container::Container;
use crate::crowd;
use crate::daemon::{Daemon, ZONE};
use crate::error::{Error, Result};
use crate::ns::Netns;
use crate::policy;
use crate::sides::{Side, run};

/// How netd is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// One connection, kept open.
    Socket,
    /// A process each.
    Process,
    /// The CNI plugin: a process each, that publishes a port too.
    Cni,
}

/// netd with a policy of ten rules in force for every container attached.
pub(crate) struct Netd {
    daemon: Daemon,
    prefix: String,
    door: Door,
    dual_stack: bool,
    present: Vec<Container>,
    rules: u32,
}

impl Netd {
    /// Starts a daemon on a host of its own. `prefix` is that of its containers' names.
    pub(crate) fn start(
        program: &Path,
        prefix: &str,
        door: Door,
        dual_stack: bool,
    ) -> Result<Self> {
        let mut daemon = Daemon::start(program, &format!("netd-{prefix}"), dual_stack)?;
        daemon.write_policy("ten", &policy::ten("ten"))?;
        daemon.reload()?;
        Ok(Self {
            daemon,
            prefix: prefix.to_owned(),
            door,
            dual_stack,
            present: Vec::new(),
            rules: 0,
        })
    }

    /// The same with `count` containers attached already, each with a policy of `rules` rules of its own.
    pub(crate) fn crowded(program: &Path, prefix: &str, count: u32, rules: u32) -> Result<Self> {
        let mut netd = Self::start(program, prefix, Door::Socket, false)?;
        netd.crowd(count, rules)?;
        Ok(netd)
    }

    fn crowd(&mut self, count: u32, rules: u32) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        for number in 0..count {
            let name = format!("n{number}");
            let text = policy::many(&name, number, count, rules);
            self.daemon.write_policy(&name, &text)?;
        }
        self.daemon.reload()?;
        for bridge in 1..=crowd::bridge_of(count - 1) {
            self.daemon
                .make_zone(&format!("crowd{bridge}"), &crowd::subnet(bridge))?;
        }
        for number in 0..count {
            let name = format!("n{number}");
            let netns = Netns::create(&format!("{}-{name}", self.host().name()))?;
            let container = Container {
                name,
                number,
                netns,
            };
            let zone = match crowd::bridge_of(number) {
                0 => ZONE.to_owned(),
                bridge => format!("crowd{bridge}"),
            };
            let labels = json!({ "role": "crowd" });
            self.daemon.attach_to(&zone, &container, labels)?;
            self.present.push(container);
        }
        self.rules = rules;
        Ok(())
    }

    /// Calls netd as a container runtime calls a plugin.
    fn plugin(&self, verb: &str, container: &Container) -> Result<()> {
        let mut command = self.daemon.command();
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &container.name)
            .env("CNI_NETNS", container.netns.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin");
        let configuration = json!({
            "cniVersion": "0.4.0", "name": "bench", "type": "netd", "zone": ZONE, "labels": { "role": "ten" },
            "runtimeConfig": { "portMappings": [{
                "hostPort": 20_000 + container.number, "containerPort": 80, "protocol": "tcp" }] },
        });
        run(&mut command, configuration.to_string().as_bytes()).map(|_| ())
    }

    /// A command line of this netd.
    pub(crate) fn command(&self) -> Command {
        self.daemon.command()
    }

    /// The daemon.
    pub(crate) fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

impl Side for Netd {
    fn name(&self) -> String {
        let door = match self.door {
            Door::Socket => "netd, control socket",
            Door::Process => "netd attach, a process each",
            Door::Cni => "netd, CNI plugin with a published port",
        };
        let families = if self.dual_stack { ", v4 and v6" } else { "" };
        let crowd = match self.present.len() {
            0 => String::new(),
            n => format!(", {n} × {} rules present", self.rules),
        };
        format!("{door}{families}{crowd}")
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn host(&self) -> &Netns {
        self.daemon.host()
    }

    fn attach(&mut self, container: &Container) -> Result<()> {
        match self.door {
            Door::Socket => self.daemon.attach(container, "ten").map(|_| ()),
            Door::Process => {
                let mut command = self.daemon.command();
                command.args([
                    "attach",
                    &container.name,
                    "--zone",
                    ZONE,
                    "--label",
                    "role=ten",
                ]);
                command.arg("--netns").arg(container.netns.path());
                run(&mut command, b"").map(|_| ())
            }
            Door::Cni => self.plugin("ADD", container),
        }
    }

    fn detach(&mut self, container: &Container) -> Result<()> {
        match self.door {
            Door::Socket => self.daemon.detach(&container.name),
            Door::Process => {
                let mut command = self.daemon.command();
                run(command.args(["detach", &container.name]), b"").map(|_| ())
            }
            Door::Cni => self.plugin("DEL", container),
        }
    }

    fn settle(&mut self, container: &Container) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(5);
        while inside(&container.netns)? > 1 {
            if Instant::now() > patience {
                return Err(Error::void(format!(
                    "the link of {} is still there 5 s after its detach",
                    container.name
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// How many interfaces a network namespace has, lo included.
pub(crate) fn inside(netns: &Netns) -> Result<usize> {
    netns.on(|| {
        // /proc/thread-self/net follows the thread's namespace; two lines of heading.
        let text = std::fs::read_to_string("/proc/thread-self/net/dev")
            .map_err(|e| Error::os("list interfaces", e))?;
        Ok(text.lines().count().saturating_sub(2))
    })
}
