//! DHCP servers on hosts of their own, and perfdhcp, which asks them as a relay agent for many clients.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::Options;
use crate::container::Container;
use crate::daemon::{Daemon, ZONE};
use crate::error::{During, Error, Result};
use crate::measures::dhcp::proc_file;
use crate::ns::Netns;
use crate::sides::{line, need};

const SUBNET: &str = "10.77.0.0/16";
const SERVER: &str = "10.77.0.1";
const AGENT: &str = "10.77.0.2";
const FIRST: &str = "10.77.1.0";
/// 65,000 addresses.
const LAST: &str = "10.77.254.231";
const NETWORKD: &str = "/lib/systemd/systemd-networkd";

/// A DHCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Netd,
    Kea,
    Networkd,
    Dnsmasq,
    Dhcpd,
    Dora,
}

impl Server {
    /// netd first: it is what the others are compared with.
    pub(crate) const ALL: [Self; 6] = [
        Self::Netd,
        Self::Kea,
        Self::Networkd,
        Self::Dnsmasq,
        Self::Dora,
        Self::Dhcpd,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Netd => "netd",
            Self::Kea => "Kea, memfile",
            Self::Networkd => "systemd-networkd (stores nothing)",
            Self::Dnsmasq => "dnsmasq",
            Self::Dhcpd => "ISC dhcpd",
            Self::Dora => "dora, SQLite",
        }
    }

    /// The first rate worth trying.
    pub(crate) fn begin(self) -> u32 {
        match self {
            Self::Netd | Self::Kea => 2000,
            Self::Networkd => 500,
            Self::Dnsmasq | Self::Dora => 100,
            Self::Dhcpd => 50,
        }
    }

    fn program(self, options: &Options) -> Result<PathBuf> {
        match self {
            Self::Netd => Ok(options.netd.clone()),
            Self::Kea => need("kea-dhcp4"),
            Self::Networkd if Path::new(NETWORKD).is_file() => Ok(NETWORKD.into()),
            Self::Networkd => Err(Error::Missing {
                what: NETWORKD.into(),
                remedy: "install systemd",
            }),
            Self::Dnsmasq => need("dnsmasq"),
            Self::Dhcpd => need("dhcpd"),
            // Of the bench's own folder, or of the path.
            Self::Dora => {
                let built = options.peers.join("bin/dora");
                match built.is_file() {
                    true => Ok(built),
                    false => need("dora"),
                }
            }
        }
    }

    /// Whether it can be measured here.
    pub(crate) fn available(self, options: &Options) -> Result<()> {
        self.program(options).map(|_| ())
    }

    /// Starts it with an empty pool; what it stores goes to `folder`.
    pub(crate) fn start(self, options: &Options, folder: &Path) -> Result<Running> {
        if self == Self::Netd {
            return netd(options, folder);
        }
        let program = self.program(options)?;
        let (host, client) = (Netns::create("dhcp-server")?, Netns::create("dhcp-client")?);
        host.on(|| {
            line("ip link set lo up")?;
            line("ip link add lan0 type veth peer name host0 netns dhcp-client")?;
            // networkd gives it the address; one that is there already it sets again and again (252).
            if self != Self::Networkd {
                line(&format!("ip addr add {SERVER}/16 dev lan0"))?;
            }
            line("ip link set lan0 up").map(|_| ())
        })?;
        client.on(|| {
            line(&format!("ip addr add {AGENT}/16 dev host0"))?;
            line("ip link set host0 up").map(|_| ())
        })?;
        let mut command = match self {
            // With a /sys that can be written it would wait for udev; with another's, it would not find its links.
            Self::Networkd => {
                let mut command = Command::new("unshare");
                let script = format!("mount -t sysfs -o ro s /sys && exec {NETWORKD}");
                command.args(["--mount", "sh", "-c", &script]);
                command
            }
            _ => Command::new(&program),
        };
        self.configure(&mut command, folder)?;
        let log = folder.join("log");
        let said = std::fs::File::create(&log).during(|| format!("create {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(
                said.try_clone()
                    .during(|| "duplicate a descriptor".into())?,
            )
            .stderr(said);
        let child = host.on(|| {
            command
                .spawn()
                .during(|| format!("start {}", program.display()))
        })?;
        let mut running = Running {
            client,
            what: What::Program(child, host),
        };
        running.wait(&log)?;
        Ok(running)
    }

    fn configure(self, command: &mut Command, folder: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).during(|| format!("write {}", path.display()))?;
            Ok::<_, Error>(path)
        };
        match self {
            Self::Netd => {}
            Self::Kea => {
                let config = json!({ "Dhcp4": {
                    "interfaces-config": { "interfaces": ["lan0"], "dhcp-socket-type": "udp" },
                    "lease-database": { "type": "memfile", "persist": true,
                        "name": folder.join("leases.csv"), "lfc-interval": 0 },
                    "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 2, "packet-queue-size": 64 },
                    "valid-lifetime": 3600,
                    "subnet4": [{ "id": 1, "subnet": SUBNET,
                        "pools": [{ "pool": format!("{FIRST}-{LAST}") }],
                        "option-data": [{ "name": "routers", "data": SERVER }] }],
                    "loggers": [{ "name": "kea-dhcp4", "severity": "WARN",
                        "output_options": [{ "output": "stdout" }] }],
                } });
                let config = write("kea.json", config.to_string())?;
                command
                    .env("KEA_PIDFILE_DIR", folder)
                    .env("KEA_LOCKFILE_DIR", folder)
                    .arg("-c")
                    .arg(config);
            }
            Self::Networkd => {
                // Its folders are under the bench's own /run.
                let network = format!(
                    "[Match]\nName=lan0\n[Network]\nAddress={SERVER}/16\nDHCPServer=yes\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n\
                     [DHCPServer]\nPoolOffset=256\nPoolSize=65000\nDefaultLeaseTimeSec=3600\nEmitDNS=no\nEmitNTP=no\n"
                );
                let place = "/run/systemd/network";
                std::fs::create_dir_all(place).during(|| format!("create {place}"))?;
                std::fs::create_dir_all("/run/systemd/netif/links")
                    .during(|| "create /run/systemd/netif".into())?;
                std::fs::create_dir_all("/run/systemd/netif/leases")
                    .during(|| "create /run/systemd/netif".into())?;
                line("chown -R systemd-network:systemd-network /run/systemd/netif")?;
                let path = format!("{place}/10-lan0.network");
                std::fs::write(&path, network).during(|| format!("write {path}"))?;
                command.env("SYSTEMD_LOG_LEVEL", "info");
            }
            Self::Dnsmasq => {
                command
                    .args([
                        "--keep-in-foreground",
                        "--conf-file=/dev/null",
                        "--port=0",
                        "--interface=lan0",
                    ])
                    .args([
                        "--user=root",
                        "--pid-file",
                        "--no-ping",
                        "--dhcp-authoritative",
                        "--quiet-dhcp",
                    ])
                    .arg("--dhcp-lease-max=70000")
                    .arg(format!("--dhcp-range={FIRST},{LAST},255.255.0.0,1h"))
                    .arg(format!(
                        "--dhcp-leasefile={}",
                        folder.join("leases").display()
                    ));
            }
            Self::Dora => {
                let config = write(
                    "dora.yaml",
                    format!(
                        "interfaces:\n    - lan0\nnetworks:\n    {SUBNET}:\n        authoritative: true\n        ranges:\n\
                         \x20           - start: {FIRST}\n              end: {LAST}\n              config:\n\
                         \x20                 lease_time:\n                      default: 3600\n              options:\n\
                         \x20                 values:\n                      3:\n                          type: ip\n\
                         \x20                         value:\n                              - {SERVER}\n"
                    ),
                )?;
                command
                    .arg("-c")
                    .arg(config)
                    .arg("-d")
                    .arg(folder.join("leases.db"))
                    .args(["--dora-log", "error", "--max-live-msgs", "10000"]);
            }
            Self::Dhcpd => {
                let config = write(
                    "dhcpd.conf",
                    format!(
                        "authoritative; ping-check false; default-lease-time 3600; max-lease-time 3600;\n\
                         subnet 10.77.0.0 netmask 255.255.0.0 {{ range {FIRST} {LAST}; option routers {SERVER}; }}\n"
                    ),
                )?;
                let leases = write("dhcpd.leases", String::new())?;
                command
                    .args(["-4", "-f", "-q", "-cf"])
                    .arg(config)
                    .arg("-lf")
                    .arg(leases)
                    .arg("-pf")
                    .arg(folder.join("dhcpd.pid"))
                    .arg("lan0");
            }
        }
        Ok(())
    }
}

fn netd(options: &Options, folder: &Path) -> Result<Running> {
    let zone = format!(
        "subnet4 = \"{SUBNET}\"\nsubnet6 = \"none\"\n[dhcp]\nlease = \"1h\"\npool = \"{FIRST}-{LAST}\"\nrelays = [\"{AGENT}\"]\n"
    );
    let mut daemon = Daemon::start_with(&options.netd, "dhcp", &zone, folder)?;
    let container = Container::create("perf", 0)?;
    let request = json!({
        "container": container.name,
        "zone": ZONE,
        "netns": container.netns.path(),
        "ifname": "host0",
        "addresses": [AGENT],
    });
    daemon.call("Attach", json!({ "request": request }))?;
    Ok(Running {
        client: container.netns,
        what: What::Netd(Box::new(daemon)),
    })
}

/// A server that runs, and a place from which it is asked.
pub(crate) struct Running {
    client: Netns,
    what: What,
}

enum What {
    Netd(Box<Daemon>),
    /// With its host, which lives as long as it is held.
    Program(Child, #[allow(dead_code)] Netns),
}

impl Running {
    /// Where perfdhcp runs.
    pub(crate) fn client(&self) -> &Netns {
        &self.client
    }

    fn pid(&self) -> u32 {
        match &self.what {
            What::Netd(daemon) => daemon.pid(),
            What::Program(child, _) => child.id(),
        }
    }

    /// Processor time of all its threads so far (proc_pid_stat(5), in hundredths of a second).
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let stat = proc_file(self.pid(), "stat")?;
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = |n: usize| fields.split(' ').nth(n).and_then(|t| t.parse::<u64>().ok());
        match ticks(11).zip(ticks(12)) {
            Some((user, system)) => Ok(Duration::from_millis(10 * (user + system))),
            None => Err(Error::Garbled {
                who: "the kernel",
                answer: stat,
            }),
        }
    }

    /// Begins anew with the highest resident memory (proc_pid_clear_refs(5)): what a start needs is not what serving needs.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.pid());
        std::fs::write(&path, "5").during(|| format!("write {path}"))
    }

    /// Resident memory at its highest, in KiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = proc_file(self.pid(), "status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .ok_or(Error::Garbled {
                who: "the kernel",
                answer: status,
            })
    }

    /// Until somebody listens on port 67, and a moment longer.
    fn wait(&mut self, log: &Path) -> Result<()> {
        let What::Program(child, host) = &mut self.what else {
            return Ok(());
        };
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let ended = child.try_wait().during(|| "watch the server".into())?;
            if ended.is_some() || Instant::now() > deadline {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let end: Vec<&str> = said.lines().rev().take(5).collect();
                return Err(Error::void(format!(
                    "it does not serve: {}",
                    end.join(" | ")
                )));
            }
            let listens = host.on(|| {
                let sockets =
                    std::fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default();
                Ok(sockets.lines().skip(1).any(|l| l.contains(":0043 ")))
            })?;
            if listens {
                std::thread::sleep(Duration::from_millis(500));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let What::Program(child, _) = &mut self.what {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let deadline = Instant::now() + Duration::from_secs(3);
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What perfdhcp tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Told {
    /// Complete exchanges.
    pub(crate) completed: u64,
    /// Messages of ours without an answer, in both halves.
    pub(crate) dropped: u64,
    /// Mean delay of the offer, in µs.
    pub(crate) offer: f64,
    /// Mean delay of the acknowledgement, in µs.
    pub(crate) ack: f64,
}

/// Asks for `seconds` at a rate of exchanges a second, as a relay agent for 60,000 clients.
pub(crate) fn perf(client: &Netns, rate: u32, seconds: u32) -> Result<Told> {
    let mut command = Command::new(need("perfdhcp")?);
    command
        .args([
            "-4", "-l", "host0", "-R", "60000", "-d", "1", "-W", "500000", "-x", "ti",
        ])
        .args(["-r", &rate.to_string(), "-p", &seconds.to_string(), SERVER])
        .stdin(Stdio::null());
    let output = client.on(|| command.output().during(|| "run perfdhcp".into()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // It ends with 3 where messages were dropped: a result like any other.
    read(&said).ok_or_else(|| Error::Command {
        command: format!("{command:?}"),
        status: output.status.to_string(),
        stderr: format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    })
}

fn read(said: &str) -> Option<Told> {
    let after = |text: &'_ str, key: &str| -> Option<f64> {
        let rest = &text[text.find(key)? + key.len()..];
        rest.split_whitespace()
            .next()?
            .trim_end_matches('%')
            .parse()
            .ok()
    };
    let offer = said.find("DISCOVER-OFFER")?;
    let ack = said.find("REQUEST-ACK")?;
    let (first, second) = (&said[offer..ack], &said[ack..]);
    Some(Told {
        completed: after(second, "received packets:")? as u64,
        dropped: (after(first, "drops:")? + after(second, "drops:")?) as u64,
        offer: after(first, "avg delay:")? * 1e3,
        ack: after(second, "avg delay:")? * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perfdhcp_says_is_read() {
        let said = "***Rate statistics***\nRate: 2259.77 4-way exchanges/second, expected rate: 3000\n\n\
            ***Statistics for: DISCOVER-OFFER***\nsent packets: 5999\nreceived packets: 5715\ndrops: 284\n\
            drops ratio: 4.73412 %\n\nmin delay: 0.083 ms\navg delay: 2.559 ms\n\n\
            ***Statistics for: REQUEST-ACK***\nsent packets: 5715\nreceived packets: 5650\ndrops: 65\n\
            drops ratio: 1.137 %\n\nmin delay: 0.104 ms\navg delay: 1.215 ms\n";
        let told = Told {
            completed: 5650,
            dropped: 349,
            offer: 2559.0,
            ack: 1215.0,
        };
        assert_eq!(read(said), Some(told));
        assert_eq!(read("perfdhcp: no such interface"), None);
    }
}
