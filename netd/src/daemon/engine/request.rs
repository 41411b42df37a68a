//! Requests to attach, checked: from text on the control socket to values that exist only when valid.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use firewall::bandwidth::Bandwidth;
use firewall::model::Publish;
use zone::{Configure, ContainerName, IfName, MacAddr, NameError, Netns, ZoneName};

use super::{invalid, refused};
use crate::api;
use crate::daemon::chain;
use crate::daemon::named::NetnsName;

/// Interface name inside a container when none is asked for: systemd-nspawn's own, and for further networks the same
/// with their numbers.
pub(super) fn default_ifname(place: u8) -> Result<IfName, NameError> {
    format!("host{place}").parse()
}

/// Ceilings that keep one request from hurting others.
const MOST_LABELS: usize = 64;
const MOST_PUBLISHED: usize = 256;
const MOST_RANGES: usize = 64;
const MOST_ALIASES: usize = 64;
const LONGEST_OWNER: usize = 512;

/// A request to attach that can be carried out as far as words go.
pub(super) struct Request {
    pub(super) container: ContainerName,
    pub(super) zone: ZoneName,
    pub(super) netns: Netns,
    /// Its name, where that is to be served.
    pub(super) netns_name: Option<NetnsName>,
    /// None: `host0`, or for a further network `host` and its number.
    pub(super) ifname: Option<IfName>,
    pub(super) configure: Configure,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) mac: Option<MacAddr>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) publish: Vec<(String, Publish)>,
    /// First and last address.
    pub(super) ranges: Vec<(IpAddr, IpAddr)>,
    pub(super) aliases: Vec<String>,
    pub(super) bandwidth: Bandwidth,
    pub(super) owner: Option<String>,
    /// Whether its port is there already.
    pub(super) take: bool,
    /// Whether it may be a further network.
    pub(super) further: bool,
}

impl Request {
    /// Checks a request. `fds` are the descriptors that came with it.
    pub(super) fn check(
        request: api::AttachRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, api::Error> {
        let container: ContainerName = request
            .container
            .parse()
            .map_err(|e| invalid(format!("attach: {e}")))?;
        let what = format!("attach {container}");
        let zone = request
            .zone
            .parse()
            .map_err(|e| invalid(format!("{what}: {e}")))?;
        let ifname: Option<IfName> = request
            .ifname
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|e| invalid(format!("{what}: {e}")))?;
        if ifname.as_ref().is_some_and(|name| name.as_str() == "lo") {
            return Err(invalid(format!(
                "{what}: interface name \"lo\" is taken by loopback in every namespace"
            )));
        }
        let configure = request.configure.as_deref().unwrap_or("static");
        let configure: Configure = configure
            .parse()
            .map_err(|e| invalid(format!("{what}: {e}")))?;
        let addresses = request
            .addresses
            .iter()
            .map(|text| {
                text.parse().map_err(|_| {
                    invalid(format!(
                        "{what}: {text:?} is not an IP address (without prefix length)"
                    ))
                })
            })
            .collect::<Result<Vec<IpAddr>, _>>()?;
        for v4 in [true, false] {
            if addresses.iter().filter(|a| a.is_ipv4() == v4).count() > 1 {
                return Err(invalid(format!(
                    "{what}: more than one address of one family is asked for"
                )));
            }
        }
        let mac = match request.mac.as_deref() {
            None => None,
            Some(text) => {
                let mac: MacAddr = text.parse().map_err(|e| invalid(format!("{what}: {e}")))?;
                if !mac.is_unicast() {
                    return Err(invalid(format!(
                        "{what}: hardware address {mac} is not a unicast one"
                    )));
                }
                Some(mac)
            }
        };
        if request.labels.len() > MOST_LABELS {
            return Err(invalid(format!(
                "{what}: {} labels; at most {MOST_LABELS} are taken",
                request.labels.len()
            )));
        }
        for (key, value) in &request.labels {
            label(key, value)
                .map_err(|reason| invalid(format!("{what}: label {key}={value}: {reason}")))?;
        }
        if request.publish.len() > MOST_PUBLISHED {
            return Err(invalid(format!(
                "{what}: {} published ports; at most {MOST_PUBLISHED} are taken",
                request.publish.len()
            )));
        }
        let publish = request
            .publish
            .iter()
            .map(|text| match crate::publish::parse(text) {
                Ok(publish) => Ok((text.clone(), publish)),
                Err(e) => Err(invalid(format!("{what}: publish {e}"))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let ranges = ranges(&what, &request.ranges)?;
        aliases(&what, &request.aliases)?;
        let bandwidth = super::bandwidth::asked(&what, &request.bandwidth)?;
        if let Some(owner) = &request.owner {
            let plain = |b: u8| b.is_ascii_graphic();
            if owner.is_empty() || owner.len() > LONGEST_OWNER || !owner.bytes().all(plain) {
                return Err(invalid(format!(
                    "{what}: an owner has 1 to {LONGEST_OWNER} printable ASCII characters"
                )));
            }
        }
        let netns = netns(&what, &request, fds)?;
        let netns_name = match request.netns_name {
            None => None,
            Some(name) => {
                let name =
                    NetnsName::try_from(name).map_err(|e| invalid(format!("{what}: {e}")))?;
                // Files are made under this name. Whoever asks may see another /run/netns than the daemon.
                Some(name).filter(|name| name.is(netns.id()))
            }
        };
        let further = request.further.unwrap_or_default() || request.ifname.is_some();
        Ok(Self {
            further,
            container,
            zone,
            netns,
            netns_name,
            ifname,
            configure,
            addresses,
            mac,
            labels: request.labels.into_iter().collect(),
            publish,
            ranges,
            aliases: request.aliases,
            bandwidth,
            owner: request.owner,
            take: request.take.unwrap_or(false),
        })
    }
}

/// `FIRST-LAST`, both of one family; whether that is in the zone is for its pool to tell.
fn ranges(what: &str, texts: &[String]) -> Result<Vec<(IpAddr, IpAddr)>, api::Error> {
    if texts.len() > MOST_RANGES {
        return Err(invalid(format!(
            "{what}: {} ranges of addresses; at most {MOST_RANGES} are taken",
            texts.len()
        )));
    }
    let range = |text: &String| {
        let (first, last) = text.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let wrong = |text: &String| invalid(format!("{what}: {text:?} is no range, write FIRST-LAST"));
    texts
        .iter()
        .map(|text| range(text).ok_or_else(|| wrong(text)))
        .collect()
}

/// Names that can be served.
fn aliases(what: &str, names: &[String]) -> Result<(), api::Error> {
    if names.len() > MOST_ALIASES {
        return Err(invalid(format!(
            "{what}: {} aliases; at most {MOST_ALIASES} are taken",
            names.len()
        )));
    }
    let unfit = |name: &&String| !dns::Name::is_host_label(name);
    match names.iter().find(unfit) {
        Some(name) => Err(invalid(format!(
            "{what}: alias {name:?} is no hostname: letters, digits and inner hyphens, 63 at most"
        ))),
        None => Ok(()),
    }
}

fn netns(what: &str, request: &api::AttachRequest, fds: Vec<OwnedFd>) -> Result<Netns, api::Error> {
    let failed = |e: zone::LinkError| refused(format!("{what}: {}", chain(&e)));
    match (request.netns_fd, &request.netns, request.pid) {
        (Some(index), None, None) => {
            let fd = usize::try_from(index)
                .ok()
                .and_then(|index| fds.into_iter().nth(index))
                .ok_or_else(|| {
                    invalid(format!(
                        "{what}: descriptor {index} did not come with the message"
                    ))
                })?;
            Netns::from_fd(fd).map_err(failed)
        }
        (None, Some(path), None) => Netns::from_path(path.as_ref()).map_err(failed),
        (None, None, Some(pid)) => {
            let pid = i32::try_from(pid)
                .ok()
                .filter(|pid| *pid > 0)
                .ok_or_else(|| invalid(format!("{what}: {pid} is not a process id")))?;
            Netns::from_pid(pid).map_err(failed)
        }
        _ => Err(invalid(format!(
            "{what}: name the network namespace once, by --netns or by --pid"
        ))),
    }
}

/// Labels are `KEY=VALUE`: what policies can name as `label:KEY=VALUE`.
fn label(key: &str, value: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    if key.is_empty() || key.len() > 128 || value.len() > 128 {
        return Err("keys have 1 to 128 bytes, values at most 128");
    }
    if !key.bytes().all(plain) || !value.bytes().all(plain) {
        return Err("keys and values hold letters, digits, '.', '_', '-' and '/' only");
    }
    Ok(())
}
