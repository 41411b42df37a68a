//! A private host with netd on it, a world outside, and containers: what stories are told in.
//!
//! ```text
//!   world ──eth0─────────up0── host ── vz-ZONE ── vb-NAME ──host0── container
//!   192.0.2.2, 2001:db8:1::2   192.0.2.1, 2001:db8:1::1
//!   198.51.100.7, 2001:db8:7::7 (another address of the world, for CIDR peers)
//! ```
//! The world is a hostile neighbour: it routes 10.89.0.0/16 and fd00::/8 to the host.

mod container;
mod daemon;
mod dump;
mod verdict;
mod zone;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::net::netns::{self, Netns, Ran};
use crate::net::server::Server;

pub use container::{Container, container_part};
pub use daemon::{Daemon, signal};
pub use verdict::{Reachable, Verdict};

/// The host's own addresses.
pub const HOST: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
/// The world's addresses.
pub const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8:1::2"];
/// Other addresses of the world.
pub const ELSEWHERE: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];

/// A private host with netd on it.
pub struct World(Arc<Host>);

/// What containers and builders know of their world.
pub struct Host {
    /// Folder of this world: config, state, runtime, logs.
    pub dir: PathBuf,
    /// The private host's namespace.
    pub netns: Netns,
    /// The outside.
    pub outside: Netns,
    daemon: Mutex<Option<Daemon>>,
    places: Mutex<BTreeMap<String, Place>>,
    servers: Mutex<Vec<Server>>,
}

/// Where a name is found.
#[derive(Clone)]
pub struct Place {
    netns: Netns,
    addresses: Vec<IpAddr>,
    gateways: Vec<IpAddr>,
}

impl std::ops::Deref for World {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.0
    }
}

impl World {
    /// A host with a running daemon, without zones. The title goes into the log.
    pub fn new(title: &str) -> Self {
        let world = Self::without_daemon(title);
        world.start_netd();
        world
    }

    /// A host on which no netd runs yet.
    pub fn without_daemon(title: &str) -> Self {
        Self::on(Netns::host(), title)
    }

    /// A second host beside the first, in a namespace of its own, with a running daemon.
    pub fn beside(title: &str) -> Self {
        let world = Self::on(Netns::create(&format!("{title}-host")), title);
        world.start_netd();
        world
    }

    /// A host in a namespace of its own, on which neither a daemon nor any server runs yet.
    pub fn quiet_beside(title: &str) -> Self {
        Self::bare(Netns::create(&format!("{title}-host")), title)
    }

    fn on(netns: Netns, title: &str) -> Self {
        let world = Self::bare(netns, title);
        // An address of the host in the world's eyes, and of the host's in its own, must answer somewhere.
        let ports = ["tcp/22", "tcp/80", "udp/123"].map(str::to_owned);
        let servers = [
            Server::start(&world.outside, "world", &ports),
            Server::start(&world.netns, "host", &ports),
        ];
        world.servers.lock().unwrap().extend(servers);
        world
    }

    fn bare(netns: Netns, title: &str) -> Self {
        let dir = PathBuf::from(std::env::var_os(crate::runner::DIR).unwrap())
            .join(title.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        for folder in ["config/zones", "config/policies", "state", "runtime"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let outside = Netns::create(&format!("{}-world", netns.name()));
        lay_uplink(&netns, &outside);
        let host = Host {
            dir,
            netns,
            outside,
            daemon: Mutex::default(),
            places: Mutex::default(),
            servers: Mutex::default(),
        };
        Self(Arc::new(host))
    }

    /// A zone to be made.
    pub fn zone(&self, name: &str) -> zone::Builder {
        zone::Builder::new(self.0.clone(), name)
    }

    /// A container to be started.
    pub fn container(&self, name: &str) -> container::Builder {
        container::Builder::new(self.0.clone(), name)
    }
}

/// One veth between the host and the world; in the host only what a machine with a LAN has.
fn lay_uplink(host: &Netns, world: &Netns) {
    // A fresh host forwards nothing, and without Docker bridged frames do not pass the L3 hooks; the kernel copies
    // these switches from its first namespace.
    host.sh(
        "cd /proc/sys/net; echo 0 >ipv4/ip_forward; echo 0 >ipv6/conf/all/forwarding; \
         for f in bridge/bridge-nf-call-*tables; do [ ! -e $f ] || echo 0 >$f; done",
    );
    world.sh(&format!(
        "ip -b - <<'X'\n\
         link set lo up\n\
         link add eth0 type veth peer name up0 netns {}\n\
         addr add 192.0.2.2/24 dev eth0\n\
         addr add 2001:db8:1::2/64 dev eth0 nodad\n\
         addr add 198.51.100.7/32 dev lo\n\
         addr add 2001:db8:7::7/128 dev lo nodad\n\
         link set eth0 up\nX",
        host.reference()
    ));
    host.sh("ip -b - <<'X'\n\
         link set lo up\n\
         addr add 192.0.2.1/24 dev up0\n\
         addr add 2001:db8:1::1/64 dev up0 nodad\n\
         link set up0 up\n\
         route add default via 192.0.2.2\n\
         route add default via 2001:db8:1::2\nX");
    world.sh("ip -b - <<'X'\n\
         route add 10.89.0.0/16 via 192.0.2.1\n\
         route add fd00::/8 via 2001:db8:1::1\n\
         route add default via 192.0.2.1\n\
         route add default via 2001:db8:1::1\nX");
    wait_for_carrier(host, "up0");
    wait_for_carrier(world, "eth0");
}

/// Waits until the kernel has noticed that the other end of a veth is up. Until then it drops what is sent,
/// and IPv6 asks for a lost neighbour again only after a second.
pub fn wait_for_carrier(netns: &Netns, ifname: &str) {
    netns.sh(&format!("for i in $(seq 500); do ip link show dev {ifname} | grep -q 'state UP' && exit; sleep 0.01; done; exit 1"));
}

/// The binary under test: `NETD_BIN`, or the one beside this test's.
pub fn netd_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("NETD_BIN") {
        return path.into();
    }
    let here = std::env::current_exe().unwrap();
    let target = here.parent().and_then(Path::parent).unwrap();
    let binary = target.join("netd");
    assert!(
        binary.exists(),
        "{} is not built: cargo build -p netd",
        binary.display()
    );
    binary
}

impl Host {
    /// `config`, `state` or `runtime`.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A netd command on this host that does not start a daemon by itself.
    pub fn command(&self) -> Command {
        let mut command = Command::new(netd_binary());
        for name in ["config", "state", "runtime"] {
            command.env(
                format!("NETD_{}_DIR", name.to_uppercase()),
                self.folder(name),
            );
        }
        command
            .env("NETD_AUTOSTART", "0")
            .env("NO_COLOR", "1")
            .env("RUST_BACKTRACE", "1");
        command
    }

    /// Runs `netd ARGS…` on this host; `line` is split at blanks.
    pub fn netd(&self, line: &str) -> Ran {
        self.netd_args(line.split_whitespace())
    }

    /// Runs `netd ARGS…` on this host.
    pub fn netd_args<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        let mut command = self.command();
        command.args(args);
        let ran = self.netns.enter(|| netns::run(&mut command));
        held_to_its_schema(&command, &ran);
        ran
    }

    /// Runs a shell script on this host that must succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.netns.sh(script)
    }

    /// Runs `nft`, for looking and for tampering; what comes of it is the story's business.
    pub fn nft(&self, command: &str) -> Ran {
        let mut nft = Command::new("nft");
        nft.args(command.split_whitespace());
        self.netns.enter(|| netns::run(&mut nft))
    }

    /// Writes a policy file as an editor does (aside, then renamed) and waits until it is in force.
    #[track_caller]
    pub fn policy(&self, name: &str, text: &str) {
        self.write_policy(name, text);
        self.netd("reload").ok();
    }

    /// Writes a policy file without telling anybody.
    pub fn write_policy(&self, name: &str, text: &str) {
        let folder = self.folder("config/policies");
        let aside = folder.join(format!(".{name}.toml.new"));
        fs::write(&aside, text).unwrap();
        fs::rename(&aside, folder.join(format!("{name}.toml"))).unwrap();
    }

    /// Takes a policy file away and waits until that is in force.
    #[track_caller]
    pub fn no_policy(&self, name: &str) {
        fs::remove_file(self.folder("config/policies").join(format!("{name}.toml"))).unwrap();
        self.netd("reload").ok();
    }

    /// Names of the links on this host.
    pub fn links(&self) -> Vec<String> {
        self.netns.enter(|| {
            // /sys shows the namespace in which it was mounted, so ask the kernel.
            let links = netns::run(Command::new("ip").args(["-j", "link"])).json();
            let names = links.as_array().into_iter().flatten();
            names
                .filter_map(|link| Some(link["ifname"].as_str()?.to_owned()))
                .collect()
        })
    }

    /// Links that netd made: bridges, host ends, and what queues for those that are limited.
    pub fn own_links(&self) -> Vec<String> {
        let mut links = self.links();
        links.retain(|name| {
            ["vz-", "vb-", "vi-"]
                .iter()
                .any(|own| name.starts_with(own))
        });
        links
    }

    /// The host's addresses in a zone.
    fn gateways_of(&self, zone: &str) -> Vec<IpAddr> {
        let zone = self.netd(&format!("zone show {zone} --json")).json();
        let gateways = ["gateway4", "gateway6"]
            .iter()
            .filter_map(|key| zone[*key].as_str());
        gateways.map(|text| text.parse().unwrap()).collect()
    }

    /// Addresses of an attached container.
    pub fn place_addresses(&self, name: &str) -> Vec<IpAddr> {
        self.place(name)
            .map(|place| place.addresses)
            .unwrap_or_default()
    }

    fn place(&self, name: &str) -> Option<Place> {
        self.places.lock().unwrap().get(name).cloned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            dump::dump(self);
        } else if let Some(daemon) = self.daemon.lock().unwrap().take() {
            daemon.terminate();
        }
        self.servers.lock().unwrap().clear();
    }
}

/// Whatever a story asks in JSON is held to the schema of the command.
#[track_caller]
fn held_to_its_schema(command: &Command, ran: &Ran) {
    let words: Vec<&str> = command
        .get_args()
        .filter_map(|word| word.to_str())
        .collect();
    if ran.code != 0 || !words.contains(&"--json") {
        return;
    }
    if let Some(schema) = crate::schema::of(&words)
        && let Ok(document) = serde_json::from_str(&ran.stdout)
    {
        crate::schema::hold(schema, &document);
    }
}
