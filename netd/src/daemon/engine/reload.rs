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
            .settle()
            .map_err(|e| refused(format!("reload: ask what was edited: {e}")))?;
        self.read_edited()?;
        Ok(self.file_problems())
    }

    /// Reads the files whose writers are done. A folder that cannot be read keeps nobody from the other.
    fn read_edited(&mut self) -> Result<(), api::Error> {
        let zones = self.reload_zones();
        self.note("zone files".into(), zones.clone());
        let policies = self.reload_policies();
        self.note("policy files".into(), policies.clone());
        self.meet_again();
        zones.and(policies)
    }

    /// There are news of files. Reloads when a writer was done with one; returns whether it did.
    pub(crate) fn files_changed(&mut self) -> Result<bool, api::Error> {
        let done = self
            .edits
            .drain()
            .map_err(|e| refused(format!("ask what was edited: {e}")))?;
        // what symbolic links lead to was changed beside them, perhaps
        let linked = self.edits.zones.links && !self.zone_files.links().is_empty()
            || self.edits.policies.links && !self.policy_files.links().is_empty();
        if done || linked {
            self.read_edited()?;
        }
        Ok(done)
    }

    fn reload_zones(&mut self) -> Result<(), api::Error> {
        let mut edited = self.edits.zones.take();
        if edited.links {
            edited.stems.extend(self.zone_files.links().clone());
        }
        // what could not be done may be possible by now
        if edited.is_empty() && self.unfollowed.is_empty() {
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
        if !changed.is_empty() || !self.unfollowed.is_empty() {
            self.follow_zone_files();
            let names: Vec<_> = self.zones.keys().cloned().collect();
            for name in names {
                self.meet_ports_of(&name);
            }
        }
        Ok(())
    }

    /// Makes the zones agree with the files in force. What cannot be done is a problem of that file.
    pub(super) fn follow_zone_files(&mut self) {
        let before = std::mem::take(&mut self.unfollowed);
        let mut wanted: BTreeMap<ZoneName, ZoneFile> = BTreeMap::new();
        for (stem, good) in &self.zone_files.good {
            match stem.parse::<ZoneName>() {
                Ok(name) => {
                    wanted.insert(name, good.value.clone());
                }
                Err(e) => {
                    let path = self.zone_files.path(stem);
                    let message = format!("{}: {e}; rename the file", path.display());
                    self.unfollowed.insert(stem.clone(), message);
                }
            }
        }
        let gone: Vec<ZoneName> = self
            .zones
            .keys()
            .filter(|name| !wanted.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            let outcome = self.zone_down(&name, &format!("take zone {name} down"));
            self.followed(&name, outcome);
        }
        for (name, file) in wanted {
            if self
                .zones
                .get(&name)
                .is_some_and(|state| state.file == file)
            {
                continue;
            }
            let what = self.zone_files.path(name.as_str()).display().to_string();
            let outcome = if self.zones.contains_key(&name) {
                self.zone_change(&name, &file, &what)
            } else {
                self.resolve(&name, &file, &what)
                    .and_then(|zone| self.zone_up(zone, file, &what))
            };
            self.followed(&name, outcome);
        }
        for (stem, message) in &self.unfollowed {
            if before.get(stem) != Some(message) {
                tracing::error!("{message}");
            }
        }
    }

    /// Remembers that the file of a zone is good and cannot be followed, or forgets what was wrong before.
    fn followed(&mut self, name: &ZoneName, outcome: Result<(), api::Error>) {
        match outcome {
            Ok(()) => {
                self.problems.remove(&format!("zone {name}"));
            }
            Err(e) => {
                let message = crate::daemon::control::message(&e).to_owned();
                self.unfollowed.insert(name.to_string(), message);
            }
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
        let mut edited = self.edits.policies.take();
        if edited.links {
            edited.stems.extend(self.policy_files.links().clone());
        }
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

    /// Files that are bad as they are now, and those that cannot be followed.
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
        let bad = zones.chain(groups).chain(policies);
        let bad = bad.map(|(path, bad)| (path, bad.message.clone()));
        let unfollowed = self.unfollowed.iter();
        let unfollowed =
            unfollowed.map(|(stem, message)| (self.zone_files.path(stem), message.clone()));
        bad.chain(unfollowed)
            .map(|(path, message)| api::Problem {
                subject: path.display().to_string(),
                message,
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
