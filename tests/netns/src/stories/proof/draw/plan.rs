//! A world on paper: what there is, what was typed to make it, and what its files say.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A world that can be made, again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Zones, made in this order.
    pub zones: Vec<Zone>,
    /// Containers, attached in this order.
    pub containers: Vec<Container>,
    /// Policy files.
    pub files: Vec<File>,
    /// Names for lists of peers: `g0`, `g1` …
    pub groups: Vec<Vec<String>>,
    /// The day of the week on which it is made, from Monday; rules with hours are drawn around it.
    pub today: usize,
}

/// Which IPv6 a zone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V6 {
    /// None.
    None,
    /// A private one: masqueraded towards the world.
    Private,
    /// One that the world routes to the host: not masqueraded.
    Global,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its place in the plan it was drawn in; its subnets go by it.
    pub index: usize,
    /// `egress`, `deny` or `allow`.
    pub default: String,
    /// Without a path to the world.
    pub internal: bool,
    /// Its IPv6.
    pub v6: V6,
    /// Whether its IPv6 subnet is so wide that each container has a prefix.
    pub wide: bool,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its place in the plan it was drawn in; its addresses go by it.
    pub index: usize,
    /// Its zone's index.
    pub zone: usize,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it publishes.
    pub publish: Vec<Publish>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The only address at which it is published.
    pub address: Option<String>,
    /// Of UDP.
    pub udp: bool,
    /// First port of the host.
    pub first: u16,
    /// Last port of the host.
    pub last: u16,
    /// The container's port for the first.
    pub port: u16,
}

/// A policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Without `.toml`.
    pub name: String,
    /// `key = value` of applies-to; none: the container with the file's name.
    pub applies: Vec<String>,
    /// On trial: without effect.
    pub audit: bool,
    /// What it says of who may come in; absent: nothing.
    pub ingress: Option<Vec<Rule>>,
    /// What it says of where to go; absent: nothing.
    pub egress: Option<Vec<Rule>>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Denies what it matches.
    pub deny: bool,
    /// `from` or `to`.
    pub peers: Option<Vec<String>>,
    /// `ports`.
    pub ports: Option<Vec<String>>,
    /// `time`.
    pub time: Option<String>,
    /// A limit that is never reached: the line that says so.
    pub limit: Option<&'static str>,
}

impl Zone {
    /// Its name.
    pub fn name(&self) -> String {
        format!("z{}", self.index)
    }

    /// Its IPv4 subnet.
    pub fn subnet4(&self) -> String {
        format!("10.89.{}.0/28", self.index)
    }

    /// Its IPv6 prefix, if it has one: all but the last group of a gateway's address.
    pub fn prefix6(&self) -> Option<String> {
        Some(format!("{}::", self.network6()?))
    }

    /// Its IPv6 subnet, if it has one.
    pub fn subnet6(&self) -> Option<String> {
        let length = if self.wide { 48 } else { 64 };
        Some(format!("{}/{length}", self.prefix6()?))
    }

    /// What all its IPv6 addresses begin with: three groups where it is wide, else four.
    fn network6(&self) -> Option<String> {
        match (self.v6, self.wide) {
            (V6::None, _) => None,
            (V6::Private, false) => Some(format!("fd00:89:0:{}", self.index)),
            (V6::Global, false) => Some(format!("2001:db8:a:{}", self.index)),
            (V6::Private, true) => Some(format!("fd00:89:{:x}", self.index + 1)),
            (V6::Global, true) => Some(format!("2001:db8:a{:02x}", self.index)),
        }
    }

    /// The IPv6 address of whoever has this number.
    pub fn address6(&self, last: usize) -> Option<String> {
        let network = self.network6()?;
        Some(match self.wide {
            true => format!("{network}:{last:x}::1"),
            false => format!("{network}::{last:x}"),
        })
    }

    /// Its gateways, IPv4 first.
    pub fn gateways(&self) -> Vec<String> {
        let v4 = format!("10.89.{}.1", self.index);
        let v6 = self.prefix6().map(|prefix| format!("{prefix}1"));
        std::iter::once(v4).chain(v6).collect()
    }

    /// What makes it.
    pub fn command(&self) -> String {
        let subnet6 = self.subnet6().unwrap_or("none".to_owned());
        let internal = if self.internal { " --internal" } else { "" };
        format!(
            "zone create {} --subnet4 {} --subnet6 {subnet6} --default {}{internal}",
            self.name(),
            self.subnet4(),
            self.default
        )
    }
}

impl Container {
    /// Its name.
    pub fn name(&self) -> String {
        format!("c{}", self.index)
    }

    /// Its addresses in a zone, IPv4 first.
    pub fn addresses(&self, zone: &Zone) -> Vec<String> {
        let last = self.index + 2;
        let v4 = format!("10.89.{}.{last}", zone.index);
        let v6 = zone.address6(last);
        std::iter::once(v4).chain(v6).collect()
    }

    /// What attaches it; `netns` is the path of its namespace.
    pub fn command(&self, zone: &Zone, netns: &str) -> String {
        let mut line = format!("attach {} --zone {}", self.name(), zone.name());
        for address in self.addresses(zone) {
            let _ = write!(line, " --ip {address}");
        }
        for (key, value) in &self.labels {
            let _ = write!(line, " --label {key}={value}");
        }
        for publish in &self.publish {
            let _ = write!(line, " --publish {}", publish.text());
        }
        line + " --netns " + netns
    }
}

impl Publish {
    /// `[ADDR:]HOSTPORT[-END]:PORT[/udp]`
    pub fn text(&self) -> String {
        let address = match self.address.as_deref() {
            None => String::new(),
            Some(v6) if v6.contains(':') => format!("[{v6}]:"),
            Some(v4) => format!("{v4}:"),
        };
        let end = if self.last > self.first {
            format!("-{}", self.last)
        } else {
            String::new()
        };
        let udp = if self.udp { "/udp" } else { "" };
        format!("{address}{}{end}:{}{udp}", self.first, self.port)
    }
}

impl File {
    /// What stands in it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.applies.is_empty() {
            let _ = writeln!(text, "applies-to = {{ {} }}", self.applies.join(", "));
        }
        if self.audit {
            text += "mode = \"audit\"\n";
        }
        let sections = [("ingress", &self.ingress), ("egress", &self.egress)];
        for (name, section) in sections {
            if section.as_ref().is_some_and(Vec::is_empty) {
                let _ = writeln!(text, "{name} = []");
            }
        }
        for (name, section) in sections {
            for rule in section.iter().flatten() {
                let _ = write!(text, "[[{name}]]\n{}", rule.text(name));
            }
        }
        text
    }
}

impl Rule {
    fn text(&self, section: &str) -> String {
        let who = if section == "ingress" { "from" } else { "to" };
        let mut text = String::new();
        if self.deny {
            text += "action = \"deny\"\n";
        }
        for (key, list) in [(who, &self.peers), ("ports", &self.ports)] {
            if let Some(list) = list {
                let _ = writeln!(text, "{key} = {list:?}");
            }
        }
        if let Some(limit) = self.limit {
            text += limit;
        }
        if let Some(time) = &self.time {
            let _ = writeln!(text, "time = {time:?}");
        }
        text
    }
}

impl Plan {
    /// A zone by its index.
    pub fn zone(&self, index: usize) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.index == index)
    }

    /// A container by its name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|one| one.name() == name)
    }

    /// What stands in groups.toml.
    pub fn groups_text(&self) -> String {
        let groups = self.groups.iter().enumerate();
        groups
            .map(|(n, peers)| format!("g{n} = {peers:?}\n"))
            .collect()
    }

    /// All of it, as somebody would type it.
    pub fn script(&self) -> String {
        let mut text = String::new();
        for zone in &self.zones {
            let _ = writeln!(text, "netd {}", zone.command());
        }
        for container in &self.containers {
            if let Some(zone) = self.zone(container.zone) {
                let netns = format!("/run/netns/{}", container.name());
                let _ = writeln!(text, "netd {}", container.command(zone, &netns));
            }
        }
        if !self.groups.is_empty() {
            let _ = write!(text, "# groups.toml\n{}", self.groups_text());
        }
        for file in &self.files {
            let _ = writeln!(
                text,
                "# policies/{}.toml\n{}",
                file.name,
                file.text().trim_end()
            );
        }
        text
    }
}
