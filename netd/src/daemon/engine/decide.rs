//! Packets that the kernel tells of → records, and what was learned of them.

use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use firewall::kernel::nflog::Heard;
use firewall::learn::Learned;
use firewall::model::Container;
use firewall::packet::{Hook, Judged};
use firewall::policy::{Mode, PolicyFile};
use firewall::sets::Direction;
use firewall::trial;
use zone::ContainerName;

use super::{Engine, invalid, no_such_container, refused};
use crate::api;
use crate::daemon::decisions::{self, Batch, Bucket, Decisions};

/// Packets a second, and at once, that are judged again. What each costs grows with the number of policy
/// files, and the engine has other things to do.
const JUDGED: (u32, u32) = (2_000, 4_000);

/// How often the host's addresses are asked for at most, when a packet has one that is not known.
const HOST: std::time::Duration = std::time::Duration::from_secs(1);

/// What the engine needs to tell decisions.
pub(crate) struct Decider {
    pub(crate) decisions: Decisions,
    budget: Bucket,
    host_asked: Option<Instant>,
}

impl Decider {
    pub(crate) fn new(decisions: Decisions) -> Self {
        Self {
            decisions,
            budget: Bucket::new(JUDGED.0, JUDGED.1, Instant::now()),
            host_asked: None,
        }
    }
}

impl Engine {
    /// Records what the kernel told of.
    pub(crate) fn decide(&mut self, heard: &Heard) {
        let (now, time) = (Instant::now(), SystemTime::now());
        let mut batch = Batch {
            records: Vec::new(),
            lost: heard.lost,
        };
        for judged in &heard.packets {
            if !self.decider.budget.take(now) {
                batch.lost += 1;
                continue;
            }
            self.know_host(judged, now);
            let (world, policies) = (self.firewall.world(), self.firewall.policies());
            let records = trial::records(world, policies, judged);
            let at = judged.time.unwrap_or(time);
            batch
                .records
                .extend(records.into_iter().map(|record| (at, record)));
        }
        self.decider.decisions.send(batch);
    }

    /// The hook tells that one end is the host; by its address it must be known to be.
    fn know_host(&mut self, judged: &Judged, now: Instant) {
        let address = match judged.hook {
            Hook::Input => judged.packet.to,
            Hook::Output => judged.packet.from,
            Hook::Forward => return,
        };
        let group = match address {
            IpAddr::V4(a) => a.is_multicast() || a.is_broadcast(),
            IpAddr::V6(a) => a.is_multicast(),
        };
        let world = self.firewall.world();
        let gateway = |zone: &firewall::model::Zone| match address {
            IpAddr::V4(a) => zone.gateway4 == Some(a),
            IpAddr::V6(a) => zone.gateway6 == Some(a),
        };
        let known = group
            || address.is_loopback()
            || world.host.contains(&address)
            || world.zones.values().any(gateway);
        let asked = self.decider.host_asked;
        if !known && asked.is_none_or(|asked| now.saturating_duration_since(asked) >= HOST) {
            self.decider.host_asked = Some(now);
            let addresses = self.host_addresses();
            self.firewall.set_host(addresses);
        }
    }

    /// The policy that what was learned of a container comes to. `since` is a time, or how long ago.
    pub(crate) fn policy_learn(
        &self,
        container: &str,
        learned: Learned,
        since: Option<&str>,
    ) -> Result<api::Lesson, api::Error> {
        let name = container_name(container)?;
        let learned = match since {
            None => learned,
            Some(text) => {
                let since = since_when(text, SystemTime::now()).ok_or_else(|| {
                    invalid(format!(
                        "policy learn {name}: {text:?} is neither a time such as 2026-11-22T09:30:00Z nor a span such as 90min, 12h or 7d"
                    ))
                })?;
                learned.since(since)
            }
        };
        let attached = self.firewall.world().containers.get(&name);
        if learned.kinds.is_empty() {
            return Err(match attached {
                None => no_such_container(container),
                Some(_) => refused(format!(
                    "policy learn {name}: nothing was recorded of it{}; put a file with mode = \"audit\", ingress = [] and egress = [] on trial for it, and let it work for a while",
                    since.map_or(String::new(), |since| format!(" since {since}"))
                )),
            });
        }
        let policies = self.firewall.policies();
        let about = |container: &Container, mode: Mode| -> Vec<&PolicyFile> {
            let files = policies.0.values().map(|file| &**file);
            files
                .filter(|file| file.mode == mode && file.applies_to.matches(container))
                .filter(|file| file.ingress.is_some() || file.egress.is_some())
                .collect()
        };
        let of = |mode| attached.map_or_else(Vec::new, |container| about(container, mode));
        let (on_trial, in_force) = (of(Mode::Audit), of(Mode::Enforce));
        let closes = |direction: Direction| {
            on_trial
                .iter()
                .any(|file| file.section(direction).is_some())
        };
        let in_force: Vec<String> = in_force.iter().map(|file| file.file.clone()).collect();
        Ok(api::Lesson {
            container: name.to_string(),
            policy: firewall::learn::policy(&name, &learned, closes, &in_force),
            seen: decisions::seen(&learned),
            lost: i64::try_from(learned.lost).unwrap_or(i64::MAX),
            more: learned.more,
        })
    }
}

/// A name that is one.
pub(crate) fn container_name(text: &str) -> Result<ContainerName, api::Error> {
    text.parse()
        .map_err(|e| invalid(format!("policy learn: {e}")))
}

/// `2026-11-22T09:30:00Z`, or `90s`, `90min`, `12h`, `7d` before now.
fn since_when(text: &str, now: SystemTime) -> Option<SystemTime> {
    if let Some(time) = firewall::rfc3339::parse(text) {
        return Some(time);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let span = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    let since = now.checked_sub(std::time::Duration::from_secs(span));
    Some(since.map_or(SystemTime::UNIX_EPOCH, |since| {
        since.max(SystemTime::UNIX_EPOCH)
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn spans_and_times() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        assert_eq!(since_when("90s", now), ago(90));
        assert_eq!(since_when("90min", now), ago(5400));
        assert_eq!(since_when("2h", now), ago(7200));
        assert_eq!(since_when("7d", now), ago(604_800));
        assert_eq!(since_when("99999d", now), Some(UNIX_EPOCH));
        assert_eq!(
            since_when("1970-01-01T00:00:05Z", now),
            Some(UNIX_EPOCH + Duration::from_secs(5))
        );
        for wrong in [
            "",
            "5",
            "h",
            "5 h",
            "-5h",
            "5hours",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert_eq!(since_when(wrong, now), None, "{wrong}");
        }
    }
}
