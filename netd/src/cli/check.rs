//! `netd policy check`: reads files as a daemon would, and says what is wrong with them and what they
//! probably do not mean as they stand. No daemon is needed, and none is started; one that answers is
//! asked which zones and containers there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firewall::diagnostics::{Diagnostic, Severity};
use firewall::policy::lint::{self, Attached, Surroundings, ZoneFacts};
use firewall::policy::{Groups, MAX_BYTES, PolicyFile};
use serde::Serialize;
use zone::{ContainerName, ZoneFile, ZoneName};

use super::Context;
use super::output;
use super::policy::files_in;
use crate::api;
use crate::client::Client;
use crate::error::{Error, exit};

/// What was checked, and what was found.
#[derive(Default, Serialize)]
struct Document {
    files: Vec<PathBuf>,
    diagnostics: Vec<Diagnostic>,
}

/// Checks these files and folders; without any, all that a daemon would read.
pub(super) fn check(
    context: &Context,
    named: &[PathBuf],
    groups: Option<&Path>,
) -> Result<ExitCode, Error> {
    let mut document = Document::default();
    let everything = named.is_empty();
    let mut around = surroundings(&context.dirs.socket());
    let zones = match files_in(&context.dirs.config.join("zones")) {
        // zones that were not asked about are of use, and no more
        Err(_) if !everything => Vec::new(),
        zones => zones?,
    };
    zone_files(&zones, everything, &mut around, &mut document)?;
    let own = context.dirs.config.join("groups.toml");
    let given = match groups {
        Some(given) => Some(given),
        None => own.exists().then_some(own.as_path()),
    };
    let groups = match given {
        // what is wrong with groups that were not asked about is of interest where they are used only
        Some(path) => read_groups(path, everything || groups.is_some(), &mut document)?,
        None => Groups::default(),
    };
    let policies = policy_files(context, named)?;
    let mut counted = vec![count(policies.len(), "policy", "policies")];
    if everything {
        counted.push(count(zones.len(), "zone", "zones"));
        if given.is_some() {
            counted.push("groups.toml".into());
        }
    }
    check_policies(policies, &groups, &around, &mut document)?;
    let errors = document.diagnostics.iter();
    let errors = errors.filter(|d| d.severity == Severity::Error).count();
    if context.json {
        output::print_json(&document)?;
    } else {
        let colour = io::stderr().is_terminal();
        for diagnostic in &document.diagnostics {
            output::print_error(&format!("{}\n", diagnostic.render(colour)));
        }
        let warnings = document.diagnostics.len() - errors;
        output::print(&summary(&counted, errors, warnings))?;
    }
    Ok(ExitCode::from(if errors == 0 {
        exit::DONE
    } else {
        exit::FAILED
    }))
}

fn count(n: usize, one: &str, many: &str) -> String {
    match n {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    }
}

fn summary(counted: &[String], errors: usize, warnings: usize) -> String {
    let counted = match counted {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        all => all.concat(),
    };
    let mut text = format!("{counted} checked: {}", count(errors, "error", "errors"));
    if warnings > 0 {
        text.push_str(&format!(", {}", count(warnings, "warning", "warnings")));
    }
    text.push('\n');
    text
}

/// The policy files that are named, in folders too, each once.
fn policy_files(context: &Context, named: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    if named.is_empty() {
        return files_in(&context.dirs.policies());
    }
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            files.extend(files_in(path)?);
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

fn check_policies(
    paths: Vec<PathBuf>,
    groups: &Groups,
    around: &Surroundings,
    document: &mut Document,
) -> Result<(), Error> {
    // what cannot be read as text is told of, and the others are checked without it
    let mut texts = Vec::new();
    let mut wrong: BTreeMap<usize, Vec<Diagnostic>> = BTreeMap::new();
    for (place, path) in paths.iter().enumerate() {
        let file = path.display().to_string();
        let bytes = read(path, MAX_BYTES)?;
        match String::from_utf8(bytes) {
            Ok(text) => texts.push((file, text)),
            Err(error) => {
                let found = PolicyFile::parse_bytes(&file, error.as_bytes(), groups);
                let found = found.err().map_or_else(Vec::new, |found| found.0);
                wrong.insert(place, found);
            }
        }
    }
    let mut told = lint::check(&texts, groups, around).into_iter();
    for place in 0..paths.len() {
        match wrong.remove(&place) {
            Some(found) => document.diagnostics.extend(found),
            None => {
                let found = told.next().into_iter().flat_map(|found| found.0);
                document.diagnostics.extend(found);
            }
        }
    }
    document.files.extend(paths);
    Ok(())
}

/// Reads groups; what is wrong with them is told where `told` is set.
fn read_groups(path: &Path, told: bool, document: &mut Document) -> Result<Groups, Error> {
    let file = path.display().to_string();
    let bytes = read(path, firewall::policy::limits::MAX_GROUP_BYTES)?;
    if told {
        document.files.push(path.to_owned());
    }
    match Groups::parse_bytes(&file, &bytes) {
        Ok(groups) => {
            if told {
                let warnings = groups.warnings.iter().cloned();
                document.diagnostics.extend(warnings);
            }
            Ok(groups)
        }
        Err(wrong) => {
            if told {
                document.diagnostics.extend(wrong.0);
            }
            Ok(Groups::unusable(&file))
        }
    }
}

/// Reads zone files: which zones there are, where no daemon knows better. What is wrong with them is told
/// where `told` is set.
fn zone_files(
    paths: &[PathBuf],
    told: bool,
    around: &mut Surroundings,
    document: &mut Document,
) -> Result<(), Error> {
    for path in paths {
        let file = path.display().to_string();
        let bytes = match read(path, MAX_BYTES) {
            Err(_) if !told => continue,
            bytes => bytes?,
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let mut wrong = Vec::new();
        let name = stem.parse::<ZoneName>();
        let facts = match ZoneFile::parse(&file, &text) {
            Ok(zone) => ZoneFacts::of_file(&zone),
            Err(e) => {
                let place = (e.line, e.column);
                let (message, help) = (e.message, Some(e.remedy));
                wrong.push(Diagnostic::error_at(&file, &text, place, message, help));
                // it is there, and nothing more is known of it
                ZoneFacts {
                    has_v6: true,
                    ..ZoneFacts::default()
                }
            }
        };
        match name {
            Ok(name) => {
                let zones = around.zones.get_or_insert_default();
                zones.entry(name).or_insert(facts);
            }
            Err(e) => {
                let help = Some("rename the file".into());
                let message = e.to_string();
                wrong.push(Diagnostic::error_at(&file, &text, (1, 1), message, help));
            }
        }
        if told {
            document.files.push(path.clone());
            document.diagnostics.extend(wrong);
        }
    }
    Ok(())
}

/// What a daemon knows, where one answers. Whatever goes wrong with it is no business of a check.
fn surroundings(socket: &Path) -> Surroundings {
    let mut around = Surroundings::default();
    let Ok(mut client) = Client::connect_briefly(socket) else {
        return around;
    };
    let (Ok(zones), Ok(containers)) = (client.zone_list(), client.list()) else {
        return around;
    };
    around.zones = Some(zones.iter().filter_map(zone_facts).collect());
    around.containers = Some(containers.into_iter().filter_map(attached).collect());
    let in_zone = |address: &IpAddr| {
        let mut zones = around.zones.iter().flatten();
        zones.any(|(_, zone)| zone.subnets.iter().any(|net| net.contains(address)))
    };
    let own = zone::Links::open().and_then(|mut links| links.addresses());
    // a daemon answers here, so its host is this one
    let own = own.unwrap_or_default().into_iter();
    around.host = own
        .filter(|address| !in_zone(address) && !is_local(address))
        .collect();
    around
}

/// Whether it is everybody's own: loopback, link-local.
fn is_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_loopback() || a.is_link_local(),
        IpAddr::V6(a) => a.is_loopback() || a.is_unicast_link_local(),
    }
}

fn zone_facts(zone: &api::Zone) -> Option<(ZoneName, ZoneFacts)> {
    let subnets = zone.subnet4.iter().chain(&zone.subnet6);
    let gateways = zone.gateway4.iter().chain(&zone.gateway6);
    let facts = ZoneFacts {
        internal: zone.internal,
        has_v6: zone.subnet6.is_some(),
        subnets: subnets.filter_map(|net| net.parse().ok()).collect(),
        gateways: gateways.filter_map(|a| a.parse().ok()).collect(),
    };
    Some((zone.name.parse().ok()?, facts))
}

fn attached(container: api::Container) -> Option<(ContainerName, Vec<Attached>)> {
    let facts = |port: api::Container| {
        Some(Attached {
            zone: port.zone.parse().ok()?,
            labels: port.labels.into_iter().collect(),
        })
    };
    let ports = container.ports().into_iter().filter_map(facts);
    Some((container.container.parse().ok()?, ports.collect()))
}

/// A file, no more of it than one byte over what is allowed.
fn read(path: &Path, most: usize) -> Result<Vec<u8>, Error> {
    let failed = |source: io::Error| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    fs::File::open(path)
        .map_err(failed)?
        .take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What is said about a config dir with these files.
    fn said(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut document = Document::default();
        let mut around = Surroundings::default();
        let zones = files_in(&dir.path().join("zones")).unwrap();
        zone_files(&zones, true, &mut around, &mut document).unwrap();
        let path = dir.path().join("groups.toml");
        let groups = match path.exists() {
            true => read_groups(&path, true, &mut document).unwrap(),
            false => Groups::default(),
        };
        let policies = files_in(&dir.path().join("policies")).unwrap();
        check_policies(policies, &groups, &around, &mut document).unwrap();
        let dir = format!("{}/", dir.path().display());
        let headlines = document.diagnostics.iter().map(Diagnostic::headline);
        headlines.map(|line| line.replace(&dir, "")).collect()
    }

    #[test]
    fn a_whole_config_dir_is_read_together() {
        let files = [
            ("zones/dmz.toml", "subnet4 = \"10.7.0.0/24\"\n"),
            ("groups.toml", "office = [\"10.0.0.0/8\"]\n"),
            (
                "policies/web.toml",
                "[[ingress]]\nfrom = [\"@office\", \"zone:dnz\"]\n",
            ),
        ];
        let said = said(&files);
        assert_eq!(said.len(), 2, "{said:#?}");
        assert!(said[0].starts_with(
            "policies/web.toml:2:9: warning: 10.0.0.0/8 has the addresses of zone dmz"
        ));
        assert!(said[1].starts_with("policies/web.toml:2:20: warning: there is no zone dnz"));
    }

    #[test]
    fn without_zones_nothing_is_said_about_them() {
        let files = [(
            "policies/web.toml",
            "[[ingress]]\nfrom = [\"zone:dnz\", \"10.0.0.0/8\"]\n",
        )];
        assert_eq!(said(&files), Vec::<String>::new());
    }

    #[test]
    fn errors_of_every_kind_of_file_have_a_place() {
        let files = [
            ("zones/dmz.toml", "\nsubnet = \"10.7.0.0/24\"\n"),
            ("zones/DMZ.toml", ""),
            ("groups.toml", "office = [\"@ofice\"]\n"),
            ("policies/a.toml", "[[ingress]]\nfrom = [\"@office\"]\n"),
            (
                "policies/b.toml",
                "[[ingress]]\nfrom = [\"zone:dmz\"]\nport = []\n",
            ),
        ];
        let said = said(&files);
        let places = [
            "zones/DMZ.toml:1:1",
            "zones/dmz.toml:2:1",
            "groups.toml:1:11",
            "policies/a.toml:2:9",
            "policies/b.toml:3:1",
        ];
        assert_eq!(said.len(), places.len(), "{said:#?}");
        for (line, place) in said.iter().zip(places) {
            assert!(line.starts_with(&format!("{place}: error: ")), "{line}");
        }
    }

    #[test]
    fn a_file_that_is_no_text_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.toml"), dir.path().join("b.toml"));
        fs::write(&a, b"\n\xff").unwrap();
        fs::write(&b, "mode = 7\n").unwrap();
        let mut document = Document::default();
        let (groups, around) = Default::default();
        check_policies(vec![a, b], &groups, &around, &mut document).unwrap();
        let lines: Vec<u32> = document.diagnostics.iter().map(|d| d.line).collect();
        assert_eq!(lines, [2, 1]);
    }

    #[test]
    fn summaries() {
        let shown = |counted: &[&str], errors, warnings| {
            let counted: Vec<String> = counted.iter().map(|s| (*s).to_owned()).collect();
            summary(&counted, errors, warnings)
        };
        assert_eq!(
            shown(&["no policies"], 0, 0),
            "no policies checked: no errors\n"
        );
        assert_eq!(
            shown(&["2 policies", "1 zone", "groups.toml"], 1, 2),
            "2 policies, 1 zone and groups.toml checked: 1 error, 2 warnings\n"
        );
    }
}
