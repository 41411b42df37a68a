//! Results in the shape of each version, and what CHECK reads of them.

use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zone::{ContainerName, MacAddr, ZoneName};

use super::call::Call;
use super::failure::{Code, Failure};
use super::wishes::{Dns, Wishes};
use crate::api::Container;
use crate::dirs::Dirs;

/// Versions of the specification that netd speaks, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    pub(super) const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    pub(super) const NEWEST: Self = Self::V1_1_0;

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
    }
}

/// The answer to VERSION. A runtime that says nothing of its own version is answered too.
pub(super) fn versions(input: &[u8]) -> Value {
    #[derive(Deserialize)]
    struct Asked {
        #[serde(rename = "cniVersion")]
        version: String,
    }
    let asked = serde_json::from_slice::<Asked>(input).ok();
    let version = asked.map_or_else(|| Version::NEWEST.as_str().to_owned(), |a| a.version);
    json!({
        "cniVersion": version,
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}

/// The result of an ADD.
pub(super) fn added(
    container: &Container,
    call: &Call,
    wishes: &Wishes,
    version: Version,
) -> Result<Map<String, Value>, Failure> {
    let garbled = |what: &str| {
        Failure::new(
            Code::Refused,
            format!("the daemon's answer has {what} that cannot be one"),
        )
    };
    let mac: MacAddr = container
        .mac
        .parse()
        .map_err(|_| garbled("a hardware address"))?;
    let bridge_mac = zone::alloc::bridge_mac(&wishes.zone);
    let interface = |name: &str, mac: MacAddr, sandbox: Option<&Path>| {
        let mut interface = json!({ "name": name, "mac": mac.to_string() });
        if version >= Version::V1_1_0 {
            interface["mtu"] = json!(container.mtu);
        }
        if let Some(sandbox) = sandbox {
            interface["sandbox"] = json!(sandbox);
        }
        interface
    };
    let interfaces = json!([
        interface(wishes.zone.bridge().as_str(), bridge_mac, None),
        interface(
            &container.host_ifname,
            zone::PortSpec::host_mac_of(mac),
            None
        ),
        interface(call.ifname.as_str(), mac, Some(&call.netns)),
    ]);
    let (mut ips, mut routes) = (Vec::new(), Vec::new());
    for address in &container.addresses {
        let net: IpNet = address.parse().map_err(|_| garbled("an address"))?;
        let v4 = net.addr().is_ipv4();
        let gateway = container.gateways.iter().find(|g| g.contains('.') == v4);
        let mut ip = json!({ "interface": 2, "address": address });
        if version < Version::V1_0_0 {
            ip["version"] = json!(if v4 { "4" } else { "6" });
        }
        if let Some(gateway) = gateway {
            ip["gateway"] = json!(gateway);
            let (destination, by) = match v4 {
                true => ("0.0.0.0/0", gateway.clone()),
                false => ("::/0", bridge_mac.link_local().to_string()),
            };
            routes.push(json!({ "dst": destination, "gw": by }));
        }
        ips.push(ip);
    }
    let result = json!({
        "cniVersion": version.as_str(),
        "interfaces": interfaces,
        "ips": ips,
        "routes": routes,
        "dns": dns(container, &wishes.dns),
    });
    match result {
        Value::Object(result) => Ok(result),
        _ => Err(garbled("a result")),
    }
}

/// What netd tells of names, but for what the runtime or the configuration want instead.
fn dns(container: &Container, asked: &Dns) -> Dns {
    let mut dns = asked.clone();
    if dns.nameservers.is_empty() {
        dns.nameservers.clone_from(&container.dns);
    }
    if dns.domain.is_empty() {
        dns.domain.clone_from(&container.domain);
    }
    if dns.search.is_empty() && !dns.domain.is_empty() {
        dns.search = vec![dns.domain.clone()];
    }
    dns
}

/// The result of the plugin before, with ours behind it.
pub(super) fn after(previous: Option<&Map<String, Value>>, mut own: Map<String, Value>) -> Value {
    let Some(previous) = previous else {
        return Value::Object(own);
    };
    let list = |of: &Map<String, Value>, key: &str| match of.get(key) {
        Some(Value::Array(list)) => list.clone(),
        _ => Vec::new(),
    };
    let before = list(previous, "interfaces").len();
    for key in ["interfaces", "ips", "routes"] {
        let mut mine = list(&own, key);
        for ip in mine.iter_mut().filter(|_| key == "ips") {
            ip["interface"] = json!(before + 2);
        }
        let mut all = list(previous, key);
        all.extend(mine);
        own.insert(key.to_owned(), Value::Array(all));
    }
    Value::Object(own)
}

/// What prevResult says of our interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    ifname: String,
    pub(super) mac: Option<String>,
    pub(super) addresses: Vec<IpNet>,
    routes: Vec<String>,
}

impl Expected {
    pub(super) fn read(previous: &Map<String, Value>, call: &Call) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Interface {
            name: String,
            #[serde(default)]
            mac: String,
            #[serde(default)]
            sandbox: String,
        }
        #[derive(Deserialize)]
        struct Ip {
            address: IpNet,
            interface: Option<usize>,
        }
        #[derive(Deserialize)]
        struct Route {
            dst: String,
        }
        let list = |key: &str| format!("prevResult.{key}");
        let interfaces: Vec<Interface> =
            super::network::value(previous, "interfaces", &list("interfaces"))?.unwrap_or_default();
        let ips: Vec<Ip> =
            super::network::value(previous, "ips", &list("ips"))?.unwrap_or_default();
        let routes: Vec<Route> =
            super::network::value(previous, "routes", &list("routes"))?.unwrap_or_default();
        let netns = call.netns.to_string_lossy();
        let ours = interfaces.iter().position(|interface| {
            interface.name == call.ifname.as_str() && interface.sandbox == netns
        });
        let Some(ours) = ours else {
            let message = format!("prevResult has no interface {} in {netns}", call.ifname);
            return Err(Failure::new(Code::Config, message));
        };
        let mac = interfaces[ours].mac.clone();
        Ok(Self {
            ifname: call.ifname.to_string(),
            mac: Some(mac).filter(|mac| !mac.is_empty()),
            addresses: ips
                .into_iter()
                .filter(|ip| ip.interface == Some(ours))
                .map(|ip| ip.address)
                .collect(),
            routes: routes.into_iter().map(|route| route.dst).collect(),
        })
    }

    /// Whether a flaw of this resource is one: a plugin after us may have taken a route or an address away, and
    /// out of the result.
    pub(super) fn concerns(&self, subject: &str) -> bool {
        if let Some(address) = subject.strip_prefix("address ") {
            let address = address.parse::<IpNet>();
            return address.map_or(true, |address| self.addresses.contains(&address));
        }
        match subject.strip_prefix("route ") {
            Some(route) => self.routes.iter().any(|dst| dst == route),
            None => true,
        }
    }
}

/// Names of containers of a zone, as their records tell, where no daemon can be asked.
pub(super) fn attached_in(dirs: &Dirs, zone: &ZoneName) -> Vec<ContainerName> {
    #[derive(Deserialize)]
    struct Record {
        container: ContainerName,
        zone: ZoneName,
    }
    let folder = std::fs::read_dir(dirs.runtime.join("ports"));
    let files = folder.into_iter().flatten().flatten().map(|f| f.path());
    let records = files
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .filter_map(|path| std::fs::read(path).ok())
        .filter_map(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    let ours = records.filter(|record| record.zone == *zone);
    ours.map(|record| record.container).collect()
}
