//! netavark, podman's network program, called as podman calls it: `setup` and `teardown` with a JSON document.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::container::{Container, GATEWAY4, SUBNET4};
use crate::daemon::ZONE;
use crate::error::{During, Error, Result};
use crate::ns::Netns;
use crate::sides::netd::{Door, Netd};
use crate::sides::{Side, empty_folder, find, run};

/// The crate's build under `peers`, else the package's; and what it says of its version.
fn program(peers: &Path) -> Result<(PathBuf, String)> {
    let built = peers.join("bin/netavark");
    let packaged = ["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"];
    let program = Some(built)
        .filter(|file| file.is_file())
        .or_else(|| {
            packaged
                .map(PathBuf::from)
                .into_iter()
                .find(|p| p.is_file())
        })
        .or_else(|| find("netavark"))
        .ok_or_else(|| Error::Missing {
            what: "netavark".into(),
            remedy: "run `bench setup`",
        })?;
    let said = run(Command::new(&program).arg("--version"), b"")?;
    let version = String::from_utf8_lossy(&said).trim().to_owned();
    Ok((program, version))
}

/// An id such as podman's.
fn id(container: &Container) -> String {
    let name = &container.name;
    format!(
        "{:0>64}",
        name.replace(|c: char| !c.is_ascii_hexdigit(), "e")
    )
}

/// netavark with netd as the driver of its network.
pub(crate) struct ByNetd {
    netd: Netd,
    program: PathBuf,
    version: String,
    folder: PathBuf,
}

impl ByNetd {
    /// With a daemon of its own. `prefix` is that of its containers' names.
    pub(crate) fn create(netd: &Path, peers: &Path, prefix: &str) -> Result<Self> {
        let (program, version) = program(peers)?;
        if version.starts_with("netavark 1.") {
            return Err(Error::Missing {
                what: format!("drivers by plugins in {version}"),
                remedy: "run `bench setup`, which builds a newer one",
            });
        }
        let folder = PathBuf::from("/run/netavark-netd");
        empty_folder(&folder)?;
        // The driver is called in a folder of this name.
        let plugins = folder.join("netavark");
        std::fs::create_dir(&plugins).during(|| format!("create {}", plugins.display()))?;
        let plugin = plugins.join("netd");
        std::os::unix::fs::symlink(netd, &plugin)
            .during(|| format!("create {}", plugin.display()))?;
        Ok(Self {
            netd: Netd::start(netd, prefix, Door::Process, false)?,
            program,
            version,
            folder,
        })
    }

    fn call(&self, verb: &str, container: &Container) -> Result<()> {
        let options = json!({
            "container_id": id(container),
            "container_name": container.name,
            "networks": { "bench": { "interface_name": "eth0" } },
            "network_info": { "bench": {
                "name": "bench",
                "id": format!("{:0>64}", "bec4"),
                "driver": "netd",
                "network_interface": "",
                "ipv6_enabled": false,
                "internal": false,
                "dns_enabled": false,
                "ipam_options": { "driver": "none" },
                "options": { "zone": ZONE, "labels": "role=ten" },
            } },
        });
        let mut command = Command::new(&self.program);
        let variables = self.netd.command();
        let variables = variables.get_envs();
        command
            .envs(variables.filter_map(|(key, value)| Some((key, value?))))
            .arg("--config")
            .arg(self.folder.join("config"))
            .arg("--plugin-directory")
            .arg(self.folder.join("netavark"))
            .arg(verb)
            .arg(container.netns.path());
        run(&mut command, options.to_string().as_bytes()).map(|_| ())
    }
}

impl Side for ByNetd {
    fn name(&self) -> String {
        format!("{}, driver netd", self.version)
    }

    fn prefix(&self) -> &str {
        self.netd.prefix()
    }

    fn host(&self) -> &Netns {
        self.netd.host()
    }

    fn attach(&mut self, container: &Container) -> Result<()> {
        self.call("setup", container)
    }

    fn detach(&mut self, container: &Container) -> Result<()> {
        self.call("teardown", container)
    }

    fn settle(&mut self, container: &Container) -> Result<()> {
        self.netd.settle(container)
    }
}

/// netavark with one of its firewall drivers.
pub(crate) struct Netavark {
    host: Netns,
    program: PathBuf,
    version: String,
    config: PathBuf,
    firewall: &'static str,
}

impl Netavark {
    /// With `firewall` = `none` or `nftables`. The crate's build under `peers` goes before Debian's package.
    pub(crate) fn create(peers: &Path, firewall: &'static str) -> Result<Self> {
        let (program, version) = program(peers)?;
        // Debian 12's 1.4.0 knows iptables only, and takes `none` for an unknown driver.
        if version.starts_with("netavark 1.") && firewall == "nftables" {
            return Err(Error::Missing {
                what: format!("nftables in {version}"),
                remedy: "run `bench setup`, which builds a newer one",
            });
        }
        let host = Netns::create(&format!("host-nv-{firewall}"))?;
        let config = PathBuf::from(format!("/run/netavark-{firewall}"));
        empty_folder(&config)?;
        Ok(Self {
            host,
            program,
            version,
            config,
            firewall,
        })
    }

    fn call(&self, verb: &str, container: &Container) -> Result<()> {
        let id = id(container);
        let options = json!({
            "container_id": id,
            "container_name": container.name,
            "networks": { "bench": {
                "static_ips": [container.address4().to_string()],
                "interface_name": "eth0",
            } },
            "network_info": { "bench": {
                "name": "bench",
                "id": format!("{:0>64}", "bec4"),
                "driver": "bridge",
                "network_interface": "podman1",
                "subnets": [{ "subnet": SUBNET4, "gateway": GATEWAY4.to_string() }],
                "ipv6_enabled": false,
                "internal": false,
                "dns_enabled": false,
                "ipam_options": { "driver": "host-local" },
            } },
        });
        let mut command = Command::new(&self.program);
        command
            .env("NETAVARK_FW", self.firewall)
            .arg("--config")
            .arg(&self.config)
            .arg(verb)
            .arg(container.netns.path());
        run(&mut command, options.to_string().as_bytes()).map(|_| ())
    }
}

impl Side for Netavark {
    fn name(&self) -> String {
        format!("{}, firewall {}", self.version, self.firewall)
    }

    fn prefix(&self) -> &str {
        if self.firewall == "none" { "a" } else { "b" }
    }

    fn host(&self) -> &Netns {
        &self.host
    }

    fn attach(&mut self, container: &Container) -> Result<()> {
        self.call("setup", container)
    }

    fn detach(&mut self, container: &Container) -> Result<()> {
        self.call("teardown", container)
    }
}
