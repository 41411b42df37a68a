//! `policy diff`: what pairs and ports would change if other files were the policies.

use std::sync::Arc;

use firewall::diff::{Change, Difference, Outcome, Way, diff};
use firewall::model::World;
use firewall::policy::PolicySet;
use firewall::sets::Family;

use super::Engine;
use crate::api;

/// A question that needs the daemon no more: it may take a while, and is answered on another thread.
pub(crate) struct DiffQuestion {
    world: World,
    old: PolicySet,
    new: PolicySet,
}

impl Engine {
    /// Checks the files and takes a picture of the world.
    pub(crate) fn policy_diff(
        &mut self,
        texts: &api::PolicyTexts,
    ) -> Result<DiffQuestion, api::Error> {
        let parsed = self.parse_set("diff", texts)?;
        self.follow_clock();
        let mut world = self.firewall.world().clone();
        world.host = self.host_addresses();
        Ok(DiffQuestion {
            world,
            old: self.firewall.policies().clone(),
            new: PolicySet(
                parsed
                    .into_iter()
                    .map(|(key, file)| (key, Arc::clone(&file)))
                    .collect(),
            ),
        })
    }
}

impl DiffQuestion {
    /// What would change.
    pub(crate) fn answer(&self) -> api::PolicyDifference {
        let Difference {
            rows,
            more,
            unasked,
        } = diff(&self.world, &self.old, &self.new);
        let bandwidth = firewall::bandwidth::difference(&self.world, &self.old, &self.new);
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        api::PolicyDifference {
            changes: rows.iter().map(change).collect(),
            bandwidth: bandwidth.iter().map(limit).collect(),
            more: count(more),
            unexamined: count(unasked),
        }
    }
}

fn limit(change: &firewall::bandwidth::Change) -> api::LimitChange {
    let text = |shape: Option<firewall::bandwidth::Shape>| shape.map(|shape| shape.to_string());
    api::LimitChange {
        container: change.container.to_string(),
        direction: change.direction.as_str().to_owned(),
        before: text(change.before),
        after: text(change.after),
    }
}

fn change(row: &Change) -> api::PolicyChange {
    let ends = |ends: &[firewall::diff::End]| ends.iter().map(ToString::to_string).collect();
    let verdict = |outcome: &Outcome| outcome.verdict.as_str().to_owned();
    let reasons = |reasons: &[firewall::explain::Reason]| {
        reasons.iter().map(crate::explain::reason).collect()
    };
    api::PolicyChange {
        from: ends(&row.from),
        to: ends(&row.to),
        ports: row.traffic.ports(),
        except: row.traffic.except(),
        family: row.family.map(|family| match family {
            Family::V4 => 4,
            Family::V6 => 6,
        }),
        way: row.way.map(|way| {
            let word = match way {
                Way::Direct => "direct",
                Way::Published => "published",
            };
            word.to_owned()
        }),
        before: verdict(&row.before),
        after: verdict(&row.after),
        limits_before: row.before.limits.clone(),
        limits_after: row.after.limits.clone(),
        because_before: reasons(&row.because_before),
        because_after: reasons(&row.because_after),
    }
}
