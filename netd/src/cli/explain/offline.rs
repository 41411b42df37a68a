//! Answers from files alone: no daemon is asked or started, and nothing but the files is read.
//!
//! ```text
//! DIR/zones/*.toml ─► zones      DIR/groups.toml, DIR/policies/*.toml ─► policies
//! --in NAME=ZONE, FROM, TO, applies-to ─► containers, each with the next free addresses of its zone
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use firewall::diagnostics::Diagnostics;
use firewall::model::{Container, World};
use firewall::policy::{Groups, PolicyFile, PolicySet};
use zone::{ContainerName, Pool, PortName, Subnet6, Taken, Zone, ZoneFile, ZoneName};

use super::super::output;
use super::super::policy::files_in;
use crate::api::Explanation;
use crate::error::{Error, chain};
use crate::explain::{Asked, Known};
use crate::values::{Label, ValueError};

/// `--in NAME=ZONE[,KEY=VALUE]…`: where a container is, and its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    name: ContainerName,
    zone: ZoneName,
    labels: BTreeMap<String, String>,
}

impl FromStr for Located {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong =
            |what: String| ValueError::new(text, format!("{what}, write NAME=ZONE[,KEY=VALUE]…"));
        let mut parts = text.split(',');
        let (name, zone) = parts
            .next()
            .and_then(|first| first.split_once('='))
            .ok_or_else(|| wrong("does not say NAME=ZONE".to_owned()))?;
        let labels = parts
            .map(|part| {
                let label: Label = part.parse().map_err(|e: ValueError| wrong(e.to_string()))?;
                Ok((label.key, label.value))
            })
            .collect::<Result<_, ValueError>>()?;
        Ok(Self {
            name: name
                .parse()
                .map_err(|e| wrong(format!("names nobody ({e})")))?,
            zone: zone
                .parse()
                .map_err(|e| wrong(format!("names no zone ({e})")))?,
            labels,
        })
    }
}

/// Answers a question from the files under `folder`.
pub(super) fn explain(
    folder: &Path,
    located: &[Located],
    asked: &Asked<'_>,
) -> Result<Explanation, Error> {
    if !folder.is_dir() {
        let source = fs::read_dir(folder).err();
        return Err(Error::Read {
            path: folder.to_owned(),
            source: source.unwrap_or_else(|| std::io::ErrorKind::NotADirectory.into()),
        });
    }
    let zones = zones(&folder.join("zones"))?;
    let policies = policies(folder)?;
    let world = world(&zones, &policies, located, [asked.from, asked.to])?;
    let known = Known {
        foreign: None,
        ways: None,
        user_loopback: false,
        folder: folder.join("policies").display().to_string(),
        taken: BTreeSet::new(),
    };
    crate::explain::explain(world, &policies, asked, &known).map_err(Error::from)
}

/// The zones of a folder. Without a subnet they get one, but hardly the one a daemon would give.
fn zones(folder: &Path) -> Result<BTreeMap<ZoneName, Zone>, Error> {
    let mut files = Vec::new();
    for path in files_in(folder)? {
        let text = fs::read_to_string(&path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        let shown = path.display().to_string();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name: ZoneName = stem
            .parse()
            .map_err(|e| Error::Refused(format!("{shown}: {e}; rename the file")))?;
        let file = ZoneFile::parse(&shown, &text).map_err(|e| Error::Refused(e.to_string()))?;
        files.push((name, file));
    }
    let mut taken = Taken::default();
    for (name, file) in &files {
        let six = match file.subnet6 {
            Subnet6::Net(net) => Some(net.into()),
            _ => None,
        };
        let nets = file.subnet4.map(Into::into).into_iter().chain(six);
        taken.zones.extend(nets.map(|net| (name.clone(), net)));
    }
    let mut zones = BTreeMap::new();
    for (name, file) in files {
        let zone = zone::resolve(&name, &file, &taken, b"offline")
            .map_err(|e| Error::Refused(format!("zone {name}: {}", chain(&e))))?;
        taken
            .zones
            .extend(zone.subnets().map(|net| (name.clone(), net)));
        zones.insert(name, zone);
    }
    Ok(zones)
}

/// The policies and groups of a folder; what is wrong with them is told in full.
fn policies(folder: &Path) -> Result<PolicySet, Error> {
    let read = |path: &Path| {
        fs::read(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })
    };
    let mut set = PolicySet::default();
    let mut wrong = Vec::new();
    let groups = folder.join("groups.toml");
    let shown = groups.display().to_string();
    let groups = if groups.exists() {
        Groups::parse_bytes(&shown, &read(&groups)?).unwrap_or_else(|Diagnostics(found)| {
            wrong.extend(found);
            Groups::unusable(&shown)
        })
    } else {
        Groups::default()
    };
    for path in files_in(&folder.join("policies"))? {
        let shown = path.display().to_string();
        match PolicyFile::parse_bytes(&shown, &read(&path)?, &groups) {
            Ok(file) => {
                set.0.insert(shown, Arc::new(file));
            }
            Err(Diagnostics(found)) => wrong.extend(found),
        }
    }
    if wrong.is_empty() {
        return Ok(set);
    }
    let colour = std::io::stderr().is_terminal();
    for diagnostic in &wrong {
        output::print_error(&format!("{}\n", diagnostic.render(colour)));
    }
    Err(Error::Refused(format!(
        "explain: the policies in {} have errors",
        folder.display()
    )))
}

/// The zones that a container is in, and its labels there.
type Zones = BTreeMap<ZoneName, BTreeMap<String, String>>;

/// Zones and containers: those that `--in`, the question and policies name.
fn world(
    zones: &BTreeMap<ZoneName, Zone>,
    policies: &PolicySet,
    located: &[Located],
    ends: [&str; 2],
) -> Result<World, Error> {
    // In each zone that is said; what files say counts where nothing else is.
    let mut places: BTreeMap<ContainerName, Zones> = BTreeMap::new();
    for file in policies.0.values() {
        let said = |name: &ContainerName| located.iter().any(|place| place.name == *name);
        if let (Some(name), Some(zone)) = (&file.applies_to.container, &file.applies_to.zone)
            && !said(name)
        {
            let zones = places.entry(name.clone()).or_default();
            zones.insert(zone.clone(), BTreeMap::new());
        }
    }
    for place in located {
        let zones = places.entry(place.name.clone()).or_default();
        zones.insert(place.zone.clone(), place.labels.clone());
    }
    for end in ends {
        let Some(name) = container_name(end, &places) else {
            continue;
        };
        if places.contains_key(&name) {
            continue;
        }
        let mut all = zones.keys();
        let (Some(sole), None) = (all.next(), all.next()) else {
            return Err(Error::Invalid(format!(
                "explain: in which zone is {name}? say --in {name}=ZONE"
            )));
        };
        places.insert(name, Zones::from([(sole.clone(), BTreeMap::new())]));
    }
    let mut world = World {
        clock: crate::clock::now(),
        ..World::default()
    };
    let mut pools: BTreeMap<&ZoneName, Pool> = BTreeMap::new();
    for (name, zone) in zones {
        world.zones.insert(name.clone(), crate::model::zone(zone));
        pools.insert(name, Pool::new(zone));
    }
    let ports = places.into_iter().flat_map(|(name, zones)| {
        let port = move |(place, (zone, labels))| (name.clone(), place, zone, labels);
        (0u8..).zip(zones).map(port)
    });
    for (name, place, zone, labels) in ports {
        let Some(pool) = pools.get_mut(&zone) else {
            let asked = ends.iter().any(|end| container_named(end, &name))
                || located.iter().any(|place| place.name == name);
            if asked {
                return Err(Error::NoSuchZone(format!(
                    "explain: {name} is said to be in zone {zone}, and there is no such zone"
                )));
            }
            continue;
        };
        let addresses: Vec<IpAddr> = pool
            .assign(&name, &[])
            .map_err(|e| Error::Refused(format!("explain: {}", chain(&e))))?;
        let port = PortName::of(&name, &zone, place);
        let container = Container {
            zone,
            ifindex: 0,
            mac: port.mac(),
            addresses,
            labels,
            publish: Vec::new(),
            name: port.clone(),
        };
        world.containers.insert(port, container);
    }
    Ok(world)
}

/// The container that an end of the question names, if it names one.
fn container_name<T>(end: &str, places: &BTreeMap<ContainerName, T>) -> Option<ContainerName> {
    let (name, said) = match end.strip_prefix("container:") {
        Some(name) => (name, true),
        None => (end, false),
    };
    let name = name.parse::<PortName>().ok()?.container_name();
    let other = matches!(end, "host" | "world") || end.parse::<IpAddr>().is_ok();
    (said || !other || places.contains_key(&name)).then_some(name)
}

fn container_named(end: &str, name: &ContainerName) -> bool {
    let end = end.strip_prefix("container:").unwrap_or(end);
    end.split('@').next() == Some(name.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["zones", "policies"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn asked(dir: &Path, located: &[&str], words: &str) -> Result<Explanation, Error> {
        let located: Vec<Located> = located.iter().map(|text| text.parse().unwrap()).collect();
        let mut words = words.split_whitespace();
        let asked = Asked {
            from: words.next().unwrap(),
            to: words.next().unwrap(),
            traffic: words.next(),
            family: None,
            at: None,
        };
        explain(dir, &located, &asked)
    }

    const DMZ: (&str, &str) = ("zones/dmz.toml", "subnet4 = \"10.1.0.0/24\"\n");
    const LAB: (&str, &str) = ("zones/lab.toml", "default = \"allow\"\n");

    #[test]
    fn a_sole_zone_is_everybodys() {
        let web = ("policies/web.toml", "[[egress]]\nto = [\"container:db\"]\n");
        let dir = folder(&[DMZ, web]);
        let denied = asked(dir.path(), &[], "web db tcp/5432").unwrap();
        assert_eq!(denied.verdict, "deny");
        assert_eq!(denied.families.len(), 2);
        assert_eq!(denied.fix.len(), 1, "{denied:#?}");
        assert!(denied.fix[0].create && denied.fix[0].file.ends_with("policies/db.toml"));
        fs::write(&denied.fix[0].file, &denied.fix[0].text).unwrap();
        let allowed = asked(dir.path(), &[], "web db tcp/5432").unwrap();
        assert_eq!(allowed.verdict, "allow", "{allowed:#?}");
        assert_eq!(
            asked(dir.path(), &[], "web db tcp/81").unwrap().verdict,
            "deny"
        );
    }

    #[test]
    fn containers_are_where_options_and_files_say() {
        let web = (
            "policies/web.toml",
            "applies-to = { container = \"web\", zone = \"lab\" }\n[[ingress]]\nfrom = [\"label:tier=edge\"]\n",
        );
        let dir = folder(&[DMZ, LAB, web]);
        let wrong = asked(dir.path(), &[], "proxy web").unwrap_err();
        assert_eq!(wrong.exit_code(), crate::error::exit::USAGE);
        assert!(wrong.to_string().contains("--in proxy=ZONE"), "{wrong}");
        let plain = asked(dir.path(), &["proxy=lab"], "proxy web").unwrap();
        assert_eq!(plain.verdict, "deny");
        let edge = asked(dir.path(), &["proxy=lab,tier=edge"], "proxy web").unwrap();
        assert_eq!(edge.verdict, "allow", "{edge:#?}");
        let wrong = asked(dir.path(), &["proxy=none"], "proxy web").unwrap_err();
        assert_eq!(wrong.exit_code(), crate::error::exit::ABSENT);
    }

    #[test]
    fn a_container_can_be_in_several_zones() {
        let web = (
            "policies/web-lab.toml",
            "applies-to = { container = \"web\", zone = \"lab\" }\ningress = []\n",
        );
        let dir = folder(&[DMZ, LAB, web]);
        let places = ["web=dmz", "web=lab", "one=dmz", "two=lab"];
        let of = |words: &str| asked(dir.path(), &places, words).unwrap();
        let denied = of("two web");
        assert_eq!((denied.verdict.as_str(), denied.paths.len()), ("deny", 2));
        assert_eq!(denied.paths[0].to, "web@lab");
        assert!(denied.fix[0].text.contains("container:two"), "{denied:#?}");
        assert_eq!(of("web@dmz world").verdict, "allow");
        let way = of("web two");
        assert_eq!(
            (way.verdict.as_str(), way.paths[0].from.as_str()),
            ("allow", "web@lab")
        );
    }

    #[test]
    fn bad_files_are_told() {
        let dir = folder(&[DMZ, ("policies/web.toml", "[[ingress]]\nform = []\n")]);
        let wrong = asked(dir.path(), &[], "world web").unwrap_err();
        assert!(wrong.to_string().contains("have errors"), "{wrong}");
        let none = asked(&dir.path().join("none"), &[], "world web").unwrap_err();
        assert_eq!(none.exit_code(), crate::error::exit::FAILED);
    }

    #[test]
    fn places() {
        for bad in ["web", "web=", "=dmz", "web=DMZ", "web=dmz,tier", "web=dmz,"] {
            let error = bad.parse::<Located>().unwrap_err().to_string();
            assert!(error.contains("NAME=ZONE"), "{bad}: {error}");
        }
    }
}
