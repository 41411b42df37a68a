//! CNI's reference plugins, called as a container runtime calls them: one process a plugin, results passed along.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::container::{Container, SUBNET4};
use crate::error::{Error, Result};
use crate::ns::Netns;
use crate::sides::{Side, empty_folder, run};

const PLUGINS: &str = "/usr/lib/cni";

/// A chain of plugins.
pub(crate) struct Cni {
    host: Netns,
    data: PathBuf,
    chain: &'static [&'static str],
    results: std::collections::HashMap<u32, Value>,
}

impl Cni {
    /// bridge and host-local; with `firewall`, portmap and firewall after them.
    pub(crate) fn create(firewall: bool) -> Result<Self> {
        let chain: &[&str] = if firewall {
            &["bridge", "portmap", "firewall"]
        } else {
            &["bridge"]
        };
        for plugin in chain.iter().chain(&["host-local"]) {
            if !Path::new(PLUGINS).join(plugin).is_file() {
                return Err(Error::Missing {
                    what: format!("CNI plugin {plugin}"),
                    remedy: "run `bench setup`",
                });
            }
        }
        let name = if firewall { "cni-chain" } else { "cni-bridge" };
        let host = Netns::create(&format!("host-{name}"))?;
        let data = PathBuf::from(format!("/run/{name}"));
        empty_folder(&data)?;
        Ok(Self {
            host,
            data,
            chain,
            results: std::collections::HashMap::new(),
        })
    }

    fn configuration(
        &self,
        plugin: &str,
        container: &Container,
        previous: Option<&Value>,
    ) -> Value {
        let mut configuration = json!({ "cniVersion": "0.4.0", "name": "bench", "type": plugin });
        let more = match plugin {
            "bridge" => json!({
                "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": { "type": "host-local", "dataDir": self.data, "ranges": [[{ "subnet": SUBNET4 }]],
                          "routes": [{ "dst": "0.0.0.0/0" }] },
            }),
            "portmap" => json!({
                "capabilities": { "portMappings": true }, "snat": true,
                "runtimeConfig": { "portMappings": [{
                    "hostPort": 20_000 + container.number, "containerPort": 80, "protocol": "tcp" }] },
            }),
            _ => json!({ "backend": "iptables" }),
        };
        if let (Some(all), Value::Object(more)) = (configuration.as_object_mut(), more) {
            all.extend(more);
            if let Some(previous) = previous {
                all.insert("prevResult".into(), previous.clone());
            }
        }
        configuration
    }

    fn call(
        &self,
        verb: &str,
        plugin: &str,
        container: &Container,
        previous: Option<&Value>,
    ) -> Result<Vec<u8>> {
        let mut command = Command::new(Path::new(PLUGINS).join(plugin));
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &container.name)
            .env("CNI_NETNS", container.netns.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGINS);
        let configuration = self.configuration(plugin, container, previous);
        run(&mut command, configuration.to_string().as_bytes())
    }
}

impl Side for Cni {
    fn name(&self) -> String {
        let mut name = "CNI bridge + host-local".to_owned();
        for plugin in &self.chain[1..] {
            name = format!("{name} + {plugin}");
        }
        name
    }

    fn prefix(&self) -> &str {
        if self.chain.len() == 1 { "c" } else { "d" }
    }

    fn host(&self) -> &Netns {
        &self.host
    }

    fn attach(&mut self, container: &Container) -> Result<()> {
        let mut result = None;
        for plugin in self.chain {
            let said = self.call("ADD", plugin, container, result.as_ref())?;
            let said = serde_json::from_slice(&said).map_err(|_| Error::Garbled {
                who: "a CNI plugin",
                answer: String::from_utf8_lossy(&said).into_owned(),
            })?;
            result = Some(said);
        }
        if let Some(result) = result {
            self.results.insert(container.number, result);
        }
        Ok(())
    }

    fn detach(&mut self, container: &Container) -> Result<()> {
        let previous = self.results.remove(&container.number);
        for plugin in self.chain.iter().rev() {
            self.call("DEL", plugin, container, previous.as_ref())?;
        }
        Ok(())
    }
}
