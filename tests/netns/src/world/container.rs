//! Containers of stories: a namespace, a server process in it, and `netd attach`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde_json::Value;

use super::{Host, Place};
use crate::net::frame::{self, Mac};
use crate::net::netns::{Netns, Ran};
use crate::net::probe::{self, Reach};
use crate::net::server::Server;

/// A container to be started.
pub struct Builder {
    host: Arc<Host>,
    name: String,
    options: Vec<String>,
    serves: Vec<String>,
    configure: Option<&'static str>,
}

/// A started container.
pub struct Container {
    host: Arc<Host>,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// What `netd attach --json` said.
    pub attached: Value,
    request: Vec<String>,
    /// Answers inside, and keeps the namespace busy; ends with this value.
    _server: Option<Server>,
}

impl Builder {
    pub(super) fn new(host: Arc<Host>, name: &str) -> Self {
        let serves = ["tcp/80", "tcp/81", "udp/53"].map(str::to_owned).to_vec();
        Self {
            host,
            name: name.to_owned(),
            options: Vec::new(),
            serves,
            configure: None,
        }
    }

    /// Any option of `netd attach`.
    pub fn option(mut self, flag: &str, value: &str) -> Self {
        self.options.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// The zone that it joins.
    pub fn in_zone(self, zone: &str) -> Self {
        self.option("--zone", zone)
    }

    /// A label.
    pub fn label(self, key: &str, value: &str) -> Self {
        self.option("--label", &format!("{key}={value}"))
    }

    /// A published port: `[ADDR:]HOSTPORT[-END]:PORT[/udp]`.
    pub fn publish(self, port: &str) -> Self {
        self.option("--publish", port)
    }

    /// Leaves the inside to a DHCP client of the container.
    pub fn dhcp(mut self) -> Self {
        self.configure = Some("dhcp");
        self.option("--configure", "dhcp")
    }

    /// Ports that it serves besides tcp/80, tcp/81 and udp/53.
    pub fn serves(mut self, ports: &[&str]) -> Self {
        self.serves
            .extend(ports.iter().map(|port| (*port).to_owned()));
        self
    }

    /// Without a server process: for stories with very many.
    pub fn bare(mut self) -> Self {
        self.serves.clear();
        self
    }

    /// Starts and attaches it.
    #[track_caller]
    pub fn start(self) -> Container {
        match self.try_start() {
            Ok(container) => container,
            Err(refused) => panic!("{refused}"),
        }
    }

    /// Starts it and asks to attach it; nothing of it is left when that is refused.
    pub fn try_start(self) -> Result<Container, Ran> {
        let netns = Netns::create(&self.name);
        let server =
            (!self.serves.is_empty()).then(|| Server::start(&netns, &self.name, &self.serves));
        let mut request = vec!["attach".to_owned(), self.name.clone()];
        request.extend(["--netns".to_owned(), netns.path().display().to_string()]);
        request.extend(self.options);
        request.push("--json".to_owned());
        let mut container = Container {
            host: self.host,
            name: self.name,
            netns,
            attached: Value::Null,
            request,
            _server: server,
        };
        container.try_attach()?;
        if !container.attached["addresses"].is_null() && self.configure.is_none() {
            super::wait_for_carrier(&container.host.netns, container.host_ifname());
        }
        Ok(container)
    }
}

impl Container {
    /// Its IPv4 address.
    #[track_caller]
    pub fn v4(&self) -> Ipv4Addr {
        self.addresses()
            .into_iter()
            .find_map(ipv4)
            .expect("no IPv4 address")
    }

    /// Its IPv6 address.
    #[track_caller]
    pub fn v6(&self) -> Ipv6Addr {
        self.addresses()
            .into_iter()
            .find_map(ipv6)
            .expect("no IPv6 address")
    }

    /// All its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = listed(&self.attached["addresses"]);
        addresses.sort();
        addresses
    }

    /// The host's IPv4 address in its zone.
    #[track_caller]
    pub fn gateway4(&self) -> Ipv4Addr {
        listed(&self.attached["gateways"])
            .into_iter()
            .find_map(ipv4)
            .expect("no IPv4 gateway")
    }

    /// Its hardware address.
    #[track_caller]
    pub fn mac(&self) -> Mac {
        frame::mac(self.attached["mac"].as_str().expect("no hardware address"))
    }

    /// The link-local address that the kernel derives from its hardware address (RFC 4291, appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac();
        let bytes = [
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 2,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ];
        Ipv6Addr::from(bytes)
    }

    /// Name of its link's host end.
    #[track_caller]
    pub fn host_ifname(&self) -> &str {
        self.attached["host_ifname"].as_str().expect("no host end")
    }

    /// Runs a shell script inside that must succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.netns.sh(script)
    }

    /// Opens a TCP connection to an address.
    pub fn tcp(&self, to: impl Into<IpAddr>, port: u16) -> Reach {
        probe::probe(&self.netns, to.into(), &format!("tcp/{port}"))
    }

    /// Sends an echo request to an address.
    pub fn ping(&self, to: impl Into<IpAddr>) -> Reach {
        probe::probe(&self.netns, to.into(), "icmp/echo-request")
    }

    /// Opens a TCP connection to another container, in each family that it has.
    pub fn tcp_to(&self, other: &Container, port: u16) -> Vec<Reach> {
        other
            .addresses()
            .into_iter()
            .map(|to| self.tcp(to, port))
            .collect()
    }

    /// Sends the request to attach (again).
    pub fn try_attach(&mut self) -> Result<(), Ran> {
        let ran = self.host.netd_args(&self.request);
        if ran.code != 0 {
            return Err(ran);
        }
        self.attached = ran.json();
        let place = Place {
            netns: self.netns.clone(),
            addresses: self.addresses(),
            gateways: self
                .host
                .gateways_of(self.attached["zone"].as_str().unwrap_or_default()),
        };
        self.host
            .places
            .lock()
            .unwrap()
            .insert(self.name.clone(), place);
        Ok(())
    }

    /// `netd detach`; the container itself goes on.
    #[track_caller]
    pub fn detach(&self) {
        self.host.netd(&format!("detach {}", self.name)).ok();
        self.host.places.lock().unwrap().remove(&self.name);
    }

    /// Detaches it and ends it, as if it had been stopped.
    #[track_caller]
    pub fn stop(self) {
        self.detach();
    }

    /// What `netd status NAME --json` says of the container.
    #[track_caller]
    pub fn status(&self) -> Value {
        let line = format!("status {} --json", self.name);
        container_part(&self.host.netd(&line).json())
    }

    /// What `netd attach --json` said of the container.
    pub fn told(&self) -> Value {
        container_part(&self.attached)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.netns.remove();
        }
    }
}

impl Host {
    /// Makes a container known that was not attached by the story: an adopted one. Returns what its status says.
    #[track_caller]
    pub fn know(&self, name: &str, netns: &Netns) -> Value {
        let status = container_part(&self.netd(&format!("status {name} --json")).json());
        let zone = status["zone"].as_str().unwrap_or_default();
        let place = Place {
            netns: netns.clone(),
            addresses: listed(&status["addresses"]),
            gateways: self.gateways_of(zone),
        };
        self.places.lock().unwrap().insert(name.to_owned(), place);
        status
    }
}

/// A document without what only one command tells: the container itself, which all tell alike.
pub fn container_part(document: &Value) -> Value {
    let mut document = document.clone();
    if let Some(fields) = document.as_object_mut() {
        let of_one = ["created", "warnings", "problems"];
        let of_machine = [
            "class",
            "service",
            "os",
            "version",
            "leader",
            "since",
            "root",
            "command",
            "processes",
            "policy",
        ];
        fields.retain(|key, _| {
            let key = key.as_str();
            !of_one.contains(&key) && !of_machine.contains(&key)
        });
    }
    document
}

fn listed(addresses: &Value) -> Vec<IpAddr> {
    let texts = addresses
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    texts
        .map(|text| {
            text.split('/')
                .next()
                .unwrap()
                .parse()
                .unwrap_or_else(|_| panic!("no address: {text}"))
        })
        .collect()
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}
