//! What people and programs are shown: the types of the control socket.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Engine, ZoneState, no_such_container};
use crate::api;
use crate::daemon::record::Record;

impl Engine {
    /// Every attached container.
    pub(crate) fn list(&self) -> Vec<api::Container> {
        let mut dns = BTreeMap::new();
        let mut ports: BTreeMap<&str, Vec<(u8, api::Container)>> = BTreeMap::new();
        for record in self.ports.values() {
            let dns = dns.entry(&record.zone);
            let dns = dns.or_insert_with(|| self.dns_of(record));
            let view = self.view_with(record, dns.clone());
            let of = ports.entry(record.container.as_str()).or_default();
            of.push((record.place, view));
        }
        let joined = |mut ports: Vec<(u8, api::Container)>| {
            ports.sort_by_key(|(place, _)| *place);
            api::Container::joined(ports.into_iter().map(|(_, port)| port).collect())
        };
        ports.into_values().filter_map(joined).collect()
    }

    /// One container, what is wrong with it, and what is worth a warning.
    pub(crate) fn show(
        &self,
        container: &str,
    ) -> Result<(api::Container, Vec<api::Problem>, Vec<String>), api::Error> {
        let ports = self.ports.of_container(container);
        let ports = ports.into_iter().map(|record| self.view(record)).collect();
        let shown = api::Container::joined(ports).ok_or_else(|| no_such_container(container))?;
        let subject = format!("container {container}");
        let file = self.policy_files.path(container).display().to_string();
        let problems = self
            .problems()
            .into_iter()
            .filter(|p| p.subject == subject || p.subject == file)
            .collect();
        let warnings = self.closed_ports_of(container);
        Ok((shown, problems, warnings))
    }

    /// The daemon's own state.
    pub(crate) fn status(&self) -> api::DaemonStatus {
        api::DaemonStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: i64::from(std::process::id()),
            uptime: i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX),
            zones: self.zones.keys().map(ToString::to_string).collect(),
            containers: i64::try_from(self.ports.containers()).unwrap_or(i64::MAX),
            policies: i64::try_from(self.policy_files.good.len()).unwrap_or(i64::MAX),
            tables: if self.tables.owned() {
                "owned"
            } else {
                "watched"
            }
            .into(),
            restored: i64::try_from(self.restored).unwrap_or(i64::MAX),
            dhcp: self.dhcp_view(),
            resolver: self.resolver_view(),
            ipv6: self.ipv6_state(),
            problems: self.problems(),
            applied: self.applied_state(),
            warnings: self.warnings(),
        }
    }

    /// Everything that is wrong.
    fn problems(&self) -> Vec<api::Problem> {
        let mut problems = self.file_problems();
        problems.extend(self.stranger_problems());
        problems.extend(self.problems.iter().map(|(subject, message)| api::Problem {
            subject: subject.clone(),
            message: message.clone(),
        }));
        problems.extend(
            self.decider
                .decisions
                .failure()
                .map(|message| api::Problem {
                    subject: self.dirs.decisions().display().to_string(),
                    message,
                }),
        );
        if let Some(reason) = self.store.failure().or_else(|| self.journal.failure()) {
            problems.push(api::Problem {
                subject: self.dirs.state.display().to_string(),
                message: format!("state cannot be stored: {reason}"),
            });
        }
        problems
    }

    pub(super) fn zone_view(&self, state: &ZoneState) -> api::Zone {
        let zone = &state.zone;
        let text = |a: Option<&dyn ToString>| a.map(ToString::to_string);
        api::Zone {
            name: zone.name.to_string(),
            bridge: zone.bridge.to_string(),
            subnet4: text(zone.subnet4.as_ref().map(|v| v as _)),
            subnet6: text(zone.subnet6.as_ref().map(|v| v as _)),
            gateway4: text(zone.gateway4.as_ref().map(|v| v as _)),
            gateway6: text(zone.gateway6.as_ref().map(|v| v as _)),
            internal: zone.internal,
            uplink: text(zone.uplink.as_ref().map(|v| v as _)),
            default: format!("{:?}", zone.default).to_lowercase(),
            mtu: i64::from(zone.mtu),
            domain: zone.domain.clone(),
            dns: self
                .resolvers(zone)
                .iter()
                .map(ToString::to_string)
                .collect(),
            upstream: super::names::texts(&state.file.upstream),
            upstream_domains: state
                .file
                .upstream_domains
                .iter()
                .map(|(domain, servers)| (domain.clone(), super::names::texts(servers)))
                .collect(),
            pool: zone.pool.map(|(first, last)| format!("{first}-{last}")),
            containers: self
                .ports
                .of_zone(zone.name.as_str())
                .map(|r| r.container.to_string())
                .collect(),
        }
    }

    /// One port of a container, as if there were no others.
    pub(super) fn view(&self, record: &Record) -> api::Container {
        self.view_with(record, self.dns_of(record))
    }

    /// The resolvers that a container is told of: the same for all of a zone.
    fn dns_of(&self, record: &Record) -> Vec<String> {
        let state = self.zones.get(&record.zone);
        let servers = state.map_or_else(Vec::new, |state| self.resolvers(&state.zone));
        servers.iter().map(ToString::to_string).collect()
    }

    fn view_with(&self, record: &Record, dns: Vec<String>) -> api::Container {
        let state = self.zones.get(&record.zone);
        let gateways = state.map_or_else(Vec::new, |s| {
            let v4 = s.zone.gateway4.map(IpAddr::V4);
            let v6 = s.zone.gateway6.map(IpAddr::V6);
            v4.into_iter().chain(v6).map(|a| a.to_string()).collect()
        });
        api::Container {
            container: record.container.to_string(),
            zone: record.zone.to_string(),
            ifname: record.ifname.to_string(),
            host_ifname: record.host_ifname.to_string(),
            mac: record.mac.to_string(),
            addresses: record.addresses.iter().map(ToString::to_string).collect(),
            gateways,
            dns,
            domain: state.map_or_else(String::new, |s| s.zone.domain.clone()),
            mtu: state.map_or(0, |s| i64::from(s.zone.mtu)),
            labels: record.labels.clone().into_iter().collect(),
            published: record
                .publish
                .iter()
                .map(|(text, _)| text.clone())
                .collect(),
            bandwidth: self.limits_of(record),
            state: if record.adopted {
                "adopted"
            } else {
                "attached"
            }
            .into(),
            networks: Vec::new(),
        }
    }
}
