//! Packets that the kernel tells of → records, and what was learned of them.

use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use firewall::kernel::nflog::Heard;
use firewall::packet::{Hook, Judged};
use firewall::policy::Mode;
use firewall::sets::Direction;
use firewall::trial;
use zone::ContainerName;

use super::{Engine, invalid, no_such_container, refused};
use crate::api;
use crate::daemon::decisions::{Batch, Bucket, Decisions};

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

    /// What there is to know of a container beside what was learned of it, `recorded` or not.
    pub(crate) fn policy_learn(
        &self,
        container: &str,
        recorded: bool,
    ) -> Result<api::Lesson, api::Error> {
        let name = container_name(container)?;
        let attached: Vec<_> = self.firewall.world().ports_of(name.as_str()).collect();
        if attached.is_empty() && !recorded {
            return Err(no_such_container(container));
        }
        if !recorded {
            return Err(refused(format!(
                "policy learn {name}: nothing was recorded of it; put a file with mode = \"audit\", ingress = [] and egress = [] on trial for it, and let it work for a while"
            )));
        }
        let files = self.firewall.policies().0.values();
        let files = files.filter(|file| {
            let mut ports = attached.iter();
            ports.any(|port| file.applies_to.matches(port))
        });
        let (on_trial, in_force): (Vec<_>, Vec<_>) = files
            .filter(|file| file.ingress.is_some() || file.egress.is_some())
            .partition(|file| file.mode == Mode::Audit);
        let closes = Direction::ALL.into_iter().filter(|direction| {
            on_trial
                .iter()
                .any(|file| file.section(*direction).is_some())
        });
        Ok(api::Lesson {
            container: name.to_string(),
            file: self.dirs.lesson(&name).display().to_string(),
            on_trial: closes
                .map(|direction| direction.as_str().to_owned())
                .collect(),
            in_force: in_force.iter().map(|file| file.file.clone()).collect(),
        })
    }
}

/// A name that is one.
pub(crate) fn container_name(text: &str) -> Result<ContainerName, api::Error> {
    text.parse()
        .map_err(|e| invalid(format!("policy learn: {e}")))
}
