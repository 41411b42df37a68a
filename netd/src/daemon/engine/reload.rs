//! Files into force: read again, changed parts applied, bad ones refused and remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firewall::model::Container;
use firewall::policy::{Groups, PolicyFile, PolicySet};
use zone::{ZoneFile, ZoneName};

use super::{Engine, refused};
use crate::api;
use crate::daemon::files::Parsed;

/// How long a number that nobody has any more keeps its rules: packets that have read it are long gone.
const REST: Duration = Duration::from_secs(1);
/// The stem of `groups.toml`.
const GROUPS: &str = "groups";

impl Parsed for Arc<PolicyFile> {
    type With = Arc<Groups>;

    fn parse(path: &Path, text: &str, groups: &Arc<Groups>) -> Result<Self, String> {
        PolicyFile::parse_with(&path.display().to_string(), text, groups)
            .map(Arc::new)
            .map_err(|e| e.to_string())
    }

    fn part(&self, groups: &Arc<Groups>) -> Option<String> {
        (!self.groups.is_empty()).then(|| groups.excerpt(&self.groups))
    }

    fn with_part(part: &str) -> Option<Arc<Groups>> {
        Groups::parse("groups.toml", part).ok().map(Arc::new)
    }
}

impl Parsed for Arc<Groups> {
    type With = ();

    fn parse(path: &Path, text: &str, (): &()) -> Result<Self, String> {
        Groups::parse(&path.display().to_string(), text)
            .map(Arc::new)
            .map_err(|e| e.to_string())
    }
}

impl Parsed for ZoneFile {
    type With = ();

    fn parse(path: &Path, text: &str, (): &()) -> Result<Self, String> {
        ZoneFile::parse(&path.display().to_string(), text).map_err(|e| e.to_string())
    }
}

impl Engine {
    /// Reads all zones and policies again; returns once they are in force, with what was refused.
    pub(crate) fn reload_all(&mut self) -> Result<Vec<api::Problem>, api::Error> {
        self.edits.zones.any = true;
        self.edits.groups = true;
        self.edits.policies.any = true;
        self.reload()
    }

    /// Reads what was edited since it was read; returns once it is in force, with what was refused.
    pub(crate) fn reload(&mut self) -> Result<Vec<api::Problem>, api::Error> {
        self.edits
            .drain()
            .map_err(|e| refused(format!("reload: ask what was edited: {e}")))?;
        self.reload_zones()?;
        self.reload_policies()?;
        self.meet_again();
        Ok(self.file_problems())
    }

    /// There are news of files. Reloads when a writer was done with one; returns whether it did.
    pub(crate) fn files_changed(&mut self) -> Result<bool, api::Error> {
        let done = self
            .edits
            .drain()
            .map_err(|e| refused(format!("ask what was edited: {e}")))?;
        if done {
            self.reload()?;
        }
        Ok(done)
    }

    fn reload_zones(&mut self) -> Result<(), api::Error> {
        let edited = std::mem::take(&mut self.edits.zones);
        if edited.is_empty() {
            return Ok(());
        }
        let ports = &self.ports;
        let keep = |stem: &str| ports.of_zone(stem).next().is_some();
        let changed = if edited.any {
            self.zone_files.read(keep).map_err(|e| {
                refused(format!("reload: read {}: {e}", self.dirs.zones().display()))
            })?
        } else {
            self.zone_files.read_some(edited.stems, keep)
        };
        if !changed.is_empty() {
            self.follow_zone_files();
            let names: Vec<_> = self.zones.keys().cloned().collect();
            for name in names {
                self.meet_ports_of(&name);
            }
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

    /// Reads groups.toml again. Returns the stems of the policies that mean something else now; they
    /// are to be read again.
    pub(super) fn read_groups(&mut self) -> BTreeSet<String> {
        let stems = BTreeSet::from([GROUPS.to_owned()]);
        self.group_files.read_some(stems, |_| false);
        let groups = match self.group_files.good.get(GROUPS) {
            Some(good) => good.value.clone(),
            None if self.group_files.bad.contains_key(GROUPS) => {
                let path = self.group_files.path(GROUPS);
                Arc::new(Groups::unusable(&path.display().to_string()))
            }
            None => Arc::default(),
        };
        let changed = self.policy_files.with().differing(&groups);
        let same = changed.is_empty() && self.policy_files.with() == &groups;
        if same {
            return BTreeSet::new();
        }
        self.policy_files.set_with(
            groups,
            |file| !file.groups.is_disjoint(&changed),
            // perhaps it is bad for want of a group
            |bad| bad.text.contains('@'),
        )
    }

    fn reload_policies(&mut self) -> Result<(), api::Error> {
        let mut edited = std::mem::take(&mut self.edits.policies);
        if std::mem::take(&mut self.edits.groups) {
            // with those that were edited themselves, so that all is one change
            edited.stems.extend(self.read_groups());
        }
        // what was too much may have room since somebody went
        if edited.is_empty() && !self.policy_files.waits() {
            return Ok(());
        }
        if edited.any {
            edited.stems = self.policy_files.all().map_err(|e| {
                refused(format!(
                    "reload: read {}: {e}",
                    self.dirs.policies().display()
                ))
            })?;
        }
        let changed = self.read_policies(edited.stems);
        let edits: Vec<_> = changed
            .into_iter()
            .map(|stem| {
                let good = self.policy_files.good.get(&stem);
                (self.policy_key(&stem), good.map(|good| good.value.clone()))
            })
            .collect();
        let kept = self.scribe.keep(self.policy_files.take_unkept());
        let outcome = self.policies_into_force(edits);
        kept.wait();
        outcome
    }

    /// Reads these policy files again. One that would ask for too much beside the others is as bad as one that
    /// cannot be read. Returns those whose value changed.
    fn read_policies(&mut self, stems: BTreeSet<String>) -> BTreeSet<String> {
        let (folder, firewall) = (self.policy_files.folder().to_owned(), &self.firewall);
        let mut edits = BTreeMap::new();
        let mut judge = |stem: &str, file: Option<&Arc<PolicyFile>>| {
            let key = folder.join(format!("{stem}.toml")).display().to_string();
            let before = edits.insert(key.clone(), file.cloned());
            let much = file.and_then(|file| firewall.too_much_with(&edits, file));
            let Some((container, much)) = much else {
                return Ok(());
            };
            match before {
                Some(before) => edits.insert(key.clone(), before),
                None => edits.remove(&key),
            };
            Err(format!(
                "{key}:1:1: error: with this file, container {container} would ask for too much: {much}"
            ))
        };
        self.policy_files.read_judged(stems, |_| false, &mut judge)
    }

    /// Some policies, each by its key, are others than before (or none any more): in one batch.
    pub(super) fn policies_into_force(
        &mut self,
        edits: Vec<(String, Option<Arc<PolicyFile>>)>,
    ) -> Result<(), api::Error> {
        self.follow_clock();
        let mut files: Vec<Arc<PolicyFile>> = Vec::new();
        for (key, new) in &edits {
            let old = self.firewall.policies().0.get(key);
            files.extend(old.into_iter().chain(new).cloned());
        }
        // rules for numbers that nobody has yet, before anybody gets them
        let new: Vec<_> = edits.iter().filter_map(|(_, new)| new.clone()).collect();
        let announced = self.firewall.announce(&new);
        self.apply(&announced)?;
        let changes = self.firewall.edit_policies(edits);
        self.look_at_edited(files.iter());
        self.renumbered = Some(Instant::now());
        self.apply(&changes)?;
        self.limit_edited(&files)
    }

    /// Puts numbers in order that rules do not need any more, one step at a time.
    pub(crate) fn tidy_numbers(&mut self) {
        if self.renumbered.is_none_or(|at| at.elapsed() < REST) {
            return;
        }
        let Some(changes) = self.firewall.tidy() else {
            self.renumbered = None;
            return;
        };
        self.renumbered = Some(Instant::now());
        let outcome = self.apply(&changes);
        self.note("policies".into(), outcome);
    }

    fn policy_key(&self, stem: &str) -> String {
        self.policy_files.path(stem).display().to_string()
    }

    pub(super) fn policy_set(&self) -> PolicySet {
        PolicySet(
            self.policy_files
                .good
                .iter()
                .map(|(stem, good)| (self.policy_key(stem), good.value.clone()))
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
        let groups = self
            .group_files
            .bad
            .iter()
            .map(|(stem, bad)| (self.group_files.path(stem), bad));
        let policies = self
            .policy_files
            .bad
            .iter()
            .map(|(stem, bad)| (self.policy_files.path(stem), bad));
        zones
            .chain(groups)
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
