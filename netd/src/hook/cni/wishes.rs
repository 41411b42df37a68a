//! Everything that configuration, capabilities and CNI_ARGS ask of an attachment. What netd cannot do is refused, not
//! left out.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zone::{ContainerName, MacAddr, ZoneName};

use super::bandwidth;
use super::call::{Call, invalid};
use super::failure::{Code, Failure};
use super::network::{Network, value};
use crate::api::{AttachRequest, Limit};
use crate::values::{self, Label};

/// The label that tells pods of one name apart.
const NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// Keys of CNI_ARGS that are understood, or are about the pod and ask for nothing.
const ARGS: [&str; 7] = [
    "IgnoreUnknown",
    "K8S_POD_NAME",
    "K8S_POD_NAMESPACE",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
    "IP",
    "MAC",
];

/// Resolver settings, as results carry them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Dns {
    #[serde(alias = "servers", skip_serializing_if = "Vec::is_empty")]
    pub(super) nameservers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) domain: String,
    #[serde(alias = "searches", skip_serializing_if = "Vec::is_empty")]
    pub(super) search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) options: Vec<String>,
}

/// What an attachment is to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wishes {
    pub(super) container: ContainerName,
    pub(super) zone: ZoneName,
    ifname: String,
    labels: HashMap<String, String>,
    publish: Vec<String>,
    addresses: Vec<IpAddr>,
    ranges: Vec<String>,
    mac: Option<MacAddr>,
    aliases: Vec<String>,
    bandwidth: Vec<Limit>,
    /// What the runtime asks for in the place of what netd tells.
    pub(super) dns: Dns,
}

impl Wishes {
    /// As the control socket has it.
    pub(super) fn request(&self, owner: String) -> AttachRequest {
        AttachRequest {
            container: self.container.to_string(),
            zone: self.zone.to_string(),
            ifname: Some(self.ifname.clone()),
            addresses: self.addresses.iter().map(IpAddr::to_string).collect(),
            mac: self.mac.map(|mac| mac.to_string()),
            labels: self.labels.clone(),
            publish: self.publish.clone(),
            ranges: self.ranges.clone(),
            aliases: self.aliases.clone(),
            bandwidth: self.bandwidth.clone(),
            owner: Some(owner),
            ..AttachRequest::default()
        }
    }
}

/// Reads what is asked for.
pub(super) fn read(call: &Call, network: &Network) -> Result<Wishes, Failure> {
    network.only_known_keys()?;
    let zone = network.zone()?;
    let ipam = network.object("ipam")?;
    if !ipam.is_empty() {
        let why = "netd gives addresses itself: take ipam out, or ask for addresses by the capability ips or ipRanges";
        return Err(Failure::unsupported("ipam", &json!(ipam), why));
    }
    if network.one("ipMasq")? == Some(false) {
        let why = "whether a zone is translated is the zone's own setting (netd zone set NAME --internal)";
        return Err(Failure::unsupported("ipMasq", &json!(false), why));
    }
    let runtime = network.object("runtimeConfig")?;
    capabilities(&runtime)?;
    known_args(call)?;
    let args: Map<String, Value> =
        value(&network.object("args")?, "cni", "args.cni")?.unwrap_or_default();
    let in_runtime = |key: &str| format!("runtimeConfig.{key}");
    let mut ips: Vec<String> = value(&runtime, "ips", &in_runtime("ips"))?.unwrap_or_default();
    if ips.is_empty() {
        ips = value(&args, "ips", "args.cni.ips")?.unwrap_or_default();
    }
    if ips.is_empty() {
        ips.extend(call.args.get("IP").filter(|ip| !ip.is_empty()).cloned());
    }
    let mac: Option<String> = value(&runtime, "mac", &in_runtime("mac"))?;
    let mac = mac.or_else(|| call.args.get("MAC").cloned());
    let mut dns: Dns = network.one("dns")?.unwrap_or_default();
    if let Some(asked) = value::<Dns>(&runtime, "dns", &in_runtime("dns"))? {
        let instead = |list: &mut Vec<String>, asked: Vec<String>| {
            if !asked.is_empty() {
                *list = asked;
            }
        };
        instead(&mut dns.nameservers, asked.nameservers);
        instead(&mut dns.search, asked.search);
        instead(&mut dns.options, asked.options);
    }
    let mut publish: Vec<String> = network.one("publish")?.unwrap_or_default();
    publish.extend(published(&runtime)?);
    let wrong = |key: &str, e: &dyn std::fmt::Display| {
        Failure::new(Code::Config, format!("invalid {key}")).details(e)
    };
    Ok(Wishes {
        container: container(call, network)?,
        zone,
        ifname: call.ifname.to_string(),
        labels: labels(call, network, &args)?,
        publish: publish
            .iter()
            .map(|text| crate::publish::parse(text).map(|p| crate::publish::text(&p)))
            .collect::<Result<_, _>>()
            .map_err(|e| wrong("publish", &e))?,
        addresses: ips
            .iter()
            .map(|ip| values::address(ip.split_once('/').map_or(ip, |(address, _)| address)))
            .collect::<Result<_, _>>()
            .map_err(|e| wrong("address", &e))?,
        ranges: ranges(&runtime)?,
        mac: mac
            .filter(|mac| !mac.is_empty())
            .map(|mac| mac.parse())
            .transpose()
            .map_err(|e| wrong("hardware address", &e))?,
        aliases: aliases(&runtime, network.name())?,
        bandwidth: bandwidth::read(&runtime)?,
        dns,
    })
}

/// Refuses capabilities that netd has not.
fn capabilities(runtime: &Map<String, Value>) -> Result<(), Failure> {
    for (key, value) in runtime {
        match key.as_str() {
            "portMappings" | "ips" | "mac" | "dns" | "ipRanges" | "aliases" | "bandwidth" => {}
            // of no consequence for what netd does
            "cgroupPath" | "podAnnotations" => {}
            _ => {
                let key = format!("runtimeConfig.{key}");
                return Err(Failure::unsupported(
                    &key,
                    value,
                    "no such capability is known",
                ));
            }
        }
    }
    Ok(())
}

pub(super) fn known_args(call: &Call) -> Result<(), Failure> {
    let ignore = call.args.get("IgnoreUnknown");
    if ignore.is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "1" | "true")) {
        return Ok(());
    }
    match call.args.keys().find(|key| !ARGS.contains(&key.as_str())) {
        Some(key) => {
            Err(invalid("CNI_ARGS", key).details("it is not known, and IgnoreUnknown is not 1"))
        }
        None => Ok(()),
    }
}

/// The pod's name where there is one, else the id.
pub(super) fn container(call: &Call, network: &Network) -> Result<ContainerName, Failure> {
    let given = |key: &str| call.args.get(key).filter(|value| !value.is_empty());
    let with_namespace = network.one("namespaces")?.unwrap_or(false);
    let name = match (given("K8S_POD_NAME"), given("K8S_POD_NAMESPACE")) {
        (Some(pod), Some(namespace)) if with_namespace => format!("{pod}.{namespace}"),
        (Some(pod), _) => pod.clone(),
        (None, _) => call.container.clone(),
    };
    name.parse().map_err(|e| {
        let place = match given("K8S_POD_NAME") {
            Some(_) => "CNI_ARGS",
            None => "CNI_CONTAINERID",
        };
        invalid(place, &name).details(e)
    })
}

/// Those of the configuration, those of the runtime, and the pod's namespace. None of them can be overruled.
pub(super) fn labels(
    call: &Call,
    network: &Network,
    args: &Map<String, Value>,
) -> Result<HashMap<String, String>, Failure> {
    let fixed: BTreeMap<String, String> = network.one("labels")?.unwrap_or_default();
    let mut labels: Vec<Label> = fixed
        .into_iter()
        .map(|(key, value)| Label { key, value })
        .collect();
    #[derive(Deserialize)]
    struct Given {
        key: String,
        value: String,
    }
    let given: Vec<Given> = value(args, "labels", "args.cni.labels")?.unwrap_or_default();
    labels.extend(
        given
            .into_iter()
            .map(|Given { key, value }| Label { key, value }),
    );
    let namespace = call.args.get("K8S_POD_NAMESPACE").filter(|n| !n.is_empty());
    labels.extend(namespace.map(|namespace| Label {
        key: NAMESPACE.to_owned(),
        value: namespace.clone(),
    }));
    values::label_map(&labels).map_err(|e| Failure::new(Code::Config, "invalid labels").details(e))
}

/// The capability portMappings, neighbouring ports as one range.
fn published(runtime: &Map<String, Value>) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    #[serde(rename_all = "camelCase")]
    struct Mapping {
        #[serde(default = "tcp")]
        protocol: String,
        #[serde(default, rename = "hostIP")]
        host_ip: String,
        host_port: u16,
        container_port: u16,
    }
    fn tcp() -> String {
        "tcp".to_owned()
    }
    let place = "runtimeConfig.portMappings";
    let mappings: Vec<Mapping> = value(runtime, "portMappings", place)?.unwrap_or_default();
    let mut runs: Vec<(Mapping, u16)> = Vec::new();
    let mut mappings: Vec<Mapping> = mappings
        .into_iter()
        .map(|mapping| Mapping {
            protocol: mapping.protocol.to_ascii_lowercase(),
            ..mapping
        })
        .collect();
    mappings.sort();
    for mapping in mappings {
        if mapping.host_port == 0 || mapping.container_port == 0 {
            return Err(Failure::new(
                Code::Config,
                format!("invalid {place}: port 0 of host or container"),
            ));
        }
        if !matches!(mapping.protocol.as_str(), "tcp" | "udp") {
            let why = "only tcp and udp can be published";
            return Err(Failure::unsupported(
                &format!("{place}.protocol"),
                &json!(mapping.protocol),
                why,
            ));
        }
        if let Some((first, last)) = runs.last_mut()
            && (&first.protocol, &first.host_ip) == (&mapping.protocol, &mapping.host_ip)
            && last.checked_add(1) == Some(mapping.host_port)
            && mapping.host_port - first.host_port
                == mapping.container_port.wrapping_sub(first.container_port)
        {
            *last = mapping.host_port;
        } else {
            let last = mapping.host_port;
            runs.push((mapping, last));
        }
    }
    let text = |(first, last): &(Mapping, u16)| {
        let address = match first.host_ip.parse::<IpAddr>() {
            _ if first.host_ip.is_empty() => String::new(),
            // every address, of one family or the other: netd knows both as one
            Ok(address) if address.is_unspecified() => String::new(),
            Ok(IpAddr::V4(address)) => format!("{address}:"),
            Ok(IpAddr::V6(address)) => format!("[{address}]:"),
            Err(e) => {
                let message = format!("invalid {place}.hostIP: {:?}", first.host_ip);
                return Err(Failure::new(Code::Config, message).details(e));
            }
        };
        let ports = match first.host_port == *last {
            true => first.host_port.to_string(),
            false => format!("{}-{last}", first.host_port),
        };
        Ok(format!(
            "{address}{ports}:{}/{}",
            first.container_port, first.protocol
        ))
    };
    let mut texts: Vec<String> = runs.iter().map(text).collect::<Result<_, _>>()?;
    texts.dedup();
    Ok(texts)
}

/// The capability ipRanges: a list for each address that is wanted, of ranges it may come from.
fn ranges(runtime: &Map<String, Value>) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Range {
        subnet: IpNet,
        range_start: Option<IpAddr>,
        range_end: Option<IpAddr>,
        gateway: Option<IpAddr>,
    }
    let place = "runtimeConfig.ipRanges";
    let sets: Vec<Vec<Range>> = value(runtime, "ipRanges", place)?.unwrap_or_default();
    let mut families = [false, false];
    let mut texts = Vec::new();
    for set in sets {
        let Some(first) = set.first() else { continue };
        let v4 = first.subnet.addr().is_ipv4();
        if std::mem::replace(&mut families[usize::from(v4)], true) {
            let why = "a container has one address of each family";
            return Err(Failure::unsupported(place, &runtime["ipRanges"], why));
        }
        for range in set {
            if let Some(gateway) = range.gateway {
                let why = "the gateway is the zone's own";
                return Err(Failure::unsupported(
                    &format!("{place}.gateway"),
                    &json!(gateway),
                    why,
                ));
            }
            let (network, last) = (range.subnet.network(), range.subnet.broadcast());
            let first = range.range_start.unwrap_or(network);
            let last = range.range_end.unwrap_or(last);
            let wrong = [first, last].iter().any(|end| !range.subnet.contains(end));
            if wrong || range.subnet.addr().is_ipv4() != v4 || last < first {
                let message = format!("invalid {place}: {}", runtime["ipRanges"]);
                return Err(Failure::new(Code::Config, message)
                    .details("a range lies in its subnet, and those of a list are of one family"));
            }
            texts.push(format!("{first}-{last}"));
        }
    }
    Ok(texts)
}

/// The capability aliases: a list, or (podman) a list for each network.
fn aliases(runtime: &Map<String, Value>, network: &str) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Aliases {
        These(Vec<String>),
        ByNetwork(BTreeMap<String, Vec<String>>),
    }
    let aliases = value(runtime, "aliases", "runtimeConfig.aliases")?;
    let mut names = match aliases {
        None => Vec::new(),
        Some(Aliases::These(names)) => names,
        Some(Aliases::ByNetwork(mut networks)) => networks.remove(network).unwrap_or_default(),
    };
    names.sort();
    names.dedup();
    Ok(names)
}
