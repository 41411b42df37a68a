//! `netd hook netavark`: the plugin API of netavark (plugin-API.md there), which podman uses.
//!
//! ```text
//! create    the network on stdin ─► its zone, made where missing ─► the network with the zone's subnets
//! setup     network and container on stdin, namespace as an argument ─► attach ─► status on stdout
//! teardown  the same ─► detach
//! info      version
//! ```
//!
//! The zone is the network's option `zone`, or has the network's name. What goes wrong is told as netavark wants it: an
//! object with `error` on standard output, and an exit code.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zone::{ContainerName, ZoneName};

use crate::api::{AttachRequest, Zone, ZoneSettings};
use crate::cli::{self, Context};
use crate::client::Attached;
use crate::client::Client;
use crate::error::{Error, chain, exit};
use crate::netns;
use crate::publish;
use crate::values::{self, Label};

/// The API of all versions of netavark so far.
const API: &str = "1.0.0";
/// The largest configuration that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Options of a network that mean something here.
const OPTIONS: [&str; 4] = ["zone", "labels", "mtu", "bandwidth"];

/// What netavark asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Create,
    Setup(PathBuf),
    Teardown(PathBuf),
    Info,
}

/// A network, as far as it matters here. Numbers and names as netavark has them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Network {
    name: String,
    internal: bool,
    ipv6_enabled: bool,
    options: Option<BTreeMap<String, String>>,
    subnets: Option<Vec<Subnet>>,
    routes: Option<Vec<Value>>,
    network_dns_servers: Option<Vec<IpAddr>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Subnet {
    subnet: IpNet,
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    lease_range: Option<LeaseRange>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct LeaseRange {
    #[serde(default)]
    start_ip: Option<String>,
    #[serde(default)]
    end_ip: Option<String>,
}

/// What setup and teardown get.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Exec {
    container_id: String,
    #[serde(default)]
    container_name: String,
    #[serde(default)]
    port_mappings: Option<Vec<PortMapping>>,
    network: Network,
    network_options: PerNetwork,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct PerNetwork {
    interface_name: String,
    #[serde(default)]
    aliases: Option<Vec<String>>,
    #[serde(default)]
    static_ips: Option<Vec<IpAddr>>,
    #[serde(default)]
    static_mac: Option<String>,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct PortMapping {
    container_port: u16,
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    host_port: u16,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    range: u16,
}

/// `netd hook netavark …`; errors are netavark's, on standard output.
pub(crate) fn run(context: &Context, call: &Call) -> Result<ExitCode, Error> {
    match answer(context, call, std::io::stdin().lock()) {
        Ok(Some(answer)) => cli::print_json(&answer)?,
        Ok(None) => {}
        Err(error) => {
            cli::print_json(&json!({ "error": chain(&error) }))?;
            return Ok(ExitCode::from(match error.exit_code() {
                exit::DONE => exit::FAILED,
                code => code,
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(context: &Context, call: &Call, input: impl Read) -> Result<Option<Value>, Error> {
    match call {
        Call::Info => Ok(Some(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "api_version": API,
        }))),
        Call::Create => create(context, parse(input)?).map(Some),
        Call::Setup(path) => {
            let exec: Exec = parse(input)?;
            let request = request(&exec)?;
            let netns = netns::open_path(path).map_err(Error::attaching(&request.container))?;
            let mut client = context.connect()?;
            let request = AttachRequest {
                publish: not_yet_published(&mut client, &request)?,
                ..request
            };
            let attached = client.attach(request, netns.as_fd())?;
            for warning in &attached.warnings {
                cli::note(&format!("warning: {warning}"));
            }
            Ok(Some(status(&attached)))
        }
        Call::Teardown(_) => {
            let exec: Exec = parse(input)?;
            context.connect()?.detach_owned(&owner(&exec))?;
            Ok(None)
        }
    }
}

/// netavark names a container's published ports at each of its networks: they lead to the first one that came.
fn not_yet_published(client: &mut Client, request: &AttachRequest) -> Result<Vec<String>, Error> {
    let mut publish = request.publish.clone();
    if publish.is_empty() {
        return Ok(publish);
    }
    let name = request.container.parse::<ContainerName>();
    let shown = name.ok().map(|name| client.show(&name));
    let ports = match shown {
        None | Some(Err(Error::NoSuchContainer(_))) => return Ok(publish),
        Some(shown) => shown?.0.ports(),
    };
    let others = || ports.iter().filter(|port| port.zone != request.zone);
    publish.retain(|text| !others().any(|port| port.published.contains(text)));
    Ok(publish)
}

fn parse<T: serde::de::DeserializeOwned>(input: impl Read) -> Result<T, Error> {
    let mut bytes = Vec::new();
    input
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::ReadConfig)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::ConfigTooBig);
    }
    serde_json::from_slice(&bytes).map_err(Error::NotNetavark)
}

/// The key under which the daemon finds what was attached: a container may be in several networks.
fn owner(exec: &Exec) -> String {
    let plain: String = exec
        .network_options
        .interface_name
        .chars()
        .filter(char::is_ascii_graphic)
        .collect();
    format!("netavark/{}/{plain}", exec.container_id)
}

impl Network {
    fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Network {
            network: self.name.clone(),
            reason: reason.into(),
        }
    }

    fn option(&self, key: &str) -> Option<&str> {
        let value = self.options.as_ref()?.get(key)?.trim();
        (!value.is_empty()).then_some(value)
    }

    fn zone(&self) -> Result<ZoneName, Error> {
        let text = self.option("zone").unwrap_or(&self.name);
        text.parse().map_err(|e: zone::NameError| {
            self.wrong(format!("{e}; name the zone by its option, -o zone=NAME"))
        })
    }

    /// What a zone for it would be. Whatever netd has not is refused, not left away.
    fn settings(&self) -> Result<ZoneSettings, Error> {
        let mut settings = ZoneSettings {
            internal: self.internal.then_some(true),
            ..ZoneSettings::default()
        };
        for key in self.options.iter().flat_map(BTreeMap::keys) {
            if !OPTIONS.contains(&key.as_str()) {
                let known = OPTIONS.join(", ");
                return Err(self.wrong(format!("option {key} is not known here, only {known} are")));
            }
        }
        if let Some(mtu) = self.option("mtu") {
            let mtu = mtu
                .parse()
                .map_err(|_| self.wrong(format!("mtu {mtu:?} is no number")))?;
            settings.mtu = Some(mtu);
        }
        if self
            .routes
            .as_ref()
            .is_some_and(|routes| !routes.is_empty())
        {
            return Err(self.wrong("it has routes of its own: a zone has its default route only"));
        }
        if let Some(dns) = self
            .network_dns_servers
            .as_ref()
            .filter(|dns| !dns.is_empty())
        {
            settings.dns = Some(dns.iter().map(ToString::to_string).collect());
        }
        for subnet in self.subnets.iter().flatten() {
            self.subnet(subnet, &mut settings)?;
        }
        Ok(settings)
    }

    /// A network that names its subnets has these families and no others; one that names none is for netd to fit.
    fn families(&self, mut settings: ZoneSettings) -> ZoneSettings {
        if settings.subnet4.is_some() || settings.subnet6.is_some() {
            let none = || Some("none".to_owned());
            settings.subnet4 = settings.subnet4.or_else(none);
            settings.subnet6 = settings
                .subnet6
                .or_else(|| none().filter(|_| !self.ipv6_enabled));
        }
        settings
    }

    fn subnet(&self, given: &Subnet, settings: &mut ZoneSettings) -> Result<(), Error> {
        let net = given.subnet.trunc();
        let place = match net {
            IpNet::V4(_) => &mut settings.subnet4,
            IpNet::V6(_) => &mut settings.subnet6,
        };
        if place.replace(net.to_string()).is_some() {
            return Err(self.wrong("it has two subnets of one family: a zone has one of each"));
        }
        let first = match net {
            IpNet::V4(net) => net.hosts().next().map(IpAddr::V4),
            IpNet::V6(net) => Some(IpAddr::V6((u128::from(net.network()) + 1).into())),
        };
        if let Some(gateway) = given.gateway
            && Some(gateway) != first
        {
            let why =
                format!("gateway {gateway} is not the first address of {net}, as a zone has it");
            return Err(self.wrong(why));
        }
        match &given.lease_range {
            None => {}
            Some(range) => match (&range.start_ip, &range.end_ip, net) {
                (None, None, _) => {}
                (Some(first), Some(last), IpNet::V4(_)) => {
                    settings.pool = Some(format!("{first}-{last}"));
                }
                _ => {
                    return Err(self.wrong(format!(
                        "the lease range of {net} is not FIRST-LAST of IPv4"
                    )));
                }
            },
        }
        Ok(())
    }
}

/// Fits a network to its zone, which is made where it is missing.
fn create(context: &Context, mut config: Map<String, Value>) -> Result<Value, Error> {
    let network: Network =
        serde_json::from_value(Value::Object(config.clone())).map_err(Error::NotNetavark)?;
    let (name, settings) = (network.zone()?, network.settings()?);
    let mut client = context.connect()?;
    let zone = match client.zone_show(&name) {
        Err(Error::NoSuchZone(_)) => {
            let settings = network.families(settings);
            client.zone_create(&name, &settings)?.zone
        }
        Ok(zone) => {
            agrees(&network, &settings, &zone)?;
            zone
        }
        Err(error) => return Err(error),
    };
    let subnets = [
        (&zone.subnet4, &zone.gateway4),
        (&zone.subnet6, &zone.gateway6),
    ];
    let subnets: Vec<Value> = subnets
        .into_iter()
        .filter_map(|(subnet, gateway)| {
            Some(json!({ "subnet": subnet.as_ref()?, "gateway": gateway }))
        })
        .collect();
    let mut options = network.options.unwrap_or_default();
    options.insert("zone".into(), zone.name.clone());
    let fields = json!({
        "network_interface": zone.bridge, "subnets": subnets, "internal": zone.internal,
        "ipv6_enabled": zone.subnet6.is_some(), "options": options,
        // The zone gives out addresses, to everybody in it: nobody else may do that.
        "ipam_options": { "driver": "none" },
    });
    if let Value::Object(fields) = fields {
        config.extend(fields);
    }
    Ok(Value::Object(config))
}

/// A zone that is there stays as it is; a network that wants it otherwise is refused with the difference named.
fn agrees(network: &Network, settings: &ZoneSettings, zone: &Zone) -> Result<(), Error> {
    let differ = |what: &str, has: &str, asked: &str| {
        network.wrong(format!(
            "zone {} has {what} {has}, asked for is {asked}",
            zone.name
        ))
    };
    let same = |what: &str, asked: &Option<String>, has: &Option<String>| match (asked, has) {
        (Some(asked), has) if has.as_ref() != Some(asked) => {
            Err(differ(what, has.as_deref().unwrap_or("none"), asked))
        }
        _ => Ok(()),
    };
    same("subnet", &settings.subnet4, &zone.subnet4)?;
    same("subnet", &settings.subnet6, &zone.subnet6)?;
    same("pool", &settings.pool, &zone.pool)?;
    if settings.internal == Some(true) && !zone.internal {
        return Err(network.wrong(format!("zone {} is not internal", zone.name)));
    }
    if let Some(mtu) = settings.mtu.filter(|mtu| *mtu != zone.mtu) {
        return Err(differ("mtu", &zone.mtu.to_string(), &mtu.to_string()));
    }
    if let Some(dns) = settings.dns.as_ref().filter(|dns| **dns != zone.dns) {
        return Err(differ("resolvers", &zone.dns.join(", "), &dns.join(", ")));
    }
    Ok(())
}

fn request(exec: &Exec) -> Result<AttachRequest, Error> {
    let network = &exec.network;
    let zone = network.zone()?;
    network.settings()?;
    let container: ContainerName = match exec.container_name.parse() {
        Ok(name) => name,
        Err(_) => exec.container_id.parse().map_err(|e: zone::NameError| {
            network.wrong(format!(
                "neither the container's name nor its id will do: {e}"
            ))
        })?,
    };
    let mut labels = Vec::new();
    for options in [&network.options, &exec.network_options.options] {
        let text = options.as_ref().and_then(|options| options.get("labels"));
        let texts = text.map(String::as_str).unwrap_or_default();
        for label in texts.split([',', ' ']).filter(|label| !label.is_empty()) {
            labels.push(
                label
                    .parse::<Label>()
                    .map_err(|e| network.wrong(format!("labels: {e}")))?,
            );
        }
    }
    let labels = values::label_map(&labels).map_err(|e| network.wrong(format!("labels: {e}")))?;
    // The container's own wish goes before that of its network.
    let own = exec.network_options.options.as_ref();
    let own = own.and_then(|options| options.get("bandwidth").map(String::as_str));
    let bandwidth = own.or_else(|| network.option("bandwidth"));
    let bandwidth = bandwidth.map(values::bandwidth).transpose();
    let bandwidth = bandwidth.map_err(|e| network.wrong(format!("bandwidth: {e}")))?;
    let mappings = exec.port_mappings.iter().flatten();
    let published = mappings.map(published).collect::<Result<Vec<_>, _>>();
    let published = published.map_err(|e| network.wrong(format!("published port {e}")))?;
    // Ids and their beginnings are among the aliases of podman; who cannot be served is left away, as it says.
    let aliases = exec.network_options.aliases.iter().flatten();
    Ok(AttachRequest {
        container: container.to_string(),
        zone: zone.to_string(),
        ifname: Some(exec.network_options.interface_name.clone()),
        addresses: exec
            .network_options
            .static_ips
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect(),
        mac: exec
            .network_options
            .static_mac
            .clone()
            .filter(|mac| !mac.is_empty()),
        labels,
        publish: published.into_iter().flatten().collect(),
        aliases: aliases
            .filter(|alias| dns::Name::is_host_label(alias) && **alias != container.as_str())
            .cloned()
            .collect(),
        bandwidth: bandwidth.unwrap_or_default(),
        owner: Some(owner(exec)),
        ..AttachRequest::default()
    })
}

/// One mapping in netd's own words, for each of its protocols.
fn published(mapping: &PortMapping) -> Result<Vec<String>, values::ValueError> {
    let address = match mapping.host_ip.parse() {
        Ok(IpAddr::V6(address)) if !address.is_unspecified() => format!("[{address}]:"),
        Ok(IpAddr::V4(address)) if !address.is_unspecified() => format!("{address}:"),
        Ok(_) => String::new(),
        Err(_) if mapping.host_ip.is_empty() => String::new(),
        // An address that is none is for the parser to refuse.
        Err(_) => format!("{}:", mapping.host_ip),
    };
    let host = match mapping.range {
        0 | 1 => mapping.host_port.to_string(),
        range => format!(
            "{}-{}",
            mapping.host_port,
            u32::from(mapping.host_port) + u32::from(range) - 1
        ),
    };
    let protocols = match mapping.protocol.is_empty() {
        true => "tcp",
        false => mapping.protocol.as_str(),
    };
    protocols
        .split(',')
        .map(|protocol| {
            let text = format!(
                "{address}{host}:{}/{}",
                mapping.container_port,
                protocol.trim()
            );
            publish::parse(&text).map(|publish| publish::text(&publish))
        })
        .collect()
}

/// netavark's StatusBlock.
fn status(attached: &Attached) -> Value {
    let container = &attached.container;
    let gateway = |address: &str| {
        let v6 = address.contains(':');
        let mut gateways = container.gateways.iter();
        gateways
            .find(|gateway| gateway.contains(':') == v6)
            .cloned()
    };
    let subnets: Vec<Value> = container
        .addresses
        .iter()
        .map(|address| json!({ "ipnet": address, "gateway": gateway(address) }))
        .collect();
    let domains: Vec<&str> = Some(container.domain.as_str())
        .filter(|domain| !domain.is_empty())
        .into_iter()
        .collect();
    json!({
        "dns_search_domains": domains,
        "dns_server_ips": container.dns,
        "interfaces": {
            container.ifname.as_str(): { "mac_address": container.mac, "subnets": subnets },
        },
    })
}

/// Whether the binary is called as netavark calls a driver: by its name in a folder of plugins.
pub(crate) fn called_as_plugin(program: &Path) -> bool {
    let folder = program.parent().and_then(Path::file_name);
    folder.is_some_and(|folder| folder == "netavark")
}

#[cfg(test)]
mod tests;
