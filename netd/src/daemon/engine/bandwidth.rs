//! Limits of bandwidth on ports: the lowest of what policies and the runtime say, in force before a port opens.
//!
//! Ports without a limit are not looked at: no request to the kernel is about them, neither at attach nor later.

use std::collections::BTreeMap;
use std::sync::Arc;

use firewall::bandwidth::{Bandwidth, LEAST, LEAST_BURST, MOST, MOST_BURST, Shape, felt};
use firewall::kernel::bandwidth::{self, Standing};
use firewall::policy::PolicyFile;
use firewall::sets::Direction;

use super::attach::model_of;
use super::{Engine, invalid, refused};
use crate::api;
use crate::daemon::chain;
use crate::daemon::record::Record;

/// What limits ports, by the index of the port.
#[derive(Debug, Default)]
pub(super) struct Limited(BTreeMap<u32, Limit>);

#[derive(Debug, Clone, Copy)]
struct Limit {
    /// What is in force.
    bandwidth: Bandwidth,
    /// The interface that queues what is sent.
    aside: Option<u32>,
}

impl Engine {
    /// What should hold for a port.
    fn wanted(&self, record: &Record) -> Bandwidth {
        self.firewall
            .bandwidth(&model_of(record))
            .and(record.bandwidth)
    }

    /// Makes a port limited as policies and its runtime say; nothing is done where it is.
    pub(super) fn limit(&mut self, record: &Record, what: &str) -> Result<(), api::Error> {
        let wanted = self.wanted(record);
        let before = self.limited.0.get(&record.ifindex).copied();
        match before {
            None if wanted.is_unlimited() => Ok(()),
            Some(before) if before.bandwidth == wanted => Ok(()),
            before => self.limit_port(record, before, wanted, what),
        }
    }

    fn limit_port(
        &mut self,
        record: &Record,
        before: Option<Limit>,
        wanted: Bandwidth,
        what: &str,
    ) -> Result<(), api::Error> {
        let failed =
            |e: firewall::kernel::BandwidthError| refused(format!("{what}: {}", chain(&e)));
        let ifindex = record.ifindex;
        let mtu = self.zones.get(&record.zone).map_or(0, |s| s.zone.mtu);
        let had = before.map(|limit| limit.bandwidth).unwrap_or_default();
        let ends = |direction| had.of(direction).is_some() && wanted.of(direction).is_none();
        let (ingress, egress) = (ends(Direction::Ingress), ends(Direction::Egress));
        if ingress || egress {
            bandwidth::clear(ifindex, ingress, egress).map_err(failed)?;
        }
        if egress {
            self.end_aside(before.and_then(|limit| limit.aside));
        }
        if wanted.is_unlimited() {
            self.limited.0.remove(&ifindex);
            return Ok(());
        }
        let aside = bandwidth::set(ifindex, mtu, wanted).map_err(failed)?;
        let limit = Limit {
            bandwidth: wanted,
            aside,
        };
        self.limited.0.insert(ifindex, limit);
        Ok(())
    }

    /// A container goes: nothing is left of its limits.
    pub(super) fn unlimit(&mut self, record: &Record) {
        let Some(limit) = self.limited.0.remove(&record.ifindex) else {
            return;
        };
        self.problem(subject(record), None);
        // one of our own make takes with it what is on it
        if record.adopted
            && let Err(e) = bandwidth::clear(record.ifindex, true, true)
        {
            tracing::debug!(container = %record.container, error = %chain(&e), "take its limits off its port");
        }
        self.end_aside(limit.aside);
    }

    /// Has an interface deleted that queued for a port.
    fn end_aside(&mut self, aside: Option<u32>) {
        let Some(aside) = aside else { return };
        match self.links.close_port(aside, self.reaper.group()) {
            Ok(()) => self.reaper.gather_link(),
            Err(e) => {
                tracing::error!(ifindex = aside, error = %chain(&e), "delete what queued for a port")
            }
        }
    }

    /// After an edit of these files, in their old and new form.
    pub(super) fn limit_edited(&mut self, files: &[Arc<PolicyFile>]) -> Result<(), api::Error> {
        let limiting = files.iter().filter(|file| file.bandwidth.is_some());
        let targets: Vec<_> = limiting.map(|file| &file.applies_to).collect();
        if targets.is_empty() {
            return Ok(());
        }
        let concerned = |record: &&Record| {
            let container = model_of(record);
            targets.iter().any(|target| target.matches(&container))
        };
        let records: Vec<Record> = self.ports.values().filter(concerned).cloned().collect();
        let mut outcome = Ok(());
        for record in records {
            let limited = self.limit(&record, &format!("limit container {}", record.container));
            self.note(subject(&record), limited.clone());
            outcome = outcome.and(limited);
        }
        outcome
    }

    /// After a start: what a daemon before us left, against what should be.
    pub(super) fn limit_again(&mut self) {
        let standing = match Standing::read() {
            Ok(standing) => standing,
            Err(e) => {
                tracing::error!(error = %chain(&e), "read what limits ports");
                return;
            }
        };
        // Nothing equals it: where no limit is wanted it is taken off, where one is wanted it is set anew.
        let some = Some(Shape {
            rate: 0,
            burst: None,
        });
        let unknown = Bandwidth {
            ingress: some,
            egress: some,
        };
        for ifindex in standing.ports() {
            let aside = standing.aside(ifindex);
            let limit = Limit {
                bandwidth: unknown,
                aside,
            };
            if self.ports.at(ifindex).is_some() {
                self.limited.0.insert(ifindex, limit);
            } else {
                self.end_aside(aside);
            }
        }
        let records: Vec<Record> = self.ports.values().cloned().collect();
        for record in records {
            let limited = self.limit(&record, &format!("limit container {}", record.container));
            self.note(subject(&record), limited);
        }
    }

    /// What no event tells of: whether limits still stand.
    pub(crate) fn check_bandwidth(&mut self) {
        if self.limited.0.is_empty() {
            return;
        }
        let standing = match Standing::read() {
            Ok(standing) => standing,
            Err(e) => {
                tracing::error!(error = %chain(&e), "read what limits ports");
                return;
            }
        };
        let wrong = |(ifindex, limit): (&u32, &Limit)| {
            (!standing.agrees(*ifindex, limit.bandwidth)).then_some(*ifindex)
        };
        let wrong: Vec<u32> = self.limited.0.iter().filter_map(wrong).collect();
        for ifindex in wrong {
            let Some(record) = self.ports.at(ifindex).cloned() else {
                continue;
            };
            let before = self.limited.0.get(&ifindex).copied();
            let wanted = before.map(|limit| limit.bandwidth).unwrap_or_default();
            tracing::warn!(container = %record.container, "somebody changed what limits its port; putting it right");
            let what = format!("limit container {}", record.container);
            let outcome = self.limit_port(&record, before, wanted, &what);
            self.note(subject(&record), outcome);
        }
    }

    /// What is missing of a container's limits, in words.
    pub(super) fn missing_limit(&self, record: &Record) -> Option<String> {
        let limit = self.limited.0.get(&record.ifindex)?;
        let stands = match Standing::read() {
            Ok(standing) => standing.agrees(record.ifindex, limit.bandwidth),
            Err(_) => false,
        };
        let port = &record.host_ifname;
        (!stands).then(|| format!("interface {port} is not limited as it should be"))
    }

    /// The limits in force.
    pub(super) fn limits_of(&self, record: &Record) -> Vec<api::Limit> {
        let limit = self.limited.0.get(&record.ifindex);
        let in_force = limit.map(|limit| limit.bandwidth).unwrap_or_default();
        let of = |direction: Direction| {
            let shape = in_force.of(direction)?;
            Some(api::Limit {
                direction: direction.as_str().to_owned(),
                rate: number(shape.rate),
                burst: Some(number(shape.bucket())),
            })
        };
        DIRECTIONS.into_iter().filter_map(of).collect()
    }

    /// The limits that hold, and where each comes from.
    pub(super) fn policy_limits(&self, record: &Record) -> Vec<api::PolicyLimit> {
        let model = model_of(record);
        let files = felt(self.firewall.policies().applying(&model));
        let of = |direction: Direction| {
            let file = files.iter().find(|felt| felt.direction == direction);
            let asked = record.bandwidth.of(direction);
            let file = file.filter(|felt| {
                let key = |shape: Shape| (shape.rate, shape.bucket());
                asked.is_none_or(|asked| key(felt.shape) <= key(asked))
            });
            let shape = file.map(|felt| felt.shape).or(asked)?;
            Some(api::PolicyLimit {
                file: file.map(|felt| felt.file.file.clone()),
                line: file.map(|felt| felt.at.line.into()),
                column: file.map(|felt| felt.at.column.into()),
                direction: direction.as_str().to_owned(),
                rate: number(shape.rate),
                burst: number(shape.bucket()),
                text: shape.to_string(),
            })
        };
        DIRECTIONS.into_iter().filter_map(of).collect()
    }
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

fn subject(record: &Record) -> String {
    format!("bandwidth of container {}", record.container)
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What a request asks for.
pub(super) fn asked(what: &str, limits: &[api::Limit]) -> Result<Bandwidth, api::Error> {
    let mut asked = Bandwidth::default();
    for limit in limits {
        let within = |n: i64, least: u64, most: u64| {
            let n = u64::try_from(n).ok();
            n.filter(|n| (least..=most).contains(n))
        };
        let rate = within(limit.rate, LEAST, MOST).ok_or_else(|| {
            let rate = limit.rate;
            invalid(format!(
                "{what}: bandwidth of {rate} bits a second: from {LEAST} to {MOST} can be kept"
            ))
        })?;
        let burst = limit.burst.map(|burst| {
            within(burst, LEAST_BURST, MOST_BURST).ok_or_else(|| {
                invalid(format!(
                    "{what}: burst of {burst} bytes: from {LEAST_BURST} to {MOST_BURST} can be kept"
                ))
            })
        });
        let shape = Some(Shape {
            rate,
            burst: burst.transpose()?,
        });
        let one = match limit.direction.as_str() {
            "ingress" => Bandwidth {
                ingress: shape,
                egress: None,
            },
            "egress" => Bandwidth {
                ingress: None,
                egress: shape,
            },
            other => {
                return Err(invalid(format!(
                    "{what}: bandwidth of direction {other:?}: it is ingress or egress"
                )));
            }
        };
        asked = asked.and(one);
    }
    Ok(asked)
}
