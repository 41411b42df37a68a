//! The chained plugin `netd-policy`: a container whose bridge, port and addresses are those of the plugins before comes
//! under netd's policy. Their result goes on as it came.

use std::os::fd::AsFd;

use serde_json::{Map, Value, json};

use super::bandwidth;
use super::call::Call;
use super::failure::{Code, Failure};
use super::network::Network;
use super::result::{Expected, attached_in};
use super::{attach, wishes};
use crate::api::AttachRequest;
use crate::cli::{self, Context};
use crate::netns;

/// ADD: the container is found by its interface inside, whose addresses are those of prevResult.
pub(super) fn add(
    context: &Context,
    call: &Call,
    network: &Network,
) -> Result<Option<Value>, Failure> {
    let previous = network.previous().ok_or_else(|| {
        Failure::new(Code::Config, "netd-policy has no prevResult").details(
            "it stands behind the plugin that makes the interface, such as bridge, in a list of plugins",
        )
    })?;
    let owner = call.owner(network.name());
    let request = request(call, network, previous, owner.clone())?;
    let container = request.container.clone();
    let netns = netns::open_path(&call.netns).map_err(|e| Failure::netns(&e))?;
    let connected = context.connect();
    let mut client = connected.map_err(|e| {
        shut(context, call, network, &container);
        Failure::of(&e)
    })?;
    attach(&mut client, request, netns.as_fd(), &owner, |_| {
        Ok(Value::Object(previous.clone()))
    })
}

/// Nobody answers who would hold the port: two such could exchange frames on their bridge. So the interface is set down,
/// unless this is the second ADD of one that is under policy.
fn shut(context: &Context, call: &Call, network: &Network, container: &str) {
    let attached = network.zone().map(|zone| attached_in(&context.dirs, &zone));
    if attached.is_ok_and(|names| names.iter().any(|name| name.as_str() == container)) {
        return;
    }
    let shut = || -> Result<(), zone::LinkError> {
        let netns = zone::Netns::from_path(&call.netns)?;
        zone::Links::open()?.shut_inside(&call.ifname, &netns)
    };
    if let Err(e) = shut() {
        cli::note(&format!(
            "warning: {}: {}",
            call.ifname,
            crate::error::chain(&crate::error::Error::from(e))
        ));
    }
}

fn request(
    call: &Call,
    network: &Network,
    previous: &Map<String, Value>,
    owner: String,
) -> Result<AttachRequest, Failure> {
    network.only_known_keys()?;
    for key in ["ipam", "publish", "dns"] {
        let given = network.one::<Value>(key)?;
        if let Some(given) = given.filter(|value| !is_empty(value)) {
            let why = "that is the matter of the plugins before netd-policy";
            return Err(Failure::unsupported(key, &given, why));
        }
    }
    let runtime = network.object("runtimeConfig")?;
    let known = ["bandwidth", "cgroupPath", "podAnnotations"];
    if let Some((key, value)) = runtime
        .iter()
        .find(|(key, _)| !known.contains(&key.as_str()))
    {
        let why =
            "netd-policy has the capability bandwidth only; others are for the plugins before it";
        return Err(Failure::unsupported(
            &format!("runtimeConfig.{key}"),
            value,
            why,
        ));
    }
    wishes::known_args(call)?;
    let args: Map<String, Value> =
        super::network::value(&network.object("args")?, "cni", "args.cni")?.unwrap_or_default();
    let expected = Expected::read(previous, call)?;
    Ok(AttachRequest {
        container: wishes::container(call, network)?.to_string(),
        zone: network.zone()?.to_string(),
        ifname: Some(call.ifname.to_string()),
        addresses: expected
            .addresses
            .iter()
            .map(|net| net.addr().to_string())
            .collect(),
        mac: expected.mac.clone(),
        labels: wishes::labels(call, network, &args)?,
        bandwidth: bandwidth::read(&runtime)?,
        owner: Some(owner),
        take: Some(true),
        ..AttachRequest::default()
    })
}

fn is_empty(value: &Value) -> bool {
    *value == json!({}) || *value == json!([])
}
