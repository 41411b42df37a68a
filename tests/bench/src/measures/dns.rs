//! Names of containers: answers a second, CPU of the server for each, and its memory.
//!
//! Each server is on a host of its own and knows the same number of names. It is asked by dnsperf in a container's
//! namespace, over one veth: netd through its whole path (guard, policy, limits), the others over a bridge without any
//! firewall. All sides take turns; what is printed is each one's best turn.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Options;
use crate::container::{Container, GATEWAY4};
use crate::daemon::{Daemon, ZONE};
use crate::error::{During, Error, Result};
use crate::floor::Floor;
use crate::measures::memory::pss;
use crate::ns::Netns;
use crate::sides::{empty_folder, need, run};
use crate::stats::{Comparison, Unit};

/// Of today, from its crate.
const AARDVARK: &str = "aardvark-dns";
/// Of Debian 12: 1.4.0.
const DEBIANS: &str = "aardvark-dns (Debian)";
const DEBIANS_PATH: &str = "/usr/lib/podman/aardvark-dns";

/// For how long a server may take to answer its first query.
const PATIENCE: Duration = Duration::from_secs(20);

/// `bench dns`: `names` local names, `rounds` turns of each server, `seconds` each.
pub(crate) fn run_all(options: &Options, names: u32, rounds: u32, seconds: u32) -> Result<()> {
    need("dnsperf")?;
    let mut servers = vec![Server::netd(&options.netd, names)?];
    let mut missing = Vec::new();
    let aardvark = options.peers.join("bin/aardvark-dns");
    for (who, server) in [
        ("dnsmasq", Server::dnsmasq(names)),
        (AARDVARK, Server::aardvark(AARDVARK, &aardvark, names)),
        (
            DEBIANS,
            Server::aardvark(DEBIANS, Path::new(DEBIANS_PATH), names),
        ),
    ] {
        match server {
            Ok(server) => servers.push(server),
            Err(error) => missing.push((who, error.chain())),
        }
    }
    let mut best: Vec<Option<Turn>> = servers.iter().map(|_| None).collect();
    for _ in 0..rounds {
        for (server, best) in servers.iter().zip(&mut best) {
            let turn = server.turn(seconds)?;
            if best.as_ref().is_none_or(|best| turn.rate > best.rate) {
                *best = Some(turn);
            }
        }
    }
    let title = |what: &str| format!("DNS, {names} names of containers: {what}");
    let mut rate = Comparison::new(title("answers a second"), Unit::PerSecond);
    let mut cpu = Comparison::new(title("CPU of the server for an answer"), Unit::Micros);
    let mut memory = Comparison::new(title("memory (PSS)"), Unit::Kib);
    for (n, (server, turn)) in servers.iter().zip(best.iter().flatten()).enumerate() {
        if n == 0 {
            rate.against(turn.rate);
            cpu.against(turn.cpu);
            memory.against(turn.pss as f64);
        }
        let held = |text: &'static str| if n == 0 { text } else { "" };
        let turns = rounds as usize;
        rate.figure(server.name, turns, turn.rate, held("ahead of each"));
        cpu.figure(server.name, turns, turn.cpu, "");
        memory.figure(server.name, 1, turn.pss as f64, "");
        println!(
            "{}: {} answers, {} lost, mean latency {} µs",
            server.name, turn.answers, turn.lost, turn.latency
        );
    }
    for (who, why) in &missing {
        rate.missing(who, why);
    }
    for table in [rate, cpu, memory] {
        table.print();
    }
    Ok(())
}

/// What one turn of dnsperf saw.
struct Turn {
    /// Answers a second.
    rate: f64,
    /// µs of CPU of the server for an answer, in user space and kernel.
    cpu: f64,
    /// KiB.
    pss: u64,
    answers: u64,
    lost: u64,
    /// µs.
    latency: f64,
}

/// A server that answers, and who asks it.
struct Server {
    name: &'static str,
    pid: u32,
    at: IpAddr,
    queries: PathBuf,
    client: Netns,
    /// Kept for as long as it is asked.
    host: Host,
}

enum Host {
    Netd {
        _daemon: Box<Daemon>,
        _containers: Vec<Container>,
    },
    Floor {
        _floor: Floor,
        child: Ended,
    },
}

/// A process that ends with the measurement, and so does the one that it may have left behind to serve.
struct Ended(Child, Option<u32>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(pid) = self.1.and_then(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn netd(program: &Path, names: u32) -> Result<Self> {
        let mut daemon = Daemon::start(program, "host-dns-netd", false)?;
        let mut containers = Vec::new();
        for number in 0..names {
            let container = Container::create("dn", number)?;
            daemon.attach(&container, "name")?;
            containers.push(container);
        }
        let client = Container::create("dnclient", 0)?;
        daemon.attach(&client, "client")?;
        let server = Self {
            name: "netd",
            pid: daemon.pid(),
            at: GATEWAY4.into(),
            queries: queries("netd", names, |n| format!("dn{n}.{ZONE}.internal"))?,
            client: client.netns,
            host: Host::Netd {
                _daemon: Box::new(daemon),
                _containers: containers,
            },
        };
        server.wait()?;
        Ok(server)
    }

    fn dnsmasq(names: u32) -> Result<Self> {
        need("dnsmasq")?;
        let folder = folder("dnsmasq")?;
        let mut hosts = String::new();
        for n in 0..names {
            let _ = writeln!(hosts, "{} dn{n}.bench.internal", address(n));
        }
        let file = folder.join("hosts");
        fs::write(&file, hosts).during(|| format!("write {}", file.display()))?;
        let mut command = Command::new("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
            ])
            .args([
                "--no-hosts",
                "--user=root",
                "--pid-file=",
                "--bind-interfaces",
            ])
            .arg(format!("--listen-address={GATEWAY4}"))
            .arg(format!("--addn-hosts={}", file.display()));
        Self::beside("dnsmasq", ("dnsmasq", "cm"), names, command, |n| {
            format!("dn{n}.bench.internal")
        })
    }

    fn aardvark(name: &'static str, program: &Path, names: u32) -> Result<Self> {
        if !program.is_file() {
            return Err(Error::Missing {
                what: program.display().to_string(),
                remedy: "run `bench setup`",
            });
        }
        let debians = name == DEBIANS;
        let folder = folder(if debians { "aardvark1" } else { "aardvark" })?;
        let mut network = format!("{GATEWAY4}\n");
        for n in 0..names {
            let _ = writeln!(network, "{n:064x} {}  dn{n}", address(n));
        }
        // Who asks is known too, as a container of a network always is.
        let _ = writeln!(network, "{:064x} {}  client", u32::MAX, CLIENT);
        let file = folder.join("bench");
        fs::write(&file, network).during(|| format!("write {}", file.display()))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&folder).args(["--port", "53"]);
        if !debians {
            // the older one has it built in
            command.args(["--filter-search-domain", ".dns.podman"]);
        }
        command.arg("run");
        let short = if debians {
            ("aardvark1", "ad")
        } else {
            ("aardvark", "ca")
        };
        Self::beside(name, short, names, command, |n| format!("dn{n}.dns.podman"))
    }

    /// A server on a plain bridge. `short`: the host's name, and the client's.
    fn beside(
        name: &'static str,
        short: (&str, &str),
        names: u32,
        mut command: Command,
        full: impl Fn(u32) -> String,
    ) -> Result<Self> {
        let mut floor = Floor::create(&format!("host-dns-{}", short.0), false)?;
        let client = Container::create(short.1, 0)?;
        floor.host().enter()?;
        floor.attach(&client)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .during(|| format!("start {command:?}"))?;
        let child = Ended(child, None);
        let mut server = Self {
            name,
            pid: child.0.id(),
            at: GATEWAY4.into(),
            queries: queries(short.0, names, full)?,
            client: client.netns,
            host: Host::Floor {
                _floor: floor,
                child,
            },
        };
        server.wait()?;
        let started = server.pid;
        server.pid = serving(started, short.0)?;
        if let Host::Floor { child, .. } = &mut server.host {
            child.1 = Some(server.pid).filter(|pid| *pid != started);
        }
        Ok(server)
    }

    /// Waits until it answers.
    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ask(1, 1) {
                Ok(turn) if turn.answers > 0 => return Ok(()),
                Ok(_) | Err(_) if Instant::now() < deadline => {}
                Ok(_) => return Err(Error::void(format!("{} answers nothing", self.name))),
                Err(error) => return Err(error),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn turn(&self, seconds: u32) -> Result<Turn> {
        self.ask(seconds, 100)
    }

    /// dnsperf in the client's namespace, with so many queries on their way at once.
    fn ask(&self, seconds: u32, at_once: u32) -> Result<Turn> {
        // who was started may have left another process behind, which is looked for once it answers
        let before = cpu(self.pid).ok();
        let said = self.client.on(|| {
            let mut command = Command::new("dnsperf");
            command
                .args(["-s", &self.at.to_string()])
                .arg("-d")
                .arg(&self.queries)
                .args(["-l", &seconds.to_string(), "-c", "8"])
                .args(["-q", &at_once.to_string(), "-t", "2"]);
            run(&mut command, b"")
        })?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let figure = |label: &str| -> Option<f64> {
            let line = said.lines().find(|line| line.trim().starts_with(label))?;
            line.split(':')
                .nth(1)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        };
        let read = || {
            let answers = figure("Queries completed")?;
            let latency = figure("Average Latency (s)").unwrap_or_default();
            Some((
                answers,
                figure("Queries lost")?,
                figure("Queries per second")?,
                latency,
            ))
        };
        let Some((answers, lost, rate, latency)) = read() else {
            return Err(Error::Garbled {
                who: "dnsperf",
                answer: said,
            });
        };
        if answers > 0.0 && !said.contains("NOERROR") {
            return Err(Error::void(format!("{} knows no name:\n{said}", self.name)));
        }
        Ok(Turn {
            rate,
            cpu: match (before, cpu(self.pid).ok()) {
                (Some(before), Some(after)) => (after - before).as_secs_f64() * 1e6 / answers,
                _ => f64::NAN,
            },
            pss: pss(self.pid).unwrap_or_default(),
            answers: answers as u64,
            lost: lost as u64,
            latency: latency * 1e6,
        })
    }
}

/// The address of the only client of a plain bridge: its first container's.
const CLIENT: &str = "10.88.0.10";

/// Addresses of names: away from the client's.
fn address(n: u32) -> IpAddr {
    std::net::Ipv4Addr::from(u32::from(GATEWAY4) + 1000 + n).into()
}

fn folder(name: &str) -> Result<PathBuf> {
    let folder = PathBuf::from(format!("/run/bench-dns-{name}"));
    empty_folder(&folder)?;
    Ok(folder)
}

/// dnsperf's file: each name once, asked over and over.
fn queries(name: &str, names: u32, full: impl Fn(u32) -> String) -> Result<PathBuf> {
    let file = PathBuf::from(format!("/run/bench-dns-{name}.queries"));
    let lines: String = (0..names).map(|n| format!("{} A\n", full(n))).collect();
    fs::write(&file, lines).during(|| format!("write {}", file.display()))?;
    Ok(file)
}

/// The process that serves: the one that was started, or the one it left behind, on this host.
fn serving(started: u32, name: &str) -> Result<u32> {
    if cpu(started).is_ok() {
        return Ok(started);
    }
    let host = |path: &Path| fs::read_link(path.join("ns/net")).ok();
    let here = host(Path::new("/proc/thread-self"));
    for entry in fs::read_dir("/proc")
        .during(|| "list processes".into())?
        .flatten()
    {
        let path = entry.path();
        let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        let serves = |_: &u32| comm.trim() == "aardvark-dns" && host(&path) == here;
        if let Some(pid) = pid.filter(serves) {
            return Ok(pid);
        }
    }
    Err(Error::void(format!("{name} has ended")))
}

/// CPU that a process used so far, all its threads together (proc_pid_schedstat: nanoseconds on a CPU come first); an
/// error where it has ended.
fn cpu(pid: u32) -> Result<Duration> {
    let folder = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&folder).during(|| format!("list {folder}"))?;
    let mut used = Duration::ZERO;
    for thread in threads.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let first = text
            .split_whitespace()
            .next()
            .and_then(|ns| ns.parse().ok());
        used += Duration::from_nanos(first.unwrap_or_default());
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    if stat.contains(") Z ") {
        return Err(Error::void(format!("process {pid} has ended")));
    }
    Ok(used)
}
