//! `policy apply`, `confirm` and `rollback`: from one set of policies to another in one step.
//!
//! ```text
//! check all ─► journal, files (daemon/applied) ─► read ─► one batch ─► settled
//!                    └── a crash from here on ends with the new set, at the latest at the next start
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use firewall::diagnostics::Diagnostics;
use firewall::policy::lint::{self, Surroundings};
use firewall::policy::{Groups, PolicyFile};
use tokio::time::{Duration, Instant};

use super::{Engine, invalid, refused};
use crate::api;
use crate::daemon::applied::{Applied, Content, Last, State};
use crate::daemon::chain;

/// The longest time to confirm in: a week.
const LONGEST: u64 = 7 * 24 * 3600;
/// How long until what failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// What stands in the list of problems.
const SUBJECT: &str = "policy apply";

/// Files by stem, as a policy set keeps them.
pub(super) type Parsed = BTreeMap<String, Arc<PolicyFile>>;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Engine {
    /// Makes these files the policies, and no others.
    pub(crate) fn policy_apply(
        &mut self,
        texts: &api::PolicyTexts,
        confirm: Option<i64>,
    ) -> Result<api::PolicyStep, api::Error> {
        let confirm = confirm_within(confirm)?;
        if let Some(until) = self.applied.waits_until() {
            return Err(refused(format!(
                "apply: the last apply waits for confirmation for another {} s; \
                 `netd policy confirm` keeps it, `netd policy rollback` undoes it",
                until.saturating_sub(now())
            )));
        }
        // what was edited by hand and is not read yet is a part of what a rollback brings back
        self.reload()?;
        self.parse_set("apply", texts)?;
        let mut step = api::PolicyStep {
            warnings: self.lint_set(texts),
            groups: !self.groups_stay(texts),
            ..self.step_to(texts)?
        };
        if same_files(&step) {
            return Ok(step);
        }
        let texts_of = |file: &api::PolicyText| (file.name.clone(), file.text.clone());
        let content = Content {
            files: texts.files.iter().map(texts_of).collect(),
            groups: texts.groups.as_ref().map(|groups| groups.text.clone()),
        };
        self.applied
            .apply(&content, now(), confirm)
            .map_err(|e| refused(format!("apply: nothing changes: {}", chain(&e))))?;
        if let Err(error) = self.read_set() {
            self.applied.give_up();
            let back = self.read_set();
            self.settle(back);
            return Err(refused(format!(
                "apply: the files cannot be put in force, so those before are the policies still: {}",
                crate::daemon::control::message(&error)
            )));
        }
        self.settle(Ok(()));
        tracing::info!(
            files = texts.files.len(),
            confirm,
            "policies applied in one step"
        );
        step.confirm_within = confirm.map(seconds);
        Ok(step)
    }

    /// The apply that waits stays.
    pub(crate) fn policy_confirm(&mut self) -> Result<(), api::Error> {
        if self.applied.waits_until().is_none() {
            return Err(refused(match self.applied.last() {
                Some(Last {
                    state:
                        State::Undone {
                            timed_out: true,
                            kept,
                            ..
                        },
                    ..
                }) => format!(
                    "confirm: too late: the last apply was undone, because nobody confirmed it in time{}",
                    again(kept.as_ref())
                ),
                _ => "confirm: no apply waits for confirmation".to_owned(),
            }));
        }
        self.applied
            .confirm()
            .map_err(|e| refused(format!("confirm: {}", chain(&e))))?;
        self.applied_changed();
        Ok(())
    }

    /// The files before the last apply are the policies again.
    pub(crate) fn policy_rollback(&mut self) -> Result<api::PolicyStep, api::Error> {
        match self.applied.last().map(|last| &last.state) {
            None => {
                return Err(refused(
                    "rollback: there is nothing to go back to: no set of policies was applied yet",
                ));
            }
            Some(State::Undone {
                kept, timed_out, ..
            }) => {
                let why = if *timed_out {
                    "nobody confirmed it in time"
                } else {
                    "it was rolled back"
                };
                return Err(refused(format!(
                    "rollback: the last apply is undone already: {why}{}",
                    again(kept.as_ref())
                )));
            }
            Some(State::InForce | State::Waiting { .. }) => {}
        }
        let (before, groups) = (self.texts_on_disk()?, self.applied.groups_on_disk());
        self.undo(false)?;
        let mut step = difference(&before, &self.texts_on_disk()?);
        step.groups = groups != self.applied.groups_on_disk();
        if let Some(State::Undone { kept, .. }) = self.applied.last().map(|last| &last.state) {
            step.kept = kept.as_ref().map(|kept| kept.display().to_string());
        }
        Ok(step)
    }

    /// Time has passed: what was not confirmed goes back, what could not be finished is tried again.
    pub(crate) fn follow_apply(&mut self) {
        let due =
            self.applied.is_due(now()) || self.apply_due.is_some_and(|due| due <= Instant::now());
        if !due && !self.applied.is_half_done() {
            return;
        }
        let outcome = if self.applied.is_half_done() {
            let finished = self.applied.finish();
            finished.map_err(|e| refused(chain(&e))).and_then(|()| {
                let read = self.read_set();
                self.settle(read.clone());
                read
            })
        } else {
            tracing::warn!(
                "the last apply was not confirmed in time; the files before it come back"
            );
            self.undo(true)
        };
        let failed = outcome.is_err();
        self.note(SUBJECT.into(), outcome);
        if failed {
            self.apply_due = Some(Instant::now() + AGAIN);
            self.apply_news.notify_waiters();
        }
    }

    /// When [`Self::follow_apply`] has something to do.
    pub(crate) fn apply_due(&self) -> Option<Instant> {
        self.apply_due
    }

    /// The last apply for `status`.
    pub(super) fn applied_state(&self) -> Option<api::AppliedState> {
        let last = self.applied.last()?;
        let (state, remaining, kept) = match &last.state {
            State::InForce => ("in-force", None, None),
            State::Waiting { until, .. } => ("waiting", Some(until.saturating_sub(now())), None),
            State::Undone {
                timed_out, kept, ..
            } => {
                let state = if *timed_out {
                    "timed-out"
                } else {
                    "rolled-back"
                };
                (state, None, kept.as_ref())
            }
        };
        Some(api::AppliedState {
            state: state.to_owned(),
            at: seconds(last.at),
            remaining: remaining.map(seconds),
            kept: kept.map(|kept| kept.display().to_string()),
        })
    }

    fn undo(&mut self, timed_out: bool) -> Result<(), api::Error> {
        self.applied.undo(now(), timed_out).map_err(|e| {
            refused(format!(
                "put the files before the last apply back: {}",
                chain(&e)
            ))
        })?;
        let read = self.read_set();
        self.settle(read.clone());
        read
    }

    /// Reads what was just put in place, and puts it in force in one batch. Files that are bad are in force
    /// as they were last good with this set, and not as the set before had them.
    fn read_set(&mut self) -> Result<(), api::Error> {
        self.policy_files.good.clear();
        self.policy_files.bad.clear();
        self.group_files.good.clear();
        self.group_files.bad.clear();
        self.edits
            .drain()
            .map_err(|e| refused(format!("ask what was edited: {e}")))?;
        self.edits.policies = Default::default();
        self.edits.groups = false;
        self.read_groups();
        self.policy_files
            .read(|_| false)
            .map_err(|e| refused(format!("read {}: {e}", self.dirs.policies().display())))?;
        self.follow_clock();
        let set = self.policy_set().0;
        let old = &self.firewall.policies().0;
        let gone = old.keys().filter(|key| !set.contains_key(*key));
        let mut edits: Vec<_> = gone.map(|key| (key.clone(), None)).collect();
        for (key, file) in set {
            if old.get(&key).is_none_or(|old| **old != *file) {
                edits.push((key, Some(file)));
            }
        }
        self.policies_into_force(edits)
    }

    fn settle(&mut self, in_force: Result<(), api::Error>) {
        let settled = in_force.and_then(|()| {
            self.applied
                .settle()
                .map_err(|e| refused(format!("note that an apply is done: {}", chain(&e))))
        });
        self.note(SUBJECT.into(), settled);
        self.applied_changed();
    }

    /// The time at which to look again follows from the journal.
    fn applied_changed(&mut self) {
        let left = |until: u64| Duration::from_secs(until.saturating_sub(now()));
        self.apply_due = match self.applied.waits_until() {
            Some(until) => Some(Instant::now() + left(until)),
            None if self.applied.is_half_done() => Some(Instant::now() + AGAIN),
            None => None,
        };
        self.apply_news.notify_waiters();
    }

    /// After a start: what waits still waits.
    pub(super) fn resume_apply(&mut self) {
        self.applied_changed();
    }

    /// All files of a set, or what is wrong with them.
    pub(super) fn parse_set(
        &self,
        what: &str,
        texts: &api::PolicyTexts,
    ) -> Result<Parsed, api::Error> {
        if texts.files.is_empty() {
            return Err(refused(format!(
                "{what}: not a single policy file is given; remove files by hand where none is wanted"
            )));
        }
        let groups = self.groups_of(texts).map_err(|wrong| {
            refused(format!(
                "{what}: the groups have errors, so nothing changes\n{wrong}"
            ))
        })?;
        let mut parsed = Parsed::new();
        let mut paths: BTreeMap<&str, &str> = BTreeMap::new();
        let mut wrong = Vec::new();
        for file in &texts.files {
            if let Some(reason) = bad_name(&file.name) {
                return Err(invalid(format!("{what}: {}: {reason}", file.path)));
            }
            if let Some(other) = paths.insert(&file.name, &file.path) {
                return Err(refused(format!(
                    "{what}: {other} and {} would both be policies/{}.toml",
                    file.path, file.name
                )));
            }
            match PolicyFile::parse_with(&file.path, &file.text, &groups) {
                Ok(policy) => {
                    let key = self.policy_files.path(&file.name).display().to_string();
                    parsed.insert(key, Arc::new(policy));
                }
                Err(diagnostics) => wrong.push(diagnostics.to_string()),
            }
        }
        if wrong.is_empty() {
            self.refuse_too_much(what, &parsed)?;
            return Ok(parsed);
        }
        Err(refused(format!(
            "{what}: {} of {} files have errors, so nothing changes\n{}",
            wrong.len(),
            texts.files.len(),
            wrong.join("\n")
        )))
    }

    /// No container may ask for too much with these files and no others.
    fn refuse_too_much(&self, what: &str, set: &Parsed) -> Result<(), api::Error> {
        let gone = self
            .firewall
            .policies()
            .0
            .keys()
            .map(|key| (key.clone(), None));
        let mut edits: BTreeMap<_, _> = gone.collect();
        edits.extend(
            set.iter()
                .map(|(key, file)| (key.clone(), Some(file.clone()))),
        );
        let much = set
            .values()
            .find_map(|file| self.firewall.too_much_with(&edits, file));
        much.map_or(Ok(()), |(container, much)| {
            Err(refused(format!(
                "{what}: container {container} would ask for too much, so nothing changes: {much}"
            )))
        })
    }

    /// The groups of a set: its own, else those that are in force.
    fn groups_of(&self, texts: &api::PolicyTexts) -> Result<Arc<Groups>, Diagnostics> {
        match &texts.groups {
            Some(groups) => Groups::parse(&groups.path, &groups.text).map(Arc::new),
            None => Ok(self.policy_files.with().clone()),
        }
    }

    /// What a set probably does not mean as it stands.
    fn lint_set(&self, texts: &api::PolicyTexts) -> Vec<String> {
        let Ok(groups) = self.groups_of(texts) else {
            return Vec::new();
        };
        let texts_of = |file: &api::PolicyText| (file.path.clone(), file.text.clone());
        let files: Vec<_> = texts.files.iter().map(texts_of).collect();
        let own = texts.groups.as_ref().map(|_| groups.warnings.clone());
        let found = lint::check(&files, &groups, &Surroundings::default());
        let all = own.iter().chain(&found).flat_map(Diagnostics::iter);
        all.map(|warning| warning.headline()).collect()
    }

    fn groups_stay(&self, texts: &api::PolicyTexts) -> bool {
        let now = self.applied.groups_on_disk();
        texts
            .groups
            .as_ref()
            .is_none_or(|groups| now.as_ref() == Some(&groups.text))
    }

    fn texts_on_disk(&self) -> Result<BTreeMap<String, Option<String>>, api::Error> {
        let files = self
            .applied
            .on_disk()
            .map_err(|e| refused(format!("read {}: {e}", self.dirs.policies().display())))?;
        Ok(files.into_iter().collect())
    }

    /// What the files would become.
    fn step_to(&self, texts: &api::PolicyTexts) -> Result<api::PolicyStep, api::Error> {
        let texts_of = |file: &api::PolicyText| (file.name.clone(), Some(file.text.clone()));
        let after = texts.files.iter().map(texts_of).collect();
        Ok(difference(&self.texts_on_disk()?, &after))
    }
}

/// Opens what was applied before, for the start.
pub(super) fn open(
    dirs: &crate::daemon::Dirs,
) -> Result<Applied, crate::daemon::applied::AppliedError> {
    Applied::open(dirs, now())
}

fn difference(
    before: &BTreeMap<String, Option<String>>,
    after: &BTreeMap<String, Option<String>>,
) -> api::PolicyStep {
    let names = |filter: &dyn Fn(&String) -> bool, of: &BTreeMap<String, Option<String>>| {
        of.keys().filter(|name| filter(name)).cloned().collect()
    };
    api::PolicyStep {
        added: names(&|name| !before.contains_key(name), after),
        changed: names(
            &|name| before.get(name).is_some_and(|text| *text != after[name]),
            after,
        ),
        removed: names(&|name| !after.contains_key(name), before),
        ..api::PolicyStep::default()
    }
}

fn same_files(step: &api::PolicyStep) -> bool {
    !step.groups && step.added.is_empty() && step.changed.is_empty() && step.removed.is_empty()
}

fn confirm_within(confirm: Option<i64>) -> Result<Option<u64>, api::Error> {
    let in_range = |seconds: i64| {
        let seconds = u64::try_from(seconds).ok();
        seconds.filter(|seconds| (1..=LONGEST).contains(seconds))
    };
    match confirm {
        None => Ok(None),
        Some(given) => in_range(given).map(Some).ok_or_else(|| {
            invalid(format!(
                "apply: {given} is not a time to confirm in, from 1 to {LONGEST} seconds"
            ))
        }),
    }
}

/// Why a name cannot be that of a policy file.
fn bad_name(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        Some("a policy file is named NAME.toml, and dotfiles do not count")
    } else if name == "groups" {
        Some("groups.toml is the name of the groups file")
    } else if name.len() > 200 {
        Some("the name is longer than 200 bytes")
    } else {
        None
    }
}

/// Where what was undone is, and how it is applied again.
fn again(kept: Option<&std::path::PathBuf>) -> String {
    kept.map_or(String::new(), |kept| {
        format!(
            "; its files are kept, and `netd policy apply {}` puts them in force again",
            kept.display()
        )
    })
}

fn seconds(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
