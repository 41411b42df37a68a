//! `netd list`, `netd status CONTAINER`, `netd show`: the daemon's word on the network, the spawner's on what runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use zone::ContainerName;

use super::processes::{self, Process};
use super::{inside, not_running};
use crate::api::{Container, Problem};
use crate::cli::{Context, output};
use crate::error::Error;

/// What is known of a container beside its network. Keys without a value are `null`.
#[derive(Debug, Default, Clone, Serialize)]
pub(in crate::cli) struct Machine {
    /// `container`.
    pub(in crate::cli) class: &'static str,
    /// Who runs it: `netd`, for those of `netd run`.
    pub(in crate::cli) service: Option<&'static str>,
    /// ID of its os-release(5).
    pub(in crate::cli) os: Option<String>,
    /// VERSION_ID of its os-release(5).
    pub(in crate::cli) version: Option<String>,
    /// Its first process, as the host counts.
    pub(in crate::cli) leader: Option<i32>,
    /// When it was started, seconds since 1970.
    pub(in crate::cli) since: Option<u64>,
    /// Its root directory.
    pub(in crate::cli) root: Option<PathBuf>,
}

/// One line of `netd list`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Listed {
    #[serde(flatten)]
    pub(in crate::cli) network: Network,
    #[serde(flatten)]
    pub(in crate::cli) machine: Machine,
}

/// A container's network, or the lack of one, under the same keys.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(in crate::cli) enum Network {
    /// The daemon knows it.
    Attached(Container),
    /// It is in no zone.
    Apart(Apart),
}

/// A container that runs without a zone.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Apart {
    container: String,
    zone: Option<String>,
    ifname: Option<String>,
    host_ifname: Option<String>,
    mac: Option<String>,
    addresses: Vec<String>,
    gateways: Vec<String>,
    dns: Vec<String>,
    domain: Option<String>,
    mtu: Option<i64>,
    labels: BTreeMap<String, String>,
    published: Vec<String>,
    bandwidth: Vec<String>,
    state: &'static str,
}

impl Apart {
    fn new(name: &str) -> Self {
        Self {
            container: name.to_owned(),
            zone: None,
            ifname: None,
            host_ifname: None,
            mac: None,
            addresses: Vec::new(),
            gateways: Vec::new(),
            dns: Vec::new(),
            domain: None,
            mtu: None,
            labels: BTreeMap::new(),
            published: Vec::new(),
            bandwidth: Vec::new(),
            state: "running",
        }
    }
}

impl Machine {
    fn of(running: Option<&spawner::Running>) -> Self {
        let Some(running) = running else {
            return Self {
                class: "container",
                ..Self::default()
            };
        };
        let root = PathBuf::from(format!("/proc/{}/root", running.pid));
        let (os, version) = inside::os_release(&root);
        Self {
            class: "container",
            service: Some("netd"),
            os,
            version,
            leader: Some(running.pid),
            since: Some(running.since),
            root: running.directory.clone(),
        }
    }
}

pub(in crate::cli) fn list(context: &Context) -> Result<ExitCode, Error> {
    let attached = context.connect()?.list()?;
    let running = spawner::list(&context.dirs.containers())?;
    let mut all: Vec<Listed> = Vec::new();
    for container in attached {
        let here = running
            .iter()
            .find(|running| running.name == container.container);
        all.push(Listed {
            machine: Machine::of(here),
            network: Network::Attached(container),
        });
    }
    for running in &running {
        let known = |listed: &Listed| matches!(&listed.network, Network::Attached(c) if c.container == running.name);
        if !all.iter().any(known) {
            all.push(Listed {
                machine: Machine::of(Some(running)),
                network: Network::Apart(Apart::new(&running.name)),
            });
        }
    }
    if context.json {
        output::print_json(&all)?;
    } else if all.is_empty() {
        output::note("no containers; `netd attach` and `netd run` make them known");
    } else {
        output::print(&output::containers(&all))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Listed {
    /// One that the daemon knows, and of which nothing runs here.
    #[cfg(test)]
    pub(in crate::cli) fn attached(container: Container) -> Self {
        Self {
            network: Network::Attached(container),
            machine: Machine::of(None),
        }
    }

    /// What `netd list` shows: a row for each network, a column each.
    pub(in crate::cli) fn rows(&self) -> Vec<[String; 10]> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let row = |name: &str, addresses: String, [zone, state, published, labels]: [String; 4]| {
            [
                name.to_owned(),
                self.machine.class.to_owned(),
                self.machine.service.unwrap_or_default().to_owned(),
                text(&self.machine.os),
                text(&self.machine.version),
                addresses,
                zone,
                state,
                published,
                labels,
            ]
        };
        let container = match &self.network {
            Network::Attached(container) => container,
            Network::Apart(apart) => {
                let none = String::new;
                let rest = [none(), apart.state.to_owned(), none(), none()];
                return vec![row(&apart.container, none(), rest)];
            }
        };
        let ports = container.ports();
        let port = |c: &Container| {
            let mut labels: Vec<String> = c
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            labels.sort();
            let rest = [
                c.zone.clone(),
                c.state.clone(),
                c.published.join(" "),
                labels.join(" "),
            ];
            row(&c.container, c.addresses.join(" "), rest)
        };
        ports.iter().map(port).collect()
    }
}

/// All that is known of one container.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    network: Network,
    #[serde(flatten)]
    machine: Machine,
    policy: Vec<String>,
    command: Option<Vec<String>>,
    processes: Vec<Process>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

fn look(context: &Context, container: &ContainerName) -> Result<Document, Error> {
    let running = spawner::list(&context.dirs.containers())?;
    let running = running
        .into_iter()
        .find(|running| running.name == container.as_str());
    let mut client = context.connect()?;
    let (network, problems, warnings) = match (client.show(container), &running) {
        (Ok((container, problems, warnings)), _) => {
            (Network::Attached(container), problems, warnings)
        }
        (Err(Error::NoSuchContainer(_)), Some(running)) => (
            Network::Apart(Apart::new(&running.name)),
            Vec::new(),
            Vec::new(),
        ),
        (Err(e), _) => return Err(e),
    };
    let policy = match &network {
        Network::Attached(_) => client
            .policy_show(container, false)
            .map(|view| view.files)
            .unwrap_or_default(),
        Network::Apart(_) => Vec::new(),
    };
    Ok(Document {
        machine: Machine::of(running.as_ref()),
        policy,
        processes: running
            .as_ref()
            .map(|r| processes::all(r.pid))
            .unwrap_or_default(),
        command: running.map(|running| running.command),
        network,
        problems,
        warnings,
    })
}

pub(in crate::cli) fn status(
    context: &Context,
    container: &ContainerName,
) -> Result<ExitCode, Error> {
    let document = look(context, container)?;
    if context.json {
        output::print_json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let machine = &document.machine;
    let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
    if let Some(leader) = machine.leader {
        let name = document
            .processes
            .first()
            .map_or("", |process| process.command.as_str());
        let since = machine.since.and_then(|at| i64::try_from(at).ok());
        let pretty = inside::pretty_name(Path::new(&format!("/proc/{leader}/root")));
        rows.extend([
            ("Since", since.map(output::moment).into_iter().collect()),
            ("Leader", vec![format!("{leader} ({name})")]),
            ("Service", vec!["netd; class container".to_owned()]),
            (
                "Root",
                machine
                    .root
                    .iter()
                    .map(|root| root.display().to_string())
                    .collect(),
            ),
            ("OS", pretty.into_iter().collect()),
        ]);
    }
    rows.push(("Policy", document.policy.clone()));
    let tree = processes::tree(&document.processes);
    let text = match &document.network {
        Network::Attached(container) => output::container(
            container,
            &document.problems,
            &document.warnings,
            rows,
            tree,
        ),
        Network::Apart(apart) => output::machine(&apart.container, rows, tree),
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `KEY=VALUE` lines, in machinectl's manner.
pub(super) fn show(
    context: &Context,
    container: &ContainerName,
    wanted: &[String],
) -> Result<ExitCode, Error> {
    let document = look(context, container)?;
    if context.json {
        output::print_json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    if document.machine.leader.is_none() && matches!(document.network, Network::Apart(_)) {
        return Err(not_running(container));
    }
    let value = serde_json::to_value(&document).map_err(|e| Error::Output(e.into()))?;
    let mut text = String::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        if !wanted.is_empty() && !wanted.iter().any(|name| name.eq_ignore_ascii_case(key)) {
            continue;
        }
        let value = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => String::new(),
            other => other.to_string(),
        };
        text.push_str(&format!("{key}={value}\n"));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
