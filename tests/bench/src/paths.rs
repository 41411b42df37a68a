//! Pairs of containers that can reach each other, by different ways.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path as File;

use crate::container::Container;
use crate::error::{During, Error, Result};
use crate::floor::Floor;
use crate::ns::Netns;
use crate::sides::netd::Netd;
use crate::sides::{Side, line, run};
use crate::traffic::serve;

/// Two containers of one zone, the second of which answers on [`crate::policy::PORT`].
pub(crate) struct Path {
    /// How it is called in tables.
    pub(crate) label: String,
    client: Container,
    _server: Container,
    /// Where the second one answers.
    pub(crate) address: IpAddr,
    /// Kept for as long as the path is used.
    host: Host,
}

enum Host {
    Floor(Floor),
    Netd(Box<Netd>),
}

impl Path {
    /// A bridge without any firewall.
    pub(crate) fn plain() -> Result<Self> {
        Self::on_floor("plain", "bridge, no firewall")
    }

    /// Routed by the host between isolated ports of one bridge, as netd does, with `rules` linear rules that do not
    /// match before the one that does; connections that are established pass by the first rule.
    pub(crate) fn linear(rules: u32) -> Result<Self> {
        let (name, label) = match rules {
            0 => ("routed", "routed, isolated ports, no rules".to_owned()),
            n => ("linear", format!("{n} linear rules, established shortcut")),
        };
        let path = Self::routed(name, &label)?;
        if rules > 0 {
            path.host().on(|| {
                let mut nft = std::process::Command::new("nft");
                run(nft.args(["-f", "-"]), ruleset(rules).as_bytes()).map(|_| ())
            })?;
        }
        Ok(path)
    }

    /// Routed by the host between isolated ports of one bridge, as netd does, without any rule.
    pub(crate) fn routed(name: &str, label: &str) -> Result<Self> {
        let path = Self::on_floor(name, label)?;
        let ports = [&path.client.name, &path._server.name].map(|name| format!("vb-{name}"));
        let Host::Floor(floor) = &path.host else {
            return Ok(path);
        };
        floor.host().on(|| {
            for (key, value) in [
                ("ipv4/ip_forward", "1"),
                ("ipv4/conf/vz-floor/proxy_arp_pvlan", "1"),
                ("ipv4/conf/vz-floor/send_redirects", "0"),
                ("ipv4/conf/all/send_redirects", "0"),
                ("ipv4/neigh/vz-floor/proxy_delay", "0"),
            ] {
                let file = format!("/proc/sys/net/{key}");
                std::fs::write(&file, value).during(|| format!("write {file}"))?;
            }
            for port in &ports {
                line(&format!("bridge link set dev {port} isolated on"))?;
            }
            Ok(())
        })?;
        Ok(path)
    }

    fn on_floor(name: &str, label: &str) -> Result<Self> {
        let mut floor = Floor::create(&format!("host-{name}"), false)?;
        let client = Container::create(name, 0)?;
        let server = Container::create(name, 1)?;
        floor.host().enter()?;
        floor.attach(&client)?;
        floor.attach(&server)?;
        serve(&server.netns)?;
        Ok(Self {
            label: label.to_owned(),
            address: server.address4().into(),
            client,
            _server: server,
            host: Host::Floor(floor),
        })
    }

    /// Through netd, with ten rules for these two, and `crowd` others of `rules` rules each.
    pub(crate) fn netd(program: &File, prefix: &str, crowd: u32, rules: u32) -> Result<Self> {
        let mut netd = Netd::crowded(program, prefix, crowd, rules)?;
        let client = Container::create(prefix, 0)?;
        let server = Container::create(prefix, 1)?;
        netd.attach(&client)?;
        let address = netd.daemon().attach(&server, "ten")?;
        let address = address.parse().map_err(|_| Error::Garbled {
            who: "netd",
            answer: address,
        })?;
        serve(&server.netns)?;
        Ok(Self {
            label: format!("netd, policy and guard, {} containers", crowd + 2),
            client,
            _server: server,
            address,
            host: Host::Netd(Box::new(netd)),
        })
    }

    /// The first container's namespace.
    pub(crate) fn client(&self) -> &Netns {
        &self.client.netns
    }

    /// Its address, on the floor.
    pub(crate) fn client_address(&self) -> String {
        self.client.address4().to_string()
    }

    /// The host between the two.
    pub(crate) fn host(&self) -> &Netns {
        match &self.host {
            Host::Floor(floor) => floor.host(),
            Host::Netd(netd) => netd.host(),
        }
    }

    /// netd's side, where this is a path through netd.
    pub(crate) fn netd_mut(&mut self) -> Option<&mut Netd> {
        match &mut self.host {
            Host::Netd(netd) => Some(netd),
            Host::Floor(_) => None,
        }
    }
}

fn ruleset(rules: u32) -> String {
    let mut text = String::from(
        "table inet linear {\n chain forward {\n  type filter hook forward priority 0; policy drop;\n  \
         ct state established,related accept\n",
    );
    for n in 0..rules {
        let (a, b) = (n / 250 % 250, n % 250 + 1);
        let _ = writeln!(
            text,
            "  ip saddr 10.99.{a}.{b} ip daddr 10.98.{b}.{b} tcp dport {} accept",
            n % 1000 + 1
        );
    }
    let _ = writeln!(text, "  tcp dport {} accept\n }}\n}}", crate::policy::PORT);
    text
}
