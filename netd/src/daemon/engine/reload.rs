//! Files into force: read again, changed parts applied, bad ones refused and remembered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use firewall::model::Container;
use firewall::policy::{PolicyFile, PolicySet};
use zone::{ZoneFile, ZoneName};

use super::{Engine, refused};
use crate::api;
use crate::daemon::files::Parsed;

impl Parsed for PolicyFile {
    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        PolicyFile::parse(&path.display().to_string(), text).map_err(|e| e.to_string())
    }
}

impl Parsed for ZoneFile {
    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        ZoneFile::parse(&path.display().to_string(), text).map_err(|e| e.to_string())
    }
}

impl Engine {
    /// Reads zones and policies again; returns once they are in force, with what was refused.
    pub(crate) fn reload(&mut self) -> Result<Vec<api::Problem>, api::Error> {
        self.reload_zones()?;
        self.reload_policies()?;
        Ok(self.file_problems())
    }

    fn reload_zones(&mut self) -> Result<(), api::Error> {
        let ports = &self.ports;
        let keep = |stem: &str| ports.values().any(|r| r.zone.as_str() == stem);
        let changed = self
            .zone_files
            .read(keep)
            .map_err(|e| refused(format!("reload: read {}: {e}", self.dirs.zones().display())))?;
        if changed {
            self.follow_zone_files();
        }
        Ok(())
    }

    /// Makes the zones agree with the files in force. What cannot be done is a problem of that zone.
    pub(super) fn follow_zone_files(&mut self) {
        let wanted: BTreeMap<ZoneName, ZoneFile> = self
            .zone_files
            .good
            .iter()
            .filter_map(|(stem, good)| match stem.parse::<ZoneName>() {
                Ok(name) => Some((name, good.value.clone())),
                Err(e) => {
                    let path = self.zone_files.path(stem);
                    tracing::error!(file = %path.display(), "{e}; rename the file");
                    None
                }
            })
            .collect();
        let gone: Vec<ZoneName> = self
            .zones
            .keys()
            .filter(|name| !wanted.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            let outcome = self.zone_down(&name, &format!("take zone {name} down"));
            self.note(format!("zone {name}"), outcome);
        }
        for (name, file) in wanted {
            if self
                .zones
                .get(&name)
                .is_some_and(|state| state.file == file)
            {
                continue;
            }
            let what = format!("zone {name}");
            let outcome = if self.zones.contains_key(&name) {
                self.zone_change(&name, &file, &what)
            } else {
                self.resolve(&name, &file, &what)
                    .and_then(|zone| self.zone_up(zone, file, &what))
            };
            self.note(what, outcome);
        }
    }

    fn reload_policies(&mut self) -> Result<(), api::Error> {
        let changed = self.policy_files.read(|_| false).map_err(|e| {
            refused(format!(
                "reload: read {}: {e}",
                self.dirs.policies().display()
            ))
        })?;
        if changed {
            let set = self.policy_set();
            let changes = self.firewall.set_policies(set);
            self.apply(&changes)?;
        }
        Ok(())
    }

    pub(super) fn policy_set(&self) -> PolicySet {
        PolicySet(
            self.policy_files
                .good
                .iter()
                .map(|(stem, good)| {
                    let file = self.policy_files.path(stem).display().to_string();
                    (file, Arc::new(good.value.clone()))
                })
                .collect(),
        )
    }

    /// Remembers a failure as a problem, or forgets that there was one.
    pub(super) fn note(&mut self, subject: String, outcome: Result<(), api::Error>) {
        match outcome {
            Ok(()) => {
                self.problems.remove(&subject);
            }
            Err(e) => {
                let message = crate::daemon::control::message(&e).to_owned();
                tracing::error!("{message}");
                self.problems.insert(subject, message);
            }
        }
    }

    /// Files that are bad as they are now.
    pub(super) fn file_problems(&self) -> Vec<api::Problem> {
        let zones = self
            .zone_files
            .bad
            .iter()
            .map(|(stem, bad)| (self.zone_files.path(stem), bad));
        let policies = self
            .policy_files
            .bad
            .iter()
            .map(|(stem, bad)| (self.policy_files.path(stem), bad));
        zones
            .chain(policies)
            .map(|(path, bad)| api::Problem {
                subject: path.display().to_string(),
                message: bad.message.clone(),
            })
            .collect()
    }
}

/// Whether a policy file that cannot be read may be about this container: by its applies-to, if that
/// much of it can be read; by its name, if it has none; else it may be about anybody.
pub(super) fn bad_may_apply(path: &Path, text: &str, container: &Container) -> bool {
    if let Some(applies_to) = PolicyFile::salvage_applies_to(&path.display().to_string(), text) {
        return applies_to.matches(container);
    }
    let named = path
        .file_stem()
        .is_some_and(|stem| stem == container.name.as_str());
    named || text.contains("applies-to")
}
