//! One container in several zones at once: one request for each zone, and all of them or none.
//!
//! ```text
//! what is asked for + zones ─► spread: a request for each zone ─► attach one after the other
//!                                                                  └─ one is refused: those made here are detached
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;
use zone::{ContainerName, IfName, ZoneName};

use crate::api::{AttachRequest, Container, Zone};
use crate::client::{Attached, Client, Question};
use crate::error::Error;

/// A request for each zone, in their order. Labels, aliases, owner and who configures are the same for all. The first
/// one has the published ports and the hardware address. An address goes to the zone it is of: `subnets` tells.
///
/// # Errors
/// A zone is named twice, there are more names of interfaces than zones, or an address is of none of the zones.
pub(crate) fn spread(
    base: &AttachRequest,
    zones: &[ZoneName],
    ifnames: &[IfName],
    subnets: &[Zone],
) -> Result<Vec<AttachRequest>, Error> {
    let wrong = |why: String| Error::Invalid(format!("attach {}: {why}", base.container));
    let mut seen = BTreeSet::new();
    if let Some(twice) = zones.iter().find(|zone| !seen.insert(*zone)) {
        return Err(wrong(format!("zone {twice} is named twice")));
    }
    if ifnames.len() > zones.len() {
        return Err(wrong(format!(
            "{} names of interfaces for {} zones",
            ifnames.len(),
            zones.len()
        )));
    }
    let mut requests: Vec<AttachRequest> = zones
        .iter()
        .enumerate()
        .map(|(n, zone)| AttachRequest {
            zone: zone.to_string(),
            ifname: ifnames.get(n).map(ToString::to_string),
            addresses: Vec::new(),
            mac: base.mac.clone().filter(|_| n == 0),
            further: (zones.len() > 1).then_some(true),
            publish: match n {
                0 => base.publish.clone(),
                _ => Vec::new(),
            },
            ..base.clone()
        })
        .collect();
    for text in &base.addresses {
        let of = |request: &&mut AttachRequest| {
            zones.len() == 1 || text.parse().is_ok_and(|a| is_of(&request.zone, a, subnets))
        };
        match requests.iter_mut().find(of) {
            Some(request) => request.addresses.push(text.clone()),
            None => return Err(wrong(format!("address {text} is of none of the zones"))),
        }
    }
    Ok(requests)
}

/// Whether an address is in a zone's subnet.
fn is_of(zone: &str, address: IpAddr, subnets: &[Zone]) -> bool {
    let zone = subnets.iter().find(|known| known.name == zone);
    let nets = zone.map(|zone| [&zone.subnet4, &zone.subnet6]);
    let nets = nets.into_iter().flatten().flatten();
    nets.filter_map(|net| net.parse::<IpNet>().ok())
        .any(|net| net.contains(&address))
}

/// Attaches a container to each of the zones, or to none that it was not in before. The answer is that of one container:
/// all of these networks, and `created` if any is new.
///
/// # Errors
/// As of an attach; what cannot be undone is told.
pub(crate) fn attach(
    client: &mut Client,
    base: &AttachRequest,
    zones: &[ZoneName],
    ifnames: &[IfName],
    netns: BorrowedFd<'_>,
) -> Result<Attached, Error> {
    begin(client, base, zones, ifnames, netns)?.finish(client, netns)
}

/// An attach that the daemon is at.
#[derive(Debug)]
pub(crate) struct UnderWay {
    asked: Question,
    /// One for each zone after the first.
    further: Vec<AttachRequest>,
}

/// The first half of [`attach`]: the daemon begins with the first zone.
pub(crate) fn begin(
    client: &mut Client,
    base: &AttachRequest,
    zones: &[ZoneName],
    ifnames: &[IfName],
    netns: BorrowedFd<'_>,
) -> Result<UnderWay, Error> {
    let subnets = match zones.len() > 1 && !base.addresses.is_empty() {
        true => client.zone_list()?,
        false => Vec::new(),
    };
    let mut requests = spread(base, zones, ifnames, &subnets)?.into_iter();
    let no_zone = || Error::Invalid(format!("attach {}: no zone", base.container));
    let first = requests.next().ok_or_else(no_zone)?;
    Ok(UnderWay {
        asked: client.begin_attach(first, netns)?,
        further: requests.collect(),
    })
}

impl UnderWay {
    /// The second half: on the same connection, for the same namespace.
    pub(crate) fn finish(
        self,
        client: &mut Client,
        netns: BorrowedFd<'_>,
    ) -> Result<Attached, Error> {
        let mut done = vec![client.attached(self.asked)?];
        for request in self.further {
            match client.attach(request, netns) {
                Ok(answer) => done.push(answer),
                Err(e) => {
                    undo(client, &done);
                    return Err(e);
                }
            }
        }
        let (mut created, mut warnings, mut ports) = (false, Vec::new(), Vec::new());
        for answer in done {
            created |= answer.created;
            warnings.extend(answer.warnings);
            ports.push(answer.container);
        }
        let container = Container::joined(ports);
        let container = container.ok_or_else(|| Error::Invalid("attach: no zone".to_owned()))?;
        Ok(Attached {
            container,
            created,
            warnings,
        })
    }
}

/// Detaches what was made, newest first.
fn undo(client: &mut Client, done: &[Attached]) {
    for answer in done.iter().rev().filter(|answer| answer.created) {
        let Container {
            container, zone, ..
        } = &answer.container;
        let (Ok(name), Ok(of)) = (container.parse::<ContainerName>(), zone.parse::<ZoneName>())
        else {
            continue;
        };
        if let Err(e) = client.detach(&name, Some(&of)) {
            crate::cli::note(&format!(
                "warning: {container} is left in zone {zone}: {}",
                crate::error::chain(&e)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names<T: std::str::FromStr<Err = zone::NameError>>(texts: &[&str]) -> Vec<T> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn base() -> AttachRequest {
        AttachRequest {
            container: "web".into(),
            mac: Some("02:00:00:00:00:07".into()),
            publish: vec!["8080:80".into()],
            owner: Some("oci/1".into()),
            ..AttachRequest::default()
        }
    }

    fn zone(name: &str, subnet4: &str, subnet6: &str) -> Zone {
        let zone = serde_json::json!({
            "name": name, "bridge": "vz", "subnet4": subnet4, "subnet6": subnet6, "internal": false,
            "default": "egress", "mtu": 1500, "domain": "x", "dns": [], "containers": [],
        });
        serde_json::from_value(zone).unwrap()
    }

    #[test]
    fn what_there_is_once_goes_to_the_first_zone() {
        let all = spread(&base(), &names(&["a", "b"]), &names(&["eth0"]), &[]).unwrap();
        let [a, b] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!((a.zone.as_str(), b.zone.as_str()), ("a", "b"));
        assert_eq!(
            (a.ifname.as_deref(), b.ifname.as_deref()),
            (Some("eth0"), None)
        );
        assert!(a.mac.is_some() && b.mac.is_none());
        assert_eq!((a.publish.len(), b.publish.len()), (1, 0));
        assert_eq!(a.owner, b.owner);
        assert_eq!((a.further, b.further), (Some(true), Some(true)));
        let alone = spread(&base(), &names(&["a"]), &[], &[]).unwrap();
        assert_eq!(alone[0].further, None);
    }

    #[test]
    fn an_address_goes_to_the_zone_it_is_of() {
        let subnets = [
            zone("a", "10.89.0.0/24", "fd00::/64"),
            zone("b", "10.89.1.0/24", "fd01::/64"),
        ];
        let addresses = |texts: &[&str]| {
            let request = AttachRequest {
                addresses: texts.iter().map(|&text| text.to_owned()).collect(),
                ..base()
            };
            spread(&request, &names(&["a", "b"]), &[], &subnets)
        };
        let all = addresses(&["10.89.1.7", "fd00::7"]).unwrap();
        assert_eq!(all[0].addresses, ["fd00::7"]);
        assert_eq!(all[1].addresses, ["10.89.1.7"]);
        let wrong = addresses(&["192.0.2.1"]).unwrap_err().to_string();
        assert!(
            wrong.contains("192.0.2.1 is of none of the zones"),
            "{wrong}"
        );
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_done() {
        for (zones, ifnames, why) in [
            (&["a", "a"][..], &[][..], "zone a is named twice"),
            (
                &["a"][..],
                &["x", "y"][..],
                "2 names of interfaces for 1 zones",
            ),
        ] {
            let e = spread(&base(), &names(zones), &names(ifnames), &[]);
            let e = e.unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
    }
}
